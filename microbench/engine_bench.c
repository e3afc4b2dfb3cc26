// SPDX-License-Identifier: MIT
/*
 * engine_bench - the loop of naive_pt over libhac, with one engine.
 *
 * A transaction is hac_begin(), the stores of pattern.h, hac_end() with the
 * delta lent, its bytes with it; without a twin it is, like naive_pt's, a list.
 * There is no image: nothing but tracking is measured.
 * With --loop next the transactions of a run follow each other by hac_next().
 *
 * Exit code 77: the engine is not available here; the reason is on stderr.
 */
#include "pattern.h"
#include "serve.h"
#include "writers.h"

#include <errno.h>
#include <getopt.h>
#include <hac.h>

static struct pattern pattern;
static struct writers writers;
static struct hac_options context_options = { .size = sizeof(context_options) };
static struct hac_delta delta = { .size = sizeof(delta) };
static hac *context;
static uint64_t txn;

static void stats(struct hac_stats *s)
{
	s->size = sizeof(*s);
	if (hac_get_stats(context, s))
		errx(1, "hac_get_stats: %s", hac_error_detail());
}

static void begin(void)
{
	if (hac_begin(context))
		errx(1, "hac_begin: %s", hac_error_detail());
}

static void end(void)
{
	if (hac_end(context, &delta, NULL))
		errx(1, "hac_end: %s", hac_error_detail());
}

static void loop_begin_end(uint64_t transactions)
{
	for (uint64_t i = 0; i < transactions; i++) {
		begin();
		writers_write(&writers, ++txn);
		end();
	}
}

static void loop_next(uint64_t transactions)
{
	if (!transactions)
		return;
	begin();
	for (uint64_t i = 1; i < transactions; i++) {
		writers_write(&writers, ++txn);
		if (hac_next(context, &delta, NULL))
			errx(1, "hac_next: %s", hac_error_detail());
	}
	writers_write(&writers, ++txn);
	end();
}

static void (*loop)(uint64_t transactions) = loop_begin_end;

static void run(uint64_t transactions, struct tally *tally)
{
	struct hac_stats before, after;
	uint64_t start;

	stats(&before);
	writers_awake(&writers, true);
	start = serve_now();
	loop(transactions);
	tally->ns = serve_now() - start;
	writers_awake(&writers, false);
	stats(&after);
	tally->pages = after.dirty_pages - before.dirty_pages;
	tally->words = after.changed_words - before.changed_words;
}

static void usage(void)
{
	fputs("usage: engine_bench --engine NAME --cda BYTES --ppt PAGES --wpp WRITES\n"
	      "         [--threads N] [--pattern random|hot] [--delta words|pages] [--no-twin]\n"
	      "         [--loop begin-end|next]\n"
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
		{ "engine", required_argument, NULL, 'e' },
		{ "cda", required_argument, NULL, 'c' },
		{ "ppt", required_argument, NULL, 'p' },
		{ "wpp", required_argument, NULL, 'w' },
		{ "threads", required_argument, NULL, 't' },
		{ "pattern", required_argument, NULL, 'x' },
		{ "delta", required_argument, NULL, 'd' },
		{ "no-twin", no_argument, NULL, 'n' },
		{ "loop", required_argument, NULL, 'l' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	pattern.threads = 1;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'e')
			context_options.engine = optarg;
		else if (option == 'c')
			pattern.cda_bytes = strtoull(optarg, NULL, 0);
		else if (option == 'p')
			pattern.ppt = (unsigned int)strtoul(optarg, NULL, 0);
		else if (option == 'w')
			pattern.wpp = (unsigned int)strtoul(optarg, NULL, 0);
		else if (option == 't')
			pattern.threads = (unsigned int)strtoul(optarg, NULL, 0);
		else if (option == 'x')
			pattern.hot = one_of(optarg, "random", "hot");
		else if (option == 'd')
			delta.form = one_of(optarg, "words", "pages") ? HAC_PAGES : HAC_WORDS;
		else if (option == 'l')
			loop = one_of(optarg, "begin-end", "next") ? loop_next : loop_begin_end;
		else if (option == 'n')
			context_options.flags |= HAC_NO_TWIN;
		else
			usage();
	}
	if (optind != argc)
		usage();
	if (context_options.flags & HAC_NO_TWIN)
		delta.flags = HAC_RUNS_ONLY;
}

static int give_up(const char *call, int error)
{
	warnx("%s: %s", call, hac_error_detail());
	return error == -ENODEV ? 77 : 1;
}

int main(int argc, char **argv)
{
	void *area;
	int error;

	parse(argc, argv);
	pattern_init(&pattern);
	error = hac_open(NULL, &context_options, &context);
	if (error)
		return give_up("hac_open", error);
	error = hac_map(context, "area", pattern.cda_bytes, NULL, &area);
	if (error)
		return give_up("hac_map", error);
	pattern_fill(&pattern, area);
	/* The filling takes an epoch of its own, which is not to be counted. */
	error = hac_begin(context);
	if (!error)
		error = hac_end(context, NULL, NULL);
	if (error)
		return give_up("first transaction", error);
	writers_start(&writers, &pattern, area);
	serve(run);
	return hac_close(context) ? give_up("hac_close", 1) : 0;
}
