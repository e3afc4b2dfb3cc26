/* SPDX-License-Identifier: MIT */
/* Whole images, compressed and encrypted: what goes in comes out, and without the
 * key nothing does. */
#include "coding_tools.h"

#include <dirent.h>

#define AREA ((size_t)200000)
/* Long enough not to come up in encrypted bytes by chance. */
#define MARK "PLAIN TEXT THAT MUST NOT BE FOUND"
#define NAME "name-that-must-not-be-found"

static unsigned char model[AREA];
static unsigned long long seed = 88172645463325252ull;

/* ------------------------------------------------------------ contexts -- */

static int try_open(const char *path, uint32_t flags, uint32_t codec, const char *key, hac **out)
{
	struct hac_options o = {
		.size = sizeof(o),
		.flags = flags,
		.codec = codec,
		.key_file = key ? "env:FRAME_TOOLS_KEY" : NULL,
		.ring_bytes = 65536,
	};

	unsetenv("HAC_KEY_FILE");
	if (key)
		setenv("FRAME_TOOLS_KEY", key, 1);
	return hac_open(path, &o, out);
}

static unsigned char *open_area(const char *path, uint32_t flags, uint32_t codec, const char *key,
				hac **h)
{
	struct hac_area_options area = { .size = sizeof(area), .engine = "compare" };
	void *address;

	if (flags & HAC_NO_TWIN)
		area.engine = NULL;
	CHECK_OK(try_open(path, flags, codec, key, h));
	CHECK_OK(hac_map(*h, NAME, AREA, &area, &address));
	return address;
}

/* Small transactions, and some that go through the ring in parts. */
static void write_some(hac *h, unsigned char *area, int count)
{
	for (int i = 0; i < count; i++) {
		size_t size = i % 5 == 4 ? 100000 : check_random(&seed) % 600 + 1;
		size_t at = check_random(&seed) % (AREA - size);
		unsigned char noise = i % 2 ? 3 : 255;

		CHECK_OK(hac_begin(h));
		for (size_t j = at; j < at + size; j++)
			area[j] = model[j] = (unsigned char)(check_random(&seed) & noise);
		memcpy(area + 8, MARK, sizeof(MARK));
		memcpy(model + 8, MARK, sizeof(MARK));
		CHECK_OK(hac_end(h, NULL, NULL));
	}
}

static void check_image(const char *path, const char *key)
{
	unsigned char *area;
	hac *h;

	area = open_area(path, HAC_READONLY, HAC_CODEC_NONE, key, &h);
	CHECK(!memcmp(area, model, AREA));
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_unmap(area));
}

static void close_area(hac *h, void *area)
{
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_unmap(area));
}

/* --------------------------------------------------------------- frames -- */

static bool is_frames(const char *name)
{
	return !strcmp(name, "base") || !strncmp(name, "journal.", 8);
}

/* Every frame of the image is, or is not, encrypted; and what must not be seen
 * is not. The number that were compressed with `codec`. */
static size_t look_through(const char *path, uint32_t codec, bool encrypted)
{
	DIR *list = opendir(path);
	struct dirent *entry;
	size_t packed = 0;

	CHECK(list);
	while ((entry = readdir(list))) {
		static struct found frames[20000];
		struct bytes file;
		size_t count;

		if (!is_frames(entry->d_name))
			continue;
		file = read_file(in(path, entry->d_name));
		count = find_frames(&file, frames, 20000);
		for (size_t i = 0; i < count; i++) {
			CHECK(frames[i].header.cipher == encrypted);
			packed += frames[i].header.codec == codec;
		}
		if (encrypted)
			CHECK(!memmem(file.data, file.size, MARK, strlen(MARK)) &&
			      !memmem(file.data, file.size, NAME, strlen(NAME)));
		free(file.data);
	}
	closedir(list);
	return packed;
}

static int count_record(void *argument, const struct hac_log_record *record)
{
	if (!strcmp(record->kind, "transaction"))
		CHECK(record->bytes == 0 || record->data);
	++*(unsigned long *)argument;
	return 0;
}

/* What `hac check` and `hac log` do. */
static void check_and_log(const char *path, const char *key, int result)
{
	struct hac_check check = { .size = sizeof(check) };
	unsigned long records = 0;

	unsetenv("HAC_KEY_FILE");
	if (key) {
		setenv("FRAME_TOOLS_KEY", key, 1);
		setenv("HAC_KEY_FILE", "env:FRAME_TOOLS_KEY", 1);
	}
	CHECK_IS(hac_check_image(path, &check), result);
	CHECK_IS(hac_log_image(path, count_record, &records), result);
	CHECK(result || (records && check.transactions));
	unsetenv("HAC_KEY_FILE");
}

/* --------------------------------------------------------- there and back -- */

