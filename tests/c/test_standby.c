// SPDX-License-Identifier: MIT
/* A standby beside a running primary: advancing, promotion. */
#include "replication_tools.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

static const struct hac_level RING = { HAC_LEVEL_RING, 0 };
static const struct hac_level JOURNAL = { HAC_LEVEL_JOURNAL, 0 };

/* A primary on one image, and a standby on another that follows it. */
struct pair {
	char leader_path[PATH_MAX], standby_path[PATH_MAX];
	hac *leader, *standby;
};

static struct pair open_leader(const char *name, struct hac_level level)
{
	struct replicated r = { .level = level, .ring_bytes = 8192 };
	struct pair pair;

	snprintf(pair.leader_path, PATH_MAX, "%s/%s-a", temp_dir(), name);
	snprintf(pair.standby_path, PATH_MAX, "%s/%s-b", temp_dir(), name);
	pair.leader = open_replicated(pair.leader_path, &r);
	return pair;
}

static hac *open_standby(struct pair *pair, const char *engine)
{
	struct replicated r = {
		.role = HAC_STANDBY,
		.arguments = { "--from", pair->leader_path },
		.engine = engine,
	};

	pair->standby = open_replicated(pair->standby_path, &r);
	return pair->standby;
}

static uint64_t end_one(hac *h)
{
	uint64_t epoch;

	CHECK_OK(hac_end(h, NULL, &epoch));
	return epoch;
}

/* Until the standby shows that epoch. */
static void advance_to(hac *h, uint64_t wanted)
{
	uint64_t epoch = 0;

	for (int i = 0; i < 20000; i++) {
		CHECK_OK(hac_advance(h, &epoch));
		CHECK(epoch <= wanted);
		if (epoch == wanted)
			return;
		pause_us(500);
	}
	CHECK_MSG(false, "epoch %llu does not arrive; it is at %llu", (unsigned long long)wanted,
		  (unsigned long long)epoch);
}

/* ------------------------------------------------------------ rejections -- */

static void refusals(void)
{
	struct pair pair = open_leader("refusals", JOURNAL);
	uint64_t *words = map_words(pair.leader, "words", WORDS), *copy, epoch;
	void *address;
	hac *h;

	CHECK_OK(hac_begin(pair.leader));
	words[3] = 3;
	epoch = end_one(pair.leader);
	h = open_standby(&pair, NULL);
	copy = map_words(h, "words", WORDS);
	advance_to(h, epoch);
	CHECK_IS(copy[3], 3);
	CHECK_IS(info_of(h).role, HAC_STANDBY);
	CHECK(info_of(h).durable >= epoch);
	CHECK_IS(hac_begin(h), -EPROTO);
	CHECK_DETAIL("standby");
	CHECK_IS(hac_grow(h, "words", WORDS * 16), -EPROTO);
	CHECK_IS(hac_drop(h, "words"), -EPROTO);
	CHECK_IS(hac_will_write(h, copy, 8), -EPROTO);
	CHECK_IS(hac_compact(h), -EPROTO);
	CHECK_IS(hac_map(h, "words", WORDS * 8, NULL, &address), -EBUSY);
	CHECK_IS(hac_wait_primary(h, 20), -ETIMEDOUT);
	CHECK_IS(hac_wait(h, epoch + 1, NULL, 0), -EINVAL);
	CHECK_OK(hac_wait(h, epoch, NULL, 0));
	CHECK_OK(hac_copy(h, temp_path("copied")));
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_close(pair.leader));
	CHECK_OK(hac_open(temp_path("copied"), NULL, &h));
	CHECK_IS(map_words(h, "words", WORDS)[3], 3);
	CHECK_OK(hac_close(h));
}

/* A write to a standby's area ends the process, with a message. */
static void writes_die(void)
{
	struct pair pair = open_leader("dying", JOURNAL);
	uint64_t *copy;
	int ends[2], status;
	char said[512];
	ssize_t size;
	pid_t child;
	hac *h;

	h = open_standby(&pair, NULL);
	copy = map_words(h, "words", WORDS);
	CHECK(!pipe(ends));
	/* In a child the memory is its own, so it is the standby itself that dies. */
	child = fork();
	if (!child) {
		snprintf(pair.standby_path, PATH_MAX, "%s/dying-c", temp_dir());
		h = open_standby(&pair, NULL);
		copy = map_words(h, "other", WORDS);
		dup2(ends[1], 2);
		copy[5] = 1;
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child);
	/* Sanitizers make an exit of it. */
	CHECK(status != 0);
	size = read(ends[0], said, sizeof(said) - 1);
	CHECK(size > 0);
	said[size] = '\0';
	CHECK_MSG(strstr(said, "'other'") && strstr(said, "standby"), "%s", said);
	close(ends[0]);
	close(ends[1]);
	CHECK_IS(copy[5], 0);
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_close(pair.leader));
}

