/* SPDX-License-Identifier: MIT */
/*
 * Mutated frames of every kind through all that decodes them: header, cipher,
 * codec, records. HAC_FUZZ_FRAMES says how many, HAC_FUZZ_SEED which. Memory and
 * time are bounded; run it under the sanitizers.
 *
 * What is changed lies on one of these levels, so that each layer gets its share
 * of what the one above would refuse:
 *	bytes    of the frame, anywhere
 *	sealed   the same, with checksums made right again
 *	packed   compressed bytes, then properly encrypted and sealed
 *	records  then properly compressed, encrypted and sealed
 */
#include "frame_tools.h"

#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 200000ul
#define ROOM ((size_t)16384)
#define MEMORY ((rlim_t)768 << 20) /* beyond what there is at first */
#define RESIDENT_KIB (600l << 10)
#define SLOWEST_NS 2000000000ll

const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1:quarantine_size_mb=32";
}

enum level { BYTES, SEALED, PACKED, RECORDS, LEVELS };

struct specimen {
	struct frame_coding *coding;
	struct frame_writer *writer;
	struct frame_reader *reader;
	struct frame_cipher *cipher; /* or NULL */
	struct frame_header header;
	unsigned char *raw;
	unsigned char *frame;
	size_t size;
};

#define CODINGS 6
static struct frame_coding codings[CODINGS];
static struct frame_writer *writers[CODINGS];
static struct frame_cipher *ciphers[CODINGS];
static struct frame_reader readers[CODINGS];
static struct specimen specimens[256];
static size_t specimens_count;
static unsigned long long seed = 88172645463325252ull;
static volatile unsigned long sink;

static unsigned long tried[LEVELS], accepted[LEVELS];

static uint64_t below(uint64_t limit)
{
	return check_random(&seed) % limit;
}

static void add_specimen(size_t coding, uint32_t kind, size_t bytes, unsigned char noise)
{
	static _Alignas(8) unsigned char raw[ROOM], frame[2 * ROOM];
	struct specimen *s = &specimens[specimens_count++];
	size_t size = make_payload(raw, sizeof(raw), kind, bytes, noise, &seed);

	CHECK(specimens_count <= sizeof(specimens) / sizeof(specimens[0]));
	s->coding = &codings[coding];
	s->writer = writers[coding];
	s->cipher = ciphers[coding];
	s->reader = &readers[coding];
	s->header = header_of(kind, specimens_count);
	s->size = make_frame(s->writer, &s->header, raw, size, frame);
	s->raw = malloc(size);
	memcpy(s->raw, raw, size);
	s->frame = malloc(s->size);
	memcpy(s->frame, frame, s->size);
}

static void make_specimens(void)
{
	static const size_t sizes[] = { 0, 40, 300, 2000, 9000 };
	bool encrypts = can_encrypt();

	for (size_t i = 0; i < CODINGS; i++) {
		if (!frame_codec_available((uint32_t)i % 3) || (i >= 3 && !encrypts))
			continue;
		codings[i] = coding_of((uint32_t)i % 3, i >= 3 ? KEY_A : NULL);
		CHECK_OK(frame_writer_create(&codings[i], &writers[i]));
		readers[i].key = &codings[i].key;
		if (i >= 3)
			CHECK_OK(frame_cipher_create(&codings[i].key, &ciphers[i]));
		for (uint32_t kind = FRAME_LAYOUT; kind <= FRAME_JOURNAL; kind++)
			for (size_t j = 0; j < sizeof(sizes) / sizeof(sizes[0]); j++) {
				add_specimen(i, kind, sizes[j], 0);
				add_specimen(i, kind, sizes[j], 3);
			}
	}
}

/* ----------------------------------------------------------- mutating -- */

static uint64_t interesting(void)
{
	static const uint64_t values[] = {
		0, 1, 7, 8, 255, 256, 4096, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX,
		FRAME_RAW_MAX, FRAME_RAW_MAX + 8, (uint64_t)1 << 32, (uint64_t)1 << 47,
	};

	return values[below(sizeof(values) / sizeof(values[0]))] + (below(4) ? 0 : below(16) - 8);
}

static void change_number(unsigned char *at, size_t width)
{
	uint64_t value = 0;

	memcpy(&value, at, width);
	value = below(2) ? interesting() : value + below(64) - 32;
	memcpy(at, &value, width);
}

