/* SPDX-License-Identifier: MIT */
/* The keeper: what it refuses, how it leads, and who waits for whom. */
#include "image_internal.h"
#include "image_io.h"
#include "keeper_tools.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

static struct ring make_ring(size_t size)
{
	struct ring ring;

	CHECK_OK(ring_create(size, &ring));
	return ring;
}

/* --------------------------------------------------------------- options -- */

static void options(void)
{
	const char *path = temp_path("options");
	struct hac_keeper_options o = keeper_options(0, -1);
	struct hac_place place = { .size = 1 };
	struct ring ring = make_ring(4096);
	hac_keeper *keeper, *second;
	int null = open("/dev/null", O_RDWR);

	CHECK_IS(hac_keeper_open(path, NULL, &keeper), -EINVAL);
	CHECK_IS(hac_keeper_open(NULL, &o, &keeper), -EINVAL);
	CHECK_IS(hac_keeper_open("", &o, &keeper), -EINVAL);
	o.size--;
	CHECK_IS(hac_keeper_open(path, &o, &keeper), -EINVAL);
	CHECK_DETAIL("size is");
	o = keeper_options(0x80, -1);
	CHECK_IS(hac_keeper_open(path, &o, &keeper), -EINVAL);
	CHECK_DETAIL("0x80");
	o = keeper_options(HAC_KEEPER_RESUME, -1);
	CHECK_IS(hac_keeper_open(path, &o, &keeper), -EINVAL);
	o = keeper_options(0, -1);
	o.flush_ms = -1;
	CHECK_IS(hac_keeper_open(path, &o, &keeper), -EINVAL);
	o = keeper_options(0, null);
	CHECK_IS(hac_keeper_open(path, &o, &keeper), -EINVAL);
	CHECK_DETAIL("not that of a ring");
	o = keeper_options(0, -1);
	CHECK_IS(hac_keeper_open(path, &o, &keeper), -ENOENT);
	CHECK(access(path, F_OK));
	keeper = open_keeper(path, HAC_KEEPER_CREATE, -1);
	CHECK_IS(hac_keeper_open(path, &o, &second), -EUSERS);
	CHECK_IS(hac_keeper_place(keeper, &place), -EINVAL);
	CHECK_IS(hac_keeper_lead(keeper, -1, 0), -EPROTO);
	CHECK_IS(hac_keeper_drain(keeper), -EPROTO);
	CHECK_IS(hac_keeper_acknowledge(keeper, 0, 1), -EPROTO);
	CHECK_IS(hac_keeper_fence(keeper, 2, NULL), -EPROTO);
	CHECK_IS(hac_keeper_append(keeper, "", 0), -EBADMSG);
	CHECK_IS(hac_keeper_append(NULL, "", 0), -EINVAL);
	CHECK_IS(hac_frame_size("nothing", 7), -EBADMSG);
	hac_keeper_close(keeper);
	hac_keeper_close(NULL);
	/* Nobody has led with this ring. */
	o = keeper_options(HAC_KEEPER_RESUME, ring.fd);
	CHECK_IS(hac_keeper_open(path, &o, &keeper), -EPROTO);
	ring_destroy(&ring);
	close(null);
}

/* --------------------------------------------------------------- leading -- */

static void leads(void)
{
	const char *path = temp_path("leads");
	struct ring ring = make_ring(16384);
	struct producer producer;
	hac_keeper *keeper;
	struct hac_place place;
	int event = eventfd(0, EFD_NONBLOCK);
	uint64_t count;

	keeper = open_keeper(path, HAC_KEEPER_CREATE, ring.fd);
	attach_producer(&producer, ring.fd);
	CHECK_IS(place_of(keeper).generation, 0);
	CHECK_OK(hac_keeper_lead(keeper, event, 0));
	CHECK_IS(hac_keeper_lead(keeper, event, 0), -EPROTO);
	CHECK_IS(hac_keeper_append(keeper, path, 200), -EPROTO);
	CHECK_IS(place_of(keeper).generation, 1);
	for (uint64_t epoch = 1; epoch <= 200; epoch++) {
		CHECK_OK(produce(&producer, epoch));
		if (epoch % 50 == 0)
			CHECK_OK(hac_keeper_compact(keeper));
	}
	CHECK_OK(await_durable(&producer, 200));
	place = place_of(keeper);
	CHECK(place.epoch == 200 && place.last_epoch == 200 && place.next_area_id == 3);
	CHECK(place.base_epoch && place.first_segment > 1 && !place.pushed_bytes);
	CHECK(read(event, &count, 8) == 8 && count >= 4);
	CHECK_OK(hac_keeper_acknowledge(keeper, 3, 150));
	CHECK_OK(hac_keeper_acknowledge(keeper, 3, 140));
	CHECK_IS(producer.shared->acknowledged[3], 150);
	CHECK_IS(hac_keeper_acknowledge(keeper, HAC_BACKUPS_MAX, 1), -EINVAL);
	CHECK_OK(produce(&producer, 201));
	CHECK_OK(hac_keeper_drain(keeper));
	CHECK_OK(hac_keeper_drain(keeper));
	place = place_of(keeper);
	CHECK(place.epoch == 201 && place.durable == 201 && place.offset == place.synced_offset);
	CHECK_IS(producer.shared->place_offset, place.offset);
	CHECK_IS(hac_keeper_compact(keeper), -EPROTO);
	hac_keeper_close(keeper);
	check_epochs(path, 201);
	ring_destroy(&producer.ring);
	ring_destroy(&ring);
	close(event);
}

