// SPDX-License-Identifier: GPL-2.0-only
/* The kernel of the guest: it unmaps, protects, moves, swaps, merges and writes pages. */
#include "guest.h"

void unmap_page(struct process *p, unsigned int r, unsigned int i)
{
	if (pte(p, r, i))
		drop(clear_flush(p, r, i));
	p->page[r][i].fresh = true;
	p->page[r][i].written = 0;
}

void do_munmap(struct process *p, unsigned int r)
{
	unsigned int i;
	mfn_t table = table_of(p, r);

	for (i = 0; i < SLOTS; i++) {
		unmap_page(p, r, i);
		p->page[r][i].vma = hx_random(3) ? WRITE : NONE;
	}
	*entry(p->l2, r) = 0;
	flush_all();
	if (mfn_eq(table, INVALID_MFN))
		return;
	demote(table);
	frame_free(table);
	done[UNMAPPED]++;
}

void do_mprotect(struct process *p, unsigned int r, unsigned int i)
{
	struct page *page = &p->page[r][i];
	intpte_t *e = pte(p, r, i);
	bool present = e && (*e & _PAGE_PRESENT);
	unsigned long f = present ? PFN_OF_(*e) : 0;

	if (page->vma == READ) {
		page->vma = WRITE;
		if (present && f != mfn_x(zero) && frames[f].refs == 1 && !frames[f].merged &&
		    (*e & _PAGE_DIRTY) && hx_random(2))
			set_pte(p, r, i, (*e & ~MARK) | _PAGE_RW, true);
	} else if (page->vma == WRITE) {
		if (present)
			set_pte(p, r, i, *e & ~(MARK | _PAGE_RW), true);
		flush_all();
		page->vma = READ;
	}
	done[PROTECTED]++;
}

static void move_page(struct process *p, unsigned int r, unsigned int i, unsigned int to_r,
		      unsigned int to_i)
{
	struct page *to = &p->page[to_r][to_i], *from = &p->page[r][i];

	*to = *from;
	to->written = 0;
	*from = (struct page){ .fresh = true };
}

void do_mremap(struct process *p, unsigned int r, unsigned int i, unsigned int to_r,
	       unsigned int to_i)
{
	intpte_t e;

	unmap_page(p, to_r, to_i);
	if (pte(p, r, i)) {
		need_table(p, to_r);
		e = clear_flush(p, r, i);
		if (e)
			set_pte(p, to_r, to_i, e, false);
	}
	move_page(p, r, i, to_r, to_i);
	done[MOVED]++;
}

/* The whole table moves, with what is in it. */
void do_mremap_table(struct process *p, unsigned int r, unsigned int to)
{
	mfn_t table = table_of(p, r);
	unsigned int i;

	if (mfn_eq(table, INVALID_MFN) || *entry(p->l2, to))
		return;
	*entry(p->l2, r) = 0;
	if (hx_random(2)) { /* it was not pinned */
		demote(table);
		promote(table, 1);
	} else {
		/* A thread that stores to what another moves is on its own: its
		 * store may arrive late. Here it does not. */
		MUST(page_lock(mfn_to_page(table)), "a table is none");
		page_unlock(mfn_to_page(table));
	}
	hx_yield();
	*entry(p->l2, to) = (mfn_x(table) << PAGE_SHIFT) | _PAGE_PRESENT;
	hac_copies_done(&hx_domain);
	flush_all();
	for (i = 0; i < SLOTS; i++)
		move_page(p, r, i, to, i);
	done[MOVED_TABLES]++;
}

struct mapping {
	struct process *p;
	unsigned int r, i;
};

static unsigned int mappings_of(unsigned long f, struct mapping *out)
{
	unsigned int n = 0, r, i;
	struct process *p;

	for (p = processes; p < processes + PROCESSES; p++)
		for (r = 0; p->alive && r < USED; r++)
			for (i = 0; i < SLOTS && pte(p, r, i); i++)
				if ((*pte(p, r, i) & _PAGE_PRESENT) && PFN_OF_(*pte(p, r, i)) == f)
					out[n++] = (struct mapping){ p, r, i };
	MUST(n == frames[f].refs, "frame %#lx is mapped %u times, not %u", f, n, frames[f].refs);
	return n;
}

