// SPDX-License-Identifier: MIT
#include "drainer_lead.h"

#include "error.h"
#include "image_internal.h"
#include "image_io.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOOK_NS 1000000
#define LOOKS 64u

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* ----------------------------------------------------------- consumer -- */

static void note_layout(struct batch *batch, const unsigned char *at, size_t size)
{
	struct record record;
	size_t position = 0;

	if (record_decode(at, size, &position, &record) == 1 &&
	    record.layout.id >= batch->next_area_id)
		batch->next_area_id = record.layout.id + 1;
}

/* Adds the record at the end of the batch; true if it ends a group. */
static bool add_record(struct batch *batch, const unsigned char *first)
{
	struct record record;
	size_t size = record_peek(first + batch->size, &record);

	batch->size += size;
	batch->charge += size;
	if (!batch->first_epoch)
		batch->first_epoch = record.epoch;
	batch->last_epoch = record.epoch;
	if (record.kind == RECORD_LAYOUT)
		note_layout(batch, first + batch->size - size, size);
	if (record.kind != RECORD_TRANSACTION || record.flags & RECORD_PARTIAL)
		return false;
	batch->whole_epoch = record.epoch;
	return true;
}

static bool next_is_part(const struct drainer *drainer, const struct batch *batch)
{
	struct record record;

	record_peek(ring_first(&drainer->ring) + batch->size, &record);
	return drainer->streaming || record.flags & RECORD_PARTIAL;
}

/* The limit on file sizes may have been lowered since the producer asked: what
 * does not fit in one frame may still fit in several, in segments of their own.
 * Then the last addition is taken back. */
static bool is_too_large(struct batch *batch, const struct batch *before, uint64_t frame_max)
{
	if (batch->size <= frame_max || !before->size)
		return false;
	*batch = *before;
	return true;
}

/*
 * Everything that is there, but no parts of a transaction together with whole
 * ones: recovery cuts an unfinished transaction at the frame where it begins.
 */
static void gather(struct drainer *drainer, size_t filled, struct batch *batch)
{
	const unsigned char *first = ring_first(&drainer->ring);
	uint64_t frame_max = io_size_limit() - FRAME_HEADER_CIPHER_SIZE;

	memset(batch, 0, sizeof(*batch));
	batch->goes_on = drainer->streaming;
	if (next_is_part(drainer, batch)) {
		drainer->streaming = true;
		while (drainer->streaming && batch->size < filled) {
			struct batch before = *batch;
			bool ends = add_record(batch, first);

			batch->charge += DRAINER_CHARGE;
			if (is_too_large(batch, &before, frame_max))
				return;
			drainer->streaming = !ends;
		}
		return;
	}
	while (batch->size < filled && !next_is_part(drainer, batch)) {
		struct batch before = *batch;

		while (!add_record(batch, first))
			;
		batch->charge += DRAINER_CHARGE;
		if (is_too_large(batch, &before, frame_max))
			return;
	}
}

void drainer_wake_waiters(struct drainer_shared *shared)
{
	atomic_fetch_add(&shared->durable_changes, 1);
	futex_wake(&shared->durable_changes, INT_MAX);
}

void drainer_give_up(struct drainer *drainer, int error)
{
	struct drainer_shared *shared = drainer->shared;

	pthread_mutex_lock(&drainer->lock);
	if (!atomic_load(&shared->error)) {
		memccpy(shared->detail, hac_error_detail(), '\0', sizeof(shared->detail) - 1);
		atomic_store(&shared->error, error);
	}
	pthread_mutex_unlock(&drainer->lock);
	drainer_wake_waiters(shared);
	ring_kick_producer(&drainer->ring);
}

/* Write it as a frame: in this segment, or in the next one. */
static int place_batch(struct drainer *drainer, const struct batch *batch,
		       struct frame_header *header)
{
	journal_rotate(drainer->journal, FRAME_HEADER_CIPHER_SIZE + batch->size, !batch->goes_on);
	if (drainer->lead)
		lead_note_flight(drainer, batch);
	return journal_write(drainer->journal, header, ring_first(&drainer->ring), batch->size);
}

