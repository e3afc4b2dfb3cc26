// SPDX-License-Identifier: MIT
/*
 * Areas that Xen watches. One area of Xen's is registered for each stretch that
 * is armed, with a transaction open in it from then on: a harvest ends it and
 * begins the next in one call.
 *
 * Xen writes results to memory that it finds present and writable, and to no
 * other: where a system call would fault the page in, the hypervisor fails with
 * -EFAULT, having forgotten nothing. So buffers are touched and the call is
 * repeated, and they are left out of fork, which would make them read-only.
 */
#include "xen_engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

/* What one region of Xen's records covers: watching all of it costs no more. */
#define REGION_BYTES 0x200000ull
/* In one of the two halves of a log; as many as emul keeps. */
#define LOG_ENTRIES 4096u
/* How often a buffer may be taken from under a call. */
#define ATTEMPTS 16

struct range {
	size_t from, to; /* relative to the area */
	uint32_t number; /* Xen's */
	struct hac_xen_store *log;
};

struct tracker {
	uint32_t handler;
	uint32_t count;
	struct range ranges[HAC_XEN_MAX_AREAS];
	struct extents noted;
	uint32_t *pages; /* HAC_XEN_CHUNK of them */
};

/* ------------------------------------------------------------ buffers -- */

static void *buffer_create(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, bytes, MADV_DONTFORK);
	return p;
}

static void buffer_touch(void *buffer, size_t bytes)
{
	_Atomic unsigned char *p = buffer;
	size_t i;

	/* Xen may be writing to it: change nothing. */
	for (i = 0; i < bytes; i += PAGE_BYTES)
		atomic_fetch_or(&p[i], 0);
}

static size_t log_bytes(void)
{
	return page_up(2 * LOG_ENTRIES * sizeof(struct hac_xen_store));
}

static size_t pages_bytes(void)
{
	return HAC_XEN_CHUNK * sizeof(uint32_t);
}

/* -------------------------------------------------------------- calls -- */

/* A call that is repeated until there is no more to do. */
static int call_through(uint32_t call, uintptr_t number)
{
	long result;

	do
		result = xen_call(call, (struct xen_arguments){ .a1 = number }, NULL);
	while (result > 0 && result & HAC_XEN_MORE);
	return (int)result;
}

static long call_register(struct hac_xen_area *request)
{
	long result = -EFAULT;
	int i;

	for (i = 0; i < ATTEMPTS && result == -EFAULT; i++) {
		buffer_touch(request, 1);
		result = xen_call(HAC_XEN_register_area,
				  (struct xen_arguments){ .a1 = (uintptr_t)request }, NULL);
	}
	return result;
}

/* `first`: with HAC_XEN_PEEK. */
static long call_next(const struct tracker *tracker, const struct range *range, uint32_t flags,
		      uint32_t first, uint32_t *second)
{
	struct xen_arguments arguments = {
		range->number, (uintptr_t)tracker->pages, HAC_XEN_CHUNK, flags, first,
	};
	long result = xen_call(HAC_XEN_next, arguments, second);
	int i;

	for (i = 0; i < ATTEMPTS && result == -EFAULT; i++) {
		buffer_touch(tracker->pages, pages_bytes());
		result = xen_call(HAC_XEN_next, arguments, second);
	}
	return result;
}

/* ---------------------------------------------------------------- arm -- */

/* Their page tables exist from then on, so that Xen has something to watch. */
__attribute__((no_sanitize("thread"))) static void populate(const unsigned char *memory,
							    size_t bytes)
{
	size_t i;

	if (!madvise((void *)memory, bytes, MADV_POPULATE_READ))
		return;
	for (i = 0; i < bytes; i += PAGE_BYTES)
		(void)*(const volatile unsigned char *)(memory + i);
}

/*
 * How far to register: to the end of what Xen would keep records for anyway,
 * and when the area grows, at least half as much again as there is, so that an
 * area that grows by small steps takes few of the process's numbers.
 */
static size_t end_of_range(const struct area *area, size_t from, size_t to)
{
	uintptr_t memory = (uintptr_t)area->memory, end;

	if (area->adopted)
		return to;
	if (to - from < (from - area->head) / 2)
		to = from + page_up((from - area->head) / 2);
	end = (memory + to + REGION_BYTES - 1) & ~(uintptr_t)(REGION_BYTES - 1);
	return end - memory < area->span ? end - memory : area->span;
}

