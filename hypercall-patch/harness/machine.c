// SPDX-License-Identifier: GPL-2.0-only
/*
 * The simulated machine: frames, entries, TLBs that keep what the tables no
 * longer say, locks that check their order, and CPUs that take turns.
 */
#include "machine.h"

#include <stdarg.h>
#include <sys/mman.h>
#include <ucontext.h>

struct page_info hx_frames[HX_FRAMES];
uint8_t hx_memory[HX_FRAMES][PAGE_SIZE] __attribute__((aligned(4096)));
struct vcpu hx_vcpus[HX_CPUS];
struct domain hx_domain;
const cpumask_t hx_masks[HX_CPUS] = { { 1 }, { 2 } };
unsigned int hx_cpu, hx_warnings, hx_fail_copy;
int hx_copies_left = -1;
bool hx_turns;
unsigned long hx_allocated, hx_seed = 1, hx_flushes, hx_now, hx_store_at[HX_CPUS];

static cpumask_t cpus;

void hx_failed(const char *file, int line, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s:%d: ", file, line);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, " (seed %lu, CPU %u, time %lu)\n", hx_seed, hx_cpu, hx_now);
	abort();
}

/* ---- chance ---- */

static uint64_t state;

unsigned int hx_random(unsigned int below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state * 0x2545f4914f6cdd1dUL >> 33) % below;
}

/* ---- Xen's memory ---- */

void *hx_alloc(size_t bytes)
{
	void *p;

	p = calloc(1, bytes);
	MUST(p, "no memory");
	hx_allocated++;
	return p;
}

void hx_free(void *p)
{
	if (p)
		hx_allocated--;
	free(p);
}

/* ---- turns ---- */

#define STACK (256 * 1024)
static ucontext_t contexts[HX_CPUS], main_context;
static bool finished[HX_CPUS];
static void (*cpu_body)(void);
static void *stacks[HX_CPUS];
static unsigned long waits;

static void switch_cpu(void)
{
	unsigned int from = hx_cpu, to = from ^ 1;

	if (finished[to])
		return;
	hx_cpu = to;
	swapcontext(&contexts[from], &contexts[to]);
}

void hx_yield(void)
{
	hx_now++;
	waits = 0;
	if (hx_turns && !hx_random(12))
		switch_cpu();
}

void hx_wait(void)
{
	hx_now++;
	MUST(hx_turns && !finished[hx_cpu ^ 1] && waits++ < 100000, "deadlock");
	switch_cpu();
}

static void run_cpu(void)
{
	cpu_body();
	finished[hx_cpu] = true;
	if (finished[hx_cpu ^ 1])
		setcontext(&main_context);
	hx_cpu ^= 1;
	setcontext(&contexts[hx_cpu]);
}

static void make_context(unsigned int cpu)
{
	if (!stacks[cpu])
		stacks[cpu] = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				   -1, 0);
	MUST(stacks[cpu] != MAP_FAILED, "no stack");
	getcontext(&contexts[cpu]);
	contexts[cpu].uc_stack.ss_sp = stacks[cpu];
	contexts[cpu].uc_stack.ss_size = STACK;
	makecontext(&contexts[cpu], run_cpu, 0);
}

void hx_run(void (*body)(void))
{
	unsigned int cpu;

	cpu_body = body;
	hx_turns = cpus.bits != 1;
	for (cpu = 0; cpu < HX_CPUS; cpu++) {
		finished[cpu] = !(cpus.bits & (1UL << cpu));
		make_context(cpu);
	}
	hx_cpu = 0;
	swapcontext(&main_context, &contexts[0]);
	hx_turns = false;
	hx_cpu = 0;
}

/* ---- locks ---- */

#define RANKS 6
static unsigned int held[HX_CPUS][RANKS];
static struct page_info *locked_page[HX_CPUS];
enum { PAGE_RANK = 3, TABLES_RANK = 5 };

