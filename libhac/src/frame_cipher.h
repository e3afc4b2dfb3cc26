/* SPDX-License-Identifier: MIT */
/*
 * Encryption: AES-256-GCM, as frame.h says. The only file that knows OpenSSL is
 * frame_cipher.c; built without it, everything about keys answers -EOPNOTSUPP.
 */
#ifndef HAC_FRAME_CIPHER_H
#define HAC_FRAME_CIPHER_H

#include "frame.h"

/* A master key. All zero is none. */
struct frame_key {
	bool present;
	unsigned char bytes[32];
};

/*
 * The key in `key_file`, whose first line is 64 hexadecimal digits; "env:NAME"
 * takes it from the environment. NULL: as the environment variable HAC_KEY_FILE
 * says, and without it no key. -EINVAL or -EOPNOTSUPP with a detail, in which
 * nothing of the key appears.
 */
int frame_key_load(const char *key_file, struct frame_key *out);
void frame_key_wipe(struct frame_key *key);

/*
 * One side, writing or reading. The key is borrowed. Every sealer draws a salt,
 * and another one when it comes to another image or generation.
 */
struct frame_cipher;
int frame_cipher_create(const struct frame_key *key, struct frame_cipher **out);
void frame_cipher_free(struct frame_cipher *cipher);

/*
 * Encrypt the payload, header->stored bytes, in place. Everything in the header
 * but its hashes must be set; what a cipher adds is set here. After a failure
 * (-errno, no detail) the payload is of no use.
 */
int frame_cipher_seal(struct frame_cipher *cipher, struct frame_header *header,
		      unsigned char *payload);

/* Decrypt to `out`: 0; -EBADMSG, tampered with; -EKEYREJECTED, another key; or
 * -ENOMEM. `out` is of no use then. */
int frame_cipher_open(struct frame_cipher *cipher, const struct frame_header *header,
		      const unsigned char *stored, unsigned char *out);

#endif
