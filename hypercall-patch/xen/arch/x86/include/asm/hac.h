/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the rest of Xen knows of the tracking of critical data areas
 * (arch/x86/hac/): the places where it must be told of something.
 *
 * A domain without areas pays one test of a pointer at each of them.
 */
#ifndef __ASM_X86_HAC_H__
#define __ASM_X86_HAC_H__

#include <xen/sched.h>

#include <asm/page.h>

/*
 * Bit 56 of an L1 entry, ignored by the hardware: Xen took the write
 * permission away, and may give it back.
 */
#define _PAGE_HAC 0x10000U

#ifdef CONFIG_HAC

#include <public/arch-x86/hac.h>

/* For CPUID: HAC_XEN_CPUID_MAGIC, or 0 where the calls are switched off. */
uint32_t hac_cpuid(const struct domain *d);

bool hac_fault(unsigned long addr, struct cpu_user_regs *regs);
void hac_entry_update(struct domain *d, mfn_t table, l1_pgentry_t *pl1e,
                      l1_pgentry_t *nl1e);
void hac_entry_restore(struct domain *d, mfn_t table, unsigned long addr);
void hac_table_copied(struct domain *d, l1_pgentry_t *pl1e);
void hac_close_copied(struct domain *d);
void hac_table_gone(struct domain *d, mfn_t table, l1_pgentry_t *pl1e);
void hac_space_gone(struct domain *d, mfn_t root);
void hac_domain_destroy(struct domain *d);

static inline bool hac_in_use(const struct domain *d)
{
    return is_pv_domain(d) && d->arch.pv.hac;
}

/* A write fault on a present page. True: it is dealt with. */
static inline bool hac_page_fault(unsigned long addr,
                                  struct cpu_user_regs *regs)
{
    const unsigned int mask = PFEC_page_present | PFEC_write_access |
                              PFEC_reserved_bit | PFEC_insn_fetch;

    return unlikely(hac_in_use(current->domain)) &&
           (regs->error_code & mask) == (PFEC_page_present |
                                         PFEC_write_access) &&
           hac_fault(addr, regs);
}

/*
 * The guest writes nl1e to the L1 entry at pl1e, in the page `table`, whose
 * page_lock() the caller holds. Before the old entry is looked at.
 */
static inline void hac_l1e_update(struct domain *d, mfn_t table,
                                  l1_pgentry_t *pl1e, l1_pgentry_t *nl1e)
{
    if ( unlikely(hac_in_use(d)) )
        hac_entry_update(d, table, pl1e, nl1e);
}

/*
 * The guest is about to read and then write the L1 entry that it has mapped at
 * addr: show it the truth.
 */
static inline void hac_l1e_restore(struct domain *d, mfn_t table,
                                   unsigned long addr)
{
    if ( unlikely(hac_in_use(d)) )
        hac_entry_restore(d, table, addr);
}

/* An entry of a table that becomes an L1 table. */
static inline void hac_l1e_promote(struct domain *d, l1_pgentry_t *pl1e)
{
    if ( unlikely(hac_in_use(d)) &&
         unlikely((l1e_get_flags(*pl1e) & (_PAGE_PRESENT | _PAGE_HAC)) ==
                  (_PAGE_PRESENT | _PAGE_HAC)) )
        hac_table_copied(d, pl1e);
}

/*
 * The end of an operation that may have copied entries, into new tables or into
 * others; no page is locked.
 */
static inline void hac_copies_done(struct domain *d)
{
    if ( unlikely(hac_in_use(d)) )
        hac_close_copied(d);
}

/* A page is an L1 table no longer; its entries are at pl1e. */
static inline void hac_l1_demote(struct domain *d, mfn_t table,
                                 l1_pgentry_t *pl1e)
{
    if ( unlikely(hac_in_use(d)) )
        hac_table_gone(d, table, pl1e);
}

/* A page is an L4 table no longer: the end of an address space. */
static inline void hac_l4_demote(struct domain *d, mfn_t root)
{
    if ( unlikely(hac_in_use(d)) )
        hac_space_gone(d, root);
}

#else /* !CONFIG_HAC */

static inline uint32_t hac_cpuid(const struct domain *d) { return 0; }
static inline bool hac_page_fault(unsigned long addr,
                                  struct cpu_user_regs *regs)
{
    return false;
}
static inline void hac_l1e_update(struct domain *d, mfn_t table,
                                  l1_pgentry_t *pl1e, l1_pgentry_t *nl1e) {}
static inline void hac_l1e_restore(struct domain *d, mfn_t table,
                                   unsigned long addr) {}
static inline void hac_l1e_promote(struct domain *d, l1_pgentry_t *pl1e) {}
static inline void hac_copies_done(struct domain *d) {}
static inline void hac_l1_demote(struct domain *d, mfn_t table,
                                 l1_pgentry_t *pl1e) {}
static inline void hac_l4_demote(struct domain *d, mfn_t root) {}
static inline void hac_domain_destroy(struct domain *d) {}

#endif /* CONFIG_HAC */

#endif /* __ASM_X86_HAC_H__ */

/*
 * Local variables:
 * mode: C
 * c-file-style: "BSD"
 * c-basic-offset: 4
 * tab-width: 4
 * indent-tabs-mode: nil
 * End:
 */
