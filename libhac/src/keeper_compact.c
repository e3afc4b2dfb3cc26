// SPDX-License-Identifier: MIT
/*
 * A new base while the journal goes on. A segment is begun at the end of a group;
 * what lies before it never changes any more, so it is read without a lock, and
 * the base that is made of it takes its place. A crash before the base is renamed
 * leaves an image with one segment more, and one after it superfluous segments,
 * which the next opening removes.
 */
#include "keeper.h"

#include "error.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

void keeper_await_compaction(hac_keeper *keeper)
{
	while (keeper->compacting)
		pthread_cond_wait(&keeper->compacted, &keeper->lock);
}

static void end(hac_keeper *keeper)
{
	pthread_mutex_lock(&keeper->lock);
	keeper->compacting = false;
	pthread_cond_broadcast(&keeper->compacted);
	pthread_mutex_unlock(&keeper->lock);
}

/* The base of everything before keeper->boundary. */
static int write_base(hac_keeper *keeper)
{
	const struct lead_turn boundary = keeper->boundary;
	const struct image_store *store = &keeper->store;
	struct recovery recovery;
	int error;
	uint64_t first = 0;

	/* Nothing has come since the last one. */
	if (boundary.segment == keeper->now.first_segment)
		return 0;
	error = recovery_survey_until(&recovery, store->directory, keeper->path, &store->coding.key,
				      boundary.segment, NULL);
	/* Nothing of it may be missing that is counted upon. */
	if (!error && (recovery.cut || recovery.next_sequence != boundary.sequence))
		error = hac_fail(EBADMSG,
				 "image %s: its journal does not reach to frame %" PRIu64
				 ", where segment %" PRIu64 " begins",
				 keeper->path, boundary.sequence, boundary.segment);
	if (!error)
		error = recovery_apply(&recovery);
	if (!error) {
		first = recovery.segments[0];
		error = image_write_recovered(&recovery, &store->coding, boundary.segment);
	}
	if (!error) {
		pthread_mutex_lock(&keeper->lock);
		keeper->new_base = recovery.base;
		keeper->now.base_epoch = recovery.epoch;
		keeper->now.first_segment = boundary.segment;
		keeper->now.first_sequence = boundary.sequence;
		pthread_mutex_unlock(&keeper->lock);
		image_remove_segments(store->directory, first, boundary.segment);
	}
	recovery_free(&recovery);
	return error;
}

/* With `work`. */
static int set_boundary(hac_keeper *keeper)
{
	const struct recovery *recovery = &keeper->recovery;
	int error = keeper_open_end(keeper);

	if (!error && keeper->survey.group)
		return hac_fail(EAGAIN,
				"image %s: a transaction is only half there: compact it when "
				"the rest has come",
				keeper->path);
	if (!error)
		error = keeper_begin_segment(keeper);
	if (error)
		return error;
	keeper_publish(keeper);
	keeper->boundary = (struct lead_turn){
		keeper->store.journal.segment,
		recovery->next_sequence,
		recovery->last_epoch,
	};
	keeper->boundary_bytes = recovery->journal_bytes;
	return 0;
}

void keeper_take_compaction(hac_keeper *keeper)
{
	struct recovery *recovery = &keeper->recovery;
	uint64_t first;
	size_t gone = 0;

	pthread_mutex_lock(&keeper->lock);
	first = keeper->new_base.first_segment;
	keeper->new_base.first_segment = 0;
	pthread_mutex_unlock(&keeper->lock);
	while (gone < recovery->segments_count && recovery->segments[gone] < first)
		gone++;
	if (!first || !gone)
		return;
	recovery->segments_count -= gone;
	memmove(recovery->segments, recovery->segments + gone,
		recovery->segments_count * sizeof(*recovery->segments));
	recovery->end_segment -= gone;
	keeper->survey.group_segment -= gone;
	recovery->journal_bytes -= keeper->boundary_bytes;
	keeper->compact_at = 0;
}

/* ------------------------------------------------------------- the call -- */

static int check_state(hac_keeper *keeper)
{
	int error = keeper_enter(keeper);

	if (error)
		return error;
	if (keeper->state == KEEPER_ENDED)
		error = hac_fail(EPROTO, "the keeper of image %s leads no more", keeper->path);
	else if (keeper->state != KEEPER_LEADS)
		error = keeper_settle(keeper, "be compacted before that");
	keeper_leave(keeper);
	return error;
}

/* While `compacting` nothing may be surveyed: then it would wait for itself. */
static int find_boundary(hac_keeper *keeper, bool *leads)
{
	int error = keeper_enter(keeper);

	if (error)
		return error;
	*leads = keeper->state == KEEPER_LEADS;
	if (!*leads && keeper->state != KEEPER_HOLDS)
		error = hac_fail(EPROTO, "the keeper of image %s has just been stopped",
				 keeper->path);
	if (!error && !*leads) {
		keeper_take_compaction(keeper);
		error = set_boundary(keeper);
	}
	keeper_leave(keeper);
	return error;
}

int hac_keeper_compact(hac_keeper *keeper)
{
	bool leads;
	int error = check_state(keeper);

	if (error)
		return error;
	pthread_mutex_lock(&keeper->lock);
	keeper_await_compaction(keeper);
	keeper->compacting = true;
	pthread_mutex_unlock(&keeper->lock);
	error = find_boundary(keeper, &leads);
	/* Without `work`: the group that is under way may never end. */
	if (!error && leads)
		error = lead_turn_segment(&keeper->drainer, &keeper->boundary);
	if (!error)
		error = write_base(keeper);
	end(keeper);
	return error;
}

/* ------------------------------------------------------------ by itself -- */

static void *compact(void *argument)
{
	hac_keeper *keeper = argument;

	/* It is tried again when the journal is longer. */
	(void)!write_base(keeper);
	end(keeper);
	return NULL;
}

static int start(hac_keeper *keeper)
{
	int error;

	if (keeper->compactor_started)
		pthread_join(keeper->compactor, NULL);
	keeper->compactor_started = false;
	error = set_boundary(keeper);
	if (!error)
		error = pthread_create(&keeper->compactor, NULL, compact, keeper);
	keeper->compactor_started = !error;
	return error;
}

void keeper_compact_if_long(hac_keeper *keeper)
{
	const struct recovery *recovery = &keeper->recovery;
	bool busy;

	if (keeper->survey.group || recovery->journal_bytes < keeper->compact_at ||
	    !image_is_long(recovery, keeper_areas_bytes(&keeper->areas)))
		return;
	pthread_mutex_lock(&keeper->lock);
	busy = keeper->compacting;
	keeper->compacting = true;
	pthread_mutex_unlock(&keeper->lock);
	if (busy)
		return;
	keeper->compact_at = 2 * recovery->journal_bytes;
	if (start(keeper))
		end(keeper);
}
