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
 * measured before. Improvements belong in libhac's engine "pt". What it writes,
 * and what becomes of the list, is no part of it.
 */
#include "copy.h"
#include "serve.h"
#include "writers.h"

#include <signal.h>
#include <sys/mman.h>

static struct workload workload;
static struct writers writers;
static struct copy copied;
static char *area;
static uint32_t *list; /* the pages of this transaction */
static _Atomic size_t listed;
static uint64_t txn;

static void on_fault(int signal_number, siginfo_t *info, void *context)
{
	size_t offset = (size_t)((char *)info->si_addr - area);
	size_t page = offset / PATTERN_PAGE;

	(void)context;
	if ((char *)info->si_addr < area || offset >= workload.pattern.cda_bytes) {
		signal(signal_number, SIG_DFL);
		return;
	}
	list[atomic_fetch_add(&listed, 1)] = (uint32_t)page;
	if (mprotect(area + page * PATTERN_PAGE, PATTERN_PAGE, PROT_READ | PROT_WRITE))
		_Exit(3);
}

static void begin(void)
{
	atomic_store(&listed, 0);
	if (mprotect(area, workload.pattern.cda_bytes, PROT_READ))
		err(1, "mprotect");
}

/* Put the memory of a trace where it is before transaction `to` (from 0 on). */
static void seek(uint64_t to)
{
	if (mprotect(area, workload.pattern.cda_bytes, PROT_READ | PROT_WRITE))
		err(1, "mprotect");
	trace_put(&workload.trace, area, to);
	txn = to;
}

static void jump(uint64_t to)
{
	txn = to;
}

static uint64_t loop(uint64_t transactions, struct tally *tally)
{
	uint64_t start = serve_now();

	for (uint64_t i = 0; i < transactions; i++) {
		begin();
		writers_write(&writers, ++txn);
		tally->pages += (int64_t)atomic_load(&listed);
	}
	return serve_now() - start;
}

static void run(uint64_t transactions, struct tally *tally)
{
	tally->words = tally->writes = -1;
	writers_awake(&writers, true);
	while (transactions) {
		uint64_t part = workload_part(&workload, txn, transactions);

		tally->ns += loop(part, tally);
		transactions -= part;
		if (workload_at_end(&workload, txn))
			seek(0);
	}
	writers_awake(&writers, false);
}

static void copy_pages(void)
{
	size_t count = atomic_load(&listed);

	for (size_t i = 0; i < count; i++) {
		copy_put(&copied, &list[i], sizeof(list[i]));
		copy_put(&copied, area + (size_t)list[i] * PATTERN_PAGE, PATTERN_PAGE);
	}
}

static void run_and_copy(uint64_t transactions, struct tally *tally)
{
	uint64_t clock_ns = serve_clock_ns(), before = copied.bytes;

	tally->words = tally->writes = -1;
	writers_awake(&writers, true);
	while (transactions--) {
		uint64_t start = serve_now(), middle;

		begin();
		writers_write(&writers, ++txn);
		middle = serve_now();
		copy_pages();
		tally->copy_ns += serve_between(middle, serve_now(), clock_ns);
		tally->ns += serve_between(start, middle, clock_ns);
		tally->pages += (int64_t)atomic_load(&listed);
		if (workload_at_end(&workload, txn))
			seek(0);
	}
	writers_awake(&writers, false);
	tally->copy_bytes = copied.bytes - before;
}

static void usage(void)
{
	fputs("usage: naive_pt " WORKLOAD_USAGE
	      "then one 'run N' a line on standard input; see microbench/serve.h\n",
	      stderr);
	exit(2);
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = { WORKLOAD_OPTIONS, { NULL, 0, NULL, 0 } };
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (!workload_option(&workload, option, optarg))
			usage();
	if (optind != argc)
		usage();
	workload_init(&workload);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	struct service service = { .run = run, .copy = run_and_copy };
	size_t bytes;

	parse(argc, argv);
	bytes = workload.pattern.cda_bytes;
	list = calloc(bytes / PATTERN_PAGE, sizeof(*list));
	area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!list || area == MAP_FAILED)
		err(1, "%zu bytes", bytes);
	workload_fill(&workload, area);
	if (sigaction(SIGSEGV, &action, NULL))
		err(1, "sigaction");
	copy_init(&copied);
	writers_start(&writers, &workload, area);
	if (workload.path) {
		service.seek = seek;
		service.jump = jump;
		service.transactions = workload.trace.transactions;
	}
	serve(&service);
	return 0;
}
