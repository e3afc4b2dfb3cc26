// SPDX-License-Identifier: MIT
#include "image_internal.h"

#include "error.h"
#include "image_io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct image_limits image_limits = {
	.segment_bytes = JOURNAL_SEGMENT_BYTES,
	.compact_bytes = (uint64_t)64 << 20,
	.compact_segments = 1000,
	.drain_ms = 60000,
	.keeper_ms = 1000,
};

/* ---------------------------------------------------------- directory -- */

static int directory_failed(const char *path, int error)
{
	if (error == ENOTDIR)
		return hac_fail(ENOTDIR,
				"image %s: it, or what it is said to lie in, is not a directory; "
				"an image is a directory",
				path);
	return hac_fail(error, "image %s cannot be opened: %s", path, strerror(error));
}

static int make_directory(const char *path)
{
	if (!image_io.mkdir(path, 0777)) {
		int error = image_sync_parent(path);

		return error ? directory_failed(path, -error) : 0;
	}
	/* Somebody else was faster. */
	if (errno == EEXIST)
		return 0;
	if (errno == ENOENT)
		return hac_fail(ENOENT,
				"image %s cannot be created: the directory that it is to lie in "
				"does not exist",
				path);
	if (errno == EROFS || errno == EACCES)
		return hac_fail(errno, "image %s cannot be created: %s", path, strerror(errno));
	return directory_failed(path, errno);
}

int image_open_directory(const char *path, bool create, int *out)
{
	int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC, error;

	if (!*path)
		return hac_fail(EINVAL, "the path of the image is empty");
	*out = image_io.openat(AT_FDCWD, path, flags, 0);
	if (*out < 0 && errno == ENOENT && create) {
		error = make_directory(path);
		if (error)
			return error;
		*out = image_io.openat(AT_FDCWD, path, flags, 0);
	}
	if (*out < 0 && errno == ENOENT)
		return hac_fail(ENOENT, "there is no image %s", path);
	return *out < 0 ? directory_failed(path, errno) : 0;
}

/* What a creation that crashed may have left, the layout file being last. */
static bool is_leftover(int directory, const char *name)
{
	struct stat st;

	if (!strcmp(name, IMAGE_FILE_LOCK) || !strcmp(name, IMAGE_FILE_BASE) ||
	    !strcmp(name, IMAGE_FILE_BASE ".tmp") || !strcmp(name, IMAGE_FILE_LAYOUT ".tmp"))
		return true;
	return !strcmp(name, IMAGE_FILE_JOURNAL "00000001") && !fstatat(directory, name, &st, 0) &&
	       !st.st_size;
}

static bool exists(int directory, const char *name)
{
	return !faccessat(directory, name, F_OK, 0);
}

/* A base without a layout file: of a new image without areas, or the rest of
 * one that somebody has lost? */
static bool base_is_new(int directory)
{
	const unsigned char *payload;
	struct frame_header header;
	struct frame_file file;
	bool new = false;

	if (frame_file_open(directory, IMAGE_FILE_BASE, NULL, &file))
		return false;
	if (!frame_file_check(&file, 0, &header, &payload))
		new = !header.last_epoch;
	frame_file_close(&file);
	return new;
}

int image_classify(int directory, const char *path)
{
	DIR *list;
	struct dirent *entry;
	bool foreign = false, journal = false;
	int fd;

	if (exists(directory, IMAGE_FILE_LAYOUT))
		return 1;
	fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	list = fd < 0 ? NULL : fdopendir(fd);
	if (!list) {
		int error = errno;

		if (fd >= 0)
			close(fd);
		return directory_failed(path, error);
	}
	while ((entry = readdir(list))) {
		const char *name = entry->d_name;

		if (!strcmp(name, ".") || !strcmp(name, "..") || is_leftover(directory, name))
			continue;
		foreign = true;
		if (!strncmp(name, IMAGE_FILE_JOURNAL, strlen(IMAGE_FILE_JOURNAL)))
			journal = true;
	}
	closedir(list);
	if (journal || (exists(directory, IMAGE_FILE_BASE) && !base_is_new(directory)))
		return hac_fail(EBADMSG,
				"image %s is damaged: its file " IMAGE_FILE_LAYOUT " is missing; "
				"restore it from a copy",
				path);
	if (foreign)
		return hac_fail(EINVAL,
				"%s is not an image: a directory with other files in it; name a "
				"new or empty directory",
				path);
	return 0;
}

/* ------------------------------------------------------------ writing -- */

/* Cut what the survey found behind the last whole transaction. The order
 * matters: a gap between segments would count as damage. */
