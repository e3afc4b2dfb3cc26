/* SPDX-License-Identifier: GPL-2.0-only */
/* The calls that begin and end transactions. */

#include "private.h"

/* One flush for all entries of a call. */
static void flush(const struct domain *d, const struct hac_harvest *h)
{
    const cpumask_t *mask = d->dirty_cpumask;
    unsigned int i;

    if ( !h->flush_count )
        return;

    if ( h->flush_count <= ARRAY_SIZE(h->flush_addr) &&
         cpumask_equal(mask, cpumask_of(smp_processor_id())) )
        for ( i = 0; i < h->flush_count; i++ )
            flush_tlb_one_local(h->flush_addr[i]);
    else
        flush_tlb_mask(mask);
}

/*
 * One region, from `slot` on. Returns the next slot, REGION_PAGES when through.
 */
static unsigned int collect(struct hac_region *region, unsigned int slot,
                            struct hac_harvest *h)
{
    bool busy;
    l1_pgentry_t *table = hac_lock_table(region, &busy);

    if ( busy )
    {
        /* Somebody unmaps it. All of it will be dirty in the next report. */
        region->touched = true;
        return REGION_PAGES;
    }
    slot = region->area->handler->collect(region, table, slot, h);
    if ( table )
        hac_unlock_table(region, table);

    return slot;
}

/* What could not be handed over is reported again. */
static void give_back(struct hac_region *region, const struct hac_harvest *h)
{
    bool busy;
    l1_pgentry_t *table = hac_lock_table(region, &busy);
    unsigned int i;

    for ( i = 0; !busy && i < h->count; i++ )
        hac_mark_dirty(region, h->pages[i] - hac_page_of(region, 0));
    if ( table )
        hac_unlock_table(region, table);
}

/*
 * Go through the regions from the cursor on; hand over what is found. Returns
 * the number of pages, or -EFAULT.
 */
static long walk(struct hac_area *area, unsigned long pages, unsigned int max,
                 struct hac_harvest *h)
{
    unsigned int page = area->cursor - hac_page_of(area->regions, 0), total = 0;
    unsigned int slot = page % REGION_PAGES;
    struct hac_region *region = &area->regions[page / REGION_PAGES];
    const l2_pgentry_t *pl2e = &__linear_l2_table[
                                   l2_linear_offset(region->base)];
    const struct hac_region *end = area->regions + area->regions_count;

    for ( ; region < end; region++, pl2e++, slot = 0 )
    {
        unsigned int from = slot;

        if ( mfn_eq(region->table, hac_read_table(pl2e)) &&
             !hac_is_touched(region) )
            continue;

        h->count = 0;
        h->room = min(max - total, REGION_PAGES + 0U);
        slot = collect(region, slot, h);
        if ( h->count &&
             !hac_copy_out(pages + total * 4UL, h->pages, h->count * 4) )
        {
            if ( !h->peek )
                give_back(region, h);
            if ( !total )
                return -EFAULT;
            /* What was handed over counts; the next call says -EFAULT. */
            slot = from;
            break;
        }
        total += h->count;
        if ( slot < REGION_PAGES )
            break;
    }
    h->walked_all = region == end;
    area->cursor = h->walked_all ? area->pages : hac_page_of(region, slot);

    return total;
}

static void begin_walk(struct hac_harvest *h, struct hac_area *area,
                  unsigned int call)
{
    *h = (struct hac_harvest){ .work = HAC_XEN_CHUNK };

    if ( area->cursor_call != call )
    {
        area->cursor_call = call;
        area->cursor = 0;
    }
    if ( !area->cursor && !hac_trusts_marks(area) )
    {
        unsigned int i;

        /* Each entry has to be looked at, and its mark taken off. */
        area->copies_walking = ACCESS_ONCE(area->copies_closed);
        smp_rmb();
        for ( i = 0; i < area->regions_count; i++ )
            area->regions[i].unwatched = true;
    }
    if ( !area->cursor && area->handler->prepare )
        area->handler->prepare(area);
}

/* True if the call is through with the area. */
static bool end_walk(struct hac_harvest *h, struct hac_area *area)
{
    flush(area->domain, h);
    if ( !h->walked_all )
        return false;
    area->cursor = 0;
    area->cursor_call = HAC_XEN_version;
    area->copies_seen = area->copies_walking;

    return true;
}

