/* SPDX-License-Identifier: MIT */
/*
 * The ring: bytes from one producer to one consumer through shared memory.
 *
 * Nothing in the shared part is a pointer and the futexes are process-shared,
 * so that the consumer may live in another process. The data is mapped twice
 * in a row: what wraps around is contiguous all the same.
 *
 * Neither side takes a lock, and neither makes a system call unless the other
 * one sleeps, or is kicked. Sleeping: a side says for how many bytes it waits, looks once
 * more, and sleeps; the other side moves its end, and then looks whether
 * somebody waits. All of that is sequentially consistent, so one of the two
 * sees the other.
 */
#ifndef HAC_RING_H
#define HAC_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RING_BYTES ((size_t)256 << 10)
/* Lines that another core has read lately are slow to write: more of them. */
#define RING_BYTES_SHARED ((size_t)1 << 20)
#define RING_BYTES_MAX ((size_t)1 << 30)
#define RING_USER_BYTES 2048 /* of shared memory for whoever uses the ring */

struct ring_shared {
	_Alignas(64) _Atomic uint64_t head;           /* bytes ever put in */
	_Alignas(64) _Atomic uint64_t tail;           /* bytes ever taken out */
	_Alignas(64) _Atomic uint32_t consumer_waits; /* for so many bytes; 0: awake */
	_Atomic uint32_t consumer_kicked;
	_Alignas(64) _Atomic uint32_t producer_waits; /* for so much room */
	_Atomic uint32_t producer_kicked;
	uint64_t size;
	_Alignas(64) unsigned char user[RING_USER_BYTES];
};

struct ring {
	struct ring_shared *shared;
	unsigned char *data;
	size_t size; /* a power of two */
	int fd;      /* of the memory; -1 if it has none */
};

/* `bytes` is rounded up to a power of two of whole pages; 0: RING_BYTES.
 * -errno with a detail. */
int ring_create(size_t bytes, struct ring *out);

/* The ring that another process has created, by the descriptor of its memory,
 * which stays the caller's. */
int ring_attach(int fd, struct ring *out);

/* Both. */
void ring_destroy(struct ring *ring);

/* -------------------------------------------------------- producer -- */

size_t ring_room(const struct ring *ring);
/* Where the next bytes go: ring_room() of them may be written in a row. */
unsigned char *ring_next(const struct ring *ring);
/* Begin to fetch the lines that the next `size` bytes will be written to: the
 * other side has read them, and has them in its caches. */
void ring_prefetch(const struct ring *ring, size_t size);
/* Hand `size` bytes over, and wake the consumer if it waits for them. */
void ring_publish(struct ring *ring, size_t size);
/* Sleep until there is room for `size` bytes, or for no reason. */
void ring_wait_room(struct ring *ring, size_t size);
/* Make a consumer that waits return, or its next wait; also one whose waker has
 * died before it woke it. */
void ring_kick_consumer(struct ring *ring);

/* -------------------------------------------------------- consumer -- */

size_t ring_filled(const struct ring *ring);
const unsigned char *ring_first(const struct ring *ring);
/* Give `size` bytes back to the producer. */
void ring_release(struct ring *ring, size_t size);
/* Sleep until `size` bytes are there, for at most `ns` (-1: for ever), or for
 * no reason. */
void ring_wait_filled(struct ring *ring, size_t size, int64_t ns);
void ring_kick_producer(struct ring *ring);

/* ------------------------------------------------------------ futex -- */

void futex_wait(_Atomic uint32_t *word, uint32_t value, int64_t ns);
void futex_wake(_Atomic uint32_t *word, int count);

#endif
