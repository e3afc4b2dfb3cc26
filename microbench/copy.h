/* SPDX-License-Identifier: MIT */
/*
 * What a transaction found is copied to where another process can take it: into
 * shared memory of the size that libhac's ring has when nothing else is said.
 * Nobody takes it out here; what is measured is the copy.
 */
#ifndef MICROBENCH_COPY_H
#define MICROBENCH_COPY_H

#include <err.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define COPY_BYTES ((size_t)256 << 10)

struct copy {
	unsigned char *to;
	size_t at;
	uint64_t bytes; /* copied in all */
};

static inline void copy_init(struct copy *copy)
{
	copy->to = mmap(NULL, COPY_BYTES, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (copy->to == MAP_FAILED)
		err(1, "memory to copy to");
}

static inline void copy_put(struct copy *copy, const void *from, size_t size)
{
	const unsigned char *next = from;

	copy->bytes += size;
	while (size) {
		size_t part = COPY_BYTES - copy->at < size ? COPY_BYTES - copy->at : size;

		memcpy(copy->to + copy->at, next, part);
		copy->at = (copy->at + part) % COPY_BYTES;
		next += part;
		size -= part;
	}
}

#endif
