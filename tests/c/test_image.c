/* SPDX-License-Identifier: MIT */
/* Images: creation, generations, older epochs, growth, locks, copies. */
#include "image_internal.h"
#include "image_tools.h"

#include <sys/mount.h>
#include <sys/wait.h>

static void creation(void)
{
	const char *path = temp_path("new");
	struct image *image, *again;
	struct image_options options = { 0 };
	uint64_t value = 7;
	struct drainer *drainer;

	CHECK_IS(image_open(temp_path("no/parent"), &options, &image), -ENOENT);
	CHECK_DETAIL("directory that it is to lie in");
	image = open_image(path, false, 0);
	CHECK(image->epoch == 0 && image->last_epoch == 0 && image->generation == 1);
	CHECK(image->parent == 0 && image->branch_epoch == 0 && image->areas_count == 0);
	CHECK(image->next_area_id == 1 && !image->dropped_bytes && strlen(image->uuid) == 36);
	drainer = start(image, 0);
	CHECK(drainer_durable(drainer) == 0);
	CHECK_OK(push_area(drainer, 1, 1, "a", &value, 8));
	CHECK_OK(drainer_wait(drainer, 1, -1));
	CHECK(drainer_durable(drainer) == 1);
	CHECK_IS(drainer_wait(drainer, 2, 0), -EINVAL);
	CHECK_OK(push_u64(drainer, 2, 1, 0, 8));
	CHECK_IS(push_u64(drainer, 2, 1, 0, 8), -EINVAL);
	CHECK_OK(drainer_stop(drainer));
	image_close(image);

	again = open_image(path, false, 0);
	CHECK(again->epoch == 2 && again->last_epoch == 2 && again->generation == 2);
	CHECK(again->parent == 1 && again->branch_epoch == 2 && again->next_area_id == 2);
	CHECK(u64_at(again, "a", 0) == 8);
	image_close(again);
	again = open_image(path, true, 0);
	CHECK(again->epoch == 2 && again->generation == 2 && u64_at(again, "a", 0) == 8);
	image_close(again);
}

static void strange_paths(void)
{
	struct image_options write = { 0 }, readonly = { .readonly = true };
	struct image *image;

	CHECK_IS(image_open(temp_path("absent"), &readonly, &image), -ENOENT);
	CHECK_IS(image_open("", &write, &image), -EINVAL);
	write_file(temp_path("file"), "x", 1);
	CHECK_IS(image_open(temp_path("file"), &write, &image), -ENOTDIR);
	CHECK_DETAIL("an image is a directory");
	CHECK_IS(image_open(temp_path("file/image"), &write, &image), -ENOTDIR);
	CHECK(!mkdir(temp_path("other"), 0777));
	write_file(temp_path("other/notes"), "x", 1);
	CHECK_IS(image_open(temp_path("other"), &write, &image), -EINVAL);
	CHECK_DETAIL("not an image");
	CHECK(access(temp_path("other/lock"), F_OK));
	CHECK(!mkdir(temp_path("empty"), 0777));
	CHECK_IS(image_open(temp_path("empty"), &readonly, &image), -ENOENT);
	CHECK_OK(image_open(temp_path("empty"), &write, &image));
	image_close(image);
	/* A creation that crashed before the layout file was there. */
	CHECK(!unlink(temp_path("empty/layout")));
	CHECK(!truncate(temp_path("empty/journal.00000001"), 0));
	CHECK_OK(image_open(temp_path("empty"), &write, &image));
	image_close(image);
	/* A layout file that was lost. */
	CHECK(!unlink(temp_path("empty/layout")));
	CHECK_IS(image_open(temp_path("empty"), &write, &image), -EBADMSG);
	CHECK_IS(image_open(temp_path("empty"), &readonly, &image), -EBADMSG);
}

/* 1: 1..5; 2: 6..7; 3, at 4: 8..9; 4, at 9: 10; 5, at 6: 11 */
static void branch(const char *path, uint64_t at, uint64_t from, uint64_t to)
{
	struct image *image = open_image(path, false, at);
	struct drainer *drainer = start(image, 0);

	CHECK(image->last_epoch == from - 1);
	for (uint64_t epoch = from; epoch <= to; epoch++) {
		uint64_t value = epoch;

		if (epoch == 1)
			CHECK_OK(push_area(drainer, 1, 1, "a", (uint64_t[16]){ 1 }, 128));
		else
			CHECK_OK(push_run(drainer, epoch, 1, 8 * epoch, &value, 8));
	}
	CHECK_OK(drainer_stop(drainer));
	image_close(image);
}

