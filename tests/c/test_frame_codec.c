/* SPDX-License-Identifier: MIT */
/* Payloads there and back through every codec and cipher; and what was changed,
 * exchanged or made up on the way is refused. */
#include "frame_tools.h"
#include "temp.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#define ROOM ((size_t)4 << 20)

static _Alignas(8) unsigned char raw[ROOM], frame[2 * ROOM], again[2 * ROOM];
static unsigned long long seed = 88172645463325252ull;

struct coder {
	struct frame_coding coding;
	struct frame_writer *writer;
	struct frame_reader reader;
};

static void open_coder(struct coder *coder, uint32_t codec, const char *key)
{
	memset(coder, 0, sizeof(*coder));
	coder->coding = coding_of(codec, key);
	CHECK_OK(frame_writer_create(&coder->coding, &coder->writer));
	coder->reader.key = &coder->coding.key;
}

static void close_coder(struct coder *coder)
{
	frame_writer_free(coder->writer);
	frame_reader_free(&coder->reader);
	frame_coding_wipe(&coder->coding);
}

/* ------------------------------------------------------ there and back -- */

static void check_form(const struct frame_header *header, uint32_t codec, bool key, size_t size,
		       unsigned char noise)
{
	bool packed = codec && size >= 256 && noise != 255;

	/* What has little order in it may go either way. */
	if (packed && noise)
		packed = header->codec;

	CHECK(header->raw == size && header->stored % 8 == 0);
	CHECK(header->cipher == (key ? FRAME_CIPHER_AES : FRAME_CIPHER_NONE));
	CHECK_MSG(header->codec == (packed ? codec : HAC_CODEC_NONE),
		  "%u for %zu bytes of noise %u", header->codec, size, noise);
	CHECK(packed ? header->stored < size : header->stored == size);
	CHECK(frame_header_size(header) == (key ? 184u : 128u));
}

static void round_trips(uint32_t codec, const char *key)
{
	static const size_t sizes[] = { 8,    16,    248,    256,     264,     512,    4096,
					4104, 65536, 262144, 1048576, 3 << 20, 4 << 20 };
	static const unsigned char noises[] = { 0, 1, 15, 255 };
	struct coder coder;
	uint64_t sequence = 0;

	open_coder(&coder, codec, key);
	CHECK((coder.writer == NULL) == (codec == HAC_CODEC_NONE && !key));
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (size_t j = 0; j < sizeof(noises); j++) {
			struct frame_header header = header_of(FRAME_JOURNAL, sequence++), found;
			const unsigned char *payload;
			size_t size;

			for (size_t k = 0; k < sizes[i]; k++)
				raw[k] = (unsigned char)(check_random(&seed) & noises[j]);
			size = make_frame(coder.writer, &header, raw, sizes[i], frame);
			check_form(&header, codec, key, sizes[i], noises[j]);
			CHECK_IS(frame_peek_size(frame, 128), size);
			CHECK_OK(decode_all(&coder.reader, frame, size, &found, &payload));
			CHECK(!memcmp(&found, &header, sizeof(found)));
			CHECK(!memcmp(payload, raw, sizes[i]));
			CHECK((uintptr_t)payload % 8 == 0);
		}
	close_coder(&coder);
}

static void every_codec_and_cipher(void)
{
	for (uint32_t codec = 0; codec <= HAC_CODEC_LZ4; codec++) {
		if (!frame_codec_available(codec)) {
			printf("  skipped: %s was not built in\n", frame_codec_name(codec));
			continue;
		}
		round_trips(codec, NULL);
		if (can_encrypt())
			round_trips(codec, KEY_A);
	}
}

/* ------------------------------------------------------------ tampering -- */

/* With checksums made right again it is for the tag to find it. Without, no bit
 * may change under any codec or cipher. */
