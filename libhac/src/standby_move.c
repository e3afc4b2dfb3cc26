// SPDX-License-Identifier: MIT
/*
 * How a standby's areas move. What is to be applied is checked first, in memory,
 * so that a record that does not fit leaves the areas at a whole transaction.
 */
#include "standby.h"

#include "error.h"
#include "frame.h"
#include "image_recover.h"
#include "image_tail.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---------------------------------------------------------- protection -- */

int standby_protect(struct area *area, int access)
{
	if (area->adopted || !mprotect(area->memory, area->tail, access))
		return 0;
	return hac_fail(errno, "area '%s' cannot be protected: %s", area->layout.name,
			strerror(errno));
}

/* What is `touched` may be written now. */
static int thaw(hac *h)
{
	int error = 0;

	for (size_t i = 0; i < h->areas_count && !error; i++)
		if (h->areas[i]->touched)
			error = standby_protect(h->areas[i], PROT_READ | PROT_WRITE);
	return error;
}

static void freeze(hac *h)
{
	for (size_t i = 0; i < h->areas_count; i++) {
		if (h->areas[i]->touched)
			standby_protect(h->areas[i], PROT_READ);
		h->areas[i]->touched = false;
	}
}

/* --------------------------------------------------------------- areas -- */

static struct area *area_with(const hac *h, uint32_t id)
{
	for (size_t i = 0; i < h->areas_count; i++)
		if (h->areas[i]->layout.id == id && !h->areas[i]->pending)
			return h->areas[i];
	return NULL;
}

static int compare_ids(const void *a, const void *b)
{
	const struct area *const *x = a, *const *y = b;

	return (*x)->layout.id < (*y)->layout.id ? -1 : (*x)->layout.id > (*y)->layout.id;
}

void standby_settle(hac *h)
{
	if (h->areas_count)
		qsort(h->areas, h->areas_count, sizeof(struct area *), compare_ids);
	h->unclaimed = 0;
	for (size_t i = 0; i < h->image->areas_count; i++)
		h->unclaimed += h->image->areas[i].contents != NULL;
}

/* Does what arrives fit what the program has mapped? */
static int check_fits(const struct area *area, const struct layout *layout)
{
	/* Another type is what is wrong first. */
	if (!area->adopted && layout->size > area->layout.capacity &&
	    !strcmp(layout->type, area->layout.type))
		return hac_fail(
			EPROTOTYPE,
			"area '%s' is of %" PRIu64 " bytes on the primary, and mapped with a "
			"capacity of %" PRIu64 " here: close this standby, and map the area "
			"with that capacity",
			layout->name, layout->size, area->layout.capacity);
	if (layout->size < area->layout.size && !area->pending)
		return hac_fail(
			EPROTOTYPE,
			"area '%s' shrank from %" PRIu64 " to %" PRIu64 " bytes: the image "
			"was opened at an older epoch; close this standby and open it again",
			layout->name, area->layout.size, layout->size);
	return context_check_stored(layout, area);
}

/* Pages that are equal stay as they are, and cost no memory. */
static void copy_differing(unsigned char *to, const unsigned char *from, size_t size)
{
	for (size_t i = 0, n; i < size; i += n) {
		n = size - i < PAGE_BYTES ? size - i : PAGE_BYTES;
		if (memcmp(to + i, from + i, n))
			memcpy(to + i, from + i, n);
	}
}

static int extend(struct area *area, const struct layout *layout)
{
	return layout->size > area->layout.size ? area_extend(area, layout->size) : 0;
}

/* The area, which is large enough, becomes what the image holds. */
static void take_contents(struct area *area, struct image_area *stored)
{
	copy_differing(area->memory, stored->contents, area->layout.size);
	if (area->twin)
		copy_differing(area->twin, stored->contents, area->layout.size);
	munmap(stored->contents, page_up(stored->layout.capacity));
	stored->contents = NULL;
	area->layout.id = stored->layout.id;
	area->pending = false;
	area->restored = true;
}

/* The primary has dropped it. */
static void let_go(struct area *area)
{
	if (!area->adopted)
		memset(area->memory, 0, area->layout.size);
	if (area->twin)
		memset(area->twin, 0, area->layout.size);
	area->layout.id = 0;
	area->pending = true;
	area->restored = false;
}

/* ------------------------------------------------------- checking a plan -- */

