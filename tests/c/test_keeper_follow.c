/* SPDX-License-Identifier: MIT */
/*
 * A follower: it takes the leader's bytes, frame by frame, and nothing else. What
 * it accepted, recovery accepts; what it refused has changed nothing.
 */
#include "frame.h"
#include "image_internal.h"
#include "keeper_tools.h"

#include <pthread.h>

/* ------------------------------------------------------------- leader -- */

/* Some openings of an image as an application makes them: with parts, layouts,
 * drops, growth, several segments. */
static uint64_t run_leader(const char *path, int count)
{
	static struct change change;
	struct image *image = open_image(path, false, 0);
	struct drainer *drainer = start(image, 4096);
	uint64_t epoch = image->last_epoch;

	for (int i = 0; i < count; i++) {
		struct layout layouts[2];
		struct hac_run run;
		uint32_t drop = 3;
		struct transaction_record t = {
			.epoch = ++epoch,
			.layouts = layouts,
			.runs = &run,
			.runs_count = 1,
			.drops = &drop,
			.bytes = change.bytes,
		};

		make_change(epoch, &change);
		run = (struct hac_run){ change.offset, change.size, change.area };
		t.bytes_count = change.size;
		if (epoch == 1)
			layouts[t.layouts_count++] = layout_of(1, "small", SMALL, LARGE);
		if (epoch == 5)
			layouts[t.layouts_count++] = layout_of(2, "large", LARGE, LARGE);
		if (epoch % 7 == 6)
			layouts[t.layouts_count++] = layout_of(3, "third", 8 * epoch, 1 << 20);
		if (epoch % 14 == 10)
			t.drops_count = 1;
		CHECK_OK(drainer_push(drainer, &t, true));
		if (epoch % 3 == 0)
			CHECK_OK(drainer_wait(drainer, epoch, -1));
	}
	CHECK_OK(drainer_stop(drainer));
	image_close(image);
	return epoch;
}

/* A new image that is a copy of the leader's as it is now. */
static hac_keeper *follow(const char *leader, const char *path)
{
	hac_keeper *keeper = open_keeper(path, HAC_KEEPER_CREATE, -1);
	const char *incoming = temp_path("incoming");

	copy_tree(leader, incoming);
	CHECK_OK(hac_keeper_replace(keeper, incoming));
	CHECK(access(incoming, F_OK));
	return keeper;
}

/* --------------------------------------------------------------- wire -- */

struct wire {
	unsigned char *data;
	size_t size;
	size_t at[4096]; /* of the frames */
	size_t count;
};

/* All frames of the journal, in order, as a sink reads them. */
static struct wire *read_wire(const char *path)
{
	struct wire *wire = calloc(1, sizeof(*wire));

	for (uint64_t segment = 1;; segment++) {
		char name[32];
		struct bytes file;
		size_t at = 0;

		segment_name(name, segment);
		if (access(in(path, name), F_OK)) {
			if (wire->count || segment > 1000)
				break;
			continue;
		}
		file = read_file(in(path, name));
		wire->data = realloc(wire->data, wire->size + file.size + 1);
		memcpy(wire->data + wire->size, file.data, file.size);
		while (at < file.size) {
			int64_t size = hac_frame_size(file.data + at, file.size - at);

			CHECK(size > 0 && wire->count + 1 < 4096);
			wire->at[wire->count++] = wire->size + at;
			at += (size_t)size;
		}
		CHECK(at == file.size);
		wire->size += file.size;
		free(file.data);
	}
	wire->at[wire->count] = wire->size;
	return wire;
}

static void free_wire(struct wire *wire)
{
	free(wire->data);
	free(wire);
}

static size_t frames_in(const char *path)
{
	struct wire *wire = read_wire(path);
	size_t count = wire->count;

	free_wire(wire);
	return count;
}

static int send_frame(hac_keeper *keeper, const struct wire *wire, size_t index)
{
	return hac_keeper_append(keeper, wire->data + wire->at[index],
				 wire->at[index + 1] - wire->at[index]);
}

static struct frame_header header_of(const struct wire *wire, size_t index)
{
	struct frame_header header;

	CHECK_OK(frame_decode_header(wire->data + wire->at[index],
				     wire->at[index + 1] - wire->at[index], &header));
	return header;
}

