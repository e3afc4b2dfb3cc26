/* SPDX-License-Identifier: MIT */
/* Damage: a torn end is cut and reported, everything else is refused, and
 * nothing ever gives a state that no epoch left behind. */
#include "frame.h"
#include "image_internal.h"
#include "image_tools.h"

#define WORDS 8

/* Epoch e leaves e in all words of area "a", so a mixture shows. */
static void push_epoch(struct drainer *drainer, uint64_t epoch)
{
	uint64_t words[WORDS];

	for (int i = 0; i < WORDS; i++)
		words[i] = epoch;
	if (epoch == 1)
		CHECK_OK(push_area(drainer, 1, 1, "a", words, sizeof(words)));
	else
		CHECK_OK(push_run(drainer, epoch, 1, 0, words, sizeof(words)));
	CHECK_OK(drainer_wait(drainer, epoch, -1));
}

static void check_state(struct image *image)
{
	struct image_area *area = area_named(image, "a");

	CHECK(!!area == !!image->epoch);
	for (uint64_t i = 0; area && i < WORDS; i++)
		CHECK_MSG(u64_at(image, "a", 8 * i) == image->epoch, "word %d is of %d, not %d",
			  (int)i, (int)u64_at(image, "a", 8 * i), (int)image->epoch);
}

static void run_epochs(const char *path, uint64_t count)
{
	struct image *image = open_image(path, false, 0);
	struct drainer *drainer = start(image, 0);

	check_state(image);
	for (uint64_t i = 0; i < count; i++)
		push_epoch(drainer, image->last_epoch + 1 + i);
	CHECK_OK(drainer_stop(drainer));
	image_close(image);
}

/* Where the frames of a segment begin; the last entry is its size. */
static size_t frame_offsets(const struct bytes *file, size_t *offsets, size_t max)
{
	struct frame_header header;
	const unsigned char *payload;
	size_t count = 0, at = 0;

	while (at < file->size) {
		CHECK(count + 1 < max);
		offsets[count++] = at;
		CHECK_OK(frame_decode(file->data + at, file->size - at, &header, &payload));
		at += FRAME_HEADER_SIZE + header.stored;
	}
	offsets[count] = at;
	return count;
}

static struct hac_check check_image(const char *path, int wanted)
{
	struct hac_check check = { .size = sizeof(check) };

	CHECK_IS(hac_check_image(path, &check), wanted);
	return check;
}

/* A base with epoch 3, a segment with 4 and 5, one with 6 to 9. */
static const char *small_image(const char *name)
{
	const char *path = temp_path(name);

	run_epochs(path, 3);
	CHECK_OK(hac_compact_image(path));
	run_epochs(path, 2);
	run_epochs(path, 4);
	return path;
}

static void cut_at_every_byte(void)
{
	const char *path = small_image("cut"), *copy = temp_path("cut-copy");
	const char *last = in(path, "journal.00000003");
	struct bytes file = read_file(last);
	size_t offsets[16], frames = frame_offsets(&file, offsets, 16);

	CHECK(frames == 5);
	for (size_t cut = file.size; cut >= offsets[frames - 3]; cut--) {
		struct hac_check check;
		size_t whole = 0;
		struct image *image;

		while (whole < frames && offsets[whole + 1] <= cut)
			whole++;
		CHECK(!truncate(last, (off_t)cut));
		check = check_image(path, 0);
		CHECK(check.epoch == 4 + whole && check.dropped_bytes == cut - offsets[whole]);
		image = open_image(path, true, 0);
		CHECK(image->epoch == 4 + whole && !image->dropped_bytes);
		check_state(image);
		image_close(image);
		if (cut % 16)
			continue;
		copy_tree(path, copy);
		image = open_image(copy, false, 0);
		CHECK(image->epoch == 4 + whole && image->generation == 4);
		CHECK(image->dropped_bytes == cut - offsets[whole]);
		CHECK(image->dropped_epoch == (image->dropped_bytes ? 5 + whole : 0));
		check_state(image);
		image_close(image);
		run_epochs(copy, 1);
		check = check_image(copy, 0);
		CHECK(check.epoch == 5 + whole && !check.dropped_bytes);
	}
	free(file.data);
	temp_remove(path);
	temp_remove(copy);
}