static void flipped_bits(uint32_t codec, const char *key)
{
	struct frame_header header = header_of(FRAME_JOURNAL, 5), found;
	const unsigned char *payload;
	struct coder coder;
	size_t size = make_payload(raw, ROOM, FRAME_JOURNAL, 600, 3, &seed), head;

	open_coder(&coder, codec, key);
	size = make_frame(coder.writer, &header, raw, size, frame);
	head = frame_header_size(&header);
	for (size_t bit = 0; bit < size * 8; bit++) {
		memcpy(again, frame, size);
		again[bit / 8] ^= (unsigned char)(1 << bit % 8);
		CHECK_MSG(decode_all(&coder.reader, again, size, &found, &payload) == -EBADMSG,
			  "bit %zu", bit);
		/* Its own hashes are put right by that. */
		if (!key || (bit / 8 >= 96 && bit / 8 < 104) ||
		    (bit / 8 >= head - 8 && bit / 8 < head))
			continue;
		seal_again(again, size);
		CHECK_MSG(decode_all(&coder.reader, again, size, &found, &payload) < 0,
			  "bit %zu, sealed again", bit);
	}
	for (size_t cut = 0; cut < size; cut++) {
		memcpy(again, frame, cut);
		CHECK_IS(decode_all(&coder.reader, again, cut, &found, &payload), -EBADMSG);
		if (cut < head || !key)
			continue;
		/* Shortened in the header, too. */
		memcpy(again + 80, &(uint64_t){ (cut - head) & ~(uint64_t)7 }, 8);
		if (header.codec == HAC_CODEC_NONE)
			memcpy(again + 88, &(uint64_t){ (cut - head) & ~(uint64_t)7 }, 8);
		seal_again(again, cut);
		CHECK(decode_all(&coder.reader, again, cut, &found, &payload) == -EBADMSG);
	}
	close_coder(&coder);
}

static void no_bit_may_change(void)
{
	for (uint32_t codec = 0; codec <= HAC_CODEC_LZ4; codec++) {
		if (!frame_codec_available(codec))
			continue;
		flipped_bits(codec, NULL);
		if (can_encrypt())
			flipped_bits(codec, KEY_A);
	}
}

/* A header is worth nothing with the payload of another frame. */
static void headers_are_bound_to_payloads(void)
{
	struct frame_header one = header_of(FRAME_JOURNAL, 5), two = header_of(FRAME_JOURNAL, 6);
	struct frame_header found;
	const unsigned char *payload;
	struct coder coder;
	size_t size = make_payload(raw, ROOM, FRAME_JOURNAL, 600, 3, &seed), first, second;

	if (!can_encrypt())
		return;
	open_coder(&coder, HAC_CODEC_NONE, KEY_A);
	first = make_frame(coder.writer, &one, raw, size, frame);
	raw[size - 16] ^= 1;
	second = make_frame(coder.writer, &two, raw, size, again);
	CHECK(first == second && one.counter == 0 && two.counter == 1);
	CHECK(!memcmp(one.salt, two.salt, 16) && frame_continues(&one, &two));
	memcpy(again, frame, FRAME_HEADER_CIPHER_SIZE);
	seal_again(again, second);
	CHECK_IS(decode_all(&coder.reader, again, second, &found, &payload), -EBADMSG);
	close_coder(&coder);
}

/* ----------------------------------------------------------------- keys -- */