/* Both images hold the same. */
static void check_same(const char *a, const char *b)
{
	struct image *left = open_image(a, true, 0), *right = open_image(b, true, 0);

	CHECK_IS(right->epoch, left->epoch);
	CHECK_IS(right->last_epoch, left->last_epoch);
	CHECK_IS(right->generation, left->generation);
	CHECK_IS(right->next_area_id, left->next_area_id);
	CHECK_IS(right->areas_count, left->areas_count);
	CHECK(!strcmp(left->uuid, right->uuid));
	for (size_t i = 0; i < left->areas_count; i++) {
		struct image_area *one = &left->areas[i], *other = &right->areas[i];

		CHECK(one->layout.id == other->layout.id && one->layout.size == other->layout.size);
		CHECK(!memcmp(one->contents, other->contents, one->layout.size));
	}
	image_close(left);
	image_close(right);
}

/* ------------------------------------------------------------- shipping -- */

static void ship(void)
{
	const char *leader = temp_path("leader"), *path = temp_path("follower");
	struct hac_place place;
	hac_keeper *keeper;
	struct wire *wire;
	size_t sent = 0;

	image_close(open_image(leader, false, 0));
	keeper = follow(leader, path);
	sent = frames_in(leader);
	for (int opening = 0; opening < 6; opening++) {
		run_leader(leader, 20);
		wire = read_wire(leader);
		for (; sent < wire->count; sent++) {
			struct hac_place before = place_of(keeper);

			CHECK_OK(send_frame(keeper, wire, sent));
			place = place_of(keeper);
			CHECK(place.sequence == before.sequence + 1);
			CHECK(place.synced_offset == place.offset &&
			      place.synced_segment == place.segment);
			/* It is there already; and nothing may be left out. */
			CHECK_IS(send_frame(keeper, wire, sent), -EBADMSG);
			CHECK_DETAIL("it is there already");
			if (sent + 2 < wire->count &&
			    header_of(wire, sent).generation ==
				    header_of(wire, sent + 2).generation) {
				CHECK_IS(send_frame(keeper, wire, sent + 2), -EBADMSG);
				CHECK_DETAIL("missing before it");
			}
		}
		if (opening == 2)
			CHECK_OK(hac_keeper_compact(keeper));
		if (opening == 3) {
			hac_keeper_close(keeper);
			keeper = open_keeper(path, 0, -1);
		}
		free_wire(wire);
		check_same(leader, path);
		CHECK(place_of(keeper).epoch == place_of(keeper).durable);
	}
	CHECK(place_of(keeper).first_segment > 1);
	hac_keeper_close(keeper);
	check_same(leader, path);
	temp_remove(leader);
	temp_remove(path);
}

/* The leader crashed inside of a group, cut it, and began a generation: the
 * follower that has a part of the group drops it as well. */
static void unfinished_group(void)
{
	const char *leader = temp_path("leader"), *path = temp_path("follower");
	struct wire *wire, *later;
	struct frame_header header = { 0 };
	hac_keeper *keeper;
	size_t sent, cut;
	char name[32];

	image_close(open_image(leader, false, 0));
	keeper = follow(leader, path);
	sent = frames_in(leader);
	run_leader(leader, 14);
	wire = read_wire(leader);
	/* Up to the first part of epoch 10, and not further. */
	for (cut = sent; cut < wire->count; cut++) {
		header = header_of(wire, cut);
		if (header.first_epoch == 10)
			break;
	}
	CHECK(header_of(wire, cut + 1).first_epoch == 10);
	for (; sent <= cut; sent++)
		CHECK_OK(send_frame(keeper, wire, sent));
	CHECK(place_of(keeper).epoch == 9 && place_of(keeper).sequence == header.sequence + 1);
	CHECK_IS(hac_keeper_compact(keeper), -EAGAIN);
	/* The same on the leader's disk. */
	for (uint64_t segment = 1000; segment; segment--) {
		struct bytes file;
		unsigned char *found;

		segment_name(name, segment);
		if (access(in(leader, name), F_OK))
			continue;
		file = read_file(in(leader, name));
		found = memmem(file.data, file.size, wire->data + wire->at[cut], FRAME_HEADER_SIZE);
		if (found) {
			CHECK(!truncate(in(leader, name),
					found - file.data +
						(off_t)(wire->at[cut + 1] - wire->at[cut])));
			free(file.data);
			break;
		}
		CHECK(!unlink(in(leader, name)));
		free(file.data);
	}
	run_leader(leader, 8);
	later = read_wire(leader);
	for (sent = 0; header_of(later, sent).sequence < header.sequence; sent++)
		;
	for (; sent < later->count; sent++)
		CHECK_OK(send_frame(keeper, later, sent));
	hac_keeper_close(keeper);
	check_same(leader, path);
	free_wire(wire);
	free_wire(later);
	temp_remove(leader);
	temp_remove(path);
}

