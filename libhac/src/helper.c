// SPDX-License-Identifier: MIT
#include "helper.h"

#include "drainer_internal.h"
#include "error.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)
/* So many deaths in so long a time, and none of them got ready: it is of no use. */
#define DEATHS_MAX 5
#define DEATHS_NS (10 * NS_PER_S)
/* Before the next one is started: doubled each time, unless one lives for 1 s. */
#define PAUSE_NS INT64_C(5000000)
#define PAUSE_UNREADY_NS INT64_C(100000000)
#define PAUSE_DOUBLINGS 7
/* How long one may live that has hung up, or that has said it is done. */
#define LINGER_MS 30000

struct helper {
	struct helper_program program;
	struct ring *ring;
	struct drainer_shared *shared;
	pthread_t thread;

	pthread_mutex_t lock; /* what follows */
	pthread_cond_t changed;
	struct helper_process process;
	bool ready;      /* the process is */
	bool ready_once; /* one was */
	bool ended;      /* there is none, and will be none */
	int error;       /* why, with `detail`; 0: it was asked to */
	char detail[1024];

	uint32_t role;        /* what HELLO says ... */
	uint64_t generation;  /* ... */
	bool wants_promotion; /* ... and what is said again to the next one */
	uint32_t asked;       /* COMPACT or CLOSE, or 0; and its answer: */
	int answer;
	char answer_text[512];
	bool closed; /* CLOSE was answered */
	bool promoted;
	bool let_go;
	struct control_message news; /* READY, or PROMOTED */

	/* The watcher's own. */
	int failed_error; /* of FAILED */
	char failed_text[512];
	int64_t deaths[DEATHS_MAX];
	size_t deaths_count; /* since the last READY */
	int64_t ready_since;
	unsigned int hurry; /* deaths soon after READY, in a row */
};

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* With the lock; an end before 0 is never. False: it is over. */
static bool wait_changed(struct helper *helper, int64_t end)
{
	struct timespec until = { .tv_sec = end / NS_PER_S, .tv_nsec = end % NS_PER_S };

	if (end < 0)
		return !pthread_cond_wait(&helper->changed, &helper->lock);
	return !pthread_cond_timedwait(&helper->changed, &helper->lock, &until);
}

static int64_t end_of(int ms)
{
	return ms < 0 ? -1 : now_ns() + ms * INT64_C(1000000);
}

/* ---------------------------------------------------------- the talking -- */

/* Nothing is lost if it fails: then it is dead, and the next one is told. */
static void say(struct helper *helper, const struct control_message *message)
{
	while (send(helper->process.socket, message, sizeof(*message), MSG_NOSIGNAL) < 0 &&
	       errno == EINTR)
		;
}

static void say_kind(struct helper *helper, uint32_t kind)
{
	struct control_message message = { .kind = kind };

	say(helper, &message);
}

static void give_answer(struct helper *helper, int error, const char *text)
{
	if (!helper->asked)
		return;
	helper->closed |= helper->asked == CONTROL_CLOSE;
	helper->asked = 0;
	helper->answer = error;
	memccpy(helper->answer_text, text, '\0', sizeof(helper->answer_text) - 1);
}

static void break_off(struct helper *helper, int error, const char *what)
{
	helper->failed_error = error;
	snprintf(helper->failed_text, sizeof(helper->failed_text), "%s", what);
	helper_kill(&helper->process);
}

static void take_ready(struct helper *helper, const struct control_message *message)
{
	bool resumed = helper->ready_once && helper->role == HAC_PRIMARY;

	if (message->role != HAC_PRIMARY && message->role != HAC_STANDBY) {
		break_off(helper, -EPROTO, "it is neither primary nor standby");
		return;
	}
	if (resumed &&
	    (message->role != HAC_PRIMARY || message->generation != helper->generation)) {
		break_off(helper, -EPROTO, "it did not go on in its predecessor's place");
		return;
	}
	/* A standby that is started again may be primary at once. */
	if (helper->ready_once && !resumed && message->role == HAC_PRIMARY)
		helper->promoted = true;
	if (!helper->ready_once || helper->promoted)
		helper->news = *message;
	helper->role = message->role;
	helper->generation = message->generation;
	helper->ready = helper->ready_once = true;
	helper->ready_since = now_ns();
	helper->deaths_count = 0;
	if (helper->wants_promotion && helper->role == HAC_STANDBY)
		say_kind(helper, CONTROL_PROMOTE);
	if (helper->asked)
		say_kind(helper, helper->asked);
}

