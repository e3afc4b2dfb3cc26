// SPDX-License-Identifier: MIT
#include "frame.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

/* The bytes of areas are stored as the machine has them, so an image is bound
 * to its byte order anyway; runs are then copied and lent as they are. */
_Static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "images are little-endian");
_Static_assert(sizeof(struct hac_run) == 16, "runs are stored as they are");

#define NAME_MAX_BYTES 255u
#define STRING_MAX_BYTES (1u << 20)
#define NO_STRING UINT32_MAX

static void put16(unsigned char *at, uint16_t value)
{
	value = htole16(value);
	memcpy(at, &value, sizeof(value));
}

static void put32(unsigned char *at, uint32_t value)
{
	value = htole32(value);
	memcpy(at, &value, sizeof(value));
}

static void put64(unsigned char *at, uint64_t value)
{
	value = htole64(value);
	memcpy(at, &value, sizeof(value));
}

static uint16_t get16(const unsigned char *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return le16toh(value);
}

static uint32_t get32(const unsigned char *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return le32toh(value);
}

static uint64_t get64(const unsigned char *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return le64toh(value);
}

static bool all_zero(const unsigned char *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (bytes[i])
			return false;
	return true;
}

/* ------------------------------------------------------------- header -- */

uint64_t frame_hash(const void *payload, size_t size)
{
	return XXH3_64bits(payload, size);
}

