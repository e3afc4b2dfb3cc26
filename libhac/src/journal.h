/* SPDX-License-Identifier: MIT */
/*
 * The journal's writing side: frames go to the end of the newest segment.
 *
 * A frame is synced before journal_append() returns, so no frame is ever
 * written before its predecessor is safe. That is what makes the damage rule
 * of recovery sound: whatever a loss of power tears or reorders, only the last
 * frame of the journal can be hit, and nobody was told that it is safe.
 *
 * Positions count the journal's bytes over all segments since it was opened;
 * they only grow, so that they can be compared without a lock.
 */
#ifndef HAC_JOURNAL_H
#define HAC_JOURNAL_H

#include "frame_coding.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define JOURNAL_SEGMENT_BYTES ((uint64_t)64 << 20)

struct journal {
	int directory;    /* borrowed */
	const char *path; /* borrowed, for details */
	unsigned char uuid[16];
	uint64_t generation;
	uint64_t sequence;      /* of the next frame */
	uint64_t segment;       /* the newest one */
	uint64_t segment_bytes; /* when to begin the next one */
	int fd;
	uint64_t start;              /* position at which the segment begins */
	uint64_t offset;             /* of the next frame in it */
	uint64_t reserved;           /* up to this offset, the disk has room set aside */
	uint64_t chunk;              /* how much more to set aside next time */
	uint64_t rotate_at;          /* not before this offset: the last attempt failed */
	bool no_fallocate;           /* the file system cannot set room aside */
	struct frame_writer *writer; /* NULL: frames are written as they are */
};

/* Make segment `segment` in the directory, durably; its descriptor. */
int journal_create_segment(int directory, uint64_t segment);

/* Begin segment `segment` with the next frame. The old one is closed, its
 * unused room released. -errno, with a detail; then nothing has changed. */
int journal_open_segment(struct journal *journal, uint64_t segment);

/*
 * Write one frame of `size` bytes of payload, and sync it. The header's
 * sequence, generation, UUID, time, sizes and hash are set here. -errno with a
 * detail; the journal must not be used after that.
 */
int journal_append(struct journal *journal, struct frame_header *header, const void *payload,
		   size_t size);

/* The same in two steps: the payload is not looked at after the first. */
int journal_write(struct journal *journal, struct frame_header *header, const void *payload,
		  size_t size);
int journal_sync(struct journal *journal);

/*
 * Set room aside up to `position`: 0, -ENOSPC, or -EFBIG where RLIMIT_FSIZE
 * would be passed, each with a detail. Where the file system cannot do that,
 * only the limit counts.
 */
int journal_reserve(struct journal *journal, uint64_t position);
/* The same, and nothing beyond it: what was promised before, promised again after
 * each restart, must not grow. */
int journal_reserve_again(struct journal *journal, uint64_t position);

/* The position up to which frames have room. */
uint64_t journal_reserved(const struct journal *journal);

/* Go on at `offset` of a segment that is there; what lies behind it is cut off.
 * It becomes the newest one, and `start` is left alone. -errno with a detail. */
int journal_go_on(struct journal *journal, uint64_t segment, uint64_t offset);

/*
 * A frame that somebody else made, byte for byte, and synced. -errno with a
 * detail; then it is not there. `broken`: what the disk holds is not known any
 * more, and the journal must not be used after that.
 */
int journal_put(struct journal *journal, const void *frame, size_t size, bool *broken);

/* Cut off what lies behind `offset`, where frame `sequence` will be. Durably. */
int journal_cut(struct journal *journal, uint64_t offset, uint64_t sequence);

/* Begin the next segment if this one is long enough and no group in parts goes
 * on, so that cutting one is mostly one cut; or if a frame of `size` bytes would
 * pass the limit on file sizes. Failure is no harm: this one goes on. */
void journal_rotate(struct journal *journal, uint64_t size, bool between_groups);

/* Give back room that was set aside and not used. */
void journal_release(struct journal *journal);

/* That, and close. */
void journal_close(struct journal *journal);

#endif
