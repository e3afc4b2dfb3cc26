// SPDX-License-Identifier: MIT
#include "image_recover.h"

#include "error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* -------------------------------------------------------------- areas -- */

void layout_free(struct layout *layout)
{
	free(layout->name);
	free(layout->type);
	free(layout->fingerprint);
	layout->name = layout->type = layout->fingerprint = NULL;
}

int layout_copy(const struct layout *from, struct layout *to)
{
	*to = *from;
	to->name = strdup(from->name);
	to->type = strdup(from->type ? from->type : "bytes");
	to->fingerprint = from->fingerprint ? strdup(from->fingerprint) : NULL;
	if (to->capacity < to->size)
		to->capacity = to->size;
	if (to->name && to->type && (to->fingerprint || !from->fingerprint))
		return 0;
	layout_free(to);
	return -ENOMEM;
}

static size_t mapped_size(const struct layout *layout)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (layout->capacity + page - 1) & ~(page - 1);
}

static void free_area(struct image_area *area)
{
	if (area->contents)
		munmap(area->contents, mapped_size(&area->layout));
	area->contents = NULL;
	layout_free(&area->layout);
}

void image_areas_free(struct image_area *areas, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free_area(&areas[i]);
	free(areas);
}

struct image_area *image_area_find(struct image_area *areas, size_t count, uint32_t id)
{
	for (size_t i = 0; i < count; i++)
		if (areas[i].layout.id == id)
			return &areas[i];
	return NULL;
}

static int add_area(struct recovery *recovery, const struct layout *layout)
{
	struct image_area *areas =
		realloc(recovery->areas, (recovery->areas_count + 1) * sizeof(*areas));
	struct image_area *area;

	if (!areas)
		return -ENOMEM;
	recovery->areas = areas;
	area = &areas[recovery->areas_count];
	if (layout_copy(layout, &area->layout))
		return -ENOMEM;
	area->contents = NULL;
	if (recovery->layouts_only) {
		recovery->areas_count++;
		return 0;
	}
	area->contents = mmap(NULL, mapped_size(layout), PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area->contents == MAP_FAILED) {
		layout_free(&area->layout);
		return -ENOMEM;
	}
	recovery->areas_count++;
	return 0;
}

/* An area that the image has: grown, or opened with another capacity. */
static int change_area(const struct recovery *recovery, struct image_area *area,
		       const struct layout *layout)
{
	size_t from = mapped_size(&area->layout), to = mapped_size(layout);
	struct layout copy;

	if (layout_copy(layout, &copy))
		return -ENOMEM;
	if (!recovery->layouts_only && layout->size < area->layout.size)
		memset(area->contents + layout->size, 0, area->layout.size - layout->size);
	if (!recovery->layouts_only && from != to) {
		void *moved = mremap(area->contents, from, to, MREMAP_MAYMOVE);

		if (moved == MAP_FAILED) {
			layout_free(&copy);
			return -ENOMEM;
		}
		area->contents = moved;
	}
	layout_free(&area->layout);
	area->layout = copy;
	return 0;
}

int image_areas_lay(struct image_area **areas, size_t *count, const char *path,
		    const struct layout *layout)
{
	struct recovery list = { .areas = *areas, .areas_count = *count };
	struct image_area *area = image_area_find(*areas, *count, layout->id);
	int error = area ? change_area(&list, area, layout) : add_area(&list, layout);

	*areas = list.areas;
	*count = list.areas_count;
	if (error)
		hac_fail(-error, "image %s: no memory for area '%s' of %llu bytes", path,
			 layout->name, (unsigned long long)layout->capacity);
	return error;
}

void image_areas_drop(struct image_area *areas, size_t *count, uint32_t id)
{
	struct image_area *area = image_area_find(areas, *count, id);

	if (!area)
		return;
	free_area(area);
	--*count;
	memmove(area, area + 1, (size_t)(areas + *count - area) * sizeof(*area));
}

/* -------------------------------------------------------------- apply -- */

struct apply {
	struct recovery *recovery;
	uint64_t groups; /* that began */
	size_t void_index;
	bool wanted; /* the group that is being read */
	uint32_t *drops;
	size_t drops_count;
	size_t last; /* index of the area that the last run was in */
};

static int malformed(struct apply *apply, const struct walk_frame *frame)
{
	return recovery_damaged(apply->recovery, frame->file, frame->offset,
				"the frame is intact, but its bytes belong to no area");
}

/* Runs come sorted by area, so the last one is mostly the right one. */
static struct image_area *area_of(struct apply *apply, uint32_t id)
{
	struct recovery *recovery = apply->recovery;
	struct image_area *area;

