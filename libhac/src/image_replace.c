// SPDX-License-Identifier: MIT
/*
 * Another image in the place of this one, in the same directory, whose lock is
 * held all the time: nobody can get in between.
 *
 *	1. `incoming` is synced, with all that is in it.
 *	2. It is renamed into the directory, as `replacement`. From here on the
 *	   new image counts. Before, the old one does.
 *	3. The old segments are removed; base and layout stay, so that the
 *	   directory looks like an image to whoever does not know better.
 *	4. `replacement` is renamed to `replacement.cleared`: what segments there
 *	   are in the directory are new ones from here on.
 *	5. Its files are renamed into the directory, over the old ones.
 *	6. It is removed.
 *
 * The directories are synced after each step. Whoever finds `replacement` goes
 * on with step 3, and with `replacement.cleared`, step 5: each of them can be
 * done again. Plain renames, because every file system has them.
 */
#include "image_internal.h"

#include "error.h"
#include "image_io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INCOMING "replacement"
#define CLEARED INCOMING ".cleared"

static bool is_segment(const char *name)
{
	return !strncmp(name, IMAGE_FILE_JOURNAL, strlen(IMAGE_FILE_JOURNAL));
}

static bool is_wanted(const char *name)
{
	return is_segment(name) || !strcmp(name, IMAGE_FILE_BASE) ||
	       !strcmp(name, IMAGE_FILE_LAYOUT);
}

static bool exists(int directory, const char *name)
{
	return !faccessat(directory, name, F_OK, 0);
}

bool image_is_replaced(int directory)
{
	return exists(directory, INCOMING) || exists(directory, CLEARED);
}

/* For each file of a directory; -errno. */
static int for_each(int directory, const char *name,
		    int (*each)(int directory, const char *within, const char *file))
{
	int fd = openat(directory, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error = 0;
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!list) {
		error = -errno;
		if (fd >= 0)
			close(fd);
		return error;
	}
	while (!error && (entry = readdir(list)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			error = each(directory, name, entry->d_name);
	closedir(list);
	return error;
}

static int sync_name(int directory, const char *name, int flags)
{
	int fd = image_io.openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | flags, 0);
	int error = fd < 0 || image_io.fsync(fd) ? -errno : 0;

	if (fd >= 0)
		image_io.close(fd);
	return error;
}

static int sync_one(int directory, const char *within, const char *file)
{
	char name[PATH_MAX];

	snprintf(name, sizeof(name), "%s/%s", within, file);
	return is_wanted(file) ? sync_name(directory, name, O_NONBLOCK) : 0;
}

static int remove_segment(int directory, const char *within, const char *file)
{
	(void)within;
	if (!is_segment(file) || !image_io.unlinkat(directory, file))
		return 0;
	return -errno;
}

/* What is no part of an image, its lock say, is not taken over. */
static int move_one(int directory, const char *within, const char *file)
{
	char name[PATH_MAX];

	snprintf(name, sizeof(name), "%s/%s", within, file);
	if (is_wanted(file) ? image_io.renameat(directory, name, file) :
			      image_io.unlinkat(directory, name))
		return -errno;
	return 0;
}

/* A name may be passed over while others are removed: until none is left. */
static int move_all(int directory)
{
	for (int round = 0; round < 1000; round++) {
		char name[PATH_MAX];
		int error = for_each(directory, CLEARED, move_one);

		if (error)
			return error;
		snprintf(name, sizeof(name), "/proc/self/fd/%d/" CLEARED, directory);
		if (image_io.fsync(directory))
			return -errno;
		if (!image_io.rmdir(name))
			return 0;
		if (errno != ENOTEMPTY && errno != EEXIST)
			return -errno;
	}
	return -ENOTEMPTY;
}

static int clear_old(int directory)
{
	/* Until none is found: as above. */
	int error = for_each(directory, ".", remove_segment);

	if (!error)
		error = for_each(directory, ".", remove_segment);
	if (!error && image_io.fsync(directory))
		error = -errno;
	if (!error && image_io.renameat(directory, INCOMING, CLEARED))
		error = -errno;
	if (!error && image_io.fsync(directory))
		error = -errno;
	return error;
}

int image_finish_replacement(int directory, const char *path)
{
	int error = 0;

	if (exists(directory, INCOMING))
		error = clear_old(directory);
	if (!error && exists(directory, CLEARED)) {
		error = move_all(directory);
		if (!error && image_io.fsync(directory))
			error = -errno;
	}
	if (error)
		return hac_fail(-error,
				"image %s is being replaced by another one, which cannot be "
				"finished: %s",
				path, strerror(-error));
	return 0;
}

int image_replace(int directory, const char *path, const char *incoming, bool *committed)
{
	char *from = realpath(incoming, NULL);
	int error = from ? 0 : -errno;

	*committed = false;
	if (!error)
		error = for_each(AT_FDCWD, from, sync_one);
	if (!error)
		error = sync_name(AT_FDCWD, from, O_DIRECTORY);
	if (!error && image_io.renameat(directory, from, INCOMING))
		error = -errno;
	free(from);
	if (error)
		return hac_fail(-error, "image %s cannot be replaced by %s: %s", path, incoming,
				error == -EXDEV ? "it lies on another file system" :
						  strerror(-error));
	*committed = true;
	if (image_io.fsync(directory))
		return hac_fail(errno, "image %s cannot be synced: %s", path, strerror(errno));
	return image_finish_replacement(directory, path);
}
