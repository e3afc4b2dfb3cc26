// SPDX-License-Identifier: MIT
#include "store_decode.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__) && defined(HAVE_ZYDIS)

#include <Zydis/Zydis.h>
#include <cpuid.h>
#include <pthread.h>
#include <ucontext.h>

/*
 * Register numbers as the kernel's gregs has them, for base, index and source.
 * NONE: absent; NEXT: the instruction pointer after this instruction.
 */
enum { NONE = -1, NEXT = -2 };

enum source { FROM_REGISTER, FROM_HIGH_BYTE, FROM_IMMEDIATE, FROM_VECTOR };

enum operation { MOVE, ADD, SUB, AND, OR, XOR, INC, DEC, NOT, NEG };

/* A decoded store, independent of the values in the registers. */
struct recipe {
	uint64_t at; /* the instruction's address; 0: empty */
	unsigned char code[15];
	uint8_t length;
	uint8_t handled;
	uint8_t width;
	uint8_t source;
	uint8_t operation;
	int8_t base;
	int8_t index;
	uint8_t scale;
	int8_t from;         /* gregs or vector register number */
	uint8_t from_offset; /* in the vector register, bytes */
	int64_t displacement;
	uint64_t immediate;
};

/* One slot per instruction; read and written by any thread's handler, under a
 * sequence number that is odd while it is being written. */
#define SLOTS 1024u

static struct slot {
	_Atomic uint32_t sequence;
	struct recipe recipe;
} slots[SLOTS];

static ZydisDecoder decoder;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static size_t ymm_offset; /* of the upper halves in the XSAVE area, or 0 */

static void set_up(void)
{
	unsigned int a, b, c, d;

	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	if (__get_cpuid_count(0xd, 2, &a, &b, &c, &d) && a)
		ymm_offset = b;
}

int store_decoder_probe(char *reason, size_t size)
{
	(void)reason;
	(void)size;
	pthread_once(&once, set_up);
	return 0;
}

static int greg_of(ZydisRegister reg)
{
	/* In the order of Zydis: RAX RCX RDX RBX RSP RBP RSI RDI R8 ... R15 */
	static const int8_t gregs[16] = {
		REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
		REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
	};
	ZydisRegister wide;

	if (reg == ZYDIS_REGISTER_NONE)
		return NONE;
	if (reg == ZYDIS_REGISTER_RIP)
		return NEXT;
	wide = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
	if (wide < ZYDIS_REGISTER_RAX || wide > ZYDIS_REGISTER_R15)
		return -3;
	return gregs[wide - ZYDIS_REGISTER_RAX];
}

static bool read_address(const ZydisDecodedOperand *memory,
			 const ZydisDecodedInstruction *instruction, struct recipe *r)
{
	if (memory->mem.type != ZYDIS_MEMOP_TYPE_MEM || instruction->address_width != 64 ||
	    memory->mem.segment == ZYDIS_REGISTER_FS || memory->mem.segment == ZYDIS_REGISTER_GS)
		return false;
	r->base = (int8_t)greg_of(memory->mem.base);
	r->index = (int8_t)greg_of(memory->mem.index);
	r->scale = memory->mem.scale;
	r->displacement = memory->mem.disp.value;
	return r->base >= NEXT && r->index >= NONE;
}

static bool read_source(const ZydisDecodedOperand *source, struct recipe *r)
{
	ZydisRegister reg;

	if (source->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		r->source = FROM_IMMEDIATE;
		r->immediate = source->imm.value.u;
		return true;
	}
	if (source->type != ZYDIS_OPERAND_TYPE_REGISTER)
		return false;
	reg = source->reg.value;
	switch (ZydisRegisterGetClass(reg)) {
	case ZYDIS_REGCLASS_GPR8:
		r->source = reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH ? FROM_HIGH_BYTE :
										   FROM_REGISTER;
		break;
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64:
		r->source = FROM_REGISTER;
		break;
	case ZYDIS_REGCLASS_XMM:
	case ZYDIS_REGCLASS_YMM:
		r->source = FROM_VECTOR;
		r->from = (int8_t)ZydisRegisterGetId(reg);
		return r->from < 16;
	default:
		return false;
	}
	r->from = (int8_t)greg_of(reg);
	return r->from >= 0;
}

