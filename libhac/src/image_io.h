/* SPDX-License-Identifier: MIT */
/*
 * Everything that changes something on disk goes through this table, so that
 * the dry run of power loss can record it and kill it at any point. Reading
 * does not.
 */
#ifndef HAC_IMAGE_IO_H
#define HAC_IMAGE_IO_H

#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* As the system calls of these names, -1 and errno included. */
struct image_io {
	int (*openat)(int directory, const char *name, int flags, mode_t mode);
	int (*mkdir)(const char *path, mode_t mode);
	int (*renameat)(int directory, const char *from, const char *to);
	int (*unlinkat)(int directory, const char *name);
	int (*rmdir)(const char *path);
	ssize_t (*pwritev)(int fd, const struct iovec *parts, int count, off_t offset);
	int (*ftruncate)(int fd, off_t size);
	int (*fsync)(int fd);
	int (*fdatasync)(int fd);
	int (*fallocate)(int fd, int mode, off_t offset, off_t size);
	int (*close)(int fd);
};

extern struct image_io image_io;

/* The soft limit on the size of files (RLIMIT_FSIZE). */
uint64_t io_size_limit(void);

/*
 * Write all of it, or return -errno. Never passes the limit on file sizes, but
 * answers -EFBIG: the kernel would end the process with SIGXFSZ. `parts` is
 * used up.
 */
int io_write_all(int fd, struct iovec *parts, int count, uint64_t offset);

#endif
