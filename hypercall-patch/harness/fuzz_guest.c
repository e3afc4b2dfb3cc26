// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest at random: processes that store, fork and exit; a kernel that maps,
 * protects, moves, swaps, merges and copies their pages, and writes to them by
 * a mapping of its own; calls through the gate, on one and two CPUs. The kernel
 * changes entries as Linux does under Xen, in the same steps.
 *
 * A plain copy of all bytes is the oracle:
 *   - memory is what was stored, in every process, always;
 *   - what a call reports, pages and log, makes a replica of the area equal;
 *   - no entry is writable that the kernel has not made so, or whose page is
 *     shared;
 *   - nothing is left of processes that have ended.
 *	fuzz_guest [ROUNDS [SEED]]	HAC_FUZZ_ROUNDS=N
 */
#include "guest.h"

#define LOG_ENTRIES 48

/* Nothing fails, and nobody comes between: the log's values are what was stored. */
static bool strict;

/* ---- the program ---- */

static bool enter(struct process *p, unsigned int r, unsigned int i, bool write)
{
	bool ok;

	lock_kernel();
	ok = fault(p, r, i, write);
	unlock_kernel();
	return ok;
}

static const struct {
	uint8_t code[16];
	unsigned int width;
} stores[] = { { { 0x88, 0x07 }, 1 },
	       { { 0x66, 0x89, 0x07 }, 2 },
	       { { 0x89, 0x07 }, 4 },
	       { { 0x48, 0x89, 0x07 }, 8 },
	       { { 0x87, 0x07 }, 4 } }; /* the last is not emulated */

static void store(unsigned int r, unsigned int i, unsigned int at, unsigned int kind,
		  uint64_t value)
{
	struct process *p = running[hx_cpu];
	unsigned long addr = address(r, i) + at, code = (unsigned long)stores[kind].code;
	unsigned int error, tries = 0;
	struct cpu_user_regs regs = { .rax = value, .rdi = addr, .cs = FLAT_USER_CS64 };

	regs.rip = code;
	for (;;) {
		if (p->page[r][i].busy)
			return;
		hx_store_at[hx_cpu] = addr;
		error = hx_cpu_store(addr, value, stores[kind].width);
		if (!error)
			break;
		MUST(tries++ < 1000, "the store never gets done");
		regs.error_code = error & ~FAULT;
		if (!hac_page_fault(addr, &regs)) {
			if (!enter(p, r, i, true))
				return;
		} else if (regs.rip != code) {
			return;
		}
		hx_yield();
	}
}

static void read_back(unsigned int r, unsigned int i)
{
	struct process *p = running[hx_cpu];
	mfn_t mfn;

	while (!p->page[r][i].busy && hx_access(address(r, i), false, &mfn))
		if (!enter(p, r, i, false))
			return;
	if (!p->page[r][i].busy && !is_log(r))
		MUST(!memcmp(hx_memory[mfn_x(mfn)], p->page[r][i].truth, BYTES),
		     "page %u/%u reads as something else", r, i);
}

/* Two threads never write the same word. */
static void store_somewhere(void)
{
	unsigned int kind = hx_random(ARRAY_SIZE(stores)), width = stores[kind].width;
	unsigned int at = 8 * hx_cpu + 24 * hx_random(2) + width * hx_random(8 / width);

	store(hx_random(LOG_REGION), hx_random(SLOTS), at, kind,
	      hx_random(3) ? 0 : hx_random(1000000));
}

/* ---- calls ---- */

static uint32_t lists[HX_CPUS][4096];
static const unsigned long odd[] = { 0, 1, 7, 4095, 1UL << 47, ~0UL, 0x8000000000000000UL, BASE };

static bool covers(const struct watched *a, unsigned int r, unsigned int i)
{
	return r * 512 + slots[i] - a->start < a->pages;
}

static uint64_t log_address(const struct process *p, const struct watched *a)
{
	return address(LOG_REGION, 1 + (a - p->area));
}