/* The epochs that made the state are a bit set. */
static void check_epochs(const char *path, uint64_t at, unsigned int epochs, uint64_t epoch)
{
	struct image *image = open_image(path, true, at);

	CHECK(image->epoch == epoch);
	for (uint64_t i = 2; i < 16; i++)
		CHECK_MSG(u64_at(image, "a", 8 * i) == (epochs >> i & 1 ? i : 0),
			  "at %llu: word %llu is %llu", (unsigned long long)at,
			  (unsigned long long)i, (unsigned long long)u64_at(image, "a", 8 * i));
	image_close(image);
}

static void generations(void)
{
	const char *path = temp_path("branches");
	struct image_options options = { .at = 12 };
	struct image *image;
	struct hac_check check = { .size = sizeof(check) };

	branch(path, 0, 1, 5);
	branch(path, 0, 6, 7);
	branch(path, 4, 8, 9);
	check_epochs(path, 0, 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 8 | 1 << 9, 9);
	branch(path, 9, 10, 10);
	branch(path, 6, 11, 11);
	check_epochs(path, 0, 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 11, 11);
	check_epochs(path, 10, 1 << 2 | 1 << 3 | 1 << 4 | 1 << 8 | 1 << 9 | 1 << 10, 10);
	check_epochs(path, 7, 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7, 7);
	check_epochs(path, 2, 1 << 2, 2);
	CHECK_IS(image_open(path, &options, &image), -EINVAL);
	CHECK_DETAIL("0 to 11");
	CHECK_OK(hac_check_image(path, &check));
	CHECK(check.generation == 5 && check.epoch == 11 && check.transactions == 11);
	CHECK(check.segments == 5 && check.frames >= 10 && check.areas == 1 && !check.locked_by);

	/* Opened, nothing done, closed: the newest state is that one. */
	image = open_image(path, false, 3);
	CHECK(image->generation == 6 && image->parent == 1 && image->branch_epoch == 3);
	image_close(image);
	check_epochs(path, 0, 1 << 2 | 1 << 3, 3);
	branch(path, 11, 12, 12);
	CHECK_OK(hac_compact_image(path));
	check_epochs(path, 0, 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 11 | 1 << 12, 12);
	options.at = 11;
	CHECK_IS(image_open(path, &options, &image), -EINVAL);
	CHECK_DETAIL("12 to 12");
	branch(path, 12, 13, 13);
	check_epochs(path, 12, 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 11 | 1 << 12, 12);
}

static void growth_and_drops(void)
{
	const char *path = temp_path("growth");
	struct image *image = open_image(path, false, 0);
	struct drainer *drainer = start(image, 0);
	struct layout layouts[2] = { layout_of(1, "a", 100, 100000), layout_of(2, "b", 8, 8) };
	struct hac_run run = { 96, 4, 1 };
	struct transaction_record t = { 1, layouts, 2, NULL, 0, &run, 1, (void *)"wxyz", 4 };
	uint32_t drop = 2;

	layouts[0].type = (char *)"<f8[3]";
	layouts[0].fingerprint = (char *)"print";
	layouts[0].flags = HAC_POINTERS;
	layouts[0].address = 0x123456000;
	CHECK_OK(drainer_push(drainer, &t, true));
	layouts[0].size = 50000;
	run.offset = 49996;
	t.epoch = 2;
	t.layouts_count = 1;
	CHECK_OK(drainer_push(drainer, &t, true));
	t = (struct transaction_record){ .epoch = 3, .drops = &drop, .drops_count = 1 };
	CHECK_OK(drainer_push(drainer, &t, true));
	CHECK_OK(push_area(drainer, 4, 3, "b", "01234567", 8));
	CHECK_OK(drainer_stop(drainer));
	image_close(image);

	for (int compacted = 0; compacted < 2; compacted++) {
		struct image_area *area;

		image = open_image(path, true, 0);
		CHECK(image->areas_count == 2 && image->next_area_id == 4);
		area = area_named(image, "a");
		CHECK(area && area->layout.size == 50000 && area->layout.capacity == 100000);
		CHECK(area->layout.flags == HAC_POINTERS && area->layout.address == 0x123456000);
		CHECK(!strcmp(area->layout.type, "<f8[3]"));
		CHECK(!strcmp(area->layout.fingerprint, "print"));
		CHECK(!memcmp(area->contents + 96, "wxyz", 4));
		CHECK(!memcmp(area->contents + 49996, "wxyz", 4) && !area->contents[101]);
		area = area_named(image, "b");
		CHECK(area && area->layout.id == 3 && !memcmp(area->contents, "01234567", 8));
		CHECK(!area->layout.fingerprint);
		image_close(image);
		CHECK_OK(hac_compact_image(path));
	}
	/* A dropped area's id is not used again after a compaction either. */
	image = open_image(path, false, 0);
	drainer = start(image, 0);
	drop = 3;
	t = (struct transaction_record){ .epoch = 5, .drops = &drop, .drops_count = 1 };
	CHECK_OK(drainer_push(drainer, &t, true));
	CHECK_OK(drainer_stop(drainer));
	image_close(image);
	CHECK_OK(hac_compact_image(path));
	image = open_image(path, true, 0);
	CHECK(image->areas_count == 1 && image->next_area_id == 4);
	image_close(image);
}