/* The moves: they write the source's low bytes, whatever their name. */
static bool read_move(ZydisMnemonic mnemonic, struct recipe *r)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
	case ZYDIS_MNEMONIC_MOVNTI:
		return r->source != FROM_VECTOR;
	case ZYDIS_MNEMONIC_MOVHPS:
	case ZYDIS_MNEMONIC_MOVHPD:
	case ZYDIS_MNEMONIC_VMOVHPS:
	case ZYDIS_MNEMONIC_VMOVHPD:
		r->from_offset = 8;
		return r->source == FROM_VECTOR;
	case ZYDIS_MNEMONIC_MOVSS:
	case ZYDIS_MNEMONIC_MOVSD:
	case ZYDIS_MNEMONIC_MOVD:
	case ZYDIS_MNEMONIC_MOVQ:
	case ZYDIS_MNEMONIC_MOVLPS:
	case ZYDIS_MNEMONIC_MOVLPD:
	case ZYDIS_MNEMONIC_MOVUPS:
	case ZYDIS_MNEMONIC_MOVUPD:
	case ZYDIS_MNEMONIC_MOVAPS:
	case ZYDIS_MNEMONIC_MOVAPD:
	case ZYDIS_MNEMONIC_MOVDQU:
	case ZYDIS_MNEMONIC_MOVDQA:
	case ZYDIS_MNEMONIC_VMOVSS:
	case ZYDIS_MNEMONIC_VMOVSD:
	case ZYDIS_MNEMONIC_VMOVD:
	case ZYDIS_MNEMONIC_VMOVQ:
	case ZYDIS_MNEMONIC_VMOVLPS:
	case ZYDIS_MNEMONIC_VMOVLPD:
	case ZYDIS_MNEMONIC_VMOVUPS:
	case ZYDIS_MNEMONIC_VMOVUPD:
	case ZYDIS_MNEMONIC_VMOVAPS:
	case ZYDIS_MNEMONIC_VMOVAPD:
	case ZYDIS_MNEMONIC_VMOVDQU:
	case ZYDIS_MNEMONIC_VMOVDQA:
		return r->source == FROM_VECTOR;
	default:
		return false;
	}
}

static bool read_operation(ZydisMnemonic mnemonic, struct recipe *r)
{
	static const struct {
		ZydisMnemonic mnemonic;
		uint8_t operation;
	} known[] = {
		{ ZYDIS_MNEMONIC_ADD, ADD }, { ZYDIS_MNEMONIC_SUB, SUB },
		{ ZYDIS_MNEMONIC_AND, AND }, { ZYDIS_MNEMONIC_OR, OR },
		{ ZYDIS_MNEMONIC_XOR, XOR }, { ZYDIS_MNEMONIC_INC, INC },
		{ ZYDIS_MNEMONIC_DEC, DEC }, { ZYDIS_MNEMONIC_NOT, NOT },
		{ ZYDIS_MNEMONIC_NEG, NEG },
	};
	size_t i;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].mnemonic == mnemonic) {
			r->operation = known[i].operation;
			return r->source != FROM_VECTOR && r->width <= 8;
		}
	return false;
}

static bool read_instruction(const ZydisDecodedInstruction *instruction,
			     const ZydisDecodedOperand *operands, struct recipe *r)
{
	const ZydisDecodedOperand *memory = &operands[0];
	unsigned int bytes = memory->size / 8;

	if (!instruction->operand_count_visible || instruction->operand_count_visible > 2 ||
	    memory->type != ZYDIS_OPERAND_TYPE_MEMORY ||
	    instruction->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX ||
	    instruction->attributes & (ZYDIS_ATTRIB_HAS_LOCK | ZYDIS_ATTRIB_HAS_REP |
				       ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE) ||
	    (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8 && bytes != 16 && bytes != 32) ||
	    !read_address(memory, instruction, r))
		return false;
	r->width = (uint8_t)bytes;
	r->operation = MOVE;
	if (instruction->operand_count_visible == 1) {
		r->source = FROM_IMMEDIATE;
		return read_operation(instruction->mnemonic, r);
	}
	if (!read_source(&operands[1], r))
		return false;
	return read_move(instruction->mnemonic, r) || read_operation(instruction->mnemonic, r);
}