static void compare(struct process *p, const struct watched *a)
{
	unsigned int r, i;

	for (r = 0; r < LOG_REGION; r++)
		for (i = 0; i < SLOTS; i++)
			MUST(!covers(a, r, i) || p->page[r][i].fresh ||
				     !memcmp(a->replica[r][i], p->page[r][i].truth, BYTES),
			     "process %zd, handler %u: page %u/%u differs from the replica",
			     p - processes, a->handler, r, i);
}

static void copy_replica(const struct process *p, struct watched *a)
{
	unsigned int r, i;

	for (r = 0; r < LOG_REGION; r++)
		for (i = 0; i < SLOTS; i++) {
			memcpy(a->replica[r][i], p->page[r][i].truth, BYTES);
			a->later[r][i] = p->page[r][i].busy;
		}
}

/* One entry of the log, and width 0 in its place. */
static struct hac_xen_store take_entry(struct process *p, uint64_t at)
{
	unsigned int r, i;
	struct hac_xen_store s;
	mfn_t mfn;

	MUST(find(at, &r, &i), "no log");
	while (hx_access(at, false, &mfn))
		enter(p, r, i, false);
	memcpy(&s, hx_memory[mfn_x(mfn)] + (at & ~PAGE_MASK), sizeof(s));
	store(r, i, (at & ~PAGE_MASK) + offsetof(struct hac_xen_store, width), 2, 0);
	return s;
}

static void replay(struct process *p, struct watched *a, unsigned long second)
{
	unsigned int n = second & ~HAC_XEN_SECOND_HALF, k, r, i, at;
	uint64_t log = log_address(p, a);

	MUST(n <= LOG_ENTRIES, "%u entries", n);
	if (second & HAC_XEN_SECOND_HALF)
		log += LOG_ENTRIES * sizeof(struct hac_xen_store);
	for (k = 0; k < n; k++) {
		struct hac_xen_store s = take_entry(p, log + k * sizeof(s));

		if (!s.width)
			continue;
		MUST(find(s.address, &r, &i) && covers(a, r, i), "an entry of another area");
		at = s.address & ~PAGE_MASK;
		MUST(at + s.width <= BYTES, "an entry that nobody wrote");
		/* A store that was not done after all may be in it, if its entry
		 * could not be taken back: then memory counts, not the value. */
		memcpy(a->replica[r][i] + at, strict ? (void *)&s.value : p->page[r][i].truth + at,
		       s.width);
		done[LOG_ENTRIES_READ]++;
	}
}

static void take_page(struct process *p, struct watched *a, uint32_t number)
{
	unsigned int r, i;

	MUST(number < a->pages, "page %u", number);
	if (!find(BASE + ((unsigned long)(a->start + number) << PAGE_SHIFT), &r, &i))
		return;
	memcpy(a->replica[r][i], p->page[r][i].truth, BYTES);
	a->later[r][i] = p->page[r][i].busy;
}

static void nothing_is_missing(struct process *p, const struct watched *a, unsigned long from)
{
	unsigned int r, i;

	for (r = 0; r < LOG_REGION; r++)
		for (i = 0; i < SLOTS; i++) {
			const struct page *page = &p->page[r][i];

			MUST(!covers(a, r, i) || page->busy || !page->written ||
				     page->written >= from,
			     "process %zd, handler %u: the write to page %u/%u at %lu is lost",
			     p - processes, a->handler, r, i, page->written);
		}
}

static void forget_written(struct process *p, const struct watched *a, uint32_t number)
{
	unsigned int r, i;

	if (find(BASE + ((unsigned long)(a->start + number) << PAGE_SHIFT), &r, &i))
		p->page[r][i].written = 0;
}

static struct hac_xen_keep *some_pages(const struct watched *a)
{
	static struct hac_xen_keep keep[HX_CPUS];
	static uint32_t kept[HX_CPUS][2];