/* --------------------------------------------------------------- advance -- */

struct writer {
	hac *h;
	uint64_t *words;
	atomic_bool stop;
	_Atomic uint64_t epoch;
};

static void *keep_writing(void *argument)
{
	struct writer *writer = argument;
	unsigned long long random = 42;
	uint64_t done = 0;

	while (!atomic_load(&writer->stop)) {
		CHECK_OK(hac_begin(writer->h));
		write_epoch(writer->words, &random, ++done % 32 ? 20 : 1500);
		atomic_store(&writer->epoch, end_one(writer->h));
		if (done % 400 == 0)
			CHECK_OK(hac_compact(writer->h));
	}
	return NULL;
}

/* Whole transactions only, whatever happens meanwhile to the standby's helper. */
static void under_load(void)
{
	struct pair pair = open_leader("load", RING);
	struct writer writer = { .h = pair.leader };
	unsigned long long random = 99;
	uint64_t *copy, epoch = 0, before, killed_at = 0;
	int moves = 0, deaths = 0;
	pthread_t thread;
	hac *h;

	writer.words = map_words(pair.leader, "words", WORDS);
	CHECK_OK(hac_begin(pair.leader));
	write_epoch(writer.words, &random, 5);
	end_one(pair.leader);
	CHECK(!pthread_create(&thread, NULL, keep_writing, &writer));
	h = open_standby(&pair, NULL);
	copy = map_words(h, "words", WORDS);
	for (int i = 0; i < 1500; i++) {
		before = epoch;
		CHECK_OK(hac_advance(h, &epoch));
		CHECK(epoch >= before);
		moves += epoch > before;
		check_words(copy);
		/* Not one that has done nothing yet, or that would be the end. */
		if (i % 100 == 50 && epoch > killed_at) {
			killed_at = epoch;
			CHECK(!kill(helper_of(h), SIGKILL));
			deaths++;
		}
		pause_us((long)(check_random(&random) % 3000));
	}
	atomic_store(&writer.stop, true);
	CHECK(!pthread_join(thread, NULL));
	CHECK_OK(hac_wait(pair.leader, writer.epoch, &JOURNAL, -1));
	advance_to(h, writer.epoch);
	check_words(copy);
	CHECK(!memcmp(copy, writer.words, WORDS * 8));
	printf("  %llu transactions, %d moves, %d helpers killed\n", (unsigned long long)copy[0],
	       moves, deaths);
	CHECK(moves > 10 && deaths > 1);
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_close(pair.leader));
}

/* Areas that the standby maps before the primary has them, that grow, go, and
 * come again. */
static void areas_come_and_go(void)
{
	struct hac_area_options room = { .size = sizeof(room), .capacity = 65536 };
	struct pair pair = open_leader("areas", JOURNAL);
	hac *l = pair.leader, *h;
	uint64_t *a, *b, *late, *grown, epoch;
	unsigned char *statics = malloc(3000), *theirs = calloc(1, 3000);
	void *p;

	a = map_words(l, "first", 512);
	a[0] = 1;
	CHECK_OK(hac_begin(l));
	epoch = end_one(l);
	h = open_standby(&pair, NULL);
	late = map_words(h, "late", 512);
	CHECK_OK(hac_map(h, "grown", 4096, &room, &p));
	grown = p;
	memset(statics, 7, 3000);
	CHECK_OK(hac_adopt(h, "adopted", statics, 3000, NULL));
	CHECK_IS(hac_restored(h, "late"), 0);
	advance_to(h, epoch);
	CHECK_IS(info_of(h).unclaimed, 1);
	CHECK_IS(map_words(h, "first", 512)[0], 1);
	CHECK_IS(info_of(h).unclaimed, 0);
	CHECK_IS(late[1], 0);
	CHECK_IS(statics[0], 7);

	b = map_words(l, "late", 512);
	CHECK_OK(hac_map(l, "grown", 4096, &room, &p));
	CHECK_OK(hac_adopt(l, "adopted", theirs, 3000, NULL));
	CHECK_OK(hac_begin(l));
	b[1] = 11;
	((uint64_t *)p)[5] = 55;
	theirs[2999] = 9;
	epoch = end_one(l);
	CHECK_OK(hac_begin(l));
	CHECK_OK(hac_grow(l, "grown", 40000));
	((uint64_t *)p)[4999] = 44;
	epoch = end_one(l);
	advance_to(h, epoch);
	CHECK_IS(late[1], 11);
	CHECK_IS(grown[5], 55);
	CHECK_IS(grown[4999], 44);
	CHECK_IS(statics[2999], 9);
	CHECK_IS(statics[0], 0);
	CHECK_IS(hac_restored(h, "late"), 1);

	CHECK_OK(hac_drop(l, "late"));
	CHECK_OK(hac_begin(l));
	epoch = end_one(l);
	advance_to(h, epoch);
	CHECK_IS(late[1], 0);
	CHECK_IS(hac_restored(h, "late"), 0);
	CHECK_OK(hac_unmap(b));
	b = map_words(l, "late", 512);
	b[2] = 22;
	CHECK_OK(hac_begin(l));
	CHECK_OK(hac_compact(l) == -EPROTO ? 0 : 1);
	epoch = end_one(l);
	CHECK_OK(hac_compact(l));
	advance_to(h, epoch);
	CHECK_IS(late[2], 22);
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_close(l));
	free(statics);
	free(theirs);
}

