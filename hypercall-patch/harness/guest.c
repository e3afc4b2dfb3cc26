// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel of the guest: tables, faults, processes. It changes entries as
 * Linux does under Xen, in the same steps.
 */
#include "guest.h"

struct process processes[PROCESSES], *running[HX_CPUS];
struct frame frames[HX_FRAMES];
struct swap_slot swap[SWAP];
const unsigned int slots[SLOTS] = { 0, 1, 2, 63, 64, 300, 510, 511 };
mfn_t zero;
unsigned long done[DID];

static struct process *forking;
static bool kernel_locked;
/* What the kernel last wrote to an entry: writable? */
static bool opened[HX_FRAMES][512];

/* ---- tables ---- */

intpte_t *entry(mfn_t table, unsigned int i)
{
	return (intpte_t *)hx_memory[mfn_x(table)] + i;
}

mfn_t table_of(const struct process *p, unsigned int r)
{
	intpte_t e = *entry(p->l2, r);

	return e ? _mfn(PFN_OF_(e)) : INVALID_MFN;
}

intpte_t *pte(const struct process *p, unsigned int r, unsigned int i)
{
	mfn_t table = table_of(p, r);

	return mfn_eq(table, INVALID_MFN) ? NULL : entry(table, slots[i]);
}

unsigned long address(unsigned int r, unsigned int i)
{
	return BASE + ((unsigned long)r << REGION_SHIFT) + ((unsigned long)slots[i] << PAGE_SHIFT);
}

void promote(mfn_t mfn, unsigned long level)
{
	l1_pgentry_t *e = (l1_pgentry_t *)entry(mfn, 0);
	unsigned int i;

	for (i = 0; level == 1 && i < 512; i++) {
		hac_l1e_promote(&hx_domain, &e[i]);
		if ((e[i].l1 & _PAGE_PRESENT) && (e[i].l1 & _PAGE_RW))
			MUST(get_page_type(l1e_get_page(e[i]), PGT_writable_page), "no type");
	}
	mfn_to_page(mfn)->u.inuse.type_info = (level << 61) | PGT_validated | 1;
}

void demote(mfn_t mfn)
{
	unsigned long *type = &mfn_to_page(mfn)->u.inuse.type_info;
	unsigned int i;

	while (*type & PGT_locked)
		hx_wait();
	*type &= ~(PGT_validated | PGT_count_mask);
	if (*type == PGT_l4_page_table)
		hac_l4_demote(&hx_domain, mfn);
	if (*type == PGT_l1_page_table) {
		hac_l1_demote(&hx_domain, mfn, (l1_pgentry_t *)entry(mfn, 0));
		for (i = 0; i < 512; i++)
			if ((*entry(mfn, i) & _PAGE_PRESENT) && (*entry(mfn, i) & _PAGE_RW))
				put_page_type(mfn_to_page(_mfn(PFN_OF_(*entry(mfn, i)))));
	}
	*type = 0;
}

void frame_free(mfn_t mfn)
{
	MUST(!(mfn_to_page(mfn)->u.inuse.type_info & PGT_count_mask), "frame %#lx is in use",
	     mfn_x(mfn));
	memset(opened[mfn_x(mfn)], 0, sizeof(opened[0]));
	mfn_to_page(mfn)->owner = NULL;
}

static mfn_t frame_new(void)
{
	mfn_t mfn = hx_frame_alloc();

	frames[mfn_x(mfn)].refs = 0;
	frames[mfn_x(mfn)].dirty = true;
	frames[mfn_x(mfn)].merged = false;
	frames[mfn_x(mfn)].slot = -1;
	return mfn;
}

void slot_put(int slot)
{
	if (slot >= 0)
		MUST(swap[slot].refs--, "swap slot %d has no user", slot);
}

void frame_put(mfn_t mfn)
{
	if (mfn_eq(mfn, zero) || --frames[mfn_x(mfn)].refs)
		return;
	slot_put(frames[mfn_x(mfn)].slot);
	frame_free(mfn);
}

