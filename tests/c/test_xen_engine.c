// SPDX-License-Identifier: MIT
/*
 * The engines over Xen without Xen: the gate is replaced by a small model of
 * the hypervisor, which notices writes by comparing. It is as unpleasant as the
 * rules allow: it does little in a call, finds buffers not writable, is busy.
 * That the model is right is for tests/xen to show.
 */
#include "each_engine.h"

#include "xen_gate.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096u
#define AREAS HAC_XEN_MAX_AREAS

static const char *const names[] = { "ptxen", "emulxen", "scanxen" };

/* ------------------------------------------------------------ the model -- */

struct watched {
	struct hac_xen_area request;
	bool there, open;
	unsigned char *copy; /* as last reported */
	bool *dirty;
	uint32_t cursor;
	uint32_t used; /* in the half of the log being filled */
	bool second;
};

static struct {
	struct watched areas[AREAS];
	uint32_t handlers;
	int count, most;
	uint32_t at_once; /* pages in a call */
	bool faulty;      /* every other call finds its buffer not writable */
	bool busy;
	unsigned long long random;
	unsigned long calls, faults;
} xen = { .handlers = (1u << HAC_XEN_HANDLERS) - 1, .at_once = 3, .random = 99 };

static bool read_page(const struct watched *w, uint32_t page, unsigned char *to)
{
	struct iovec local = { to, PAGE };
	struct iovec remote = { (void *)(uintptr_t)(w->request.start + (uint64_t)page * PAGE),
				PAGE };

	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == PAGE;
}

/* A store that the model sees: into the log, or the page counts as opened. */
static void note_store(struct watched *w, uint32_t page, uint32_t at, const unsigned char *value)
{
	struct hac_xen_store *log = (void *)(uintptr_t)w->request.log;
	uint32_t half = w->request.log_entries / 2;

	if (w->request.handler != HAC_XEN_EMULATION || w->used == half ||
	    check_random(&xen.random) % 8 == 0) {
		w->dirty[page] = true;
		return;
	}
	log += w->second ? half : 0;
	log += w->used++;
	CHECK_MSG(!log->width, "an entry that was not taken back");
	*log = (struct hac_xen_store){
		.address = w->request.start + (uint64_t)page * PAGE + at,
		.width = 8,
	};
	memcpy(&log->value, value, 8);
}

static void look(struct watched *w)
{
	unsigned char now[PAGE];
	uint32_t page, at;

	for (page = 0; page < w->request.pages; page++) {
		unsigned char *copy = w->copy + (size_t)page * PAGE;

		if (!read_page(w, page, now) || !memcmp(copy, now, PAGE))
			continue;
		for (at = 0; at < PAGE && w->open; at += 8)
			if (memcmp(copy + at, now + at, 8))
				note_store(w, page, at, now + at);
		memcpy(copy, now, PAGE);
	}
}

static void forget(struct watched *w)
{
	look(w);
	memset(w->dirty, 0, w->request.pages);
	w->used = 0;
	w->second = !w->second;
}

