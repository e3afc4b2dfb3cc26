// SPDX-License-Identifier: MIT
#include "context.h"
#include "diff.h"
#include "engine.h"
#include "error.h"
#include "fault.h"
#include "standby.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------ prepare -- */

/* Edges of adopted memory are compared: single writes to them are not seen. */
static size_t edges_changed(const struct delta *d, const struct area *area, size_t first)
{
	const struct hac_run *last;

	if (!(area->engine->flags & ENGINE_WORDS) || first == d->runs_count)
		return 0;
	last = d->runs + d->runs_count - 1;
	return (d->runs[first].offset < area->head) + (last->offset + last->length > area->tail);
}

static int add_area(hac *h, struct area *area, uint32_t form, bool bytes)
{
	size_t pages = h->delta.pages;
	bool all = area->suspect;
	bool whole = form == HAC_PAGES || (!area->twin && !(area->engine->flags & ENGINE_WORDS));
	uint64_t writes = area->writes, fallbacks = area->fallbacks;
	size_t first = h->delta.runs_count;
	int result = area_harvest(area, &h->extents, false);

	if (result)
		return result;
	h->delta.writes += area->writes - writes;
	h->delta.fallbacks += area->fallbacks - fallbacks;
	if (!whole)
		extents_to_words(&h->extents, area->layout.size);
	if (whole) {
		result = delta_add_whole(&h->delta, area, &h->extents, true, bytes);
	} else if (area->twin) {
		result = delta_add_words(&h->delta, area, &h->extents);
		/* The engine knows which pages were written; where it does
		 * not, those that changed have been counted. */
		if (!all && !(area->engine->flags & ENGINE_NEEDS_TWIN) && area->head == 0 &&
		    area->tail >= area->layout.size)
			h->delta.pages = pages + extents_pages(&h->extents);
	} else {
		result = delta_add_whole(&h->delta, area, &h->extents, false, bytes);
	}
	if (result)
		area->suspect = true;
	else
		h->delta.fallbacks += edges_changed(&h->delta, area, first);
	return result;
}

/* Fill h->delta with everything that changed. On failure nothing is lost: what
 * was harvested is reported again. */
static int collect(hac *h, uint32_t form, bool bytes)
{
	size_t i;
	int result = 0;

	delta_clear(&h->delta);
	for (i = 0; i < h->areas_count && !result; i++)
		result = add_area(h, h->areas[i], form, bytes);
	if (result)
		while (i-- > 0)
			h->areas[i]->suspect = true;
	return result;
}

static void suspect_all(hac *h)
{
	size_t i;

	for (i = 0; i < h->areas_count; i++)
		h->areas[i]->suspect = true;
}

static int check_form(const hac *h, const struct hac_delta *delta)
{
	if (!delta)
		return 0;
	if (delta->size != sizeof(*delta))
		return hac_fail(EINVAL, "struct hac_delta: size is %zu, must be %zu", delta->size,
				sizeof(*delta));
	if (delta->form != HAC_WORDS && delta->form != HAC_PAGES)
		return hac_fail(EINVAL, "delta form %u is neither HAC_WORDS nor HAC_PAGES",
				delta->form);
	if (delta->flags & ~HAC_RUNS_ONLY)
		return hac_fail(EINVAL, "unknown delta flags 0x%x", delta->flags & ~HAC_RUNS_ONLY);
	if (delta->flags & HAC_RUNS_ONLY && (h->drainer || !(h->flags & HAC_NO_TWIN)))
		return hac_fail(
			EINVAL,
			"HAC_RUNS_ONLY: the image or the twin of this context needs the bytes, too");
	return 0;
}

static int hand_out(const hac *h, struct hac_delta *delta)
{
	const struct delta *d = &h->delta;
	bool fits;

	if (!delta)
		return 0;
	if (!delta->runs_max) {
		delta->runs = d->runs;
		delta->bytes = d->bytes;
		delta->runs_count = d->runs_count;
		delta->bytes_count = d->bytes_count;
		return 0;
	}
	fits = delta->runs_max >= d->runs_count &&
	       (delta->bytes_max >= d->bytes_count || delta->flags & HAC_RUNS_ONLY);
	delta->runs_count = d->runs_count;
	delta->bytes_count = d->bytes_count;
	if (!fits)
		return hac_fail(
			ENOBUFS,
			"the delta has %zu runs and %zu bytes, the buffers hold %zu and %zu; prepare again with larger ones, finish or abort",
			d->runs_count, d->bytes_count, delta->runs_max, delta->bytes_max);
	memcpy(delta->runs, d->runs, d->runs_count * sizeof(*d->runs));
	if (!(delta->flags & HAC_RUNS_ONLY))
		memcpy(delta->bytes, d->bytes, d->bytes_count);
	return 0;
}