void flush_all(void)
{
	hx_yield();
	hx_tlb_flush(0);
	hx_tlb_flush(1);
}

void lock_kernel(void)
{
	while (kernel_locked)
		hx_wait();
	kernel_locked = true;
}

void unlock_kernel(void)
{
	kernel_locked = false;
	hx_yield();
}

/* mmu_update(): the kernel writes an entry; with `keep`, what the hardware sets stays. */
void set_pte(const struct process *p, unsigned int r, unsigned int i, intpte_t new, bool keep)
{
	mfn_t table = table_of(p, r);
	intpte_t *e = entry(table, slots[i]), old;
	l1_pgentry_t nl1e = { new };

	MUST(page_lock(mfn_to_page(table)), "a table is none");
	hac_l1e_update(&hx_domain, table, (l1_pgentry_t *)e, &nl1e);
	if ((nl1e.l1 & _PAGE_PRESENT) && (nl1e.l1 & _PAGE_RW))
		MUST(get_page_type(l1e_get_page(nl1e), PGT_writable_page), "no type");
	old = *e;
	*e = nl1e.l1 | (keep ? old & AD : 0);
	opened[mfn_x(table)][slots[i]] = *e & _PAGE_RW;
	if ((old & _PAGE_PRESENT) && (old & _PAGE_RW))
		put_page_type(mfn_to_page(_mfn(PFN_OF_(old))));
	page_unlock(mfn_to_page(table));
	hac_copies_done(&hx_domain);
}

/* An instruction that reads and writes an entry: it faults, and Xen emulates it. */
intpte_t change_pte(const struct process *p, unsigned int r, unsigned int i, intpte_t remove)
{
	mfn_t table = table_of(p, r);
	intpte_t *e = entry(table, slots[i]), old;
	l1_pgentry_t nl1e;

	MUST(page_lock(mfn_to_page(table)), "a table is none");
	do {
		hac_l1e_restore(&hx_domain, table, slots[i] * sizeof(*e));
		old = *e;
		hx_yield();
		nl1e.l1 = old & ~remove;
		hac_l1e_update(&hx_domain, table, (l1_pgentry_t *)e, &nl1e);
	} while (*e != old);
	*e = nl1e.l1;
	if (remove & _PAGE_RW) {
		opened[mfn_x(table)][slots[i]] = false;
		if ((old & _PAGE_PRESENT) && (old & _PAGE_RW))
			put_page_type(mfn_to_page(_mfn(PFN_OF_(old))));
	}
	page_unlock(mfn_to_page(table));
	hac_copies_done(&hx_domain);
	return old;
}

intpte_t clear_flush(const struct process *p, unsigned int r, unsigned int i)
{
	intpte_t old = change_pte(p, r, i, ~0UL);

	flush_all();
	return old;
}

/* ---- the kernel: faults ---- */

intpte_t map(mfn_t mfn, intpte_t flags)
{
	if (!mfn_eq(mfn, zero))
		frames[mfn_x(mfn)].refs++;
	return (mfn_x(mfn) << PAGE_SHIFT) | _PAGE_PRESENT | _PAGE_USER | _PAGE_ACCESSED | flags;
}

static void first_touch(struct process *p, unsigned int r, unsigned int i, bool write)
{
	struct page *page = &p->page[r][i];

	page->fresh = false;
	memset(page->truth, 0, BYTES);
	set_pte(p, r, i, write ? map(frame_new(), _PAGE_RW | _PAGE_DIRTY) : map(zero, 0), false);
}

static void swap_in(struct process *p, unsigned int r, unsigned int i, bool write)
{
	int slot = PFN_OF_(*pte(p, r, i)) - 1;
	bool rw = write || (swap[slot].refs == 1 && p->page[r][i].vma == WRITE && hx_random(2));
	mfn_t mfn = frame_new();

	memcpy(hx_memory[mfn_x(mfn)], swap[slot].bytes, PAGE_SIZE);
	frames[mfn_x(mfn)].dirty = false;
	frames[mfn_x(mfn)].slot = slot; /* which was the entry's */
	set_pte(p, r, i, map(mfn, (rw ? _PAGE_RW : 0) | (write ? _PAGE_DIRTY : 0)), false);
}