static long register_area(const struct hac_xen_area *request)
{
	struct watched *w = xen.areas;
	uint32_t i;

	CHECK(!(request->start % PAGE) && request->pages && !request->reserved);
	CHECK(!request->log == (request->handler != HAC_XEN_EMULATION));
	for (i = 0; i < AREAS; i++) {
		uint64_t end = w[i].request.start + (uint64_t)w[i].request.pages * PAGE;

		CHECK(!w[i].there || request->start >= end ||
		      request->start + (uint64_t)request->pages * PAGE <= w[i].request.start);
	}
	for (i = 0; i < AREAS && w[i].there; i++)
		;
	if (i == AREAS)
		return -ENOSPC;
	w[i] = (struct watched){ .request = *request, .there = true };
	w[i].copy = mmap(NULL, (size_t)request->pages * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	w[i].dirty = calloc(request->pages, 1);
	CHECK(w[i].copy != MAP_FAILED && w[i].dirty);
	xen.count++;
	if (xen.most < xen.count)
		xen.most = xen.count;
	return i;
}

static long unregister(struct watched *w)
{
	if (check_random(&xen.random) % 2)
		return HAC_XEN_MORE;
	munmap(w->copy, (size_t)w->request.pages * PAGE);
	free(w->dirty);
	w->there = false;
	xen.count--;
	return 0;
}

static long begin(struct watched *w)
{
	CHECK(!w->open);
	if (check_random(&xen.random) % 2)
		return HAC_XEN_MORE;
	forget(w);
	w->open = true;
	return 0;
}

static long next(struct watched *w, const struct xen_arguments *a, uint32_t *second)
{
	uint32_t *pages = (uint32_t *)a->a2, count = 0, page;
	bool peek = a->a4 & HAC_XEN_PEEK || !a->a3;
	bool more = false;

	CHECK(w->open);
	if (xen.busy)
		return -EBUSY;
	if (a->a3 && xen.faulty && ++xen.faults % 2)
		return -EFAULT;
	look(w);
	for (page = peek ? (uint32_t)a->a5 : w->cursor; page < w->request.pages; page++) {
		if (!w->dirty[page])
			continue;
		if (count == a->a3 || count == xen.at_once) {
			more = true;
			break;
		}
		pages[count++] = page;
		if (!peek)
			w->dirty[page] = false;
	}
	*second = w->used | (w->second ? HAC_XEN_SECOND_HALF : 0);
	if (!peek) {
		w->cursor = more ? page : 0;
		w->second ^= !more;
		w->used = more ? w->used : 0;
	}
	return count | (more ? HAC_XEN_MORE : 0);
}

static long fake_gate(uint32_t call, const struct xen_arguments *a, uint32_t *second)
{
	struct watched *w = &xen.areas[a->a1 % AREAS];

	xen.calls++;
	switch (call) {
	case HAC_XEN_version:
		*second = xen.handlers;
		return HAC_XEN_VERSION;
	case HAC_XEN_register_area:
		return xen.busy ? -EBUSY : register_area((void *)a->a1);
	}
	CHECK(a->a1 < AREAS && w->there);
	switch (call) {
	case HAC_XEN_unregister_area:
		return unregister(w);
	case HAC_XEN_begin:
		return begin(w);
	case HAC_XEN_next:
		return next(w, a, second);
	}
	CHECK_MSG(false, "call %u", call);
	return -ENOSYS;
}

/* ------------------------------------------------------------- the tests -- */

static unsigned long long seed;

static void apply(const struct hac_delta *d, unsigned char *replica)
{
	const unsigned char *bytes = d->bytes;
	size_t i;

	for (i = 0; i < d->runs_count; i++) {
		memcpy(replica + d->runs[i].offset, bytes, d->runs[i].length);
		bytes += d->runs[i].length;
	}
}

static void write_words(unsigned char *memory, unsigned char *now, size_t size)
{
	size_t n = check_random(&seed) % 40, at;

	while (n--) {
		uint64_t value = check_random(&seed);

		at = check_random(&seed) % (size / 8) * 8;
		memcpy(memory + at, &value, 8);
		memcpy(now + at, &value, 8);
	}
}

/* Growth, abort, several ends: what is reported gives the same bytes. */
static void transactions(const char *engine, uint32_t flags)
{
	struct hac_area_options o = { .size = sizeof(o), .capacity = 6u << 20 };
	hac *h = open_with(engine, flags);
	size_t size = 100 * PAGE, i;
	unsigned char *memory, *now = calloc(1, o.capacity), *replica = calloc(1, o.capacity);
	struct hac_delta d = { .size = sizeof(d) };
	void *address;

	CHECK(now && replica);
	CHECK_OK(hac_map(h, "a", size, &o, &address));
	memory = address;
	for (i = 0; i < 100; i++) {
		if (i % 25 == 20)
			write_words(memory, now, size); /* strays */
		CHECK_OK(hac_begin(h));
		memcpy(replica, now, size);
		write_words(memory, now, size);
		if (i % 10 == 3) {
			size += size / 20;
			CHECK_OK(hac_grow(h, "a", size));
			size = size / 8 * 8;
			write_words(memory, now, size);
		}
		if (i % 10 == 5 && !(flags & HAC_NO_TWIN)) {
			CHECK_OK(hac_abort(h));
			memcpy(now, replica, size);
		} else {
			CHECK_OK(i % 3 ? hac_end(h, &d, NULL) : hac_next(h, &d, NULL));
			apply(&d, replica);
			CHECK_MSG(!memcmp(replica, now, size), "%s, round %zu", engine, i);
			if (i % 3 == 0) {
				CHECK_OK(hac_end(h, &d, NULL));
				CHECK_IS(d.runs_count, 0);
			}
		}
		CHECK(!memcmp(memory, now, size));
	}
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_unmap(address));
	CHECK_IS(xen.count, 0);
	free(now);
	free(replica);
}