static int prepare(hac *h, struct hac_delta *delta)
{
	int result = check_form(h, delta);

	if (result)
		return result;
	if (h->stage == STAGE_IDLE)
		return hac_fail(EPROTO, "no transaction is open: call hac_begin() first");
	if (h->stage == STAGE_OPEN) {
		result = collect(h, delta ? delta->form : HAC_WORDS,
				 !delta || !(delta->flags & HAC_RUNS_ONLY));
		if (result)
			return result;
		h->stage = STAGE_PREPARED;
	}
	return hand_out(h, delta);
}

/* ------------------------------------------------------------- finish -- */

/* The layouts that this epoch is the first to hold. */
static int announce(const hac *h, struct layout **out, size_t *count)
{
	size_t i, n = 0;

	*out = NULL;
	*count = 0;
	for (i = 0; i < h->areas_count; i++)
		n += !h->areas[i]->announced;
	if (!n)
		return 0;
	*out = malloc(n * sizeof(**out));
	if (!*out)
		return hac_fail(ENOMEM, "no memory for %zu layouts", n);
	for (i = 0; i < h->areas_count; i++)
		if (!h->areas[i]->announced)
			(*out)[(*count)++] = h->areas[i]->layout;
	return 0;
}

static int push(hac *h, uint64_t epoch)
{
	struct layout *layouts;
	struct transaction_record record = {
		.epoch = epoch,
		.drops = h->drops,
		.drops_count = h->drops_count,
		.runs = h->delta.runs,
		.runs_count = h->delta.runs_count,
		.bytes = h->delta.bytes,
		.bytes_count = h->delta.bytes_count,
	};
	int result = announce(h, &layouts, &record.layouts_count);

	if (result)
		return result;
	record.layouts = layouts;
	result = drainer_push(h->drainer, &record, !(h->flags & HAC_FAIL_FULL));
	free(layouts);
	return result;
}

static void count(hac *h, const struct delta *d)
{
	h->stats.dirty_pages += d->pages;
	h->stats.changed_words += d->words;
	h->stats.delta_bytes += d->bytes_count;
	h->stats.writes += d->writes;
	h->stats.fallbacks += d->fallbacks;
}

/* The delta of this stage becomes the next epoch, or nothing changes. */
static int finish(hac *h, uint64_t *epoch)
{
	uint64_t next = atomic_load(&h->epoch) + 1;
	size_t i, run = 0, at = 0;
	int result;

	if (h->drainer) {
		if (next <= h->image->last_epoch)
			next = h->image->last_epoch + 1;
		result = push(h, next);
		if (result)
			return result;
	}
	for (i = 0; i < h->areas_count; i++) {
		struct area *area = h->areas[i];

		if (area->twin)
			delta_commit(&h->delta, area, &run, &at);
		area->announced = true;
	}
	h->drops_count = 0;
	atomic_store(&h->epoch, next);
	h->stats.transactions++;
	if (epoch)
		*epoch = next;
	return 0;
}

/* -------------------------------------------------------------- begin -- */

/* Is there something that the image does not know of, besides bytes? */
static bool has_new_layout(const hac *h)
{
	size_t i;

	for (i = 0; i < h->areas_count; i++)
		if (!h->areas[i]->announced)
			return true;
	return h->drops_count;
}

static bool has_news(const hac *h)
{
	return h->delta.runs_count || has_new_layout(h);
}

/* Strict: were bytes changed in an area that has been through an epoch? */
static const struct area *find_stray(const hac *h)
{
	size_t i, k;

	for (i = 0; i < h->areas_count; i++)
		for (k = 0; h->areas[i]->announced && k < h->delta.runs_count; k++)
			if (h->delta.runs[k].area == h->areas[i]->layout.id)
				return h->areas[i];
	return NULL;
}

