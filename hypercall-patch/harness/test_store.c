// SPDX-License-Identifier: GPL-2.0-only
/*
 * The store decoder: each form against what it must say, and against Zydis:
 * whatever it accepts is MOV or MOVNTI to memory, of this length, width,
 * address and value. Random bytes, and random bytes after opcodes of stores.
 *   test_store [ROUNDS [SEED]]
 */
#include "machine.h"

#ifdef HAVE_ZYDIS
#include <Zydis/Zydis.h>
#endif

static struct cpu_user_regs regs = {
	.rax = 0x1122334455667788,
	.rcx = 0x1000,
	.rdx = 0x99aabbccddeeff00,
	.rbx = 0x2000,
	.rsp = 0x7000,
	.rbp = 0x8000,
	.rsi = 0x3000,
	.rdi = 0x4000,
	.r8 = 0x8888,
	.r9 = 0x9999,
	.r10 = 0xaaaa,
	.r11 = 0xbbbb,
	.r12 = 0xc000,
	.r13 = 0xd000,
	.r14 = 0xe000,
	.r15 = 0xf000,
	.rip = 0x400000,
};

void guest_wrote(mfn_t mfn, unsigned int offset, uint64_t value, unsigned int width, bool emulated)
{
	(void)mfn, (void)offset, (void)value, (void)width, (void)emulated;
}

void guest_entry_changed(mfn_t table, l1_pgentry_t old, l1_pgentry_t new)
{
	(void)table, (void)old, (void)new;
}

struct form {
	const char *code; /* in hex */
	bool code32;
	unsigned int width; /* 0: refused */
	unsigned long address, value;
};

static const struct form forms[] = {
	{ "8807", false, 1, 0x4000, 0x88 },
	{ "8827", false, 1, 0x4000, 0x77 },   /* ah */
	{ "408827", false, 1, 0x4000, 0x00 }, /* spl */
	{ "668907", false, 2, 0x4000, 0x7788 },
	{ "8907", false, 4, 0x4000, 0x55667788 },
	{ "488907", false, 8, 0x4000, 0x1122334455667788 },
	{ "66488907", false, 8, 0x4000, 0x1122334455667788 },
	{ "4d894c2410", false, 8, 0xc010, 0x9999 }, /* r12 needs a SIB */
	{ "4d894d00", false, 8, 0xd000, 0x9999 },   /* r13 needs a displacement */
	{ "498904cc", false, 8, 0xc000 + 8 * 0x1000, 0x1122334455667788 },
	{ "4a8904a3", false, 8, 0x2000 + 4 * 0xc000, 0x1122334455667788 },
	{ "89042500100000", false, 4, 0x1000, 0x55667788 },
	{ "890500010000", false, 4, 0x400106, 0x55667788 }, /* relative to the end */
	{ "c7050001000005000000", false, 4, 0x40010a, 5 },
	{ "890500010000", true, 4, 0x100, 0x55667788 }, /* absolute */
	{ "8987f8ffffff", false, 4, 0x3ff8, 0x55667788 },
	{ "8947f8", true, 4, 0x3ff8, 0x55667788 },
	{ "c607ff", false, 1, 0x4000, 0xff },
	{ "66c7073412", false, 2, 0x4000, 0x1234 },
	{ "c707ffffffff", false, 4, 0x4000, 0xffffffff },
	{ "48c707ffffffff", false, 8, 0x4000, ~0UL },
	{ "0fc307", false, 4, 0x4000, 0x55667788 },
	{ "480fc307", false, 8, 0x4000, 0x1122334455667788 },
	{ "66480fc307", false, 0, 0, 0 }, /* undefined */
	{ "89c7", false, 0, 0, 0 },       /* a register */
	{ "c70f00000000", false, 0, 0, 0 },
	{ "f08907", false, 0, 0, 0 },
	{ "648907", false, 0, 0, 0 },
	{ "678907", false, 0, 0, 0 },
	{ "f3aa", false, 0, 0, 0 },
	{ "8707", false, 0, 0, 0 },
	{ "0107", false, 0, 0, 0 },
	{ "660f7f07", false, 0, 0, 0 },
	{ "dd1f", false, 0, 0, 0 },
	{ "48668907", false, 0, 0, 0 }, /* REX that does not count */
	{ "4889", false, 0, 0, 0 },     /* ends too soon */
	{ "c70700", false, 0, 0, 0 },
};

static unsigned int from_hex(const char *hex, uint8_t *code)
{
	unsigned int n = 0;

	for (; *hex; hex += 2)
		MUST(sscanf(hex, "%2hhx", &code[n++]) == 1, "not hex: %s", hex);
	return n;
}