static void locks(void)
{
	const char *path = temp_path("locked");
	struct image *image = open_image(path, false, 0), *second;
	struct image_options write = { 0 };
	struct hac_check check = { .size = sizeof(check) };
	char pid[32];
	int status;
	pid_t child;

	snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	CHECK_IS(image_open(path, &write, &second), -EUSERS);
	CHECK_DETAIL(pid);
	CHECK_IS(hac_compact_image(path), -EUSERS);
	CHECK_OK(hac_check_image(path, &check));
	CHECK(check.locked_by == (uint32_t)getpid());
	second = open_image(path, true, 0);
	image_close(second);
	/* None of that has let the lock go. */
	child = fork();
	CHECK(child >= 0);
	if (!child) {
		CHECK_IS(image_open(path, &write, &second), -EUSERS);
		CHECK_DETAIL(pid);
		CHECK_OK(hac_check_image(path, &check));
		CHECK(check.locked_by == (uint32_t)getppid());
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && !status);
	/* Nor has the child. */
	child = fork();
	if (!child) {
		CHECK_IS(image_open(path, &write, &second), -EUSERS);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && !status);
	image_close(image);
	CHECK_OK(hac_check_image(path, &check));
	CHECK(!check.locked_by);
	child = fork();
	if (!child) {
		image_close(open_image(path, false, 0));
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && !status);
	image_close(open_image(path, false, 0));
}

static void copies(void)
{
	const char *path = temp_path("copy");
	static unsigned char bytes[3 << 20];
	struct layout layouts[2] = { layout_of(5, "big", sizeof(bytes), 8 << 20),
				     layout_of(9, "small", 3, 3) };
	const unsigned char *contents[2] = { bytes, (const void *)"abc" };
	struct image_state state = { 41, layouts, contents, 2 };
	struct image *image;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (i >> 16) % 3 ? (unsigned char)(i * 7 >> 3) : 0;
	CHECK_OK(image_copy(&state, NULL, path));
	CHECK_IS(image_copy(&state, NULL, path), -EEXIST);
	CHECK_IS(image_copy(&state, NULL, temp_path("no/parent")), -ENOENT);
	image = open_image(path, false, 0);
	CHECK(image->epoch == 41 && image->last_epoch == 41 && image->generation == 1);
	CHECK(image->next_area_id == 10 && image->areas_count == 2);
	CHECK(!memcmp(area_named(image, "big")->contents, bytes, sizeof(bytes)));
	CHECK(!memcmp(area_named(image, "small")->contents, "abc", 4));
	image_close(image);
}

/* A directory without the right to write, and a read-only file system. */
static void read_only_places(void)
{
	const char *path = temp_path("stay"), *mount_point = temp_path("mount");
	struct image_options write = { 0 };
	struct image *image;
	int status;
	pid_t child;

	image_close(open_image(path, false, 0));
	CHECK(!chmod(temp_dir(), 0755) && !chmod(path, 0555) && !chmod(in(path, "lock"), 0444));
	child = fork();
	if (!child) {
		if (!getuid())
			CHECK(!setgid(65534) && !setuid(65534));
		CHECK_IS(image_open(path, &write, &image), -EACCES);
		CHECK_DETAIL("HAC_READONLY");
		image_close(open_image(path, true, 0));
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && !status);
	CHECK(!chmod(path, 0755));
	if (mkdir(mount_point, 0777) || mount(path, mount_point, NULL, MS_BIND, NULL)) {
		printf("  no mount here: %s\n", strerror(errno));
		return;
	}
	if (!mount(NULL, mount_point, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL)) {
		CHECK_IS(image_open(mount_point, &write, &image), -EROFS);
		CHECK_DETAIL("HAC_READONLY");
		image_close(open_image(mount_point, true, 0));
		CHECK_IS(image_open(in(mount_point, "new"), &write, &image), -EROFS);
	}
	CHECK(!umount(mount_point));
}

