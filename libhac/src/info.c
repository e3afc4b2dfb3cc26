// SPDX-License-Identifier: MIT
/* Questions about an open context, and copies of its state. */
#include "context.h"
#include "engine.h"
#include "error.h"
#include "helper.h"
#include "standby.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK_SIZE(p)                                                                     \
	do {                                                                              \
		if ((p)->size != sizeof(*(p)))                                            \
			return hac_fail(EINVAL, "size of the result is %zu, must be %zu", \
					(p)->size, sizeof(*(p)));                         \
	} while (0)

/* "uffd", or "compare,uffd" */
static void name_engines(const hac *h, char *text, size_t size)
{
	size_t i, k, used = 0;

	text[0] = '\0';
	for (i = 0; i < h->areas_count; i++) {
		const struct engine *engine = h->areas[i]->engine;

		for (k = 0; k < i; k++)
			if (h->areas[k]->engine == engine)
				break;
		if (engine && k == i && used < size)
			used += (size_t)snprintf(text + used, size - used, "%s%s", used ? "," : "",
						 engine->name);
	}
	if (!text[0])
		snprintf(text, size, "%s", h->engine);
}

int hac_get_info(hac *h, struct hac_info *info)
{
	int result;

	CHECK_SIZE(info);
	result = context_enter(h);
	if (result)
		return result;
	memset(info, 0, sizeof(*info));
	info->size = sizeof(*info);
	info->epoch = atomic_load(&h->epoch);
	if (h->image) {
		info->generation = h->image->generation;
		info->parent = h->image->parent;
		info->branch_epoch = h->image->branch_epoch;
		info->dropped_bytes = h->image->dropped_bytes;
		info->dropped_epoch = h->image->dropped_epoch;
		info->durable = h->drainer ? drainer_durable(h->drainer) : info->epoch;
	}
	info->role = h->role;
	if (h->role) {
		info->helper = (uint32_t)helper_pid(drainer_helper(h->drainer));
		/* What a standby shows is in its journal. */
		if (info->durable < info->epoch && h->role == HAC_STANDBY)
			info->durable = info->epoch;
	}
	info->areas = (uint32_t)h->areas_count;
	info->unclaimed = (uint32_t)h->unclaimed;
	info->stage = atomic_load(&h->doubt) ? 3 : (uint32_t)h->stage;
	info->flags = h->flags;
	name_engines(h, info->engine, sizeof(info->engine));
	snprintf(info->reason, sizeof(info->reason), "%s", h->reason);
	context_leave(h);
	return 0;
}

struct hac_stats context_stats(const hac *h)
{
	struct hac_stats stats = h->stats;
	size_t i;

	stats.begin_ns = clock_to_ns(&h->start, h->begin_ticks);
	stats.end_ns = clock_to_ns(&h->start, h->end_ticks);
	stats.faults = h->past_faults;
	for (i = 0; i < h->areas_count; i++)
		stats.faults += atomic_load(&h->areas[i]->faults);
	if (h->blind || (!h->areas_count && !stats.writes))
		stats.writes = UINT64_MAX;
	return stats;
}

int hac_get_stats(hac *h, struct hac_stats *stats)
{
	int result;

	CHECK_SIZE(stats);
	result = context_enter(h);
	if (result)
		return result;
	*stats = context_stats(h);
	context_leave(h);
	return 0;
}

static void describe(struct hac_area_info *info, const struct layout *layout)
{
	info->size = sizeof(*info);
	info->id = layout->id;
	info->flags = layout->flags & ~LAYOUT_ADOPTED;
	info->adopted = !!(layout->flags & LAYOUT_ADOPTED);
	info->stored_address = layout->address;
	info->bytes = layout->size;
	info->capacity = layout->capacity;
	info->name = layout->name;
	info->type = layout->type;
	info->fingerprint = layout->fingerprint;
}

