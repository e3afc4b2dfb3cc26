/* SPDX-License-Identifier: MIT */
/*
 * What the tests of image and journal share: a model of the areas that makes
 * one epoch after the other, and knows what each of them left behind.
 */
#ifndef IMAGE_TOOLS_H
#define IMAGE_TOOLS_H

#include "check.h"
#include "drainer.h"
#include "image.h"
#include "temp.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

__attribute__((unused)) static struct image *open_image(const char *path, bool readonly,
							uint64_t at)
{
	struct frame_coding coding;
	struct image_options options = { .readonly = readonly, .at = at, .coding = &coding };
	struct image *image;

	/* The key, if there is one in the environment. */
	CHECK_OK(frame_coding_load(HAC_CODEC_NONE, NULL, &coding));
	CHECK_OK(image_open(path, &options, &image));
	return image;
}

__attribute__((unused)) static struct drainer *start(struct image *image, size_t ring_bytes)
{
	struct drainer_options options = { .ring_bytes = ring_bytes };
	struct drainer *drainer;

	CHECK_OK(drainer_start(image, &options, &drainer));
	return drainer;
}

__attribute__((unused)) static struct layout layout_of(uint32_t id, const char *name, uint64_t size,
						       uint64_t capacity)
{
	return (struct layout){ id, 0, size, capacity, 0, (char *)name, (char *)"bytes", NULL };
}

/* A new area, with its first bytes in one run. */
__attribute__((unused)) static int push_area(struct drainer *drainer, uint64_t epoch, uint32_t id,
					     const char *name, const void *bytes, uint32_t size)
{
	struct layout layout = layout_of(id, name, size, size);
	struct hac_run run = { 0, size, id };
	struct transaction_record t = {
		.epoch = epoch,
		.layouts = &layout,
		.layouts_count = 1,
		.runs = &run,
		.runs_count = 1,
		.bytes = bytes,
		.bytes_count = size,
	};

	return drainer_push(drainer, &t, true);
}

__attribute__((unused)) static int push_run(struct drainer *drainer, uint64_t epoch, uint32_t id,
					    uint64_t offset, const void *bytes, uint32_t size)
{
	struct hac_run run = { offset, size, id };
	struct transaction_record t = {
		.epoch = epoch,
		.runs = &run,
		.runs_count = 1,
		.bytes = bytes,
		.bytes_count = size,
	};

	return drainer_push(drainer, &t, true);
}

__attribute__((unused)) static int push_u64(struct drainer *drainer, uint64_t epoch, uint32_t id,
					    uint64_t offset, uint64_t value)
{
	return push_run(drainer, epoch, id, offset, &value, sizeof(value));
}

__attribute__((unused)) static struct image_area *area_named(struct image *image, const char *name)
{
	for (size_t i = 0; i < image->areas_count; i++)
		if (!strcmp(image->areas[i].layout.name, name))
			return &image->areas[i];
	return NULL;
}

__attribute__((unused)) static uint64_t u64_at(struct image *image, const char *name,
					       uint64_t offset)
{
	struct image_area *area = area_named(image, name);
	uint64_t value;

	CHECK_MSG(area, "no area %s", name);
	CHECK(offset + 8 <= area->layout.size);
	memcpy(&value, area->contents + offset, sizeof(value));
	return value;
}

/* ------------------------------------------------------------- files -- */

struct bytes {
	unsigned char *data;
	size_t size;
};

__attribute__((unused)) static struct bytes read_file(const char *path)
{
	struct bytes file = { 0 };
	int fd = open(path, O_RDONLY);
	struct stat st;

	CHECK_MSG(fd >= 0, "%s", path);
	CHECK(!fstat(fd, &st));
	file.size = (size_t)st.st_size;
	file.data = malloc(file.size + 1);
	CHECK(read(fd, file.data, file.size) == (ssize_t)file.size);
	close(fd);
	return file;
}

__attribute__((unused)) static void write_file(const char *path, const void *data, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);

	CHECK_MSG(fd >= 0, "%s", path);
	CHECK(write(fd, data, size) == (ssize_t)size);
	close(fd);
}

__attribute__((unused)) static const char *in(const char *path, const char *name)
{
	static char joined[8][PATH_MAX];
	static unsigned int next;
	char *to = joined[next++ % 8];

	snprintf(to, PATH_MAX, "%s/%s", path, name);
	return to;
}

__attribute__((unused)) static void copy_tree(const char *from, const char *to)
{
	char command[2 * PATH_MAX + 32];

	temp_remove(to);
	snprintf(command, sizeof(command), "cp -a '%s' '%s'", from, to);
	CHECK(!system(command));
}

#endif