static unsigned int rank_of(const char *name)
{
	if (strstr(name, "area->lock"))
		return 1;
	if (strstr(name, "scan_lock") || strstr(name, "copies_lock"))
		return 2;
	if (strstr(name, "tables_lock"))
		return TABLES_RANK;
	MUST(strstr(name, "hd->lock"), "unknown lock %s", name);
	return 4;
}

static void take_rank(unsigned int rank)
{
	unsigned int i;

	for (i = rank; i < RANKS; i++)
		MUST(!held[hx_cpu][i], "lock of rank %u taken under one of rank %u", rank, i);
	held[hx_cpu][rank]++;
}

static void drop_rank(unsigned int rank)
{
	MUST(held[hx_cpu][rank], "lock of rank %u is not held", rank);
	held[hx_cpu][rank]--;
}

void hx_lock_init(hx_lock_t *lock)
{
	*lock = (hx_lock_t){ 0 };
}

void hx_lock(hx_lock_t *lock, const char *name)
{
	take_rank(rank_of(name));
	hx_yield();
	while (lock->holder || lock->readers)
		hx_wait();
	lock->holder = hx_cpu + 1;
}

void hx_unlock(hx_lock_t *lock, const char *name)
{
	MUST(lock->holder == (int)hx_cpu + 1, "%s is not held", name);
	lock->holder = 0;
	drop_rank(rank_of(name));
	hx_yield();
}

void hx_read_lock(hx_lock_t *lock)
{
	take_rank(TABLES_RANK);
	hx_yield();
	while (lock->holder)
		hx_wait();
	lock->readers++;
}

void hx_read_unlock(hx_lock_t *lock)
{
	lock->readers--;
	drop_rank(TABLES_RANK);
	hx_yield();
}

static unsigned int rcu_readers[HX_CPUS];
static struct rcu_head *rcu_pending;

void rcu_read_lock(rcu_read_lock_t *lock)
{
	(void)lock;
	rcu_readers[hx_cpu]++;
	hx_yield();
}

void hx_rcu_run(void)
{
	while (rcu_pending && !rcu_readers[0] && !rcu_readers[1]) {
		struct rcu_head *head = rcu_pending;

		rcu_pending = head->next;
		head->func(head);
	}
}

void rcu_read_unlock(rcu_read_lock_t *lock)
{
	(void)lock;
	hx_yield();
	MUST(rcu_readers[hx_cpu], "no RCU reader");
	rcu_readers[hx_cpu]--;
	hx_rcu_run();
}

void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head))
{
	head->func = func;
	head->next = rcu_pending;
	rcu_pending = head;
}

/* ---- frames ---- */

static unsigned int mapped[HX_CPUS];

mfn_t hx_frame_alloc(void)
{
	unsigned long i;

	for (i = 1; i < HX_FRAMES; i++)
		if (!hx_frames[i].owner) {
			hx_frames[i] = (struct page_info){ .owner = &hx_domain };
			memset(hx_memory[i], 0, PAGE_SIZE);
			return _mfn(i);
		}
	MUST(false, "no frame is free");
}

struct page_info *mfn_to_page(mfn_t mfn)
{
	MUST(mfn_valid(mfn), "frame %#lx", mfn_x(mfn));
	return &hx_frames[mfn_x(mfn)];
}

int page_lock(struct page_info *page)
{
	unsigned long *type = &page->u.inuse.type_info;

	MUST(!locked_page[hx_cpu], "a second page is locked");
	take_rank(PAGE_RANK);
	hx_yield();
	while (*type & PGT_locked)
		hx_wait();
	if (!(*type & PGT_validated) || !(*type & PGT_count_mask)) {
		drop_rank(PAGE_RANK);
		return 0;
	}
	*type = (*type + 1) | PGT_locked;
	locked_page[hx_cpu] = page;
	return 1;
}

