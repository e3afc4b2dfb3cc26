/* SPDX-License-Identifier: MIT */
/* The drainer at its limits: full disks, file size limits, failing disks, full
 * rings, forks, and readers and compactions beside it. */
#include "drainer_internal.h"
#include "image_internal.h"
#include "image_io.h"
#include "image_tools.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <time.h>

#define AREA ((uint32_t)65536)

static unsigned char bytes[1 << 20];

static void fill(uint64_t epoch)
{
	for (size_t i = 0; i < AREA / 8; i++)
		memcpy(bytes + 8 * i, &epoch, 8);
}

static int push_filled(struct drainer *drainer, uint64_t epoch)
{
	fill(epoch);
	return epoch == 1 ? push_area(drainer, 1, 1, "a", bytes, AREA) :
			    push_run(drainer, epoch, 1, 0, bytes, AREA);
}

static void check_filled(const char *path, uint64_t epoch)
{
	struct image *image = open_image(path, true, 0);

	CHECK_IS(image->epoch, epoch);
	for (uint32_t i = 0; i < AREA; i += 8)
		CHECK(u64_at(image, "a", i) == epoch);
	image_close(image);
}

/* ------------------------------------------------------------ full disk -- */

static void fill_disk(const char *path, bool wait)
{
	struct image *image = open_image(path, false, 0);
	struct drainer *drainer = start(image, 0);
	uint64_t epoch = 1;
	int error;

	while (!(error = push_filled(drainer, epoch))) {
		if (wait)
			CHECK_OK(drainer_wait(drainer, epoch, -1));
		CHECK(++epoch < 1000);
	}
	CHECK_IS(error, -ENOSPC);
	CHECK_DETAIL("no room on disk");
	CHECK(epoch > 20);
	/* Nothing of it was accepted, and nothing is broken. */
	CHECK_OK(drainer_wait(drainer, epoch - 1, -1));
	CHECK_OK(drainer_error(drainer));
	CHECK_IS(push_filled(drainer, epoch), -ENOSPC);
	CHECK(!mount(NULL, temp_path("small"), NULL, MS_REMOUNT, "size=16m"));
	CHECK_OK(push_filled(drainer, epoch));
	CHECK_OK(drainer_stop(drainer));
	image_close(image);
	check_filled(path, epoch);
}

static void full_disk(void)
{
	const char *mount_point = temp_path("small"), *path = temp_path("small/image");
	struct statfs fs;

	CHECK(!mkdir(mount_point, 0777));
	for (int wait = 0; wait < 2; wait++) {
		if (mount("none", mount_point, "tmpfs", 0, "size=4m")) {
			printf("  skipped: no mount here: %s\n", strerror(errno));
			return;
		}
		fill_disk(path, wait);
		/* The room set aside was given back. */
		CHECK(!statfs(mount_point, &fs));
		CHECK((fs.f_blocks - fs.f_bfree) * (uint64_t)fs.f_bsize < (5u << 20));
		CHECK(!umount(mount_point));
	}
}

/* ----------------------------------------------------- file size limit -- */

static void set_limit(rlim_t bytes_max)
{
	struct rlimit limit = { bytes_max, RLIM_INFINITY };

	CHECK(!setrlimit(RLIMIT_FSIZE, &limit));
}

static void in_child(void (*body)(const char *), const char *path)
{
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	CHECK(child >= 0);
	if (!child) {
		body(path);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child);
	CHECK_MSG(!status, "the child ended with status %x", status);
}

static void limited_from_the_start(const char *path)
{
	struct image *image;
	struct drainer *drainer;
	uint64_t epoch = 1;
	int error;

	set_limit(300000);
	image = open_image(path, false, 0);
	drainer = start(image, 0);
	while (!(error = push_filled(drainer, epoch)))
		CHECK(++epoch < 100);
	CHECK_IS(error, -EFBIG);
	CHECK_DETAIL("RLIMIT_FSIZE");
	CHECK(epoch == 5);
	CHECK_IS(push_run(drainer, epoch, 1, 0, bytes, AREA), -EFBIG);
	set_limit(RLIM_INFINITY);
	CHECK_OK(push_filled(drainer, epoch));
	CHECK_OK(drainer_stop(drainer));
	image_close(image);
}

