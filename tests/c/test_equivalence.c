// SPDX-License-Identifier: MIT
/*
 * Every engine finds the same: random programs of writes, transactions, aborts
 * and growth, against a model that keeps plain copies of the areas. Word deltas
 * equal the model's exactly; page lists hold every changed page, and none that
 * was not written.
 */
#include "model.h"

#include <errno.h>

/* ---------------------------------------------------------------- checks -- */

static void check_memory(const struct world *w)
{
	size_t i;

	for (i = 0; i < w->count; i++)
		CHECK_MSG(!memcmp(w->areas[i].memory, w->areas[i].now, w->areas[i].size),
			  "%s, area %s", w->engine, w->areas[i].name);
}

static bool word_differs(const struct model *m, size_t at)
{
	size_t n = m->ready_size - at < 8 ? m->ready_size - at : 8;

	return memcmp(m->ready + at, m->ended + at, n) != 0;
}

struct cursor {
	const struct hac_delta *d;
	size_t run, byte;
};

/* The runs of one area are what differs between `ready` and `ended`. */
static void check_words(const struct world *w, const struct model *m, struct cursor *c)
{
	size_t at = 0, from, length;

	while (at < m->ready_size) {
		const struct hac_run *run = &c->d->runs[c->run];

		if (!word_differs(m, at)) {
			at += 8;
			continue;
		}
		for (from = at; at < m->ready_size && word_differs(m, at); at += 8)
			;
		length = (at < m->ready_size ? at : m->ready_size) - from;
		CHECK_MSG(c->run < c->d->runs_count, "%s: area %s: no run for %zu", w->engine,
			  m->name, from);
		CHECK_MSG(run->area == m->id && run->offset == from && run->length == length,
			  "%s: area %s (%u): wanted %zu bytes at %zu, got %u at %llu of %u",
			  w->engine, m->name, m->id, length, from, run->length,
			  (unsigned long long)run->offset, run->area);
		CHECK(!memcmp(c->d->bytes + c->byte, m->ready + from, length));
		c->run++;
		c->byte += length;
	}
}

/* What an engine that sees words gives without a twin lies within pages. */
static void take_pages(const struct world *w, struct model *m, struct cursor *c, bool bytes)
{
	size_t end = 0, page;

	memset(m->reported, 0, pages_of(m) * sizeof(bool));
	for (; c->run < c->d->runs_count && c->d->runs[c->run].area == m->id; c->run++) {
		const struct hac_run *run = &c->d->runs[c->run];

		CHECK_MSG(run->length && run->offset >= end &&
				  run->offset + run->length <= m->ready_size,
			  "%s: area %s: %u bytes at %llu", w->engine, m->name, run->length,
			  (unsigned long long)run->offset);
		end = run->offset + run->length;
		for (page = page_at(m, run->offset); page <= page_at(m, end - 1); page++)
			m->reported[page] = true;
		if (!bytes) { /* the program reads them itself */
			memcpy(m->copy + run->offset, m->ready + run->offset, run->length);
			continue;
		}
		CHECK(!memcmp(c->d->bytes + c->byte, m->ready + run->offset, run->length));
		memcpy(m->copy + run->offset, c->d->bytes + c->byte, run->length);
		c->byte += run->length;
	}
}

static void check_pages(const struct world *w, struct model *m, struct cursor *c, bool bytes)
{
	/* A word may lie in two pages. */
	bool words = c->d->form == HAC_WORDS && m->head % 8;
	size_t at, page;

	take_pages(w, m, c, bytes);
	for (at = 0; at < m->ready_size; at++)
		CHECK_MSG(m->ready[at] == m->ended[at] || m->reported[page_at(m, at)],
			  "%s: area %s: the change at %zu is in no page", w->engine, m->name, at);
	for (page = 0; page < pages_of(m); page++)
		CHECK_MSG(!m->reported[page] || m->written[page] || m->fresh ||
				  (words && page > 0 && m->written[page - 1]) ||
				  (words && m->written[page + 1]),
			  "%s: area %s: page %zu is reported and was not written", w->engine,
			  m->name, page);
}

