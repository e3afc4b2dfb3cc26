// SPDX-License-Identifier: MIT
#include "ring.h"

#include "error.h"
#include "image_io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* ------------------------------------------------------------- memory -- */

static int map_memory(struct ring *ring, size_t head, unsigned char *at)
{
	int flags = MAP_SHARED | MAP_FIXED | (ring->fd < 0 ? MAP_ANONYMOUS : 0);
	unsigned char *data = at + head;

	if (mmap(at, head + ring->size, PROT_READ | PROT_WRITE, flags, ring->fd, 0) == MAP_FAILED)
		return -errno;
	/* An old size of 0 maps the same shared memory a second time. */
	if (mremap(data, 0, ring->size, MREMAP_MAYMOVE | MREMAP_FIXED, data + ring->size) ==
	    MAP_FAILED)
		return -errno;
	/* A child has no use for it; the parent is spared the page tables. */
	madvise(data, 2 * ring->size, MADV_DONTFORK);
	ring->shared = (void *)at;
	ring->data = data;
	return 0;
}

/* Head, data, and the data once more. */
static int map_ring(struct ring *ring, size_t head)
{
	size_t all = head + 2 * ring->size;
	unsigned char *at =
		mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int error = at == MAP_FAILED ? -errno : map_memory(ring, head, at);

	if (error && at != MAP_FAILED)
		munmap(at, all);
	return error;
}

/*
 * A memfd, so that another process can map it. Its size counts against the
 * limit on file sizes; under a tight one, anonymous memory must do.
 */
static int make_memory(struct ring *ring, size_t head)
{
	if (io_size_limit() >= head + ring->size)
		ring->fd = memfd_create("hac-ring", MFD_CLOEXEC);
	if (ring->fd >= 0 && ftruncate(ring->fd, (off_t)(head + ring->size)))
		return -errno;
	return 0;
}

static size_t head_size(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (sizeof(struct ring_shared) + page - 1) & ~(page - 1);
}

int ring_create(size_t bytes, struct ring *out)
{
	struct ring ring = { .size = (size_t)sysconf(_SC_PAGESIZE), .fd = -1 };
	size_t head = head_size();
	int error;

	if (!bytes)
		bytes = RING_BYTES;
	if (bytes > RING_BYTES_MAX)
		return hac_fail(EINVAL, "a ring of %zu bytes: at most %zu are possible", bytes,
				RING_BYTES_MAX);
	while (ring.size < bytes)
		ring.size *= 2;
	error = make_memory(&ring, head);
	if (!error)
		error = map_ring(&ring, head);
	if (error) {
		if (ring.fd >= 0)
			close(ring.fd);
		return hac_fail(-error, "no memory for a ring of %zu bytes: %s", ring.size,
				strerror(-error));
	}
	ring.shared->size = ring.size;
	*out = ring;
	return 0;
}

/* Whose memory it is says its size twice: in the file, and in the head. */
static int check_ring(const struct ring *ring, const struct stat *st, size_t head)
{
	if (!S_ISREG(st->st_mode) || (uint64_t)st->st_size != head + ring->size ||
	    ring->size < (size_t)sysconf(_SC_PAGESIZE) || ring->size > RING_BYTES_MAX ||
	    ring->size & (ring->size - 1))
		return hac_fail(EINVAL, "descriptor %d is not that of a ring", ring->fd);
	return 0;
}

int ring_attach(int fd, struct ring *out)
{
	struct ring ring = { .fd = fd };
	size_t head = head_size();
	struct stat st;
	int error;

	if (fstat(fd, &st))
		return hac_fail(errno, "the ring's descriptor %d: %s", fd, strerror(errno));
	ring.size = (uint64_t)st.st_size > head ? (size_t)st.st_size - head : 0;
	error = check_ring(&ring, &st, head);
	if (error)
		return error;
	ring.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	error = ring.fd < 0 ? -errno : map_ring(&ring, head);
	if (!error && ring.shared->size == ring.size) {
		*out = ring;
		return 0;
	}
	if (!error)
		ring_destroy(&ring);
	else if (ring.fd >= 0)
		close(ring.fd);
	if (error)
		return hac_fail(-error, "a ring of %zu bytes cannot be mapped: %s", ring.size,
				strerror(-error));
	return hac_fail(EINVAL, "descriptor %d is not that of a ring", fd);
}