static void decode(uint64_t at, struct recipe *r)
{
	ZydisDecodedInstruction instruction;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	size_t to_page_end = 4096 - at % 4096;
	size_t room = to_page_end < 15 ? to_page_end : 15;
	const void *code = (const void *)(uintptr_t)at;

	memset(r, 0, sizeof(*r));
	r->at = at;
	/* Reading on into the next page is safe only if the instruction does
	 * so itself. */
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, code, room, &instruction, operands)) &&
	    (room == 15 ||
	     !ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, code, 15, &instruction, operands))))
		return;
	r->length = instruction.length;
	memcpy(r->code, code, r->length);
	r->handled = read_instruction(&instruction, operands, r);
}

static bool look_up(struct slot *slot, uint64_t at, struct recipe *r)
{
	uint32_t before = atomic_load_explicit(&slot->sequence, memory_order_acquire);

	if (before & 1)
		return false;
	memcpy(r, &slot->recipe, sizeof(*r));
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&slot->sequence, memory_order_relaxed) != before)
		return false;
	/* The code may have been compiled anew at the same address. Only if
	 * it lies within one page is it there to be compared for sure. */
	return r->at == at && at % 4096 + r->length <= 4096 &&
	       !memcmp(r->code, (const void *)(uintptr_t)at, r->length);
}

static void remember(struct slot *slot, const struct recipe *r)
{
	uint32_t before = atomic_load(&slot->sequence);

	if (before & 1 || !atomic_compare_exchange_strong(&slot->sequence, &before, before + 1))
		return; /* somebody else is at it */
	memcpy(&slot->recipe, r, sizeof(*r));
	atomic_store_explicit(&slot->sequence, before + 2, memory_order_release);
}

static uint64_t effective_address(const struct recipe *r, const greg_t *registers)
{
	uint64_t address = (uint64_t)r->displacement;

	if (r->base == NEXT)
		address += r->at + r->length;
	else if (r->base != NONE)
		address += (uint64_t)registers[(int)r->base];
	if (r->index != NONE)
		address += (uint64_t)registers[(int)r->index] * r->scale;
	return address;
}

/* The x87 and SSE state, then the kernel's description of what follows it
 * (asm/sigcontext.h: struct _fpx_sw_bytes), then the XSAVE header. */
static bool read_vector(const struct recipe *r, const ucontext_t *context, unsigned char *value)
{
	const unsigned char *state = (const void *)context->uc_mcontext.fpregs;
	uint32_t magic, size;
	uint64_t present, features;

	if (!state)
		return false;
	if (r->width <= 16) {
		memcpy(value, state + 160 + 16 * r->from + r->from_offset, r->width);
		return true;
	}
	memcpy(&magic, state + 464, sizeof(magic));
	memcpy(&features, state + 472, sizeof(features));
	memcpy(&size, state + 480, sizeof(size));
	if (magic != 0x46505853 || !(features & 4) || !ymm_offset || ymm_offset + 256 > size)
		return false;
	memcpy(value, state + 160 + 16 * r->from, 16);
	/* A component that the header calls absent is all zero. */
	memcpy(&present, state + 512, sizeof(present));
	if (present & 4)
		memcpy(value + 16, state + ymm_offset + 16 * r->from, 16);
	else
		memset(value + 16, 0, 16);
	return true;
}

enum { CARRY = 1, PARITY = 4, ADJUST = 0x10, ZERO = 0x40, SIGN = 0x80, OVERFLOW = 0x800 };

