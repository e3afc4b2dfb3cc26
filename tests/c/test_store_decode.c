// SPDX-License-Identifier: MIT
/*
 * Store instructions on a protected area under emul do what they do on plain
 * memory: the same bytes, the same flags, the same registers, whether emul
 * carries them out or opens the page. Each must be reported, too.
 */
#include "each_engine.h"

#if defined(__x86_64__)

#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>

#define PAGE 4096u
#define SIZE (64u * PAGE)
#define FLAGS 0x8d5ull /* carry, parity, adjust, zero, sign, overflow */

/* What goes in and comes out: registers by name, and the flags. */
struct state {
	uint64_t a, b, c, d, si, flags;
	unsigned char vector[64];
};

/* One instruction (or a few) that stores to [rdi], which is `p`. */
typedef void code(unsigned char *p, struct state *s);

/* In: flags, rax, rbx, rcx, rdx, rsi, and rdi = p. Out: the same. The stack
 * may hold what the compiler keeps below its pointer. */
#define CODE(name, text)                                                                        \
	__attribute__((no_sanitize("address", "thread"))) static void name(unsigned char *p,    \
									   struct state *s)     \
	{                                                                                       \
		unsigned char *to = p;                                                          \
		__asm__ volatile("sub $256, %%rsp\n\tpush %[flags]\n\tpopfq\n\t" text           \
				 "\n\tpushfq\n\tpop %[flags]\n\tcld\n\tadd $256, %%rsp"         \
				 : "+a"(s->a), "+b"(s->b), "+c"(s->c), "+d"(s->d), "+S"(s->si), \
				   "+D"(to), [flags] "+r"(s->flags)                             \
				 : "r"(s)                                                       \
				 : "memory", "cc", "r12", "r13");                               \
		s->si = s->si == (uintptr_t)p ? 0 : s->si;                                      \
	}

/* The vector registers come from s->vector. */
#define VECTOR(name, load, text, ...)                                                        \
	__attribute__((no_sanitize("address", "thread"))) static void name(unsigned char *p, \
									   struct state *s)  \
	{                                                                                    \
		__asm__ volatile(load "\n\t" text                                            \
				 :                                                           \
				 : "D"(p), "S"(s->vector), "a"(s->a), "c"(s->c)              \
				 : "memory", "cc", __VA_ARGS__);                             \
	}

CODE(mov8, "movb %%al, (%%rdi)")
CODE(mov16, "movw %%bx, (%%rdi)")
CODE(mov32, "movl %%ecx, (%%rdi)")
CODE(mov64, "movq %%rdx, (%%rdi)")
CODE(mov_ah, "movb %%ah, (%%rdi)")
CODE(mov_bh, "movb %%bh, 3(%%rdi)")
CODE(mov_ch, "movb %%ch, 5(%%rdi)")
CODE(mov_dh, "movb %%dh, -1(%%rdi)")
CODE(mov_sil, "movb %%sil, (%%rdi)")
CODE(mov_r12, "movq %%rax, %%r12\n\tmovl %%r12d, 1(%%rdi)")
CODE(mov_base_r13, "movq %%rdi, %%r13\n\tmovq %%rax, (%%r13)")
CODE(mov_base_r12, "movq %%rdi, %%r12\n\tmovq %%rax, 16(%%r12)")
CODE(imm8, "movb $0x5a, (%%rdi)")
CODE(imm16, "movw $0x1234, (%%rdi)")
CODE(imm32, "movl $0x89abcdef, (%%rdi)")
CODE(imm64, "movq $-5, (%%rdi)")
CODE(sib, "movzbl %%cl, %%r12d\n\tmovl %%eax, 7(%%rdi,%%r12,4)")
CODE(sib8, "movzbl %%dl, %%r12d\n\tmovq %%rax, -128(%%rdi,%%r12,8)")
CODE(sib_negative, "movzbl %%dl, %%r12d\n\tneg %%r12\n\tmovw %%ax, 600(%%rdi,%%r12,2)")
CODE(absolute_base, "xor %%r12d, %%r12d\n\tmovq %%rax, 8(%%r12,%%rdi,1)")
CODE(address32_prefix, "lea 8(%%rdi), %%r12\n\tmovq %%rax, (%%r12)")
CODE(base_is_source, "movq %%rdi, %%r12\n\tsubq %%rdi, %%r12\n\tmovq %%r12, (%%rdi)")
CODE(base_and_source, "movq %%rdi, %%r13\n\tsubq %%r13, %%r13\n\t"
		      "movq %%r13, (%%rdi,%%r13,1)")
