/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the rest of Xen tells of: faults, and changes of page tables by the
 * guest kernel. Everything that a guest kernel does to a page of an area on a
 * process's behalf, copying it after a fork, swapping it, writing to it by
 * process_vm_writev() or O_DIRECT, begins with a change of the entry, and is
 * recorded here.
 */

#include "private.h"

bool hac_fault(unsigned long addr, struct cpu_user_regs *regs)
{
    const struct hac_domain *hd = hac_of(current->domain);
    const struct hac_space *space;
    struct hac_area *area = NULL;
    bool done = false;

    if ( paging_mode_enabled(current->domain) )
        return false;

    rcu_read_lock(&hac_rcu);
    space = hac_space_find(hd, hac_current_root());
    if ( space )
        area = hac_area_find(space, addr);
    if ( area )
    {
        done = area->handler->fault(area, addr, regs);
        if ( done )
            area->faults++;
    }
    rcu_read_unlock(&hac_rcu);

    return done;
}

/* Does the new entry stand for contents that may differ from the old one's? */
static bool is_write(const struct hac_region *region, l1_pgentry_t old,
                     l1_pgentry_t new)
{
    unsigned int was = l1e_get_flags(old), is = l1e_get_flags(new);

    /* Of absent ones: swapped contents that mremap() brings, or munmap() drops. */
    if ( !(was & is & _PAGE_PRESENT) )
        return ((was | is) & _PAGE_PRESENT) ||
               l1e_get_intpte(old) != l1e_get_intpte(new);
    if ( !mfn_eq(l1e_get_mfn(old), l1e_get_mfn(new)) )
        return true;

    /* A dirty bit that no scan has seen yet must not go unseen. */
    if ( region->area->handler->restore && (was & ~is & _PAGE_DIRTY) )
        return true;

    return (is & _PAGE_RW) && !(was & _PAGE_RW);
}

/* The table's entry at pl1e; the caller holds its page_lock(). */
static unsigned int slot_at(const l1_pgentry_t *pl1e)
{
    return ((unsigned long)pl1e & ~PAGE_MASK) / sizeof(*pl1e);
}

static bool is_mine(const struct hac_region *region, unsigned int slot)
{
    return slot >= hac_first_slot(region) && slot < hac_end_slot(region);
}

void hac_entry_restore(struct domain *d, mfn_t table, unsigned long addr)
{
    struct hac_domain *hd = hac_of(d);
    l1_pgentry_t *entries = map_domain_page(table);
    unsigned int slot = (addr & ~PAGE_MASK) / sizeof(*entries);
    struct hac_region *region;

    read_lock(&hd->tables_lock);
    for_each_region ( region, hd, table )
        if ( region->area->handler->restore && is_mine(region, slot) )
            region->area->handler->restore(region, entries, slot);
    read_unlock(&hd->tables_lock);
    unmap_domain_page(entries);
}

static void distrust(struct hac_space *space)
{
    unsigned int i;

    for ( i = 0; i < HAC_XEN_MAX_AREAS; i++ )
    {
        struct hac_area *area = rcu_dereference(space->areas[i]);

        if ( area )
            (void)arch_fetch_and_add(&area->copies, 1);
    }
}

/*
 * An entry with a mark is found elsewhere: a fork has copied entries of an
 * area. The copy is the guest's business from now on. The parent, most likely
 * the caller, must not write to pages that the child shares.
 */
static void note_copy(struct domain *d)
{
    struct hac_domain *hd = hac_of(d);
    struct hac_space *space;
    unsigned int i;

    rcu_read_lock(&hac_rcu);
    space = current->domain == d ? hac_space_find(hd, hac_current_root()) : NULL;
    if ( space )
        distrust(space);
    else
        for ( i = 0; i < HAC_SPACES_HASH; i++ )
            for ( space = rcu_dereference(hd->spaces[i]); space;
                  space = rcu_dereference(space->next) )
                distrust(space);
    rcu_read_unlock(&hac_rcu);
    (void)arch_fetch_and_add(&hd->copies, 1);
}

