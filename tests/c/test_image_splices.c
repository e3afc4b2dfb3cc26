/* SPDX-License-Identifier: MIT */
/* Encrypted images of which somebody without the key has exchanged, forged, cut
 * or changed frames: refused, named, and left as they are. */
#include "coding_tools.h"

static unsigned long long seed = 88172645463325252ull;

/* --------------------------------------------------------------- splices -- */

static struct image *open_coded(const char *path, bool readonly, const struct frame_coding *coding)
{
	struct image_options options = { .readonly = readonly, .coding = coding };
	struct image *image;

	CHECK_OK(image_open(path, &options, &image));
	return image;
}

/* An image with one area of a word, and `epochs` frames that count in it, from
 * `from` on. */
static void count_up(const char *path, const struct frame_coding *coding, uint64_t from,
		     uint64_t epochs)
{
	struct image *image = open_coded(path, false, coding);
	struct drainer *drainer = start(image, 0);

	for (uint64_t epoch = from; epoch < from + epochs; epoch++) {
		if (epoch == 1)
			CHECK_OK(push_area(drainer, 1, 1, "a", &epoch, 8));
		else
			CHECK_OK(push_u64(drainer, epoch, 1, 0, epoch));
		CHECK_OK(drainer_wait(drainer, epoch, -1));
	}
	CHECK_OK(drainer_stop(drainer));
	image_close(image);
}

/* Frame `index` of the file becomes `frame`. */
static void replace_frame(const char *path, size_t index, const unsigned char *frame, size_t size)
{
	static struct found frames[1000];
	struct bytes file = read_file(path);
	size_t count = find_frames(&file, frames, 1000), end;
	unsigned char *all = malloc(file.size + size);

	CHECK(index < count);
	end = frames[index].at + frame_size(&frames[index].header);
	memcpy(all, file.data, frames[index].at);
	memcpy(all + frames[index].at, frame, size);
	memcpy(all + frames[index].at + size, file.data + end, file.size - end);
	write_file(path, all, frames[index].at + size + file.size - end);
	free(all);
	free(file.data);
}

/* Frame `index` of a file, as it is. */
static struct bytes frame_of(const char *path, size_t index)
{
	static struct found frames[1000];
	struct bytes file = read_file(path);

	CHECK(index < find_frames(&file, frames, 1000));
	file.size = frame_size(&frames[index].header);
	memmove(file.data, file.data + frames[index].at, file.size);
	return file;
}

/* The image is damaged, says who reads it and who would write to it, and nobody
 * changes it. */
static void check_refused(const char *path, const struct frame_coding *coding, int result,
			  const char *detail)
{
	static char before[4096], after[4096];
	struct image_options options = { .coding = coding };
	struct image *image;

	tree_bytes(path, before, sizeof(before));
	for (int readonly = 0; readonly < 2; readonly++) {
		options.readonly = readonly;
		CHECK_IS(image_open(path, &options, &image), result);
		CHECK_DETAIL(detail);
	}
	tree_bytes(path, after, sizeof(after));
	CHECK(!strcmp(before, after));
}

static struct frame_coding coding_a(void)
{
	return coding_of(HAC_CODEC_NONE, KEY_A);
}

/* Frame `index` of segment `segment`, replaced by what `from` has there; patched
 * so that its header says what stood there. */
static void replaced(const char *from, const char *segment, size_t index, const char *to_segment,
		     size_t to_index, int fields, const char *detail)
{
	const char *path = temp_path("spliced");
	struct frame_coding coding = coding_a();
	struct bytes theirs = frame_of(in(from, segment), index), ours;

	copy_tree(temp_path("counted"), path);
	ours = frame_of(in(path, to_segment), to_index);
	if (fields) {
		/* sequence, generation, epochs; UUID */
		memcpy(theirs.data + 24, ours.data + 24, 32);
		memcpy(theirs.data + 64, ours.data + 64, 16);
		memcpy(theirs.data + 144, &(uint32_t){ ours.data[32] }, 4);
		seal_again(theirs.data, theirs.size);
	}
	if (fields > 1) {
		/* salt, check, counter: whatever the tag needs but the payload */
		memcpy(theirs.data + 120, ours.data + 120, 56);
		seal_again(theirs.data, theirs.size);
	}
	replace_frame(in(path, to_segment), to_index, theirs.data, theirs.size);
	check_refused(path, &coding, -EBADMSG, detail);
	free(theirs.data);
	free(ours.data);
}

