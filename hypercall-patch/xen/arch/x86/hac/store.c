/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a store writes: MOV from a general register or a constant to memory,
 * with 8, 16, 32 or 64 bits, and MOVNTI. These are the stores of compiled
 * code that assigns to variables. Everything else, and whatever has a segment
 * with a base, a lock, or a repeat prefix, is not decoded; its page is opened.
 *
 * An allow-list of its own rather than the emulator of the whole instruction
 * set: it is a few dozen instructions long, and there is nothing in it that a
 * process could reach beyond the store.
 */

#include "private.h"

struct cursor {
    const uint8_t *at, *end;
    bool bad; /* the code ended too soon */
};

static uint8_t take(struct cursor *c)
{
    if ( c->at < c->end )
        return *c->at++;
    c->bad = true;

    return 0;
}

/* A little-endian number of 1, 2 or 4 bytes, sign-extended. */
static long take_signed(struct cursor *c, unsigned int bytes)
{
    unsigned int i;
    unsigned long value = 0;

    for ( i = 0; i < bytes; i++ )
        value |= (unsigned long)take(c) << (8 * i);

    return (long)(value << (64 - 8 * bytes)) >> (64 - 8 * bytes);
}

static unsigned long read_register(const struct cpu_user_regs *regs,
                                   unsigned int number)
{
    switch ( number )
    {
    case 0: return regs->rax;
    case 1: return regs->rcx;
    case 2: return regs->rdx;
    case 3: return regs->rbx;
    case 4: return regs->rsp;
    case 5: return regs->rbp;
    case 6: return regs->rsi;
    case 7: return regs->rdi;
    case 8: return regs->r8;
    case 9: return regs->r9;
    case 10: return regs->r10;
    case 11: return regs->r11;
    case 12: return regs->r12;
    case 13: return regs->r13;
    case 14: return regs->r14;
    default: return regs->r15;
    }
}

/* A byte register: without REX, 4 to 7 are ah, ch, dh, bh. */
static unsigned long read_byte_register(const struct cpu_user_regs *regs,
                                        unsigned int number, bool rex)
{
    if ( !rex && number >= 4 && number < 8 )
        return read_register(regs, number - 4) >> 8;

    return read_register(regs, number);
}

#define REX_W 8
#define REX_R 4
#define REX_X 2
#define REX_B 1

struct modrm {
    unsigned long address; /* without that of the instruction's end */
    unsigned int reg;
    bool ip_relative;
};

static bool take_modrm(struct cursor *c, const struct cpu_user_regs *regs,
                       bool code32, uint8_t rex, struct modrm *out)
{
    uint8_t byte = take(c);
    unsigned int mod = byte >> 6, rm = byte & 7;

    *out = (struct modrm){ .reg = ((byte >> 3) & 7) | (rex & REX_R ? 8 : 0) };
    if ( mod == 3 )
        return false; /* not memory */

    if ( rm == 4 )
    {
        uint8_t sib = take(c);
        unsigned int index = ((sib >> 3) & 7) | (rex & REX_X ? 8 : 0);

        if ( index != 4 )
            out->address = read_register(regs, index) << (sib >> 6);
        if ( (sib & 7) == 5 && mod == 0 )
            out->address += take_signed(c, 4);
        else
            out->address += read_register(regs, (sib & 7) |
                                                (rex & REX_B ? 8 : 0));
    }
    else if ( rm == 5 && mod == 0 )
    {
        out->address = take_signed(c, 4);
        out->ip_relative = !code32;
    }
    else
        out->address = read_register(regs, rm | (rex & REX_B ? 8 : 0));

    if ( mod == 1 )
        out->address += take_signed(c, 1);
    else if ( mod == 2 )
        out->address += take_signed(c, 4);

    return true;
}

bool hac_store_decode(const struct cpu_user_regs *regs, bool code32,
                      const uint8_t *code, unsigned int bytes,
                      struct hac_store *store)
{
    struct cursor c = { code, code + bytes, false };
    unsigned int width = 4;
    struct modrm m;
    uint8_t rex = 0, op = take(&c);
    bool narrow = false;

    if ( op == 0x66 )
    {
        narrow = true;
        width = 2;
        op = take(&c);
    }
    if ( !code32 && (op & 0xf0) == 0x40 )
    {
        rex = op;
        if ( rex & REX_W )
            width = 8;
        op = take(&c);
    }
    if ( op == 0x0f )
    {
        /* movnti */
        if ( take(&c) != 0xc3 || narrow )
            return false;
        op = 0x89;
    }

    switch ( op )
    {
    case 0x88: /* mov r8, m */
    case 0xc6: /* mov imm8, m */
        width = 1;
        /* fall through */
    case 0x89: /* mov r, m */
    case 0xc7: /* mov imm, m */
        break;

    default:
        return false;
    }
    if ( !take_modrm(&c, regs, code32, rex, &m) )
        return false;

    if ( op == 0x88 )
        store->value = read_byte_register(regs, m.reg, rex);
    else if ( op == 0x89 )
        store->value = read_register(regs, m.reg);
    else if ( m.reg & 7 )
        return false; /* another instruction of the group */
    else
        store->value = take_signed(&c, min(width, 4U));
    if ( c.bad )
        return false;

    store->width = width;
    if ( width < 8 )
        store->value &= (1UL << (8 * width)) - 1;
    store->length = c.at - code;
    store->address = m.address;
    if ( m.ip_relative )
        store->address += regs->rip + store->length;
    if ( code32 )
        store->address = (uint32_t)store->address;

    return true;
}

/*
 * Local variables:
 * mode: C
 * c-file-style: "BSD"
 * c-basic-offset: 4
 * tab-width: 4
 * indent-tabs-mode: nil
 * End:
 */