/* Lowered while it runs: known at once where every epoch is waited for. */
static void limited_later(const char *path)
{
	struct image *image = open_image(path, false, 0);
	struct drainer *drainer = start(image, 0);
	uint64_t epoch = 1;
	int error;

	for (; epoch < 3; epoch++)
		CHECK_OK(push_filled(drainer, epoch));
	CHECK_OK(drainer_wait(drainer, epoch - 1, -1));
	set_limit(150000);
	usleep(1000);
	error = push_filled(drainer, epoch);
	CHECK_IS(error, -EFBIG);
	CHECK_OK(push_u64(drainer, epoch, 1, 0, epoch));
	CHECK_OK(drainer_wait(drainer, epoch, -1));
	epoch++;
	set_limit(RLIM_INFINITY);
	CHECK_OK(push_filled(drainer, epoch++));
	/* Not waited for: what was accepted is kept all the same. */
	for (int i = 0; i < 3; i++)
		CHECK_OK(push_filled(drainer, epoch++));
	set_limit(200000);
	CHECK_OK(drainer_wait(drainer, epoch - 1, -1));
	CHECK_OK(drainer_stop(drainer));
	image_close(image);
}

/* Once some of it has been accepted: it was asked for before. */
static void *lower_limit(void *argument)
{
	struct drainer *drainer = argument;

	while (atomic_load(&drainer->ring.shared->head) < 3 * sizeof(bytes) / 2)
		sched_yield();
	set_limit(300000);
	return NULL;
}

/* A transaction of many frames, the limit being lowered in its midst. */
static void limited_amid(const char *path)
{
	struct image *image = open_image(path, false, 0);
	struct drainer *drainer = start(image, 0);
	pthread_t thread;

	memset(bytes, 1, sizeof(bytes));
	CHECK_OK(push_area(drainer, 1, 1, "a", bytes, sizeof(bytes)));
	CHECK_OK(drainer_wait(drainer, 1, -1));
	memset(bytes, 2, sizeof(bytes));
	CHECK(!pthread_create(&thread, NULL, lower_limit, drainer));
	CHECK_OK(push_run(drainer, 2, 1, 0, bytes, sizeof(bytes)));
	CHECK_OK(drainer_wait(drainer, 2, -1));
	CHECK(!pthread_join(thread, NULL));
	set_limit(RLIM_INFINITY);
	CHECK_OK(drainer_stop(drainer));
	image_close(image);
}

static void check_halves(const char *path, uint64_t epoch)
{
	struct image *image = open_image(path, true, 0);
	uint64_t word = epoch * 0x0101010101010101u;

	CHECK_IS(image->epoch, (int64_t)epoch);
	for (size_t i = 0; i < sizeof(bytes); i += 4096)
		CHECK(u64_at(image, "a", i) == word);
	image_close(image);
}

/* If it has an end in a segment of its own: without that, there is none of it. */
static bool cut_last_segment(const char *path)
{
	char last[4096] = "", name[4096];
	struct stat st;
	int used = 0;

	for (int segment = 1;; segment++) {
		snprintf(name, sizeof(name), "%s/journal.%08d", path, segment);
		if (stat(name, &st))
			break;
		if (!st.st_size)
			continue;
		snprintf(last, sizeof(last), "%s", name);
		used++;
	}
	if (used < 2)
		return false;
	CHECK(!stat(last, &st));
	CHECK(!truncate(last, st.st_size / 2));
	return true;
}

static void file_size_limit(void)
{
	in_child(limited_from_the_start, temp_path("limited"));
	check_filled(temp_path("limited"), 5);
	in_child(limited_later, temp_path("limited-later"));
	check_filled(temp_path("limited-later"), 7);
	for (int round = 0, cut = 0; cut < 3; round++) {
		const char *path;
		char name[32];

		CHECK_MSG(round < 100, "the limit always comes too late");
		snprintf(name, sizeof(name), "limited-amid-%d", round);
		path = temp_path(name);
		in_child(limited_amid, path);
		check_halves(path, 2);
		if (!cut_last_segment(path))
			continue;
		check_halves(path, 1);
		cut++;
	}
}

/* --------------------------------------------------------- failing disk -- */

static _Atomic int failing;

static int failing_sync(int fd)
{
	if (!atomic_load(&failing))
		return fdatasync(fd);
	errno = EIO;
	return -1;
}

static ssize_t failing_write(int fd, const struct iovec *parts, int count, off_t offset)
{
	if (!atomic_load(&failing))
		return pwritev(fd, parts, count, offset);
	errno = ENOSPC;
	return -1;
}

