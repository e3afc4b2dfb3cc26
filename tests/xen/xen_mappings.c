// SPDX-License-Identifier: MIT
/*
 * Mappings that change while Xen watches them: nothing becomes writable that is
 * not, nobody else's memory changes, and no change goes unreported.
 */
#include "hazard.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>

#define PAGES 64u

/* A file of so many pages of 0x66, in memory. */
static int make_file(size_t pages)
{
	int fd = memfd_create("file", MFD_CLOEXEC);
	unsigned char page[PAGE];

	CHECK(fd >= 0);
	memset(page, 0x66, PAGE);
	while (pages--)
		CHECK_IS(write(fd, page, PAGE), PAGE);
	return fd;
}

static void check_file(int fd)
{
	unsigned char page[PAGE];
	size_t i;

	CHECK_IS(lseek(fd, 0, SEEK_SET), 0);
	while (read(fd, page, PAGE) == PAGE)
		for (i = 0; i < PAGE; i++)
			CHECK_MSG(page[i] == 0x66, "%s: a file was written to",
				  handler_names[handler]);
}

/* Hazard 1: a file that may only be read, where a watched page was. */
static void readonly_file(void)
{
	unsigned char *p = map_pages(PAGES);
	struct tracked t;
	int fd = make_file(8), i, flags;

	memset(p, 1, PAGES * PAGE);
	track_all(&t, p, PAGES);
	for (i = 0; i < 4; i++) {
		flags = i % 2 ? MAP_SHARED : MAP_PRIVATE;
		p[5 * PAGE] = 2;
		if (i < 2)
			take(&t);
		CHECK_OK(munmap(p + 4 * PAGE, 8 * PAGE));
		CHECK(mmap(p + 4 * PAGE, 8 * PAGE, PROT_READ, flags | MAP_FIXED, fd, 0) ==
		      p + 4 * PAGE);
		CHECK_IS(p[6 * PAGE] + p[4 * PAGE] + p[5 * PAGE], 3 * 0x66);
		CHECK_MSG(store_faults(p + 5 * PAGE, 3), "%s: a read-only page was opened",
			  handler_names[handler]);
		must_report(&t, 4, 7);
		CHECK(store_faults(p + 5 * PAGE, 3));
		CHECK(store_faults(p + 11 * PAGE, 3));
		check_file(fd);
		p[20 * PAGE] = 5;
		must_report(&t, 20, 21);
		clear_log(&t);
		CHECK(mmap(p + 4 * PAGE, 8 * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p + 4 * PAGE);
		memset(p + 4 * PAGE, 9, 8 * PAGE);
		must_report(&t, 4, 12);
	}
	untrack(&t);
	close(fd);
	munmap(p, PAGES * PAGE);
}

/* A private file mapping: the first write copies. */
static void copy_on_write(void)
{
	int fd = make_file(PAGES);
	unsigned char *p = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	unsigned int i, sum = 0;
	struct tracked t;

	CHECK(p != MAP_FAILED);
	for (i = 0; i < PAGES; i += 2)
		sum += p[i * PAGE];
	CHECK_IS(sum, PAGES / 2 * 0x66);
	track_all(&t, p, PAGES);
	for (i = 0; i < PAGES; i++)
		p[i * PAGE + i] = 7;
	must_report(&t, 0, PAGES);
	must_be_quiet(&t);
	check_file(fd);
	untrack(&t);
	munmap(p, PAGES * PAGE);
	close(fd);
}

/* Never touched, and the page of zeros that all processes share. */
static void absent(void)
{
	unsigned char *p = map_pages(PAGES), *other = map_pages(PAGES);
	unsigned int i;
	struct tracked t;

	for (i = 0; i < PAGES; i += 3)
		CHECK_IS(p[i * PAGE], 0);
	track_all(&t, p, PAGES);
	for (i = 0; i < PAGES; i++)
		p[i * PAGE] = 1;
	must_report(&t, 0, PAGES);
	for (i = 0; i < PAGES * PAGE; i++)
		CHECK_IS(other[i], 0);
	must_be_quiet(&t);
	untrack(&t);
	munmap(p, PAGES * PAGE);
	munmap(other, PAGES * PAGE);
}

static void page_tables_absent(void)
{
	size_t pages = 2048;
	unsigned char *p = map_pages(pages);
	struct tracked t;

	track_all(&t, p, (uint32_t)pages);
	p[100 * PAGE] = 1;
	p[1500 * PAGE] = 1;
	must_report(&t, 100, 101);
	CHECK(reported(&t, 1500));
	p[100 * PAGE] = 2;
	p[1501 * PAGE] = 2;
	must_report(&t, 100, 101);
	CHECK(reported(&t, 1501));
	untrack(&t);
	munmap(p, pages * PAGE);
}

static void protections(void)
{
	unsigned char *p = map_pages(PAGES);
	struct tracked t;
	int i;

	memset(p, 1, PAGES * PAGE);
	track_all(&t, p, PAGES);
	for (i = 0; i < 3; i++) {
		p[3 * PAGE] = 2; /* open, page 2 is not */
		CHECK_OK(mprotect(p + 2 * PAGE, 3 * PAGE, i == 2 ? PROT_NONE : PROT_READ));
		CHECK(store_faults(p + 2 * PAGE, 3));
		CHECK(store_faults(p + 3 * PAGE, 3));
		must_report(&t, 3, 4);
		CHECK(store_faults(p + 2 * PAGE, 3));
		CHECK(store_faults(p + 3 * PAGE, 3));
		CHECK_OK(mprotect(p + 2 * PAGE, 3 * PAGE, PROT_READ | PROT_WRITE));
		p[2 * PAGE] = 4;
		p[4 * PAGE] = 4;
		must_report(&t, 2, 3);
		CHECK(reported(&t, 4));
		p[3 * PAGE] = 5;
		must_report(&t, 3, 4);
	}
	untrack(&t);
	munmap(p, PAGES * PAGE);
}

static void dropped(void)
{
	unsigned char *p = map_pages(PAGES);
	struct tracked t;

	memset(p, 1, PAGES * PAGE);
	track_all(&t, p, PAGES);
	CHECK_OK(madvise(p + 8 * PAGE, 4 * PAGE, MADV_DONTNEED));
	must_report(&t, 8, 12);
	CHECK_IS(p[8 * PAGE], 0);
	p[9 * PAGE] = 2;
	must_report(&t, 9, 10);
	p[8 * PAGE] = 3;
	must_report(&t, 8, 9);
	CHECK_OK(madvise(p, PAGES * PAGE, MADV_DONTNEED));
	must_report(&t, 0, 10); /* 10 and 11 were gone already */
	CHECK(!reported(&t, 10));
	CHECK(reported(&t, 12));
	memset(p, 4, PAGES * PAGE);
	must_report(&t, 0, PAGES);
	untrack(&t);
	munmap(p, PAGES * PAGE);
}

/* What moves away counts as written where it was, and is watched no more. */
static void moved(void)
{
	unsigned char *p = map_pages(PAGES), *to = map_pages(PAGES);
	struct tracked t;

	memset(p, 1, PAGES * PAGE);
	track_all(&t, p, PAGES);
	CHECK(mremap(p + 16 * PAGE, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		     to + 3 * PAGE) == to + 3 * PAGE);
	CHECK(mmap(p + 16 * PAGE, 8 * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p + 16 * PAGE);
	to[4 * PAGE] = 9;
	CHECK_IS(to[4 * PAGE] + to[5 * PAGE], 10);
	must_report(&t, 16, 24);
	p[17 * PAGE] = 3;
	must_report(&t, 17, 18);
	to[5 * PAGE] = 9;
	must_be_quiet(&t);
	CHECK_OK(munmap(to, PAGES * PAGE));
	/* All of it, tables included; and back again. */
	to = map_pages(PAGES);
	CHECK(mremap(p, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	memset(to, 8, PAGES * PAGE);
	take(&t);
	CHECK(mremap(to, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p) == p);
	CHECK_IS(p[17 * PAGE], 8);
	must_report(&t, 0, PAGES);
	p[0] = 1;
	must_report(&t, 0, 1);
	untrack(&t);
	munmap(p, PAGES * PAGE);
}

/* Page tables that are moved as a whole: 2 MiB and more. */
static void moved_tables(void)
{
	size_t bytes = 8u << 20, i;
	unsigned char *p = map_pages(bytes / PAGE), *to = map_pages(bytes / PAGE);
	struct tracked t;

	memset(p, 1, bytes);
	track_all(&t, p, (uint32_t)(bytes / PAGE));
	must_be_quiet(&t);
	CHECK(mremap(p, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	memset(to, 2, bytes);
	CHECK(mmap(p, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		   0) == p);
	/* Every other page is the one of zeros first: there, and read-only. */
	for (i = 0; i < bytes; i += 14 * PAGE)
		CHECK_IS(p[i], 0);
	for (i = 0; i < bytes; i += 7 * PAGE)
		p[i] = 3;
	for (i = 0; i < bytes; i += 7 * PAGE)
		CHECK_MSG(p[i] == 3, "%s: a store went elsewhere", handler_names[handler]);
	take(&t);
	for (i = 0; i < bytes / PAGE; i += 7)
		CHECK_MSG(reported(&t, (uint32_t)i), "page %zu", i);
	for (i = 0; i < bytes; i += PAGE)
		CHECK_IS(to[i], 2);
	p[9 * PAGE] = 4;
	must_report(&t, 9, 10);
	untrack(&t);
	munmap(p, bytes);
	munmap(to, bytes);
}

/* Two areas whose pages one table maps do not take each other's news. */
static void neighbours(void)
{
	unsigned char *p = map_pages(PAGES);
	struct tracked a, b;
	uint32_t i;

	memset(p, 1, PAGES * PAGE);
	track_all(&a, p, 8);
	track_all(&b, p + 8 * PAGE, 8);
	for (i = 0; i < 8; i++) {
		p[(8 + i) * PAGE] = 2;
		must_be_quiet(&a);
		must_report(&b, i, i + 1);
		p[i * PAGE] = 2;
		must_be_quiet(&b);
		must_report(&a, i, i + 1);
	}
	p[20 * PAGE] = 1;
	untrack(&a);
	p[0] = 3;
	p[9 * PAGE] = 3;
	must_report(&b, 1, 2);
	untrack(&b);
	munmap(p, PAGES * PAGE);
}

int main(void)
{
	need_xen();
	catch_faults();
	UNDER_EACH_HANDLER(readonly_file);
	UNDER_EACH_HANDLER(copy_on_write);
	UNDER_EACH_HANDLER(absent);
	UNDER_EACH_HANDLER(page_tables_absent);
	UNDER_EACH_HANDLER(protections);
	UNDER_EACH_HANDLER(dropped);
	UNDER_EACH_HANDLER(moved);
	UNDER_EACH_HANDLER(moved_tables);
	UNDER_EACH_HANDLER(neighbours);
	return 0;
}
