// SPDX-License-Identifier: MIT
#include "keeper.h"

#include "area.h"
#include "error.h"
#include "image_io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* -------------------------------------------------------------- calls -- */

int keeper_enter(hac_keeper *keeper)
{
	if (!keeper)
		return hac_fail(EINVAL, "the keeper is NULL");
	if (keeper->process != process_current())
		return hac_fail(ECHILD, "the keeper belongs to the parent of this process");
	pthread_mutex_lock(&keeper->work);
	return 0;
}

void keeper_leave(hac_keeper *keeper)
{
	pthread_mutex_unlock(&keeper->work);
}

void keeper_set_state(hac_keeper *keeper, enum keeper_state state)
{
	pthread_mutex_lock(&keeper->lock);
	keeper->state = state;
	pthread_mutex_unlock(&keeper->lock);
}

int keeper_settle(hac_keeper *keeper, const char *what)
{
	if (keeper->state == KEEPER_LEADS && atomic_load(&keeper->drainer.shared->error))
		keeper_stop_leading(keeper);
	switch (keeper->state) {
	case KEEPER_HOLDS:
		return 0;
	case KEEPER_ENDED:
	case KEEPER_STALE:
		return keeper_survey(keeper);
	case KEEPER_BROKEN:
		return hac_fail(EIO,
				"image %s: an earlier error left it in a state that is not known: "
				"open it again",
				keeper->path);
	default:
		return hac_fail(EPROTO, "the keeper of image %s leads: it cannot %s", keeper->path,
				what);
	}
}

/* -------------------------------------------------------------- place -- */

void keeper_publish(hac_keeper *keeper)
{
	const struct recovery *recovery = &keeper->recovery;
	const struct generation *newest = &recovery->generations[recovery->generations_count - 1];
	const struct journal *journal = &keeper->store.journal;
	struct drainer_shared *shared = keeper->drainer.shared;
	struct hac_place *now = &keeper->now;

	pthread_mutex_lock(&keeper->lock);
	memcpy(now->uuid, recovery->uuid_text, sizeof(now->uuid));
	now->next_area_id = recovery->next_area_id;
	now->generation = newest->number;
	now->parent = newest->parent;
	now->branch_epoch = newest->branch_epoch;
	now->epoch = now->durable = newest->tip;
	now->last_epoch = recovery->last_epoch;
	now->sequence = recovery->next_sequence;
	now->segment = keeper->appends ? journal->segment :
					 recovery->segments[recovery->end_segment];
	now->offset = keeper->appends ? journal->offset : recovery->end_offset;
	now->synced_segment = now->segment;
	now->synced_offset = now->offset;
	pthread_mutex_unlock(&keeper->lock);
	if (!shared)
		return;
	lead_publish_place(shared, now->segment, now->offset);
	atomic_store(&shared->durable, now->durable);
	drainer_wake_waiters(shared);
}

/* With `lock`. */
static void place_of_leader(hac_keeper *keeper, struct hac_place *place)
{
	const struct drainer_lead *lead = &keeper->lead;
	const struct journal *journal = &keeper->store.journal;

	pthread_mutex_lock(&keeper->drainer.lock);
	place->generation = journal->generation;
	place->parent = lead->parent;
	place->branch_epoch = lead->branch_epoch;
	place->epoch = place->last_epoch = lead->epoch;
	if (place->last_epoch < keeper->now.last_epoch)
		place->last_epoch = keeper->now.last_epoch;
	place->next_area_id = lead->next_area_id;
	place->sequence = journal->sequence;
	place->segment = journal->segment;
	place->offset = journal->offset;
	place->durable = lead->synced_epoch;
	place->synced_segment = lead->synced_segment;
	place->synced_offset = lead->synced_offset;
	pthread_mutex_unlock(&keeper->drainer.lock);
	place->pushed_bytes = atomic_load(&keeper->drainer.ring.shared->head) -
			      atomic_load(&keeper->drainer.ring.shared->tail);
}

int hac_keeper_place(hac_keeper *keeper, struct hac_place *place)
{
	if (!keeper)
		return hac_fail(EINVAL, "the keeper is NULL");
	if (keeper->process != process_current())
		return hac_fail(ECHILD, "the keeper belongs to the parent of this process");
	if (!place || place->size != sizeof(*place))
		return hac_fail(EINVAL, "struct hac_place: size is %zu, must be %zu",
				place ? place->size : 0, sizeof(*place));
	pthread_mutex_lock(&keeper->lock);
	*place = keeper->now;
	if (keeper->state == KEEPER_LEADS || keeper->state == KEEPER_RESUMES ||
	    keeper->state == KEEPER_ENDED)
		place_of_leader(keeper, place);
	pthread_mutex_unlock(&keeper->lock);
	return 0;
}

