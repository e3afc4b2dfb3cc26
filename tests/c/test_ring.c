/* SPDX-License-Identifier: MIT */
/* The ring: bytes arrive in order, whatever the sizes, and nobody sleeps on. */
#include "check.h"
#include "ring.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STREAM ((uint64_t)8 << 20)

static unsigned char byte_at(uint64_t position)
{
	return (unsigned char)(position * 31 + (position >> 8) * 7);
}

static void sizes(void)
{
	struct ring ring;

	CHECK_OK(ring_create(0, &ring));
	CHECK(ring.size == RING_BYTES && ring_room(&ring) == RING_BYTES);
	CHECK(!ring_filled(&ring));
	ring_destroy(&ring);
	CHECK_OK(ring_create(1, &ring));
	CHECK(ring.size == (size_t)sysconf(_SC_PAGESIZE));
	ring_destroy(&ring);
	CHECK_OK(ring_create(70000, &ring));
	CHECK(ring.size == 131072);
	ring_destroy(&ring);
	CHECK_IS(ring_create(RING_BYTES_MAX + 1, &ring), -EINVAL);
}

/* Sizes around the boundary, each at every eighth position. */
static void wraparound(void)
{
	struct ring ring;
	size_t size, amounts[7];

	CHECK_OK(ring_create(1, &ring));
	size = ring.size;
	memcpy(amounts, (size_t[]){ 1, 8, size / 2, size - 8, size - 1, size, size - 9 },
	       sizeof(amounts));
	for (size_t start = 0; start < size; start += 8) {
		for (size_t i = 0; i < 7; i++) {
			size_t n = amounts[i];

			CHECK(ring_room(&ring) == size);
			for (size_t j = 0; j < n; j++)
				ring_next(&ring)[j] = byte_at(start + i + j);
			ring_publish(&ring, n);
			CHECK(ring_filled(&ring) == n && ring_room(&ring) == size - n);
			for (size_t j = 0; j < n; j++)
				CHECK(ring_first(&ring)[j] == byte_at(start + i + j));
			ring_release(&ring, n);
		}
		ring_publish(&ring, 8);
		ring_release(&ring, 8);
	}
	ring_destroy(&ring);
}

static void *produce(void *argument)
{
	struct ring *ring = argument;
	unsigned long long seed = 77;
	uint64_t position = 0;

	while (position < STREAM) {
		size_t n = check_random(&seed) % (ring->size / 4) + 1;
		unsigned char *at;

		if (check_random(&seed) % 4)
			n = n % 64 + 1;
		if (n > STREAM - position)
			n = STREAM - position;
		while (ring_room(ring) < n)
			ring_wait_room(ring, n);
		at = ring_next(ring);
		for (size_t i = 0; i < n; i++)
			at[i] = byte_at(position + i);
		ring_publish(ring, n);
		position += n;
		if (check_random(&seed) % 1024 == 0)
			usleep(200);
	}
	return NULL;
}

static void two_threads(void)
{
	unsigned long long seed = 5;
	uint64_t position = 0;
	pthread_t thread;
	struct ring ring;

	CHECK_OK(ring_create(16384, &ring));
	CHECK(!pthread_create(&thread, NULL, produce, &ring));
	while (position < STREAM) {
		size_t n = ring_filled(&ring);
		const unsigned char *at = ring_first(&ring);

		if (!n) {
			/* Half a ring may never come at the end. */
			bool half = check_random(&seed) % 2 && STREAM - position > ring.size;

			ring_wait_filled(&ring, half ? ring.size / 2 : 1,
					 check_random(&seed) % 2 ? -1 : 50000);
			continue;
		}
		if (check_random(&seed) % 2)
			n = check_random(&seed) % n + 1;
		for (size_t i = 0; i < n; i++)
			CHECK(at[i] == byte_at(position + i));
		ring_release(&ring, n);
		position += n;
		if (check_random(&seed) % 256 == 0)
			usleep(200);
	}
	pthread_join(thread, NULL);
	ring_destroy(&ring);
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void *kick_later(void *argument)
{
	usleep(20000);
	ring_kick_consumer(argument);
	ring_kick_producer(argument);
	return NULL;
}

/* A wait ends when its time is up, when it is kicked, or at once if that
 * happened before. */
static void waits_end(void)
{
	uint64_t start = now();
	pthread_t thread;
	struct ring ring;

	CHECK_OK(ring_create(4096, &ring));
	ring_wait_filled(&ring, 1, 20000000);
	CHECK(now() - start >= 19);
	ring_kick_consumer(&ring);
	ring_wait_filled(&ring, 1, -1);
	ring_publish(&ring, ring.size);
	ring_kick_producer(&ring);
	ring_wait_room(&ring, 1);
	ring_release(&ring, ring.size);
	CHECK(!pthread_create(&thread, NULL, kick_later, &ring));
	ring_wait_filled(&ring, 1, -1);
	pthread_join(thread, NULL);
	ring_destroy(&ring);
}

static void *wait_for_room(void *argument)
{
	struct ring *ring = argument;

	while (ring_room(ring) < ring->size)
		ring_wait_room(ring, ring->size);
	return NULL;
}

static void *wait_for_bytes(void *argument)
{
	struct ring *ring = argument;

	while (ring_filled(ring) < 8)
		ring_wait_filled(ring, 8, -1);
	return NULL;
}

/* One side sleeps; the other one has moved its end and taken the mark away, and died
 * before it woke the sleeper. Whoever takes its place kicks. */
static void a_waker_dies(void)
{
	struct timespec moment = { .tv_nsec = 50000000 };
	struct ring ring;
	pthread_t thread;

	CHECK_OK(ring_create(1, &ring));
	ring_publish(&ring, 8);
	CHECK(!pthread_create(&thread, NULL, wait_for_room, &ring));
	while (!atomic_load(&ring.shared->producer_waits))
		;
	nanosleep(&moment, NULL); /* it sleeps */
	atomic_fetch_add(&ring.shared->tail, 8);
	atomic_store(&ring.shared->producer_waits, 0);
	ring_kick_producer(&ring);
	CHECK(!pthread_join(thread, NULL));
	CHECK(!pthread_create(&thread, NULL, wait_for_bytes, &ring));
	while (!atomic_load(&ring.shared->consumer_waits))
		;
	nanosleep(&moment, NULL);
	atomic_fetch_add(&ring.shared->head, 8);
	atomic_store(&ring.shared->consumer_waits, 0);
	ring_kick_consumer(&ring);
	CHECK(!pthread_join(thread, NULL));
	ring_destroy(&ring);
}

/* A limit on file sizes must not cost the ring, nor the process. */
static void under_a_limit(void)
{
	int status;
	pid_t child = fork();

	CHECK(child >= 0);
	if (!child) {
		struct rlimit limit = { 1000, 1000 };
		struct ring ring;

		CHECK(!setrlimit(RLIMIT_FSIZE, &limit));
		CHECK_OK(ring_create(0, &ring));
		CHECK(ring.fd == -1);
		ring_publish(&ring, ring.size - 4);
		ring_release(&ring, ring.size - 4);
		memcpy(ring_next(&ring), "abcdefgh", 8);
		CHECK(!memcmp(ring.data, "efgh", 4));
		ring_destroy(&ring);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
}

int main(void)
{
	RUN(sizes);
	RUN(wraparound);
	RUN(two_threads);
	RUN(waits_end);
	RUN(a_waker_dies);
	RUN(under_a_limit);
	return 0;
}
