// SPDX-License-Identifier: MIT
/* A primary and its helper: starting, dying, levels, fencing, fork. */
#include "replication_tools.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

static const struct hac_level RING = { HAC_LEVEL_RING, 0 };
static const struct hac_level JOURNAL = { HAC_LEVEL_JOURNAL, 0 };

static int rounds(int usual)
{
	const char *wanted = getenv("HAC_CRASH_ROUNDS");

	return wanted ? atoi(wanted) : usual;
}

/* ------------------------------------------------------------- starting -- */

static void refused(const char *name, const char *value, int error, const char *detail)
{
	struct replicated r = { .arguments = { name, value } };
	hac *h;

	CHECK_IS(try_open(temp_path("refused"), &r, &h), error);
	CHECK_DETAIL(detail);
}

static void helpers_that_do_not_start(void)
{
	refused("--exit", "7", -EIO, "status 7");
	refused("--fail", "28", -ENOSPC, "as the test wants it");
	refused("--dumb", "1", -EPROTO, "neither primary nor standby");
}

static void wrong_options(void)
{
	const char *const missing[] = { "/nowhere/at/all", NULL };
	const char *const none[] = { NULL };
	struct hac_replication replication = { .size = sizeof(replication), .command = missing };
	struct hac_options options = { .size = sizeof(options), .replication = &replication };
	hac *h;

	CHECK_IS(hac_open(temp_path("a"), &options, &h), -ENOENT);
	CHECK_DETAIL("/nowhere/at/all");
	CHECK_IS(hac_open(NULL, &options, &h), -EINVAL);
	options.flags = HAC_READONLY;
	CHECK_IS(hac_open(temp_path("a"), &options, &h), -EINVAL);
	options.flags = 0;
	options.at = 3;
	CHECK_IS(hac_open(temp_path("a"), &options, &h), -EINVAL);
	options.at = 0;
	options.level = (struct hac_level){ HAC_LEVEL_BACKUP, 17 };
	CHECK_IS(hac_open(temp_path("a"), &options, &h), -EINVAL);
	options.level = (struct hac_level){ HAC_LEVEL_BACKUP, 0 };
	CHECK_IS(hac_open(temp_path("a"), &options, &h), -EINVAL);
	options.level = JOURNAL;
	replication.role = 3;
	CHECK_IS(hac_open(temp_path("a"), &options, &h), -EINVAL);
	replication.role = 0;
	replication.command = none;
	CHECK_IS(hac_open(temp_path("a"), &options, &h), -EINVAL);
	replication.command = missing;
	replication.size = 4;
	CHECK_IS(hac_open(temp_path("a"), &options, &h), -EINVAL);
	CHECK(access(temp_path("a"), F_OK));
}

static void no_memfd(void)
{
	struct rlimit before, tight;
	struct replicated r = { 0 };
	hac *h;

	CHECK(!getrlimit(RLIMIT_FSIZE, &before));
	tight = before;
	tight.rlim_cur = 4096;
	CHECK(!setrlimit(RLIMIT_FSIZE, &tight));
	CHECK_IS(try_open(temp_path("memfd"), &r, &h), -EFBIG);
	CHECK_DETAIL("RLIMIT_FSIZE");
	CHECK(!setrlimit(RLIMIT_FSIZE, &before));
}

/* ---------------------------------------------------------------- basics -- */

static void one_life(const char *path, const struct replicated *r, uint64_t from, int many)
{
	unsigned long long random = 88172645463325252ull + from;
	hac *h = open_replicated(path, r);
	uint64_t *words = map_words(h, "words", WORDS);
	struct hac_info info = info_of(h);
	uint64_t epoch = 0;

	CHECK_IS(info.role, HAC_PRIMARY);
	CHECK(info.helper && info.helper != (uint32_t)getpid());
	CHECK_IS(words[0], from);
	check_words(words);
	for (int i = 0; i < many; i++) {
		CHECK_OK(hac_begin(h));
		write_epoch(words, &random, 20);
		CHECK_OK(hac_end(h, NULL, &epoch));
	}
	CHECK(epoch >= info.epoch + (uint64_t)many);
	CHECK_OK(hac_wait_primary(h, 0));
	CHECK_IS(hac_promote(h), -EPROTO);
	CHECK_IS(hac_advance(h, NULL), -EPROTO);
	CHECK_OK(hac_close(h));
	CHECK(kill((pid_t)info.helper, 0) && errno == ESRCH);
}

