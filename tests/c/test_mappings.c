// SPDX-License-Identifier: MIT
/*
 * pt gives each page a mapping of its own, up to a limit, and leaves one mapping
 * behind. Nothing is missed where it cannot.
 */
#include "dirty_map.h"
#include "each_engine.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096u
#define LIMIT 4096u /* of the process, as in pt.c */

/* How many mappings have a part of [p, p + size). */
static size_t mappings(const void *p, size_t size)
{
	unsigned long long from = (uintptr_t)p, to = from + size, start, end;
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	size_t n = 0;

	CHECK(maps);
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%llx-%llx", &start, &end) == 2 && start < to && end > from)
			n++;
	fclose(maps);
	return n;
}

static unsigned char *map(hac *h, const char *name, size_t pages, size_t capacity)
{
	struct hac_area_options o = { .size = sizeof(o), .capacity = capacity * PAGE };
	void *address;

	CHECK_OK(hac_map(h, name, pages * PAGE, &o, &address));
	return address;
}

/* When each page has its own, the last two of an odd number excepted. */
static size_t apart(size_t pages)
{
	return pages > 1 ? pages - pages % 2 : 1;
}

/* The pages first, first + step, ... of an area, and no other, are found. */
static void write_and_find(hac *h, unsigned char *p, size_t pages, size_t first, size_t step)
{
	struct hac_delta d = { .size = sizeof(d) };
	size_t i, n = 0;

	CHECK_OK(hac_begin(h));
	for (i = first; i < pages; i += step)
		p[i * PAGE + 8]++;
	CHECK_OK(hac_end(h, &d, NULL));
	for (i = first; i < pages; i += step, n++)
		CHECK_MSG(n < d.runs_count && d.runs[n].offset == i * PAGE + 8, "page %zu of %zu",
			  i, pages);
	CHECK_IS(d.runs_count, n);
}

static void empty_transaction(hac *h)
{
	CHECK_OK(hac_begin(h));
	CHECK_OK(hac_end(h, NULL, NULL));
}

static void armed_and_closed(void)
{
	const size_t sizes[] = { 1, 2, 3, 16, 255, 256 };
	size_t i, k, pages;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		hac *h = open_with("pt", 0);
		unsigned char *p = map(h, "a", pages = sizes[i], 0);

		CHECK_IS(mappings(p, pages * PAGE), 1);
		empty_transaction(h);
		CHECK_IS(mappings(p, pages * PAGE), apart(pages));
		for (k = 1; k < 40; k++) {
			write_and_find(h, p, pages, k % pages, k);
			CHECK_IS(mappings(p, pages * PAGE), apart(pages));
		}
		CHECK_OK(hac_begin(h));
		p[0] = 99;
		CHECK_OK(hac_abort(h));
		CHECK_IS(p[0], 0);
		CHECK_OK(hac_close(h));
		CHECK_IS(mappings(p, pages * PAGE), 1);
		CHECK_OK(hac_unmap(p));
	}
}

/* By one page and by many, with pages open and closed, written and not. */
static void growing(void)
{
	size_t pages = 1, most = 600;
	unsigned long long state = 7;
	hac *h = open_with("pt", 0);
	unsigned char *p = map(h, "a", pages, most);

	empty_transaction(h);
	while (pages < most) {
		unsigned long long r = check_random(&state);
		size_t old = pages;

		pages += r % 4 ? 1 : r / 4 % 40;
		pages = pages < most ? pages : most;
		CHECK_OK(hac_begin(h));
		if (r >> 20 & 1)
			p[(old - 1) * PAGE]++;
		CHECK_OK(hac_grow(h, "a", pages * PAGE));
		if (r >> 21 & 1)
			p[(pages - 1) * PAGE]++;
		CHECK_OK(hac_end(h, NULL, NULL));
		CHECK_IS(mappings(p, pages * PAGE), apart(pages));
		write_and_find(h, p, pages, r >> 30 & 1, 3);
	}
	CHECK_OK(hac_close(h));
	CHECK_IS(mappings(p, pages * PAGE), 1);
	CHECK_OK(hac_unmap(p));
}

