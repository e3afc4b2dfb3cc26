/* SPDX-License-Identifier: MIT */
/* A critical data area of this process, and the process's table of them. */
#ifndef HAC_AREA_H
#define HAC_AREA_H

#include "extents.h"
#include "image.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES 4096u

struct engine;

static inline size_t page_up(size_t bytes)
{
	return (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
}

static inline size_t page_down(size_t bytes)
{
	return bytes & ~(size_t)(PAGE_BYTES - 1);
}

/* What a write fault on the area means. */
enum area_mode {
	AREA_TRACKED,  /* the engine decides */
	AREA_READONLY, /* a mistake: the context was opened read-only */
	AREA_CLOSED,   /* a mistake: its context was closed, or it was dropped */
	AREA_STANDBY,  /* a mistake: only the primary writes */
};

struct area {
	struct layout layout;  /* size and address here are the live ones */
	uint64_t process;      /* process_current() of whoever made it */
	_Atomic int mode;      /* enum area_mode; read by the fault handler */
	unsigned char *memory; /* what the application writes */
	unsigned char *twin;   /* the committed copy; NULL without */
	unsigned char *edges;  /* without a twin: the compared bytes as last
				* reported; or NULL */
	unsigned char *alias;  /* second, writable mapping of memory; or NULL */
	int alias_fd;
	size_t span; /* bytes of address space from memory on */
	size_t head; /* tracked part: whole pages that are ours alone; the */
	size_t tail; /*   bytes before and after are compared every time */
	bool adopted;
	bool restored;
	bool announced; /* the image, or the queue to it, knows the layout */
	bool armed;
	bool automatic; /* the engine was chosen by auto */
	bool pending;   /* a standby's image does not have it yet; its id is 0 */
	bool touched;   /* a standby is about to move it */
	const struct engine *engine;
	const struct engine *own; /* what it would be without HAC_ENGINE */
	void *engine_state;
	bool suspect; /* all of it is reported at the next harvest */
	_Atomic uint64_t faults;
	uint64_t writes;    /* that harvests found so far */
	uint64_t fallbacks; /* pages that they found open instead */
};

struct area_request {
	const char *name;
	const char *type;
	const char *fingerprint;
	uint32_t flags;
	size_t size;
	size_t capacity;
	void *address; /* adopted memory, or the address to restore at; or NULL */
	bool adopted;
	bool twin;
	bool alias; /* map with a second mapping */
};

/* Memory, twin and entry in the process's table; no engine yet. */
int area_create(const struct area_request *request, struct area **out);
/* Unmap what area_create() mapped and free. The area is in no table. */
void area_destroy(struct area *area);
/* Give memory the image's bytes. Before the area is armed. */
void area_fill(struct area *area, const unsigned char *contents);
/* The mapping `contents` of `bytes` bytes of address space, which equals memory,
 * becomes the twin (or is unmapped where there is none). On failure it is
 * still the caller's. */
int area_take_twin(struct area *area, unsigned char *contents, size_t bytes);
/* Make [layout.size, size) usable; the bytes are zero. */
int area_extend(struct area *area, size_t size);

/* With the engine: watch, collect, let go. */
int area_arm(struct area *area);
void area_disarm(struct area *area);
int area_harvest(struct area *area, struct extents *out, bool peek);
bool area_is_quiet(struct area *area);
int area_open(struct area *area, size_t from, size_t to);
int area_set_engine(struct area *area, const struct engine *engine);

/* ---- the process's table of areas (registry.c) ---- */

/* -EINVAL if it overlaps one that is there, -ENOMEM. */
int registry_add(struct area *area);
/* Returns when no fault handler looks at the area any more. */
void registry_remove(struct area *area);
/* The area that owns the address, in a signal handler, between registry_enter
 * and registry_leave. */
void registry_enter(void);
void registry_leave(void);
struct area *registry_find(const void *address);
/* The closed area that hac_map() placed at address, removed from the table. */
int registry_take_closed(void *address, struct area **out);

/* ---- processes (process.c) ---- */

/* A number that is another one in a forked child; no system call. */
uint64_t process_current(void);
/* For what there is one of in a process. Held over fork, so that a child never
 * finds it taken by a thread that it does not have. Not to be nested. */
void process_lock(void);
void process_unlock(void);
/* A descriptor of /proc/self/NAME that belongs to this process, opened once;
 * or -errno. */
int process_file(const char *name, int flags);

#endif
