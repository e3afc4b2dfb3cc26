/* SPDX-License-Identifier: MIT */
/*
 * How a runner drives the programs of this folder, so that it can interleave
 * the rounds of several of them:
 *
 *	program: ready
 *	runner:  run N			N transactions in a row
 *	program: NS PAGES WORDS WRITES COPY_NS COPY_BYTES
 *	runner:  copy N			one by one, the result of each copied
 *	program: the same
 *	runner:  sample B T T ...	of a trace: transactions T (from 0 on), each
 *					after the B before it, which are not measured
 *	program: the same, a line for each T
 *
 * NS is the time that the transactions took. PAGES, WORDS and WRITES are how many
 * dirty pages, changed words and single writes they reported in all; -1: the program
 * does not look at them. COPY_NS is the time that it took to copy what they
 * reported, COPY_BYTES bytes, for a helper process (copy.h). Transactions of `sample`
 * are measured as those of `copy`. End of input ends the program.
 */
#ifndef MICROBENCH_SERVE_H
#define MICROBENCH_SERVE_H

#include <err.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct tally {
	uint64_t ns;
	int64_t pages, words, writes;
	uint64_t copy_ns, copy_bytes;
};

struct service {
	void (*run)(uint64_t transactions, struct tally *tally);
	void (*copy)(uint64_t transactions, struct tally *tally); /* or NULL */
	/* Go on with this transaction of the trace; NULL: there is none. Memory is what it
	 * was before it, or, if that makes no difference to what is measured, is as it is. */
	void (*seek)(uint64_t transaction);
	void (*jump)(uint64_t transaction);
	uint64_t transactions; /* of the trace */
};

static inline uint64_t serve_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* From one look at the clock to the next with nothing between them. */
static inline uint64_t serve_clock_ns(void)
{
	static uint64_t least = UINT64_MAX;

	for (int i = 0; i < 64 && least; i++) {
		uint64_t before = serve_now(), ns = serve_now() - before;

		least = ns < least ? ns : least;
	}
	return least;
}

/* What lies between two looks at the clock, less the looking. */
static inline uint64_t serve_between(uint64_t start, uint64_t end, uint64_t clock_ns)
{
	return end - start > clock_ns ? end - start - clock_ns : 0;
}

static inline void serve_show(const struct tally *tally)
{
	printf("%" PRIu64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRIu64 " %" PRIu64 "\n",
	       tally->ns, tally->pages, tally->words, tally->writes, tally->copy_ns,
	       tally->copy_bytes);
}

static inline void serve_sample(const struct service *service, const char *numbers)
{
	char *end;
	uint64_t before = strtoull(numbers, &end, 10);

	for (numbers = end;; numbers = end) {
		uint64_t wanted = strtoull(numbers, &end, 10), from;
		struct tally untold = { 0 }, tally = { 0 };

		if (end == numbers)
			break;
		if (wanted >= service->transactions)
			errx(2, "sample: the trace has %" PRIu64 " transactions",
			     service->transactions);
		from = wanted < before ? 0 : wanted - before;
		service->jump(from);
		service->run(wanted - from, &untold);
		service->copy(1, &tally);
		serve_show(&tally);
	}
	service->seek(0);
}

static inline void serve(const struct service *service)
{
	size_t size = 0;
	char *line = NULL;

	puts("ready");
	fflush(stdout);
	while (getline(&line, &size, stdin) > 0) {
		struct tally tally = { 0 };
		uint64_t n;

		if (sscanf(line, "run %" SCNu64, &n) == 1) {
			service->run(n, &tally);
			serve_show(&tally);
		} else if (service->copy && sscanf(line, "copy %" SCNu64, &n) == 1) {
			service->copy(n, &tally);
			serve_show(&tally);
		} else if (service->seek && !strncmp(line, "sample ", 7)) {
			serve_sample(service, line + 7);
		} else {
			errx(2, "expected 'run N' or the like, got: %s", line);
		}
		fflush(stdout);
	}
	free(line);
}

#endif
