// SPDX-License-Identifier: MIT
#include "image_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static int real_openat(int directory, const char *name, int flags, mode_t mode)
{
	return openat(directory, name, flags, mode);
}

static int real_renameat(int directory, const char *from, const char *to)
{
	return renameat(directory, from, directory, to);
}

static int real_unlinkat(int directory, const char *name)
{
	return unlinkat(directory, name, 0);
}

struct image_io image_io = {
	.openat = real_openat,
	.mkdir = mkdir,
	.renameat = real_renameat,
	.unlinkat = real_unlinkat,
	.rmdir = rmdir,
	.pwritev = pwritev,
	.ftruncate = ftruncate,
	.fsync = fsync,
	.fdatasync = fdatasync,
	.fallocate = fallocate,
	.close = close,
};

uint64_t io_size_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_FSIZE, &limit) || limit.rlim_cur == RLIM_INFINITY)
		return INT64_MAX;
	return limit.rlim_cur < INT64_MAX ? limit.rlim_cur : INT64_MAX;
}

int io_write_all(int fd, struct iovec *parts, int count, uint64_t offset)
{
	uint64_t size = 0;

	for (int i = 0; i < count; i++)
		size += parts[i].iov_len;
	if (offset + size > io_size_limit())
		return -EFBIG;
	while (count) {
		ssize_t written;

		if (!parts->iov_len) {
			parts++;
			count--;
			continue;
		}
		written = image_io.pwritev(fd, parts, count, (off_t)offset);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return written ? -errno : -EIO;
		offset += (uint64_t)written;
		while (count && (size_t)written >= parts->iov_len) {
			written -= (ssize_t)parts->iov_len;
			parts++;
			count--;
		}
		if (count) {
			parts->iov_base = (char *)parts->iov_base + written;
			parts->iov_len -= (size_t)written;
		}
	}
	return 0;
}
