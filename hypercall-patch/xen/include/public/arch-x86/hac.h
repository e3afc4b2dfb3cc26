/* SPDX-License-Identifier: MIT */
/*
 * hac.h
 *
 * Tracking of writes to critical data areas: the calls that a process of a PV
 * guest makes directly to Xen, by `int $0x84` from user mode.
 *
 * One file, used by Xen and by the programs that call it.
 *
 * A call acts on the address space of its caller and on nothing else. The
 * number goes into eax, the arguments into registers:
 *
 *              number  1    2    3    4    5     result  second result
 *   64-bit     eax     rdi  rsi  rdx  rcx  r8    rax     rdx
 *   32-bit     eax     ebx  ecx  edx  esi  edi   eax     edx
 *
 * A 32-bit process adds HAC_XEN_ABI32 to the number; Xen then looks at the low
 * halves of the registers only. Other registers and the flags are preserved.
 * The result is negative (-errno, with Xen's numbers, which are Linux's on
 * x86) on failure, and then nothing has changed unless the call says so.
 *
 * A call does a bounded amount of work. Where there may be more, the result
 * has HAC_XEN_MORE set, and the caller repeats the call.
 *
 * How to find out whether the calls are there, without risk: read
 * /sys/hypervisor/type ("xen") and /sys/hypervisor/guest_type ("PV"); only then
 * execute Xen's CPUID (the forced-emulation prefix, `ud2a; .ascii "xen"; cpuid`)
 * with leaf base + HAC_XEN_CPUID_LEAF. ecx is HAC_XEN_CPUID_MAGIC where the
 * calls are there, 0 in a Xen without them.
 */
#ifndef __XEN_PUBLIC_ARCH_X86_HAC_H__
#define __XEN_PUBLIC_ARCH_X86_HAC_H__

#define HAC_XEN_VECTOR 0x84

#define HAC_XEN_CPUID_LEAF  5           /* base + 5: the PV leaf */
#define HAC_XEN_CPUID_MAGIC 0x31434148u /* "HAC1" */

/* ------------------------------------------------------------------ calls */

#define HAC_XEN_ABI32 0x40000000u /* IN: in the number, by 32-bit processes */

/*
 * version()
 * Result: HAC_XEN_VERSION. Second: a bit 1 << handler for each handler.
 */
#define HAC_XEN_version 0
#define HAC_XEN_VERSION 1

/*
 * register_area(struct hac_xen_area *area)
 * Result: the area's number (0 or more), valid in this address space until it
 * is unregistered or the address space ends (exit, exec); a forked child does
 * not have it. Nothing is tracked before the first begin.
 * -EINVAL  a field is wrong, or the area overlaps one that is registered
 * -EFAULT  the structure cannot be read
 * -ENOSPC  too many areas, or the domain's quota of memory in Xen is used up
 * -EBUSY   the domain runs on shadow page tables (live migration)
 */
#define HAC_XEN_register_area 1

/*
 * unregister_area(uint32_t number)
 * Pages are left read-only to the hardware; the guest kernel opens them at the
 * next write. Result: 0, or HAC_XEN_MORE.
 */
#define HAC_XEN_unregister_area 2

/*
 * begin(uint32_t number, const struct hac_xen_keep *keep)
 * Everything written before belongs to no transaction; from now on writes are
 * recorded. keep: 0, or the pages that are left writable, for the caller
 * expects them to be written; `end` and `next` report them always.
 * Result: 0; HAC_XEN_MORE: not all of the area is watched yet, repeat.
 * -EEXIST a transaction is open
 */
#define HAC_XEN_begin 3

/*
 * end(uint32_t number, uint32_t *pages, uint32_t max, uint32_t flags)
 * Result: how many pages, at most max (and HAC_XEN_CHUNK), Xen wrote to
 * `pages`: pages of the area that were written, in ascending order, each once.
 * HAC_XEN_MORE: there may be more; repeat the same call. The transaction ends
 * with the call that does not say HAC_XEN_MORE. With max 0 nothing is taken, and
 * the result is 0 if no page was written, else HAC_XEN_MORE (which may be wrong
 * for HAC_XEN_SCAN).
 * Second result, HAC_XEN_EMULATION: the number of entries in the log, in the
 * half that HAC_XEN_SECOND_HALF tells. They are taken by the call that does not
 * say HAC_XEN_MORE (and has max > 0).
 * flags: HAC_XEN_PEEK: nothing is taken and nothing watched anew, so that
 * another call reports it all again. The fifth argument is the first page of
 * interest: after HAC_XEN_MORE go on with the last page seen + 1 or, where no
 * page was seen or the area has no log, with the second result.
 * -ENOENT  no transaction is open
 * -EFAULT  `pages` cannot be written now: absent, or shared after a fork. Write
 *          to it and repeat; what was taken by this call is reported again
 * -EBUSY   the domain runs on shadow page tables; nothing was watched
 */