CODE(cross8, "movq %%rax, 4092(%%rdi)")
CODE(cross2, "movw %%ax, 4095(%%rdi)")
CODE(cross4, "addl %%eax, 4093(%%rdi)")
CODE(add8, "addb %%al, (%%rdi)")
CODE(add16, "addw %%ax, (%%rdi)")
CODE(add32, "addl %%eax, (%%rdi)")
CODE(add64, "addq %%rax, (%%rdi)")
CODE(add8_high, "addb %%ah, (%%rdi)")
CODE(add_imm, "addq $-128, (%%rdi)")
CODE(add_imm8, "addb $0x80, (%%rdi)")
CODE(sub8, "subb %%bl, (%%rdi)")
CODE(sub16, "subw %%bx, (%%rdi)")
CODE(sub32, "subl %%ebx, (%%rdi)")
CODE(sub64, "subq %%rbx, (%%rdi)")
CODE(sub_imm, "subl $1, (%%rdi)")
CODE(and8, "andb %%cl, (%%rdi)")
CODE(and32, "andl %%ecx, (%%rdi)")
CODE(and64, "andq %%rcx, (%%rdi)")
CODE(and_imm, "andq $-16, (%%rdi)")
CODE(or8, "orb %%dl, (%%rdi)")
CODE(or16, "orw %%dx, (%%rdi)")
CODE(or64, "orq %%rdx, (%%rdi)")
CODE(or_imm, "orl $0x80000000, (%%rdi)")
CODE(xor8, "xorb %%al, (%%rdi)")
CODE(xor32, "xorl %%eax, (%%rdi)")
CODE(xor64, "xorq %%rax, (%%rdi)")
CODE(inc8, "incb (%%rdi)")
CODE(inc16, "incw (%%rdi)")
CODE(inc32, "incl (%%rdi)")
CODE(inc64, "incq (%%rdi)")
CODE(dec8, "decb (%%rdi)")
CODE(dec32, "decl (%%rdi)")
CODE(dec64, "decq (%%rdi)")
CODE(not8, "notb (%%rdi)")
CODE(not64, "notq (%%rdi)")
CODE(neg8, "negb (%%rdi)")
CODE(neg16, "negw (%%rdi)")
CODE(neg64, "negq (%%rdi)")
CODE(adc64, "adcq %%rax, (%%rdi)")
CODE(sbb32, "sbbl %%eax, (%%rdi)")
CODE(shl8, "shlb $3, (%%rdi)")
CODE(shr64, "shrq %%cl, (%%rdi)")
CODE(sar32, "sarl $1, (%%rdi)")
CODE(rol16, "rolw $5, (%%rdi)")
CODE(bts, "btsq $13, (%%rdi)")
CODE(btr_register, "movzbl %%cl, %%r12d\n\tbtrl %%r12d, (%%rdi)")
CODE(setc, "setc (%%rdi)")
CODE(setg, "setg (%%rdi)")
CODE(xchg8, "xchgb %%al, (%%rdi)")
CODE(xchg64, "xchgq %%rax, (%%rdi)")
CODE(xadd32, "xaddl %%eax, (%%rdi)")
CODE(lock_add, "lock addq %%rax, (%%rdi)")
CODE(lock_xadd, "lock xaddq %%rbx, (%%rdi)")
CODE(lock_or, "lock orl $0, (%%rdi)")
CODE(cmpxchg_equal, "movq (%%rdi), %%rax\n\tcmpxchgq %%rbx, (%%rdi)")
CODE(cmpxchg_other, "cmpxchgl %%ebx, (%%rdi)")
CODE(lock_cmpxchg, "movl (%%rdi), %%eax\n\tlock cmpxchgl %%ebx, (%%rdi)")
CODE(cmpxchg8b, "cmpxchg8b (%%rdi)")
CODE(movnti32, "movnti %%eax, (%%rdi)\n\tsfence")
CODE(movnti64, "movnti %%rax, 8(%%rdi)\n\tsfence")
CODE(push_memory,
     "movq %%rsp, %%r12\n\tlea 128(%%rdi), %%rsp\n\tpushq 64(%%rdi)\n\tmovq %%r12, %%rsp")
