// SPDX-License-Identifier: MIT
/*
 * A program to be advised: advised PAGES WRITES TRANSACTIONS [how it goes on].
 * Each transaction makes WRITES writes on each of PAGES pages, every second one
 * to the word of the one before, so that half as many words change.
 */
#include <err.h>
#include <hac.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AREA_PAGES 64u
#define PAGE_WORDS 512u

static unsigned int pages, writes, transactions;

struct share {
	volatile uint64_t *area;
	uint64_t value;
	unsigned int first, step;
};

static void *write_share(void *argument)
{
	const struct share *s = argument;

	for (unsigned int page = s->first; page < pages; page += s->step)
		for (unsigned int i = 0; i < writes; i++)
			s->area[page * PAGE_WORDS + i / 2] = s->value * 2 + i % 2;
	return NULL;
}

static void write_in_threads(uint64_t *area, uint64_t value)
{
	struct share one = { area, value, 0, 2 }, two = { area, value, 1, 2 };
	pthread_t thread;

	if (pthread_create(&thread, NULL, write_share, &two))
		errx(1, "no thread");
	write_share(&one);
	pthread_join(thread, NULL);
}

static hac *work(int threads, size_t area_pages)
{
	struct share all = { NULL, 0, 0, 1 };
	void *area;
	hac *h;

	if (hac_open(NULL, NULL, &h) || hac_map(h, "area", area_pages * 4096, NULL, &area))
		errx(1, "%s", hac_error_detail());
	memset(area, 1, area_pages * 4096);
	all.area = area;
	for (uint64_t value = 1; value <= transactions; value++) {
		if (hac_begin(h))
			errx(1, "%s", hac_error_detail());
		all.value = value + 100;
		if (threads)
			write_in_threads(area, all.value);
		else
			write_share(&all);
		if (hac_end(h, NULL, NULL))
			errx(1, "%s", hac_error_detail());
	}
	return h;
}

int main(int argc, char **argv)
{
	const char *how = argc == 5 ? argv[4] : "";
	hac *h, *other = NULL;

	if (argc < 4)
		errx(2, "usage: advised PAGES WRITES TRANSACTIONS [threads|two|leave|fail|killed]");
	pages = (unsigned int)atoi(argv[1]);
	writes = (unsigned int)atoi(argv[2]);
	transactions = (unsigned int)atoi(argv[3]);
	h = work(!strcmp(how, "threads"), AREA_PAGES);
	if (!strcmp(how, "two")) {
		transactions *= 2;
		other = work(0, 4 * AREA_PAGES);
	}
	if (!strcmp(how, "killed"))
		kill(getpid(), SIGKILL);
	if (!strcmp(how, "leave"))
		return 0;
	if (!strcmp(how, "fail"))
		return 7;
	if (hac_close(h) || (other && hac_close(other)))
		errx(1, "%s", hac_error_detail());
	return 0;
}