	if (apply->last < recovery->areas_count && recovery->areas[apply->last].layout.id == id)
		return &recovery->areas[apply->last];
	area = image_area_find(recovery->areas, recovery->areas_count, id);
	if (area)
		apply->last = (size_t)(area - recovery->areas);
	return area;
}

static int apply_runs(struct apply *apply, const struct walk_frame *frame,
		      const struct record_transaction *transaction)
{
	const unsigned char *bytes = transaction->bytes;

	for (size_t i = 0; i < transaction->runs_count; i++) {
		const struct hac_run *run = &transaction->runs[i];
		struct image_area *area = area_of(apply, run->area);

		if (!area || run->offset > area->layout.size ||
		    run->length > area->layout.size - run->offset)
			return malformed(apply, frame);
		if (!apply->recovery->layouts_only)
			memcpy(area->contents + run->offset, bytes, run->length);
		bytes += run->length;
	}
	return 0;
}

static int apply_layout(struct apply *apply, const struct layout *layout)
{
	struct recovery *recovery = apply->recovery;
	struct image_area *area = area_of(apply, layout->id);
	int error = area ? change_area(recovery, area, layout) : add_area(recovery, layout);

	if (error)
		hac_fail(-error, "image %s: no memory for area '%s' of %llu bytes", recovery->path,
			 layout->name, (unsigned long long)layout->capacity);
	return error;
}

static int note_drop(struct apply *apply, uint32_t id)
{
	uint32_t *drops = recovery_append(apply->drops, &apply->drops_count, sizeof(*drops));

	if (!drops)
		return hac_fail(ENOMEM, "no memory to read image %s", apply->recovery->path);
	apply->drops = drops;
	drops[apply->drops_count - 1] = id;
	return 0;
}

/* At the end of its group: the same group may hold runs in the area. One that
 * is gone already is dropped again without harm, as runs are. */
static void apply_drops(struct apply *apply)
{
	struct recovery *recovery = apply->recovery;

	for (size_t i = 0; i < apply->drops_count; i++) {
		struct image_area *area = area_of(apply, apply->drops[i]);

		if (!area)
			continue;
		free_area(area);
		recovery->areas_count--;
		memmove(area, area + 1,
			(size_t)(recovery->areas + recovery->areas_count - area) * sizeof(*area));
	}
	free(apply->drops);
	apply->drops = NULL;
	apply->drops_count = 0;
}

static int apply_record(struct apply *apply, const struct walk_frame *frame,
			const struct record *record)
{
	int error;

	switch (record->kind) {
	case RECORD_LAYOUT:
		return apply_layout(apply, &record->layout);
	case RECORD_DROP:
		return note_drop(apply, record->drop);
	case RECORD_TRANSACTION:
		error = apply_runs(apply, frame, &record->transaction);
		if (!error && !(record->flags & RECORD_PARTIAL))
			apply_drops(apply);
		return error;
	default:
		return malformed(apply, frame);
	}
}

static int visit_base(void *argument, const struct walk_frame *frame, const struct record *record,
		      bool last)
{
	struct apply *apply = argument;

	(void)last;
	if (record->kind == RECORD_BASE && !frame->offset)
		return 0;
	if (record->epoch != apply->recovery->base_epoch || record->kind == RECORD_DROP ||
	    record->flags)
		return malformed(apply, frame);
	return apply_record(apply, frame, record);
}

static bool group_is_wanted(struct apply *apply, const struct walk_frame *frame,
			    const struct record *record)
{
	struct recovery *recovery = apply->recovery;

	if (apply->void_index < recovery->void_count &&
	    recovery->void_groups[apply->void_index] == apply->groups) {
		apply->void_index++;
		return false;
	}
	for (size_t i = recovery->generations_count; i--;) {
		const struct generation *generation = &recovery->generations[i];

		if (generation->number == frame->header.generation)
			return generation->in_lineage && record->epoch <= generation->limit;
	}
	return false;
}

static int visit_journal(void *argument, const struct walk_frame *frame,
			 const struct record *record, bool last)
{
	struct apply *apply = argument;

	(void)last;
	if (record->kind == RECORD_GENERATION)
		return 0;
	if (record->flags & RECORD_FIRST) {
		apply->groups++;
		apply->wanted = group_is_wanted(apply, frame, record);
	}
	return apply->wanted ? apply_record(apply, frame, record) : 0;
}

int recovery_apply(struct recovery *recovery)
{
	struct apply apply = { .recovery = recovery };
	int error = recovery_walk_base(recovery, visit_base, &apply);

	if (!error && recovery->areas_count != recovery->base.areas)
		error = recovery_damaged(recovery, IMAGE_FILE_BASE, 0,
					 "it does not hold the areas that it should");
	if (!error)
		error = recovery_walk_journal(recovery, visit_journal, &apply);
	free(apply.drops);
	return error;
}
