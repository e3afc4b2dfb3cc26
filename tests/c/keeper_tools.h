/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the keeper share: transactions that anybody can make again
 * from their epoch, a producer that puts them into a ring as an application
 * would, and the state that they leave behind.
 */
#ifndef KEEPER_TOOLS_H
#define KEEPER_TOOLS_H

#include "drainer_internal.h"
#include "hac_helper.h"
#include "image_tools.h"

#include <time.h>

#define SMALL ((uint32_t)4096)    /* bytes of area 1, "small" */
#define LARGE ((uint32_t)1 << 18) /* of area 2, "large", which epoch 5 makes */

struct producer {
	struct ring ring;
	struct drainer_shared *shared;
	uint64_t accepted;
};

__attribute__((unused)) static struct hac_keeper_options keeper_options(uint32_t flags, int ring)
{
	return (struct hac_keeper_options){
		.size = sizeof(struct hac_keeper_options),
		.flags = flags,
		.ring = ring,
	};
}

__attribute__((unused)) static hac_keeper *open_keeper(const char *path, uint32_t flags, int ring)
{
	struct hac_keeper_options options = keeper_options(flags, ring);
	hac_keeper *keeper;

	CHECK_OK(hac_keeper_open(path, &options, &keeper));
	return keeper;
}

__attribute__((unused)) static struct hac_place place_of(hac_keeper *keeper)
{
	struct hac_place place = { .size = sizeof(place) };

	CHECK_OK(hac_keeper_place(keeper, &place));
	return place;
}

/* ------------------------------------------------------- transactions -- */

/* What epoch `epoch` writes: one run. */
struct change {
	uint32_t area;
	uint32_t offset;
	uint32_t size;
	unsigned char bytes[LARGE];
};

__attribute__((unused)) static void make_change(uint64_t epoch, struct change *change)
{
	unsigned long long seed = epoch * 2654435761u + 1;

	for (int i = 0; i < 4; i++)
		check_random(&seed);
	change->area = epoch >= 5 && epoch % 5 == 0 ? 2 : 1;
	if (change->area == 1) {
		change->size = 8 + 8 * (uint32_t)(check_random(&seed) % 60);
		change->offset = 8 * (uint32_t)(check_random(&seed) % ((SMALL - 512) / 8));
	} else {
		/* Mostly larger than the ring. */
		change->size = (uint32_t)(check_random(&seed) % (LARGE / 2));
		change->offset = (uint32_t)(check_random(&seed) % (LARGE / 2));
	}
	for (uint32_t i = 0; i < change->size; i += 8) {
		uint64_t value = check_random(&seed);

		memcpy(change->bytes + i, &value, change->size - i < 8 ? change->size - i : 8);
	}
}

struct model {
	unsigned char small[SMALL];
	unsigned char large[LARGE];
};

__attribute__((unused)) static void apply_change(struct model *model, uint64_t epoch)
{
	static struct change change;

	make_change(epoch, &change);
	memcpy((change.area == 1 ? model->small : model->large) + change.offset, change.bytes,
	       change.size);
}

/* The image holds exactly the epochs up to `epoch`. */
__attribute__((unused)) static void check_epochs(const char *path, uint64_t epoch)
{
	static struct model model;
	struct image *image = open_image(path, true, 0);
	struct image_area *area;

	CHECK_IS(image->epoch, epoch);
	memset(&model, 0, sizeof(model));
	for (uint64_t i = 1; i <= epoch; i++)
		apply_change(&model, i);
	area = area_named(image, "small");
	CHECK(area && area->layout.size == SMALL && !memcmp(area->contents, model.small, SMALL));
	area = area_named(image, "large");
	CHECK(!!area == (epoch >= 5));
	CHECK(!area || !memcmp(area->contents, model.large, LARGE));
	image_close(image);
}

struct log_check {
	uint64_t next;    /* epoch */
	uint64_t partial; /* that is under way, or 0 */
	uint64_t done;    /* bytes of it */
};

static int check_record(void *argument, const struct hac_log_record *record)
{
	static struct change change;
	struct log_check *check = argument;

	if (strcmp(record->kind, "transaction") || !strcmp(record->file, "base"))
		return 0;
	if (!check->next)
		check->next = record->epoch;
	CHECK_MSG(record->epoch == check->next, "epoch %llu, not %llu",
		  (unsigned long long)record->epoch, (unsigned long long)check->next);
	if (!check->done)
		make_change(record->epoch, &change);
	CHECK(record->runs == 1 && record->run->area == change.area);
	CHECK(record->run->offset == change.offset + check->done);
	CHECK(check->done + record->bytes <= change.size);
	CHECK(!memcmp(record->data, change.bytes + check->done, record->bytes));
	check->done += record->bytes;
	if (record->partial)
		return 0;
	CHECK(check->done == change.size);
	check->done = 0;
	check->next++;
	return 0;
}

/* The journal holds every epoch up to `last` once, in order, byte for byte; from
 * epoch 1 on, or from where the base ends. */
__attribute__((unused)) static void check_journal(const char *path, uint64_t last, bool whole)
{
	struct log_check check = { .next = whole };

	CHECK_OK(hac_log_image(path, check_record, &check));
	CHECK_MSG(check.next == last + 1 || (!whole && !check.next), "epoch %llu comes next",
		  (unsigned long long)check.next);
}

/* ----------------------------------------------------------- producer -- */

