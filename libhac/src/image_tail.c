// SPDX-License-Identifier: MIT
#include "image_tail.h"

#include "error.h"
#include "image_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The reading of one plan. What is not the end of a group is read again next
 * time: whoever writes the journal cuts an unfinished group. */
struct tail {
	const struct image *image;
	struct tail_plan *plan;
	struct image_place at; /* of the next frame */
	size_t size;           /* of the plan, with the group that is not whole yet */
	bool group;            /* there is one */
	size_t group_from;     /* where it begins in the plan */
	uint64_t group_epoch;
	uint64_t epoch; /* the last one that is whole */
	uint64_t generation;
	uint64_t parent;
	uint64_t branch_epoch;
};

static int make_room(struct tail_plan *plan, size_t size)
{
	size_t room = plan->room ? plan->room : 4096;
	unsigned char *bytes;

	while (room < size)
		room *= 2;
	if (room == plan->room)
		return 0;
	bytes = realloc(plan->bytes, room);
	if (!bytes)
		return hac_fail(ENOMEM, "no memory for %zu bytes of transactions", room);
	plan->bytes = bytes;
	plan->room = room;
	return 0;
}

/* Everything that was read so far is whole. */
static void keep(struct tail *tail)
{
	struct tail_plan *plan = tail->plan;

	plan->size = tail->size;
	plan->end = tail->at;
	plan->epoch = tail->epoch;
	plan->generation = tail->generation;
	plan->parent = tail->parent;
	plan->branch_epoch = tail->branch_epoch;
}

/* One that left the others before what was read here has to be read anew. */
static int take_generation(struct tail *tail, const struct record_generation *record)
{
	if (tail->group || record->generation <= tail->generation ||
	    record->branch_epoch != tail->epoch)
		return TAIL_LOST;
	tail->parent = record->parent;
	tail->generation = record->generation;
	tail->branch_epoch = record->branch_epoch;
	return 0;
}

static int take_record(struct tail *tail, const unsigned char *bytes, size_t size,
		       const struct record *record)
{
	int error;

	if (record->kind < RECORD_LAYOUT)
		return TAIL_LOST;
	if (record->flags & RECORD_FIRST) {
		/* One that was not finished is void. */
		if (tail->group)
			tail->size = tail->group_from;
		tail->group = true;
		tail->group_from = tail->size;
		tail->group_epoch = record->epoch;
	}
	if (!tail->group || record->epoch != tail->group_epoch || record->epoch <= tail->epoch)
		return TAIL_LOST;
	error = make_room(tail->plan, tail->size + size);
	if (error)
		return error;
	memcpy(tail->plan->bytes + tail->size, bytes, size);
	tail->size += size;
	if (record->kind == RECORD_TRANSACTION && !(record->flags & RECORD_PARTIAL)) {
		tail->group = false;
		tail->epoch = record->epoch;
	}
	return 0;
}

static int take_frame(struct tail *tail, const struct frame_header *header,
		      const unsigned char *payload)
{
	size_t position = 0, from, size = header->raw;
	struct record record;
	int result;

	if (header->kind != FRAME_JOURNAL || header->sequence != tail->at.sequence ||
	    memcmp(header->uuid, tail->image->store->uuid, sizeof(header->uuid)) || !size)
		return TAIL_LOST;
	while (position < size) {
		from = position;
		if (record_decode(payload, size, &position, &record) < 0)
			return TAIL_LOST;
		if (record.kind == RECORD_GENERATION)
			result = take_generation(tail, &record.generation);
		else if (header->generation != tail->generation)
			result = TAIL_LOST;
		else
			result = take_record(tail, payload + from, position - from, &record);
		if (result)
			return result;
	}
	return 0;
}

static bool is_before(const struct image_place *at, uint64_t segment, uint64_t offset)
{
	return at->segment < segment || (at->segment == segment && at->offset < offset);
}

/* Up to the place, the segment's end, or enough: 0, and 1 for enough. */
static int read_segment(struct tail *tail, struct frame_file *file, uint64_t segment,
			uint64_t offset)
{
	const unsigned char *payload;
	struct frame_header header;
	int result;

	while (is_before(&tail->at, segment, offset)) {
		result = frame_file_read(file, tail->at.offset, &header, &payload);
		if (result == -ENODATA && tail->at.segment < segment) {
			tail->at.segment++;
			tail->at.offset = 0;
			if (!tail->group)
				keep(tail);
			return 0;
		}
		/* A writer is at work on the files, or they are damaged, or of
		 * another key: whoever reads all of them finds out. */
		if (result && result != -ENOMEM && result != -EIO)
			return TAIL_LOST;
		if (result)
			return hac_fail(-result, "%s/%s cannot be read: %s", tail->image->path,
					file->name, strerror(-result));
		result = take_frame(tail, &header, payload);
		if (result)
			return result;
		tail->at.offset += frame_size(&header);
		tail->at.sequence++;
		if (tail->group)
			continue;
		keep(tail);
		if (tail->size >= TAIL_BYTES)
			return 1;
	}
	return 0;
}

int image_tail_read(const struct image *image, uint64_t segment, uint64_t offset,
		    struct tail_plan *plan)
{
	struct tail tail = {
		.image = image,
		.plan = plan,
		.at = image->end,
		.epoch = image->epoch,
		.generation = image->generation,
		.parent = image->parent,
		.branch_epoch = image->branch_epoch,
	};
	int result = 0;

	keep(&tail);
	while (!result && is_before(&tail.at, segment, offset)) {
		struct frame_file file;
		char name[32];

		segment_name(name, tail.at.segment);
		result = frame_file_open(image->store->directory, name, &image->store->coding.key,
					 &file);
		if (result == -ENOENT || result == -EBADMSG)
			return TAIL_LOST;
		if (result)
			return hac_fail(-result, "%s/%s cannot be read: %s", image->path, name,
					strerror(-result));
		result = read_segment(&tail, &file, segment, offset);
		frame_file_close(&file);
	}
	/* What was whole before something failed is good. */
	if (plan->size && result >= 0)
		return 1;
	return result;
}

void image_tail_take(struct image *image, const struct tail_plan *plan)
{
	image->end = plan->end;
	image->epoch = plan->epoch;
	image->generation = plan->generation;
	image->parent = plan->parent;
	image->branch_epoch = plan->branch_epoch;
	if (plan->epoch > image->last_epoch)
		image->last_epoch = plan->epoch;
}
