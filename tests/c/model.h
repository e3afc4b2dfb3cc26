/* SPDX-License-Identifier: MIT */
/* Contexts whose areas are modelled by plain copies, and writes to both. */
#ifndef MODEL_H
#define MODEL_H

#include "each_engine.h"

#include <sys/mman.h>

#define PAGE 4096u
#define AREAS_MAX 6
#define WORLDS 2

struct model {
	char name[32];
	unsigned char *memory; /* the area */
	unsigned char *now;    /* what it must hold */
	unsigned char *ended;  /* as the last epoch left it */
	unsigned char *copy;   /* made of deltas alone */
	unsigned char *ready;  /* as it was when the transaction was prepared */
	bool *written;         /* pages, since the engine was last asked */
	bool *reported;        /* pages, by the delta being looked at */
	size_t size, capacity, head, ready_size;
	uint32_t id;
	bool adopted;
	bool fresh; /* made or grown since the last epoch */
};

struct world {
	hac *h;
	const char *engine;
	struct model areas[AREAS_MAX];
	size_t count;
	uint64_t epoch;
	unsigned int named;
	bool twin;
	bool open;
	bool drops; /* since the last epoch */
};

static unsigned long long seed;

static size_t below(size_t n)
{
	return (size_t)(check_random(&seed) % n);
}

/* ---------------------------------------------------------------- areas -- */

static size_t pages_of(const struct model *m)
{
	return m->capacity / PAGE + 4;
}

/* Pages lie where the processor has them, also in adopted memory. */
static size_t page_at(const struct model *m, size_t offset)
{
	return (offset + (PAGE - m->head % PAGE)) / PAGE;
}

static void make_model(struct model *m, size_t size, size_t capacity)
{
	size_t room = capacity + 8;

	m->size = size;
	m->capacity = capacity;
	m->now = calloc(1, room);
	m->ended = calloc(1, room);
	m->copy = calloc(1, room);
	m->ready = calloc(1, room);
	m->written = calloc(pages_of(m), sizeof(bool));
	m->reported = calloc(pages_of(m), sizeof(bool));
	CHECK(m->now && m->ended && m->copy && m->ready && m->written && m->reported);
	m->fresh = true;
}

static void free_model(struct model *m)
{
	free(m->now);
	free(m->ended);
	free(m->copy);
	free(m->ready);
	free(m->written);
	free(m->reported);
}

static uint32_t id_of(hac *h, const char *name)
{
	struct hac_area_info info = { .size = sizeof(info) };
	uint32_t i;

	for (i = 0; !hac_get_area(h, i, &info); i++)
		if (!strcmp(info.name, name))
			return info.id;
	CHECK_MSG(false, "no area %s", name);
	return 0;
}

static struct model *add_model(struct world *w, const char *kind)
{
	struct model *m = &w->areas[w->count++];

	CHECK(w->count <= AREAS_MAX);
	memset(m, 0, sizeof(*m));
	snprintf(m->name, sizeof(m->name), "%s %u", kind, w->named++);
	return m;
}

static void map(struct world *w, size_t size, size_t capacity)
{
	struct hac_area_options o = { .size = sizeof(o), .capacity = capacity };
	struct model *m = add_model(w, "mapped");
	void *address;

	CHECK_OK(hac_map(w->h, m->name, size, &o, &address));
	m->memory = address;
	make_model(m, size, capacity ? capacity : size);
	m->id = id_of(w->h, m->name);
}

static void adopt(struct world *w, size_t size, size_t misplaced)
{
	struct model *m = add_model(w, "adopted");
	unsigned char *p = mmap(NULL, size + 3 * PAGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t i;

	CHECK(p != MAP_FAILED);
	m->memory = p + misplaced;
	m->adopted = true;
	m->head = (PAGE - misplaced % PAGE) % PAGE;
	for (i = 0; i < size; i++)
		m->memory[i] = (unsigned char)(i * 7);
	make_model(m, size, size);
	memcpy(m->now, m->memory, size);
	CHECK_OK(hac_adopt(w->h, m->name, m->memory, size, NULL));
	m->id = id_of(w->h, m->name);
}

static void release(struct model *m)
{
	if (m->adopted)
		munmap((unsigned char *)((uintptr_t)m->memory & ~(uintptr_t)(PAGE - 1)),
		       m->size + 2 * PAGE);
	else
		CHECK_OK(hac_unmap(m->memory));
	free_model(m);
}

/* ---------------------------------------------------------------- writes -- */

static void note(struct model *m, size_t at, size_t length)
{
	size_t page;

	for (page = page_at(m, at); length && page <= page_at(m, at + length - 1); page++)
		m->written[page] = true;
}

/* Both the area and the model, in one of many ways. */
static void write_some(struct model *m)
{
	static const size_t lengths[] = { 1, 2, 4, 8, 16, 24, 63, 64, 200, 4096, 5000, 70000 };
	size_t length = lengths[below(below(4) ? 8 : 12)], at, i;
	unsigned char bytes[70000];
	uint64_t value = check_random(&seed);

	if (length > m->size)
		length = 1;
	at = below(m->size - length + 1);
	if (!below(4) && length <= PAGE && m->size > PAGE + length) /* across a page's end */
		at = (at / PAGE + 1) * PAGE - length / 2;
	if (at + length > m->size)
		at = m->size - length;
	note(m, at, length);
	switch (below(5)) {
	case 0: /* what is there already */
		memmove(m->memory + at, m->now + at, length);
		return;
	case 1:
		memset(m->memory + at, (int)value, length);
		memset(m->now + at, (int)value, length);
		return;
	case 2: /* one store, aligned or not */
		length = length >= 8 ? 8 : length >= 4 ? 4 : length >= 2 ? 2 : 1;
		memcpy(m->now + at, &value, length);
		if (length == 8)
			memcpy(m->memory + at, &value, 8);
		else if (length == 4)
			memcpy(m->memory + at, &value, 4);
		else if (length == 2)
			memcpy(m->memory + at, &value, 2);
		else
			m->memory[at] = (unsigned char)value;
		return;
	case 3: /* read, change, write */
		for (i = at; i < at + length && i < at + 64; i++) {
			m->memory[i] ^= (unsigned char)value;
			m->now[i] ^= (unsigned char)value;
		}
		return;
	default:
		for (i = 0; i < length; i++)
			bytes[i] = (unsigned char)check_random(&seed);
		memcpy(m->memory + at, bytes, length);
		memcpy(m->now + at, bytes, length);
	}
}

static void write_often(struct world *w)
{
	size_t n = below(6);

	while (n--)
		write_some(&w->areas[below(w->count)]);
}

#endif
