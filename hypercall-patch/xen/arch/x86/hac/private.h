/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracking of writes to critical data areas: what its files share.
 *
 * A space is the address space of a process, named by the frame of its root
 * table. An area is a range of pages in a space; a region is the part of an
 * area that one L1 table maps. All that Xen remembers of a page are bits in its
 * region; results go to buffers of the caller.
 *
 * An L1 entry of an area and its bits change together, under page_lock() of the
 * table. Guest kernels change entries, too, but not without Xen: hooks.c sees
 * each change. So no page of an area becomes writable, or another page, without
 * being recorded.
 *
 * Locks, from the outside in:
 *   area->lock         one call at a time works on an area
 *   hd->copies_lock    closing what was opened while the guest forked
 *   hd->scan_lock      accessed bits of L2 entries
 *   page_lock(table)   entries and bits
 *   hd->lock           spaces, areas in them, the quota
 *   hd->tables_lock    which region belongs to which table
 * Readers find spaces and areas without a lock, under rcu_read_lock().
 * Nothing is copied to or from the guest under page_lock().
 */
#ifndef __X86_HAC_PRIVATE_H__
#define __X86_HAC_PRIVATE_H__

#include <xen/domain_page.h>
#include <xen/lib.h>
#include <xen/rcupdate.h>
#include <xen/rwlock.h>
#include <xen/sched.h>
#include <xen/spinlock.h>

#include <asm/flushtlb.h>
#include <asm/hac.h>
#include <asm/paging.h>
#include <asm/uaccess.h>

#define REGION_SHIFT L2_PAGETABLE_SHIFT
#define REGION_PAGES L1_PAGETABLE_ENTRIES
#define REGION_WORDS (REGION_PAGES / BITS_PER_LONG)

struct hac_area;
struct hac_harvest;

struct hac_region {
    struct hac_area *area;
    unsigned long base;      /* the address that slot 0 would map */
    struct hac_region *next; /* in a chain of hd->tables */
    mfn_t table;             /* INVALID_MFN: none that we know */
    bool unwatched;          /* entries have to be gone through, all of them */
    bool from_start;         /* by a walk that began at the first of this table */
    bool touched;            /* there may be bits in dirty */
    bool accessed;           /* scan: somebody was here since the last one */
    unsigned long dirty[REGION_WORDS];
    unsigned long keep[REGION_WORDS];    /* leave writable */
    unsigned long cleared[REGION_WORDS]; /* scan: the guest's dirty bit is set,
                                          * the hardware's is not */
};

/* What happens on a write, and what a call reports of it. */
struct hac_handler {
    /* A write fault on a page that is present. True: the guest need not know. */
    bool (*fault)(struct hac_area *area, unsigned long addr,
                  struct cpu_user_regs *regs);

    /*
     * Before a call goes through the regions of an area, so that those that
     * nobody touched need not be. May be NULL.
     */
    void (*prepare)(struct hac_area *area);

    /*
     * Go through the entries of a region from `slot` on, under page_lock() of
     * its table: report what was written and watch it again. Returns the slot
     * that comes next, REGION_PAGES when through.
     */
    unsigned int (*collect)(struct hac_region *region, l1_pgentry_t *table,
                            unsigned int slot, struct hac_harvest *h);

    /* The guest is about to see an entry. May be NULL. */
    void (*restore)(struct hac_region *region, l1_pgentry_t *table,
                    unsigned int slot);
};

extern const struct hac_handler hac_tracking, hac_emulation, hac_scan;

/* `collect` of the handlers that keep entries read-only. */
unsigned int hac_collect_dirty(struct hac_region *region, l1_pgentry_t *table,
                               unsigned int slot, struct hac_harvest *h);

struct hac_area {
    struct rcu_head rcu;
    spinlock_t lock;
    struct domain *domain;
    const struct hac_handler *handler;
    unsigned long start;
    unsigned int pages;
    unsigned int bytes;   /* that this structure takes */
    bool open;            /* a transaction is */
    bool dead;            /* unregistered */
    bool orphan;          /* its space is gone, tables of it are not */
    unsigned int tables;  /* regions that have one; under hd->tables_lock */
    struct hac_area *next_ended;
    bool kept;            /* there are bits in regions' keep */

    /* A call that said HAC_XEN_MORE, and where it stopped. */
    unsigned int cursor_call;
    unsigned int cursor;

    /*
     * A fork copies entries that Xen made read-only, and the guest does not
     * know that parent and child may not share such a page writable. While
     * `copies` differs from what the last complete walk saw, Xen opens nothing.
     */
    unsigned int copies;
    unsigned int copies_closed; /* of these, hac_close_copied() is through */
    unsigned int copies_walking;
    unsigned int copies_seen;