static void engines_find_changes(void)
{
	size_t i;

	for (i = 0; i < 3; i++) {
		xen.most = 0;
		seed = 7 + i;
		transactions(names[i], 0);
		/* However often it grew. */
		CHECK_MSG(xen.most <= 12, "%d areas of Xen's for one", xen.most);
		xen.at_once = 1000;
		xen.faulty = true;
		transactions(names[i], 0);
		transactions(names[i], HAC_NO_TWIN);
		xen.at_once = 3;
		xen.faulty = false;
	}
}

/* Page lists without a twin are the pages; word lists the words. */
static void lists_are_exact(void)
{
	size_t i;

	for (i = 0; i < 3; i++) {
		hac *h = open_with(names[i], HAC_NO_TWIN);
		struct hac_delta d = { .size = sizeof(d), .flags = HAC_RUNS_ONLY };
		struct hac_stats stats = { .size = sizeof(stats) };
		bool words = i == HAC_XEN_EMULATION;
		void *p;

		CHECK_OK(hac_map(h, "a", 20 * PAGE, NULL, &p));
		CHECK_OK(hac_begin(h));
		CHECK_OK(hac_end(h, NULL, NULL));
		CHECK_OK(hac_begin(h));
		xen.random = 1; /* whose first stores are logged */
		((uint64_t *)p)[5 * 512 + 7] = 1;
		((uint64_t *)p)[9 * 512] = 2;
		CHECK_OK(hac_end(h, &d, NULL));
		CHECK_IS(d.runs_count, 2);
		CHECK_IS(d.runs[0].offset, 5 * PAGE + (words ? 56 : 0));
		CHECK_IS(d.runs[0].length, words ? 8 : PAGE);
		CHECK_IS(d.runs[1].offset, 9 * PAGE);
		CHECK_OK(hac_get_stats(h, &stats));
		CHECK_IS(stats.writes, words ? 2ull : UINT64_MAX);
		CHECK_IS(stats.faults, 0);
		CHECK_OK(hac_close(h));
		CHECK_OK(hac_unmap(p));
	}
}

/* While a domain migrates nothing is watched; all is compared. */
static void busy(void)
{
	hac *h = open_with("ptxen", 0);
	struct hac_delta d = { .size = sizeof(d) };
	void *p, *other;

	CHECK_OK(hac_map(h, "a", 20 * PAGE, NULL, &p));
	CHECK_OK(hac_begin(h));
	CHECK_OK(hac_end(h, NULL, NULL));
	CHECK_OK(hac_begin(h));
	((uint64_t *)p)[700] = 3;
	xen.busy = true;
	CHECK_OK(hac_end(h, &d, NULL));
	CHECK_IS(d.runs_count, 1);
	CHECK_IS(d.runs[0].offset, 5600);
	CHECK_OK(hac_map(h, "b", PAGE, NULL, &other));
	CHECK_IS(hac_begin(h), -EBUSY);
	xen.busy = false;
	CHECK_OK(hac_begin(h));
	CHECK_OK(hac_abort(h));
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_unmap(p));
	CHECK_OK(hac_unmap(other));
	CHECK_IS(xen.count, 0);
}