void swap_out(struct process *p, unsigned int r, unsigned int i)
{
	struct mapping m[PROCESSES * USED * SLOTS];
	unsigned int n, k;
	unsigned long f;
	int slot;

	if (!pte(p, r, i) || !(*pte(p, r, i) & _PAGE_PRESENT))
		return;
	f = PFN_OF_(*pte(p, r, i));
	if (f == mfn_x(zero) || frames[f].merged)
		return;
	n = mappings_of(f, m);
	for (k = 0; k < n; k++)
		if (clear_flush(m[k].p, m[k].r, m[k].i) & _PAGE_DIRTY)
			frames[f].dirty = true;
	slot = frames[f].slot;
	if (slot < 0 || frames[f].dirty) {
		for (slot = 0; swap[slot].refs;)
			MUST(++slot < SWAP, "swap is full");
		memcpy(swap[slot].bytes, hx_memory[f], PAGE_SIZE);
		done[SWAP_WRITES]++;
	}
	for (k = 0; k < n; k++) {
		swap[slot].refs++;
		set_pte(m[k].p, m[k].r, m[k].i, (intpte_t)(slot + 1) << PAGE_SHIFT, false);
		frame_put(_mfn(f));
	}
	done[SWAPPED_OUT]++;
}

/* Same-page merging leaves alone what is read-only and clean. */
static void stop_writers(const struct mapping *m)
{
	intpte_t e = *pte(m->p, m->r, m->i);

	if (!(e & (_PAGE_RW | _PAGE_DIRTY)))
		return;
	e = clear_flush(m->p, m->r, m->i);
	if (e & _PAGE_DIRTY)
		frames[PFN_OF_(e)].dirty = true;
	set_pte(m->p, m->r, m->i, e & ~(intpte_t)(_PAGE_RW | _PAGE_DIRTY), false);
}

static bool can_merge(const struct mapping *m)
{
	const intpte_t *e = m->p->page[m->r][m->i].busy ? NULL : pte(m->p, m->r, m->i);

	return e && (*e & _PAGE_PRESENT) && PFN_OF_(*e) != mfn_x(zero) &&
	       frames[PFN_OF_(*e)].refs == 1 && !frames[PFN_OF_(*e)].merged;
}

void merge(void)
{
	struct mapping a = { any(), hx_random(LOG_REGION), hx_random(SLOTS) };
	struct mapping b = { any(), hx_random(LOG_REGION), hx_random(SLOTS) };
	mfn_t mfn, other;

	if (!can_merge(&a) || !can_merge(&b) ||
	    PFN_OF_(*pte(a.p, a.r, a.i)) == PFN_OF_(*pte(b.p, b.r, b.i)))
		return;
	stop_writers(&a);
	stop_writers(&b);
	hx_yield();
	mfn = _mfn(PFN_OF_(*pte(a.p, a.r, a.i)));
	other = _mfn(PFN_OF_(*pte(b.p, b.r, b.i)));
	if (memcmp(hx_memory[mfn_x(mfn)], hx_memory[mfn_x(other)], PAGE_SIZE))
		return;
	frames[mfn_x(mfn)].merged = true;
	clear_flush(b.p, b.r, b.i);
	set_pte(b.p, b.r, b.i, map(mfn, 0), false);
	frame_put(other);
	done[MERGED]++;
}

static const struct watched *area_at(const struct process *p, unsigned int r, unsigned int i)
{
	unsigned int page = r * 512 + slots[i], k;

	for (k = 0; k < AREAS; k++)
		if (p->area[k].used && page - p->area[k].start < p->area[k].pages)
			return &p->area[k];
	return NULL;
}

/* process_vm_writev(), O_DIRECT: the page is opened for it, and then written. */
void kernel_write(struct process *p, unsigned int r, unsigned int i)
{
	const struct watched *area = area_at(p, r, i);
	struct page *page = &p->page[r][i];
	unsigned int at = 16 + 24 * hx_random(2), tries = 0;

	if (area && area->handler == HAC_XEN_SCAN) /* wants to be told by the program */
		return;
	while (!pte(p, r, i) ||
	       (*pte(p, r, i) & (_PAGE_PRESENT | _PAGE_RW)) != (_PAGE_PRESENT | _PAGE_RW)) {
		if (!fault(p, r, i, true))
			return;
		MUST(tries++ < 1000, "the page is never opened");
	}
	page->truth[at] = hx_random(256);
	hx_memory[PFN_OF_(*pte(p, r, i))][at] = page->truth[at];
	frames[PFN_OF_(*pte(p, r, i))].dirty = true;
	if (!page->written)
		page->written = hx_now;
	done[KERNEL_WRITES]++;
}