static void other_keys(void)
{
	struct frame_header header = header_of(FRAME_JOURNAL, 5), found;
	struct frame_reader none = { 0 };
	const unsigned char *payload;
	struct coder a, b;
	size_t size = make_payload(raw, ROOM, FRAME_JOURNAL, 600, 3, &seed), whole;

	if (!can_encrypt())
		return;
	open_coder(&a, HAC_CODEC_NONE, KEY_A);
	open_coder(&b, HAC_CODEC_NONE, KEY_B);
	whole = make_frame(a.writer, &header, raw, size, frame);
	CHECK_IS(decode_all(&b.reader, frame, whole, &found, &payload), -EKEYREJECTED);
	CHECK_IS(decode_all(&none, frame, whole, &found, &payload), -ENOKEY);
	CHECK_OK(decode_all(&a.reader, frame, whole, &found, &payload));
	CHECK_OK(decode_all(&a.reader, frame, whole, &found, &payload));
	/* The check put right for the other key: it says nothing. */
	header = header_of(FRAME_JOURNAL, 5);
	make_frame(b.writer, &header, raw, size, again);
	memcpy(again + FRAME_HEADER_CIPHER_SIZE, frame + FRAME_HEADER_CIPHER_SIZE,
	       whole - FRAME_HEADER_CIPHER_SIZE);
	seal_again(again, whole);
	CHECK_IS(decode_all(&b.reader, again, whole, &found, &payload), -EBADMSG);
	/* Not encrypted at all. */
	header = header_of(FRAME_JOURNAL, 5);
	whole = make_frame(NULL, &header, raw, size, frame);
	CHECK_IS(decode_all(&a.reader, frame, whole, &found, &payload), -ENOTUNIQ);
	CHECK_OK(decode_all(&none, frame, whole, &found, &payload));
	close_coder(&a);
	close_coder(&b);
}

static void refused(const char *key_file, const char *detail)
{
	struct frame_key key;

	memset(&key, 0x5a, sizeof(key));
	CHECK_IS(frame_key_load(key_file, &key), -EINVAL);
	CHECK_DETAIL(detail);
	/* Nothing of the key, and the output untouched. */
	CHECK(!strstr(hac_error_detail(), "00112233") && !strstr(hac_error_detail(), "aabbcc"));
	CHECK(key.bytes[0] == 0x5a && key.bytes[31] == 0x5a);
}

static const char *key_file_of(const char *text, size_t size)
{
	const char *path = temp_path("key");
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CHECK(fd >= 0 && write(fd, text, size) == (ssize_t)size);
	close(fd);
	return path;
}

static void key_files(void)
{
	static const char nul[] = "00112233445566778899aabbccddeeff\0"
				  "0123456789abcdef0123456789abcdef";
	struct frame_key key, other;

	unsetenv("HAC_KEY_FILE");
	CHECK_OK(frame_key_load(NULL, &key));
	CHECK(!key.present);
	refused(temp_path("absent"), "cannot be read: No such file");
	refused(temp_dir(), "cannot be read: Is a directory");
	refused("", "cannot be read");
	refused("env:NO_SUCH_VARIABLE", "no such environment variable");
	refused(KEY_A, "looks like a key");
	refused("env:" KEY_A, "looks like a key");
	refused(key_file_of("", 0), "exactly 64");
	refused(key_file_of("\n" KEY_A, 65), "exactly 64");
	refused(key_file_of(KEY_A, 63), "exactly 64");
	refused(key_file_of(KEY_A "0\n", 66), "exactly 64");
	refused(key_file_of(KEY_A " \n", 66), "exactly 64");
	refused(key_file_of("0x" KEY_A, 66), "exactly 64");
	refused(key_file_of(nul, 65), "exactly 64");
	refused(key_file_of("0011223344556677_899aabbccddeeff"
			    "0123456789abcdef0123456789abcdef\n",
			    65),
		"not made of hexadecimal digits");
	setenv("BAD", "00112233", 1);
	refused("env:BAD", "exactly 64");
	if (!can_encrypt())
		return;
	CHECK_OK(frame_key_load(key_file_of(KEY_A, 64), &key));
	CHECK(key.present && key.bytes[0] == 0 && key.bytes[1] == 0x11 && key.bytes[31] == 0xef);
	CHECK_OK(frame_key_load(key_file_of(KEY_A "\nmore, of no meaning\n", 80), &other));
	CHECK(!memcmp(&key, &other, sizeof(key)));
	CHECK_OK(frame_key_load("env:FRAME_TOOLS_KEY", &other));
	CHECK(!memcmp(&key, &other, sizeof(key)));
	setenv("HAC_KEY_FILE", temp_path("key"), 1);
	CHECK_OK(frame_key_load(NULL, &other));
	CHECK(!memcmp(&key, &other, sizeof(key)));
	unsetenv("HAC_KEY_FILE");
}

