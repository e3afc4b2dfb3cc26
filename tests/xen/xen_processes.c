// SPDX-License-Identifier: MIT
/*
 * Processes that come and go: a child has its own copy and no areas, and what a
 * process registered ends with it, however it ends.
 */
#include "hazard.h"

#include <errno.h>
#include <sched.h>

#define PAGES 32u

struct line {
	int to_child[2], to_parent[2];
};

static void tell(int fd)
{
	CHECK_IS(write(fd, "x", 1), 1);
}

static void hear(int fd)
{
	char c;

	CHECK_IS(read(fd, &c, 1), 1);
}

static bool all_are(const unsigned char *p, size_t bytes, unsigned char value)
{
	size_t i;

	for (i = 0; i < bytes; i++)
		if (p[i] != value)
			return false;
	return true;
}

static void child_of_fork(struct tracked *t, struct line *line)
{
	unsigned char *p = t->memory;
	struct tracked mine;

	CHECK_IS(call_it(HAC_XEN_next, (uintptr_t)t->number, (uintptr_t)t->list, 8, 0, 0), -EINVAL);
	CHECK_IS(call_it(HAC_XEN_unregister_area, (uintptr_t)t->number, 0, 0, 0, 0), -EINVAL);
	hear(line->to_child[0]);
	CHECK_MSG(all_are(p, PAGES * PAGE, 1), "%s: the child sees what its parent wrote",
		  handler_names[handler]);
	/* It may have an area of its own there. */
	track_all(&mine, p, PAGES);
	p[4 * PAGE] = 3;
	must_report(&mine, 4, 5);
	memset(p, 3, PAGES * PAGE);
	must_report(&mine, 0, PAGES);
	tell(line->to_parent[1]);
	_exit(0);
}

/* Hazard 2. `open`: pages that Xen has opened at the time of the fork. */
static void fork_once(unsigned int open, bool next)
{
	unsigned char *p = map_pages(PAGES);
	struct tracked t;
	struct line line;
	pid_t child;

	CHECK_OK(pipe(line.to_child));
	CHECK_OK(pipe(line.to_parent));
	memset(p, 1, PAGES * PAGE);
	track_all(&t, p, PAGES);
	memset(p, 1, open * PAGE);
	child = fork();
	CHECK(child >= 0);
	if (!child)
		child_of_fork(&t, &line);
	if (next)
		take(&t);
	clear_log(&t);
	memset(p, 2, PAGES * PAGE / 2);
	take(&t);
	for (uint32_t i = 0; i < PAGES / 2; i++)
		CHECK_MSG(reported(&t, i) || t.log, "page %u", i);
	clear_log(&t);
	memset(p, 2, PAGES * PAGE);
	tell(line.to_child[1]);
	hear(line.to_parent[0]);
	CHECK_MSG(all_are(p, PAGES * PAGE, 2), "%s: the parent sees what its child wrote",
		  handler_names[handler]);
	take(&t);
	clear_log(&t);
	must_end(child, 0);
	p[7 * PAGE] = 5;
	must_report(&t, 7, 8);
	must_be_quiet(&t);
	untrack(&t);
	munmap(p, PAGES * PAGE);
	close(line.to_child[0]);
	close(line.to_child[1]);
	close(line.to_parent[0]);
	close(line.to_parent[1]);
}

static void forked(void)
{
	fork_once(0, false);
	fork_once(PAGES, false);
	fork_once(PAGES / 2, true);
	fork_once(0, true);
	fork_once(PAGES / 4, false);
}

/* A child, and its child, while the parent writes. */
static void grandchildren(void)
{
	unsigned char *p = map_pages(PAGES);
	struct tracked t;
	int i;

	memset(p, 1, PAGES * PAGE);
	track_all(&t, p, PAGES);
	for (i = 0; i < 30; i++) {
		unsigned char value = (unsigned char)(10 + i);
		pid_t child;

		memset(p, value, PAGES * PAGE);
		child = fork();
		CHECK(child >= 0);
		if (!child) {
			pid_t other = fork();

			usleep(1000);
			if (!all_are(p, PAGES * PAGE, value))
				_exit(3);
			memset(p, 99, PAGES * PAGE);
			if (!other)
				_exit(0);
			must_end(other, 0);
			_exit(0);
		}
		memset(p, value + 1, PAGES * PAGE / 2);
		take(&t);
		clear_log(&t);
		memset(p, value + 1, PAGES * PAGE);
		must_end(child, 0);
		CHECK(all_are(p, PAGES * PAGE, value + 1));
		take(&t);
		clear_log(&t);
	}
	untrack(&t);
	munmap(p, PAGES * PAGE);
}