/* What the kernel writes past the program's mapping sets no dirty bit. */
static void announced(void)
{
	hac *h = open_with("scanxen", HAC_NO_TWIN);
	struct hac_delta d = { .size = sizeof(d), .flags = HAC_RUNS_ONLY };
	void *p;

	CHECK_OK(hac_map(h, "a", 20 * PAGE, NULL, &p));
	CHECK_OK(hac_begin(h));
	CHECK_OK(hac_end(h, NULL, NULL));
	CHECK_OK(hac_begin(h));
	CHECK_OK(hac_will_write(h, (char *)p + 3 * PAGE + 1, PAGE));
	CHECK_OK(hac_will_write(h, (char *)p + 1, 1));
	CHECK_OK(hac_end(h, &d, NULL));
	CHECK_IS(d.runs_count, 2);
	CHECK_IS(d.runs[0].offset, 0);
	CHECK_IS(d.runs[0].length, PAGE);
	CHECK_IS(d.runs[1].offset, 3 * PAGE);
	CHECK_IS(d.runs[1].length, 2 * PAGE);
	CHECK_OK(hac_begin(h));
	CHECK_OK(hac_end(h, &d, NULL));
	CHECK_IS(d.runs_count, 0);
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_unmap(p));
}

/* An address space has so many; the area that is too many is refused. */
static void many(void)
{
	hac *h = open_with("ptxen", 0);
	void *p[AREAS + 1];
	char name[16];
	size_t i;

	for (i = 0; i <= AREAS; i++) {
		snprintf(name, sizeof(name), "a%zu", i);
		CHECK_OK(hac_map(h, name, PAGE, NULL, &p[i]));
	}
	CHECK_IS(hac_begin(h), -ENOSPC);
	CHECK_DETAIL("a64");
	CHECK_OK(hac_drop(h, "a10"));
	CHECK_OK(hac_begin(h));
	CHECK_OK(hac_end(h, NULL, NULL));
	CHECK_OK(hac_close(h));
	for (i = 0; i <= AREAS; i++)
		CHECK_OK(hac_unmap(p[i]));
	CHECK_IS(xen.count, 0);
}

/* Without the model. */
static void reasons(void)
{
	char reason[192] = "";
	uint32_t handler;
	FILE *f = fopen("/sys/hypervisor/type", "re");
	bool is_xen = f;

	if (f)
		fclose(f);
	for (handler = 0; handler < HAC_XEN_HANDLERS && !is_xen; handler++) {
		CHECK_IS(xen_gate_probe(handler, reason, sizeof(reason)), -ENODEV);
#if defined(__x86_64__) || defined(__i386__)
		CHECK_MSG(strstr(reason, "not a Xen PV guest"), "%s", reason);
#endif
	}
}

static void partly_offered(void)
{
	char reason[192] = "";

	xen.handlers = 1u << HAC_XEN_TRACKING;
	CHECK_OK(xen_gate_probe(HAC_XEN_TRACKING, reason, sizeof(reason)));
	CHECK_IS(xen_gate_probe(HAC_XEN_SCAN, reason, sizeof(reason)), -ENODEV);
	CHECK_MSG(strstr(reason, "does not offer"), "%s", reason);
	xen.handlers = (1u << HAC_XEN_HANDLERS) - 1;
}

int main(void)
{
	size_t i;

	RUN(reasons);
	xen_gate = fake_gate;
	RUN(partly_offered);
	for (i = 0; i < 3; i++)
		CHECK_MSG(engine_works(names[i]), "%s", names[i]);
	RUN(engines_find_changes);
	RUN(lists_are_exact);
	RUN(busy);
	RUN(announced);
	RUN(many);
	CHECK_IS(xen.count, 0);
	return 0;
}