int hac_get_area(hac *h, uint32_t index, struct hac_area_info *info)
{
	size_t i, left;
	int result;

	CHECK_SIZE(info);
	result = context_enter(h);
	if (result)
		return result;
	memset(info, 0, sizeof(*info));
	info->size = sizeof(*info);
	if (index < h->areas_count) {
		const struct area *area = h->areas[index];

		describe(info, &area->layout);
		info->claimed = 1;
		info->restored = area->restored;
		info->address = area->memory;
		info->engine = area->engine ? area->engine->name : "none";
		context_leave(h);
		return 0;
	}
	left = index - h->areas_count;
	result = -ENOENT;
	for (i = 0; h->image && i < h->image->areas_count; i++) {
		if (!h->image->areas[i].contents || left--)
			continue;
		describe(info, &h->image->areas[i].layout);
		result = 0;
		break;
	}
	context_leave(h);
	return result ? hac_fail(ENOENT, "there is no area %u", index) : 0;
}

/* The committed state, for a base. The arrays are the caller's to free. */
static int gather(hac *h, struct image_state *state)
{
	size_t n = h->areas_count + (h->image ? h->image->areas_count : 0), i;
	struct layout *layouts = calloc(n + 1, sizeof(*layouts));
	const unsigned char **bytes = calloc(n + 1, sizeof(*bytes));

	if (!layouts || !bytes) {
		free(layouts);
		free(bytes);
		return hac_fail(ENOMEM, "no memory for %zu layouts", n);
	}
	n = 0;
	for (i = 0; i < h->areas_count; i++) {
		const struct area *area = h->areas[i];

		layouts[n] = area->layout;
		bytes[n++] = area->twin ? area->twin : area->memory;
	}
	for (i = 0; h->image && i < h->image->areas_count; i++) {
		if (!h->image->areas[i].contents)
			continue;
		layouts[n] = h->image->areas[i].layout;
		bytes[n++] = h->image->areas[i].contents;
	}
	*state = (struct image_state){ atomic_load(&h->epoch), layouts, bytes, n };
	return 0;
}

/* Enter, with nothing open and everything written so far in an epoch. */
static int enter_settled(hac *h)
{
	int result = context_enter(h);

	if (result)
		return result;
	if (h->stage != STAGE_IDLE)
		result = hac_fail(EPROTO, "a transaction is open: end or abort it first");
	else if (h->flags & HAC_NO_TWIN)
		result = hac_fail(
			EOPNOTSUPP,
			"the context has no twin (HAC_NO_TWIN, twin=False): close it and use hac_compact_image() (hac compact)");
	else if (!(h->flags & HAC_READONLY) && h->role != HAC_STANDBY && h->areas_count)
		result = transaction_end_strays(h);
	if (result)
		context_leave(h);
	return result;
}

static void free_state(struct image_state *state)
{
	free((void *)state->layouts);
	free((void *)state->bytes);
}

int hac_copy(hac *h, const char *destination)
{
	struct image_state state;
	int result;

	if (!destination || !*destination)
		return hac_fail(EINVAL, "the destination of the copy is empty");
	result = enter_settled(h);
	if (result)
		return result;
	result = gather(h, &state);
	if (!result) {
		result = image_copy(&state, &h->coding, destination);
		free_state(&state);
	}
	context_leave(h);
	return result;
}

int hac_compact(hac *h)
{
	struct image_state state;
	int result = enter_settled(h);

	if (result)
		return result;
	if (!h->drainer) {
		result = hac_fail(EOPNOTSUPP, "the context has no image that it may write");
	} else if (h->role) {
		/* The helper makes the base of what it has written. */
		result = standby_refuse(h);
		if (!result)
			result = drainer_compact(h->drainer, NULL);
	} else {
		result = gather(h, &state);
		if (!result) {
			result = drainer_compact(h->drainer, &state);
			free_state(&state);
		}
	}
	context_leave(h);
	return result;
}
