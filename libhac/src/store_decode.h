/* SPDX-License-Identifier: MIT */
/*
 * What a store instruction writes, and where: decoded with Zydis, cached per
 * instruction, evaluated on the registers of a signal's context. The only file
 * that knows Zydis is store_decode.c.
 */
#ifndef HAC_STORE_DECODE_H
#define HAC_STORE_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_MAX_BYTES 32u

struct store {
	unsigned char *address;
	size_t width;                         /* 1, 2, 4, 8, 16 or 32 */
	unsigned char value[STORE_MAX_BYTES]; /* the new bytes of memory */
	uint64_t next;                        /* address of the instruction after it */
	bool changes_flags;
	uint64_t flags; /* the new RFLAGS, if it does */
};

/* 0 where stores can be decoded, or -ENODEV and why not. */
int store_decoder_probe(char *reason, size_t size);

/*
 * Async-signal-safe. Decode the instruction that `ucontext` stopped at. False
 * if it is none of those that are handled: moves of 1 to 32 bytes from general
 * and vector registers or immediates, and add, sub, and, or, xor, inc, dec, not,
 * neg on memory without lock. No string instructions, no segments.
 */
bool store_decode(const void *ucontext, struct store *store);

/* Let the context continue after the instruction. */
void store_retire(void *ucontext, const struct store *store);

#endif
