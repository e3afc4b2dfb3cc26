/* SPDX-License-Identifier: MIT */
/*
 * Compression. The only file that knows libzstd and lz4 is frame_codec.c; where
 * one of them was missing when libhac was built, its codec answers -EOPNOTSUPP.
 */
#ifndef HAC_FRAME_CODEC_H
#define HAC_FRAME_CODEC_H

#include "hac.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "none", "zstd", "lz4"; NULL if there is no such codec. */
const char *frame_codec_name(uint32_t codec);

/* Was libhac built with it? */
bool frame_codec_available(uint32_t codec);

/* What compressing and decompressing needs of memory, kept from one payload to
 * the next. All zero at first. */
struct frame_codec {
	void *compress;   /* ZSTD_CCtx */
	void *decompress; /* ZSTD_DCtx */
	void *state;      /* of LZ4's compression */
};
void frame_codec_free(struct frame_codec *codec);

/* Room that compressing `size` bytes, of FRAME_RAW_MAX at most, may need. */
size_t frame_compress_bound(uint32_t kind, size_t size);

/* The compressed size, or 0: it cannot be done, or no memory. */
size_t frame_compress(struct frame_codec *codec, uint32_t kind, const void *raw, size_t size,
		      void *out, size_t room);

/*
 * Could `size` bytes become `raw` ones? Looks at little of them; what it says
 * bounds the memory that a decoder has to have. 0, -EBADMSG or -EOPNOTSUPP.
 */
int frame_decompress_check(uint32_t kind, const void *bytes, size_t size, uint64_t raw);

/* Exactly `raw` bytes to `out`: 0, -EBADMSG, -EOPNOTSUPP or -ENOMEM. */
int frame_decompress(struct frame_codec *codec, uint32_t kind, const void *bytes, size_t size,
		     void *out, size_t raw);

#endif
