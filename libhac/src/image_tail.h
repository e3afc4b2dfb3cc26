/* SPDX-License-Identifier: MIT */
/*
 * Reading on in a journal that somebody else writes: what follows the state that
 * was read, by whole transactions.
 */
#ifndef HAC_IMAGE_TAIL_H
#define HAC_IMAGE_TAIL_H

#include "image.h"

#include <stddef.h>

/* The records of whole groups, one after the other, for record_decode(). */
struct tail_plan {
	unsigned char *bytes;
	size_t size;
	size_t room;
	/* Where the image stands with them. */
	struct image_place end;
	uint64_t epoch;
	uint64_t generation;
	uint64_t parent;
	uint64_t branch_epoch;
};

/* What follows cannot be found or does not fit: read the image anew. */
#define TAIL_LOST 2

/*
 * What stands between `image`'s end and the place in the journal: at least one
 * group where there is one, and not much more than TAIL_BYTES of them. 1, with a
 * plan; 0, there is no whole group yet (but the plan's end may have moved); or
 * TAIL_LOST, or -ENOMEM, or an error of the system. `plan` is zeros at first,
 * and can be used again; free its bytes.
 */
#define TAIL_BYTES ((size_t)4 << 20)
int image_tail_read(const struct image *image, uint64_t segment, uint64_t offset,
		    struct tail_plan *plan);

/* The image stands where the plan ends. */
void image_tail_take(struct image *image, const struct tail_plan *plan);

#endif
