/* SPDX-License-Identifier: MIT */
/*
 * Engines: who finds out what was written.
 *
 * The way of a write: an engine notices it; at the end of the transaction the
 * engine is harvested for extents that may have changed, and has forgotten
 * them and watches them again before harvest returns; the extents are then
 * compared with the twin (diff.c). Watch first, compare afterwards: a write
 * that comes between is found by the next harvest, and none is lost.
 */
#ifndef HAC_ENGINE_H
#define HAC_ENGINE_H

#include "area.h"
#include "extents.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#define ENGINE_KERNEL_WRITES 0x1u /* read(2) into an area just works */
#define ENGINE_NEEDS_TWIN 0x2u    /* tells changes by comparing only */
#define ENGINE_WORDS 0x4u         /* sees single writes */
#define ENGINE_FAULTS 0x8u        /* needs the SIGSEGV handler (fault.c) */
#define ENGINE_ALIAS 0x10u        /* wants areas with a second mapping */
#define ENGINE_CHOOSES 0x20u      /* a policy that names another engine */

/*
 * All offsets are relative to the area, page-aligned, and lie in its tracked
 * part [area->head, area->tail); extents may be finer. Calls other than fault
 * are made under the context's lock.
 */
struct engine {
	const char *name;
	unsigned int flags;

	/* Find out by use whether it works here: 0, or -ENODEV with the reason.
	 * Called once a process; no context need exist. */
	int (*probe)(char *reason, size_t size);

	/* Watch [from, to), which is not watched yet. First call for an area
	 * sets area->engine_state up. */
	int (*arm)(struct area *area, size_t from, size_t to);

	/* Append what was written since, and watch it again. With `peek`, leave
	 * it unwatched and remembered: the next harvest reports it again.
	 * On failure nothing is forgotten. */
	int (*harvest)(struct area *area, struct extents *out, bool peek);

	/* True if nothing was written since the last harvest. Cheaper than one;
	 * false where that is not certain. */
	bool (*is_quiet)(struct area *area);

	/* Let [from, to) be written by anyone, and report it at next harvest.*/
	int (*open)(struct area *area, size_t from, size_t to);

	/* Stop watching, leave the memory writable, free engine_state. */
	void (*disarm)(struct area *area);

	/* ENGINE_FAULTS: a write fault at `offset`. In a signal handler. True if
	 * the faulting instruction may go on. */
	bool (*fault)(struct area *area, size_t offset, void *ucontext);
};

/* Every engine is a row of this table (engines.c), NULL-terminated. */
extern const struct engine *const engines[];

/* By name; -EINVAL for an unknown one, -ENODEV with the reason. */
int engine_find(const char *name, const struct engine **out);

/* In place of an area's engine the one that HAC_ENGINE names, if it does, and why;
 * -EINVAL or -ENODEV if that cannot be, with `engine` as it was. */
int engine_force(const struct engine **engine, char *reason, size_t size);

/* What "auto" takes for an area, if with it `size` bytes would be compared, and
 * why. `joins`: begin does not look for strays. */
int engine_choose(size_t size, const struct area *area, bool joins, const struct engine **out,
		  char *reason, size_t reason_size);

#endif
