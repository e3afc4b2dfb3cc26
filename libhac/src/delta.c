// SPDX-License-Identifier: MIT
#include "delta.h"

#include "diff.h"
#include "engine.h"
#include "error.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* A buffer of this size is kept between transactions. */
#define KEPT_BYTES (64u * 1024)
/* Appending a word writes 8 bytes, and may need fewer. */
#define SLACK 8u

#define RACY __attribute__((no_sanitize("thread")))

static int grow(void **buffer, size_t *room, size_t item, size_t want)
{
	size_t bytes = *room * item, fresh;
	void *p;

	if (want <= *room)
		return 0;
	fresh = bytes ? bytes * 2 : KEPT_BYTES;
	if (fresh < want * item)
		fresh = page_up(want * item);
	p = bytes ? mremap(*buffer, bytes, fresh, MREMAP_MAYMOVE) :
		    mmap(NULL, fresh, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return hac_fail(ENOMEM, "no memory for a delta of %zu bytes", want * item);
	*buffer = p;
	*room = fresh / item;
	return 0;
}

int delta_reserve(struct delta *delta, size_t runs, size_t bytes)
{
	static const struct hac_run none = { UINT64_MAX, 0, UINT32_MAX };
	int result = 0;

	if (delta->runs_count + runs + 1 > delta->runs_room) {
		result = grow((void **)&delta->list, &delta->runs_room, sizeof(*delta->list),
			      delta->runs_count + runs + 1);
		if (result)
			return result;
		delta->list[0] = none;
		delta->runs = delta->list + 1;
	}
	if (delta->bytes_count + bytes + SLACK > delta->bytes_room)
		result = grow((void **)&delta->bytes, &delta->bytes_room, 1,
			      delta->bytes_count + bytes + SLACK);
	return result;
}

static void shrink(void **buffer, size_t *room, size_t item)
{
	size_t bytes = *room * item;

	if (bytes > KEPT_BYTES) {
		munmap((char *)*buffer + KEPT_BYTES, bytes - KEPT_BYTES);
		*room = KEPT_BYTES / item;
	}
}

void delta_clear(struct delta *delta)
{
	shrink((void **)&delta->list, &delta->runs_room, sizeof(*delta->list));
	shrink((void **)&delta->bytes, &delta->bytes_room, 1);
	delta->runs_count = 0;
	delta->bytes_count = 0;
	delta->pages = 0;
	delta->words = 0;
	delta->writes = 0;
	delta->fallbacks = 0;
}

void delta_free(struct delta *delta)
{
	if (delta->list)
		munmap(delta->list, delta->runs_room * sizeof(*delta->list));
	if (delta->bytes)
		munmap(delta->bytes, delta->bytes_room);
	memset(delta, 0, sizeof(*delta));
}

/* The words of one chunk that the masks name, and what is left of the area after
 * its last whole block; the run before may be continued. */
static int add_chunk(struct delta *delta, const struct area *area, size_t from, size_t whole,
		     size_t rest, const uint64_t *masks)
{
	struct diff_output out = { .area = area->layout.id };
	int result = delta_reserve(delta, DIFF_CHUNK_RUNS + 1, DIFF_CHUNK);

	if (result)
		return result;
	out.run = delta->list + delta->runs_count;
	out.bytes = delta->bytes + delta->bytes_count;
	diff_emit(area->memory + from, from, masks, DIFF_MASKS(whole), &out);
	if (rest)
		diff_words(area->memory + from + whole, area->twin + from + whole, from + whole,
			   rest, &out);
	delta->runs_count = (size_t)(out.run - delta->list);
	delta->bytes_count = (size_t)(out.bytes - delta->bytes);
	delta->words += out.words;
	if (out.words)
		delta->pages++;
	return 0;
}

/* Compare first and look afterwards at what differs, so that the comparison
 * goes on at the speed of the caches whatever it finds. */
static int add_stretch(struct delta *delta, const struct area *area, diff_kernel *differ,
		       size_t from, size_t length)
{
	uint64_t masks[DIFF_MASKS(DIFF_STRETCH)];
	size_t whole = length & ~(size_t)63, rest = length - whole;
	uint32_t chunks = differ(area->memory + from, area->twin + from, whole, masks);
	int result = 0;

	if (rest)
		chunks |= 1u << whole / DIFF_CHUNK;
	for (; chunks && !result; chunks &= chunks - 1) {
		unsigned int i = (unsigned int)__builtin_ctz(chunks);
		size_t at = (size_t)i * DIFF_CHUNK, left = whole - at;

		result = add_chunk(delta, area, from + at, left < DIFF_CHUNK ? left : DIFF_CHUNK,
				   left < DIFF_CHUNK ? rest : 0, masks + at / DIFF_MASK_BYTES);
	}
	return result;
}

int delta_add_words(struct delta *delta, const struct area *area, const struct extents *extents)
{
	size_t i, at, length;
	int result = 0;

	for (i = 0; i < extents->count && !result; i++) {
		const struct extent *e = &extents->items[i];
		diff_kernel *differ = diff_kernels_for(e->to - e->from)->differ;

		for (at = e->from; at < e->to && !result; at += length) {
			/* Chunks are pages of the area, to count them. */
			length = at % DIFF_CHUNK ? DIFF_CHUNK - at % DIFF_CHUNK : DIFF_STRETCH;
			if (length > e->to - at)
				length = e->to - at;
			result = add_stretch(delta, area, differ, at, length);
		}
	}
	return result;
}

RACY static void copy_out(unsigned char *to, const unsigned char *from, size_t length)
{
	size_t i;

	for (i = 0; i + 8 <= length; i += 8)
		__builtin_memcpy(to + i, from + i, 8);
	for (; i < length; i++)
		to[i] = from[i];
}

static int add_run(struct delta *delta, const struct area *area, size_t from, size_t to, bool bytes)
{
	size_t length;
	int result = 0;

	for (; from < to && !result; from += length) {
		length = to - from < (1u << 30) ? to - from : 1u << 30;
		result = delta_reserve(delta, 1, bytes ? length : 0);
		if (result)
			return result;
		delta->runs[delta->runs_count++] =
			(struct hac_run){ from, (uint32_t)length, area->layout.id };
		if (bytes) {
			copy_out(delta->bytes + delta->bytes_count, area->memory + from, length);
			delta->bytes_count += length;
		}
	}
	return result;
}

/* Does the area equal its twin there? */
RACY static bool is_unchanged(const struct area *area, size_t from, size_t to)
{
	const volatile unsigned char *memory = area->memory;
	size_t whole = (to - from) & ~(size_t)63;

	if (diff_kernels_for(whole)->equal(area->memory + from, area->twin + from, whole) != whole)
		return false;
	for (from += whole; from < to; from++)
		if (memory[from] != area->twin[from])
			return false;
	return true;
}

/* Whole pages. What is found by comparing only has been written if it differs. */
static int add_pages(struct delta *delta, const struct area *area, size_t from, size_t to,
		     bool bytes)
{
	bool compares = area->engine->flags & ENGINE_NEEDS_TWIN;
	size_t shift = (uintptr_t)area->memory % PAGE_BYTES, start = from, end;
	int result = 0;

	for (; from < to && !result; from = end) {
		end = from + PAGE_BYTES - (from + shift) % PAGE_BYTES;
		if (end > to)
			end = to;
		delta->pages++;
		if (!area->twin || !(compares || from < area->head || end > area->tail) ||
		    !is_unchanged(area, from, end))
			continue;
		delta->pages--;
		result = add_run(delta, area, start, from, bytes);
		start = end;
	}
	return result ? result : add_run(delta, area, start, to, bytes);
}

int delta_add_whole(struct delta *delta, const struct area *area, const struct extents *extents,
		    bool pages, bool bytes)
{
	size_t i, from, to, done = 0, size = area->layout.size;
	size_t shift = (uintptr_t)area->memory % PAGE_BYTES;
	int result = 0;

	for (i = 0; i < extents->count && !result; i++) {
		from = extents->items[i].from;
		to = extents->items[i].to;
		if (pages) {
			from = page_down(from + shift);
			from = from > shift ? from - shift : 0;
			to = page_up(to + shift) - shift;
			if (to > size)
				to = size;
		}
		if (from < done)
			from = done;
		if (from >= to)
			continue;
		result = pages ? add_pages(delta, area, from, to, bytes) :
				 add_run(delta, area, from, to, bytes);
		done = to;
	}
	if (!pages)
		delta->pages += extents_pages(extents);
	return result;
}

void delta_commit(const struct delta *delta, struct area *area, size_t *i, size_t *at)
{
	while (*i < delta->runs_count && delta->runs[*i].area == area->layout.id) {
		const struct hac_run *run = &delta->runs[*i];

		if (run->length == 8)
			memcpy(area->twin + run->offset, delta->bytes + *at, 8);
		else
			memcpy(area->twin + run->offset, delta->bytes + *at, run->length);
		*at += run->length;
		++*i;
	}
}
