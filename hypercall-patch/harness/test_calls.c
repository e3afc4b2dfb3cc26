// SPDX-License-Identifier: GPL-2.0-only
/*
 * The calls, on one process with present pages, and a guest kernel that opens
 * a page when Xen does not. First single cases, then stores and calls at
 * random on two CPUs: no store may be missing from the report that follows it.
 *   test_calls [ROUNDS [SEED]]
 */
#include "machine.h"

static mfn_t root, l3, l2, l1[REGIONS], frame[REGIONS][8];
static const unsigned int slots[8] = { 0, 1, 2, 63, 64, 300, 510, 511 };
static uint32_t list[4096];
static struct hac_xen_store records[64];

/* When the page was first written since the report before; 0: was not. */
static unsigned long written[REGIONS * 512], emulated_stores;

static intpte_t *entry(mfn_t table, unsigned int i)
{
	return (intpte_t *)hx_memory[mfn_x(table)] + i;
}

void guest_wrote(mfn_t mfn, unsigned int offset, uint64_t value, unsigned int width, bool emulated)
{
	unsigned int page = (hx_store_at[hx_cpu] - BASE) >> PAGE_SHIFT;

	(void)offset, (void)value, (void)width;
	MUST(PFN_OF_(*entry(_mfn(PFN_OF_(*entry(l2, page / 512))), page % 512)) == mfn_x(mfn),
	     "a store to %#lx went to another page", hx_store_at[hx_cpu]);
	if (emulated)
		emulated_stores++;
	else if (!written[page])
		written[page] = hx_now;
}

void guest_entry_changed(mfn_t table, l1_pgentry_t old, l1_pgentry_t new)
{
	(void)table;
	if (~old.l1 & new.l1 & _PAGE_RW)
		MUST(old.l1 & BITS_OF_(_PAGE_HAC), "an entry is opened that has no mark");
}

static mfn_t table_alloc(unsigned int level)
{
	mfn_t mfn = hx_frame_alloc();

	mfn_to_page(mfn)->u.inuse.type_info = ((unsigned long)level << 61) | PGT_validated | 1;
	return mfn;
}

static void fill(unsigned int region, unsigned int i)
{
	frame[region][i] = hx_frame_alloc();
	mfn_to_page(frame[region][i])->count = 1;
	MUST(get_page_type(mfn_to_page(frame[region][i]), PGT_writable_page), "no type");
	*entry(l1[region], slots[i]) = (mfn_x(frame[region][i]) << PAGE_SHIFT) | _PAGE_PRESENT |
				       _PAGE_RW | _PAGE_USER;
}

/* A process with eight pages in each of the first regions. */
static void start(unsigned int cpus, unsigned int filled)
{
	unsigned int r, i;

	hx_machine_init(cpus);
	memset(written, 0, sizeof(written));
	memset(records, 0, sizeof(records));
	emulated_stores = 0;
	root = table_alloc(4);
	l3 = table_alloc(3);
	l2 = table_alloc(2);
	*entry(root, 0) = (mfn_x(l3) << PAGE_SHIFT) | _PAGE_PRESENT;
	*entry(l3, 1) = (mfn_x(l2) << PAGE_SHIFT) | _PAGE_PRESENT;
	for (r = 0; r < filled; r++) {
		l1[r] = table_alloc(1);
		*entry(l2, r) = (mfn_x(l1[r]) << PAGE_SHIFT) | _PAGE_PRESENT;
		for (i = 0; i < 8; i++)
			fill(r, i);
	}
	for (i = 0; i < HX_CPUS; i++)
		hx_vcpus[i].arch.guest_table_user.mfn = root;
}