static int cut_end(const struct recovery *recovery)
{
	char name[32];
	int error = 0, fd;

	for (size_t i = recovery->segments_count; --i > recovery->end_segment;) {
		segment_name(name, recovery->segments[i]);
		if (image_io.unlinkat(recovery->directory, name) ||
		    image_io.fsync(recovery->directory))
			return hac_fail(errno, "%s/%s cannot be removed: %s", recovery->path, name,
					strerror(errno));
	}
	segment_name(name, recovery->segments[recovery->end_segment]);
	fd = image_io.openat(recovery->directory, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0);
	if (fd < 0 || image_io.ftruncate(fd, (off_t)recovery->end_offset) || image_io.fsync(fd))
		error = hac_fail(errno, "%s/%s cannot be cut: %s", recovery->path, name,
				 strerror(errno));
	if (fd >= 0)
		image_io.close(fd);
	return error;
}

/* The segment that comes next: an empty one at the end is used. */
uint64_t image_next_segment(const struct recovery *recovery)
{
	return recovery->segments[recovery->end_segment] + (recovery->end_offset ? 1 : 0);
}

/* What a crash may have left beside base and journal. */
static void tidy(const struct recovery *recovery)
{
	for (size_t i = 0; i < recovery->superfluous_count; i++)
		image_remove_segments(recovery->directory, recovery->superfluous[i],
				      recovery->superfluous[i] + 1);
	image_remove_leftovers(recovery->directory);
}

static int recover_for_writing(struct recovery *recovery, int directory, const char *path,
			       uint64_t at, const struct frame_key *key)
{
	int error = recovery_survey(recovery, directory, path, at, key);

	if (!error)
		error = recovery_apply(recovery);
	if (!error && recovery->cut)
		error = cut_end(recovery);
	if (!error)
		tidy(recovery);
	return error;
}

int image_survey_for_writing(struct recovery *recovery, const struct image_store *store,
			     const char *path, struct survey *out)
{
	int error =
		recovery_survey_until(recovery, store->directory, path, &store->coding.key, 0, out);

	if (!error && recovery->cut)
		error = cut_end(recovery);
	if (error)
		return error;
	/* Those that were removed are counted no more. */
	if (recovery->cut)
		recovery->segments_count = recovery->end_segment + 1;
	tidy(recovery);
	return 0;
}

int image_heads_for_writing(struct recovery *recovery, const struct image_store *store,
			    const char *path)
{
	int error = recovery_survey_heads(recovery, store->directory, path, &store->coding.key);

	if (!error)
		tidy(recovery);
	return error;
}

/* As the base's first frame says. */
static bool is_encrypted(int directory)
{
	const unsigned char *payload;
	struct frame_header header;
	struct frame_file file;
	bool encrypted = true;

	if (frame_file_open(directory, IMAGE_FILE_BASE, NULL, &file))
		return true;
	if (!frame_file_check(&file, 0, &header, &payload))
		encrypted = header.cipher;
	frame_file_close(&file);
	return encrypted;
}

int image_open_store(const char *path, bool create, struct image_store *store)
{
	const struct image_state nothing = { .count = 0 };
	int error;

	store->directory = -1;
	error = image_open_directory(path, create, &store->directory);
	if (error)
		return error;
	/* Before the lock makes a file in somebody else's directory. */
	error = image_classify(store->directory, path);
	if (error < 0)
		return error;
	error = image_lock_take(store->directory, path, &store->lock);
	if (error)
		return error;
	error = image_finish_replacement(store->directory, path);
	if (error)
		return error;
	error = image_classify(store->directory, path);
	if (!error) {
		if (!create)
			return hac_fail(ENOENT, "there is no image in %s", path);
		error = image_create_files(store->directory, path, &nothing, &store->coding);
	}
	return error < 0 ? error : 0;
}

/* Lock an image and recover it; `recovery` is to be freed in any case. The store
 * has its coding. `encrypt`: it need not be encrypted yet, though there is a key. */
static int open_for_writing(const char *path, bool create, bool encrypt, uint64_t at,
			    struct image_store *store, struct recovery *recovery)
{
	int error;

	memset(recovery, 0, sizeof(*recovery));
	error = image_open_store(path, create, store);
	if (error)
		return error;
	return recover_for_writing(recovery, store->directory, path, at,
				   encrypt && !is_encrypted(store->directory) ? NULL :
										&store->coding.key);
}

void image_close_store(struct image_store *store)
{
	journal_close(&store->journal);
	frame_writer_free(store->journal.writer);
	frame_coding_wipe(&store->coding);
	image_lock_release(store->lock);
	if (store->directory >= 0)
		image_io.close(store->directory);
}

/* --------------------------------------------------------- compacting -- */

