/* SPDX-License-Identifier: MIT */
/* The two halves of the drainer: the producer's (drainer_push.c), in whoever
 * ends a transaction, and the consumer's (drainer.c), a thread. */
#ifndef HAC_DRAINER_INTERNAL_H
#define HAC_DRAINER_INTERNAL_H

#include "drainer.h"
#include "journal.h"
#include "ring.h"

#include <pthread.h>

/* In the ring's shared memory. */
struct drainer_shared {
	_Atomic uint64_t durable; /* the last epoch that is synced */
	_Atomic uint32_t durable_changes;
	_Atomic uint32_t waiters; /* for `durable` */
	_Atomic int32_t error;
	_Atomic uint32_t stop;
	_Atomic uint32_t urgent; /* somebody cannot wait for flush_ms */
	char detail[512];        /* of the error; written before it */

	/*
	 * The room in the journal. What was accepted and not written yet needs
	 * at most accepted - charged bytes behind `written`. The consumer
	 * moves `written` first, the producer reads it last: so what it finds
	 * may be too much, but never too little.
	 */
	_Atomic uint64_t written;  /* position in the journal */
	_Atomic uint64_t charged;  /* of the producer's `accepted`, so much is written */
	_Atomic uint64_t reserved; /* position up to which the disk has room */
};
_Static_assert(sizeof(struct drainer_shared) <= RING_USER_BYTES, "ring.h");

/* What a group costs in the journal beside its records: a frame, at worst; and
 * one for each of its records if it goes in parts. */
#define DRAINER_CHARGE FRAME_HEADER_SIZE

struct drainer {
	struct ring ring;
	struct drainer_shared *shared;
	struct image *image;
	struct journal *journal;
	pthread_mutex_t lock; /* journal, but for syncing it */
	pthread_t thread;
	int flush_ms;
	bool streaming; /* the consumer is inside of a group in parts */

	/* The producer's. */
	uint64_t accepted;
	_Atomic uint64_t pushed_epoch;
	uint32_t next_area_id;
};

/* The drainer's error, with its detail; 0 if it has none. */
int drainer_failed(const struct drainer *drainer);

#endif
