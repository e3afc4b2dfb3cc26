// SPDX-License-Identifier: MIT
#include "drainer_internal.h"

#include "error.h"

#include <errno.h>
#include <string.h>

/* How far a transaction has come on its way into the ring. */
struct cursor {
	const struct hac_run *run;
	size_t runs;   /* that are left */
	uint64_t done; /* bytes of the first of them that went before */
	const unsigned char *bytes;
	size_t bytes_left;
};

static size_t round8(size_t size)
{
	return (size + 7) & ~(size_t)7;
}

/* A part never takes more of the ring than this, so that the consumer works
 * on one while the producer fills in the next. */
static size_t part_max(const struct drainer *drainer)
{
	return drainer->ring.size / 4;
}

/* --------------------------------------------------------------- room -- */

/* Room in the journal for `size` more bytes, before any of them is accepted. */
static int reserve(struct drainer *drainer, uint64_t size)
{
	struct drainer_shared *shared = drainer->shared;
	uint64_t charged = atomic_load(&shared->charged);
	uint64_t need = atomic_load(&shared->written) + (drainer->accepted - charged) + size;
	int error;

	if (drainer->helper)
		return drainer_remote_reserve(drainer, need);
	/* With nothing under way there is time to ask for the limit on file sizes
	 * as well: it may have been lowered. */
	if (need <= atomic_load(&shared->reserved) &&
	    ring_room(&drainer->ring) < drainer->ring.size)
		return 0;
	pthread_mutex_lock(&drainer->lock);
	error = journal_reserve(drainer->journal, need);
	atomic_store(&shared->reserved, journal_reserved(drainer->journal));
	pthread_mutex_unlock(&drainer->lock);
	return error;
}

static int ring_is_full(const struct drainer *drainer)
{
	return hac_fail(EXFULL,
			"the ring of %zu bytes is full: try again later, or open with larger "
			"ring_bytes",
			drainer->ring.size);
}

static int wait_room(struct drainer *drainer, size_t size)
{
	while (ring_room(&drainer->ring) < size) {
		int error = drainer_failed(drainer);

		if (error)
			return error;
		/* It may be gathering. */
		ring_kick_consumer(&drainer->ring);
		ring_wait_room(&drainer->ring, size);
	}
	return 0;
}

/* ------------------------------------------------------------ records -- */

/* What stands before the runs: layouts, then drops. The index-th, and its
 * size. */
static size_t side_record(const struct transaction_record *transaction, size_t index,
			  struct record *out)
{
	memset(out, 0, sizeof(*out));
	out->epoch = transaction->epoch;
	if (index < transaction->layouts_count) {
		out->kind = RECORD_LAYOUT;
		out->layout = transaction->layouts[index];
	} else {
		out->kind = RECORD_DROP;
		out->drop = transaction->drops[index - transaction->layouts_count];
	}
	return record_size(out);
}

static size_t side_count(const struct transaction_record *transaction)
{
	return transaction->layouts_count + transaction->drops_count;
}

static int check_transaction(struct drainer *drainer, const struct transaction_record *transaction)
{
	uint64_t last = atomic_load_explicit(&drainer->pushed_epoch, memory_order_relaxed);
	uint64_t sum = 0;

	if (transaction->epoch <= last)
		return hac_fail(EINVAL, "epoch %llu after epoch %llu",
				(unsigned long long)transaction->epoch, (unsigned long long)last);
	/* A record whose lengths do not match could never be read again. */
	for (size_t i = 0; i < transaction->runs_count; i++)
		sum += transaction->runs[i].length;
	if (sum != transaction->bytes_count)
		return hac_fail(EINVAL, "runs of %llu bytes with %zu bytes",
				(unsigned long long)sum, transaction->bytes_count);
	return 0;
}

static void note_pushed(struct drainer *drainer, const struct transaction_record *transaction)
{
	for (size_t i = 0; i < transaction->layouts_count; i++)
		if (transaction->layouts[i].id >= drainer->next_area_id)
			drainer->next_area_id = transaction->layouts[i].id + 1;
	atomic_store_explicit(&drainer->pushed_epoch, transaction->epoch, memory_order_release);
}

/* -------------------------------------------------------------- whole -- */

static int push_whole(struct drainer *drainer, const struct transaction_record *transaction,
		      size_t size, bool wait)
{
	struct record record;
	unsigned char *at;
	uint32_t flags = RECORD_FIRST;
	int error = reserve(drainer, size + DRAINER_CHARGE);

	if (error)
		return error;
	if (!wait && ring_room(&drainer->ring) < size)
		return ring_is_full(drainer);
	error = wait_room(drainer, size);
	if (error)
		return error;
	at = ring_next(&drainer->ring);
	for (size_t i = 0; i < side_count(transaction); i++) {
		side_record(transaction, i, &record);
		record.flags = flags;
		at += record_encode(at, &record);
		flags = 0;
	}
	record.kind = RECORD_TRANSACTION;
	record.flags = flags;
	record.epoch = transaction->epoch;
	record.transaction = (struct record_transaction){
		transaction->runs,
		transaction->runs_count,
		transaction->bytes,
		transaction->bytes_count,
	};
	record_encode(at, &record);
	drainer->accepted += size + DRAINER_CHARGE;
	drainer->last_size = size;
	ring_publish(&drainer->ring, size);
	return 0;
}

/* ----------------------------------------------------------- in parts -- */

/* As many runs as fit in a part, the last one perhaps cut: their number, and
 * their bytes. */