bool image_is_long(const struct recovery *recovery, uint64_t areas_bytes)
{
	if (recovery->segments_count > image_limits.compact_segments)
		return true;
	return recovery->journal_bytes > image_limits.compact_bytes &&
	       recovery->journal_bytes / 2 > areas_bytes;
}

static bool is_long(const struct recovery *recovery)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < recovery->areas_count; i++)
		bytes += recovery->areas[i].layout.size;
	return image_is_long(recovery, bytes);
}

int image_write_recovered(struct recovery *recovery, const struct frame_coding *coding,
			  uint64_t segment)
{
	const struct generation *newest = &recovery->generations[recovery->generations_count - 1];
	struct record_base base = {
		.generation = newest->number,
		.parent = newest->parent,
		.branch_epoch = newest->branch_epoch,
		.last_epoch = recovery->last_epoch,
		.first_segment = segment,
		.first_sequence = recovery->next_sequence,
		.next_area_id = recovery->next_area_id,
	};
	size_t count = recovery->areas_count;
	struct layout *layouts = calloc(count + 1, sizeof(*layouts));
	const unsigned char **bytes = calloc(count + 1, sizeof(*bytes));
	struct image_state state = { recovery->epoch, layouts, bytes, count };
	int error = layouts && bytes ? 0 : hac_fail(ENOMEM, "no memory to compact an image");

	for (size_t i = 0; !error && i < count; i++) {
		layouts[i] = recovery->areas[i].layout;
		bytes[i] = recovery->areas[i].contents;
	}
	if (!error)
		error = image_write_base(recovery->directory, recovery->path, recovery->uuid, &base,
					 &state, coding);
	if (!error)
		recovery->base = base;
	free(layouts);
	free(bytes);
	return error;
}

/* Replace base and journal by a base of what was recovered, and an empty
 * segment. */
static int compact_recovered(struct recovery *recovery, const struct frame_coding *coding)
{
	uint64_t segment = image_next_segment(recovery);
	int error, fd = journal_create_segment(recovery->directory, segment);

	if (fd < 0)
		return hac_fail(-fd, "%s: a segment cannot be made: %s", recovery->path,
				strerror(-fd));
	image_io.close(fd);
	error = image_write_recovered(recovery, coding, segment);
	if (!error)
		image_remove_segments(recovery->directory, recovery->segments[0], segment);
	return error;
}

int hac_compact_image(const char *path)
{
	struct image_store store = { .directory = -1, .journal.fd = -1 };
	struct recovery recovery;
	int error;

	if (!path)
		return hac_fail(EINVAL, "the path of the image is NULL");
	memset(&recovery, 0, sizeof(recovery));
	error = frame_coding_load(HAC_CODEC_NONE, NULL, &store.coding);
	if (!error)
		error = open_for_writing(path, false, true, 0, &store, &recovery);
	if (!error)
		error = compact_recovered(&recovery, &store.coding);
	recovery_free(&recovery);
	image_close_store(&store);
	return error;
}

/* ------------------------------------------------------------ opening -- */

/* The first frame of an opening. The number stands in it, so whatever it writes
 * later can be told from what others wrote. */
int image_begin_generation(struct image_store *store, const struct recovery *recovery,
			   const struct record_generation *generation, uint64_t segment)
{
	struct journal *journal = &store->journal;
	struct record record = {
		.kind = RECORD_GENERATION,
		.epoch = generation->branch_epoch,
		.generation = *generation,
	};
	struct frame_header header = { .first_epoch = 0 };
	_Alignas(8) unsigned char payload[64];
	int error;

	image_prepare_journal(store, recovery);
	journal->generation = generation->generation;
	journal->segment = segment;
	error = frame_writer_create(&store->coding, &journal->writer);
	if (error)
		return hac_fail(-error, "no memory to write to image %s", recovery->path);
	error = journal_open_segment(journal, segment);
	if (error)
		return error;
	return journal_append(journal, &header, payload, record_encode(payload, &record));
}

void image_prepare_journal(struct image_store *store, const struct recovery *recovery)
{
	struct journal *journal = &store->journal;

	memcpy(journal->uuid, recovery->uuid, sizeof(journal->uuid));
	journal->directory = recovery->directory;
	journal->path = recovery->path;
	journal->sequence = recovery->next_sequence;
	journal->segment_bytes = image_limits.segment_bytes;
}