void ring_destroy(struct ring *ring)
{
	munmap(ring->shared, head_size() + 2 * ring->size);
	if (ring->fd >= 0)
		close(ring->fd);
	memset(ring, 0, sizeof(*ring));
	ring->fd = -1;
}

/* -------------------------------------------------------------- futex -- */

void futex_wait(_Atomic uint32_t *word, uint32_t value, int64_t ns)
{
	struct timespec timeout = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

	syscall(SYS_futex, word, FUTEX_WAIT, value, ns < 0 ? NULL : &timeout, NULL, 0);
}

void futex_wake(_Atomic uint32_t *word, int count)
{
	syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

/* Whoever finds the other side waiting takes the mark away, so that only one
 * wakes it. */
static void wake(_Atomic uint32_t *waits)
{
	if (atomic_exchange(waits, 0))
		futex_wake(waits, 1);
}

/* In any case: whoever took the mark away may have died before it woke the sleeper. */
static void kick(_Atomic uint32_t *waits, _Atomic uint32_t *kicked)
{
	atomic_store(kicked, 1);
	atomic_store(waits, 0);
	futex_wake(waits, 1);
}

/* ----------------------------------------------------------- producer -- */

size_t ring_room(const struct ring *ring)
{
	uint64_t head = atomic_load_explicit(&ring->shared->head, memory_order_relaxed);

	return ring->size - (size_t)(head - atomic_load(&ring->shared->tail));
}

unsigned char *ring_next(const struct ring *ring)
{
	uint64_t head = atomic_load_explicit(&ring->shared->head, memory_order_relaxed);

	return ring->data + (head & (ring->size - 1));
}

void ring_prefetch(const struct ring *ring, size_t size)
{
	const unsigned char *next = ring_next(ring);

	for (size_t i = 0; i < size; i += 64) {
#ifdef __x86_64__
		/* The builtin means to read, unless told of this instruction,
		 * which is none to processors without it. */
		__asm__ volatile("prefetchw %0" : : "m"(next[i]));
#else
		__builtin_prefetch(next + i, 1);
#endif
	}
}

void ring_publish(struct ring *ring, size_t size)
{
	struct ring_shared *shared = ring->shared;
	uint32_t waits;

	atomic_fetch_add(&shared->head, size);
	waits = atomic_load(&shared->consumer_waits);
	if (waits && ring->size - ring_room(ring) >= waits)
		wake(&shared->consumer_waits);
}

void ring_wait_room(struct ring *ring, size_t size)
{
	struct ring_shared *shared = ring->shared;

	atomic_store(&shared->producer_waits, (uint32_t)size);
	if (!atomic_exchange(&shared->producer_kicked, 0) && ring_room(ring) < size)
		futex_wait(&shared->producer_waits, (uint32_t)size, -1);
	atomic_store(&shared->producer_waits, 0);
}

void ring_kick_consumer(struct ring *ring)
{
	kick(&ring->shared->consumer_waits, &ring->shared->consumer_kicked);
}

/* ----------------------------------------------------------- consumer -- */

size_t ring_filled(const struct ring *ring)
{
	uint64_t tail = atomic_load_explicit(&ring->shared->tail, memory_order_relaxed);

	return (size_t)(atomic_load(&ring->shared->head) - tail);
}

const unsigned char *ring_first(const struct ring *ring)
{
	uint64_t tail = atomic_load_explicit(&ring->shared->tail, memory_order_relaxed);

	return ring->data + (tail & (ring->size - 1));
}

void ring_release(struct ring *ring, size_t size)
{
	struct ring_shared *shared = ring->shared;
	uint32_t waits;

	atomic_fetch_add(&shared->tail, size);
	waits = atomic_load(&shared->producer_waits);
	if (waits && ring->size - ring_filled(ring) >= waits)
		wake(&shared->producer_waits);
}

void ring_wait_filled(struct ring *ring, size_t size, int64_t ns)
{
	struct ring_shared *shared = ring->shared;

	atomic_store(&shared->consumer_waits, (uint32_t)size);
	if (!atomic_exchange(&shared->consumer_kicked, 0) && ring_filled(ring) < size)
		futex_wait(&shared->consumer_waits, (uint32_t)size, ns);
	atomic_store(&shared->consumer_waits, 0);
}

void ring_kick_producer(struct ring *ring)
{
	kick(&ring->shared->producer_waits, &ring->shared->producer_kicked);
}
