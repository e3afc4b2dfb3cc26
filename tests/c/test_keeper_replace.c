/* SPDX-License-Identifier: MIT */
/* Another image in the place of a follower's: a crash or an error at any
 * operation leaves one or the other, whole. */
#include "image_internal.h"
#include "image_io.h"
#include "keeper_tools.h"

#include <signal.h>
#include <sys/wait.h>

static void push_epochs(const char *path, uint64_t count)
{
	static struct change change;
	struct image *image = open_image(path, false, 0);
	struct drainer *drainer = start(image, 65536);

	for (uint64_t epoch = image->last_epoch + 1; count--; epoch++) {
		make_change(epoch, &change);
		if (epoch == 1 || epoch == 5) {
			struct layout layout = layout_of(epoch == 1 ? 1 : 2,
							 epoch == 1 ? "small" : "large",
							 epoch == 1 ? SMALL : LARGE, LARGE);
			struct hac_run run = { change.offset, change.size, change.area };
			struct transaction_record t = { epoch,      &layout, 1, NULL,
							0,          &run,    1, change.bytes,
							change.size };

			CHECK_OK(drainer_push(drainer, &t, true));
		} else {
			CHECK_OK(push_run(drainer, epoch, change.area, change.offset, change.bytes,
					  change.size));
		}
	}
	CHECK_OK(drainer_stop(drainer));
	image_close(image);
}

/* ------------------------------------------------------- broken operations -- */

static struct image_io real;
static int until_end; /* operations */
static bool fails;    /* with EIO, from then on; else it dies, before or behind it */
static bool behind;

static bool is_next(void)
{
	if (--until_end > 0 || (until_end < 0 && !fails))
		return false;
	if (!fails && !behind)
		raise(SIGKILL);
	errno = EIO;
	return true;
}

#define ENDING(call)                    \
	do {                            \
		bool now_ = is_next();  \
		int result_;            \
		if (now_ && fails)      \
			return -1;      \
		result_ = call;         \
		if (now_)               \
			raise(SIGKILL); \
		return result_;         \
	} while (0)

static int ending_openat(int directory, const char *name, int flags, mode_t mode)
{
	ENDING(real.openat(directory, name, flags, mode));
}

static int ending_renameat(int directory, const char *from, const char *to)
{
	ENDING(real.renameat(directory, from, to));
}

static int ending_unlinkat(int directory, const char *name)
{
	ENDING(real.unlinkat(directory, name));
}

static int ending_rmdir(const char *path)
{
	ENDING(real.rmdir(path));
}

static int ending_ftruncate(int fd, off_t size)
{
	ENDING(real.ftruncate(fd, size));
}

static int ending_fsync(int fd)
{
	ENDING(real.fsync(fd));
}

static void end_at(int operations)
{
	real = image_io;
	until_end = operations;
	image_io.openat = ending_openat;
	image_io.renameat = ending_renameat;
	image_io.unlinkat = ending_unlinkat;
	image_io.rmdir = ending_rmdir;
	image_io.ftruncate = ending_ftruncate;
	image_io.fsync = ending_fsync;
}

/* -------------------------------------------------------------- the test -- */

struct stage {
	const char *path;
	const char *incoming;
	const char *old;
	const char *new;
};

static void set_stage(const struct stage *stage)
{
	copy_tree(stage->old, stage->path);
	copy_tree(stage->new, stage->incoming);
}

/* In a child: 0 it was replaced, 1 it failed. */
static int replace_in_child(const struct stage *stage, int operations)
{
	struct hac_keeper_options options = keeper_options(0, -1);
	hac_keeper *keeper;
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	CHECK(child >= 0);
	if (!child) {
		CHECK_OK(hac_keeper_open(stage->path, &options, &keeper));
		end_at(operations);
		status = hac_keeper_replace(keeper, stage->incoming);
		if (status && !(fails && status == -EIO))
			fprintf(stderr, "operation %d: %d: %s\n", operations, status,
				hac_error_detail());
		_exit(!status ? 0 : fails && status == -EIO ? 1 : 2);
	}
	CHECK(waitpid(child, &status, 0) == child);
	if (WIFSIGNALED(status))
		return 1;
	CHECK_MSG(WEXITSTATUS(status) < 2, "operation %d", operations);
	return WEXITSTATUS(status);
}

/* The old one has 9 epochs, the new one 14. Every other time an application
 * opens it, with hac_open(). */
