/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Scanxen: nothing is protected; the hardware sets the dirty bit of an entry at
 * the first write, and a call goes through the entries, reports those with the
 * bit set, and clears it (DSN 2011, section V).
 *
 * The guest kernel needs the bit, too. What a scan clears it remembers, and puts
 * back before the guest reads an entry in order to change it, and before a
 * table is given up: so the guest never drops a page that it should have
 * written back. (A guest that only looks may see a dirty page as clean.)
 *
 * Entries below an L2 entry without the accessed bit need no look: the hardware
 * sets it on the way to a dirty bit. It may have the L2 entry cached, with the
 * bit set; so all CPUs that may run the process are flushed after the bit is
 * cleared and before the entries below are read.
 */

#include "private.h"

static bool cf_check scan_fault(struct hac_area *area, unsigned long addr,
                                struct cpu_user_regs *regs)
{
    return false;
}

/* Was somebody here since the last time? */
static bool clear_accessed(unsigned long addr)
{
    const struct domain *d = current->domain;
    struct page_info *page;
    l3_pgentry_t l3e;
    l2_pgentry_t *pl2e, l2e;
    mfn_t mfn;
    bool accessed = true;

    if ( get_unsafe(l3e, &__linear_l3_table[l3_linear_offset(addr)]) ||
         (l3e_get_flags(l3e) & (_PAGE_PRESENT | _PAGE_PSE)) != _PAGE_PRESENT )
        return true;
    mfn = l3e_get_mfn(l3e);
    if ( !mfn_valid(mfn) )
        return true;
    page = mfn_to_page(mfn);
    if ( page_get_owner(page) != d || !page_lock(page) )
        return true;

    if ( (page->u.inuse.type_info & PGT_type_mask) == PGT_l2_page_table )
    {
        pl2e = map_domain_page(mfn);
        pl2e += l2_table_offset(addr);
        l2e = l2e_read_atomic(pl2e);
        accessed = !(l2e_get_flags(l2e) & _PAGE_PRESENT) ||
                   (l2e_get_flags(l2e) & _PAGE_ACCESSED);
        if ( (l2e_get_flags(l2e) & (_PAGE_PRESENT | _PAGE_ACCESSED)) ==
             (_PAGE_PRESENT | _PAGE_ACCESSED) )
            clear_bit(ilog2(_PAGE_ACCESSED), &l2e_get_intpte(*pl2e));
        unmap_domain_page(pl2e);
    }
    page_unlock(page);

    return accessed;
}

/*
 * All areas of a table lie below the same L2 entry: whoever clears its accessed
 * bit tells the others. The table is the one that is there now: a new area does
 * not know it yet, or knows an earlier one.
 */
static void mark_accessed(struct hac_region *region)
{
    struct hac_domain *hd = hac_of(region->area->domain);
    mfn_t table = hac_read_table(&__linear_l2_table[
                      l2_linear_offset(region->base)]);
    struct hac_region *other;

    region->accessed = true;
    if ( mfn_eq(table, INVALID_MFN) )
        return;
    read_lock(&hd->tables_lock);
    for_each_region ( other, hd, table )
        other->accessed = true;
    read_unlock(&hd->tables_lock);
}

static void cf_check scan_prepare(struct hac_area *area)
{
    struct hac_domain *hd = hac_of(area->domain);
    const cpumask_t *mask = area->domain->dirty_cpumask;
    bool cleared = false;
    unsigned int i;

    /* Nobody goes by bits that another call has cleared and not yet told of. */
    spin_lock(&hd->scan_lock);
    for ( i = 0; i < area->regions_count; i++ )
    {
        struct hac_region *region = &area->regions[i];

        if ( clear_accessed(region->base) )
        {
            mark_accessed(region);
            cleared = true;
        }
        else if ( !region->accessed )
            area->skipped += hac_end_slot(region) - hac_first_slot(region);
    }
    if ( cleared )
    {
        flush_tlb_mask(mask);
        /* What others wrote by cached entries since, nothing else tells. */
        for ( i = 0; i < area->regions_count; i++ )
            if ( area->regions[i].accessed )
                mark_accessed(&area->regions[i]);
    }
    spin_unlock(&hd->scan_lock);
}

static unsigned int cf_check scan_collect(struct hac_region *region,
                                          l1_pgentry_t *table,
                                          unsigned int slot,
                                          struct hac_harvest *h)
{
    const unsigned int first = hac_first_slot(region);
    const unsigned int end = hac_end_slot(region);

    if ( !h->work )
        return slot;
    if ( !h->peek && slot <= first )
    {
        /*
         * Before the first look: it may be set again at any time. A call that
         * goes on in the middle does not look at what lies before.
         */
        region->accessed = false;
        smp_mb();
    }
    h->work -= min(h->work, HAC_SCAN_WORK + 0U);

    for ( slot = max(slot, first); slot < end; slot++ )
    {
        l1_pgentry_t l1e = table ? l1e_read_atomic(&table[slot]) : l1e_empty();
        bool dirty = (l1e_get_flags(l1e) & (_PAGE_PRESENT | _PAGE_DIRTY)) ==
                     (_PAGE_PRESENT | _PAGE_DIRTY);

        if ( !dirty && !test_bit(slot, region->dirty) &&
             !test_bit(slot, region->keep) )
            continue;
        if ( !hac_report(h, region, slot) )
        {
            region->accessed = true;
            return slot;
        }
        if ( h->peek )
            continue;
        __clear_bit(slot, region->dirty);
        if ( dirty )
        {
            l1e_remove_flags(l1e, _PAGE_DIRTY);
            hac_entry_set(region, &table[slot], l1e, _PAGE_ACCESSED);
            __set_bit(slot, region->cleared);
            hac_note_flush(h, region, slot);
        }
    }
    region->area->scanned += end - first;

    if ( !h->peek )
        region->touched = region->unwatched = false;

    return REGION_PAGES;
}

static void cf_check scan_restore(struct hac_region *region,
                                  l1_pgentry_t *table, unsigned int slot)
{
    l1_pgentry_t l1e;

    if ( !__test_and_clear_bit(slot, region->cleared) || !table )
        return;
    l1e = l1e_read_atomic(&table[slot]);
    if ( !(l1e_get_flags(l1e) & _PAGE_PRESENT) )
        return;
    if ( l1e_get_flags(l1e) & _PAGE_DIRTY )
        hac_mark_dirty(region, slot);
    l1e_add_flags(l1e, _PAGE_DIRTY);
    hac_entry_set(region, &table[slot], l1e, _PAGE_ACCESSED | _PAGE_DIRTY);
    /* It will be seen as dirty by the next scan, and must be scanned. */
    region->touched = true;
}

const struct hac_handler hac_scan = {
    .fault = scan_fault,
    .prepare = scan_prepare,
    .collect = scan_collect,
    .restore = scan_restore,
};

/*
 * Local variables:
 * mode: C
 * c-file-style: "BSD"
 * c-basic-offset: 4
 * tab-width: 4
 * indent-tabs-mode: nil
 * End:
 */
