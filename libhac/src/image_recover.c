// SPDX-License-Identifier: MIT
#include "image_internal.h"

#include "error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void segment_name(char name[32], uint64_t segment)
{
	snprintf(name, 32, IMAGE_FILE_JOURNAL "%08" PRIu64, segment);
}

int recovery_damaged(struct recovery *recovery, const char *file, uint64_t offset, const char *what)
{
	struct damage *damage = &recovery->damage;

	snprintf(damage->file, sizeof(damage->file), "%s", file);
	damage->offset = offset;
	damage->epoch = recovery->last_epoch + 1;
	return hac_fail(EBADMSG,
			"image %s is damaged: %s at offset %" PRIu64 ", epoch %" PRIu64
			" may be the first lost: %s; restore the file from a copy",
			recovery->path, file, offset, damage->epoch, what);
}

int recovery_unreadable(struct recovery *recovery, const char *file, int error)
{
	return hac_fail(-error, "%s/%s cannot be read: %s", recovery->path, file, strerror(-error));
}

/* What a frame that cannot be accepted means, outside the journal's end. */
int recovery_bad_frame(struct recovery *recovery, const char *file, uint64_t offset, int error)
{
	char what[PATH_MAX + 8];
	int failed;

	switch (error) {
	case -EBADMSG:
		return recovery_damaged(recovery, file, offset, "no intact frame");
	case -ENODATA:
		return recovery_damaged(recovery, file, offset, "the file is too short");
	case -EPROTONOSUPPORT:
		return recovery_damaged(recovery, file, offset,
					"an intact frame of a format that this version does not "
					"know; a newer version wrote it");
	case -EILSEQ:
		return recovery_damaged(recovery, file, offset,
					"the frame is intact, but cannot be decoded; it was "
					"tampered with");
	case -ENOKEY:
	case -ENOTUNIQ:
	case -EKEYREJECTED:
		/* The base's first frame says how all of them are. */
		if (offset || strcmp(file, IMAGE_FILE_BASE))
			return recovery_damaged(recovery, file, offset,
						"the frame is not encrypted in the way that the "
						"base is; it was put there");
		break;
	}
	snprintf(what, sizeof(what), "image %s", recovery->path);
	failed = frame_reader_failed(error, what);
	return failed ? failed : recovery_unreadable(recovery, file, error);
}

/* ------------------------------------------------------------ walking -- */

int recovery_visit_frame(struct recovery *recovery, const struct walk_frame *frame,
			 walk_visit visit, void *argument)
{
	size_t position = 0;
	struct record record;
	int result;

	if (!frame->header.raw)
		return recovery_damaged(recovery, frame->file, frame->offset,
					"the frame is intact, but there is nothing in it");
	while (position < frame->header.raw) {
		result = record_decode(frame->payload, frame->header.raw, &position, &record);
		if (result < 0)
			return recovery_damaged(recovery, frame->file, frame->offset,
						"the frame is intact, but a record in it is not");
		result = visit(argument, frame, &record, position == frame->header.raw);
		if (result)
			return result;
	}
	return 0;
}

/* Layout file and base: frames of one kind, from sequence 0 to one that is
 * marked as the end, and nothing behind it. */
static int walk_whole_file(struct recovery *recovery, const char *name, enum frame_kind kind,
			   walk_visit visit, void *argument)
{
	struct walk_frame frame = { .file = name };
	struct frame_header last = { 0 };
	struct frame_file file;
	uint64_t sequence = 0;
	int error = frame_file_open(recovery->directory, name, recovery->key, &file);

	if (error == -ENOENT)
		return recovery_damaged(recovery, name, 0, "the file is missing");
	if (error)
		return recovery_unreadable(recovery, name, error);
	do {
		error = frame_file_read(&file, frame.offset, &frame.header, &frame.payload);
		if (!error && (frame.header.kind != kind || frame.header.sequence != sequence ||
			       (sequence && !frame_continues(&last, &frame.header)) ||
			       (kind != FRAME_LAYOUT &&
				memcmp(frame.header.uuid, recovery->uuid, sizeof(recovery->uuid)))))
			error = -EBADMSG;
		if (error) {
			error = recovery_bad_frame(recovery, name, frame.offset, error);
			break;
		}
		error = recovery_visit_frame(recovery, &frame, visit, argument);
		frame.offset += frame_size(&frame.header);
		last = frame.header;
		sequence++;
	} while (!error && !(frame.header.flags & FRAME_END));
	if (!error && frame.offset != file.size)
		error = recovery_damaged(recovery, name, frame.offset, "the file is too long");
	frame_file_close(&file);
	return error;
}

int recovery_walk_base(struct recovery *recovery, walk_visit visit, void *argument)
{
	return walk_whole_file(recovery, IMAGE_FILE_BASE, FRAME_BASE, visit, argument);
}