static void *push_until_error(void *argument)
{
	uint64_t epoch = 2;
	int error;

	while (!(error = push_run(argument, epoch, 1, 0, bytes, 40000)))
		epoch++;
	return (void *)(intptr_t)error;
}

static void failing_disk(void)
{
	struct image_io before = image_io;
	const char *path = temp_path("failing");

	for (int kind = 0; kind < 2; kind++) {
		struct image *image = open_image(path, false, 0);
		struct drainer *drainer;
		pthread_t thread;
		void *result;

		if (kind)
			image_io.pwritev = failing_write;
		else
			image_io.fdatasync = failing_sync;
		drainer = start(image, 0);
		CHECK_OK(push_area(drainer, image->last_epoch + 1, 1, "a", bytes, AREA));
		CHECK_OK(drainer_wait(drainer, image->last_epoch + 1, -1));
		/* The producer waits for room when it happens. */
		CHECK(!pthread_create(&thread, NULL, push_until_error, drainer));
		usleep(20000);
		atomic_store(&failing, 1);
		CHECK_IS(drainer_wait(drainer, 1u << 30, -1), -EINVAL);
		pthread_join(thread, &result);
		CHECK_IS((intptr_t)result, kind ? -ENOSPC : -EIO);
		CHECK_IS(drainer_error(drainer), kind ? -ENOSPC : -EIO);
		CHECK_IS(drainer_wait(drainer, drainer_durable(drainer) + 1, -1),
			 kind ? -ENOSPC : -EIO);
		CHECK_DETAIL("the drainer has failed");
		CHECK_IS(drainer_stop(drainer), kind ? -ENOSPC : -EIO);
		atomic_store(&failing, 0);
		image_close(image);
		image_io = before;
		CHECK_OK(hac_check_image(path,
					 &(struct hac_check){ .size = sizeof(struct hac_check) }));
		temp_remove(path);
	}
}

/* ------------------------------------------------------------- full ring -- */

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static int gated_sync(int fd)
{
	pthread_mutex_lock(&gate);
	pthread_mutex_unlock(&gate);
	return fdatasync(fd);
}

static int try_push(struct drainer *drainer, uint64_t epoch, uint32_t size)
{
	struct hac_run run = { 0, size, 1 };
	struct transaction_record t = { epoch, NULL, 0, NULL, 0, &run, 1, bytes, size };

	return drainer_push(drainer, &t, false);
}

static void full_ring(void)
{
	struct image_io before = image_io;
	struct image *image = open_image(temp_path("full"), false, 0);
	struct drainer *drainer = start(image, 16384);
	uint64_t epoch = 1;
	int error;

	image_io.fdatasync = gated_sync;
	CHECK_OK(push_area(drainer, epoch++, 1, "a", bytes, AREA));
	CHECK_OK(drainer_wait(drainer, 1, -1));
	pthread_mutex_lock(&gate);
	while (!(error = try_push(drainer, epoch, 3000)))
		CHECK(++epoch < 100);
	CHECK_IS(error, -EXFULL);
	CHECK_DETAIL("the ring of 16384 bytes is full");
	/* In parts, with and without waiting. */
	CHECK_IS(try_push(drainer, epoch, 8000), -EXFULL);
	CHECK_IS(try_push(drainer, epoch, 60000), -EXFULL);
	CHECK_IS(drainer_wait(drainer, epoch - 1, 10), -ETIMEDOUT);
	CHECK(drainer_durable(drainer) < epoch - 1);
	pthread_mutex_unlock(&gate);
	CHECK_OK(drainer_wait(drainer, epoch - 1, -1));
	/* An empty ring takes what can never fit into it. */
	CHECK_OK(try_push(drainer, epoch++, 60000));
	CHECK_OK(drainer_wait(drainer, epoch - 1, -1));
	CHECK_OK(push_run(drainer, epoch++, 1, 0, bytes, 3000));
	CHECK_OK(drainer_stop(drainer));
	image_close(image);
	image_io = before;
	image = open_image(temp_path("full"), true, 0);
	CHECK(image->epoch == epoch - 1);
	image_close(image);
}

