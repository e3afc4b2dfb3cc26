// SPDX-License-Identifier: MIT
/*
 * userfaultfd write-protection in asynchronous mode: the kernel itself notes
 * the page and opens it, and one PAGEMAP_SCAN tells which were written and
 * protects them again, atomically (Linux 6.7; admin-guide/mm/userfaultfd.rst,
 * admin-guide/mm/pagemap.rst). The kernel's own writes are seen, too.
 *
 * The definitions below are those of linux/userfaultfd.h and linux/fs.h, which
 * older systems ship without them.
 */
#include "engine.h"
#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#define WP_UNPOPULATED (1ull << 13)
#define WP_ASYNC (1ull << 15)

#define PAGE_WRITTEN (1ull << 1)
#define SCAN_PROTECT (1ull << 0)
#define SCAN_CHECK_ASYNC (1ull << 1)

struct scan_region {
	uint64_t start;
	uint64_t end;
	uint64_t categories;
};

struct scan {
	uint64_t size;
	uint64_t flags;
	uint64_t start;
	uint64_t end;
	uint64_t walk_end;
	uint64_t vec;
	uint64_t vec_len;
	uint64_t max_pages;
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};

#define SCAN_IOCTL _IOWR('f', 16, struct scan)

static struct {
	uint64_t process;
	int fd;
} uffd = { 0, -1 };

static int open_uffd(char *reason, size_t size)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = WP_ASYNC | WP_UNPOPULATED | UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

	if (fd < 0) {
		snprintf(reason, size, "userfaultfd(2): %s", strerror(errno));
		return -errno;
	}
	if (ioctl(fd, UFFDIO_API, &api)) {
		snprintf(
			reason, size,
			"this kernel has no asynchronous write-protection (Linux 6.7 and later do): %s",
			strerror(errno));
		close(fd);
		return -ENODEV;
	}
	return fd;
}

/* This process's descriptor; a child's inherited one is its parent's. */
static int get_uffd(char *reason, size_t size)
{
	int fd;

	process_lock();
	if (uffd.fd < 0 || uffd.process != process_current()) {
		fd = open_uffd(reason, size);
		if (fd >= 0) {
			if (uffd.fd >= 0)
				close(uffd.fd);
			uffd.fd = fd;
			uffd.process = process_current();
		}
	} else {
		fd = uffd.fd;
	}
	process_unlock();
	return fd;
}

static int probe(char *reason, size_t size)
{
	int fd = get_uffd(reason, size);

	if (fd < 0)
		return -ENODEV;
	fd = process_file("pagemap", O_RDONLY);
	if (fd < 0) {
		snprintf(reason, size, "/proc/self/pagemap: %s", strerror(-fd));
		return -ENODEV;
	}
	return 0;
}

/* Kept in engine_state, one up, so that NULL is none. */
static int pagemap_of(const struct area *area)
{
	return (int)(intptr_t)area->engine_state - 1;
}

static int arm(struct area *area, size_t from, size_t to)
{
	char reason[128];
	struct uffdio_register range = {
		.range = { (uintptr_t)area->memory + from, to - from },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_writeprotect protect = {
		.range = range.range,
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	int fd = get_uffd(reason, sizeof(reason));
	int pagemap = process_file("pagemap", O_RDONLY);

	if (fd < 0)
		return fd;
	if (pagemap < 0)
		return pagemap;
	area->engine_state = (void *)(intptr_t)(pagemap + 1);
	if (ioctl(fd, UFFDIO_REGISTER, &range) || ioctl(fd, UFFDIO_WRITEPROTECT, &protect))
		return -errno;
	return 0;
}

/* What a scan of the whole tracked part asks for. */
static struct scan whole_scan(const struct area *area, uint64_t flags)
{
	return (struct scan){
		.size = sizeof(struct scan),
		.flags = flags,
		.start = (uintptr_t)area->memory + area->head,
		.end = (uintptr_t)area->memory + area->tail,
		.category_mask = PAGE_WRITTEN,
		.return_mask = PAGE_WRITTEN,
	};
}

static int harvest(struct area *area, struct extents *out, bool peek)
{
	struct scan_region regions[128];
	uintptr_t base = (uintptr_t)area->memory;
	struct scan scan = whole_scan(area, SCAN_CHECK_ASYNC | (peek ? 0 : SCAN_PROTECT));
	int found, i, result = 0;

	scan.vec = (uintptr_t)regions;
	scan.vec_len = sizeof(regions) / sizeof(regions[0]);
	do {
		found = ioctl(pagemap_of(area), SCAN_IOCTL, &scan);
		if (found < 0)
			return -errno;
		for (i = 0; i < found && !result; i++)
			result = extents_add(out, regions[i].start - base, regions[i].end - base);
		scan.start = scan.walk_end;
	} while (!result && scan.start < scan.end);
	return result;
}

/* Protects nothing and stops at the first page: cheaper than a harvest. */
static bool is_quiet(struct area *area)
{
	struct scan_region region;
	struct scan scan = whole_scan(area, 0);

	scan.vec = (uintptr_t)&region;
	scan.vec_len = 1;
	scan.max_pages = 1;
	return ioctl(pagemap_of(area), SCAN_IOCTL, &scan) == 0;
}

static int open_range(struct area *area, size_t from, size_t to)
{
	(void)area;
	(void)from;
	(void)to;
	return 0; /* whoever writes is seen */
}

static void disarm(struct area *area)
{
	char reason[128];
	struct uffdio_range range = { (uintptr_t)area->memory + area->head,
				      area->tail - area->head };
	int fd = get_uffd(reason, sizeof(reason));

	if (fd >= 0)
		ioctl(fd, UFFDIO_UNREGISTER, &range);
	area->engine_state = NULL;
}

const struct engine engine_uffd = {
	.name = "uffd",
	.flags = ENGINE_KERNEL_WRITES,
	.probe = probe,
	.arm = arm,
	.harvest = harvest,
	.is_quiet = is_quiet,
	.open = open_range,
	.disarm = disarm,
};
