// SPDX-License-Identifier: MIT
#include "journal.h"

#include "error.h"
#include "image_io.h"
#include "image_recover.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#define CHUNK_MIN ((uint64_t)1 << 20)
#define CHUNK_MAX ((uint64_t)16 << 20)

static int journal_failed(const struct journal *journal, const char *what, int error)
{
	char name[32];

	segment_name(name, journal->segment);
	return hac_fail(-error, "%s/%s: cannot %s: %s", journal->path, name, what,
			strerror(-error));
}

int journal_create_segment(int directory, uint64_t segment)
{
	char name[32];
	int error, fd;

	segment_name(name, segment);
	/* An empty one may be there: a rotation that failed, or a crash. */
	fd = image_io.openat(directory, name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
	if (fd < 0)
		return -errno;
	/* Frames in a file whose name is lost would be lost. */
	if (!image_io.fsync(directory))
		return fd;
	error = -errno;
	image_io.close(fd);
	return error;
}

static int try_fallocate(struct journal *journal, int fd, uint64_t from, uint64_t to)
{
	while (image_io.fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from))) {
		if (errno == EINTR)
			continue;
		if (errno != EOPNOTSUPP && errno != ENOSYS)
			return -errno;
		journal->no_fallocate = true;
		break;
	}
	return 0;
}

/* Room set aside beyond the end does not show in the file's size; cutting the
 * file to the size that it has anyway gives it back. */
void journal_release(struct journal *journal)
{
	if (journal->fd < 0 || journal->reserved <= journal->offset)
		return;
	if (!journal->no_fallocate)
		(void)!image_io.ftruncate(journal->fd, (off_t)journal->offset);
	journal->reserved = journal->offset;
}

void journal_close(struct journal *journal)
{
	journal_release(journal);
	if (journal->fd >= 0)
		image_io.close(journal->fd);
	journal->fd = -1;
}

int journal_open_segment(struct journal *journal, uint64_t segment)
{
	uint64_t promised =
		journal->reserved > journal->offset ? journal->reserved - journal->offset : 0;
	uint64_t limit = io_size_limit();
	uint64_t room = promised > CHUNK_MIN ? promised : CHUNK_MIN;
	int error = 0, fd = journal_create_segment(journal->directory, segment);

	if (fd < 0)
		return journal_failed(journal, "begin the next segment", fd);
	/* What was promised for the old segment must hold in the new one. */
	if (room > limit)
		room = limit;
	if (!journal->no_fallocate)
		error = try_fallocate(journal, fd, 0, room);
	if (error && journal->fd >= 0) {
		image_io.close(fd);
		return journal_failed(journal, "set room aside for the next segment", error);
	}
	journal_close(journal);
	journal->fd = fd;
	journal->segment = segment;
	journal->start += journal->offset;
	journal->offset = 0;
	journal->reserved = error ? 0 : room;
	journal->chunk = CHUNK_MIN;
	journal->rotate_at = 0;
	return 0;
}

int journal_go_on(struct journal *journal, uint64_t segment, uint64_t offset)
{
	struct stat st;
	char name[32];
	int error, fd;

	segment_name(name, segment);
	fd = image_io.openat(journal->directory, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0);
	if (fd < 0 || fstat(fd, &st))
		goto failed;
	if ((uint64_t)st.st_size < offset) {
		errno = EBADMSG;
		goto failed;
	}
	if ((uint64_t)st.st_size > offset && image_io.ftruncate(fd, (off_t)offset))
		goto failed;
	journal_close(journal);
	journal->fd = fd;
	journal->segment = segment;
	journal->offset = journal->reserved = offset;
	journal->chunk = CHUNK_MIN;
	journal->rotate_at = 0;
	return 0;
failed:
	error = hac_fail(errno, "%s/%s: cannot go on at offset %" PRIu64 ": %s", journal->path,
			 name, offset, strerror(errno));
	if (fd >= 0)
		image_io.close(fd);
	return error;
}