/* What is in the ring stays there, and the next one goes on. */
static void hands_over(void)
{
	const char *path = temp_path("over");
	struct ring ring = make_ring(65536);
	struct producer producer;
	hac_keeper *keeper = open_keeper(path, HAC_KEEPER_CREATE, ring.fd);
	uint64_t epoch = 0;

	attach_producer(&producer, ring.fd);
	CHECK_OK(hac_keeper_lead(keeper, -1, 0));
	for (int i = 0; i < 20; i++) {
		for (int j = 0; j < 5; j++)
			CHECK_OK(produce(&producer, ++epoch));
		hac_keeper_close(keeper);
		/* There is room for these, and nobody to take them. */
		if (ring_room(&ring) > 8192 && (epoch + 1) % 5)
			CHECK_OK(produce(&producer, ++epoch));
		keeper = open_keeper(path, HAC_KEEPER_RESUME, ring.fd);
		if (i % 3 == 0)
			CHECK_OK(await_durable(&producer, producer.shared->durable));
		CHECK_OK(hac_keeper_lead(keeper, -1, 0));
		if (i % 4 == 0)
			CHECK_OK(hac_keeper_compact(keeper));
	}
	/* Nobody sets more room aside than the one before. */
	CHECK(producer.shared->reserved - producer.shared->written < 8 << 20);
	CHECK_OK(hac_keeper_drain(keeper));
	hac_keeper_close(keeper);
	check_epochs(path, epoch);
	check_journal(path, epoch, false);
	ring_destroy(&producer.ring);
	ring_destroy(&ring);
}

/* What comes before its time waits, and goes into one frame; unless much comes. */
static void paces(void)
{
	struct ring ring = make_ring(4 << 20);
	hac_keeper *keeper = open_keeper(temp_path("paces"), HAC_KEEPER_CREATE, ring.fd);
	struct producer producer;
	uint64_t first, epoch;

	attach_producer(&producer, ring.fd);
	CHECK_OK(hac_keeper_lead(keeper, -1, 0));
	CHECK_IS(hac_keeper_pace(keeper, HAC_PACE_MAX_US + 1), -EINVAL);
	CHECK_OK(produce(&producer, 1));
	CHECK_OK(await_durable(&producer, 1));
	first = place_of(keeper).sequence;
	CHECK_OK(hac_keeper_pace(keeper, HAC_PACE_MAX_US));
	for (epoch = 2; epoch <= 20; epoch++)
		CHECK_OK(produce(&producer, epoch));
	usleep(20000);
	CHECK_IS(place_of(keeper).sequence, first);
	CHECK_OK(hac_keeper_pace(keeper, 0));
	CHECK_OK(await_durable(&producer, 20));
	CHECK_IS(place_of(keeper).sequence, first + 1);
	CHECK_OK(hac_keeper_pace(keeper, HAC_PACE_MAX_US));
	for (epoch = 21; epoch < 100000 && place_of(keeper).sequence == first + 1; epoch++)
		CHECK_OK(produce(&producer, epoch));
	CHECK(epoch > 40 && epoch < 100000);
	CHECK_OK(hac_keeper_drain(keeper));
	CHECK_IS(place_of(keeper).epoch, epoch - 1);
	hac_keeper_close(keeper);
	ring_destroy(&producer.ring);
	ring_destroy(&ring);
}

/* ---------------------------------------------------------------- fencing -- */

static void *wait_long(void *argument)
{
	return (void *)(intptr_t)await_durable(argument, 1000000);
}

