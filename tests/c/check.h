/* SPDX-License-Identifier: MIT */
/*
 * What a C test needs: conditions that must hold. A test is one program; it
 * ends with 0, with 1 at the first CHECK that fails, or is skipped with 77.
 */
#ifndef CHECK_H
#define CHECK_H

#include "hac.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                    \
	do {                                                                \
		if (!(condition))                                           \
			check_failed(__FILE__, __LINE__, #condition, NULL); \
	} while (0)

/* The same, with a message in printf's manner. */
#define CHECK_MSG(condition, ...)                                               \
	do {                                                                    \
		if (!(condition)) {                                             \
			char message_[512];                                     \
			snprintf(message_, sizeof(message_), __VA_ARGS__);      \
			check_failed(__FILE__, __LINE__, #condition, message_); \
		}                                                               \
	} while (0)

/* A call of libhac's that must give exactly this result. */
#define CHECK_IS(call, wanted)                                                     \
	do {                                                                       \
		long long got_ = (long long)(call), wanted_ = (long long)(wanted); \
		if (got_ != wanted_)                                               \
			check_result(__FILE__, __LINE__, #call, got_, wanted_);    \
	} while (0)

#define CHECK_OK(call) CHECK_IS(call, 0)

/* The detail of the last failed call must contain this. */
#define CHECK_DETAIL(text) \
	CHECK_MSG(strstr(hac_error_detail(), text), "the detail is \"%s\"", hac_error_detail())

#define SKIP(...)                                \
	do {                                     \
		printf("skipped: " __VA_ARGS__); \
		putchar('\n');                   \
		exit(77);                        \
	} while (0)

/* Run one part of a test and say so, so that a hang has a name. */
#define RUN(part)                      \
	do {                           \
		printf("%s\n", #part); \
		fflush(stdout);        \
		part();                \
	} while (0)

__attribute__((noreturn, unused)) static void check_failed(const char *file, int line,
							   const char *what, const char *message)
{
	fflush(stdout);
	fprintf(stderr, "%s:%d: %s%s%s\n", file, line, what, message ? ": " : "",
		message ? message : "");
	exit(1);
}

__attribute__((noreturn, unused)) static void
check_result(const char *file, int line, const char *what, long long got, long long wanted)
{
	fflush(stdout);
	fprintf(stderr, "%s:%d: %s gave %lld (%s), not %lld; detail: %s\n", file, line, what, got,
		got < 0 ? strerror((int)-got) : "no error", wanted, hac_error_detail());
	exit(1);
}

/* Numbers that are the same in every run (xorshift64*). */
__attribute__((unused)) static unsigned long long check_random(unsigned long long *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 2685821657736338717ull;
}

#endif