int journal_put(struct journal *journal, const void *frame, size_t size, bool *broken)
{
	struct iovec part = { .iov_base = (void *)frame, .iov_len = size };
	int error = io_write_all(journal->fd, &part, 1, journal->offset);

	*broken = false;
	if (!error) {
		error = journal_sync(journal);
		*broken = error;
	} else {
		error = journal_failed(journal, "write", error);
	}
	if (error) {
		*broken |= image_io.ftruncate(journal->fd, (off_t)journal->offset) != 0;
		return error;
	}
	journal->offset += size;
	journal->sequence++;
	if (journal->reserved < journal->offset)
		journal->reserved = journal->offset;
	return 0;
}

int journal_cut(struct journal *journal, uint64_t offset, uint64_t sequence)
{
	if (image_io.ftruncate(journal->fd, (off_t)offset) || image_io.fsync(journal->fd))
		return journal_failed(journal, "cut an unfinished transaction off", -errno);
	journal->offset = journal->reserved = offset;
	journal->sequence = sequence;
	return 0;
}

int journal_write(struct journal *journal, struct frame_header *header, const void *payload,
		  size_t size)
{
	unsigned char head[FRAME_HEADER_CIPHER_SIZE];
	struct iovec parts[2];
	int error;

	header->kind = FRAME_JOURNAL;
	header->flags = 0;
	header->sequence = journal->sequence;
	header->generation = journal->generation;
	header->time_ns = frame_time();
	memcpy(header->uuid, journal->uuid, sizeof(header->uuid));
	error = frame_writer_encode(journal->writer, header, payload, size, head, parts);
	if (error)
		return journal_failed(journal, "make a frame", error);
	error = io_write_all(journal->fd, parts, 2, journal->offset);
	if (error)
		return journal_failed(journal, "write", error);
	journal->offset += frame_size(header);
	journal->sequence++;
	return 0;
}

int journal_sync(struct journal *journal)
{
	/* Never again after a failure: the kernel may have dropped the pages,
	 * and would then report success. */
	if (image_io.fdatasync(journal->fd))
		return journal_failed(journal, "sync", -errno);
	return 0;
}

int journal_append(struct journal *journal, struct frame_header *header, const void *payload,
		   size_t size)
{
	int error = journal_write(journal, header, payload, size);

	return error ? error : journal_sync(journal);
}

uint64_t journal_reserved(const struct journal *journal)
{
	return journal->start + journal->reserved;
}

/* Up to `position`, and `ahead` bytes beyond it if they can be had. */
static int reserve(struct journal *journal, uint64_t position, uint64_t ahead)
{
	uint64_t limit = io_size_limit(), wanted = position - journal->start, more;
	int error;

	if (wanted > limit)
		return hac_fail(EFBIG,
				"%s: the journal would pass the limit on file sizes of %" PRIu64
				" bytes (RLIMIT_FSIZE): raise it, or transact less at a time",
				journal->path, limit);
	if (wanted <= journal->reserved)
		return 0;
	more = wanted + ahead < limit ? wanted + ahead : limit;
	error = journal->no_fallocate ?
			0 :
			try_fallocate(journal, journal->fd, journal->reserved, more);
	if (error) {
		more = wanted;
		error = try_fallocate(journal, journal->fd, journal->reserved, more);
	}
	if (error == -ENOSPC || error == -EDQUOT || error == -EFBIG)
		return hac_fail(-error,
				"%s: no room on disk for a transaction of %" PRIu64
				" bytes: make room and try again, or abort",
				journal->path, position - journal->start - journal->offset);
	if (error)
		return journal_failed(journal, "set room aside", error);
	journal->reserved = more;
	return 0;
}

int journal_reserve(struct journal *journal, uint64_t position)
{
	uint64_t before = journal->reserved;
	int error = reserve(journal, position, journal->chunk);

	if (!error && journal->reserved > before && journal->chunk < CHUNK_MAX)
		journal->chunk *= 2;
	return error;
}

int journal_reserve_again(struct journal *journal, uint64_t position)
{
	return reserve(journal, position, 0);
}

void journal_rotate(struct journal *journal, uint64_t size, bool between_groups)
{
	bool tight = journal->offset && journal->offset + size > io_size_limit();

	if (!tight && (!between_groups || journal->offset < journal->segment_bytes ||
		       journal->offset < journal->rotate_at))
		return;
	if (journal_open_segment(journal, journal->segment + 1))
		journal->rotate_at = journal->offset + CHUNK_MAX;
}
