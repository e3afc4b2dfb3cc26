/* SPDX-License-Identifier: MIT */
/* What the tests of compressed and encrypted frames share: payloads of every
 * kind of record, keys, and checksums made right again. */
#ifndef FRAME_TOOLS_H
#define FRAME_TOOLS_H

#include "check.h"
#include "frame_coding.h"

#include <errno.h>

#define KEY_A "00112233445566778899aabbccddeeff0123456789abcdef0123456789ABCDEF"
#define KEY_B "ff112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef"

__attribute__((unused)) static struct frame_coding coding_of(uint32_t codec, const char *key)
{
	struct frame_coding coding;

	unsetenv("HAC_KEY_FILE");
	if (key)
		setenv("FRAME_TOOLS_KEY", key, 1);
	CHECK_OK(frame_coding_load(codec, key ? "env:FRAME_TOOLS_KEY" : NULL, &coding));
	return coding;
}

__attribute__((unused)) static bool can_encrypt(void)
{
	struct frame_key key;

	setenv("FRAME_TOOLS_KEY", KEY_A, 1);
	if (!frame_key_load("env:FRAME_TOOLS_KEY", &key))
		return true;
	CHECK_DETAIL("without OpenSSL");
	return false;
}

static size_t put_record(unsigned char *out, size_t at, size_t room, const struct record *record)
{
	size_t size = record_size(record);

	CHECK(at + size <= room);
	record_encode(out + at, record);
	return at + size;
}

/* Records for a frame of this kind: one transaction of `bytes` bytes that are
 * random by as many bits as `noise` has. */
__attribute__((unused)) static size_t make_payload(unsigned char *out, size_t room, uint32_t kind,
						   size_t bytes, unsigned char noise,
						   unsigned long long *seed)
{
	struct record image = { .kind = RECORD_IMAGE, .image = { 1, RECORD_BYTE_ORDER, 4096, 8 } };
	struct record base = { .kind = RECORD_BASE, .epoch = 9, .base = { 3, 2, 7, 11, 5, 7, 6, 1 } };
	struct record layout = {
		.kind = RECORD_LAYOUT,
		.epoch = 9,
		.layout = { 3, 1, 1 << 20, 1 << 21, 65536, (char *)"book", (char *)"<f8[3]",
			    (char *)"abc" },
	};
	struct record drop = { .kind = RECORD_DROP, .epoch = 9, .drop = 2 };
	struct record generation = { .kind = RECORD_GENERATION,
				     .epoch = 8,
				     .generation = { 4, 3, 8 } };
	struct record transaction = { .kind = RECORD_TRANSACTION, .epoch = 9 };
	struct hac_run runs[2] = { { 64, (uint32_t)bytes / 2, 3 },
				   { 1 << 19, (uint32_t)(bytes - bytes / 2), 3 } };
	unsigned char *random = malloc(bytes + 1);
	size_t size = 0;

	for (size_t i = 0; i < bytes; i++)
		random[i] = (unsigned char)(check_random(seed) & noise);
	transaction.transaction = (struct record_transaction){ runs, 2, random, bytes };
	if (kind == FRAME_LAYOUT) {
		size = put_record(out, size, room, &image);
	} else {
		if (kind == FRAME_BASE)
			size = put_record(out, size, room, &base);
		else if (!bytes)
			size = put_record(out, size, room, &generation);
		if (bytes) {
			size = put_record(out, size, room, &layout);
			size = put_record(out, size, room, &drop);
			size = put_record(out, size, room, &transaction);
		}
	}
	free(random);
	return size;
}

__attribute__((unused)) static struct frame_header header_of(uint32_t kind, uint64_t sequence)
{
	return (struct frame_header){
		.kind = (uint8_t)kind,
		.sequence = sequence,
		.generation = 6,
		.first_epoch = 9,
		.last_epoch = 9,
		.time_ns = 9,
		.uuid = "0123456789abcde",
	};
}

/* A whole frame to `out`; its size. */
__attribute__((unused)) static size_t make_frame(struct frame_writer *writer,
						 struct frame_header *header, const void *payload,
						 size_t size, unsigned char *out)
{
	unsigned char head[FRAME_HEADER_CIPHER_SIZE];
	struct iovec parts[2];

	CHECK_OK(frame_writer_encode(writer, header, payload, size, head, parts));
	CHECK(parts[0].iov_len + parts[1].iov_len == frame_size(header));
	memcpy(out, parts[0].iov_base, parts[0].iov_len);
	memcpy(out + parts[0].iov_len, parts[1].iov_base, parts[1].iov_len);
	return frame_size(header);
}

/* Make both checksums right again, as somebody would who can write to an image.
 * The header's size is taken as it stands there. */
__attribute__((unused)) static void seal_again(unsigned char *frame, size_t size)
{
	uint16_t header_size;
	uint64_t stored, hash;

	memcpy(&header_size, frame + 10, 2);
	memcpy(&stored, frame + 80, 8);
	if (header_size < FRAME_HEADER_SIZE || header_size > size)
		return;
	if (stored <= size - header_size) {
		hash = frame_hash(frame + header_size, stored);
		memcpy(frame + 96, &hash, 8);
	}
	hash = frame_hash(frame, header_size - 8);
	memcpy(frame + header_size - 8, &hash, 8);
}

/* Header, payload, contents: as a reader does it. */
__attribute__((unused)) static int decode_all(struct frame_reader *reader, const void *frame,
					      size_t size, struct frame_header *header,
					      const unsigned char **payload)
{
	const unsigned char *stored;
	int error = frame_decode(frame, size, header, &stored);

	return error ? error : frame_reader_decode(reader, header, stored, payload);
}

#endif