static void lives(void)
{
	struct replicated r = { .level = JOURNAL };
	const char *path = temp_path("lives");
	uint64_t generation;
	uint64_t *words;
	hac *h;

	one_life(path, &r, 0, 50);
	one_life(path, &r, 50, 50);
	r.codec = HAC_CODEC_ZSTD;
	one_life(path, &r, 100, 20);
	/* And without a helper it is an image like any other. */
	CHECK_OK(hac_open(path, NULL, &h));
	words = map_words(h, "words", WORDS);
	CHECK_IS(words[0], 120);
	check_words(words);
	generation = info_of(h).generation;
	CHECK_IS(generation, 4);
	CHECK_OK(hac_close(h));
	check_log(path);
}

/* Larger than the ring by far, and areas that come and go. */
static void large(void)
{
	struct replicated r = { .level = RING, .ring_bytes = 16384 };
	const char *path = temp_path("large");
	const size_t words_count = 1 << 19;
	hac *h = open_replicated(path, &r);
	uint64_t *words = map_words(h, "large", words_count);
	uint64_t epoch;

	for (uint64_t k = 1; k <= 4; k++) {
		CHECK_OK(hac_begin(h));
		for (size_t i = 0; i < words_count; i++)
			words[i] = k * (i + 1);
		CHECK_OK(hac_end(h, NULL, &epoch));
		if (k == 2)
			CHECK_OK(hac_compact(h));
	}
	map_words(h, "other", 10);
	CHECK_OK(hac_begin(h));
	CHECK_OK(hac_end(h, NULL, &epoch));
	CHECK_OK(hac_drop(h, "other"));
	CHECK_OK(hac_wait(h, epoch, &JOURNAL, -1));
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_open(path, NULL, &h));
	CHECK_IS(info_of(h).unclaimed, 1);
	words = map_words(h, "large", words_count);
	for (size_t i = 0; i < words_count; i++)
		CHECK(words[i] == 4 * (i + 1));
	CHECK_OK(hac_close(h));
}

/* What the disk has no room for is refused, with all else as it was. */
static void no_room(void)
{
	struct replicated r = { .level = RING };
	const size_t words_count = 1 << 18;
	struct rlimit before, tight;
	uint64_t *words, epoch;
	hac *h;

	CHECK(!getrlimit(RLIMIT_FSIZE, &before));
	tight = before;
	tight.rlim_cur = 3 << 19;
	CHECK(!setrlimit(RLIMIT_FSIZE, &tight));
	h = open_replicated(temp_path("room"), &r);
	CHECK(!setrlimit(RLIMIT_FSIZE, &before));
	words = map_words(h, "words", words_count);
	CHECK_OK(hac_begin(h));
	words[7] = 1;
	CHECK_OK(hac_end(h, NULL, &epoch));
	CHECK_OK(hac_begin(h));
	for (size_t i = 0; i < words_count; i++)
		words[i] = i + 3;
	for (int i = 0; i < 2; i++) {
		CHECK_IS(i ? hac_finish(h, NULL) : hac_end(h, NULL, NULL), -EFBIG);
		CHECK_DETAIL("RLIMIT_FSIZE");
	}
	CHECK_OK(hac_abort(h));
	CHECK_IS(words[7], 1);
	CHECK_IS(words[8], 0);
	CHECK_OK(hac_begin(h));
	words[8] = 1;
	CHECK_OK(hac_end(h, NULL, &epoch));
	CHECK_OK(hac_wait(h, epoch, &JOURNAL, -1));
	CHECK_OK(hac_close(h));
}

/* ----------------------------------------------------------------- death -- */

struct killer {
	hac *h;
	atomic_bool stop;
	atomic_int killed;
	unsigned long long random;
};

