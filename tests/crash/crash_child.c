// SPDX-License-Identifier: MIT
/*
 * The program that gets killed, and the one that looks at what is left.
 *
 *   crash_child run IMAGE journal|ring SEED
 *	Runs transactions until it dies. Writes the number of a transaction to
 *	stdout, 8 bytes, once it has waited for it to be in the journal.
 *   crash_child compact IMAGE
 *	Opens and compacts the image, over and over.
 *   crash_child check IMAGE MODEL ACKNOWLEDGED readonly|writable
 *	The image must hold the state that some transaction left, no older than
 *	the acknowledged one or the last one checked. MODEL is a file that keeps
 *	the state of the last check. Writes the transaction's number to stdout.
 *
 * What transaction n writes follows from n alone; the first 8 bytes of the
 * first area hold n.
 */
#include "hac.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define AREAS 4
#define GROWS 2
#define ADOPTED 3
#define CAPACITY (512u * 1024)

struct areas {
	unsigned char *memory[AREAS];
	size_t size[AREAS];
};

static const char *const names[AREAS] = { "counters", "large", "grows", "adopted" };
static const size_t sizes[AREAS] = { 4096, 300000, 5000, 33333 };

static uint64_t next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static void must(int result, const char *what)
{
	if (result)
		errx(1, "%s: %s: %s", what, strerror(-result), hac_error_detail());
}

/* ---------------------------------------------------------------- model -- */

/* How large the growing area is after transaction n. */
static size_t size_after(uint64_t n)
{
	uint64_t size = sizes[GROWS] + n / 7 * 1237;

	return size < CAPACITY ? (size_t)size : CAPACITY;
}

static void fill(unsigned char *at, size_t length, uint64_t *random)
{
	size_t i;

	for (i = 0; i < length; i++)
		at[i] = i % 8 ? (unsigned char)(at[i - 1] + 31) : (unsigned char)next(random);
}

/* One transaction in 16 is larger than the ring. */
static void apply(const struct areas *areas, uint64_t n)
{
	uint64_t random = n * 0x2545f4914f6cdd1dull, writes = 1 + next(&random) % 30;

	memcpy(areas->memory[0], &n, sizeof(n));
	if (n % 16 == 0)
		fill(areas->memory[1] + next(&random) % 1000, 200000, &random);
	while (writes--) {
		size_t i = next(&random) % AREAS, length = 1 + next(&random) % 300;

		fill(areas->memory[i] + 8 + next(&random) % (areas->size[i] - 8 - length), length,
		     &random);
	}
}

static uint64_t number_of(const struct areas *areas)
{
	uint64_t n;

	memcpy(&n, areas->memory[0], sizeof(n));
	return n;
}

/* Claim all areas, of a new image or of one that was left behind. */
static void claim(hac *h, struct areas *areas, bool readonly)
{
	struct hac_area_options grows = { .size = sizeof(grows), .capacity = CAPACITY };
	struct hac_area_info info = { .size = sizeof(info) };
	uint32_t i, k;

	for (i = 0; i < AREAS; i++) {
		void *address = NULL;

		if (i == ADOPTED && !readonly) {
			address = (unsigned char *)calloc(1, sizes[i] + 4096) + 13;
			must(hac_adopt(h, names[i], address, sizes[i], NULL), names[i]);
		} else {
			must(hac_map(h, names[i], sizes[i], i == GROWS ? &grows : NULL, &address),
			     names[i]);
		}
		areas->memory[i] = address;
		for (k = 0; !hac_get_area(h, k, &info); k++)
			if (!strcmp(info.name, names[i]))
				areas->size[i] = info.bytes;
	}
}

/* ------------------------------------------------------------------ run -- */

static void tell(uint64_t n)
{
	if (write(STDOUT_FILENO, &n, sizeof(n)) != sizeof(n))
		errx(1, "the pipe is closed");
}

/* Writes that must never be seen again. */
static void change_and_abort(hac *h, const struct areas *areas, uint64_t *random)
{
	int k;

	must(hac_begin(h), "begin");
	for (k = 0; k < 20; k++) {
		size_t i = next(random) % AREAS;

		areas->memory[i][next(random) % areas->size[i]] ^= 0x55;
	}
	must(hac_abort(h), "abort");
}

static uint64_t transact(hac *h, struct areas *areas, uint64_t n)
{
	size_t size = size_after(n);
	uint64_t epoch;

	must(hac_begin(h), "begin");
	if (size > areas->size[GROWS])
		must(hac_grow(h, names[GROWS], size), "grow");
	areas->size[GROWS] = size;
	apply(areas, n);
	must(hac_end(h, NULL, &epoch), "end");
	return epoch;
}

