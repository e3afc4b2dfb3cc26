// SPDX-License-Identifier: MIT
#include "image_internal.h"

#include "error.h"
#include "image_io.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
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

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
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

/* ---------------------------------------------------------- the mark -- */

static const char *const marks[] = { "", "keeper", "drains" };

void image_lock_mark(struct image_lock *lock, enum lock_holder holder)
{
	char text[64];
	int size = snprintf(text, sizeof(text), "%s %ld\n", marks[holder], (long)getpid());

	/* For others to look at while the lock is held, so it need not reach the
	 * disk; and who cannot read it fails at once. The new one first: both
	 * begin differently. */
	if (pwrite(lock->fd, text, (size_t)size, 0) == size)
		(void)!ftruncate(lock->fd, size);
}

/* What `owner` has written there: a mark of somebody else is an old one. */
static enum lock_holder read_mark(int fd, pid_t owner)
{
	char text[64] = "", word[16];
	long pid;

	if (pread(fd, text, sizeof(text) - 1, 0) <= 0 || sscanf(text, "%15s %ld", word, &pid) != 2)
		return 0;
	/* Across namespaces of processes, numbers mean nothing. */
	if (owner && pid != owner)
		return 0;
	for (unsigned int i = LOCK_KEEPER; i <= LOCK_DRAINS; i++)
		if (!strcmp(word, marks[i]))
			return i;
	return 0;
}

/* ------------------------------------------------------------- taking -- */

/* Who kept somebody out. */
struct holder {
	enum lock_holder mark;
	pid_t pid;
};

static int take_file(int directory, const char *path, int *out, struct holder *holder)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	pid_t owner;
	int error, fd;

	fd = image_io.openat(directory, IMAGE_FILE_LOCK,
			     O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
	if (fd < 0)
		return open_failed(path, errno);
	if (!fcntl(fd, F_SETLK, &lock)) {
		/* What is there is its last owner's. */
		(void)!ftruncate(fd, 0);
		*out = fd;
		return 0;
	}
	error = errno;
	owner = ask_owner(fd);
	*holder = (struct holder){ read_mark(fd, owner), owner };
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
		     struct image_lock *lock, struct holder *holder)
{
	int error;

	if (find_lock(st))
		return hac_fail(EUSERS, "image %s is open for writing in this process (%ld)", path,
				(long)getpid());
	error = take_file(directory, path, &lock->fd, holder);
	if (error)
		return error;
	lock->device = st->st_dev;
	lock->inode = st->st_ino;
	lock->owner = getpid();
	lock->next = locks;
	locks = lock;
	return 0;
}

/* For how long may whoever has it be waited for? */
static int64_t patience(const struct holder *holder)
{
	if (holder->mark == LOCK_DRAINS)
		return image_limits.drain_ms;
	/* Its context may have died just now, or it may be dying itself. */
	return holder->mark == LOCK_KEEPER ? image_limits.keeper_ms : 0;
}

static int take_patiently(int directory, const char *path, const struct stat *st,
			  struct image_lock *lock)
{
	const struct timespec pause = { .tv_nsec = 5000000 };
	int64_t start = now_ms();

	for (;;) {
		struct holder holder = { 0 };
		int error;

		hold_list();
		error = take_lock(directory, path, st, lock, &holder);
		let_list_go();
		if (error != -EUSERS)
			return error;
		if (now_ms() - start >= patience(&holder)) {
			if (holder.mark != LOCK_DRAINS)
				return error;
			return hac_fail(EUSERS,
					"image %s is still held by process %ld, a helper that "
					"drains what its application left behind: wait for it, or "
					"end it",
					path, (long)holder.pid);
		}
		nanosleep(&pause, NULL);
	}
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
	error = take_patiently(directory, path, &st, lock);
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
