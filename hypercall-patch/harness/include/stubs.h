/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * As much of Xen as the sources of ../../xen use, over a simulated machine:
 * two CPUs that take turns, 4 KiB frames, page tables in them. What locks,
 * copies and changes of entries do besides is to let the other CPU run and to
 * check what must hold there.
 */
#ifndef HAC_HARNESS_STUBS_H
#define HAC_HARNESS_STUBS_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* ---- the compiler ---- */

#define __user
#define cf_check
#define __read_mostly
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define ACCESS_ONCE(x) (*(volatile __typeof__(x) *)&(x))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define BUILD_BUG_ON(x) _Static_assert(!(x), #x)
#define container_of(p, type, member) ((type *)((char *)(p)-offsetof(type, member)))
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
#define ilog2(x) (31 - __builtin_clz(x))
#define MB(n) ((n) << 20)
#define size_param(name, var) _Static_assert(1, name)
#define boolean_param(name, var) _Static_assert(1, name)
#define array_index_nospec(i, n) (i)
#define XENLOG_WARNING ""

_Noreturn void hx_failed(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
#define ASSERT(x) ((x) ? (void)0 : hx_failed(__FILE__, __LINE__, "%s", #x))
#define MUST(x, ...) ((x) ? (void)0 : hx_failed(__FILE__, __LINE__, __VA_ARGS__))

extern unsigned int hx_warnings;
#define printk(...) ((void)hx_warnings++)

#define IS_ERR(p) ((unsigned long)(p) >= (unsigned long)-4095)
#define ERR_PTR(e) ((void *)(long)(e))
#define PTR_ERR(p) ((long)(p))

/* ---- memory of Xen ---- */

void *hx_alloc(size_t bytes);
void hx_free(void *p);
#define xzalloc(type) ((type *)hx_alloc(sizeof(type)))
#define xzalloc_bytes(bytes) hx_alloc(bytes)
#define xfree(p) hx_free(p)
#define XFREE(p) (hx_free(p), (p) = NULL)

/* ---- bits ---- */

#define BITS_PER_LONG 64
#define BIT_WORD_(n) ((n) / 64)
#define BIT_MASK_(n) (1UL << ((n) % 64))

static inline bool test_bit(unsigned int n, const unsigned long *map)
{
	return map[BIT_WORD_(n)] & BIT_MASK_(n);
}

static inline void __set_bit(unsigned int n, unsigned long *map)
{
	map[BIT_WORD_(n)] |= BIT_MASK_(n);
}

static inline void __clear_bit(unsigned int n, unsigned long *map)
{
	map[BIT_WORD_(n)] &= ~BIT_MASK_(n);
}

static inline bool __test_and_clear_bit(unsigned int n, unsigned long *map)
{
	bool was = test_bit(n, map);

	__clear_bit(n, map);
	return was;
}

#define clear_bit(n, word) ((void)(*(word) &= ~BIT_MASK_(n)))

static inline unsigned int find_next_bit(const unsigned long *map, unsigned int size,
					 unsigned int n)
{
	while (n < size) {
		unsigned long rest = map[BIT_WORD_(n)] >> (n % 64);

		if (rest) {
			n += __builtin_ctzl(rest);
			return n < size ? n : size;
		}
		n += 64 - n % 64;
	}
	return size;
}

#define find_first_bit(map, size) find_next_bit(map, size, 0)
#define for_each_set_bit(bit, map, size)                        \
	for ((bit) = find_first_bit(map, size); (bit) < (size); \
	     (bit) = find_next_bit(map, size, (bit) + 1))
#define bitmap_zero(map, bits) memset(map, 0, (bits) / 8)

/* ---- taking turns: one CPU runs until a yield point lets the other ---- */

#define HX_CPUS 2
extern unsigned int hx_cpu; /* the one that runs */
void hx_yield(void);        /* the other may run */
void hx_wait(void);         /* the other must, or this one never goes on */

#define smp_mb() hx_yield()
#define smp_wmb() hx_yield()
#define smp_rmb() hx_yield()
#define smp_mb__after_atomic() hx_yield()
#define smp_mb__before_atomic() hx_yield()
#define cpu_relax() hx_wait()
#define smp_processor_id() hx_cpu

typedef struct {
	int counter;
} atomic_t;
#define atomic_read(v) ((v)->counter)
#define atomic_inc(v) ((void)(v)->counter++)
#define atomic_dec(v) ((void)(v)->counter--)
#define arch_fetch_and_add(p, n) __atomic_fetch_add(p, n, __ATOMIC_RELAXED)
#define cmpxchgptr(p, old, new) __sync_val_compare_and_swap(p, old, new)

/* ---- locks, in the order of private.h, checked ---- */

typedef struct {
	int holder; /* CPU + 1 */
	int readers;
} hx_lock_t;
typedef hx_lock_t spinlock_t;
typedef hx_lock_t rwlock_t;

void hx_lock_init(hx_lock_t *lock);
void hx_lock(hx_lock_t *lock, const char *name);
void hx_unlock(hx_lock_t *lock, const char *name);
void hx_read_lock(hx_lock_t *lock);
void hx_read_unlock(hx_lock_t *lock);
#define spin_lock_init(l) hx_lock_init(l)
#define rwlock_init(l) hx_lock_init(l)
#define spin_lock(l) hx_lock(l, #l)
#define spin_unlock(l) hx_unlock(l, #l)
#define spin_is_locked(l) ((l)->holder != 0)
#define write_lock(l) hx_lock(l, #l)
#define write_unlock(l) hx_unlock(l, #l)
#define read_lock(l) hx_read_lock(l)
#define read_unlock(l) hx_read_unlock(l)

struct rcu_head {
	struct rcu_head *next;
	void (*func)(struct rcu_head *head);
};
typedef int rcu_read_lock_t;
#define DEFINE_RCU_READ_LOCK(name) rcu_read_lock_t name
void rcu_read_lock(rcu_read_lock_t *lock);
void rcu_read_unlock(rcu_read_lock_t *lock);
void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head));
#define rcu_dereference(p) ACCESS_ONCE(p)
#define rcu_assign_pointer(p, v) ((p) = (v))

