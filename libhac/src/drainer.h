/* SPDX-License-Identifier: MIT */
/*
 * The drainer: takes transactions from the ring, packs them into frames and
 * writes those to the journal. A thread of the application.
 *
 * Producer side: one caller at a time (the context's lock). drainer_wait() and
 * drainer_durable() may be called from any thread at any time.
 */
#ifndef HAC_DRAINER_H
#define HAC_DRAINER_H

#include "hac.h"
#include "image.h"

struct drainer;

struct drainer_options {
	size_t ring_bytes; /* 0: the default; a power of two is made of it */
	int flush_ms;      /* how long a frame gathers transactions; 0: not */
};

/* One transaction on its way. Everything is copied before the push returns. */
struct transaction_record {
	uint64_t epoch;
	const struct layout *layouts; /* new or changed areas; they and the runs
				       * become valid together or not at all */
	size_t layouts_count;
	const uint32_t *drops; /* ids of areas dropped */
	size_t drops_count;
	const struct hac_run *runs;
	size_t runs_count;
	const unsigned char *bytes;
	size_t bytes_count;
};

/* The drainer owns `image`'s journal from here to drainer_stop(). */
int drainer_start(struct image *image, const struct drainer_options *options, struct drainer **out);

/*
 * Put a transaction into the ring. All of it, or on failure nothing:
 *   -EXFULL   no room, and wait is false
 *   -ENOSPC, -EFBIG  the journal cannot be extended by it (space is reserved
 *             on disk before a transaction is accepted, where the file system
 *             can; RLIMIT_FSIZE counts too)
 *   -EIO, ... the drainer has failed for good (its first error)
 * One larger than the ring streams through it in parts; a failure in the
 * middle leaves parts that recovery ignores.
 */
int drainer_push(struct drainer *drainer, const struct transaction_record *transaction, bool wait);

/* The last epoch that is synced. No lock, no system call. */
uint64_t drainer_durable(const struct drainer *drainer);

/* 0 once `epoch` is synced; -ETIMEDOUT after ms (-1: never); or the drainer's
 * error. Makes the drainer sync without delay beyond flush_ms. */
int drainer_wait(struct drainer *drainer, uint64_t epoch, int ms);

/* 0, or the error (negative) that ended it. */
int drainer_error(const struct drainer *drainer);

/* Drain, then write `state` (the state of the last pushed epoch) as the new
 * base and remove the segments it makes superfluous. */
int drainer_compact(struct drainer *drainer, const struct image_state *state);

/* Drain, sync, join the thread, free. Returns its error, if it had one. */
int drainer_stop(struct drainer *drainer);

#endif
