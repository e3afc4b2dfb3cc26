// SPDX-License-Identifier: MIT
/*
 * Compare the whole area with its twin. Watches nothing, misses nothing: the
 * fastest engine for small areas, and the oracle of the tests.
 */
#include "diff.h"
#include "engine.h"

static int probe(char *reason, size_t size)
{
	(void)reason;
	(void)size;
	return 0;
}

static int arm(struct area *area, size_t from, size_t to)
{
	(void)area;
	(void)from;
	(void)to;
	return 0;
}

static int harvest(struct area *area, struct extents *out, bool peek)
{
	(void)peek;
	return extents_add(out, area->head, area->tail);
}

/* From the end to the start: the harvest before went the other way, and the
 * next one will. What was read last is still in the first-level cache. */
static bool is_quiet(struct area *area)
{
	size_t size = area->layout.size < area->tail ? area->layout.size : area->tail;
	size_t length = (size - area->head) & ~(size_t)63, i;

	for (i = size; i > area->head + length; i--)
		if (((volatile unsigned char *)area->memory)[i - 1] != area->twin[i - 1])
			return false;
	return diff_kernels_for(length)->same(area->memory + area->head, area->twin + area->head,
					      length);
}

static int open_range(struct area *area, size_t from, size_t to)
{
	(void)area;
	(void)from;
	(void)to;
	return 0;
}

static void disarm(struct area *area)
{
	(void)area;
}

const struct engine engine_compare = {
	.name = "compare",
	.flags = ENGINE_KERNEL_WRITES | ENGINE_NEEDS_TWIN,
	.probe = probe,
	.arm = arm,
	.harvest = harvest,
	.is_quiet = is_quiet,
	.open = open_range,
	.disarm = disarm,
};
