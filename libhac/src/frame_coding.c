// SPDX-License-Identifier: MIT
#include "frame_coding.h"

#include "error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int frame_coding_load(uint32_t codec, const char *key_file, struct frame_coding *out)
{
	struct frame_coding coding = { .codec = codec };
	int error;

	if (!frame_codec_name(codec))
		return hac_fail(EINVAL, "unknown codec %u: it is 0 (none), 1 (zstd) or 2 (lz4)",
				codec);
	if (!frame_codec_available(codec))
		return hac_fail(EOPNOTSUPP, "codec %s: this libhac was built without it",
				frame_codec_name(codec));
	error = frame_key_load(key_file, &coding.key);
	if (!error)
		*out = coding;
	frame_coding_wipe(&coding);
	return error;
}

void frame_coding_wipe(struct frame_coding *coding)
{
	frame_key_wipe(&coding->key);
	coding->codec = HAC_CODEC_NONE;
}

/* Room for `size` bytes, of which nothing has to be kept. */
static int make_room(unsigned char **buffer, size_t *room, size_t size)
{
	if (size <= *room)
		return 0;
	free(*buffer);
	*room = 0;
	*buffer = malloc(size);
	if (!*buffer)
		return -ENOMEM;
	*room = size;
	return 0;
}

/* ------------------------------------------------------------ writing -- */

struct frame_writer {
	struct frame_coding coding;
	struct frame_codec codec;
	struct frame_cipher *cipher;
	unsigned char *buffer;
	size_t room;
};

int frame_writer_create(const struct frame_coding *coding, struct frame_writer **out)
{
	struct frame_writer *writer;
	int error = 0;

	if (coding->codec == HAC_CODEC_NONE && !coding->key.present) {
		*out = NULL;
		return 0;
	}
	writer = calloc(1, sizeof(*writer));
	if (!writer)
		return -ENOMEM;
	writer->coding = *coding;
	if (coding->key.present)
		error = frame_cipher_create(&writer->coding.key, &writer->cipher);
	if (error)
		frame_writer_free(writer);
	else
		*out = writer;
	return error;
}

void frame_writer_free(struct frame_writer *writer)
{
	if (!writer)
		return;
	frame_cipher_free(writer->cipher);
	frame_codec_free(&writer->codec);
	frame_coding_wipe(&writer->coding);
	free(writer->buffer);
	free(writer);
}

/* False if the payload is to be stored as it is. Failure is no harm. */
static bool compress(struct frame_writer *writer, struct frame_header *header, const void *payload,
		     size_t size)
{
	uint32_t kind = writer->coding.codec;
	size_t room, result, stored;

	if (kind == HAC_CODEC_NONE || size < FRAME_RAW_MIN || size > FRAME_RAW_MAX)
		return false;
	room = frame_compress_bound(kind, size) + 8;
	if (make_room(&writer->buffer, &writer->room, room))
		return false;
	result = frame_compress(&writer->codec, kind, payload, size, writer->buffer, room - 8);
	stored = (result + 7) & ~(size_t)7;
	if (!result || stored >= size)
		return false;
	memset(writer->buffer + result, 0, stored - result);
	header->codec = (uint8_t)kind;
	header->padding = (uint8_t)(stored - result);
	header->stored = stored;
	return true;
}

static int encode(struct frame_writer *writer, struct frame_header *header, const void **payload,
		  size_t size)
{
	int error;

	if (compress(writer, header, *payload, size)) {
		*payload = writer->buffer;
	} else if (writer->cipher) {
		error = make_room(&writer->buffer, &writer->room, size);
		if (error)
			return error;
		memcpy(writer->buffer, *payload, size);
		*payload = writer->buffer;
	}
	return writer->cipher ? frame_cipher_seal(writer->cipher, header, writer->buffer) : 0;
}

