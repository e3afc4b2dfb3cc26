// SPDX-License-Identifier: MIT
/*
 * A byte that is written outside a transaction is found by the next begin,
 * wherever it lies: it takes an epoch of its own, and an abort leaves it as it
 * is. And words that go back and forth while transactions end: all deltas, in
 * order, give the memory.
 */
#include "each_engine.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define AREAS 2
#define LARGEST (3u * 65536)

static unsigned long long seed = 4711;
static unsigned char *memory[AREAS];

static void check_quiet(hac *h)
{
	uint64_t before = epoch_of(h);

	CHECK_OK(hac_begin(h));
	CHECK_OK(hac_abort(h));
	CHECK_IS(epoch_of(h), before);
}

static void stray_at(hac *h, unsigned char *p, size_t size, size_t at)
{
	uint64_t before = epoch_of(h);
	unsigned char value = ++p[at];
	size_t other = check_random(&seed) % size;

	CHECK_OK(hac_begin(h));
	CHECK_MSG(epoch_of(h) == before + 1, "stray at %zu of %zu", at, size);
	p[at] ^= 0x55;
	p[other] ^= 0xaa;
	CHECK_OK(hac_abort(h));
	CHECK_MSG(p[at] == value, "stray at %zu of %zu was undone", at, size);
}

/* Near the borders of words, blocks, masks, chunks and stretches, and anywhere. */
static void strays_in(hac *h, unsigned char *p, size_t size)
{
	static const size_t steps[] = { 8, 64, 512, 4096, 65536 };
	size_t i, at;

	check_quiet(h);
	for (i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		at = check_random(&seed) % (size / steps[i] + 1) * steps[i];
		if (at < size)
			stray_at(h, p, size, at);
		if (at && at <= size)
			stray_at(h, p, size, at - 1);
	}
	stray_at(h, p, size, 0);
	stray_at(h, p, size, size - 1);
	for (i = 0; i < 10; i++)
		stray_at(h, p, size, check_random(&seed) % size);
	check_quiet(h);
}

static void mapped(const char *engine)
{
	static const size_t sizes[] = {
		1, 9, 63, 64, 65, 4096, 4100, 32767, 65536, 65536 + 8, 2 * 65536 + 4160
	};
	size_t i, k;

	for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		hac *h = open_with(engine, 0);
		void *address;

		for (k = 0; k < AREAS; k++) {
			struct hac_area_options o = { .size = sizeof(o), .capacity = LARGEST };

			CHECK_OK(hac_map(h, k ? "second" : "first", sizes[i], &o, &address));
			memory[k] = address;
			memset(address, (int)k + 3, sizes[i]);
		}
		CHECK_OK(hac_begin(h));
		CHECK_OK(hac_end(h, NULL, NULL));
		for (k = 0; k < AREAS; k++)
			strays_in(h, memory[k], sizes[i]);
		CHECK_OK(hac_grow(h, "first", LARGEST - 24));
		CHECK_OK(hac_begin(h));
		CHECK_OK(hac_end(h, NULL, NULL));
		strays_in(h, memory[0], LARGEST - 24);
		CHECK_OK(hac_close(h));
		for (k = 0; k < AREAS; k++)
			CHECK_OK(hac_unmap(memory[k]));
	}
}

/* Memory that neither begins nor ends with a page of its own. */
static void adopted(const char *engine)
{
	static const size_t from[] = { 0, 8, 4088, 4000 }, sizes[] = { 40, 4096, 9000, 80000 };
	unsigned char *room = aligned_alloc(4096, 100 * 1024);
	size_t i, k;

	CHECK(room);
	for (i = 0; i < 4; i++)
		for (k = 0; k < 4; k++) {
			hac *h = open_with(engine, 0);

			memset(room, 1, 100 * 1024);
			CHECK_OK(hac_adopt(h, "area", room + from[i], sizes[k], NULL));
			CHECK_OK(hac_begin(h));
			CHECK_OK(hac_end(h, NULL, NULL));
			strays_in(h, room + from[i], sizes[k]);
			CHECK_OK(hac_close(h));
		}
	free(room);
}

/* ---- words that go back and forth ---- */

#define WORDS (65536u / 8)

static _Atomic bool stop;

static void *flip(void *argument)
{
	uint64_t *words = argument;
	unsigned long long random = 5;

	while (!atomic_load(&stop)) {
		size_t i = check_random(&random) % 64 * (WORDS / 64);
		uint64_t old = __atomic_load_n(words + i, __ATOMIC_RELAXED);

		__atomic_store_n(words + i, old ^ 1, __ATOMIC_RELAXED);
		__atomic_store_n(words + i, old, __ATOMIC_RELAXED);
		if (check_random(&random) % 4 == 0)
			__atomic_store_n(words + i, old + 2, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void apply(unsigned char *copy, const struct hac_delta *d)
{
	const unsigned char *bytes = d->bytes;
	size_t i;

	for (i = 0; i < d->runs_count; i++) {
		memcpy(copy + d->runs[i].offset, bytes, d->runs[i].length);
		bytes += d->runs[i].length;
	}
}

static void back_and_forth(const char *engine)
{
	struct hac_delta d = { .size = sizeof(d) };
	unsigned char *copy = calloc(WORDS, 8);
	hac *h = open_with(engine, 0);
	pthread_t thread;
	void *address;
	int i;

	CHECK(copy);
	CHECK_OK(hac_map(h, "area", (size_t)WORDS * 8, NULL, &address));
	CHECK_OK(hac_begin(h));
	atomic_store(&stop, false);
	CHECK_IS(pthread_create(&thread, NULL, flip, address), 0);
	for (i = 0; i < (UNDER_TSAN ? 1000 : 10000); i++) {
		CHECK_OK(hac_next(h, &d, NULL));
		apply(copy, &d);
	}
	atomic_store(&stop, true);
	CHECK_IS(pthread_join(thread, NULL), 0);
	CHECK_OK(hac_end(h, &d, NULL));
	apply(copy, &d);
	CHECK(!memcmp(copy, address, (size_t)WORDS * 8));
	check_quiet(h);
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_unmap(address));
	free(copy);
}

int main(void)
{
	EACH_ENGINE(mapped);
	EACH_ENGINE(adopted);
	EACH_ENGINE(back_and_forth);
	return 0;
}