	if (hx_random(4))
		return NULL;
	kept[hx_cpu][0] = hx_random(a->pages);
	kept[hx_cpu][1] = hx_random(a->pages);
	keep[hx_cpu].pages = (unsigned long)kept[hx_cpu];
	keep[hx_cpu].count = hx_random(3);
	return &keep[hx_cpu];
}

/* What a log holds of stores outside of a transaction, of another area, of the parent. */
static void clear_log(struct process *p, const struct watched *a)
{
	unsigned int k;

	for (k = 0; k < 2 * LOG_ENTRIES && a->handler == HAC_XEN_EMULATION; k++)
		take_entry(p, log_address(p, a) + k * sizeof(struct hac_xen_store));
}

static void begin(struct process *p, struct watched *a)
{
	unsigned long keep = (unsigned long)some_pages(a);
	unsigned int r, i;
	long rc;

	clear_log(p, a);
	do
		rc = hx_call(HAC_XEN_begin, a->number, keep, 0, 0, 0, NULL);
	while (rc == HAC_XEN_MORE || rc == -EFAULT);
	MUST(!rc, "begin: %ld", rc);
	a->open = true;
	for (r = 0; r < LOG_REGION; r++)
		for (i = 0; i < SLOTS; i++)
			if (covers(a, r, i))
				p->page[r][i].written = 0;
	copy_replica(p, a);
}

/* end, next: all of what they report, and whether that is enough. */
static void harvest(struct process *p, struct watched *a, unsigned int call)
{
	unsigned long from = ++hx_now, second = 0;
	unsigned long keep = call == HAC_XEN_next ? (unsigned long)some_pages(a) : 0;
	unsigned int room = hx_random(2) ? 1024 : 1 + hx_random(9), n = 0, got, k;
	uint32_t *list = lists[hx_cpu];
	long rc;

	do {
		rc = hx_call(call, a->number, (unsigned long)(list + n), room, 0, keep, &second);
		if (rc == -EFAULT)
			continue;
		MUST(rc >= 0, "call %u: %ld", call, rc);
		got = rc & HAC_XEN_COUNT;
		for (k = n; k < n + got; k++) {
			MUST(!k || list[k] > list[k - 1], "page %u after %u", list[k], list[k - 1]);
			forget_written(p, a, list[k]);
		}
		n += got;
		MUST(n + 1024 < ARRAY_SIZE(lists[0]), "too many pages");
	} while (rc == -EFAULT || (rc & HAC_XEN_MORE));
	nothing_is_missing(p, a, from);
	if (a->handler == HAC_XEN_EMULATION)
		replay(p, a, second);
	for (k = 0; k < n; k++)
		take_page(p, a, list[k]);
	if (!hx_turns)
		compare(p, a);
	a->open = call == HAC_XEN_next;
	done[REPORTS + a->handler]++;
}

static void register_some(struct process *p)
{
	struct watched *a = &p->area[hx_random(AREAS)];
	struct hac_xen_area *request;
	static struct hac_xen_area requests[HX_CPUS];
	long rc;

	if (a->used || a->busy)
		return;
	a->busy = true;
	a->handler = hx_random(HAC_XEN_HANDLERS);
	a->start = hx_random(LOG_REGION * 512 - 1);
	a->pages = 1 + hx_random(LOG_REGION * 512 - a->start - 1);
	request = &requests[hx_cpu];
	*request = (struct hac_xen_area){
		.start = BASE + ((unsigned long)a->start << PAGE_SHIFT),
		.pages = a->pages,
		.handler = a->handler,
		.log = a->handler == HAC_XEN_EMULATION ? log_address(p, a) : 0,
		.log_entries = a->handler == HAC_XEN_EMULATION ? 2 * LOG_ENTRIES : 0,
	};
	rc = hx_call(HAC_XEN_register_area, (unsigned long)request, 0, 0, 0, 0, NULL);
	a->number = rc;
	a->used = rc >= 0;
	a->open = false;
	if (a->used)
		begin(p, a);
	else
		MUST(rc == -EINVAL || rc == -EFAULT, "register: %ld", rc); /* they overlap */
	a->busy = false;
}