static bool is_quiet(hac *h)
{
	size_t i;

	if (h->drops_count)
		return false;
	/* Backwards: what the last harvest looked at last is in the caches. */
	for (i = h->areas_count; i > 0; i--)
		if (!area_is_quiet(h->areas[i - 1]))
			return false;
	return true;
}

int transaction_end_strays(hac *h)
{
	const struct area *stray;
	int result;

	/* What was lent ends here in either case. */
	delta_clear(&h->delta);
	if (is_quiet(h))
		return 0;
	result = collect(h, HAC_WORDS, true);
	if (result)
		return result;
	if (!has_news(h))
		return 0;
	stray = h->flags & HAC_STRICT ? find_stray(h) : NULL;
	if (stray) {
		uint64_t offset = 0;
		size_t k;

		for (k = 0; k < h->delta.runs_count; k++)
			if (h->delta.runs[k].area == stray->layout.id)
				break;
		offset = h->delta.runs[k].offset;
		suspect_all(h);
		return hac_fail(
			EREMCHG,
			"area '%s' was written outside a transaction, first at offset %llu; strict contexts refuse that",
			stray->layout.name, (unsigned long long)offset);
	}
	result = finish(h, NULL);
	if (result)
		suspect_all(h);
	else
		h->stats.strays++;
	return result;
}

static int arm_all(hac *h)
{
	size_t i;
	int result = 0;

	for (i = 0; i < h->areas_count && !result; i++) {
		if (h->areas[i]->armed)
			continue;
		result = area_arm(h->areas[i]);
		if (result)
			result = hac_fail(-result, "area '%s': engine %s: %s",
					  h->areas[i]->layout.name, h->areas[i]->engine->name,
					  strerror(-result));
	}
	return result;
}

static int check_ready(hac *h)
{
	uint64_t doubt = atomic_load(&h->doubt);
	int result;

	if (h->stage != STAGE_IDLE)
		return hac_fail(EBUSY, "a transaction is open: end or abort it first");
	if (h->flags & HAC_READONLY)
		return hac_fail(EPROTO, "the context is read-only: it has no transactions");
	result = standby_refuse(h);
	/* Nothing that it did would ever count. */
	if (!result && h->drainer && drainer_error(h->drainer) == -ESTALE)
		result = drainer_failed(h->drainer);
	if (result)
		return result;
	if (h->unclaimed && !(h->flags & HAC_PARTIAL))
		return hac_fail(
			EPROTO,
			"the image holds %zu area(s) that nobody has claimed: map, adopt or drop them, or open with HAC_PARTIAL (partial=True)",
			h->unclaimed);
	if (doubt) {
		if (drainer_error(h->drainer) ||
		    !drainer_reached(h->drainer, doubt_epoch(doubt), doubt_backups(doubt)))
			return hac_fail(
				EUCLEAN,
				"epoch %llu is in doubt (it has not reached the level that was waited for): wait for it again, or close the context and open the image anew",
				(unsigned long long)doubt_epoch(doubt));
		atomic_store(&h->doubt, 0);
	}
	return 0;
}

int transaction_begin(hac *h)
{
	int result = check_ready(h);

	if (h->drainer)
		drainer_expect(h->drainer);
	if (!result && h->faults)
		result = fault_claim();
	/* Watch what is new before comparing it. */
	if (!result)
		result = arm_all(h);
	if (!result && h->flags & HAC_JOIN_STRAYS && !has_new_layout(h))
		delta_clear(&h->delta);
	else if (!result)
		result = transaction_end_strays(h);
	if (!result)
		h->stage = STAGE_OPEN;
	return result;
}

/* -------------------------------------------------------------- abort -- */

/* The pages stay open and remembered: what some late writer adds is found at
 * the next harvest, like any write between transactions. */
static int restore_area(hac *h, struct area *area)
{
	size_t i;
	int result = area_harvest(area, &h->extents, true);

	if (result)
		return result;
	for (i = 0; i < h->extents.count && !result; i++) {
		const struct extent *e = &h->extents.items[i];

		result = area_open(area, e->from, e->to);
		if (!result)
			diff_restore(area->memory + e->from, area->twin + e->from, e->to - e->from);
	}
	return result;
}

static int restore_run(hac *h, const struct hac_run *run)
{
	size_t i;
	int result = 0;

	for (i = 0; i < h->areas_count; i++) {
		struct area *area = h->areas[i];

		if (area->layout.id != run->area)
			continue;
		result = area_open(area, run->offset, run->offset + run->length);
		if (!result)
			diff_restore(area->memory + run->offset, area->twin + run->offset,
				     run->length);
		break;
	}
	return result;
}

