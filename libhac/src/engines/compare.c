// SPDX-License-Identifier: MIT
/*
 * Compare the whole area with its twin. Watches nothing, misses nothing: the
 * fastest engine for small areas, and the oracle of the tests.
 */
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
	.open = open_range,
	.disarm = disarm,
};