/* The process exits: everything of it in Xen is gone afterwards. */
static void stop(unsigned int filled)
{
	unsigned int r, i;

	hac_l4_demote(&hx_domain, root);
	for (r = 0; r < filled; r++) {
		hac_l1_demote(&hx_domain, l1[r], (l1_pgentry_t *)entry(l1[r], 0));
		for (i = 0; i < 512; i++)
			if (*entry(l1[r], i) & _PAGE_RW)
				put_page_type(mfn_to_page(_mfn(PFN_OF_(*entry(l1[r], i)))));
	}
	for (i = 1; i < HX_FRAMES; i++)
		MUST((hx_frames[i].u.inuse.type_info & PGT_type_mask) != PGT_writable_page ||
			     !(hx_frames[i].u.inuse.type_info & PGT_count_mask),
		     "frame %u keeps a type reference", i);
	hx_rcu_run();
	if (hx_domain.arch.pv.hac) {
		MUST(!hac_of(&hx_domain)->bytes && !hac_of(&hx_domain)->areas, "%lu bytes are left",
		     hac_of(&hx_domain)->bytes);
		hac_domain_destroy(&hx_domain);
	}
	MUST(!hx_allocated && !hx_warnings, "%lu allocations are left", hx_allocated);
}

static void guest_update(unsigned long addr, intpte_t new)
{
	mfn_t table = _mfn(PFN_OF_(*entry(l2, l2_table_offset(addr))));
	intpte_t *p = entry(table, l1_table_offset(addr));
	l1_pgentry_t nl1e;
	intpte_t old;

	MUST(page_lock(mfn_to_page(table)), "a table is none");
	nl1e.l1 = new ? new : *p | _PAGE_RW | _PAGE_DIRTY | _PAGE_ACCESSED;
	if (nl1e.l1 & _PAGE_RW)
		MUST(get_page_type(mfn_to_page(l1e_get_mfn(nl1e)), PGT_writable_page), "no type");
	hac_l1e_update(&hx_domain, table, (l1_pgentry_t *)p, &nl1e);
	old = *p;
	*p = nl1e.l1;
	if (old & _PAGE_RW)
		put_page_type(mfn_to_page(_mfn(PFN_OF_(old))));
	page_unlock(mfn_to_page(table));
	hac_copies_done(&hx_domain);
}

/* mov [rdi], eax, or an instruction that is not emulated. */
static void store(unsigned long addr, uint32_t value, bool plain)
{
	static const uint8_t codes[2][16] = { { 0x87, 0x07 }, { 0x89, 0x07 } };
	struct cpu_user_regs regs = {
		.rax = value,
		.rdi = addr,
		.cs = FLAT_USER_CS64,
		.rip = (unsigned long)codes[plain],
	};
	unsigned int error, tries = 0;

	while (hx_store_at[hx_cpu] = addr, (error = hx_cpu_store(addr, value, 4))) {
		MUST(tries++ < 1000, "the store never gets done");
		hx_yield();
		regs.error_code = error & ~FAULT;
		if (!hac_page_fault(addr, &regs))
			guest_update(addr, 0);
		else if (regs.rip != (unsigned long)codes[plain])
			return;
	}
}

static unsigned long at(unsigned int region, unsigned int i)
{
	return BASE + ((unsigned long)region << REGION_SHIFT) +
	       ((unsigned long)slots[i] << PAGE_SHIFT);
}

static long open_area(unsigned int handler, unsigned int regions)
{
	struct hac_xen_area request = {
		.start = BASE,
		.pages = regions * 512,
		.handler = handler,
		.log = handler == HAC_XEN_EMULATION ? (unsigned long)records : 0,
		.log_entries = handler == HAC_XEN_EMULATION ? ARRAY_SIZE(records) : 0,
	};
	long rc, number = hx_call(HAC_XEN_register_area, (unsigned long)&request, 0, 0, 0, 0, NULL);

	MUST(number >= 0, "register: %ld", number);
	while ((rc = hx_call(HAC_XEN_begin, number, 0, 0, 0, 0, NULL)) == HAC_XEN_MORE)
		;
	MUST(!rc, "begin: %ld", rc);
	memset(written, 0, sizeof(written));
	return number;
}

