// SPDX-License-Identifier: MIT
/*
 * The process's table of areas, sorted by address. The fault handler reads it
 * without a lock: a table is never changed, only replaced, and a replaced one
 * is freed when no handler is inside.
 */
#include "area.h"
#include "error.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct table {
	size_t count;
	struct area *areas[];
};

static struct table *_Atomic current;
static _Atomic int readers;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;

void registry_enter(void)
{
	atomic_fetch_add(&readers, 1);
}

void registry_leave(void)
{
	atomic_fetch_sub(&readers, 1);
}

struct area *registry_find(const void *address)
{
	const struct table *table = atomic_load(&current);
	const unsigned char *p = address;
	size_t low = 0, high = table ? table->count : 0;

	while (low < high) {
		size_t middle = (low + high) / 2;
		struct area *area = table->areas[middle];

		if (p < area->memory)
			high = middle;
		else if (p >= area->memory + area->span)
			low = middle + 1;
		else
			return area;
	}
	return NULL;
}

/*
 * Fork. An area with a second mapping is shared memory, and the child's copy
 * must be its own: the parent copies it before the fork, and the child puts
 * the copy in its place. Everything else is private memory already.
 */
struct fork_copy {
	struct area *area;
	void *bytes;
	struct fork_copy *next;
};

static struct fork_copy *fork_copies;

static void before_fork(void)
{
	const struct table *table;
	struct fork_copy *copy;
	size_t i;

	pthread_mutex_lock(&lock);
	table = atomic_load(&current);
	for (i = 0; table && i < table->count; i++) {
		struct area *area = table->areas[i];

		if (!area->alias || area->process != process_current())
			continue;
		copy = malloc(sizeof(*copy));
		if (!copy)
			continue;
		copy->area = area;
		copy->bytes = mmap(NULL, area->tail, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (copy->bytes != MAP_FAILED)
			memcpy(copy->bytes, area->memory, area->tail);
		copy->next = fork_copies;
		fork_copies = copy;
	}
}

static void after_fork_in_parent(void)
{
	struct fork_copy *copy;

	while ((copy = fork_copies)) {
		fork_copies = copy->next;
		if (copy->bytes != MAP_FAILED)
			munmap(copy->bytes, copy->area->tail);
		free(copy);
	}
	pthread_mutex_unlock(&lock);
}

static void after_fork_in_child(void)
{
	struct fork_copy *copy;

	while ((copy = fork_copies)) {
		struct area *area = copy->area;

		fork_copies = copy->next;
		/* Without a copy the child must not see the parent's memory
		 * change, nor change it: it loses the area. */
		if (copy->bytes == MAP_FAILED ||
		    mremap(copy->bytes, area->tail, area->tail, MREMAP_MAYMOVE | MREMAP_FIXED,
			   area->memory) == MAP_FAILED)
			munmap(area->memory, area->span);
		free(copy);
	}
	atomic_store(&readers, 0);
	pthread_mutex_unlock(&lock);
}

static void set_up_fork(void)
{
	pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* With the lock: publish, wait for the handlers that may see the old one. */
static void replace(struct table *fresh)
{
	struct table *old = atomic_exchange(&current, fresh);

	while (atomic_load(&readers))
		sched_yield();
	free(old);
}

int registry_add(struct area *area)
{
	const struct table *old;
	struct table *fresh;
	size_t count, i;
	int result = 0;

	pthread_once(&once, set_up_fork);
	pthread_mutex_lock(&lock);
	old = atomic_load(&current);
	count = old ? old->count : 0;
	fresh = malloc(sizeof(*fresh) + (count + 1) * sizeof(area));
	if (!fresh) {
		result = hac_fail(ENOMEM, "no memory for the table of areas");
		goto out;
	}
	for (i = 0; i < count && old->areas[i]->memory < area->memory; i++)
		fresh->areas[i] = old->areas[i];
	if ((i < count && area->memory + area->span > old->areas[i]->memory) ||
	    (i > 0 && old->areas[i - 1]->memory + old->areas[i - 1]->span > area->memory)) {
		const struct area *other = i < count && area->memory + area->span >
								   old->areas[i]->memory ?
						   old->areas[i] :
						   old->areas[i - 1];

		result = hac_fail(EINVAL,
				  "area '%s' at %p, %zu bytes, overlaps area '%s' at %p, %zu bytes",
				  area->layout.name, (void *)area->memory, area->span,
				  other->layout.name, (void *)other->memory, other->span);
		free(fresh);
		goto out;
	}
	fresh->areas[i] = area;
	if (count > i)
		memcpy(&fresh->areas[i + 1], &old->areas[i], (count - i) * sizeof(area));
	fresh->count = count + 1;
	replace(fresh);
out:
	pthread_mutex_unlock(&lock);
	return result;
}

static void remove_locked(struct area *area)
{
	const struct table *old = atomic_load(&current);
	struct table *fresh;
	size_t i, kept = 0;

	/* Nothing may fail here: without memory for a smaller table, a copy of
	 * the same size is not to be had either, so the old one is edited,
	 * which a handler in the middle of its search survives because it
	 * only ever sees areas that exist until `replace` returns. */
	fresh = malloc(sizeof(*fresh) + old->count * sizeof(area));
	if (!fresh) {
		struct table *table = (struct table *)old;

		for (i = 0; i < table->count; i++)
			if (table->areas[i] != area)
				table->areas[kept++] = table->areas[i];
		table->count = kept;
		while (atomic_load(&readers))
			sched_yield();
		return;
	}
	for (i = 0; i < old->count; i++)
		if (old->areas[i] != area)
			fresh->areas[kept++] = old->areas[i];
	fresh->count = kept;
	replace(fresh);
}

void registry_remove(struct area *area)
{
	pthread_mutex_lock(&lock);
	remove_locked(area);
	pthread_mutex_unlock(&lock);
}

int registry_take_closed(void *address, struct area **out)
{
	struct area *area;
	int result = 0;

	pthread_mutex_lock(&lock);
	area = registry_find(address);
	if (!area || area->memory != address || area->adopted)
		result = hac_fail(EINVAL, "%p is not where hac_map() put an area", address);
	else if (atomic_load(&area->mode) != AREA_CLOSED)
		result = hac_fail(EBUSY, "area '%s' is in use: close its context or drop it first",
				  area->layout.name);
	else
		remove_locked(area);
	if (!result)
		*out = area;
	pthread_mutex_unlock(&lock);
	return result;
}
