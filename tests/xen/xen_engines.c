// SPDX-License-Identifier: MIT
/*
 * The engines of libhac side by side: emulxen's log and emul's for the same
 * stores, ptxen's and scanxen's pages and pt's; and with a twin all deltas are
 * equal. No signal arrives under Xen.
 */
#include "../c/each_engine.h"

#include "xen_gate.h"

#define PAGE 4096u
#define PAGES 80u
#define ENGINES 5

static const char *const names[ENGINES] = { "emul", "emulxen", "pt", "ptxen", "scanxen" };

struct side {
	hac *h;
	unsigned char *memory;
	struct hac_delta d;
};

static unsigned long long seed;

static void open_side(struct side *s, const char *engine, uint32_t flags)
{
	void *address;

	s->h = open_with(engine, flags);
	CHECK_OK(hac_map(s->h, "a", PAGES * PAGE, NULL, &address));
	s->memory = address;
	memset(s->memory, 1, PAGES * PAGE);
	s->d = (struct hac_delta){ .size = sizeof(s->d) };
	if (flags & HAC_NO_TWIN)
		s->d.flags = HAC_RUNS_ONLY;
	CHECK_OK(hac_begin(s->h));
	CHECK_OK(hac_end(s->h, NULL, NULL));
}

static void close_side(struct side *s)
{
	CHECK_OK(hac_close(s->h));
	CHECK_OK(hac_unmap(s->memory));
}

static void store(unsigned char *memory, unsigned long long random)
{
	unsigned char *to = memory + random / 64 % (PAGES * PAGE - 16);

	switch (random % 7) {
	case 0:
		*(volatile uint8_t *)to = (uint8_t)(random >> 40);
		break;
	case 1:
		*(volatile uint16_t *)to = (uint16_t)(random >> 40);
		break;
	case 2:
		*(volatile uint32_t *)to = (uint32_t)(random >> 30);
		break;
	case 3:
		__atomic_fetch_add((uint32_t *)((uintptr_t)to & ~3ul), 1, __ATOMIC_RELAXED);
		break;
	case 4:
		memset(to, (int)(random >> 50), 16);
		break;
	default:
		*(volatile uint64_t *)to = random;
	}
}

static bool is_page(const struct hac_run *run)
{
	return run->length >= PAGE;
}

/* One store a transaction, no twin: what each has seen of it. */
static void single_stores(void)
{
	struct side s[ENGINES];
	unsigned int i, k, both = 0;

	for (k = 0; k < ENGINES; k++)
		open_side(&s[k], names[k], HAC_NO_TWIN);
	for (i = 0; i < 1500; i++) {
		unsigned long long random = check_random(&seed);

		for (k = 0; k < ENGINES; k++) {
			CHECK_OK(hac_begin(s[k].h));
			store(s[k].memory, random);
			CHECK_OK(hac_end(s[k].h, &s[k].d, NULL));
			CHECK(s[k].d.runs_count);
		}
		for (k = 3; k < ENGINES; k++) /* pages: as pt has it */
			CHECK_MSG(s[k].d.runs_count == s[2].d.runs_count &&
					  !memcmp(s[k].d.runs, s[2].d.runs,
						  s[2].d.runs_count * sizeof(*s[2].d.runs)),
				  "%s and pt differ", names[k]);
		if (is_page(s[0].d.runs) || is_page(s[1].d.runs))
			continue;
		both++;
		CHECK_IS(s[1].d.runs_count, s[0].d.runs_count);
		CHECK_MSG(s[0].d.runs->offset == s[1].d.runs->offset &&
				  s[0].d.runs->length == s[1].d.runs->length,
			  "emul saw %u bytes at %llu, emulxen %u at %llu", s[0].d.runs->length,
			  (unsigned long long)s[0].d.runs->offset, s[1].d.runs->length,
			  (unsigned long long)s[1].d.runs->offset);
	}
	CHECK_MSG(both > 900, "both have decoded %u stores only", both);
	printf("%u of 1500 stores were decoded by both\n", both);
	for (k = 0; k < ENGINES; k++)
		close_side(&s[k]);
}

static void deltas(void)
{
	struct side s[ENGINES];
	struct hac_stats stats = { .size = sizeof(stats) };
	unsigned int i, k, n;

	for (k = 0; k < ENGINES; k++)
		open_side(&s[k], names[k], 0);
	for (i = 0; i < 150; i++) {
		unsigned long long start = check_random(&seed);

		for (k = 0; k < ENGINES; k++) {
			seed = start;
			CHECK_OK(hac_begin(s[k].h));
			for (n = (unsigned int)(start % 60); n; n--)
				store(s[k].memory, check_random(&seed));
			if (i % 7 == 3) {
				CHECK_OK(hac_abort(s[k].h));
				s[k].d.runs_count = s[k].d.bytes_count = 0;
				continue;
			}
			CHECK_OK(hac_end(s[k].h, &s[k].d, NULL));
		}
		for (k = 1; k < ENGINES; k++) {
			CHECK(!memcmp(s[k].memory, s[0].memory, PAGES * PAGE));
			CHECK_MSG(s[k].d.runs_count == s[0].d.runs_count &&
					  s[k].d.bytes_count == s[0].d.bytes_count &&
					  !memcmp(s[k].d.runs, s[0].d.runs,
						  s[0].d.runs_count * sizeof(*s[0].d.runs)) &&
					  !memcmp(s[k].d.bytes, s[0].d.bytes, s[0].d.bytes_count),
				  "the deltas of %s and emul differ", names[k]);
		}
	}
	for (k = 0; k < ENGINES; k++) {
		CHECK_OK(hac_get_stats(s[k].h, &stats));
		CHECK_MSG(!stats.faults == !!strstr(names[k], "xen"), "%s: %llu signals", names[k],
			  (unsigned long long)stats.faults);
		close_side(&s[k]);
	}
}

int main(void)
{
	unsigned int k;

	seed = 4711;
	for (k = 0; k < ENGINES; k++)
		if (!engine_works(names[k]))
			SKIP("%s does not work here", names[k]);
	RUN(single_stores);
	RUN(deltas);
	return 0;
}
