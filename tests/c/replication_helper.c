// SPDX-License-Identifier: MIT
/*
 * A helper for the tests, without a network: it leads, or it follows by reading
 * the segment files of another image. What else it is to do stands in its
 * arguments:
 *	--from IMAGE	as a standby, follow this one
 *	--acks N	as a primary, N backups acknowledge what is synced
 *	--fence FILE	be fenced when this file is there
 *	--promote FILE	become primary when this file is there
 *	--exit STATUS, --fail ERRNO, --hang-up	misbehave before READY
 *	--dumb		say READY with a role that there is not
 */
#include "control.h"
#include "hac_helper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SEQUENCE_AT 24 /* in a frame's header */

static struct {
	const char *image, *role, *from, *fence, *promote, *key_file;
	int ring, control, flush_ms, acks, codec;
} arguments;

static hac_keeper *keeper;
static int event, application;
static bool leads;

static void say(uint32_t kind, int error, const char *text)
{
	struct control_message message = { .kind = kind, .error = error };

	snprintf(message.text, sizeof(message.text), "%s", text);
	if (send(arguments.control, &message, sizeof(message), MSG_NOSIGNAL) < 0)
		exit(3);
}

static void fail(int error)
{
	say(CONTROL_FAILED, error, hac_error_detail());
	exit(1);
}

static struct hac_place place(void)
{
	struct hac_place now = { .size = sizeof(now) };
	int error = hac_keeper_place(keeper, &now);

	if (error)
		fail(error);
	return now;
}

static void say_place(uint32_t kind)
{
	struct hac_place now = place();
	struct control_message message = {
		.kind = kind,
		.role = leads ? HAC_PRIMARY : HAC_STANDBY,
		.next_area_id = now.next_area_id,
		.generation = now.generation,
		.parent = now.parent,
		.branch_epoch = now.branch_epoch,
		.epoch = now.epoch,
		.last_epoch = now.last_epoch,
		.dropped_bytes = now.dropped_bytes,
		.dropped_epoch = now.dropped_epoch,
	};

	if (send(arguments.control, &message, sizeof(message), MSG_NOSIGNAL) < 0)
		exit(3);
}

static void lead(void)
{
	int error = hac_keeper_lead(keeper, event, 0);

	if (error)
		fail(error);
	leads = true;
}

/* ----------------------------------------------------------- following -- */

static struct {
	uint64_t segment;
	uint64_t offset;
	bool in_step; /* a frame or a base has shown that none is missing before */
} from;

static uint64_t first_segment(const char *path)
{
	DIR *list = opendir(path);
	struct dirent *entry;
	uint64_t first = 0, segment;

	while (list && (entry = readdir(list)))
		if (!strncmp(entry->d_name, "journal.", 8)) {
			segment = strtoull(entry->d_name + 8, NULL, 10);
			if (!first || segment < first)
				first = segment;
		}
	if (list)
		closedir(list);
	return first;
}

static void receive_base(void)
{
	char command[4 * PATH_MAX], incoming[PATH_MAX];
	uint64_t segment;
	int error;

	snprintf(incoming, sizeof(incoming), "%s.incoming", arguments.image);
	snprintf(command, sizeof(command),
		 "rm -rf '%s' && mkdir '%s' && cp '%s'/layout '%s'/base '%s'/journal.* '%s' "
		 "2>/dev/null",
		 incoming, incoming, arguments.from, arguments.from, arguments.from, incoming);
	/* The other one may be compacting. */
	if (system(command))
		return;
	segment = first_segment(incoming);
	error = hac_keeper_replace(keeper, incoming);
	if (error && error != -EBADMSG)
		fail(error);
	from.segment = error ? 0 : segment;
	from.offset = 0;
	from.in_step = !error;
}

/* 1: there may be more; 0: no more now; -1: frames are missing. */
static int take_frame(uint64_t sequence)
{
	static unsigned char *bytes;
	char name[PATH_MAX], next[PATH_MAX];
	int64_t size = -1;
	int result = 0, fd;
	struct stat st;

	snprintf(name, sizeof(name), "%s/journal.%08llu", arguments.from,
		 (unsigned long long)from.segment);
	snprintf(next, sizeof(next), "%s/journal.%08llu", arguments.from,
		 (unsigned long long)from.segment + 1);
	if (!bytes)
		bytes = malloc(64 << 20);
	fd = open(name, O_RDONLY);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st))
		exit(4);
	if (pread(fd, bytes, 256, (off_t)from.offset) >= 128)
		size = hac_frame_size(bytes, 128);
	if (size > 0 && from.offset + (uint64_t)size <= (uint64_t)st.st_size &&
	    pread(fd, bytes, (size_t)size, (off_t)from.offset) == size) {
		uint64_t found;

		memcpy(&found, bytes + SEQUENCE_AT, sizeof(found));
		result = found > sequence ? -1 : 1;
		if (found == sequence && hac_keeper_append(keeper, bytes, (size_t)size))
			result = 0; /* half of it is there */
		if (result == 1) {
			from.offset += (uint64_t)size;
			from.in_step = true;
		}
	} else if ((uint64_t)st.st_size == from.offset && !access(next, F_OK)) {
		from.segment++;
		from.offset = 0;
		result = 1;
	} else if (!from.in_step) {
		/* The other one has compacted, and nothing shows what it had. */
		result = -1;
	}
	close(fd);
	return result;
}

static void follow(void)
{
	for (int i = 0; i < 100; i++) {
		int result = -1;

		if (!from.segment)
			from.segment = first_segment(arguments.from);
		if (from.segment)
			result = take_frame(place().sequence);
		if (result < 0)
			receive_base();
		if (result <= 0)
			return;
	}
}

