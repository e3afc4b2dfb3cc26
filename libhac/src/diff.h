/* SPDX-License-Identifier: MIT */
/*
 * Comparing memory with its twin, in 8-byte words, with the widest vectors
 * that this processor has. Memory may be written by other threads meanwhile:
 * each word is read once, and what was read is what is reported.
 */
#ifndef HAC_DIFF_H
#define HAC_DIFF_H

#include "hac.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes compared by one call of a kernel at most, so that the caller can make
 * room for the worst case: a run for every second word. */
#define DIFF_CHUNK 4096u
#define DIFF_CHUNK_RUNS (DIFF_CHUNK / 16)

struct diff_output {
	struct hac_run *run;  /* the last run written, or the place before */
	unsigned char *bytes; /* where the next byte goes */
	size_t words;
	uint32_t area;
};

/*
 * Compare `length` bytes (a multiple of 64, at most DIFF_CHUNK) that lie at
 * `offset` of the area; append runs and bytes. A run that ends at `offset`
 * is continued.
 */
typedef void diff_kernel(const unsigned char *memory, const unsigned char *twin, size_t offset,
			 size_t length, struct diff_output *out);

/* How many bytes from the start on are equal, in steps of 64 bytes; `length`
 * if all are (a multiple of 64). */
typedef size_t equal_kernel(const unsigned char *memory, const unsigned char *twin, size_t length);

struct diff_kernels {
	diff_kernel *chunk;
	equal_kernel *equal;
};

/*
 * For a stretch of so many bytes. A processor needs microseconds to wake the
 * upper halves of its 512-bit registers, and is slow meanwhile: a few pages
 * after a system call or a signal are compared sooner with 256 bits, a long
 * stretch twice as fast with 512.
 */
const struct diff_kernels *diff_kernels_for(size_t length);

/* The simple versions, for what is left over and as the tests' oracle. Any
 * length: the last word may be a part of one. */
void diff_words(const unsigned char *memory, const unsigned char *twin, size_t offset,
		size_t length, struct diff_output *out);

/* Write the twin's words over those that differ, nothing else. */
void diff_restore(unsigned char *memory, const unsigned char *twin, size_t length);

/* Every kernel by name, for tests: NULL past the last, *usable false where
 * this processor lacks it. */
diff_kernel *diff_kernel_at(size_t index, const char **name, bool *usable);

#endif
