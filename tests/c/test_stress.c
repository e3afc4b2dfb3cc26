// SPDX-License-Identifier: MIT
/*
 * Threads that write without a pause while transactions begin and end. A write
 * that races an end may fall in either epoch, but none is lost: all deltas in
 * order, applied to a copy, give the memory. With aborts, writers pause.
 */
#include "each_engine.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define WRITERS 3
#define AREAS 2
#define SMALL (48u * 1024)
#define LARGE (1024u * 1024)

static const size_t sizes[AREAS] = { SMALL, LARGE };
static unsigned char *memory[AREAS], *copy[AREAS];
static uint32_t ids[AREAS];
static _Atomic bool stop, pause_all;
static _Atomic int paused;
static _Atomic unsigned long long written;

static void write_word(unsigned long long *random)
{
	size_t i = check_random(random) % 4 ? 1 : 0;
	/* Few pages most of the time, so that threads meet. */
	size_t room = check_random(random) % 8 ? 16 * 4096 : sizes[i];
	size_t at = check_random(random) % ((room < sizes[i] ? room : sizes[i]) / 8);
	uint64_t value = check_random(random);
	unsigned char *p = memory[i] + at * 8;

	switch (value % 3) {
	case 0:
		__atomic_store_n((uint64_t *)(void *)p, value, __ATOMIC_RELAXED);
		break;
	case 1:
		__atomic_store_n((uint32_t *)(void *)p, (uint32_t)value, __ATOMIC_RELAXED);
		break;
	default:
		__atomic_store_n(p + value / 3 % 8, (unsigned char)(value >> 32), __ATOMIC_RELAXED);
		break;
	}
	atomic_fetch_add_explicit(&written, 1, memory_order_relaxed);
}

static void *writer(void *argument)
{
	unsigned long long random = 77 + (uintptr_t)argument;

	while (!atomic_load(&stop)) {
		if (atomic_load(&pause_all)) {
			atomic_fetch_add(&paused, 1);
			while (atomic_load(&pause_all))
				usleep(50);
			atomic_fetch_sub(&paused, 1);
		}
		write_word(&random);
	}
	return NULL;
}

static void apply(const struct hac_delta *d)
{
	size_t i, k, at = 0;

	for (i = 0; i < d->runs_count; i++) {
		const struct hac_run *run = &d->runs[i];

		for (k = 0; k < AREAS && ids[k] != run->area; k++)
			;
		CHECK(k < AREAS && run->offset + run->length <= sizes[k]);
		memcpy(copy[k] + run->offset, d->bytes + at, run->length);
		at += run->length;
	}
	CHECK(at == d->bytes_count);
}

static void check_equal(const char *engine)
{
	size_t i, k;

	for (i = 0; i < AREAS; i++)
		for (k = 0; k < sizes[i]; k++)
			CHECK_MSG(copy[i][k] == memory[i][k], "%s: area %zu, byte %zu", engine, i,
				  k);
}

static void hold_writers(void)
{
	atomic_store(&pause_all, true);
	while (atomic_load(&paused) != WRITERS)
		usleep(50);
}

static void let_writers_go(void)
{
	atomic_store(&pause_all, false);
	while (atomic_load(&paused))
		usleep(50);
}

/* The epochs that begin makes of strays hand out no delta, so that all is
 * followed with hac_next(), which leaves no time between two transactions. */
static void write_through(hac *h, unsigned int rounds)
{
	unsigned int i;

	for (i = 0; i < rounds; i++) {
		struct hac_delta d = {
			.size = sizeof(d),
			.form = i % 5 == 4 ? HAC_PAGES : HAC_WORDS,
		};

		if (i % 3 == 0) { /* prepared first, taken later */
			CHECK_OK(hac_prepare(h, &d));
			sched_yield();
		}
		CHECK_OK(hac_next(h, &d, NULL));
		apply(&d);
	}
}

/* Writes of a transaction that is aborted are gone; before it begins, those
 * that are there are an epoch's. */
static void abort_some(hac *h, unsigned int rounds)
{
	struct hac_delta d = { .size = sizeof(d) };
	unsigned long long before;
	unsigned int i;

	for (i = 0; i < rounds; i++) {
		hold_writers();
		CHECK_OK(hac_next(h, &d, NULL));
		apply(&d);
		let_writers_go();
		before = atomic_load(&written);
		while (atomic_load(&written) < before + 100)
			sched_yield();
		if (i % 2)
			CHECK_OK(hac_prepare(h, NULL));
		hold_writers();
		CHECK_OK(hac_abort(h));
		check_equal("abort");
		CHECK_OK(hac_begin(h));
		let_writers_go();
	}
}

static void open_areas(hac *h)
{
	struct hac_area_info info = { .size = sizeof(info) };
	void *address;
	size_t i;

	CHECK_OK(hac_map(h, "small", SMALL, NULL, &address));
	memory[0] = address;
	CHECK_OK(hac_map(h, "large", LARGE, NULL, &address));
	memory[1] = address;
	for (i = 0; i < AREAS; i++) {
		CHECK_OK(hac_get_area(h, (uint32_t)i, &info));
		ids[i] = info.id;
		copy[i] = calloc(1, sizes[i]);
		CHECK(copy[i]);
	}
}

static void stress(const char *engine)
{
	unsigned int rounds = UNDER_TSAN || UNDER_ASAN ? 100 : 600;
	hac *h = open_with(engine, 0);
	struct hac_delta d = { .size = sizeof(d) };
	pthread_t threads[WRITERS];
	size_t i;

	open_areas(h);
	CHECK_OK(hac_begin(h));
	atomic_store(&stop, false);
	for (i = 0; i < WRITERS; i++)
		CHECK(!pthread_create(&threads[i], NULL, writer, (void *)(i + 1)));
	write_through(h, rounds);
	abort_some(h, rounds / 10);
	write_through(h, rounds / 10);
	atomic_store(&stop, true);
	for (i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	CHECK_OK(hac_end(h, &d, NULL));
	apply(&d);
	check_equal(engine);
	/* And nothing is left over. */
	CHECK_OK(hac_begin(h));
	CHECK_OK(hac_end(h, &d, NULL));
	CHECK_IS(d.runs_count, 0);
	CHECK_OK(hac_close(h));
	for (i = 0; i < AREAS; i++) {
		CHECK_OK(hac_unmap(memory[i]));
		free(copy[i]);
	}
}

/* Without a twin the lists of pages alone must be enough. */
static void stress_without_twin(const char *engine)
{
	unsigned int rounds = UNDER_TSAN || UNDER_ASAN ? 100 : 600;
	struct hac_delta d = { .size = sizeof(d) };
	pthread_t threads[WRITERS];
	size_t i;
	hac *h;

	if (!strcmp(engine, "compare"))
		return;
	h = open_with(engine, HAC_NO_TWIN);
	open_areas(h);
	CHECK_OK(hac_begin(h));
	atomic_store(&stop, false);
	for (i = 0; i < WRITERS; i++)
		CHECK(!pthread_create(&threads[i], NULL, writer, (void *)(i + 1)));
	write_through(h, rounds);
	atomic_store(&stop, true);
	for (i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	CHECK_OK(hac_end(h, &d, NULL));
	apply(&d);
	check_equal(engine);
	CHECK_OK(hac_close(h));
	for (i = 0; i < AREAS; i++) {
		CHECK_OK(hac_unmap(memory[i]));
		free(copy[i]);
	}
}

int main(void)
{
	EACH_ENGINE(stress);
	EACH_ENGINE(stress_without_twin);
	return 0;
}