uint64_t frame_time(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* What a cipher adds, in the place where the hash is without one. */
static void encode_cipher(unsigned char *out, const struct frame_header *header)
{
	memcpy(out + 120, header->salt, sizeof(header->salt));
	memcpy(out + 136, header->key_check, sizeof(header->key_check));
	put32(out + 144, (uint32_t)header->generation);
	put64(out + 148, header->counter);
	memcpy(out + 160, header->tag, sizeof(header->tag));
}

void frame_encode_header(unsigned char *out, const struct frame_header *header)
{
	size_t size = frame_header_size(header);

	memset(out, 0, size);
	memcpy(out, FRAME_MAGIC, FRAME_MAGIC_SIZE);
	put16(out + 8, FRAME_VERSION);
	put16(out + 10, (uint16_t)size);
	out[12] = header->codec;
	out[13] = header->cipher;
	out[14] = header->kind;
	out[15] = header->padding;
	put32(out + 16, header->flags);
	put64(out + 24, header->sequence);
	put64(out + 32, header->generation);
	put64(out + 40, header->first_epoch);
	put64(out + 48, header->last_epoch);
	put64(out + 56, header->time_ns);
	memcpy(out + 64, header->uuid, sizeof(header->uuid));
	put64(out + 80, header->stored);
	put64(out + 88, header->raw);
	put64(out + 96, header->payload_hash);
	if (header->cipher)
		encode_cipher(out, header);
	put64(out + size - 8, XXH3_64bits(out, size - 8));
}

/* Whatever the version, the hash is the header's end: a header that a newer
 * version wrote is known as intact. */
static int check_header_hash(const unsigned char *bytes, size_t size)
{
	size_t header_size;

	if (size < FRAME_HEADER_SIZE || memcmp(bytes, FRAME_MAGIC, FRAME_MAGIC_SIZE))
		return -EBADMSG;
	header_size = get16(bytes + 10);
	if (header_size < FRAME_HEADER_SIZE || header_size > FRAME_HEADER_MAX || header_size % 8 ||
	    header_size > size)
		return -EBADMSG;
	if (XXH3_64bits(bytes, header_size - 8) != get64(bytes + header_size - 8))
		return -EBADMSG;
	return 0;
}

static bool header_is_known(const unsigned char *bytes, const struct frame_header *header)
{
	uint32_t flags = header->kind == FRAME_JOURNAL ? 0 : FRAME_END;

	if (header->codec > HAC_CODEC_LZ4 || header->cipher > FRAME_CIPHER_AES)
		return false;
	if (get16(bytes + 8) != FRAME_VERSION || get16(bytes + 10) != frame_header_size(header))
		return false;
	if (header->kind < FRAME_LAYOUT || header->kind > FRAME_JOURNAL)
		return false;
	return !(header->flags & ~flags) && all_zero(bytes + 20, 4) && all_zero(bytes + 104, 16) &&
	       (!header->cipher || all_zero(bytes + 156, 4));
}

/* Do the sizes go together? The largest is far from where sums overflow. */
static bool sizes_fit(const struct frame_header *header)
{
	if (header->stored % 8 || header->raw % 8 || header->stored > INT64_MAX / 2)
		return false;
	if (header->codec == HAC_CODEC_NONE)
		return header->stored == header->raw && !header->padding;
	return header->padding < 8 && header->stored > header->padding &&
	       header->stored < header->raw && header->raw >= FRAME_RAW_MIN &&
	       header->raw <= FRAME_RAW_MAX;
}

static bool decode_cipher(const unsigned char *bytes, struct frame_header *header)
{
	memcpy(header->salt, bytes + 120, sizeof(header->salt));
	memcpy(header->key_check, bytes + 136, sizeof(header->key_check));
	header->counter = get64(bytes + 148);
	memcpy(header->tag, bytes + 160, sizeof(header->tag));
	return get32(bytes + 144) == (uint32_t)header->generation;
}

int frame_decode_header(const void *source, size_t size, struct frame_header *out)
{
	const unsigned char *bytes = source;
	struct frame_header header = { 0 };
	int error = check_header_hash(bytes, size);

	if (error)
		return error;
	header.codec = bytes[12];
	header.cipher = bytes[13];
	header.kind = bytes[14];
	header.padding = bytes[15];
	header.flags = get32(bytes + 16);
	header.sequence = get64(bytes + 24);
	header.generation = get64(bytes + 32);
	header.first_epoch = get64(bytes + 40);
	header.last_epoch = get64(bytes + 48);
	header.time_ns = get64(bytes + 56);
	memcpy(header.uuid, bytes + 64, sizeof(header.uuid));
	header.stored = get64(bytes + 80);
	header.raw = get64(bytes + 88);
	header.payload_hash = get64(bytes + 96);
	if (!header_is_known(bytes, &header))
		return -EPROTONOSUPPORT;
	if (!sizes_fit(&header) || header.first_epoch > header.last_epoch)
		return -EBADMSG;
	if (header.cipher && !decode_cipher(bytes, &header))
		return -EBADMSG;
	*out = header;
	return 0;
}

int64_t frame_peek_size(const void *source, size_t size)
{
	const unsigned char *bytes = source;
	size_t header_size;
	uint64_t stored;

	if (size < FRAME_HEADER_SIZE || memcmp(bytes, FRAME_MAGIC, FRAME_MAGIC_SIZE))
		return -EBADMSG;
	if (get16(bytes + 8) != FRAME_VERSION)
		return -EPROTONOSUPPORT;
	header_size = get16(bytes + 10);
	stored = get64(bytes + 80);
	if (header_size != (bytes[13] ? FRAME_HEADER_CIPHER_SIZE : FRAME_HEADER_SIZE) ||
	    stored % 8 || stored > INT64_MAX / 2)
		return -EBADMSG;
	return (int64_t)(header_size + stored);
}

bool frame_continues(const struct frame_header *last, const struct frame_header *next)
{
	if (last->cipher != next->cipher)
		return false;
	if (!next->cipher)
		return true;
	if (memcmp(last->salt, next->salt, sizeof(next->salt)))
		return !next->counter;
	return next->counter == last->counter + 1;
}

int frame_decode(const void *source, size_t size, struct frame_header *out,
		 const unsigned char **payload)
{
	const unsigned char *bytes = source;
	struct frame_header header;
	int error = frame_decode_header(bytes, size, &header);

	if (error)
		return error;
	bytes += frame_header_size(&header);
	if (header.stored > size - frame_header_size(&header))
		return -EBADMSG;
	if (frame_hash(bytes, header.stored) != header.payload_hash)
		return -EBADMSG;
	*out = header;
	*payload = bytes;
	return 0;
}

/* ----------------------------------------------------------- encoding -- */

#define IMAGE_BODY 16u
#define BASE_BODY 56u
#define GENERATION_BODY 24u
#define LAYOUT_BODY 48u
#define DROP_BODY 8u
#define TRANSACTION_BODY 16u

static size_t round8(size_t size)
{
	return (size + 7) & ~(size_t)7;
}

size_t record_transaction_size(size_t runs_count, size_t bytes_count)
{
	if (runs_count > SIZE_MAX / 64 || bytes_count > SIZE_MAX / 4)
		return 0;
	return RECORD_HEAD_SIZE + TRANSACTION_BODY + runs_count * sizeof(struct hac_run) +
	       round8(bytes_count);
}

static const char *layout_type(const struct layout *layout)
{
	return layout->type ? layout->type : "bytes";
}

static size_t layout_size(const struct layout *layout)
{
	size_t size = RECORD_HEAD_SIZE + LAYOUT_BODY;

	size += strlen(layout->name) + 1 + strlen(layout_type(layout)) + 1;
	if (layout->fingerprint)
		size += strlen(layout->fingerprint) + 1;
	return round8(size);
}

size_t record_size(const struct record *record)
{
	switch (record->kind) {
	case RECORD_IMAGE:
		return RECORD_HEAD_SIZE + IMAGE_BODY;
	case RECORD_BASE:
		return RECORD_HEAD_SIZE + BASE_BODY;
	case RECORD_GENERATION:
		return RECORD_HEAD_SIZE + GENERATION_BODY;
	case RECORD_LAYOUT:
		return layout_size(&record->layout);
	case RECORD_DROP:
		return RECORD_HEAD_SIZE + DROP_BODY;
	default:
		return record_transaction_size(record->transaction.runs_count,
					       record->transaction.bytes_count);
	}
}

static void encode_base(unsigned char *body, const struct record_base *base)
{
	put64(body, base->generation);
	put64(body + 8, base->parent);
	put64(body + 16, base->branch_epoch);
	put64(body + 24, base->last_epoch);
	put64(body + 32, base->first_segment);
	put64(body + 40, base->first_sequence);
	put32(body + 48, base->next_area_id);
	put32(body + 52, base->areas);
}

static unsigned char *put_string(unsigned char *at, const char *string)
{
	size_t size = strlen(string) + 1;

	memcpy(at, string, size);
	return at + size;
}

static void encode_layout(unsigned char *body, const struct layout *layout)
{
	unsigned char *at = body + LAYOUT_BODY;

	put32(body, layout->id);
	put32(body + 4, layout->flags);
	put64(body + 8, layout->size);
	put64(body + 16, layout->capacity < layout->size ? layout->size : layout->capacity);
	put64(body + 24, layout->address);
	put32(body + 32, (uint32_t)strlen(layout->name));
	put32(body + 36, (uint32_t)strlen(layout_type(layout)));
	put32(body + 40, layout->fingerprint ? (uint32_t)strlen(layout->fingerprint) : NO_STRING);
	put32(body + 44, 0);
	at = put_string(at, layout->name);
	at = put_string(at, layout_type(layout));
	if (layout->fingerprint)
		put_string(at, layout->fingerprint);
}

static void encode_transaction(unsigned char *body, const struct record_transaction *transaction)
{
	size_t runs_size = transaction->runs_count * sizeof(struct hac_run);

	put64(body, transaction->runs_count);
	put64(body + 8, transaction->bytes_count);
	if (runs_size)
		memcpy(body + TRANSACTION_BODY, transaction->runs, runs_size);
	if (transaction->bytes_count)
		memcpy(body + TRANSACTION_BODY + runs_size, transaction->bytes,
		       transaction->bytes_count);
}

size_t record_encode(unsigned char *out, const struct record *record)
{
	size_t size = record_size(record);
	unsigned char *body = out + RECORD_HEAD_SIZE;

	/* The padding, if there is any, lies in the last word. */
	memset(out + size - 8, 0, 8);
	put32(out, record->kind);
	put32(out + 4, record->flags);
	put64(out + 8, size);
	put64(out + 16, record->epoch);
	switch (record->kind) {
	case RECORD_IMAGE:
		put32(body, record->image.version);
		put32(body + 4, record->image.byte_order);
		put32(body + 8, record->image.page_size);
		put32(body + 12, record->image.word_size);
		break;
	case RECORD_BASE:
		encode_base(body, &record->base);
		break;
	case RECORD_GENERATION:
		put64(body, record->generation.generation);
		put64(body + 8, record->generation.parent);
		put64(body + 16, record->generation.branch_epoch);
		break;
	case RECORD_LAYOUT:
		encode_layout(body, &record->layout);
		break;
	case RECORD_DROP:
		put32(body, record->drop);
		put32(body + 4, 0);
		break;
	default:
		encode_transaction(body, &record->transaction);
	}
	return size;
}

/* ----------------------------------------------------------- decoding -- */

static int decode_image(const unsigned char *body, size_t size, struct record_image *out)
{
	if (size != IMAGE_BODY)
		return -EBADMSG;
	out->version = get32(body);
	out->byte_order = get32(body + 4);
	out->page_size = get32(body + 8);
	out->word_size = get32(body + 12);
	return 0;
}

static int decode_base(const unsigned char *body, size_t size, struct record_base *out)
{
	if (size != BASE_BODY)
		return -EBADMSG;
	out->generation = get64(body);
	out->parent = get64(body + 8);
	out->branch_epoch = get64(body + 16);
	out->last_epoch = get64(body + 24);
	out->first_segment = get64(body + 32);
	out->first_sequence = get64(body + 40);
	out->next_area_id = get32(body + 48);
	out->areas = get32(body + 52);
	return 0;
}

static int decode_generation(const unsigned char *body, size_t size, uint64_t epoch,
			     struct record_generation *out)
{
	if (size != GENERATION_BODY)
		return -EBADMSG;
	out->generation = get64(body);
	out->parent = get64(body + 8);
	out->branch_epoch = get64(body + 16);
	if (out->branch_epoch != epoch || out->parent >= out->generation)
		return -EBADMSG;
	return 0;
}

/* Takes a string of `length` and its '\0' off the front of *at. */
static int take_string(const unsigned char **at, size_t *size, size_t length, char **out)
{
	if (length > STRING_MAX_BYTES || length + 1 > *size || (*at)[length] ||
	    memchr(*at, '\0', length))
		return -EBADMSG;
	*out = (char *)*at;
	*at += length + 1;
	*size -= length + 1;
	return 0;
}

static int decode_layout(const unsigned char *body, size_t size, struct layout *out)
{
	const unsigned char *at = body + LAYOUT_BODY;
	uint32_t name, fingerprint;

	if (size < LAYOUT_BODY)
		return -EBADMSG;
	size -= LAYOUT_BODY;
	out->id = get32(body);
	out->flags = get32(body + 4);
	out->size = get64(body + 8);
	out->capacity = get64(body + 16);
	out->address = get64(body + 24);
	out->fingerprint = NULL;
	name = get32(body + 32);
	fingerprint = get32(body + 40);
	if (!name || name > NAME_MAX_BYTES || get32(body + 44) ||
	    take_string(&at, &size, name, &out->name) ||
	    take_string(&at, &size, get32(body + 36), &out->type))
		return -EBADMSG;
	if (fingerprint != NO_STRING && take_string(&at, &size, fingerprint, &out->fingerprint))
		return -EBADMSG;
	if (!out->size || out->size > out->capacity || out->capacity > (uint64_t)1 << 47)
		return -EBADMSG;
	return size < 8 && all_zero(at, size) ? 0 : -EBADMSG;
}

static int decode_drop(const unsigned char *body, size_t size, uint32_t *out)
{
	if (size != DROP_BODY || get32(body + 4))
		return -EBADMSG;
	*out = get32(body);
	return 0;
}

static int decode_transaction(const unsigned char *body, size_t size,
			      struct record_transaction *out)
{
	uint64_t count, bytes, sum = 0;

	if (size < TRANSACTION_BODY)
		return -EBADMSG;
	size -= TRANSACTION_BODY;
	count = get64(body);
	bytes = get64(body + 8);
	if (count > size / sizeof(struct hac_run))
		return -EBADMSG;
	size -= count * sizeof(struct hac_run);
	if (bytes > size || size - bytes >= 8)
		return -EBADMSG;
	out->runs = (const void *)(body + TRANSACTION_BODY);
	out->runs_count = count;
	out->bytes = body + TRANSACTION_BODY + count * sizeof(struct hac_run);
	out->bytes_count = bytes;
	/* No overflow: a count that fits in memory, of 32-bit lengths. */
	for (size_t i = 0; i < count; i++)
		sum += out->runs[i].length;
	return sum == bytes && all_zero(out->bytes + bytes, size - bytes) ? 0 : -EBADMSG;
}

static int decode_body(const unsigned char *body, size_t size, struct record *record)
{
	switch (record->kind) {
	case RECORD_IMAGE:
		return record->epoch ? -EBADMSG : decode_image(body, size, &record->image);
	case RECORD_BASE:
		return decode_base(body, size, &record->base);
	case RECORD_GENERATION:
		return decode_generation(body, size, record->epoch, &record->generation);
	case RECORD_LAYOUT:
		return decode_layout(body, size, &record->layout);
	case RECORD_DROP:
		return decode_drop(body, size, &record->drop);
	case RECORD_TRANSACTION:
		return decode_transaction(body, size, &record->transaction);
	default:
		return -EBADMSG;
	}
}

size_t record_peek(const unsigned char *at, struct record *out)
{
	out->kind = get32(at);
	out->flags = get32(at + 4);
	out->epoch = get64(at + 16);
	return get64(at + 8);
}

int record_decode(const unsigned char *payload, size_t size, size_t *position, struct record *out)
{
	const unsigned char *head;
	size_t remainder;
	struct record record;
	uint32_t flags;
	uint64_t length;

	if (*position == size)
		return 0;
	if (*position > size || size - *position < RECORD_HEAD_SIZE)
		return -EBADMSG;
	remainder = size - *position;
	head = payload + *position;
	memset(&record, 0, sizeof(record));
	record.kind = get32(head);
	record.flags = get32(head + 4);
	record.epoch = get64(head + 16);
	length = get64(head + 8);
	flags = record.kind >= RECORD_LAYOUT ? RECORD_FIRST | RECORD_PARTIAL : 0;
	if (length < RECORD_HEAD_SIZE || length > remainder || length % 8 || record.flags & ~flags)
		return -EBADMSG;
	if (decode_body(head + RECORD_HEAD_SIZE, length - RECORD_HEAD_SIZE, &record))
		return -EBADMSG;
	*position += length;
	*out = record;
	return 1;
}
