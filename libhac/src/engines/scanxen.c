// SPDX-License-Identifier: MIT
/*
 * Scanning by Xen: nothing is protected; a harvest reads and clears the dirty
 * bits of the page tables (DSN 2011, section V). They are set by writes through
 * the program's own mapping; the kernel has other ways to the memory, hence it
 * has to be told of writes by the kernel.
 */
#include "engine.h"
#include "xen_engine.h"

static int probe(char *reason, size_t size)
{
	return xen_gate_probe(HAC_XEN_SCAN, reason, size);
}

static int arm(struct area *area, size_t from, size_t to)
{
	return xen_engine_arm(area, from, to, HAC_XEN_SCAN);
}

const struct engine engine_scanxen = {
	.name = "scanxen",
	.probe = probe,
	.arm = arm,
	.harvest = xen_engine_harvest,
	.is_quiet = xen_engine_is_quiet,
	.open = xen_engine_open_noted,
	.disarm = xen_engine_disarm,
};