struct tally {
	unsigned int generations, layouts, drops, transactions, partial;
	uint64_t bytes, last_epoch;
	int stop_at;
};

static int count_record(void *argument, const struct hac_log_record *record)
{
	struct tally *tally = argument;

	if (!strcmp(record->kind, "generation"))
		tally->generations++;
	else if (!strcmp(record->kind, "layout") && record->name && record->type)
		tally->layouts++;
	else if (!strcmp(record->kind, "drop"))
		tally->drops++;
	else if (!strcmp(record->kind, "transaction") && record->partial)
		tally->partial++;
	else if (!strcmp(record->kind, "transaction"))
		tally->transactions++;
	if (!strncmp(record->file, "journal", 7) && !strcmp(record->kind, "transaction")) {
		uint64_t sum = 0;

		for (uint64_t i = 0; i < record->runs; i++)
			sum += record->run[i].length;
		CHECK(sum == record->bytes && record->time_ns && record->epoch);
		tally->bytes += record->bytes;
		tally->last_epoch = record->epoch;
	}
	return tally->stop_at && tally->transactions == (unsigned int)tally->stop_at ? 17 : 0;
}

static void logs(void)
{
	const char *path = temp_path("log");
	static unsigned char bytes[100000];
	struct image *image = open_image(path, false, 0);
	struct drainer *drainer = start(image, 16384);
	struct tally tally = { 0 };

	CHECK_OK(push_area(drainer, 1, 1, "a", bytes, sizeof(bytes)));
	CHECK_OK(push_u64(drainer, 2, 1, 8, 1));
	CHECK_OK(push_u64(drainer, 3, 1, 8, 2));
	/* While it is being written. */
	CHECK_OK(drainer_wait(drainer, 3, -1));
	CHECK_OK(hac_log_image(path, count_record, &tally));
	CHECK_OK(drainer_stop(drainer));
	image_close(image);
	CHECK(tally.generations == 2 && tally.layouts == 1 && tally.transactions == 3);
	CHECK(tally.partial >= 24 && tally.bytes == 100016 && tally.last_epoch == 3);
	tally = (struct tally){ .stop_at = 2 };
	CHECK_IS(hac_log_image(path, count_record, &tally), 17);
	CHECK_IS(hac_log_image(temp_path("absent"), count_record, &tally), -ENOENT);
	CHECK_IS(hac_check_image(path, &(struct hac_check){ .size = 3 }), -EINVAL);
}

/* Openings alone make the journal long; one of them compacts it. */
static void compacts_by_itself(void)
{
	const char *path = temp_path("long");
	struct image_limits before = image_limits;
	struct hac_check check = { .size = sizeof(check) };
	static unsigned char bytes[4096];
	struct image *image;
	struct drainer *drainer;
	uint64_t epoch = 1;

	image_limits.compact_bytes = 20000;
	image_limits.segment_bytes = 3000;
	image = open_image(path, false, 0);
	drainer = start(image, 0);
	CHECK_OK(push_area(drainer, epoch++, 1, "a", bytes, sizeof(bytes)));
	for (; epoch < 100; epoch++) {
		CHECK_OK(push_u64(drainer, epoch, 1, 8 * epoch, epoch));
		CHECK_OK(drainer_wait(drainer, epoch, -1));
	}
	CHECK_OK(drainer_stop(drainer));
	image_close(image);
	CHECK_OK(hac_check_image(path, &check));
	CHECK(check.segments > 4 && check.journal_bytes > 20000 && check.base_epoch == 0);
	image_close(open_image(path, false, 50));
	CHECK_OK(hac_check_image(path, &check));
	CHECK(check.base_epoch == 0 && check.epoch == 50);
	image_close(open_image(path, false, 0));
	CHECK_OK(hac_check_image(path, &check));
	CHECK(check.base_epoch == 50 && check.segments == 1 && check.generation == 3);
	image = open_image(path, false, 0);
	CHECK(image->epoch == 50 && image->last_epoch == 99 && u64_at(image, "a", 400) == 50);
	CHECK(u64_at(image, "a", 408) == 0);
	image_close(image);
	image_limits.compact_segments = 5;
	for (int i = 0; i < 20; i++)
		image_close(open_image(path, false, 0));
	CHECK_OK(hac_check_image(path, &check));
	CHECK(check.segments <= 6);
	image_limits = before;
}

int main(void)
{
	RUN(creation);
	RUN(strange_paths);
	RUN(generations);
	RUN(growth_and_drops);
	RUN(locks);
	RUN(copies);
	RUN(read_only_places);
	RUN(logs);
	RUN(compacts_by_itself);
	return 0;
}