#define HAC_XEN_end 4

/*
 * next(uint32_t number, uint32_t *pages, uint32_t max, uint32_t flags,
 *      const struct hac_xen_keep *keep)
 * end and begin in one: the pages that are reported are watched again before
 * the call returns, so that a write is in this report or the next.
 * With HAC_XEN_PEEK the fifth argument is as for end.
 */
#define HAC_XEN_next 5

/*
 * abort(uint32_t number)
 * Forget what was written and watch it again. The transaction is over.
 * Result: 0, or HAC_XEN_MORE.
 */
#define HAC_XEN_abort 6

/*
 * statistics(uint32_t number, struct hac_xen_statistics *out)
 * number: an area's, or HAC_XEN_ALL for all of the caller's domain.
 */
#define HAC_XEN_statistics 7
#define HAC_XEN_ALL 0xffffffffu

/* --------------------------------------------------------------- results */

#define HAC_XEN_COUNT 0x0000ffffu /* the pages written */
#define HAC_XEN_MORE  0x00010000u /* repeat the call */
/* Some stores are in no log entry; their pages are in the list of pages. */
#define HAC_XEN_PARTIAL_LOG 0x00020000u

/* In the second result of end and next: which half of the log. */
#define HAC_XEN_SECOND_HALF 0x80000000u

#define HAC_XEN_CHUNK 1024u /* pages that one call works on */

/* ------------------------------------------------------------- arguments */

/* handler */
#define HAC_XEN_TRACKING  0 /* PTxen: a page's first write */
#define HAC_XEN_EMULATION 1 /* Emulxen: every store, with its value */
#define HAC_XEN_SCAN      2 /* Scanxen: the hardware's dirty bits */
#define HAC_XEN_HANDLERS  3

/* flags of end and next */
#define HAC_XEN_PEEK 0x1u

#define HAC_XEN_MAX_PAGES 0x1000000u /* in an area: 64 GiB */
#define HAC_XEN_MAX_LOG   0x100000u  /* entries */
#define HAC_XEN_MAX_AREAS 64u        /* in an address space */

struct hac_xen_area {
    uint64_t start;       /* IN: address of the first page */
    uint32_t pages;       /* IN: 1 .. HAC_XEN_MAX_PAGES */
    uint32_t handler;     /* IN */
    uint64_t log;         /* IN: HAC_XEN_EMULATION: address of the log, an array
                           *     of struct hac_xen_store, 8-byte aligned,
                           *     outside of every area; else 0 */
    uint32_t log_entries; /* IN: of both halves: 2 .. HAC_XEN_MAX_LOG, even */
    uint32_t reserved;    /* IN: 0 */
};

/*
 * An entry of the log. Xen fills one half of the log from its first entry on
 * as stores happen; each begin and next turns to the other half, so that what a
 * call has reported stays until the call after it. A store that finds its half
 * full, or not writable, opens its page instead. The caller sets the width of
 * entries that it has read to 0, before begin that of all entries (stores
 * outside of a transaction are in the log, but in no report), and ignores
 * entries with width 0.
 */
struct hac_xen_store {
    uint64_t address; /* OUT */
    uint64_t value;   /* OUT: zero-extended */
    uint32_t width;   /* OUT: 1, 2, 4, 8 bytes */
    uint32_t reserved;/* OUT: 0 */
};

struct hac_xen_keep {
    uint64_t pages;    /* IN: address of an array of uint32_t */
    uint32_t count;    /* IN: 0 .. HAC_XEN_CHUNK */
    uint32_t reserved; /* IN: 0 */
};

struct hac_xen_statistics {
    uint64_t faults;       /* OUT: write faults that Xen took */
    uint64_t opened;       /* OUT: pages made writable by them */
    uint64_t emulated;     /* OUT: stores emulated */
    uint64_t not_emulated; /* OUT: stores that opened their page instead */
    uint64_t guest_updates;/* OUT: changes of the areas' page tables by the
                            *      guest kernel that count as writes */
    uint64_t scanned;      /* OUT: page-table entries read by scans */
    uint64_t skipped;      /* OUT: entries not read, for nobody touched them */
    uint64_t areas;        /* OUT: HAC_XEN_ALL: areas now registered, else 1 */
    uint64_t bytes;        /* OUT: memory in Xen for them */
    uint64_t bytes_max;    /* OUT: the domain's quota */
};

#endif /* __XEN_PUBLIC_ARCH_X86_HAC_H__ */

/*
 * Local variables:
 * mode: C
 * c-file-style: "BSD"
 * c-basic-offset: 4
 * tab-width: 4
 * indent-tabs-mode: nil
 * End:
 */