void hac_entry_update(struct domain *d, mfn_t table, l1_pgentry_t *pl1e,
                      l1_pgentry_t *nl1e)
{
    struct hac_domain *hd = hac_of(d);
    unsigned int slot = slot_at(pl1e);
    struct hac_region *region;
    l1_pgentry_t ol1e;

    /* Only Xen marks, and only what it has closed itself. */
    if ( (l1e_get_flags(*nl1e) & (_PAGE_PRESENT | _PAGE_HAC)) ==
         (_PAGE_PRESENT | _PAGE_HAC) )
    {
        ol1e = l1e_read_atomic(pl1e);
        l1e_remove_flags(*nl1e, _PAGE_HAC);
        if ( !(l1e_get_flags(ol1e) & _PAGE_HAC) ||
             !mfn_eq(l1e_get_mfn(ol1e), l1e_get_mfn(*nl1e)) )
            note_copy(d);
    }

    read_lock(&hd->tables_lock);
    for_each_region ( region, hd, table )
    {
        if ( !is_mine(region, slot) )
            continue;
        ol1e = l1e_read_atomic(pl1e);
        if ( region->area->handler->restore )
            region->area->handler->restore(region, pl1e - slot, slot);
        if ( !is_write(region, ol1e, *nl1e) )
            continue;
        hac_mark_dirty(region, slot);
        region->area->guest_updates++;
    }
    read_unlock(&hd->tables_lock);
}

void hac_table_copied(struct domain *d, l1_pgentry_t *pl1e)
{
    l1e_remove_flags(*pl1e, _PAGE_HAC);
    note_copy(d);
}

void hac_close_open_pages(struct hac_region *region)
{
    mfn_t table = region->table;
    struct page_info *page;
    l1_pgentry_t *pl1e;
    unsigned int slot;

    if ( mfn_eq(table, INVALID_MFN) )
        return;
    page = mfn_to_page(table);
    if ( !page_lock(page) )
        return;
    if ( mfn_eq(region->table, table) )
    {
        pl1e = map_domain_page(table);
        for_each_set_bit ( slot, region->dirty, hac_end_slot(region) )
            if ( (l1e_get_flags(pl1e[slot]) & (_PAGE_PRESENT | _PAGE_RW)) ==
                 (_PAGE_PRESENT | _PAGE_RW) )
                hac_entry_close(region, &pl1e[slot], false);
        unmap_domain_page(pl1e);
    }
    page_unlock(page);
}

static void close_area(struct hac_area *area)
{
    unsigned int i, copies = ACCESS_ONCE(area->copies);

    if ( copies == area->copies_closed )
        return;
    /* Pages that were opened between the copy and now are shared, too. */
    for ( i = 0; i < area->regions_count; i++ )
        hac_close_open_pages(&area->regions[i]);
    smp_wmb();
    area->copies_closed = copies;
}

/* Returns when it is done, by whatever CPU, for all copies noted so far. */
void hac_close_copied(struct domain *d)
{
    struct hac_domain *hd = hac_of(d);
    struct hac_space *space;
    unsigned int i, j, copies;

    if ( likely(ACCESS_ONCE(hd->copies) == ACCESS_ONCE(hd->copies_closed)) )
        return;

    spin_lock(&hd->copies_lock);
    copies = ACCESS_ONCE(hd->copies);
    if ( copies != hd->copies_closed )
    {
        rcu_read_lock(&hac_rcu);
        for ( i = 0; i < HAC_SPACES_HASH; i++ )
            for ( space = rcu_dereference(hd->spaces[i]); space;
                  space = rcu_dereference(space->next) )
                for ( j = 0; j < HAC_XEN_MAX_AREAS; j++ )
                {
                    struct hac_area *area = rcu_dereference(space->areas[j]);

                    if ( area )
                        close_area(area);
                }
        rcu_read_unlock(&hac_rcu);
        flush_tlb_mask(d->dirty_cpumask);
        hd->copies_closed = copies;
    }
    spin_unlock(&hd->copies_lock);
}

/*
 * Local variables:
 * mode: C
 * c-file-style: "BSD"
 * c-basic-offset: 4
 * tab-width: 4
 * indent-tabs-mode: nil
 * End:
 */
