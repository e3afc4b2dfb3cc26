/* SPDX-License-Identifier: MIT */
/*
 * What a program of this folder writes: the pattern of pattern.h, or a trace.
 * Transactions are numbered from 1; a trace ends, and begins anew with 1 after
 * its memory was put back.
 */
#ifndef MICROBENCH_WORKLOAD_H
#define MICROBENCH_WORKLOAD_H

#include "pattern.h"
#include "trace.h"

#include <getopt.h>

struct workload {
	struct pattern pattern; /* cda_bytes and threads hold for a trace, too */
	struct trace trace;
	const char *path; /* of the trace; NULL: the pattern */
	uint32_t opt;
};

/* clang-format off */
#define WORKLOAD_OPTIONS \
	{ "cda", required_argument, NULL, 'c' }, \
	{ "ppt", required_argument, NULL, 'p' }, \
	{ "wpp", required_argument, NULL, 'w' }, \
	{ "threads", required_argument, NULL, 't' }, \
	{ "pattern", required_argument, NULL, 'x' }, \
	{ "trace", required_argument, NULL, 'r' }, \
	{ "opt", required_argument, NULL, 'o' }
/* clang-format on */

#define WORKLOAD_USAGE                                                                \
	"--cda BYTES --ppt PAGES --wpp WRITES [--threads N] [--pattern random|hot]\n" \
	"       or: --trace FILE --opt OPERATIONS, in place of these\n"

/* False where it is none of WORKLOAD_OPTIONS, or no such value. */
static inline bool workload_option(struct workload *w, int option, const char *value)
{
	if (option == 'c')
		w->pattern.cda_bytes = strtoull(value, NULL, 0);
	else if (option == 'p')
		w->pattern.ppt = (unsigned int)strtoul(value, NULL, 0);
	else if (option == 'w')
		w->pattern.wpp = (unsigned int)strtoul(value, NULL, 0);
	else if (option == 't')
		w->pattern.threads = (unsigned int)strtoul(value, NULL, 0);
	else if (option == 'x' && (!strcmp(value, "hot") || !strcmp(value, "random")))
		w->pattern.hot = !strcmp(value, "hot");
	else if (option == 'r')
		w->path = value;
	else if (option == 'o')
		w->opt = (uint32_t)strtoul(value, NULL, 0);
	else
		return false;
	return true;
}

/* Ends the process on error. */
static inline void workload_init(struct workload *w)
{
	if (!w->pattern.threads)
		w->pattern.threads = 1;
	if (!w->path) {
		if (w->opt)
			errx(2, "--opt: goes with --trace");
		pattern_init(&w->pattern);
		return;
	}
	if (w->pattern.cda_bytes || w->pattern.ppt || w->pattern.wpp || w->pattern.hot ||
	    w->pattern.threads != 1)
		errx(2, "--trace: takes the place of --cda, --ppt, --wpp, --pattern, --threads");
	if (!w->opt)
		errx(2, "--opt: how many operations make a transaction, 1 or more");
	trace_read(&w->trace, w->path, w->opt);
	w->pattern.cda_bytes = w->trace.bytes;
}

/* Touch the whole area, before the first transaction. */
static inline void workload_fill(struct workload *w, void *area)
{
	if (w->path)
		trace_put(&w->trace, area, 0);
	else
		pattern_fill(&w->pattern, area);
}

/* How many of `wanted` transactions come after number `txn` before a trace ends. */
static inline uint64_t workload_part(const struct workload *w, uint64_t txn, uint64_t wanted)
{
	uint64_t left = w->path ? w->trace.transactions - txn : wanted;

	return left < wanted ? left : wanted;
}

static inline bool workload_at_end(const struct workload *w, uint64_t txn)
{
	return w->path && txn == w->trace.transactions;
}

static inline void workload_write(const struct workload *w, void *area, uint64_t txn,
				  unsigned int thread)
{
	if (w->path)
		trace_write(&w->trace, area, txn - 1);
	else
		pattern_write(&w->pattern, area, txn, thread);
}

#endif