/* ---------------------------------------------------------------- times -- */

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void gathers(void)
{
	const char *path = temp_path("gathers");
	struct drainer_options options = { .flush_ms = 1000 };
	struct hac_check check = { .size = sizeof(check) };
	struct image *image = open_image(path, false, 0);
	struct image_state state = { 0 };
	struct drainer *drainer;
	uint64_t start_ms, epoch;

	CHECK_OK(drainer_start(image, &options, &drainer));
	start_ms = now_ms();
	for (epoch = 1; epoch <= 20; epoch++)
		CHECK_OK(push_area(drainer, epoch, (uint32_t)epoch, "a", bytes, 8));
	CHECK_IS(drainer_wait(drainer, 20, 50), -ETIMEDOUT);
	CHECK_OK(drainer_wait(drainer, 20, -1));
	CHECK(now_ms() - start_ms >= 990);
	CHECK_OK(hac_check_image(path, &check));
	CHECK(check.frames == 2 && check.transactions == 20);
	/* Half a ring is not gathered further, nor is what a compaction or the
	 * end waits for. */
	start_ms = now_ms();
	for (; epoch <= 25; epoch++)
		CHECK_OK(push_run(drainer, epoch, 1, 0, bytes, 60000));
	CHECK_OK(drainer_wait(drainer, 22, -1));
	CHECK_OK(push_u64(drainer, epoch, 1, 0, 1));
	state.epoch = epoch;
	CHECK_OK(drainer_compact(drainer, &state));
	CHECK_OK(push_area(drainer, ++epoch, 90, "b", bytes, 8));
	CHECK_OK(drainer_stop(drainer));
	CHECK_MSG(now_ms() - start_ms < 900, "%d ms", (int)(now_ms() - start_ms));
	image_close(image);
	image = open_image(path, true, 0);
	CHECK(image->epoch == epoch && image->areas_count == 1 && image->next_area_id == 91);
	image_close(image);
}

/* ------------------------------------------------ readers, compactions -- */

static _Atomic int stop_readers;
static const char *live_path;

static void *read_all_the_time(void *argument)
{
	uint64_t last = 0;
	int rounds = 0;

	(void)argument;
	while (!atomic_load(&stop_readers)) {
		struct hac_check check = { .size = sizeof(check) };
		struct image *image = open_image(live_path, true, 0);

		CHECK(image->epoch >= last);
		last = image->epoch;
		for (uint32_t i = 0; last && i < AREA; i += 8)
			CHECK(u64_at(image, "a", i) == last);
		image_close(image);
		CHECK_OK(hac_check_image(live_path, &check));
		CHECK(check.epoch >= last && !check.dropped_bytes && check.locked_by);
		rounds++;
	}
	CHECK(rounds > 3);
	return NULL;
}

static void beside_readers(void)
{
	struct image_limits before = image_limits;
	struct image *image;
	struct drainer *drainer;
	struct layout layout = layout_of(1, "a", AREA, AREA);
	const unsigned char *contents[1] = { bytes };
	pthread_t thread;

	image_limits.segment_bytes = 1 << 20;
	live_path = temp_path("live");
	image = open_image(live_path, false, 0);
	drainer = start(image, 0);
	CHECK(!pthread_create(&thread, NULL, read_all_the_time, NULL));
	for (uint64_t epoch = 1; epoch <= 400; epoch++) {
		CHECK_OK(push_filled(drainer, epoch));
		if (epoch % 100 == 0) {
			struct image_state state = { epoch, &layout, contents, 1 };

			CHECK_OK(drainer_compact(drainer, &state));
		}
		if (epoch % 16 == 0)
			usleep(1000);
	}
	atomic_store(&stop_readers, 1);
	pthread_join(thread, NULL);
	CHECK_OK(drainer_stop(drainer));
	image_close(image);
	check_filled(live_path, 400);
	image_limits = before;
}

/* A child has neither the thread nor the ring, and disturbs neither. */
static void fork_beside(void)
{
	const char *path = temp_path("forks");
	struct image *image = open_image(path, false, 0);
	struct drainer *drainer = start(image, 0);

	for (uint64_t epoch = 1; epoch <= 50; epoch++) {
		pid_t child;
		int status;

		CHECK_OK(push_filled(drainer, epoch));
		child = fork();
		CHECK(child >= 0);
		if (!child)
			_exit(0);
		CHECK(waitpid(child, &status, 0) == child && !status);
	}
	CHECK_OK(drainer_stop(drainer));
	image_close(image);
	check_filled(path, 50);
}

int main(void)
{
	signal(SIGXFSZ, SIG_DFL);
	RUN(full_disk);
	RUN(file_size_limit);
	RUN(failing_disk);
	RUN(full_ring);
	RUN(gathers);
	RUN(beside_readers);
	RUN(fork_beside);
	return 0;
}