/* ---- frames and entries ---- */

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096UL
#define PAGE_MASK (~(PAGE_SIZE - 1))
#define L2_PAGETABLE_SHIFT 21
#define L1_PAGETABLE_ENTRIES 512

typedef struct {
	unsigned long m;
} mfn_t;
#define _mfn(n) ((mfn_t){ n })
#define INVALID_MFN _mfn(~0UL)
#define mfn_x(mfn) ((mfn).m)
#define mfn_eq(a, b) ((a).m == (b).m)

typedef uint64_t intpte_t;
typedef struct {
	intpte_t l1;
} l1_pgentry_t;
typedef struct {
	intpte_t l2;
} l2_pgentry_t;
typedef struct {
	intpte_t l3;
} l3_pgentry_t;

#define _PAGE_PRESENT 0x001U
#define _PAGE_RW 0x002U
#define _PAGE_USER 0x004U
#define _PAGE_ACCESSED 0x020U
#define _PAGE_DIRTY 0x040U
#define _PAGE_PSE 0x080U
#define _PAGE_GNTTAB (1U << 22)

#define FLAGS_OF_(x) (((unsigned int)((x) >> 40) & ~0xfffU) | ((unsigned int)(x)&0xfffU))
#define BITS_OF_(flags) (((intpte_t)((flags) & ~0xfffU) << 40) | ((flags)&0xfffU))
#define PFN_OF_(x) (((x)&0xffffffffff000UL) >> PAGE_SHIFT)

#define l1e_get_intpte(x) ((x).l1)
#define l2e_get_intpte(x) ((x).l2)
#define l1e_from_intpte(x) ((l1_pgentry_t){ x })
#define l1e_empty() l1e_from_intpte(0)
#define l1e_from_mfn(mfn, flags) l1e_from_intpte((mfn_x(mfn) << PAGE_SHIFT) | BITS_OF_(flags))
#define l1e_get_flags(x) FLAGS_OF_((x).l1)
#define l2e_get_flags(x) FLAGS_OF_((x).l2)
#define l3e_get_flags(x) FLAGS_OF_((x).l3)
#define l1e_get_mfn(x) _mfn(PFN_OF_((x).l1))
#define l2e_get_mfn(x) _mfn(PFN_OF_((x).l2))
#define l3e_get_mfn(x) _mfn(PFN_OF_((x).l3))
#define l1e_get_page(x) mfn_to_page(l1e_get_mfn(x))
#define l1e_add_flags(x, flags) ((void)((x).l1 |= BITS_OF_(flags)))
#define l1e_remove_flags(x, flags) ((void)((x).l1 &= ~BITS_OF_(flags)))
#define l1e_read_atomic(p) (*(p))
#define l2e_read_atomic(p) (*(p))
#define l1_table_offset(a) (((a) >> 12) & 511)
#define l2_table_offset(a) (((a) >> 21) & 511)
#define l3_table_offset(a) (((a) >> 30) & 511)
#define l2_linear_offset(a) (((a) & ((1UL << 48) - 1)) >> 21)
#define l3_linear_offset(a) (((a) & ((1UL << 48) - 1)) >> 30)

