// SPDX-License-Identifier: MIT
/* Every kernel that compares memory with its twin, against a naive oracle. */
#include "check.h"
#include "diff.h"

#define AREA 7u
#define ROOM DIFF_STRETCH

static unsigned long long seed = 31337;

static unsigned char memory[ROOM + 128], twin[ROOM + 128];

struct result {
	struct hac_run list[ROOM / 8 + 2]; /* [0] is the place before the first */
	unsigned char bytes[ROOM + 8];
	struct diff_output out;
};

static void clear(struct result *r)
{
	memset(r, 0, sizeof(*r));
	r->list[0] = (struct hac_run){ UINT64_MAX, 0, UINT32_MAX };
	r->out.run = r->list;
	r->out.bytes = r->bytes;
	r->out.area = AREA;
}

/* Word by word, as simply as can be. */
static void naive(const unsigned char *m, const unsigned char *t, size_t offset, size_t length,
		  struct result *r)
{
	size_t i, n;

	for (i = 0; i < length; i += 8) {
		n = length - i < 8 ? length - i : 8;
		if (!memcmp(m + i, t + i, n))
			continue;
		if (r->out.run->area == AREA &&
		    r->out.run->offset + r->out.run->length == offset + i)
			r->out.run->length += (uint32_t)n;
		else
			*++r->out.run = (struct hac_run){ offset + i, (uint32_t)n, AREA };
		memcpy(r->out.bytes, m + i, n);
		r->out.bytes += n;
		r->out.words++;
	}
}

static void check_equal(const char *name, const struct result *a, const struct result *b)
{
	size_t runs = (size_t)(b->out.run - b->list), bytes = (size_t)(b->out.bytes - b->bytes), i;

	CHECK_MSG(a->out.run - a->list == (ptrdiff_t)runs, "%s: %td runs, not %zu", name,
		  a->out.run - a->list, runs);
	for (i = 1; i <= runs; i++)
		CHECK_MSG(a->list[i].offset == b->list[i].offset &&
				  a->list[i].length == b->list[i].length && a->list[i].area == AREA,
			  "%s: run %zu", name, i);
	CHECK_MSG(a->out.bytes - a->bytes == (ptrdiff_t)bytes, "%s: bytes", name);
	CHECK_MSG(!memcmp(a->bytes, b->bytes, bytes), "%s: bytes", name);
	CHECK_MSG(a->out.words == b->out.words, "%s: words", name);
}

/* Equal, different, or anything between; changes of a byte or of stretches, in
 * the first `bytes` (at least one). */
static void fill(size_t bytes)
{
	size_t i, changes = 0, at, length;
	uint64_t kind = check_random(&seed) % 5;

	for (i = 0; i < bytes; i++)
		twin[i] = memory[i] = (unsigned char)check_random(&seed);
	if (kind == 1)
		changes = 1 + check_random(&seed) % 3;
	if (kind == 2)
		changes = 200;
	if (kind == 3)
		for (i = 0; i < bytes; i++)
			memory[i] ^= 1;
	if (kind == 4)
		for (i = check_random(&seed) % 8; i < bytes; i += 16)
			memory[i] ^= 0x80;
	while (changes--) {
		at = check_random(&seed) % bytes;
		length = check_random(&seed) % 3 ? 1 : check_random(&seed) % 200;
		for (i = at; i < at + length && i < bytes; i++)
			memory[i] ^= (unsigned char)(1 + check_random(&seed) % 255);
	}
}

/* Up to DIFF_STRETCH, with masks as wide, and what is behind them left alone. */
static void find(const struct diff_kernels *kernels, const unsigned char *m, const unsigned char *t,
		 size_t offset, size_t length, struct result *r)
{
	uint64_t masks[DIFF_MASKS(DIFF_STRETCH) + 1];
	size_t count = DIFF_MASKS(length), at, n;
	uint32_t chunks;

	memset(masks, 0xee, sizeof(masks));
	chunks = kernels->differ(m, t, length, masks);
	CHECK_IS(masks[count], 0xeeeeeeeeeeeeeeeeull);
	CHECK(length % DIFF_MASK_BYTES == 0 || !(masks[count - 1] >> length % DIFF_MASK_BYTES / 8));
	for (at = 0; at < length; at += DIFF_CHUNK) {
		const uint64_t *first = masks + at / DIFF_MASK_BYTES;

		n = length - at < DIFF_CHUNK ? length - at : DIFF_CHUNK;
		CHECK_IS(chunks & 1, memcmp(m + at, t + at, n) != 0);
		chunks >>= 1;
		diff_emit(m + at, offset + at, first, DIFF_MASKS(n), &r->out);
	}
	CHECK_IS(chunks, 0);
	CHECK_IS(kernels->same(m, t, length), !memcmp(m, t, length));
}

/* One call, at any alignment of memory and twin. */
static void one_call(const struct diff_kernels *kernels, const char *name)
{
	static struct result found, wanted;
	int i;

	for (i = 0; i < 3000; i++) {
		size_t most = i % 50 ? DIFF_CHUNK : i % 100 ? DIFF_STRETCH : 4 * DIFF_CHUNK;
		size_t length = check_random(&seed) % (most / 64 + 1) * 64;
		size_t offset = check_random(&seed) % (1ull << 40) / 8 * 8;
		size_t m = check_random(&seed) % 64, t = m;

		fill(length + 64);
		if (i % 2) { /* the twin lies elsewhere */
			t = check_random(&seed) % 64;
			memmove(twin + t, twin + m, length);
		}
		clear(&found);
		clear(&wanted);
		find(kernels, memory + m, twin + t, offset, length, &found);
		naive(memory + m, twin + t, offset, length, &wanted);
		check_equal(name, &found, &wanted);
	}
}

