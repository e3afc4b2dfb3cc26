/* SPDX-License-Identifier: MIT */
/*
 * A dry run of power loss. The shim takes the place of the file operations of
 * image and drainer, carries them out and records them. Then it makes the
 * directory as it may look after the power went at any point of the record:
 *
 *   - what was synced is there;
 *   - a write that was not may be there, be missing, be torn at any byte or
 *     in any of its sectors, or have left only zeros and the file's new size;
 *     later ones may be there although earlier ones are not;
 *   - a name that was made, changed or removed without a sync of its directory
 *     may be as it was before, each on its own.
 *
 * This is harsher than any file system: they keep names in order.
 */
#ifndef POWER_SHIM_H
#define POWER_SHIM_H

#include "check.h"
#include "image_io.h"
#include "temp.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum power_kind {
	POWER_WRITE,
	POWER_TRUNCATE,
	POWER_SYNC,
	POWER_NAME,   /* `name` is now `file`; -1: it is gone */
	POWER_RENAME, /* the same, and `from` is gone */
	POWER_SYNC_NAMES,
	POWER_MKDIR,
	POWER_SYNC_PARENT,
	POWER_EVENT, /* something that the test wants to know of */
};

struct power_op {
	enum power_kind kind;
	int file;
	uint64_t offset; /* write; truncate: the size; event: its number */
	uint64_t value;  /* event */
	unsigned char *data;
	size_t size;
	char name[32];
	char from[32];
};

#define POWER_OPS 8192
#define POWER_FDS 4096
#define POWER_NAMES 64

enum { POWER_FD_NONE = -1, POWER_FD_DIRECTORY = -2, POWER_FD_PARENT = -3 };

struct power_record {
	struct power_op ops[POWER_OPS];
	size_t count;
	size_t first; /* earlier ones are what was there at first */
	int files;
};

static struct power_record *power_record;
static const char *power_path;
static pthread_mutex_t power_lock = PTHREAD_MUTEX_INITIALIZER;
static int power_fds[POWER_FDS];
static struct image_io power_real;
static struct {
	char name[32];
	int file;
} power_names[POWER_NAMES];

static struct power_op *power_add(enum power_kind kind, int file)
{
	struct power_op *op = &power_record->ops[power_record->count];

	CHECK(power_record->count++ < POWER_OPS);
	memset(op, 0, sizeof(*op));
	op->kind = kind;
	op->file = file;
	return op;
}

/* ----------------------------------------------------------- recording -- */

static int *power_name(const char *name, bool make)
{
	int free_one = -1;

	for (int i = 0; i < POWER_NAMES; i++) {
		if (!strcmp(power_names[i].name, name))
			return &power_names[i].file;
		if (!power_names[i].name[0] && free_one < 0)
			free_one = i;
	}
	if (!make)
		return NULL;
	CHECK(free_one >= 0);
	snprintf(power_names[free_one].name, sizeof(power_names[0].name), "%s", name);
	power_names[free_one].file = -1;
	return &power_names[free_one].file;
}

static void power_forget(const char *name)
{
	for (int i = 0; i < POWER_NAMES; i++)
		if (!strcmp(power_names[i].name, name))
			power_names[i].name[0] = '\0';
}

static int power_open_file(const char *name, int flags)
{
	int *file = power_name(name, true);
	struct power_op *op;

	if (*file < 0) {
		*file = power_record->files++;
		op = power_add(POWER_NAME, *file);
		snprintf(op->name, sizeof(op->name), "%s", name);
	} else if (flags & O_TRUNC) {
		power_add(POWER_TRUNCATE, *file);
	}
	return *file;
}

static int power_openat(int directory, const char *name, int flags, mode_t mode)
{
	int fd;

	pthread_mutex_lock(&power_lock);
	fd = power_real.openat(directory, name, flags, mode);
	if (fd >= 0) {
		CHECK(fd < POWER_FDS);
		if (directory == AT_FDCWD)
			power_fds[fd] = strcmp(name, power_path) ? POWER_FD_PARENT :
								   POWER_FD_DIRECTORY;
		else
			power_fds[fd] = power_open_file(name, flags);
	}
	pthread_mutex_unlock(&power_lock);
	return fd;
}