/* Mostly one that has drained for a while, but now and then one that may not be
 * ready yet: never five of those in a row, for that is the end. */
static void *kill_helpers(void *argument)
{
	struct killer *killer = argument;
	int hasty = 0;

	while (!atomic_load(&killer->stop)) {
		pid_t pid = helper_of(killer->h);
		uint64_t durable = info_of(killer->h).durable;
		long us = (long)(check_random(&killer->random) % 15000);

		if (hasty < 2 && !(check_random(&killer->random) % 4)) {
			hasty++;
		} else {
			hasty = 0;
			us += 15000;
			while (!atomic_load(&killer->stop) && info_of(killer->h).durable == durable)
				pause_us(200);
		}
		pause_us(us);
		if (!kill(pid, SIGKILL))
			atomic_fetch_add(&killer->killed, 1);
		while (!atomic_load(&killer->stop) && helper_of(killer->h) == pid)
			pause_us(200);
	}
	return NULL;
}

static void helpers_killed(void)
{
	struct replicated r = { .ring_bytes = 8192 };
	unsigned long long random = 3141592653589793ull;
	struct killer killer = { .random = 2718281828459045ull };
	const char *path = temp_path("killed");
	int wanted = rounds(60);
	pthread_t thread;
	uint64_t *words, epoch = 0, done = 0;

	killer.h = open_replicated(path, &r);
	words = map_words(killer.h, "words", WORDS);
	CHECK(!pthread_create(&thread, NULL, kill_helpers, &killer));
	/* Some fit in the ring, some go through it in parts. */
	while (atomic_load(&killer.killed) < wanted) {
		CHECK_OK(hac_begin(killer.h));
		write_epoch(words, &random, done % 16 ? 20 : 2000);
		CHECK_OK(hac_end(killer.h, NULL, &epoch));
		done++;
		if (done % 50 == 0)
			CHECK_OK(hac_wait(killer.h, epoch, &JOURNAL, -1));
	}
	atomic_store(&killer.stop, true);
	CHECK(!pthread_join(thread, NULL));
	CHECK_OK(hac_close(killer.h));
	printf("  %llu transactions, %d helpers killed\n", (unsigned long long)done, killer.killed);
	CHECK_IS(check_log(path), epoch);
	CHECK_OK(hac_open(path, NULL, &killer.h));
	CHECK_IS(info_of(killer.h).epoch, epoch);
	CHECK_IS(info_of(killer.h).generation, 2);
	words = map_words(killer.h, "words", WORDS);
	CHECK_IS(words[0], done);
	check_words(words);
	CHECK_OK(hac_close(killer.h));
}

struct shot {
	pid_t pid;
	long us;
};

static void *shoot(void *argument)
{
	const struct shot *shot = argument;

	pause_us(shot->us);
	kill(shot->pid, SIGKILL);
	return NULL;
}

/* A helper that dies while it drains for the last time has a successor. */
static void killed_while_closing(void)
{
	struct replicated r = { .level = RING, .ring_bytes = 1 << 20 };
	unsigned long long random = 577215664901532ull;
	const char *path = temp_path("closing");
	int many = rounds(15);
	uint64_t done = 0;

	for (int i = 0; i < many; i++) {
		hac *h = open_replicated(path, &r);
		uint64_t *words = map_words(h, "words", WORDS);
		struct shot shot = { helper_of(h), (long)(check_random(&random) % 12000) };
		pthread_t thread;

		CHECK_IS(words[0], done);
		check_words(words);
		for (int k = 0; k < 100; k++) {
			CHECK_OK(hac_begin(h));
			write_epoch(words, &random, 20);
			CHECK_OK(hac_end(h, NULL, NULL));
		}
		done += 100;
		CHECK(!pthread_create(&thread, NULL, shoot, &shot));
		CHECK_OK(hac_close(h));
		CHECK(!pthread_join(thread, NULL));
	}
	check_log(path);
}