static void check_delta(struct world *w, const struct hac_delta *d)
{
	struct cursor c = { d, 0, 0 };
	bool bytes = !(d->flags & HAC_RUNS_ONLY);
	size_t i;

	for (i = 0; i < w->count; i++) {
		if (d->form == HAC_WORDS && w->twin) {
			struct cursor again = c;

			check_words(w, &w->areas[i], &c);
			take_pages(w, &w->areas[i], &again, bytes);
		} else {
			check_pages(w, &w->areas[i], &c, bytes);
		}
		if (bytes)
			CHECK_MSG(!memcmp(w->areas[i].copy, w->areas[i].ready,
					  w->areas[i].ready_size),
				  "%s: area %s: applying the deltas gives other bytes", w->engine,
				  w->areas[i].name);
	}
	CHECK(c.run == d->runs_count);
	CHECK(c.byte == d->bytes_count);
}

/* --------------------------------------------------------------- stages -- */

static void forget_pages(struct world *w)
{
	size_t i;

	for (i = 0; i < w->count; i++)
		memset(w->areas[i].written, 0, pages_of(&w->areas[i]) * sizeof(bool));
}

/* What the next epoch will be, as of now. */
static void make_ready(struct world *w)
{
	size_t i;

	for (i = 0; i < w->count; i++) {
		memcpy(w->areas[i].ready, w->areas[i].now, w->areas[i].size);
		w->areas[i].ready_size = w->areas[i].size;
	}
}

static void make_ended(struct world *w)
{
	size_t i;

	for (i = 0; i < w->count; i++) {
		memcpy(w->areas[i].ended, w->areas[i].ready, w->areas[i].ready_size);
		w->areas[i].fresh = w->areas[i].size > w->areas[i].ready_size;
	}
	w->drops = false;
	w->epoch++;
}

/* Partial pages of adopted memory are compared. */
static bool is_edge(const struct model *m, size_t page)
{
	return m->adopted && (page == 0 || page >= page_at(m, m->size));
}

static bool has_strays(const struct world *w)
{
	size_t i, page;

	for (i = 0; i < w->count; i++) {
		const struct model *m = &w->areas[i];

		if (m->fresh || memcmp(m->now, m->ended, m->size))
			return true;
		for (page = 0; !w->twin && page < pages_of(m); page++)
			if (m->written[page] && !is_edge(m, page))
				return true;
	}
	return w->drops;
}

/* Strays take an epoch of their own, whose delta nobody is given. */
static void begin(struct world *w)
{
	bool strays = has_strays(w);
	size_t i;

	CHECK_OK(hac_begin(w->h));
	CHECK_IS(hac_begin(w->h), -EBUSY);
	if (strays) {
		make_ready(w);
		make_ended(w);
		for (i = 0; i < w->count; i++)
			memcpy(w->areas[i].copy, w->areas[i].ended, w->areas[i].size);
	}
	forget_pages(w);
	w->open = true;
	CHECK_IS(epoch_of(w->h), w->epoch);
	check_memory(w);
}

static void must_end(struct world *w, int result, uint64_t epoch)
{
	CHECK_OK(result);
	make_ended(w);
	w->open = false;
	CHECK_IS(epoch, w->epoch);
	CHECK_IS(epoch_of(w->h), w->epoch);
	check_memory(w);
}

static struct hac_delta some_form(const struct world *w)
{
	return (struct hac_delta){
		.size = sizeof(struct hac_delta),
		.form = (uint32_t)below(2),
		.flags = w->twin ? 0 : (uint32_t)below(2),
	};
}

static void end_lent(struct world *w)
{
	struct hac_delta d = some_form(w);
	uint64_t epoch = 0;
	int result;

	make_ready(w);
	result = hac_end(w->h, &d, &epoch);
	check_delta(w, &d);
	forget_pages(w);
	must_end(w, result, epoch);
}

static void end_next(struct world *w)
{
	struct hac_delta d = some_form(w);
	uint64_t epoch = 0;
	int result;

	make_ready(w);
	result = hac_next(w->h, &d, &epoch);
	check_delta(w, &d);
	forget_pages(w);
	must_end(w, result, epoch);
	w->open = true;
}