static void take_message(struct helper *helper, struct control_message *message)
{
	message->text[sizeof(message->text) - 1] = '\0';
	switch (message->kind) {
	case CONTROL_READY:
		take_ready(helper, message);
		break;
	case CONTROL_PROMOTED:
		helper->role = HAC_PRIMARY;
		helper->generation = message->generation;
		helper->promoted = true;
		helper->news = *message;
		break;
	case CONTROL_DONE:
		give_answer(helper, message->error, message->text);
		break;
	case CONTROL_FAILED:
		helper->failed_error = message->error < 0 ? message->error : -EIO;
		memcpy(helper->failed_text, message->text, sizeof(helper->failed_text));
		break;
	default:
		break_off(helper, -EPROTO, "it said something that this version does not know");
	}
	pthread_cond_broadcast(&helper->changed);
}

/* Everything that it has said. False: it has hung up. */
static bool listen_to(struct helper *helper)
{
	struct control_message message;
	bool connected = true;

	pthread_mutex_lock(&helper->lock);
	for (;;) {
		ssize_t got = recv(helper->process.socket, &message, sizeof(message), MSG_DONTWAIT);

		if (got == (ssize_t)sizeof(message)) {
			take_message(helper, &message);
			continue;
		}
		if (got < 0 && errno == EINTR)
			continue;
		if (got > 0)
			break_off(helper, -EPROTO, "it said something of another length");
		connected = got < 0 && errno == EAGAIN;
		break;
	}
	pthread_mutex_unlock(&helper->lock);
	return connected;
}

/* -------------------------------------------------------- the watching -- */

static int launch(struct helper *helper)
{
	struct control_message hello = { .kind = CONTROL_HELLO };
	struct helper_process process;
	int error = helper_spawn(&helper->program, helper->ring->fd, &process);

	if (error)
		return error;
	pthread_mutex_lock(&helper->lock);
	helper->process = process;
	hello.role = helper->role;
	if (helper->ready_once && helper->role == HAC_PRIMARY)
		hello.generation = helper->generation;
	say(helper, &hello);
	pthread_mutex_unlock(&helper->lock);
	return 0;
}

/* Until it is dead. */
static void follow(struct helper *helper)
{
	struct pollfd polls[2] = {
		{ .fd = helper->process.socket, .events = POLLIN },
		{ .fd = helper->process.pidfd, .events = POLLIN },
	};

	while (polls[1].fd >= 0) {
		int count = poll(polls, 2, polls[0].fd < 0 ? LINGER_MS : -1);

		if (!count)
			helper_kill(&helper->process);
		if (count <= 0)
			continue;
		if (polls[0].revents && !listen_to(helper))
			polls[0].fd = -1;
		if (polls[1].revents)
			break;
	}
	listen_to(helper);
}

/* With the lock: it is dead, or never lived; is another one to be started? */
static bool goes_on(struct helper *helper, int error, const char *how)
{
	int shared_error = atomic_load(&helper->shared->error);
	const char *name = helper->program.arguments[0];
	int64_t now = now_ns();
	size_t n = helper->deaths_count;

	helper->deaths[n % DEATHS_MAX] = now;
	helper->deaths_count = ++n;
	if (helper->closed)
		return false;
	if (!helper->ready_once) {
		helper->error = error;
		snprintf(helper->detail, sizeof(helper->detail), "the helper '%s' is not ready: %s",
			 name, how);
		return false;
	}
	if (shared_error) {
		helper->error = shared_error;
		snprintf(helper->detail, sizeof(helper->detail), "%s", helper->shared->detail);
		return false;
	}
	/* A standby has nothing to drain. */
	if (helper->asked == CONTROL_CLOSE && helper->role == HAC_STANDBY)
		return false;
	if (n < DEATHS_MAX || now - helper->deaths[n % DEATHS_MAX] > DEATHS_NS)
		return true;
	helper->error = -EIO;
	snprintf(
		helper->detail, sizeof(helper->detail),
		"the helper '%s' died %d times within %d s without getting ready; the last time %s",
		name, DEATHS_MAX, (int)(DEATHS_NS / NS_PER_S), how);
	drainer_fail(helper->shared, helper->ring, helper->error, helper->detail);
	return false;
}

