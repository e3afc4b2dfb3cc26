// SPDX-License-Identifier: MIT
#include "diff.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/*
 * The application may be writing: a word read here is old or new, and either
 * will do, since what was read goes to both the delta and the twin: a word that
 * was found to differ may even equal the twin again when it is read for the
 * report. The thread sanitizer would report just that, so it does not look here.
 */
#define RACY __attribute__((no_sanitize("thread")))

#define WORD 8u
#define STRETCH_WORDS 16u

RACY static inline uint64_t load_word(const unsigned char *p)
{
	typedef uint64_t __attribute__((may_alias, aligned(1))) word;

	return *(const volatile word *)p;
}

RACY static inline void store_word(unsigned char *p, uint64_t value)
{
	typedef uint64_t __attribute__((may_alias, aligned(1))) word;

	*(volatile word *)p = value;
}

/* Continue the last run, or begin one. */
static inline void add_to_run(struct diff_output *out, size_t offset, uint32_t length)
{
	struct hac_run *run = out->run;

	if (run->area == out->area && run->offset + run->length == offset &&
	    run->length <= (1u << 30) - length) {
		run->length += length;
	} else {
		run = ++out->run;
		run->offset = offset;
		run->length = length;
		run->area = out->area;
	}
}

RACY static inline void emit(struct diff_output *out, size_t offset, uint64_t value,
			     unsigned int length)
{
	add_to_run(out, offset, length);
	__builtin_memcpy(out->bytes, &value, WORD); /* there is room */
	out->bytes += length;
	out->words++;
}

RACY void diff_words(const unsigned char *memory, const unsigned char *twin, size_t offset,
		     size_t length, struct diff_output *out)
{
	size_t i, k;
	uint64_t value;

	for (i = 0; i + WORD <= length; i += WORD) {
		value = load_word(memory + i);
		if (value != load_word(twin + i))
			emit(out, offset + i, value, WORD);
	}
	if (i < length) {
		unsigned char last[WORD] = { 0 };
		bool differs = false;

		for (k = 0; k < length - i; k++) {
			last[k] = *(const volatile unsigned char *)(memory + i + k);
			differs |= last[k] != twin[i + k];
		}
		__builtin_memcpy(&value, last, WORD);
		if (differs)
			emit(out, offset + i, value, (unsigned int)(length - i));
	}
}

RACY void diff_restore(unsigned char *memory, const unsigned char *twin, size_t length)
{
	size_t i = 0, same;
	uint64_t value;

	while (i < length) {
		same = diff_kernels_for(length)->equal(memory + i, twin + i,
						       (length - i) & ~(size_t)63);
		i += same;
		size_t end = length - i > 64 ? i + 64 : length;

		for (; i + WORD <= end; i += WORD) {
			value = load_word(twin + i);
			if (load_word(memory + i) != value)
				store_word(memory + i, value);
		}
		for (; i < end; i++)
			if (memory[i] != twin[i])
				memory[i] = twin[i];
	}
}

RACY static uint32_t differ_words(const unsigned char *memory, const unsigned char *twin,
				  size_t length, uint64_t *masks)
{
	uint32_t chunks = 0;
	size_t i;

	for (i = 0; i < length; i += WORD) {
		bool differs = load_word(memory + i) != load_word(twin + i);

		if (i % DIFF_MASK_BYTES == 0)
			masks[i / DIFF_MASK_BYTES] = 0;
		masks[i / DIFF_MASK_BYTES] |= (uint64_t)differs << i / WORD % 64;
		chunks |= (uint32_t)differs << i / DIFF_CHUNK;
	}
	return chunks;
}

RACY static size_t equal_prefix_words(const unsigned char *memory, const unsigned char *twin,
				      size_t length)
{
	size_t i;

	for (i = 0; i < length; i += WORD)
		if (load_word(memory + i) != load_word(twin + i))
			return i & ~(size_t)63;
	return length;
}

RACY static bool same_words(const unsigned char *memory, const unsigned char *twin, size_t length)
{
	size_t i;

	for (i = length; i > 0; i -= WORD)
		if (load_word(memory + i - WORD) != load_word(twin + i - WORD))
			return false;
	return true;
}