/* Any of those that work here. */
static const char *some_engine(uint64_t *random)
{
	struct hac_engine_info info = { .size = sizeof(info) };

	do {
		must(hac_get_engine((uint32_t)(next(random) % 5), &info), "engines");
	} while (!info.available);
	return info.name;
}

static int run(const char *path, const char *level, uint64_t random)
{
	static const struct hac_level journal = { HAC_LEVEL_JOURNAL, 0 };
	bool waits = !strcmp(level, "journal");
	struct hac_options o = {
		.size = sizeof(o),
		.ring_bytes = 65536,
		.engine = some_engine(&random),
		.flush_ms = next(&random) % 4 ? 0 : 2,
		.level.kind = waits ? HAC_LEVEL_JOURNAL : HAC_LEVEL_RING,
	};
	struct areas areas;
	uint64_t n, epoch, chance;
	hac *h;

	must(hac_open(path, &o, &h), "open");
	claim(h, &areas, false);
	for (n = number_of(&areas) + 1;; n++) {
		chance = next(&random) % 200;
		epoch = transact(h, &areas, n);
		if (!waits && chance < 20)
			must(hac_wait(h, epoch, &journal, -1), "wait");
		if (waits || chance < 20)
			tell(n);
		if (chance >= 20 && chance < 40)
			change_and_abort(h, &areas, &random);
		if (chance == 199)
			must(hac_compact(h), "compact");
	}
}

static int compact(const char *path)
{
	for (;;)
		must(hac_compact_image(path), "compact");
}

/* ---------------------------------------------------------------- check -- */

struct model {
	uint64_t n;
	unsigned char bytes[AREAS][CAPACITY];
};

static struct model *map_model(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	struct model *model;

	if (fd < 0 || ftruncate(fd, sizeof(*model)))
		err(1, "%s", path);
	model = mmap(NULL, sizeof(*model), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (model == MAP_FAILED)
		err(1, "%s", path);
	return model;
}

static void advance(struct model *model, uint64_t n)
{
	struct areas areas;
	size_t i;

	for (i = 0; i < AREAS; i++) {
		areas.memory[i] = model->bytes[i];
		areas.size[i] = sizes[i];
	}
	while (model->n < n) {
		model->n++;
		areas.size[GROWS] = size_after(model->n);
		apply(&areas, model->n);
	}
}

static void compare(const struct areas *areas, const struct model *model)
{
	size_t i, k;

	if (areas->size[GROWS] != size_after(model->n))
		errx(3, "transaction %llu: the growing area has %zu bytes, not %zu",
		     (unsigned long long)model->n, areas->size[GROWS], size_after(model->n));
	for (i = 0; i < AREAS; i++)
		for (k = 0; k < areas->size[i]; k++)
			if (areas->memory[i][k] != model->bytes[i][k])
				errx(3, "transaction %llu: area %s differs at %zu",
				     (unsigned long long)model->n, names[i], k);
}

static int check(const char *path, const char *model_path, uint64_t acknowledged, bool readonly)
{
	struct hac_options o = { .size = sizeof(o), .flags = readonly ? HAC_READONLY : 0 };
	struct hac_check found = { .size = sizeof(found) };
	struct model *model = map_model(model_path);
	struct areas areas;
	uint64_t n;
	int result;
	hac *h;

	/* Killed while it was made, there may be no image yet; but then nothing
	 * was acknowledged. */
	result = hac_check_image(path, &found);
	if (result != -ENOENT || acknowledged || model->n)
		must(result, "check image");
	must(hac_open(path, &o, &h), "open");
	claim(h, &areas, readonly);
	n = number_of(&areas);
	if (n < acknowledged || n < model->n)
		errx(3, "the state is that of %llu; acknowledged: %llu, seen before: %llu",
		     (unsigned long long)n, (unsigned long long)acknowledged,
		     (unsigned long long)model->n);
	advance(model, n);
	compare(&areas, model);
	must(hac_close(h), "close");
	tell(n);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 5 && !strcmp(argv[1], "run"))
		return run(argv[2], argv[3], strtoull(argv[4], NULL, 10));
	if (argc == 3 && !strcmp(argv[1], "compact"))
		return compact(argv[2]);
	if (argc == 6 && !strcmp(argv[1], "check"))
		return check(argv[2], argv[3], strtoull(argv[4], NULL, 10),
			     !strcmp(argv[5], "readonly"));
	errx(2, "usage: see the head of the source");
}
