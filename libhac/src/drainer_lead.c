// SPDX-License-Identifier: MIT
#include "drainer_lead.h"

#include "error.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* So much room is set aside before anybody asks for it. */
static uint64_t ahead_bytes(const struct drainer *drainer)
{
	return 2 * (uint64_t)drainer->ring.size + ((uint64_t)1 << 20);
}

static void count_up(const struct drainer_lead *lead)
{
	uint64_t one = 1;

	/* A counter that is full has been seen by nobody for long; it is not zero. */
	if (lead->event >= 0)
		(void)!write(lead->event, &one, sizeof(one));
}

/* ------------------------------------------------------ shared memory -- */

void lead_publish_place(struct drainer_shared *shared, uint64_t segment, uint64_t offset)
{
	/* Odd already, if somebody died here. */
	uint32_t count = atomic_load(&shared->place) | 1;

	atomic_store(&shared->place, count);
	atomic_store(&shared->place_segment, segment);
	atomic_store(&shared->place_offset, offset);
	atomic_store(&shared->place, count + 1);
}

void lead_note_flight(struct drainer *drainer, const struct batch *batch)
{
	const struct journal *journal = drainer->journal;
	const struct drainer_lead *lead = drainer->lead;
	struct drainer_shared *shared = drainer->shared;
	uint32_t next = atomic_load(&shared->flight) + 1;
	uint32_t id = batch->next_area_id;

	shared->flights[next & 1] = (struct drainer_flight){
		.generation = journal->generation,
		.parent = lead->parent,
		.branch_epoch = lead->branch_epoch,
		.segment = journal->segment,
		.offset = journal->offset,
		.start = journal->start,
		.sequence = journal->sequence,
		.tail = atomic_load(&drainer->ring.shared->tail),
		.size = batch->size,
		.charge = atomic_load(&shared->charged) + batch->charge,
		.whole_epoch = batch->whole_epoch,
		.epoch = lead->epoch,
		.next_area_id = id > lead->next_area_id ? id : lead->next_area_id,
		.goes_on = batch->goes_on,
		.streaming = drainer->streaming,
	};
	atomic_store(&shared->flight, next);
}

void lead_note_idle(struct drainer *drainer)
{
	const struct batch none = { .goes_on = drainer->streaming };

	lead_note_flight(drainer, &none);
}

void lead_note_written(struct drainer *drainer, const struct batch *batch)
{
	struct drainer_lead *lead = drainer->lead;

	if (batch->whole_epoch)
		lead->epoch = batch->whole_epoch;
	if (batch->next_area_id > lead->next_area_id)
		lead->next_area_id = batch->next_area_id;
	lead_reserve_ahead(drainer);
	count_up(lead);
}

void lead_note_synced(struct drainer *drainer)
{
	struct drainer_lead *lead = drainer->lead;
	const struct journal *journal = drainer->journal;

	pthread_mutex_lock(&drainer->lock);
	lead->synced_segment = journal->segment;
	lead->synced_offset = journal->offset;
	lead->synced_epoch = lead->epoch;
	pthread_mutex_unlock(&drainer->lock);
	lead_publish_place(drainer->shared, journal->segment, journal->offset);
	count_up(lead);
}

/* --------------------------------------------------------------- room -- */

void lead_reserve_ahead(struct drainer *drainer)
{
	struct journal *journal = drainer->journal;
	uint64_t position = journal->start + journal->offset;
	uint64_t wanted = position + ahead_bytes(drainer);

	if (journal_reserved(journal) >= wanted || position < drainer->lead->ahead_at)
		return;
	/* Whoever needs it now asks for it and is told. */
	if (journal_reserve(journal, wanted))
		drainer->lead->ahead_at = position + ((uint64_t)1 << 20);
}

static void serve_reserve(struct drainer *drainer)
{
	struct drainer_shared *shared = drainer->shared;
	uint64_t to = atomic_load(&shared->reserve_to);
	int error;

	if (to <= atomic_load(&shared->reserved) || to == atomic_load(&shared->reserve_refused))
		return;
	pthread_mutex_lock(&drainer->lock);
	error = journal_reserve(drainer->journal, to);
	atomic_store(&shared->reserved, journal_reserved(drainer->journal));
	pthread_mutex_unlock(&drainer->lock);
	if (error) {
		memccpy(shared->reserve_detail, hac_error_detail(), '\0',
			sizeof(shared->reserve_detail) - 1);
		atomic_store(&shared->reserve_error, error);
		atomic_store(&shared->reserve_refused, to);
	}
	drainer_wake_waiters(shared);
}

/* ----------------------------------------------------------- segments -- */

static int begin_segment(struct drainer *drainer)
{
	struct drainer_lead *lead = drainer->lead;
	struct journal *journal = drainer->journal;
	int error = 0;

	if (journal->offset) {
		error = journal_open_segment(journal, journal->segment + 1);
		atomic_store(&drainer->shared->reserved, journal_reserved(journal));
	}
	if (error)
		return error;
	/* A successor must not look for anything in the segments that the new
	 * base is going to remove. */
	lead_note_idle(drainer);
	lead->boundary = (struct lead_turn){ journal->segment, journal->sequence, lead->epoch };
	lead->synced_segment = journal->segment;
	lead->synced_offset = journal->offset;
	lead_publish_place(drainer->shared, journal->segment, journal->offset);
	return 0;
}

static void serve_turn(struct drainer *drainer)
{
	struct drainer_lead *lead = drainer->lead;

	pthread_mutex_lock(&drainer->lock);
	if (lead->turn && !drainer->streaming) {
		lead->turn_error = begin_segment(drainer);
		if (lead->turn_error)
			memccpy(lead->turn_detail, hac_error_detail(), '\0',
				sizeof(lead->turn_detail) - 1);
		lead->turn = false;
		pthread_cond_broadcast(&lead->turned);
	}
	pthread_mutex_unlock(&drainer->lock);
}

int lead_turn_segment(struct drainer *drainer, struct lead_turn *out)
{
	struct drainer_lead *lead = drainer->lead;
	int error = 0;

	pthread_mutex_lock(&drainer->lock);
	lead->turn = true;
	ring_kick_consumer(&drainer->ring);
	while (lead->turn && !lead->ended)
		pthread_cond_wait(&lead->turned, &drainer->lock);
	if (lead->turn) {
		lead->turn = false;
		error = hac_fail(ECANCELED, "the keeper leads no more");
	} else if (lead->turn_error) {
		error = hac_fail(-lead->turn_error, "%s", lead->turn_detail);
	} else {
		*out = lead->boundary;
	}
	pthread_mutex_unlock(&drainer->lock);
	return error;
}

/* --------------------------------------------------------------- loop -- */

bool lead_serve(struct drainer *drainer)
{
	if (atomic_load(&drainer->lead->quit) || atomic_load(&drainer->shared->error))
		return true;
	serve_reserve(drainer);
	serve_turn(drainer);
	return false;
}

void lead_note_end(struct drainer *drainer)
{
	pthread_mutex_lock(&drainer->lock);
	drainer->lead->ended = true;
	pthread_cond_broadcast(&drainer->lead->turned);
	pthread_mutex_unlock(&drainer->lock);
	count_up(drainer->lead);
}
