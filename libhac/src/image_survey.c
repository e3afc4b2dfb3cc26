// SPDX-License-Identifier: MIT
#include "image_recover.h"

#include "error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static struct generation *find_generation(struct recovery *recovery, uint64_t number)
{
	for (size_t i = recovery->generations_count; i--;)
		if (recovery->generations[i].number == number)
			return &recovery->generations[i];
	return NULL;
}

static bool survey_generation(struct survey *survey, const struct record_generation *record)
{
	struct recovery *recovery = survey->recovery;
	struct generation *parent = find_generation(recovery, record->parent);

	/* An opening first cuts what its predecessor did not finish. */
	if (survey->group || record->generation <= recovery->last_generation || !parent ||
	    record->branch_epoch > parent->tip || record->branch_epoch < recovery->base_epoch)
		return false;
	return recovery_add_generation(recovery, record->generation, record->parent,
				       record->branch_epoch);
}

static bool begin_group(struct survey *survey, const struct walk_frame *frame,
			const struct record *record)
{
	struct recovery *recovery = survey->recovery;

	if (survey->group) {
		uint64_t *list = recovery_append(recovery->void_groups, &recovery->void_count,
						 sizeof(*list));

		if (!list)
			return false;
		recovery->void_groups = list;
		list[recovery->void_count - 1] = survey->groups;
	}
	survey->group = true;
	survey->groups++;
	survey->group_epoch = record->epoch;
	survey->group_segment = frame->segment;
	survey->group_offset = frame->offset;
	survey->group_sequence = frame->header.sequence;
	survey->group_before = survey->before;
	survey->group_next_id = recovery->next_area_id;
	return record->epoch > recovery->last_epoch;
}

static bool survey_group(struct survey *survey, const struct walk_frame *frame,
			 const struct record *record, bool last)
{
	struct recovery *recovery = survey->recovery;
	struct generation *current = &recovery->generations[recovery->generations_count - 1];

	if (frame->header.generation != current->number)
		return false;
	if (record->flags & RECORD_FIRST && !begin_group(survey, frame, record))
		return false;
	if (!survey->group || record->epoch != survey->group_epoch)
		return false;
	if (!survey->first_epoch)
		survey->first_epoch = record->epoch;
	survey->last_epoch = record->epoch;
	if (record->kind == RECORD_LAYOUT && record->layout.id >= survey->group_next_id)
		survey->group_next_id = record->layout.id + 1;
	if (record->kind != RECORD_TRANSACTION || record->flags & RECORD_PARTIAL)
		return !last || record->flags & RECORD_PARTIAL;
	survey->group = false;
	recovery->last_epoch = current->tip = record->epoch;
	recovery->next_area_id = survey->group_next_id;
	recovery->transactions++;
	return true;
}

static int visit_survey(void *argument, const struct walk_frame *frame, const struct record *record,
			bool last)
{
	struct survey *survey = argument;
	bool sound = false;

	if (record->kind == RECORD_GENERATION)
		sound = last && survey_generation(survey, &record->generation);
	else if (record->kind >= RECORD_LAYOUT)
		sound = survey_group(survey, frame, record, last);
	if (last && (survey->first_epoch != frame->header.first_epoch ||
		     survey->last_epoch != frame->header.last_epoch))
		sound = false;
	if (!sound)
		return recovery_damaged(survey->recovery, frame->file, frame->offset,
					"the frame is intact, but its records do not fit in here");
	return 0;
}

/* Does an intact frame follow, behind `offset` of this segment or in a later
 * one? Then what is at `offset` is no torn end. 1, 0 or -errno. */
static int frame_follows(struct recovery *recovery, struct frame_file *file, size_t segment,
			 uint64_t offset)
{
	int result = frame_file_find(file, offset + 1, recovery->uuid, recovery->next_sequence);

	while (!result && ++segment < recovery->segments_count) {
		struct frame_file later;
		char name[32];

		segment_name(name, recovery->segments[segment]);
		result = frame_file_open(recovery->directory, name, NULL, &later);
		if (result)
			return result;
		result = frame_file_find(&later, 0, recovery->uuid, recovery->next_sequence);
		frame_file_close(&later);
	}
	return result;
}

