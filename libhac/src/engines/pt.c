// SPDX-License-Identifier: MIT
/*
 * Page tracking: the area is read-only, the first write to a page faults, the
 * handler notes the page and opens it (DSN 2011, section IV).
 */
#include "dirty_map.h"
#include "engine.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

static int probe(char *reason, size_t size)
{
	(void)reason;
	(void)size;
	return 0; /* what there is to find out, the common probe finds */
}

static int arm(struct area *area, size_t from, size_t to)
{
	struct dirty_map *map = area->engine_state;
	int result;

	if (!map) {
		map = calloc(1, sizeof(*map));
		if (!map)
			return -ENOMEM;
		result = dirty_map_create(map, area->span);
		if (result) {
			free(map);
			return result;
		}
		area->engine_state = map;
	}
	if (mprotect(area->memory + from, to - from, PROT_READ))
		return -errno;
	return 0;
}

static int harvest(struct area *area, struct extents *out, bool peek)
{
	return dirty_map_harvest(area->engine_state, area, out, peek);
}

static bool is_quiet(struct area *area)
{
	return dirty_map_is_empty(area->engine_state);
}

static int open_range(struct area *area, size_t from, size_t to)
{
	return dirty_map_open(area->engine_state, area, from, to);
}

static void disarm(struct area *area)
{
	struct dirty_map *map = area->engine_state;

	mprotect(area->memory + area->head, area->tail - area->head, PROT_READ | PROT_WRITE);
	dirty_map_destroy(map);
	free(map);
	area->engine_state = NULL;
}

static bool fault(struct area *area, size_t offset, void *ucontext)
{
	(void)ucontext;
	return dirty_map_open_page(area->engine_state, area, offset - area->head);
}

const struct engine engine_pt = {
	.name = "pt",
	.flags = ENGINE_FAULTS,
	.probe = probe,
	.arm = arm,
	.harvest = harvest,
	.is_quiet = is_quiet,
	.open = open_range,
	.disarm = disarm,
	.fault = fault,
};
