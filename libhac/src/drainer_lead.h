/* SPDX-License-Identifier: MIT */
/*
 * What the consumer does beside, if the producer is in another process: it sets
 * room aside for it, and leaves behind in shared memory what a successor needs
 * should it die here and now. All of it is the consumer's thread's, if nothing
 * else is said.
 */
#ifndef HAC_DRAINER_LEAD_H
#define HAC_DRAINER_LEAD_H

#include "drainer_internal.h"

struct drainer_lead {
	int event; /* counted up when a frame is written, and when it is synced; -1 */
	uint64_t parent;
	uint64_t branch_epoch;
	uint64_t ahead_at; /* no room is set aside ahead before this position */

	_Atomic uint32_t pace_us; /* frames begin at least so far apart */
	_Atomic bool quit;        /* leave the ring as it is and end */
	_Atomic bool drain;       /* end when the ring is empty */

	/* With the drainer's lock. */
	uint64_t epoch; /* the last whole one that is written */
	uint32_t next_area_id;
	uint64_t synced_segment;
	uint64_t synced_offset;
	uint64_t synced_epoch;
	bool ended;
	bool turn; /* somebody wants a new segment to begin, between two groups */
	int turn_error;
	pthread_cond_t turned;
	struct lead_turn {
		uint64_t segment;  /* the new one ... */
		uint64_t sequence; /* ... begins with this frame ... */
		uint64_t epoch;    /* ... behind this epoch */
	} boundary;
	char turn_detail[512];
};

/* ------------------------------------------------- from the drain loop -- */

/* Whatever others want of the consumer; true if it is to end. */
bool lead_serve(struct drainer *drainer);

/* With the lock: before a frame is written, and behind it. */
void lead_note_flight(struct drainer *drainer, const struct batch *batch);
void lead_note_written(struct drainer *drainer, const struct batch *batch);

void lead_note_synced(struct drainer *drainer);
void lead_note_end(struct drainer *drainer);

/* ---------------------------------------------------------- from others -- */

/* Say in shared memory how far the journal may be read. */
void lead_publish_place(struct drainer_shared *shared, uint64_t segment, uint64_t offset);

/* Nothing is under way; the next frame will be where the journal is. */
void lead_note_idle(struct drainer *drainer);

/* Room in the journal for what the ring may hold, where there is any. */
void lead_reserve_ahead(struct drainer *drainer);

/* From any thread: let a new segment begin, once no group is under way. What is
 * before it never changes any more. -errno with a detail. */
int lead_turn_segment(struct drainer *drainer, struct lead_turn *out);

#endif
