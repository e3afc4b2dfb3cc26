/* SPDX-License-Identifier: GPL-2.0-only */
/* Areas: registering, unregistering, statistics. */

#include <xen/err.h>
#include <xen/nospec.h>
#include <xen/xmalloc.h>

#include "private.h"

/* Addresses of processes, of whatever width. */
#define USER_END (1UL << 47)

bool hac_in_user_range(unsigned long addr, unsigned long bytes)
{
    return addr < USER_END && bytes <= USER_END - addr;
}

bool hac_copy_in(void *to, unsigned long from, unsigned int bytes)
{
    return hac_in_user_range(from, bytes) &&
           !copy_from_guest_pv(to, (const void __user *)from, bytes);
}

bool hac_copy_out(unsigned long to, const void *from, unsigned int bytes)
{
    return hac_in_user_range(to, bytes) &&
           !copy_to_guest_pv((void __user *)to, from, bytes);
}

static const struct hac_handler *const handlers[HAC_XEN_HANDLERS] = {
    [HAC_XEN_TRACKING] = &hac_tracking,
    [HAC_XEN_EMULATION] = &hac_emulation,
    [HAC_XEN_SCAN] = &hac_scan,
};

static bool is_valid(const struct hac_xen_area *request)
{
    unsigned long bytes = (unsigned long)request->pages << PAGE_SHIFT;

    if ( request->reserved || request->handler >= HAC_XEN_HANDLERS ||
         !request->pages || request->pages > HAC_XEN_MAX_PAGES ||
         (request->start & ~PAGE_MASK) || !hac_in_user_range(request->start, bytes) )
        return false;

    if ( request->handler != HAC_XEN_EMULATION )
        return !request->log && !request->log_entries;

    return !(request->log & 7) && request->log_entries >= 2 &&
           !(request->log_entries & 1) &&
           request->log_entries <= HAC_XEN_MAX_LOG &&
           hac_in_user_range(request->log, request->log_entries *
                                       sizeof(struct hac_xen_store));
}

static struct hac_area *create(const struct hac_xen_area *request)
{
    unsigned long last = request->start +
                         ((unsigned long)request->pages << PAGE_SHIFT) - 1;
    unsigned int i, count = (last >> REGION_SHIFT) -
                            (request->start >> REGION_SHIFT) + 1;
    unsigned long bytes = sizeof(struct hac_area) +
                          count * sizeof(struct hac_region);
    struct hac_area *area;

    /* Before Xen's memory is taken, however briefly. */
    if ( bytes > hac_quota )
        return ERR_PTR(-ENOSPC);
    area = xzalloc_bytes(bytes);
    if ( !area )
        return ERR_PTR(-ENOMEM);

    spin_lock_init(&area->lock);
    area->domain = current->domain;
    area->handler = handlers[array_index_nospec(request->handler,
                                                HAC_XEN_HANDLERS)];
    area->start = request->start;
    area->pages = request->pages;
    area->bytes = bytes;
    area->emulation.log = request->log;
    area->emulation.entries = request->log_entries / 2;
    area->regions_count = count;
    /* Marks that an earlier area left are worth nothing. */
    area->copies = area->copies_closed = 1;
    for ( i = 0; i < count; i++ )
    {
        area->regions[i].area = area;
        area->regions[i].base = (area->start & ~((1UL << REGION_SHIFT) - 1)) +
                                ((unsigned long)i << REGION_SHIFT);
        area->regions[i].table = INVALID_MFN;
        area->regions[i].unwatched = true;
    }

    return area;
}

long hac_register(unsigned long from)
{
    struct hac_xen_area request;
    struct hac_area *area;
    int rc;

    if ( !hac_copy_in(&request, from, sizeof(request)) )
        return -EFAULT;
    if ( !is_valid(&request) )
        return -EINVAL;
    if ( paging_mode_enabled(current->domain) )
        return -EBUSY;

    area = create(&request);
    if ( IS_ERR(area) )
        return PTR_ERR(area);
    rc = hac_area_insert(current->domain, area);
    if ( rc < 0 )
        xfree(area);

    return rc;
}

/* Locked, in rcu_read_lock(); or NULL. */
struct hac_area *hac_area_get(unsigned int number)
{
    const struct hac_domain *hd = hac_of(current->domain);
    const struct hac_space *space;
    struct hac_area *area;

