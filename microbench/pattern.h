/* SPDX-License-Identifier: MIT */
/*
 * The workload that all programs of this folder share: which words of the area
 * each transaction writes. It is worked out before the timed part, from a
 * fixed seed, so every program makes exactly the same stores.
 *
 * Transaction t writes, on each of `ppt` distinct pages, `wpp` distinct words
 * of 8 bytes; the value is t itself, so every store changes its word.
 *	random	a fresh choice of pages for each transaction
 *	hot	the same pages always
 * The words are random in both. After `count` transactions the choices repeat.
 */
#ifndef MICROBENCH_PATTERN_H
#define MICROBENCH_PATTERN_H

#include <err.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PATTERN_PAGE 4096u
#define PATTERN_PAGE_WORDS (PATTERN_PAGE / sizeof(uint64_t))
#define PATTERN_TABLE_WORDS 16384u /* bounds the table, which shares the caches */

struct pattern {
	size_t cda_bytes;
	unsigned int ppt, wpp, threads;
	bool hot;
	uint32_t count;  /* transactions in the table, a power of two */
	uint32_t *words; /* [count][ppt][wpp]: index of a word in the area */
};

/* splitmix64: small, and the same everywhere. */
static inline uint64_t pattern_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* `count` distinct numbers below `limit`, in random order. */
static inline void pattern_distinct(uint64_t *state, uint32_t limit, unsigned int count,
				    uint32_t *out)
{
	for (unsigned int i = 0; i < count;) {
		unsigned int j = 0;

		out[i] = (uint32_t)(pattern_random(state) % limit);
		while (j < i && out[j] != out[i])
			j++;
		i += j == i;
	}
}

/* Fill in count and words from the other members; ends the process on error. */
static inline void pattern_init(struct pattern *p)
{
	size_t pages = p->cda_bytes / PATTERN_PAGE, per = (size_t)p->ppt * p->wpp;
	uint64_t state = 20110627;
	uint32_t *page, *word;

	if (!pages || p->cda_bytes % PATTERN_PAGE || pages > UINT32_MAX / PATTERN_PAGE_WORDS)
		errx(2, "--cda: a multiple of %u up to 16 GiB", PATTERN_PAGE);
	if (!p->ppt || p->ppt > pages || !p->wpp || p->wpp > PATTERN_PAGE_WORDS)
		errx(2, "--ppt: 1 to %zu, --wpp: 1 to %zu", pages, PATTERN_PAGE_WORDS);
	if (!p->threads || p->threads > p->ppt || p->threads > 64)
		errx(2, "--threads: 1 to --ppt, at most 64");
	p->count = 64;
	while (p->count < 4096 && p->count * per < PATTERN_TABLE_WORDS)
		p->count *= 2;
	page = calloc(p->ppt, sizeof(*page));
	word = calloc(p->wpp, sizeof(*word));
	p->words = calloc(p->count * per, sizeof(*p->words));
	if (!page || !word || !p->words)
		err(1, "pattern");
	for (uint32_t t = 0; t < p->count; t++) {
		if (!t || !p->hot)
			pattern_distinct(&state, (uint32_t)pages, p->ppt, page);
		for (unsigned int i = 0; i < p->ppt; i++) {
			uint32_t *out = p->words + t * per + (size_t)i * p->wpp;

			pattern_distinct(&state, PATTERN_PAGE_WORDS, p->wpp, word);
			for (unsigned int j = 0; j < p->wpp; j++)
				out[j] = page[i] * (uint32_t)PATTERN_PAGE_WORDS + word[j];
		}
	}
	free(page);
	free(word);
}

/* The share of `thread` in the stores of transaction `txn` (from 1 on). */
static inline void pattern_write(const struct pattern *p, void *area, uint64_t txn,
				 unsigned int thread)
{
	size_t per = (size_t)p->ppt * p->wpp;
	const uint32_t *words = p->words + (txn & (p->count - 1)) * per;
	volatile uint64_t *to = area; /* volatile: each store is one store */

	for (unsigned int i = thread; i < p->ppt; i += p->threads)
		for (unsigned int j = 0; j < p->wpp; j++)
			to[words[i * p->wpp + j]] = txn;
}

/* Touch the whole area, with bytes that no transaction writes. */
static inline void pattern_fill(const struct pattern *p, void *area)
{
	memset(area, 0xa5, p->cda_bytes);
}

#endif
