/* SPDX-License-Identifier: MIT */
/* What the tests of replication share: contexts with the tests' own helper. */
#ifndef REPLICATION_TOOLS_H
#define REPLICATION_TOOLS_H

#include "check.h"
#include "temp.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <time.h>

#define WORDS 4096

static const char *helper_program(void)
{
	static char path[PATH_MAX];
	char self[PATH_MAX - 32];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	CHECK(length > 0);
	self[length] = '\0';
	*strrchr(self, '/') = '\0';
	snprintf(path, sizeof(path), "%s/replication_helper", self);
	return path;
}

struct replicated {
	uint32_t role;
	struct hac_level level;
	size_t ring_bytes;
	const char *arguments[8]; /* of the helper */
	uint32_t codec;
	const char *engine;
	uint32_t flags;
};

static int try_open(const char *path, const struct replicated *r, hac **h)
{
	const char *const command[] = { helper_program(), NULL };
	struct hac_replication replication = {
		.size = sizeof(replication),
		.role = r->role ? r->role : (uint32_t)HAC_PRIMARY,
		.command = command,
		.arguments = r->arguments,
	};
	struct hac_options options = {
		.size = sizeof(options),
		.level = r->level,
		.ring_bytes = r->ring_bytes,
		.replication = &replication,
		.codec = r->codec,
		.engine = r->engine ? r->engine : "compare",
		.flags = r->flags,
	};

	return hac_open(path, &options, h);
}

static hac *open_replicated(const char *path, const struct replicated *r)
{
	hac *h;

	CHECK_OK(try_open(path, r, &h));
	return h;
}

__attribute__((unused)) static uint64_t *map_words(hac *h, const char *name, size_t words)
{
	void *p;

	CHECK_OK(hac_map(h, name, words * 8, NULL, &p));
	return p;
}

__attribute__((unused)) static struct hac_info info_of(hac *h)
{
	struct hac_info info = { .size = sizeof(info) };

	CHECK_OK(hac_get_info(h, &info));
	return info;
}

__attribute__((unused)) static void pause_us(long us)
{
	nanosleep(&(struct timespec){ us / 1000000, us % 1000000 * 1000 }, NULL);
}

__attribute__((unused)) static pid_t helper_of(hac *h)
{
	for (int i = 0; i < 10000; i++) {
		struct hac_info info = info_of(h);

		if (info.helper)
			return (pid_t)info.helper;
		pause_us(1000);
	}
	CHECK(!"no helper");
	return 0;
}

/* The first word is the number of the transaction, and so are `many` others,
 * somewhere; the last one is their sum over all. */
__attribute__((unused)) static void write_epoch(uint64_t *words, unsigned long long *random,
						int many)
{
	uint64_t next = words[0] + 1;

	words[0] = next;
	for (int i = 0; i < many; i++) {
		uint64_t *at = &words[1 + check_random(random) % (WORDS - 2)];

		words[WORDS - 1] += next - *at;
		*at = next;
	}
}

/* Is it what a whole transaction left? */
__attribute__((unused)) static void check_words(const uint64_t *words)
{
	uint64_t sum = 0;

	for (size_t i = 1; i < WORDS - 1; i++) {
		CHECK(words[i] <= words[0]);
		sum += words[i];
	}
	CHECK_MSG(sum == words[WORDS - 1], "at transaction %llu the sum is %llu, not %llu",
		  (unsigned long long)words[0], (unsigned long long)sum,
		  (unsigned long long)words[WORDS - 1]);
}

struct log_check {
	uint64_t epoch;
	uint64_t transactions;
};

__attribute__((unused)) static int each_logged(void *argument, const struct hac_log_record *record)
{
	struct log_check *check = argument;

	if (strcmp(record->kind, "transaction") || record->partial ||
	    record->file[0] != 'j' /* the journal */)
		return 0;
	CHECK_IS(record->epoch, check->epoch + 1);
	check->epoch = record->epoch;
	check->transactions++;
	return 0;
}

/* Every epoch from 1 on stands in the journal once, in order; the last one. */
__attribute__((unused)) static uint64_t check_log(const char *path)
{
	struct log_check check = { 0, 0 };

	CHECK_OK(hac_log_image(path, each_logged, &check));
	return check.epoch;
}

#endif