static void take_state(struct image *image, struct recovery *recovery)
{
	memcpy(image->uuid, recovery->uuid_text, sizeof(image->uuid));
	memcpy(image->store->uuid, recovery->uuid, sizeof(recovery->uuid));
	image->epoch = recovery->epoch;
	image->last_epoch = recovery->last_epoch;
	image->dropped_bytes = image->readonly ? 0 : recovery->dropped_bytes;
	image->dropped_epoch = image->readonly ? 0 : recovery->dropped_epoch;
	image->next_area_id = recovery->next_area_id;
	image->generation = recovery->generation->number;
	image->parent = recovery->generation->parent;
	image->branch_epoch = recovery->generation->branch_epoch;
	image->end.segment = recovery->segments[recovery->end_segment];
	image->end.offset = recovery->end_offset;
	image->end.sequence = recovery->next_sequence;
	image->areas = recovery->areas;
	image->areas_count = recovery->areas_count;
	recovery->areas = NULL;
	recovery->areas_count = 0;
}

static int open_readonly(struct image *image, uint64_t at)
{
	struct recovery recovery;
	int error = image_open_directory(image->path, false, &image->store->directory);

	if (error)
		return error;
	error = image_classify(image->store->directory, image->path);
	if (!error)
		return hac_fail(ENOENT, "there is no image in %s", image->path);
	if (error < 0)
		return error;
	error = recovery_read(&recovery, image->store->directory, image->path, at,
			      &image->store->coding.key, true);
	if (!error)
		take_state(image, &recovery);
	recovery_free(&recovery);
	return error;
}

static int open_writable(struct image *image, uint64_t at)
{
	struct image_store *store = image->store;
	struct recovery recovery;
	uint64_t segment = 0;
	int error = open_for_writing(image->path, true, false, at, store, &recovery);

	if (!error) {
		/* Older epochs were asked for: then somebody wants to keep
		 * them. And an image too large for its disk can be opened. */
		if (!at && is_long(&recovery) && !compact_recovered(&recovery, &store->coding))
			segment = recovery.base.first_segment;
		if (!segment)
			segment = image_next_segment(&recovery);
		store->first_segment = recovery.base.first_segment;
		take_state(image, &recovery);
		image->parent = recovery.generation->number;
		image->branch_epoch = recovery.epoch;
		image->generation = recovery.last_generation + 1;
		recovery.path = image->path;
		error = image_begin_generation(store, &recovery,
					       &(struct record_generation){ image->generation,
									    image->parent,
									    image->branch_epoch },
					       segment);
	}
	recovery_free(&recovery);
	return error;
}

int image_open(const char *path, const struct image_options *options, struct image **out)
{
	static const struct image_options defaults;
	struct image *image = calloc(1, sizeof(*image));
	int error;

	if (!options)
		options = &defaults;
	if (image) {
		image->path = strdup(path);
		image->store = calloc(1, sizeof(*image->store));
	}
	if (!image || !image->path || !image->store) {
		if (image)
			free(image->path);
		free(image);
		return hac_fail(ENOMEM, "no memory to open image %s", path);
	}
	image->store->directory = image->store->journal.fd = -1;
	image->readonly = options->readonly;
	if (options->coding)
		image->store->coding = *options->coding;
	error = image->readonly ? open_readonly(image, options->at) :
				  open_writable(image, options->at);
	if (error)
		image_close(image);
	else
		*out = image;
	return error;
}

void image_close(struct image *image)
{
	if (!image)
		return;
	image_close_store(image->store);
	image_areas_free(image->areas, image->areas_count);
	free(image->store);
	free(image->path);
	free(image);
}

void image_base_record(const struct image *image, struct record_base *out)
{
	const struct journal *journal = &image->store->journal;

	*out = (struct record_base){
		.generation = image->generation,
		.parent = image->parent,
		.branch_epoch = image->branch_epoch,
		.last_epoch = image->last_epoch,
		.first_segment = journal->segment,
		.first_sequence = journal->sequence,
		.next_area_id = image->next_area_id,
	};
}

/* --------------------------------------------------------------- copy -- */

int image_copy(const struct image_state *state, const struct frame_coding *coding,
	       const char *destination)
{
	int directory, error;

	if (image_io.mkdir(destination, 0777)) {
		if (errno == EEXIST)
			return hac_fail(EEXIST, "%s is there already: a copy needs a new name",
					destination);
		return hac_fail(errno, "image %s cannot be created: %s", destination,
				strerror(errno));
	}
	directory = image_io.openat(AT_FDCWD, destination, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (directory < 0) {
		error = directory_failed(destination, errno);
	} else {
		error = image_create_files(directory, destination, state, coding);
		if (!error && image_sync_parent(destination))
			error = hac_fail(EIO, "the directory of %s cannot be synced", destination);
		if (error) {
			image_remove_leftovers(directory);
			image_remove_segments(directory, 1, 2);
			image_io.unlinkat(directory, IMAGE_FILE_LAYOUT);
			image_io.unlinkat(directory, IMAGE_FILE_BASE);
		}
		image_io.close(directory);
	}
	if (error)
		image_io.rmdir(destination);
	return error;
}
