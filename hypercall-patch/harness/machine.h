/* SPDX-License-Identifier: GPL-2.0-only */
/* The simulated machine behind stubs.h: what tests do with it. */
#ifndef HAC_HARNESS_MACHINE_H
#define HAC_HARNESS_MACHINE_H

#include "private.h"

#include <stdio.h>
#include <stdlib.h>

/* Addresses of simulated processes; all others are those of the test itself. */
#define BASE 0x40000000UL
#define REGIONS 6

void hac_gate(struct cpu_user_regs *regs);

extern struct domain hx_domain;
extern bool hx_turns;              /* CPUs take turns; else one runs alone */
extern unsigned int hx_fail_copy;  /* one copy of so many fails; 0: none */
extern int hx_copies_left;         /* so many copies work, then none; < 0: all */
extern unsigned long hx_allocated; /* allocations that are not freed */
extern unsigned long hx_seed, hx_flushes, hx_now;
extern unsigned long hx_store_at[HX_CPUS]; /* where an instruction stores */

unsigned int hx_random(unsigned int below);
void hx_machine_init(unsigned int cpus);
/* Run this on all CPUs, in turns. */
void hx_run(void (*body)(void));
void hx_rcu_run(void);

mfn_t hx_frame_alloc(void);

/* An access of the CPU to memory by its tables. Not 0: the error of the fault. */
#define FAULT 0x100U
unsigned int hx_access(unsigned long addr, bool write, mfn_t *mfn);
unsigned int hx_cpu_store(unsigned long addr, uint64_t value, unsigned int width);
void hx_tlb_flush(unsigned int cpu);

/* What the model of the guest is told, and asked. */
void guest_wrote(mfn_t mfn, unsigned int offset, uint64_t value, unsigned int width, bool emulated);
void guest_entry_changed(mfn_t table, l1_pgentry_t old, l1_pgentry_t new);

/* A call of the running process. */
long hx_call(unsigned int number, unsigned long a1, unsigned long a2, unsigned long a3,
	     unsigned long a4, unsigned long a5, unsigned long *second);

#endif /* HAC_HARNESS_MACHINE_H */
