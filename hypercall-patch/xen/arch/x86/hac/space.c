/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Identity: which address spaces have areas, and which L1 tables map these.
 *
 * A space is the frame of a root table that Xen has validated. When the frame
 * is a root table no longer (exit, exec, a crash: whatever ended the process),
 * the space and its areas end, and the next one in that frame starts with none.
 */

#include <xen/err.h>
#include <xen/param.h>
#include <xen/xmalloc.h>

#include "private.h"

DEFINE_RCU_READ_LOCK(hac_rcu);

/* Memory in Xen that the areas of one domain may take. */
unsigned long __read_mostly hac_quota = MB(4);
size_param("hac-quota", hac_quota);

static unsigned int space_hash(mfn_t root)
{
    return mfn_x(root) % HAC_SPACES_HASH;
}

static unsigned int table_hash(mfn_t table)
{
    return mfn_x(table) % HAC_TABLES_HASH;
}

struct hac_space *hac_space_find(const struct hac_domain *hd, mfn_t root)
{
    struct hac_space *space = rcu_dereference(hd->spaces[space_hash(root)]);

    while ( space && !mfn_eq(space->root, root) )
        space = rcu_dereference(space->next);

    return space;
}

struct hac_area *hac_area_find(const struct hac_space *space,
                               unsigned long addr)
{
    unsigned int i, left = ACCESS_ONCE(space->count);

    for ( i = 0; i < HAC_XEN_MAX_AREAS && left; i++ )
    {
        struct hac_area *area = rcu_dereference(space->areas[i]);

        if ( !area )
            continue;
        left--;
        if ( addr - area->start < (unsigned long)area->pages << PAGE_SHIFT )
            return area;
    }

    return NULL;
}

static void cf_check free_area(struct rcu_head *head)
{
    xfree(container_of(head, struct hac_area, rcu));
}

static void cf_check free_space(struct rcu_head *head)
{
    xfree(container_of(head, struct hac_space, rcu));
}

/* The area is in no space any more, and no table leads to it. */
static void release(struct hac_domain *hd, struct hac_area *area)
{
    ASSERT(spin_is_locked(&hd->lock));
    hd->bytes -= area->bytes;
    hd->areas--;
    call_rcu(&area->rcu, free_area);
}

static struct hac_domain *domain_get(struct domain *d)
{
    struct hac_domain *hd = hac_of(d), *found;

    if ( hd )
        return hd;

    hd = xzalloc(struct hac_domain);
    if ( !hd )
        return NULL;
    spin_lock_init(&hd->lock);
    spin_lock_init(&hd->scan_lock);
    spin_lock_init(&hd->copies_lock);
    rwlock_init(&hd->tables_lock);

    found = cmpxchgptr(&d->arch.pv.hac, NULL, hd);
    if ( !found )
        return hd;
    xfree(hd);

    return found;
}

static bool overlaps(const struct hac_space *space, const struct hac_area *area)
{
    unsigned long end = area->start + ((unsigned long)area->pages << PAGE_SHIFT);
    unsigned int i;

    for ( i = 0; i < HAC_XEN_MAX_AREAS; i++ )
    {
        const struct hac_area *other = space->areas[i];

        if ( other && area->start < other->start +
                                    ((unsigned long)other->pages << PAGE_SHIFT) &&
             other->start < end )
            return true;
    }

    return false;
}

/* The caller's space, made if it is not there. hd->lock is held. */
static struct hac_space *space_get(struct hac_domain *hd)
{
    mfn_t root = hac_current_root();
    struct hac_space *space = hac_space_find(hd, root);
    struct hac_space **chain = &hd->spaces[space_hash(root)];

    if ( space )
        return space;

    if ( hd->bytes + sizeof(*space) > hac_quota )
        return ERR_PTR(-ENOSPC);
    space = xzalloc(struct hac_space);
    if ( !space )
        return ERR_PTR(-ENOMEM);
    space->root = root;
    space->next = *chain;
    hd->bytes += sizeof(*space);
    rcu_assign_pointer(*chain, space);

    return space;
}

static void space_put(struct hac_domain *hd, struct hac_space *space)
{
    struct hac_space **p = &hd->spaces[space_hash(space->root)];

    while ( *p != space )
        p = &(*p)->next;
    rcu_assign_pointer(*p, space->next);
    hd->bytes -= sizeof(*space);
    call_rcu(&space->rcu, free_space);
}

static int insert(struct hac_domain *hd, struct hac_space *space,
                  struct hac_area *area)
{
    unsigned int i = 0;

    while ( i < HAC_XEN_MAX_AREAS && space->areas[i] )
        i++;
    if ( i == HAC_XEN_MAX_AREAS )
        return -ENOSPC;
    if ( overlaps(space, area) )
        return -EINVAL;
    if ( hd->bytes + area->bytes > hac_quota )
        return -ENOSPC;

    hd->bytes += area->bytes;
    hd->areas++;
    rcu_assign_pointer(space->areas[i], area);
    space->count++;

    return i;
}

int hac_area_insert(struct domain *d, struct hac_area *area)
{
    struct hac_domain *hd = domain_get(d);
    struct hac_space *space;
    int rc;

    if ( !hd )
        return -ENOMEM;

    spin_lock(&hd->lock);
    space = space_get(hd);
    rc = IS_ERR(space) ? PTR_ERR(space) : insert(hd, space, area);
    if ( rc < 0 && !IS_ERR(space) && !space->count )
        space_put(hd, space);
    spin_unlock(&hd->lock);

    return rc;
}

