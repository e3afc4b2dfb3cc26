/* SPDX-License-Identifier: MIT */
/* An open context, and what the files that implement its calls share. */
#ifndef HAC_CONTEXT_H
#define HAC_CONTEXT_H

#include "area.h"
#include "clock.h"
#include "delta.h"
#include "drainer.h"
#include "frame_coding.h"
#include "hac.h"
#include "image.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

enum stage { STAGE_IDLE, STAGE_OPEN, STAGE_PREPARED };

struct hac {
	uint64_t process;
	pthread_mutex_t lock;
	bool closed;
	uint32_t flags;
	struct hac_level level;
	char engine[32];            /* as asked for: "auto" or a name */
	struct frame_coding coding; /* of the image, and of copies */
	uint32_t role;              /* HAC_PRIMARY or HAC_STANDBY; 0 without replication */
	uint32_t resets;            /* a standby: of the image, when it was read */
	struct image *image;        /* NULL without a path */
	struct drainer *drainer;    /* NULL without a path, or read-only */

	struct area **areas; /* ascending by id */
	size_t areas_count;
	uint32_t next_area_id;
	uint32_t *drops; /* ids that the next epoch removes from the image */
	size_t drops_count;
	size_t unclaimed;

	enum stage stage;
	bool faults; /* some area's engine needs the SIGSEGV handler */
	_Atomic uint64_t epoch;
	uint64_t durable_at_close;
	_Atomic int waiters;    /* threads that wait without the lock */
	_Atomic uint64_t doubt; /* what did not reach its level, or 0: doubt_make() */
	struct delta delta;     /* of the prepared transaction; lent afterwards */
	struct extents extents; /* scratch */
	struct hac_stats stats; /* without the times */
	struct clock_start start;
	uint64_t begin_ticks;
	uint64_t end_ticks;
	uint64_t past_faults; /* of areas that were dropped */
	bool blind;           /* an area was tracked without seeing single writes */
	char reason[192];     /* for the engine of the largest area */
	size_t reason_size;   /* its size */
};

/* An epoch, and how many backups it was to reach. One word, since it is changed
 * without the lock. */
static inline uint64_t doubt_make(uint64_t epoch, uint32_t backups)
{
	return epoch << 5 | backups;
}

static inline uint64_t doubt_epoch(uint64_t doubt)
{
	return doubt >> 5;
}

static inline uint32_t doubt_backups(uint64_t doubt)
{
	return doubt & 31;
}
_Static_assert(HAC_BACKUPS_MAX < 32, "doubt_make()");

/* Take the lock of an open context of this process, or say why not. */
int context_enter(hac *h);
void context_leave(hac *h);

/* context_areas.c: with the lock. */
struct area *context_area(const hac *h, const char *name);
/* Is this engine to be had here, for a context like this? NULL: the default. */
int context_check_engine(const hac *h, const char *name);
/* Choose or change the engine of an area; armed if it was armed. */
int context_choose_engine(hac *h, struct area *area, const char *name);
/* Stop watching; leave the memory to whoever still looks at it. */
void context_retire(struct area *area);
/* The image's area of that name, if nobody has claimed it. */
struct image_area *context_stored(const hac *h, const char *name);
/* Does what the image holds fit this area? -EPROTOTYPE says what does not. */
int context_check_stored(const struct layout *stored, const struct area *area);
/* Need the image not be told of this area's layout? */
bool context_layout_is_known(const struct layout *stored, const struct layout *now);

/* context.c: with the lock. */
/* The helper leads from now on, and the image holds the epoch that it names. */
struct control_message;
void context_take_lead(hac *h, const struct control_message *lead);

/* info.c: with the lock. */
struct hac_stats context_stats(const hac *h);

/* advise.c: with the lock. Append what the context did to the file that HAC_ADVISE
 * names, if it does. */
bool advise_wanted(void);
void advise_write(const hac *h);

/* transaction.c: with the lock. */
int transaction_begin(hac *h);
int transaction_abort(hac *h);
/* End what was written outside of transactions; refuse in strict contexts. */
int transaction_end_strays(hac *h);

#endif