static void mutate(unsigned char *bytes, size_t size)
{
	for (uint64_t n = below(4) + 1; size && n--;) {
		size_t at = below(size), left = size - at, length = below(left < 32 ? left : 32) + 1;
		const struct specimen *other = &specimens[below(specimens_count)];

		switch (below(6)) {
		case 0:
			bytes[at] = (unsigned char)check_random(&seed);
			break;
		case 1:
			bytes[at] ^= (unsigned char)(1u << below(8));
			break;
		case 2:
			at &= ~(size_t)7;
			if (size - at >= 8)
				change_number(bytes + at, below(2) ? 8 : 4);
			break;
		case 3:
			if (left >= 2)
				change_number(bytes + at, 2);
			break;
		case 4:
			memmove(bytes + below(size - length + 1), bytes + at, length);
			break;
		default:
			length = length < other->size ? length : other->size;
			memcpy(bytes + at, other->frame + below(other->size - length + 1), length);
		}
	}
}

/* A header field to another value, most of which make no sense. */
static void mutate_header(unsigned char *frame)
{
	static const struct {
		unsigned char at, width;
	} fields[] = {
		{ 10, 2 }, { 12, 1 }, { 13, 1 },  { 14, 1 },  { 15, 1 }, { 16, 4 }, { 24, 8 },
		{ 32, 8 }, { 40, 8 }, { 48, 8 },  { 64, 8 },  { 80, 8 }, { 88, 8 }, { 88, 8 },
		{ 120, 8 }, { 136, 8 }, { 144, 4 }, { 148, 8 }, { 160, 8 },
	};
	size_t i = below(sizeof(fields) / sizeof(fields[0]));

	change_number(frame + fields[i].at, fields[i].width);
	if (below(2))
		frame[12] = (unsigned char)below(3);
}

/* The frame, changed on this level, in memory of just its size. */
static unsigned char *mutated(const struct specimen *s, enum level level, size_t *size)
{
	size_t head = frame_header_size(&s->header);
	unsigned char *frame;

	*size = s->size;
	if (!below(16) && level < PACKED)
		*size -= below(s->size) & ~(size_t)(below(2) ? 7 : 0);
	frame = malloc(*size ? *size : 1);
	memcpy(frame, s->frame, *size);
	if (below(2) && *size >= FRAME_HEADER_CIPHER_SIZE)
		mutate_header(frame);
	else if (*size > head && below(4))
		mutate(frame + head, *size - head);
	else
		mutate(frame, *size);
	if (level == SEALED && *size >= FRAME_HEADER_SIZE)
		seal_again(frame, *size);
	return frame;
}

/* What is compressed, changed, in a frame that is otherwise right, but perhaps
 * for the size that it pretends to have. */
static unsigned char *repacked(const struct specimen *s, size_t *size)
{
	struct frame_header header = s->header;
	size_t head = frame_header_size(&header);
	const unsigned char *stored = s->frame + head;
	unsigned char *frame = malloc(s->size);

	*size = s->size;
	if (s->cipher)
		CHECK_OK(frame_cipher_open(s->cipher, &header, stored, frame + head));
	else
		memcpy(frame + head, stored, header.stored);
	mutate(frame + head, header.stored - header.padding);
	if (!below(4) && header.codec)
		header.raw = (below(2) ? below(1 << 20) : interesting()) & ~(uint64_t)7;
	if (s->cipher)
		CHECK_OK(frame_cipher_seal(s->cipher, &header, frame + head));
	header.payload_hash = frame_hash(frame + head, header.stored);
	frame_encode_header(frame, &header);
	return frame;
}

static unsigned char *rerecorded(const struct specimen *s, size_t *size)
{
	struct frame_header header = s->header;
	unsigned char *raw = malloc(s->header.raw), *frame = malloc(s->header.raw + 256);

	memcpy(raw, s->raw, header.raw);
	mutate(raw, header.raw);
	*size = make_frame(s->writer, &header, raw, header.raw, frame);
	free(raw);
	return realloc(frame, *size);
}

/* ----------------------------------------------------------- decoding -- */

static void look_at_record(const struct record *r)
{
	const struct record_transaction *t = &r->transaction;

	if (r->kind == RECORD_LAYOUT) {
		sink += strlen(r->layout.name) + strlen(r->layout.type);
		sink += r->layout.fingerprint ? strlen(r->layout.fingerprint) : 0;
	} else if (r->kind == RECORD_TRANSACTION) {
		for (size_t i = 0; i < t->runs_count; i++)
			sink += t->runs[i].offset + t->runs[i].length;
		sink += t->bytes_count ? t->bytes[0] + t->bytes[t->bytes_count - 1] : 0;
	}
}

