/* SPDX-License-Identifier: MIT */
/* Frames and records: there and back, and nothing else is accepted. */
#include "check.h"
#include "frame.h"

#include <errno.h>

static _Alignas(8) unsigned char payload[4096];
static const unsigned char bytes[24] = "abcdefghijklmnopqrstuvw";

static size_t encode_all(void)
{
	static const struct hac_run runs[2] = { { 64, 8, 3 }, { 128, 13, 4 } };
	struct record records[] = {
		{ .kind = RECORD_IMAGE, .image = { 1, RECORD_BYTE_ORDER, 4096, 8 } },
		{ .kind = RECORD_BASE, .epoch = 9, .base = { 3, 2, 7, 11, 5, 77, 6, 2 } },
		{ .kind = RECORD_GENERATION, .epoch = 8, .generation = { 4, 3, 8 } },
		{ .kind = RECORD_LAYOUT,
		  .epoch = 12,
		  .flags = RECORD_FIRST,
		  .layout = { 3, 1, 100, 200, 0x10000, (char *)"book", (char *)"<f8[3]",
			      (char *)"abc" } },
		{ .kind = RECORD_LAYOUT,
		  .epoch = 12,
		  .layout = { 4, 0, 100, 4096, 0, (char *)"n", (char *)"", NULL } },
		{ .kind = RECORD_DROP, .epoch = 12, .drop = 2 },
		{ .kind = RECORD_TRANSACTION, .epoch = 12, .transaction = { runs, 2, bytes, 21 } },
		{ .kind = RECORD_TRANSACTION, .epoch = 13, .flags = RECORD_FIRST },
	};
	size_t size = 0;

	for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++) {
		size_t one = record_size(&records[i]);

		CHECK(one % 8 == 0);
		CHECK(record_encode(payload + size, &records[i]) == one);
		size += one;
	}
	return size;
}

static void check_layout(const struct layout *l)
{
	CHECK(l->id == 3 && l->flags == 1 && l->size == 100 && l->capacity == 200);
	CHECK(l->address == 0x10000 && !strcmp(l->name, "book"));
	CHECK(!strcmp(l->type, "<f8[3]") && !strcmp(l->fingerprint, "abc"));
}

static void records_there_and_back(void)
{
	size_t size = encode_all(), position = 0;
	struct record r;

	CHECK_IS(record_decode(payload, size, &position, &r), 1);
	CHECK(r.kind == RECORD_IMAGE && r.image.page_size == 4096 && r.image.word_size == 8);
	CHECK_IS(record_decode(payload, size, &position, &r), 1);
	CHECK(r.kind == RECORD_BASE && r.epoch == 9 && r.base.generation == 3);
	CHECK(r.base.parent == 2 && r.base.branch_epoch == 7 && r.base.last_epoch == 11);
	CHECK(r.base.first_segment == 5 && r.base.first_sequence == 77);
	CHECK(r.base.next_area_id == 6 && r.base.areas == 2);
	CHECK_IS(record_decode(payload, size, &position, &r), 1);
	CHECK(r.kind == RECORD_GENERATION && r.generation.generation == 4);
	CHECK(r.generation.parent == 3 && r.generation.branch_epoch == 8);
	CHECK_IS(record_decode(payload, size, &position, &r), 1);
	CHECK(r.kind == RECORD_LAYOUT && r.flags == RECORD_FIRST);
	check_layout(&r.layout);
	CHECK_IS(record_decode(payload, size, &position, &r), 1);
	CHECK(r.kind == RECORD_LAYOUT && !r.layout.fingerprint && !*r.layout.type);
	CHECK_IS(record_decode(payload, size, &position, &r), 1);
	CHECK(r.kind == RECORD_DROP && r.drop == 2);
	CHECK_IS(record_decode(payload, size, &position, &r), 1);
	CHECK(r.kind == RECORD_TRANSACTION && r.epoch == 12);
	CHECK(r.transaction.runs_count == 2 && r.transaction.bytes_count == 21);
	CHECK(r.transaction.runs[1].offset == 128 && r.transaction.runs[1].area == 4);
	CHECK(!memcmp(r.transaction.bytes, bytes, 21));
	CHECK_IS(record_decode(payload, size, &position, &r), 1);
	CHECK(r.epoch == 13 && !r.transaction.runs_count && !r.transaction.bytes_count);
	CHECK_IS(record_decode(payload, size, &position, &r), 0);
}

