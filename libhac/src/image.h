/* SPDX-License-Identifier: MIT */
/*
 * The image: a directory that holds the areas of the last epoch.
 *
 *	layout            one frame: UUID, byte order, page size, format version
 *	base              frames: the whole state as of one epoch
 *	journal.00000001  frames: the transactions since, in segments
 *	lock              held (fcntl) by the process that has it open for writing
 *
 * Everything in it is frames (frame.h). Whoever opens for writing starts a new
 * segment with a generation record. A frame is synced before the next one is
 * written, so at most the last frame of an image can be torn, whatever the
 * power does; damage that a later valid frame follows is therefore real.
 */
#ifndef HAC_IMAGE_H
#define HAC_IMAGE_H

#include "hac.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LAYOUT_ADOPTED 0x80000000u /* in layout.flags, beside HAC_POINTERS */

/* What the image knows of an area, apart from its bytes. */
struct layout {
	uint32_t id;
	uint32_t flags; /* of hac_area_options, and LAYOUT_ADOPTED */
	uint64_t size;
	uint64_t capacity;
	uint64_t address; /* where it was mapped */
	char *name;
	char *type;
	char *fingerprint; /* NULL: none */
};

/* An area as recovery found it. */
struct image_area {
	struct layout layout;
	/* Private anonymous mapping of `capacity` bytes (page-rounded), of which
	 * `size` hold the area; the rest is untouched zeros. Whoever claims the
	 * area takes the mapping over and sets this to NULL. */
	unsigned char *contents;
};

struct image {
	char *path;
	char uuid[37];
	bool readonly;
	uint64_t epoch;      /* the last whole epoch (or options.at) */
	uint64_t last_epoch; /* the highest epoch ever given out, any branch:
				* the next one is last_epoch + 1 */
	uint64_t generation; /* of this opening (readonly: of the last one) */
	uint64_t parent;
	uint64_t branch_epoch;
	uint64_t dropped_bytes;
	uint64_t dropped_epoch;
	uint32_t next_area_id;
	struct image_place {
		uint64_t segment;
		uint64_t offset;
		uint64_t sequence;
	} end; /* of the frame behind the newest epoch, when it was read */
	struct image_area *areas;
	size_t areas_count;
	struct image_store *store; /* image.c's own: descriptors, segment, ... */
};

struct frame_coding; /* frame_coding.h */

struct image_options {
	bool readonly;
	uint64_t at;                       /* 0: newest */
	const struct frame_coding *coding; /* copied; NULL: frames as they are, no key */
};

/* Open (create unless readonly), recover, and when writable lock, cut the torn
 * end, start the new generation, durably. */
int image_open(const char *path, const struct image_options *options, struct image **out);
/* Release lock, descriptors, and contents nobody claimed. */
void image_close(struct image *image);

/* Whoever knows the committed bytes of the areas, for a base: the caller fills
 * layouts and points `bytes[i]` at size bytes that do not change meanwhile. */
struct image_state {
	uint64_t epoch;
	const struct layout *layouts;
	const unsigned char *const *bytes;
	size_t count;
};

/* A new image with a UUID of its own, holding `state`; removes a partial one.
 * `coding` may be NULL. */
int image_copy(const struct image_state *state, const struct frame_coding *coding,
	       const char *destination);

#endif
