// SPDX-License-Identifier: MIT
/*
 * One trace of stores under every handler and under page tracking in the
 * process: the same pages. Under Xen no signal arrives, and the log of
 * emulation has every store that is in no page of the list, with its value.
 */
#include "calls.h"

#include <signal.h>

#define PAGES 700u /* more than one page table */
#define ROUNDS 150

static struct {
	unsigned char *memory;
	bool dirty[PAGES];
} pt;
static volatile sig_atomic_t signals;
static unsigned long long seed;

static void on_fault(int number, siginfo_t *info, void *context)
{
	size_t page = (size_t)((unsigned char *)info->si_addr - pt.memory) / PAGE;

	(void)number;
	(void)context;
	signals++;
	if (page >= PAGES || mprotect(pt.memory + page * PAGE, PAGE, PROT_READ | PROT_WRITE))
		_exit(9);
	pt.dirty[page] = true;
}

/* The stores of a round: the same for each who is given the same seed. */
static void write_round(unsigned char *memory)
{
	unsigned int n = check_random(&seed) % 40;

	while (n--) {
		uint64_t value = check_random(&seed);
		size_t at = check_random(&seed) % (PAGES * PAGE - 64);
		unsigned char *to = memory + at;

		switch (value % 6) {
		case 0:
			*(volatile uint8_t *)to = (uint8_t)value;
			break;
		case 1:
			*(volatile uint16_t *)to = (uint16_t)value;
			break;
		case 2:
			*(volatile uint32_t *)to = (uint32_t)value;
			break;
		case 3:
			__atomic_fetch_add((uint64_t *)((uintptr_t)to & ~7ul), value,
					   __ATOMIC_SEQ_CST);
			break;
		default:
			*(volatile uint64_t *)to = value;
		}
	}
}

static void compare(const struct tracked *t, const unsigned char *before, int round)
{
	struct hac_xen_store *entry;
	unsigned char *expected = (unsigned char *)before;
	uint32_t i, k, n = t->log ? logged(t, &entry) : 0;

	for (i = 0; i < PAGES; i++)
		CHECK_MSG(reported(t, i) == pt.dirty[i], "%s, round %d: page %u %s",
			  handler_names[t->handler], round, i,
			  pt.dirty[i] ? "was written and is not reported" :
					"is reported and was not written");
	for (i = 1; i < t->count; i++)
		CHECK(t->list[i - 1] < t->list[i]);
	if (!t->log)
		return;
	/* The log, applied in its order, and the pages give what is there. */
	for (i = 0; i < n; i++) {
		size_t at = entry[i].address - (uintptr_t)t->memory;

		CHECK(entry[i].width && entry[i].width <= 8 && !entry[i].reserved);
		CHECK(at + entry[i].width <= PAGES * PAGE);
		CHECK(entry[i].width == 8 || !(entry[i].value >> 8 * entry[i].width));
		memcpy(expected + at, &entry[i].value, entry[i].width);
	}
	for (k = 0; k < t->count; k++)
		memcpy(expected + t->list[k] * PAGE, t->memory + t->list[k] * PAGE, PAGE);
	CHECK(t->partial || !t->count);
	CHECK_MSG(!memcmp(expected, t->memory, PAGES * PAGE), "round %d: log and memory differ",
		  round);
}

static void trace(uint32_t handler, uint32_t log_entries)
{
	struct tracked t;
	unsigned char *memory = map_pages(PAGES), *before = map_pages(PAGES);
	unsigned long long start_seed = 77;
	int round;

	memset(memory, 3, PAGES * PAGE);
	memset(pt.memory, 3, PAGES * PAGE);
	track(&t, memory, PAGES, handler, log_entries);
	start(&t);
	for (round = 0; round < ROUNDS; round++) {
		int taken;

		memcpy(before, memory, PAGES * PAGE);
		memset(pt.dirty, 0, sizeof(pt.dirty));
		CHECK_OK(mprotect(pt.memory, PAGES * PAGE, PROT_READ));
		seed = start_seed;
		write_round(pt.memory);
		taken = signals;
		seed = start_seed;
		write_round(memory);
		CHECK_IS(signals, taken);
		if (round % 3) {
			take(&t);
		} else {
			take_by(&t, HAC_XEN_end);
			start(&t);
		}
		compare(&t, before, round);
		clear_log(&t);
		CHECK(!memcmp(memory, pt.memory, PAGES * PAGE));
		start_seed = seed;
	}
	printf("%s: %llu opened, %llu emulated, %llu not emulated, %llu skipped\n",
	       handler_names[handler], (unsigned long long)statistics((uint32_t)t.number).opened,
	       (unsigned long long)statistics((uint32_t)t.number).emulated,
	       (unsigned long long)statistics((uint32_t)t.number).not_emulated,
	       (unsigned long long)statistics((uint32_t)t.number).skipped);
	untrack(&t);
	munmap(memory, PAGES * PAGE);
	munmap(before, PAGES * PAGE);
}

int main(void)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };

	need_xen();
	pt.memory = map_pages(PAGES);
	CHECK_OK(sigaction(SIGSEGV, &action, NULL));
	trace(HAC_XEN_TRACKING, 0);
	trace(HAC_XEN_EMULATION, 2 * HALF);
	trace(HAC_XEN_EMULATION, 16);
	trace(HAC_XEN_SCAN, 0);
	return 0;
}
