// SPDX-License-Identifier: MIT
#include "keeper.h"

#include "error.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* ------------------------------------------------------------- resume -- */

/* Did the frame that was under way get into the file as a whole? Then its size
 * there. What stands at its place can only be this frame, or a part of it. */
static int find_frame(hac_keeper *keeper, const struct drainer_flight *flight, uint64_t *size)
{
	const unsigned char *payload;
	struct frame_header header;
	struct frame_file file;
	char name[32];
	int error;

	*size = 0;
	if (!flight->size)
		return 0;
	segment_name(name, flight->segment);
	error = frame_file_open(keeper->store.directory, name, NULL, &file);
	if (error)
		return recovery_unreadable(&keeper->recovery, name, error);
	error = frame_file_check(&file, flight->offset, &header, &payload);
	frame_file_close(&file);
	if (error == -EBADMSG || error == -ENODATA)
		return 0;
	if (error)
		return recovery_bad_frame(&keeper->recovery, name, flight->offset, error);
	if (header.kind != FRAME_JOURNAL || header.sequence != flight->sequence ||
	    header.generation != flight->generation || header.raw != flight->size ||
	    memcmp(header.uuid, keeper->recovery.uuid, sizeof(header.uuid)))
		return 0;
	*size = frame_size(&header);
	return 0;
}

static int check_flight(const hac_keeper *keeper, const struct drainer_flight *flight)
{
	const struct recovery *recovery = &keeper->recovery;

	if (!flight->sequence)
		return hac_fail(EPROTO,
				"image %s: nobody has led with this ring, so nobody can "
				"take over",
				keeper->path);
	for (size_t i = 0; i < recovery->segments_count; i++)
		if (recovery->segments[i] == flight->segment &&
		    flight->generation >= recovery->base.generation)
			return 0;
	return hac_fail(EBADMSG,
			"image %s: the ring's helper wrote generation %" PRIu64
			" to segment %" PRIu64 ", which this image does not have",
			keeper->path, flight->generation, flight->segment);
}

/* The ring, and what the producer counts with. `taken`: the frame is written. */
static void take_counts(hac_keeper *keeper, const struct drainer_flight *flight, bool taken)
{
	struct drainer_shared *shared = keeper->drainer.shared;
	struct journal *journal = &keeper->store.journal;
	uint64_t promised = atomic_load(&shared->reserved);

	atomic_store(&shared->written, journal->start + journal->offset);
	if (taken || !flight->size)
		atomic_store(&shared->charged, flight->charge);
	atomic_store(&keeper->drainer.ring.shared->tail, flight->tail + (taken ? flight->size : 0));
	/* The producer relies on it; but what cannot be had cannot be had. */
	if (promised > journal_reserved(journal))
		(void)!journal_reserve_again(journal, promised);
	atomic_store(&shared->reserved, journal_reserved(journal));
}

static void take_lead(hac_keeper *keeper, const struct drainer_flight *flight, bool taken)
{
	struct drainer_shared *shared = keeper->drainer.shared;
	struct journal *journal = &keeper->store.journal;
	struct drainer_lead *lead = &keeper->lead;

	lead->parent = flight->parent;
	lead->branch_epoch = flight->branch_epoch;
	lead->epoch = taken && flight->whole_epoch ? flight->whole_epoch : flight->epoch;
	lead->next_area_id = (uint32_t)flight->next_area_id;
	lead->synced_epoch = lead->epoch;
	lead->synced_segment = journal->segment;
	lead->synced_offset = journal->offset;
	keeper->drainer.streaming = taken ? flight->streaming : flight->goes_on;
	if (atomic_load(&shared->durable) < lead->epoch)
		atomic_store(&shared->durable, lead->epoch);
}

/*
 * Everything here may happen again, if this process dies, too: it depends only
 * on the flight, which stays as it is until lead_note_idle(). The frame before
 * the flight's was synced, since only then is the next one begun.
 */
int keeper_resume(hac_keeper *keeper)
{
	struct drainer_shared *shared = keeper->drainer.shared;
	struct drainer_flight flight = shared->flights[atomic_load(&shared->flight) & 1];
	struct journal *journal = &keeper->store.journal;
	uint64_t size;
	int error = check_flight(keeper, &flight);

	if (!error)
		error = find_frame(keeper, &flight, &size);
	if (error)
		return error;
	image_prepare_journal(&keeper->store, &keeper->recovery);
	journal->generation = flight.generation;
	journal->sequence = flight.sequence + (size != 0);
	journal->start = flight.start;
	error = journal_go_on(journal, flight.segment, flight.offset + size);
	if (!error)
		error = journal_sync(journal);
	if (error)
		return error;
	error = frame_writer_create(&keeper->store.coding, &journal->writer);
	if (error)
		return hac_fail(-error, "no memory to write to image %s", keeper->path);
	take_counts(keeper, &flight, size != 0);
	take_lead(keeper, &flight, size != 0);
	return 0;
}

/* ---------------------------------------------------------------- lead -- */

/* What being opened again counts up cannot come near it. */
#define PROMOTION ((uint64_t)1000000)

static struct record_generation next_generation(const hac_keeper *keeper, bool promoted)
{
	const struct recovery *recovery = &keeper->recovery;
	const struct generation *newest = &recovery->generations[recovery->generations_count - 1];
	uint64_t number = newest->number + 1;

	if (promoted)
		number = (newest->number / PROMOTION + 1) * PROMOTION;
	return (struct record_generation){ number, newest->number, newest->tip };
}