/* In the segment before: what follows is valid, so it is damage. */
static void cut_in_the_middle(void)
{
	const char *path = small_image("middle"), *first = in(path, "journal.00000002");
	struct bytes file = read_file(first);

	for (size_t cut = 0; cut < file.size; cut += 8) {
		struct hac_check check;

		CHECK(!truncate(first, (off_t)cut));
		check = check_image(path, -EBADMSG);
		CHECK(!strncmp(check.file, "journal.0000000", 15));
		CHECK(check.damage_epoch >= 4 && check.damage_epoch <= 6);
	}
	write_file(first, file.data, file.size);
	check_image(path, 0);
	CHECK(!rename(first, in(path, "gone")));
	CHECK(!strcmp(check_image(path, -EBADMSG).file, "journal.00000002"));
	CHECK(!rename(in(path, "journal.00000003"), in(path, "gone")));
	CHECK(!strcmp(check_image(path, -EBADMSG).file, "journal.00000002"));
	free(file.data);
	temp_remove(path);
}

static void flip(const char *file, size_t at, int bit)
{
	int fd = open(file, O_RDWR);
	unsigned char byte;

	CHECK(fd >= 0 && pread(fd, &byte, 1, (off_t)at) == 1);
	byte ^= (unsigned char)(1 << bit);
	CHECK(pwrite(fd, &byte, 1, (off_t)at) == 1);
	close(fd);
}

static void check_flipped(const char *path, const char *name, size_t at, size_t last_frame,
			  size_t frame)
{
	struct image_options options = { .readonly = true };
	struct hac_check check = { .size = sizeof(check) };
	struct image *image;
	int error = hac_check_image(path, &check);

	if (at >= last_frame) {
		CHECK_OK(error);
		CHECK(check.epoch == 8 && check.dropped_bytes);
		CHECK_OK(image_open(path, &options, &image));
		CHECK(image->epoch == 8);
		check_state(image);
		image_close(image);
		return;
	}
	CHECK_MSG(error == -EBADMSG, "%s, byte %zu: %d", name, at, error);
	CHECK_MSG(!strcmp(check.file, name) && check.offset == frame, "%s, byte %zu: %s, %d", name,
		  at, check.file, (int)check.offset);
	CHECK_IS(image_open(path, &options, &image), -EBADMSG);
	CHECK_DETAIL(name);
	options.readonly = false;
	CHECK_IS(image_open(path, &options, &image), -EBADMSG);
}

static void flip_every_byte(void)
{
	static const char *const names[] = { "layout", "base", "journal.00000002",
					     "journal.00000003" };
	const char *path = small_image("flip");
	unsigned long long seed = 3;

	for (size_t n = 0; n < 4; n++) {
		const char *name = in(path, names[n]);
		struct bytes file = read_file(name);
		size_t offsets[16], frames = frame_offsets(&file, offsets, 16), frame = 0;

		for (size_t at = 0; at < file.size; at++) {
			int bit = (int)(check_random(&seed) % 8);

			if (at == offsets[frame + 1])
				frame++;
			flip(name, at, bit);
			check_flipped(path, names[n], at, n == 3 ? offsets[frames - 1] : SIZE_MAX,
				      offsets[frame]);
			flip(name, at, bit);
		}
		free(file.data);
	}
	CHECK(check_image(path, 0).epoch == 9);
	temp_remove(path);
}

static void garbage_at_the_end(void)
{
	const char *path = small_image("garbage"), *copy = temp_path("garbage-copy");
	const char *last = in(copy, "journal.00000003");
	static unsigned char zeros[5000], noise[5000];
	struct image *image;
	size_t size;
	int fd;

	memset(noise, 0xa5, sizeof(noise));
	memcpy(noise + 1000, FRAME_MAGIC, FRAME_MAGIC_SIZE);
	for (int kind = 0; kind < 2; kind++) {
		copy_tree(path, copy);
		fd = open(last, O_WRONLY | O_APPEND);
		CHECK(write(fd, kind ? noise : zeros, 5000) == 5000);
		close(fd);
		CHECK(check_image(copy, 0).dropped_bytes == (kind ? 5000 : 0));
		image = open_image(copy, false, 0);
		CHECK(image->epoch == 9 && image->dropped_bytes == (kind ? 5000 : 0));
		image_close(image);
		run_epochs(copy, 1);
		CHECK(check_image(copy, 0).epoch == 10);
	}
	/* The first frame of the last segment once more: no torn end. */
	copy_tree(path, copy);
	{
		struct bytes file = read_file(last);

		size = file.size;
		write_file(last, file.data, size);
		fd = open(last, O_WRONLY | O_APPEND);
		CHECK(write(fd, file.data, size) == (ssize_t)size);
		close(fd);
		CHECK(check_image(copy, -EBADMSG).offset == size);
		/* Behind garbage as well, when it is a later one. */
		CHECK(!truncate(last, (off_t)size - 100));
		CHECK(check_image(copy, 0).epoch == 8);
		free(file.data);
	}
	temp_remove(path);
	temp_remove(copy);
}