int transaction_abort(hac *h)
{
	size_t i;
	int result = 0;

	if (h->stage == STAGE_IDLE)
		return hac_fail(EPROTO, "no transaction is open: nothing to abort");
	if (h->flags & HAC_NO_TWIN)
		return hac_fail(
			EOPNOTSUPP,
			"the context has no twin (HAC_NO_TWIN, twin=False): it cannot put bytes back");
	if (h->stage == STAGE_PREPARED)
		for (i = 0; i < h->delta.runs_count && !result; i++)
			result = restore_run(h, &h->delta.runs[i]);
	for (i = 0; i < h->areas_count && !result; i++)
		result = restore_area(h, h->areas[i]);
	if (result)
		return hac_fail(-result, "abort: area '%s': %s",
				h->areas[i ? i - 1 : 0]->layout.name, strerror(-result));
	delta_clear(&h->delta);
	h->stage = STAGE_IDLE;
	h->stats.aborts++;
	return 0;
}

/* ------------------------------------------------------- public calls -- */

int hac_begin(hac *h)
{
	int result = context_enter(h);
	uint64_t start;

	if (result)
		return result;
	start = clock_ticks();
	result = transaction_begin(h);
	h->begin_ticks += clock_ticks() - start;
	context_leave(h);
	return result;
}

int hac_prepare(hac *h, struct hac_delta *delta)
{
	int result = context_enter(h);
	uint64_t start;

	if (result)
		return result;
	start = clock_ticks();
	result = prepare(h, delta);
	h->end_ticks += clock_ticks() - start;
	context_leave(h);
	return result;
}

static int finish_prepared(hac *h, uint64_t *epoch)
{
	int result;

	if (h->stage != STAGE_PREPARED)
		return hac_fail(EPROTO,
				"the transaction is not prepared: call hac_prepare() first");
	result = finish(h, epoch);
	if (result)
		return result;
	count(h, &h->delta);
	h->stage = STAGE_IDLE;
	return 0;
}

int hac_finish(hac *h, uint64_t *epoch)
{
	int result = context_enter(h);
	uint64_t start;

	if (result)
		return result;
	start = clock_ticks();
	result = finish_prepared(h, epoch);
	h->end_ticks += clock_ticks() - start;
	context_leave(h);
	return result;
}

int hac_end(hac *h, struct hac_delta *delta, uint64_t *epoch)
{
	int result = context_enter(h);
	uint64_t start, ended = 0;

	if (result)
		return result;
	start = clock_ticks();
	result = prepare(h, delta);
	if (!result)
		result = finish_prepared(h, &ended);
	h->end_ticks += clock_ticks() - start;
	context_leave(h);
	if (result)
		return result;
	if (epoch)
		*epoch = ended;
	return h->level.kind == HAC_LEVEL_RING ? 0 : hac_wait(h, ended, NULL, -1);
}

/* Nothing of the caller's runs between the two, so there are no strays to look
 * for; what other threads write meanwhile races the end. */
static int begin_at_once(hac *h)
{
	int result = check_ready(h);

	if (!result && h->faults)
		result = fault_claim();
	if (!result)
		result = arm_all(h);
	if (!result)
		h->stage = STAGE_OPEN;
	return result;
}

int hac_next(hac *h, struct hac_delta *delta, uint64_t *epoch)
{
	int result = context_enter(h);
	uint64_t start, ended = 0;
	bool waits;

	if (result)
		return result;
	waits = h->level.kind != HAC_LEVEL_RING;
	start = clock_ticks();
	result = prepare(h, delta);
	if (!result)
		result = finish_prepared(h, &ended);
	if (!result && epoch)
		*epoch = ended;
	if (!result && !waits)
		result = begin_at_once(h);
	h->end_ticks += clock_ticks() - start;
	context_leave(h);
	if (result || !waits)
		return result;
	result = hac_wait(h, ended, NULL, -1);
	if (!result)
		result = context_enter(h);
	if (result)
		return result;
	result = begin_at_once(h);
	context_leave(h);
	return result;
}

int hac_abort(hac *h)
{
	int result = context_enter(h);

	if (result)
		return result;
	result = transaction_abort(h);
	context_leave(h);
	return result;
}