static int write_batch(struct drainer *drainer, const struct batch *batch)
{
	struct frame_header header = {
		.first_epoch = batch->first_epoch,
		.last_epoch = batch->last_epoch,
	};
	struct drainer_shared *shared = drainer->shared;
	struct journal *journal = drainer->journal;
	int error;

	pthread_mutex_lock(&drainer->lock);
	error = place_batch(drainer, batch, &header);
	/* The limit on file sizes may have been lowered between look and write. */
	if (error == -EFBIG)
		error = place_batch(drainer, batch, &header);
	if (!error) {
		atomic_store(&shared->written, journal->start + journal->offset);
		atomic_fetch_add(&shared->charged, batch->charge);
		if (drainer->lead)
			lead_note_written(drainer, batch);
		atomic_store(&shared->reserved, journal_reserved(journal));
	}
	pthread_mutex_unlock(&drainer->lock);
	if (error)
		return error;
	/* The kernel has it: the producer may go on while it is synced. */
	ring_release(&drainer->ring, batch->size);
	error = journal_sync(journal);
	if (!error && drainer->lead)
		lead_note_synced(drainer);
	return error;
}

static void publish_durable(struct drainer *drainer, uint64_t epoch)
{
	struct drainer_shared *shared = drainer->shared;

	if (!epoch)
		return;
	atomic_store(&shared->durable, epoch);
	atomic_fetch_add(&shared->durable_changes, 1);
	if (atomic_load(&shared->waiters))
		futex_wake(&shared->durable_changes, INT_MAX);
}

static bool is_stopping(const struct drainer *drainer)
{
	return atomic_load(&drainer->shared->stop) ||
	       (drainer->lead && atomic_load(&drainer->lead->drain));
}

static bool gathers(const struct drainer *drainer)
{
	return drainer->flush_ms > 0 || (drainer->lead && atomic_load(&drainer->lead->pace_us));
}

/* Until when to let more come, if something came at `now` and the last frame was
 * begun at `before`. */
static int64_t flush_at(const struct drainer *drainer, int64_t now, int64_t before)
{
	int64_t flush = now + drainer->flush_ms * INT64_C(1000000), next = 0;

	if (drainer->lead)
		next = before + atomic_load(&drainer->lead->pace_us) * INT64_C(1000);
	return flush > next ? flush : next;
}

/* Let more come, as long as nobody is in a hurry. */
static void wait_for_more(struct drainer *drainer, int64_t before)
{
	struct drainer_shared *shared = drainer->shared;
	int64_t begun = now_ns(), left;
	struct batch none = { 0 };

	while (!atomic_load(&shared->urgent) && !is_stopping(drainer) &&
	       !next_is_part(drainer, &none) &&
	       ring_filled(&drainer->ring) < drainer->ring.size / 2) {
		if (drainer->lead && lead_serve(drainer))
			return;
		/* The pace may change meanwhile. */
		left = flush_at(drainer, begun, before) - now_ns();
		if (left <= 0)
			return;
		ring_wait_filled(&drainer->ring, drainer->ring.size / 2, left);
	}
}

/* Waking a sleeper costs the producer a system call. So for a while after the last
 * that came the consumer looks by itself, and is woken only where much has come, or
 * somebody waits. */
static void wait_for_some(struct drainer *drainer, unsigned int *looks)
{
	if (*looks < LOOKS) {
		++*looks;
		ring_wait_filled(&drainer->ring, drainer->ring.size / 2, LOOK_NS);
	} else {
		ring_wait_filled(&drainer->ring, 1, -1);
	}
}

static void drain_ring(struct drainer *drainer)
{
	unsigned int looks = LOOKS;
	int64_t begun = 0; /* when the last frame was */
	struct batch batch;
	size_t filled;
	int error;

	for (;;) {
		if (drainer->lead && lead_serve(drainer))
			return;
		filled = ring_filled(&drainer->ring);
		if (!filled) {
			if (is_stopping(drainer) && !ring_filled(&drainer->ring))
				return;
			wait_for_some(drainer, &looks);
			continue;
		}
		looks = 0;
		if (gathers(drainer)) {
			wait_for_more(drainer, begun);
			if (drainer->lead && lead_serve(drainer))
				return;
			filled = ring_filled(&drainer->ring);
		}
		begun = now_ns();
		gather(drainer, filled, &batch);
		error = write_batch(drainer, &batch);
		if (error) {
			drainer_give_up(drainer, error);
			return;
		}
		publish_durable(drainer, batch.whole_epoch);
	}
}

static void *drain(void *argument)
{
	struct drainer *drainer = argument;

	pthread_setname_np(pthread_self(), "hac-drainer");
	drain_ring(drainer);
	if (drainer->lead)
		lead_note_end(drainer);
	return NULL;
}