CODE(pop_memory, "pushq %%rax\n\tpopq (%%rdi)")
CODE(push_register, "movq %%rsp, %%r12\n\tlea 128(%%rdi), %%rsp\n\tpushq %%rax\n\tpushw %%cx\n\t"
		    "movq %%r12, %%rsp")
CODE(call_there, "movq %%rsp, %%r12\n\tlea 128(%%rdi), %%rsp\n\tcall 1f\n1:\tmovq $0, (%%rsp)\n\t"
		 "movq %%r12, %%rsp")
CODE(stosb_one, "stosb")
CODE(stosq_rep, "movl $700, %%ecx\n\trep stosq")
CODE(stosb_back, "lea 5000(%%rdi), %%rdi\n\tmovl $3000, %%ecx\n\tstd\n\trep stosb\n\tcld")
CODE(movsb_rep, "lea 9000(%%rdi), %%rsi\n\tmovl $6000, %%ecx\n\trep movsb\n\txorl %%esi, %%esi")
CODE(movsq_one, "lea 64(%%rdi), %%rsi\n\tmovsq\n\txorl %%esi, %%esi")
CODE(movbe32, "bswap %%eax\n\tmovl %%eax, (%%rdi)")
CODE(fst, "fldpi\n\tfstpl (%%rdi)\n\tfld1\n\tfstps 8(%%rdi)\n\tfldl2e\n\tfstpt 16(%%rdi)")
CODE(fist, "fldpi\n\tfistpll (%%rdi)")
CODE(stmxcsr, "stmxcsr (%%rdi)")
CODE(fs_unused, "movq %%rax, %%ds:(%%rdi)")

#define XMM "movdqu (%%rsi), %%xmm9\n\tmovdqu 16(%%rsi), %%xmm2"
VECTOR(movups, XMM, "movups %%xmm9, 1(%%rdi)", "xmm9", "xmm2")
VECTOR(movaps, XMM, "movaps %%xmm2, (%%rdi)", "xmm9", "xmm2")
VECTOR(movdqa, XMM, "movdqa %%xmm9, 16(%%rdi)", "xmm9", "xmm2")
VECTOR(movdqu, XMM, "movdqu %%xmm2, 4090(%%rdi)", "xmm9", "xmm2")
VECTOR(movss, XMM, "movss %%xmm9, (%%rdi)", "xmm9", "xmm2")
VECTOR(movsd, XMM, "movsd %%xmm9, 3(%%rdi)", "xmm9", "xmm2")
VECTOR(movd, XMM, "movd %%xmm2, (%%rdi)", "xmm9", "xmm2")
VECTOR(movq, XMM, "movq %%xmm9, (%%rdi)", "xmm9", "xmm2")
VECTOR(movhps, XMM, "movhps %%xmm2, (%%rdi)", "xmm9", "xmm2")
VECTOR(movlps, XMM, "movlps %%xmm9, (%%rdi)", "xmm9", "xmm2")
VECTOR(movhpd, XMM, "movhpd %%xmm9, 8(%%rdi)", "xmm9", "xmm2")
VECTOR(movntps, XMM, "movntps %%xmm2, (%%rdi)\n\tsfence", "xmm9", "xmm2")
VECTOR(movntdq, XMM, "movntdq %%xmm9, 32(%%rdi)\n\tsfence", "xmm9", "xmm2")
VECTOR(maskmov, XMM, "maskmovdqu %%xmm2, %%xmm9\n\tsfence", "xmm9", "xmm2")
VECTOR(mmx, "movq (%%rsi), %%mm1", "movq %%mm1, (%%rdi)\n\temms", "xmm9")
VECTOR(mmx_nt, "movq (%%rsi), %%mm1", "movntq %%mm1, (%%rdi)\n\temms\n\tsfence", "xmm9")
VECTOR(pextrb, XMM, "pextrb $5, %%xmm9, (%%rdi)", "xmm9", "xmm2")
VECTOR(pextrd, XMM, "pextrd $2, %%xmm9, (%%rdi)", "xmm9", "xmm2")
VECTOR(pextrq, XMM, "pextrq $1, %%xmm2, (%%rdi)", "xmm9", "xmm2")
VECTOR(extractps, XMM, "extractps $3, %%xmm2, (%%rdi)", "xmm9", "xmm2")

