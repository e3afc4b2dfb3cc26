// SPDX-License-Identifier: MIT
/*
 * Page tracking by Xen: the area is read-only to the processor, and Xen itself
 * notes the first write to a page and opens it. Neither the guest kernel nor a
 * signal handler has a part in it (DSN 2011, section V).
 */
#include "engine.h"
#include "xen_engine.h"

static int probe(char *reason, size_t size)
{
	return xen_gate_probe(HAC_XEN_TRACKING, reason, size);
}

static int arm(struct area *area, size_t from, size_t to)
{
	return xen_engine_arm(area, from, to, HAC_XEN_TRACKING);
}

const struct engine engine_ptxen = {
	.name = "ptxen",
	.flags = ENGINE_KERNEL_WRITES,
	.probe = probe,
	.arm = arm,
	.harvest = xen_engine_harvest,
	.is_quiet = xen_engine_is_quiet,
	.open = xen_engine_open_seen,
	.disarm = xen_engine_disarm,
};
