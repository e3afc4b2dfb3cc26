// SPDX-License-Identifier: MIT
/*
 * Emulation: the area stays read-only; every store faults, is decoded, done on
 * the program's behalf through another way into the same memory, and logged
 * (DSN 2011, section IV). What the decoder does not handle opens its page,
 * which is then compared: nothing is lost.
 *
 * In the handler the store comes first and the log entry after it. A harvest
 * waits for handlers that are under way; a handler that meets a harvest opens
 * the page instead of waiting for it, since it may have interrupted it.
 */
#include "dirty_map.h"
#include "engine.h"
#include "store_decode.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LOG_ENTRIES 4096u

struct entry {
	uint64_t offset;
	uint32_t width;
	uint32_t reserved;
};

struct emul {
	struct dirty_map opened;
	int memory_fd; /* /proc/self/mem, for areas without a second mapping */
	_Atomic bool harvesting;
	_Atomic uint32_t under_way;
	_Atomic uint32_t count;
	struct entry log[LOG_ENTRIES];
};

static int probe(char *reason, size_t size)
{
	return store_decoder_probe(reason, size);
}

static int create(struct area *area)
{
	struct emul *emul = mmap(NULL, sizeof(*emul), PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int result;

	if (emul == MAP_FAILED)
		return -ENOMEM;
	result = dirty_map_create(&emul->opened, area->span);
	if (result) {
		munmap(emul, sizeof(*emul));
		return result;
	}
	/* Where that cannot be opened, pages are. */
	emul->memory_fd = area->alias ? -1 : process_file("mem", O_RDWR);
	area->engine_state = emul;
	return 0;
}

static void disarm(struct area *area)
{
	struct emul *emul = area->engine_state;

	mprotect(area->memory + area->head, area->tail - area->head, PROT_READ | PROT_WRITE);
	dirty_map_destroy(&emul->opened);
	munmap(emul, sizeof(*emul));
	area->engine_state = NULL;
}

static int arm(struct area *area, size_t from, size_t to)
{
	bool fresh = !area->engine_state;
	int result = fresh ? create(area) : 0;

	if (result)
		return result;
	if (!mprotect(area->memory + from, to - from, PROT_READ))
		return 0;
	result = -errno;
	if (fresh)
		disarm(area);
	return result;
}

static int take_log(struct area *area, struct emul *emul, struct extents *out, bool peek)
{
	uint32_t count, i;
	int result = 0;

	atomic_store(&emul->harvesting, true);
	while (atomic_load(&emul->under_way))
		sched_yield();
	count = atomic_load(&emul->count);
	for (i = 0; i < count && !result; i++)
		result = extents_add(out, emul->log[i].offset,
				     emul->log[i].offset + emul->log[i].width);
	if (!peek && !result) {
		area->writes += count;
		atomic_store(&emul->count, 0);
	}
	atomic_store(&emul->harvesting, false);
	return result;
}

static int harvest(struct area *area, struct extents *out, bool peek)
{
	struct emul *emul = area->engine_state;
	size_t first = out->count;
	int result = dirty_map_harvest(&emul->opened, area, out, peek);

	for (; !peek && !result && first < out->count; first++)
		area->fallbacks += (out->items[first].to - out->items[first].from) / PAGE_BYTES;
	return result ? result : take_log(area, emul, out, peek);
}

static bool is_quiet(struct area *area)
{
	struct emul *emul = area->engine_state;

	return dirty_map_is_empty(&emul->opened) && !atomic_load(&emul->count);
}

static int open_range(struct area *area, size_t from, size_t to)
{
	struct emul *emul = area->engine_state;

	return dirty_map_open(&emul->opened, area, from, to);
}

/* Stores that the program makes need not be aligned. */
typedef uint16_t __attribute__((may_alias, aligned(1))) word16;
typedef uint32_t __attribute__((may_alias, aligned(1))) word32;
typedef uint64_t __attribute__((may_alias, aligned(1))) word64;

/* Through the second mapping, in one piece where the program's store is. If the
 * program's threads race, that is theirs: the thread sanitizer looks away. */
__attribute__((no_sanitize("thread"))) static void poke(unsigned char *to,
							const unsigned char *value, size_t width)
{
	uint64_t word = 0;

	if (width <= 8)
		memcpy(&word, value, width);
	switch (width) {
	case 1:
		*(volatile uint8_t *)to = (uint8_t)word;
		break;
	case 2:
		*(volatile word16 *)to = (uint16_t)word;
		break;
	case 4:
		*(volatile word32 *)to = (uint32_t)word;
		break;
	case 8:
		*(volatile word64 *)to = word;
		break;
	default:
		for (; width >= 8; to += 8, value += 8, width -= 8) {
			__builtin_memcpy(&word, value, 8);
			*(volatile word64 *)to = word;
		}
		break;
	}
}

static bool perform(const struct area *area, const struct emul *emul, const struct store *store,
		    size_t offset)
{
	if (area->alias) {
		poke(area->alias + offset, store->value, store->width);
		return true;
	}
	return emul->memory_fd >= 0 &&
	       pwrite(emul->memory_fd, store->value, store->width,
		      (off_t)(uintptr_t)store->address) == (ssize_t)store->width;
}

static bool emulate(struct area *area, struct emul *emul, void *ucontext)
{
	struct store store;
	size_t offset;
	uint32_t slot;

	if (!store_decode(ucontext, &store))
		return false;
	offset = (size_t)(store.address - area->memory);
	if (store.address < area->memory + area->head || offset + store.width > area->tail)
		return false;
	slot = atomic_fetch_add(&emul->count, 1);
	if (slot >= LOG_ENTRIES) {
		atomic_store(&emul->count, LOG_ENTRIES);
		return false;
	}
	/* An entry whose store was not done after all does no harm: the word
	 * is compared, or given again as it is. */
	emul->log[slot] = (struct entry){ offset, (uint32_t)store.width, 0 };
	if (!perform(area, emul, &store, offset))
		return false;
	store_retire(ucontext, &store);
	return true;
}

static bool fault(struct area *area, size_t offset, void *ucontext)
{
	struct emul *emul = area->engine_state;
	bool done = false;

	atomic_fetch_add(&emul->under_way, 1);
	if (!atomic_load(&emul->harvesting))
		done = emulate(area, emul, ucontext);
	atomic_fetch_sub(&emul->under_way, 1);
	return done || dirty_map_open_page(&emul->opened, area, offset - area->head);
}

const struct engine engine_emul = {
	.name = "emul",
	.flags = ENGINE_FAULTS | ENGINE_WORDS | ENGINE_ALIAS,
	.probe = probe,
	.arm = arm,
	.harvest = harvest,
	.is_quiet = is_quiet,
	.open = open_range,
	.disarm = disarm,
	.fault = fault,
};
