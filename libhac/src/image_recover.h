/* SPDX-License-Identifier: MIT */
/*
 * Recovery: what an image holds, and which state that makes.
 *
 *	survey	reads layout file, base and journal, verifies every frame, finds
 *		damage or the end to cut, and learns the lineage of generations
 *	apply	reads base and journal again and builds the areas as the wanted
 *		epoch left them, along that lineage
 *
 * Neither changes anything.
 */
#ifndef HAC_IMAGE_RECOVER_H
#define HAC_IMAGE_RECOVER_H

#include "frame.h"
#include "image.h"
#include "image_read.h"

#define IMAGE_FILE_LAYOUT "layout"
#define IMAGE_FILE_BASE "base"
#define IMAGE_FILE_LOCK "lock"
#define IMAGE_FILE_JOURNAL "journal."
#define IMAGE_FORMAT 1

/* Which file a segment is. */
void segment_name(char name[32], uint64_t segment);

/* One generation: the state of `parent` as of `branch_epoch`, and what was
 * done since, up to the epoch `tip`. */
struct generation {
	uint64_t number;
	uint64_t parent;
	uint64_t branch_epoch;
	uint64_t tip;
	uint64_t limit; /* the last of its epochs that counts */
	bool in_lineage;
};

struct damage {
	char file[64];
	uint64_t offset;
	uint64_t epoch; /* the first one that it may have hit */
};

struct recovery {
	int directory;               /* borrowed */
	const char *path;            /* borrowed, for details */
	const struct frame_key *key; /* borrowed; NULL is none */
	unsigned char uuid[16];
	char uuid_text[37];

	/* The base. */
	struct record_base base;
	uint64_t base_epoch;
	uint64_t base_bytes;

	/* The journal: its segments, ascending. */
	uint64_t *segments;
	size_t segments_count;
	uint64_t *superfluous; /* older ones, which a compaction left */
	size_t superfluous_count;
	uint64_t journal_bytes;
	uint64_t frames;
	uint64_t transactions;

	struct generation *generations; /* the base's first */
	size_t generations_count;
	uint64_t *void_groups; /* ordinals of groups that never were finished */
	size_t void_count;

	/* Behind the last whole transaction: where the journal ends. */
	size_t end_segment; /* index into segments */
	uint64_t end_offset;
	uint64_t next_sequence;
	uint64_t dropped_bytes; /* what lies behind, if it is not just zeros */
	uint64_t dropped_epoch;
	bool cut; /* something lies behind it */

	/* The newest state, or the wanted one. */
	uint64_t epoch;
	struct generation *generation; /* that made it */
	uint64_t last_epoch;           /* over all generations */
	uint64_t last_generation;
	uint32_t next_area_id;
	struct image_area *areas;
	size_t areas_count;

	/* apply: what the areas are, but not their bytes; every record is checked
	 * all the same. */
	bool layouts_only;

	struct damage damage; /* file "" if there is none */
};

/* Where a survey stands: what the next frame must fit to. */
struct survey {
	struct recovery *recovery;
	bool group; /* one is open */
	uint64_t group_epoch;
	uint64_t groups; /* how many began */
	size_t group_segment;
	uint64_t group_offset;
	uint64_t group_sequence;
	uint32_t group_next_id;
	struct frame_header group_before;
	uint64_t first_epoch; /* in this frame */
	uint64_t last_epoch;
	struct frame_header before; /* the frame before; kind 0: there is none */
};

/* Everything but the areas; `at` as in image_options, `key` is borrowed. Both
 * fill in what they found until they failed; recovery_free() in any case. */
int recovery_survey(struct recovery *recovery, int directory, const char *path, uint64_t at,
		    const struct frame_key *key);
int recovery_apply(struct recovery *recovery);

/* The survey of the segments before segment `until` (0: of all of them). `out`,
 * which may be NULL, is where frames to come go on; the recovery must stay where
 * it is. */
int recovery_survey_until(struct recovery *recovery, int directory, const char *path,
			  const struct frame_key *key, uint64_t until, struct survey *out);

/* Layout file, the head of the base, and the list of segments: what need not be
 * verified by whoever knows where the journal ends. */
int recovery_survey_heads(struct recovery *recovery, int directory, const char *path,
			  const struct frame_key *key);

/* Survey and apply for a reader who has no lock: tries again while the image
 * changes under its hands. */
int recovery_read(struct recovery *recovery, int directory, const char *path, uint64_t at,
		  const struct frame_key *key, bool apply);
void recovery_free(struct recovery *recovery);

/* Note damage, and return -EBADMSG with a detail that names it. */
int recovery_damaged(struct recovery *recovery, const char *file, uint64_t offset,
		     const char *what);

/* ------------------------------------------------------------ walking -- */

/* A frame on the way of a walk. */
struct walk_frame {
	const char *file;
	uint64_t offset;
	size_t segment; /* index; of no meaning in the base */
	struct frame_header header;
	const unsigned char *payload;
};

/* Non-zero ends the walk and is its result. */
typedef int (*walk_visit)(void *argument, const struct walk_frame *frame,
			  const struct record *record, bool last);

/* All records of the base, or of the journal up to the end that the survey
 * found. `last` marks the last record of its frame. */
int recovery_walk_base(struct recovery *recovery, walk_visit visit, void *argument);
int recovery_walk_journal(struct recovery *recovery, walk_visit visit, void *argument);

/* ---------------------------- shared by the files that do the recovery -- */

int recovery_survey_journal(struct recovery *recovery, uint64_t at, struct survey *out);
/* Take one more frame, decoded: -EBADMSG if it does not fit. Then, and on every
 * failure, recovery and survey are of no use but for what was in them before. */
int recovery_take_frame(struct survey *survey, const struct walk_frame *frame);
/* The open group will never be finished, and is not there any more. */
void survey_drop_group(struct survey *survey);
int recovery_unreadable(struct recovery *recovery, const char *file, int error);
/* What a frame that cannot be accepted means, outside the journal's end. */
int recovery_bad_frame(struct recovery *recovery, const char *file, uint64_t offset, int error);
int recovery_visit_frame(struct recovery *recovery, const struct walk_frame *frame,
			 walk_visit visit, void *argument);
struct generation *recovery_add_generation(struct recovery *recovery, uint64_t number,
					   uint64_t parent, uint64_t branch_epoch);
/* Room for one more in a list: the list, perhaps moved, with *count one higher;
 * NULL leaves it as it was. */
void *recovery_append(void *list, size_t *count, size_t size);

/* ---------------------------------------------------- image_apply.c -- */

/* Areas by id, among `count` of them. NULL if there is none. */
struct image_area *image_area_find(struct image_area *areas, size_t count, uint32_t id);
/* A layout record's: the area is added, or changed. -ENOMEM with a detail. */
int image_areas_lay(struct image_area **areas, size_t *count, const char *path,
		    const struct layout *layout);
/* An area is gone, if it was there. */
void image_areas_drop(struct image_area *areas, size_t *count, uint32_t id);
void image_areas_free(struct image_area *areas, size_t count);
int layout_copy(const struct layout *from, struct layout *to);
void layout_free(struct layout *layout);

#endif
