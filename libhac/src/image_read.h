/* SPDX-License-Identifier: MIT */
/*
 * Reading the files of an image: frame by frame, by pread(2). Not by mmap: a
 * reader may look at an image while its writer cuts a segment.
 */
#ifndef HAC_IMAGE_READ_H
#define HAC_IMAGE_READ_H

#include "frame_coding.h"

#include <stdbool.h>
#include <stdint.h>

struct frame_file {
	int fd;
	char name[32];
	uint64_t size; /* when it was opened */
	uint64_t start;
	unsigned char *window; /* the bytes from `start` on that were read */
	size_t filled;
	size_t room;
	struct frame_reader reader;
};

/* -errno of open(2), without a detail; -EBADMSG if it is no regular file. `key`
 * is borrowed; NULL is none. */
int frame_file_open(int directory, const char *name, const struct frame_key *key,
		    struct frame_file *out);
void frame_file_close(struct frame_file *file);

/*
 * The frame at `offset`, both checksums verified; `payload`, header->stored
 * bytes, is as it was written, and lent until the next call. -ENODATA at the
 * end of the file, -EBADMSG and -EPROTONOSUPPORT as frame_decode_header(), and
 * errors of read(2).
 */
int frame_file_check(struct frame_file *file, uint64_t offset, struct frame_header *header,
		     const unsigned char **payload);

/*
 * That, and decoded: header->raw bytes. Also -EILSEQ: the frame is as it was
 * written, but cannot be decoded, so it is never a torn end; and -ENOKEY and the
 * others of frame_reader_decode().
 */
int frame_file_read(struct frame_file *file, uint64_t offset, struct frame_header *header,
		    const unsigned char **payload);

/* Is there, at any byte from `from` on, an intact journal frame of this image
 * with this sequence or a higher one? 1, 0 or -errno. */
int frame_file_find(struct frame_file *file, uint64_t from, const unsigned char uuid[16],
		    uint64_t sequence);

/* 1 if every byte from `from` on is zero, 0 or -errno. */
int frame_file_zeros(struct frame_file *file, uint64_t from);

#endif