    struct {
        unsigned long log;    /* the caller's address of both halves */
        unsigned int entries; /* in one half */
        bool second;          /* which half */
        bool draining;        /* a call waits for the stores under way */
        bool partial;         /* some stores are not in it */
        unsigned int used;    /* entries given out; may go beyond `entries` */
        atomic_t under_way;
    } emulation;

    /* For statistics only: two CPUs may lose a count. */
    unsigned long faults, opened, emulated, not_emulated, guest_updates;
    unsigned long scanned, skipped;

    unsigned int regions_count;
    struct hac_region regions[];
};

struct hac_space {
    struct rcu_head rcu;
    struct hac_space *next;
    mfn_t root;
    unsigned int count;
    struct hac_area *areas[HAC_XEN_MAX_AREAS];
};

/* The work of reading all entries of a region, in entries changed. */
#define HAC_SCAN_WORK (REGION_PAGES / 16)

#define HAC_SPACES_HASH 64
#define HAC_TABLES_HASH 1024

struct hac_domain {
    spinlock_t lock;
    struct hac_space *spaces[HAC_SPACES_HASH];
    unsigned long bytes;
    unsigned int areas;

    spinlock_t copies_lock;
    unsigned int copies;        /* that were noted in any area */
    unsigned int copies_closed; /* all pages opened meanwhile are closed */

    spinlock_t scan_lock; /* accessed bits of L2 entries, see scan.c */

    rwlock_t tables_lock;
    struct hac_region *tables[HAC_TABLES_HASH];
};

/* What a call collects, in pieces that fit on the stack. */
struct hac_harvest {
    unsigned int count; /* in pages[] */
    unsigned int room;  /* that pages[] may still take */
    unsigned int work;  /* entries that may still be looked at */
    bool peek;          /* change nothing */
    bool discard;       /* report nothing */
    bool walked_all;    /* nothing was left out for lack of room or work */
    unsigned int flush_count; /* entries that must leave the TLBs */
    unsigned long flush_addr[4];
    uint32_t *pages; /* REGION_PAGES of them, on the stack of the call */
};

extern rcu_read_lock_t hac_rcu;
extern unsigned long hac_quota;

/* ---- entry.c: entries of L1 tables ---- */

/* Exchange an entry; the bits of `hardware` that it has stay. */
void hac_entry_set(const struct hac_region *region, l1_pgentry_t *pl1e,
                   l1_pgentry_t new, unsigned int hardware);
/*
 * Take write permission away: for Xen to give back (ours), or for the guest to
 * find out that it is gone. False: it is not Xen's to take.
 */
bool hac_entry_close(const struct hac_region *region, l1_pgentry_t *pl1e,
                     bool ours);
/* Give back what hac_entry_close() took. */
bool hac_entry_open(const struct hac_region *region, l1_pgentry_t *pl1e);
/* The page of a marked entry with a PGT_writable_page reference, or NULL. */
struct page_info *hac_hold_writable(l1_pgentry_t l1e);

/* ---- area.c, transaction.c ---- */

/* The calls: arguments and results as in public/arch-x86/hac.h. */
long hac_register(unsigned long from);
long hac_unregister(unsigned int number);
long hac_begin(unsigned int number, unsigned long keep);
long hac_end(unsigned int number, unsigned long pages, unsigned int max,
             unsigned int flags, unsigned long extra, bool next,
             unsigned long *second);
long hac_abort(unsigned int number);
long hac_statistics(unsigned int number, unsigned long out);
/* The area of the caller, locked; or NULL. Under rcu_read_lock(). */
struct hac_area *hac_area_get(unsigned int number);
/* Addresses that come from the guest: of processes only, whatever it is that
 * runs. */
bool hac_in_user_range(unsigned long addr, unsigned long bytes);
bool hac_copy_in(void *to, unsigned long from, unsigned int bytes);
bool hac_copy_out(unsigned long to, const void *from, unsigned int bytes);

/* ---- region.c ---- */

/* The L1 table at an entry of the running address space's linear L2 table. */
static inline mfn_t hac_read_table(const l2_pgentry_t *pl2e)
{
    l2_pgentry_t l2e;

    if ( get_unsafe(l2e, pl2e) ||
         (l2e_get_flags(l2e) & (_PAGE_PRESENT | _PAGE_PSE)) != _PAGE_PRESENT )
        return INVALID_MFN;

    return l2e_get_mfn(l2e);
}

/*
 * The table of the region, locked and mapped; or NULL, if it has none. One that
 * was exchanged (munmap, mremap) is found here, and all its pages are dirty.
 * busy: the table is about to go, hac_table_gone() will tell: leave the region
 * alone until then.
 */
