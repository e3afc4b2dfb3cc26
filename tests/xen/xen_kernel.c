// SPDX-License-Identifier: MIT
/*
 * Hazards 3, 5, 6 and 11: what the guest kernel does with watched pages behind
 * the program's back: it writes to them, merges equal ones, and takes away those
 * that look clean.
 */
#include "hazard.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define PAGES 64u

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

static bool write_word(const char *path, const char *word)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, word, strlen(word)) == (ssize_t)strlen(word);

	if (fd >= 0)
		close(fd);
	return done;
}

static long read_number(const char *path)
{
	FILE *f = fopen(path, "re");
	long n = -1;

	if (f && fscanf(f, "%ld", &n) != 1)
		n = -1;
	if (f)
		fclose(f);
	return n;
}

/* ---------------------------------------------------- writes by the kernel -- */

/* Hazard 6: through the program's mapping. */
static void by_read(void)
{
	unsigned char *p = map_pages(PAGES), bytes[3 * PAGE];
	struct tracked t;
	int fds[2], i;

	memset(p, 1, PAGES * PAGE);
	memset(bytes, 7, sizeof(bytes));
	CHECK_OK(pipe(fds));
	track_all(&t, p, PAGES);
	for (i = 0; i < 3; i++) {
		CHECK_IS(write(fds[1], bytes, sizeof(bytes)), sizeof(bytes));
		CHECK_IS(read(fds[0], p + 5 * PAGE, sizeof(bytes)), sizeof(bytes));
		CHECK(!memcmp(p + 5 * PAGE, bytes, sizeof(bytes)));
		must_report(&t, 5, 8);
		must_be_quiet(&t);
	}
	untrack(&t);
	close(fds[0]);
	close(fds[1]);
	munmap(p, PAGES * PAGE);
}

/* Hazard 5: past it. Scanning does not promise to see those. */
static void by_another_process(void)
{
	unsigned char *p = map_pages(PAGES);
	struct tracked t;
	pid_t parent = getpid();
	int i;

	memset(p, 1, PAGES * PAGE);
	track_all(&t, p, PAGES);
	for (i = 0; i < 4; i++) {
		pid_t child = fork();

		if (!child) {
			unsigned char bytes[PAGE];
			struct iovec local = { bytes, PAGE }, remote = { p + 9 * PAGE + 5, PAGE };

			memset(bytes, 40 + i, PAGE);
			_exit(process_vm_writev(parent, &local, 1, &remote, 1, 0) != PAGE);
		}
		must_end(child, 0);
		CHECK_IS(p[9 * PAGE + 5], 40 + i);
		if (handler != HAC_XEN_SCAN)
			must_report(&t, 9, 11);
		else
			take(&t);
		clear_log(&t);
		/* The fork made everything read-only; then without one. */
		memset(p, 1, PAGES * PAGE);
		take(&t);
		clear_log(&t);
		if (i % 2) {
			unsigned char byte = 99;
			struct iovec local = { &byte, 1 }, remote = { p + 20 * PAGE, 1 };

			CHECK_IS(process_vm_writev(parent, &local, 1, &remote, 1, 0), 1);
			if (handler != HAC_XEN_SCAN)
				must_report(&t, 20, 21);
		}
	}
	untrack(&t);
	munmap(p, PAGES * PAGE);
}

/* By a device, into pages that the kernel has pinned: 9p over virtio. */
static void by_device(void)
{
	static const char *const files[] = { "/run/hac/vmlinux", "/run/hac/initramfs",
					     "/proc/self/exe" };
	unsigned char *p = map_pages(PAGES), bytes[4 * PAGE];
	struct tracked t;
	size_t i;
	int fd = -1;

	for (i = 0; i < 3 && fd < 0; i++)
		fd = open(files[i], O_RDONLY | O_CLOEXEC | (i < 2 ? O_DIRECT : 0));
	if (fd < 0 || i == 3) {
		printf("skipped: no file that can be read with O_DIRECT\n");
		return;
	}
	CHECK_IS(pread(fd, bytes, sizeof(bytes), 1 << 20), sizeof(bytes));
	memset(p, 1, PAGES * PAGE);
	track_all(&t, p, PAGES);
	for (i = 0; i < 3; i++) {
		memset(p + 9 * PAGE, 1, 4 * PAGE);
		take(&t);
		clear_log(&t);
		CHECK_IS(pread(fd, p + 9 * PAGE, sizeof(bytes), 1 << 20), sizeof(bytes));
		CHECK(!memcmp(p + 9 * PAGE, bytes, sizeof(bytes)));
		if (handler != HAC_XEN_SCAN)
			must_report(&t, 9, 13);
	}
	untrack(&t);
	close(fd);
	munmap(p, PAGES * PAGE);
}

/* ------------------------------------------------------------------- KSM -- */

#define KSM "/sys/kernel/mm/ksm/"

