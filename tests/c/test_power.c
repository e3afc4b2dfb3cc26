/* SPDX-License-Identifier: MIT */
/*
 * A dry run of power loss: whatever the disk makes of the operations that were
 * not synced when the power goes, the image opens, its state is the end of an
 * epoch, and every epoch that was acknowledged is in it.
 */
#include "image_internal.h"
#include "image_tools.h"
#include "power_shim.h"

#include <time.h>

#define WORDS 8
#define LARGE ((uint32_t)12000)
#define EPOCHS 200

/* Events, in the order of the record. */
enum {
	PUSHED = 1, /* an epoch, before it is */
	ACKED,      /* an epoch */
	BRANCHING,  /* to an epoch: about to open an older one */
	OPENED,     /* a generation */
	BRANCHED,   /* to an epoch */
};

/* What the state of an epoch is beside its number, which is in area "a". */
static uint64_t large_of[EPOCHS]; /* the number in area "large"; 0: not there */
static uint32_t third_of[EPOCHS]; /* the id of a third area; 0: not there */
static uint32_t next_id = 1;
static uint64_t last_pushed;
static uint64_t current; /* the epoch that the next one follows */

static void push_epoch(struct drainer *drainer, bool wait)
{
	static uint64_t large[LARGE / 8];
	uint64_t words[WORDS], epoch = last_pushed + 1;
	struct layout layouts[3];
	struct hac_run runs[2];
	unsigned char bytes[sizeof(words) + sizeof(large)];
	struct transaction_record t = {
		.epoch = epoch,
		.layouts = layouts,
		.drops = &third_of[current],
		.runs = runs,
		.bytes = bytes,
	};

	CHECK(epoch < EPOCHS);
	large_of[epoch] = large_of[current];
	third_of[epoch] = third_of[current];
	for (int i = 0; i < WORDS; i++)
		words[i] = epoch;
	memcpy(bytes, words, sizeof(words));
	runs[t.runs_count++] = (struct hac_run){ 0, sizeof(words), 1 };
	t.bytes_count = sizeof(words);
	if (epoch == 1)
		layouts[t.layouts_count++] = layout_of(1, "a", sizeof(words), sizeof(words));
	if (epoch % 7 == 3) {
		for (size_t i = 0; i < LARGE / 8; i++)
			large[i] = epoch;
		if (!large_of[current])
			layouts[t.layouts_count++] = layout_of(2, "large", LARGE, LARGE);
		memcpy(bytes + t.bytes_count, large, sizeof(large));
		runs[t.runs_count++] = (struct hac_run){ 0, LARGE, 2 };
		t.bytes_count += sizeof(large);
		large_of[epoch] = epoch;
	}
	if (epoch % 4 == 2) {
		third_of[epoch] = third_of[current] ? 0 : ++next_id + 10;
		if (third_of[epoch])
			layouts[t.layouts_count++] = layout_of(third_of[epoch], "third", 8, 8);
		else
			t.drops_count = 1;
	}
	power_event(PUSHED, epoch);
	CHECK_OK(drainer_push(drainer, &t, true));
	current = last_pushed = epoch;
	if (!wait)
		return;
	CHECK_OK(drainer_wait(drainer, epoch, -1));
	power_event(ACKED, epoch);
}

static void push_epochs(struct drainer *drainer, int count)
{
	for (int i = 0; i < count; i++)
		push_epoch(drainer, i % 3 != 1 || i == count - 1);
}

static void check_state(struct image *image)
{
	uint64_t epoch = image->epoch;

	CHECK(epoch < EPOCHS);
	CHECK(!!area_named(image, "a") == !!epoch);
	CHECK(!!area_named(image, "large") == !!large_of[epoch]);
	CHECK(!!area_named(image, "third") == !!third_of[epoch]);
	for (uint64_t i = 0; epoch && i < WORDS; i++)
		CHECK(u64_at(image, "a", 8 * i) == epoch);
	for (uint64_t i = 0; large_of[epoch] && i < LARGE / 8; i++)
		CHECK(u64_at(image, "large", 8 * i) == large_of[epoch]);
}

static struct image *open_recorded(const char *path, uint64_t at)
{
	struct image *image;

	if (at)
		power_event(BRANCHING, at);
	image = open_image(path, false, at);
	power_event(OPENED, image->generation);
	if (at)
		power_event(BRANCHED, at);
	current = image->epoch;
	check_state(image);
	return image;
}

static void compact_now(struct drainer *drainer, struct image *image)
{
	uint64_t words[WORDS];
	static uint64_t large[LARGE / 8];
	struct layout layouts[3];
	const unsigned char *contents[3];
	struct image_state state = { current, layouts, contents, 0 };

	(void)image;
	for (int i = 0; i < WORDS; i++)
		words[i] = current;
	for (size_t i = 0; i < LARGE / 8; i++)
		large[i] = large_of[current];
	layouts[state.count] = layout_of(1, "a", sizeof(words), sizeof(words));
	contents[state.count++] = (void *)words;
	if (large_of[current]) {
		layouts[state.count] = layout_of(2, "large", LARGE, LARGE);
		contents[state.count++] = (void *)large;
	}
	if (third_of[current]) {
		layouts[state.count] = layout_of(third_of[current], "third", 8, 8);
		contents[state.count++] = (const void *)"\0\0\0\0\0\0\0";
	}
	CHECK_OK(drainer_compact(drainer, &state));
}

static void close_all(struct drainer *drainer, struct image *image)
{
	CHECK_OK(drainer_stop(drainer));
	power_event(ACKED, current);
	image_close(image);
}