/* The program of the helper is gone: it is tried a few times, and then said. */
static void helper_gone_for_good(void)
{
	char program[PATH_MAX], command[3 * PATH_MAX];
	const char *const words[] = { program, NULL };
	struct hac_replication replication = {
		.size = sizeof(replication),
		.role = HAC_PRIMARY,
		.command = words,
	};
	struct hac_options options = { .size = sizeof(options), .replication = &replication };
	uint64_t *area, epoch, last;
	hac *h;

	snprintf(program, sizeof(program), "%s", temp_path("helper"));
	snprintf(command, sizeof(command), "cp '%s' '%s'", helper_program(), program);
	CHECK(!system(command));
	CHECK_OK(hac_open(temp_path("gone"), &options, &h));
	area = map_words(h, "words", 10);
	CHECK_OK(hac_begin(h));
	area[0] = 1;
	CHECK_OK(hac_end(h, NULL, &epoch));
	CHECK(!unlink(program));
	CHECK(!kill(helper_of(h), SIGKILL));
	CHECK_OK(hac_begin(h));
	area[0] = 2;
	CHECK_IS(hac_end(h, NULL, &last), -EUCLEAN);
	CHECK_DETAIL("died 5 times");
	CHECK_IS(last, epoch + 1);
	CHECK_IS(hac_begin(h), -EUCLEAN);
	CHECK_OK(hac_wait(h, epoch, NULL, -1));
	CHECK_IS(hac_close(h), -EIO);
}

/* ------------------------------------------------- the application's death -- */

struct reported {
	_Atomic uint64_t ended;
	_Atomic uint64_t value;
	_Atomic bool go;
};

static void run_victim(const char *path, struct reported *reported, bool children)
{
	struct replicated r = { .level = RING, .ring_bytes = 1 << 20 };
	unsigned long long random = (unsigned long long)getpid() * 7919 + 1;
	hac *h = open_replicated(path, &r);
	uint64_t *words = map_words(h, "words", WORDS), epoch;

	/* It inherits everything, and lives longer. */
	if (children && !fork()) {
		sleep(2);
		_exit(0);
	}
	for (;;) {
		CHECK_OK(hac_begin(h));
		write_epoch(words, &random, 20);
		CHECK_OK(hac_end(h, NULL, &epoch));
		atomic_store(&reported->ended, epoch);
		atomic_store(&reported->value, words[0]);
		atomic_store(&reported->go, true);
	}
}

/* Everything that was in the ring is in the image that the next one opens. */
static void applications_killed(void)
{
	struct reported *reported =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned long long random = 1618033988749894ull;
	struct replicated r = { .level = JOURNAL };
	const char *path = temp_path("applications");
	int many = rounds(15);

	for (int i = 0; i < many; i++) {
		uint64_t *words;
		pid_t child;
		hac *h;

		atomic_store(&reported->go, false);
		fflush(stdout);
		child = fork();
		if (!child)
			run_victim(path, reported, i % 3 == 0);
		while (!atomic_load(&reported->go)) {
			int status;

			CHECK_MSG(waitpid(child, &status, WNOHANG) == 0, "the victim died");
			pause_us(200);
		}
		pause_us((long)(check_random(&random) % 30000));
		CHECK(!kill(child, SIGKILL));
		CHECK(waitpid(child, NULL, 0) == child);
		h = open_replicated(path, &r);
		CHECK(info_of(h).epoch >= atomic_load(&reported->ended));
		words = map_words(h, "words", WORDS);
		CHECK(words[0] >= atomic_load(&reported->value));
		check_words(words);
		CHECK_OK(hac_close(h));
		check_log(path);
	}
	munmap(reported, 4096);
}

/* ---------------------------------------------------------------- levels -- */