static bool check_stage(const struct stage *stage, int operations)
{
	struct hac_place place;
	uint64_t epoch;

	if (operations % 2) {
		hac_keeper *keeper = open_keeper(stage->path, 0, -1);

		place = place_of(keeper);
		epoch = place.epoch;
		CHECK_MSG(epoch == 9 || epoch == 14, "epoch %d", (int)epoch);
		CHECK(place.generation == (epoch == 9 ? 2 : 3));
		hac_keeper_close(keeper);
	} else {
		struct image *image = open_image(stage->path, false, 0);

		epoch = image->epoch;
		image_close(image);
	}
	check_epochs(stage->path, epoch);
	CHECK(access(in(stage->path, "replacement"), F_OK));
	CHECK(access(in(stage->path, "replacement.cleared"), F_OK));
	return epoch == 14;
}

static void end_everywhere(const struct stage *stage)
{
	bool was_new = false;
	int operations = 1, ended;

	do {
		bool is_new;

		set_stage(stage);
		ended = replace_in_child(stage, operations);
		is_new = check_stage(stage, operations);
		CHECK_MSG(is_new || !was_new, "operation %d", operations);
		/* What was not taken is still there. */
		CHECK(is_new == !!access(stage->incoming, F_OK));
		was_new = is_new;
		CHECK(++operations < 1000);
	} while (ended);
	CHECK(was_new && operations > 15);
	printf("  %d operations\n", operations - 2);
}

static void refusals(const struct stage *stage)
{
	char *other = strdup(temp_path("other"));
	struct bytes base;
	hac_keeper *keeper;

	set_stage(stage);
	keeper = open_keeper(stage->path, 0, -1);
	push_epochs(other, 3);
	CHECK_IS(hac_keeper_replace(keeper, other), -EINVAL);
	CHECK_DETAIL("holds image");
	CHECK_IS(hac_keeper_replace(keeper, temp_path("nothing")), -ENOENT);
	base = read_file(in(stage->incoming, "base"));
	base.data[200] ^= 1;
	write_file(in(stage->incoming, "base"), base.data, base.size);
	CHECK_IS(hac_keeper_replace(keeper, stage->incoming), -EBADMSG);
	base.data[200] ^= 1;
	write_file(in(stage->incoming, "base"), base.data, base.size);
	CHECK_IS(place_of(keeper).epoch, 9);
	/* It is locked all the time. */
	image_limits.keeper_ms = 20;
	CHECK_IS(image_open(stage->path, NULL, &(struct image *){ NULL }), -EUSERS);
	CHECK_OK(hac_keeper_replace(keeper, stage->incoming));
	CHECK_IS(image_open(stage->path, NULL, &(struct image *){ NULL }), -EUSERS);
	CHECK_IS(place_of(keeper).epoch, 14);
	hac_keeper_close(keeper);
	check_epochs(stage->path, 14);
	/* Anything may come in the place of a new one. */
	temp_remove(stage->path);
	keeper = open_keeper(stage->path, HAC_KEEPER_CREATE, -1);
	CHECK_OK(hac_keeper_replace(keeper, other));
	CHECK_IS(place_of(keeper).epoch, 3);
	hac_keeper_close(keeper);
	check_epochs(stage->path, 3);
	free(base.data);
	free(other);
}

/* A reader without lock never takes a mixture for an image. */
static void readers(const struct stage *stage)
{
	struct hac_check check = { .size = sizeof(check) };
	struct image_options readonly = { .readonly = true };
	struct image *image;

	set_stage(stage);
	CHECK(!rename(stage->incoming, in(stage->path, "replacement")));
	CHECK_IS(image_open(stage->path, &readonly, &image), -EAGAIN);
	CHECK_DETAIL("is being replaced");
	CHECK_IS(hac_check_image(stage->path, &check), -EAGAIN);
	image_close(open_image(stage->path, false, 0));
	check_epochs(stage->path, 14);
}

int main(void)
{
	static struct stage stage;

	use_memory();
	image_limits.segment_bytes = 20000;
	stage.path = strdup(temp_path("image"));
	stage.incoming = strdup(temp_path("incoming"));
	stage.old = strdup(temp_path("a"));
	stage.new = strdup(temp_path("b"));
	push_epochs(stage.old, 4);
	push_epochs(stage.old, 5);
	copy_tree(stage.old, stage.new);
	push_epochs(stage.new, 5);
	printf("dies before\n");
	end_everywhere(&stage);
	behind = true;
	printf("dies behind\n");
	end_everywhere(&stage);
	fails = true;
	printf("fails\n");
	end_everywhere(&stage);
	refusals(&stage);
	readers(&stage);
	return 0;
}
