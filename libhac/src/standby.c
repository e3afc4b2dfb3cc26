// SPDX-License-Identifier: MIT
/*
 * A standby's areas stay as they are until they are told to move to what the
 * journal holds by now.
 *
 * What the image does not have yet is pending: mapped, zero, and bound to the
 * first area of its name that arrives.
 */
#include "standby.h"

#include "control.h"
#include "engine.h"
#include "error.h"
#include "fault.h"
#include "helper.h"
#include "image_recover.h"
#include "image_tail.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define RELOADS 100        /* of an image that is replaced meanwhile */
#define PROMOTION_MS 10000 /* for the journal to get where it is said to be */
#define PAUSE_NS 2000000

int standby_refuse(const hac *h)
{
	if (h->role != HAC_STANDBY)
		return 0;
	return hac_fail(EPROTO, "this context is a standby: only the primary does that; see "
				"hac_promote() and hac_wait_primary()");
}

int standby_set_up(hac *h, struct area *area, struct image_area *stored)
{
	int result = fault_claim();

	area->pending = !stored;
	if (!result && stored) {
		area_fill(area, stored->contents);
		result = standby_protect(area, PROT_READ);
	} else if (!result) {
		area->layout.id = 0;
		result = standby_protect(area, PROT_READ);
	}
	if (!result && stored)
		result = area_take_twin(area, stored->contents, page_up(stored->layout.capacity));
	if (result)
		return result;
	atomic_store(&area->mode, AREA_STANDBY);
	area->suspect = false;
	if (!stored)
		return 0;
	stored->contents = NULL;
	area->restored = true;
	h->unclaimed--;
	return 0;
}

int standby_open_image(hac *h, const char *path, struct image **out)
{
	const struct image_options options = { .readonly = true, .coding = &h->coding };
	uint64_t segment, offset;
	uint32_t resets;
	int error;

	for (int attempt = 0;; attempt++) {
		if (!drainer_place(h->drainer, &segment, &offset, &resets))
			resets = h->resets;
		error = image_open(path, &options, out);
		if (!error)
			h->resets = resets;
		/* It may have been about to be replaced. */
		if ((error != -EBADMSG && error != -ENOENT && error != -EAGAIN) ||
		    attempt == RELOADS)
			return error;
		nanosleep(&(struct timespec){ 0, 5 * PAUSE_NS }, NULL);
	}
}

static int reload(hac *h)
{
	struct image *fresh;
	int error = standby_open_image(h, h->image->path, &fresh);

	return error ? error : standby_put_image(h, fresh);
}

/* ------------------------------------------------------------- advance -- */

/* Up to the place in the journal, in steps of whole groups. */
static int follow_journal(hac *h, struct tail_plan *plan)
{
	uint64_t segment, offset;
	uint32_t resets;
	int result;

	for (int reloads = 0; reloads <= RELOADS;) {
		if (!drainer_place(h->drainer, &segment, &offset, &resets))
			return 0;
		result = TAIL_LOST;
		if (resets == h->resets)
			result = image_tail_read(h->image, segment, offset, plan);
		if (result < 0)
			return result;
		/* Was it still the same image at the end? */
		if (result != TAIL_LOST &&
		    (!drainer_place(h->drainer, &segment, &offset, &resets) || resets != h->resets))
			result = TAIL_LOST;
		if (result == TAIL_LOST) {
			/* A compaction may be under way; another one may follow at once. */
			nanosleep(&(struct timespec){ .tv_nsec = reloads++ * 200000L }, NULL);
			result = reload(h);
			if (result)
				return result;
			continue;
		}
		if (!result) {
			image_tail_take(h->image, plan);
			return 0;
		}
		result = standby_apply(h, plan);
		if (result)
			return result;
	}
	return hac_fail(EIO, "image %s: the journal is being replaced all the time",
			h->image->path);
}

static int advance(hac *h)
{
	struct tail_plan plan = { .bytes = NULL };
	int result = follow_journal(h, &plan);

	free(plan.bytes);
	return result;
}