static int decode(const struct specimen *s, enum level level, const unsigned char *frame, size_t size)
{
	int64_t promised = frame_peek_size(frame, size);
	const unsigned char *payload;
	struct frame_header header;
	size_t position = 0;
	struct record record;
	int result = decode_all(s->reader, frame, size, &header, &payload);

	CHECK(result == 0 || result == -EBADMSG || result == -EPROTONOSUPPORT ||
	      result == -ENOKEY || result == -EKEYREJECTED || result == -ENOTUNIQ ||
	      result == -EOPNOTSUPP || result == -ENOMEM);
	if (result)
		return result;
	CHECK(promised == (int64_t)frame_size(&header) && (uint64_t)promised <= size);
	/* Without the key nothing can be changed but what is in no frame. */
	if (s->cipher && level <= SEALED && header.kind != FRAME_LAYOUT)
		CHECK(header.raw == s->header.raw && !memcmp(payload, s->raw, header.raw) &&
		      !memcmp(frame, s->frame, s->size));
	while ((result = record_decode(payload, header.raw, &position, &record)) == 1)
		look_at_record(&record);
	return result;
}

static long long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

/* The address space may grow by so much; the sanitizers' shadow is there. */
static void bound_memory(void)
{
	struct rlimit limit = { 0 };
	FILE *file = fopen("/proc/self/statm", "r");
	unsigned long pages;

	CHECK(file && fscanf(file, "%lu", &pages) == 1);
	fclose(file);
	limit.rlim_cur = limit.rlim_max = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + MEMORY;
	CHECK(!setrlimit(RLIMIT_AS, &limit));
}

static long long fuzz(unsigned long rounds)
{
	long long slowest = 0;

	for (unsigned long i = 0; i < rounds; i++) {
		const struct specimen *s = &specimens[below(specimens_count)];
		enum level level = (enum level)below(LEVELS);
		unsigned char *frame;
		long long start, took;
		size_t size;

		frame = level == RECORDS ? rerecorded(s, &size) :
			level == PACKED	 ? repacked(s, &size) :
					   mutated(s, level, &size);
		start = now_ns();
		tried[level]++;
		accepted[level] += !decode(s, level, frame, size);
		took = now_ns() - start;
		slowest = took > slowest ? took : slowest;
		free(frame);
	}
	return slowest;
}

int main(void)
{
	const char *rounds_text = getenv("HAC_FUZZ_FRAMES"), *seed_text = getenv("HAC_FUZZ_SEED");
	unsigned long rounds = rounds_text ? strtoul(rounds_text, NULL, 10) : ROUNDS;
	long long start = now_ns(), slowest, took;
	struct rusage usage;

	if (seed_text)
		seed ^= strtoull(seed_text, NULL, 10) * 2654435761u;
	make_specimens();
	for (size_t i = 0; i < specimens_count; i++)
		CHECK_OK(decode(&specimens[i], BYTES, specimens[i].frame, specimens[i].size));
	bound_memory();
	slowest = fuzz(rounds);
	took = now_ns() - start;
	getrusage(RUSAGE_SELF, &usage);
	printf("%lu frames in %.1f s, %.0f/s; slowest %.3f ms; %ld MiB resident\n", rounds,
	       (double)took / 1e9, (double)rounds * 1e9 / (double)took, (double)slowest / 1e6,
	       usage.ru_maxrss >> 10);
	printf("decoded to the last record: %lu of %lu, sealed %lu of %lu, packed %lu of %lu, "
	       "records %lu of %lu\n",
	       accepted[BYTES], tried[BYTES], accepted[SEALED], tried[SEALED], accepted[PACKED],
	       tried[PACKED], accepted[RECORDS], tried[RECORDS]);
	CHECK(slowest < SLOWEST_NS);
	CHECK(usage.ru_maxrss < RESIDENT_KIB);
	/* It got into every layer. */
	CHECK(rounds < 10000 || (accepted[SEALED] && accepted[PACKED] && accepted[RECORDS]));
	for (size_t i = 0; i < specimens_count; i++) {
		free(specimens[i].raw);
		free(specimens[i].frame);
	}
	for (size_t i = 0; i < CODINGS; i++) {
		frame_writer_free(writers[i]);
		frame_cipher_free(ciphers[i]);
		frame_reader_free(&readers[i]);
	}
	return 0;
}