/* ------------------------------------------------------ wrong generations -- */

static void generations(void)
{
	const char *leader = temp_path("leader"), *old = temp_path("old");
	const char *path = temp_path("follower");
	struct image_options at = { .at = 8 };
	struct wire *wire, *stale, *diverged;
	struct image *image;
	hac_keeper *keeper;
	size_t sent;

	image_close(open_image(leader, false, 0));
	keeper = follow(leader, path);
	sent = frames_in(leader);
	run_leader(leader, 10);
	copy_tree(leader, old);
	run_leader(leader, 10);
	wire = read_wire(leader);
	for (size_t i = sent; i < wire->count; i++)
		CHECK_OK(send_frame(keeper, wire, i));
	/* Another one that went on from epoch 10. */
	run_leader(old, 30);
	stale = read_wire(old);
	CHECK_IS(header_of(stale, stale->count - 1).generation, 3);
	CHECK_IS(send_frame(keeper, stale, stale->count - 1), -EBADMSG);
	CHECK_IS(send_frame(keeper, wire, sent), -ESTALE);
	CHECK_DETAIL("generation 2");
	/* From epoch 10 on a generation that this one does not descend from. */
	run_leader(old, 1);
	CHECK_OK(image_open(leader, &at, &image));
	CHECK(image->generation == 4 && image->branch_epoch == 8);
	image_close(image);
	diverged = read_wire(leader);
	CHECK_IS(send_frame(keeper, diverged, diverged->count - 1), -EBADMSG);
	CHECK_DETAIL("needs a new base");
	CHECK_IS(place_of(keeper).epoch, 20);
	hac_keeper_close(keeper);
	check_epochs(path, 20);
	free_wire(wire);
	free_wire(stale);
	free_wire(diverged);
	temp_remove(leader);
	temp_remove(old);
	temp_remove(path);
}

/* --------------------------------------------------------------- fuzzing -- */

static void hash_again(unsigned char *frame, size_t size)
{
	uint64_t hash = frame_hash(frame + FRAME_HEADER_SIZE, size - FRAME_HEADER_SIZE);

	memcpy(frame + 96, &hash, 8);
	hash = frame_hash(frame, FRAME_HEADER_SIZE - 8);
	memcpy(frame + FRAME_HEADER_SIZE - 8, &hash, 8);
}

/* Changes something, and mostly makes the hashes fit. */
static size_t mutate(unsigned char *frame, size_t size, unsigned long long *seed)
{
	static const uint64_t values[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 100, UINT32_MAX, UINT64_MAX };
	int times = 1 + (int)(check_random(seed) % 3);

	if (check_random(seed) % 16 == 0)
		return size - check_random(seed) % size;
	for (int i = 0; i < times; i++) {
		/* Heads of records are where it hurts. */
		size_t front = check_random(seed) % 4 ? 256 : size;
		size_t at = check_random(seed) % (front < size ? front : size);
		uint64_t value;

		if (check_random(seed) % 2) {
			frame[at] ^= (unsigned char)(1 << check_random(seed) % 8);
			continue;
		}
		at &= ~(size_t)7;
		memcpy(&value, frame + at, 8);
		value = check_random(seed) % 2 ? value + values[check_random(seed) % 8] - 4 :
						 values[check_random(seed) % 12];
		memcpy(frame + at, &value, at + 8 <= size ? 8 : size - at);
	}
	if (check_random(seed) % 8 && size > FRAME_HEADER_SIZE)
		hash_again(frame, size);
	return size;
}

static uint64_t digest(const char *path)
{
	uint64_t sum = 0;

	for (uint64_t segment = 1; segment < 100; segment++) {
		struct bytes file;
		char name[32];

		segment_name(name, segment);
		if (access(in(path, name), F_OK))
			continue;
		file = read_file(in(path, name));
		sum = sum * 31 + frame_hash(file.data, file.size) + segment;
		free(file.data);
	}
	return sum;
}

/* Recovery must take what was accepted, and go as far as the keeper says. */
static void check_accepted(const char *path, hac_keeper *keeper)
{
	struct hac_place place = place_of(keeper);
	struct image *image = open_image(path, true, 0);

	CHECK_IS(image->epoch, place.epoch);
	CHECK_IS(image->last_epoch, place.last_epoch);
	CHECK_IS(image->next_area_id, place.next_area_id);
	image_close(image);
}

