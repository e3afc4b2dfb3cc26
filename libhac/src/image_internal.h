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
	int64_t drain_ms;        /* an opening waits for a keeper that drains ... */
	int64_t keeper_ms;       /* ... or for one that may be about to */
};
extern struct image_limits image_limits;

/* ------------------------------------------------------- image_lock.c -- */

struct image_lock;

/*
 * Lock the image in this directory for writing, and wait a while if a keeper has
 * it that drains, or that may not have noticed yet that it has to: -EUSERS with the owner's pid
 * in the detail, -EROFS or -EACCES, ... A lock of fcntl(2) goes as soon as
 * this process closes any descriptor of the file, so nobody but these
 * functions may open it.
 */
int image_lock_take(int directory, const char *path, struct image_lock **out);
void image_lock_release(struct image_lock *lock);

/* Who has the lock, for those who find it held. Not durable. */
enum lock_holder {
	LOCK_KEEPER = 1, /* a keeper: its process may be dying, or about to drain */
	LOCK_DRAINS,     /* a keeper that gives it back as soon as it has drained */
};
void image_lock_mark(struct image_lock *lock, enum lock_holder holder);

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

/* Open the directory, lock it, finish what a crash interrupted, and create the
 * image if it is none. The store has its coding; image_close_store() in any case. */
int image_open_store(const char *path, bool create, struct image_store *store);
void image_close_store(struct image_store *store);

/* Survey and cut the end, without the areas. `out` is where it goes on. */
int image_survey_for_writing(struct recovery *recovery, const struct image_store *store,
			     const char *path, struct survey *out);
/* Only what recovery_survey_heads() reads. */
int image_heads_for_writing(struct recovery *recovery, const struct image_store *store,
			    const char *path);

/* The segment that comes next: an empty one at the end is used. */
uint64_t image_next_segment(const struct recovery *recovery);

/* Is the journal so long that a base should take its place? */
bool image_is_long(const struct recovery *recovery, uint64_t areas_bytes);

/* Make what was recovered, with its areas, the base; the journal goes on in
 * `segment`. */
int image_write_recovered(struct recovery *recovery, const struct frame_coding *coding,
			  uint64_t segment);

/* Let the store's journal go on behind what was recovered; the caller then opens
 * a segment. recovery->path must live as long. */
void image_prepare_journal(struct image_store *store, const struct recovery *recovery);

/* That, in a new segment, and its first frame, durably. */
int image_begin_generation(struct image_store *store, const struct recovery *recovery,
			   const struct record_generation *generation, uint64_t segment);

/* --------------------------------------------------- image_replace.c -- */

/*
 * Put the image in the directory `incoming` in the place of the locked one.
 * `committed`: it will be, whatever fails from now on; else nothing has changed.
 */
int image_replace(int directory, const char *path, const char *incoming, bool *committed);

/* Finish one that a crash interrupted. */
int image_finish_replacement(int directory, const char *path);

/* Is there one to be finished? Its files are those of neither image then. */
bool image_is_replaced(int directory);

/* The base's record for an open image, with the journal going on in the
 * segment that it has just begun. */
void image_base_record(const struct image *image, struct record_base *out);

#endif