static void life_of_an_image(uint32_t codec, uint32_t next, const char *key, uint32_t flags)
{
	const char *path = temp_path("image"), *copy = temp_path("copy");
	unsigned char *area;
	hac *h;

	temp_remove(path);
	temp_remove(copy);
	memset(model, 0, AREA);
	area = open_area(path, flags, codec, key, &h);
	write_some(h, area, 25);
	if (!(flags & HAC_NO_TWIN))
		CHECK_OK(hac_copy(h, copy));
	close_area(h, area);
	check_image(path, key);
	CHECK(look_through(path, codec, key) > 0);
	check_and_log(path, key, 0);
	if (!(flags & HAC_NO_TWIN)) {
		check_image(copy, key);
		CHECK(look_through(copy, codec, key) > 0);
	}
	/* On with another codec, through a compaction while it is open. */
	area = open_area(path, flags, next, key, &h);
	CHECK(!memcmp(area, model, AREA));
	write_some(h, area, 10);
	if (!(flags & HAC_NO_TWIN))
		CHECK_OK(hac_compact(h));
	write_some(h, area, 10);
	close_area(h, area);
	check_image(path, key);
	look_through(path, next, key);
	check_and_log(path, key, 0);
	/* And one while it is not. */
	if (key)
		setenv("HAC_KEY_FILE", "env:FRAME_TOOLS_KEY", 1);
	CHECK_OK(hac_compact_image(path));
	unsetenv("HAC_KEY_FILE");
	check_image(path, key);
	CHECK(look_through(path, next, key) || next == HAC_CODEC_LZ4);
}

static void every_combination(void)
{
	bool encrypts = can_encrypt();

	for (uint32_t codec = 0; codec <= HAC_CODEC_LZ4; codec++)
		for (uint32_t next = 0; next <= HAC_CODEC_LZ4; next++) {
			if (!frame_codec_available(codec) || !frame_codec_available(next))
				continue;
			life_of_an_image(codec, next, NULL, 0);
			if (encrypts)
				life_of_an_image(codec, next, KEY_A, 0);
		}
	for (uint32_t codec = 0; codec <= HAC_CODEC_LZ4; codec++)
		if (frame_codec_available(codec))
			life_of_an_image(codec, codec, encrypts ? KEY_A : NULL, HAC_NO_TWIN);
}

/* ------------------------------------------------------------------ keys -- */

static void no_way_in(const char *path, const char *key, const char *detail)
{
	static char before[4096], after[4096];
	struct hac_check check = { .size = sizeof(check) };
	hac *h;

	tree_bytes(path, before, sizeof(before));
	CHECK_IS(try_open(path, 0, HAC_CODEC_NONE, key, &h), -EACCES);
	CHECK_DETAIL(detail);
	CHECK_IS(try_open(path, HAC_READONLY, HAC_CODEC_NONE, key, &h), -EACCES);
	CHECK_DETAIL(detail);
	check_and_log(path, key, -EACCES);
	if (key)
		setenv("HAC_KEY_FILE", "env:FRAME_TOOLS_KEY", 1);
	CHECK_IS(hac_check_image(path, &check), -EACCES);
	CHECK_DETAIL(detail);
	CHECK(!strstr(hac_error_detail(), "00112233") && !strstr(hac_error_detail(), "ff1122"));
	unsetenv("HAC_KEY_FILE");
	tree_bytes(path, after, sizeof(after));
	CHECK(!strcmp(before, after));
}

static void make_image(const char *path, uint32_t codec, const char *key, int count)
{
	unsigned char *area;
	hac *h;

	temp_remove(path);
	memset(model, 0, AREA);
	area = open_area(path, 0, codec, key, &h);
	write_some(h, area, count);
	close_area(h, area);
}

static void missing_and_other_keys(void)
{
	const char *path = temp_path("locked"), *open = temp_path("open");

	if (!can_encrypt())
		return;
	make_image(path, HAC_CODEC_ZSTD * frame_codec_available(HAC_CODEC_ZSTD), KEY_A, 5);
	no_way_in(path, NULL, "encrypted: give the key (key_file=");
	no_way_in(path, KEY_B, "another key");
	CHECK_IS(hac_compact_image(path), -EACCES);
	setenv("HAC_KEY_FILE", "env:FRAME_TOOLS_KEY", 1);
	setenv("FRAME_TOOLS_KEY", KEY_B, 1);
	CHECK_IS(hac_compact_image(path), -EACCES);
	unsetenv("HAC_KEY_FILE");
	check_image(path, KEY_A);
	/* One that is not encrypted is not taken for one that is. */
	make_image(open, HAC_CODEC_NONE, NULL, 5);
	no_way_in(open, KEY_A, "is not encrypted, but there is a key");
	setenv("HAC_KEY_FILE", "env:FRAME_TOOLS_KEY", 1);
	CHECK_OK(hac_compact_image(open));
	unsetenv("HAC_KEY_FILE");
	look_through(open, HAC_CODEC_NONE, true);
	check_image(open, KEY_A);
	no_way_in(open, NULL, "encrypted: give the key (key_file=");
}