/* ----------------------------------------------------------- emptying -- */

/* Everything pushed so far, without waiting for flush_ms. */
static int drain_all(struct drainer *drainer)
{
	struct drainer_shared *shared = drainer->shared;
	uint64_t last = atomic_load(&drainer->pushed_epoch);
	int error;

	/* Nothing yet; `last` may be of another branch. */
	if (last == drainer->image->last_epoch)
		return drainer_failed(drainer);
	atomic_store(&shared->urgent, 1);
	ring_kick_consumer(&drainer->ring);
	error = drainer_wait(drainer, last, -1);
	atomic_store(&shared->urgent, 0);
	return error;
}

/* -------------------------------------------------------- compacting -- */

/* The new base counts from a new segment on, so that the old ones can go. */
static int compact(struct drainer *drainer, const struct image_state *state)
{
	struct image *image = drainer->image;
	struct journal *journal = drainer->journal;
	struct record_base base;
	int error = 0;

	if (journal->offset)
		error = journal_open_segment(journal, journal->segment + 1);
	atomic_store(&drainer->shared->reserved, journal_reserved(journal));
	if (error)
		return error;
	image_base_record(image, &base);
	base.last_epoch = atomic_load(&drainer->pushed_epoch);
	base.next_area_id = drainer->next_area_id;
	error = image_write_base(image->store->directory, image->path, image->store->uuid, &base,
				 state, &image->store->coding);
	if (error)
		return error;
	image_remove_segments(image->store->directory, image->store->first_segment,
			      base.first_segment);
	image->store->first_segment = base.first_segment;
	return 0;
}

int drainer_compact(struct drainer *drainer, const struct image_state *state)
{
	int error;

	if (drainer->helper)
		return drainer_remote_compact(drainer);
	error = drain_all(drainer);
	if (error)
		return error;
	pthread_mutex_lock(&drainer->lock);
	error = compact(drainer, state);
	pthread_mutex_unlock(&drainer->lock);
	return error;
}

/* ------------------------------------------------------ start and stop -- */

int drainer_start_thread(struct drainer *drainer)
{
	sigset_t all, before;
	int error;

	/* The application's signals are not for this thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&drainer->thread, NULL, drain, drainer);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error ? hac_fail(error, "no thread for the drainer: %s", strerror(error)) : 0;
}

int drainer_start(struct image *image, const struct drainer_options *options, struct drainer **out)
{
	struct drainer *drainer;
	int error;

	if (image->readonly)
		return hac_fail(EROFS, "image %s is open for reading only", image->path);
	drainer = calloc(1, sizeof(*drainer));
	if (!drainer)
		return hac_fail(ENOMEM, "no memory for the drainer");
	error = ring_create(options ? options->ring_bytes : 0, &drainer->ring);
	if (error) {
		free(drainer);
		return error;
	}
	drainer->image = image;
	drainer->journal = &image->store->journal;
	drainer->flush_ms = options ? options->flush_ms : 0;
	drainer->next_area_id = image->next_area_id;
	drainer->pushed_epoch = image->last_epoch;
	drainer->shared = (void *)drainer->ring.shared->user;
	drainer->shared->durable = image->epoch;
	drainer->shared->written = drainer->journal->start + drainer->journal->offset;
	drainer->shared->reserved = journal_reserved(drainer->journal);
	pthread_mutex_init(&drainer->lock, NULL);
	error = drainer_start_thread(drainer);
	if (error) {
		pthread_mutex_destroy(&drainer->lock);
		ring_destroy(&drainer->ring);
		free(drainer);
		return error;
	}
	*out = drainer;
	return 0;
}

int drainer_stop(struct drainer *drainer)
{
	int error;

	if (drainer->helper)
		return drainer_remote_stop(drainer);
	atomic_store(&drainer->shared->stop, 1);
	ring_kick_consumer(&drainer->ring);
	pthread_join(drainer->thread, NULL);
	error = drainer_failed(drainer);
	if (!error) {
		journal_release(drainer->journal);
		drainer->image->epoch = drainer_durable(drainer);
		drainer->image->last_epoch = atomic_load(&drainer->pushed_epoch);
		drainer->image->next_area_id = drainer->next_area_id;
	}
	pthread_mutex_destroy(&drainer->lock);
	ring_destroy(&drainer->ring);
	free(drainer);
	return error;
}
