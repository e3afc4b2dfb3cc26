// SPDX-License-Identifier: MIT
/*
 * replication_bench - what a transaction costs the application whose helper
 * sends it on, and what reaches a backup.
 *
 * One area of 64 KiB under the engine "compare"; a transaction changes --bytes
 * of it, all of them, at another place each time.
 *
 *	--mode memcpy	copies so many bytes into a ring of memory: the yardstick
 *	--mode shared	the same into memory that another process reads now and then,
 *			as a helper does: its lines have to be fetched from there
 *	--mode none	a context without an image
 *	--mode ring	a context with a helper, level RING: bursts that the ring holds;
 *			what the helper does with them is waited for in between,
 *			and not counted
 *			Of both, hac_begin() and hac_finish() are timed: all that
 *			an image adds is there. hac_prepare(), which finds the delta,
 *			is the same in both, takes longer, and differs from process
 *			to process by more than is to be measured.
 * These speak the protocol of serve.h.
 *
 *	--mode stream --transactions N [--rate R]
 * ends N transactions at level RING, as fast as it goes or at most R a second, and
 * waits until a backup has the last. Prints one line: nanoseconds, bytes of deltas, and the 50th and 99th percentile of the
 * time from the end of a transaction to the backup's acknowledgement.
 *
 *	--mode single --transactions N
 * the same, but each transaction waits for its acknowledgement.
 *
 * Words behind "--" are the helper's program and arguments, up to a second "--",
 * and then its further arguments (struct hac_replication).
 */
#include "serve.h"

#include <getopt.h>
#include <hac.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define AREA ((size_t)64 << 10)
#define SAMPLES (1u << 16)

static struct hac_replication replication = { .size = sizeof(replication), .role = HAC_PRIMARY };
static struct hac_options context_options = {
	.size = sizeof(context_options),
	.engine = "compare",
	.level = { .kind = HAC_LEVEL_RING },
};
static const struct hac_level backup = { HAC_LEVEL_BACKUP, 1 };
static const struct hac_level journal = { HAC_LEVEL_JOURNAL, 0 };
static hac *context;
static unsigned char *area, *copies;
static size_t bytes = 8, ring = (size_t)1 << 20; /* the default */
static uint64_t rate;                            /* transactions a second; 0: as fast as it goes */
static uint64_t txn, last_epoch;

static void must(int result, const char *call)
{
	if (result)
		errx(1, "%s: %s", call, hac_error_detail());
}

/* Bytes that no earlier transaction had there. */
static unsigned char *change(void)
{
	size_t at = txn * bytes % AREA;
	uint64_t value = ++txn * 0x9e3779b97f4a7c15u;

	if (at + bytes > AREA)
		at = 0;
	for (size_t i = 0; i < bytes; i += 8, value += 0x9e3779b97f4a7c15u)
		memcpy(area + at + i, &value, 8);
	return area + at;
}

static void transact(void)
{
	must(hac_begin(context), "hac_begin");
	change();
	must(hac_end(context, NULL, &last_epoch), "hac_end");
}

static void run_memcpy(uint64_t transactions, struct tally *tally)
{
	size_t at = 0;
	uint64_t start = serve_now();

	for (uint64_t i = 0; i < transactions; i++) {
		memcpy(copies + at, change(), bytes);
		at = (at + bytes) % (ring - bytes);
	}
	tally->ns = serve_now() - start;
	/* Without the changing, which every mode does. */
	start = serve_now();
	for (uint64_t i = 0; i < transactions; i++)
		change();
	start = serve_now() - start;
	tally->ns = tally->ns > start ? tally->ns - start : 0;
}

/* What both processes of --mode shared see. */
struct shared {
	_Alignas(64) _Atomic uint64_t head; /* bytes ever copied */
	_Alignas(64) _Atomic uint64_t tail; /* bytes ever read */
};

static void read_what_comes(struct shared *shared)
{
	uint64_t tail = 0, head;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;; nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL)) {
		for (head = atomic_load(&shared->head); tail < head; tail += 64)
			(void)*(volatile unsigned char *)(copies + tail % ring);
		atomic_store(&shared->tail, tail);
	}
}

