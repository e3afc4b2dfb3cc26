// SPDX-License-Identifier: MIT
#include "frame_codec.h"

#include <errno.h>
#include <stdlib.h>
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif
#ifdef HAVE_LZ4
#include <lz4.h>
#endif

#define ZSTD_LEVEL 1
/* A block of 128 KiB takes four bytes at least; lz4 makes 255 bytes of one. */
#define ZSTD_GROWTH ((uint64_t)32768)
#define LZ4_GROWTH ((uint64_t)255)

const char *frame_codec_name(uint32_t codec)
{
	static const char *const names[] = { "none", "zstd", "lz4" };

	return codec < sizeof(names) / sizeof(names[0]) ? names[codec] : NULL;
}

/* --------------------------------------------------------------- zstd -- */

#ifdef HAVE_ZSTD
static size_t zstd_compress(struct frame_codec *codec, const void *raw, size_t size, void *out,
			    size_t room)
{
	size_t result;

	if (!codec->compress)
		codec->compress = ZSTD_createCCtx();
	if (!codec->compress)
		return 0;
	result = ZSTD_compressCCtx(codec->compress, out, room, raw, size, ZSTD_LEVEL);
	return ZSTD_isError(result) ? 0 : result;
}

/* One frame of zstd's, of the size that we were told, and nothing behind it. */
static int zstd_check(const void *bytes, size_t size, uint64_t raw)
{
	if (raw / ZSTD_GROWTH > size || ZSTD_getFrameContentSize(bytes, size) != raw)
		return -EBADMSG;
	return ZSTD_findFrameCompressedSize(bytes, size) == size ? 0 : -EBADMSG;
}

static int zstd_decompress(struct frame_codec *codec, const void *bytes, size_t size, void *out,
			   size_t raw)
{
	if (!codec->decompress)
		codec->decompress = ZSTD_createDCtx();
	if (!codec->decompress)
		return -ENOMEM;
	return ZSTD_decompressDCtx(codec->decompress, out, raw, bytes, size) == raw ? 0 : -EBADMSG;
}

static size_t zstd_bound(size_t size)
{
	return ZSTD_compressBound(size);
}

static void zstd_free(struct frame_codec *codec)
{
	ZSTD_freeCCtx(codec->compress);
	ZSTD_freeDCtx(codec->decompress);
}
#else
static size_t zstd_compress(struct frame_codec *codec, const void *raw, size_t size, void *out,
			    size_t room)
{
	(void)codec, (void)raw, (void)size, (void)out, (void)room;
	return 0;
}

static int zstd_check(const void *bytes, size_t size, uint64_t raw)
{
	(void)bytes, (void)size, (void)raw;
	return -EOPNOTSUPP;
}

static int zstd_decompress(struct frame_codec *codec, const void *bytes, size_t size, void *out,
			   size_t raw)
{
	(void)codec, (void)bytes, (void)size, (void)out, (void)raw;
	return -EOPNOTSUPP;
}

static size_t zstd_bound(size_t size)
{
	return size;
}

static void zstd_free(struct frame_codec *codec)
{
	(void)codec;
}
#endif

/* ---------------------------------------------------------------- lz4 -- */

#ifdef HAVE_LZ4
static size_t lz4_compress(struct frame_codec *codec, const void *raw, size_t size, void *out,
			   size_t room)
{
	if (!codec->state)
		codec->state = malloc((size_t)LZ4_sizeofState());
	if (!codec->state)
		return 0;
	return (size_t)LZ4_compress_fast_extState(codec->state, raw, out, (int)size, (int)room, 1);
}

static int lz4_decompress(const void *bytes, size_t size, void *out, size_t raw)
{
	return LZ4_decompress_safe(bytes, out, (int)size, (int)raw) == (int)raw ? 0 : -EBADMSG;
}

static size_t lz4_bound(size_t size)
{
	return (size_t)LZ4_compressBound((int)size);
}
#else
static size_t lz4_compress(struct frame_codec *codec, const void *raw, size_t size, void *out,
			   size_t room)
{
	(void)codec, (void)raw, (void)size, (void)out, (void)room;
	return 0;
}

static int lz4_decompress(const void *bytes, size_t size, void *out, size_t raw)
{
	(void)bytes, (void)size, (void)out, (void)raw;
	return -EOPNOTSUPP;
}

static size_t lz4_bound(size_t size)
{
	return size;
}
#endif

/* --------------------------------------------------------------- both -- */

bool frame_codec_available(uint32_t codec)
{
	switch (codec) {
	case HAC_CODEC_NONE:
		return true;
#ifdef HAVE_ZSTD
	case HAC_CODEC_ZSTD:
		return true;
#endif
#ifdef HAVE_LZ4
	case HAC_CODEC_LZ4:
		return true;
#endif
	default:
		return false;
	}
}

void frame_codec_free(struct frame_codec *codec)
{
	zstd_free(codec);
	free(codec->state);
	*codec = (struct frame_codec){ 0 };
}

size_t frame_compress_bound(uint32_t kind, size_t size)
{
	return kind == HAC_CODEC_ZSTD ? zstd_bound(size) : lz4_bound(size);
}

size_t frame_compress(struct frame_codec *codec, uint32_t kind, const void *raw, size_t size,
		      void *out, size_t room)
{
	return kind == HAC_CODEC_ZSTD ? zstd_compress(codec, raw, size, out, room) :
					lz4_compress(codec, raw, size, out, room);
}

int frame_decompress_check(uint32_t kind, const void *bytes, size_t size, uint64_t raw)
{
	if (!frame_codec_available(kind))
		return -EOPNOTSUPP;
	if (kind == HAC_CODEC_ZSTD)
		return zstd_check(bytes, size, raw);
	return raw / LZ4_GROWTH > size ? -EBADMSG : 0;
}

int frame_decompress(struct frame_codec *codec, uint32_t kind, const void *bytes, size_t size,
		     void *out, size_t raw)
{
	return kind == HAC_CODEC_ZSTD ? zstd_decompress(codec, bytes, size, out, raw) :
					lz4_decompress(bytes, size, out, raw);
}
