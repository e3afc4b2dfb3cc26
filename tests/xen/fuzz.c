// SPDX-License-Identifier: MIT
/*
 * Random calls with random arguments, some of them nearly right, with memory
 * that comes and goes under them. Nothing may break: that Xen is alive and
 * writes nothing to its log, and to no memory that was not given to it.
 *
 * Freestanding, so that it can be built for 32-bit processes without a 32-bit
 * C library: fuzz [count [seed]].
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <arch-x86/hac.h>

#define PAGE 4096ul
#define PAGES 200ul
#define GUARD 0xa5u

/* ------------------------------------------------- system calls, by hand -- */

#ifdef __x86_64__
enum {
	SYS_write = 1,
	SYS_mmap = 9,
	SYS_mprotect = 10,
	SYS_munmap = 11,
	SYS_madvise = 28,
	SYS_fork = 57,
	SYS_exit = 60,
	SYS_wait4 = 61
};

static long sys(long n, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
			 : "+a"(n)
			 : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return n;
}

static long gate(uint32_t call, const unsigned long *a)
{
	register unsigned long r8 __asm__("r8") = a[4];
	unsigned long result = call, rdx = a[2];

	__asm__ volatile("int $0x84"
			 : "+a"(result), "+d"(rdx)
			 : "D"(a[0]), "S"(a[1]), "c"(a[3]), "r"(r8)
			 : "memory");
	return (long)result;
}
#else
enum {
	SYS_exit = 1,
	SYS_fork = 2,
	SYS_write = 4,
	SYS_munmap = 91,
	SYS_wait4 = 114,
	SYS_mprotect = 125,
	SYS_mmap = 192,
	SYS_madvise = 219
};

static long sys(long n, long a, long b, long c, long d, long e, long f)
{
	struct {
		long n, f;
	} both = { n, f };

	__asm__ volatile("pushl %%ebp\n\tpushl 4(%%eax)\n\tmovl (%%eax), %%eax\n\t"
			 "movl (%%esp), %%ebp\n\tint $0x80\n\tpopl %%ecx\n\tpopl %%ebp"
			 : "=a"(n), "+c"(b)
			 : "a"(&both), "b"(a), "d"(c), "S"(d), "D"(e)
			 : "memory", "cc");
	return n;
}

static long gate(uint32_t call, const unsigned long *a)
{
	unsigned long result = call | HAC_XEN_ABI32, edx = a[2];

	__asm__ volatile("int $0x84"
			 : "+a"(result), "+d"(edx)
			 : "b"(a[0]), "c"(a[1]), "S"(a[3]), "D"(a[4])
			 : "memory");
	return (long)result;
}
#endif

void *memset(void *to, int value, size_t n)
{
	volatile unsigned char *p = to;

	while (n--)
		*p++ = (unsigned char)value;
	return to;
}

static void say(const char *text)
{
	size_t n = 0;

	while (text[n])
		n++;
	sys(SYS_write, 1, (long)text, (long)n, 0, 0, 0);
}

static void say_number(unsigned long n)
{
	char digits[24], *p = digits + sizeof(digits) - 1;

	*p = '\0';
	do
		*--p = (char)('0' + n % 10);
	while (n /= 10);
	say(p);
}

static __attribute__((noreturn)) void leave(int code)
{
	for (;;)
		sys(SYS_exit, code, 0, 0, 0, 0, 0);
}

/* ---------------------------------------------------------------- fuzzing -- */

static uint32_t seed = 1; /* 32 bits, so that both widths do the same */
static unsigned char *memory, *buffer, *guard;
static bool closed; /* some of memory is read-only */

static uint32_t some(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;
	return seed;
}

static uint32_t below(uint32_t n)
{
	return some() % n;
}

static unsigned long strange(void)
{
	static const unsigned long values[] = {
		0,
		1,
		7,
		63,
		64,
		65,
		0xffff,
		0x10000,
		0x7fffffff,
		0x80000000ul,
		0xffffffff,
		PAGE - 1,
		HAC_XEN_MAX_PAGES,
		HAC_XEN_MAX_PAGES + 1,
		(unsigned long)-1,
		(unsigned long)-4096,
#ifdef __x86_64__
		0x7fffffffffff,
		0x7ffffffff000,
		0x800000000000,
		0xffff800000000000,
		0xffff820000000000,
		0xffff830000000000,
		0xffff880000000000,
		0xffffffff81000000,
#else
		0xbffff000,
		0xc0000000,
		0xf5800000,
#endif
	};

	if (below(3))
		return values[below(sizeof(values) / sizeof(values[0]))];
#ifdef __x86_64__
	return (unsigned long)some() << 32 | some();
#else
	return some();
#endif
}

static unsigned long address(void)
{
	switch (below(8)) {
	case 0:
		return strange();
	case 1:
		return (unsigned long)memory + below(PAGES * PAGE);
	case 2:
		return (unsigned long)memory + below(PAGES) * PAGE;
	case 3:
		return (unsigned long)buffer + 3 * PAGE - 4 * below(9); /* its end */
	default:
		return (unsigned long)buffer + 8 * below(64);
	}
}

static unsigned long request(void)
{
	struct hac_xen_area *area = (void *)(buffer + 2048 + 8 * below(100));

	area->start = below(8) ? (unsigned long)memory + below(PAGES) * PAGE : strange();
	area->pages = below(8) ? below(80) : (uint32_t)strange();
	area->handler = below(16) ? below(3) : some();
	area->log = 0;
	area->log_entries = 0;
	area->reserved = below(16) ? 0 : some();
	if (area->handler == HAC_XEN_EMULATION || !below(16)) {
		area->log = below(8) ? (unsigned long)buffer + PAGE : address();
		area->log_entries = below(8) ? 2 * below(80) : (uint32_t)strange();
	}
	return (unsigned long)area;
}

