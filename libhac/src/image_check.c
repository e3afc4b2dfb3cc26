// SPDX-License-Identifier: MIT
#include "image_internal.h"

#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* An image to read, and the key for it. One that lost its layout file is for the
 * recovery to name. */
static int open_image(const char *path, int *out, struct frame_key *key)
{
	int error = path ? frame_key_load(NULL, key) :
			   hac_fail(EINVAL, "the path of the image is NULL");

	if (!error)
		error = image_open_directory(path, false, out);
	if (error)
		return error;
	error = image_classify(*out, path);
	if (!error)
		error = hac_fail(ENOENT, "there is no image in %s", path);
	if (error > 0 || error == -EBADMSG)
		return 0;
	close(*out);
	return error;
}

/* -------------------------------------------------------------- check -- */

static void fill_check(const struct recovery *recovery, struct hac_check *check)
{
	struct stat st;

	memcpy(check->uuid, recovery->uuid_text, sizeof(check->uuid));
	snprintf(check->file, sizeof(check->file), "%s", recovery->damage.file);
	check->offset = recovery->damage.offset;
	check->damage_epoch = recovery->damage.epoch;
	/* What a writer is just writing is not dropped. */
	check->dropped_bytes = check->locked_by ? 0 : recovery->dropped_bytes;
	check->epoch = recovery->epoch;
	check->base_epoch = recovery->base_epoch;
	check->generation = recovery->last_generation;
	check->frames = recovery->frames;
	check->transactions = recovery->transactions;
	check->journal_bytes = recovery->journal_bytes;
	if (!fstatat(recovery->directory, IMAGE_FILE_BASE, &st, 0))
		check->base_bytes = (uint64_t)st.st_size;
	check->areas = (uint32_t)recovery->areas_count;
	check->segments = (uint32_t)recovery->segments_count;
	/* Up to where damage was found, the last whole epoch is the newest. */
	if (recovery->damage.file[0] && recovery->last_epoch > check->epoch)
		check->epoch = recovery->last_epoch;
}

int hac_check_image(const char *path, struct hac_check *check)
{
	struct hac_check found = { .size = sizeof(found) };
	struct recovery recovery;
	struct frame_key key;
	int directory, error;

	if (!check || check->size != sizeof(*check))
		return hac_fail(EINVAL, "check->size is not that of struct hac_check");
	error = open_image(path, &directory, &key);
	if (error)
		return error;
	error = recovery_read(&recovery, directory, path, 0, &key, true);
	if (!error || error == -EBADMSG) {
		found.locked_by = (uint32_t)image_lock_owner(directory);
		fill_check(&recovery, &found);
		*check = found;
	}
	recovery_free(&recovery);
	frame_key_wipe(&key);
	close(directory);
	return error;
}

/* ---------------------------------------------------------------- log -- */

struct log {
	int (*each)(void *argument, const struct hac_log_record *record);
	void *argument;
};

static const char *kind_name(uint32_t kind)
{
	switch (kind) {
	case RECORD_BASE:
	case RECORD_GENERATION:
		return "generation";
	case RECORD_LAYOUT:
		return "layout";
	case RECORD_DROP:
		return "drop";
	default:
		return "transaction";
	}
}

static void fill_record(const struct record *record, struct hac_log_record *out)
{
	switch (record->kind) {
	case RECORD_BASE:
		out->parent = record->base.parent;
		out->branch_epoch = record->base.branch_epoch;
		break;
	case RECORD_GENERATION:
		out->parent = record->generation.parent;
		out->branch_epoch = record->generation.branch_epoch;
		break;
	case RECORD_LAYOUT:
		out->area = record->layout.id;
		out->bytes = record->layout.size;
		out->name = record->layout.name;
		out->type = record->layout.type;
		break;
	case RECORD_DROP:
		out->area = record->drop;
		break;
	case RECORD_TRANSACTION:
		out->runs = record->transaction.runs_count;
		out->bytes = record->transaction.bytes_count;
		out->run = record->transaction.runs;
		out->data = record->transaction.bytes;
		out->partial = !!(record->flags & RECORD_PARTIAL);
		break;
	}
}

static int visit_log(void *argument, const struct walk_frame *frame, const struct record *record,
		     bool last)
{
	struct log *log = argument;
	struct hac_log_record out = {
		.kind = kind_name(record->kind),
		.file = frame->file,
		.offset = frame->offset,
		.generation = frame->header.generation,
		.epoch = record->epoch,
		.time_ns = frame->header.time_ns,
	};

	(void)last;
	fill_record(record, &out);
	return log->each(log->argument, &out);
}

int hac_log_image(const char *path,
		  int (*each)(void *argument, const struct hac_log_record *record), void *argument)
{
	struct log log = { .each = each, .argument = argument };
	struct recovery recovery;
	struct frame_key key;
	int directory, error, damaged;

	if (!each)
		return hac_fail(EINVAL, "each is NULL");
	error = open_image(path, &directory, &key);
	if (error)
		return error;
	/* First what is sound of it, for `each` is called once a record. */
	damaged = recovery_read(&recovery, directory, path, 0, &key, false);
	if (recovery.generations_count)
		error = recovery_walk_base(&recovery, visit_log, &log);
	if (!error && recovery.generations_count)
		error = recovery_walk_journal(&recovery, visit_log, &log);
	if (!error)
		error = damaged;
	recovery_free(&recovery);
	frame_key_wipe(&key);
	close(directory);
	return error;
}