#define YMM "vmovdqu (%%rsi), %%ymm11\n\tvmovdqu 32(%%rsi), %%ymm3"
#define YMMS "xmm11", "xmm3"
VECTOR(vmovups, YMM, "vmovups %%ymm11, 5(%%rdi)\n\tvzeroupper", YMMS)
VECTOR(vmovdqa, YMM, "vmovdqa %%ymm3, (%%rdi)\n\tvzeroupper", YMMS)
VECTOR(vmovdqu_cross, YMM, "vmovdqu %%ymm3, 4080(%%rdi)\n\tvzeroupper", YMMS)
VECTOR(vmovdqu_low, YMM, "vmovdqu %%xmm11, (%%rdi)\n\tvzeroupper", YMMS)
VECTOR(vmovups_zero, "vpxor %%ymm11, %%ymm11, %%ymm11", "vmovups %%ymm11, (%%rdi)\n\tvzeroupper",
       YMMS)
VECTOR(vmovups_clean, YMM, "vzeroupper\n\tvmovups %%ymm11, (%%rdi)\n\tvzeroupper", YMMS)
VECTOR(vmovss, YMM, "vmovss %%xmm11, (%%rdi)\n\tvzeroupper", YMMS)
VECTOR(vmovntdq, YMM, "vmovntdq %%ymm11, 32(%%rdi)\n\tvzeroupper\n\tsfence", YMMS)
VECTOR(vextract, YMM, "vextractf128 $1, %%ymm11, (%%rdi)\n\tvzeroupper", YMMS)
VECTOR(vmaskmov, YMM, "vmaskmovps %%ymm11, %%ymm3, (%%rdi)\n\tvzeroupper", YMMS)
VECTOR(vpmaskmov, YMM, "vpmaskmovq %%ymm11, %%ymm3, (%%rdi)\n\tvzeroupper", YMMS)

#define ZMM "vmovdqu64 (%%rsi), %%zmm20"
VECTOR(zmm, ZMM, "vmovdqu64 %%zmm20, 9(%%rdi)\n\tvzeroupper", "xmm9")
VECTOR(zmm_cross, ZMM, "vmovdqu64 %%zmm20, 4070(%%rdi)\n\tvzeroupper", "xmm9")
VECTOR(ymm_high, ZMM, "vmovdqu64 %%ymm20, (%%rdi)\n\tvzeroupper", "xmm9")
VECTOR(xmm_high, ZMM, "vmovups %%xmm20, 16(%%rdi)\n\tvzeroupper", "xmm9")
VECTOR(zmm_masked, ZMM "\n\tkmovw %%ecx, %%k1", "vmovdqu32 %%zmm20, (%%rdi)%{%%k1%}\n\tvzeroupper",
       "xmm9")
VECTOR(compress, ZMM "\n\tkmovw %%ecx, %%k1", "vpcompressd %%zmm20, (%%rdi)%{%%k1%}\n\tvzeroupper",
       "xmm9")