static int begin_generation(hac_keeper *keeper, bool promoted)
{
	struct recovery *recovery = &keeper->recovery;
	struct record_generation generation;
	struct journal *journal = &keeper->store.journal;
	struct drainer_lead *lead = &keeper->lead;
	struct drainer_shared *shared = keeper->drainer.shared;
	int error = keeper->survey.group ? keeper_cut_group(keeper) : 0;

	if (error)
		return error;
	generation = next_generation(keeper, promoted);
	keeper_set_state(keeper, KEEPER_BROKEN);
	journal_close(journal);
	error = image_begin_generation(&keeper->store, recovery, &generation,
				       image_next_segment(recovery));
	if (error)
		return error;
	lead->parent = generation.parent;
	lead->branch_epoch = lead->epoch = lead->synced_epoch = generation.branch_epoch;
	lead->next_area_id = recovery->next_area_id;
	lead->synced_segment = journal->segment;
	lead->synced_offset = journal->offset;
	keeper->drainer.streaming = false;
	atomic_store(&shared->durable, lead->epoch);
	atomic_store(&shared->written, journal->start + journal->offset);
	return 0;
}

static int branch(hac_keeper *keeper)
{
	struct recovery *recovery = &keeper->recovery;
	int error = keeper_settle(keeper, "begin a generation alone");
	struct record_generation generation;

	if (!error && keeper->survey.group)
		error = keeper_cut_group(keeper);
	if (error)
		return error;
	generation = next_generation(keeper, true);
	keeper_set_state(keeper, KEEPER_BROKEN);
	journal_close(&keeper->store.journal);
	error = image_begin_generation(&keeper->store, recovery, &generation,
				       image_next_segment(recovery));
	if (error)
		return error;
	journal_close(&keeper->store.journal);
	keeper_set_state(keeper, KEEPER_STALE);
	return keeper_survey(keeper);
}

int hac_keeper_branch(hac_keeper *keeper)
{
	int error = keeper_enter(keeper);

	if (error)
		return error;
	error = branch(keeper);
	keeper_leave(keeper);
	return error;
}

static int start_leading(hac_keeper *keeper, int event)
{
	struct drainer_lead *lead = &keeper->lead;
	struct drainer *drainer = &keeper->drainer;
	struct journal *journal = &keeper->store.journal;
	int error;

	lead->event = event;
	lead->ahead_at = 0;
	lead->ended = lead->turn = false;
	atomic_store(&lead->quit, false);
	atomic_store(&lead->drain, false);
	lead_reserve_ahead(drainer);
	atomic_store(&drainer->shared->reserved, journal_reserved(journal));
	lead_note_idle(drainer);
	lead_publish_place(drainer->shared, journal->segment, journal->offset);
	error = drainer_start_thread(drainer);
	/* What counts is in shared memory, as if it had died. */
	keeper_set_state(keeper, error ? KEEPER_ENDED : KEEPER_LEADS);
	if (error)
		return error;
	/* The predecessor may have died before it woke them. */
	drainer_wake_waiters(drainer->shared);
	ring_kick_producer(&drainer->ring);
	return 0;
}

static int lead(hac_keeper *keeper, int event, bool promoted)
{
	struct drainer_shared *shared = keeper->drainer.shared;
	int failed = shared ? atomic_load(&shared->error) : 0, error;

	if (!shared)
		return hac_fail(EPROTO, "the keeper of image %s has no ring to drain",
				keeper->path);
	if (failed)
		return hac_fail(-failed, "image %s: the ring is drained no more: %s", keeper->path,
				shared->detail);
	if (keeper->state != KEEPER_RESUMES) {
		error = keeper_settle(keeper, "begin to lead");
		if (!error)
			error = begin_generation(keeper, promoted);
		if (error)
			return error;
	}
	return start_leading(keeper, event);
}

int hac_keeper_lead(hac_keeper *keeper, int event, uint32_t flags)
{
	int error = keeper_enter(keeper);

	if (error)
		return error;
	if (flags & ~HAC_KEEPER_PROMOTED)
		error = hac_fail(EINVAL, "unknown flags 0x%x for leading", flags);
	else
		error = lead(keeper, event, flags & HAC_KEEPER_PROMOTED);
	keeper_leave(keeper);
	return error;
}

/* ----------------------------------------------------------------- end -- */

void keeper_stop_leading(hac_keeper *keeper)
{
	if (!atomic_load(&keeper->lead.drain))
		atomic_store(&keeper->lead.quit, true);
	ring_kick_consumer(&keeper->drainer.ring);
	pthread_join(keeper->drainer.thread, NULL);
	journal_release(&keeper->store.journal);
	keeper_set_state(keeper, KEEPER_ENDED);
}

static int drain(hac_keeper *keeper)
{
	struct drainer_shared *shared = keeper->drainer.shared;
	int error = keeper->state == KEEPER_RESUMES ? lead(keeper, -1, false) : 0;

	if (error)
		return error;
	if (keeper->state == KEEPER_LEADS) {
		image_lock_mark(keeper->store.lock, LOCK_DRAINS);
		atomic_store(&keeper->lead.drain, true);
		keeper_stop_leading(keeper);
	} else if (keeper->state != KEEPER_ENDED) {
		return hac_fail(EPROTO, "the keeper of image %s does not lead", keeper->path);
	}
	error = atomic_load(&shared->error);
	if (error)
		return hac_fail(-error, "image %s: not all of the ring is in the journal: %s",
				keeper->path, shared->detail);
	return 0;
}

int hac_keeper_drain(hac_keeper *keeper)
{
	int error = keeper_enter(keeper);

	if (error)
		return error;
	error = drain(keeper);
	keeper_leave(keeper);
	return error;
}