static void mismatches(void)
{
	struct hac_area_options other = { .size = sizeof(other), .type = "other" };
	struct hac_area_options room = { .size = sizeof(room), .capacity = 65536 };
	struct pair pair = open_leader("mismatches", JOURNAL);
	hac *l = pair.leader, *h;
	uint64_t *words = map_words(l, "words", WORDS), *copy, epoch;
	void *p;

	words[0] = 1;
	CHECK_OK(hac_begin(l));
	epoch = end_one(l);
	h = open_standby(&pair, NULL);
	copy = map_words(h, "words", WORDS);
	CHECK_OK(hac_map(h, "typed", 4096, &other, &p));
	advance_to(h, epoch);
	CHECK_OK(hac_map(l, "typed", 4096, NULL, &p));
	CHECK_OK(hac_begin(l));
	words[0] = 2;
	epoch = end_one(l);
	for (int i = 0; i < 10000 && !hac_advance(h, NULL); i++)
		pause_us(500);
	CHECK_IS(hac_advance(h, NULL), -EPROTOTYPE);
	CHECK_DETAIL("other");
	CHECK_DETAIL("bytes");
	/* And all stays where it was. */
	CHECK_IS(copy[0], 1);
	CHECK_OK(hac_close(h));

	h = open_standby(&pair, NULL);
	copy = map_words(h, "words", WORDS);
	CHECK_OK(hac_map(h, "grown", 4096, NULL, &p));
	CHECK_OK(hac_map(l, "grown", 4096, &room, &p));
	CHECK_OK(hac_begin(l));
	epoch = end_one(l);
	for (int i = 0; i < 10000 && !hac_advance(h, NULL); i++)
		pause_us(500);
	CHECK_OK(hac_begin(l));
	words[0] = 3;
	CHECK_OK(hac_grow(l, "grown", 20000));
	epoch = end_one(l);
	for (int i = 0; i < 10000 && !hac_advance(h, NULL); i++)
		pause_us(500);
	CHECK_IS(hac_advance(h, NULL), -EPROTOTYPE);
	CHECK_DETAIL("capacity");
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_close(l));
}

/* ------------------------------------------------------------- promotion -- */

static void write_on(hac *h, uint64_t *words, int many)
{
	unsigned long long random = 5;

	for (int i = 0; i < many; i++) {
		CHECK_OK(hac_begin(h));
		write_epoch(words, &random, 20);
		end_one(h);
	}
}

