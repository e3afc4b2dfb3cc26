// SPDX-License-Identifier: MIT
/*
 * engine_bench - the loop of naive_pt over libhac, with one engine.
 *
 * A transaction is hac_begin(), the stores of pattern.h or of a trace, hac_end()
 * with the delta lent, its bytes with it; without a twin it is, like naive_pt's, a
 * list. There is no image: nothing but tracking is measured.
 * With --loop next the transactions of a run follow each other by hac_next().
 *
 * Exit code 77: the engine is not available here; the reason is on stderr.
 */
#include "copy.h"
#include "serve.h"
#include "writers.h"

#include <errno.h>
#include <hac.h>

static struct workload workload;
static struct writers writers;
static struct hac_options context_options = { .size = sizeof(context_options) };
static struct hac_delta delta = { .size = sizeof(delta) };
static struct copy copied;
static hac *context;
static unsigned char *area;
static bool by_next; /* transactions follow each other by hac_next() */
static uint64_t txn;

static void must(int result, const char *call)
{
	if (result)
		errx(1, "%s: %s", call, hac_error_detail());
}

static void stats(struct hac_stats *s)
{
	s->size = sizeof(*s);
	must(hac_get_stats(context, s), "hac_get_stats");
}

/* What a transaction costs is between start and end of it: with hac_next(), what
 * comes before the first and after the last one is not part of any. */
static void first(void)
{
	if (by_next)
		must(hac_begin(context), "hac_begin");
}

static void last(void)
{
	if (by_next)
		must(hac_end(context, NULL, NULL), "hac_end");
}

static inline void transact(void)
{
	if (!by_next)
		must(hac_begin(context), "hac_begin");
	writers_write(&writers, ++txn);
	if (by_next)
		must(hac_next(context, &delta, NULL), "hac_next");
	else
		must(hac_end(context, &delta, NULL), "hac_end");
}

/* Put the memory of a trace where it is before transaction `to` (from 0 on). */
static void seek(uint64_t to)
{
	must(hac_begin(context), "hac_begin");
	must(hac_will_write(context, area, workload.pattern.cda_bytes), "hac_will_write");
	trace_put(&workload.trace, area, to);
	must(hac_end(context, NULL, NULL), "hac_end");
	txn = to;
}

static void jump(uint64_t to)
{
	txn = to;
}

static void account(struct tally *tally, const struct hac_stats *before)
{
	bool lists = context_options.flags & HAC_NO_TWIN; /* which tell nothing of words */
	struct hac_stats after;

	stats(&after);
	tally->pages += (int64_t)(after.dirty_pages - before->dirty_pages);
	tally->words =
		lists ? -1 : tally->words + (int64_t)(after.changed_words - before->changed_words);
	tally->writes = after.writes == UINT64_MAX ?
				-1 :
				tally->writes + (int64_t)(after.writes - before->writes);
}

static void run(uint64_t transactions, struct tally *tally)
{
	struct hac_stats before;
	uint64_t start;

	writers_awake(&writers, true);
	while (transactions) {
		uint64_t part = workload_part(&workload, txn, transactions);

		stats(&before);
		first();
		start = serve_now();
		for (uint64_t i = 0; i < part; i++)
			transact();
		tally->ns += serve_now() - start;
		last();
		account(tally, &before);
		transactions -= part;
		if (workload_at_end(&workload, txn))
			seek(0);
	}
	writers_awake(&writers, false);
}

/* Runs, and the bytes at them; libhac has gathered those where it knows them. */
static void copy_delta(void)
{
	copy_put(&copied, delta.runs, delta.runs_count * sizeof(*delta.runs));
	if (!(delta.flags & HAC_RUNS_ONLY)) {
		copy_put(&copied, delta.bytes, delta.bytes_count);
		return;
	}
	for (size_t i = 0; i < delta.runs_count; i++)
		copy_put(&copied, area + delta.runs[i].offset, delta.runs[i].length);
}

static void run_and_copy(uint64_t transactions, struct tally *tally)
{
	uint64_t clock_ns = serve_clock_ns(), copied_before = copied.bytes;
	struct hac_stats before;

	writers_awake(&writers, true);
	while (transactions--) {
		uint64_t start, middle;

		stats(&before);
		first();
		start = serve_now();
		transact();
		middle = serve_now();
		copy_delta();
		tally->copy_ns += serve_between(middle, serve_now(), clock_ns);
		tally->ns += serve_between(start, middle, clock_ns);
		last();
		account(tally, &before);
		if (workload_at_end(&workload, txn))
			seek(0);
	}
	writers_awake(&writers, false);
	tally->copy_bytes = copied.bytes - copied_before;
}

static void usage(void)
{
	fputs("usage: engine_bench --engine NAME " WORKLOAD_USAGE
	      "         [--delta words|pages] [--no-twin] [--loop begin-end|next]\n"
	      "then one 'run N' a line on standard input; see microbench/serve.h\n",
	      stderr);
	exit(2);
}

static bool one_of(const char *value, const char *no, const char *yes)
{
	if (strcmp(value, no) && strcmp(value, yes))
		usage();
	return !strcmp(value, yes);
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		WORKLOAD_OPTIONS,
		{ "engine", required_argument, NULL, 'e' },
		{ "delta", required_argument, NULL, 'd' },
		{ "no-twin", no_argument, NULL, 'n' },
		{ "loop", required_argument, NULL, 'l' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'e')
			context_options.engine = optarg;
		else if (option == 'd')
			delta.form = one_of(optarg, "words", "pages") ? HAC_PAGES : HAC_WORDS;
		else if (option == 'l')
			by_next = one_of(optarg, "begin-end", "next");
		else if (option == 'n')
			context_options.flags |= HAC_NO_TWIN;
		else if (!workload_option(&workload, option, optarg))
			usage();
	}
	if (optind != argc)
		usage();
	if (context_options.flags & HAC_NO_TWIN)
		delta.flags = HAC_RUNS_ONLY;
	workload_init(&workload);
}

static int give_up(const char *call, int error)
{
	warnx("%s: %s", call, hac_error_detail());
	return error == -ENODEV ? 77 : 1;
}

int main(int argc, char **argv)
{
	struct service service = { .run = run, .copy = run_and_copy };
	void *address;
	int error;

	parse(argc, argv);
	error = hac_open(NULL, &context_options, &context);
	if (error)
		return give_up("hac_open", error);
	error = hac_map(context, "area", workload.pattern.cda_bytes, NULL, &address);
	if (error)
		return give_up("hac_map", error);
	area = address;
	workload_fill(&workload, area);
	/* The filling takes an epoch of its own, which is not to be counted. */
	error = hac_begin(context);
	if (!error)
		error = hac_end(context, NULL, NULL);
	if (error)
		return give_up("first transaction", error);
	copy_init(&copied);
	writers_start(&writers, &workload, area);
	if (workload.path) {
		service.seek = seek;
		/* Without a twin nobody looks at what is in the memory. */
		service.jump = context_options.flags & HAC_NO_TWIN ? jump : seek;
		service.transactions = workload.trace.transactions;
	}
	serve(&service);
	return hac_close(context) ? give_up("hac_close", 1) : 0;
}