    if ( !hd || number >= HAC_XEN_MAX_AREAS )
        return NULL;
    space = hac_space_find(hd, hac_current_root());
    if ( !space )
        return NULL;
    area = rcu_dereference(space->areas[array_index_nospec(number,
                                                   HAC_XEN_MAX_AREAS)]);
    if ( !area )
        return NULL;
    spin_lock(&area->lock);
    if ( !area->dead )
        return area;
    spin_unlock(&area->lock);

    return NULL;
}

/* The bits that a scan cleared go back into the tables. */
static bool restore_some(struct hac_area *area)
{
    unsigned int i, work = HAC_XEN_CHUNK / REGION_PAGES;

    for ( i = 0; i < area->regions_count; i++ )
    {
        struct hac_region *region = &area->regions[i];
        l1_pgentry_t *table;
        unsigned int slot;
        bool busy;

        if ( find_first_bit(region->cleared, REGION_PAGES) >= REGION_PAGES )
            continue;
        if ( !work-- )
            return false;
        table = hac_lock_table(region, &busy);
        if ( busy )
            return false;
        for_each_set_bit ( slot, region->cleared, REGION_PAGES )
            area->handler->restore(region, table, slot);
        if ( table )
            hac_unlock_table(region, table);
    }

    return true;
}

/*
 * A fork may be under way that has copied an entry before Xen opened its page.
 * Nobody would close the page when the copy shows up: the area will be gone. So
 * nothing that Xen has opened stays open, and from now on it opens nothing.
 */
static bool close_some(struct hac_area *area)
{
    unsigned int work = HAC_XEN_CHUNK;
    bool through;

    if ( area->cursor_call != HAC_XEN_unregister_area )
    {
        area->cursor_call = HAC_XEN_unregister_area;
        area->cursor = 0;
    }
    (void)arch_fetch_and_add(&area->copies, 1);

    for ( ; area->cursor < area->regions_count; area->cursor++ )
    {
        struct hac_region *region = &area->regions[area->cursor];
        /* One that is not touched has to be locked, too: a CPU that opens a
         * page may be about to say so. */
        unsigned int cost = region->touched ? REGION_PAGES : 1;

        if ( work < cost )
            break;
        work -= cost;
        hac_close_open_pages(region);
    }
    through = area->cursor == area->regions_count;
    flush_tlb_mask(area->domain->dirty_cpumask);

    return through;
}

long hac_unregister(unsigned int number)
{
    struct hac_area *area;
    long rc = -EINVAL;

    rcu_read_lock(&hac_rcu);
    area = hac_area_get(number);
    if ( area )
    {
        rc = HAC_XEN_MORE;
        if ( area->handler->restore ? restore_some(area) : close_some(area) )
        {
            rc = 0;
            area->dead = true;
            /* No store goes into the caller's log after the call. */
            area->emulation.draining = true;
            smp_mb();
            while ( atomic_read(&area->emulation.under_way) )
                cpu_relax();
        }
        spin_unlock(&area->lock);
        if ( !rc )
            hac_area_remove(area, number);
    }
    rcu_read_unlock(&hac_rcu);

    return rc;
}

static void fill(struct hac_xen_statistics *out, const struct hac_area *area)
{
    out->faults = area->faults;
    out->opened = area->opened;
    out->emulated = area->emulated;
    out->not_emulated = area->not_emulated;
    out->guest_updates = area->guest_updates;
    out->scanned = area->scanned;
    out->skipped = area->skipped;
    out->areas = 1;
    out->bytes = area->bytes;
}

long hac_statistics(unsigned int number, unsigned long to)
{
    struct hac_xen_statistics out = { .bytes_max = hac_quota };
    const struct hac_domain *hd = hac_of(current->domain);
    struct hac_area *area;
    long rc = 0;

    if ( number == HAC_XEN_ALL )
    {
        if ( hd )
        {
            out.areas = ACCESS_ONCE(hd->areas);
            out.bytes = ACCESS_ONCE(hd->bytes);
        }
    }
    else
    {
        rcu_read_lock(&hac_rcu);
        area = hac_area_get(number);
        if ( area )
        {
            fill(&out, area);
            spin_unlock(&area->lock);
        }
        else
            rc = -EINVAL;
        rcu_read_unlock(&hac_rcu);
    }

    if ( !rc && !hac_copy_out(to, &out, sizeof(out)) )
        rc = -EFAULT;

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