static size_t measure_part(const struct cursor *cursor, size_t room, size_t *bytes)
{
	size_t runs = 0;

	room -= record_transaction_size(0, 0);
	*bytes = 0;
	while (runs < cursor->runs && room >= sizeof(struct hac_run) + 8) {
		size_t left = cursor->run[runs].length - (runs ? 0 : cursor->done);
		size_t most = (room - sizeof(struct hac_run)) & ~(size_t)7;
		size_t take = left < most ? left : most;

		room -= sizeof(struct hac_run) + round8(take);
		*bytes += take;
		runs++;
		if (take < left)
			break;
	}
	return runs;
}

/* Encodes the part at `out` and moves the cursor behind it. */
static size_t encode_part(struct cursor *cursor, uint64_t epoch, uint32_t flags, size_t room,
			  unsigned char *out)
{
	struct record record = { .kind = RECORD_TRANSACTION, .epoch = epoch };
	size_t bytes, runs = measure_part(cursor, room, &bytes), left = bytes;
	struct hac_run *run;
	size_t size;

	record.transaction = (struct record_transaction){ cursor->run, runs, cursor->bytes, bytes };
	record.flags = flags |
		       (bytes < cursor->bytes_left || runs < cursor->runs ? RECORD_PARTIAL : 0);
	size = record_encode(out, &record);
	cursor->bytes += bytes;
	cursor->bytes_left -= bytes;
	/* The first run may have begun in the part before, the last one may go
	 * on in the next. */
	run = (void *)(out + record_transaction_size(0, 0));
	for (size_t i = 0; i < runs; i++) {
		size_t length = cursor->run->length - cursor->done;
		bool whole = length <= left;

		run[i].offset = cursor->run->offset + cursor->done;
		run[i].length = (uint32_t)(whole ? length : left);
		left -= run[i].length;
		cursor->done += run[i].length;
		if (!whole)
			break;
		cursor->run++;
		cursor->runs--;
		cursor->done = 0;
	}
	return size;
}

/* What all parts together take at most. */
static uint64_t parts_bound(const struct drainer *drainer,
			    const struct transaction_record *transaction, size_t sides)
{
	size_t overhead = record_transaction_size(1, 0) + 16;
	uint64_t content = transaction->runs_count * sizeof(struct hac_run) +
			   transaction->bytes_count + 8 * (uint64_t)transaction->runs_count;
	uint64_t parts = content / (part_max(drainer) - overhead - 64) + 2;

	return sides + content + parts * (overhead + DRAINER_CHARGE) +
	       side_count(transaction) * DRAINER_CHARGE;
}

static void publish_part(struct drainer *drainer, size_t size)
{
	drainer->accepted += size + DRAINER_CHARGE;
	ring_publish(&drainer->ring, size);
}

static int push_sides(struct drainer *drainer, const struct transaction_record *transaction,
		      uint32_t *flags)
{
	for (size_t i = 0; i < side_count(transaction); i++) {
		struct record record;
		size_t size = side_record(transaction, i, &record);
		int error = wait_room(drainer, size);

		if (error)
			return error;
		record.flags = *flags | RECORD_PARTIAL;
		record_encode(ring_next(&drainer->ring), &record);
		publish_part(drainer, size);
		*flags = 0;
	}
	return 0;
}

/* Without waiting: if all of it fits, or if the ring is empty, for then it is
 * never going to fit better. */
static bool may_stream(const struct drainer *drainer, uint64_t size)
{
	size_t room = ring_room(&drainer->ring);

	return size <= room || room == drainer->ring.size;
}

static int push_parts(struct drainer *drainer, const struct transaction_record *transaction,
		      size_t sides, bool wait)
{
	struct cursor cursor = {
		.run = transaction->runs,
		.runs = transaction->runs_count,
		.bytes = transaction->bytes,
		.bytes_left = transaction->bytes_count,
	};
	uint64_t bound = parts_bound(drainer, transaction, sides);
	uint32_t flags = RECORD_FIRST;
	int error = reserve(drainer, bound);

	if (error)
		return error;
	if (!wait && !may_stream(drainer, bound))
		return ring_is_full(drainer);
	error = push_sides(drainer, transaction, &flags);
	if (error)
		return error;
	do {
		size_t size = part_max(drainer);

		error = wait_room(drainer, size);
		if (error)
			return error;
		size = encode_part(&cursor, transaction->epoch, flags, size,
				   ring_next(&drainer->ring));
		publish_part(drainer, size);
		flags = 0;
	} while (cursor.runs);
	return 0;
}

int drainer_push(struct drainer *drainer, const struct transaction_record *transaction, bool wait)
{
	size_t size = record_transaction_size(transaction->runs_count, transaction->bytes_count);
	size_t sides = 0;
	int error = drainer_failed(drainer);

	if (!error)
		error = check_transaction(drainer, transaction);
	if (error)
		return error;
	for (size_t i = 0; i < side_count(transaction); i++) {
		struct record record;
		size_t one = side_record(transaction, i, &record);

		if (one > drainer->ring.size)
			return hac_fail(EINVAL,
					"area '%s': type and fingerprint of %zu bytes do not fit "
					"in the ring of %zu",
					record.layout.name, one, drainer->ring.size);
		sides += one;
	}
	if (size && size + sides <= part_max(drainer))
		error = push_whole(drainer, transaction, size + sides, wait);
	else
		error = push_parts(drainer, transaction, sides, wait);
	if (!error)
		note_pushed(drainer, transaction);
	return error;
}

/* More would only move the time from finish to begin. */
#define EXPECT_MAX ((size_t)4 << 10)

void drainer_expect(const struct drainer *drainer)
{
	size_t size = drainer->last_size;

	ring_prefetch(&drainer->ring, size < EXPECT_MAX ? size : EXPECT_MAX);
}