/* What the plan makes of the sizes of areas. */
struct check {
	hac *h;
	struct check_size {
		uint32_t id;
		uint64_t size;
	} * sizes;
	size_t count;
	struct check_size last;
};

static int note_size(struct check *check, const struct layout *layout)
{
	struct check_size *sizes =
		recovery_append(check->sizes, &check->count, sizeof(*check->sizes));

	if (!sizes)
		return hac_fail(ENOMEM, "no memory to check transactions");
	check->sizes = sizes;
	sizes[check->count - 1] = (struct check_size){ layout->id, layout->size };
	check->last.id = 0;
	return 0;
}

static int check_new_layout(struct check *check, const struct layout *layout)
{
	struct area *area = area_with(check->h, layout->id);
	int error;

	if (!area)
		area = context_area(check->h, layout->name);
	error = area ? check_fits(area, layout) : 0;
	if (!error && area)
		area->touched = true;
	return error ? error : note_size(check, layout);
}

static uint64_t find_size(struct check *check, uint32_t id)
{
	const struct image_area *stored;
	struct area *area;

	area = area_with(check->h, id);
	if (area)
		area->touched = true;
	for (size_t i = check->count; i--;)
		if (check->sizes[i].id == id)
			return check->sizes[i].size;
	stored = image_area_find(check->h->image->areas, check->h->image->areas_count, id);
	return stored ? stored->layout.size : 0;
}

static int check_runs(struct check *check, const struct record *record)
{
	for (size_t i = 0; i < record->transaction.runs_count; i++) {
		const struct hac_run *run = &record->transaction.runs[i];

		if (!check->last.id || check->last.id != run->area)
			check->last = (struct check_size){ run->area, find_size(check, run->area) };
		if (run->offset > check->last.size || run->length > check->last.size - run->offset)
			return hac_fail(EBADMSG,
					"image %s is damaged: epoch %" PRIu64
					" has bytes that belong to no area",
					check->h->image->path, record->epoch);
	}
	return 0;
}

static int check_record(struct check *check, const struct record *record)
{
	struct area *area;

	if (record->kind == RECORD_LAYOUT)
		return check_new_layout(check, &record->layout);
	if (record->kind == RECORD_TRANSACTION)
		return check_runs(check, record);
	area = area_with(check->h, record->drop);
	if (area)
		area->touched = true;
	return 0;
}

static int each_record(const struct tail_plan *plan,
		       int (*visit)(void *argument, const struct record *record), void *argument)
{
	size_t position = 0;
	struct record record;
	int error = 0;

	while (!error && position < plan->size) {
		/* The tail has decoded it before. */
		if (record_decode(plan->bytes, plan->size, &position, &record) < 0)
			return hac_fail(EBADMSG, "a record is malformed");
		error = visit(argument, &record);
	}
	return error;
}

static int visit_check(void *argument, const struct record *record)
{
	return check_record(argument, record);
}

static int check_plan(hac *h, const struct tail_plan *plan)
{
	struct check check = { .h = h };
	int error = each_record(plan, visit_check, &check);

	free(check.sizes);
	return error;
}

/* ------------------------------------------------------ applying a plan -- */

struct move {
	hac *h;
	uint32_t *drops; /* of the group that is being applied */
	size_t drops_count;
	uint32_t id; /* where the last run was */
	struct area *area;
	struct image_area *stored;
};

/* Before any bytes: it can fail. Ids are never used twice, so the layouts of
 * later groups do no harm. */
static int visit_layout(void *argument, const struct record *record)
{
	struct move *move = argument;
	struct image *image = move->h->image;
	struct image_area *stored;
	struct layout copy;
	struct area *area;
	int error;

	if (record->kind == RECORD_DROP) {
		uint32_t *drops = recovery_append(move->drops, &move->drops_count, sizeof(*drops));

		if (!drops)
			return hac_fail(ENOMEM, "no memory to drop an area");
		move->drops = drops;
	}
	if (record->kind != RECORD_LAYOUT)
		return 0;
	area = area_with(move->h, record->layout.id);
	if (!area)
		return image_areas_lay(&image->areas, &image->areas_count, image->path,
				       &record->layout);
	error = extend(area, &record->layout);
	if (!error && layout_copy(&record->layout, &copy))
		error = hac_fail(ENOMEM, "no memory for the layout of '%s'", area->layout.name);
	if (error)
		return error;
	stored = image_area_find(image->areas, image->areas_count, record->layout.id);
	layout_free(&stored->layout);
	stored->layout = copy;
	return 0;
}

