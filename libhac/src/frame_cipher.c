// SPDX-License-Identifier: MIT
#include "frame_cipher.h"

#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#ifdef HAVE_LIBCRYPTO
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#define CAN_ENCRYPT true
#else
#define CAN_ENCRYPT false
#endif

#define KEY_DIGITS 64
#define ENVIRONMENT "env:"

/* ---------------------------------------------------------------- key -- */

void frame_key_wipe(struct frame_key *key)
{
	explicit_bzero(key, sizeof(*key));
}

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* The first line: as many characters as are there, at most one more than there
 * should be. */
static int parse_key(const char *line, size_t size, const char *source, struct frame_key *out)
{
	size_t length = strnlen(line, size);

	for (size_t i = 0; i < length; i++)
		if (line[i] == '\n')
			length = i;
	if (length != KEY_DIGITS)
		return hac_fail(EINVAL,
				"key_file %s: the first line must be a key of exactly %d "
				"hexadecimal digits",
				source, KEY_DIGITS);
	for (size_t i = 0; i < KEY_DIGITS; i += 2) {
		int high = digit_of(line[i]), low = digit_of(line[i + 1]);

		if (high < 0 || low < 0) {
			frame_key_wipe(out);
			return hac_fail(EINVAL,
					"key_file %s: what is there instead of a key is not made of "
					"hexadecimal digits",
					source);
		}
		out->bytes[i / 2] = (unsigned char)(high << 4 | low);
	}
	out->present = true;
	return 0;
}

/* A name for details. Somebody may have taken the key itself for it. */
static const char *shown(const char *key_file)
{
	const char *name = key_file;
	size_t digits = 0;

	if (!strncmp(name, ENVIRONMENT, strlen(ENVIRONMENT)))
		name += strlen(ENVIRONMENT);
	while (digit_of(name[digits]) >= 0)
		digits++;
	return digits < KEY_DIGITS / 2 ? key_file : "(that looks like a key; name a file of one)";
}

static int load_environment(const char *key_file, struct frame_key *out)
{
	const char *value = getenv(key_file + strlen(ENVIRONMENT));

	if (!value)
		return hac_fail(EINVAL, "key_file %s: there is no such environment variable",
				shown(key_file));
	return parse_key(value, KEY_DIGITS + 1, shown(key_file), out);
}

static int load_file(const char *key_file, struct frame_key *out)
{
	char line[KEY_DIGITS + 1];
	int fd = open(key_file, O_RDONLY | O_CLOEXEC | O_NOCTTY), error = 0;
	size_t filled = 0;

	while (fd >= 0 && filled < sizeof(line)) {
		ssize_t got = read(fd, line + filled, sizeof(line) - filled);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			error = errno;
		if (got <= 0)
			break;
		filled += (size_t)got;
	}
	if (fd < 0)
		error = errno;
	else
		close(fd);
	error = error ? hac_fail(EINVAL, "key_file %s cannot be read: %s",
				 shown(key_file), strerror(error)) :
			parse_key(line, filled, shown(key_file), out);
	explicit_bzero(line, sizeof(line));
	return error;
}

int frame_key_load(const char *key_file, struct frame_key *out)
{
	struct frame_key key = { 0 };
	int error = 0;

	if (!key_file)
		key_file = getenv("HAC_KEY_FILE");
	if (key_file)
		error = strncmp(key_file, ENVIRONMENT, strlen(ENVIRONMENT)) ?
				load_file(key_file, &key) :
				load_environment(key_file, &key);
	if (!error && key_file && !CAN_ENCRYPT)
		error = hac_fail(EOPNOTSUPP,
				 "key_file %s: this libhac was built without OpenSSL, it cannot "
				 "encrypt",
				 shown(key_file));
	if (!error)
		*out = key;
	frame_key_wipe(&key);
	return error;
}

/* ------------------------------------------------------------- cipher -- */

#ifdef HAVE_LIBCRYPTO
#define AAD_BEFORE 96u /* up to the payload's hash ... */
#define AAD_BEHIND 104u
#define AAD_END 160u /* ... and from there to the tag */
#define CHUNK ((uint64_t)1 << 30)
/* What GCM can take under one nonce. */
#define PAYLOAD_MAX (((uint64_t)1 << 36) - 32)