/* The primary is killed, the standby goes on; under each engine. */
static void promoted(const char *engine)
{
	struct pair pair = open_leader(engine, JOURNAL);
	uint64_t *words = map_words(pair.leader, "words", WORDS), *copy, *fresh, value;
	struct hac_info info;
	hac *h = open_standby(&pair, engine);

	copy = map_words(h, "words", WORDS);
	fresh = map_words(h, "fresh", WORDS);
	write_on(pair.leader, words, 50);
	value = words[0];
	info = info_of(pair.leader);
	advance_to(h, info.epoch);
	CHECK_OK(hac_close(pair.leader));
	CHECK_OK(hac_promote(h));
	CHECK_OK(hac_wait_primary(h, -1));
	CHECK_OK(hac_wait_primary(h, 0));
	CHECK_IS(hac_advance(h, NULL), -EPROTO);
	CHECK_IS(info_of(h).role, HAC_PRIMARY);
	CHECK(info_of(h).generation > info.generation);
	CHECK_IS(info_of(h).parent, info.generation);
	CHECK_IS(info_of(h).branch_epoch, info.epoch);
	CHECK_IS(copy[0], value);
	check_words(copy);
	/* Before the first begin it may be filled in; the others have strays. */
	fresh[0] = 4;
	copy[1]++;
	copy[WORDS - 1]++;
	write_on(h, copy, 50);
	/* What was written under the old primary can be put back. */
	CHECK_OK(hac_begin(h));
	copy[0] = 0;
	fresh[0] = 0;
	CHECK_OK(hac_abort(h));
	CHECK_IS(copy[0], value + 50);
	CHECK_IS(fresh[0], 4);
	CHECK(!kill(helper_of(h), SIGKILL));
	write_on(h, copy, 50);
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_open(pair.standby_path, NULL, &h));
	copy = map_words(h, "words", WORDS);
	CHECK_IS(copy[0], value + 100);
	check_words(copy);
	CHECK_IS(map_words(h, "fresh", WORDS)[0], 4);
	CHECK_OK(hac_close(h));
	check_log(pair.standby_path);
}

static void promotions(void)
{
	struct hac_engine_info info = { .size = sizeof(info) };

	for (uint32_t i = 0; !hac_get_engine(i, &info); i++)
		if (info.available) {
			printf("  %s\n", info.name);
			fflush(stdout);
			promoted(info.name);
		}
}

static void *wait_for_ever(void *argument)
{
	return (void *)(intptr_t)hac_wait_primary(argument, -1);
}

/* Promoted by somebody else, while one thread waits and another closes. */
static void waits(void)
{
	struct pair pair = open_leader("waits", JOURNAL);
	const char *file = temp_path("promote");
	struct replicated r = {
		.role = HAC_STANDBY,
		.arguments = { "--from", pair.leader_path, "--promote", file },
	};
	uint64_t *words = map_words(pair.leader, "words", WORDS), *copy;
	pthread_t thread;
	void *result;
	hac *h;

	write_on(pair.leader, words, 10);
	CHECK_OK(hac_close(pair.leader));
	h = open_standby(&pair, NULL);
	CHECK(!pthread_create(&thread, NULL, wait_for_ever, h));
	pause_us(20000);
	CHECK_OK(hac_close(h));
	CHECK(!pthread_join(thread, &result));
	CHECK_IS((intptr_t)result, -EBADF);

	h = open_replicated(pair.standby_path, &r);
	copy = map_words(h, "words", WORDS);
	CHECK(!pthread_create(&thread, NULL, wait_for_ever, h));
	pause_us(20000);
	fclose(fopen(file, "w"));
	CHECK(!pthread_join(thread, &result));
	CHECK_IS((intptr_t)result, 0);
	CHECK_IS(copy[0], 10);
	write_on(h, copy, 10);
	CHECK_OK(hac_close(h));
}

/* A helper that dies in the middle of it: the next one is asked again. */
static void promotion_and_death(void)
{
	unsigned long long random = 17;

	for (int i = 0; i < 10; i++) {
		char name[32];
		struct pair pair;
		uint64_t *words, *copy;
		hac *h;

		snprintf(name, sizeof(name), "death%d", i);
		pair = open_leader(name, JOURNAL);
		words = map_words(pair.leader, "words", WORDS);
		write_on(pair.leader, words, 10);
		h = open_standby(&pair, NULL);
		copy = map_words(h, "words", WORDS);
		advance_to(h, info_of(pair.leader).epoch);
		CHECK_OK(hac_close(pair.leader));
		CHECK_OK(hac_promote(h));
		pause_us((long)(check_random(&random) % 3000));
		kill(helper_of(h), SIGKILL);
		CHECK_OK(hac_wait_primary(h, -1));
		write_on(h, copy, 10);
		CHECK_IS(copy[0], 20);
		CHECK_OK(hac_close(h));
		CHECK_OK(hac_open(pair.standby_path, NULL, &h));
		CHECK_IS(map_words(h, "words", WORDS)[0], 20);
		CHECK_OK(hac_close(h));
	}
}

int main(void)
{
	RUN(refusals);
	RUN(writes_die);
	RUN(areas_come_and_go);
	RUN(mismatches);
	RUN(under_load);
	RUN(promotions);
	RUN(waits);
	RUN(promotion_and_death);
	return 0;
}
