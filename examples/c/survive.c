// SPDX-License-Identifier: MIT
/*
 * survive - a bank that is killed in the middle of its work, again and again.
 *
 *	survive [IMAGE [ROUNDS]]	without IMAGE: in a temporary folder
 *
 * A child process moves money between accounts, each transfer a transaction
 * of level JOURNAL: hac_end() comes back when the transfer would survive a
 * power failure. The parent kills the child with SIGKILL at a random moment,
 * maybe between debit and credit, reopens the image and checks
 *	- that no money was made or lost: a transfer is there wholly or not at all;
 *	- that every transfer which the child had announced as done is there.
 * Exit code 0: it was so in every round.
 */
#include <err.h>
#include <ftw.h>
#include <hac.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ACCOUNTS 1000
#define START_MONEY 100

/* All of the bank's memory. It is plain memory: C code reads and writes it. */
struct bank {
	uint64_t transfers;
	int64_t money[ACCOUNTS];
};

static void check(int result)
{
	if (result < 0)
		errx(1, "%s", hac_error_detail());
}

/* Open the image and get the bank out of it, or make a new one. */
static struct bank *open_bank(const char *image, uint32_t flags, hac **h)
{
	struct hac_options options = { .size = sizeof(options), .flags = flags };
	void *address;

	/* With a path, JOURNAL is the level that hac_end() waits for. */
	check(hac_open(image, &options, h));
	check(hac_map(*h, "bank", sizeof(struct bank), NULL, &address));
	return address;
}

/* What the first program that ever opens the image does. */
static void found_bank(const char *image)
{
	struct bank *bank;
	hac *h;

	bank = open_bank(image, 0, &h);
	if (!hac_restored(h, "bank")) {
		check(hac_begin(h));
		for (int i = 0; i < ACCOUNTS; i++)
			bank->money[i] = START_MONEY;
		check(hac_end(h, NULL, NULL));
	}
	check(hac_close(h));
}

/* ------------------------------------------------------------ the victim -- */

static void transfer(struct bank *bank)
{
	int64_t amount = 1 + rand() % 20;

	bank->money[rand() % ACCOUNTS] -= amount;
	/* Dawdle now and then, so that some kills fall between the two halves. */
	if (rand() % 4 == 0)
		usleep(1000);
	bank->money[rand() % ACCOUNTS] += amount;
	bank->transfers++;
}

/* Never returns. Announces each transfer that is done through `announce`. */
static void work(const char *image, int announce, unsigned int seed)
{
	struct bank *bank;
	hac *h;

	srand(seed);
	bank = open_bank(image, 0, &h);
	for (;;) {
		uint64_t done;

		check(hac_begin(h));
		transfer(bank);
		check(hac_end(h, NULL, NULL));
		done = bank->transfers;
		if (write(announce, &done, sizeof(done)) != sizeof(done))
			err(1, "write");
	}
}

/* ----------------------------------------------------------- the witness -- */

/* Let a child work for a while and kill it; the last transfer it announced. */
static uint64_t murder(const char *image, unsigned int seed)
{
	struct timespec alive = { .tv_nsec = (30 + rand() % 120) * 1000000L };
	uint64_t done, last = 0;
	int pipe_ends[2], status;
	pid_t child;

	if (pipe(pipe_ends))
		err(1, "pipe");
	fflush(stdout);
	child = fork(); /* no context is open here: none would work in the child */
	if (child < 0)
		err(1, "fork");
	if (!child) {
		close(pipe_ends[0]);
		work(image, pipe_ends[1], seed);
	}
	close(pipe_ends[1]);
	nanosleep(&alive, NULL);
	kill(child, SIGKILL);
	while (read(pipe_ends[0], &done, sizeof(done)) == sizeof(done))
		last = done;
	close(pipe_ends[0]);
	if (waitpid(child, &status, 0) != child)
		err(1, "waitpid");
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		errx(1, "the child ended by itself");
	return last;
}

static void inspect(const char *image, int round, uint64_t announced)
{
	struct hac_info info = { .size = sizeof(info) };
	struct bank *bank;
	int64_t total = 0;
	hac *h;

	bank = open_bank(image, HAC_READONLY, &h);
	check(hac_get_info(h, &info));
	for (int i = 0; i < ACCOUNTS; i++)
		total += bank->money[i];
	printf("round %2d: killed after transfer %5lu; the image has %5lu, epoch %lu, total %ld",
	       round, (unsigned long)announced, (unsigned long)bank->transfers,
	       (unsigned long)info.epoch, (long)total);
	if (info.dropped_bytes)
		printf(" (half-written end of %lu bytes ignored)",
		       (unsigned long)info.dropped_bytes);
	puts("");
	if (total != (int64_t)ACCOUNTS * START_MONEY)
		errx(1, "money was made or lost");
	if (bank->transfers < announced)
		errx(1, "a transfer that was done is gone");
	check(hac_close(h));
	hac_unmap(bank); /* it would stay readable otherwise */
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
	(void)status, (void)type, (void)walk;
	return remove(path);
}

int main(int argc, char **argv)
{
	char folder[] = "/tmp/survive.XXXXXX", own[sizeof(folder) + 16];
	const char *image = argc > 1 ? argv[1] : own;
	int rounds = argc > 2 ? atoi(argv[2]) : 10;

	if (argc > 3 || rounds < 1)
		errx(2, "usage: survive [IMAGE [ROUNDS]]");
	if (argc == 1) {
		if (!mkdtemp(folder))
			err(1, "%s", folder);
		snprintf(own, sizeof(own), "%s/bank.hac", folder);
	}
	srand((unsigned int)time(NULL));
	found_bank(image);
	for (int round = 1; round <= rounds; round++) {
		uint64_t announced = murder(image, (unsigned int)rand());

		inspect(image, round, announced);
	}
	printf("killed %d times, nothing lost\n", rounds);
	if (argc == 1)
		nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	return 0;
}
