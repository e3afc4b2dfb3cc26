// SPDX-License-Identifier: MIT
#include "helper.h"

#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The numbers that the helper finds its descriptors under. */
#define RING_FD 3
#define CONTROL_FD 4

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

extern char **environ;

/* --------------------------------------------------------- its program -- */

int helper_check(const struct hac_replication *replication)
{
	if (replication->size != sizeof(*replication))
		return hac_fail(EINVAL, "struct hac_replication: size is %zu, must be %zu",
				replication->size, sizeof(*replication));
	if (replication->role > HAC_STANDBY || replication->reserved)
		return hac_fail(EINVAL, "replication: unknown role %u", replication->role);
	if (replication->command && !replication->command[0])
		return hac_fail(EINVAL, "replication: the command of the helper is empty");
	return 0;
}

static size_t count_of(const char *const *list)
{
	size_t count = 0;

	while (list && list[count])
		count++;
	return count;
}

static void free_list(char **list)
{
	for (size_t i = 0; list && list[i]; i++)
		free(list[i]);
	free(list);
}

static char **copy_list(const char *const *list, size_t more)
{
	size_t count = count_of(list);
	char **copy = calloc(count + more + 1, sizeof(*copy));

	for (size_t i = 0; copy && i < count; i++) {
		copy[i] = strdup(list[i]);
		if (!copy[i]) {
			free_list(copy);
			return NULL;
		}
	}
	return copy;
}

/* A list that grows within the room that it was made with. */
struct words {
	char **list;
	size_t count;
	bool failed;
};

static void add_word(struct words *words, const char *word)
{
	char *copy = strdup(word);

	if (copy)
		words->list[words->count++] = copy;
	else
		words->failed = true;
}

static void add_option(struct words *words, const char *name, const char *value)
{
	add_word(words, name);
	add_word(words, value);
}

static void add_number(struct words *words, const char *name, int value)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", value);
	add_option(words, name, text);
}

static char **make_arguments(const struct helper_options *o)
{
	static const char *const usual[] = { "hac", "helper", NULL };
	static const char *const codecs[] = { "none", "zstd", "lz4" };
	static const char *const roles[] = { "auto", "primary", "standby" };
	const struct hac_replication *r = o->replication;
	const char *const *command = r->command ? r->command : usual;
	size_t more = count_of(r->arguments);
	struct words words = { copy_list(command, 14 + more), count_of(command), false };

	if (!words.list)
		return NULL;
	add_option(&words, "--image", o->path);
	add_number(&words, "--ring", RING_FD);
	add_number(&words, "--control", CONTROL_FD);
	add_option(&words, "--role", roles[r->role]);
	add_number(&words, "--flush-ms", o->flush_ms);
	add_option(&words, "--codec", codecs[o->codec]);
	if (o->key_file)
		add_option(&words, "--key-file", o->key_file);
	for (size_t i = 0; i < more; i++)
		add_word(&words, r->arguments[i]);
	if (!words.failed)
		return words.list;
	free_list(words.list);
	return NULL;
}

int helper_program_make(const struct helper_options *options, struct helper_program *out)
{
	struct helper_program program = { .directory = getcwd(NULL, 0) };

	if (!program.directory)
		return hac_fail(errno, "the current directory cannot be told: %s", strerror(errno));
	program.arguments = make_arguments(options);
	program.environment = copy_list((const char *const *)environ, 0);
	if (!program.arguments || !program.environment) {
		helper_program_free(&program);
		return hac_fail(ENOMEM, "no memory to start the helper");
	}
	*out = program;
	return 0;
}

void helper_program_free(struct helper_program *program)
{
	free_list(program->arguments);
	free_list(program->environment);
	free(program->directory);
	memset(program, 0, sizeof(*program));
}

/* ------------------------------------------------------------ starting -- */

/*
 * A session of its own, so that the terminal's Ctrl-C ends the application and
 * not who has to drain its ring; no signal blocked, none ignored; and nothing of
 * the application's but its standard output and error: it outlives it.
 */
