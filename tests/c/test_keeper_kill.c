/* SPDX-License-Identifier: MIT */
/*
 * A helper dies at any point while it leads, again and again, and another one
 * goes on in its place: the journal holds every transaction once, in order.
 */
#include "frame_tools.h"
#include "image_internal.h"
#include "image_io.h"
#include "image_read.h"
#include "keeper_tools.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* ------------------------------------------- death at a file operation -- */

static struct image_io real;
static _Atomic int until_death; /* operations; 0: not by this */
static _Atomic int death_mode;  /* 0 before it, 1 behind it, 2 in the middle */

static bool dies_now(void)
{
	return atomic_load(&until_death) && atomic_fetch_sub(&until_death, 1) == 1;
}

static void die(void)
{
	raise(SIGKILL);
	for (;;)
		pause();
}

#define DYING(call)                      \
	do {                             \
		bool now_ = dies_now();  \
		if (now_ && !death_mode) \
			die();           \
		result = call;           \
		if (now_)                \
			die();           \
		return result;           \
	} while (0)

static int dying_openat(int directory, const char *name, int flags, mode_t mode)
{
	int result;

	DYING(real.openat(directory, name, flags, mode));
}

static int dying_renameat(int directory, const char *from, const char *to)
{
	int result;

	DYING(real.renameat(directory, from, to));
}

static int dying_unlinkat(int directory, const char *name)
{
	int result;

	DYING(real.unlinkat(directory, name));
}

static ssize_t dying_pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
	bool now = dies_now();
	ssize_t result;

	if (now && death_mode == 2) {
		struct iovec part = parts[0];

		if (count > 1) {
			real.pwritev(fd, parts, 1, offset);
			offset += (off_t)part.iov_len;
			part = parts[1];
		}
		part.iov_len /= 2;
		real.pwritev(fd, &part, 1, offset);
		die();
	}
	if (now && !death_mode)
		die();
	result = real.pwritev(fd, parts, count, offset);
	if (now)
		die();
	return result;
}

static int dying_ftruncate(int fd, off_t size)
{
	int result;

	DYING(real.ftruncate(fd, size));
}

static int dying_fsync(int fd)
{
	int result;

	DYING(real.fsync(fd));
}

static int dying_fdatasync(int fd)
{
	int result;

	DYING(real.fdatasync(fd));
}

static int dying_fallocate(int fd, int mode, off_t offset, off_t size)
{
	int result;

	DYING(real.fallocate(fd, mode, offset, size));
}

static void arm(int operations, int mode)
{
	real = image_io;
	image_io.openat = dying_openat;
	image_io.renameat = dying_renameat;
	image_io.unlinkat = dying_unlinkat;
	image_io.pwritev = dying_pwritev;
	image_io.ftruncate = dying_ftruncate;
	image_io.fsync = dying_fsync;
	image_io.fdatasync = dying_fdatasync;
	image_io.fallocate = dying_fallocate;
	atomic_store(&death_mode, mode);
	atomic_store(&until_death, operations);
}

/* -------------------------------------------------------------- players -- */

struct plan {
	const char *path;
	int ring;
	uint64_t epochs;
	bool compacts;
	int resumes; /* how many did */
};

static pid_t play(void)
{
	pid_t child;

	fflush(stdout);
	child = fork();
	CHECK(child >= 0);
	if (!child)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return child;
}

static void run_producer(const struct plan *plan)
{
	unsigned long long seed = 7;
	struct producer producer;

	attach_producer(&producer, plan->ring);
	for (uint64_t epoch = 1; epoch <= plan->epochs; epoch++) {
		CHECK_OK(produce(&producer, epoch));
		if (check_random(&seed) % 16 == 0)
			CHECK_OK(await_durable(&producer, epoch));
		if (check_random(&seed) % 4 == 0)
			rest((long)(check_random(&seed) % 500));
	}
	CHECK_OK(await_durable(&producer, plan->epochs));
	_exit(0);
}

/* `led`: written to when it leads. Lives until it is killed, or told to drain. */
static void run_keeper(const struct plan *plan, bool resume, int operations, int mode, int led,
		       bool drains)
{
	hac_keeper *keeper;
	char byte = 0;

	if (operations)
		arm(operations, mode);
	keeper =
		open_keeper(plan->path, resume ? HAC_KEEPER_RESUME : HAC_KEEPER_CREATE, plan->ring);
	CHECK_OK(hac_keeper_lead(keeper, -1, 0));
	CHECK(write(led, &byte, 1) == 1);
	while (plan->compacts && !drains) {
		rest(500);
		CHECK_OK(hac_keeper_compact(keeper));
	}
	while (!drains)
		pause();
	CHECK_OK(hac_keeper_drain(keeper));
	hac_keeper_close(keeper);
	_exit(0);
}

static pid_t start_keeper(const struct plan *plan, bool resume, int operations, int mode, int led,
			  bool drains)
{
	pid_t child = play();

	if (!child)
		run_keeper(plan, resume, operations, mode, led, drains);
	return child;
}

/* Does the producer's end show? */
static bool ended(pid_t producer, int *status)
{
	return waitpid(producer, status, WNOHANG) == producer;
}