/* ------------------------------------------------------------- survey -- */

static void note_base(hac_keeper *keeper)
{
	struct hac_place *now = &keeper->now;

	now->base_epoch = keeper->recovery.base_epoch;
	now->first_segment = keeper->recovery.base.first_segment;
	now->first_sequence = keeper->recovery.base.first_sequence;
	keeper->new_base.first_segment = 0;
}

static void forget(hac_keeper *keeper)
{
	journal_close(&keeper->store.journal);
	frame_writer_free(keeper->store.journal.writer);
	keeper->store.journal.writer = NULL;
	keeper->appends = keeper->areas_known = false;
	keeper->compact_at = 0;
	keeper_areas_free(&keeper->areas);
	recovery_free(&keeper->recovery);
}

int keeper_survey(hac_keeper *keeper)
{
	int error;

	keeper_set_state(keeper, KEEPER_BROKEN);
	pthread_mutex_lock(&keeper->lock);
	keeper_await_compaction(keeper);
	pthread_mutex_unlock(&keeper->lock);
	forget(keeper);
	error = image_survey_for_writing(&keeper->recovery, &keeper->store, keeper->path,
					 &keeper->survey);
	if (error)
		return error;
	pthread_mutex_lock(&keeper->lock);
	note_base(keeper);
	keeper->now.dropped_bytes += keeper->recovery.dropped_bytes;
	if (keeper->recovery.dropped_epoch)
		keeper->now.dropped_epoch = keeper->recovery.dropped_epoch;
	pthread_mutex_unlock(&keeper->lock);
	keeper_publish(keeper);
	keeper_set_state(keeper, KEEPER_HOLDS);
	return 0;
}

static int open_resuming(hac_keeper *keeper)
{
	int error = image_heads_for_writing(&keeper->recovery, &keeper->store, keeper->path);

	if (error)
		return error;
	memcpy(keeper->now.uuid, keeper->recovery.uuid_text, sizeof(keeper->now.uuid));
	keeper->now.last_epoch = keeper->recovery.last_epoch;
	note_base(keeper);
	error = keeper_resume(keeper);
	if (!error)
		keeper->state = KEEPER_RESUMES;
	return error;
}

/* ------------------------------------------------------ open and close -- */

static int check_options(const char *path, const struct hac_keeper_options *options)
{
	uint32_t unknown;

	if (!path || !*path)
		return hac_fail(EINVAL, "the path of the image is %s", path ? "empty" : "NULL");
	if (!options || options->size != sizeof(*options))
		return hac_fail(EINVAL, "struct hac_keeper_options: size is %zu, must be %zu",
				options ? options->size : 0, sizeof(*options));
	unknown = options->flags & ~(HAC_KEEPER_CREATE | HAC_KEEPER_RESUME);
	if (unknown)
		return hac_fail(EINVAL, "unknown keeper flags 0x%x", unknown);
	if (options->flush_ms < 0)
		return hac_fail(EINVAL, "flush_ms is %d, must be 0 or more", options->flush_ms);
	if (options->ring < -1)
		return hac_fail(EINVAL, "ring is %d, must be a descriptor or -1", options->ring);
	if (options->flags & HAC_KEEPER_RESUME &&
	    (options->ring < 0 || options->flags & HAC_KEEPER_CREATE))
		return hac_fail(EINVAL, "HAC_KEEPER_RESUME needs the ring that a predecessor "
					"drained, and an image that is there");
	return 0;
}

static int open_image(hac_keeper *keeper, const struct hac_keeper_options *options)
{
	bool create = options->flags & HAC_KEEPER_CREATE;
	int error = frame_coding_load(options->codec, options->key_file, &keeper->store.coding);

	if (!error && options->ring >= 0) {
		error = ring_attach(options->ring, &keeper->drainer.ring);
		if (!error)
			keeper->drainer.shared = (void *)keeper->drainer.ring.shared->user;
	}
	/* Not to make a directory where none is to be created. */
	if (!error)
		error = image_open_store(keeper->path, create, &keeper->store);
	if (error)
		return error;
	image_lock_mark(keeper->store.lock, LOCK_KEEPER);
	return options->flags & HAC_KEEPER_RESUME ? open_resuming(keeper) : keeper_survey(keeper);
}

static void free_keeper(hac_keeper *keeper)
{
	frame_reader_free(&keeper->reader);
	keeper_areas_free(&keeper->areas);
	recovery_free(&keeper->recovery);
	image_close_store(&keeper->store);
	if (keeper->drainer.shared)
		ring_destroy(&keeper->drainer.ring);
	pthread_mutex_destroy(&keeper->work);
	pthread_mutex_destroy(&keeper->lock);
	pthread_cond_destroy(&keeper->compacted);
	pthread_mutex_destroy(&keeper->drainer.lock);
	pthread_cond_destroy(&keeper->lead.turned);
	free(keeper->path);
	free(keeper);
}

