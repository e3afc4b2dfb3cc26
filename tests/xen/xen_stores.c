// SPDX-License-Identifier: MIT
/*
 * Hazard 7: every kind of store to a watched page does what it does elsewhere:
 * the same bytes, the same registers and flags. Xen emulates plain ones; the
 * others open their page, in the same transaction.
 */
#include "hazard.h"

#include <asm/prctl.h>
#include <cpuid.h>
#include <stddef.h>
#include <sys/syscall.h>

#define PAGES 4u
#define AT (PAGE + 128u) /* where stores go, and room before */

typedef void store_fn(unsigned char *to);

#define STORE(name, text, ...)                                                                 \
	static void name(unsigned char *to)                                                    \
	{                                                                                      \
		__asm__ volatile(text                                                          \
				 :                                                             \
				 : "r"(to), ##__VA_ARGS__                                      \
				 : "memory", "cc", "rax", "r14", "r15", "xmm0", "xmm1", "st"); \
	}

#define VALUE "c"(0x1122334455667788ull)

STORE(mov8, "movb %%cl, (%0)", VALUE)
STORE(mov8_high, "movb %%ch, 5(%0)", VALUE)
STORE(mov16, "movw %%cx, 3(%0)", VALUE)
STORE(mov32, "movl %%ecx, 8(%0)", VALUE)
STORE(mov64, "movq %%rcx, 1(%0)", VALUE)
STORE(mov_imm8, "movb $0x7f, 2(%0)")
STORE(mov_imm16, "movw $0x1234, 2(%0)")
STORE(mov_imm32, "movl $0x12345678, 2(%0)")
STORE(mov_imm64, "movq $-2, 2(%0)")
STORE(mov_indexed, "movl %%ecx, -4(%0,%1,8)", "r"(3ull), VALUE)
STORE(mov_r15, "movq %0, %%r15; movq %%rcx, %%r14; movq %%r14, 0x10(%%r15)", VALUE)
STORE(movnti, "movnti %%rcx, 24(%0)", VALUE)
STORE(add, "addl $5, (%0)")
STORE(inc, "incb 9(%0)")
STORE(neg, "negq 8(%0)")
STORE(not, "notw 8(%0)")
STORE(shl, "shll $3, 4(%0)")
STORE(bts, "btsl $77, (%0)")
STORE(setc, "stc; setc 7(%0)")
STORE(lock_add, "lock addq %%rcx, 8(%0)", VALUE)
STORE(lock_inc, "lock incb (%0)")
STORE(xadd, "movq %%rcx, %%rax; lock xaddq %%rax, 8(%0)", VALUE)
STORE(xchg, "movq %%rcx, %%rax; xchgq %%rax, 16(%0)", VALUE)
STORE(cmpxchg, "movq (%0), %%rax; lock cmpxchgq %%rcx, (%0)", VALUE)
STORE(cmpxchg_fails, "movq $1, %%rax; lock cmpxchgq %%rcx, (%0)", VALUE)
STORE(fstp32, "fldpi; fstps 4(%0)")
STORE(fstp64, "fldpi; fstpl 4(%0)")
STORE(fstp80, "fldpi; fstpt 4(%0)")
STORE(fist, "fldpi; fistpl 4(%0)")
STORE(fnstcw, "fnstcw 4(%0)")
STORE(stmxcsr, "stmxcsr 4(%0)")
STORE(movaps, "movq %%rcx, %%xmm0; movaps %%xmm0, 16(%0)", VALUE)
STORE(movups, "movq %%rcx, %%xmm0; movups %%xmm0, 3(%0)", VALUE)
STORE(movss, "movq %%rcx, %%xmm0; movss %%xmm0, 4(%0)", VALUE)
STORE(movntdq, "movq %%rcx, %%xmm0; movntdq %%xmm0, (%0)", VALUE)
STORE(movq_xmm, "movq %%rcx, %%xmm0; movq %%xmm0, 8(%0)", VALUE)
STORE(across, "movq %%rcx, 3964(%0)", VALUE) /* 4 bytes each side */
STORE(across_sse, "movq %%rcx, %%xmm0; movups %%xmm0, 3961(%0)", VALUE)
STORE(across_byte, "movw %%cx, 3967(%0)", VALUE)

static void stos(unsigned char *to)
{
	size_t n = 60;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(0x5a) : "memory");
	CHECK_IS(n, 0);
}

static void stos_across(unsigned char *to)
{
	size_t n = 600;

	to += 1000;
	__asm__ volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(0x5a5b5c5d) : "memory");
	CHECK_IS(n, 0);
}