/*
 * The words that the masks name, by number. Where they are is random to the
 * processor, and a wrong guess costs it more than a word does: so masks that are
 * zero are left out without a branch, and up to four words are taken from each.
 */
static inline size_t named_words(const uint64_t *masks, size_t count, uint16_t *words)
{
	unsigned char list[DIFF_MASKS(DIFF_CHUNK)];
	size_t i, k, n = 0, found = 0;

	for (i = 0; i < count; i++) {
		list[n] = (unsigned char)i;
		n += masks[i] != 0;
	}
	for (i = 0; i < n; i++) {
		uint64_t mask = masks[list[i]];

#pragma GCC unroll 4
		for (k = 0; k < 4; k++) {
			/* Without a word left: a place that is written again. */
			words[found] =
				(uint16_t)(list[i] * 64 + __builtin_ctzll(mask | 1ull << 63));
			found += mask != 0;
			mask &= mask - 1;
		}
		for (; mask; mask &= mask - 1)
			words[found++] = (uint16_t)(list[i] * 64 + __builtin_ctzll(mask));
	}
	return found;
}

/* Do as many words in a row differ somewhere that they are better taken at once? */
static bool has_stretch(const uint64_t *masks, size_t count)
{
	uint64_t any = 0, mask;
	size_t i, k;

	for (i = 0; i < count; i++) {
		mask = masks[i];
		for (k = 1; k < STRETCH_WORDS; k *= 2)
			mask &= mask >> k;
		any |= mask;
	}
	return any;
}

RACY static inline void emit_stretch(struct diff_output *out, size_t offset,
				     const unsigned char *memory, size_t words)
{
	uint32_t length = (uint32_t)(words * WORD);
	size_t i;

	add_to_run(out, offset, length);
	for (i = 0; i < length; i += WORD) {
		uint64_t value = load_word(memory + i);

		__builtin_memcpy(out->bytes + i, &value, WORD);
	}
	out->bytes += length;
	out->words += words;
}

/* Mask by mask, each as the stretches of ones that it consists of. */
static void emit_stretches(const unsigned char *memory, size_t offset, const uint64_t *masks,
			   size_t count, struct diff_output *out)
{
	size_t i;

	for (i = 0; i < count; i++) {
		uint64_t mask = masks[i], zeros;
		unsigned int first, end;

		for (; mask; mask = end < 64 ? mask & ~0ull << end : 0) {
			size_t at;

			first = (unsigned int)__builtin_ctzll(mask);
			zeros = ~mask & ~0ull << first;
			end = zeros ? (unsigned int)__builtin_ctzll(zeros) : 64;
			at = i * DIFF_MASK_BYTES + first * WORD;
			emit_stretch(out, offset + at, memory + at, end - first);
		}
	}
}

RACY void diff_emit(const unsigned char *memory, size_t offset, const uint64_t *masks, size_t count,
		    struct diff_output *out)
{
	uint16_t words[DIFF_CHUNK / WORD + 4];
	struct diff_output local = *out; /* in registers: the bytes may not alias it */
	size_t i, n;

	if (has_stretch(masks, count)) {
		emit_stretches(memory, offset, masks, count, &local);
		*out = local;
		return;
	}
	n = named_words(masks, count, words);
	for (i = 0; i < n; i++) {
		size_t at = words[i] * (size_t)WORD;

		emit(&local, offset + at, load_word(memory + at), WORD);
	}
	*out = local;
}

#if defined(__x86_64__)

#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw")))

/* The mask of up to DIFF_MASK_BYTES is made without a branch: which blocks
 * differ is what no processor can guess. */
RACY AVX2 static inline unsigned int differing_avx2(__m256i a, __m256i b, __m256i c, __m256i d)
{
	unsigned int low =
		(unsigned int)_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(a, b)));
	unsigned int high =
		(unsigned int)_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(c, d)));

	return ~(low | high << 4) & 0xff;
}