static void abort_it(struct process *p, struct watched *a)
{
	long rc;

	do
		rc = hx_call(HAC_XEN_abort, a->number, 0, 0, 0, 0, NULL);
	while (rc == HAC_XEN_MORE);
	MUST(!rc, "abort: %ld", rc);
	a->open = false;
}

static void unregister(struct process *p, struct watched *a)
{
	long rc;

	do
		rc = hx_call(HAC_XEN_unregister_area, a->number, 0, 0, 0, 0, NULL);
	while (rc == HAC_XEN_MORE);
	MUST(!rc, "unregister: %ld", rc);
	a->used = a->open = false;
}

static void call_area(struct process *p)
{
	struct watched *a = &p->area[hx_random(AREAS)];
	unsigned int what = hx_random(20);
	static struct hac_xen_statistics out[HX_CPUS];

	if (!a->used || a->busy)
		return;
	a->busy = true;
	if (!a->open)
		begin(p, a);
	else if (what < 14)
		harvest(p, a, HAC_XEN_next);
	else if (what < 16)
		harvest(p, a, HAC_XEN_end);
	else if (what < 17)
		abort_it(p, a);
	else if (what < 18)
		unregister(p, a);
	else if (what < 19)
		hx_call(HAC_XEN_next, a->number, (unsigned long)lists[hx_cpu], 1024, HAC_XEN_PEEK,
			hx_random(a->pages), NULL);
	else
		hx_call(HAC_XEN_statistics, a->number, (unsigned long)&out[hx_cpu], 0, 0, 0, NULL);
	a->busy = false;
}

/* Nothing that names an area that is there. */
static void call_nonsense(void)
{
	static struct hac_xen_area requests[HX_CPUS];
	struct hac_xen_area *request = &requests[hx_cpu];
	unsigned int number = hx_random(10);
	unsigned long a[4], first;
	unsigned int k;
	long rc;

	for (k = 0; k < 4; k++)
		a[k] = hx_random(2) ? odd[hx_random(ARRAY_SIZE(odd))] :
				      (unsigned long)lists[hx_cpu] + hx_random(9);
	*request = (struct hac_xen_area){
		odd[hx_random(ARRAY_SIZE(odd))],
		odd[hx_random(ARRAY_SIZE(odd))],
		hx_random(4),
		odd[hx_random(ARRAY_SIZE(odd))],
		hx_random(9),
		!hx_random(9),
	};
	first = 20 + odd[hx_random(ARRAY_SIZE(odd))]; /* numbers that no area has */
	if (number == HAC_XEN_register_area)
		first = hx_random(2) ? (unsigned long)request : odd[hx_random(4)];
	rc = hx_call(number, first, a[0], a[1], a[2], a[3], NULL);
	if (number == HAC_XEN_register_area && rc >= 0)
		hx_call(HAC_XEN_unregister_area, rc, 0, 0, 0, 0, NULL);
}

/* ---- at random ---- */

static void take_moved(struct process *p, unsigned int r, unsigned int i)
{
	unsigned int k;

	for (k = 0; k < AREAS; k++)
		if (p->area[k].later[r][i]) {
			memcpy(p->area[k].replica[r][i], p->page[r][i].truth, BYTES);
			p->area[k].later[r][i] = false;
		}
}