struct frame_cipher {
	const struct frame_key *key;
	EVP_CIPHER_CTX *context;
	uint64_t counter; /* of the next frame, sealing */

	/* What the data key in the context is for. */
	bool keyed;
	unsigned char uuid[16];
	uint64_t generation;
	unsigned char salt[16];
	unsigned char key_check[8];
};

int frame_cipher_create(const struct frame_key *key, struct frame_cipher **out)
{
	struct frame_cipher *cipher = calloc(1, sizeof(*cipher));

	if (!cipher)
		return -ENOMEM;
	cipher->key = key;
	cipher->context = EVP_CIPHER_CTX_new();
	if (!cipher->context) {
		free(cipher);
		return -ENOMEM;
	}
	*out = cipher;
	return 0;
}

void frame_cipher_free(struct frame_cipher *cipher)
{
	if (!cipher)
		return;
	EVP_CIPHER_CTX_free(cipher->context);
	OPENSSL_cleanse(cipher, sizeof(*cipher));
	free(cipher);
}

static bool hkdf(const struct frame_cipher *cipher, const unsigned char *info, size_t info_size,
		 unsigned char *out, size_t size)
{
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);
	size_t length = size;
	bool done = context && EVP_PKEY_derive_init(context) > 0 &&
		    EVP_PKEY_CTX_set_hkdf_md(context, EVP_sha256()) > 0 &&
		    EVP_PKEY_CTX_set1_hkdf_salt(context, cipher->salt, sizeof(cipher->salt)) > 0 &&
		    EVP_PKEY_CTX_set1_hkdf_key(context, cipher->key->bytes,
					       sizeof(cipher->key->bytes)) > 0 &&
		    EVP_PKEY_CTX_add1_hkdf_info(context, info, (int)info_size) > 0 &&
		    EVP_PKEY_derive(context, out, &length) > 0 && length == size;

	EVP_PKEY_CTX_free(context);
	return done;
}

/* The data key for this header and `salt`, into the context. */
static bool derive(struct frame_cipher *cipher, const struct frame_header *header,
		   const unsigned char salt[16], bool seal)
{
	static const char data[] = "hac frame", check[] = "hac check";
	unsigned char info[sizeof(data) - 1 + 16 + 8], key[32];
	bool done;

	cipher->keyed = false;
	memcpy(cipher->uuid, header->uuid, sizeof(cipher->uuid));
	cipher->generation = header->generation;
	memcpy(cipher->salt, salt, sizeof(cipher->salt));
	memcpy(info, data, sizeof(data) - 1);
	memcpy(info + sizeof(data) - 1, header->uuid, 16);
	for (int i = 0; i < 8; i++)
		info[sizeof(info) - 8 + i] = (unsigned char)(header->generation >> 8 * i);
	done = hkdf(cipher, info, sizeof(info), key, sizeof(key)) &&
	       hkdf(cipher, (const void *)check, sizeof(check) - 1, cipher->key_check,
		    sizeof(cipher->key_check)) &&
	       EVP_CipherInit_ex(cipher->context, EVP_aes_256_gcm(), NULL, key, NULL, seal) > 0;
	OPENSSL_cleanse(key, sizeof(key));
	cipher->keyed = done;
	return done;
}

static bool is_keyed_for(const struct frame_cipher *cipher, const struct frame_header *header)
{
	return cipher->keyed && cipher->generation == header->generation &&
	       !memcmp(cipher->uuid, header->uuid, sizeof(cipher->uuid));
}

/* Nonce, associated data and payload, one way or the other. */
static bool run_cipher(struct frame_cipher *cipher, const struct frame_header *header,
		       const unsigned char *from, unsigned char *to, bool seal)
{
	unsigned char bytes[FRAME_HEADER_CIPHER_SIZE];
	int length;

	frame_encode_header(bytes, header);
	if (EVP_CipherInit_ex(cipher->context, NULL, NULL, NULL, bytes + 144, seal) <= 0 ||
	    EVP_CipherUpdate(cipher->context, NULL, &length, bytes, AAD_BEFORE) <= 0 ||
	    EVP_CipherUpdate(cipher->context, NULL, &length, bytes + AAD_BEHIND,
			     AAD_END - AAD_BEHIND) <= 0)
		return false;
	for (uint64_t at = 0; at < header->stored; at += CHUNK) {
		uint64_t left = header->stored - at;
		int size = (int)(left < CHUNK ? left : CHUNK);

		if (EVP_CipherUpdate(cipher->context, to + at, &length, from + at, size) <= 0 ||
		    length != size)
			return false;
	}
	return true;
}