VECTOR(down, ZMM, "vpmovqb %%zmm20, (%%rdi)\n\tvzeroupper", "xmm9")

enum { ALWAYS, AVX2, AVX512 };

static const struct test {
	code *run;
	const char *name;
	int needs;
} tests[] = {
#define T(name)                     \
	{                           \
		name, #name, ALWAYS \
	}
#define Y(name)                   \
	{                         \
		name, #name, AVX2 \
	}
#define Z(name)                     \
	{                           \
		name, #name, AVX512 \
	}
	T(mov8),
	T(mov16),
	T(mov32),
	T(mov64),
	T(mov_ah),
	T(mov_bh),
	T(mov_ch),
	T(mov_dh),
	T(mov_sil),
	T(mov_r12),
	T(mov_base_r13),
	T(mov_base_r12),
	T(imm8),
	T(imm16),
	T(imm32),
	T(imm64),
	T(sib),
	T(sib8),
	T(sib_negative),
	T(absolute_base),
	T(address32_prefix),
	T(base_is_source),
	T(base_and_source),
	T(cross8),
	T(cross2),
	T(cross4),
	T(add8),
	T(add16),
	T(add32),
	T(add64),
	T(add8_high),
	T(add_imm),
	T(add_imm8),
	T(sub8),
	T(sub16),
	T(sub32),
	T(sub64),
	T(sub_imm),
	T(and8),
	T(and32),
	T(and64),
	T(and_imm),
	T(or8),
	T(or16),
	T(or64),
	T(or_imm),
	T(xor8),
	T(xor32),
	T(xor64),
	T(inc8),
	T(inc16),
	T(inc32),
	T(inc64),
	T(dec8),
	T(dec32),
	T(dec64),
	T(not8),
	T(not64),
	T(neg8),
	T(neg16),
	T(neg64),
	T(adc64),
	T(sbb32),
	T(shl8),
	T(shr64),
	T(sar32),
	T(rol16),
	T(bts),
	T(btr_register),
	T(setc),
	T(setg),
	T(xchg8),
	T(xchg64),
	T(xadd32),
	T(lock_add),
	T(lock_xadd),
	T(lock_or),
	T(cmpxchg_equal),
	T(cmpxchg_other),
	T(lock_cmpxchg),
	T(cmpxchg8b),
	T(movnti32),
	T(movnti64),
	T(push_memory),
	T(pop_memory),
	T(push_register),
	T(call_there),
	T(stosb_one),
	T(stosq_rep),
	T(stosb_back),
	T(movsb_rep),
	T(movsq_one),
	T(movbe32),
	T(fst),
	T(fist),
	T(stmxcsr),
	T(fs_unused),
	T(movups),
	T(movaps),
	T(movdqa),
	T(movdqu),
	T(movss),
	T(movsd),
	T(movd),
	T(movq),
	T(movhps),
	T(movlps),
	T(movhpd),
	T(movntps),
	T(movntdq),
	T(maskmov),
	T(mmx),
	T(mmx_nt),
	T(pextrb),
	T(pextrd),
	T(pextrq),
	T(extractps),
	Y(vmovups),
	Y(vmovdqa),
	Y(vmovdqu_cross),
	Y(vmovdqu_low),
	Y(vmovups_zero),
	Y(vmovups_clean),
	Y(vmovss),
	Y(vmovntdq),
	Y(vextract),
	Y(vmaskmov),
	Y(vpmaskmov),
	Z(zmm),
	Z(zmm_cross),
	Z(ymm_high),
	Z(xmm_high),
	Z(zmm_masked),
	Z(compress),
	Z(down),
};
#define TESTS (sizeof(tests) / sizeof(tests[0]))

static bool can_run(int needs)
{
	if (needs == AVX2)
		return __builtin_cpu_supports("avx2");
	if (needs == AVX512)
		return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
	return true;
}

static unsigned long long seed = 4711;
static unsigned char plain_pages[SIZE + PAGE] __attribute__((aligned(4096)));