int recovery_walk_journal(struct recovery *recovery, walk_visit visit, void *argument)
{
	for (size_t i = 0; i <= recovery->end_segment && i < recovery->segments_count; i++) {
		uint64_t end = i == recovery->end_segment ? recovery->end_offset : UINT64_MAX;
		char name[32];
		struct walk_frame frame = { .file = name, .segment = i };
		struct frame_file file;
		int error;

		segment_name(name, recovery->segments[i]);
		error = frame_file_open(recovery->directory, name, recovery->key, &file);
		if (error)
			return error == -ENOENT ?
				       recovery_damaged(recovery, name, 0, "the file is gone") :
				       recovery_unreadable(recovery, name, error);
		while (!error && frame.offset < end) {
			error = frame_file_read(&file, frame.offset, &frame.header, &frame.payload);
			if (error == -ENODATA && end == UINT64_MAX) {
				error = 0;
				break;
			}
			error = error ? recovery_bad_frame(recovery, name, frame.offset, error) :
					recovery_visit_frame(recovery, &frame, visit, argument);
			frame.offset += frame_size(&frame.header);
		}
		frame_file_close(&file);
		if (error)
			return error;
	}
	return 0;
}

/* --------------------------------------------- layout file, base, list -- */

static void format_uuid(const unsigned char uuid[16], char text[37])
{
	for (int i = 0; i < 16; i++) {
		bool dash = i == 4 || i == 6 || i == 8 || i == 10;

		text += sprintf(text, "%s%02x", dash ? "-" : "", uuid[i]);
	}
}

static int visit_layout_file(void *argument, const struct walk_frame *frame,
			     const struct record *record, bool last)
{
	struct recovery *recovery = argument;
	long page = sysconf(_SC_PAGESIZE);

	if (record->kind != RECORD_IMAGE || !last)
		return recovery_damaged(recovery, frame->file, frame->offset, "not a layout");
	memcpy(recovery->uuid, frame->header.uuid, sizeof(recovery->uuid));
	format_uuid(recovery->uuid, recovery->uuid_text);
	if (record->image.version != IMAGE_FORMAT)
		return recovery_damaged(recovery, frame->file, frame->offset,
					"the image's format is not known here");
	if (record->image.byte_order != RECORD_BYTE_ORDER || record->image.word_size != 8 ||
	    record->image.page_size != (uint64_t)page)
		return hac_fail(EPROTOTYPE,
				"image %s is for a machine with byte order %08x, pages of %u and "
				"words of %u bytes; here it is %08x, %ld and 8",
				recovery->path, record->image.byte_order, record->image.page_size,
				record->image.word_size, RECORD_BYTE_ORDER, page);
	return 0;
}

void *recovery_append(void *list, size_t *count, size_t size)
{
	/* Powers of two: room grows when the count is one. */
	if (!(*count & (*count - 1)))
		list = realloc(list, (*count ? *count * 2 : 1) * size);
	if (list)
		(*count)++;
	return list;
}

struct generation *recovery_add_generation(struct recovery *recovery, uint64_t number,
					   uint64_t parent, uint64_t branch_epoch)
{
	struct generation *list =
		recovery_append(recovery->generations, &recovery->generations_count, sizeof(*list));

	if (!list)
		return NULL;
	recovery->generations = list;
	list += recovery->generations_count - 1;
	*list = (struct generation){
		.number = number,
		.parent = parent,
		.branch_epoch = branch_epoch,
		.tip = branch_epoch,
	};
	recovery->last_generation = number;
	return list;
}

static int visit_base_head(void *argument, const struct walk_frame *frame,
			   const struct record *record, bool last)
{
	struct recovery *recovery = argument;
	const struct record_base *base = &record->base;

	(void)last;
	if (recovery->generations_count)
		return 0;
	if (record->kind != RECORD_BASE || base->last_epoch < record->epoch ||
	    base->branch_epoch > record->epoch || !base->first_segment || !base->first_sequence)
		return recovery_damaged(recovery, frame->file, frame->offset, "not a base");
	recovery->base = *base;
	recovery->base_epoch = record->epoch;
	recovery->epoch = record->epoch;
	recovery->last_epoch = base->last_epoch;
	recovery->next_area_id = base->next_area_id;
	recovery->next_sequence = base->first_sequence;
	if (!recovery_add_generation(recovery, base->generation, base->parent, base->branch_epoch))
		return hac_fail(ENOMEM, "no memory to read image %s", recovery->path);
	recovery->generations[0].tip = record->epoch;
	return 0;
}

