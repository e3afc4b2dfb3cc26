// SPDX-License-Identifier: MIT
#include "keeper.h"

#include "error.h"
#include "image_io.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------- the journal -- */

/* What recovery makes of the areas, so that runs can be checked. */
static int learn_areas(hac_keeper *keeper)
{
	struct recovery *recovery = &keeper->recovery;
	int error;

	recovery->layouts_only = true;
	error = recovery_apply(recovery);
	if (!error && keeper_areas_from(&keeper->areas, recovery))
		error = hac_fail(ENOMEM, "no memory for the areas of image %s", keeper->path);
	image_areas_free(recovery->areas, recovery->areas_count);
	recovery->areas = NULL;
	recovery->areas_count = 0;
	if (error)
		keeper_areas_free(&keeper->areas);
	else
		keeper->areas_known = true;
	return error;
}

int keeper_open_end(hac_keeper *keeper)
{
	struct recovery *recovery = &keeper->recovery;
	int error = 0;

	if (!keeper->areas_known)
		error = learn_areas(keeper);
	if (error || keeper->appends)
		return error;
	image_prepare_journal(&keeper->store, recovery);
	error = journal_go_on(&keeper->store.journal, recovery->segments[recovery->end_segment],
			      recovery->end_offset);
	keeper->appends = !error;
	return error;
}

int keeper_cut_group(hac_keeper *keeper)
{
	int error = journal_cut(&keeper->store.journal, keeper->survey.group_offset,
				keeper->survey.group_sequence);

	if (error) {
		keeper_set_state(keeper, KEEPER_BROKEN);
		return error;
	}
	survey_drop_group(&keeper->survey);
	keeper_areas_drop_group(&keeper->areas);
	return 0;
}

int keeper_begin_segment(hac_keeper *keeper)
{
	struct recovery *recovery = &keeper->recovery;
	struct journal *journal = &keeper->store.journal;
	uint64_t *list;
	int error;

	if (!journal->offset)
		return 0;
	list = recovery_append(recovery->segments, &recovery->segments_count, sizeof(*list));
	if (!list)
		return hac_fail(ENOMEM, "no memory for the segments of image %s", keeper->path);
	recovery->segments = list;
	error = journal_open_segment(journal, journal->segment + 1);
	if (error) {
		recovery->segments_count--;
		return error;
	}
	list[recovery->segments_count - 1] = journal->segment;
	recovery->end_segment = recovery->segments_count - 1;
	recovery->end_offset = 0;
	return 0;
}

/* A group in parts stays in one segment. It is no harm if none can be begun. */
static void rotate(hac_keeper *keeper)
{
	struct journal *journal = &keeper->store.journal;

	if (keeper->survey.group || journal->offset < journal->segment_bytes ||
	    journal->offset < journal->rotate_at)
		return;
	if (keeper_begin_segment(keeper))
		journal->rotate_at = journal->offset + journal->segment_bytes;
	else
		keeper_publish(keeper);
}

/* ---------------------------------------------------------- what is next -- */

static int refuse(const char *what)
{
	return hac_fail(EBADMSG, "the frame is refused: %s", what);
}

/* Does it begin a generation, in the place of a group that its leader left
 * unfinished, and cut off when it came back? */
static bool replaces_group(const hac_keeper *keeper, const struct frame_header *header)
{
	return keeper->survey.group && header->sequence == keeper->survey.group_sequence &&
	       header->generation > keeper->recovery.last_generation && !header->last_epoch;
}

static int check_next(const hac_keeper *keeper, const struct frame_header *header)
{
	const struct recovery *recovery = &keeper->recovery;

	if (header->kind != FRAME_JOURNAL)
		return refuse("it is none of a journal");
	if (memcmp(header->uuid, recovery->uuid, sizeof(header->uuid)))
		return refuse("it is of another image");
	if (header->generation < recovery->last_generation)
		return hac_fail(ESTALE,
				"the frame is refused: it is of generation %" PRIu64
				", and generation %" PRIu64 " has begun",
				header->generation, recovery->last_generation);
	if (replaces_group(keeper, header))
		return 0;
	if (header->sequence == recovery->next_sequence)
		return 0;
	return hac_fail(
		EBADMSG,
		"the frame is refused: it is number %" PRIu64 ", and %" PRIu64 " comes next: %s",
		header->sequence, recovery->next_sequence,
		header->sequence < recovery->next_sequence ? "it is there already" :
							     "frames are missing before it");
}

static int check_generation(const hac_keeper *keeper, const struct record_generation *record)
{
	const struct recovery *recovery = &keeper->recovery;
	const struct generation *newest = &recovery->generations[recovery->generations_count - 1];

	if (record->parent == newest->number && record->branch_epoch == newest->tip)
		return 0;
	return hac_fail(EBADMSG,
			"the frame is refused: generation %" PRIu64 " branches off generation "
			"%" PRIu64 " at epoch %" PRIu64 ", but this image has come to generation "
			"%" PRIu64 ", epoch %" PRIu64 ": it needs a new base",
			record->generation, record->parent, record->branch_epoch, newest->number,
			newest->tip);
}