static unsigned long keep(void)
{
	struct hac_xen_keep *k = (void *)(buffer + 1024);
	uint32_t *pages = (void *)(buffer + 1536), i;

	if (below(3))
		return 0;
	k->pages = below(8) ? (unsigned long)pages : address();
	k->count = below(8) ? below(20) : (uint32_t)strange();
	k->reserved = below(16) ? 0 : some();
	for (i = 0; i < 20; i++)
		pages[i] = below(90);
	return below(8) ? (unsigned long)k : address();
}

static void make_call(unsigned long *made, unsigned long *worked)
{
	uint32_t call = below(32) ? below(9) : some();
	unsigned long a[5] = { below(8) ? below(20) : strange(), address(),
			       below(4) ? below(40) : strange(), below(8) ? below(2) : strange(),
			       below(2) ? below(80) : strange() };
	long result;

	if (call == HAC_XEN_register_area && below(8))
		a[0] = request();
	else if (call == HAC_XEN_begin)
		a[1] = keep();
	else if (call == HAC_XEN_next && below(2))
		a[4] = keep();
	else if (call == HAC_XEN_statistics && !below(4))
		a[0] = HAC_XEN_ALL;
	if (call == HAC_XEN_unregister_area && below(4))
		return; /* or nothing lives long */
	result = gate(call, a);
	++*made;
	*worked += result >= 0;
}

/* What the process may do to its memory meanwhile. */
static void disturb(void)
{
	unsigned long at = (unsigned long)memory + below(PAGES - 8) * PAGE;
	long n = 1 + (long)below(8);

	switch (below(12)) {
	case 0:
	case 1:
		if (below(4))
			break;
		sys(SYS_mprotect, (long)at, n * (long)PAGE, 1, 0, 0, 0);
		closed = true;
		break;
	case 2:
		sys(SYS_madvise, (long)at, n * (long)PAGE, 4, 0, 0, 0); /* DONTNEED */
		break;
	case 3:
		sys(SYS_munmap, (long)at, n * (long)PAGE, 0, 0, 0, 0);
		sys(SYS_mmap, (long)at, n * (long)PAGE, 3, 0x32, -1, 0);
		break;
	case 4:
		if (!below(40)) {
			long child = sys(SYS_fork, 0, 0, 0, 0, 0, 0);

			if (!child)
				leave(0);
			sys(SYS_wait4, child, 0, 0, 0, 0, 0);
		}
		/* A fork leaves Xen's buffers read-only. */
		for (n = 0; n < 3; n++)
			((volatile unsigned char *)buffer)[(unsigned long)n * PAGE] = 0;
		break;
	}
}

static void write_some(void)
{
	unsigned int n = below(5);

	if (closed)
		sys(SYS_mprotect, (long)memory, PAGES * PAGE, 3, 0, 0, 0);
	closed = false;
	while (n--) {
		unsigned char *to = memory + below(PAGES * PAGE - 8);

		if (below(2))
			*(volatile uint32_t *)to = some();
		else
			*(volatile unsigned char *)to ^= 1;
	}
}

static unsigned long number(const char *text)
{
	unsigned long n = 0;

	while (*text >= '0' && *text <= '9')
		n = n * 10 + (unsigned long)(*text++ - '0');
	return n;
}

static unsigned char *map(unsigned long bytes)
{
	long p = sys(SYS_mmap, 0, (long)bytes, 3, 0x22, -1, 0);

	if (p < 0 && p > -4096)
		leave(9);
	return (unsigned char *)p;
}

__attribute__((used)) static int fuzz(unsigned long argc, char **argv)
{
	unsigned long count = argc > 1 ? number(argv[1]) : 1000, made = 0, worked = 0, i;
	unsigned char *all;

	seed = argc > 2 ? (uint32_t)number(argv[2]) * 2654435761u | 1 : 1;
	memory = map(PAGES * PAGE);
	all = map(6 * PAGE);
	memset(all, GUARD, 6 * PAGE);
	guard = all;
	buffer = all + PAGE;
	sys(SYS_munmap, (long)(buffer + 3 * PAGE), (long)PAGE, 0, 0, 0, 0);
	while (made < count) {
		make_call(&made, &worked);
		if (!below(6))
			write_some();
		disturb();
	}
	for (i = 0; i < PAGE; i++)
		if (guard[i] != GUARD || guard[5 * PAGE + i] != GUARD) {
			say("memory was written that was given to nobody\n");
			return 1;
		}
	say_number(made);
	say(" calls, ");
	say_number(worked);
	say(sizeof(long) == 8 ? " of them successful, 64 bits\n" :
				" of them successful, 32 bits\n");
	if (worked * 10 < made) {
		say("too few\n");
		return 1;
	}
	return 0;
}

__attribute__((used, noreturn)) static void enter(unsigned long *stack)
{
	leave(fuzz(stack[0], (char **)(stack + 1)));
}

#ifdef __x86_64__
__asm__(".globl _start\n_start:\n\tmovq %rsp, %rdi\n\tandq $-16, %rsp\n\tcall enter\n");
#else
__asm__(".globl _start\n_start:\n\tmovl %esp, %eax\n\tandl $-16, %esp\n\tsubl $12, %esp\n\t"
	"pushl %eax\n\tcall enter\n");
#endif
