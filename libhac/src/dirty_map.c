// SPDX-License-Identifier: MIT
#include "dirty_map.h"

#include <errno.h>
#include <sys/mman.h>

#define WORD_PAGES 64u
/* How much is opened at once when the kernel has no mapping left to split. */
#define WIDE_PAGES 512u
/* A system call, and a TLB flush of all processors, costs as much as walking
 * so many mappings. */
#define NEAR_PAGES 16u

int dirty_map_create(struct dirty_map *map, size_t bytes)
{
	size_t words, summaries;
	void *p;

	map->pages = page_up(bytes) / PAGE_BYTES;
	words = (map->pages + WORD_PAGES - 1) / WORD_PAGES;
	summaries = (words + WORD_PAGES - 1) / WORD_PAGES;
	p = mmap(NULL, (words + summaries) * sizeof(uint64_t), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	map->bits = p;
	map->summary = map->bits + words;
	map->split = 0;
	return 0;
}

void dirty_map_destroy(struct dirty_map *map)
{
	size_t words = (map->pages + WORD_PAGES - 1) / WORD_PAGES;
	size_t summaries = (words + WORD_PAGES - 1) / WORD_PAGES;

	munmap((void *)map->bits, (words + summaries) * sizeof(uint64_t));
	map->bits = NULL;
}

static void mark(struct dirty_map *map, size_t page)
{
	size_t word = page / WORD_PAGES;

	atomic_fetch_or(&map->bits[word], 1ull << page % WORD_PAGES);
	atomic_fetch_or(&map->summary[word / WORD_PAGES], 1ull << word % WORD_PAGES);
}

static bool is_marked(struct dirty_map *map, size_t page)
{
	return atomic_load(&map->bits[page / WORD_PAGES]) >> page % WORD_PAGES & 1;
}

/* Mark and open [first, end) until no harvest came between. */
static int open_pages(struct dirty_map *map, const struct area *area, size_t first, size_t end)
{
	bool again;
	size_t page;

	do {
		for (page = first; page < end; page++)
			mark(map, page);
		if (mprotect(area->memory + area->head + first * PAGE_BYTES,
			     (end - first) * PAGE_BYTES, PROT_READ | PROT_WRITE))
			return -errno;
		again = false;
		for (page = first; page < end; page++)
			again |= !is_marked(map, page);
	} while (again);
	return 0;
}

bool dirty_map_open_page(struct dirty_map *map, const struct area *area, size_t offset)
{
	size_t page = offset / PAGE_BYTES;
	size_t pages = (area->tail - area->head) / PAGE_BYTES;
	size_t first = page / WIDE_PAGES * WIDE_PAGES;
	size_t end = first + WIDE_PAGES < pages ? first + WIDE_PAGES : pages;

	return !open_pages(map, area, page, page + 1) || !open_pages(map, area, first, end) ||
	       !open_pages(map, area, 0, pages);
}

int dirty_map_open(struct dirty_map *map, const struct area *area, size_t from, size_t to)
{
	return open_pages(map, area, (from - area->head) / PAGE_BYTES,
			  (to - area->head) / PAGE_BYTES);
}

/* Append the pages of one word. */
static int append(const struct area *area, struct extents *out, size_t word, uint64_t bits)
{
	int result = 0;

	while (bits && !result) {
		unsigned int first = (unsigned int)__builtin_ctzll(bits);
		uint64_t rest = ~(bits >> first);
		unsigned int length = rest ? (unsigned int)__builtin_ctzll(rest) : 64;
		size_t from = area->head + (word * WORD_PAGES + first) * PAGE_BYTES;

		result = extents_add(out, from, from + (size_t)length * PAGE_BYTES);
		bits = first + length >= 64 ? 0 : bits >> (first + length) << (first + length);
	}
	return result;
}

/* Take the marks out word by word, as `out` gets them. */
static int collect(struct dirty_map *map, const struct area *area, struct extents *out, bool peek)
{
	size_t words = (map->pages + WORD_PAGES - 1) / WORD_PAGES;
	size_t summaries = (words + WORD_PAGES - 1) / WORD_PAGES, s;
	int result = 0;

	for (s = 0; s < summaries && !result; s++) {
		uint64_t summary;

		if (!atomic_load_explicit(&map->summary[s], memory_order_relaxed))
			continue;
		summary = peek ? atomic_load(&map->summary[s]) :
				 atomic_exchange(&map->summary[s], 0);
		while (summary && !result) {
			size_t word = s * WORD_PAGES + (size_t)__builtin_ctzll(summary);
			uint64_t bits = peek ? atomic_load(&map->bits[word]) :
					       atomic_exchange(&map->bits[word], 0);

			summary &= summary - 1;
			result = append(area, out, word, bits);
		}
	}
	return result;
}

static int close_pages(const struct area *area, size_t from, size_t to)
{
	return mprotect(area->memory + from, to - from, PROT_READ) ? -errno : 0;
}

/* Where a call for the extents from `i` on ends: what is near goes along. */
static size_t last_near(const struct extents *out, size_t i, size_t split_end)
{
	for (; i + 1 < out->count; i++) {
		size_t next = out->items[i + 1].from;

		if (next >= split_end || next - out->items[i].to > NEAR_PAGES * PAGE_BYTES)
			break;
	}
	return i;
}

/*
 * Close the extents from `first` on, what lies before `from` excepted. Where
 * each page has a mapping of its own, one call for all would walk the mappings
 * between. Elsewhere it is one: pages between that are read-only already cost
 * next to nothing there.
 */
static int close_extents(const struct dirty_map *map, const struct area *area,
			 const struct extents *out, size_t first, size_t from)
{
	size_t split_end = area->head + map->split * PAGE_BYTES, i;
	int result = 0;

	for (i = first; i < out->count && !result; i++) {
		if (i > first || out->items[i].from > from)
			from = out->items[i].from;
		i = from < split_end ? last_near(out, i, split_end) : out->count - 1;
		result = close_pages(area, from, out->items[i].to);
	}
	return result;
}

/* The pages that close_extents() was to close. */
static void mark_again(struct dirty_map *map, const struct area *area, const struct extents *out,
		       size_t first, size_t from)
{
	size_t i, at;

	for (i = first; i < out->count; i++) {
		at = i > first || out->items[i].from > from ? out->items[i].from : from;
		for (; at < out->items[i].to; at += PAGE_BYTES)
			mark(map, (at - area->head) / PAGE_BYTES);
	}
}

int dirty_map_harvest(struct dirty_map *map, const struct area *area, struct extents *out,
		      bool peek)
{
	size_t first = out->count, from = 0;
	int result;

	if (first)
		from = out->items[first - 1].to;
	result = collect(map, area, out, peek);
	if (peek)
		return result;
	if (result) {
		/* Half taken: close everything, which is safe, and let the
		 * caller compare everything. */
		close_pages(area, area->head, area->tail);
		return result;
	}
	/* The first page may have been merged into the extent before it. */
	if (first && out->items[first - 1].to > from)
		first--;
	else
		from = 0;
	result = close_extents(map, area, out, first, from);
	if (result)
		mark_again(map, area, out, first, from);
	return result;
}

bool dirty_map_is_empty(const struct dirty_map *map)
{
	size_t words = (map->pages + WORD_PAGES - 1) / WORD_PAGES;
	size_t summaries = (words + WORD_PAGES - 1) / WORD_PAGES, s;

	for (s = 0; s < summaries; s++)
		if (atomic_load(&map->summary[s]))
			return false;
	return true;
}