/* All pages of one `next`, into list[]. */
static unsigned int next(long number, unsigned int room)
{
	unsigned int n = 0, got, i;
	unsigned long second, from = ++hx_now;
	long rc = hx_call(HAC_XEN_next, number, 0, 0, 0, 0, NULL);

	MUST(rc >= 0 && !(rc & ~(HAC_XEN_MORE | HAC_XEN_PARTIAL_LOG)), "anything: %ld", rc);
	for (i = 0; !rc && i < ARRAY_SIZE(written); i++)
		MUST(!written[i] || written[i] >= from,
		     "there is nothing to report, but a store to page %u at %lu", i, written[i]);
	do {
		rc = hx_call(HAC_XEN_next, number, (unsigned long)(list + n), room, 0, 0, &second);
		if (rc == -EFAULT)
			continue;
		MUST(rc >= 0, "next: %ld", rc);
		got = rc & HAC_XEN_COUNT;
		for (i = n; i < n + got; i++) {
			MUST(!i || list[i] > list[i - 1], "page %u after %u", list[i], list[i - 1]);
			written[list[i]] = 0;
		}
		n += got;
	} while (rc == -EFAULT || (rc & HAC_XEN_MORE));
	for (i = 0; i < ARRAY_SIZE(written); i++)
		MUST(!written[i] || written[i] >= from, "the store to page %u at %lu is lost", i,
		     written[i]);
	return n;
}

static void stores_are_reported(void)
{
	unsigned int handler;

	for (handler = 0; handler < HAC_XEN_HANDLERS; handler++) {
		long number;
		unsigned long second = 0;

		start(1, 2);
		number = open_area(handler, 2);
		store(at(0, 1), 5, false);
		store(at(1, 3), 6, false);
		MUST(next(number, 100) == 2 && list[0] == 1 && list[1] == 512 + 63,
		     "handler %u reports something else", handler);
		MUST(!next(number, 100), "handler %u reports what was not written", handler);
		store(at(0, 4), 0x77, true);
		if (handler == HAC_XEN_EMULATION) {
			MUST(emulated_stores == 1, "a plain store is not emulated");
			MUST(!hx_call(HAC_XEN_next, number, (unsigned long)list, 9, 0, 0,
				      &second) &&
				     (second & ~HAC_XEN_SECOND_HALF) == 1,
			     "not in the log: %lx", second);
		} else {
			MUST(next(number, 100) == 1 && list[0] == 64, "reports something else");
		}
		MUST(!hx_call(HAC_XEN_unregister_area, number, 0, 0, 0, 0, NULL), "unregister");
		stop(2);
	}
}

static void nothing_is_lost_when_a_copy_fails(void)
{
	long number, rc;

	start(1, 2);
	number = open_area(HAC_XEN_TRACKING, 2);
	store(at(0, 1), 5, true);
	store(at(1, 3), 6, true);
	hx_copies_left = 1; /* the pages of the second region cannot be written */
	rc = hx_call(HAC_XEN_next, number, (unsigned long)list, 100, 0, 0, NULL);
	hx_copies_left = -1;
	if (rc > 0 && (rc & HAC_XEN_COUNT))
		written[list[0]] = 0;
	next(number, 100);
	stop(2);
}

static void a_moved_table_is_not_written_to(void)
{
	mfn_t zero;

	start(1, REGIONS - 1);
	open_area(HAC_XEN_EMULATION, 1);
	/* mremap() moves the table; a new one has the page of zeros. */
	*entry(l2, REGIONS - 1) = *entry(l2, 0);
	l1[REGIONS - 1] = l1[0];
	l1[0] = table_alloc(1);
	*entry(l2, 0) = (mfn_x(l1[0]) << PAGE_SHIFT) | _PAGE_PRESENT;
	hx_tlb_flush(0);
	zero = hx_frame_alloc();
	*entry(l1[0], 0) = (mfn_x(zero) << PAGE_SHIFT) | _PAGE_PRESENT;
	store(BASE, 7, true); /* guest_wrote() looks where it goes */
	MUST(!*(uint32_t *)hx_memory[mfn_x(frame[0][0])], "the moved page is written");
	stop(REGIONS);
}