static void movs(unsigned char *to)
{
	static const char text[] = "from here to there, by the processor's own loop";
	const char *from = text;
	size_t n = sizeof(text);

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	CHECK(from == text + sizeof(text));
}

static void movs_down(unsigned char *to)
{
	static const char text[] = "backwards";
	const char *from = text + sizeof(text) - 1;
	size_t n = sizeof(text);

	__asm__ volatile("std; rep movsb; cld" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static void push(unsigned char *to)
{
	__asm__ volatile("movq %%rsp, %%rax\n\tleaq 64(%0), %%rsp\n\tpushq $0x77\n\tpushq %%rcx\n\t"
			 "movq %%rax, %%rsp"
			 :
			 : "r"(to), VALUE
			 : "memory", "rax");
}

static void pop(unsigned char *to)
{
	__asm__ volatile("subq $128, %%rsp\n\tpushq %%rcx\n\tpopq 8(%0)\n\taddq $128, %%rsp"
			 :
			 : "r"(to), VALUE
			 : "memory");
}

static void call(unsigned char *to)
{
	__asm__ volatile("movq %%rsp, %%rax\n\tleaq 64(%0), %%rsp\n\tcall 1f\n1:\tmovq %%rax, %%rsp"
			 :
			 : "r"(to)
			 : "memory", "rax");
	memset(to + 56, 1, 8); /* the address is one or the other's */
}

static void by_segment(unsigned char *to, int which)
{
	unsigned long old;

	CHECK_OK(syscall(SYS_arch_prctl, which == ARCH_SET_GS ? ARCH_GET_GS : ARCH_GET_FS, &old));
	CHECK(which == ARCH_SET_GS);
	CHECK_OK(syscall(SYS_arch_prctl, which, to));
	__asm__ volatile("movq %%rcx, %%gs:16" : : VALUE : "memory");
	CHECK_OK(syscall(SYS_arch_prctl, which, old));
}

static void gs(unsigned char *to)
{
	by_segment(to, ARCH_SET_GS);
}

static void fxsave(unsigned char *to)
{
	__asm__ volatile("fninit; fxsave 128(%0)" : : "r"(to) : "memory");
	memset(to + 128, 1, 512); /* what it saves differs */
}

static void avx(unsigned char *to)
{
	__asm__ volatile("vmovq %%rcx, %%xmm0\n\tvbroadcastss %%xmm0, %%ymm1\n\t"
			 "vmovups %%ymm1, 5(%0)\n\tvmovaps %%ymm1, 64(%0)\n\tvzeroupper"
			 :
			 : "r"(to), VALUE
			 : "memory", "xmm0", "xmm1");
}

/* The flags must survive an emulated store. */
static void flags(unsigned char *to)
{
	unsigned long before, after;

	__asm__ volatile("movb $0x80, %%al\n\taddb $0x80, %%al\n\tpushfq\n\tpopq %0\n\t"
			 "movq %%rcx, (%2)\n\tpushfq\n\tpopq %1"
			 : "=&r"(before), "=&r"(after)
			 : "r"(to), VALUE
			 : "memory", "cc", "rax");
	CHECK_IS(after, before);
}

/* Single-stepped: the trap comes after the store, once. */
static volatile sig_atomic_t traps;
static void on_trap(int number)
{
	(void)number;
	traps++;
}

static void stepped(unsigned char *to)
{
	traps = 0;
	__asm__ volatile("subq $128, %%rsp\n\tpushfq\n\torq $0x100, (%%rsp)\n\tpopfq\n\t"
			 "movl $5, (%0)\n\tmovl $6, 4(%0)\n\t"
			 "pushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq\n\taddq $128, %%rsp"
			 :
			 : "r"(to)
			 : "memory", "cc");
	/* after each of: movl, movl, pushfq, andq, popfq */
	CHECK_IS(traps, 5);
}

static const struct kind {
	const char *name;
	store_fn *store;
	bool emulated; /* must be */
	bool avx;
} kinds[] = {
#define KIND(name)                        \
	{                                 \
#name, name, false, false \
	}
#define PLAIN(name)                      \
	{                                \
#name, name, true, false \
	}
	PLAIN(mov8),
	PLAIN(mov8_high),
	PLAIN(mov16),
	PLAIN(mov32),
	PLAIN(mov64),
	PLAIN(mov_imm8),
	PLAIN(mov_imm16),
	PLAIN(mov_imm32),
	PLAIN(mov_imm64),
	PLAIN(mov_indexed),
	PLAIN(mov_r15),
	PLAIN(movnti),
	KIND(add),
	KIND(inc),
	KIND(neg),
	KIND(not ),
	KIND(shl),
	KIND(bts),
	KIND(setc),
	KIND(lock_add),
	KIND(lock_inc),
	KIND(xadd),
	KIND(xchg),
	KIND(cmpxchg),
	KIND(cmpxchg_fails),
	KIND(fstp32),
	KIND(fstp64),
	KIND(fstp80),
	KIND(fist),
	KIND(fnstcw),
	KIND(stmxcsr),
	KIND(movaps),
	KIND(movups),
	KIND(movss),
	KIND(movntdq),
	KIND(movq_xmm),
	KIND(across),
	KIND(across_sse),
	KIND(across_byte),
	KIND(stos),
	KIND(stos_across),
	KIND(movs),
	KIND(movs_down),
	KIND(push),
	KIND(pop),
	KIND(call),
	KIND(gs),
	KIND(fxsave),
	{ "avx", avx, false, true },
	PLAIN(flags),
	KIND(stepped),
};

static bool has_avx(void)
{
	unsigned int a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_AVX) && (c & bit_OSXSAVE);
}

static void one(const struct kind *kind, struct tracked *t, unsigned char *plain)
{
	struct hac_xen_statistics before = statistics((uint32_t)t->number), after;
	uint32_t page;

	memset(plain, 0x31, PAGES * PAGE);
	memset(t->memory, 0x31, PAGES * PAGE);
	take(t);
	clear_log(t);
	before = statistics((uint32_t)t->number);
	kind->store(plain + AT);
	kind->store(t->memory + AT);
	after = statistics((uint32_t)t->number);
	CHECK_MSG(!memcmp(plain, t->memory, PAGES * PAGE), "%s under %s gives other bytes",
		  kind->name, handler_names[handler]);
	take(t);
	for (page = 0; page < PAGES; page++) {
		unsigned char *of_page = plain + page * PAGE;
		bool same = of_page[0] == 0x31 && !memcmp(of_page, of_page + 1, PAGE - 1);

		CHECK_MSG(same || reported(t, page), "%s under %s: page %u is not reported",
			  kind->name, handler_names[handler], page);
	}
	if (t->log && kind->emulated)
		CHECK_MSG(after.emulated == before.emulated + 1 && !t->count, "%s was not emulated",
			  kind->name);
	clear_log(t);
}

static void kinds_of_stores(void)
{
	unsigned char *p = map_pages(PAGES), *plain = map_pages(PAGES);
	struct tracked t;
	size_t i;

	memset(p, 1, PAGES * PAGE);
	track_all(&t, p, PAGES);
	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!kinds[i].avx || has_avx())
			one(&kinds[i], &t, plain);
	untrack(&t);
	munmap(p, PAGES * PAGE);
	munmap(plain, PAGES * PAGE);
}