/* Too small at first, and looked at more than once. */
static void end_own_buffers(struct world *w)
{
	struct hac_delta d = some_form(w);
	uint64_t epoch = 0;
	int result;

	make_ready(w);
	d.runs_max = 1 + below(3);
	d.bytes_max = below(64);
	d.runs = malloc(d.runs_max * sizeof(*d.runs));
	d.bytes = malloc(d.bytes_max + 1);
	CHECK(d.runs && d.bytes);
	result = hac_end(w->h, &d, &epoch);
	if (result == -ENOBUFS) {
		CHECK_IS(hac_begin(w->h), -EBUSY);
		CHECK(d.runs_count > d.runs_max || d.bytes_count > d.bytes_max);
		CHECK_IS(epoch, 0);
		CHECK_IS(epoch_of(w->h), w->epoch);
		d.runs_max = d.runs_count;
		d.bytes_max = d.bytes_count;
		d.runs = realloc(d.runs, d.runs_max * sizeof(*d.runs));
		d.bytes = realloc(d.bytes, d.bytes_max + 1);
		CHECK(d.runs && d.bytes);
		CHECK_OK(hac_prepare(w->h, &d));
		result = hac_finish(w->h, &epoch);
	}
	check_delta(w, &d);
	forget_pages(w);
	must_end(w, result, epoch);
	free(d.runs);
	free(d.bytes);
}

/* What is written after prepare belongs to the next epoch. */
static void end_in_steps(struct world *w)
{
	struct hac_delta d = some_form(w), again = d;
	uint64_t epoch = 0;
	int result;

	CHECK_IS(hac_finish(w->h, &epoch), -EPROTO);
	make_ready(w);
	CHECK_OK(hac_prepare(w->h, &d));
	check_delta(w, &d);
	forget_pages(w);
	write_often(w);
	CHECK_OK(hac_prepare(w->h, &again));
	CHECK(again.runs_count == d.runs_count && again.bytes_count == d.bytes_count);
	CHECK(!d.bytes_count || !memcmp(again.bytes, d.bytes, d.bytes_count));
	result = hac_finish(w->h, &epoch);
	must_end(w, result, epoch);
	CHECK_IS(hac_finish(w->h, &epoch), -EPROTO);
}

static void put_back(struct world *w)
{
	size_t i;

	CHECK_OK(hac_abort(w->h));
	for (i = 0; i < w->count; i++) {
		memcpy(w->areas[i].now, w->areas[i].ended, w->areas[i].size);
		memcpy(w->areas[i].copy, w->areas[i].ended, w->areas[i].size);
	}
	w->open = false;
	CHECK_IS(epoch_of(w->h), w->epoch);
	check_memory(w);
	CHECK_IS(hac_abort(w->h), -EPROTO);
}

static void abort_it(struct world *w)
{
	struct hac_delta d = some_form(w);
	uint64_t epoch = 0;

	if (!w->twin) {
		CHECK_IS(hac_abort(w->h), -EOPNOTSUPP);
		make_ready(w);
		CHECK_OK(hac_end(w->h, &d, &epoch));
		check_delta(w, &d);
		forget_pages(w);
		must_end(w, 0, epoch);
		return;
	}
	if (below(2)) {
		make_ready(w);
		CHECK_OK(hac_prepare(w->h, &d));
		check_delta(w, &d);
		write_often(w);
	}
	put_back(w);
}

static void end_somehow(struct world *w)
{
	switch (below(6)) {
	case 0:
		end_own_buffers(w);
		break;
	case 1:
		end_in_steps(w);
		break;
	case 2:
		end_next(w);
		break;
	case 3:
		abort_it(w);
		break;
	default:
		end_lent(w);
	}
}

static void grow_some(struct world *w)
{
	struct model *m = &w->areas[below(w->count)];
	size_t size = m->size + below(2 * PAGE);

	if (m->adopted) {
		CHECK_IS(hac_grow(w->h, m->name, m->size + 1), -EINVAL);
		return;
	}
	if (size > m->capacity)
		size = m->capacity;
	/* What lies between size and the page's end must not become part of it. */
	if (size > m->size && m->size % PAGE)
		memset(m->memory + m->size, 0xee, PAGE - m->size % PAGE);
	CHECK_OK(hac_grow(w->h, m->name, size));
	if (size > m->size) {
		note(m, m->size, size - m->size);
		m->fresh = true;
	}
	m->size = size;
	check_memory(w);
}

static void drop_and_make(struct world *w)
{
	size_t i = below(w->count);
	struct model old = w->areas[i];

	if (w->open) {
		CHECK_IS(hac_drop(w->h, old.name), -EPROTO);
		return;
	}
	CHECK_OK(hac_drop(w->h, old.name));
	CHECK(!memcmp(old.memory, old.now, old.size));
	w->drops |= !old.fresh || old.ready_size;
	release(&old);
	memmove(&w->areas[i], &w->areas[i + 1], (--w->count - i) * sizeof(old));
	if (below(2))
		map(w, 1 + below(20000), 0);
	else
		adopt(w, 1 + below(20000), below(PAGE));
}

