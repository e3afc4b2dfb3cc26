/* SPDX-License-Identifier: MIT */
/*
 * Calls from a process of a PV guest to a Xen with hypercall-patch/. The calls
 * themselves are explained in hypercall-patch/xen/include/public/arch-x86/hac.h.
 */
#ifndef HAC_XEN_GATE_H
#define HAC_XEN_GATE_H

#include <stddef.h>
#include <stdint.h>

#include <arch-x86/hac.h>

struct xen_arguments {
	uintptr_t a1, a2, a3, a4, a5;
};

/* The way into Xen: an instruction, or what a test puts in its place. */
extern long (*xen_gate)(uint32_t call, const struct xen_arguments *arguments, uint32_t *second);

/* The result, and the second one where there is any; or -errno. */
static inline long xen_call(uint32_t call, struct xen_arguments arguments, uint32_t *second)
{
	return xen_gate(call, &arguments, second);
}

/* Does a Xen that offers this handler (HAC_XEN_TRACKING, ...) run us? 0, or
 * -ENODEV with the reason. Executes nothing that could trap elsewhere. */
int xen_gate_probe(uint32_t handler, char *reason, size_t size);

#endif