void page_unlock(struct page_info *page)
{
	MUST(locked_page[hx_cpu] == page, "another page is unlocked than was locked");
	page->u.inuse.type_info = (page->u.inuse.type_info & ~PGT_locked) - 1;
	locked_page[hx_cpu] = NULL;
	drop_rank(PAGE_RANK);
	hx_yield();
}

int get_page_type(struct page_info *page, unsigned long type)
{
	unsigned long *info = &page->u.inuse.type_info;

	MUST(type == PGT_writable_page, "only this type is got");
	if ((*info & PGT_count_mask) && (*info & PGT_type_mask) != type)
		return 0;
	if (!(*info & PGT_count_mask))
		*info = type | PGT_validated;
	++*info;
	return 1;
}

void put_page_type(struct page_info *page)
{
	unsigned long *info = &page->u.inuse.type_info;

	MUST((*info & PGT_type_mask) == PGT_writable_page && (*info & PGT_count_mask),
	     "a type reference is put that was not held");
	--*info;
}

void *map_domain_page(mfn_t mfn)
{
	MUST(mfn_valid(mfn), "frame %#lx is mapped", mfn_x(mfn));
	mapped[hx_cpu]++;
	return hx_memory[mfn_x(mfn)];
}

void unmap_domain_page(const void *p)
{
	/* As Xen's, which masks the address. */
	MUST((const uint8_t *)p >= hx_memory[0] && (const uint8_t *)p < hx_memory[HX_FRAMES],
	     "what is unmapped is no frame");
	MUST(mapped[hx_cpu], "nothing is mapped");
	mapped[hx_cpu]--;
}

static intpte_t *entry_at(mfn_t table, unsigned long index)
{
	return (intpte_t *)hx_memory[mfn_x(table)] + index;
}

/* The entry of a level that stands for an address; or NULL. */
static intpte_t *walk_to(mfn_t root, unsigned long addr, unsigned int level)
{
	unsigned int at = 4;
	mfn_t table = root;

	for (;; at--) {
		intpte_t *entry = entry_at(table, (addr >> (12 + 9 * (at - 1))) & 511);

		if (at == level)
			return entry;
		if (!(*entry & _PAGE_PRESENT))
			return NULL;
		table = _mfn(PFN_OF_(*entry));
	}
}

int hx_linear(unsigned long from, void *to)
{
	bool l2 = from < (unsigned long)__linear_l3_table;
	unsigned long index =
		(from - (unsigned long)(l2 ? (void *)__linear_l2_table : __linear_l3_table)) / 8;
	intpte_t *entry = walk_to(hac_current_root(), index << (l2 ? 21 : 30), l2 ? 2 : 3);

	hx_yield();
	if (!entry)
		return -EFAULT;
	memcpy(to, entry, sizeof(*entry));
	return 0;
}

intpte_t paging_cmpxchg_guest_entry(struct vcpu *v, intpte_t *p, intpte_t old, intpte_t new,
				    mfn_t table)
{
	intpte_t seen;

	MUST(v->domain == &hx_domain, "a vCPU of another domain");
	hx_yield();
	seen = *p;
	if (seen == old) {
		*p = new;
		guest_entry_changed(table, l1e_from_intpte(old), l1e_from_intpte(new));
	}
	return seen;
}

void hx_store(void *to, uint64_t value, unsigned int width)
{
	size_t at = (uint8_t *)to - hx_memory[0];

	MUST(at < sizeof(hx_memory) && at % PAGE_SIZE + width <= PAGE_SIZE,
	     "a store outside of a frame");
	hx_yield();
	memcpy(to, &value, width);
	guest_wrote(_mfn(at / PAGE_SIZE), at % PAGE_SIZE, value, width, true);
}

/* ---- TLBs: entries of L1 tables, and of L2 tables on the way to them ---- */

#define TLB 64
#define UPPER 8
static struct {
	struct {
		bool valid, writable, dirty;
		unsigned long page;
		mfn_t mfn;
	} entry[TLB];
	struct {
		bool valid;
		unsigned long region;
		mfn_t table;
	} upper[UPPER];
} tlbs[HX_CPUS];

