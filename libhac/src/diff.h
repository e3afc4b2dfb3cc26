/* SPDX-License-Identifier: MIT */
/*
 * Comparing memory with its twin, in 8-byte words, with the widest vectors
 * that this processor has. Memory may be written by other threads meanwhile: a
 * word that differs is read once more for the report, and what is read then is
 * what goes to both delta and twin.
 */
#ifndef HAC_DIFF_H
#define HAC_DIFF_H

#include "hac.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A page's worth, for which the caller makes room at once: in the worst case a
 * run for every second word. */
#define DIFF_CHUNK 4096u
#define DIFF_CHUNK_RUNS (DIFF_CHUNK / 16)
/* Bytes compared by one call of a kernel at most. */
#define DIFF_STRETCH (16 * DIFF_CHUNK)
/* Bytes that one mask, a bit for each word, tells of. */
#define DIFF_MASK_BYTES 512u
#define DIFF_MASKS(bytes) (((bytes) + DIFF_MASK_BYTES - 1) / DIFF_MASK_BYTES)

struct diff_output {
	struct hac_run *run;  /* the last run written, or the place before */
	unsigned char *bytes; /* where the next byte goes */
	size_t words;
	uint32_t area;
};

/*
 * Which words of `length` bytes (a multiple of 64, at most DIFF_STRETCH)
 * differ: masks[0] to masks[DIFF_MASKS(length) - 1] are written, what they hold
 * beyond the length is zero. Returns a bit for each DIFF_CHUNK of them with a
 * word that differs.
 */
typedef uint32_t diff_kernel(const unsigned char *memory, const unsigned char *twin, size_t length,
			     uint64_t *masks);

/* How many bytes from the start on are equal, in steps of 64 bytes; `length`
 * if all are (a multiple of 64). */
typedef size_t equal_kernel(const unsigned char *memory, const unsigned char *twin, size_t length);

/* Are all equal? Looks from the end to the start: what a pass from start to end
 * has left in the first-level cache is met there, and the other way round. */
typedef bool same_kernel(const unsigned char *memory, const unsigned char *twin, size_t length);

struct diff_kernels {
	diff_kernel *differ;
	equal_kernel *equal;
	same_kernel *same;
};

/*
 * For a stretch of so many bytes. A processor needs microseconds to wake the
 * upper halves of its 512-bit registers, and is slow meanwhile: a few pages
 * after a system call or a signal are compared sooner with 256 bits, a long
 * stretch twice as fast with 512.
 */
const struct diff_kernels *diff_kernels_for(size_t length);

/*
 * Append as runs and bytes the words at `memory` that `count` masks (of one
 * DIFF_CHUNK at most) name, as they are now: what is read here is what is
 * reported. A run that ends at `offset`, where the memory lies in the area, is
 * continued.
 */
void diff_emit(const unsigned char *memory, size_t offset, const uint64_t *masks, size_t count,
	       struct diff_output *out);

/* The simple versions, for what is left over and as the tests' oracle. Any
 * length: the last word may be a part of one. */
void diff_words(const unsigned char *memory, const unsigned char *twin, size_t offset,
		size_t length, struct diff_output *out);

/* Write the twin's words over those that differ, nothing else. */
void diff_restore(unsigned char *memory, const unsigned char *twin, size_t length);

/* Every set of kernels by name, for tests: NULL past the last, *usable false
 * where this processor lacks it. */
const struct diff_kernels *diff_kernels_at(size_t index, const char **name, bool *usable);

#endif
