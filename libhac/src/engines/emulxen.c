// SPDX-License-Identifier: MIT
/*
 * Emulation by Xen: it carries out the plain stores to the area, with an entry
 * in a log of ours for each, and pages stay read-only. Other instructions open
 * their page, as under ptxen (DSN 2011, section V).
 */
#include "engine.h"
#include "xen_engine.h"

static int probe(char *reason, size_t size)
{
	return xen_gate_probe(HAC_XEN_EMULATION, reason, size);
}

static int arm(struct area *area, size_t from, size_t to)
{
	return xen_engine_arm(area, from, to, HAC_XEN_EMULATION);
}

const struct engine engine_emulxen = {
	.name = "emulxen",
	.flags = ENGINE_KERNEL_WRITES | ENGINE_WORDS,
	.probe = probe,
	.arm = arm,
	.harvest = xen_engine_harvest,
	.is_quiet = xen_engine_is_quiet,
	.open = xen_engine_open_seen,
	.disarm = xen_engine_disarm,
};