static void die(const char *how)
{
	unsigned char *p = mmap((void *)0x7000000000, PAGES * PAGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	struct tracked t;

	memset(p, 1, PAGES * PAGE);
	track_all(&t, p, PAGES);
	CHECK(t.number == 0);
	memset(p, 2, PAGE);
	if (!strcmp(how, "exit"))
		_exit(0);
	if (!strcmp(how, "exec"))
		execl("/proc/self/exe", "xen_processes", "after-exec", (char *)NULL);
	if (!strcmp(how, "crash")) {
		signal(SIGSEGV, SIG_DFL);
		*(volatile int *)(uintptr_t)p[PAGE] = 1; /* at address 1 */
	}
	if (!strcmp(how, "unmap")) {
		munmap(p, PAGES * PAGE);
		_exit(0);
	}
	raise(SIGKILL);
}

/* Where an area was in the process before, and its number. */
static int after_exec(void)
{
	unsigned char *p = mmap((void *)0x7000000000, PAGES * PAGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	uint32_t list[PAGES];

	memset(p, 2, PAGES * PAGE);
	CHECK_IS(call_it(HAC_XEN_next, 0, (uintptr_t)list, PAGES, 0, 0), -EINVAL);
	CHECK_IS(statistics(HAC_XEN_ALL).areas, 0);
	return 0;
}

/* Hazard 4. */
static void ends(void)
{
	static const struct {
		const char *how;
		int status;
	} ways[] = { { "exit", 0 },
		     { "exec", 0 },
		     { "crash", SIGSEGV },
		     { "kill", SIGKILL },
		     { "unmap", 0 } };
	size_t i;

	for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		pid_t child = fork();
		struct hac_xen_statistics s;
		int status;

		CHECK(child >= 0);
		if (!child)
			die(ways[i].how);
		CHECK_IS(waitpid(child, &status, 0), child);
		CHECK_MSG((status & 0x7f) == ways[i].status && !WEXITSTATUS(status), "%s: 0x%x",
			  ways[i].how, (unsigned int)status);
		s = statistics(HAC_XEN_ALL);
		CHECK_MSG(!s.areas && !s.bytes, "after %s: %llu areas, %llu bytes", ways[i].how,
			  (unsigned long long)s.areas, (unsigned long long)s.bytes);
		/* Whoever gets its tables next inherits nothing. */
		child = fork();
		if (!child)
			_exit(after_exec());
		must_end(child, 0);
	}
}

/* vfork and threads share the address space, and so its areas. */
static void shared_space(void)
{
	unsigned char *p = map_pages(PAGES);
	struct tracked t;
	pid_t child;

	memset(p, 1, PAGES * PAGE);
	track_all(&t, p, PAGES);
	child = vfork();
	if (!child) {
		p[2 * PAGE] = 2;
		_exit(0);
	}
	must_end(child, 0);
	must_report(&t, 2, 3);
	untrack(&t);
	munmap(p, PAGES * PAGE);
}

/* `count` processes, each with areas, half of them with another program after. */
static void cycles(unsigned long count)
{
	struct hac_xen_statistics before = statistics(HAC_XEN_ALL), after;
	unsigned long i;

	for (i = 0; i < count; i++) {
		pid_t child = i % 2 ? vfork() : fork();

		CHECK(child >= 0);
		if (!child && i % 2)
			execl("/proc/self/exe", "xen_processes", "cycle", i % 4 == 1 ? "" : "exec",
			      (char *)NULL);
		if (!child) {
			handler = (uint32_t)(i / 2 % HAC_XEN_HANDLERS);
			die(i % 8 ? "exit" : "kill");
		}
		must_end(child, i % 8 ? 0 : SIGKILL);
		if (i % 1000 == 999) {
			printf("%lu processes\n", i + 1);
			fflush(stdout);
		}
	}
	after = statistics(HAC_XEN_ALL);
	CHECK_MSG(after.bytes == before.bytes && after.areas == before.areas,
		  "%llu bytes before, %llu after", (unsigned long long)before.bytes,
		  (unsigned long long)after.bytes);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "after-exec"))
		return after_exec();
	if (argc > 2 && !strcmp(argv[1], "cycle")) {
		handler = (uint32_t)getpid() % HAC_XEN_HANDLERS;
		die(argv[2][0] ? "exec" : "exit");
	}
	need_xen();
	if (argc > 2 && !strcmp(argv[1], "cycles")) {
		cycles(strtoul(argv[2], NULL, 0));
		return 0;
	}
	catch_faults();
	UNDER_EACH_HANDLER(forked);
	UNDER_EACH_HANDLER(grandchildren);
	UNDER_EACH_HANDLER(shared_space);
	UNDER_EACH_HANDLER(ends);
	cycles(200);
	return 0;
}