__attribute__((unused)) static void attach_producer(struct producer *producer, int fd)
{
	memset(producer, 0, sizeof(*producer));
	CHECK_OK(ring_attach(fd, &producer->ring));
	producer->shared = (void *)producer->ring.shared->user;
}

/* Room in the journal, or the error that the consumer gives. */
static int produce_reserve(struct producer *p, uint64_t size)
{
	struct drainer_shared *shared = p->shared;
	uint64_t charged = atomic_load(&shared->charged);
	uint64_t need = atomic_load(&shared->written) + (p->accepted - charged) + size;

	if (atomic_load(&shared->reserved) >= need)
		return 0;
	atomic_store(&shared->reserve_refused, 0);
	atomic_store(&shared->reserve_to, need);
	ring_kick_consumer(&p->ring);
	for (;;) {
		uint32_t changes = atomic_load(&shared->durable_changes);

		if (atomic_load(&shared->reserved) >= need)
			return 0;
		if (atomic_load(&shared->reserve_refused) >= need)
			return atomic_load(&shared->reserve_error);
		if (atomic_load(&shared->error))
			return atomic_load(&shared->error);
		futex_wait(&shared->durable_changes, changes, -1);
	}
}

static int produce_room(struct producer *p, size_t size)
{
	while (ring_room(&p->ring) < size) {
		if (atomic_load(&p->shared->error))
			return atomic_load(&p->shared->error);
		ring_kick_consumer(&p->ring);
		ring_wait_room(&p->ring, size);
	}
	return 0;
}

static size_t produce_record(struct producer *p, size_t at, const struct record *record)
{
	return record_encode(ring_next(&p->ring) + at, record);
}

static size_t put_layout(struct producer *p, uint64_t epoch, uint32_t flags)
{
	struct record record = {
		.kind = RECORD_LAYOUT,
		.flags = flags,
		.epoch = epoch,
		.layout = layout_of(epoch == 1 ? 1 : 2, epoch == 1 ? "small" : "large",
				    epoch == 1 ? SMALL : LARGE, LARGE),
	};

	return produce_record(p, 0, &record);
}

static size_t put_part(struct producer *p, size_t at, uint64_t epoch, uint32_t flags,
		       const struct change *change, uint32_t from, uint32_t size)
{
	struct hac_run run = { change->offset + from, size, change->area };
	struct record record = {
		.kind = RECORD_TRANSACTION,
		.flags = flags,
		.epoch = epoch,
		.transaction = { &run, 1, change->bytes + from, size },
	};

	return produce_record(p, at, &record);
}

static int produce_parts(struct producer *p, uint64_t epoch, const struct change *change)
{
	uint32_t flags = RECORD_FIRST, from = 0;
	size_t part = p->ring.size / 4, size;
	int error;

	error = produce_reserve(p, change->size + (change->size / (part - 64) + 3) * 512);
	if (error)
		return error;
	if (epoch == 5) {
		error = produce_room(p, part);
		if (error)
			return error;
		size = put_layout(p, epoch, RECORD_FIRST | RECORD_PARTIAL);
		p->accepted += size + DRAINER_CHARGE;
		ring_publish(&p->ring, size);
		flags = 0;
	}
	do {
		uint32_t left = change->size - from;
		uint32_t now = left < part - 64 ? left : (uint32_t)(part - 64);

		error = produce_room(p, part);
		if (error)
			return error;
		if (now < left)
			flags |= RECORD_PARTIAL;
		size = put_part(p, 0, epoch, flags, change, from, now);
		p->accepted += size + DRAINER_CHARGE;
		ring_publish(&p->ring, size);
		from += now;
		flags = 0;
	} while (from < change->size);
	return 0;
}

/* Put the transaction of this epoch into the ring, as drainer_push() does. */
__attribute__((unused)) static int produce(struct producer *p, uint64_t epoch)
{
	static struct change change;
	uint32_t flags = RECORD_FIRST;
	size_t size = 0;
	int error;

	make_change(epoch, &change);
	if (change.size + 256 > p->ring.size / 4)
		return produce_parts(p, epoch, &change);
	error = produce_reserve(p, change.size + 1024);
	if (!error)
		error = produce_room(p, change.size + 512);
	if (error)
		return error;
	if (epoch == 1 || epoch == 5) {
		size = put_layout(p, epoch, flags);
		flags = 0;
	}
	size += put_part(p, size, epoch, flags, &change, 0, change.size);
	p->accepted += size + DRAINER_CHARGE;
	ring_publish(&p->ring, size);
	return 0;
}

__attribute__((unused)) static int await_durable(struct producer *p, uint64_t epoch)
{
	struct drainer_shared *shared = p->shared;

	atomic_fetch_add(&shared->waiters, 1);
	while (atomic_load(&shared->durable) < epoch && !atomic_load(&shared->error)) {
		uint32_t changes = atomic_load(&shared->durable_changes);

		if (atomic_load(&shared->durable) < epoch && !atomic_load(&shared->error))
			futex_wait(&shared->durable_changes, changes, -1);
	}
	atomic_fetch_sub(&shared->waiters, 1);
	return atomic_load(&shared->durable) < epoch ? atomic_load(&shared->error) : 0;
}

__attribute__((unused)) static void rest(long us)
{
	nanosleep(&(struct timespec){ us / 1000000, us % 1000000 * 1000 }, NULL);
}

/* Nothing here has to reach a disk. */
__attribute__((unused)) static void use_memory(void)
{
	if (!getenv("HAC_TEST_DIR") && !access("/dev/shm", W_OK))
		setenv("HAC_TEST_DIR", "/dev/shm", 1);
}

#endif