/* The pages that stay writable from now on. */
static long keep_pages(struct hac_area *area, unsigned long from,
                       struct hac_xen_keep *keep, unsigned int call)
{
    unsigned int i;

    if ( !from )
        keep->count = 0;
    else if ( !hac_copy_in(keep, from, sizeof(*keep)) )
        return -EFAULT;
    else if ( keep->reserved || keep->count > HAC_XEN_CHUNK )
        return -EINVAL;

    for ( i = 0; i < keep->count; i++ )
    {
        uint32_t page;

        if ( !hac_copy_in(&page, keep->pages + i * 4UL, sizeof(page)) )
            return -EFAULT;
        if ( page >= area->pages )
            return -EINVAL;
    }
    /* Not for a call that is repeated. */
    if ( area->cursor && area->cursor_call == call )
        return 0;

    if ( area->kept )
        for ( i = 0; i < area->regions_count; i++ )
            bitmap_zero(area->regions[i].keep, REGION_PAGES);
    area->kept = keep->count;

    for ( i = 0; i < keep->count; i++ )
    {
        uint32_t page;
        unsigned long addr;

        /* The caller may have changed its mind since the check. */
        if ( !hac_copy_in(&page, keep->pages + i * 4UL, sizeof(page)) ||
             page >= area->pages )
            continue;
        addr = area->start + ((unsigned long)page << PAGE_SHIFT);
        __set_bit(hac_slot_of(addr), hac_region_of(area, addr)->keep);
    }

    return 0;
}

/* Open those of them that are not open: they count as written. */
static void open_kept(struct hac_area *area)
{
    unsigned int i, slot;

    /*
     * A scan closes nothing, and does not go by marks: those in its tables are
     * of an earlier area, and the page may be shared by now.
     */
    if ( !area->kept || area->handler->restore )
        return;
    for ( i = 0; i < area->regions_count; i++ )
        for_each_set_bit ( slot, area->regions[i].keep, REGION_PAGES )
            if ( !test_bit(slot, area->regions[i].dirty) )
                hac_open_page(area, area->regions[i].base +
                                    ((unsigned long)slot << PAGE_SHIFT));
}

/* Wait for the stores under way, and turn to the other half of the log. */
static unsigned long take_log(struct hac_area *area, bool take, bool *partial)
{
    unsigned long used;

    *partial = false;
    if ( !area->emulation.entries )
        return 0;

    area->emulation.draining = true;
    smp_mb();
    while ( atomic_read(&area->emulation.under_way) )
        cpu_relax();

    used = min(area->emulation.used, area->emulation.entries);
    if ( area->emulation.second )
        used |= HAC_XEN_SECOND_HALF;
    *partial = area->emulation.partial;
    if ( take )
    {
        area->emulation.second = !area->emulation.second;
        area->emulation.used = 0;
        area->emulation.partial = false;
    }

    smp_mb();
    area->emulation.draining = false;

    return used;
}

/* Forget all that was written, and watch everything. */
static long discard(struct hac_area *area, unsigned int call)
{
    struct hac_harvest h;
    bool partial;

    begin_walk(&h, area, call);
    h.discard = true;
    walk(area, 0, 0, &h);
    if ( !end_walk(&h, area) )
        return HAC_XEN_MORE;
    take_log(area, true, &partial);

    return 0;
}

long hac_begin(unsigned int number, unsigned long from)
{
    struct hac_area *area;
    struct hac_xen_keep keep;
    long rc = -EINVAL;

    rcu_read_lock(&hac_rcu);
    area = hac_area_get(number);
    if ( area )
    {
        if ( area->open )
            rc = -EEXIST;
        else if ( paging_mode_enabled(area->domain) )
            rc = -EBUSY;
        else
            rc = keep_pages(area, from, &keep, HAC_XEN_begin);
        if ( !rc )
            rc = discard(area, HAC_XEN_begin);
        if ( !rc )
        {
            open_kept(area);
            area->open = true;
        }
        spin_unlock(&area->lock);
    }
    rcu_read_unlock(&hac_rcu);

    return rc;
}

long hac_abort(unsigned int number)
{
    struct hac_area *area;
    long rc = -EINVAL;

    rcu_read_lock(&hac_rcu);
    area = hac_area_get(number);
    if ( area )
    {
        rc = area->open ? discard(area, HAC_XEN_abort) : -ENOENT;
        if ( !rc )
            area->open = false;
        spin_unlock(&area->lock);
    }
    rcu_read_unlock(&hac_rcu);

    return rc;
}

