// SPDX-License-Identifier: MIT
#include "image_read.h"

#include "image_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WINDOW ((size_t)256 << 10)

int frame_file_open(int directory, const char *name, const struct frame_key *key,
		    struct frame_file *out)
{
	struct frame_file file = { .fd = -1, .reader.key = key };
	struct stat st;

	snprintf(file.name, sizeof(file.name), "%s", name);
	/* O_NONBLOCK: a fifo of that name must not stop us. */
	file.fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	if (file.fd < 0)
		return -errno;
	if (fstat(file.fd, &st) || !S_ISREG(st.st_mode)) {
		close(file.fd);
		return -EBADMSG;
	}
	file.size = (uint64_t)st.st_size;
	*out = file;
	return 0;
}

void frame_file_close(struct frame_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	free(file->window);
	frame_reader_free(&file->reader);
	file->fd = -1;
	file->window = NULL;
	file->filled = file->room = 0;
}

static int make_room(struct frame_file *file, size_t size)
{
	unsigned char *window;

	if (size <= file->room)
		return 0;
	window = realloc(file->window, size);
	if (!window)
		return -ENOMEM;
	file->window = window;
	file->room = size;
	return 0;
}

/* Let the window cover [offset, offset + length), which lies in the file. It
 * starts at a multiple of 8, so that payloads are aligned. */
static int look_at(struct frame_file *file, uint64_t offset, size_t length,
		   const unsigned char **out)
{
	uint64_t start = offset & ~(uint64_t)7;
	size_t want = (size_t)(offset - start) + length;
	int error;

	if (offset >= file->start && offset + length <= file->start + file->filled) {
		*out = file->window + (offset - file->start);
		return 0;
	}
	if (want < WINDOW)
		want = file->size - start < WINDOW ? (size_t)(file->size - start) : WINDOW;
	error = make_room(file, want);
	if (error)
		return error;
	file->start = start;
	file->filled = 0;
	while (file->filled < want) {
		ssize_t got = pread(file->fd, file->window + file->filled, want - file->filled,
				    (off_t)(start + file->filled));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got)
			break;
		file->filled += (size_t)got;
	}
	/* Somebody has cut the file since it was opened. */
	if (offset + length > start + file->filled)
		return -EBADMSG;
	*out = file->window + (offset - start);
	return 0;
}

static int read_header(struct frame_file *file, uint64_t offset, struct frame_header *header)
{
	uint64_t left = file->size - offset;
	size_t size = left < FRAME_HEADER_MAX ? (size_t)left : FRAME_HEADER_MAX;
	const unsigned char *bytes;
	int error = look_at(file, offset, size, &bytes);

	if (error)
		return error;
	error = frame_decode_header(bytes, size, header);
	if (error)
		return error;
	return header->stored > left - frame_header_size(header) ? -EBADMSG : 0;
}

int frame_file_check(struct frame_file *file, uint64_t offset, struct frame_header *header,
		     const unsigned char **payload)
{
	const unsigned char *bytes;
	int error;

	if (offset >= file->size)
		return -ENODATA;
	error = read_header(file, offset, header);
	if (error)
		return error;
	error = look_at(file, offset + frame_header_size(header), header->stored, &bytes);
	if (error)
		return error;
	if (frame_hash(bytes, header->stored) != header->payload_hash)
		return -EBADMSG;
	*payload = bytes;
	return 0;
}

int frame_file_read(struct frame_file *file, uint64_t offset, struct frame_header *header,
		    const unsigned char **payload)
{
	const unsigned char *stored;
	int error = frame_file_check(file, offset, header, &stored);

	if (error)
		return error;
	error = frame_reader_decode(&file->reader, header, stored, payload);
	return error == -EBADMSG ? -EILSEQ : error;
}

/* An intact frame of a later version counts, too: it is no torn end. */
static int is_later_frame(struct frame_file *file, uint64_t offset, const unsigned char uuid[16],
			  uint64_t sequence)
{
	const unsigned char *payload;
	struct frame_header header;
	int error = frame_file_check(file, offset, &header, &payload);

	if (error == -EPROTONOSUPPORT)
		return 1;
	if (error == -EBADMSG || error == -ENODATA)
		return 0;
	if (error)
		return error;
	return header.kind == FRAME_JOURNAL && header.sequence >= sequence &&
	       !memcmp(header.uuid, uuid, sizeof(header.uuid));
}

int frame_file_find(struct frame_file *file, uint64_t from, const unsigned char uuid[16],
		    uint64_t sequence)
{
	while (from < file->size && file->size - from >= FRAME_HEADER_SIZE) {
		uint64_t left = file->size - from;
		size_t size = left < WINDOW / 2 ? (size_t)left : WINDOW / 2;
		const unsigned char *bytes, *hit;
		int result = look_at(file, from, size, &bytes);

		/* What was cut meanwhile holds no frame. */
		if (result)
			return result == -EBADMSG ? 0 : result;
		hit = memmem(bytes, size, FRAME_MAGIC, FRAME_MAGIC_SIZE);
		if (!hit) {
			from += size - FRAME_MAGIC_SIZE + 1;
			continue;
		}
		from += (uint64_t)(hit - bytes);
		result = is_later_frame(file, from, uuid, sequence);
		if (result)
			return result;
		from++;
	}
	return 0;
}

int frame_file_zeros(struct frame_file *file, uint64_t from)
{
	while (from < file->size) {
		uint64_t left = file->size - from;
		size_t size = left < WINDOW / 2 ? (size_t)left : WINDOW / 2;
		const unsigned char *bytes;
		int error = look_at(file, from, size, &bytes);

		if (error)
			return error == -EBADMSG ? 0 : error;
		for (size_t i = 0; i < size; i++)
			if (bytes[i])
				return 0;
		from += size;
	}
	return 1;
}
