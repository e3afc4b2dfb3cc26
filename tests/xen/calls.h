/* SPDX-License-Identifier: MIT */
/* The calls to Xen as functions, for programs that look at each result. */
#ifndef CALLS_H
#define CALLS_H

#include "../c/check.h"

#include "xen_gate.h"

#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u
#define HALF 64u /* entries in a half of a small log */

__attribute__((unused)) static const char *const handler_names[] = { "tracking", "emulation",
								     "scan" };

/* Skip the program where there is no patched Xen. */
__attribute__((unused)) static void need_xen(void)
{
	char reason[192] = "";

	if (xen_gate_probe(HAC_XEN_TRACKING, reason, sizeof(reason)))
		SKIP("%s", reason);
}

__attribute__((unused)) static long call_it(uint32_t call, uintptr_t a1, uintptr_t a2, uintptr_t a3,
					    uintptr_t a4, uintptr_t a5)
{
	return xen_call(call, (struct xen_arguments){ a1, a2, a3, a4, a5 }, NULL);
}

/* Repeat a call that takes a number only until there is no more to do. */
__attribute__((unused)) static long call_through(uint32_t call, uint32_t number)
{
	long result;

	do
		result = call_it(call, number, 0, 0, 0, 0);
	while (result > 0 && result & HAC_XEN_MORE);
	return result;
}

struct tracked {
	unsigned char *memory;
	uint32_t pages, handler;
	long number;
	struct hac_xen_store *log;
	uint32_t log_entries;
	uint32_t *list; /* as many as the area has, and a chunk */
	uint32_t count; /* in it */
	uint32_t second;
	bool partial;
};

__attribute__((unused)) static void *map_pages(size_t pages)
{
	void *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);

	CHECK(p != MAP_FAILED);
	return p;
}

/* Where Xen may write at any time: a fork would make it read-only. */
__attribute__((unused)) static void *map_buffer(size_t bytes)
{
	size_t pages = bytes / PAGE + 1;
	void *p = map_pages(pages);

	CHECK(!madvise(p, pages * PAGE, MADV_DONTFORK));
	return memset(p, 0, pages * PAGE);
}

/* Registered, with no transaction yet. */
__attribute__((unused)) static void track(struct tracked *t, void *memory, uint32_t pages,
					  uint32_t handler, uint32_t log_entries)
{
	struct hac_xen_area request = {
		.start = (uintptr_t)memory,
		.pages = pages,
		.handler = handler,
	};
	size_t bytes = (pages + HAC_XEN_CHUNK) * sizeof(uint32_t);

	*t = (struct tracked){ .memory = memory, .pages = pages, .handler = handler };
	t->list = map_buffer(bytes);
	if (handler == HAC_XEN_EMULATION) {
		bytes = log_entries * sizeof(struct hac_xen_store);
		t->log = map_buffer(bytes);
		t->log_entries = request.log_entries = log_entries;
		request.log = (uintptr_t)t->log;
	}
	t->number = call_it(HAC_XEN_register_area, (uintptr_t)&request, 0, 0, 0, 0);
	CHECK_MSG(t->number >= 0, "register: %ld", t->number);
}

__attribute__((unused)) static void start(struct tracked *t)
{
	CHECK_IS(call_through(HAC_XEN_begin, (uint32_t)t->number), 0);
}

__attribute__((unused)) static void untrack(struct tracked *t)
{
	CHECK_IS(call_through(HAC_XEN_unregister_area, (uint32_t)t->number), 0);
	munmap(t->list, ((t->pages + HAC_XEN_CHUNK) * 4 / PAGE + 1) * PAGE);
	if (t->log)
		munmap(t->log, (t->log_entries * sizeof(*t->log) / PAGE + 1) * PAGE);
}

/* All pages of `end` or `next` into t->list. */
__attribute__((unused)) static void take_by(struct tracked *t, uint32_t call)
{
	uint32_t second = 0;
	long result;

	t->count = 0;
	t->partial = false;
	do {
		struct xen_arguments a = { (uintptr_t)t->number, (uintptr_t)(t->list + t->count),
					   HAC_XEN_CHUNK, 0, 0 };

		result = xen_call(call, a, &second);
		CHECK_MSG(result >= 0, "%s: %ld", handler_names[t->handler], result);
		t->count += result & HAC_XEN_COUNT;
		t->partial |= !!(result & HAC_XEN_PARTIAL_LOG);
		CHECK(t->count <= t->pages);
	} while (result & HAC_XEN_MORE);
	t->second = second;
}

__attribute__((unused)) static void take(struct tracked *t)
{
	take_by(t, HAC_XEN_next);
}

/* The log of the last report: entries, first of them. */
__attribute__((unused)) static uint32_t logged(const struct tracked *t,
					       struct hac_xen_store **first)
{
	*first = t->log + (t->second & HAC_XEN_SECOND_HALF ? t->log_entries / 2 : 0);
	return t->second & ~HAC_XEN_SECOND_HALF;
}

__attribute__((unused)) static bool reported(const struct tracked *t, uint32_t page)
{
	struct hac_xen_store *entry;
	uint32_t i, n;

	for (i = 0; i < t->count; i++)
		if (t->list[i] == page)
			return true;
	if (!t->log)
		return false;
	for (n = logged(t, &entry), i = 0; i < n; i++)
		if (entry[i].width && (entry[i].address - (uintptr_t)t->memory) / PAGE == page)
			return true;
	return false;
}

/* After a report has been read. */
__attribute__((unused)) static void clear_log(const struct tracked *t)
{
	struct hac_xen_store *entry;
	uint32_t n = t->log ? logged(t, &entry) : 0;

	while (n-- > 0)
		entry[n].width = 0;
}

__attribute__((unused)) static struct hac_xen_statistics statistics(uint32_t number)
{
	struct hac_xen_statistics s;

	memset(&s, 0, sizeof(s));
	CHECK_IS(call_it(HAC_XEN_statistics, number, (uintptr_t)&s, 0, 0, 0), 0);
	return s;
}

#endif
