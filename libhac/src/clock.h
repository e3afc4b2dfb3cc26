/* SPDX-License-Identifier: MIT */
/*
 * Time for statistics: the processor's time-stamp counter where it is constant,
 * at a third of clock_gettime(2)'s price, and converted only when somebody
 * asks.
 */
#ifndef HAC_CLOCK_H
#define HAC_CLOCK_H

#include <stdint.h>
#include <time.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

static inline uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t clock_ticks(void)
{
#if defined(__x86_64__)
	return __rdtsc();
#else
	return clock_ns();
#endif
}

/* Both clocks at one moment; ticks are converted by the time gone since. */
struct clock_start {
	uint64_t ticks;
	uint64_t ns;
};

static inline struct clock_start clock_started(void)
{
	return (struct clock_start){ clock_ticks(), clock_ns() };
}

static inline uint64_t clock_to_ns(const struct clock_start *start, uint64_t ticks)
{
	uint64_t gone = clock_ticks() - start->ticks;

	return gone ? (uint64_t)((double)ticks * (double)(clock_ns() - start->ns) / (double)gone) :
		      0;
}

#endif