static int power_close(int fd)
{
	pthread_mutex_lock(&power_lock);
	power_fds[fd] = POWER_FD_NONE;
	fd = power_real.close(fd);
	pthread_mutex_unlock(&power_lock);
	return fd;
}

static int power_mkdir(const char *path, mode_t mode)
{
	int result;

	pthread_mutex_lock(&power_lock);
	result = power_real.mkdir(path, mode);
	if (!result)
		power_add(POWER_MKDIR, -1);
	pthread_mutex_unlock(&power_lock);
	return result;
}

static int power_renameat(int directory, const char *from, const char *to)
{
	struct power_op *op;
	int result;

	pthread_mutex_lock(&power_lock);
	result = power_real.renameat(directory, from, to);
	if (!result) {
		op = power_add(POWER_RENAME, *power_name(from, false));
		snprintf(op->name, sizeof(op->name), "%s", to);
		snprintf(op->from, sizeof(op->from), "%s", from);
		power_forget(from);
		*power_name(to, true) = op->file;
	}
	pthread_mutex_unlock(&power_lock);
	return result;
}

static int power_unlinkat(int directory, const char *name)
{
	struct power_op *op;
	int result;

	pthread_mutex_lock(&power_lock);
	result = power_real.unlinkat(directory, name);
	if (!result) {
		op = power_add(POWER_NAME, -1);
		snprintf(op->name, sizeof(op->name), "%s", name);
		power_forget(name);
	}
	pthread_mutex_unlock(&power_lock);
	return result;
}

static ssize_t power_pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
	struct power_op *op;
	ssize_t result;

	pthread_mutex_lock(&power_lock);
	result = power_real.pwritev(fd, parts, count, offset);
	CHECK(result > 0 && power_fds[fd] >= 0);
	op = power_add(POWER_WRITE, power_fds[fd]);
	op->offset = (uint64_t)offset;
	op->data = malloc((size_t)result);
	for (int i = 0; i < count; i++) {
		memcpy(op->data + op->size, parts[i].iov_base, parts[i].iov_len);
		op->size += parts[i].iov_len;
	}
	CHECK(op->size == (size_t)result);
	pthread_mutex_unlock(&power_lock);
	return result;
}

static int power_ftruncate(int fd, off_t size)
{
	int result;

	pthread_mutex_lock(&power_lock);
	result = power_real.ftruncate(fd, size);
	power_add(POWER_TRUNCATE, power_fds[fd])->offset = (uint64_t)size;
	pthread_mutex_unlock(&power_lock);
	return result;
}

static int power_sync(int fd)
{
	int file;

	pthread_mutex_lock(&power_lock);
	file = power_fds[fd];
	if (file == POWER_FD_DIRECTORY)
		power_add(POWER_SYNC_NAMES, -1);
	else if (file == POWER_FD_PARENT)
		power_add(POWER_SYNC_PARENT, -1);
	else
		power_add(POWER_SYNC, file);
	CHECK(file != POWER_FD_NONE);
	pthread_mutex_unlock(&power_lock);
	return 0;
}

static int power_fallocate(int fd, int mode, off_t offset, off_t size)
{
	(void)fd;
	(void)mode;
	(void)offset;
	(void)size;
	return 0;
}

__attribute__((unused)) static void power_event(uint64_t number, uint64_t value)
{
	struct power_op *op;

	pthread_mutex_lock(&power_lock);
	op = power_add(POWER_EVENT, -1);
	op->offset = number;
	op->value = value;
	pthread_mutex_unlock(&power_lock);
}

