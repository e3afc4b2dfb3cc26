/* SPDX-License-Identifier: MIT */
/* What the files of the image share: the open image, its lock, its base. */
#ifndef HAC_IMAGE_INTERNAL_H
#define HAC_IMAGE_INTERNAL_H

#include "image.h"
#include "image_recover.h"
#include "journal.h"

#include <sys/types.h>

/* Sizes at which things happen. Tests make them small. */
struct image_limits {
	uint64_t segment_bytes;  /* a new segment begins */
	uint64_t compact_bytes;  /* opening compacts a longer journal ... */
	size_t compact_segments; /* ... or one of more segments */
};
extern struct image_limits image_limits;

/* ------------------------------------------------------- image_lock.c -- */

struct image_lock;

/*
 * Lock the image in this directory for writing: -EUSERS with the owner's pid
 * in the detail, -EROFS or -EACCES, ... A lock of fcntl(2) goes as soon as
 * this process closes any descriptor of the file, so nobody but these
 * functions may open it.
 */
int image_lock_take(int directory, const char *path, struct image_lock **out);
void image_lock_release(struct image_lock *lock);

/* The process that has it, or 0. */
pid_t image_lock_owner(int directory);

/* ------------------------------------------------------- image_base.c -- */

/*
 * Write a new base of `state` and put it in the old one's place, durably.
 * `base->areas` and next_area_id are set here. On failure the old one is
 * still there. The coding must be that of the journal, its key at least.
 */
int image_write_base(int directory, const char *path, const unsigned char uuid[16],
		     const struct record_base *base, const struct image_state *state,
		     const struct frame_coding *coding);

/* The files of a new image in an empty directory; the layout file comes last
 * and makes it one. */
int image_create_files(int directory, const char *path, const struct image_state *state,
		       const struct frame_coding *coding);

/* Remove what a crash may have left of that, or of a compaction. */
void image_remove_leftovers(int directory);

/* Remove segments [from, to), oldest first. */
void image_remove_segments(int directory, uint64_t from, uint64_t to);

/* Make the name `path` itself durable. */
int image_sync_parent(const char *path);

/* ------------------------------------------------------------ image.c -- */

int image_open_directory(const char *path, bool create, int *out);

/* 1: an image; 0: an empty directory, or as good as; or an error: -EBADMSG,
 * the layout file is lost; -EINVAL, something else is in there. */
int image_classify(int directory, const char *path);

struct image_store {
	int directory;
	struct image_lock *lock;
	struct journal journal;
	struct frame_coding coding;
	unsigned char uuid[16];
	uint64_t first_segment; /* that the base needs */
};

/* The base's record for an open image, with the journal going on in the
 * segment that it has just begun. */
void image_base_record(const struct image *image, struct record_base *out);

#endif
