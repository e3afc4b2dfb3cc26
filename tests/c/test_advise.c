// SPDX-License-Identifier: MIT
/*
 * HAC_ADVISE: a line for each context that is closed or left to exit, in the
 * process that opened it. HAC_ENGINE: the engine of every area. And what
 * hac_get_stats() sums up: transactions, neither strays nor what was aborted.
 */
#include "each_engine.h"
#include "temp.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#define PAGE 4096u
#define PAGES 16u

static hac *fill(hac *h, uint64_t **area)
{
	void *p;
	unsigned int i;

	CHECK_OK(hac_map(h, "say \"a\\\n", (size_t)PAGES * PAGE, NULL, &p));
	*area = p;
	for (i = 0; i < PAGES; i++)
		(*area)[i * 512] = 1;
	return h;
}

/* Three words on each of five pages. */
static void write_some(volatile uint64_t *area, uint64_t value)
{
	unsigned int i;

	for (i = 0; i < 15; i++)
		area[i / 3 * 512 + i % 3 * 8] = value;
}

static void transactions(hac *h, uint64_t *area, unsigned int count)
{
	for (; count; count--) {
		CHECK_OK(hac_begin(h));
		write_some(area, count + 7);
		CHECK_OK(hac_end(h, NULL, NULL));
	}
}

static struct hac_stats stats_of(hac *h)
{
	struct hac_stats stats = { .size = sizeof(stats) };

	CHECK_OK(hac_get_stats(h, &stats));
	return stats;
}

static void sums_are_of_transactions(const char *engine)
{
	bool words = !strncmp(engine, "emul", 4);
	uint64_t *area;
	hac *h = fill(open_with(engine, 0), &area);
	struct hac_stats stats;

	transactions(h, area, 4);
	CHECK_OK(hac_begin(h));
	write_some(area, 99);
	CHECK_OK(hac_abort(h));
	write_some(area, 98); /* strays */
	transactions(h, area, 1);
	stats = stats_of(h);
	CHECK_IS(stats.transactions - stats.strays, 5);
	CHECK_IS(stats.strays, 2);
	CHECK_IS(stats.aborts, 1);
	/* uffd may say more: the kernel's notion of a page may be wider. */
	CHECK(stats.dirty_pages >= 25);
	if (strcmp(engine, "uffd") && strcmp(engine, "auto"))
		CHECK_IS(stats.dirty_pages, 25);
	CHECK_IS(stats.changed_words, 75);
	CHECK_IS(stats.delta_bytes, 600);
	CHECK_IS(stats.writes, words ? 75ull : UINT64_MAX);
	CHECK_IS(stats.fallbacks, 0);
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_unmap(area));
}

/* Pages that are opened for the kernel are no single writes. */
static void fallbacks_are_counted(void)
{
	uint64_t *area;
	hac *h = fill(open_with("emul", 0), &area);
	struct hac_stats stats;

	CHECK_OK(hac_begin(h));
	CHECK_OK(hac_will_write(h, area, 2 * PAGE));
	write_some(area, 5);
	CHECK_OK(hac_end(h, NULL, NULL));
	stats = stats_of(h);
	CHECK_IS(stats.fallbacks, 2);
	CHECK_IS(stats.writes, 9);
	CHECK_IS(stats.dirty_pages, 5);
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_unmap(area));
}

/* Neither are those to pages that adopted memory shares with something else. */
static void edges_are_counted(void)
{
	static uint64_t memory[4 * 512] __attribute__((aligned(4096)));
	hac *h = open_with("emul", 0);
	volatile uint64_t *area = memory + 8;
	struct hac_stats stats;

	CHECK_OK(hac_adopt(h, "a", memory + 8, 2 * PAGE + 512, NULL));
	CHECK_OK(hac_begin(h));
	area[0] = 1;
	area[512] = 2;
	area[513] = 3;
	CHECK_OK(hac_end(h, NULL, NULL));
	stats = stats_of(h);
	CHECK_IS(stats.writes, 2);
	CHECK_IS(stats.fallbacks, 1);
	CHECK_OK(hac_begin(h));
	area[0] = 4;
	area[2 * 512] = 5;
	CHECK_OK(hac_end(h, NULL, NULL));
	CHECK_IS(stats_of(h).fallbacks, 3);
	CHECK_OK(hac_close(h));
}

static const char *report;

/* What the file holds; empty if there is none. It is removed. */
static const char *take_report(void)
{
	static char text[16384];
	FILE *file = fopen(report, "r");
	size_t size = 0;

	if (file) {
		size = fread(text, 1, sizeof(text) - 1, file);
		fclose(file);
		unlink(report);
	}
	text[size] = '\0';
	return text;
}

static unsigned int lines_of(const char *text)
{
	unsigned int lines = 0;

	for (; *text; text++)
		lines += *text == '\n';
	return lines;
}

#define CHECK_REPORT(text, part) CHECK_MSG(strstr(text, part), "the report is %s", text)

static void closing_reports(void)
{
	uint64_t *area;
	hac *h = fill(open_with("pt", 0), &area);
	const char *text;

	transactions(h, area, 3);
	CHECK_OK(hac_close(h));
	text = take_report();
	CHECK_IS(lines_of(text), 1);
	CHECK_REPORT(text, "\"path\": null");
	CHECK_REPORT(text, "\"transactions\": 4");
	CHECK_REPORT(text, "\"strays\": 1");
	CHECK_REPORT(text, "\"dirty_pages\": 15");
	CHECK_REPORT(text, "\"changed_words\": 45");
	CHECK_REPORT(text, "\"writes\": null");
	CHECK_REPORT(text, "{\"name\": \"say \\\"a\\\\\\u000a\", \"bytes\": 65536, "
			   "\"engine\": \"pt\", \"own_engine\": \"pt\"}");
	CHECK_IS(hac_close(h), -EBADF);
	CHECK_IS(lines_of(take_report()), 0);
	CHECK_OK(hac_unmap(area));
}