static long harvest(struct hac_area *area, unsigned long pages,
                    unsigned int max, bool next, unsigned long *second)
{
    uint32_t list[REGION_PAGES];
    struct hac_harvest h;
    bool partial, through;
    long rc;

    begin_walk(&h, area, next ? HAC_XEN_next : HAC_XEN_end);
    h.pages = list;
    rc = walk(area, pages, max, &h);
    through = end_walk(&h, area);
    if ( rc < 0 )
        return rc;

    *second = take_log(area, through, &partial);
    if ( partial )
        rc |= HAC_XEN_PARTIAL_LOG;
    if ( !through )
        return rc | HAC_XEN_MORE;

    if ( next )
        open_kept(area);
    else
        area->open = false;

    return rc;
}

/* The same, changing nothing. */
static long peek(struct hac_area *area, unsigned long pages, unsigned int max,
                 unsigned int page, unsigned long *second)
{
    uint32_t list[REGION_PAGES];
    struct hac_harvest h = {
        .work = HAC_XEN_CHUNK,
        .peek = true,
        .pages = list,
    };
    unsigned int cursor = area->cursor;
    bool partial;
    long rc;

    if ( area->handler->prepare )
        area->handler->prepare(area);
    area->cursor = page;
    rc = walk(area, pages, max, &h);
    page = area->cursor;
    area->cursor = cursor;
    if ( rc < 0 )
        return rc;
    *second = take_log(area, false, &partial);
    if ( !area->emulation.entries )
        *second = page;
    if ( partial )
        rc |= HAC_XEN_PARTIAL_LOG;
    if ( !h.walked_all )
        rc |= HAC_XEN_MORE;

    return rc;
}

/* True: a walk would find nothing. Not so for a scan, which has to prepare. */
static bool is_untouched(const struct hac_area *area)
{
    const struct hac_region *region = area->regions;
    const struct hac_region *end = region + area->regions_count;
    const l2_pgentry_t *pl2e = &__linear_l2_table[l2_linear_offset(region->base)];

    if ( area->handler->prepare )
        return false;
    for ( ; region < end; region++, pl2e++ )
        if ( !mfn_eq(region->table, hac_read_table(pl2e)) ||
             hac_is_touched(region) )
            return false;

    return true;
}

/* Is there anything to report? */
static long probe(struct hac_area *area, unsigned long *second)
{
    bool partial;

    if ( !is_untouched(area) )
        return peek(area, 0, 0, 0, second);
    *second = area->pages;
    if ( !area->emulation.entries )
        return 0;
    *second = take_log(area, false, &partial);

    return partial ? HAC_XEN_PARTIAL_LOG : 0;
}

/* While the domain is on shadow page tables nothing is watched. */
static long report_shadowed(struct hac_area *area)
{
    unsigned int i;

    for ( i = 0; i < area->regions_count; i++ )
        if ( !mfn_eq(area->regions[i].table, INVALID_MFN) )
            hac_region_lose(&area->regions[i], area->regions[i].table);

    return -EBUSY;
}

long hac_end(unsigned int number, unsigned long pages, unsigned int max,
             unsigned int flags, unsigned long extra, bool next,
             unsigned long *second)
{
    struct hac_area *area;
    struct hac_xen_keep keep;
    long rc = -EINVAL;

    if ( (flags & ~HAC_XEN_PEEK) || (!next && !flags && extra) )
        return -EINVAL;
    max = min(max, HAC_XEN_CHUNK + 0U);

    rcu_read_lock(&hac_rcu);
    area = hac_area_get(number);
    if ( area )
    {
        if ( !area->open )
            rc = -ENOENT;
        else if ( paging_mode_enabled(area->domain) )
            rc = report_shadowed(area);
        else if ( flags & HAC_XEN_PEEK )
            rc = extra < area->pages ? peek(area, pages, max, extra, second)
                                     : -EINVAL;
        else if ( !max )
            rc = probe(area, second);
        else
        {
            rc = next && (extra || area->kept)
                 ? keep_pages(area, extra, &keep, HAC_XEN_next) : 0;
            if ( !rc )
                rc = harvest(area, pages, max, next, second);
        }
        spin_unlock(&area->lock);
    }
    rcu_read_unlock(&hac_rcu);

    return rc;
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
