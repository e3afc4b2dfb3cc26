/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The gate: `int $0x84` from user mode of 64-bit PV guests. A fixed list of
 * calls, each on the caller's own address space; everything else is refused.
 */

#include <xen/init.h>
#include <xen/param.h>

#include "private.h"

static bool __read_mostly opt_hac = true;
boolean_param("hac", opt_hac);

struct arguments {
    unsigned long a1, a2, a3, a4, a5;
};

static bool is_open_to(const struct domain *d)
{
    return opt_hac && is_pv_domain(d) && !is_pv_32bit_domain(d);
}

uint32_t hac_cpuid(const struct domain *d)
{
    return is_open_to(d) ? HAC_XEN_CPUID_MAGIC : 0;
}

static long dispatch(unsigned int call, const struct arguments *a,
                     struct cpu_user_regs *regs)
{
    unsigned long second = 0;
    long rc;

    switch ( call )
    {
    case HAC_XEN_version:
        regs->rdx = (1u << HAC_XEN_HANDLERS) - 1;
        return HAC_XEN_VERSION;

    case HAC_XEN_register_area:
        return hac_register(a->a1);

    case HAC_XEN_unregister_area:
        return hac_unregister(a->a1);

    case HAC_XEN_begin:
        return hac_begin(a->a1, a->a2);

    case HAC_XEN_end:
    case HAC_XEN_next:
        rc = hac_end(a->a1, a->a2, a->a3, a->a4, a->a5,
                     call == HAC_XEN_next, &second);
        if ( rc >= 0 )
            regs->rdx = second;
        return rc;

    case HAC_XEN_abort:
        return hac_abort(a->a1);

    case HAC_XEN_statistics:
        return hac_statistics(a->a1, a->a2);
    }

    return -ENOSYS;
}

/* Called from entry.S, with interrupts on. */
void hac_gate(struct cpu_user_regs *regs)
{
    struct vcpu *curr = current;
    bool abi32 = regs->eax & HAC_XEN_ABI32;
    struct arguments a;
    long rc;

    if ( likely(!abi32) )
        a = (struct arguments){ regs->rdi, regs->rsi, regs->rdx, regs->rcx,
                                regs->r8 };
    else
        a = (struct arguments){ regs->ebx, regs->ecx, regs->edx, regs->esi,
                                regs->edi };

    if ( !is_open_to(curr->domain) )
        rc = -ENOSYS;
    else if ( guest_kernel_mode(curr, regs) )
        rc = -EPERM;
    else
        rc = dispatch(regs->eax & ~HAC_XEN_ABI32, &a, regs);

    regs->rax = likely(!abi32) ? rc : (uint32_t)rc;
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
