// SPDX-License-Identifier: MIT
#include "image_internal.h"

#include "error.h"
#include "image_io.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define LAYOUT_NEW IMAGE_FILE_LAYOUT ".tmp"
#define BASE_NEW IMAGE_FILE_BASE ".tmp"
#define FRAME_BYTES ((size_t)1 << 20)
#define ZERO_BLOCK ((size_t)4096)

/* -------------------------------------------------- a file of frames -- */

/* Collects records into frames of about FRAME_BYTES. */
struct file_writer {
	int fd;
	uint64_t offset;
	struct frame_header header;
	unsigned char *payload;
	size_t filled;
	size_t room;
	struct frame_writer *coder; /* NULL: frames are written as they are */
};

static const struct frame_coding plain;

static int flush_frame(struct file_writer *writer, uint32_t flags)
{
	struct frame_header *header = &writer->header;
	unsigned char head[FRAME_HEADER_CIPHER_SIZE];
	struct iovec parts[2];
	int error;

	header->flags = flags;
	header->time_ns = frame_time();
	error = frame_writer_encode(writer->coder, header, writer->payload, writer->filled, head,
				    parts);
	if (!error)
		error = io_write_all(writer->fd, parts, 2, writer->offset);
	header->sequence++;
	writer->offset += frame_size(header);
	writer->filled = 0;
	return error;
}

static int add_record(struct file_writer *writer, const struct record *record)
{
	size_t size = record_size(record);
	int error;

	if (writer->filled && writer->filled + size > FRAME_BYTES) {
		error = flush_frame(writer, 0);
		if (error)
			return error;
	}
	if (size > writer->room) {
		unsigned char *payload = realloc(writer->payload, size);

		if (!payload)
			return -ENOMEM;
		writer->payload = payload;
		writer->room = size;
	}
	writer->filled += record_encode(writer->payload + writer->filled, record);
	return 0;
}

