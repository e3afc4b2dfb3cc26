// SPDX-License-Identifier: MIT
/*
 * One SIGSEGV handler per process. It takes protection faults inside areas and
 * passes everything else on to the handlers that stood there before it, newest
 * first, so that a genuine crash looks as it would without us.
 *
 * Handlers that report a crash (faulthandler, for one) restore what they had
 * found, which may be us, and raise the signal again. `depth` counts how many
 * of the earlier handlers this thread is inside of; each re-entry goes one
 * further down, and below the last one stands the default action. A handler
 * may also leave by siglongjmp(): it is no longer inside of any when its frame
 * is gone, or when it begins a transaction.
 */
#include "fault.h"

#include "area.h"
#include "engine.h"
#include "error.h"
#include "hac.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EARLIER_MAX 8

static struct sigaction earlier[EARLIER_MAX]; /* [0]: before the first install*/
static _Atomic int earlier_count;
static _Thread_local int depth __attribute__((tls_model("initial-exec")));
static _Thread_local uintptr_t outer_frame __attribute__((tls_model("initial-exec")));

static void handle_fault(int number, siginfo_t *info, void *context);

/* In a signal handler: no stdio. */
static void say(const char *text)
{
	size_t length = strlen(text);

	while (length) {
		ssize_t n = write(STDERR_FILENO, text, length);

		if (n <= 0)
			return;
		text += n;
		length -= (size_t)n;
	}
}

static void name_mistake(const struct area *area, int mode)
{
	say("hac: write to area '");
	say(area->layout.name);
	if (mode == AREA_CLOSED)
		say("' after its context was closed (or it was dropped)\n");
	else if (mode == AREA_STANDBY)
		say("' of a standby: only the primary writes\n");
	else
		say("' of a read-only context\n");
}

/* A child's pages are its own copy: let it write, there is nobody to tell. */
static bool let_child_write(struct area *area)
{
	return !mprotect(area->memory + area->head, area->tail - area->head,
			 PROT_READ | PROT_WRITE);
}

/* True if the instruction may go on. */
static bool take_fault(const siginfo_t *info, void *context)
{
	struct area *area = registry_find(info->si_addr);
	size_t offset;
	int mode;

	if (!area)
		return false;
	offset = (size_t)((unsigned char *)info->si_addr - area->memory);
	if (offset < area->head || offset >= area->tail)
		return false; /* reserved, or not ours alone: a real crash */
	mode = atomic_load(&area->mode);
	if (mode != AREA_TRACKED) {
		name_mistake(area, mode);
		return false;
	}
	if (area->process != process_current())
		return let_child_write(area);
	if (!area->engine || !area->engine->fault)
		return false;
	atomic_fetch_add_explicit(&area->faults, 1, memory_order_relaxed);
	return area->engine->fault(area, offset, context);
}

static void crash(int number, siginfo_t *info, void *context)
{
	uintptr_t frame = (uintptr_t)__builtin_frame_address(0), outer;
	const struct sigaction *action;
	struct sigaction fallback;
	int level;

	/* The stack grows down, so what we are inside of lies above. */
	if (depth && frame >= outer_frame)
		depth = 0;
	outer = outer_frame;
	outer_frame = frame;
	level = atomic_load(&earlier_count) - 1 - depth;
	action = level >= 0 ? &earlier[level] : NULL;
	if (action && (action->sa_flags & SA_SIGINFO) && action->sa_sigaction != handle_fault) {
		depth++;
		action->sa_sigaction(number, info, context);
		depth--;
		outer_frame = outer;
		return;
	}
	if (action && !(action->sa_flags & SA_SIGINFO) && action->sa_handler != SIG_DFL &&
	    action->sa_handler != SIG_IGN) {
		depth++;
		action->sa_handler(number);
		depth--;
		outer_frame = outer;
		return;
	}
	/* The default: the instruction faults again and the process dies of
	 * it, with the right address in the core. A signal that was sent has
	 * no instruction behind it and must be sent again. */
	memset(&fallback, 0, sizeof(fallback));
	fallback.sa_handler = SIG_DFL;
	sigaction(SIGSEGV, &fallback, NULL);
	if (info->si_code <= 0)
		raise(SIGSEGV);
}

static void handle_fault(int number, siginfo_t *info, void *context)
{
	int saved = errno;
	bool taken = false;

	if (info->si_code == SEGV_ACCERR) {
		registry_enter();
		taken = take_fault(info, context);
		registry_leave();
	}
	if (!taken)
		crash(number, info, context);
	errno = saved;
}

int fault_claim(void)
{
	struct sigaction ours, found;
	int result = 0, count;

	depth = 0;
	if (sigaction(SIGSEGV, NULL, &found))
		return hac_fail(errno, "sigaction(SIGSEGV): %s", strerror(errno));
	if ((found.sa_flags & SA_SIGINFO) && found.sa_sigaction == handle_fault)
		return 0;
	process_lock();
	memset(&ours, 0, sizeof(ours));
	ours.sa_sigaction = handle_fault;
	ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
	sigemptyset(&ours.sa_mask);
	count = atomic_load(&earlier_count);
	/* A handler that comes back takes its old place in the list; when the
	 * list is full the newest place is used again. */
	for (int i = 0; i < count; i++)
		if (earlier[i].sa_sigaction == found.sa_sigaction)
			count = i;
	if (count == EARLIER_MAX)
		count = EARLIER_MAX - 1;
	earlier[count] = found;
	atomic_store(&earlier_count, count + 1);
	if (sigaction(SIGSEGV, &ours, NULL)) {
		result = hac_fail(errno, "sigaction(SIGSEGV): %s", strerror(errno));
	}
	process_unlock();
	return result;
}

int hac_claim_faults(void)
{
	return fault_claim();
}
