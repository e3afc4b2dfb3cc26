// SPDX-License-Identifier: MIT
/*
 * naive_pt - page tracking as one would write it on a Sunday: the yardstick.
 *
 * begin: mprotect the whole area read-only. A write faults; the SIGSEGV handler
 * notes the page and makes it writable. end: the list of pages is the delta.
 * No twin, no diff, no hot set, no libhac.
 *
 * FROZEN. The ratios in the project's documents and the targets that
 * `python -m microbench bench` prints are relative to this program. A change
 * that makes it faster or slower makes all of them incomparable with what was
 * measured before. Improvements belong in libhac's engine "pt".
 */
#include "pattern.h"
#include "serve.h"
#include "writers.h"

#include <getopt.h>
#include <signal.h>
#include <sys/mman.h>

static struct pattern pattern;
static struct writers writers;
static char *area;
static uint32_t *list; /* the pages of this transaction */
static _Atomic size_t listed;
static uint64_t txn;

static void on_fault(int signal_number, siginfo_t *info, void *context)
{
	size_t offset = (size_t)((char *)info->si_addr - area);
	size_t page = offset / PATTERN_PAGE;

	(void)context;
	if ((char *)info->si_addr < area || offset >= pattern.cda_bytes) {
		signal(signal_number, SIG_DFL);
		return;
	}
	list[atomic_fetch_add(&listed, 1)] = (uint32_t)page;
	if (mprotect(area + page * PATTERN_PAGE, PATTERN_PAGE, PROT_READ | PROT_WRITE))
		_Exit(3);
}

static void run(uint64_t transactions, struct tally *tally)
{
	uint64_t start;

	writers_awake(&writers, true);
	start = serve_now();
	for (uint64_t i = 0; i < transactions; i++) {
		atomic_store(&listed, 0);
		if (mprotect(area, pattern.cda_bytes, PROT_READ))
			err(1, "mprotect");
		writers_write(&writers, ++txn);
		tally->pages += atomic_load(&listed);
	}
	tally->ns = serve_now() - start;
	writers_awake(&writers, false);
}

static void usage(void)
{
	fputs("usage: naive_pt --cda BYTES --ppt PAGES --wpp WRITES [--threads N] [--pattern "
	      "random|hot]\n"
	      "then one 'run N' a line on standard input; see microbench/serve.h\n",
	      stderr);
	exit(2);
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{ "cda", required_argument, NULL, 'c' },
		{ "ppt", required_argument, NULL, 'p' },
		{ "wpp", required_argument, NULL, 'w' },
		{ "threads", required_argument, NULL, 't' },
		{ "pattern", required_argument, NULL, 'x' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	pattern.threads = 1;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'c')
			pattern.cda_bytes = strtoull(optarg, NULL, 0);
		else if (option == 'p')
			pattern.ppt = (unsigned int)strtoul(optarg, NULL, 0);
		else if (option == 'w')
			pattern.wpp = (unsigned int)strtoul(optarg, NULL, 0);
		else if (option == 't')
			pattern.threads = (unsigned int)strtoul(optarg, NULL, 0);
		else if (option == 'x' && !strcmp(optarg, "hot"))
			pattern.hot = true;
		else if (option != 'x' || strcmp(optarg, "random"))
			usage();
	}
	if (optind != argc)
		usage();
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };

	parse(argc, argv);
	pattern_init(&pattern);
	list = calloc(pattern.cda_bytes / PATTERN_PAGE, sizeof(*list));
	area = mmap(NULL, pattern.cda_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		    -1, 0);
	if (!list || area == MAP_FAILED)
		err(1, "%zu bytes", pattern.cda_bytes);
	pattern_fill(&pattern, area);
	if (sigaction(SIGSEGV, &action, NULL))
		err(1, "sigaction");
	writers_start(&writers, &pattern, area);
	serve(run);
	return 0;
}