/* ---------------------------------------------------------------- nonces -- */

/* Whoever opens a writer anew writes the same places with another key; and each
 * image and generation has its own. */
static void no_nonce_twice(void)
{
	struct frame_header before = { 0 };
	struct coder coder;

	if (!can_encrypt())
		return;
	for (int i = 0; i < 100; i++) {
		struct frame_header header = header_of(FRAME_JOURNAL, 5);

		open_coder(&coder, HAC_CODEC_NONE, KEY_A);
		for (uint64_t n = 0; n < 3; n++) {
			make_frame(coder.writer, &header, raw, 64, frame);
			CHECK(header.counter == n);
		}
		CHECK(memcmp(header.salt, before.salt, 16));
		CHECK(memcmp(header.key_check, before.key_check, 8));
		before = header;
		header.generation++;
		make_frame(coder.writer, &header, raw, 64, frame);
		CHECK(header.counter == 0 && memcmp(header.salt, before.salt, 16));
		before = header;
		header.uuid[3]++;
		make_frame(coder.writer, &header, raw, 64, frame);
		CHECK(header.counter == 0 && memcmp(header.salt, before.salt, 16));
		close_coder(&coder);
	}
}

/* ----------------------------------------------------------------- bombs -- */

static int decode_packed(uint32_t codec, const void *bytes, size_t size, uint64_t claimed)
{
	struct frame_header header = header_of(FRAME_JOURNAL, 5), found;
	struct frame_reader reader = { 0 };
	const unsigned char *payload;
	size_t whole;
	int result;

	header.codec = (uint8_t)codec;
	header.padding = (uint8_t)(-size & 7);
	header.stored = size + header.padding;
	header.raw = claimed;
	memset(frame, 0, FRAME_HEADER_SIZE + header.stored);
	memcpy(frame + FRAME_HEADER_SIZE, bytes, size);
	header.payload_hash = frame_hash(frame + FRAME_HEADER_SIZE, header.stored);
	frame_encode_header(frame, &header);
	whole = frame_size(&header);
	result = decode_all(&reader, frame, whole, &found, &payload);
	CHECK(result || found.raw == claimed);
	/* Nothing was taken on the word of a header. */
	CHECK(!result || reader.decoded_room <= (uint64_t)size << 15);
	frame_reader_free(&reader);
	return result;
}

/* A zstd frame that says it has `content` bytes, of `blocks` blocks of 128 KiB,
 * each of one repeated byte. */
static size_t zstd_bomb(unsigned char *out, uint64_t content, size_t blocks)
{
	static const unsigned char head[] = { 0x28, 0xb5, 0x2f, 0xfd, 0xc0, 0x38 };
	size_t size = sizeof(head);

	memcpy(out, head, size);
	memcpy(out + size, &content, 8);
	size += 8;
	while (blocks--) {
		uint32_t block = (128u << 10) << 3 | 1 << 1 | !blocks;

		memcpy(out + size, &block, 3);
		out[size + 3] = 0;
		size += 4;
	}
	return size;
}

static void zstd_bombs(void)
{
	size_t size = zstd_bomb(again, 128 << 10, 1);
	uint64_t content;

	CHECK_OK(decode_packed(HAC_CODEC_ZSTD, again, size, 128 << 10));
	CHECK_IS(decode_packed(HAC_CODEC_ZSTD, again, size, 256 << 10), -EBADMSG);
	/* It says little and becomes much; it says much. */
	size = zstd_bomb(again, 128 << 10, 1000);
	CHECK_IS(decode_packed(HAC_CODEC_ZSTD, again, size, 128 << 10), -EBADMSG);
	for (content = 1ull << 20; content; content <<= 1) {
		size = zstd_bomb(again, content, 2);
		CHECK_IS(decode_packed(HAC_CODEC_ZSTD, again, size, content), -EBADMSG);
	}
	size = zstd_bomb(again, 1ull << 31, 1 << 14);
	CHECK_IS(decode_packed(HAC_CODEC_ZSTD, again, size, 1ull << 31), -EBADMSG);
	CHECK_IS(decode_packed(HAC_CODEC_ZSTD, again, size, (1ull << 30) + 8), -EBADMSG);
	/* Two in one, and something behind it. */
	size = zstd_bomb(again, 128 << 10, 1);
	memcpy(again + size, again, size);
	CHECK_IS(decode_packed(HAC_CODEC_ZSTD, again, 2 * size, 128 << 10), -EBADMSG);
	CHECK_IS(decode_packed(HAC_CODEC_ZSTD, again, 2 * size, 256 << 10), -EBADMSG);
	CHECK_IS(decode_packed(HAC_CODEC_ZSTD, again, size + 1, 128 << 10), -EBADMSG);
}