int hac_keeper_open(const char *path, const struct hac_keeper_options *options, hac_keeper **out)
{
	hac_keeper *keeper;
	int error = check_options(path, options);

	if (error)
		return error;
	keeper = calloc(1, sizeof(*keeper));
	if (keeper)
		keeper->path = strdup(path);
	if (!keeper || !keeper->path) {
		free(keeper);
		return hac_fail(ENOMEM, "no memory to open image %s", path);
	}
	keeper->process = process_current();
	pthread_mutex_init(&keeper->work, NULL);
	pthread_mutex_init(&keeper->lock, NULL);
	pthread_cond_init(&keeper->compacted, NULL);
	pthread_mutex_init(&keeper->drainer.lock, NULL);
	pthread_cond_init(&keeper->lead.turned, NULL);
	keeper->now.size = sizeof(keeper->now);
	keeper->store.directory = keeper->store.journal.fd = -1;
	keeper->reader.key = &keeper->store.coding.key;
	keeper->drainer.journal = &keeper->store.journal;
	keeper->drainer.lead = &keeper->lead;
	keeper->drainer.flush_ms = options->flush_ms;
	error = open_image(keeper, options);
	if (error)
		free_keeper(keeper);
	else
		*out = keeper;
	return error;
}

void hac_keeper_close(hac_keeper *keeper)
{
	if (!keeper || keeper_enter(keeper))
		return;
	if (keeper->state == KEEPER_LEADS)
		keeper_stop_leading(keeper);
	pthread_mutex_lock(&keeper->lock);
	keeper_await_compaction(keeper);
	pthread_mutex_unlock(&keeper->lock);
	if (keeper->compactor_started)
		pthread_join(keeper->compactor, NULL);
	keeper_leave(keeper);
	free_keeper(keeper);
}

/* ----------------------------------------------------- for the context -- */

static int check_ring(const hac_keeper *keeper)
{
	if (!keeper)
		return hac_fail(EINVAL, "the keeper is NULL");
	if (keeper->process != process_current())
		return hac_fail(ECHILD, "the keeper belongs to the parent of this process");
	if (!keeper->drainer.shared)
		return hac_fail(EPROTO, "the keeper of image %s has no context's ring",
				keeper->path);
	return 0;
}

int hac_keeper_acknowledge(hac_keeper *keeper, uint32_t index, uint64_t epoch)
{
	struct drainer_shared *shared;
	uint64_t before;
	int error = check_ring(keeper);

	if (error)
		return error;
	if (index >= HAC_BACKUPS_MAX)
		return hac_fail(EINVAL, "backup %u: at most %u are possible", index,
				HAC_BACKUPS_MAX);
	shared = keeper->drainer.shared;
	before = atomic_load(&shared->acknowledged[index]);
	while (before < epoch)
		if (atomic_compare_exchange_weak(&shared->acknowledged[index], &before, epoch))
			break;
	if (before < epoch)
		drainer_wake_waiters(shared);
	return 0;
}

int hac_keeper_pace(hac_keeper *keeper, uint32_t us)
{
	int error = check_ring(keeper);

	if (error)
		return error;
	if (us > HAC_PACE_MAX_US)
		return hac_fail(EINVAL, "a pace of %u us: at most %u are possible", us,
				HAC_PACE_MAX_US);
	atomic_store(&keeper->lead.pace_us, us);
	if (!us)
		ring_kick_consumer(&keeper->drainer.ring);
	return 0;
}

int hac_keeper_fence(hac_keeper *keeper, uint64_t generation, const char *why)
{
	uint64_t own;
	int error = check_ring(keeper);

	if (error)
		return error;
	pthread_mutex_lock(&keeper->lock);
	own = keeper->state == KEEPER_LEADS ? keeper->store.journal.generation :
					      keeper->now.generation;
	pthread_mutex_unlock(&keeper->lock);
	if (generation)
		hac_fail(ESTALE, "fenced: generation %llu has begun, this one is %llu%s%s",
			 (unsigned long long)generation, (unsigned long long)own, why ? ": " : "",
			 why ? why : "");
	else
		hac_fail(ESTALE, "fenced: generation %llu may not go on: %s",
			 (unsigned long long)own, why ? why : "it has lost its lease");
	drainer_give_up(&keeper->drainer, -ESTALE);
	atomic_store(&keeper->lead.quit, true);
	ring_kick_consumer(&keeper->drainer.ring);
	return 0;
}