/* The linear tables: nothing is there but addresses. */
#define __linear_l2_table ((l2_pgentry_t *)0x700000000000UL)
#define __linear_l3_table ((l3_pgentry_t *)0x710000000000UL)
int hx_linear(unsigned long from, void *to);
#define get_unsafe(x, from) hx_linear((unsigned long)(from), &(x))

#define PGT_l1_page_table (1UL << 61)
#define PGT_l2_page_table (2UL << 61)
#define PGT_l4_page_table (4UL << 61)
#define PGT_writable_page (7UL << 61)
#define PGT_type_mask (7UL << 61)
#define PGT_validated (1UL << 58)
#define PGT_locked (1UL << 57)
#define PGT_count_mask 0xffffffffUL

struct domain;
struct page_info {
	struct {
		struct {
			unsigned long type_info;
		} inuse;
	} u;
	unsigned int count; /* general references */
	struct domain *owner;
};

#define HX_FRAMES 768
extern struct page_info hx_frames[HX_FRAMES];
extern uint8_t hx_memory[HX_FRAMES][PAGE_SIZE];
#define mfn_valid(mfn) (mfn_x(mfn) < HX_FRAMES)
struct page_info *mfn_to_page(mfn_t mfn);
#define page_get_owner(page) ((page)->owner)
int page_lock(struct page_info *page);
void page_unlock(struct page_info *page);
int get_page_type(struct page_info *page, unsigned long type);
void put_page_type(struct page_info *page);
void *map_domain_page(mfn_t mfn);
void unmap_domain_page(const void *p);

struct vcpu;
intpte_t paging_cmpxchg_guest_entry(struct vcpu *v, intpte_t *p, intpte_t old, intpte_t new,
				    mfn_t table);
#define paging_mode_enabled(d) ((d)->shadowed)

/* The store of an emulated instruction. */
void hx_store(void *to, uint64_t value, unsigned int width);
#define write_atomic(to, value) hx_store(to, value, sizeof(*(to)))

/* ---- domains, CPUs, flushes ---- */

typedef struct {
	unsigned long bits;
} cpumask_t;
extern const cpumask_t hx_masks[HX_CPUS];
#define cpumask_of(cpu) (&hx_masks[cpu])
#define cpumask_equal(a, b) ((a)->bits == (b)->bits)
void flush_tlb_mask(const cpumask_t *mask);
void flush_tlb_one_local(unsigned long addr);

typedef struct {
	mfn_t mfn;
} pagetable_t;
#define pagetable_get_mfn(t) ((t).mfn)

struct hac_domain;
struct vcpu {
	struct domain *domain;
	struct {
		pagetable_t guest_table_user;
	} arch;
};
struct domain {
	struct vcpu *vcpu[1];
	cpumask_t *dirty_cpumask;
	bool shadowed, pv, pv32;
	struct {
		struct {
			struct hac_domain *hac;
		} pv;
	} arch;
};
extern struct vcpu hx_vcpus[HX_CPUS];
#define current (&hx_vcpus[hx_cpu])
#define is_pv_domain(d) ((d)->pv)
#define is_pv_32bit_domain(d) ((d)->pv32)

#define REGISTER_(n)           \
	union {                \
		uint64_t r##n; \
		uint32_t e##n; \
	}
struct cpu_user_regs {
	REGISTER_(ax);
	REGISTER_(bx);
	REGISTER_(cx);
	REGISTER_(dx);
	REGISTER_(si);
	REGISTER_(di);
	REGISTER_(bp);
	REGISTER_(sp);
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rip;
	uint32_t eflags, error_code;
	uint16_t cs;
	bool in_xen, in_kernel; /* else a process */
};
#define guest_mode(regs) (!(regs)->in_xen)
#define guest_kernel_mode(v, regs) ((void)(v), (regs)->in_kernel)
#define FLAT_USER_CS64 0xe033
#define FLAT_USER_CS32 0xe023
#define X86_EFLAGS_TF 0x100U
#define PFEC_page_present 1U
#define PFEC_write_access 2U
#define PFEC_reserved_bit 8U
#define PFEC_insn_fetch 16U

/* ---- the guest's memory: bytes not copied; errors ---- */

unsigned int copy_from_guest_pv(void *to, const void *from, unsigned int bytes);
unsigned int copy_to_guest_pv(void *to, const void *from, unsigned int bytes);
#define __get_guest(x, from) (copy_from_guest_pv(&(x), from, sizeof(*(from))) ? -EFAULT : 0)
#define __put_guest(x, to)                                           \
	({                                                           \
		__typeof__(*(to)) x_ = (x);                          \
		copy_to_guest_pv(to, &x_, sizeof(x_)) ? -EFAULT : 0; \
	})

#endif /* HAC_HARNESS_STUBS_H */