int hac_advance(hac *h, uint64_t *epoch)
{
	int result = context_enter(h);

	if (result)
		return result;
	if (h->role != HAC_STANDBY)
		result = hac_fail(EPROTO, "this context is no standby: its areas move by its own "
					  "transactions");
	else
		result = advance(h);
	/* From here on nothing would ever arrive. */
	if (!result)
		result = drainer_failed(h->drainer);
	if (!result && epoch)
		*epoch = atomic_load(&h->epoch);
	context_leave(h);
	return result;
}

/* ----------------------------------------------------------- promotion -- */

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

static int advance_to(hac *h, const struct control_message *news)
{
	int64_t end = now_ms() + PROMOTION_MS;

	for (;;) {
		int result = advance(h);

		if (result || atomic_load(&h->epoch) == news->epoch)
			return result;
		if (now_ms() >= end)
			return hac_fail(EIO,
					"the helper became primary at epoch %" PRIu64
					", but the journal holds epoch %" PRIu64,
					news->epoch, (uint64_t)atomic_load(&h->epoch));
		nanosleep(&(struct timespec){ 0, PAUSE_NS }, NULL);
	}
}

/* Writable and watched, like an area that hac_map() found in the image; or, where
 * that has none, like a new one. */
static int open_area(struct area *area)
{
	int result = standby_protect(area, PROT_READ | PROT_WRITE);

	if (result)
		return result;
	atomic_store(&area->mode, AREA_TRACKED);
	area->suspect = area->pending || (area->adopted && !area->twin);
	if (area->pending)
		return 0;
	result = area_arm(area);
	return result ? hac_fail(-result, "area '%s': engine %s: %s", area->layout.name,
				 area->engine->name, strerror(-result)) :
			0;
}

static void shut_area(struct area *area)
{
	area_disarm(area);
	atomic_store(&area->mode, AREA_STANDBY);
	area->suspect = false;
	standby_protect(area, PROT_READ);
}

static void take_lead(hac *h, const struct control_message *news)
{
	struct image *image = h->image;

	h->next_area_id = news->next_area_id;
	for (size_t i = 0; i < h->areas_count; i++) {
		struct area *area = h->areas[i];
		const struct image_area *stored =
			image_area_find(image->areas, image->areas_count, area->layout.id);

		if (area->pending)
			area->layout.id = h->next_area_id++;
		area->announced = !area->pending && stored &&
				  context_layout_is_known(&stored->layout, &area->layout);
		area->pending = false;
	}
	standby_settle(h);
	context_take_lead(h, news);
}

static int become_primary(hac *h, const struct control_message *news)
{
	int result = advance_to(h, news);
	size_t i;

	for (i = 0; i < h->areas_count && !result; i++)
		result = open_area(h->areas[i]);
	if (result) {
		while (i-- > 0)
			shut_area(h->areas[i]);
		return result;
	}
	take_lead(h, news);
	return 0;
}

int hac_wait_primary(hac *h, int ms)
{
	struct control_message news;
	int result = context_enter(h);

	if (result)
		return result;
	if (!h->role)
		result = hac_fail(EPROTO, "the context was opened without replication");
	if (result || h->role == HAC_PRIMARY) {
		context_leave(h);
		return result;
	}
	atomic_fetch_add(&h->waiters, 1);
	context_leave(h);
	result = helper_wait_promoted(drainer_helper(h->drainer), ms, &news);
	/* hac_close() waits for nobody who needs the lock. */
	atomic_fetch_sub(&h->waiters, 1);
	if (!result)
		result = context_enter(h);
	if (result)
		return result;
	/* Two may have waited. */
	if (h->role == HAC_STANDBY)
		result = become_primary(h, &news);
	context_leave(h);
	return result;
}

int hac_promote(hac *h)
{
	int result = context_enter(h);

	if (result)
		return result;
	if (h->role != HAC_STANDBY)
		result = hac_fail(EPROTO, "this context is no standby");
	else
		result = helper_promote(drainer_helper(h->drainer));
	context_leave(h);
	return result;
}