struct nonce {
	unsigned char salt[16];
	uint64_t counter;
	unsigned char tag[16];
};

static int compare_nonces(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct nonce));
}

/* What was written under which nonce; the tag says whether it is the same frame,
 * which is still there. */
static size_t note_nonces(const char *path, struct nonce *out, size_t room)
{
	static struct found frames[20000];
	DIR *list = opendir(path);
	struct dirent *entry;
	size_t noted = 0;

	CHECK(list);
	while ((entry = readdir(list))) {
		struct bytes file;
		size_t count;

		if (!is_frames(entry->d_name))
			continue;
		file = read_file(in(path, entry->d_name));
		count = find_frames(&file, frames, 20000);
		CHECK(noted + count <= room);
		for (size_t i = 0; i < count; i++, noted++) {
			memcpy(out[noted].salt, frames[i].header.salt, 16);
			out[noted].counter = frames[i].header.counter;
			memcpy(out[noted].tag, frames[i].header.tag, 16);
		}
		free(file.data);
	}
	closedir(list);
	return noted;
}

static void no_nonce_twice(void)
{
	static struct nonce seen[200000];
	const char *path = temp_path("long"), *copy = temp_path("long.copy");
	size_t count = 0, different = 0;

	if (!can_encrypt())
		return;
	temp_remove(path);
	memset(model, 0, AREA);
	for (int opening = 0; opening < 12; opening++) {
		unsigned char *area;
		hac *h;

		area = open_area(path, 0, HAC_CODEC_NONE, KEY_A, &h);
		write_some(h, area, 10);
		temp_remove(copy);
		CHECK_OK(hac_copy(h, copy));
		count += note_nonces(path, seen + count, 200000 - count);
		if (opening % 3 == 1)
			CHECK_OK(hac_compact(h));
		write_some(h, area, 3);
		close_area(h, area);
		count += note_nonces(path, seen + count, 200000 - count);
		count += note_nonces(copy, seen + count, 200000 - count);
	}
	qsort(seen, count, sizeof(seen[0]), compare_nonces);
	for (size_t i = 1; i < count; i++) {
		if (!memcmp(&seen[i - 1], &seen[i], sizeof(seen[0])))
			continue;
		different++;
		CHECK(memcmp(&seen[i - 1], &seen[i], offsetof(struct nonce, tag)));
	}
	printf("  %zu frames\n", different);
	CHECK(different > 100);
}

/* -------------------------------------------------------------- memory -- */

/* Is the key, which is only known here as its complement, somewhere in memory
 * that can be written? */
static bool key_in_memory(const unsigned char inverse[32])
{
	FILE *maps = fopen("/proc/self/maps", "r");
	bool found = false;
	char line[512];

	CHECK(maps);
	while (!found && fgets(line, sizeof(line), maps)) {
		unsigned long from, to;
		char mode[8];

		if (sscanf(line, "%lx-%lx %7s", &from, &to, mode) != 3 || strncmp(mode, "rw", 2) ||
		    to - from > (256ul << 20))
			continue;
		for (const unsigned char *at = (void *)from; at + 32 <= (unsigned char *)to; at++) {
			int i = 0;

			while (i < 32 && (at[i] ^ inverse[i]) == 255)
				i++;
			if (i == 32) {
				found = true;
				break;
			}
		}
	}
	fclose(maps);
	return found;
}

static void wiped_keys(void)
{
	struct hac_options o = { .size = sizeof(o), .key_file = temp_path("secret") };
	const char *path = temp_path("wiped");
	unsigned char inverse[32];
	void *address;
	hac *h;
	FILE *file;

	if (!can_encrypt())
		return;
	unsetenv("HAC_KEY_FILE");
	/* Digit by digit, so that nothing of it stays here. */
	file = fopen(o.key_file, "w");
	CHECK(file);
	setvbuf(file, NULL, _IONBF, 0);
	for (int i = 0; i < 32; i++) {
		inverse[i] = (unsigned char)check_random(&seed);
		fprintf(file, "%02x", (unsigned char)~inverse[i]);
	}
	fclose(file);
	CHECK(!key_in_memory(inverse));
	CHECK_OK(hac_open(path, &o, &h));
	CHECK_OK(hac_map(h, "a", 4096, NULL, &address));
	CHECK_OK(hac_begin(h));
	CHECK_OK(hac_end(h, NULL, NULL));
	CHECK(key_in_memory(inverse));
	CHECK_OK(hac_compact(h));
	close_area(h, address);
	CHECK(!key_in_memory(inverse));
}

int main(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	(void)wiped_keys; /* they watch over freed memory, too */
#else
	RUN(wiped_keys);
#endif
	RUN(every_combination);
	RUN(missing_and_other_keys);
	RUN(no_nonce_twice);
	return 0;
}
