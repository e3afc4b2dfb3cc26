// SPDX-License-Identifier: MIT
/*
 * What recovery demands of records, without the areas' bytes: a frame that a
 * follower accepts must be one that recovery can apply (image_apply.c).
 */
#include "keeper.h"

#include "error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct keeper_size *find(struct keeper_sizes *sizes, uint32_t id)
{
	if (sizes->last < sizes->count && sizes->items[sizes->last].id == id)
		return &sizes->items[sizes->last];
	for (size_t i = 0; i < sizes->count; i++) {
		if (sizes->items[i].id != id)
			continue;
		sizes->last = i;
		return &sizes->items[i];
	}
	return NULL;
}

static int set(struct keeper_sizes *sizes, uint32_t id, uint64_t size)
{
	struct keeper_size *item = find(sizes, id), *items;

	if (!item) {
		items = realloc(sizes->items, (sizes->count + 1) * sizeof(*items));
		if (!items)
			return -ENOMEM;
		sizes->items = items;
		item = &items[sizes->count++];
		item->id = id;
	}
	item->size = size;
	return 0;
}

static int copy_sizes(struct keeper_sizes *to, const struct keeper_sizes *from)
{
	struct keeper_size *items = malloc((from->count + 1) * sizeof(*items));

	if (!items)
		return -ENOMEM;
	if (from->count)
		memcpy(items, from->items, from->count * sizeof(*items));
	free(to->items);
	*to = (struct keeper_sizes){ items, from->count, 0 };
	return 0;
}

int keeper_areas_from(struct keeper_areas *areas, const struct recovery *recovery)
{
	for (size_t i = 0; i < recovery->areas_count; i++) {
		const struct layout *layout = &recovery->areas[i].layout;

		if (set(&areas->whole, layout->id, layout->size))
			return -ENOMEM;
	}
	return 0;
}

static int change(struct keeper_areas *areas)
{
	if (areas->changed)
		return 0;
	if (copy_sizes(&areas->open, &areas->whole))
		return -ENOMEM;
	areas->changed = true;
	return 0;
}

/* An area that nobody could map would make the image one that nobody can open. */
static bool can_be_mapped(uint64_t capacity)
{
	void *at =
		mmap(NULL, capacity, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return false;
	munmap(at, capacity);
	return true;
}

static int take_layout(struct keeper_areas *areas, const struct layout *layout)
{
	if (!can_be_mapped(layout->capacity))
		return -EBADMSG;
	return change(areas) ? -ENOMEM : set(&areas->open, layout->id, layout->size);
}

static int take_drop(struct keeper_areas *areas, uint32_t id)
{
	uint32_t *drops = recovery_append(areas->drops, &areas->drops_count, sizeof(*drops));

	if (!drops)
		return -ENOMEM;
	areas->drops = drops;
	drops[areas->drops_count - 1] = id;
	return change(areas);
}

static int check_runs(struct keeper_areas *areas, const struct record_transaction *transaction)
{
	struct keeper_sizes *sizes = areas->changed ? &areas->open : &areas->whole;

	for (size_t i = 0; i < transaction->runs_count; i++) {
		const struct hac_run *run = &transaction->runs[i];
		const struct keeper_size *item = find(sizes, run->area);

		if (!item || run->offset > item->size || run->length > item->size - run->offset)
			return -EBADMSG;
	}
	return 0;
}

/* Drops count from the end of their group on. */
static void end_group(struct keeper_areas *areas)
{
	struct keeper_sizes before = areas->whole;

	if (!areas->changed)
		return;
	for (size_t i = 0; i < areas->drops_count; i++) {
		struct keeper_size *item = find(&areas->open, areas->drops[i]);

		if (item)
			*item = areas->open.items[--areas->open.count];
	}
	areas->whole = areas->open;
	areas->open = before;
	keeper_areas_drop_group(areas);
}

void keeper_areas_drop_group(struct keeper_areas *areas)
{
	areas->changed = false;
	areas->drops_count = 0;
	free(areas->drops);
	areas->drops = NULL;
}

int keeper_areas_take(struct keeper_areas *areas, const struct record *record)
{
	int error;

	/* Whatever was open before it is void. */
	if (record->flags & RECORD_FIRST)
		keeper_areas_drop_group(areas);
	switch (record->kind) {
	case RECORD_LAYOUT:
		return take_layout(areas, &record->layout);
	case RECORD_DROP:
		return take_drop(areas, record->drop);
	case RECORD_TRANSACTION:
		error = check_runs(areas, &record->transaction);
		if (!error && !(record->flags & RECORD_PARTIAL))
			end_group(areas);
		return error;
	default:
		return 0;
	}
}

int keeper_areas_copy(struct keeper_areas *to, const struct keeper_areas *from)
{
	size_t room = 1;
	int error;

	memset(to, 0, sizeof(*to));
	error = copy_sizes(&to->whole, &from->whole);
	if (!error && from->changed)
		error = copy_sizes(&to->open, &from->open);
	to->changed = from->changed;
	/* Room in powers of two, as recovery_append() expects it. */
	while (room < from->drops_count)
		room *= 2;
	if (!error && from->drops_count) {
		to->drops = malloc(room * sizeof(*to->drops));
		error = to->drops ? 0 : -ENOMEM;
	}
	if (!error && from->drops_count) {
		memcpy(to->drops, from->drops, from->drops_count * sizeof(*to->drops));
		to->drops_count = from->drops_count;
	}
	if (error)
		keeper_areas_free(to);
	return error;
}

uint64_t keeper_areas_bytes(const struct keeper_areas *areas)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < areas->whole.count; i++)
		bytes += areas->whole.items[i].size;
	return bytes;
}

void keeper_areas_free(struct keeper_areas *areas)
{
	free(areas->whole.items);
	free(areas->open.items);
	free(areas->drops);
	memset(areas, 0, sizeof(*areas));
}