/* Every record but the last has its end moved about; every bit of heads and
 * bodies is flipped: an answer, and if it is 1, an encoding of the same. */
static void records_are_exact(void)
{
	static _Alignas(8) unsigned char again[4096];
	size_t size = encode_all();

	for (size_t bit = 0; bit < size * 8; bit++) {
		size_t position = 0, before = 0;
		struct record r;

		payload[bit / 8] ^= (unsigned char)(1 << bit % 8);
		while (record_decode(payload, size, &position, &r) == 1) {
			CHECK(record_size(&r) == position - before);
			CHECK(record_encode(again, &r) == position - before);
			CHECK_MSG(!memcmp(again, payload + before, position - before), "bit %zu",
				  bit);
			before = position;
		}
		payload[bit / 8] ^= (unsigned char)(1 << bit % 8);
	}
	for (size_t cut = 0; cut < size; cut++) {
		size_t position = 0;
		struct record r;
		int result;

		while ((result = record_decode(payload, cut, &position, &r)) == 1)
			CHECK(position <= cut);
		CHECK(result == 0 || result == -EBADMSG);
		CHECK(result == -EBADMSG || position == cut);
	}
}

static size_t make_frame(unsigned char *out)
{
	struct frame_header h = {
		.kind = FRAME_JOURNAL,
		.sequence = 5,
		.generation = 6,
		.first_epoch = 7,
		.last_epoch = 8,
		.time_ns = 9,
		.uuid = "0123456789abcde",
	};

	h.stored = h.raw = encode_all();
	h.payload_hash = frame_hash(payload, h.stored);
	frame_encode_header(out, &h);
	memcpy(out + FRAME_HEADER_SIZE, payload, h.stored);
	return FRAME_HEADER_SIZE + h.stored;
}

static void rehash(unsigned char *frame)
{
	uint64_t hash = frame_hash(frame, FRAME_HEADER_SIZE - 8);

	memcpy(frame + FRAME_HEADER_SIZE - 8, &hash, 8);
}

static void header_there_and_back(void)
{
	static _Alignas(8) unsigned char frame[8192];
	size_t size = make_frame(frame);
	const unsigned char *found;
	struct frame_header h;

	CHECK_OK(frame_decode(frame, size, &h, &found));
	CHECK(h.kind == FRAME_JOURNAL && h.sequence == 5 && h.generation == 6);
	CHECK(h.first_epoch == 7 && h.last_epoch == 8 && h.time_ns == 9 && !h.flags);
	CHECK(!memcmp(h.uuid, "0123456789abcde", 16) && found == frame + FRAME_HEADER_SIZE);
	for (size_t cut = 0; cut < size; cut++)
		CHECK_IS(frame_decode(frame, cut, &h, &found), -EBADMSG);
	for (size_t bit = 0; bit < size * 8; bit++) {
		frame[bit / 8] ^= (unsigned char)(1 << bit % 8);
		CHECK_IS(frame_decode(frame, size, &h, &found), -EBADMSG);
		frame[bit / 8] ^= (unsigned char)(1 << bit % 8);
	}
}