l1_pgentry_t *hac_lock_table(struct hac_region *region, bool *busy);
void hac_unlock_table(const struct hac_region *region, l1_pgentry_t *table);
/* Open the page of a fault. False: the guest has to look at it. */
bool hac_open_page(struct hac_area *area, unsigned long addr);
/* A page was written. False: there is no room to say so. */
bool hac_report(struct hac_harvest *h, const struct hac_region *region,
                unsigned int slot);
/* TLBs may have an entry that allows more than the table now does. */
void hac_note_flush(struct hac_harvest *h, const struct hac_region *region,
                    unsigned int slot);

/* ---- hooks.c ---- */

/* Close for the guest to sort out what is open. The caller flushes. */
void hac_close_open_pages(struct hac_region *region);

/* ---- space.c: identity ---- */

struct hac_space *hac_space_find(const struct hac_domain *hd, mfn_t root);
struct hac_area *hac_area_find(const struct hac_space *space,
                               unsigned long addr);
int hac_area_insert(struct domain *d, struct hac_area *area);
void hac_area_remove(struct hac_area *area, unsigned int number);
void hac_region_attach(struct hac_region *region, mfn_t table);
void hac_region_lose(struct hac_region *region, mfn_t table);

static inline struct hac_domain *hac_of(const struct domain *d)
{
    return d->arch.pv.hac;
}

static inline mfn_t hac_current_root(void)
{
    return pagetable_get_mfn(current->arch.guest_table_user);
}

/* Every region that a table maps part of; under hd->tables_lock. */
#define for_each_region(region, hd, mfn)                              \
    for ( (region) = (hd)->tables[mfn_x(mfn) % HAC_TABLES_HASH];      \
          (region); (region) = (region)->next )                       \
        if ( mfn_eq((region)->table, mfn) )

/* ---- store.c: what a store instruction writes ---- */

struct hac_store {
    unsigned long address;
    unsigned long value;
    unsigned int width;
    unsigned int length; /* of the instruction */
};

bool hac_store_decode(const struct cpu_user_regs *regs, bool code32,
                      const uint8_t *code, unsigned int bytes,
                      struct hac_store *store);

/* ---- geometry ---- */

static inline struct hac_region *hac_region_of(struct hac_area *area,
                                               unsigned long addr)
{
    return &area->regions[(addr >> REGION_SHIFT) -
                          (area->start >> REGION_SHIFT)];
}

static inline unsigned int hac_slot_of(unsigned long addr)
{
    return l1_table_offset(addr);
}

/* The slots of the region that belong to the area: [first, end). */
static inline unsigned int hac_first_slot(const struct hac_region *region)
{
    return region->area->start > region->base
           ? (region->area->start - region->base) >> PAGE_SHIFT : 0;
}

static inline unsigned int hac_end_slot(const struct hac_region *region)
{
    unsigned long end = region->area->start +
                        ((unsigned long)region->area->pages << PAGE_SHIFT);
    unsigned long slots = (end - region->base) >> PAGE_SHIFT;

    return min(slots, REGION_PAGES + 0UL);
}

/* The page of the area that a slot maps; negative before the area's first. */
static inline long hac_page_of(const struct hac_region *region,
                               unsigned int slot)
{
    return ((long)(region->base - region->area->start) >>
            PAGE_SHIFT) + slot;
}

static inline void hac_mark_dirty(struct hac_region *region, unsigned int slot)
{
    __set_bit(slot, region->dirty);
    region->touched = true;
}

/* Has a call anything to do here? */
static inline bool hac_is_touched(const struct hac_region *region)
{
    return region->touched || region->accessed ||
           (region->unwatched && !mfn_eq(region->table, INVALID_MFN));
}

/* Nothing was copied since all marks were looked at. */
static inline bool hac_trusts_marks(const struct hac_area *area)
{
    return ACCESS_ONCE(area->copies) == area->copies_seen;
}

/*
 * Are marks in this table Xen's own, all of them? Not before its entries were
 * gone through, which takes off marks that are there. The table is locked.
 */
static inline bool hac_may_open(const struct hac_region *region, mfn_t table,
                                unsigned long addr)
{
    return mfn_eq(region->table, table) && !region->unwatched &&
           hac_trusts_marks(region->area) &&
           /* mremap() may have moved the whole table elsewhere. */
           mfn_eq(hac_read_table(&__linear_l2_table[l2_linear_offset(addr)]),
                  table);
}

#endif /* __X86_HAC_PRIVATE_H__ */

/*
 * Local variables:
 * mode: C
 * c-file-style: "BSD"
 * c-basic-offset: 4
 * tab-width: 4
 * indent-tabs-mode: nil
 * End:
 */