/* With the lock. None if the last one lived for a while. */
static void pause_before(struct helper *helper, bool was_ready)
{
	int64_t now = now_ns(), pause = was_ready ? PAUSE_NS : PAUSE_UNREADY_NS;
	unsigned int doublings;

	if (was_ready && now - helper->ready_since > NS_PER_S) {
		helper->hurry = 0;
		return;
	}
	/* Those that did not get ready are counted by themselves. */
	doublings = was_ready ? helper->hurry++ : (unsigned int)helper->deaths_count - 1;
	pause <<= doublings < PAUSE_DOUBLINGS ? doublings : PAUSE_DOUBLINGS;
	while (now_ns() < now + pause && helper->asked != CONTROL_CLOSE)
		wait_changed(helper, now + pause);
}

/* It is dead: tell, and say whether to start another. */
static bool bury(struct helper *helper, int error)
{
	char how[600], end[128];
	bool again, was_ready;

	if (error) {
		snprintf(how, sizeof(how), "%s", hac_error_detail());
	} else {
		struct helper_process process;

		pthread_mutex_lock(&helper->lock);
		process = helper->process;
		helper->process = (struct helper_process){ .pidfd = -1, .socket = -1 };
		pthread_mutex_unlock(&helper->lock);
		helper_reap(&process, end, sizeof(end));
		error = helper->failed_error ? helper->failed_error : -EIO;
		snprintf(how, sizeof(how), "%s", helper->failed_error ? helper->failed_text : end);
	}
	pthread_mutex_lock(&helper->lock);
	was_ready = helper->ready;
	helper->ready = false;
	helper->failed_error = 0;
	again = goes_on(helper, error, how);
	/* Whoever it was about to wake. */
	drainer_wake_waiters(helper->shared);
	ring_kick_producer(helper->ring);
	if (again)
		pause_before(helper, was_ready);
	else
		helper->ended = true;
	if (!again)
		give_answer(helper, helper->error, helper->detail);
	pthread_cond_broadcast(&helper->changed);
	pthread_mutex_unlock(&helper->lock);
	return again;
}

static void *watch(void *argument)
{
	struct helper *helper = argument;
	int error;

	pthread_setname_np(pthread_self(), "hac-watch");
	do {
		error = launch(helper);
		if (!error)
			follow(helper);
	} while (bury(helper, error));
	return NULL;
}

/* ------------------------------------------------------ start and stop -- */

static int start_thread(struct helper *helper)
{
	sigset_t all, before;
	int error;

	/* The application's signals are not for this thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&helper->thread, NULL, watch, helper);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error ? hac_fail(error, "no thread to watch the helper: %s", strerror(error)) : 0;
}

static void free_helper(struct helper *helper)
{
	pthread_cond_destroy(&helper->changed);
	pthread_mutex_destroy(&helper->lock);
	helper_program_free(&helper->program);
	free(helper);
}

static int make_helper(const struct helper_options *options, struct ring *ring,
		       struct drainer_shared *shared, struct helper **out)
{
	struct helper *helper = calloc(1, sizeof(*helper));
	pthread_condattr_t monotonic;
	int error;

	if (!helper)
		return hac_fail(ENOMEM, "no memory to start the helper");
	error = helper_program_make(options, &helper->program);
	if (error) {
		free(helper);
		return error;
	}
	helper->ring = ring;
	helper->shared = shared;
	helper->role = options->replication->role;
	helper->process = (struct helper_process){ .pidfd = -1, .socket = -1 };
	pthread_mutex_init(&helper->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&helper->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	*out = helper;
	return 0;
}

int helper_start(const struct helper_options *options, struct ring *ring,
		 struct drainer_shared *shared, struct control_message *ready, struct helper **out)
{
	struct helper *helper = NULL;
	bool started;
	int error = make_helper(options, ring, shared, &helper);

	if (error)
		return error;
	error = start_thread(helper);
	if (error) {
		free_helper(helper);
		return error;
	}
	pthread_mutex_lock(&helper->lock);
	while (!helper->ready_once && !helper->ended)
		wait_changed(helper, -1);
	*ready = helper->news;
	started = helper->ready_once;
	pthread_mutex_unlock(&helper->lock);
	/* One that was ready may have died since: then it is started again. */
	if (started) {
		*out = helper;
		return 0;
	}
	pthread_join(helper->thread, NULL);
	error = hac_fail(-helper->error, "%s", helper->detail);
	free_helper(helper);
	return error;
}