/* hd->tables_lock is held for writing. */
static void unlink_region(struct hac_domain *hd, struct hac_region *region)
{
    struct hac_region **p = &hd->tables[table_hash(region->table)];

    while ( *p != region )
        p = &(*p)->next;
    *p = region->next;
    region->table = INVALID_MFN;
    region->area->tables--;
}

static void detach_all(struct hac_domain *hd, struct hac_area *area)
{
    unsigned int i;

    write_lock(&hd->tables_lock);
    for ( i = 0; i < area->regions_count; i++ )
        if ( !mfn_eq(area->regions[i].table, INVALID_MFN) )
            unlink_region(hd, &area->regions[i]);
    write_unlock(&hd->tables_lock);
}

void hac_area_remove(struct hac_area *area, unsigned int number)
{
    struct hac_domain *hd = hac_of(area->domain);
    struct hac_space *space;

    detach_all(hd, area);

    spin_lock(&hd->lock);
    space = hac_space_find(hd, hac_current_root());
    rcu_assign_pointer(space->areas[number], NULL);
    space->count--;
    release(hd, area);
    if ( !space->count )
        space_put(hd, space);
    spin_unlock(&hd->lock);
}

/*
 * A scan's cleared bits have to go back into the tables before the guest looks
 * at them, so the area stays until its last table is gone.
 */
static bool keep_as_orphan(struct hac_domain *hd, struct hac_area *area)
{
    write_lock(&hd->tables_lock);
    area->orphan = area->handler->restore && area->tables;
    write_unlock(&hd->tables_lock);

    return area->orphan;
}

void hac_space_gone(struct domain *d, mfn_t root)
{
    struct hac_domain *hd = hac_of(d);
    struct hac_space *space;
    unsigned int i;

    spin_lock(&hd->lock);
    space = hac_space_find(hd, root);
    if ( space )
    {
        for ( i = 0; i < HAC_XEN_MAX_AREAS; i++ )
        {
            struct hac_area *area = space->areas[i];

            if ( !area )
                continue;
            rcu_assign_pointer(space->areas[i], NULL);
            if ( keep_as_orphan(hd, area) )
                continue;
            detach_all(hd, area);
            release(hd, area);
        }
        space_put(hd, space);
    }
    spin_unlock(&hd->lock);
}

/* Whatever was in the pages, it need not be there any more. */
static void all_dirty(struct hac_region *region)
{
    unsigned int slot;

    for ( slot = hac_first_slot(region); slot < hac_end_slot(region); slot++ )
        hac_mark_dirty(region, slot);
    bitmap_zero(region->cleared, REGION_PAGES);
    region->unwatched = true;
    region->from_start = false;
}

void hac_region_attach(struct hac_region *region, mfn_t table)
{
    struct hac_domain *hd = hac_of(region->area->domain);
    struct hac_region **chain = &hd->tables[table_hash(table)];

    write_lock(&hd->tables_lock);
    region->table = table;
    region->next = *chain;
    *chain = region;
    region->area->tables++;
    write_unlock(&hd->tables_lock);
    all_dirty(region);
}

/* Forget a table, unless hac_table_gone() was faster. */
void hac_region_lose(struct hac_region *region, mfn_t table)
{
    struct hac_domain *hd = hac_of(region->area->domain);

    write_lock(&hd->tables_lock);
    if ( mfn_eq(region->table, table) )
    {
        unlink_region(hd, region);
        all_dirty(region);
    }
    write_unlock(&hd->tables_lock);
}

static void restore_all(struct hac_region *region, l1_pgentry_t *pl1e)
{
    unsigned int slot;

    if ( region->area->handler->restore )
        for_each_set_bit ( slot, region->cleared, REGION_PAGES )
            region->area->handler->restore(region, pl1e, slot);
}

void hac_table_gone(struct domain *d, mfn_t table, l1_pgentry_t *pl1e)
{
    struct hac_domain *hd = hac_of(d);
    struct hac_region *region, *next;
    struct hac_area *ended = NULL, *next_ended;

    write_lock(&hd->tables_lock);
    for ( region = hd->tables[table_hash(table)]; region; region = next )
    {
        next = region->next;
        if ( !mfn_eq(region->table, table) )
            continue;
        restore_all(region, pl1e);
        unlink_region(hd, region);
        all_dirty(region);
        if ( region->area->orphan && !region->area->tables )
        {
            region->area->next_ended = ended;
            ended = region->area;
        }
    }
    write_unlock(&hd->tables_lock);

    for ( ; ended; ended = next_ended )
    {
        next_ended = ended->next_ended;
        spin_lock(&hd->lock);
        release(hd, ended);
        spin_unlock(&hd->lock);
    }
}

void hac_domain_destroy(struct domain *d)
{
    struct hac_domain *hd = hac_of(d);

    if ( !hd )
        return;

    /* All page tables are gone by now, and with them all areas. */
    if ( hd->areas )
        printk(XENLOG_WARNING "hac: %pd ends with %u areas registered\n",
               d, hd->areas);
    XFREE(d->arch.pv.hac);
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