RACY AVX2 static inline uint64_t mask_avx2(const unsigned char *memory, const unsigned char *twin,
					   size_t length)
{
	uint64_t mask = 0;
	size_t i;

#pragma GCC unroll 8
	for (i = 0; i < length; i += 64) {
		__m256i a = _mm256_loadu_si256((const void *)(memory + i));
		__m256i c = _mm256_loadu_si256((const void *)(memory + i + 32));
		__m256i b = _mm256_loadu_si256((const void *)(twin + i));
		__m256i d = _mm256_loadu_si256((const void *)(twin + i + 32));

		mask |= (uint64_t)differing_avx2(a, b, c, d) << i / WORD;
	}
	return mask;
}

RACY AVX2 static uint32_t differ_avx2(const unsigned char *memory, const unsigned char *twin,
				      size_t length, uint64_t *masks)
{
	uint32_t chunks = 0;
	size_t i, n;

	for (i = 0; i < length; i += n) {
		uint64_t mask;

		n = length - i < DIFF_MASK_BYTES ? length - i : DIFF_MASK_BYTES;
		if (n == DIFF_MASK_BYTES)
			mask = mask_avx2(memory + i, twin + i, DIFF_MASK_BYTES);
		else
			mask = mask_avx2(memory + i, twin + i, n);
		masks[i / DIFF_MASK_BYTES] = mask;
		chunks |= (uint32_t)(mask != 0) << i / DIFF_CHUNK;
	}
	return chunks;
}

RACY AVX2 static size_t equal_prefix_avx2(const unsigned char *memory, const unsigned char *twin,
					  size_t length)
{
	size_t i = 0, k;

	for (; i + 256 <= length; i += 256) {
		__m256i any = _mm256_setzero_si256();

		for (k = 0; k < 256; k += 32) {
			__m256i x =
				_mm256_xor_si256(_mm256_loadu_si256((const void *)(memory + i + k)),
						 _mm256_loadu_si256((const void *)(twin + i + k)));
			any = _mm256_or_si256(any, x);
		}
		if (!_mm256_testz_si256(any, any))
			break;
	}
	for (; i < length; i += 64) {
		__m256i a = _mm256_xor_si256(_mm256_loadu_si256((const void *)(memory + i)),
					     _mm256_loadu_si256((const void *)(twin + i)));
		__m256i b = _mm256_xor_si256(_mm256_loadu_si256((const void *)(memory + i + 32)),
					     _mm256_loadu_si256((const void *)(twin + i + 32)));
		__m256i any = _mm256_or_si256(a, b);

		if (!_mm256_testz_si256(any, any))
			return i;
	}
	return length;
}

RACY AVX2 static bool same_avx2(const unsigned char *memory, const unsigned char *twin,
				size_t length)
{
	size_t i = length, k;

	while (i) {
		size_t n = i % 512 ? 64 : 512;
		__m256i any = _mm256_setzero_si256();

		i -= n;
		for (k = n; k > 0; k -= 32) {
			__m256i a = _mm256_loadu_si256((const void *)(memory + i + k - 32));
			__m256i b = _mm256_loadu_si256((const void *)(twin + i + k - 32));

			any = _mm256_or_si256(any, _mm256_xor_si256(a, b));
		}
		if (!_mm256_testz_si256(any, any))
			return false;
	}
	return true;
}

RACY AVX512 static inline __mmask8 mask_line(const unsigned char *memory, const unsigned char *twin)
{
	return _mm512_cmpneq_epi64_mask(_mm512_loadu_si512(memory), _mm512_loadu_si512(twin));
}

/* Four blocks. Joined in the mask registers, which takes fewest instructions, so
 * that more loads are under way at once. */
RACY AVX512 static inline __mmask32 mask_half(const unsigned char *memory,
					      const unsigned char *twin)
{
	__mmask16 low = _mm512_kunpackb(mask_line(memory + 64, twin + 64), mask_line(memory, twin));
	__mmask16 high = _mm512_kunpackb(mask_line(memory + 192, twin + 192),
					 mask_line(memory + 128, twin + 128));

	return _mm512_kunpackw(high, low);
}

