/* SPDX-License-Identifier: MIT */
/*
 * A recorded workload: the stores of a program, operation by operation, to be
 * made again under each engine. The format (little endian):
 *
 *	"HACTRACE", u32 version 1, u32 bytes of the area, u32 operations, u32 0
 *	the area before the first operation
 *	for each operation: u32 count, then count times u32 offset, u32 value
 *
 * `opt` operations make a transaction; the last one may be shorter.
 */
#ifndef MICROBENCH_TRACE_H
#define MICROBENCH_TRACE_H

#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRACE_PAGE 4096u
#define TRACE_MAGIC "HACTRACE"
#define TRACE_VERSION 1u
#define TRACE_BYTES_MAX (1u << 30)

struct trace_head {
	char magic[8];
	uint32_t version, bytes, operations, reserved;
};

struct trace_store {
	uint32_t offset, value;
};

struct trace {
	size_t bytes; /* of the area, whole pages */
	uint64_t transactions;
	uint64_t *first; /* of each transaction: its first store; and the end */
	struct trace_store *stores;
	unsigned char *initial;
	unsigned char *state; /* the area before transaction `at` */
	uint64_t at;
};

static inline void *trace_memory(size_t count, size_t size)
{
	void *memory = calloc(count ? count : 1, size);

	if (!memory)
		err(1, "a trace of %zu bytes", count * size);
	return memory;
}

static inline void trace_get(FILE *file, const char *path, void *to, size_t size)
{
	if (size && fread(to, size, 1, file) != 1)
		errx(1, "%s: %s", path, ferror(file) ? "cannot be read" : "ends too early");
}

/* One operation's stores, after `used` others; how many there are then. */
static inline size_t trace_get_stores(struct trace *t, FILE *file, const char *path, size_t used,
				      uint32_t area_bytes)
{
	static size_t room;
	uint32_t count;

	trace_get(file, path, &count, sizeof(count));
	if (used + count > room) {
		room = 2 * (used + count);
		t->stores = realloc(t->stores, room * sizeof(*t->stores));
		if (!t->stores)
			err(1, "%s", path);
	}
	trace_get(file, path, t->stores + used, count * sizeof(*t->stores));
	for (size_t i = used; i < used + count; i++)
		if (t->stores[i].offset % 4 || t->stores[i].offset >= area_bytes)
			errx(1, "%s: store %zu is at offset %u of an area of %u bytes", path, i,
			     t->stores[i].offset, area_bytes);
	return used + count;
}

/* Ends the process with a reason when the file is not what it should be. */
static inline void trace_read(struct trace *t, const char *path, uint32_t opt)
{
	FILE *file = fopen(path, "rb");
	struct trace_head head;
	size_t used = 0;

	if (!file)
		err(1, "%s", path);
	trace_get(file, path, &head, sizeof(head));
	if (memcmp(head.magic, TRACE_MAGIC, sizeof(head.magic)) || head.version != TRACE_VERSION ||
	    head.reserved)
		errx(1, "%s: no trace of version %u", path, TRACE_VERSION);
	if (!head.bytes || head.bytes % 4 || head.bytes > TRACE_BYTES_MAX || !head.operations)
		errx(1, "%s: %u operations in an area of %u bytes", path, head.operations,
		     head.bytes);
	t->bytes = (head.bytes + TRACE_PAGE - 1) / TRACE_PAGE * TRACE_PAGE;
	t->transactions = (head.operations + (uint64_t)opt - 1) / opt;
	t->initial = trace_memory(t->bytes, 1);
	t->state = trace_memory(t->bytes, 1);
	t->first = trace_memory(t->transactions + 1, sizeof(*t->first));
	trace_get(file, path, t->initial, head.bytes);
	memcpy(t->state, t->initial, t->bytes);
	for (uint32_t i = 0; i < head.operations; i++) {
		if (i % opt == 0)
			t->first[i / opt] = used;
		used = trace_get_stores(t, file, path, used, head.bytes);
	}
	t->first[t->transactions] = used;
	if (fgetc(file) != EOF)
		errx(1, "%s: goes on after %u operations", path, head.operations);
	fclose(file);
}

static inline void trace_write(const struct trace *t, void *area, uint64_t transaction)
{
	const struct trace_store *store = t->stores + t->first[transaction];
	const struct trace_store *end = t->stores + t->first[transaction + 1];
	volatile uint32_t *to = area; /* volatile: each store is one store */

	for (; store < end; store++)
		to[store->offset / 4] = store->value;
}

/* Make the area, which has to be writable, what it is before `transaction`. */
static inline void trace_put(struct trace *t, void *area, uint64_t transaction)
{
	unsigned char *to = area;

	if (transaction < t->at) {
		memcpy(t->state, t->initial, t->bytes);
		t->at = 0;
	}
	for (; t->at < transaction; t->at++)
		trace_write(t, t->state, t->at);
	for (size_t i = 0; i < t->bytes; i += TRACE_PAGE)
		if (memcmp(to + i, t->state + i, TRACE_PAGE))
			memcpy(to + i, t->state + i, TRACE_PAGE);
}

#endif