int frame_writer_encode(struct frame_writer *writer, struct frame_header *header,
			const void *payload, size_t size,
			unsigned char head[FRAME_HEADER_CIPHER_SIZE], struct iovec parts[2])
{
	int error;

	header->codec = HAC_CODEC_NONE;
	header->cipher = FRAME_CIPHER_NONE;
	header->padding = 0;
	header->stored = header->raw = size;
	if (writer) {
		error = encode(writer, header, &payload, size);
		if (error)
			return error;
	}
	header->payload_hash = frame_hash(payload, header->stored);
	frame_encode_header(head, header);
	parts[0] = (struct iovec){ .iov_base = head, .iov_len = frame_header_size(header) };
	parts[1] = (struct iovec){ .iov_base = (void *)payload, .iov_len = header->stored };
	return 0;
}

/* ------------------------------------------------------------ reading -- */

void frame_reader_free(struct frame_reader *reader)
{
	frame_cipher_free(reader->cipher);
	frame_codec_free(&reader->codec);
	free(reader->decrypted);
	free(reader->decoded);
	*reader = (struct frame_reader){ .key = reader->key };
}

static int decrypt(struct frame_reader *reader, const struct frame_header *header,
		   const unsigned char **payload)
{
	int error = 0;

	if (!reader->cipher)
		error = frame_cipher_create(reader->key, &reader->cipher);
	if (!error)
		error = make_room(&reader->decrypted, &reader->decrypted_room, header->stored);
	if (!error)
		error = frame_cipher_open(reader->cipher, header, *payload, reader->decrypted);
	if (!error)
		*payload = reader->decrypted;
	return error;
}

static int decompress(struct frame_reader *reader, const struct frame_header *header,
		      const unsigned char **payload)
{
	size_t size = header->stored - header->padding;
	int error;

	for (size_t i = size; i < header->stored; i++)
		if ((*payload)[i])
			return -EBADMSG;
	/* Before there is memory for what it says it becomes. */
	error = frame_decompress_check(header->codec, *payload, size, header->raw);
	if (!error)
		error = make_room(&reader->decoded, &reader->decoded_room, header->raw);
	if (!error)
		error = frame_decompress(&reader->codec, header->codec, *payload, size,
					 reader->decoded, header->raw);
	if (!error)
		*payload = reader->decoded;
	return error;
}

int frame_reader_decode(struct frame_reader *reader, const struct frame_header *header,
			const void *stored, const unsigned char **payload)
{
	bool key = reader->key && reader->key->present;
	const unsigned char *bytes = stored;
	int error = 0;

	/* Whoever can write to the image could put in what he likes, were plain
	 * frames good enough. The layout file holds no user's data. */
	if (header->kind != FRAME_LAYOUT && key && !header->cipher)
		return -ENOTUNIQ;
	if (header->cipher && !key)
		return -ENOKEY;
	if (header->cipher)
		error = decrypt(reader, header, &bytes);
	if (!error && header->codec != HAC_CODEC_NONE)
		error = decompress(reader, header, &bytes);
	if (!error)
		*payload = bytes;
	return error;
}

int frame_reader_failed(int error, const char *what)
{
	switch (error) {
	case -ENOKEY:
		return hac_fail(EACCES,
				"%s is encrypted: give the key (key_file=, or the environment "
				"variable HAC_KEY_FILE)",
				what);
	case -EKEYREJECTED:
		return hac_fail(EACCES,
				"%s is encrypted with another key: give the one that it was "
				"written with (key_file=, or the environment variable HAC_KEY_FILE)",
				what);
	case -ENOTUNIQ:
		return hac_fail(EACCES,
				"%s is not encrypted, but there is a key: open it without key_file= "
				"and HAC_KEY_FILE, or encrypt it first (hac compact)",
				what);
	case -EOPNOTSUPP:
		return hac_fail(EOPNOTSUPP,
				"%s is compressed or encrypted in a way that this libhac was built "
				"without (libzstd, lz4, OpenSSL's libcrypto)",
				what);
	default:
		return 0;
	}
}
