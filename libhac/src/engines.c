// SPDX-License-Identifier: MIT
/* The table of engines, and whether each works here. */
#include "engine.h"
#include "error.h"
#include "fault.h"
#include "hac.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const struct engine engine_pt, engine_emul, engine_uffd, engine_ptxen, engine_emulxen,
	engine_scanxen, engine_compare, engine_auto;

const struct engine *const engines[] = {
	&engine_pt,      &engine_emul,    &engine_uffd, &engine_ptxen, &engine_emulxen,
	&engine_scanxen, &engine_compare, &engine_auto, NULL,
};

#define ENGINES_MAX (sizeof(engines) / sizeof(engines[0]) - 1)

static struct verdict {
	bool available;
	char reason[192];
} verdicts[ENGINES_MAX];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static bool is_disabled(const char *name)
{
	const char *list = getenv("HAC_DISABLE");
	size_t length = strlen(name);

	while (list && *list) {
		size_t n = strcspn(list, ",");

		if (n == length && !strncmp(list, name, n))
			return true;
		list += n + (list[n] == ',');
	}
	return false;
}

/* Write the third of four pages. Is it, and it alone, reported, twice? */
static int try_area(const struct engine *engine, struct area *area, char *reason, size_t size)
{
	struct extents seen = { 0 };
	int round, result = 0;

	for (round = 0; round < 2 && !result; round++) {
		*(volatile unsigned char *)(area->memory + 2 * PAGE_BYTES + 8) += 1;
		seen.count = 0;
		result = engine->harvest(area, &seen, false);
		if (result)
			snprintf(reason, size, "its probe: %s", strerror(-result));
		else if (seen.count != 1 || seen.items[0].from / PAGE_BYTES != 2 ||
			 (seen.items[0].to - 1) / PAGE_BYTES != 2)
			result = -ENODEV;
		if (result == -ENODEV)
			snprintf(
				reason, size,
				"its probe wrote a page and did not see that page, and only that, reported");
	}
	extents_free(&seen);
	return result;
}

static int probe_by_writing(const struct engine *engine, char *reason, size_t size)
{
	struct area_request request = {
		.name = "probe",
		.type = "bytes",
		.size = 4 * PAGE_BYTES,
		.alias = engine->flags & ENGINE_ALIAS,
	};
	struct area *area;
	int result = area_create(&request, &area);

	if (result) {
		snprintf(reason, size, "its probe: %s", hac_error_detail());
		return result;
	}
	area->engine = engine;
	memset(area->memory, 1, request.size);
	result = engine->flags & ENGINE_FAULTS ? fault_claim() : 0;
	if (!result)
		result = registry_add(area);
	if (result) {
		snprintf(reason, size, "its probe: %s", hac_error_detail());
		area_destroy(area);
		return result;
	}
	result = area_arm(area);
	if (result)
		snprintf(reason, size, "its probe cannot watch a page: %s", strerror(-result));
	else
		result = try_area(engine, area, reason, size);
	area_disarm(area);
	registry_remove(area);
	area_destroy(area);
	return result;
}

static void probe(const struct engine *engine, struct verdict *verdict)
{
	char *reason = verdict->reason;
	size_t size = sizeof(verdict->reason);

	if (is_disabled(engine->name)) {
		snprintf(reason, size, "disabled by HAC_DISABLE");
		return;
	}
	if (engine->probe(reason, size))
		return;
	if (!(engine->flags & (ENGINE_NEEDS_TWIN | ENGINE_CHOOSES)) &&
	    probe_by_writing(engine, reason, size))
		return;
	verdict->available = true;
	if (!reason[0])
		snprintf(reason, size, "%s",
			 engine->flags & ENGINE_NEEDS_TWIN ?
				 "always works" :
				 "its probe wrote a page and saw it reported");
}

static void probe_all(void)
{
	size_t i;

	for (i = 0; engines[i]; i++)
		probe(engines[i], &verdicts[i]);
}

static int find_index(const char *name, size_t *index)
{
	char known[128] = "";
	size_t i, used = 0;

	for (i = 0; engines[i]; i++) {
		if (!strcmp(engines[i]->name, name)) {
			*index = i;
			return 0;
		}
		used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", i ? ", " : "",
					 engines[i]->name);
	}
	return hac_fail(EINVAL, "unknown engine '%s'; there are: %s", name, known);
}

int engine_find(const char *name, const struct engine **out)
{
	size_t i = 0;
	int result = find_index(name, &i);

	if (result)
		return result;
	pthread_once(&once, probe_all);
	if (!verdicts[i].available)
		return hac_fail(ENODEV, "engine '%s' is not available: %s", name,
				verdicts[i].reason);
	*out = engines[i];
	return 0;
}

int engine_force(const struct engine **engine, char *reason, size_t size)
{
	const char *name = getenv("HAC_ENGINE");
	const struct engine *forced;
	int result;

	if (!name || !*name)
		return 0;
	result = engine_find(name, &forced);
	if (result)
		return result;
	if (forced->flags & ENGINE_CHOOSES)
		return hac_fail(EINVAL, "HAC_ENGINE: '%s' is no engine but a choice; name one",
				name);
	snprintf(reason, size, "%s: demanded by HAC_ENGINE", name);
	*engine = forced;
	return 0;
}

int hac_get_engine(uint32_t index, struct hac_engine_info *info)
{
	const struct engine *engine;

	if (info->size != sizeof(*info))
		return hac_fail(EINVAL, "struct hac_engine_info: size is %zu, must be %zu",
				info->size, sizeof(*info));
	if (index >= ENGINES_MAX)
		return hac_fail(ENOENT, "there are %zu engines", ENGINES_MAX);
	pthread_once(&once, probe_all);
	engine = engines[index];
	*info = (struct hac_engine_info){
		.size = sizeof(*info),
		.name = engine->name,
		.available = verdicts[index].available,
		.words = !!(engine->flags & ENGINE_WORDS),
		.kernel_writes = !!(engine->flags & ENGINE_KERNEL_WRITES),
	};
	snprintf(info->reason, sizeof(info->reason), "%s", verdicts[index].reason);
	return 0;
}
