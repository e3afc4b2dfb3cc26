/* SPDX-License-Identifier: MIT */
/*
 * Frames: the one format of the layout file, the base, the journal and the
 * wire. A frame is a header and a payload; the payload is a row of records.
 * Integers are little-endian.
 *
 *	offset size
 *	     0    8  magic
 *	     8    2  version of the format: 1
 *	    10    2  size of the header: 128; with a cipher 184
 *	    12    1  codec: 0 none, 1 zstd, 2 lz4
 *	    13    1  cipher: 0 none, 1 AES-256-GCM
 *	    14    1  kind: 1 layout, 2 base, 3 journal
 *	    15    1  zeros that end a compressed payload, up to 7
 *	    16    4  flags: 1, the last frame of its file (layout and base)
 *	    20    4  0
 *	    24    8  sequence: consecutive in the journal, from 0 on in the base
 *	    32    8  generation
 *	    40    8  first epoch in it, 0 without any
 *	    48    8  last epoch in it
 *	    56    8  time, nanoseconds since 1970
 *	    64   16  UUID of the image
 *	    80    8  bytes of payload that follow the header: a multiple of 8
 *	    88    8  bytes of payload once decoded: a multiple of 8
 *	    96    8  xxh3-64 of the payload as it follows
 *	   104   16  0
 *	   120    8  xxh3-64 of the header before it: always its last 8 bytes
 *
 * With a cipher the header goes on behind offset 120:
 *
 *	   120   16  salt, drawn by whoever opened the writer
 *	   136    8  key check
 *	   144   12  nonce: the generation's low 32 bits, and the counter (64)
 *	   156    4  0
 *	   160   16  tag
 *	   176    8  xxh3-64 of the header before it
 *
 * A payload is compressed, then encrypted. It is compressed only if it has 256
 * bytes or more, and gets smaller by it.
 *
 * The keys come from the master key by HKDF-SHA256 with the salt: the data key
 * with the info "hac frame", UUID, generation (8 bytes); the key check with the
 * info "hac check". It tells another key from tampering, and secures nothing.
 * Each writer draws a salt of its own, and its counter starts at 0 and rises by
 * one with each frame, so no key meets a nonce twice. What is authenticated
 * beside the payload is the header without tag and hashes. In the journal a
 * salt begins with counter 0 and goes on without a gap, and a base has one salt:
 * so no frame can be exchanged for another one, though both are genuine.
 *
 * A record has a head of 24 bytes (kind, flags, size with head and padding,
 * epoch), a body, and zeros up to a multiple of 8.
 *
 * Decoding trusts nothing: what is not exactly what encoding would write is
 * refused. It allocates nothing; what it gives points into the payload.
 */
#ifndef HAC_FRAME_H
#define HAC_FRAME_H

#include "hac.h"
#include "image.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_MAGIC "\x89HACF\r\n\x1a"
#define FRAME_MAGIC_SIZE 8
#define FRAME_VERSION 1
#define FRAME_HEADER_SIZE 128        /* without a cipher; the least */
#define FRAME_HEADER_CIPHER_SIZE 184 /* with one; the most */
#define FRAME_HEADER_MAX 4096 /* of any version: for telling new from damaged */

#define FRAME_CIPHER_NONE 0
#define FRAME_CIPHER_AES 1
#define FRAME_RAW_MIN 256u                /* a smaller payload is not compressed */
#define FRAME_RAW_MAX ((uint64_t)1 << 30) /* nor is a larger one */
#define FRAME_END 0x1u

enum frame_kind {
	FRAME_LAYOUT = 1,
	FRAME_BASE = 2,
	FRAME_JOURNAL = 3,
};

struct frame_header {
	uint8_t codec;   /* enum hac_codec */
	uint8_t cipher;
	uint8_t kind;    /* enum frame_kind */
	uint8_t padding; /* zeros behind what is compressed */
	uint32_t flags;
	uint64_t sequence;
	uint64_t generation;
	uint64_t first_epoch;
	uint64_t last_epoch;
	uint64_t time_ns;
	unsigned char uuid[16];
	uint64_t stored;
	uint64_t raw;
	uint64_t payload_hash;

	/* With a cipher. */
	unsigned char salt[16];
	unsigned char key_check[8];
	uint64_t counter;
	unsigned char tag[16];
};

/* Bytes of the header, and of the whole frame. */
static inline size_t frame_header_size(const struct frame_header *header)
{
	return header->cipher ? FRAME_HEADER_CIPHER_SIZE : FRAME_HEADER_SIZE;
}