static void let_go(struct range *range)
{
	call_through(HAC_XEN_unregister_area, range->number);
	if (range->log)
		munmap(range->log, log_bytes());
}

/* One more range. */
static int add_range(struct area *area, struct tracker *tracker, size_t from, size_t to)
{
	struct range range = { .from = from, .to = to };
	struct hac_xen_area request = {
		.start = (uintptr_t)area->memory + from,
		.pages = (uint32_t)((to - from) / PAGE_BYTES),
		.handler = tracker->handler,
	};
	long number;
	int result;

	if (tracker->count == HAC_XEN_MAX_AREAS)
		return -ENOSPC;
	if (tracker->handler == HAC_XEN_EMULATION) {
		range.log = buffer_create(log_bytes());
		if (!range.log)
			return -ENOMEM;
		request.log = (uintptr_t)range.log;
		request.log_entries = 2 * LOG_ENTRIES;
	}
	number = call_register(&request);
	if (number < 0) {
		if (range.log)
			munmap(range.log, log_bytes());
		return (int)number;
	}
	range.number = (uint32_t)number;
	result = call_through(HAC_XEN_begin, range.number);
	if (result < 0) {
		let_go(&range);
		return result;
	}
	tracker->ranges[tracker->count++] = range;
	return 0;
}

static void destroy(struct area *area, struct tracker *tracker)
{
	while (tracker->count)
		let_go(&tracker->ranges[--tracker->count]);
	extents_free(&tracker->noted);
	if (tracker->pages)
		munmap(tracker->pages, pages_bytes());
	free(tracker);
	area->engine_state = NULL;
}

static int create(struct area *area, uint32_t handler)
{
	struct tracker *tracker = calloc(1, sizeof(*tracker));

	if (!tracker)
		return -ENOMEM;
	tracker->handler = handler;
	tracker->pages = buffer_create(pages_bytes());
	if (!tracker->pages) {
		free(tracker);
		return -ENOMEM;
	}
	area->engine_state = tracker;
	return 0;
}

int xen_engine_arm(struct area *area, size_t from, size_t to, uint32_t handler)
{
	struct tracker *tracker;
	bool fresh = !area->engine_state;
	int result = fresh ? create(area, handler) : 0;
	size_t end, next;

	if (result)
		return result;
	tracker = area->engine_state;
	if (tracker->count && tracker->ranges[tracker->count - 1].to > from)
		from = tracker->ranges[tracker->count - 1].to;
	if (from >= to)
		return 0; /* registered when the area was smaller */
	populate(area->memory + from, to - from);
	end = end_of_range(area, from, to);
	for (; from < end && !result; from = next) {
		next = end;
		if (next - from > (size_t)HAC_XEN_MAX_PAGES * PAGE_BYTES)
			next = from + (size_t)HAC_XEN_MAX_PAGES * PAGE_BYTES;
		result = add_range(area, tracker, from, next);
	}
	/* What is registered is watched; more than was asked for does no harm. */
	if (result && fresh)
		destroy(area, tracker);
	return result;
}

void xen_engine_disarm(struct area *area)
{
	destroy(area, area->engine_state);
}

/* ------------------------------------------------------------ harvest -- */

/* Pages behind the area's end may be watched already; they are not reported. */
static int add_pages(const struct area *area, const struct tracker *tracker,
		     const struct range *range, uint32_t count, struct extents *out)
{
	uint32_t i;
	int result = 0;

	for (i = 0; i < count && !result; i++) {
		size_t from = range->from + (size_t)tracker->pages[i] * PAGE_BYTES;

		if (from < area->tail)
			result = extents_add(out, from, from + PAGE_BYTES);
	}
	return result;
}

/* All of the range, for Xen could not watch it. */
static int add_all(const struct area *area, const struct range *range, struct extents *out)
{
	return extents_add(out, range->from, range->to < area->tail ? range->to : area->tail);
}

/*
 * The entries of the half that Xen does not fill now. One without a width was
 * not written, or not for this report: its page is in the list.
 */