void hx_tlb_flush(unsigned int cpu)
{
	memset(&tlbs[cpu], 0, sizeof(tlbs[cpu]));
}

static void flush_one(unsigned int cpu, unsigned long addr)
{
	tlbs[cpu].entry[(addr >> PAGE_SHIFT) % TLB].valid = false;
	memset(tlbs[cpu].upper, 0, sizeof(tlbs[cpu].upper));
}

void flush_tlb_mask(const cpumask_t *mask)
{
	unsigned int cpu;

	MUST(!locked_page[hx_cpu], "a flush under page_lock()");
	hx_yield();
	hx_flushes++;
	for (cpu = 0; cpu < HX_CPUS; cpu++)
		if (mask->bits & (1UL << cpu))
			hx_tlb_flush(cpu);
}

void flush_tlb_one_local(unsigned long addr)
{
	hx_yield();
	hx_flushes++;
	flush_one(hx_cpu, addr);
}

unsigned int hx_access(unsigned long addr, bool write, mfn_t *mfn)
{
	__typeof__(&tlbs[0].entry[0]) e = &tlbs[hx_cpu].entry[(addr >> PAGE_SHIFT) % TLB];
	__typeof__(&tlbs[0].upper[0]) u = &tlbs[hx_cpu].upper[(addr >> REGION_SHIFT) % UPPER];
	unsigned int error = FAULT | (write ? PFEC_write_access : 0);
	intpte_t *entry;

	if (!hx_random(64))
		hx_tlb_flush(hx_cpu);
	if (e->valid && e->page == addr >> PAGE_SHIFT && (!write || (e->writable && e->dirty))) {
		*mfn = e->mfn;
		return 0;
	}
	if (!u->valid || u->region != addr >> REGION_SHIFT) {
		entry = walk_to(hac_current_root(), addr, 2);
		if (!entry || !(*entry & _PAGE_PRESENT))
			return error;
		*entry |= _PAGE_ACCESSED;
		u->valid = true;
		u->region = addr >> REGION_SHIFT;
		u->table = _mfn(PFN_OF_(*entry));
	}
	entry = entry_at(u->table, l1_table_offset(addr));
	e->valid = false;
	if (!(*entry & _PAGE_PRESENT))
		return error;
	if (write && !(*entry & _PAGE_RW))
		return error | PFEC_page_present;
	*entry |= _PAGE_ACCESSED | (write ? _PAGE_DIRTY : 0);
	e->valid = true;
	e->page = addr >> PAGE_SHIFT;
	e->writable = *entry & _PAGE_RW;
	e->dirty = *entry & _PAGE_DIRTY;
	*mfn = e->mfn = _mfn(PFN_OF_(*entry));
	return 0;
}

unsigned int hx_cpu_store(unsigned long addr, uint64_t value, unsigned int width)
{
	mfn_t mfn;
	unsigned int error = hx_access(addr, true, &mfn);

	if (error)
		return error;
	memcpy(hx_memory[mfn_x(mfn)] + (addr & ~PAGE_MASK), &value, width);
	guest_wrote(mfn, addr & ~PAGE_MASK, value, width, false);
	return 0;
}

/* ---- copies ---- */

static bool copy_fails(void)
{
	MUST(!locked_page[hx_cpu], "a copy under page_lock()");
	MUST(!held[hx_cpu][4] && !held[hx_cpu][TABLES_RANK] && !held[hx_cpu][2],
	     "a copy under a lock that others wait for");
	hx_yield();
	if (hx_copies_left >= 0 && !hx_copies_left--) {
		hx_copies_left = 0;
		return true;
	}
	return hx_fail_copy && !hx_random(hx_fail_copy);
}

/*
 * An access of Xen to the memory of a simulated process. A fault is Xen's to
 * resolve, or the copy ends: the guest hears nothing of it.
 */
