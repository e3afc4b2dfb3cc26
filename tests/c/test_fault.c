// SPDX-License-Identifier: MIT
/* The fault handler among others, crashes, forked children, and many mappings. */
#include "each_engine.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096u

static unsigned char *map(hac *h, const char *name, size_t size)
{
	void *address;

	CHECK_OK(hac_map(h, name, size, NULL, &address));
	return address;
}

/* ------------------------------------------------------------- children -- */

struct ending {
	int status;
	char errors[4096];
};

/* Run `part` in a child; how it ended, and what it wrote to stderr. */
static struct ending in_child(void (*part)(void *), void *argument)
{
	struct ending e = { 0 };
	size_t used = 0;
	ssize_t n;
	int ends[2];
	pid_t pid;

	fflush(stdout);
	CHECK(!pipe(ends));
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		dup2(ends[1], STDERR_FILENO);
		close(ends[0]);
		close(ends[1]);
		part(argument);
		_exit(0);
	}
	close(ends[1]);
	while ((n = read(ends[0], e.errors + used, sizeof(e.errors) - 1 - used)) > 0)
		used += (size_t)n;
	close(ends[0]);
	CHECK(waitpid(pid, &e.status, 0) == pid);
	return e;
}

static void must_succeed(const struct ending *e, const char *what)
{
	CHECK_MSG(WIFEXITED(e->status) && !WEXITSTATUS(e->status), "%s: status 0x%x: %.300s", what,
		  e->status, e->errors);
}

/* Sanitizers turn the signal into a report and an exit code. */
static void must_crash(const struct ending *e, const char *what)
{
	bool died = WIFSIGNALED(e->status) && WTERMSIG(e->status) == SIGSEGV;

	if (UNDER_ASAN || UNDER_TSAN)
		died |= WIFEXITED(e->status) && WEXITSTATUS(e->status);
	CHECK_MSG(died, "%s: status 0x%x: %.300s", what, e->status, e->errors);
}

/* ------------------------------------------------------------- handlers -- */

static sigjmp_buf back;
static volatile int called[8], calls;

static void jump(int who)
{
	called[calls++ % 8] = who;
	siglongjmp(back, 1);
}

static void first(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)info;
	(void)context;
	jump(1);
}

static void simple(int number)
{
	(void)number;
	jump(2);
}

static void install(void (*with_info)(int, siginfo_t *, void *), void (*without)(int))
{
	struct sigaction a = { 0 };

	if (with_info) {
		a.sa_sigaction = with_info;
		a.sa_flags = SA_SIGINFO | SA_NODEFER;
	} else {
		a.sa_handler = without;
		a.sa_flags = SA_NODEFER;
	}
	CHECK(!sigaction(SIGSEGV, &a, NULL));
}

/* A fault that is nobody's area; who was called for it? */
static int touch_foreign(void)
{
	volatile char *p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	calls = 0;
	called[0] = 0;
	if (!sigsetjmp(back, 1))
		*p = 1;
	munmap((void *)(uintptr_t)p, PAGE);
	CHECK_IS(calls, 1);
	return called[0];
}

static void write_in_transaction(hac *h, unsigned char *p)
{
	struct hac_delta d = { .size = sizeof(d) };

	CHECK_OK(hac_begin(h));
	((volatile unsigned char *)p)[5000]++;
	CHECK_OK(hac_end(h, &d, NULL));
	CHECK_IS(d.runs_count, 1);
}

/* In a child of its own, since handlers are the process's. */
static void chain(void *argument)
{
	const char *engine = argument;
	unsigned char *p;
	hac *h;

	install(first, NULL);
	h = open_with(engine, 0);
	p = map(h, "a", 200000);
	write_in_transaction(h, p);
	CHECK_IS(touch_foreign(), 1); /* before ours, called after it */
	install(NULL, simple);
	CHECK_IS(touch_foreign(), 2);
	write_in_transaction(h, p);   /* begin puts ours in front again */
	CHECK_IS(touch_foreign(), 2); /* the newest first */
	write_in_transaction(h, p);
	install(first, NULL);
	CHECK_OK(hac_claim_faults());
	CHECK_IS(touch_foreign(), 1);
	write_in_transaction(h, p);
	signal(SIGSEGV, SIG_DFL);
	write_in_transaction(h, p);
	CHECK_OK(hac_close(h));
}