/* The journal ends at the frame at `offset`. Count what is cut. */
static int survey_torn_end(struct survey *survey, struct frame_file *file, size_t segment,
			   uint64_t offset)
{
	struct recovery *recovery = survey->recovery;
	int zeros = frame_file_zeros(file, offset);
	struct frame_header header;
	const unsigned char *payload;

	if (zeros < 0)
		return recovery_unreadable(recovery, file->name, zeros);
	recovery->cut = true;
	while (++segment < recovery->segments_count) {
		struct frame_file later;
		char name[32];

		segment_name(name, recovery->segments[segment]);
		if (frame_file_open(recovery->directory, name, NULL, &later))
			continue;
		if (frame_file_zeros(&later, 0) != 1)
			recovery->dropped_bytes += later.size;
		frame_file_close(&later);
	}
	/* Space that was prepared for frames and not used reads as zeros. */
	if (zeros)
		return 0;
	recovery->dropped_bytes += file->size - offset;
	recovery->dropped_epoch = recovery->last_epoch + 1;
	/* An opening that did not get further than its first frame. */
	if (!frame_file_check(file, offset, &header, &payload) && !header.first_epoch)
		recovery->dropped_epoch = 0;
	return 0;
}

/* A frame that is intact, but stands where another one should. */
static int check_place(struct survey *survey, const struct walk_frame *frame)
{
	struct recovery *recovery = survey->recovery;

	if (frame->header.kind != FRAME_JOURNAL ||
	    memcmp(frame->header.uuid, recovery->uuid, sizeof(recovery->uuid)))
		return -EBADMSG;
	if (frame->header.sequence == recovery->next_sequence) {
		if (!survey->before.kind || frame_continues(&survey->before, &frame->header))
			return 0;
		return recovery_damaged(recovery, frame->file, frame->offset,
					"a frame of this image, but of another writer; it was put "
					"there");
	}
	return recovery_damaged(recovery, frame->file, frame->offset,
				frame->header.sequence > recovery->next_sequence ?
					"frames before it are missing" :
					"a frame stands there for the second time");
}

int recovery_take_frame(struct survey *survey, const struct walk_frame *frame)
{
	struct recovery *recovery = survey->recovery;
	int result;

	survey->first_epoch = survey->last_epoch = 0;
	result = recovery_visit_frame(recovery, frame, visit_survey, survey);
	if (result)
		return result;
	survey->before = frame->header;
	recovery->frames++;
	recovery->next_sequence++;
	if (!survey->group) {
		recovery->end_segment = frame->segment;
		recovery->end_offset = frame->offset + frame_size(&frame->header);
	}
	return 0;
}

void survey_drop_group(struct survey *survey)
{
	struct recovery *recovery = survey->recovery;

	recovery->next_sequence = survey->group_sequence;
	survey->before = survey->group_before;
	survey->group = false;
	survey->groups--;
}

/* 1: the journal goes on in the next segment. 0: it ends here. */
static int survey_segment(struct survey *survey, size_t segment, struct frame_file *file)
{
	struct recovery *recovery = survey->recovery;
	struct walk_frame frame = { .file = file->name, .segment = segment };
	int result;

	for (;;) {
		result = frame_file_read(file, frame.offset, &frame.header, &frame.payload);
		if (result == -ENODATA)
			return 1;
		if (!result) {
			result = check_place(survey, &frame);
			if (result && recovery->damage.file[0])
				return result;
		}
		if (result == -EBADMSG) {
			result = frame_follows(recovery, file, segment, frame.offset);
			if (!result)
				return survey_torn_end(survey, file, segment, frame.offset);
			if (result > 0)
				result = -EBADMSG;
		}
		if (result)
			return recovery_bad_frame(recovery, file->name, frame.offset, result);
		result = recovery_take_frame(survey, &frame);
		if (result)
			return result;
		frame.offset += frame_size(&frame.header);
	}
}