static void each_form(void)
{
	unsigned int i, n;

	for (i = 0; i < ARRAY_SIZE(forms); i++) {
		const struct form *f = &forms[i];
		struct hac_store s = { 0 };
		uint8_t code[15];

		n = from_hex(f->code, code);
		MUST(hac_store_decode(&regs, f->code32, code, n, &s) == !!f->width, "%s", f->code);
		if (f->width)
			MUST(s.width == f->width && s.length == n && s.address == f->address &&
				     s.value == f->value,
			     "%s: width %u, length %u, address %#lx, value %#lx", f->code, s.width,
			     s.length, s.address, s.value);
		for (; f->width && n--;)
			MUST(!hac_store_decode(&regs, f->code32, code, n, &s), "%s cut", f->code);
	}
}

#ifdef HAVE_ZYDIS
static unsigned long accepted;

static uint64_t value_of(const ZydisDecodedOperand *op, const ZydisRegisterContext *context)
{
	ZydisRegister r = op->reg.value;

	if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		return op->imm.value.u;
	if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH)
		return context->values[ZYDIS_REGISTER_RAX + r - ZYDIS_REGISTER_AH] >> 8;
	return context->values[ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r)];
}

static void compare(const uint8_t *code, bool code32, const ZydisRegisterContext *context)
{
	ZydisDecoder decoder;
	ZydisDecodedInstruction in;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	struct hac_store s;
	ZyanU64 address;
	uint64_t value;

	if (!hac_store_decode(&regs, code32, code, 15, &s))
		return;
	accepted++;
	ZydisDecoderInit(&decoder,
			 code32 ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32 : ZYDIS_MACHINE_MODE_LONG_64,
			 code32 ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_64);
#define SAME(x)                                                                                  \
	MUST(x, "%s: %02x %02x %02x %02x %02x, %d bits", #x, code[0], code[1], code[2], code[3], \
	     code[4], code32 ? 32 : 64)
	SAME(ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, code, 15, &in, ops)));
	SAME(in.mnemonic == ZYDIS_MNEMONIC_MOV || in.mnemonic == ZYDIS_MNEMONIC_MOVNTI);
	SAME(ops[0].type == ZYDIS_OPERAND_TYPE_MEMORY);
	SAME(in.length == s.length);
	SAME(ops[0].size == s.width * 8);
	SAME(ZYAN_SUCCESS(ZydisCalcAbsoluteAddressEx(&in, &ops[0], regs.rip, context, &address)));
	SAME(address == s.address);
	value = value_of(&ops[1], context);
	SAME((s.width == 8 ? value : value & ((1UL << (8 * s.width)) - 1)) == s.value);
}

static void against_zydis(unsigned long rounds)
{
	static const uint8_t opcodes[] = { 0x88, 0x89, 0xc6, 0xc7, 0x0f };
	ZydisRegisterContext context = { 0 };
	/* In the order of Zydis, which is that of the numbers. */
	const uint64_t values[] = { regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rsp, regs.rbp,
				    regs.rsi, regs.rdi, regs.r8,  regs.r9,  regs.r10, regs.r11,
				    regs.r12, regs.r13, regs.r14, regs.r15 };
	unsigned long i;
	unsigned int j, n;

	for (j = 0; j < 16; j++)
		context.values[ZYDIS_REGISTER_RAX + j] = values[j];
	for (j = 0; j < 8; j++)
		context.values[ZYDIS_REGISTER_EAX + j] = (uint32_t)values[j];
	for (i = 0; i < rounds; i++) {
		uint8_t code[15];

		for (j = 0; j < sizeof(code); j++)
			code[j] = hx_random(256);
		n = 0;
		if (i % 8) {
			if (!hx_random(3))
				code[n++] = 0x66;
			if (hx_random(2))
				code[n++] = 0x40 + hx_random(16);
			code[n++] = opcodes[hx_random(5)];
			if (code[n - 1] == 0x0f)
				code[n++] = 0xc3;
			else if (code[n - 1] >= 0xc6)
				code[n] &= 0xc7 | (hx_random(8) ? 0 : 0x38);
		}
		compare(code, hx_random(2), &context);
	}
	printf("store: Zydis agrees on %lu stores of %lu\n", accepted, rounds);
	MUST(accepted > rounds / 20, "too few are accepted");
}
#else
static void against_zydis(unsigned long rounds)
{
	(void)rounds;
	printf("store: not compared, for there is no Zydis\n");
}
#endif

int main(int argc, char **argv)
{
	hx_seed = argc > 2 ? strtoul(argv[2], NULL, 0) : 1;
	hx_machine_init(1);
	each_form();
	against_zydis(argc > 1 ? strtoul(argv[1], NULL, 0) : 2000000);
	return 0;
}
