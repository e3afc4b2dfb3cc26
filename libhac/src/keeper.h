/* SPDX-License-Identifier: MIT */
/* The keeper, and what the files that implement its calls share. */
#ifndef HAC_KEEPER_INTERNAL_H
#define HAC_KEEPER_INTERNAL_H

#include "drainer_lead.h"
#include "hac_helper.h"
#include "image_internal.h"

#include <pthread.h>

enum keeper_state {
	KEEPER_HOLDS = 1, /* recovery, survey say what the image is; it may follow */
	KEEPER_RESUMES,   /* the journal stands where a predecessor died */
	KEEPER_LEADS,     /* the drainer's thread has the journal */
	KEEPER_ENDED,     /* it had: what is said below is out of date */
	KEEPER_STALE,     /* what `recovery` says is out of date, too */
	KEEPER_BROKEN,    /* an error left the disk in a state that is not known */
};

/* The areas' sizes, as the journal's last whole group left them, and as the group
 * that is open has them. keeper_areas.c. */
struct keeper_sizes {
	struct keeper_size {
		uint32_t id;
		uint64_t size;
	} * items;
	size_t count;
	size_t last; /* the one that was found last */
};

struct keeper_areas {
	struct keeper_sizes whole;
	struct keeper_sizes open;
	bool changed; /* `open` counts */
	uint32_t *drops;
	size_t drops_count;
};

struct hac_keeper {
	uint64_t process;
	char *path;

	/*
	 * `work` is held by whoever changes what the keeper is: for as long as
	 * it takes to write or to drain. `lock` is taken after it, shortly; the
	 * drainer's lock comes last. Compacting needs `work` only to begin.
	 */
	pthread_mutex_t work;
	enum keeper_state state; /* changed with both */
	struct image_store store;
	struct recovery recovery;
	struct survey survey;

	/* Following. */
	bool appends; /* the journal's descriptor is that of its end */
	bool areas_known;
	struct keeper_areas areas;
	struct frame_reader reader;
	uint64_t compact_at; /* not before the journal has so many bytes */

	/* Leading; the ring, and what is in it, also without. */
	struct drainer drainer; /* shared: NULL, if there is no ring */
	struct drainer_lead lead;

	pthread_mutex_t lock;
	struct hac_place now; /* but for what the drainer's thread moves */
	bool compacting;      /* only one does, and meanwhile nobody surveys */
	pthread_cond_t compacted;
	bool compactor_started;
	pthread_t compactor;
	struct lead_turn boundary;   /* what is before it is compacted */
	uint64_t boundary_bytes;     /* of the journal, before it */
	struct record_base new_base; /* first_segment 0: `recovery` has it */
};

/* keeper.c */

/* Begin and end a call: -EINVAL without a keeper, -ECHILD after fork. */
int keeper_enter(hac_keeper *keeper);
void keeper_leave(hac_keeper *keeper);

/* With `work`: let it hold the image, whatever it did before; -EPROTO if it
 * leads: `what` cannot be done then. */
int keeper_settle(hac_keeper *keeper, const char *what);

/* With `work`: say to place(), and to the context, how far the journal goes. */
void keeper_publish(hac_keeper *keeper);
void keeper_set_state(hac_keeper *keeper, enum keeper_state state);

/* With `work`: nothing is known of the image until it is surveyed anew. */
int keeper_survey(hac_keeper *keeper);

/* keeper_lead.c */

/* With `work`: stop the thread and wait for it. */
void keeper_stop_leading(hac_keeper *keeper);

/* Set the journal up where the flight in shared memory says. */
int keeper_resume(hac_keeper *keeper);

/* keeper_follow.c */

/* With `work`: the end of the journal, for writing. */
int keeper_open_end(hac_keeper *keeper);
/* With `work`: the group that is open will never be finished. */
int keeper_cut_group(hac_keeper *keeper);
/* With `work`: begin a segment, if no group is open. */
int keeper_begin_segment(hac_keeper *keeper);

/* keeper_compact.c */

/* Wait until nobody compacts. With `lock`. */
void keeper_await_compaction(hac_keeper *keeper);

/* With `work`: forget the segments that are gone. */
void keeper_take_compaction(hac_keeper *keeper);

/* With `work`: if the journal is long, let a thread compact it. */
void keeper_compact_if_long(hac_keeper *keeper);

/* keeper_areas.c: -ENOMEM, or -EBADMSG if the record's bytes belong to no area. */
int keeper_areas_from(struct keeper_areas *areas, const struct recovery *recovery);
int keeper_areas_take(struct keeper_areas *areas, const struct record *record);
/* What the open group did is void. */
void keeper_areas_drop_group(struct keeper_areas *areas);
int keeper_areas_copy(struct keeper_areas *to, const struct keeper_areas *from);
uint64_t keeper_areas_bytes(const struct keeper_areas *areas);
void keeper_areas_free(struct keeper_areas *areas);

#endif