/* Run `part` in a child; its wait status. */
static int in_child(void (*part)(void))
{
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (!pid) {
		part();
		exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	return status;
}

static void leave_two_open(void)
{
	uint64_t *area;
	hac *h = fill(open_with("compare", 0), &area);

	transactions(h, area, 2);
	CHECK_OK(hac_close(h));
	h = fill(open_with("compare", 0), &area);
	transactions(h, area, 3);
	h = fill(open_with("compare", HAC_JOIN_STRAYS), &area);
	transactions(h, area, 4);
}

static void nothing(void)
{
}

static void leave_open_and_fork(void)
{
	leave_two_open();
	CHECK_IS(in_child(nothing), 0);
	CHECK_IS(in_child(leave_two_open), 0);
}

static void be_killed(void)
{
	leave_two_open();
	kill(getpid(), SIGKILL);
}

static void exiting_reports(void)
{
	const char *text;

	CHECK_IS(in_child(leave_two_open), 0);
	text = take_report();
	CHECK_IS(lines_of(text), 3);
	CHECK_REPORT(text, "\"transactions\": 4");
	CHECK_REPORT(text, "\"transactions\": 5");
	CHECK_REPORT(text, "\"flags\": 32");
	/* One that was closed here is the parent's. */
	CHECK_IS(in_child(leave_open_and_fork), 0);
	CHECK_IS(lines_of(take_report()), 6);
	CHECK(WIFSIGNALED(in_child(be_killed)));
	CHECK_IS(lines_of(take_report()), 1);
}

static void readers_do_not(void)
{
	struct hac_options o = { .size = sizeof(o), .flags = HAC_READONLY };
	const char *path = temp_path("image"), *text;
	uint64_t *area;
	void *p;
	hac *h;

	CHECK_OK(hac_open(path, NULL, &h));
	fill(h, &area);
	transactions(h, area, 1);
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_unmap(area));
	text = take_report();
	CHECK_IS(lines_of(text), 1);
	CHECK_REPORT(text, path);
	CHECK_OK(hac_open(path, &o, &h));
	CHECK_OK(hac_map(h, "say \"a\\\n", (size_t)PAGES * PAGE, NULL, &p));
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_unmap(p));
	CHECK_IS(lines_of(take_report()), 0);
}

/* Where nothing can be written, nothing fails. */
static void a_file_that_cannot_be(void)
{
	uint64_t *area;
	hac *h;

	setenv("HAC_ADVISE", temp_path("no/such/place"), 1);
	h = fill(open_with("compare", 0), &area);
	transactions(h, area, 1);
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_unmap(area));
	setenv("HAC_ADVISE", report, 1);
}

static void engines_are_forced(void)
{
	struct hac_area_options own = { .size = sizeof(own), .engine = "pt" };
	struct hac_area_info info = { .size = sizeof(info) };
	struct hac_info context = { .size = sizeof(context) };
	uint64_t *area;
	const char *text;
	void *p;
	hac *h;

	setenv("HAC_ENGINE", "emul", 1);
	h = fill(open_with(NULL, 0), &area);
	CHECK_OK(hac_map(h, "own", PAGE, &own, &p));
	transactions(h, area, 2);
	CHECK_IS(stats_of(h).writes, 30);
	CHECK_OK(hac_get_area(h, 0, &info));
	CHECK(!strcmp(info.engine, "emul"));
	CHECK_OK(hac_get_info(h, &context));
	CHECK(!strcmp(context.engine, "emul") && strstr(context.reason, "HAC_ENGINE"));
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_unmap(area));
	CHECK_OK(hac_unmap(p));
	text = take_report();
	CHECK_REPORT(text, "\"writes\": 30");
	CHECK_REPORT(text, "\"engine\": \"emul\", \"own_engine\": \"compare\"");
	CHECK_REPORT(text, "\"engine\": \"emul\", \"own_engine\": \"pt\"");
	unsetenv("HAC_ENGINE");
}

static void engines_that_cannot_be(void)
{
	hac *h = open_with(NULL, HAC_NO_TWIN);
	void *p;

	setenv("HAC_ENGINE", "compare", 1);
	CHECK_IS(hac_map(h, "a", PAGE, NULL, &p), -EINVAL);
	CHECK_DETAIL("needs the twin");
	setenv("HAC_ENGINE", "auto", 1);
	CHECK_IS(hac_map(h, "a", PAGE, NULL, &p), -EINVAL);
	CHECK_DETAIL("HAC_ENGINE");
	setenv("HAC_ENGINE", "nosuch", 1);
	CHECK_IS(hac_map(h, "a", PAGE, NULL, &p), -EINVAL);
	CHECK_DETAIL("nosuch");
	unsetenv("HAC_ENGINE");
	CHECK_OK(hac_map(h, "a", PAGE, NULL, &p));
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_unmap(p));
}

int main(void)
{
	EACH_ENGINE(sums_are_of_transactions);
	report = temp_path("report");
	if (engine_works("emul")) {
		RUN(fallbacks_are_counted);
		RUN(edges_are_counted);
	}
	setenv("HAC_ADVISE", report, 1);
	RUN(closing_reports);
	RUN(exiting_reports);
	RUN(readers_do_not);
	RUN(a_file_that_cannot_be);
	if (engine_works("emul"))
		RUN(engines_are_forced);
	RUN(engines_that_cannot_be);
	return 0;
}
