/* SPDX-License-Identifier: MIT */
/*
 * What a context and its helper say to each other, over a socket of type
 * SOCK_SEQPACKET: one struct control_message each, little-endian, the same in
 * both directions. Everything that happens for each transaction goes through
 * shared memory (drainer_internal.h); this is for the rest.
 *
 * The context starts the helper with two descriptors: the ring's memory, and its
 * end of the socket; their numbers are the values of --ring and --control. It
 * says HELLO. The helper opens the image, settles its role with its peers, and
 * says READY; only now may the context read the image, which holds the epoch
 * that READY names.
 */
#ifndef HAC_CONTROL_H
#define HAC_CONTROL_H

#include <stdint.h>

enum control_kind {
	/* From the context. */
	CONTROL_HELLO = 1,   /* role wanted; generation != 0: a predecessor died as
			      * primary of this generation, go on in its place (the
			      * shared memory says where) */
	CONTROL_PROMOTE = 2, /* a standby is to become primary */
	CONTROL_COMPACT = 3, /* of everything that is in the ring: write a new base;
			      * answered by DONE */
	CONTROL_CLOSE = 4,   /* drain, sync, answer DONE, and exit */

	/* From the helper. */
	CONTROL_READY = 16,    /* role, generation (begun, as primary), parent,
				* branch_epoch, epoch, last_epoch, next_area_id,
				* dropped_bytes, dropped_epoch */
	CONTROL_PROMOTED = 17, /* the same, role primary: a standby became one */
	CONTROL_DONE = 18,     /* error (0 or negative) and text */
	CONTROL_FAILED = 19,   /* error and text: the helper could not start (-EUSERS,
				* -EBADMSG, ...), and exits. What ends a running one is
				* in shared memory, like a drainer's failure */
};

struct control_message {
	uint32_t kind;
	int32_t error; /* negative */
	uint32_t role; /* enum hac_role */
	uint32_t next_area_id;
	uint64_t generation;
	uint64_t parent;
	uint64_t branch_epoch;
	uint64_t epoch;
	uint64_t last_epoch;
	uint64_t dropped_bytes;
	uint64_t dropped_epoch;
	char text[512];
};
_Static_assert(sizeof(struct control_message) == 16 + 7 * 8 + 512, "no padding");

#endif
