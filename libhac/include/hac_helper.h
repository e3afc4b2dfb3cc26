/* SPDX-License-Identifier: MIT */
/*
 * hac_helper.h - what a helper process and a backup are made of. Applications
 * need hac.h only.
 *
 * A keeper holds an image for writing without holding its areas in memory: it
 * has the lock and the journal. It *leads* (a context's ring is attached, a
 * thread drains it into the journal), or it *follows* (frames that a primary
 * sent are appended), or neither. What is in the journal is bytes that can be
 * sent as they are: a sink reads the segment files up to the place that
 * keeper_place() gives.
 *
 * Results, details and errors are as in hac.h. A keeper may be used from any
 * thread; its calls are serialised inside. After fork it belongs to the parent.
 */
#ifndef HAC_HELPER_H
#define HAC_HELPER_H

#include "hac.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hac_keeper hac_keeper;

#define HAC_KEEPER_CREATE 0x1u /* an image, where there is none */
/* Go on in the place of a helper that died while it led: `ring` says where its
 * journal ended. Nothing is surveyed, and no generation begins. */
#define HAC_KEEPER_RESUME 0x2u

struct hac_keeper_options {
	size_t size; /* sizeof(struct hac_keeper_options) */
	uint32_t flags;
	uint32_t codec;       /* enum hac_codec, for what it writes as a leader */
	const char *key_file; /* as in struct hac_options */
	int32_t ring;         /* descriptor of a context's ring, or -1: where places,
			       * resets, acknowledgements and errors are published for
			       * the context, and what hac_keeper_lead() drains */
	int32_t flush_ms;     /* as in struct hac_options */
};

/*
 * Lock the image, survey it, cut its torn end. No generation begins.
 * Where a crash interrupted hac_keeper_replace(), that is finished first.
 * Errors: -ENOENT (none there, and not CREATE), -EUSERS, -EBADMSG, ...
 */
HAC_API HAC_MUST_CHECK int
hac_keeper_open(const char *path, const struct hac_keeper_options *options, hac_keeper **out);

/* Stop draining (what is in the ring stays there), release the lock, free. */
HAC_API void hac_keeper_close(hac_keeper *keeper);

/* What an image, and its journal, have come to. */
struct hac_place {
	size_t size; /* IN sizeof(struct hac_place) */
	char uuid[37];
	char reserved[3];
	uint32_t next_area_id;
	uint64_t generation;     /* the newest one */
	uint64_t parent;         /* of it */
	uint64_t branch_epoch;   /* at which it left it */
	uint64_t epoch;          /* the last whole one of that generation */
	uint64_t last_epoch;     /* the highest one ever given out */
	uint64_t base_epoch;     /* what the base holds */
	uint64_t first_sequence; /* of the first frame behind the base ... */
	uint64_t first_segment;  /* ... which is the first one of this segment */
	uint64_t sequence;       /* of the next frame */
	uint64_t segment;        /* where it will be */
	uint64_t offset;
	uint64_t dropped_bytes; /* cut off when it was opened */
	uint64_t dropped_epoch;
	uint64_t durable;        /* the last epoch that is synced */
	uint64_t synced_segment; /* everything before this place is synced */
	uint64_t synced_offset;
	uint64_t pushed_bytes; /* leading: what is in the ring now */
};
HAC_API HAC_MUST_CHECK int hac_keeper_place(hac_keeper *keeper, struct hac_place *place);

/* ------------------------------------------------------------- leading -- */

/*
 * Begin a generation (RESUME: go on in the old one) and drain the ring from now
 * on. `event` is an eventfd(2), or -1: it is counted up whenever a frame was
 * written and whenever one was synced; sinks may send what is written, since a
 * frame that follows is written only after the sync. The keeper's place() then
 * has moved. `flags`: 0, or HAC_KEEPER_PROMOTED: a standby takes over. Its
 * generation is then the next multiple of 1 000 000, so that it outranks whatever
 * the old primary, out of touch, has begun by being opened again.
 * -errno: the keeper leads not.
 */
#define HAC_KEEPER_PROMOTED 0x1u
HAC_API HAC_MUST_CHECK int hac_keeper_lead(hac_keeper *keeper, int event, uint32_t flags);

/* Begin a generation without leading, as if PROMOTED: a backup takes over whose
 * image another program will open. Frames of the old primary are refused from now on. */
HAC_API HAC_MUST_CHECK int hac_keeper_branch(hac_keeper *keeper);

/* Backup `index` (< HAC_BACKUPS_MAX) has everything up to `epoch`, synced. Wakes
 * whoever waits for a level. Never goes back. */
HAC_API HAC_MUST_CHECK int hac_keeper_acknowledge(hac_keeper *keeper, uint32_t index,
						  uint64_t epoch);

/*
 * Let the frames that are written be at least so many microseconds apart, up to
 * HAC_PACE_MAX_US, as long as the ring is less than half full; 0: as close as they
 * come. A backup spends about as long on a small frame as on a large one, so that one
 * that falls behind keeps up with fewer of them. Wakes the drainer only if it is 0.
 */
#define HAC_PACE_MAX_US 10000000u
HAC_API HAC_MUST_CHECK int hac_keeper_pace(hac_keeper *keeper, uint32_t us);

/* A newer generation exists (or the lease is lost: `why` says it): from now on
 * the context's transactions fail with -ESTALE, and so do its waits that were
 * not over. Nothing more is drained. */
HAC_API HAC_MUST_CHECK int hac_keeper_fence(hac_keeper *keeper, uint64_t generation,
					    const char *why);

/* Empty the ring into the journal and sync; then it leads no more. For the end:
 * the context is closed, or its process is dead. */
HAC_API HAC_MUST_CHECK int hac_keeper_drain(hac_keeper *keeper);

/* Write a new base of the journal's last whole epoch, and remove the segments
 * that it makes superfluous. Leading goes on meanwhile, in a new segment. */
HAC_API HAC_MUST_CHECK int hac_keeper_compact(hac_keeper *keeper);

/* ----------------------------------------------------------- following -- */

/*
 * Append one frame that a leader sent, byte for byte, and sync it: when this
 * returns, it may be acknowledged. It must be exactly what comes next.
 *   -EBADMSG  damaged, not of this image, malformed, or its place is wrong: a
 *             frame is missing before it, it is there already, it begins a
 *             generation that does not descend from the newest one, or its
 *             epochs do not ascend. The detail says which
 *   -ESTALE   of a generation older than the newest one
 *   -EPROTONOSUPPORT  a later version wrote it
 *   -EACCES   encrypted, and the key is missing or another one
 * On every error nothing has changed.
 */
HAC_API HAC_MUST_CHECK int hac_keeper_append(hac_keeper *keeper, const void *frame, size_t size);

/* The whole size of the frame that begins with these bytes, of which `size` are
 * there (128 suffice): > 0; or -EBADMSG, -EPROTONOSUPPORT. */
HAC_API HAC_MUST_CHECK int64_t hac_frame_size(const void *bytes, size_t size);

/*
 * Put the image in the directory `incoming` (layout, base and segments as
 * received, opened by nobody) in the place of the keeper's, which is removed.
 * It must be sound and have the same UUID (any, where the keeper's image has no
 * epoch and no area yet). A crash leaves either one or the other.
 */
HAC_API HAC_MUST_CHECK int hac_keeper_replace(hac_keeper *keeper, const char *incoming);

#ifdef __cplusplus
}
#endif
#endif /* HAC_HELPER_H */