static void fences(void)
{
	const char *path = temp_path("fence");
	struct ring ring = make_ring(16384);
	struct producer producer;
	hac_keeper *keeper = open_keeper(path, HAC_KEEPER_CREATE, ring.fd);
	pthread_t waiter;
	void *result;

	attach_producer(&producer, ring.fd);
	CHECK_OK(hac_keeper_lead(keeper, -1, 0));
	CHECK_OK(produce(&producer, 1));
	CHECK_OK(await_durable(&producer, 1));
	CHECK(!pthread_create(&waiter, NULL, wait_long, &producer));
	CHECK_OK(hac_keeper_fence(keeper, 7, "promoted there"));
	pthread_join(waiter, &result);
	CHECK_IS((intptr_t)result, -ESTALE);
	CHECK(strstr(producer.shared->detail, "generation 7") &&
	      strstr(producer.shared->detail, "this one is 1") &&
	      strstr(producer.shared->detail, "promoted there"));
	CHECK_IS(hac_keeper_compact(keeper), -ECANCELED);
	CHECK_IS(hac_keeper_drain(keeper), -ESTALE);
	CHECK_IS(hac_keeper_lead(keeper, -1, 0), -ESTALE);
	/* It may follow now. */
	CHECK_IS(hac_keeper_append(keeper, path, 200), -EBADMSG);
	CHECK_OK(hac_keeper_compact(keeper));
	CHECK_IS(place_of(keeper).base_epoch, 1);
	hac_keeper_close(keeper);
	check_epochs(path, 1);
	ring_destroy(&producer.ring);
	ring_destroy(&ring);
}

/* ------------------------------------------------------------------ threads -- */

struct party {
	hac_keeper *keeper;
	struct producer producer;
	_Atomic bool over;
};

static void *compact_often(void *argument)
{
	struct party *party = argument;

	while (!party->over)
		CHECK_OK(hac_keeper_compact(party->keeper));
	return NULL;
}

static void *look_often(void *argument)
{
	struct party *party = argument;
	struct hac_place before = place_of(party->keeper), place;
	uint32_t index = 0;

	while (!party->over) {
		place = place_of(party->keeper);
		CHECK(place.epoch >= before.epoch && place.durable >= before.durable);
		CHECK(place.epoch >= place.durable && place.sequence >= before.sequence);
		CHECK(place.segment > before.segment ||
		      (place.segment == before.segment && place.offset >= before.offset));
		CHECK(place.synced_segment < place.segment || place.synced_offset <= place.offset);
		CHECK_OK(hac_keeper_acknowledge(party->keeper, index++ % HAC_BACKUPS_MAX,
						place.durable));
		before = place;
	}
	return NULL;
}

static void many_threads(void)
{
	static struct party party;
	const char *path = temp_path("threads");
	struct ring ring = make_ring(16384);
	pthread_t threads[3];

	party.keeper = open_keeper(path, HAC_KEEPER_CREATE, ring.fd);
	attach_producer(&party.producer, ring.fd);
	CHECK_OK(hac_keeper_lead(party.keeper, -1, 0));
	CHECK(!pthread_create(&threads[0], NULL, compact_often, &party));
	CHECK(!pthread_create(&threads[1], NULL, compact_often, &party));
	CHECK(!pthread_create(&threads[2], NULL, look_often, &party));
	for (uint64_t epoch = 1; epoch <= 1000; epoch++)
		CHECK_OK(produce(&party.producer, epoch));
	party.over = true;
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	CHECK_OK(hac_keeper_drain(party.keeper));
	hac_keeper_close(party.keeper);
	check_epochs(path, 1000);
	ring_destroy(&party.producer.ring);
	ring_destroy(&ring);
}

/* --------------------------------------------------------------------- lock -- */

static int (*real_fdatasync)(int fd);

static int slow_fdatasync(int fd)
{
	rest(100000);
	return real_fdatasync(fd);
}

static pid_t child_that_drains(const char *path, int hold_ms, bool drains)
{
	struct ring ring = make_ring(65536);
	struct producer producer;
	int ready[2], status;
	char byte = 0;
	pid_t child;

	CHECK(!pipe(ready));
	fflush(stdout);
	child = fork();
	CHECK(child >= 0);
	if (!child) {
		hac_keeper *keeper = open_keeper(path, HAC_KEEPER_CREATE, ring.fd);

		attach_producer(&producer, ring.fd);
		real_fdatasync = image_io.fdatasync;
		image_io.fdatasync = slow_fdatasync;
		CHECK_OK(hac_keeper_lead(keeper, -1, 0));
		for (uint64_t epoch = 1; epoch <= 3; epoch++)
			CHECK_OK(produce(&producer, epoch));
		CHECK(write(ready[1], &byte, 1) == 1);
		if (drains)
			CHECK_OK(hac_keeper_drain(keeper));
		rest(hold_ms * 1000L);
		if (drains)
			hac_keeper_close(keeper);
		_exit(0);
	}
	CHECK(read(ready[0], &byte, 1) == 1);
	close(ready[0]);
	close(ready[1]);
	ring_destroy(&ring);
	status = waitpid(child, NULL, WNOHANG);
	CHECK(status == 0);
	return child;
}