static void move_runs(struct move *move, const struct record_transaction *transaction)
{
	const unsigned char *bytes = transaction->bytes;

	for (size_t i = 0; i < transaction->runs_count; i++) {
		const struct hac_run *run = &transaction->runs[i];
		struct image *image = move->h->image;

		if (!move->id || move->id != run->area) {
			move->id = run->area;
			move->area = area_with(move->h, run->area);
			move->stored = image_area_find(image->areas, image->areas_count, run->area);
		}
		if (move->area) {
			memcpy(move->area->memory + run->offset, bytes, run->length);
			if (move->area->twin)
				memcpy(move->area->twin + run->offset, bytes, run->length);
		} else {
			memcpy(move->stored->contents + run->offset, bytes, run->length);
		}
		bytes += run->length;
	}
}

static void move_drops(struct move *move)
{
	struct image *image = move->h->image;

	for (size_t i = 0; i < move->drops_count; i++) {
		struct area *area = area_with(move->h, move->drops[i]);

		if (area)
			let_go(area);
		image_areas_drop(image->areas, &image->areas_count, move->drops[i]);
	}
	if (move->drops_count)
		move->id = 0;
	move->drops_count = 0;
}

static int visit_move(void *argument, const struct record *record)
{
	struct move *move = argument;

	if (record->kind == RECORD_DROP)
		move->drops[move->drops_count++] = record->drop;
	if (record->kind != RECORD_TRANSACTION)
		return 0;
	move_runs(move, &record->transaction);
	if (!(record->flags & RECORD_PARTIAL))
		move_drops(move);
	return 0;
}

/* What was awaited and is there now. */
static int bind_pending(hac *h)
{
	for (size_t i = 0; i < h->areas_count; i++) {
		struct area *area = h->areas[i];
		struct image_area *stored = area->pending ? context_stored(h, area->layout.name) :
							    NULL;
		int error;

		if (!stored)
			continue;
		error = extend(area, &stored->layout);
		if (error)
			return error;
		take_contents(area, stored);
	}
	return 0;
}

int standby_apply(hac *h, const struct tail_plan *plan)
{
	struct move move = { .h = h };
	int error = check_plan(h, plan);

	if (!error)
		error = thaw(h);
	if (!error)
		error = each_record(plan, visit_layout, &move);
	move.drops_count = 0;
	if (!error) {
		error = each_record(plan, visit_move, &move);
		image_tail_take(h->image, plan);
		atomic_store(&h->epoch, h->image->epoch);
		/* If this fails, the next attempt binds what is left. */
		error = bind_pending(h);
	}
	freeze(h);
	standby_settle(h);
	free(move.drops);
	return error;
}

/* ------------------------------------------------- reading it all anew -- */

static struct image_area *match(struct image *image, const struct area *area)
{
	struct image_area *stored =
		area->pending ? NULL :
				image_area_find(image->areas, image->areas_count, area->layout.id);

	for (size_t i = 0; !stored && i < image->areas_count; i++)
		if (!strcmp(image->areas[i].layout.name, area->layout.name))
			stored = &image->areas[i];
	return stored;
}

/* Everything that can fail. */
static int prepare_image(hac *h, struct image *fresh)
{
	int error = 0;

	for (size_t i = 0; i < h->areas_count && !error; i++) {
		const struct image_area *stored = match(fresh, h->areas[i]);

		h->areas[i]->touched = true;
		if (stored)
			error = check_fits(h->areas[i], &stored->layout);
	}
	if (!error)
		error = thaw(h);
	for (size_t i = 0; i < h->areas_count && !error; i++) {
		const struct image_area *stored = match(fresh, h->areas[i]);

		if (stored)
			error = extend(h->areas[i], &stored->layout);
	}
	return error;
}

int standby_put_image(hac *h, struct image *fresh)
{
	int error = prepare_image(h, fresh);

	for (size_t i = 0; i < h->areas_count && !error; i++) {
		struct image_area *stored = match(fresh, h->areas[i]);

		if (stored)
			take_contents(h->areas[i], stored);
		else if (!h->areas[i]->pending)
			let_go(h->areas[i]);
	}
	freeze(h);
	if (error) {
		image_close(fresh);
		return error;
	}
	image_close(h->image);
	h->image = fresh;
	atomic_store(&h->epoch, fresh->epoch);
	standby_settle(h);
	return 0;
}
