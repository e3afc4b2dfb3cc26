/* SPDX-License-Identifier: MIT */
/* What the tests of hazards share: writes that may fail, parts under every handler. */
#ifndef HAZARD_H
#define HAZARD_H

#include "calls.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>

static uint32_t handler; /* under which the part runs */
static sigjmp_buf after_fault;
static volatile sig_atomic_t expecting;

static void on_fault(int number)
{
	if (!expecting) {
		signal(number, SIG_DFL);
		raise(number);
		return;
	}
	siglongjmp(after_fault, 1);
}

/* Does a store of a byte raise SIGSEGV? */
__attribute__((unused)) static bool store_faults(unsigned char *to, unsigned char value)
{
	expecting = 1;
	if (sigsetjmp(after_fault, 1)) {
		expecting = 0;
		return true;
	}
	*(volatile unsigned char *)to = value;
	expecting = 0;
	return false;
}

__attribute__((unused)) static void track_all(struct tracked *t, unsigned char *memory,
					      uint32_t pages)
{
	track(t, memory, pages, handler, handler == HAC_XEN_EMULATION ? 2 * HALF : 0);
	start(t);
}

__attribute__((unused)) static void must_report(struct tracked *t, uint32_t from, uint32_t to)
{
	uint32_t page;

	take(t);
	for (page = from; page < to; page++)
		CHECK_MSG(reported(t, page), "%s: page %u is not reported", handler_names[handler],
			  page);
	clear_log(t);
}

/* Nothing is reported that was not written. */
__attribute__((unused)) static void must_be_quiet(struct tracked *t)
{
	take(t);
	CHECK_MSG(!t->count && !(t->second & ~HAC_XEN_SECOND_HALF), "%s: page %u is reported",
		  handler_names[handler], t->list[0]);
}

__attribute__((unused)) static void must_end(pid_t child, int status)
{
	int got;

	CHECK_IS(waitpid(child, &got, 0), child);
	CHECK_MSG(got == status, "%s: the child ended with 0x%x, not 0x%x", handler_names[handler],
		  (unsigned int)got, (unsigned int)status);
}

#define UNDER_EACH_HANDLER(part)                                           \
	do {                                                               \
		for (handler = 0; handler < HAC_XEN_HANDLERS; handler++) { \
			printf("%s: %s\n", #part, handler_names[handler]); \
			fflush(stdout);                                    \
			part();                                            \
		}                                                          \
	} while (0)

__attribute__((unused)) static void catch_faults(void)
{
	struct sigaction action = { .sa_handler = on_fault };

	CHECK_OK(sigaction(SIGSEGV, &action, NULL));
	CHECK_OK(sigaction(SIGBUS, &action, NULL));
}

#endif
