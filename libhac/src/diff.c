// SPDX-License-Identifier: MIT
#include "diff.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/*
 * The application may be writing: a word read here is old or new, and either
 * will do, since what was read goes to both the delta and the twin. The thread
 * sanitizer would report just that, so it does not look here.
 */
#define RACY __attribute__((no_sanitize("thread")))

#define WORD 8u

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

RACY static inline void emit(struct diff_output *out, size_t offset, uint64_t value,
			     unsigned int length)
{
	struct hac_run *run = out->run;

	if (run->area == out->area && run->offset + run->length == offset &&
	    run->length < (1u << 30)) {
		run->length += length;
	} else {
		run = ++out->run;
		run->offset = offset;
		run->length = length;
		run->area = out->area;
	}
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

RACY static void diff_chunk_words(const unsigned char *memory, const unsigned char *twin,
				  size_t offset, size_t length, struct diff_output *out)
{
	diff_words(memory, twin, offset, length, out);
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

#if defined(__x86_64__)

/* A block of 64 bytes of which `mask` tells the words that differ; `block`
 * holds what was read. */
RACY static inline void emit_block(struct diff_output *out, size_t offset, const uint64_t *block,
				   unsigned int mask)
{
	do {
		unsigned int i = (unsigned int)__builtin_ctz(mask);

		emit(out, offset + i * WORD, block[i], WORD);
		mask &= mask - 1;
	} while (mask);
}

#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512vl,avx512dq")))

RACY AVX2 static inline unsigned int differing_avx2(__m256i a, __m256i b, __m256i c, __m256i d)
{
	unsigned int low =
		(unsigned int)_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(a, b)));
	unsigned int high =
		(unsigned int)_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(c, d)));

	return ~(low | high << 4) & 0xff;
}

RACY AVX2 static void diff_chunk_avx2(const unsigned char *memory, const unsigned char *twin,
				      size_t offset, size_t length, struct diff_output *out)
{
	size_t i;

	for (i = 0; i < length; i += 64) {
		__m256i a = _mm256_loadu_si256((const void *)(memory + i));
		__m256i c = _mm256_loadu_si256((const void *)(memory + i + 32));
		__m256i b = _mm256_loadu_si256((const void *)(twin + i));
		__m256i d = _mm256_loadu_si256((const void *)(twin + i + 32));
		unsigned int mask = differing_avx2(a, b, c, d);

		if (mask) {
			uint64_t block[8];

			_mm256_storeu_si256((void *)block, a);
			_mm256_storeu_si256((void *)(block + 4), c);
			emit_block(out, offset + i, block, mask);
		}
	}
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

RACY AVX512 static void diff_chunk_avx512(const unsigned char *memory, const unsigned char *twin,
					  size_t offset, size_t length, struct diff_output *out)
{
	size_t i;

	for (i = 0; i < length; i += 64) {
		__m512i a = _mm512_loadu_si512(memory + i);
		__m512i b = _mm512_loadu_si512(twin + i);
		unsigned int mask = _mm512_cmpneq_epi64_mask(a, b);

		if (mask) {
			uint64_t block[8];

			_mm512_storeu_si512(block, a);
			emit_block(out, offset + i, block, mask);
		}
	}
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

#endif /* x86-64 */

#define WIDE_BYTES (32u * 1024)

static struct diff_kernels narrow = { diff_chunk_words, equal_prefix_words };
static struct diff_kernels wide = { diff_chunk_words, equal_prefix_words };

const struct diff_kernels *diff_kernels_for(size_t length)
{
	return length < WIDE_BYTES ? &narrow : &wide;
}

#if defined(__x86_64__)

static bool has_avx512(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
	       __builtin_cpu_supports("avx512dq");
}

__attribute__((constructor)) static void choose_kernels(void)
{
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx2"))
		narrow = wide = (struct diff_kernels){ diff_chunk_avx2, equal_prefix_avx2 };
	if (has_avx512())
		wide = (struct diff_kernels){ diff_chunk_avx512, equal_prefix_avx512 };
}

#endif

diff_kernel *diff_kernel_at(size_t index, const char **name, bool *usable)
{
	*usable = true;
	switch (index) {
	case 0:
		*name = "words";
		return diff_chunk_words;
#if defined(__x86_64__)
	case 1:
		*name = "avx2";
		*usable = __builtin_cpu_supports("avx2");
		return diff_chunk_avx2;
	case 2:
		*name = "avx512";
		*usable = has_avx512();
		return diff_chunk_avx512;
#endif
	default:
		return NULL;
	}
}
