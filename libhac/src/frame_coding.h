/* SPDX-License-Identifier: MIT */
/*
 * Payloads on their way into frames and out of them: compressed, encrypted, or
 * as they are. frame.h says how frames look, frame_codec.h and frame_cipher.h
 * do the work.
 */
#ifndef HAC_FRAME_CODING_H
#define HAC_FRAME_CODING_H

#include "frame.h"
#include "frame_cipher.h"
#include "frame_codec.h"

#include <sys/uio.h>

/* How frames are written, and with which key they are read. All zero: as they
 * are, without a key. */
struct frame_coding {
	uint32_t codec; /* enum hac_codec */
	struct frame_key key;
};

/* Check both, and load the key as frame_key_load() does: -EINVAL or -EOPNOTSUPP
 * with a detail. Wipe it when it is done with. */
int frame_coding_load(uint32_t codec, const char *key_file, struct frame_coding *out);
void frame_coding_wipe(struct frame_coding *coding);

/* ------------------------------------------------------------ writing -- */

/* One for each opening of a journal or a base: this is what makes nonces
 * unique. `coding` is copied. NULL, and 0, if frames are to be as they are.
 * -errno without a detail. */
struct frame_writer;
int frame_writer_create(const struct frame_coding *coding, struct frame_writer **out);
void frame_writer_free(struct frame_writer *writer);

/*
 * Make a frame of `size` bytes. All else in the header is set before; codec,
 * cipher, sizes and hashes are set here. `parts` are header, in `head`, and
 * payload: the caller's bytes or the writer's, until its next call. With writer
 * NULL nothing is copied. -errno without a detail.
 */
int frame_writer_encode(struct frame_writer *writer, struct frame_header *header,
			const void *payload, size_t size,
			unsigned char head[FRAME_HEADER_CIPHER_SIZE], struct iovec parts[2]);

/* ------------------------------------------------------------ reading -- */

/* What decoding keeps from frame to frame. All zero but for the key is a new
 * one. */
struct frame_reader {
	const struct frame_key *key; /* borrowed; NULL is none */
	struct frame_cipher *cipher;
	struct frame_codec codec;
	unsigned char *decrypted;
	size_t decrypted_room;
	unsigned char *decoded;
	size_t decoded_room;
};
void frame_reader_free(struct frame_reader *reader);

/*
 * The header->raw bytes that the payload stands for. `header` and `stored`,
 * header->stored bytes, were checked, hash and all; `payload` is lent until the
 * next call, or is `stored`. With a key, every frame must be encrypted with it.
 *   -EBADMSG       it cannot be decoded, or was tampered with
 *   -ENOKEY        encrypted, and there is no key
 *   -EKEYREJECTED  encrypted with another key
 *   -ENOTUNIQ      not encrypted, though there is a key
 *   -EOPNOTSUPP    the codec or the cipher was not built in
 *   -ENOMEM
 */
int frame_reader_decode(struct frame_reader *reader, const struct frame_header *header,
			const void *stored, const unsigned char **payload);

/*
 * What those mean to whoever called libhac: -EACCES where it is the key's fault,
 * with a detail that says what to do. `what` is the file, or whatever holds the
 * frame. 0 if it is none of those that are not about damage.
 */
int frame_reader_failed(int error, const char *what);

#endif