/* Runs go on from one call to the next, and on to the odd rest. */
static void many_calls(const struct diff_kernels *kernels, const char *name)
{
	static struct result found, wanted;
	int i;

	for (i = 0; i < 1000; i++) {
		size_t length = check_random(&seed) % (2 * DIFF_CHUNK), at = 0, n;

		fill(length + 1);
		clear(&found);
		clear(&wanted);
		while (length - at >= 64) {
			n = (1 + check_random(&seed) % 8) * 64;
			if (n > length - at)
				n = (length - at) / 64 * 64;
			find(kernels, memory + at, twin + at, 4096 + at, n, &found);
			at += n;
		}
		diff_words(memory + at, twin + at, 4096 + at, length - at, &found.out);
		naive(memory, twin, 4096, length, &wanted);
		check_equal(name, &found, &wanted);
	}
}

/* A run ends where another area begins, and where a word is equal. */
static void no_false_merging(const struct diff_kernels *kernels, const char *name)
{
	static struct result r;

	clear(&r);
	memset(memory, 1, 64);
	memset(twin, 2, 64);
	find(kernels, memory, twin, 0, 64, &r);
	r.out.area = AREA + 1;
	find(kernels, memory, twin, 64, 64, &r);
	find(kernels, memory, twin, 192, 64, &r);
	CHECK_MSG(r.out.run - r.list == 3, "%s: %td runs", name, r.out.run - r.list);
	CHECK(r.list[1].area == AREA && r.list[1].length == 64);
	CHECK(r.list[2].area == AREA + 1 && r.list[2].offset == 64 && r.list[2].length == 64);
	CHECK(r.list[3].offset == 192 && r.out.words == 24);
}

/* A difference or two anywhere, near the ends too, or none. */
static void equal_prefixes(const struct diff_kernels *kernels, const char *name)
{
	int i;

	for (i = 0; i < 5000; i++) {
		size_t length = check_random(&seed) % (2 * DIFF_CHUNK / 64 + 1) * 64;
		size_t m = check_random(&seed) % 64, wanted = length;

		memset(memory, 5, length + 64);
		memset(twin, 5, length + 64);
		if (i % 4 && length) {
			wanted = check_random(&seed) % length;
			memory[m + wanted] = 6;
			if (i % 3 == 0)
				memory[m + check_random(&seed) % (length - wanted) + wanted] ^= 8;
			wanted &= ~(size_t)63;
		}
		CHECK_MSG(kernels->equal(memory + m, twin + m, length) == wanted, "%s: equal",
			  name);
		CHECK_MSG(kernels->same(memory + m, twin + m, length) == (wanted == length),
			  "%s: same", name);
	}
}

/* Every number of words in a mask, and masks in every place of a chunk, with a
 * stretch of words anywhere: what is emitted is what is named, whatever the twin
 * holds. */
static void emits_what_is_named(void)
{
	static struct result found, wanted;
	int i;

	for (i = 0; i < 5000; i++) {
		uint64_t masks[DIFF_MASKS(DIFF_CHUNK)];
		size_t count = check_random(&seed) % (DIFF_MASKS(DIFF_CHUNK) + 1), k;
		int words = (int)(check_random(&seed) % 65);
		size_t from = check_random(&seed) % (count * 128 + 1);
		size_t to = from + check_random(&seed) % (count * 64 + 1);

		for (k = 0; k < count * 64; k++) {
			if (k % 64 == 0)
				masks[k / 64] = 0;
			if (check_random(&seed) % 64 < (uint64_t)words || (k >= from && k < to))
				masks[k / 64] |= 1ull << k % 64;
		}
		for (k = 0; k < sizeof(masks) * 64; k++)
			twin[k] = (unsigned char)~(memory[k] = (unsigned char)check_random(&seed));
		for (k = 0; k < count * 64; k++)
			if (!(masks[k / 64] >> k % 64 & 1))
				memcpy(twin + k * 8, memory + k * 8, 8);
		clear(&found);
		clear(&wanted);
		diff_emit(memory, 8192, masks, count, &found.out);
		naive(memory, twin, 8192, count * DIFF_MASK_BYTES, &wanted);
		check_equal("emit", &found, &wanted);
	}
}

static void restores(void)
{
	static unsigned char around[sizeof(memory)];
	int i;

	for (i = 0; i < 3000; i++) {
		size_t length = check_random(&seed) % (2 * DIFF_CHUNK);
		size_t at = check_random(&seed) % 64;

		fill(at + length + 64);
		memcpy(around, memory, sizeof(memory));
		diff_restore(memory + at, twin + at, length);
		CHECK(!memcmp(memory + at, twin + at, length));
		CHECK(!memcmp(memory, around, at));
		CHECK(!memcmp(memory + at + length, around + at + length,
			      sizeof(memory) - at - length));
	}
}

int main(void)
{
	const struct diff_kernels *kernels;
	const char *name;
	bool usable;
	size_t i;

	for (i = 0; (kernels = diff_kernels_at(i, &name, &usable)); i++) {
		printf("%s%s\n", name, usable ? "" : ": skipped: not on this processor");
		if (!usable)
			continue;
		one_call(kernels, name);
		many_calls(kernels, name);
		no_false_merging(kernels, name);
		equal_prefixes(kernels, name);
	}
	CHECK(i > 0);
	RUN(emits_what_is_named);
	RUN(restores);
	return 0;
}