static void over_the_limit(void)
{
	size_t first = 3000, second = 3000, third = 50;
	hac *h = open_with("pt", 0), *other = open_with("pt", 0);
	unsigned char *a = map(h, "a", first, 0), *c;
	unsigned char *b = map(h, "b", second, second + 200);

	empty_transaction(h);
	CHECK_IS(mappings(a, first * PAGE), first);
	CHECK_IS(mappings(b, second * PAGE), LIMIT - first);
	c = map(other, "c", third, 0);
	empty_transaction(other);
	CHECK_IS(mappings(c, third * PAGE), 1);
	/* Across the place from where on pages share a mapping. */
	CHECK_OK(hac_begin(h));
	memset(b + (LIMIT - first - 3) * PAGE, 1, 6 * PAGE);
	CHECK_OK(hac_abort(h));
	write_and_find(h, a, first, 5, 7);
	CHECK_IS(mappings(b, second * PAGE), LIMIT - first);
	CHECK_OK(hac_grow(h, "b", (second + 200) * PAGE));
	empty_transaction(h);
	CHECK_IS(mappings(b, (second + 200) * PAGE), LIMIT - first);
	CHECK_OK(hac_drop(h, "a"));
	CHECK_IS(mappings(a, first * PAGE), 1);
	/* What was given back can be had again. */
	write_and_find(h, b, second + 200, 1, 9);
	c = map(other, "d", 2 * third, 0);
	empty_transaction(other);
	CHECK_IS(mappings(c, 2 * third * PAGE), 2 * third);
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_close(other));
	CHECK_IS(mappings(b, (second + 200) * PAGE), 1);
	h = open_with("pt", 0);
	a = map(h, "all", LIMIT, 0);
	empty_transaction(h);
	CHECK_IS(mappings(a, LIMIT * PAGE), LIMIT);
	CHECK_OK(hac_close(h));
}

/* Inherited mappings count in a child. */
static void forked(void)
{
	hac *h = open_with("pt", 0);
	unsigned char *p = map(h, "a", LIMIT - 100, 0), *own;
	int status;
	pid_t pid;

	write_and_find(h, p, LIMIT - 100, 0, 50);
	fflush(stdout);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		memset(p, 5, 50 * PAGE);
		h = open_with("pt", 0);
		own = map(h, "own", 400, 0);
		write_and_find(h, own, 400, 0, 3);
		CHECK_IS(mappings(own, 400 * PAGE), 100);
		CHECK_OK(hac_close(h));
		CHECK_IS(mappings(own, 400 * PAGE), 1);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && !WEXITSTATUS(status));
	write_and_find(h, p, LIMIT - 100, 1, 50);
	CHECK_OK(hac_close(h));
}

/* So many mappings that the kernel refuses one more; then `spare` less. */
static unsigned char *fill_up(size_t pages, size_t spare)
{
	unsigned char *p = mmap(NULL, pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t i;

	CHECK(p != MAP_FAILED);
	for (i = 1; i < pages; i += 2)
		if (mprotect(p + i * PAGE, PAGE, PROT_READ))
			break;
	if (i >= pages)
		SKIP("the kernel has no limit on mappings below %zu", pages);
	for (; spare && i > 2; i -= 2, spare = spare > 2 ? spare - 2 : 0)
		CHECK(!mprotect(p + (i - 2) * PAGE, PAGE, PROT_NONE));
	return p;
}

static void no_mapping_left(void)
{
	size_t filled = 200000, pages = 2000;
	hac *h = open_with("pt", 0);
	unsigned char *p = map(h, "a", pages, 0), *filler = fill_up(filled, 200);

	empty_transaction(h);
	CHECK_IS(mappings(p, pages * PAGE), 1);
	write_and_find(h, p, pages, 3, 40);
	munmap(filler, filled * PAGE);
	write_and_find(h, p, pages, 3, 40);
	CHECK_OK(hac_close(h));
	h = open_with("pt", 0);
	p = map(h, "b", LIMIT, 0);
	empty_transaction(h);
	CHECK_IS(mappings(p, LIMIT * PAGE), LIMIT);
	CHECK_OK(hac_close(h));
}

/* What cannot be closed stays in the set. */
static void failing_to_close(void)
{
	struct area area = { .tail = 8 * PAGE };
	struct dirty_map set;
	struct extents out = { 0 };
	size_t split;

	for (split = 0; split <= 8; split += 4) {
		area.memory = mmap(NULL, 8 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(area.memory != MAP_FAILED);
		CHECK_OK(dirty_map_create(&set, 8 * PAGE));
		set.split = split;
		CHECK(dirty_map_open_page(&set, &area, 2 * PAGE));
		CHECK(dirty_map_open_page(&set, &area, 6 * PAGE));
		munmap(area.memory + 6 * PAGE, PAGE);
		out.count = 0;
		CHECK_IS(dirty_map_harvest(&set, &area, &out, false), -ENOMEM);
		out.count = 0;
		CHECK_OK(dirty_map_harvest(&set, &area, &out, true));
		CHECK(out.count == 2 && out.items[0].from == 2 * PAGE &&
		      out.items[1].from == 6 * PAGE);
		munmap(area.memory, 8 * PAGE);
		dirty_map_destroy(&set);
	}
	extents_free(&out);
}

int main(void)
{
	void *trial = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	RUN(failing_to_close);
	if (madvise(trial, PAGE, MADV_NOHUGEPAGE))
		SKIP("the kernel has no huge pages, and so no flag to tell pages apart");
	RUN(armed_and_closed);
	RUN(growing);
	RUN(over_the_limit);
	RUN(forked);
	RUN(no_mapping_left);
	return 0;
}
