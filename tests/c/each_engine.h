/* SPDX-License-Identifier: MIT */
/* Parts of a test that run once under every engine that works here. */
#ifndef EACH_ENGINE_H
#define EACH_ENGINE_H

#include "check.h"

#include <stdbool.h>

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#else
#define UNDER_ASAN 0
#endif
#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#else
#define UNDER_TSAN 0
#endif

__attribute__((unused)) static bool engine_works(const char *name)
{
	struct hac_engine_info info = { .size = sizeof(info) };
	uint32_t i;

	for (i = 0; !hac_get_engine(i, &info); i++)
		if (!strcmp(info.name, name))
			return info.available;
	return false;
}

/* Say why an engine is left out, and run `part` with the others. */
__attribute__((unused)) static void each_engine(const char *title, void (*part)(const char *engine))
{
	struct hac_engine_info info = { .size = sizeof(info) };
	uint32_t i;

	for (i = 0; !hac_get_engine(i, &info); i++) {
		printf("%s: %s%s%s\n", title, info.name,
		       info.available ? "" : ": skipped: ", info.available ? "" : info.reason);
		fflush(stdout);
		if (info.available)
			part(info.name);
	}
}

#define EACH_ENGINE(part) each_engine(#part, part)

/* A context without an image. */
__attribute__((unused)) static hac *open_with(const char *engine, uint32_t flags)
{
	struct hac_options o = { .size = sizeof(o), .engine = engine, .flags = flags };
	hac *h;

	CHECK_OK(hac_open(NULL, &o, &h));
	return h;
}

__attribute__((unused)) static uint64_t epoch_of(hac *h)
{
	struct hac_info info = { .size = sizeof(info) };

	CHECK_OK(hac_get_info(h, &info));
	return info.epoch;
}

#endif