static void write_protected(struct process *p, unsigned int r, unsigned int i)
{
	intpte_t e = *pte(p, r, i);
	mfn_t mfn = _mfn(PFN_OF_(e)), copy;

	if (!mfn_eq(mfn, zero) && !frames[mfn_x(mfn)].merged && frames[mfn_x(mfn)].refs == 1) {
		set_pte(p, r, i, e | _PAGE_RW | AD, false);
		return;
	}
	copy = frame_new();
	memcpy(hx_memory[mfn_x(copy)], hx_memory[mfn_x(mfn)], PAGE_SIZE);
	hx_yield();
	if ((*pte(p, r, i) ^ e) & ~AD) {
		frame_free(copy);
		return;
	}
	if (clear_flush(p, r, i) & _PAGE_DIRTY)
		frames[mfn_x(mfn)].dirty = true;
	set_pte(p, r, i, map(copy, _PAGE_RW | _PAGE_DIRTY), false);
	frame_put(mfn);
}

void need_table(struct process *p, unsigned int r)
{
	mfn_t table;

	if (*entry(p->l2, r))
		return;
	table = hx_frame_alloc();
	promote(table, 1);
	*entry(p->l2, r) = (mfn_x(table) << PAGE_SHIFT) | _PAGE_PRESENT;
}

/* False: the program is at fault. */
bool fault(struct process *p, unsigned int r, unsigned int i, bool write)
{
	enum vma vma = p->page[r][i].vma;
	intpte_t e;

	if (vma == NONE || (write && vma != WRITE))
		return false;
	need_table(p, r);
	e = *pte(p, r, i);
	if (!e)
		first_touch(p, r, i, write);
	else if (!(e & _PAGE_PRESENT))
		swap_in(p, r, i, write);
	else if (write && !(e & _PAGE_RW))
		write_protected(p, r, i);
	return true;
}

/* ---- what must hold ---- */

bool is_log(unsigned int r)
{
	return r == LOG_REGION;
}

static void check_page(const struct process *p, unsigned int r, unsigned int i)
{
	const struct page *page = &p->page[r][i];
	const intpte_t *e = pte(p, r, i);
	const uint8_t *bytes;
	unsigned long f;

	if (page->busy)
		return;
	if (!e || !*e) {
		MUST(page->fresh, "page %u/%u is gone", r, i);
		return;
	}
	f = PFN_OF_(*e);
	bytes = *e & _PAGE_PRESENT ? hx_memory[f] : swap[f - 1].bytes;
	MUST(is_log(r) || !memcmp(bytes, page->truth, BYTES),
	     "process %zd: page %u/%u has other bytes, entry %#lx", p - processes, r, i, *e);
	if (!(*e & _PAGE_PRESENT) || !(*e & _PAGE_RW))
		return;
	MUST(page->vma == WRITE, "page %u/%u is writable and must not be", r, i);
	MUST(f != mfn_x(zero) && frames[f].refs == 1 && !frames[f].merged,
	     "page %u/%u is writable and shared", r, i);
}

void check_all(void)
{
	const struct process *p;
	unsigned int r, i;

	for (p = processes; p < processes + PROCESSES; p++)
		for (r = 0; p->alive && r < USED; r++)
			for (i = 0; i < SLOTS; i++)
				check_page(p, r, i);
}

/* Xen has changed an entry. */
void guest_entry_changed(mfn_t table, l1_pgentry_t old, l1_pgentry_t new)
{
	unsigned int i;

	if (~old.l1 & new.l1 & _PAGE_RW)
		MUST(old.l1 & MARK, "an entry is opened that has no mark");
	/* Another CPU may unregister the area of an entry while it is opened. */
	for (i = 0; i < 512 && !mfn_eq(table, INVALID_MFN); i++)
		MUST(!(*entry(table, i) & _PAGE_RW) || opened[mfn_x(table)][i],
		     "an entry is opened that the kernel has closed");
}

