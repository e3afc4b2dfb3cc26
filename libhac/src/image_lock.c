// SPDX-License-Identifier: MIT
#include "image_internal.h"

#include "error.h"
#include "image_io.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * A lock of fcntl(2) belongs to the process: a child does not inherit it, it
 * goes when the process dies, and it names its owner. But it does not keep
 * the process itself out, and it goes when any descriptor of the file is
 * closed; hence this list of the locks that the process has.
 */
struct image_lock {
	struct image_lock *next;
	dev_t device;
	ino_t inode; /* of the directory */
	pid_t owner; /* a child finds its parent's entries in the list */
	int fd;
};

static struct image_lock *locks;

/*
 * Guards the list. Not a mutex: a child that was forked while another thread
 * held one could never lock it. The word says which process holds it, and what
 * a parent held is free for its child.
 */
static _Atomic pid_t list_holder;

static void hold_list(void)
{
	pid_t self = getpid();

	for (;;) {
		pid_t holder = 0;

		if (atomic_compare_exchange_strong(&list_holder, &holder, self))
			return;
		if (holder != self && atomic_compare_exchange_strong(&list_holder, &holder, self))
			return;
		sched_yield();
	}
}

static void let_list_go(void)
{
	atomic_store(&list_holder, 0);
}

/* The list may be half-changed in a child: it only ever has entries put in
 * front or unlinked, each by one store. */
static struct image_lock *find_lock(const struct stat *st)
{
	for (struct image_lock *lock = locks; lock; lock = lock->next)
		if (lock->device == st->st_dev && lock->inode == st->st_ino &&
		    lock->owner == getpid())
			return lock;
	return NULL;
}

static pid_t ask_owner(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_GETLK, &lock) || lock.l_type == F_UNLCK)
		return 0;
	return lock.l_pid;
}

static int open_failed(const char *path, int error)
{
	if (error == EROFS || error == EACCES || error == EPERM)
		return hac_fail(error,
				"image %s cannot be opened for writing: %s; open it with "
				"HAC_READONLY to look at it",
				path, strerror(error));
	return hac_fail(error, "%s/" IMAGE_FILE_LOCK ": %s", path, strerror(error));
}

static int take_file(int directory, const char *path, int *out)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	pid_t owner;
	int error, fd;

	fd = image_io.openat(directory, IMAGE_FILE_LOCK,
			     O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
	if (fd < 0)
		return open_failed(path, errno);
	if (!fcntl(fd, F_SETLK, &lock)) {
		*out = fd;
		return 0;
	}
	error = errno;
	owner = ask_owner(fd);
	image_io.close(fd);
	if (error != EAGAIN && error != EACCES)
		return hac_fail(error, "%s/" IMAGE_FILE_LOCK " cannot be locked: %s", path,
				strerror(error));
	return hac_fail(EUSERS,
			"image %s is open for writing in process %ld: close it there, or open it "
			"with HAC_READONLY",
			path, (long)owner);
}

static int take_lock(int directory, const char *path, const struct stat *st,
		     struct image_lock *lock)
{
	int error;

	if (find_lock(st))
		return hac_fail(EUSERS, "image %s is open for writing in this process (%ld)", path,
				(long)getpid());
	error = take_file(directory, path, &lock->fd);
	if (error)
		return error;
	lock->device = st->st_dev;
	lock->inode = st->st_ino;
	lock->owner = getpid();
	lock->next = locks;
	locks = lock;
	return 0;
}

int image_lock_take(int directory, const char *path, struct image_lock **out)
{
	struct image_lock *lock = malloc(sizeof(*lock));
	struct stat st;
	int error;

	if (!lock)
		return hac_fail(ENOMEM, "no memory to open image %s", path);
	if (fstat(directory, &st)) {
		free(lock);
		return hac_fail(errno, "%s: %s", path, strerror(errno));
	}
	hold_list();
	error = take_lock(directory, path, &st, lock);
	let_list_go();
	if (error)
		free(lock);
	else
		*out = lock;
	return error;
}

void image_lock_release(struct image_lock *lock)
{
	struct image_lock **link = &locks;

	if (!lock)
		return;
	hold_list();
	while (*link && *link != lock)
		link = &(*link)->next;
	if (*link)
		*link = lock->next;
	image_io.close(lock->fd);
	let_list_go();
	free(lock);
}

pid_t image_lock_owner(int directory)
{
	struct stat st;
	pid_t owner = 0;
	int fd;

	if (fstat(directory, &st))
		return 0;
	hold_list();
	if (find_lock(&st)) {
		owner = getpid();
	} else {
		fd = openat(directory, IMAGE_FILE_LOCK,
			    O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (fd >= 0) {
			owner = ask_owner(fd);
			close(fd);
		}
	}
	let_list_go();
	return owner;
}