RACY AVX512 static uint32_t differ_avx512(const unsigned char *memory, const unsigned char *twin,
					  size_t length, uint64_t *masks)
{
	uint32_t chunks = 0;
	uint64_t mask;
	size_t i, k;

	for (i = 0; i + DIFF_MASK_BYTES <= length; i += DIFF_MASK_BYTES) {
		mask = _mm512_kunpackd(mask_half(memory + i + 256, twin + i + 256),
				       mask_half(memory + i, twin + i));
		*masks++ = mask;
		chunks |= (uint32_t)(mask != 0) << i / DIFF_CHUNK;
	}
	if (i < length) {
		mask = 0;
		for (k = i; k < length; k += 64)
			mask |= (uint64_t)mask_line(memory + k, twin + k) << (k - i) / WORD;
		*masks = mask;
		chunks |= (uint32_t)(mask != 0) << i / DIFF_CHUNK;
	}
	return chunks;
}

RACY AVX512 static size_t equal_prefix_avx512(const unsigned char *memory,
					      const unsigned char *twin, size_t length)
{
	size_t i = 0, k;

	for (; i + 512 <= length; i += 512) {
		__m512i any = _mm512_setzero_si512();

		for (k = 0; k < 512; k += 64) {
			__m512i x = _mm512_xor_si512(_mm512_loadu_si512(memory + i + k),
						     _mm512_loadu_si512(twin + i + k));
			any = _mm512_or_si512(any, x);
		}
		if (_mm512_test_epi64_mask(any, any))
			break;
	}
	for (; i < length; i += 64)
		if (_mm512_cmpneq_epi64_mask(_mm512_loadu_si512(memory + i),
					     _mm512_loadu_si512(twin + i)))
			return i;
	return length;
}

#define STEP 512u

RACY AVX512 static bool same_avx512(const unsigned char *memory, const unsigned char *twin,
				    size_t length)
{
	size_t i = length, k;

	for (; i % STEP; i -= 64)
		if (_mm512_cmpneq_epi64_mask(_mm512_loadu_si512(memory + i - 64),
					     _mm512_loadu_si512(twin + i - 64)))
			return false;
	for (; i; i -= STEP) {
		__m512i any = _mm512_setzero_si512();

#pragma GCC unroll 8
		for (k = 64; k <= STEP; k += 64) {
			__m512i a = _mm512_loadu_si512(memory + i - k);
			__m512i b = _mm512_loadu_si512(twin + i - k);

			any = _mm512_ternarylogic_epi64(any, a, b, 0xf6); /* any | (a ^ b) */
		}
		if (_mm512_test_epi64_mask(any, any))
			return false;
	}
	return true;
}

#endif /* x86-64 */

#define WIDE_BYTES (32u * 1024)

static const struct diff_kernels words = { differ_words, equal_prefix_words, same_words };
static const struct diff_kernels *narrow = &words, *wide = &words;

const struct diff_kernels *diff_kernels_for(size_t length)
{
	return length < WIDE_BYTES ? narrow : wide;
}

#if defined(__x86_64__)

static const struct diff_kernels avx2 = { differ_avx2, equal_prefix_avx2, same_avx2 };
static const struct diff_kernels avx512 = { differ_avx512, equal_prefix_avx512, same_avx512 };

static bool has_avx512(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
	       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
}

__attribute__((constructor)) static void choose_kernels(void)
{
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx2"))
		narrow = wide = &avx2;
	if (has_avx512())
		wide = &avx512;
}

#endif

const struct diff_kernels *diff_kernels_at(size_t index, const char **name, bool *usable)
{
	*usable = true;
	switch (index) {
	case 0:
		*name = "words";
		return &words;
#if defined(__x86_64__)
	case 1:
		*name = "avx2";
		*usable = __builtin_cpu_supports("avx2");
		return &avx2;
	case 2:
		*name = "avx512";
		*usable = has_avx512();
		return &avx512;
#endif
	default:
		return NULL;
	}
}