bool find(unsigned long addr, unsigned int *r, unsigned int *i)
{
	*r = (addr - BASE) >> REGION_SHIFT;
	for (*i = 0; *i < SLOTS && *r < USED; ++*i)
		if (slots[*i] == l1_table_offset(addr))
			return true;
	return false;
}

void guest_wrote(mfn_t mfn, unsigned int offset, uint64_t value, unsigned int width, bool emulated)
{
	struct process *p = running[hx_cpu];
	struct page *page;
	unsigned int r, i;

	MUST(find(hx_store_at[hx_cpu], &r, &i), "a store to nowhere");
	if (is_log(r))
		return;
	page = &p->page[r][i];
	MUST(page->vma == WRITE, "a store to page %u/%u, which is read-only", r, i);
	MUST(offset + width <= BYTES, "a store at %u", offset);
	memcpy(page->truth + offset, &value, width);
	if (!emulated) {
		if (!page->written)
			page->written = hx_now;
		return;
	}
	done[EMULATED]++;
	/* Before a fork is through, the child's bytes are not settled. */
	MUST(page->busy || (PFN_OF_(*pte(p, r, i)) == mfn_x(mfn) &&
			    (frames[mfn_x(mfn)].refs == 1 || p == forking)),
	     "Xen stores to another page, or a shared one");
}

/* ---- processes ---- */

struct process *any(void)
{
	struct process *p;

	do
		p = &processes[hx_random(PROCESSES)];
	while (!p->alive);
	return p;
}

void switch_to(struct process *p)
{
	running[hx_cpu] = p;
	hx_vcpus[hx_cpu].arch.guest_table_user.mfn = p->root;
	hx_tlb_flush(hx_cpu);
}

static void start_tables(struct process *p)
{
	memset(p, 0, sizeof(*p));
	p->root = hx_frame_alloc();
	p->l3 = hx_frame_alloc();
	p->l2 = hx_frame_alloc();
	*entry(p->root, 0) = (mfn_x(p->l3) << PAGE_SHIFT) | _PAGE_PRESENT;
	*entry(p->l3, 1) = (mfn_x(p->l2) << PAGE_SHIFT) | _PAGE_PRESENT;
}

static void pin(struct process *p)
{
	unsigned int r;

	for (r = 0; r < USED; r++)
		if (!mfn_eq(table_of(p, r), INVALID_MFN))
			promote(table_of(p, r), 1);
	promote(p->l2, 2);
	promote(p->l3, 3);
	promote(p->root, 4);
	hac_copies_done(&hx_domain);
	p->alive = true;
}

static void fork_page(struct process *p, struct process *child, unsigned int r, unsigned int i)
{
	intpte_t e = *pte(p, r, i);
	unsigned long f = PFN_OF_(e);

	if (e && !(e & _PAGE_PRESENT))
		swap[f - 1].refs++;
	else if (e && f != mfn_x(zero))
		frames[f].refs++;
	if ((e & _PAGE_PRESENT) && (e & _PAGE_RW))
		e = change_pte(p, r, i, _PAGE_RW) & ~(intpte_t)_PAGE_RW;
	*entry(table_of(child, r), slots[i]) = e & ~(intpte_t)_PAGE_ACCESSED;
	hx_yield();
}

/* The child's bytes are those that it finds. The kernel takes all shared pages
 * for read-only ones from now on. */
static void forked(struct process *p, struct process *child)
{
	unsigned int r, i;

	for (r = 0; r < USED; r++)
		for (i = 0; i < SLOTS; i++) {
			const intpte_t *e = pte(child, r, i);
			struct page *page = &child->page[r][i];

			*page = p->page[r][i];
			page->busy = false;
			page->written = 0;
			if (!e || !*e)
				continue;
			memcpy(page->truth,
			       *e & _PAGE_PRESENT ? hx_memory[PFN_OF_(*e)] :
						    swap[PFN_OF_(*e) - 1].bytes,
			       BYTES);
			if (*e & _PAGE_PRESENT)
				opened[mfn_x(table_of(p, r))][slots[i]] = false;
		}
}