struct check {
	hac_keeper *keeper;
	uint64_t last_epoch;
	size_t records; /* so far */
	size_t begun;   /* where the last group began, from 1 on */
};

/* What the survey does not look at, and what it has no words for. */
static int visit_check(void *argument, const struct walk_frame *frame, const struct record *record,
		       bool last)
{
	struct check *check = argument;
	int error;

	if (record->kind == RECORD_GENERATION) {
		if (!last || frame->header.generation != record->generation.generation)
			return refuse("it is malformed: a generation does not stand alone");
		return check_generation(check->keeper, &record->generation);
	}
	check->records++;
	if (record->flags & RECORD_FIRST)
		check->begun = check->records;
	if (record->flags & RECORD_FIRST && record->epoch <= check->last_epoch)
		return refuse("its epochs do not ascend");
	if (record->kind == RECORD_TRANSACTION && !(record->flags & RECORD_PARTIAL))
		check->last_epoch = record->epoch;
	error = keeper_areas_take(&check->keeper->areas, record);
	if (error == -ENOMEM)
		return hac_fail(ENOMEM, "no memory to check a frame");
	return error ? refuse("it is malformed: its bytes belong to no area") : 0;
}

static int check_records(hac_keeper *keeper, const struct walk_frame *frame)
{
	struct recovery *recovery = &keeper->recovery;
	struct check check = { .keeper = keeper, .last_epoch = recovery->last_epoch };
	int error = recovery_visit_frame(recovery, frame, visit_check, &check);

	/* The walk speaks of damage where a record is none. */
	if (error && recovery->damage.file[0])
		return refuse("it is malformed");
	if (!error && !frame_continues(&keeper->survey.before, &frame->header) &&
	    keeper->survey.before.kind)
		return refuse("it is of this image, but of another writer");
	if (!error && recovery_take_frame(&keeper->survey, frame))
		return refuse("it is malformed: its records do not fit in here");
	/* Cutting it later would cut whole ones that stand before it. */
	if (!error && keeper->survey.group && check.begun > 1)
		return refuse("it is malformed: part of a transaction behind another one");
	return error;
}

/* --------------------------------------------------------------- undoing -- */

struct before {
	struct recovery recovery;
	struct generation newest;
	struct survey survey;
	struct keeper_areas areas;
};

static int remember(hac_keeper *keeper, struct before *before)
{
	struct recovery *recovery = &keeper->recovery;

	before->recovery = *recovery;
	before->newest = recovery->generations[recovery->generations_count - 1];
	before->survey = keeper->survey;
	if (keeper_areas_copy(&before->areas, &keeper->areas))
		return hac_fail(ENOMEM, "no memory to check a frame");
	return 0;
}

static void put_back(hac_keeper *keeper, struct before *before)
{
	struct recovery *recovery = &keeper->recovery;

	/* Lists may have moved, but only grew. */
	before->recovery.generations = recovery->generations;
	before->recovery.void_groups = recovery->void_groups;
	*recovery = before->recovery;
	recovery->generations[recovery->generations_count - 1] = before->newest;
	keeper->survey = before->survey;
	keeper_areas_free(&keeper->areas);
	keeper->areas = before->areas;
}

/* --------------------------------------------------------------- append -- */

/* Would it fit? In memory it then has been taken; put_back() undoes that. */
static int take(hac_keeper *keeper, const struct frame_header *header, const void *payload,
		bool replaces)
{
	struct walk_frame frame = {
		.file = "frame",
		.offset = replaces ? keeper->survey.group_offset : keeper->store.journal.offset,
		.segment = keeper->recovery.segments_count - 1,
		.header = *header,
		.payload = payload,
	};

	if (replaces) {
		survey_drop_group(&keeper->survey);
		keeper_areas_drop_group(&keeper->areas);
	}
	return check_records(keeper, &frame);
}

static int store(hac_keeper *keeper, const struct frame_header *header, const void *payload,
		 const void *bytes, size_t size)
{
	bool replaces = replaces_group(keeper, header), broken = false;
	uint64_t cut = keeper->survey.group_offset, sequence = keeper->survey.group_sequence;
	struct before before;
	int error = remember(keeper, &before);

	if (error)
		return error;
	error = take(keeper, header, payload, replaces);
	if (!error && replaces) {
		error = journal_cut(&keeper->store.journal, cut, sequence);
		broken = error;
	}
	if (!error)
		error = journal_put(&keeper->store.journal, bytes, size, &broken);
	if (error) {
		put_back(keeper, &before);
		/* A group that was cut is gone; the disk knows better. */
		if (broken)
			keeper_set_state(keeper, KEEPER_BROKEN);
		else if (keeper->store.journal.sequence != keeper->recovery.next_sequence)
			keeper_set_state(keeper, KEEPER_STALE);
		return error;
	}
	keeper_areas_free(&before.areas);
	keeper->recovery.journal_bytes += size;
	keeper_publish(keeper);
	return 0;
}