/* What is there already counts as synced. */
static void power_load(const char *path)
{
	DIR *directory = opendir(path);
	struct dirent *entry;
	char file[PATH_MAX];

	if (!directory)
		return;
	power_add(POWER_MKDIR, -1);
	power_add(POWER_SYNC_PARENT, -1);
	while ((entry = readdir(directory))) {
		struct power_op *op;
		struct stat st;
		int fd;

		if (entry->d_name[0] == '.')
			continue;
		CHECK(snprintf(file, sizeof(file), "%s/%s", path, entry->d_name) < PATH_MAX);
		fd = open(file, O_RDONLY);
		CHECK(fd >= 0 && !fstat(fd, &st));
		power_open_file(entry->d_name, 0);
		op = power_add(POWER_WRITE, power_record->files - 1);
		op->size = (size_t)st.st_size;
		op->data = malloc(op->size + 1);
		CHECK(read(fd, op->data, op->size) == st.st_size);
		close(fd);
		power_add(POWER_SYNC, power_record->files - 1);
	}
	power_add(POWER_SYNC_NAMES, -1);
	closedir(directory);
}

static void power_start(struct power_record *record, const char *path)
{
	memset(record, 0, sizeof(*record));
	memset(power_names, 0, sizeof(power_names));
	memset(power_fds, 0xff, sizeof(power_fds));
	power_record = record;
	power_path = path;
	power_load(path);
	record->first = record->count;
	power_real = image_io;
	image_io = (struct image_io){
		.openat = power_openat,
		.mkdir = power_mkdir,
		.renameat = power_renameat,
		.unlinkat = power_unlinkat,
		.rmdir = power_real.rmdir,
		.pwritev = power_pwritev,
		.ftruncate = power_ftruncate,
		.fsync = power_sync,
		.fdatasync = power_sync,
		.fallocate = power_fallocate,
		.close = power_close,
	};
}

static void power_stop(void)
{
	image_io = power_real;
}

static void power_free(struct power_record *record)
{
	for (size_t i = 0; i < record->count; i++)
		free(record->ops[i].data);
}

/* ------------------------------------------------------------ replaying -- */

/* What becomes of operations that were not synced. */
enum power_mode {
	POWER_NONE, /* all are lost */
	POWER_ALL,  /* none: only the process died */
	POWER_NAMES_ONLY,
	POWER_DATA_ONLY,
	POWER_RANDOM,
};

struct power_file {
	unsigned char *data;
	size_t size;
	size_t room;
};

static void power_resize(struct power_file *file, size_t size)
{
	if (size > file->room) {
		file->room = size * 2;
		file->data = realloc(file->data, file->room);
		CHECK(file->data);
	}
	if (size > file->size)
		memset(file->data + file->size, 0, size - file->size);
	file->size = size;
}

static void power_apply(struct power_file *file, const struct power_op *op, size_t from, size_t to)
{
	if (op->kind == POWER_TRUNCATE) {
		power_resize(file, op->offset);
		return;
	}
	if (op->offset + to > file->size)
		power_resize(file, op->offset + to);
	if (to > from)
		memcpy(file->data + op->offset + from, op->data + from, to - from);
}

static void power_apply_torn(struct power_file *file, const struct power_op *op,
			     unsigned long long *seed)
{
	unsigned long long how = check_random(seed) % 6;

	if (how == 0)
		return;
	if (how == 1 || op->kind == POWER_TRUNCATE) {
		power_apply(file, op, 0, op->size);
		return;
	}
	if (how == 2) {
		power_apply(file, op, 0, op->size ? check_random(seed) % op->size : 0);
		return;
	}
	/* Size first: the rest are zeros, or sectors that made it. */
	if (op->offset + op->size > file->size)
		power_resize(file, op->offset + op->size);
	if (how == 3)
		return;
	for (size_t at = 0, end; at < op->size; at = end) {
		end = ((op->offset + at) / 512 + 1) * 512 - op->offset;
		if (end > op->size)
			end = op->size;
		if (check_random(seed) % 2)
			power_apply(file, op, at, end);
	}
}