static int set_up(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes,
		  const struct helper_program *program, int ring, int control)
{
	sigset_t all, none;
	int error;

	sigfillset(&all);
	sigemptyset(&none);
	error = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
							     POSIX_SPAWN_SETSIGDEF);
	if (!error)
		error = posix_spawnattr_setsigmask(attributes, &none);
	if (!error)
		error = posix_spawnattr_setsigdefault(attributes, &all);
	if (!error)
		error = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
	if (!error)
		error = posix_spawn_file_actions_adddup2(actions, ring, RING_FD);
	if (!error)
		error = posix_spawn_file_actions_adddup2(actions, control, CONTROL_FD);
#if __GLIBC_PREREQ(2, 34)
	if (!error)
		error = posix_spawn_file_actions_addclosefrom_np(actions, CONTROL_FD + 1);
#endif
	if (!error)
		error = posix_spawn_file_actions_addchdir_np(actions, program->directory);
	return error;
}

static int spawn(const struct helper_program *program, int ring, int control, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int error = posix_spawn_file_actions_init(&actions);

	if (error)
		return -error;
	error = posix_spawnattr_init(&attributes);
	if (!error) {
		error = set_up(&actions, &attributes, program, ring, control);
		if (!error)
			error = posix_spawnp(pid, program->arguments[0], &actions, &attributes,
					     program->arguments, program->environment);
		posix_spawnattr_destroy(&attributes);
	}
	posix_spawn_file_actions_destroy(&actions);
	return -error;
}

/* Both above the numbers that they are to be copied to. */
static int make_ends(int ring_fd, int *ring, int ends[2])
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	ends[0] = fcntl(pair[0], F_DUPFD_CLOEXEC, CONTROL_FD + 1);
	ends[1] = fcntl(pair[1], F_DUPFD_CLOEXEC, CONTROL_FD + 1);
	*ring = fcntl(ring_fd, F_DUPFD_CLOEXEC, CONTROL_FD + 1);
	close(pair[0]);
	close(pair[1]);
	if (ends[0] >= 0 && ends[1] >= 0 && *ring >= 0)
		return 0;
	return -EMFILE;
}

static void close_if(int fd)
{
	if (fd >= 0)
		close(fd);
}

static int open_pidfd(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : fd;
}

int helper_spawn(const struct helper_program *program, int ring_fd, struct helper_process *out)
{
	struct helper_process process = { .pidfd = -1, .socket = -1 };
	int ring = -1, ends[2] = { -1, -1 };
	int error = make_ends(ring_fd, &ring, ends);

	if (!error)
		error = spawn(program, ring, ends[1], &process.pid);
	close_if(ring);
	close_if(ends[1]);
	if (!error) {
		process.socket = ends[0];
		process.pidfd = open_pidfd(process.pid);
		/* Where the application ignores SIGCHLD, it may be gone already. */
		if (process.pidfd >= 0 || process.pidfd == -ESRCH) {
			*out = process;
			return 0;
		}
		error = process.pidfd;
		kill(process.pid, SIGKILL);
	}
	close_if(ends[0]);
	return hac_fail(-error, "the helper '%s' cannot be started: %s", program->arguments[0],
			strerror(-error));
}

/* -------------------------------------------------------------- its end -- */

/* By the descriptor: the number may be another process's by now. */
void helper_kill(const struct helper_process *process)
{
	if (process->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, process->pidfd, SIGKILL, NULL, 0);
}

void helper_reap(struct helper_process *process, char *how, size_t size)
{
	siginfo_t info = { .si_pid = 0 };
	int result = -1;

	while (process->pidfd >= 0) {
		result = waitid(P_PIDFD, (id_t)process->pidfd, &info, WEXITED);
		if (!result || errno != EINTR)
			break;
	}
	if (result || !info.si_pid)
		snprintf(how, size, "it ended; the application took its status away");
	else if (info.si_code == CLD_EXITED)
		snprintf(how, size, "it ended with status %d", info.si_status);
	else
		snprintf(how, size, "it was ended by signal %d (%s)", info.si_status,
			 strsignal(info.si_status));
	close_if(process->pidfd);
	close_if(process->socket);
	*process = (struct helper_process){ .pidfd = -1, .socket = -1 };
}