/* -------------------------------------------------------------- talking -- */

static void become_primary(void)
{
	if (leads)
		return;
	lead();
	say_place(CONTROL_PROMOTED);
}

static void hear(const struct control_message *message)
{
	int error;

	switch (message->kind) {
	case CONTROL_PROMOTE:
		become_primary();
		break;
	case CONTROL_COMPACT:
		error = hac_keeper_compact(keeper);
		say(CONTROL_DONE, error, error ? hac_error_detail() : "");
		break;
	case CONTROL_CLOSE:
		error = leads ? hac_keeper_drain(keeper) : 0;
		say(CONTROL_DONE, error, error ? hac_error_detail() : "");
		hac_keeper_close(keeper);
		exit(0);
	default:
		exit(5);
	}
}

static void serve(void)
{
	struct pollfd polls[3] = {
		{ .fd = arguments.control, .events = POLLIN },
		{ .fd = application, .events = POLLIN },
		{ .fd = event, .events = POLLIN },
	};
	struct control_message message;
	uint64_t count;
	bool fenced = false;

	for (;;) {
		bool follows = !leads && arguments.from;
		bool looks = follows || arguments.fence || arguments.promote;

		poll(polls, 3, looks ? 1 : -1);
		if (polls[0].revents &&
		    recv(arguments.control, &message, sizeof(message), 0) == sizeof(message))
			hear(&message);
		if (polls[1].revents || polls[0].revents & POLLHUP) {
			if (leads && hac_keeper_drain(keeper))
				exit(6);
			hac_keeper_close(keeper);
			exit(0);
		}
		if (polls[2].revents && read(event, &count, sizeof(count)) < 0)
			exit(7);
		if (follows)
			follow();
		for (int i = 0; leads && i < arguments.acks; i++)
			if (hac_keeper_acknowledge(keeper, (uint32_t)i, place().durable))
				exit(8);
		if (leads && !fenced && arguments.fence && !access(arguments.fence, F_OK)) {
			if (hac_keeper_fence(keeper, place().generation + 1, "the test says so"))
				exit(9);
			fenced = true;
		}
		if (arguments.promote && !access(arguments.promote, F_OK))
			become_primary();
	}
}

/* -------------------------------------------------------------- starting -- */

static void misbehave(const char *name, const char *value)
{
	struct control_message message = { .kind = CONTROL_READY, .role = 77 };

	if (!strcmp(name, "--exit"))
		exit(atoi(value));
	if (!strcmp(name, "--hang-up")) {
		close(arguments.control);
		pause();
	}
	if (!strcmp(name, "--fail")) {
		say(CONTROL_FAILED, -atoi(value), "as the test wants it");
		exit(1);
	}
	if (!strcmp(name, "--dumb")) {
		send(arguments.control, &message, sizeof(message), MSG_NOSIGNAL);
		pause();
	}
}

static void take_argument(const char *name, const char *value)
{
	struct {
		const char *name;
		const char **text;
		int *number;
	} known[] = {
		{ "--image", &arguments.image, NULL },
		{ "--ring", NULL, &arguments.ring },
		{ "--control", NULL, &arguments.control },
		{ "--role", &arguments.role, NULL },
		{ "--flush-ms", NULL, &arguments.flush_ms },
		{ "--from", &arguments.from, NULL },
		{ "--acks", NULL, &arguments.acks },
		{ "--fence", &arguments.fence, NULL },
		{ "--promote", &arguments.promote, NULL },
		{ "--key-file", &arguments.key_file, NULL },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcmp(name, known[i].name))
			continue;
		if (known[i].text)
			*known[i].text = value;
		else
			*known[i].number = atoi(value);
		return;
	}
	if (!strcmp(name, "--codec"))
		arguments.codec = !strcmp(value, "zstd") ? HAC_CODEC_ZSTD :
				  !strcmp(value, "lz4")  ? HAC_CODEC_LZ4 :
							   HAC_CODEC_NONE;
	else
		misbehave(name, value);
}

/* The helper that died a moment ago may still have the lock, as may one that
 * drains. */
static void open_keeper(uint32_t flags)
{
	struct hac_keeper_options options = {
		.size = sizeof(options),
		.flags = flags,
		.codec = (uint32_t)arguments.codec,
		.key_file = arguments.key_file,
		.ring = arguments.ring,
		.flush_ms = arguments.flush_ms,
	};
	int error;

	for (int i = 0; i < 20000; i++) {
		error = hac_keeper_open(arguments.image, &options, &keeper);
		if (error != -EUSERS)
			break;
		usleep(1000);
	}
	if (error)
		fail(error);
}

int main(int argc, char **argv)
{
	struct control_message hello;
	socklen_t size;
	struct ucred peer;

	for (int i = 1; i + 1 < argc; i += 2)
		take_argument(argv[i], argv[i + 1]);
	size = sizeof(peer);
	if (getsockopt(arguments.control, SOL_SOCKET, SO_PEERCRED, &peer, &size))
		return 10;
	application = (int)syscall(SYS_pidfd_open, peer.pid, 0);
	event = eventfd(0, EFD_CLOEXEC);
	if (recv(arguments.control, &hello, sizeof(hello), 0) != sizeof(hello) ||
	    hello.kind != CONTROL_HELLO)
		return 11;
	open_keeper(hello.generation ? HAC_KEEPER_RESUME : HAC_KEEPER_CREATE);
	if (hello.role != HAC_STANDBY)
		lead();
	else if (arguments.from && !place().epoch)
		receive_base();
	say_place(CONTROL_READY);
	serve();
}