static struct state some_state(void)
{
	static const uint64_t odd[] = { 0,      1,          0x7f,       0x80,       0xff,
					0x7fff, 0x80000000, 0x7fffffff, 1ull << 63, ~0ull };
	struct state s;
	uint64_t *all[] = { &s.a, &s.b, &s.c, &s.d, &s.si };
	size_t i;

	memset(&s, 0, sizeof(s));
	for (i = 0; i < 5; i++)
		*all[i] = check_random(&seed) % 3 ? check_random(&seed) :
						    odd[check_random(&seed) % 10];
	for (i = 0; i < sizeof(s.vector); i++)
		s.vector[i] = (unsigned char)check_random(&seed);
	s.flags = 0x202 | (check_random(&seed) & FLAGS);
	return s;
}

/* Old values that make carries, overflows and zeroes likely. */
static void prepare_memory(unsigned char *at)
{
	size_t i;
	uint64_t kind = check_random(&seed) % 4;

	for (i = 0; i < 8; i++)
		at[i] = kind == 0 ? 0 : kind == 1 ? 0xff : (unsigned char)check_random(&seed);
	if (kind == 3)
		at[0] = at[1] = at[3] = at[7] = 0x80;
}

static void check_same(const struct test *t, const struct state *a, const struct state *b,
		       uint64_t mask)
{
	CHECK_MSG(a->a == b->a && a->b == b->b && a->c == b->c && a->d == b->d && a->si == b->si,
		  "%s: registers differ", t->name);
	CHECK_MSG(!((a->flags ^ b->flags) & mask), "%s: flags 0x%llx, not 0x%llx", t->name,
		  (unsigned long long)a->flags, (unsigned long long)b->flags);
}

/* In a transaction each; `area` and `plain` are equal before and after. */
static void run_one(hac *h, unsigned char *area, unsigned char *plain, const struct test *t)
{
	struct hac_delta d = { .size = sizeof(d) };
	struct state mine = some_state(), theirs;
	size_t at = (8 + check_random(&seed) % 40) * PAGE + check_random(&seed) % 4 * 64;
	unsigned char before[8 * PAGE];
	size_t i, changed = 0;

	prepare_memory(plain + at);
	memcpy(area + at, plain + at, 8); /* a stray */
	theirs = mine;
	CHECK_OK(hac_begin(h));
	memcpy(before, plain + at - 2 * PAGE, sizeof(before));
	t->run(plain + at, &theirs);
	t->run(area + at, &mine);
	/* `adjust` is undefined after logical instructions. */
	check_same(t, &mine, &theirs, FLAGS & ~0x10ull);
	CHECK_MSG(!memcmp(area, plain, SIZE), "%s: memory differs", t->name);
	CHECK_OK(hac_end(h, &d, NULL));
	for (i = 0; i < sizeof(before); i += 8)
		changed += memcmp(before + i, plain + at - 2 * PAGE + i, 8) ? 8 : 0;
	CHECK_MSG(d.bytes_count == changed, "%s: %zu bytes reported, %zu changed", t->name,
		  d.bytes_count, changed);
}

static void every_store(hac *h, unsigned char *area, const char *how)
{
	size_t rounds = UNDER_ASAN || UNDER_TSAN ? 20 : 200, i, k;

	printf("%s\n", how);
	memset(plain_pages, 0, sizeof(plain_pages));
	memset(area, 0, SIZE);
	for (i = 0; i < TESTS; i++) {
		if (!can_run(tests[i].needs)) {
			printf("%s: skipped: not on this processor\n", tests[i].name);
			continue;
		}
		for (k = 0; k < rounds; k++)
			run_one(h, area, plain_pages, &tests[i]);
	}
}

/* Addressed relative to the instruction: only what is linked in can be. */
__attribute__((aligned(4096))) static unsigned char linked[3 * PAGE];