static void spliced_frames(void)
{
	char counted[PATH_MAX], other[PATH_MAX];
	struct frame_coding coding;

	if (!can_encrypt())
		return;
	coding = coding_a();
	snprintf(counted, PATH_MAX, "%s", temp_path("counted"));
	snprintf(other, PATH_MAX, "%s", temp_path("counted.other"));
	count_up(counted, &coding, 1, 6);
	count_up(counted, &coding, 7, 6);
	count_up(other, &coding, 1, 6);
	count_up(other, &coding, 7, 6);
	/* Of another image; of another generation; of another place. */
	replaced(other, "journal.00000001", 3, "journal.00000001", 3, 0, "no intact frame");
	replaced(other, "journal.00000001", 3, "journal.00000001", 3, 1, "was tampered with");
	replaced(other, "journal.00000001", 3, "journal.00000001", 3, 2, "was tampered with");
	replaced(counted, "journal.00000001", 3, "journal.00000002", 3, 0, "second time");
	replaced(counted, "journal.00000001", 3, "journal.00000002", 3, 1, "was tampered with");
	replaced(counted, "journal.00000001", 3, "journal.00000002", 3, 2, "was tampered with");
	replaced(counted, "journal.00000001", 4, "journal.00000001", 3, 0, "are missing");
	replaced(counted, "journal.00000001", 4, "journal.00000001", 3, 1, "was tampered with");
	replaced(counted, "journal.00000001", 4, "journal.00000001", 3, 2, "was tampered with");
	/* The last one is no torn end either. */
	replaced(counted, "journal.00000001", 4, "journal.00000002", 6, 1, "was tampered with");
	replaced(counted, "journal.00000001", 4, "journal.00000002", 6, 2, "was tampered with");
	/* A base of another image, and one frame that is all of it. */
	replaced(other, "base", 0, "base", 0, 2, "was tampered with");
}

/* Somebody who has no key puts in what he likes. */
static void plain_frames(void)
{
	const char *path = temp_path("plain");
	struct frame_coding coding;
	struct hac_run run = { 0, 8, 1 };
	struct record record = {
		.kind = RECORD_TRANSACTION,
		.flags = RECORD_FIRST,
		.epoch = 4,
		.transaction = { &run, 1, (const void *)"forgery", 8 },
	};
	static _Alignas(8) unsigned char payload[256], forged[512];
	struct frame_header header;
	const unsigned char *stored;
	struct bytes genuine;
	size_t size;

	if (!can_encrypt())
		return;
	coding = coding_a();
	copy_tree(temp_path("counted"), path);
	genuine = frame_of(in(path, "journal.00000001"), 4);
	CHECK_OK(frame_decode(genuine.data, genuine.size, &header, &stored));
	CHECK(header.first_epoch == 4);
	size = make_frame(NULL, &header, payload, record_encode(payload, &record), forged);
	replace_frame(in(path, "journal.00000001"), 4, forged, size);
	check_refused(path, &coding, -EBADMSG, "not encrypted in the way");
	free(genuine.data);
	/* The last one, where it could be a torn end. */
	copy_tree(temp_path("counted"), path);
	genuine = frame_of(in(path, "journal.00000002"), 6);
	CHECK_OK(frame_decode(genuine.data, genuine.size, &header, &stored));
	record.epoch = header.first_epoch;
	size = make_frame(NULL, &header, payload, record_encode(payload, &record), forged);
	replace_frame(in(path, "journal.00000002"), 6, forged, size);
	check_refused(path, &coding, -EBADMSG, "not encrypted in the way");
	free(genuine.data);
}

static size_t record_of(uint64_t epoch, uint64_t value, unsigned char *out)
{
	struct hac_run run = { 0, 8, 1 };
	struct record record = {
		.kind = RECORD_TRANSACTION,
		.flags = RECORD_FIRST,
		.epoch = epoch,
		.transaction = { &run, 1, (const void *)&value, 8 },
	};

	return record_encode(out, &record);
}

static void append(struct journal *journal, uint64_t epoch, uint64_t value)
{
	struct frame_header header = { .first_epoch = epoch, .last_epoch = epoch };
	_Alignas(8) unsigned char payload[128];

	CHECK_OK(journal_append(journal, &header, payload, record_of(epoch, value, payload)));
}

/* A writer dies; its successor goes on in the same generation, and writes the
 * same place again with something else. The one's frame cannot stand in for the
 * other's, though both are genuine. */
static void successors(void)
{
	const char *path = temp_path("successor");
	struct frame_coding coding;
	struct journal *journal;
	struct image *image;
	struct bytes lost;
	uint64_t offset;

	if (!can_encrypt())
		return;
	coding = coding_a();
	count_up(path, &coding, 1, 3);
	image = open_coded(path, false, &coding);
	journal = &image->store->journal;
	append(journal, 4, 4);
	offset = journal->offset;
	append(journal, 5, 55555);
	lost = frame_of(in(path, "journal.00000002"), 2);
	/* Its successor cuts it off. */
	CHECK(!truncate(in(path, "journal.00000002"), (off_t)offset));
	journal->offset = offset;
	journal->sequence--;
	frame_writer_free(journal->writer);
	CHECK_OK(frame_writer_create(&coding, &journal->writer));
	append(journal, 5, 5);
	append(journal, 6, 6);
	image_close(image);
	image = open_coded(path, true, &coding);
	CHECK(image->epoch == 6 && u64_at(image, "a", 0) == 6);
	image_close(image);
	replace_frame(in(path, "journal.00000002"), 2, lost.data, lost.size);
	check_refused(path, &coding, -EBADMSG, "of another writer");
	free(lost.data);
}

