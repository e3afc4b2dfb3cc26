// SPDX-License-Identifier: MIT
#include "extents.h"

#include "area.h"

#include <errno.h>
#include <stdlib.h>

#define FEW 128u /* insertion_sort() takes half as long for so many, a quarter for 16 */

int extents_add(struct extents *list, size_t from, size_t to)
{
	struct extent *items;
	size_t room;

	if (from >= to)
		return 0;
	if (list->count && list->items[list->count - 1].to == from) {
		list->items[list->count - 1].to = to;
		return 0;
	}
	if (list->count == list->room) {
		room = list->room ? list->room * 2 : 64;
		items = realloc(list->items, room * sizeof(*items));
		if (!items)
			return -ENOMEM;
		list->items = items;
		list->room = room;
	}
	list->items[list->count++] = (struct extent){ from, to };
	return 0;
}

static int by_start(const void *a, const void *b)
{
	const struct extent *x = a, *y = b;

	return (x->from > y->from) - (x->from < y->from);
}

static int is_normal(const struct extents *list)
{
	size_t i;

	for (i = 1; i < list->count; i++)
		if (list->items[i].from <= list->items[i - 1].to)
			return 0;
	return 1;
}

/* A log is a few entries in most transactions, for which qsort(3) is slow. */
static void insertion_sort(struct extent *items, size_t count)
{
	size_t i, j;

	for (i = 1; i < count; i++) {
		struct extent item = items[i];

		for (j = i; j > 0 && items[j - 1].from > item.from; j--)
			items[j] = items[j - 1];
		items[j] = item;
	}
}

void extents_normalise(struct extents *list)
{
	size_t i, last = 0;

	if (is_normal(list))
		return;
	if (list->count <= FEW)
		insertion_sort(list->items, list->count);
	else
		qsort(list->items, list->count, sizeof(*list->items), by_start);
	for (i = 1; i < list->count; i++) {
		struct extent *e = &list->items[i];

		if (e->from > list->items[last].to)
			list->items[++last] = *e;
		else if (e->to > list->items[last].to)
			list->items[last].to = e->to;
	}
	list->count = last + 1;
}

void extents_to_words(struct extents *list, size_t size)
{
	size_t i;

	for (i = 0; i < list->count; i++) {
		struct extent *e = &list->items[i];

		e->from &= ~(size_t)7;
		e->to = (e->to + 7) & ~(size_t)7;
		if (e->to > size)
			e->to = size;
	}
	extents_normalise(list);
}

size_t extents_pages(const struct extents *list)
{
	size_t i, pages = 0, next = 0; /* next: the first page not counted */

	for (i = 0; i < list->count; i++) {
		size_t first = list->items[i].from / PAGE_BYTES;
		size_t end = page_up(list->items[i].to) / PAGE_BYTES;

		if (first < next)
			first = next;
		if (end > first) {
			pages += end - first;
			next = end;
		}
	}
	return pages;
}

void extents_free(struct extents *list)
{
	free(list->items);
	*list = (struct extents){ 0 };
}
