// SPDX-License-Identifier: MIT
/*
 * Page tracking: the area is read-only, the first write to a page faults, the
 * handler notes the page and opens it (DSN 2011, section IV).
 *
 * Opening a page in the middle of a mapping cuts it in three, and closing it
 * joins them again: most of what a transaction cost, and all of it for nothing.
 * So every second page is given a flag that its neighbours do not have, which
 * keeps them apart for good, up to a limit for the process.
 */
#include "dirty_map.h"
#include "engine.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Far below the 65530 mappings that a process may have (vm.max_map_count). */
#define SPLIT_MAX 4096u

/* Of those, how many this process may still make. A child's inherited mappings
 * are counted in its copy. */
static _Atomic size_t splits_left = SPLIT_MAX;

static int probe(char *reason, size_t size)
{
	(void)reason;
	(void)size;
	return 0; /* what there is to find out, the common probe finds */
}

static size_t take_splits(size_t wanted)
{
	size_t left = atomic_load(&splits_left), n;

	do
		n = wanted < left ? wanted : left;
	while (!atomic_compare_exchange_weak(&splits_left, &left, left - n));
	return n;
}

/* No huge pages: they do not outlive the first mprotect(2) of a page anyway. */
static int flag_pages(const struct area *area, size_t first, size_t end)
{
	return madvise(area->memory + area->head + first * PAGE_BYTES, (end - first) * PAGE_BYTES,
		       MADV_NOHUGEPAGE);
}

/* With the same flag everywhere, the kernel joins mappings of equal access. */
static void join(const struct area *area, struct dirty_map *map, size_t splits, size_t pages)
{
	if (splits)
		flag_pages(area, 0, pages);
	atomic_fetch_add(&splits_left, splits);
	map->split = 0;
}

/*
 * Only mappings that have the same reverse map (anon_vma) can be joined later.
 * It is made at the first write, and divided mappings would each make their
 * own: so one write before. The program's threads may be writing.
 */
__attribute__((no_sanitize("thread"))) static void touch(unsigned char *page)
{
	atomic_fetch_or((_Atomic unsigned char *)page, 0);
}

/*
 * Before [from, to) is protected. The last page is left without the flag, so
 * that what the area grows by gets the reverse map of what is there.
 */
static void split(const struct area *area, struct dirty_map *map, size_t from, size_t to)
{
	size_t page = map->split ? map->split - 1 : 0, end;

	if (area->adopted || from != area->head + map->split * PAGE_BYTES)
		return;
	end = map->split + take_splits((to - from) / PAGE_BYTES);
	if (end == map->split)
		return;
	touch(area->memory + from);
	for (page += page % 2; page + 1 < end; page += 2) {
		/* EINVAL: a kernel without huge pages. ENOMEM: too many mappings.*/
		if (flag_pages(area, page, page + 1)) {
			join(area, map, end, end);
			return;
		}
	}
	map->split = end;
}

static int create(struct area *area)
{
	struct dirty_map *map = calloc(1, sizeof(*map));
	int result = map ? dirty_map_create(map, area->span) : -ENOMEM;

	if (result)
		free(map);
	else
		area->engine_state = map;
	return result;
}

static void disarm(struct area *area)
{
	struct dirty_map *map = area->engine_state;
	size_t bytes = area->tail - area->head;

	mprotect(area->memory + area->head, bytes, PROT_READ | PROT_WRITE);
	join(area, map, map->split, bytes / PAGE_BYTES);
	dirty_map_destroy(map);
	free(map);
	area->engine_state = NULL;
}

static int arm(struct area *area, size_t from, size_t to)
{
	bool fresh = !area->engine_state;
	int result = fresh ? create(area) : 0;

	if (result)
		return result;
	split(area, area->engine_state, from, to);
	if (!mprotect(area->memory + from, to - from, PROT_READ))
		return 0;
	result = -errno;
	if (fresh)
		disarm(area);
	else
		mprotect(area->memory + from, to - from, PROT_READ | PROT_WRITE);
	return result;
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
