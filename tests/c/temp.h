/* SPDX-License-Identifier: MIT */
/* A temporary directory for a test, and the removal of whole trees. */
#ifndef TEMP_H
#define TEMP_H

#include "check.h"

#include <ftw.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

static char temp_directory[PATH_MAX];
static pid_t temp_owner;

static int temp_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* Remove a file or a directory with all that is in it, if it is there. */
__attribute__((unused)) static void temp_remove(const char *path)
{
	nftw(path, temp_remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static void temp_cleanup(void)
{
	/* Children of the test leave by exit(), too. */
	if (getpid() == temp_owner)
		temp_remove(temp_directory);
}

/* The test's own directory, made at the first call, removed at exit (kept if
 * HAC_KEEP is set). It lies in HAC_TEST_DIR, TMPDIR or /tmp. */
__attribute__((unused)) static const char *temp_dir(void)
{
	const char *parent = getenv("HAC_TEST_DIR");

	if (temp_directory[0])
		return temp_directory;
	if (!parent)
		parent = getenv("TMPDIR");
	snprintf(temp_directory, sizeof(temp_directory), "%s/hac-test-XXXXXX",
		 parent ? parent : "/tmp");
	CHECK(mkdtemp(temp_directory));
	temp_owner = getpid();
	if (!getenv("HAC_KEEP"))
		atexit(temp_cleanup);
	return temp_directory;
}

/* A path inside of it. Eight may be in use at a time. */
__attribute__((unused)) static const char *temp_path(const char *name)
{
	static char paths[8][PATH_MAX + 256];
	static unsigned int next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", temp_dir(), name);
	return path;
}

#endif
