// SPDX-License-Identifier: MIT
#include "area.h"

#include "engine.h"
#include "error.h"
#include "hac.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

/*
 * Where areas with pointers go: below the part of the address space in which
 * Linux places stacks, libraries and mappings on x86-64, and above the heap,
 * so that a later process finds it free whatever the randomisation. It is also
 * memory that the thread sanitizer lets a program use.
 */
#define POINTERS_FIRST 0x7e9000000000ull
#define POINTERS_BYTES 0x005000000000ull
#define POINTERS_STEP 0x200000ull
/* What one page table covers on x86-64. */
#define TABLE_BYTES 0x200000ull

static void *reserve(void *at, size_t bytes, int flags, int fd)
{
	void *p = mmap(at, bytes, PROT_NONE,
		       (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED) | MAP_NORESERVE | flags,
		       fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

/*
 * Anywhere, but in as few page tables as it fits in (one covers 2 MiB): a scan
 * of uffd flushes the TLB once for each, and every page walk is shorter.
 */
static void *reserve_anywhere(size_t bytes, int fd)
{
	size_t wide = bytes + TABLE_BYTES;
	unsigned char *p, *at;
	size_t offset;

	p = mmap(NULL, wide, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return reserve(NULL, bytes, 0, fd);
	offset = (uintptr_t)p % TABLE_BYTES;
	at = offset && offset + bytes > TABLE_BYTES ? p + (TABLE_BYTES - offset) : p;
	if (at > p)
		munmap(p, (size_t)(at - p));
	munmap(at + bytes, wide - bytes - (size_t)(at - p));
	return reserve(at, bytes, MAP_FIXED, fd);
}

/* Reserve at an address that is likely to be free in a later process, too. */
static void *reserve_for_pointers(const char *name, size_t bytes, int fd)
{
	uint64_t steps = POINTERS_BYTES / POINTERS_STEP, hash = 14695981039346656037ull;
	int attempt;

	for (; *name; name++)
		hash = (hash ^ (unsigned char)*name) * 1099511628211ull;
	for (attempt = 0; attempt < 64; attempt++) {
		uint64_t at = POINTERS_FIRST + hash % steps * POINTERS_STEP;
		void *p;

		hash = hash * 6364136223846793005ull + 1442695040888963407ull;
		if (bytes > POINTERS_FIRST + POINTERS_BYTES - at)
			continue;
		p = reserve((void *)(uintptr_t)at, bytes, MAP_FIXED_NOREPLACE, fd);
		if (p == (void *)(uintptr_t)at)
			return p;
		if (p)
			munmap(p, bytes); /* a kernel without NOREPLACE */
	}
	return reserve_anywhere(bytes, fd);
}

static int reserve_memory(struct area *area, const struct area_request *r)
{
	void *p;

	if (r->alias) {
		area->alias_fd = memfd_create("hac-area", MFD_CLOEXEC);
		if (area->alias_fd < 0 || ftruncate(area->alias_fd, (off_t)area->span))
			return hac_fail(errno, "area '%s': memfd: %s", r->name, strerror(errno));
		area->alias = mmap(NULL, area->span, PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_NORESERVE, area->alias_fd, 0);
		if (area->alias == MAP_FAILED) {
			area->alias = NULL;
			return hac_fail(ENOMEM, "area '%s': no address space for %zu bytes",
					r->name, area->span);
		}
		madvise(area->alias, area->span, MADV_DONTFORK);
	}
	if (r->address) {
		p = reserve(r->address, area->span, MAP_FIXED_NOREPLACE, area->alias_fd);
		if (p && p != r->address) {
			munmap(p, area->span);
			p = NULL;
		}
		if (!p)
			return hac_fail(
				EPROTOTYPE,
				"area '%s' holds pointers and belongs at %p (%zu bytes), which is taken in this process; nothing was restored",
				r->name, r->address, area->span);
	} else if (r->flags & HAC_POINTERS) {
		p = reserve_for_pointers(r->name, area->span, area->alias_fd);
	} else {
		p = reserve_anywhere(area->span, area->alias_fd);
	}
	if (!p)
		return hac_fail(ENOMEM, "area '%s': no address space for %zu bytes", r->name,
				area->span);
	area->memory = p;
	return 0;
}

static int map_memory(struct area *area, const struct area_request *r)
{
	int result;

	area->span = page_up(area->layout.capacity);
	result = reserve_memory(area, r);
	if (result)
		return result;
	area->tail = page_up(r->size);
	if (mprotect(area->memory, area->tail, PROT_READ | PROT_WRITE))
		return hac_fail(ENOMEM, "area '%s': no memory for %zu bytes", r->name, r->size);
	return 0;
}

static bool is_writable(const void *address, size_t size)
{
	unsigned long long from = (uintptr_t)address, to = from + size;
	unsigned long long start, end;
	char line[512], access[5];
	FILE *maps = fopen("/proc/self/maps", "re");

	if (!maps)
		return true; /* no /proc: the first access will tell */
	while (from < to && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%llx-%llx %4s", &start, &end, access) != 3)
			continue;
		if (from < start)
			break;
		if (from < end) {
			if (access[0] != 'r' || access[1] != 'w')
				break;
			from = end;
		}
	}
	fclose(maps);
	return from >= to;
}

static int adopt_memory(struct area *area, const struct area_request *r)
{
	uintptr_t start = (uintptr_t)r->address, end = start + r->size;

	if (end < start || !is_writable(r->address, r->size))
		return hac_fail(
			EINVAL,
			"area '%s': %p to +%zu is not readable and writable memory of this process",
			r->name, r->address, r->size);
	area->memory = r->address;
	area->span = r->size;
	area->head = page_up(start) - start;
	if (area->head > r->size)
		area->head = r->size;
	area->tail = page_down(end) - start;
	if (page_down(end) < start + area->head)
		area->tail = area->head; /* no page of its own */
	return 0;
}

static int make_twin(struct area *area)
{
	void *p = mmap(NULL, page_up(area->layout.capacity), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return hac_fail(ENOMEM, "area '%s': no memory for its twin", area->layout.name);
	area->twin = p;
	return 0;
}

/* The program may be writing: what is read is what is kept. True if it was
 * another one before. */
__attribute__((no_sanitize("thread"))) static bool
refresh(unsigned char *copy, const unsigned char *memory, size_t length, bool peek)
{
	const volatile unsigned char *now = memory;
	bool changed = false;
	size_t i;

	for (i = 0; i < length; i++) {
		unsigned char byte = now[i];

		changed |= byte != copy[i];
		if (!peek)
			copy[i] = byte;
	}
	return changed;
}

static size_t after_tail(const struct area *area)
{
	return area->tail < area->layout.size ? area->layout.size - area->tail : 0;
}

/* Without a twin there would be nothing to compare the edges with. */
static int keep_edges(struct area *area)
{
	size_t bytes = area->head + after_tail(area);

	if (!bytes)
		return 0;
	area->edges = malloc(bytes);
	if (!area->edges)
		return hac_fail(ENOMEM, "no memory for area '%s'", area->layout.name);
	refresh(area->edges, area->memory, area->head, false);
	refresh(area->edges + area->head, area->memory + area->tail, after_tail(area), false);
	return 0;
}

static bool head_changed(struct area *area, bool peek)
{
	return !area->edges || refresh(area->edges, area->memory, area->head, peek);
}

static bool tail_changed(struct area *area, bool peek)
{
	return !area->edges ||
	       refresh(area->edges + area->head, area->memory + area->tail, after_tail(area), peek);
}

int area_create(const struct area_request *r, struct area **out)
{
	struct area *area = calloc(1, sizeof(*area));
	int result = -ENOMEM;

	if (!area)
		return hac_fail(ENOMEM, "no memory for area '%s'", r->name);
	area->alias_fd = -1;
	area->process = process_current();
	area->adopted = r->adopted;
	area->layout.flags = r->flags | (r->adopted ? LAYOUT_ADOPTED : 0);
	area->layout.size = r->size;
	area->layout.capacity = r->capacity > r->size ? r->capacity : r->size;
	area->layout.name = strdup(r->name);
	area->layout.type = strdup(r->type);
	if (r->fingerprint)
		area->layout.fingerprint = strdup(r->fingerprint);
	if (!area->layout.name || !area->layout.type ||
	    (r->fingerprint && !area->layout.fingerprint))
		result = hac_fail(ENOMEM, "no memory for area '%s'", r->name);
	else
		result = r->adopted ? adopt_memory(area, r) : map_memory(area, r);
	if (!result && r->twin)
		result = make_twin(area);
	if (!result && !r->twin && r->adopted)
		result = keep_edges(area);
	if (result) {
		area_destroy(area);
		return result;
	}
	area->layout.address = (uintptr_t)area->memory;
	*out = area;
	return 0;
}

void area_destroy(struct area *area)
{
	if (area->memory && !area->adopted)
		munmap(area->memory, area->span);
	if (area->twin)
		munmap(area->twin, page_up(area->layout.capacity));
	if (area->alias)
		munmap(area->alias, area->span);
	if (area->alias_fd >= 0)
		close(area->alias_fd);
	free(area->edges);
	free(area->layout.name);
	free(area->layout.type);
	free(area->layout.fingerprint);
	free(area);
}

static bool is_zero(const unsigned char *page, size_t bytes)
{
	return !page[0] && !memcmp(page, page + 1, bytes - 1);
}

void area_fill(struct area *area, const unsigned char *contents)
{
	size_t size = area->layout.size, i, n;

	/* Pages that are all zero stay untouched, and cost no memory. */
	for (i = 0; i < size; i += n) {
		n = size - i < PAGE_BYTES ? size - i : PAGE_BYTES;
		if (area->adopted || !is_zero(contents + i, n))
			memcpy(area->memory + i, contents + i, n);
	}
	if (area->edges) {
		head_changed(area, false);
		tail_changed(area, false);
	}
}

int area_take_twin(struct area *area, unsigned char *contents, size_t bytes)
{
	size_t want = page_up(area->layout.capacity);
	void *twin = contents;

	if (!area->twin) {
		munmap(contents, bytes);
		return 0;
	}
	if (bytes < want)
		twin = mremap(contents, bytes, want, MREMAP_MAYMOVE);
	else if (bytes > want)
		munmap(contents + want, bytes - want);
	if (twin == MAP_FAILED)
		return hac_fail(ENOMEM, "area '%s': no memory for its twin", area->layout.name);
	munmap(area->twin, want);
	area->twin = twin;
	return 0;
}

int area_extend(struct area *area, size_t size)
{
	size_t old = area->layout.size, tail = page_up(size);

	/* What the program left between size and the page's end is not part
	 * of the area, and must not become so. */
	memset(area->memory + old, 0, (size < area->tail ? size : area->tail) - old);
	if (tail > area->tail &&
	    mprotect(area->memory + area->tail, tail - area->tail, PROT_READ | PROT_WRITE))
		return hac_fail(ENOMEM, "area '%s': no memory to grow to %zu", area->layout.name,
				size);
	if (area->armed && tail > area->tail) {
		int result = area->engine->arm(area, area->tail, tail);

		if (result)
			return result;
	}
	area->tail = tail;
	area->layout.size = size;
	return 0;
}

int area_arm(struct area *area)
{
	int result = 0;

	if (area->armed)
		return 0;
	if (area->head < area->tail)
		result = area->engine->arm(area, area->head, area->tail);
	if (!result)
		area->armed = true;
	return result;
}

void area_disarm(struct area *area)
{
	if (area->armed && area->head < area->tail)
		area->engine->disarm(area);
	area->armed = false;
}

int area_open(struct area *area, size_t from, size_t to)
{
	if (from < area->head)
		from = area->head;
	if (to > area->tail)
		to = area->tail;
	if (!area->armed || from >= to)
		return 0;
	from = area->head + page_down(from - area->head);
	to = area->head + page_up(to - area->head);
	return area->engine->open(area, from, to);
}

int area_harvest(struct area *area, struct extents *out, bool peek)
{
	size_t size = area->layout.size, i;
	int result;

	out->count = 0;
	if (area->suspect) {
		result = extents_add(out, 0, size);
		if (result)
			return hac_fail(ENOMEM, "no memory for dirty pages");
	}
	result = 0;
	if (area->head && head_changed(area, peek))
		result = extents_add(out, 0, area->head);
	if (!result && area->armed && area->head < area->tail)
		result = area->engine->harvest(area, out, peek);
	if (!result && area->tail < size && tail_changed(area, peek))
		result = extents_add(out, area->tail, size);
	if (result) {
		area->suspect = true;
		return hac_fail(-result, "area '%s': engine %s: %s", area->layout.name,
				area->engine->name, strerror(-result));
	}
	/* Pages may go on behind the last byte. */
	for (i = 0; i < out->count; i++) {
		struct extent *e = &out->items[i];

		e->from = e->from < size ? e->from : size;
		e->to = e->to < size ? e->to : size;
	}
	extents_normalise(out);
	if (!peek)
		area->suspect = false;
	return 0;
}

/* Edges are looked at by a harvest only. */
bool area_is_quiet(struct area *area)
{
	return area->announced && area->armed && !area->suspect && !area->head &&
	       area->tail >= area->layout.size && area->engine->is_quiet(area);
}

int area_set_engine(struct area *area, const struct engine *engine)
{
	const struct engine *old = area->engine;
	bool armed = area->armed;
	int result;

	if (old == engine)
		return 0;
	/* What the old engine has seen is in doubt for the new one, so all of
	 * it is compared once. Twice watched is harmless, never is not. */
	area->suspect = true;
	area_disarm(area);
	area->engine = engine;
	result = armed ? area_arm(area) : 0;
	if (result) {
		area->engine = old;
		if (area_arm(area))
			area->armed = false;
	}
	return result;
}