static void relative_to_rip(void)
{
	hac *h = open_with("emul", 0);
	struct hac_delta d = { .size = sizeof(d) };
	uint64_t carry = 0;

	CHECK_OK(hac_adopt(h, "linked", linked, sizeof(linked), NULL));
	CHECK_OK(hac_begin(h));
	__asm__ volatile("movl $0x11223344, %c0+4096(%%rip)" : : "i"(linked) : "memory");
	__asm__ volatile("addq %1, %c0+4104(%%rip)" : : "i"(linked), "r"(~0ull) : "memory", "cc");
	__asm__ volatile("stc\n\tincb %c1+4200(%%rip)\n\tsetc %b0"
			 : "+r"(carry)
			 : "i"(linked)
			 : "memory", "cc");
	CHECK_OK(hac_end(h, &d, NULL));
	CHECK_IS(d.bytes_count, 24);
	CHECK(!memcmp(linked + 4096, "\x44\x33\x22\x11", 4));
	CHECK(linked[4104] == 0xff && linked[4111] == 0xff && linked[4200] == 1 && carry == 1);
	CHECK_OK(hac_close(h));
}

/* Most stores must not cost a page: those that the decoder knows are counted. */
static void sees_single_writes(void)
{
	hac *h = open_with("emul", 0);
	struct hac_stats stats = { .size = sizeof(stats) };
	struct state s = some_state();
	void *area;
	size_t i;

	CHECK_OK(hac_map(h, "a", SIZE, NULL, &area));
	CHECK_OK(hac_begin(h));
	for (i = 0; i < 10; i++)
		mov64((unsigned char *)area + 8 * i, &s);
	add32((unsigned char *)area + 5000, &s);
	movups((unsigned char *)area + 9000, &s);
	CHECK_OK(hac_end(h, NULL, NULL));
	CHECK_OK(hac_get_stats(h, &stats));
	CHECK_IS(stats.writes, 12);
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_unmap(area));
}

/* More stores than the log has room for. */
static void many_stores(void)
{
	hac *h = open_with("emul", 0);
	struct hac_delta d = { .size = sizeof(d) };
	unsigned char *p;
	void *area;
	size_t i;

	CHECK_OK(hac_map(h, "a", 1u << 20, NULL, &area));
	p = area;
	CHECK_OK(hac_begin(h));
	for (i = 0; i < 20000; i++)
		((volatile unsigned char *)p)[i * 40] = (unsigned char)(i % 255 + 1);
	CHECK_OK(hac_end(h, &d, NULL));
	CHECK_IS(d.bytes_count, 160000);
	CHECK_OK(hac_begin(h));
	for (i = 0; i < 20000; i++)
		((volatile unsigned char *)p)[i * 40] = 0;
	CHECK_OK(hac_abort(h));
	for (i = 0; i < 20000; i++)
		CHECK(p[i * 40] == i % 255 + 1);
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_unmap(area));
}

/* Some tests have their stack in the area, where no signal can be delivered. */
static void use_another_stack(void)
{
	static unsigned char room[65536];
	stack_t stack = { .ss_sp = room, .ss_size = sizeof(room) };

	CHECK(!sigaltstack(&stack, NULL));
}

int main(void)
{
	struct hac_engine_info info = { .size = sizeof(info) };
	unsigned char *adopted;
	void *area;
	uint32_t i;
	hac *h;

	for (i = 0; !hac_get_engine(i, &info); i++)
		if (!strcmp(info.name, "emul") && !info.available)
			SKIP("%s", info.reason);
	use_another_stack();
	h = open_with("emul", 0);
	CHECK_OK(hac_map(h, "a", SIZE, NULL, &area));
	every_store(h, area, "through a second mapping");
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_unmap(area));
	h = open_with("emul", 0);
	adopted = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(adopted != MAP_FAILED);
	CHECK_OK(hac_adopt(h, "a", adopted, SIZE, NULL));
	every_store(h, adopted, "through /proc/self/mem");
	CHECK_OK(hac_close(h));
	RUN(relative_to_rip);
	RUN(sees_single_writes);
	RUN(many_stores);
	return 0;
}

#else

int main(void)
{
	SKIP("stores are decoded on x86-64 only");
}

#endif
