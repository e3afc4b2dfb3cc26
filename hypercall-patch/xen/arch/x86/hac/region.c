/* SPDX-License-Identifier: GPL-2.0-only */
/* Regions: finding, locking and opening entries of the tables of an area. */

#include "private.h"

/* The page of an L1 table of the domain, locked; or NULL. */
static struct page_info *lock_l1(const struct domain *d, mfn_t table)
{
    struct page_info *page;

    if ( mfn_eq(table, INVALID_MFN) || !mfn_valid(table) )
        return NULL;
    page = mfn_to_page(table);
    if ( page_get_owner(page) != d || !page_lock(page) )
        return NULL;
    if ( (page->u.inuse.type_info & PGT_type_mask) == PGT_l1_page_table )
        return page;
    page_unlock(page);

    return NULL;
}

/*
 * The region's table no longer maps it: put back what the guest must see in it,
 * and forget it. False: hac_table_gone() is about to do that.
 */
static bool give_up_table(struct hac_region *region)
{
    const struct hac_area *area = region->area;
    mfn_t table = region->table;
    struct page_info *page = lock_l1(area->domain, table);

    if ( !page )
        return mfn_eq(region->table, INVALID_MFN);

    if ( area->handler->restore && mfn_eq(region->table, table) )
    {
        l1_pgentry_t *entries = map_domain_page(table);
        unsigned int slot;

        for_each_set_bit ( slot, region->cleared, REGION_PAGES )
            area->handler->restore(region, entries, slot);
        unmap_domain_page(entries);
    }
    /* Not later: a table that has come back meanwhile could be opened by then. */
    hac_region_lose(region, table);
    page_unlock(page);

    return true;
}

l1_pgentry_t *hac_lock_table(struct hac_region *region, bool *busy)
{
    mfn_t table = hac_read_table(&__linear_l2_table[
                      l2_linear_offset(region->base)]);

    *busy = false;
    if ( !mfn_eq(region->table, INVALID_MFN) &&
         !mfn_eq(region->table, table) && !give_up_table(region) )
    {
        *busy = true;
        return NULL;
    }
    if ( !lock_l1(region->area->domain, table) )
    {
        *busy = !mfn_eq(region->table, INVALID_MFN);
        return NULL;
    }

    /* While it is locked it stays a table, and the region's. */
    if ( mfn_eq(region->table, INVALID_MFN) )
        hac_region_attach(region, table);

    return map_domain_page(table);
}

void hac_unlock_table(const struct hac_region *region, l1_pgentry_t *table)
{
    unmap_domain_page(table);
    page_unlock(mfn_to_page(region->table));
}

bool hac_open_page(struct hac_area *area, unsigned long addr)
{
    struct hac_region *region = hac_region_of(area, addr);
    mfn_t table = region->table;
    unsigned int slot = hac_slot_of(addr);
    struct page_info *page;
    l1_pgentry_t *pl1e;
    bool opened = false;

    if ( mfn_eq(table, INVALID_MFN) )
        return false;
    page = mfn_to_page(table);
    if ( !page_lock(page) )
        return false;

    if ( hac_may_open(region, table, addr) )
    {
        pl1e = map_domain_page(table);
        pl1e += slot;
        if ( (l1e_get_flags(*pl1e) &
              (_PAGE_PRESENT | _PAGE_RW | _PAGE_HAC)) ==
             (_PAGE_PRESENT | _PAGE_HAC) &&
             hac_entry_open(region, pl1e) )
        {
            hac_mark_dirty(region, slot);
            area->opened++;
            opened = true;
        }
        unmap_domain_page(pl1e);
    }
    page_unlock(page);

    return opened;
}

bool hac_report(struct hac_harvest *h, const struct hac_region *region,
                unsigned int slot)
{
    if ( h->discard )
        return true;
    if ( !h->room )
        return false;
    h->room--;
    h->pages[h->count++] = hac_page_of(region, slot);

    return true;
}

void hac_note_flush(struct hac_harvest *h, const struct hac_region *region,
                    unsigned int slot)
{
    if ( h->flush_count < ARRAY_SIZE(h->flush_addr) )
        h->flush_addr[h->flush_count] = region->base +
                                        ((unsigned long)slot << PAGE_SHIFT);
    h->flush_count++;
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