/* Frames of two bases of the same epoch do not mix. */
static void two_bases(void)
{
	enum { SIZE = 4 << 20 };
	struct hac_options o = { .size = sizeof(o), .key_file = "env:FRAME_TOOLS_KEY" };
	const char *path = temp_path("bases");
	struct frame_coding coding;
	unsigned char *area;
	struct bytes older;
	void *address;
	hac *h;

	if (!can_encrypt())
		return;
	coding = coding_a();
	CHECK_OK(hac_open(path, &o, &h));
	CHECK_OK(hac_map(h, "area", SIZE, NULL, &address));
	area = address;
	CHECK_OK(hac_begin(h));
	for (size_t i = 0; i < SIZE; i++)
		area[i] = (unsigned char)check_random(&seed);
	CHECK_OK(hac_end(h, NULL, NULL));
	CHECK_OK(hac_compact(h));
	older = frame_of(in(path, "base"), 2);
	CHECK_OK(hac_compact(h));
	CHECK_OK(hac_close(h));
	CHECK_OK(hac_unmap(area));
	image_close(open_coded(path, true, &coding));
	replace_frame(in(path, "base"), 2, older.data, older.size);
	check_refused(path, &coding, -EBADMSG, "no intact frame");
	free(older.data);
}

/* ----------------------------------------------------------- torn, damaged -- */

/* Wherever the journal is cut, what is whole before it comes back. */
static void torn_ends(uint32_t codec, const char *key)
{
	static struct found frames[100];
	const char *path = temp_path("torn");
	struct frame_coding coding = coding_of(codec, key);
	struct bytes file;
	size_t count, whole = 0;

	temp_remove(path);
	count_up(path, &coding, 1, 6);
	file = read_file(in(path, "journal.00000001"));
	count = find_frames(&file, frames, 100);
	CHECK(count == 7);
	for (size_t cut = 0; cut <= file.size; cut++) {
		struct image *image;

		while (whole < count && cut >= frames[whole].at + frame_size(&frames[whole].header))
			whole++;
		write_file(in(path, "journal.00000001"), file.data, cut);
		image = open_coded(path, true, &coding);
		CHECK_IS(image->epoch, whole ? whole - 1 : 0);
		CHECK(!image->epoch || u64_at(image, "a", 0) == image->epoch);
		image_close(image);
	}
	free(file.data);
}

/* One bit of a file, without checksums made right: damage, or a torn end; never
 * another state. */
static void flipped_bits(uint32_t codec, const char *key)
{
	const char *path = temp_path("torn"), *const files[] = { "base", "journal.00000001" };
	struct frame_coding coding = coding_of(codec, key);

	temp_remove(path);
	count_up(path, &coding, 1, 6);
	for (size_t i = 0; i < 2; i++) {
		struct bytes file = read_file(in(path, files[i]));

		for (size_t n = 0; n < 150; n++) {
			struct image_options options = { .readonly = true, .coding = &coding };
			size_t bit = check_random(&seed) % (file.size * 8);
			struct image *image;
			int error;

			file.data[bit / 8] ^= (unsigned char)(1 << bit % 8);
			write_file(in(path, files[i]), file.data, file.size);
			file.data[bit / 8] ^= (unsigned char)(1 << bit % 8);
			error = image_open(path, &options, &image);
			CHECK(error == 0 || error == -EBADMSG);
			if (error)
				continue;
			CHECK(i == 1 && image->epoch == 5 && u64_at(image, "a", 0) == 5);
			image_close(image);
		}
		write_file(in(path, files[i]), file.data, file.size);
		free(file.data);
	}
}

static void torn_and_damaged(void)
{
	for (uint32_t codec = 0; codec <= HAC_CODEC_LZ4; codec++) {
		if (!frame_codec_available(codec))
			continue;
		torn_ends(codec, can_encrypt() ? KEY_A : NULL);
		flipped_bits(codec, can_encrypt() ? KEY_A : NULL);
	}
}

int main(void)
{
	RUN(spliced_frames);
	RUN(plain_frames);
	RUN(successors);
	RUN(two_bases);
	RUN(torn_and_damaged);
	return 0;
}