static int compare_segments(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* "journal." and at least eight digits; 0 if it is something else. */
static uint64_t segment_of(const char *name)
{
	size_t prefix = strlen(IMAGE_FILE_JOURNAL);
	char again[32];
	uint64_t segment;

	if (strncmp(name, IMAGE_FILE_JOURNAL, prefix))
		return 0;
	segment = strtoull(name + prefix, NULL, 10);
	segment_name(again, segment);
	return strcmp(name, again) ? 0 : segment;
}

static int add_segment(struct recovery *recovery, uint64_t segment)
{
	bool old = segment < recovery->base.first_segment;
	uint64_t **list = old ? &recovery->superfluous : &recovery->segments;
	size_t *count = old ? &recovery->superfluous_count : &recovery->segments_count;
	uint64_t *longer = recovery_append(*list, count, sizeof(*longer));

	if (!longer)
		return -ENOMEM;
	longer[*count - 1] = segment;
	*list = longer;
	return 0;
}

static int list_segments(struct recovery *recovery, uint64_t until)
{
	int fd = openat(recovery->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int error = 0;

	if (!directory) {
		error = -errno;
		if (fd >= 0)
			close(fd);
		return recovery_unreadable(recovery, ".", error);
	}
	while (!error && (entry = readdir(directory))) {
		uint64_t segment = segment_of(entry->d_name);

		if (segment && (!until || segment < until))
			error = add_segment(recovery, segment);
	}
	closedir(directory);
	if (error)
		return recovery_unreadable(recovery, ".", error);
	if (recovery->segments_count)
		qsort(recovery->segments, recovery->segments_count, sizeof(uint64_t),
		      compare_segments);
	for (size_t i = 0; i <= recovery->segments_count; i++) {
		uint64_t wanted = recovery->base.first_segment + i;
		char name[32];

		if (i == recovery->segments_count ? i > 0 : recovery->segments[i] == wanted)
			continue;
		segment_name(name, wanted);
		return recovery_damaged(recovery, name, 0, "the file is missing");
	}
	return 0;
}

/* -------------------------------------------------------------- whole -- */

static int survey(struct recovery *recovery, uint64_t at, uint64_t until, struct survey *out)
{
	int error = walk_whole_file(recovery, IMAGE_FILE_LAYOUT, FRAME_LAYOUT, visit_layout_file,
				    recovery);

	if (!error)
		error = recovery_walk_base(recovery, visit_base_head, recovery);
	if (!error)
		error = list_segments(recovery, until);
	if (!error)
		error = recovery_survey_journal(recovery, at, out);
	return error;
}

static void begin(struct recovery *recovery, int directory, const char *path,
		  const struct frame_key *key)
{
	memset(recovery, 0, sizeof(*recovery));
	recovery->directory = directory;
	recovery->path = path;
	recovery->key = key;
}

int recovery_survey(struct recovery *recovery, int directory, const char *path, uint64_t at,
		    const struct frame_key *key)
{
	begin(recovery, directory, path, key);
	return survey(recovery, at, 0, NULL);
}

int recovery_survey_until(struct recovery *recovery, int directory, const char *path,
			  const struct frame_key *key, uint64_t until, struct survey *out)
{
	begin(recovery, directory, path, key);
	return survey(recovery, 0, until, out);
}

/* The first record of the base says it all. */
static int visit_first_head(void *argument, const struct walk_frame *frame,
			    const struct record *record, bool last)
{
	int error = visit_base_head(argument, frame, record, last);

	return error ? error : 1;
}

int recovery_survey_heads(struct recovery *recovery, int directory, const char *path,
			  const struct frame_key *key)
{
	int result;

	begin(recovery, directory, path, key);
	result = walk_whole_file(recovery, IMAGE_FILE_LAYOUT, FRAME_LAYOUT, visit_layout_file,
				 recovery);
	if (!result)
		result = recovery_walk_base(recovery, visit_first_head, recovery);
	return result < 0 ? result : list_segments(recovery, 0);
}

void recovery_free(struct recovery *recovery)
{
	free(recovery->segments);
	free(recovery->superfluous);
	free(recovery->generations);
	free(recovery->void_groups);
	image_areas_free(recovery->areas, recovery->areas_count);
	memset(recovery, 0, sizeof(*recovery));
}

int recovery_read(struct recovery *recovery, int directory, const char *path, uint64_t at,
		  const struct frame_key *key, bool apply)
{
	struct damage before = { .offset = UINT64_MAX };
	int error;

	for (int attempt = 0;; attempt++) {
		const struct timespec pause = { .tv_nsec = 1000000 };
		bool same;

		error = recovery_survey(recovery, directory, path, at, key);
		if (image_is_replaced(directory))
			error = hac_fail(
				EAGAIN,
				"image %s is being replaced by another one; where that was "
				"interrupted, opening it for writing finishes it",
				path);
		if (!error && apply)
			error = recovery_apply(recovery);
		/* A writer that is at work makes what looks like damage whole,
		 * and a compaction takes segments away: damage stays. */
		same = recovery->damage.offset == before.offset &&
		       !strcmp(recovery->damage.file, before.file);
		same = same && error != -EAGAIN;
		if (!error || error == -EINVAL || error == -ENOMEM || error == -EPROTOTYPE ||
		    error == -EACCES || same || attempt == 50)
			return error;
		before = recovery->damage;
		recovery_free(recovery);
		nanosleep(&pause, NULL);
	}
}