/* -------------------------------------------------------------- programs -- */

static void open_world(struct world *w, const char *engine, bool twin)
{
	memset(w, 0, sizeof(*w));
	w->engine = engine;
	w->twin = twin;
	w->h = open_with(engine, twin ? 0 : HAC_NO_TWIN);
	map(w, 1 + below(300), 0);
	map(w, 100 + below(5 * PAGE), 16 * PAGE);
	map(w, 150000 + below(100000), 400000);
	adopt(w, 5000 + below(30000), 1 + below(PAGE));
	adopt(w, 1 + below(100), below(PAGE)); /* no page of its own */
}

static void step(struct world *w)
{
	size_t what = below(100);

	if (what < 60)
		write_often(w);
	else if (what < 64)
		grow_some(w);
	else if (what < 65 && w->twin)
		drop_and_make(w);
	else if (w->open)
		end_somehow(w);
	else
		begin(w);
}

static void close_world(struct world *w)
{
	size_t i;

	CHECK_OK(hac_close(w->h));
	for (i = 0; i < w->count; i++) {
		/* An open transaction was aborted. */
		CHECK(w->open || !memcmp(w->areas[i].memory, w->areas[i].now, w->areas[i].size));
		CHECK(!w->open || !w->twin ||
		      !memcmp(w->areas[i].memory, w->areas[i].ended, w->areas[i].size));
		release(&w->areas[i]);
	}
	CHECK_IS(hac_begin(w->h), -EBADF);
}

static void programs(const char *engine, bool twin)
{
	unsigned int rounds = UNDER_ASAN || UNDER_TSAN ? 2 : 8, steps = 400, i, k;
	static struct world worlds[WORLDS];

	for (i = 0; i < rounds; i++) {
		seed = 0x9e3779b97f4a7c15ull * (i + 1);
		for (k = 0; k < WORLDS; k++)
			open_world(&worlds[k], engine, twin);
		for (k = 0; k < steps; k++)
			step(&worlds[below(WORLDS)]);
		for (k = 0; k < WORLDS; k++)
			close_world(&worlds[k]);
	}
}

static void with_twin(const char *engine)
{
	programs(engine, true);
}

static void without_twin(const char *engine)
{
	if (strcmp(engine, "compare")) {
		programs(engine, false);
		return;
	}
	struct hac_options o = { .size = sizeof(o), .engine = engine, .flags = HAC_NO_TWIN };
	hac *h;

	CHECK_IS(hac_open(NULL, &o, &h), -EINVAL);
}

/* Runs alone are refused where the bytes are needed anyway. */
static void runs_only(const char *engine)
{
	hac *h = open_with(engine, 0);
	struct hac_delta d = { .size = sizeof(d), .flags = HAC_RUNS_ONLY };
	void *p;

	CHECK_OK(hac_map(h, "a", 100, NULL, &p));
	CHECK_OK(hac_begin(h));
	CHECK_IS(hac_end(h, &d, NULL), -EINVAL);
	CHECK_OK(hac_end(h, NULL, NULL));
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_unmap(p));
}

/* Strict: strays are refused and none is lost. */
static void strict(const char *engine)
{
	hac *h = open_with(engine, HAC_STRICT);
	struct hac_delta d = { .size = sizeof(d) };
	unsigned char *p;
	void *address;

	CHECK_OK(hac_map(h, "a", 200000, NULL, &address));
	p = address;
	p[5] = 1; /* filling it in */
	CHECK_OK(hac_begin(h));
	CHECK_OK(hac_end(h, NULL, NULL));
	p[150000] = 7;
	CHECK_IS(hac_begin(h), -EREMCHG);
	CHECK_DETAIL("150000");
	CHECK_IS(hac_close(h), -EREMCHG);
	CHECK_IS(epoch_of(h), 2);
	p[150000] = 0;
	CHECK_OK(hac_begin(h));
	p[150000] = 7;
	CHECK_OK(hac_end(h, &d, NULL));
	CHECK_IS(d.runs_count, 1);
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_unmap(p));
}

int main(void)
{
	EACH_ENGINE(with_twin);
	EACH_ENGINE(without_twin);
	EACH_ENGINE(runs_only);
	EACH_ENGINE(strict);
	return 0;
}