static void fuzz_frame(const char *path, const char *keep, hac_keeper **keeper,
		       const struct wire *wire, size_t index, unsigned long long *seed,
		       unsigned long *accepted)
{
	size_t size = wire->at[index + 1] - wire->at[index];
	unsigned char *frame = malloc(size + 8);
	struct hac_place before = place_of(*keeper), after;
	uint64_t sum = digest(path);
	int error;

	memcpy(frame, wire->data + wire->at[index], size);
	size = mutate(frame, size, seed);
	if (size == wire->at[index + 1] - wire->at[index] &&
	    !memcmp(frame, wire->data + wire->at[index], size)) {
		free(frame);
		return;
	}
	copy_tree(path, keep);
	error = hac_keeper_append(*keeper, frame, size);
	free(frame);
	after = place_of(*keeper);
	if (error) {
		CHECK(*hac_error_detail());
		CHECK_MSG(error == -EBADMSG || error == -ESTALE || error == -EPROTONOSUPPORT, "%d",
			  error);
		CHECK(!memcmp(&before, &after, sizeof(before)));
		CHECK(digest(path) == sum);
		return;
	}
	(*accepted)++;
	check_accepted(path, *keeper);
	hac_keeper_close(*keeper);
	temp_remove(path);
	CHECK(!rename(keep, path));
	*keeper = open_keeper(path, 0, -1);
}

/* Opening it again has cut a group that was not finished: its parts once more. */
static void catch_up(hac_keeper *keeper, const struct wire *wire, size_t index)
{
	for (size_t i = 0; i < index; i++)
		if (header_of(wire, i).sequence == place_of(keeper).sequence)
			CHECK_OK(send_frame(keeper, wire, i));
}

static void fuzz(void)
{
	const char *leader = temp_path("leader"), *path = temp_path("follower");
	const char *keep = temp_path("keep");
	const char *rounds = getenv("HAC_FUZZ_ROUNDS");
	int times = rounds ? atoi(rounds) : 20;
	unsigned long accepted = 0, tries = 0;
	unsigned long long seed = 4101842887655102017u;
	struct wire *wire;
	hac_keeper *keeper;
	size_t sent;

	image_close(open_image(leader, false, 0));
	keeper = follow(leader, path);
	sent = frames_in(leader);
	run_leader(leader, 12);
	run_leader(leader, 3);
	wire = read_wire(leader);
	for (; sent < wire->count; sent++) {
		for (int i = 0; i < times; i++, tries++) {
			fuzz_frame(path, keep, &keeper, wire, sent, &seed, &accepted);
			catch_up(keeper, wire, sent);
		}
		CHECK_OK(send_frame(keeper, wire, sent));
	}
	hac_keeper_close(keeper);
	check_same(leader, path);
	printf("  %lu mutated frames, %lu harmless ones\n", tries, accepted);
	CHECK(accepted && accepted < tries / 2);
	free_wire(wire);
	temp_remove(leader);
	temp_remove(path);
}

/* ------------------------------------------------------------ by itself -- */

static void compacts_by_itself(void)
{
	const char *leader = temp_path("leader"), *path = temp_path("follower");
	struct image_limits limits = image_limits;
	struct hac_place place;
	hac_keeper *keeper;
	struct wire *wire;
	size_t sent;

	image_close(open_image(leader, false, 0));
	keeper = follow(leader, path);
	sent = frames_in(leader);
	run_leader(leader, 120);
	wire = read_wire(leader);
	image_limits.compact_bytes = 1 << 18;
	for (; sent < wire->count; sent++)
		CHECK_OK(send_frame(keeper, wire, sent));
	/* It may be at it. */
	for (int i = 0; i < 2000; i++) {
		place = place_of(keeper);
		if (place.base_epoch)
			break;
		rest(1000);
	}
	CHECK(place.base_epoch && place.first_segment > 1);
	hac_keeper_close(keeper);
	check_same(leader, path);
	image_limits = limits;
	free_wire(wire);
	temp_remove(leader);
	temp_remove(path);
}

int main(void)
{
	use_memory();
	image_limits.segment_bytes = 30000;
	image_limits.compact_bytes = (uint64_t)1 << 40;
	RUN(ship);
	RUN(unfinished_group);
	RUN(generations);
	RUN(fuzz);
	RUN(compacts_by_itself);
	return 0;
}