static void lz4_bombs(void)
{
	/* One literal, then a match that goes on and on. */
	memset(again, 255, 70000);
	memcpy(again, "\x1f\0\1\0", 4);
	for (uint64_t claimed = 1 << 20; claimed <= 1ull << 30; claimed <<= 1)
		CHECK_IS(decode_packed(HAC_CODEC_LZ4, again, 4100, claimed), -EBADMSG);
	CHECK_IS(decode_packed(HAC_CODEC_LZ4, again, 4100, 4112), -EBADMSG);
	CHECK_IS(decode_packed(HAC_CODEC_LZ4, again, 70000, (1ull << 30) + 8), -EBADMSG);
}

static void bombs(void)
{
	memset(again, 1, 64);
	if (frame_codec_available(HAC_CODEC_ZSTD))
		zstd_bombs();
	else
		CHECK_IS(decode_packed(HAC_CODEC_ZSTD, again, 64, 256), -EOPNOTSUPP);
	if (frame_codec_available(HAC_CODEC_LZ4))
		lz4_bombs();
	else
		CHECK_IS(decode_packed(HAC_CODEC_LZ4, again, 64, 256), -EOPNOTSUPP);
}

/* --------------------------------------------------------------- options -- */

static void options(void)
{
	struct hac_options o = { .size = sizeof(o), .codec = 3 };
	hac *h;

	unsetenv("HAC_KEY_FILE");
	CHECK_IS(hac_open(NULL, &o, &h), -EINVAL);
	CHECK_DETAIL("unknown codec 3");
	o = (struct hac_options){ .size = sizeof(o), .reserved = 1 };
	CHECK_IS(hac_open(NULL, &o, &h), -EINVAL);
	CHECK_DETAIL("reserved");
	o = (struct hac_options){ .size = sizeof(o), .key_file = "env:NO_SUCH_VARIABLE" };
	CHECK_IS(hac_open(temp_path("image"), &o, &h), -EINVAL);
	CHECK(access(temp_path("image"), F_OK));
	for (uint32_t codec = 0; codec <= HAC_CODEC_LZ4; codec++) {
		o = (struct hac_options){ .size = sizeof(o), .codec = codec };
		CHECK_IS(hac_open(temp_path("image"), &o, &h),
			 frame_codec_available(codec) ? 0 : -EOPNOTSUPP);
		if (frame_codec_available(codec))
			CHECK_OK(hac_close(h));
		else
			CHECK_DETAIL("without it");
	}
	setenv("FRAME_TOOLS_KEY", KEY_A, 1);
	o = (struct hac_options){ .size = sizeof(o), .key_file = "env:FRAME_TOOLS_KEY" };
	CHECK_IS(hac_open(temp_path("encrypted"), &o, &h), can_encrypt() ? 0 : -EOPNOTSUPP);
	if (can_encrypt())
		CHECK_OK(hac_close(h));
}

int main(void)
{
	RUN(every_codec_and_cipher);
	RUN(no_bit_may_change);
	RUN(headers_are_bound_to_payloads);
	RUN(other_keys);
	RUN(key_files);
	RUN(no_nonce_twice);
	RUN(bombs);
	RUN(options);
	return 0;
}
