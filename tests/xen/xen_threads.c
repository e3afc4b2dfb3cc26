// SPDX-License-Identifier: MIT
/*
 * Hazard 8: threads write to the same pages while another one harvests. What the
 * reports alone have copied is what is there in the end. Others map, fork, and
 * register at the same time.
 */
#include "hazard.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#define PAGES 48u
#define WRITERS 3

static unsigned char *memory;
static atomic_bool stopped;
static unsigned long rounds = 400;

static void *writer(void *argument)
{
	unsigned long long seed = 5 + (uintptr_t)argument;
	uintptr_t me = (uintptr_t)argument;

	while (!atomic_load(&stopped)) {
		size_t page = check_random(&seed) % PAGES;
		size_t slot = check_random(&seed) % 60;
		uint64_t *word = (uint64_t *)(memory + page * PAGE) + slot * 4 + me;

		if (slot % 5)
			*(volatile uint64_t *)word += 1;
		else
			__atomic_fetch_add(word, 1, __ATOMIC_RELAXED);
		if (slot == 7)
			sched_yield();
	}
	return NULL;
}

/* Another area comes and goes, mappings and children, too. */
static void *disturber(void *argument)
{
	unsigned int n = 0;

	(void)argument;
	while (!atomic_load(&stopped)) {
		unsigned char *p = map_pages(16);
		struct tracked t;

		track_all(&t, p, 16);
		p[3 * PAGE] = 1;
		must_report(&t, 3, 4);
		if (++n % 3)
			untrack(&t);
		munmap(p, 16 * PAGE);
		if (!(n % 3))
			untrack(&t);
		if (n % 8 == 0) {
			pid_t child = fork();

			if (!child)
				_exit(0);
			must_end(child, 0);
		}
		sched_yield();
	}
	return NULL;
}

static void copy_reported(struct tracked *t, unsigned char *copy)
{
	struct hac_xen_store *entry;
	uint32_t i, n = t->log ? logged(t, &entry) : 0;

	for (i = 0; i < t->count; i++)
		memcpy(copy + t->list[i] * PAGE, memory + t->list[i] * PAGE, PAGE);
	for (i = 0; i < n; i++) {
		size_t at = entry[i].address - (uintptr_t)memory;

		if (!entry[i].width)
			continue;
		CHECK(at + entry[i].width <= PAGES * PAGE);
		memcpy(copy + at, memory + at, entry[i].width);
	}
	clear_log(t);
}

static void harvest_while_writing(bool disturbed)
{
	unsigned char *copy = map_pages(PAGES);
	pthread_t threads[WRITERS + 1];
	struct tracked t;
	unsigned long i, pages = 0;
	uintptr_t k;

	memory = map_pages(PAGES);
	memset(memory, 1, PAGES * PAGE);
	atomic_store(&stopped, false);
	track_all(&t, memory, PAGES);
	memcpy(copy, memory, PAGES * PAGE);
	for (k = 0; k < WRITERS; k++)
		CHECK_OK(pthread_create(&threads[k], NULL, writer, (void *)k));
	if (disturbed)
		CHECK_OK(pthread_create(&threads[WRITERS], NULL, disturber, NULL));
	for (i = 0; i < (disturbed ? rounds / 4 : rounds); i++) {
		take(&t);
		pages += t.count;
		copy_reported(&t, copy);
		if (i % 4 == 0)
			sched_yield();
	}
	atomic_store(&stopped, true);
	for (k = 0; k < WRITERS + (uintptr_t)disturbed; k++)
		CHECK_OK(pthread_join(threads[k], NULL));
	take(&t);
	copy_reported(&t, copy);
	CHECK_MSG(!memcmp(copy, memory, PAGES * PAGE), "%s: a write was lost",
		  handler_names[handler]);
	printf("%lu pages in %lu reports\n", pages, i);
	take(&t);
	CHECK(!t.count);
	untrack(&t);
	munmap(memory, PAGES * PAGE);
	munmap(copy, PAGES * PAGE);
}

static void alone(void)
{
	harvest_while_writing(false);
}

static void disturbed(void)
{
	harvest_while_writing(true);
}

int main(void)
{
	need_xen();
	UNDER_EACH_HANDLER(alone);
	UNDER_EACH_HANDLER(disturbed);
	CHECK_IS(statistics(HAC_XEN_ALL).areas, 0);
	return 0;
}
