/* SPDX-License-Identifier: MIT */
/* A delta under construction, and its journey to and from the twin. */
#ifndef HAC_DELTA_H
#define HAC_DELTA_H

#include "area.h"
#include "hac.h"

#include <stdbool.h>

struct delta {
	struct hac_run *list; /* list[0] is a run of no area, so that "the run
			       * before" always exists; then the runs */
	struct hac_run *runs; /* list + 1 */
	size_t runs_count;
	size_t runs_room;
	unsigned char *bytes;
	size_t bytes_count;
	size_t bytes_room;
	size_t pages;       /* that were dirty */
	size_t words;       /* that changed */
	uint64_t writes;    /* single ones that an engine saw */
	uint64_t fallbacks; /* pages that it opened instead */
};

/* Room for `runs` more runs and `bytes` more bytes; -ENOMEM. */
int delta_reserve(struct delta *delta, size_t runs, size_t bytes);
/* Empty it, and give memory back that only a large delta needs. */
void delta_clear(struct delta *delta);
void delta_free(struct delta *delta);

/* Append the words of the extents that differ from the twin. */
int delta_add_words(struct delta *delta, const struct area *area, const struct extents *extents);
/* Append the extents themselves, widened to pages or not; `bytes` or runs
 * only. */
int delta_add_whole(struct delta *delta, const struct area *area, const struct extents *extents,
		    bool pages, bool bytes);

/* What of the delta belongs to `area`, from run *i and byte *at on: copy it to
 * the twin, and move both past it. */
void delta_commit(const struct delta *delta, struct area *area, size_t *i, size_t *at);

#endif
