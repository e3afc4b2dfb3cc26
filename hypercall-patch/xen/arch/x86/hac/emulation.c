/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Emulxen: pages stay read-only; Xen does every store on the process's behalf
 * and writes address, value and width into the caller's log (DSN 2011, section
 * V). A store that it does not do opens its page, as page tracking would.
 *
 * The entry of the log is written first, then the store is done, and a call
 * that takes the log waits for stores that are between the two: so no store is
 * in a later report than its entry, and none is without one.
 */

#include "private.h"

#define INSTRUCTION_MAX 15

/*
 * The code segments of Xen and of Linux. Behind another selector may be code of
 * either width; it is not emulated.
 */
static bool known_code(unsigned int cs, bool *code32)
{
    *code32 = cs == FLAT_USER_CS32 || cs == 0x23;

    return *code32 || cs == FLAT_USER_CS64 || cs == 0x33;
}

static bool fetch(const struct cpu_user_regs *regs, struct hac_store *store)
{
    union {
        uint64_t words[2];
        uint8_t bytes[16];
    } code;
    const uint64_t __user *from = (const uint64_t __user *)regs->rip;
    unsigned int bytes = PAGE_SIZE - (regs->rip & ~PAGE_MASK);
    bool code32, got;

    if ( !known_code(regs->cs, &code32) ||
         !hac_in_user_range(regs->rip, sizeof(code)) )
        return false;

    /* The page after may be none. */
    if ( bytes >= sizeof(code) )
        got = !__get_guest(code.words[0], from) &&
              !__get_guest(code.words[1], from + 1);
    else
        got = hac_copy_in(code.bytes, regs->rip, bytes);

    return got && hac_store_decode(regs, code32, code.bytes,
                                   min(bytes, INSTRUCTION_MAX + 0U), store);
}

static bool can_emulate(unsigned long addr, const struct cpu_user_regs *regs,
                        struct hac_store *store)
{
    /*
     * Only for the process itself: with the kernel's page tables the log's
     * address could be one of the kernel's. No single-stepping.
     */
    if ( !guest_mode(regs) || guest_kernel_mode(current, regs) ||
         (regs->eflags & X86_EFLAGS_TF) )
        return false;

    return fetch(regs, store) && store->address == addr &&
           (addr & ~PAGE_MASK) + store->width <= PAGE_SIZE;
}

static void do_store(void *to, const struct hac_store *store)
{
    switch ( store->width )
    {
    case 1:
        write_atomic((uint8_t *)to, store->value);
        break;
    case 2:
        write_atomic((uint16_t *)to, store->value);
        break;
    case 4:
        write_atomic((uint32_t *)to, store->value);
        break;
    case 8:
        write_atomic((uint64_t *)to, store->value);
        break;
    }
}

/* The store, if the page is one that Xen keeps read-only. */
static bool perform(struct hac_area *area, const struct hac_store *store)
{
    const struct hac_region *region = hac_region_of(area, store->address);
    mfn_t table = region->table;
    struct page_info *page, *target;
    l1_pgentry_t *pl1e, l1e;
    bool done = false;
    void *memory;

    if ( mfn_eq(table, INVALID_MFN) )
        return false;
    page = mfn_to_page(table);
    if ( !page_lock(page) )
        return false;

    pl1e = map_domain_page(table);
    l1e = l1e_read_atomic(pl1e + hac_slot_of(store->address));
    unmap_domain_page(pl1e);

    if ( hac_may_open(region, table, store->address) &&
         (l1e_get_flags(l1e) & (_PAGE_PRESENT | _PAGE_RW | _PAGE_HAC)) ==
         (_PAGE_PRESENT | _PAGE_HAC) )
    {
        target = hac_hold_writable(l1e);
        if ( target )
        {
            memory = map_domain_page(l1e_get_mfn(l1e));
            do_store(memory + (store->address & ~PAGE_MASK), store);
            unmap_domain_page(memory);
            put_page_type(target);
            done = true;
        }
    }
    page_unlock(page);

    return done;
}

/* Word by word: a string instruction costs more than all the rest. */
static bool copy_entry(unsigned long to, const struct hac_xen_store *entry)
{
    const uint64_t *from = (const uint64_t *)entry;
    uint64_t __user *words = (uint64_t __user *)to;

    BUILD_BUG_ON(sizeof(*entry) != 3 * sizeof(*from));

    return !__put_guest(from[0], words) && !__put_guest(from[1], words + 1) &&
           !__put_guest(from[2], words + 2);
}

/* Where the log takes an entry; 0: it takes none. */
static unsigned long log_store(struct hac_area *area,
                               const struct hac_store *store)
{
    const struct hac_xen_store entry = {
        .address = store->address,
        .value = store->value,
        .width = store->width,
    };
    unsigned int i = arch_fetch_and_add(&area->emulation.used, 1);
    unsigned long to = area->emulation.log;

    if ( i >= area->emulation.entries )
    {
        /* Far from overflowing, however many more try. */
        area->emulation.used = area->emulation.entries;
        return 0;
    }
    if ( area->emulation.second )
        i += area->emulation.entries;
    to += i * sizeof(entry);

    return copy_entry(to, &entry) ? to : 0;
}

/* The store was not done after all: an entry that is to be ignored. */
static void unlog(unsigned long at)
{
    struct hac_xen_store __user *entry = (struct hac_xen_store __user *)at;

    /* Where it was written a moment ago; if not now, it stays in the log. */
    (void)__put_guest(0, &entry->width);
}

enum outcome { DONE, AGAIN, OPEN };

static enum outcome emulate(struct hac_area *area,
                            const struct hac_store *store)
{
    enum outcome outcome = OPEN;
    unsigned long entry;

    atomic_inc(&area->emulation.under_way);
    smp_mb__after_atomic();
    if ( ACCESS_ONCE(area->emulation.draining) )
        outcome = AGAIN;
    else if ( (entry = log_store(area, store)) )
    {
        if ( perform(area, store) )
            outcome = DONE;
        else
            unlog(entry);
    }
    smp_mb__before_atomic();
    atomic_dec(&area->emulation.under_way);

    return outcome;
}

static bool cf_check emulation_fault(struct hac_area *area, unsigned long addr,
                                     struct cpu_user_regs *regs)
{
    struct hac_store store;
    bool opened;

    if ( can_emulate(addr, regs, &store) )
        switch ( emulate(area, &store) )
        {
        case DONE:
            area->emulated++;
            regs->rip += store.length;
            /* fall through */
        case AGAIN:
            return true;

        case OPEN:
            break;
        }

    opened = hac_open_page(area, addr);
    if ( opened )
    {
        area->not_emulated++;
        area->emulation.partial = true;
    }

    return opened;
}

const struct hac_handler hac_emulation = {
    .fault = emulation_fault,
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