static struct shared *start_reader(void)
{
	struct shared *shared = mmap(NULL, 4096 + ring + AREA, PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	if (shared == MAP_FAILED)
		errx(1, "no memory");
	copies = (unsigned char *)shared + 4096;
	memset(copies, 1, ring + AREA);
	pid = fork();
	if (pid < 0)
		errx(1, "cannot fork");
	if (!pid)
		read_what_comes(shared);
	return shared;
}

static void run_shared(uint64_t transactions, struct tally *tally)
{
	static struct shared *shared;
	uint64_t clock_ns = serve_clock_ns(), burst = ring / 2 / (bytes + 256), start;
	size_t step = (bytes + 63) / 64 * 64;
	unsigned char *from;

	if (!shared)
		shared = start_reader();
	for (uint64_t i = 0; i < transactions; i++) {
		uint64_t head = atomic_load_explicit(&shared->head, memory_order_relaxed);

		while (i % burst == 0 && atomic_load(&shared->tail) < head)
			nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
		from = change();
		start = serve_now();
		memcpy(copies + head % ring, from, bytes);
		tally->ns += serve_between(start, serve_now(), clock_ns);
		atomic_store(&shared->head, head + step);
	}
}

/* The nanoseconds of begin and finish. */
static uint64_t transact_timed(void)
{
	uint64_t start = serve_now(), begun, prepared;

	must(hac_begin(context), "hac_begin");
	begun = serve_now();
	change();
	must(hac_prepare(context, NULL), "hac_prepare");
	prepared = serve_now();
	must(hac_finish(context, &last_epoch), "hac_finish");
	return begun - start + serve_now() - prepared;
}

static void run_bursts(uint64_t transactions, struct tally *tally)
{
	uint64_t burst = ring / 2 / (bytes + 256);

	while (transactions) {
		uint64_t n = transactions < burst ? transactions : burst;

		for (uint64_t i = 0; i < n; i++)
			tally->ns += transact_timed();
		transactions -= n;
		if (context_options.replication)
			must(hac_wait(context, last_epoch, &journal, -1), "hac_wait");
	}
}

/* ------------------------------------------------------------- stream -- */

struct sample {
	uint64_t epoch, ended;
};

static struct sample samples[SAMPLES];
static _Atomic uint32_t sampled, answered;
static uint64_t lags[SAMPLES];
static atomic_bool finished;

static void *measure_lag(void *unused)
{
	(void)unused;
	for (;;) {
		uint32_t i = atomic_load(&answered);

		if (i == atomic_load(&sampled)) {
			if (atomic_load(&finished))
				return NULL;
			nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
			continue;
		}
		must(hac_wait(context, samples[i].epoch, &backup, -1), "hac_wait");
		lags[i] = serve_now() - samples[i].ended;
		atomic_store(&answered, i + 1);
	}
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The next one is taken when the last has been answered: waiting for one must
 * not delay another. */
static void sample_now_and_then(uint64_t now)
{
	uint32_t n = atomic_load(&sampled);

	if (n == SAMPLES || n != atomic_load(&answered))
		return;
	samples[n] = (struct sample){ last_epoch, now };
	atomic_store(&sampled, n + 1);
}

/* The i-th transaction is due: they come in bursts of a millisecond. */
static void pace(uint64_t i, uint64_t start)
{
	uint64_t burst = rate / 1000 ? rate / 1000 : 1, due, now;

	if (!rate || i % burst)
		return;
	due = start + i * 1000000000u / rate;
	now = serve_now();
	if (now < due)
		nanosleep(&(struct timespec){ .tv_nsec = (long)(due - now) }, NULL);
}

static void stream(uint64_t transactions, bool single)
{
	uint64_t start, ns;
	pthread_t thread;
	uint32_t n;

	/* The backup has the base, and follows. */
	must(hac_wait(context, last_epoch, &backup, -1), "hac_wait");
	start = serve_now();

	if (pthread_create(&thread, NULL, measure_lag, NULL))
		errx(1, "cannot start a thread");
	for (uint64_t i = 0; i < transactions; i++) {
		uint64_t before = single ? serve_now() : 0;

		pace(i, start);
		transact();
		if (single) {
			must(hac_wait(context, last_epoch, &backup, -1), "hac_wait");
			if (i < SAMPLES)
				lags[i] = serve_now() - before;
		} else if (i % 16 == 0) {
			sample_now_and_then(serve_now());
		}
	}
	must(hac_wait(context, last_epoch, &backup, -1), "hac_wait");
	ns = serve_now() - start;
	atomic_store(&finished, true);
	pthread_join(thread, NULL);
	n = single ? (transactions < SAMPLES ? (uint32_t)transactions : SAMPLES) :
		     atomic_load(&answered);
	qsort(lags, n, sizeof(*lags), by_size);
	printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", ns, transactions * bytes,
	       lags[n / 2], lags[n - 1 - n / 100]);
}

/* --------------------------------------------------------------- main -- */

static void usage(void)
{
	fputs("usage: replication_bench --mode memcpy|shared|none|ring|stream|single [--bytes N]\n"
	      "         [--transactions N] [--rate R] [--ring N] [--image PATH] [--flush-ms N]\n"
	      "         [-- HELPER ... [-- ARGUMENT ...]]\n"
	      "see the head of microbench/replication_bench.c\n",
	      stderr);
	exit(2);
}

static void parse_helper(char **argv)
{
	replication.command = (const char *const *)argv;
	while (*argv && strcmp(*argv, "--"))
		argv++;
	if (*argv) {
		*argv = NULL;
		replication.arguments = (const char *const *)argv + 1;
	}
	context_options.replication = &replication;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "mode", required_argument, NULL, 'm' },
		{ "bytes", required_argument, NULL, 'b' },
		{ "transactions", required_argument, NULL, 't' },
		{ "image", required_argument, NULL, 'i' },
		{ "ring", required_argument, NULL, 'g' },
		{ "rate", required_argument, NULL, 'r' },
		{ "flush-ms", required_argument, NULL, 'f' },
		{ NULL, 0, NULL, 0 },
	};
	const char *mode = "", *image = NULL;
	uint64_t transactions = 0;
	void *address;
	int option;

	while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		if (option == 'm')
			mode = optarg;
		else if (option == 'b')
			bytes = strtoull(optarg, NULL, 0);
		else if (option == 't')
			transactions = strtoull(optarg, NULL, 0);
		else if (option == 'i')
			image = optarg;
		else if (option == 'g')
			ring = context_options.ring_bytes = strtoull(optarg, NULL, 0);
		else if (option == 'r')
			rate = strtoull(optarg, NULL, 0);
		else if (option == 'f')
			context_options.flush_ms = atoi(optarg);
		else
			usage();
	}
	if (!bytes || bytes % 8 || bytes > AREA)
		usage();
	if (optind < argc)
		parse_helper(argv + optind);
	if (!strcmp(mode, "memcpy")) {
		area = calloc(1, AREA);
		copies = malloc(ring);
		if (!area || !copies)
			errx(1, "no memory");
		memset(copies, 1, ring);
		serve(&(struct service){ .run = run_memcpy });
		return 0;
	}
	if (!strcmp(mode, "shared")) {
		area = calloc(1, AREA);
		if (!area)
			errx(1, "no memory");
		serve(&(struct service){ .run = run_shared });
		return 0;
	}
	if (!strcmp(mode, "none")) {
		context_options.replication = NULL;
		image = NULL;
	} else if (!image || !context_options.replication) {
		usage();
	}
	must(hac_open(image, &context_options, &context), "hac_open");
	must(hac_map(context, "area", AREA, NULL, &address), "hac_map");
	area = address;
	transact();
	if (!strcmp(mode, "none") || !strcmp(mode, "ring"))
		serve(&(struct service){ .run = run_bursts });
	else if (!strcmp(mode, "stream") || !strcmp(mode, "single"))
		stream(transactions, !strcmp(mode, "single"));
	else
		usage();
	must(hac_close(context), "hac_close");
	return 0;
}