static void a_walk_does_not_trust_a_fork_that_goes_on(void)
{
	l1_pgentry_t copy;
	intpte_t e;
	long number;

	start(1, 1);
	number = open_area(HAC_XEN_TRACKING, 1);
	next(number, 600);
	copy.l1 = *entry(l1[0], 0);
	MUST(l1e_get_flags(copy) & _PAGE_HAC, "no mark");
	store(BASE, 1, true);
	hac_l1e_promote(&hx_domain, &copy);
	MUST(!(l1e_get_flags(copy) & _PAGE_HAC), "the copy keeps its mark");
	next(number, 600);
	hac_copies_done(&hx_domain);
	e = *entry(l1[0], 0);
	MUST(!(e & _PAGE_RW), "a shared page is open");
	MUST(!hac_page_fault(BASE, &(struct cpu_user_regs){ .error_code = PFEC_page_present |
									  PFEC_write_access }),
	     "Xen opens a page that a child shares");
	stop(1);
}

static void a_cached_upper_entry_hides_nothing(void)
{
	long number;
	mfn_t mfn;

	for (hx_seed = 1; hx_seed < 50; hx_seed++) {
		start(1, 1);
		number = open_area(HAC_XEN_SCAN, 1);
		next(number, 600);
		hx_access(BASE, false, &mfn);
		next(number, 600); /* the accessed bit is cleared, nothing was dirty */
		store(at(0, 1), 1, true);
		next(number, 600);
		stop(1);
	}
	hx_seed = 1;
}

/* A second area below the same L2 entry, registered after a write to the first. */
static void a_new_area_hides_nothing_of_its_neighbour(void)
{
	struct hac_xen_area half = {
		.start = BASE,
		.pages = 256,
		.handler = HAC_XEN_SCAN,
	};
	long first, second;
	unsigned int i;

	start(1, 1);
	first = hx_call(HAC_XEN_register_area, (unsigned long)&half, 0, 0, 0, 0, NULL);
	MUST(first >= 0 && !hx_call(HAC_XEN_begin, first, 0, 0, 0, 0, NULL), "the first area");
	next(first, 600);
	store(at(0, 1), 1, true);
	half.start += 256 * PAGE_SIZE;
	second = hx_call(HAC_XEN_register_area, (unsigned long)&half, 0, 0, 0, 0, NULL);
	MUST(second >= 0 && !hx_call(HAC_XEN_begin, second, 0, 0, 0, 0, NULL), "the second area");
	MUST(hx_call(HAC_XEN_next, first, (unsigned long)list, 0, 0, 0, NULL),
	     "a look does not see the neighbour's write");
	next(first, 600);
	for (i = 0; i < 3; i++) {
		store(at(0, 1), 2 + i, true);
		MUST(!hx_call(HAC_XEN_next, second, (unsigned long)list, 600, 0, 0, NULL),
		     "the second area reports what was not written in it");
		next(first, 600);
	}
	stop(1);
}

