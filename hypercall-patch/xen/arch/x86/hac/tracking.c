/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * PTxen: pages of an area are read-only; the first write to one faults, Xen
 * notes the page and opens it (DSN 2011, section V). begin and end cost what
 * the dirty pages cost, not what the area costs.
 */

#include "private.h"

static bool cf_check tracking_fault(struct hac_area *area, unsigned long addr,
                                    struct cpu_user_regs *regs)
{
    return hac_open_page(area, addr);
}

/* Watch an entry. False: it can't be, and counts as written for ever. */
static bool watch(struct hac_region *region, l1_pgentry_t *table,
                  unsigned int slot, struct hac_harvest *h)
{
    l1_pgentry_t l1e = l1e_read_atomic(&table[slot]);
    unsigned int flags = l1e_get_flags(l1e);

    if ( !(flags & _PAGE_PRESENT) )
        return true;
    if ( flags & _PAGE_RW )
    {
        if ( test_bit(slot, region->keep) )
            return false;
        if ( !hac_entry_close(region, &table[slot], true) )
            return false;
        hac_note_flush(h, region, slot);
    }
    else if ( (flags & _PAGE_HAC) && region->unwatched )
    {
        l1e_remove_flags(l1e, _PAGE_HAC);
        hac_entry_set(region, &table[slot], l1e, _PAGE_ACCESSED | _PAGE_DIRTY);
    }
    else if ( !(flags & _PAGE_HAC) && test_bit(slot, region->dirty) )
        /* The guest has closed it (fork), and may not have flushed it yet. */
        hac_note_flush(h, region, slot);

    return true;
}

unsigned int cf_check hac_collect_dirty(struct hac_region *region,
                                        l1_pgentry_t *table, unsigned int slot,
                                        struct hac_harvest *h)
{
    const unsigned int first = hac_first_slot(region);
    const unsigned int end = hac_end_slot(region);
    const bool all = region->unwatched && table && !h->peek;
    bool left = slot > first; /* there may be bits in dirty */

    if ( slot <= first && !h->peek )
        region->from_start = true;

    for ( slot = max(slot, first); ; slot++ )
    {
        if ( !all )
            slot = find_next_bit(region->dirty, end, slot);
        if ( slot >= end )
            break;
        if ( !h->work )
            return slot;
        h->work--;
        if ( test_bit(slot, region->dirty) && !hac_report(h, region, slot) )
            return slot;
        if ( h->peek )
            continue;
        if ( !table || watch(region, table, slot, h) )
            __clear_bit(slot, region->dirty);
        else
        {
            __set_bit(slot, region->dirty);
            left = true;
        }
    }

    if ( !h->peek )
    {
        /*
         * Without a table there is nothing to watch; one may appear. If it was
         * exchanged since an earlier call began here, its first entries, and
         * the marks in them, are still to be gone through.
         */
        region->unwatched = !table || !region->from_start;
        region->touched = left && find_first_bit(region->dirty, end) < end;
    }

    return REGION_PAGES;
}

const struct hac_handler hac_tracking = {
    .fault = tracking_fault,
    .collect = hac_collect_dirty,
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
