/* SPDX-License-Identifier: MIT */
/*
 * The set of pages that the fault handler has opened: one bit a page, and one
 * bit for each word of those that is not zero. Filled in a signal handler,
 * emptied elsewhere, both without a lock.
 *
 * The order that loses nothing: the handler sets the bit, opens the page, and
 * if it then finds the bit cleared starts over; the harvest clears the bit and
 * closes the page afterwards. So a page that stays open has its bit set.
 */
#ifndef HAC_DIRTY_MAP_H
#define HAC_DIRTY_MAP_H

#include "area.h"

struct dirty_map {
	size_t pages;
	_Atomic uint64_t *bits;
	_Atomic uint64_t *summary;
	size_t split; /* so many leading pages have a mapping each, but for the
		       * last two perhaps; 0 unless the engine sees to it */
};

int dirty_map_create(struct dirty_map *map, size_t bytes);
void dirty_map_destroy(struct dirty_map *map);

/* Async-signal-safe: mark the page of `offset` (from the tracked part's first
 * byte) and make it writable, or as many around it as the kernel's limit on
 * mappings makes necessary. */
bool dirty_map_open_page(struct dirty_map *map, const struct area *area, size_t offset);
/* Mark and make writable whole pages [from, to), relative to the area. */
int dirty_map_open(struct dirty_map *map, const struct area *area, size_t from, size_t to);
/* Append the marked pages to `out` and, unless `peek`, unmark them and make
 * them read-only again. If that fails, they are marked still. */
int dirty_map_harvest(struct dirty_map *map, const struct area *area, struct extents *out,
		      bool peek);
/* Is no page marked? */
bool dirty_map_is_empty(const struct dirty_map *map);

#endif