static int append(hac_keeper *keeper, const void *bytes, size_t size)
{
	const unsigned char *stored, *payload;
	struct frame_header header;
	int error = frame_decode(bytes, size, &header, &stored);

	if (error == -EPROTONOSUPPORT)
		return hac_fail(EPROTONOSUPPORT,
				"the frame is refused: a later version of libhac wrote it: "
				"bring this side up to date");
	if (error || frame_size(&header) != size)
		return refuse("it is damaged, or a part of it is missing");
	error = check_next(keeper, &header);
	if (error)
		return error;
	error = frame_reader_decode(&keeper->reader, &header, stored, &payload);
	if (error == -EBADMSG)
		return refuse("it cannot be decoded; it was tampered with");
	if (error) {
		int failed = frame_reader_failed(error, "the frame");

		return failed ? failed :
				hac_fail(-error, "a frame cannot be decoded: %s", strerror(-error));
	}
	error = keeper_open_end(keeper);
	return error ? error : store(keeper, &header, payload, bytes, size);
}

/* Payloads are read as they lie: the frame must be aligned. */
static int append_aligned(hac_keeper *keeper, const void *frame, size_t size)
{
	void *copy;
	int error;

	if (!((uintptr_t)frame & 7))
		return append(keeper, frame, size);
	copy = malloc(size);
	if (!copy)
		return hac_fail(ENOMEM, "no memory for a frame of %zu bytes", size);
	memcpy(copy, frame, size);
	error = append(keeper, copy, size);
	free(copy);
	return error;
}

int hac_keeper_append(hac_keeper *keeper, const void *frame, size_t size)
{
	int error = keeper_enter(keeper);

	if (error)
		return error;
	error = frame || !size ? keeper_settle(keeper, "append a frame") :
				 hac_fail(EINVAL, "the frame is NULL");
	if (!error) {
		keeper_take_compaction(keeper);
		error = size ? append_aligned(keeper, frame, size) :
			       refuse("it is damaged, or a part of it is missing");
	}
	if (!error) {
		rotate(keeper);
		keeper_compact_if_long(keeper);
	}
	keeper_leave(keeper);
	return error;
}

int64_t hac_frame_size(const void *bytes, size_t size)
{
	int64_t result = bytes ? frame_peek_size(bytes, size) : -EBADMSG;

	if (result == -EPROTONOSUPPORT)
		return hac_fail(EPROTONOSUPPORT, "a frame of a later version of libhac");
	if (result <= 0)
		return hac_fail(EBADMSG, "no frame begins with these bytes");
	return result;
}

/* -------------------------------------------------------------- replace -- */

static bool is_new(const hac_keeper *keeper)
{
	return !keeper->recovery.last_epoch && keeper->recovery.next_area_id <= 1;
}

/* Sound, and of the same image, or of any if this one is new. */
static int check_incoming(hac_keeper *keeper, const char *incoming)
{
	struct recovery recovery;
	int directory, error = image_open_directory(incoming, false, &directory);

	if (error)
		return error;
	error = recovery_survey(&recovery, directory, incoming, 0, &keeper->store.coding.key);
	recovery.layouts_only = true;
	if (!error)
		error = recovery_apply(&recovery);
	if (!error && !is_new(keeper) &&
	    memcmp(recovery.uuid, keeper->recovery.uuid, sizeof(recovery.uuid)))
		error = hac_fail(EINVAL, "%s holds image %s, not image %s", incoming,
				 recovery.uuid_text, keeper->recovery.uuid_text);
	recovery_free(&recovery);
	image_io.close(directory);
	return error;
}

static int replace(hac_keeper *keeper, const char *incoming)
{
	struct drainer_shared *shared = keeper->drainer.shared;
	bool committed;
	int error = keeper_settle(keeper, "be replaced");

	if (!error)
		error = check_incoming(keeper, incoming);
	if (error)
		return error;
	pthread_mutex_lock(&keeper->lock);
	keeper_await_compaction(keeper);
	pthread_mutex_unlock(&keeper->lock);
	error = image_replace(keeper->store.directory, keeper->path, incoming, &committed);
	if (error && !committed)
		return error;
	keeper_set_state(keeper, KEEPER_BROKEN);
	if (!error)
		error = keeper_survey(keeper);
	if (!error && shared) {
		atomic_fetch_add(&shared->resets, 1);
		keeper_publish(keeper);
	}
	return error;
}

int hac_keeper_replace(hac_keeper *keeper, const char *incoming)
{
	int error = keeper_enter(keeper);

	if (error)
		return error;
	error = incoming ? replace(keeper, incoming) :
			   hac_fail(EINVAL, "the path of the new image is NULL");
	keeper_leave(keeper);
	return error;
}