static uint64_t result_flags(uint64_t result, uint64_t sign)
{
	return (result ? 0 : ZERO) | (result & sign ? SIGN : 0) |
	       (__builtin_parity(result & 0xff) ? 0 : PARITY);
}

/* What the processor does to `old` and to the flags (Intel SDM, volume 2). */
static uint64_t calculate(unsigned int operation, unsigned int width, uint64_t old, uint64_t source,
			  uint64_t *flags)
{
	uint64_t mask = width == 8 ? ~0ull : (1ull << 8 * width) - 1;
	uint64_t sign = 1ull << (8 * width - 1);
	uint64_t carry = *flags & CARRY, result, f = 0;

	if (operation == INC || operation == DEC)
		source = 1;
	if (operation == NEG) {
		source = old;
		old = 0;
	}
	source &= mask;
	switch (operation) {
	case NOT:
		return ~old & mask;
	case ADD:
	case INC:
		result = (old + source) & mask;
		f = (result < old ? CARRY : 0) | ((old ^ source ^ result) & ADJUST) |
		    (~(old ^ source) & (old ^ result) & sign ? OVERFLOW : 0);
		break;
	case SUB:
	case DEC:
	case NEG:
		result = (old - source) & mask;
		f = (old < source ? CARRY : 0) | ((old ^ source ^ result) & ADJUST) |
		    ((old ^ source) & (old ^ result) & sign ? OVERFLOW : 0);
		break;
	case AND:
		result = old & source;
		break;
	case OR:
		result = old | source;
		break;
	default:
		result = old ^ source;
		break;
	}
	if (operation == INC || operation == DEC)
		f = (f & ~(uint64_t)CARRY) | carry;
	*flags = (*flags & ~(uint64_t)(CARRY | PARITY | ADJUST | ZERO | SIGN | OVERFLOW)) | f |
		 result_flags(result, sign);
	return result;
}

bool store_decode(const void *ucontext, struct store *store)
{
	const ucontext_t *context = ucontext;
	const greg_t *registers = context->uc_mcontext.gregs;
	uint64_t at = (uint64_t)registers[REG_RIP], source = 0, old = 0;
	struct slot *slot = &slots[(at ^ at >> 10) % SLOTS];
	struct recipe r;

	if (!look_up(slot, at, &r)) {
		decode(at, &r);
		remember(slot, &r);
	}
	if (!r.handled)
		return false;
	store->address = (unsigned char *)effective_address(&r, registers);
	store->width = r.width;
	store->next = at + r.length;
	store->changes_flags = false;
	if (r.source == FROM_VECTOR)
		return read_vector(&r, context, store->value);
	if (r.source == FROM_IMMEDIATE)
		source = r.immediate;
	else
		source = (uint64_t)registers[(int)r.from] >> (r.source == FROM_HIGH_BYTE ? 8 : 0);
	if (r.operation != MOVE) {
		memcpy(&old, store->address, r.width);
		store->flags = (uint64_t)registers[REG_EFL];
		source = calculate(r.operation, r.width, old, source, &store->flags);
		store->changes_flags = r.operation != NOT;
	}
	memcpy(store->value, &source, r.width);
	return true;
}

void store_retire(void *ucontext, const struct store *store)
{
	ucontext_t *context = ucontext;

	context->uc_mcontext.gregs[REG_RIP] = (greg_t)store->next;
	if (store->changes_flags)
		context->uc_mcontext.gregs[REG_EFL] = (greg_t)store->flags;
}

#else

int store_decoder_probe(char *reason, size_t size)
{
#if defined(__x86_64__)
	snprintf(reason, size, "libhac was built without Zydis (Debian: libzydis-dev)");
#else
	snprintf(reason, size, "stores are decoded on x86-64 only");
#endif
	return -ENODEV;
}

bool store_decode(const void *ucontext, struct store *store)
{
	(void)ucontext;
	(void)store;
	return false;
}

void store_retire(void *ucontext, const struct store *store)
{
	(void)ucontext;
	(void)store;
}

#endif