void do_fork(void)
{
	struct process *p = running[hx_cpu], *child = processes;
	unsigned int r, i;

	while (child < processes + PROCESSES && child->alive)
		child++;
	if (child == processes + PROCESSES)
		return;
	for (r = 0; r < USED; r++)
		for (i = 0; i < SLOTS; i++)
			if (p->page[r][i].busy)
				return;
	forking = p;
	start_tables(child);
	for (r = 0; r < USED; r++) {
		if (mfn_eq(table_of(p, r), INVALID_MFN))
			continue;
		*entry(child->l2, r) = (mfn_x(hx_frame_alloc()) << PAGE_SHIFT) | _PAGE_PRESENT;
		for (i = 0; i < SLOTS; i++)
			fork_page(p, child, r, i);
	}
	pin(child);
	flush_all();
	forked(p, child);
	forking = NULL;
	done[FORKS]++;
}

void drop(intpte_t e)
{
	if (e & _PAGE_PRESENT) {
		if (e & _PAGE_DIRTY)
			frames[PFN_OF_(e)].dirty = true;
		frame_put(_mfn(PFN_OF_(e)));
	} else if (e) {
		slot_put(PFN_OF_(e) - 1);
	}
}

static void exit_process(struct process *p)
{
	unsigned int r, i;
	mfn_t table;

	p->alive = false;
	demote(p->root);
	for (r = 0; r < USED; r++) {
		table = table_of(p, r);
		if (mfn_eq(table, INVALID_MFN))
			continue;
		demote(table);
		for (i = 0; i < SLOTS; i++)
			drop(*entry(table, slots[i]));
		frame_free(table);
	}
	demote(p->l3);
	demote(p->l2);
	frame_free(p->root);
	frame_free(p->l3);
	frame_free(p->l2);
	done[EXITS]++;
}

void do_exit(void)
{
	struct process *p = running[hx_cpu], *other;

	if (running[hx_cpu ^ 1] == p)
		return;
	for (other = processes; other < processes + PROCESSES; other++)
		if (other != p && other->alive)
			break;
	if (other == processes + PROCESSES)
		return;
	switch_to(other);
	exit_process(p);
}

/* ---- all of it ---- */

void guest_start(unsigned int cpus)
{
	struct process *p = processes;
	unsigned int r, i;

	hx_machine_init(cpus);
	memset(processes, 0, sizeof(processes));
	memset(frames, 0, sizeof(frames));
	memset(swap, 0, sizeof(swap));
	memset(opened, 0, sizeof(opened));
	kernel_locked = false;
	zero = hx_frame_alloc();
	start_tables(p);
	for (r = 0; r < USED; r++)
		for (i = 0; i < SLOTS; i++)
			p->page[r][i] = (struct page){ .vma = WRITE, .fresh = true };
	pin(p);
	running[1] = NULL;
	for (hx_cpu = 0; hx_cpu < cpus; hx_cpu++)
		switch_to(p);
	hx_cpu = 0;
}

void guest_stop(void)
{
	struct process *p;
	unsigned int k;

	for (p = processes; p < processes + PROCESSES; p++)
		if (p->alive)
			exit_process(p);
	hx_rcu_run();
	for (k = 0; k < HX_FRAMES; k++)
		MUST(!hx_frames[k].owner || k == mfn_x(zero), "frame %u is left", k);
	for (k = 0; k < SWAP; k++)
		MUST(!swap[k].refs, "swap slot %u is left", k);
	if (hx_domain.arch.pv.hac) {
		MUST(!hac_of(&hx_domain)->bytes && !hac_of(&hx_domain)->areas, "%lu bytes are left",
		     hac_of(&hx_domain)->bytes);
		hac_domain_destroy(&hx_domain);
	}
	MUST(!hx_allocated && !hx_warnings, "%lu allocations are left", hx_allocated);
}