static bool access_as_xen(unsigned long addr, bool write, mfn_t *mfn)
{
	struct cpu_user_regs regs = { .in_xen = true };
	unsigned int error, tries = 0;

	while ((error = hx_access(addr, write, mfn))) {
		regs.error_code = error & ~FAULT;
		if (!hac_page_fault(addr, &regs) || tries++ == 100)
			return false;
	}
	return true;
}

static bool is_simulated(unsigned long addr)
{
	return addr - BASE < (unsigned long)REGIONS << REGION_SHIFT;
}

/* The address of a null pointer, and what a test does not have, cannot be had. */
static bool is_nowhere(unsigned long addr)
{
	return addr < PAGE_SIZE;
}

unsigned int copy_from_guest_pv(void *to, const void *from, unsigned int bytes)
{
	unsigned long at = (unsigned long)from;
	unsigned int i;
	mfn_t mfn;

	if (copy_fails() || is_nowhere(at))
		return bytes;
	for (i = 0; is_simulated(at) && i < bytes; i++, at++) {
		if (!access_as_xen(at, false, &mfn))
			return bytes - i;
		((uint8_t *)to)[i] = hx_memory[mfn_x(mfn)][at & ~PAGE_MASK];
	}
	if (i < bytes)
		memcpy(to, from, bytes);
	return 0;
}

unsigned int copy_to_guest_pv(void *to, const void *from, unsigned int bytes)
{
	unsigned long at = (unsigned long)to, before = hx_store_at[hx_cpu];
	unsigned int i;
	mfn_t mfn;

	if (copy_fails() || is_nowhere(at))
		return bytes;
	for (i = 0; is_simulated(at) && i < bytes; i++, at++) {
		if (!access_as_xen(at, true, &mfn))
			break;
		hx_memory[mfn_x(mfn)][at & ~PAGE_MASK] = ((const uint8_t *)from)[i];
		hx_store_at[hx_cpu] = at;
		guest_wrote(mfn, at & ~PAGE_MASK, ((const uint8_t *)from)[i], 1, false);
		hx_store_at[hx_cpu] = before;
	}
	if (is_simulated((unsigned long)to))
		return bytes - i;
	memcpy(to, from, bytes);
	return 0;
}

long hx_call(unsigned int number, unsigned long a1, unsigned long a2, unsigned long a3,
	     unsigned long a4, unsigned long a5, unsigned long *second)
{
	struct cpu_user_regs regs = {
		.rax = number,
		.rdi = a1,
		.rsi = a2,
		.rdx = a3,
		.rcx = a4,
		.r8 = a5,
	};
	unsigned int i;

	hac_gate(&regs);
	for (i = 0; i < RANKS; i++)
		MUST(!held[hx_cpu][i], "a call returns with a lock held");
	MUST(!mapped[hx_cpu] && !rcu_readers[hx_cpu], "a call returns with a page mapped");
	if (second)
		*second = regs.rdx;
	return regs.rax;
}

void hx_machine_init(unsigned int number)
{
	static cpumask_t mask;
	unsigned int cpu;

	state = hx_seed * 0x9e3779b97f4a7c15UL + 1;
	for (cpu = 0; cpu < 20; cpu++)
		hx_random(2);
	memset(hx_frames, 0, sizeof(hx_frames));
	memset(held, 0, sizeof(held));
	memset(rcu_readers, 0, sizeof(rcu_readers));
	hx_cpu = 0;
	hx_fail_copy = hx_warnings = 0;
	hx_copies_left = -1;
	hx_now = 1;
	cpus.bits = number == 1 ? 1 : 3;
	mask = cpus;
	hx_domain = (struct domain){ .vcpu = { &hx_vcpus[0] }, .dirty_cpumask = &mask, .pv = true };
	for (cpu = 0; cpu < HX_CPUS; cpu++) {
		hx_tlb_flush(cpu);
		hx_vcpus[cpu] = (struct vcpu){ .domain = &hx_domain };
	}
}