/* ------------------------------------------------ large transactions -- */

#define LARGE ((uint32_t)300000)

static void push_large(struct drainer *drainer, uint64_t epoch, const unsigned char *bytes)
{
	struct layout layout = layout_of(2, "large", LARGE, LARGE);
	struct hac_run runs[2003];
	struct transaction_record t = {
		.epoch = epoch,
		.layouts = &layout,
		.layouts_count = 1,
		.runs = runs,
		.bytes = bytes,
		.bytes_count = LARGE,
	};
	uint32_t at = 0;

	/* Many small runs of odd lengths, one large one, an empty one. */
	for (; t.runs_count < 2000; t.runs_count++) {
		uint32_t length = (uint32_t)(t.runs_count % 23 + 1);

		runs[t.runs_count] = (struct hac_run){ at, length, 2 };
		at += length;
	}
	runs[t.runs_count++] = (struct hac_run){ at, LARGE - at - 5, 2 };
	runs[t.runs_count++] = (struct hac_run){ LARGE, 0, 2 };
	runs[t.runs_count++] = (struct hac_run){ LARGE - 5, 5, 2 };
	CHECK_OK(drainer_push(drainer, &t, true));
	CHECK_OK(drainer_wait(drainer, epoch, -1));
}

static void large_transactions(void)
{
	static const size_t rings[] = { 4096, 16384, 65536, 1 << 20 };
	static unsigned char bytes[LARGE];

	for (size_t i = 0; i < LARGE; i++)
		bytes[i] = (unsigned char)(i * i >> 7);
	for (size_t i = 0; i < 4; i++) {
		const char *path = temp_path("large"), *last = in(path, "journal.00000001");
		struct image *image = open_image(path, false, 0);
		struct drainer *drainer = start(image, rings[i]);
		struct bytes file;
		static size_t offsets[5000];
		size_t frames;

		push_epoch(drainer, 1);
		push_large(drainer, 2, bytes);
		CHECK_OK(drainer_stop(drainer));
		image_close(image);
		image = open_image(path, true, 0);
		CHECK(image->epoch == 2);
		CHECK(!memcmp(area_named(image, "large")->contents, bytes, LARGE));
		image_close(image);

		file = read_file(last);
		frames = frame_offsets(&file, offsets, 5000);
		CHECK(rings[i] > LARGE || frames > 4);
		for (size_t f = 2; f<frames; f += f> 8 && f + 8 < frames ? 3 : 1) {
			CHECK(!truncate(last, (off_t)offsets[f]));
			CHECK(check_image(path, 0).dropped_bytes == offsets[f] - offsets[2]);
			CHECK(!truncate(last, (off_t)offsets[f] + 200));
			image = open_image(path, true, 0);
			CHECK(image->epoch == 1 && image->areas_count == 1);
			CHECK(image->next_area_id == 2);
			image_close(image);
			write_file(last, file.data, file.size);
		}
		CHECK(!truncate(last, (off_t)offsets[frames - 1]));
		image = open_image(path, false, 0);
		CHECK(image->epoch == 1 &&
		      image->dropped_bytes == offsets[frames - 1] - offsets[2]);
		CHECK((frames == 3) == !image->dropped_bytes);
		CHECK(image->dropped_epoch == (frames == 3 ? 0 : 2));
		image_close(image);
		run_epochs(path, 1);
		CHECK(check_image(path, 0).epoch == 2);
		free(file.data);
		temp_remove(path);
	}
}

/* Segments of a few frames; a transaction in parts does not span them. */
static void segments(void)
{
	struct image_limits before = image_limits;
	static unsigned char bytes[LARGE];
	const char *path = temp_path("segments");
	struct hac_check check;
	struct image *image;
	struct drainer *drainer;

	image_limits.segment_bytes = 1000;
	run_epochs(path, 20);
	CHECK(check_image(path, 0).segments >= 4);
	image = open_image(path, false, 0);
	drainer = start(image, 16384);
	push_large(drainer, 21, bytes);
	push_epoch(drainer, 22);
	CHECK_OK(drainer_stop(drainer));
	image_close(image);
	check = check_image(path, 0);
	CHECK(check.epoch == 22 && check.transactions == 22);
	CHECK(!unlink(in(path, "journal.00000003")));
	check = check_image(path, -EBADMSG);
	CHECK(!strcmp(check.file, "journal.00000003"));
	temp_remove(path);
	image_limits = before;
}

int main(void)
{
	RUN(cut_at_every_byte);
	RUN(cut_in_the_middle);
	RUN(flip_every_byte);
	RUN(garbage_at_the_end);
	RUN(large_transactions);
	RUN(segments);
	return 0;
}
