// SPDX-License-Identifier: MIT
/*
 * Asking the kernel comes first: outside of a PV guest both instructions below
 * raise a signal, and in a guest of another kind they mean something else.
 */
#include "xen_gate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__) && defined(__LP64__)
#define REACHABLE 1

static long through_gate(uint32_t call, const struct xen_arguments *a, uint32_t *second)
{
	register uintptr_t r8 __asm__("r8") = a->a5;
	unsigned long result = call, rdx = a->a3;

	__asm__ volatile("int %[vector]"
			 : "+a"(result), "+d"(rdx)
			 : [vector] "i"(HAC_XEN_VECTOR), "D"(a->a1), "S"(a->a2), "c"(a->a4), "r"(r8)
			 : "memory");
	if (second)
		*second = (uint32_t)rdx;
	return (long)result;
}
#elif defined(__i386__)
#define REACHABLE 1

static long through_gate(uint32_t call, const struct xen_arguments *a, uint32_t *second)
{
	unsigned long result = call | HAC_XEN_ABI32, edx = a->a3;

	__asm__ volatile("int %[vector]"
			 : "+a"(result), "+d"(edx)
			 : [vector] "i"(HAC_XEN_VECTOR), "b"(a->a1), "c"(a->a2), "S"(a->a4),
			   "D"(a->a5)
			 : "memory");
	if (second)
		*second = (uint32_t)edx;
	return (long)result;
}
#else
#define REACHABLE 0

static long through_gate(uint32_t call, const struct xen_arguments *a, uint32_t *second)
{
	(void)call;
	(void)a;
	(void)second;
	return -ENOSYS;
}
#endif

long (*xen_gate)(uint32_t call, const struct xen_arguments *arguments,
		 uint32_t *second) = through_gate;

#if REACHABLE
struct leaf {
	uint32_t eax, ebx, ecx, edx;
};

/* Xen's CPUID: the prefix is an undefined instruction, which Xen takes. */
static struct leaf xen_cpuid(uint32_t number)
{
	struct leaf leaf;

	__asm__ volatile("ud2a; .ascii \"xen\"; cpuid"
			 : "=a"(leaf.eax), "=b"(leaf.ebx), "=c"(leaf.ecx), "=d"(leaf.edx)
			 : "0"(number), "2"(0));
	return leaf;
}

static int has_patch(void)
{
	uint32_t base;

	for (base = 0x40000000; base < 0x40010000; base += 0x100) {
		struct leaf leaf = xen_cpuid(base);
		char name[12];

		memcpy(name, &leaf.ebx, 4);
		memcpy(name + 4, &leaf.ecx, 4);
		memcpy(name + 8, &leaf.edx, 4);
		if (!memcmp(name, "XenVMMXenVMM", 12))
			return leaf.eax >= base + HAC_XEN_CPUID_LEAF &&
			       xen_cpuid(base + HAC_XEN_CPUID_LEAF).ecx == HAC_XEN_CPUID_MAGIC;
	}
	return 0;
}
#else
static int has_patch(void)
{
	return 0;
}
#endif

/* The one word of a file of sysfs; "" without the file. */
static void read_word(const char *path, char *word, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, word, size - 1);

	if (fd >= 0)
		close(fd);
	word[n > 0 ? n : 0] = '\0';
	word[strcspn(word, "\n")] = '\0';
}

static int find_gate(char *reason, size_t size)
{
	char type[16], guest[16];

	if (!REACHABLE) {
		snprintf(reason, size, "built for another architecture than x86");
		return -ENODEV;
	}
	read_word("/sys/hypervisor/type", type, sizeof(type));
	if (strcmp(type, "xen")) {
		snprintf(reason, size, "not a Xen PV guest (/sys/hypervisor/type is %s)",
			 type[0] ? type : "missing");
		return -ENODEV;
	}
	read_word("/sys/hypervisor/guest_type", guest, sizeof(guest));
	if (strcmp(guest, "PV")) {
		snprintf(reason, size, "a Xen guest, but %s, not PV",
			 guest[0] ? guest : "of a kind that the kernel does not tell");
		return -ENODEV;
	}
	if (!has_patch()) {
		snprintf(reason, size, "Xen without the patch (hypercall-patch/)");
		return -ENODEV;
	}
	return 0;
}

int xen_gate_probe(uint32_t handler, char *reason, size_t size)
{
	uint32_t handlers = 0;
	long version;

	if (xen_gate == through_gate) {
		int result = find_gate(reason, size);

		if (result)
			return result;
	}
	version = xen_call(HAC_XEN_version, (struct xen_arguments){ 0 }, &handlers);
	if (version != HAC_XEN_VERSION) {
		snprintf(reason, size, "Xen's calls have version %ld, this library's have %d",
			 version, HAC_XEN_VERSION);
		return -ENODEV;
	}
	if (!(handlers & 1u << handler)) {
		snprintf(reason, size, "this Xen does not offer it");
		return -ENODEV;
	}
	return 0;
}
