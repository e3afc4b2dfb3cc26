/* SPDX-License-Identifier: MIT */
/*
 * How a runner drives the programs of this folder, so that it can interleave
 * the rounds of several of them:
 *
 *	program: ready
 *	runner:  run N
 *	program: NS PAGES WORDS
 *
 * NS is the time that N transactions took, PAGES and WORDS are how many dirty
 * pages and changed words they reported in all (WORDS 0: the program does not
 * look at words). End of input ends the program.
 */
#ifndef MICROBENCH_SERVE_H
#define MICROBENCH_SERVE_H

#include <err.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

struct tally {
	uint64_t ns, pages, words;
};

static inline uint64_t serve_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void serve(void (*run)(uint64_t transactions, struct tally *tally))
{
	char line[64];

	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		struct tally tally = { 0, 0, 0 };
		uint64_t n;

		if (sscanf(line, "run %" SCNu64, &n) != 1)
			errx(2, "expected 'run N', got: %s", line);
		run(n, &tally);
		printf("%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", tally.ns, tally.pages, tally.words);
		fflush(stdout);
	}
}

#endif