/* A store whose code, or whose log, is not where Xen can reach it. */
static void hidden(void)
{
	unsigned char *p = map_pages(PAGES), *code = map_pages(2);
	static const unsigned char text[] = { 0x89, 0x37, 0xc3 }; /* mov %esi, (%rdi); ret */
	struct tracked t;
	int i;

	memset(p, 1, PAGES * PAGE);
	track_all(&t, p, PAGES);
	memcpy(code + PAGE - 1, text, sizeof(text));
	CHECK_OK(mprotect(code, 2 * PAGE, PROT_READ | PROT_EXEC));
	for (i = 0; i < 3; i++) {
		((void (*)(void *, int))(uintptr_t)(code + PAGE - 1))(p + PAGE, 5 + i);
		CHECK_IS(p[PAGE], 5 + i);
		must_report(&t, 1, 2);
	}
	if (t.log)
		CHECK_OK(mprotect(t.log, PAGE, PROT_READ));
	p[2 * PAGE] = 3;
	take(&t);
	CHECK(reported(&t, 2));
	if (t.log) {
		CHECK_OK(munmap(t.log, PAGE));
		p[2 * PAGE] = 4;
		take(&t);
		CHECK(t.count == 1 && t.list[0] == 2);
		t.log = NULL;
	}
	untrack(&t);
	munmap(p, PAGES * PAGE);
	munmap(code, 2 * PAGE);
}

int main(void)
{
	need_xen();
	catch_faults();
	signal(SIGTRAP, on_trap);
	UNDER_EACH_HANDLER(kinds_of_stores);
	UNDER_EACH_HANDLER(hidden);
	return 0;
}