static void what_is_refused(void)
{
	struct hac_xen_area a = { .start = BASE, .pages = 1 };
	unsigned long p = (unsigned long)&a;

	start(1, 1);
#define REFUSED(why, field, value)                                                          \
	do {                                                                                \
		struct hac_xen_area good = a;                                               \
		a.field = (value);                                                          \
		MUST(hx_call(HAC_XEN_register_area, p, 0, 0, 0, 0, NULL) == (why), #field); \
		a = good;                                                                   \
	} while (0)
	REFUSED(-EINVAL, pages, 0);
	REFUSED(-EINVAL, pages, HAC_XEN_MAX_PAGES + 1);
	REFUSED(-ENOSPC, pages, HAC_XEN_MAX_PAGES);
	REFUSED(-EINVAL, start, BASE + 8);
	REFUSED(-EINVAL, start, 1UL << 47);
	REFUSED(-EINVAL, handler, HAC_XEN_HANDLERS);
	REFUSED(-EINVAL, reserved, 1);
	REFUSED(-EINVAL, log, 8);
	hx_copies_left = 0;
	MUST(hx_call(HAC_XEN_register_area, p, 0, 0, 0, 0, NULL) == -EFAULT, "no fault");
	hx_copies_left = -1;
	MUST(hx_call(HAC_XEN_register_area, p, 0, 0, 0, 0, NULL) == 0, "not registered");
	MUST(hx_call(HAC_XEN_register_area, p, 0, 0, 0, 0, NULL) == -EINVAL, "they overlap");
	MUST(hx_call(HAC_XEN_end, 0, p, 1, 0, 0, NULL) == -ENOENT, "nothing is open");
	MUST(hx_call(HAC_XEN_begin, 1, 0, 0, 0, 0, NULL) == -EINVAL, "no such area");
	MUST(hx_call(99, 0, 0, 0, 0, 0, NULL) == -ENOSYS, "no such call");
	for (a.start = BASE + PAGE_SIZE; hx_call(HAC_XEN_register_area, p, 0, 0, 0, 0, NULL) >= 0;)
		a.start += PAGE_SIZE;
	MUST(hac_of(&hx_domain)->areas == HAC_XEN_MAX_AREAS, "areas are refused too soon");
	stop(1);
}

/* ---- at random ---- */

static long area;
static unsigned int regions;

/* A call from what the guest's kernel runs, or with 32-bit registers. */
static long call_as(unsigned int number, bool in_kernel)
{
	struct cpu_user_regs regs = { .rax = number, .in_kernel = in_kernel };

	hac_gate(&regs);
	return regs.rax;
}

static void who_is_refused(void)
{
	start(1, 1);
	open_area(HAC_XEN_TRACKING, 1);
	MUST(call_as(HAC_XEN_version, false) == HAC_XEN_VERSION, "no version");
	MUST(call_as(HAC_XEN_version, true) == -EPERM, "a kernel is not refused");
	MUST(call_as(HAC_XEN_unregister_area, true) == -EPERM, "a kernel is not refused");
	MUST(call_as(HAC_XEN_unregister_area | HAC_XEN_ABI32, true) == (uint32_t)-EPERM,
	     "a kernel is not refused");
	hx_domain.pv = false;
	MUST(call_as(HAC_XEN_version, false) == -ENOSYS, "an HVM guest is not refused");
	MUST(!hac_cpuid(&hx_domain), "an HVM guest is told of the gate");
	hx_domain.pv = hx_domain.pv32 = true;
	MUST(call_as(HAC_XEN_version, false) == -ENOSYS, "a 32-bit guest is not refused");
	MUST(!hac_cpuid(&hx_domain), "a 32-bit guest is told of the gate");
	hx_domain.pv32 = false;
	MUST(hac_cpuid(&hx_domain) == HAC_XEN_CPUID_MAGIC, "a PV guest is not told");
	MUST(hac_of(&hx_domain)->areas == 1, "a refused call did something");
	MUST(call_as(99 | HAC_XEN_ABI32, false) == (uint32_t)-ENOSYS, "no such call");
	MUST(call_as(HAC_XEN_unregister_area | HAC_XEN_ABI32, false) == 0, "not unregistered");
	stop(1);
}

static void cpu_body(void)
{
	unsigned int i;

	for (i = 0; i < 400; i++) {
		unsigned int r = hx_random(regions), s = hx_random(8);

		if (hx_cpu == 0 && !hx_random(6))
			next(area, hx_random(2) ? 1024 : 1 + hx_random(20));
		else
			store(at(r, s) + 4 * hx_cpu, i, hx_random(2));
	}
}

static void at_random(unsigned long rounds, unsigned long seed)
{
	unsigned long i;

	for (i = 0; i < rounds; i++) {
		hx_seed = seed + i;
		regions = 1 + hx_seed % 3;
		start(1 + hx_seed / 3 % 2, regions);
		area = open_area(hx_seed / 6 % 3, regions);
		next(area, 1024);
		hx_fail_copy = hx_seed % 2 ? 20 : 0;
		hx_run(cpu_body);
		hx_fail_copy = 0;
		next(area, 1024);
		stop(regions);
	}
}

int main(int argc, char **argv)
{
	unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 0) : 600;

	stores_are_reported();
	nothing_is_lost_when_a_copy_fails();
	a_moved_table_is_not_written_to();
	a_walk_does_not_trust_a_fork_that_goes_on();
	a_cached_upper_entry_hides_nothing();
	a_new_area_hides_nothing_of_its_neighbour();
	what_is_refused();
	who_is_refused();
	at_random(rounds, argc > 2 ? strtoul(argv[2], NULL, 0) : 1);
	printf("calls: %lu random rounds\n", rounds);
	return 0;
}