/* Hazard 3: pages that are merged with those of others, while they are watched. */
static void merged(void)
{
	unsigned char *p = map_pages(PAGES), *other = map_pages(PAGES);
	struct tracked t;
	size_t i;
	int wait;

	if (!write_word(KSM "run", "1\n") || !write_word(KSM "pages_to_scan", "5000\n") ||
	    !write_word(KSM "sleep_millisecs", "1\n")) {
		printf("skipped: this kernel has no KSM\n");
		return;
	}
	memset(p, 0x44, PAGES * PAGE);
	memset(other, 0x44, PAGES * PAGE);
	track_all(&t, p, PAGES);
	p[3 * PAGE] = 0x44; /* one of them is open */
	CHECK_OK(madvise(p, PAGES * PAGE, MADV_MERGEABLE));
	CHECK_OK(madvise(other, PAGES * PAGE, MADV_MERGEABLE));
	for (wait = 0; wait < 3000 && read_number(KSM "pages_sharing") < PAGES; wait++)
		usleep(10000);
	CHECK_MSG(read_number(KSM "pages_sharing") >= PAGES, "%ld pages are merged",
		  read_number(KSM "pages_sharing"));
	take(&t);
	clear_log(&t);
	for (i = 0; i < PAGES; i += 2)
		p[i * PAGE + 1] = 0x55;
	take(&t);
	for (i = 0; i < PAGES; i += 2)
		CHECK(reported(&t, (uint32_t)i));
	clear_log(&t);
	for (i = 0; i < PAGES * PAGE; i++)
		CHECK_MSG(other[i] == 0x44, "%s: a merged page was written to",
			  handler_names[handler]);
	CHECK_OK(madvise(p, PAGES * PAGE, MADV_UNMERGEABLE));
	take(&t);
	clear_log(&t);
	p[PAGE] = 1;
	must_report(&t, 1, 2);
	untrack(&t);
	munmap(p, PAGES * PAGE);
	munmap(other, PAGES * PAGE);
	write_word(KSM "run", "2\n");
}

/* -------------------------------------------------------------- reclaiming -- */

/* Hazard 11: a page that the kernel may drop unless it was written. */
static void freed_lazily(void)
{
	unsigned char *p = map_pages(PAGES);
	struct tracked t;
	size_t i;
	int round;

	memset(p, 1, PAGES * PAGE);
	track_all(&t, p, PAGES);
	for (round = 0; round < 3; round++) {
		memset(p, 2, PAGES * PAGE);
		take(&t);
		clear_log(&t);
		CHECK_OK(madvise(p, PAGES * PAGE, MADV_FREE));
		for (i = 0; i < PAGES; i += 2)
			p[i * PAGE] = 3;
		take(&t);
		for (i = 0; i < PAGES; i += 2)
			CHECK(reported(&t, (uint32_t)i));
		clear_log(&t);
		if (madvise(p, PAGES * PAGE, MADV_PAGEOUT) && !round)
			printf("this kernel has no MADV_PAGEOUT\n");
		write_word("/proc/sys/vm/drop_caches", "3\n");
		for (i = 0; i < PAGES; i += 2)
			CHECK_MSG(p[i * PAGE] == 3, "%s: page %zu was lost", handler_names[handler],
				  i);
	}
	untrack(&t);
	munmap(p, PAGES * PAGE);
}

static bool swapping;

static bool swapped_out(const void *address)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	CHECK(fd >= 0);
	CHECK_IS(pread(fd, &entry, 8, (off_t)((uintptr_t)address / PAGE * 8)), 8);
	close(fd);
	return entry >> 62 & 1;
}

/* Real swap: out and in, what comes back is what was written last. */
static void swapped(void)
{
	unsigned char *p = map_pages(PAGES);
	unsigned int out = 0, round, i;
	struct tracked t;

	if (!swapping) {
		printf("skipped: there is no zram to swap to\n");
		return;
	}
	memset(p, 1, PAGES * PAGE);
	track_all(&t, p, PAGES);
	for (round = 2; round < 12; round++) {
		/* In from swap, clean, so the copy there is still good; written;
		 * reported, which under scanning makes it look clean; out. */
		for (i = 0; i < PAGES; i++)
			CHECK_MSG(p[i * PAGE + 9] == round - 1, "%s: page %u holds %u, not %u",
				  handler_names[handler], i, p[i * PAGE + 9], round - 1);
		take(&t);
		clear_log(&t);
		for (i = 0; i < PAGES; i++)
			p[i * PAGE + 9] = (unsigned char)round;
		must_report(&t, 0, PAGES);
		CHECK_OK(madvise(p, PAGES * PAGE, MADV_PAGEOUT));
		for (i = 0; i < PAGES; i++)
			out += swapped_out(p + i * PAGE);
		if (round % 3 == 0) { /* writes to what is out */
			for (i = 0; i < PAGES; i++)
				p[i * PAGE + 9] = (unsigned char)round;
			must_report(&t, 0, PAGES);
		}
	}
	CHECK_MSG(out > PAGES, "only %u pages went to swap", out);
	printf("%u pages went to swap\n", out);
	untrack(&t);
	munmap(p, PAGES * PAGE);
}

static bool start_swapping(void)
{
	return write_word("/sys/block/zram0/disksize", "67108864\n") &&
	       !system("mkswap /dev/zram0 >/dev/null 2>&1") && !swapon("/dev/zram0", 0);
}

int main(void)
{
	need_xen();
	catch_faults();
	swapping = start_swapping();
	UNDER_EACH_HANDLER(by_read);
	UNDER_EACH_HANDLER(by_another_process);
	UNDER_EACH_HANDLER(by_device);
	UNDER_EACH_HANDLER(merged);
	UNDER_EACH_HANDLER(freed_lazily);
	UNDER_EACH_HANDLER(swapped);
	return 0;
}