static inline uint64_t frame_size(const struct frame_header *header)
{
	return frame_header_size(header) + header->stored;
}

/* The whole size of the frame that seems to begin with these bytes, of which
 * FRAME_HEADER_SIZE suffice. No hash is checked: it is a promise, not a fact.
 * -EBADMSG, or -EPROTONOSUPPORT. */
int64_t frame_peek_size(const void *bytes, size_t size);

/*
 * May `next` stand right behind `last` in a journal, as far as the ciphers go?
 * Both are encrypted or both are not; a writer's frames have no gap.
 */
bool frame_continues(const struct frame_header *last, const struct frame_header *next);

/* What a payload hashes to, as it follows the header. */
uint64_t frame_hash(const void *payload, size_t size);

/* The time for a header. */
uint64_t frame_time(void);

/* To `out`, which has room for FRAME_HEADER_CIPHER_SIZE bytes, or, without a
 * cipher, for FRAME_HEADER_SIZE. */
void frame_encode_header(unsigned char *out, const struct frame_header *header);

/*
 * Decode the header at `bytes`, of which `size` can be read.
 *   -EBADMSG          no frame, or a damaged or unfinished one
 *   -EPROTONOSUPPORT  intact, but it says something that this version does not
 *                     know: never to be taken for a torn end
 */
int frame_decode_header(const void *bytes, size_t size, struct frame_header *out);

/* The same for a frame in memory, with its payload checked, but not decoded: it
 * has header.stored bytes. */
int frame_decode(const void *bytes, size_t size, struct frame_header *out,
		 const unsigned char **payload);

/* ------------------------------------------------------------ records -- */

enum record_kind {
	RECORD_IMAGE = 1,       /* layout file: what kind of machine it is for */
	RECORD_BASE = 2,        /* base, first record: where the journal goes on */
	RECORD_GENERATION = 3,  /* first record of an opening for writing */
	RECORD_LAYOUT = 4,      /* a new or changed area */
	RECORD_DROP = 5,        /* an area is gone */
	RECORD_TRANSACTION = 6, /* changed bytes */
};

/*
 * Layouts and drops stand before the transaction of their epoch; together they
 * are a group and become valid as one. A group that is too large for the ring
 * goes in parts: then all of its records but the last, which is a transaction,
 * are marked PARTIAL.
 */
#define RECORD_FIRST 0x1u   /* of a group; an unfinished one before it is void */
#define RECORD_PARTIAL 0x2u /* the group goes on, perhaps in another frame */

#define RECORD_HEAD_SIZE 24

struct record_image {
	uint32_t version;
	uint32_t byte_order; /* RECORD_BYTE_ORDER */
	uint32_t page_size;
	uint32_t word_size; /* 8 */
};
#define RECORD_BYTE_ORDER 0x01020304u

struct record_base {
	uint64_t generation; /* the highest one ever */
	uint64_t parent;
	uint64_t branch_epoch;
	uint64_t last_epoch;     /* the highest one ever given out */
	uint64_t first_segment;  /* older segments are superfluous */
	uint64_t first_sequence; /* of the first frame in it */
	uint32_t next_area_id;
	uint32_t areas; /* layouts that follow */
};

struct record_generation {
	uint64_t generation;
	uint64_t parent;
	uint64_t branch_epoch;
};

struct record_transaction {
	const struct hac_run *runs;
	size_t runs_count;
	const unsigned char *bytes;
	size_t bytes_count;
};

struct record {
	uint32_t kind;
	uint32_t flags;
	uint64_t epoch; /* base: its epoch; generation: the branch epoch */
	union {
		struct record_image image;
		struct record_base base;
		struct record_generation generation;
		struct layout layout; /* strings lent from the payload */
		uint32_t drop;
		struct record_transaction transaction;
	};
};

/* Bytes that the record will take. */
size_t record_size(const struct record *record);

/* Bytes of a transaction record with so many runs and bytes; 0 if that cannot
 * be. */
size_t record_transaction_size(size_t runs_count, size_t bytes_count);

/* Encode at `out`, which is aligned to 8 and has record_size() bytes of room.
 * Returns the size. */
size_t record_encode(unsigned char *out, const struct record *record);

/* Kind, flags and epoch of the record at `at`, and its size as result, without
 * any check: for records of one's own. */
size_t record_peek(const unsigned char *at, struct record *out);

/*
 * The record at *position of the payload, which is aligned to 8. 1, and
 * *position is behind it; 0 at the end; -EBADMSG if it is malformed.
 */
int record_decode(const unsigned char *payload, size_t size, size_t *position, struct record *out);

#endif