static void backups(void)
{
	const struct hac_level two = { HAC_LEVEL_BACKUP, 2 }, three = { HAC_LEVEL_BACKUP, 3 };
	struct replicated r = { .level = two, .arguments = { "--acks", "2" } };
	hac *h = open_replicated(temp_path("backups"), &r);
	uint64_t *words = map_words(h, "words", WORDS), epoch;

	for (int i = 0; i < 100; i++) {
		CHECK_OK(hac_begin(h));
		words[i] = 1;
		CHECK_OK(hac_end(h, NULL, &epoch));
		CHECK(info_of(h).durable >= epoch);
	}
	CHECK_IS(hac_wait(h, epoch, &three, 30), -EUCLEAN);
	CHECK_DETAIL("BACKUP(3)");
	CHECK_IS(info_of(h).stage, 3);
	CHECK_IS(hac_begin(h), -EUCLEAN);
	CHECK_DETAIL("in doubt");
	/* A weaker level does not settle it. */
	CHECK_OK(hac_wait(h, epoch, &two, -1));
	CHECK_IS(hac_begin(h), -EUCLEAN);
	CHECK_IS(hac_wait(h, epoch, &(struct hac_level){ HAC_LEVEL_BACKUP, 17 }, 0), -EINVAL);
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_open(temp_path("backups"), NULL, &h));
	CHECK_IS(hac_wait(h, 1, &two, 0), -EINVAL);
	CHECK_OK(hac_close(h));
}

static void *wait_three(void *argument)
{
	const struct hac_level three = { HAC_LEVEL_BACKUP, 3 };

	return (void *)(intptr_t)hac_wait(argument, 1, &three, -1);
}

/* Closing lets go who waits for what will never come. */
static void close_while_waiting(void)
{
	struct replicated r = { .level = RING, .arguments = { "--acks", "2" } };
	hac *h = open_replicated(temp_path("waiting"), &r);
	uint64_t *words = map_words(h, "words", WORDS);
	pthread_t thread;
	void *result;

	CHECK_OK(hac_begin(h));
	words[0] = 1;
	CHECK_OK(hac_end(h, NULL, NULL));
	CHECK(!pthread_create(&thread, NULL, wait_three, h));
	pause_us(30000);
	CHECK_OK(hac_close(h));
	CHECK(!pthread_join(thread, &result));
	CHECK_IS((intptr_t)result, -EUCLEAN);
}

static void touch(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0666);

	CHECK(fd >= 0);
	close(fd);
}

static void fenced(void)
{
	const struct hac_level one = { HAC_LEVEL_BACKUP, 1 };
	const char *fence = temp_path("fence");
	struct replicated r = { .level = JOURNAL, .arguments = { "--fence", fence } };
	const char *path = temp_path("fenced");
	hac *h = open_replicated(path, &r);
	uint64_t *words = map_words(h, "words", WORDS), epoch, in_doubt;
	bool prepared;
	int result;

	CHECK_OK(hac_begin(h));
	words[1] = 1;
	CHECK_OK(hac_end(h, NULL, &epoch));
	touch(fence);
	/* Nobody acknowledges it, and nobody ever will. */
	CHECK_IS(hac_wait(h, epoch, &one, -1), -EUCLEAN);
	CHECK_DETAIL("fenced");
	in_doubt = epoch;
	CHECK_IS(hac_begin(h), -ESTALE);
	CHECK_DETAIL("the test says so");
	CHECK_IS(words[1], 1);
	CHECK_OK(hac_wait(h, in_doubt, NULL, 0));
	CHECK_OK(hac_close(h));
	unlink(fence);

	h = open_replicated(path, &r);
	words = map_words(h, "words", WORDS);
	CHECK_OK(hac_begin(h));
	words[2] = 1;
	touch(fence);
	/* It may take effect a moment later. */
	for (;;) {
		result = hac_end(h, NULL, NULL);
		prepared = result == -ESTALE;
		if (!result)
			result = hac_begin(h);
		if (result)
			break;
		words[2]++;
		words[3] = words[2] - 1;
	}
	CHECK(result == -ESTALE || result == -EUCLEAN);
	if (prepared) {
		CHECK_IS(info_of(h).stage, 2);
		CHECK_IS(hac_finish(h, NULL), -ESTALE);
		CHECK_OK(hac_abort(h));
		/* The first of them may have been the one. */
		CHECK_IS(words[2], words[2] ? words[3] + 1 : 0);
	}
	CHECK_IS(hac_begin(h), -ESTALE);
	words[9] = 9;
	/* What was written since is lost, and that is said. */
	CHECK_IS(hac_close(h), -ESTALE);
	unlink(fence);
}