/* Parts of a transaction whose last part is missing: as if torn. */
static void survey_unfinished(struct survey *survey, const uint64_t *sizes)
{
	struct recovery *recovery = survey->recovery;

	if (!survey->group)
		return;
	recovery->end_segment = survey->group_segment;
	recovery->end_offset = survey->group_offset;
	recovery->dropped_epoch = survey->group_epoch;
	recovery->dropped_bytes = 0;
	recovery->cut = true;
	for (size_t i = recovery->end_segment; i < recovery->segments_count; i++)
		recovery->dropped_bytes += sizes[i];
	recovery->dropped_bytes -= recovery->end_offset;
	survey_drop_group(survey);
}

static int survey_segments(struct recovery *recovery, struct survey *out)
{
	struct survey survey = { .recovery = recovery };
	uint64_t *sizes = calloc(recovery->segments_count, sizeof(*sizes));
	int result = sizes ? 1 : hac_fail(ENOMEM, "no memory to read image %s", recovery->path);

	for (size_t i = 0; result == 1 && i < recovery->segments_count; i++) {
		struct frame_file file;
		char name[32];

		segment_name(name, recovery->segments[i]);
		result = frame_file_open(recovery->directory, name, recovery->key, &file);
		if (result) {
			result = recovery_unreadable(recovery, name, result);
			break;
		}
		sizes[i] = file.size;
		recovery->journal_bytes += file.size;
		/* An end in the segment before may turn out to be here. */
		if (!survey.group) {
			recovery->end_segment = i;
			recovery->end_offset = 0;
		}
		result = survey_segment(&survey, i, &file);
		frame_file_close(&file);
	}
	if (result >= 0)
		survey_unfinished(&survey, sizes);
	if (out)
		*out = survey;
	free(sizes);
	return result < 0 ? result : 0;
}

/* ------------------------------------------------------------ lineage -- */

struct search {
	uint64_t epoch;
	struct generation *found;
	struct recovery *recovery;
};

static int visit_search(void *argument, const struct walk_frame *frame, const struct record *record,
			bool last)
{
	struct search *search = argument;

	(void)last;
	if (record->kind == RECORD_TRANSACTION && !(record->flags & RECORD_PARTIAL) &&
	    record->epoch == search->epoch)
		search->found = find_generation(search->recovery, frame->header.generation);
	return 0;
}

/* An epoch was made by one generation only: they never restart. */
static int find_wanted(struct recovery *recovery, uint64_t at)
{
	struct search search = { .epoch = at, .recovery = recovery };
	int error;

	recovery->generation = &recovery->generations[recovery->generations_count - 1];
	recovery->epoch = recovery->generation->tip;
	if (!at)
		return 0;
	if (at == recovery->base_epoch) {
		search.found = &recovery->generations[0];
	} else if (at > recovery->base_epoch && at <= recovery->last_epoch) {
		error = recovery_walk_journal(recovery, visit_search, &search);
		if (error)
			return error;
	}
	if (!search.found)
		return hac_fail(EINVAL,
				"image %s has no epoch %" PRIu64 ": it holds %" PRIu64
				" to %" PRIu64 "%s",
				recovery->path, at, recovery->base_epoch, recovery->last_epoch,
				at > recovery->base_epoch && at < recovery->last_epoch ?
					", but that one never ended" :
					"");
	recovery->generation = search.found;
	recovery->epoch = at;
	return 0;
}

static void mark_lineage(struct recovery *recovery)
{
	struct generation *generation = recovery->generation;
	uint64_t limit = recovery->epoch;

	for (;;) {
		generation->in_lineage = true;
		generation->limit = limit;
		if (generation == recovery->generations)
			return;
		limit = generation->branch_epoch;
		/* The survey refused a generation without its parent. */
		generation = find_generation(recovery, generation->parent);
	}
}

int recovery_survey_journal(struct recovery *recovery, uint64_t at, struct survey *out)
{
	int error = survey_segments(recovery, out);

	if (!error)
		error = find_wanted(recovery, at);
	if (!error)
		mark_lineage(recovery);
	return error;
}