static bool power_keeps(enum power_mode mode, bool names, unsigned long long *seed)
{
	switch (mode) {
	case POWER_NONE:
		return false;
	case POWER_ALL:
		return true;
	case POWER_NAMES_ONLY:
		return names;
	case POWER_DATA_ONLY:
		return !names;
	default:
		return check_random(seed) % 2;
	}
}

/* Is op i, one of the first `end`, safe by a later sync? */
static bool power_is_safe(const struct power_record *record, size_t i, size_t end)
{
	const struct power_op *op = &record->ops[i];

	for (; i < end; i++) {
		const struct power_op *later = &record->ops[i];

		switch (op->kind) {
		case POWER_WRITE:
		case POWER_TRUNCATE:
			if (later->kind == POWER_SYNC && later->file == op->file)
				return true;
			break;
		case POWER_NAME:
		case POWER_RENAME:
			if (later->kind == POWER_SYNC_NAMES)
				return true;
			break;
		case POWER_MKDIR:
			if (later->kind == POWER_SYNC_PARENT)
				return true;
			break;
		default:
			return true;
		}
	}
	return false;
}

struct power_disk {
	struct power_file *files;
	char names[POWER_NAMES][32];
	int of[POWER_NAMES];
	bool directory;
};

static void power_set_name(struct power_disk *disk, const char *name, int file)
{
	int slot = -1;

	for (int i = 0; i < POWER_NAMES; i++) {
		if (!strcmp(disk->names[i], name)) {
			slot = i;
			break;
		}
		if (slot < 0 && !disk->names[i][0])
			slot = i;
	}
	CHECK(slot >= 0);
	snprintf(disk->names[slot], sizeof(disk->names[0]), "%s", file < 0 ? "" : name);
	disk->of[slot] = file;
}

static void power_replay(struct power_disk *disk, const struct power_record *record, size_t end,
			 enum power_mode mode, unsigned long long *seed)
{
	for (size_t i = 0; i < end; i++) {
		const struct power_op *op = &record->ops[i];
		bool safe = power_is_safe(record, i, end);
		bool names = op->kind != POWER_WRITE && op->kind != POWER_TRUNCATE;
		bool torn = !safe && !names && mode == POWER_RANDOM;

		if (!torn && !safe && !power_keeps(mode, names, seed))
			continue;
		switch (op->kind) {
		case POWER_WRITE:
		case POWER_TRUNCATE:
			if (torn)
				power_apply_torn(&disk->files[op->file], op, seed);
			else
				power_apply(&disk->files[op->file], op, 0, op->size);
			break;
		case POWER_RENAME:
			power_set_name(disk, op->from, -1);
			/* fall through */
		case POWER_NAME:
			power_set_name(disk, op->name, op->file);
			break;
		case POWER_MKDIR:
			disk->directory = true;
			break;
		default:
			break;
		}
	}
}

/* The directory `path`, as it may be when the power goes before op `end`. */
static void power_make(const struct power_record *record, size_t end, enum power_mode mode,
		       unsigned long long *seed, const char *path)
{
	struct power_disk disk = { .files = calloc((size_t)record->files + 1,
						   sizeof(struct power_file)) };
	char file[PATH_MAX];

	CHECK(disk.files);
	power_replay(&disk, record, end, mode, seed);
	temp_remove(path);
	if (disk.directory)
		CHECK(!mkdir(path, 0777));
	for (int i = 0; disk.directory && i < POWER_NAMES; i++) {
		const struct power_file *from = &disk.files[disk.of[i]];
		int fd;

		if (!disk.names[i][0])
			continue;
		snprintf(file, sizeof(file), "%s/%s", path, disk.names[i]);
		fd = open(file, O_WRONLY | O_CREAT | O_EXCL, 0666);
		CHECK(fd >= 0);
		CHECK(write(fd, from->data, from->size) == (ssize_t)from->size);
		close(fd);
	}
	for (int i = 0; i < record->files; i++)
		free(disk.files[i].data);
	free(disk.files);
}

#endif