/* With the lock: the answer is in `answer`. */
static void ask(struct helper *helper, uint32_t kind)
{
	while (helper->asked)
		wait_changed(helper, -1);
	helper->asked = kind;
	if (helper->ended)
		give_answer(helper, helper->error, helper->detail);
	else if (helper->ready)
		say_kind(helper, kind);
	pthread_cond_broadcast(&helper->changed);
	while (helper->asked)
		wait_changed(helper, -1);
}

int helper_compact(struct helper *helper)
{
	int error;

	pthread_mutex_lock(&helper->lock);
	ask(helper, CONTROL_COMPACT);
	error = helper->answer;
	if (error)
		hac_fail(-error, "%s", helper->answer_text);
	pthread_mutex_unlock(&helper->lock);
	return error;
}

int helper_stop(struct helper *helper)
{
	int64_t end;
	int error;

	pthread_mutex_lock(&helper->lock);
	ask(helper, CONTROL_CLOSE);
	error = helper->answer;
	if (error)
		hac_fail(-error, "%s", helper->answer_text);
	/* The journal has everything: what else it does must come to an end. */
	end = end_of(LINGER_MS);
	while (!helper->ended && wait_changed(helper, end))
		;
	if (!helper->ended)
		helper_kill(&helper->process);
	pthread_mutex_unlock(&helper->lock);
	pthread_join(helper->thread, NULL);
	free_helper(helper);
	return error;
}

/* ------------------------------------------------------------ promotion -- */

int helper_promote(struct helper *helper)
{
	int error = 0;

	pthread_mutex_lock(&helper->lock);
	helper->wants_promotion = true;
	if (helper->ended)
		error = hac_fail(helper->error ? -helper->error : EIO, "%s", helper->detail);
	else if (helper->ready && helper->role == HAC_STANDBY)
		say_kind(helper, CONTROL_PROMOTE);
	pthread_mutex_unlock(&helper->lock);
	return error;
}

int helper_wait_promoted(struct helper *helper, int ms, struct control_message *news)
{
	int64_t end = end_of(ms);
	int error = 0;

	pthread_mutex_lock(&helper->lock);
	while (!error && !helper->promoted) {
		if (helper->let_go)
			error = hac_fail(EBADF, "the context is closed");
		else if (helper->ended)
			error = hac_fail(helper->error ? -helper->error : EIO,
					 "this standby has no helper any more: %s", helper->detail);
		else if (end >= 0 && now_ns() >= end)
			error = hac_fail(ETIMEDOUT, "this standby has not become primary yet");
		else
			wait_changed(helper, end);
	}
	if (!error)
		*news = helper->news;
	pthread_mutex_unlock(&helper->lock);
	return error;
}

void helper_let_go(struct helper *helper)
{
	pthread_mutex_lock(&helper->lock);
	helper->let_go = true;
	pthread_cond_broadcast(&helper->changed);
	pthread_mutex_unlock(&helper->lock);
}

pid_t helper_pid(struct helper *helper)
{
	pid_t pid;

	pthread_mutex_lock(&helper->lock);
	pid = helper->process.pid;
	pthread_mutex_unlock(&helper->lock);
	return pid;
}