static bool draw(unsigned char salt[16])
{
	ssize_t got;

	do
		got = getrandom(salt, 16, 0);
	while (got < 0 && errno == EINTR);
	return got == 16;
}

static bool seal(struct frame_cipher *cipher, struct frame_header *header, unsigned char *payload)
{
	unsigned char last[16], salt[16];
	int length;

	if (!is_keyed_for(cipher, header)) {
		if (!draw(salt) || !derive(cipher, header, salt, true))
			return false;
		cipher->counter = 0;
	}
	header->cipher = FRAME_CIPHER_AES;
	memcpy(header->salt, cipher->salt, sizeof(header->salt));
	memcpy(header->key_check, cipher->key_check, sizeof(header->key_check));
	/* Counted whatever comes of it: a nonce is used up by the attempt. */
	header->counter = cipher->counter++;
	return run_cipher(cipher, header, payload, payload, true) &&
	       EVP_CipherFinal_ex(cipher->context, last, &length) > 0 &&
	       EVP_CIPHER_CTX_ctrl(cipher->context, EVP_CTRL_AEAD_GET_TAG, sizeof(header->tag),
				   header->tag) > 0;
}

int frame_cipher_seal(struct frame_cipher *cipher, struct frame_header *header,
		      unsigned char *payload)
{
	bool done;

	if (header->stored > PAYLOAD_MAX)
		return -EFBIG;
	/* The queue of errors is the thread's: others look at it, too. */
	ERR_set_mark();
	done = seal(cipher, header, payload);
	ERR_pop_to_mark();
	return done ? 0 : -EIO;
}

static int open_sealed(struct frame_cipher *cipher, const struct frame_header *header,
		       const unsigned char *stored, unsigned char *out)
{
	unsigned char last[16], tag[16];
	int length;

	if ((!is_keyed_for(cipher, header) ||
	     memcmp(cipher->salt, header->salt, sizeof(cipher->salt))) &&
	    !derive(cipher, header, header->salt, false))
		return -ENOMEM;
	if (CRYPTO_memcmp(cipher->key_check, header->key_check, sizeof(cipher->key_check)))
		return -EKEYREJECTED;
	memcpy(tag, header->tag, sizeof(tag));
	if (!run_cipher(cipher, header, stored, out, false) ||
	    EVP_CIPHER_CTX_ctrl(cipher->context, EVP_CTRL_AEAD_SET_TAG, sizeof(tag), tag) <= 0 ||
	    EVP_CipherFinal_ex(cipher->context, last, &length) <= 0)
		return -EBADMSG;
	return 0;
}

int frame_cipher_open(struct frame_cipher *cipher, const struct frame_header *header,
		      const unsigned char *stored, unsigned char *out)
{
	int error;

	if (header->stored > PAYLOAD_MAX)
		return -EBADMSG;
	ERR_set_mark();
	error = open_sealed(cipher, header, stored, out);
	ERR_pop_to_mark();
	return error;
}

#else

int frame_cipher_create(const struct frame_key *key, struct frame_cipher **out)
{
	(void)key, (void)out;
	return -EOPNOTSUPP;
}

void frame_cipher_free(struct frame_cipher *cipher)
{
	(void)cipher;
}

int frame_cipher_seal(struct frame_cipher *cipher, struct frame_header *header,
		      unsigned char *payload)
{
	(void)cipher, (void)header, (void)payload;
	return -EOPNOTSUPP;
}

int frame_cipher_open(struct frame_cipher *cipher, const struct frame_header *header,
		      const unsigned char *stored, unsigned char *out)
{
	(void)cipher, (void)header, (void)stored, (void)out;
	return -EOPNOTSUPP;
}

#endif