/* What the program asks of its own memory, with no thread writing there. */
static void own_memory(struct process *p)
{
	unsigned int r = hx_random(LOG_REGION), to = hx_random(LOG_REGION), k;
	unsigned int i = hx_random(SLOTS), j = hx_random(SLOTS), what = hx_random(9);

	for (k = 0; k < SLOTS; k++)
		if (p->page[r][k].busy || p->page[to][k].busy)
			return;
	for (k = 0; k < SLOTS; k++)
		p->page[r][k].busy = p->page[to][k].busy = true;
	if (what < 3)
		do_mprotect(p, r, i);
	else if (what < 4)
		do_munmap(p, r);
	else if (what < 5)
		unmap_page(p, r, i);
	else if (what < 6)
		p->page[r][i].vma = p->page[r][i].fresh ? WRITE : p->page[r][i].vma;
	else if (what < 8 && (r != to || i != j))
		do_mremap(p, r, i, to, j);
	else if (r != to) {
		do_munmap(p, to);
		do_mremap_table(p, r, to);
	}
	for (k = 0; k < SLOTS; k++) {
		take_moved(p, r, k);
		take_moved(p, to, k);
		p->page[r][k].busy = p->page[to][k].busy = false;
	}
}

static void kernel(void)
{
	unsigned int what = hx_random(20);
	struct process *p;

	lock_kernel();
	p = any();
	if (what < 1)
		do_fork();
	else if (what < 2)
		do_exit();
	else if (what < 5)
		own_memory(running[hx_cpu]);
	else if (what < 10)
		swap_out(p, hx_random(USED), hx_random(SLOTS));
	else if (what < 14)
		merge();
	else if (what < 17)
		kernel_write(p, hx_random(LOG_REGION), hx_random(SLOTS));
	else if (what < 19)
		switch_to(p);
	else if (pte(p, 0, 1))
		change_pte(p, 0, 1, _PAGE_ACCESSED);
	check_all();
	unlock_kernel();
}

static void cpu_body(void)
{
	unsigned int i;

	for (i = 0; i < 800; i++) {
		unsigned int what = hx_random(60);

		if (what < 36)
			store_somewhere();
		else if (what < 41)
			read_back(hx_random(USED), hx_random(SLOTS));
		else if (what < 48)
			kernel();
		else if (what < 57)
			call_area(running[hx_cpu]);
		else if (what < 59)
			register_some(running[hx_cpu]);
		else
			call_nonsense();
	}
}

/* One last look at all areas. */
static void look(void)
{
	struct process *p;
	unsigned int k;

	running[1] = NULL;
	for (p = processes; p < processes + PROCESSES; p++) {
		if (!p->alive)
			continue;
		switch_to(p);
		for (k = 0; k < AREAS; k++)
			if (p->area[k].open)
				harvest(p, &p->area[k], HAC_XEN_next);
	}
	check_all();
}

int main(int argc, char **argv)
{
	static const char *const names[] = { "stores emulated",
					     "forks",
					     "exits",
					     "unmapped regions",
					     "mprotect",
					     "pages moved",
					     "tables moved",
					     "pages written to swap",
					     "pages swapped out",
					     "pages merged",
					     "kernel writes",
					     "log entries",
					     "reports of tracking",
					     "of emulation",
					     "of scans" };
	const char *wanted = getenv("HAC_FUZZ_ROUNDS");
	unsigned long rounds = strtoul(argc > 1 ? argv[1] : wanted ? wanted : "600", NULL, 0);
	unsigned long seed = argc > 2 ? strtoul(argv[2], NULL, 0) : 1, i;

	for (i = 0; i < rounds; i++) {
		hx_seed = seed + i;
		guest_start(1 + hx_seed % 2);
		hx_fail_copy = hx_seed / 2 % 2 ? 20 : 0;
		strict = !(hx_seed % 2) && !hx_fail_copy;
		hx_run(cpu_body);
		hx_fail_copy = 0;
		look();
		guest_stop();
	}
	printf("guest: %lu random rounds", rounds);
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		printf("%s %lu %s", i ? "," : ":", done[i], names[i]);
		MUST(done[i] || rounds < 600, "no %s", names[i]);
	}
	putchar('\n');
	return 0;
}
