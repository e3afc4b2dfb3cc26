// SPDX-License-Identifier: MIT
/* Says by its exit code whether the Xen below has the patch: 0 yes, 1 no. */
#include <stdint.h>
#include <stdio.h>

#include <arch-x86/hac.h>

/* Xen's own CPUID; other hypervisors and bare machines raise SIGILL. */
static void xen_cpuid(unsigned leaf, unsigned r[4])
{
	__asm__("ud2a; .ascii \"xen\"; cpuid"
		: "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
		: "0"(leaf), "2"(0));
}

int main(void)
{
	unsigned r[4];

	xen_cpuid(0x40000000 + HAC_XEN_CPUID_LEAF, r);
	printf("Xen answers %#x\n", r[2]);
	return r[2] != HAC_XEN_CPUID_MAGIC;
}
