/* SPDX-License-Identifier: MIT */
/*
 * The drainer: takes transactions from the ring, packs them into frames and
 * writes those to the journal. A thread of the application, or with replication
 * the helper process.
 *
 * Producer side: one caller at a time (the context's lock). drainer_wait() and
 * drainer_durable() may be called from any thread at any time.
 */
#ifndef HAC_DRAINER_H
#define HAC_DRAINER_H

#include "hac.h"
#include "image.h"

#include <stdbool.h>

struct control_message;
struct drainer;
struct helper;
struct helper_options;

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
 * The same with a helper, in two steps: first a ring, and a helper that has said
 * what it is (`ready`); then, as it leads, the image as it was read, and with
 * `lead` the last epoch ever given out and the next id of an area.
 */
int drainer_connect(const struct drainer_options *options, const struct helper_options *helper,
		    struct control_message *ready, struct drainer **out);
void drainer_take_image(struct drainer *drainer, struct image *image,
			const struct control_message *lead);
struct helper *drainer_helper(const struct drainer *drainer);

/* How far the journal may be read, and how often another image was put in this
 * one's place. False: not to be told now. */
bool drainer_place(const struct drainer *drainer, uint64_t *segment, uint64_t *offset,
		   uint32_t *resets);

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

/* A transaction is coming; it may well be as large as the last one. */
void drainer_expect(const struct drainer *drainer);

/* The last epoch that is synced. No lock, no system call. */
uint64_t drainer_durable(const struct drainer *drainer);

/* Is it, and have so many backups acknowledged it? */
bool drainer_reached(const struct drainer *drainer, uint64_t epoch, uint32_t backups);

/* 0 once `epoch` is synced; -ETIMEDOUT after ms (-1: never); or the drainer's
 * error. Makes the drainer sync without delay beyond flush_ms. */
int drainer_wait(struct drainer *drainer, uint64_t epoch, int ms);

/* The same for so many backups as well. -ECANCELED after drainer_let_go(), unless
 * it is only the journal that is waited for. */
int drainer_wait_backups(struct drainer *drainer, uint64_t epoch, uint32_t backups, int ms);
void drainer_let_go(struct drainer *drainer);

/* 0, or the error (negative) that ended it. */
int drainer_error(const struct drainer *drainer);
/* The same, as the detail of a call that fails of it. */
int drainer_failed(const struct drainer *drainer);

/* Drain, then write `state` (the state of the last pushed epoch) as the new
 * base and remove the segments it makes superfluous. */
int drainer_compact(struct drainer *drainer, const struct image_state *state);

/* Drain, sync, join the thread, free. Returns its error, if it had one. */
int drainer_stop(struct drainer *drainer);

#endif