/* ------------------------------------------------------- other processes -- */

static void *reap_anything(void *argument)
{
	atomic_bool *stop = argument;

	while (!atomic_load(stop))
		if (waitpid(-1, NULL, WNOHANG) <= 0)
			pause_us(100);
	return NULL;
}

static void work_and_kill(const char *name)
{
	struct replicated r = { .level = JOURNAL };
	hac *h = open_replicated(temp_path(name), &r);
	uint64_t *words = map_words(h, "words", WORDS);

	for (int i = 0; i < 20; i++) {
		CHECK_OK(hac_begin(h));
		words[0]++;
		CHECK_OK(hac_end(h, NULL, NULL));
		if (i % 5 == 4)
			CHECK(!kill(helper_of(h), SIGKILL));
	}
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_open(temp_path(name), NULL, &h));
	CHECK_IS(map_words(h, "words", WORDS)[0], 20);
	CHECK_OK(hac_close(h));
}

/* The application may take every child's status away, or have none kept. */
static void status_stolen(void)
{
	atomic_bool stop = false;
	pthread_t thread;

	CHECK(!pthread_create(&thread, NULL, reap_anything, &stop));
	work_and_kill("stolen");
	refused("--exit", "7", -EIO, "ended");
	atomic_store(&stop, true);
	CHECK(!pthread_join(thread, NULL));
	signal(SIGCHLD, SIG_IGN);
	work_and_kill("ignored");
	refused("--exit", "7", -EIO, "ended");
	signal(SIGCHLD, SIG_DFL);
}

/* Children inherit descriptors and memory, and are none of the helper's business. */
static void children(void)
{
	struct replicated r = { .level = JOURNAL };
	hac *h = open_replicated(temp_path("children"), &r);
	uint64_t *words = map_words(h, "words", WORDS);
	pid_t lasting, helper = helper_of(h);
	int status;

	lasting = fork();
	if (!lasting) {
		sleep(60);
		_exit(0);
	}
	for (int i = 0; i < 20; i++) {
		pid_t child = fork();

		if (!child) {
			words[0] = 77;
			if (hac_begin(h) != -ECHILD || hac_close(h) != -ECHILD)
				_exit(1);
			exit(0);
		}
		CHECK_OK(hac_begin(h));
		words[0]++;
		CHECK_OK(hac_end(h, NULL, NULL));
		CHECK(waitpid(child, &status, 0) == child);
		CHECK_IS(status, 0);
	}
	CHECK_IS(helper_of(h), helper);
	CHECK_OK(hac_close(h));
	CHECK(kill(helper, 0));
	kill(lasting, SIGKILL);
	waitpid(lasting, NULL, 0);
}

static int count_descriptors(void)
{
	int count = 0;

	for (int fd = 0; fd < 200; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* Nothing is left behind, and nothing of the application's goes to the helper. */
static void descriptors(void)
{
	struct replicated r = { 0 };
	int before = count_descriptors(), leak = dup(1);
	char path[64];
	hac *h = open_replicated(temp_path("descriptors"), &r);

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)helper_of(h), leak + 40);
	CHECK(dup2(leak, leak + 40) >= 0);
	CHECK(!kill(helper_of(h), SIGKILL));
	pause_us(100000);
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)helper_of(h), leak + 40);
	CHECK(access(path, F_OK));
	CHECK_OK(hac_close(h));
	close(leak);
	close(leak + 40);
	refused("--exit", "1", -EIO, "status 1");
	CHECK_IS(count_descriptors(), before);
}

int main(void)
{
	RUN(wrong_options);
	RUN(helpers_that_do_not_start);
	RUN(no_memfd);
	RUN(lives);
	RUN(large);
	RUN(no_room);
	RUN(backups);
	RUN(close_while_waiting);
	RUN(fenced);
	RUN(status_stolen);
	RUN(children);
	RUN(descriptors);
	RUN(helper_gone_for_good);
	RUN(killed_while_closing);
	RUN(helpers_killed);
	RUN(applications_killed);
	return 0;
}