static void handlers(const char *engine)
{
	struct ending e;

	if (strcmp(engine, "pt") && strcmp(engine, "emul"))
		return; /* the others take no faults */
	e = in_child(chain, (void *)(uintptr_t)engine);
	must_succeed(&e, "handlers");
}

/* -------------------------------------------------------------- crashes -- */

struct victim {
	hac *h;
	unsigned char *area;
};

static int *volatile nowhere = (int *)64;

static void write_to_nothing(void *argument)
{
	(void)argument;
	*(volatile int *)nowhere = 1;
}

static void write_to_code(void *argument)
{
	(void)argument;
	*(volatile unsigned char *)(uintptr_t)write_to_nothing = 1;
}

static void send_it(void *argument)
{
	(void)argument;
	raise(SIGSEGV);
	pause();
}

static void write_behind(void *argument)
{
	struct victim *v = argument;

	((volatile unsigned char *)v->area)[64 * PAGE] = 1; /* reserved only */
}

static void crashes(const char *engine)
{
	struct hac_area_options o = { .size = sizeof(o), .capacity = 128 * PAGE };
	struct victim v = { .h = open_with(engine, 0) };
	struct ending e;
	void *address;

	CHECK_OK(hac_map(v.h, "a", 64 * PAGE, &o, &address));
	v.area = address;
	write_in_transaction(v.h, v.area);
	e = in_child(write_to_nothing, &v);
	must_crash(&e, "NULL");
	e = in_child(write_to_code, &v);
	must_crash(&e, "code");
	e = in_child(send_it, &v);
	must_crash(&e, "raise");
	e = in_child(write_behind, &v);
	must_crash(&e, "behind the area");
	CHECK_OK(hac_close(v.h));
	CHECK_OK(hac_unmap(v.area));
}

static void write_to_it(void *argument)
{
	struct victim *v = argument;

	((volatile unsigned char *)v->area)[100] = 1;
}

static void closed_areas(const char *engine)
{
	struct victim v = { .h = open_with(engine, 0) };
	unsigned char *dropped = map(v.h, "the dropped one", 200000);
	unsigned char *closed = map(v.h, "the closed one", 200000);
	struct ending e;

	dropped[100] = closed[100] = 7;
	write_in_transaction(v.h, closed);
	CHECK_OK(hac_drop(v.h, "the dropped one"));
	v.area = dropped;
	e = in_child(write_to_it, &v);
	must_crash(&e, "dropped");
	CHECK_MSG(strstr(e.errors, "the dropped one"), "stderr: %.300s", e.errors);
	CHECK_OK(hac_close(v.h));
	v.area = closed;
	e = in_child(write_to_it, &v);
	must_crash(&e, "closed");
	CHECK_MSG(strstr(e.errors, "the closed one"), "stderr: %.300s", e.errors);
	CHECK_IS(closed[100] + dropped[100], 14);
	CHECK_OK(hac_unmap(closed));
	CHECK_OK(hac_unmap(dropped));
}

/* ----------------------------------------------------------------- fork -- */

struct family {
	hac *h;
	const char *engine;
	unsigned char *area, *adopted;
	int to_child[2], to_parent[2];
};

#define FAMILY_SIZE 200000u

static void step(int fd)
{
	char byte = 0;

	CHECK(write(fd, &byte, 1) == 1);
}

static void await(int fd)
{
	char byte;

	CHECK(read(fd, &byte, 1) == 1);
}

/* Its copy is that of the moment of the fork. */
static void live_as_child(void *argument)
{
	struct family *f = argument;
	struct hac_stats stats = { .size = sizeof(stats) };
	unsigned char *own;
	size_t i;
	hac *h;

	CHECK_IS(hac_begin(f->h), -ECHILD);
	CHECK_IS(hac_end(f->h, NULL, NULL), -ECHILD);
	CHECK_IS(hac_abort(f->h), -ECHILD);
	CHECK_IS(hac_close(f->h), -ECHILD);
	CHECK_IS(hac_get_stats(f->h, &stats), -ECHILD);
	CHECK_DETAIL("process");
	await(f->to_child[0]);
	for (i = 0; i < FAMILY_SIZE; i++)
		CHECK_MSG(f->area[i] == 3 && f->adopted[i] == 4, "%s: byte %zu is %u, %u",
			  f->engine, i, f->area[i], f->adopted[i]);
	memset(f->area, 9, FAMILY_SIZE);
	memset(f->adopted, 9, FAMILY_SIZE);
	for (i = 0; i < FAMILY_SIZE; i++)
		CHECK(f->area[i] == 9 && f->adopted[i] == 9);
	step(f->to_parent[1]);
	/* A context of its own. */
	h = open_with(f->engine, 0);
	own = map(h, "a", FAMILY_SIZE);
	write_in_transaction(h, own);
	CHECK_OK(hac_begin(h));
	memset(own, 1, FAMILY_SIZE);
	CHECK_OK(hac_abort(h));
	CHECK_IS(own[5000] + own[0], 1);
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_unmap(own));
}