static void waits_for_lock(void)
{
	const char *path = temp_path("lock");
	struct image *image;
	char pid[32];
	pid_t child;
	int status;

	/* It drains: it is waited for, and everything is there. */
	child = child_that_drains(path, 100, true);
	image = open_image(path, false, 0);
	CHECK_IS(image->epoch, 3);
	image_close(image);
	CHECK(waitpid(child, &status, 0) == child && !status);
	temp_remove(path);
	/* It drains, but for too long. */
	child = child_that_drains(path, 3000, true);
	image_limits.drain_ms = 400;
	rest(300000);
	CHECK_IS(image_open(path, NULL, &image), -EUSERS);
	CHECK_DETAIL("a helper that drains");
	snprintf(pid, sizeof(pid), "process %ld", (long)child);
	CHECK_DETAIL(pid);
	image_limits.drain_ms = 60000;
	/* What it left in the lock file means nothing any more. */
	kill(child, SIGKILL);
	CHECK(waitpid(child, &status, 0) == child);
	image = open_image(path, false, 0);
	CHECK_IS(image->epoch, 3);
	child = fork();
	if (!child) {
		struct image *second;

		CHECK_IS(image_open(path, NULL, &second), -EUSERS);
		CHECK_DETAIL("open for writing in process");
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && !status);
	image_close(image);
	/* It lives, and does not drain. */
	temp_remove(path);
	child = child_that_drains(path, 3000, false);
	image_limits.keeper_ms = 50;
	CHECK_IS(image_open(path, NULL, &image), -EUSERS);
	CHECK_DETAIL("open for writing in process");
	/* It dies meanwhile. */
	image_limits.keeper_ms = 5000;
	kill(child, SIGKILL);
	image = open_image(path, false, 0);
	image_close(image);
	CHECK(waitpid(child, &status, 0) == child);
}

/* ------------------------------------------------------------------- room -- */

static int (*real_fallocate)(int fd, int mode, off_t offset, off_t size);
static _Atomic bool full;

static int full_fallocate(int fd, int mode, off_t offset, off_t size)
{
	if (!full)
		return real_fallocate(fd, mode, offset, size);
	errno = ENOSPC;
	return -1;
}

static void no_room(void)
{
	const char *path = temp_path("room");
	struct ring ring = make_ring(16384);
	struct producer producer;
	hac_keeper *keeper = open_keeper(path, HAC_KEEPER_CREATE, ring.fd);
	uint64_t epoch = 0;
	int error;

	real_fallocate = image_io.fallocate;
	image_io.fallocate = full_fallocate;
	attach_producer(&producer, ring.fd);
	CHECK_OK(hac_keeper_lead(keeper, -1, 0));
	for (; epoch < 10; epoch++)
		CHECK_OK(produce(&producer, epoch + 1));
	full = true;
	/* What lies in the ring is charged at its worst: once it is written, a
	 * little may fit again. */
	do {
		while (!(error = produce(&producer, epoch + 1)))
			CHECK(++epoch < 10000);
		CHECK_IS(error, -ENOSPC);
		CHECK(strstr(producer.shared->reserve_detail, "no room on disk"));
		CHECK_OK(await_durable(&producer, epoch));
		error = produce(&producer, epoch + 1);
		epoch += !error;
	} while (!error);
	CHECK_IS(error, -ENOSPC);
	CHECK_IS(produce(&producer, epoch + 1), -ENOSPC);
	full = false;
	CHECK_OK(produce(&producer, ++epoch));
	CHECK_OK(hac_keeper_drain(keeper));
	hac_keeper_close(keeper);
	image_io.fallocate = real_fallocate;
	check_epochs(path, epoch);
	ring_destroy(&producer.ring);
	ring_destroy(&ring);
}

int main(void)
{
	use_memory();
	image_limits.segment_bytes = 60000;
	RUN(options);
	RUN(waits_for_lock);
	RUN(leads);
	RUN(hands_over);
	RUN(paces);
	RUN(fences);
	RUN(no_room);
	image_limits.segment_bytes = 300000;
	RUN(many_threads);
	return 0;
}
