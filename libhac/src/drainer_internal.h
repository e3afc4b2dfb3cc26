/* SPDX-License-Identifier: MIT */
/* The two halves of the drainer: the producer's (drainer_push.c), in whoever
 * ends a transaction, and the consumer's (drainer.c), a thread of the same
 * process or, with replication, of the helper's. */
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

	/* The rest is used only with a helper. */

	/* The producer wants room up to `reserve_to` and kicks the consumer, who
	 * raises `reserved`, or says of which position it cannot and why. Both
	 * count `durable_changes` up. */
	_Atomic uint64_t reserve_to;
	_Atomic uint64_t reserve_refused;
	_Atomic int32_t reserve_error; /* negative; written before the position */
	char reserve_detail[256];

	/*
	 * The frame that the consumer is writing, so that a new helper finds
	 * out whether its predecessor's death left it whole: then it counts as
	 * taken, else it is cut off and made again. flights[flight & 1] is the
	 * one that counts: the other one is filled in, and then `flight`, from 0
	 * on, counts up. So death at any point leaves a whole one.
	 */
	_Atomic uint32_t flight;
	struct drainer_flight {
		uint64_t generation;
		uint64_t parent; /* of it */
		uint64_t branch_epoch;
		uint64_t segment;
		uint64_t offset;
		uint64_t start;        /* position at which the segment begins */
		uint64_t sequence;     /* of the frame */
		uint64_t tail;         /* of the ring: the frame's first byte ... */
		uint64_t size;         /* ... and how many of the ring it takes; 0: no
				       * frame is under way, this is where it will be */
		uint64_t charge;       /* `charged` once it is written */
		uint64_t whole_epoch;  /* `durable` once it is synced, or 0 */
		uint64_t epoch;        /* the last whole one before it */
		uint64_t next_area_id; /* after it */
		uint32_t goes_on;      /* with a group in parts that is begun */
		uint32_t streaming;    /* after it, too */
	} flights[2];

	/* How far the journal may be read: everything before is synced. `place` is
	 * odd while it changes. `resets` counts how often another image was put in
	 * this one's place (a standby that received a new base). */
	_Atomic uint32_t place;
	_Atomic uint64_t place_segment;
	_Atomic uint64_t place_offset;
	_Atomic uint32_t resets;

	/* The last epoch that each backup has acknowledged. */
	_Atomic uint64_t acknowledged[HAC_BACKUPS_MAX];
};
_Static_assert(sizeof(struct drainer_shared) <= RING_USER_BYTES, "ring.h");

/* What a group costs in the journal beside its records: a frame, at worst; and
 * one for each of its records if it goes in parts. */
#define DRAINER_CHARGE FRAME_HEADER_CIPHER_SIZE

struct drainer {
	struct ring ring;
	struct drainer_shared *shared;
	struct image *image;
	struct journal *journal;
	pthread_mutex_t lock; /* journal, but for syncing it */
	pthread_t thread;
	int flush_ms;
	bool streaming;            /* the consumer is inside of a group in parts */
	struct drainer_lead *lead; /* NULL: producer and consumer are one process */

	/* The producer's. */
	uint64_t accepted;
	size_t last_size; /* of what went into the ring at once */
	_Atomic uint64_t pushed_epoch;
	uint32_t next_area_id;
	_Atomic bool closing;  /* waits for backups end */
	struct helper *helper; /* who drains; NULL: the thread. With one there is
				* no journal here, nor image until it is read */
};

/* What goes into one frame. */
struct batch {
	size_t size;
	uint64_t first_epoch;
	uint64_t last_epoch;
	uint64_t whole_epoch;  /* the last one that is complete with it, or 0 */
	uint64_t charge;       /* what the producer has accepted for it */
	uint32_t next_area_id; /* the highest one in it, and 1; or 0 */
	bool goes_on;          /* with a group that an earlier frame began */
};

/* The consumer: begin to drain, in a thread; end that, at once (`shared->error`
 * is set, or lead->quit) or as soon as the ring is empty (shared->stop, or
 * lead->drain). */
int drainer_start_thread(struct drainer *drainer);

/* End for good with this error and this thread's detail, unless it has ended
 * with another one already; wake everybody. */
void drainer_give_up(struct drainer *drainer, int error);

/* Let whoever waits for anything in the shared memory look again. */
void drainer_wake_waiters(struct drainer_shared *shared);

/* Say that the drainer has failed, where the consumer cannot do it itself. */
void drainer_fail(struct drainer_shared *shared, struct ring *ring, int error, const char *detail);

/* ---- with a helper (drainer_remote.c) ---- */

/* Room in the journal up to `position`, which the consumer sets aside. */
int drainer_remote_reserve(struct drainer *drainer, uint64_t position);
int drainer_remote_compact(struct drainer *drainer);
int drainer_remote_stop(struct drainer *drainer);

#endif