/* Whoever had many lives gets longer ones: on a busy machine short ones do nothing. */
static void let_die(pid_t keeper, bool by_time, int lives, unsigned long long *seed)
{
	int status;

	if (by_time) {
		rest((long)(check_random(seed) % (2500 + 100 * (unsigned int)lives)));
	} else {
		/* It may live on, if there is nothing to do. */
		for (int i = 0; i < 50; i++) {
			if (waitpid(keeper, &status, WNOHANG) == keeper) {
				CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
				return;
			}
			rest(1000);
		}
	}
	kill(keeper, SIGKILL);
	CHECK(waitpid(keeper, &status, 0) == keeper);
	CHECK_MSG(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %x", status);
}

static int kill_keepers(struct plan *plan, unsigned long long *seed)
{
	int led[2], status = -1, lives = 0;
	pid_t keeper, producer;
	char byte;

	CHECK(!pipe(led));
	/* The first one leads before anything is put in, as with READY. */
	keeper = start_keeper(plan, false, 0, 0, led[1], false);
	CHECK(read(led[0], &byte, 1) == 1);
	producer = play();
	if (!producer)
		run_producer(plan);
	while (!ended(producer, &status)) {
		bool by_time = check_random(seed) % 2;
		unsigned int most = 40 + (unsigned int)lives / 4;
		int operations = by_time ? 0 : 1 + (int)(check_random(seed) % most);

		let_die(keeper, by_time || !lives, lives, seed);
		keeper = start_keeper(plan, true, operations, (int)(check_random(seed) % 3), led[1],
				      false);
		CHECK(++lives < 100000);
	}
	CHECK_MSG(!status, "the producer ended with %x", status);
	kill(keeper, SIGKILL);
	CHECK(waitpid(keeper, &status, 0) == keeper);
	keeper = start_keeper(plan, true, 0, 0, led[1], true);
	CHECK(waitpid(keeper, &status, 0) == keeper && !status);
	close(led[0]);
	close(led[1]);
	return lives;
}

/* All frames of the journal are encrypted, and no two with one nonce: each helper had
 * a salt of its own. */
static void check_nonces(const char *path)
{
	static struct frame_header headers[8192];
	int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	size_t count = 0, salts = 0;

	CHECK(directory >= 0);
	for (uint64_t segment = 1;; segment++) {
		const unsigned char *payload;
		struct frame_file file;
		uint64_t offset = 0;
		char name[32];
		int error;

		segment_name(name, segment);
		if (frame_file_open(directory, name, NULL, &file))
			break;
		while (!(error = frame_file_check(&file, offset, &headers[count], &payload))) {
			offset += frame_size(&headers[count++]);
			CHECK(count < sizeof(headers) / sizeof(headers[0]));
		}
		CHECK_IS(error, -ENODATA);
		frame_file_close(&file);
	}
	close(directory);
	for (size_t i = 0; i < count; i++) {
		CHECK(headers[i].cipher);
		salts += !headers[i].counter;
		for (size_t k = 0; k < i; k++)
			CHECK(headers[i].counter != headers[k].counter ||
			      memcmp(headers[i].salt, headers[k].salt, sizeof(headers[i].salt)));
	}
	CHECK(salts > 1);
}

static void round_of(const char *name, bool compacts, uint64_t epochs, unsigned long long *seed)
{
	struct plan plan = { .path = temp_path(name), .epochs = epochs, .compacts = compacts };
	struct ring ring;
	struct image *image;
	int lives;

	CHECK_OK(ring_create(16384, &ring));
	plan.ring = ring.fd;
	lives = kill_keepers(&plan, seed);
	check_epochs(plan.path, epochs);
	check_journal(plan.path, epochs, !compacts);
	if (getenv("HAC_KEY_FILE") && !compacts)
		check_nonces(plan.path);
	/* Nobody began a generation in between. */
	image = open_image(plan.path, true, 0);
	CHECK_IS(image->generation, 1);
	image_close(image);
	printf("  %d deaths, %llu epochs\n", lives, (unsigned long long)epochs);
	ring_destroy(&ring);
	temp_remove(plan.path);
}

static unsigned long long seed = 88172645463325252u;

static void without_compaction(void)
{
	for (int i = 0; i < 4; i++)
		round_of("kill", false, 1000, &seed);
}

static void with_compaction(void)
{
	for (int i = 0; i < 4; i++)
		round_of("compact", true, 1000, &seed);
}

static void encrypted(void)
{
	if (!can_encrypt()) {
		printf("  skipped: built without OpenSSL\n");
		return;
	}
	setenv("HAC_KEY_FILE", "env:FRAME_TOOLS_KEY", 1);
	round_of("encrypted", false, 1000, &seed);
	round_of("encrypted", true, 1000, &seed);
	unsetenv("HAC_KEY_FILE");
}

int main(void)
{
	const char *chosen = getenv("HAC_TEST_SEED");

	use_memory();
	if (chosen)
		seed = strtoull(chosen, NULL, 10) | 1;
	image_limits.segment_bytes = 60000;
	RUN(without_compaction);
	RUN(with_compaction);
	RUN(encrypted);
	return 0;
}
