/* SPDX-License-Identifier: MIT */
/* A list of byte ranges of one area, ascending and disjoint when normalised. */
#ifndef HAC_EXTENTS_H
#define HAC_EXTENTS_H

#include <stddef.h>

struct extent {
	size_t from;
	size_t to;
};

struct extents {
	struct extent *items;
	size_t count;
	size_t room;
};

/* Append, merging with the last one where they touch. -ENOMEM. */
int extents_add(struct extents *list, size_t from, size_t to);
/* Sort and merge. */
void extents_normalise(struct extents *list);
/* Widen all of them to the grid of 8-byte words, up to `size` (normalised). */
void extents_to_words(struct extents *list, size_t size);
/* How many pages they touch (normalised). */
size_t extents_pages(const struct extents *list);
void extents_free(struct extents *list);

#endif
