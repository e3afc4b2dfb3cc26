// SPDX-License-Identifier: MIT
/*
 * Hazard 9: no call takes long, however large the area; and reports that do not
 * fit into one call come in pieces that lose nothing, in order.
 */
#include "hazard.h"

#include <errno.h>
#include <time.h>

#define PAGES 65536u

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static unsigned int count_calls(uint32_t call, struct tracked *t, uint64_t *longest)
{
	unsigned int calls = 0;
	long result;

	do {
		uint64_t start = now(), took;

		result = call_it(call, (uintptr_t)t->number, 0, 0, 0, 0);
		took = now() - start;
		*longest = took > *longest ? took : *longest;
		CHECK(result >= 0);
		calls++;
	} while (result & HAC_XEN_MORE);
	return calls;
}

static void large(void)
{
	unsigned char *p = map_pages(PAGES);
	uint64_t longest = 0;
	struct tracked t;
	unsigned int calls;
	uint32_t i;

	for (i = 0; i < PAGES; i++)
		p[i * (size_t)PAGE] = 1;
	track(&t, p, PAGES, handler, handler == HAC_XEN_EMULATION ? 2 * HALF : 0);
	calls = count_calls(HAC_XEN_begin, &t, &longest);
	CHECK_MSG(calls > 1, "the first begin is one call");
	for (i = 0; i < PAGES; i += 3)
		p[i * (size_t)PAGE + i % PAGE] = 2;
	take(&t);
	for (i = 0; i < t.count; i++)
		CHECK(!i || t.list[i - 1] < t.list[i]);
	if (!t.log)
		CHECK_IS(t.count, (PAGES + 2) / 3);
	clear_log(&t);
	/* A peek in pieces, then abort, which forgets. */
	for (i = 0; i < 3000; i++)
		p[(size_t)i * 20 * PAGE + 9] = 3;
	if (!t.log) {
		uint32_t seen = 0, first = 0;
		long result;

		do {
			result = call_it(HAC_XEN_next, (uintptr_t)t.number, (uintptr_t)t.list, 100,
					 HAC_XEN_PEEK, first);
			CHECK_MSG(result >= 0, "%ld", result);
			for (i = 0; i < (result & HAC_XEN_COUNT); i++)
				CHECK_IS(t.list[i], 20 * (seen + i));
			seen += i;
			if (i)
				first = t.list[i - 1] + 1;
		} while (result & HAC_XEN_MORE && i);
		CHECK(seen == 3000 || handler == HAC_XEN_SCAN);
	}
	count_calls(HAC_XEN_abort, &t, &longest);
	start(&t);
	must_be_quiet(&t);
	p[123 * PAGE] = 9;
	must_report(&t, 123, 124);
	count_calls(HAC_XEN_unregister_area, &t, &longest);
	printf("%u calls for the first begin, the longest of all %llu us\n", calls,
	       (unsigned long long)(longest / 1000));
	munmap(t.list, (PAGES + HAC_XEN_CHUNK) * 4);
	munmap(p, PAGES * (size_t)PAGE);
}

int main(void)
{
	need_xen();
	UNDER_EACH_HANDLER(large);
	return 0;
}