static void life(const char *path)
{
	struct image *image = open_recorded(path, 0);
	struct drainer *drainer = start(image, 4096);

	push_epochs(drainer, 12);
	close_all(drainer, image);
	image = open_recorded(path, 0);
	drainer = start(image, 4096);
	push_epochs(drainer, 5);
	compact_now(drainer, image);
	push_epochs(drainer, 4);
	close_all(drainer, image);
	image = open_recorded(path, 19);
	drainer = start(image, 4096);
	push_epochs(drainer, 4);
	close_all(drainer, image);
	CHECK_OK(hac_compact_image(path));
	image_close(open_recorded(path, 0));
	image = open_recorded(path, 0);
	drainer = start(image, 4096);
	push_epochs(drainer, 8);
	close_all(drainer, image);
}

/* What a reader may find when the power goes before op `end`. */
struct expectation {
	uint64_t lowest; /* epoch, ... */
	uint64_t highest;
	uint64_t exact; /* ... or this one */
	bool exact_counts;
	uint64_t acked; /* over all branches */
	uint64_t generation;
};

static struct expectation expect(const struct power_record *record, size_t end,
				 struct expectation e)
{
	for (size_t i = record->first; i < end; i++) {
		const struct power_op *op = &record->ops[i];

		if (op->kind != POWER_EVENT)
			continue;
		switch (op->offset) {
		case PUSHED:
			e.highest = op->value;
			break;
		case ACKED:
			if (e.exact_counts && op->value == e.exact)
				break;
			e.lowest = op->value;
			e.exact_counts = false;
			if (op->value > e.acked)
				e.acked = op->value;
			break;
		case BRANCHED:
			e.lowest = e.highest + 1;
			/* fall through */
		case BRANCHING:
			e.exact = op->value;
			e.exact_counts = true;
			break;
		case OPENED:
			e.generation = op->value;
			break;
		}
	}
	return e;
}

static void check_expectation(const struct image *image, const struct expectation *e)
{
	bool in_range = image->epoch >= e->lowest && image->epoch <= e->highest;

	CHECK_MSG(in_range || (e->exact_counts && image->epoch == e->exact),
		  "epoch %d, not %d to %d, nor %d", (int)image->epoch, (int)e->lowest,
		  (int)e->highest, e->exact_counts ? (int)e->exact : -1);
	CHECK(image->last_epoch >= e->acked && image->last_epoch <= e->highest);
	CHECK(image->generation > e->generation);
}

static void check_crash(const char *path, const struct expectation *e)
{
	struct image *image = open_image(path, false, 0);
	uint64_t epoch = image->epoch;

	check_expectation(image, e);
	check_state(image);
	image_close(image);
	image = open_image(path, true, 0);
	CHECK(image->epoch == epoch);
	check_state(image);
	image_close(image);
}

static struct power_record first, second;

/* The power goes again while the image is being opened after the first time,
 * or soon after. */
static void crash_again(const char *path, const char *again, const struct expectation *before,
			unsigned long long *seed)
{
	struct expectation e;
	struct image *image;
	struct drainer *drainer;
	uint64_t keep = last_pushed;

	power_start(&second, path);
	image = open_recorded(path, 0);
	last_pushed = image->last_epoch;
	/* These epochs may differ from those of the first life. */
	{
		uint64_t large_before[EPOCHS];
		uint32_t third_before[EPOCHS];

		memcpy(large_before, large_of, sizeof(large_of));
		memcpy(third_before, third_of, sizeof(third_of));
		drainer = start(image, 4096);
		push_epochs(drainer, 3);
		close_all(drainer, image);
		power_stop();
		for (size_t end = second.first; end <= second.count; end++) {
			e = expect(&second, end, *before);
			/* Nothing pushed before this life can come back. */
			power_make(&second, end, end % 2 ? POWER_RANDOM : POWER_NONE, seed, again);
			check_crash(again, &e);
		}
		memcpy(large_of, large_before, sizeof(large_of));
		memcpy(third_of, third_before, sizeof(third_of));
	}
	last_pushed = keep;
	power_free(&second);
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int main(void)
{
	const char *path, *crashed, *again;
	unsigned long long seed = 2463534242u;
	double start_time = seconds(), limit = 20;
	unsigned long cases = 0, twice = 0;
	int rounds;

	/* Nothing here has to reach a disk. */
	if (!getenv("HAC_TEST_DIR") && !access("/dev/shm", W_OK))
		setenv("HAC_TEST_DIR", "/dev/shm", 1);
	path = temp_path("image");
	crashed = temp_path("crashed");
	again = temp_path("again");
	image_limits.segment_bytes = 1500;
	power_start(&first, path);
	life(path);
	power_stop();
	for (rounds = 0; rounds < 12 && seconds() - start_time < limit; rounds++) {
		for (size_t end = 0; end <= first.count; end++) {
			enum power_mode mode = rounds < POWER_RANDOM ? (enum power_mode)rounds :
								       POWER_RANDOM;
			struct expectation e = expect(&first, end, (struct expectation){ 0 });

			if (seconds() - start_time > limit)
				break;
			power_make(&first, end, mode, &seed, crashed);
			if (rounds > POWER_RANDOM && end % 16 == (size_t)rounds) {
				crash_again(crashed, again, &e, &seed);
				twice++;
				continue;
			}
			check_crash(crashed, &e);
			cases++;
		}
	}
	printf("%zu operations, %lu losses of power, %lu of them twice, %.1f s\n", first.count,
	       cases + twice, twice, seconds() - start_time);
	CHECK(rounds > POWER_RANDOM);
	power_free(&first);
	return 0;
}
