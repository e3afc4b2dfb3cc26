/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Entries of L1 tables: taking away and giving back write permission.
 *
 * An entry with write permission holds a reference of type PGT_writable_page
 * to its page, besides the general one that every present entry holds. Taking
 * the permission away drops the type reference, giving it back takes it again,
 * and fails if the page has meanwhile become something that must not be
 * written, a page table for one.
 */

#include "private.h"

void hac_entry_set(const struct hac_region *region, l1_pgentry_t *pl1e,
                   l1_pgentry_t new, unsigned int hardware)
{
    struct domain *d = region->area->domain;
    struct vcpu *v = current->domain == d ? current : d->vcpu[0];
    intpte_t old = l1e_get_intpte(l1e_read_atomic(pl1e)), seen;

    for ( ; ; )
    {
        /* Knows of shadow page tables, should the domain be on them. */
        seen = paging_cmpxchg_guest_entry(v, &l1e_get_intpte(*pl1e), old,
                                          l1e_get_intpte(new) | (old & hardware),
                                          region->table);
        if ( seen == old )
            return;
        /* Under page_lock() only the hardware changes it. */
        ASSERT(!((seen ^ old) & ~(intpte_t)(_PAGE_ACCESSED | _PAGE_DIRTY)));
        old = seen;
    }
}

/*
 * Not ours: pages of other domains, grants, MMIO. Their references follow other
 * rules, so they stay writable and count as written always.
 */
static struct page_info *own_page(const struct domain *d, l1_pgentry_t l1e)
{
    struct page_info *page;

#if _PAGE_GNTTAB
    if ( l1e_get_flags(l1e) & _PAGE_GNTTAB )
        return NULL;
#endif
    if ( !mfn_valid(l1e_get_mfn(l1e)) )
        return NULL;
    page = l1e_get_page(l1e);

    return page_get_owner(page) == d ? page : NULL;
}

bool hac_entry_close(const struct hac_region *region, l1_pgentry_t *pl1e,
                     bool ours)
{
    l1_pgentry_t l1e = l1e_read_atomic(pl1e);
    struct page_info *page = own_page(region->area->domain, l1e);

    if ( !page )
        return false;

    l1e_remove_flags(l1e, _PAGE_RW | _PAGE_HAC);
    if ( ours )
        /*
         * Dirty, so that same-page merging cannot take the page for one that
         * is read-only and clean anyway, and share it without a word to Xen.
         */
        l1e_add_flags(l1e, _PAGE_HAC | _PAGE_DIRTY);
    hac_entry_set(region, pl1e, l1e, _PAGE_ACCESSED | _PAGE_DIRTY);
    put_page_type(page);

    return true;
}

struct page_info *hac_hold_writable(l1_pgentry_t l1e)
{
    /* It has a mark, so it was the domain's own page when it was closed. */
    struct page_info *page = l1e_get_page(l1e);
    unsigned long type;

    /* Not by failing get_page_type(), which would complain on the console. */
    type = ACCESS_ONCE(page->u.inuse.type_info);
    if ( (type & PGT_count_mask) && (type & PGT_type_mask) != PGT_writable_page )
        return NULL;

    return get_page_type(page, PGT_writable_page) ? page : NULL;
}

bool hac_entry_open(const struct hac_region *region, l1_pgentry_t *pl1e)
{
    l1_pgentry_t l1e = l1e_read_atomic(pl1e);

    if ( !hac_hold_writable(l1e) )
        return false;

    l1e_remove_flags(l1e, _PAGE_HAC);
    l1e_add_flags(l1e, _PAGE_RW);
    hac_entry_set(region, pl1e, l1e, _PAGE_ACCESSED | _PAGE_DIRTY);

    return true;
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