static void open_family(struct family *f, const char *engine)
{
	f->engine = engine;
	f->h = open_with(engine, 0);
	f->area = map(f->h, "mapped", FAMILY_SIZE);
	f->adopted = (unsigned char *)calloc(1, FAMILY_SIZE + PAGE) + 77;
	CHECK_OK(hac_adopt(f->h, "adopted", f->adopted, FAMILY_SIZE, NULL));
	CHECK(!pipe(f->to_child) && !pipe(f->to_parent));
	CHECK_OK(hac_begin(f->h));
	memset(f->area, 3, FAMILY_SIZE);
	memset(f->adopted, 4, FAMILY_SIZE);
	CHECK_OK(hac_end(f->h, NULL, NULL));
}

static void forks(const char *engine)
{
	struct hac_delta d = { .size = sizeof(d) };
	struct family f;
	int status;
	pid_t pid;

	open_family(&f, engine);
	CHECK_OK(hac_begin(f.h));
	f.area[8] = 30; /* before the fork, and put back after it */
	f.area[8] = 3;
	fflush(stdout);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		live_as_child(&f);
		_exit(0);
	}
	/* What the parent writes now, the child must not see. */
	f.area[70000] = 50;
	memset(f.adopted + 90000, 51, 8);
	step(f.to_child[1]);
	await(f.to_parent[0]);
	f.area[150000] = 52;
	CHECK_OK(hac_end(f.h, &d, NULL));
	CHECK(d.runs_count == 3);
	CHECK(d.runs[0].offset == 70000 && d.runs[1].offset == 150000);
	CHECK(f.area[0] == 3 && f.adopted[0] == 4);
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_MSG(WIFEXITED(status) && !WEXITSTATUS(status), "%s: the child: 0x%x", engine, status);
	CHECK_OK(hac_begin(f.h));
	memset(f.area, 1, FAMILY_SIZE);
	CHECK_OK(hac_abort(f.h));
	CHECK(f.area[0] == 3 && f.area[70000] == 50 && f.area[FAMILY_SIZE - 1] == 3);
	CHECK_OK(hac_close(f.h));
	CHECK_OK(hac_unmap(f.area));
	free(f.adopted - 77);
	close(f.to_child[0]);
	close(f.to_child[1]);
	close(f.to_parent[0]);
	close(f.to_parent[1]);
}

/* ------------------------------------------------------------- mappings -- */

/* Every second page: more mappings than the kernel lets a process have. */
static void alternating(const char *engine)
{
	size_t pages = 140000, i;
	struct hac_delta d = { .size = sizeof(d) };
	unsigned char *p;
	hac *h;

	if (UNDER_ASAN || UNDER_TSAN || (strcmp(engine, "pt") && strcmp(engine, "emul")))
		return;
	h = open_with(engine, 0);
	p = map(h, "large", pages * PAGE);
	CHECK_OK(hac_begin(h));
	for (i = 0; i < pages; i += 2)
		/* Locked, so that emul opens the page. */
		__asm__ volatile("lock incb %0" : "+m"(p[i * PAGE]));
	CHECK_OK(hac_end(h, &d, NULL));
	CHECK_IS(d.runs_count, pages / 2);
	CHECK_OK(hac_begin(h));
	for (i = 1; i < pages; i += 2)
		__asm__ volatile("lock incb %0" : "+m"(p[i * PAGE]));
	CHECK_OK(hac_abort(h));
	for (i = 0; i < pages; i++)
		CHECK(p[i * PAGE] == !(i % 2));
	CHECK_OK(hac_begin(h));
	p[3 * PAGE] = 1;
	CHECK_OK(hac_end(h, &d, NULL));
	CHECK_IS(d.runs_count, 1);
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_unmap(p));
}

int main(void)
{
	EACH_ENGINE(handlers);
	EACH_ENGINE(crashes);
	EACH_ENGINE(closed_areas);
	EACH_ENGINE(forks);
	EACH_ENGINE(alternating);
	return 0;
}