static int add_log(struct area *area, const struct range *range, uint32_t second,
		   struct extents *out, bool peek)
{
	struct hac_xen_store *entry = range->log;
	uint32_t count = second & ~HAC_XEN_SECOND_HALF, i, seen = 0;
	int result = 0;

	if (second & HAC_XEN_SECOND_HALF)
		entry += LOG_ENTRIES;
	if (count > LOG_ENTRIES)
		return add_all(area, range, out); /* not by the rules */
	for (i = 0; i < count && !result; i++, entry++) {
		size_t offset = (size_t)(entry->address - (uintptr_t)area->memory);

		if (!entry->width)
			continue;
		seen++;
		if (offset < area->tail)
			result = extents_add(out, offset, offset + entry->width);
	}
	if (result || peek)
		return result;
	while (i-- > 0)
		(--entry)->width = 0;
	area->writes += seen;
	return 0;
}

static int take_range(struct area *area, const struct tracker *tracker, const struct range *range,
		      struct extents *out)
{
	uint32_t second = 0;
	long found;
	int result;

	do {
		found = call_next(tracker, range, 0, 0, &second);
		if (found == -EBUSY)
			return add_all(area, range, out); /* live migration */
		if (found < 0)
			return (int)found;
		result = add_pages(area, tracker, range, found & HAC_XEN_COUNT, out);
		if (result)
			return result;
		if (range->log)
			area->fallbacks += found & HAC_XEN_COUNT;
	} while (found & HAC_XEN_MORE);
	return range->log ? add_log(area, range, second, out, false) : 0;
}

static int peek_range(struct area *area, const struct tracker *tracker, const struct range *range,
		      struct extents *out)
{
	uint32_t second = 0, first = 0, count;
	long found;
	int result;

	do {
		found = call_next(tracker, range, HAC_XEN_PEEK, first, &second);
		if (found == -EBUSY)
			return add_all(area, range, out);
		if (found < 0)
			return (int)found;
		count = found & HAC_XEN_COUNT;
		result = add_pages(area, tracker, range, count, out);
		if (result)
			return result;
		if (count)
			first = tracker->pages[count - 1] + 1;
		else if (!range->log && second > first)
			first = second; /* as far as this call looked */
		else if (found & HAC_XEN_MORE)
			return extents_add(out, range->from + (size_t)first * PAGE_BYTES,
					   range->to < area->tail ? range->to : area->tail);
	} while (found & HAC_XEN_MORE && first < (range->to - range->from) / PAGE_BYTES);
	return range->log ? add_log(area, range, second, out, true) : 0;
}

int xen_engine_harvest(struct area *area, struct extents *out, bool peek)
{
	struct tracker *tracker = area->engine_state;
	uint32_t i;
	size_t k;
	int result = 0;

	for (i = 0; i < tracker->count && !result; i++)
		result = peek ? peek_range(area, tracker, &tracker->ranges[i], out) :
				take_range(area, tracker, &tracker->ranges[i], out);
	for (k = 0; k < tracker->noted.count && !result; k++)
		result = extents_add(out, tracker->noted.items[k].from, tracker->noted.items[k].to);
	if (!result && !peek)
		tracker->noted.count = 0;
	return result;
}

bool xen_engine_is_quiet(struct area *area)
{
	const struct tracker *tracker = area->engine_state;
	uint32_t i, second;

	for (i = 0; i < tracker->count; i++) {
		second = 0;
		/* With no room for pages: is there any? */
		if (xen_call(HAC_XEN_next,
			     (struct xen_arguments){ .a1 = tracker->ranges[i].number }, &second))
			return false;
		if (tracker->ranges[i].log && second & ~HAC_XEN_SECOND_HALF)
			return false;
	}
	return !tracker->noted.count;
}

int xen_engine_open_seen(struct area *area, size_t from, size_t to)
{
	(void)area;
	(void)from;
	(void)to;
	return 0;
}

int xen_engine_open_noted(struct area *area, size_t from, size_t to)
{
	struct tracker *tracker = area->engine_state;
	int result = extents_add(&tracker->noted, from, to);

	extents_normalise(&tracker->noted);
	return result;
}
