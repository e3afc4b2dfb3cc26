/* SPDX-License-Identifier: MIT */
/*
 * The helper process of a context: started, talked to (control.h), watched, and
 * started again when it dies. A thread of the application, "hac-watch", does
 * the watching; it alone reads from the socket.
 *
 * These functions may be called from any thread, but helper_stop() only when
 * nobody is inside of the others.
 */
#ifndef HAC_HELPER_PROCESS_H
#define HAC_HELPER_PROCESS_H

#include "control.h"
#include "hac.h"
#include "ring.h"

#include <sys/types.h>

struct drainer_shared;
struct helper;

struct helper_options {
	const struct hac_replication *replication;
	const char *path;
	const char *key_file; /* or NULL */
	uint32_t codec;       /* enum hac_codec */
	int flush_ms;
};

/* Is the program's description sound? Changes nothing. */
int helper_check(const struct hac_replication *replication);

/* Start it and wait until it is ready. On failure none is left. */
int helper_start(const struct helper_options *options, struct ring *ring,
		 struct drainer_shared *shared, struct control_message *ready, struct helper **out);

/* Have it write a new base of everything that is in the ring. */
int helper_compact(struct helper *helper);

/* Ask a standby's helper to become primary, also one that is started later. */
int helper_promote(struct helper *helper);

/* 0 once a standby's helper has become primary, and what it said then;
 * -ETIMEDOUT after ms (-1: never), -EBADF after helper_let_go(), or the
 * error for which there is no helper any more. */
int helper_wait_promoted(struct helper *helper, int ms, struct control_message *news);
void helper_let_go(struct helper *helper);

/* 0 while there is none. */
pid_t helper_pid(struct helper *helper);

/* Have it drain and exit, wait for that, and free. Its error, if it had one. */
int helper_stop(struct helper *helper);

/* ---- the process itself (helper_spawn.c) ---- */

/* What it takes to start one, again and again, whatever the application does to
 * its directory and environment meanwhile. */
struct helper_program {
	char **arguments;
	char **environment;
	char *directory;
};

int helper_program_make(const struct helper_options *options, struct helper_program *out);
void helper_program_free(struct helper_program *program);

struct helper_process {
	pid_t pid;
	int pidfd;
	int socket;
};

/* -errno with a detail. */
int helper_spawn(const struct helper_program *program, int ring_fd, struct helper_process *out);

void helper_kill(const struct helper_process *process);

/* How it ended, as far as can be told; waits for it. Closes the descriptors. */
void helper_reap(struct helper_process *process, char *how, size_t size);

#endif
