/* SPDX-License-Identifier: GPL-2.0-only */
/* The guest of fuzz_guest.c: its processes, and what its kernel does to them. */
#ifndef HAC_HARNESS_GUEST_H
#define HAC_HARNESS_GUEST_H

#include "machine.h"

#define PROCESSES 3
#define SLOTS 8
#define LOG_REGION 4
#define USED (LOG_REGION + 1) /* regions */
#define AREAS 3
#define BYTES 64 /* of each page: all that is ever written */
#define SWAP 600
#define AD ((intpte_t)(_PAGE_ACCESSED | _PAGE_DIRTY))
#define MARK BITS_OF_(_PAGE_HAC)

enum vma { NONE, READ, WRITE };

struct page {
	enum vma vma;
	bool fresh; /* never touched: it has no bytes yet */
	bool busy;  /* the program unmaps, moves or protects it: no thread writes */
	unsigned long written;
	uint8_t truth[BYTES];
};

struct watched {
	bool used, open, busy;
	unsigned int handler, number, start, pages; /* in pages from BASE on */
	uint8_t replica[USED][SLOTS][BYTES];
	bool later[USED][SLOTS]; /* reported while it was on the move */
};

struct process {
	bool alive;
	mfn_t root, l3, l2;
	struct page page[USED][SLOTS];
	struct watched area[AREAS];
};

struct frame {
	unsigned int refs; /* entries that map it */
	bool dirty, merged;
	int slot; /* of swap, that holds the same bytes unless dirty; or -1 */
};

struct swap_slot {
	unsigned int refs;
	uint8_t bytes[PAGE_SIZE];
};

/* How often each thing was done. */
enum did {
	EMULATED,
	FORKS,
	EXITS,
	UNMAPPED,
	PROTECTED,
	MOVED,
	MOVED_TABLES,
	SWAP_WRITES,
	SWAPPED_OUT,
	MERGED,
	KERNEL_WRITES,
	LOG_ENTRIES_READ,
	REPORTS, /* of each handler */
	DID = REPORTS + HAC_XEN_HANDLERS,
};

extern struct process processes[PROCESSES], *running[HX_CPUS];
extern struct frame frames[HX_FRAMES];
extern struct swap_slot swap[SWAP];
extern const unsigned int slots[SLOTS];
extern mfn_t zero;
extern unsigned long done[DID];

/* ---- guest.c: tables, faults, processes ---- */

/* One process, with all of its pages to be touched yet. */
void guest_start(unsigned int cpus);
/* All processes end; nothing of them is left. */
void guest_stop(void);
/* Memory is what was stored, and nothing is writable that must not be. */
void check_all(void);

struct process *any(void);
void switch_to(struct process *p);
void do_fork(void);
void do_exit(void);
/* Only one CPU is in the kernel. */
void lock_kernel(void);
void unlock_kernel(void);
/* A fault of a process. False: the program is at fault. */
bool fault(struct process *p, unsigned int r, unsigned int i, bool write);

bool find(unsigned long addr, unsigned int *r, unsigned int *i);
bool is_log(unsigned int r);
unsigned long address(unsigned int r, unsigned int i);
mfn_t table_of(const struct process *p, unsigned int r);
intpte_t *entry(mfn_t table, unsigned int i);
intpte_t *pte(const struct process *p, unsigned int r, unsigned int i);
void need_table(struct process *p, unsigned int r);
void set_pte(const struct process *p, unsigned int r, unsigned int i, intpte_t new, bool keep);
intpte_t change_pte(const struct process *p, unsigned int r, unsigned int i, intpte_t remove);
intpte_t clear_flush(const struct process *p, unsigned int r, unsigned int i);
void flush_all(void);
intpte_t map(mfn_t mfn, intpte_t flags);
void drop(intpte_t e);
void frame_put(mfn_t mfn);
void slot_put(int slot);
void promote(mfn_t mfn, unsigned long level);
void demote(mfn_t mfn);
void frame_free(mfn_t mfn);

/* ---- guest_memory.c: what happens to pages ---- */

void unmap_page(struct process *p, unsigned int r, unsigned int i);
void do_munmap(struct process *p, unsigned int r);
void do_mprotect(struct process *p, unsigned int r, unsigned int i);
void do_mremap(struct process *p, unsigned int r, unsigned int i, unsigned int to_r,
	       unsigned int to_i);
void do_mremap_table(struct process *p, unsigned int r, unsigned int to);
void swap_out(struct process *p, unsigned int r, unsigned int i);
void merge(void);
void kernel_write(struct process *p, unsigned int r, unsigned int i);

#endif /* HAC_HARNESS_GUEST_H */