static int begin_file(struct file_writer *writer, int directory, const char *name,
		      enum frame_kind kind, const unsigned char uuid[16],
		      const struct frame_coding *coding)
{
	int error;

	memset(writer, 0, sizeof(*writer));
	writer->header.kind = (uint8_t)kind;
	memcpy(writer->header.uuid, uuid, 16);
	writer->room = FRAME_BYTES;
	writer->payload = malloc(writer->room);
	if (!writer->payload)
		return -ENOMEM;
	error = frame_writer_create(coding, &writer->coder);
	if (error) {
		free(writer->payload);
		return error;
	}
	writer->fd = image_io.openat(directory, name,
				     O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
	if (writer->fd >= 0)
		return 0;
	error = -errno;
	frame_writer_free(writer->coder);
	free(writer->payload);
	return error;
}

/* Make the file whole and durable under its temporary name, then under its
 * own: a crash leaves the old one or the new one. */
static int end_file(struct file_writer *writer, int error, int directory, const char *from,
		    const char *to)
{
	if (!error)
		error = flush_frame(writer, FRAME_END);
	if (!error && image_io.fsync(writer->fd))
		error = -errno;
	image_io.close(writer->fd);
	frame_writer_free(writer->coder);
	free(writer->payload);
	if (!error && image_io.renameat(directory, from, to))
		error = -errno;
	if (error)
		image_io.unlinkat(directory, from);
	else if (image_io.fsync(directory))
		error = -errno;
	return error;
}

/* --------------------------------------------------------------- base -- */

static bool is_zero(const unsigned char *bytes, size_t size)
{
	return !bytes[0] && !memcmp(bytes, bytes + 1, size - 1);
}

/* How far from `from` on it is all zeros, or not, in blocks. */
static size_t stretch(const unsigned char *bytes, size_t from, size_t size, bool zero)
{
	while (from < size) {
		size_t block = size - from < ZERO_BLOCK ? size - from : ZERO_BLOCK;

		if (is_zero(bytes + from, block) != zero)
			break;
		from += block;
	}
	return from;
}

/* Zeros are left out: an area begins as zeros. */
static int add_contents(struct file_writer *writer, uint64_t epoch, const struct layout *layout,
			const unsigned char *bytes)
{
	size_t at = 0, end;
	int error = 0;

	while (!error && (at = stretch(bytes, at, layout->size, true)) < layout->size) {
		end = stretch(bytes, at, layout->size, false);
		while (!error && at < end) {
			size_t length = end - at < FRAME_BYTES / 2 ? end - at : FRAME_BYTES / 2;
			struct hac_run run = { at, (uint32_t)length, layout->id };
			struct record record = {
				.kind = RECORD_TRANSACTION,
				.epoch = epoch,
				.transaction = { &run, 1, bytes + at, length },
			};

			error = add_record(writer, &record);
			at += length;
		}
	}
	return error;
}

static int add_state(struct file_writer *writer, const struct image_state *state)
{
	int error = 0;

	for (size_t i = 0; !error && i < state->count; i++) {
		struct record record = {
			.kind = RECORD_LAYOUT,
			.epoch = state->epoch,
			.layout = state->layouts[i],
		};

		error = add_record(writer, &record);
	}
	for (size_t i = 0; !error && i < state->count; i++)
		error = add_contents(writer, state->epoch, &state->layouts[i], state->bytes[i]);
	return error;
}

int image_write_base(int directory, const char *path, const unsigned char uuid[16],
		     const struct record_base *base, const struct image_state *state,
		     const struct frame_coding *coding)
{
	struct record record = { .kind = RECORD_BASE, .epoch = state->epoch, .base = *base };
	struct file_writer writer;
	int error;

	record.base.areas = (uint32_t)state->count;
	for (size_t i = 0; i < state->count; i++)
		if (state->layouts[i].id >= record.base.next_area_id)
			record.base.next_area_id = state->layouts[i].id + 1;
	error = begin_file(&writer, directory, BASE_NEW, FRAME_BASE, uuid, coding);
	if (!error) {
		writer.header.generation = base->generation;
		writer.header.first_epoch = writer.header.last_epoch = state->epoch;
		error = add_record(&writer, &record);
		if (!error)
			error = add_state(&writer, state);
		error = end_file(&writer, error, directory, BASE_NEW, IMAGE_FILE_BASE);
	}
	if (error)
		return hac_fail(-error, "a new base of image %s cannot be written: %s", path,
				strerror(-error));
	return 0;
}

/* ---------------------------------------------------------- new image -- */

/* A random UUID, version 4. */
static int make_uuid(unsigned char uuid[16])
{
	ssize_t got;

	do
		got = getrandom(uuid, 16, 0);
	while (got < 0 && errno == EINTR);
	if (got != 16)
		return got < 0 ? -errno : -EIO;
	uuid[6] = (uuid[6] & 0x0f) | 0x40;
	uuid[8] = (uuid[8] & 0x3f) | 0x80;
	return 0;
}

static int write_layout_file(int directory, const unsigned char uuid[16])
{
	struct record record = {
		.kind = RECORD_IMAGE,
		.image =
			{
				.version = IMAGE_FORMAT,
				.byte_order = RECORD_BYTE_ORDER,
				.page_size = (uint32_t)sysconf(_SC_PAGESIZE),
				.word_size = 8,
			},
	};
	struct file_writer writer;
	int error = begin_file(&writer, directory, LAYOUT_NEW, FRAME_LAYOUT, uuid, &plain);

	if (error)
		return error;
	error = add_record(&writer, &record);
	return end_file(&writer, error, directory, LAYOUT_NEW, IMAGE_FILE_LAYOUT);
}

int image_create_files(int directory, const char *path, const struct image_state *state,
		       const struct frame_coding *coding)
{
	struct record_base base = {
		.last_epoch = state->epoch,
		.branch_epoch = state->epoch,
		.first_segment = 1,
		.first_sequence = 1,
		.next_area_id = 1,
	};
	unsigned char uuid[16];
	int error = make_uuid(uuid), fd;

	/* The first segment is there before anything says so: from then on, a
	 * segment that is missing has been lost. */
	if (!error) {
		fd = journal_create_segment(directory, 1);
		error = fd < 0 ? fd : 0;
		if (fd >= 0)
			image_io.close(fd);
	}
	if (!error)
		error = image_write_base(directory, path, uuid, &base, state,
					 coding ? coding : &plain);
	if (!error)
		error = write_layout_file(directory, uuid);
	if (error)
		return hac_fail(-error, "image %s cannot be created: %s", path, strerror(-error));
	return 0;
}

/* ------------------------------------------------------------ tidying -- */

void image_remove_leftovers(int directory)
{
	image_io.unlinkat(directory, BASE_NEW);
	image_io.unlinkat(directory, LAYOUT_NEW);
}

void image_remove_segments(int directory, uint64_t from, uint64_t to)
{
	for (; from < to; from++) {
		char name[32];

		segment_name(name, from);
		image_io.unlinkat(directory, name);
	}
}

int image_sync_parent(const char *path)
{
	char *copy = strdup(path);
	int error = 0, fd;

	if (!copy)
		return -ENOMEM;
	fd = image_io.openat(AT_FDCWD, dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (fd < 0 || image_io.fsync(fd))
		error = -errno;
	if (fd >= 0)
		image_io.close(fd);
	free(copy);
	/* A parent that may not be read: nothing to be done about it. */
	return error == -EACCES ? 0 : error;
}