/* Intact, but with a value that this version does not know: not damage. */
static void unknown_is_refused(void)
{
	static const struct {
		size_t at;
		unsigned char value;
		int result;
	} fields[] = {
		{ 8, 2, -EPROTONOSUPPORT },    /* version */
		{ 9, 1, -EPROTONOSUPPORT },    /* version */
		{ 10, 136, -EBADMSG },         /* header size: another hash */
		{ 12, 3, -EPROTONOSUPPORT },   /* codec */
		{ 12, 1, -EBADMSG },           /* codec, but it is not smaller */
		{ 13, 2, -EPROTONOSUPPORT },   /* cipher */
		{ 13, 1, -EPROTONOSUPPORT },   /* cipher, in a header without room for it */
		{ 14, 0, -EPROTONOSUPPORT },   /* kind */
		{ 14, 4, -EPROTONOSUPPORT },   /* kind */
		{ 15, 1, -EBADMSG },           /* padding without a codec */
		{ 16, 1, -EPROTONOSUPPORT },   /* flags: not in a journal */
		{ 19, 128, -EPROTONOSUPPORT }, /* flags */
		{ 20, 1, -EPROTONOSUPPORT },   /* reserved */
		{ 40, 9, -EBADMSG },           /* first epoch behind the last */
		{ 80, 8, -EBADMSG },           /* stored, not raw */
		{ 87, 128, -EBADMSG },         /* stored */
		{ 88, 8, -EBADMSG },           /* raw, not stored */
		{ 104, 1, -EPROTONOSUPPORT },  /* reserved */
		{ 119, 1, -EPROTONOSUPPORT },  /* reserved */
	};
	static _Alignas(8) unsigned char frame[8192];
	const unsigned char *found;
	struct frame_header h;

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		size_t size = make_frame(frame);

		frame[fields[i].at] = fields[i].value;
		rehash(frame);
		CHECK_MSG(frame_decode(frame, size, &h, &found) == fields[i].result,
			  "byte %zu of the header", fields[i].at);
	}
}

/* Mutated frames whose checksums were made right again: the decoder alone has
 * to keep within the bounds. Run it under the address sanitizer. */
static void mutated_frames(void)
{
	unsigned long long seed = 88172645463325252ull;
	unsigned long decoded = 0;

	for (int i = 0; i < 100000; i++) {
		unsigned char *frame = aligned_alloc(8, 8192), *tight;
		size_t size = make_frame(frame), position = 0;
		const unsigned char *found;
		struct frame_header h;
		struct record r;

		for (unsigned long long n = check_random(&seed) % 4 + 1; n--;) {
			size_t at = FRAME_HEADER_SIZE +
				    check_random(&seed) % (size - FRAME_HEADER_SIZE);

			frame[at] =
				check_random(&seed) % 2 ?
					(unsigned char)check_random(&seed) :
					(unsigned char)(frame[at] ^ 1u << check_random(&seed) % 8);
		}
		if (check_random(&seed) % 8 == 0)
			frame[check_random(&seed) % FRAME_HEADER_SIZE] ^= 16;
		if (check_random(&seed) % 8 == 0)
			size -= check_random(&seed) % size & ~7ull;
		/* No byte to spare, for the sanitizer to notice. */
		tight = aligned_alloc(8, size ? size : 8);
		memcpy(tight, frame, size);
		if (size > FRAME_HEADER_SIZE) {
			uint64_t hash =
				frame_hash(tight + FRAME_HEADER_SIZE, size - FRAME_HEADER_SIZE);
			uint64_t stored = size - FRAME_HEADER_SIZE;

			memcpy(tight + 80, &stored, 8);
			memcpy(tight + 88, &stored, 8);
			memcpy(tight + 96, &hash, 8);
			rehash(tight);
		}
		if (!frame_decode(tight, size, &h, &found))
			while (record_decode(found, h.stored, &position, &r) == 1)
				decoded++;
		free(tight);
		free(frame);
	}
	CHECK(decoded > 100000);
}

int main(void)
{
	RUN(records_there_and_back);
	RUN(records_are_exact);
	RUN(header_there_and_back);
	RUN(unknown_is_refused);
	RUN(mutated_frames);
	return 0;
}
