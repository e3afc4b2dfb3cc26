/* SPDX-License-Identifier: MIT */
/*
 * hac.h - application checkpointing: transactions over critical data areas.
 *
 * A program maps or adopts critical data areas (areas, for short), brackets
 * its updates in transactions, and libhac finds out exactly what changed. A
 * transaction that ends takes the next epoch and its delta goes to the image
 * on disk; one that is aborted leaves every byte as it was.
 *
 *	hac *h;
 *	void *p;
 *
 *	if (hac_open("counters.hac", NULL, &h) ||
 *	    hac_map(h, "counters", 4096, NULL, &p))
 *		errx(1, "%s", hac_error_detail());
 *	hac_begin(h);
 *	((uint64_t *)p)[0]++;
 *	hac_end(h, NULL, NULL);
 *	hac_close(h);
 *
 * Rules that hold for every call
 * ------------------------------
 * Errors: 0 or a positive result is success, a negative value is -errno. On
 *   failure the outputs are untouched and the state is what it was before
 *   the call, unless the call says otherwise. hac_error_detail() then says
 *   what, where and what to do. The numbers that libhac gives a meaning:
 *     -EINVAL      an argument is wrong (the detail names it)
 *     -EBADF       the context is closed
 *     -ECHILD      the context belongs to the process that forked this one
 *     -ENODEV      the engine is not available here (the detail has the reason)
 *     -EBUSY       a transaction is open, or an area of that name is
 *     -EPROTO      the call is not legal at this stage of the transaction
 *     -EOPNOTSUPP  the context or area was not made for this (no twin, ...)
 *     -EREMCHG     strict context: bytes changed outside a transaction
 *     -EPROTOTYPE  the layout differs from the image's (both are in the detail)
 *     -EUSERS      the image is open in another process (its pid is named)
 *     -EACCES      the image is encrypted, and the key is missing or another one;
 *                  or it is not, and there is a key; or what open(2) says
 *     -EBADMSG     the image is damaged (file, offset and epoch are named)
 *     -ENOBUFS     the caller's delta buffers are too small (counts are set)
 *     -EXFULL      the ring is full and the context does not wait for it
 *     -EUCLEAN    in doubt: a level was waited for and not reached
 *     -ESTALE      fenced: a newer generation exists
 *   and those of the system: -ENOMEM, -ENOSPC, -EFBIG, -EIO, -EROFS, ...
 * Threads: every call may be made from any thread; calls on one context are
 *   serialised inside, except hac_wait(), which blocks nobody. A transaction
 *   belongs to its context, not to a thread.
 * Fork: a child reads its own copy of the areas, its writes change nothing in
 *   the parent, and its calls on the parent's contexts answer -ECHILD. The
 *   parent goes on. Covered: fork() and what is built on it, and vfork().
 * Signals: no call is async-signal-safe. The engines that protect pages
 *   ("pt", "emul") handle SIGSEGV inside the areas and pass every other one
 *   on to the handler that was there before. A thread that blocks SIGSEGV, or
 *   whose stack lies in such an area while it has no sigaltstack(2), must not
 *   write to their areas.
 * Environment: HAC_DISABLE=uffd,emul makes engines unavailable. HAC_ENGINE=emul
 *   gives every area that engine, after the one that it would get has been found
 *   to be available; "auto" is refused. HAC_ADVISE=FILE appends a line of JSON to
 *   FILE for each context that is closed or left to exit(3): its hac_stats and
 *   areas, for `python -m microbench advise`. Contexts that are read-only or
 *   standbys are left out, and in a child those of its parent; what is killed
 *   writes nothing. A program with set-user-ID does not look at HAC_ADVISE.
 */
#ifndef HAC_H
#define HAC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define HAC_MUST_CHECK __attribute__((warn_unused_result))
#define HAC_API __attribute__((visibility("default")))
#else
#define HAC_MUST_CHECK
#define HAC_API
#endif

/* An open context: areas, transactions and, with a path, an image. Opaque. */
typedef struct hac hac;

/* ------------------------------------------------------------- levels -- */

/* How safe an ended transaction is, in ascending order. */
enum hac_level_kind {
	HAC_LEVEL_DEFAULT = 0, /* the context's level */
	HAC_LEVEL_RING = 1,    /* in the queue to the drainer */
	HAC_LEVEL_JOURNAL = 2, /* in the journal, synced: survives power loss */
	HAC_LEVEL_BACKUP = 3,  /* acknowledged by `count` backups */
};

struct hac_level {
	uint32_t kind;  /* enum hac_level_kind */
	uint32_t count; /* HAC_LEVEL_BACKUP: how many backups; otherwise 0 */
};

/* ------------------------------------------------------------ context -- */

#define HAC_NO_TWIN 0x01u   /* no committed copy: page deltas, no abort */
#define HAC_STRICT 0x02u    /* writes outside a transaction are errors */
#define HAC_READONLY 0x04u  /* look at an image; nothing is locked or written */
#define HAC_PARTIAL 0x08u   /* begin although the image has unclaimed areas */
#define HAC_FAIL_FULL 0x10u /* a full ring fails with -EXFULL, does not wait */
/*
 * Writes outside a transaction join the next one: they end with it, and an abort
 * undoes them, too. For programs that make none: begin need not look for them,
 * which under the engines that compare or scan is half of a transaction's cost.
 */
#define HAC_JOIN_STRAYS 0x20u

/* How frames are compressed. A frame of less than 256 bytes never is. */
enum hac_codec {
	HAC_CODEC_NONE = 0,
	HAC_CODEC_ZSTD = 1, /* zstd at level 1 */
	HAC_CODEC_LZ4 = 2,
};

struct hac_replication; /* below */

/* All zero (but for size) is the default of everything. */
struct hac_options {
	size_t size;            /* sizeof(struct hac_options) */
	uint32_t flags;         /* HAC_NO_TWIN | ... ; unknown flags: -EINVAL */
	int32_t flush_ms;       /* 0: sync as soon as there is something; > 0: a
				 * frame gathers the transactions of so many ms */
	const char *engine;     /* NULL or "auto", or a name from hac_engines() */
	struct hac_level level; /* default: JOURNAL with a path, RING without */
	uint64_t at;            /* 0: newest; else the state as epoch `at` left it */
	size_t ring_bytes;      /* 0: 256 KiB, with replication 1 MiB; rounded up to a power of
				 * two */
	uint32_t codec;         /* enum hac_codec, of what is written from now on */
	uint32_t reserved;      /* 0 */
	const char *key_file;   /* a file whose first line is a key, 64 hexadecimal
				 * digits (AES-256-GCM); "env:NAME" takes it from the
				 * environment. NULL: what the environment variable
				 * HAC_KEY_FILE says in the same way, and without it
				 * frames are not encrypted. With a key the whole
				 * image must be encrypted with it; see
				 * hac_compact_image() for how one becomes that */
	const struct hac_replication *replication; /* NULL: none, no helper */
};

/*
 * Open the image at `path` (a directory; created when absent), or with path
 * NULL a context without an image: tracking, deltas and rollback only.
 *
 * Opening for writing locks the image, cuts a damaged last frame (see
 * hac_get_info), and starts a new generation. Areas come back when hac_map()
 * or hac_adopt() claims them by name. `options` may be NULL; nothing is kept
 * of it or of `path`. The context lives until hac_close(); its memory stays
 * valid after that, so that later calls answer -EBADF.
 *
 * Errors: -EINVAL, -ENODEV, -EUSERS, -EBADMSG, -EACCES, -EOPNOTSUPP (a codec or
 * cipher that libhac was built without), -EROFS (open with HAC_READONLY
 * instead), -ENOENT (read-only and absent), and those of open(2).
 */
HAC_API HAC_MUST_CHECK int hac_open(const char *path, const struct hac_options *options, hac **out);

/*
 * Close. Writes made since the last transaction are ended as an epoch of their
 * own; an open transaction is aborted. Waits until the journal has everything,
 * synced. The areas' memory stays mapped and readable, write-protected, until
 * hac_unmap(); a write to it ends the process with a message that names the
 * area. Memory that was adopted is handed back writable.
 *
 * Errors: -EREMCHG (strict, and bytes changed since the last transaction: the
 * context stays open), -EUCLEAN and -EIO (closed, but the journal did not
 * take everything), -ESTALE (closed, but fenced: what was written since the last
 * transaction is no epoch), -EBADF, -ECHILD.
 */
HAC_API int hac_close(hac *h);

/* What a context is. */
struct hac_info {
	size_t size;            /* IN sizeof(struct hac_info) */
	uint64_t epoch;         /* the last ended epoch, 0 at first */
	uint64_t generation;    /* of this opening, from 1 on; 0 without a path */
	uint64_t parent;        /* the generation it branched from, or 0 */
	uint64_t branch_epoch;  /* and the epoch at which it did */
	uint64_t durable;       /* the last epoch known to be synced */
	uint64_t dropped_bytes; /* cut off the journal's end when opened */
	uint64_t dropped_epoch; /* the first epoch that was in them, or 0 */
	uint32_t areas;         /* claimed areas */
	uint32_t unclaimed;     /* areas of the image that nobody has claimed */
	uint32_t stage;         /* 0 idle, 1 open, 2 prepared, 3 in doubt */
	uint32_t flags;         /* those of struct hac_options */
	uint32_t role;          /* HAC_PRIMARY, or HAC_STANDBY; 0 without replication */
	uint32_t helper;        /* pid of the helper, or 0 while there is none */
	char engine[64];        /* "uffd", or "compare,uffd" where areas differ */
	char reason[192];       /* why that engine */
};
HAC_API HAC_MUST_CHECK int hac_get_info(hac *h, struct hac_info *info);

/* What a context did since it was opened. */
struct hac_stats {
	size_t size;           /* IN sizeof(struct hac_stats) */
	uint64_t transactions; /* epochs ended, strays included */
	uint64_t aborts;
	uint64_t strays; /* epochs made of writes outside a transaction */
	uint64_t faults; /* write faults taken by libhac's handler */
	/* Sums over the transactions, strays excepted: */
	uint64_t dirty_pages;   /* / (transactions - strays) = PPT */
	uint64_t changed_words; /* 8-byte words in deltas (page form: none) */
	uint64_t delta_bytes;
	uint64_t writes;    /* single writes seen; UINT64_MAX: the engine sees
				 * none. writes / dirty_pages = WPP */
	uint64_t fallbacks; /* pages that an engine which sees single writes
				 * opened, at a store that it does not carry out or
				 * for hac_will_write(), and edges of adopted memory:
				 * not all writes to them are in `writes` */
	uint64_t begin_ns;  /* time spent in begin, and in prepare + finish */
	uint64_t end_ns;
};
HAC_API HAC_MUST_CHECK int hac_get_stats(hac *h, struct hac_stats *stats);

/* -------------------------------------------------------------- areas -- */

#define HAC_POINTERS 0x01u /* restore at the same address or refuse */
#define HAC_NO_KERNEL_WRITES \
	0x02u /* "auto" may pick an engine under which
				    * read(2) into the area needs
				    * hac_will_write() */

struct hac_area_options {
	size_t size; /* sizeof(struct hac_area_options) */
	uint32_t flags;
	uint32_t reserved;       /* 0 */
	const char *type;        /* stored and compared; NULL = "bytes" */
	const char *fingerprint; /* of an adopted object; stored and compared */
	const char *engine;      /* NULL: the context's */
	size_t capacity;         /* bytes of address space reserved; 0: size */
};

/*
 * Map an area of `size` bytes of private memory, zeroed, or holding what the
 * image has under `name`. Names are 1 to 255 bytes of UTF-8 without '\0'. The
 * address is page-aligned and never changes. Until the first hac_begin() or
 * hac_close() after its creation the caller may fill it in; that takes an
 * epoch of its own, in strict contexts too. (Created inside a transaction, what
 * is filled in belongs to that, and an abort leaves the area, zeroed.)
 *
 * Where the image holds the area with another size, the image's wins if it
 * is the larger one and `capacity` allows (growth is kept); any other
 * difference of size, type, fingerprint or (HAC_POINTERS) address is refused.
 *
 * Errors: -EINVAL (size 0, name), -EBUSY (name already claimed here),
 * -EPROTOTYPE, -ENODEV, -EROFS (read-only context without that area), -ENOMEM.
 */
HAC_API HAC_MUST_CHECK int hac_map(hac *h, const char *name, size_t size,
				   const struct hac_area_options *options, void **address);

/*
 * Make memory that the caller owns an area: statics, a section of a loaded
 * object, any writable buffer. It must stay mapped until hac_close() or
 * hac_drop(). The first and last partial page are never protected, but
 * compared, so neighbours are not disturbed. If the image holds `name`, its
 * bytes overwrite the range. Capacity is not for adopted memory.
 *
 * Errors: as hac_map(), and -EINVAL where the range is not readable and
 * writable, or overlaps another area of this process.
 */
HAC_API HAC_MUST_CHECK int hac_adopt(hac *h, const char *name, void *address, size_t size,
				     const struct hac_area_options *options);

/*
 * Grow an area to `size` bytes, within its capacity. It does not move; the
 * new bytes are zero. Not undone by abort. Shrinking is -EINVAL.
 */
HAC_API HAC_MUST_CHECK int hac_grow(hac *h, const char *name, size_t size);

/*
 * Forget an area: the next epoch removes it from the image. Its memory stays
 * as after hac_close(). Also drops an area of the image that nobody claimed.
 * Errors: -EPROTO inside a transaction, -ENOENT.
 */
HAC_API HAC_MUST_CHECK int hac_drop(hac *h, const char *name);

/* 1 if the claimed area's bytes came from the image, 0 if it was created;
 * -ENOENT. */
HAC_API HAC_MUST_CHECK int hac_restored(hac *h, const char *name);

/*
 * Unmap the memory of an area that hac_map() made, after hac_close() or
 * hac_drop(). `address` is the one that hac_map() gave. The caller makes sure
 * that nobody looks at it any more. Errors: -EINVAL, -EBUSY (still in use).
 */
HAC_API int hac_unmap(void *address);

struct hac_area_info {
	size_t size;      /* IN sizeof(struct hac_area_info) */
	uint32_t id;      /* the `area` of its runs; never used twice (0: a
			   * standby's, that has not arrived yet) */
	uint32_t flags;   /* of hac_area_options */
	uint32_t claimed; /* 0: in the image, not mapped here */
	uint32_t restored;
	uint32_t adopted;
	uint32_t reserved;
	void *address; /* NULL when unclaimed */
	uint64_t stored_address;
	uint64_t bytes;
	uint64_t capacity;
	const char *name; /* valid until the area is dropped or h is closed */
	const char *type;
	const char *fingerprint; /* NULL: none */
	const char *engine;      /* NULL when unclaimed */
};
/* The index-th area, claimed ones first. -ENOENT past the last. */
HAC_API HAC_MUST_CHECK int hac_get_area(hac *h, uint32_t index, struct hac_area_info *info);

/* ------------------------------------------------------- transactions -- */

/*
 * Stages: idle --begin--> open --prepare--> prepared --finish--> idle.
 * Abort leads from open or prepared to idle. Everything that is written to
 * the areas between begin and end, by whichever thread, is one transaction;
 * writers finish before it ends. A write that races the end is not lost, but
 * may fall in either epoch.
 */

/* A stretch of changed bytes: `length` bytes at `offset` of area `area`. */
struct hac_run {
	uint64_t offset;
	uint32_t length;
	uint32_t area;
};

#define HAC_WORDS 0u /* 8-byte words that differ from the last epoch, merged */
#define HAC_PAGES 1u /* the pages that were written, whole */

#define HAC_RUNS_ONLY 0x01u /* no bytes: for contexts without twin and image */

/*
 * A delta. Runs ascend by area id and offset and do not overlap; the bytes of
 * all runs follow each other in `bytes`, absolute values, so applying a delta
 * twice is harmless.
 *
 * Buffers: with runs_max 0 the delta is lent: runs and bytes point into the
 * context until its next hac_begin(), hac_abort() or hac_close(). Otherwise
 * `runs` has room for runs_max runs and `bytes` for bytes_max bytes, both the
 * caller's. If that does not suffice, the answer is -ENOBUFS, the two counts
 * say what is needed and the transaction is prepared: hac_prepare() again
 * with larger buffers, hac_finish(), or hac_abort().
 */
struct hac_delta {
	size_t size;    /* IN sizeof(struct hac_delta) */
	uint32_t form;  /* IN HAC_WORDS or HAC_PAGES (without a twin, pages
			     * are given, or written words with "emul", "emulxen") */
	uint32_t flags; /* IN 0 or HAC_RUNS_ONLY */
	struct hac_run *runs;
	size_t runs_max;   /* IN */
	size_t runs_count; /* OUT */
	unsigned char *bytes;
	size_t bytes_max;   /* IN */
	size_t bytes_count; /* OUT */
};

/*
 * Begin. If bytes changed since the last transaction, they are first ended as
 * an epoch of their own (strict: -EREMCHG, nothing is begun or lost).
 * Errors: -EBUSY (one is open), -EPROTO (the image has unclaimed areas, or the
 * context is read-only, or a standby), -EUCLEAN (an earlier one is in doubt),
 * -ESTALE (fenced: this context begins no transaction any more; its areas stay
 * as they are), and those of hac_finish() for the epoch of strays.
 */
HAC_API HAC_MUST_CHECK int hac_begin(hac *h);

/*
 * Find out what changed. `delta` may be NULL. Twin, epoch and image are as
 * before; hac_abort() is still possible. A prepared transaction may be
 * prepared again to fetch the same delta. Later writes belong to the next
 * epoch. Errors: -EPROTO (nothing is begun), -ENOBUFS, -ENOMEM.
 */
HAC_API HAC_MUST_CHECK int hac_prepare(hac *h, struct hac_delta *delta);

/*
 * Make the prepared transaction the next epoch: the delta enters the queue and
 * the twin. Does not wait for a level. On every error the transaction stays
 * prepared: try again, or abort.
 * Errors: -EPROTO (not prepared), -EXFULL, -ENOSPC, -EFBIG, -EIO, -ESTALE.
 */
HAC_API HAC_MUST_CHECK int hac_finish(hac *h, uint64_t *epoch);

/*
 * hac_prepare(), hac_finish(), and the wait for the context's level. `delta`
 * and `epoch` may be NULL. Errors: theirs, with the transaction open or
 * prepared as they say; -EUCLEAN: it has ended (epoch is set) but is in doubt.
 */
HAC_API HAC_MUST_CHECK int hac_end(hac *h, struct hac_delta *delta, uint64_t *epoch);

/*
 * hac_end() and hac_begin() in one: the cheapest way round a loop. Since none of
 * the caller's code runs between the two, begin need not look for writes
 * outside a transaction, which is the larger part of its cost. A lent delta is
 * valid until the new transaction is prepared or aborted. Errors: as hac_end(),
 * with the transaction open or prepared; or as hac_begin(), with the epoch set,
 * the transaction ended and none begun.
 */
HAC_API HAC_MUST_CHECK int hac_next(hac *h, struct hac_delta *delta, uint64_t *epoch);

/*
 * Put back every byte of every area as the last epoch left it. Writers must
 * have stopped. Errors: -EPROTO (nothing is begun), -EOPNOTSUPP (no twin; the
 * transaction stays open).
 */
HAC_API int hac_abort(hac *h);

/*
 * Wait until `epoch` has reached `level` (NULL: the context's), for at most
 * `ms` milliseconds (-1: for ever). Blocks no other call.
 * Errors: -EUCLEAN: not reached in time, or the drainer has failed, or we are
 * fenced, or the context was closed; the context begins no transaction until a
 * later hac_wait() for that epoch and level succeeds or the level is found
 * reached; after a failure of the drainer, close and open again. An epoch that
 * had reached the level before is 0, whatever happened since. BACKUP(k) awaits
 * the own journal, too. -EINVAL: an epoch that has not ended, a level that the
 * context does not have.
 */
HAC_API HAC_MUST_CHECK int hac_wait(hac *h, uint64_t epoch, const struct hac_level *level, int ms);

/*
 * Announce that the kernel will write to [address, address + size) on the
 * program's behalf: read(2), recv(2), getrandom(2), ... Needed under "pt",
 * "emul" and "scanxen" for each transaction, harmless under the others. The
 * pages count as written. Errors: -EINVAL (not within one area).
 */
HAC_API HAC_MUST_CHECK int hac_will_write(hac *h, void *address, size_t size);

/* -------------------------------------------------------- replication -- */

enum hac_role {
	HAC_AUTO = 0, /* ask the peers: standby if one is primary, or is ahead */
	HAC_PRIMARY = 1,
	HAC_STANDBY = 2,
};

#define HAC_BACKUPS_MAX 16u

/*
 * With replication a helper process, one for each context, owns the image: it is
 * the drainer, and it sends the journal to backups, or receives it as a standby.
 * It is restarted when it dies, and goes on where the ring stands; when the
 * application dies, it drains the ring and exits, and an opening waits for it.
 * Where five die within ten seconds and none gets ready, the drainer has failed.
 *
 * hac_open() waits until the helper knows its role; its errors are the helper's
 * then: -EIO where it gives none. The helper is a child of the application, in a
 * session of its own, with standard output and error as its only other
 * descriptors: wait(2) for any child sees it, and may take its status away. It
 * is always started in the directory, and with the environment, that hac_open()
 * was called with. Needs Linux 5.4 and memfd_create(2).
 *
 * In a standby hac_map() gives memory that is read-only (a write to it ends the
 * process with a message), and zero if the image has no such area yet: it is
 * filled in when one arrives, and is a new area, to be filled in by the caller,
 * if none has when the context becomes primary. The size may grow up to
 * `capacity`, as the primary's does. hac_adopt() is possible, too: such memory is
 * not protected, and overwritten as it moves. Transactions, hac_grow(),
 * hac_drop(), hac_will_write() and hac_compact() answer -EPROTO; hac_wait() for
 * an epoch that the areas show is 0.
 */
struct hac_replication {
	size_t size;   /* sizeof(struct hac_replication) */
	uint32_t role; /* enum hac_role */
	uint32_t reserved;
	/* The program of the helper and its first arguments, ended by NULL; NULL
	 * is { "hac", "helper", NULL }, looked for on PATH. */
	const char *const *command;
	/* Further ones, ended by NULL; NULL is none: --listen, --peer, ... See
	 * hac-helper(1). */
	const char *const *arguments;
};

/*
 * A standby's areas are read-only and stay as they are until this call, or
 * hac_wait_primary(), moves them to the newest transaction that is safe in this
 * machine's journal: by whole transactions. `epoch` (may be NULL) is the epoch
 * that they show then. An area that was mapped before the primary had it is zero
 * until it arrives, and one that the primary drops is zero again. Nobody else may
 * be reading them meanwhile. After a promotion it moves them to where the new
 * generation begins; only hac_wait_primary() makes them writable.
 * Errors: -EPROTO (not a standby), -EPROTOTYPE (an area arrived whose layout
 * differs from the one that it was mapped with, or that outgrew its capacity),
 * -EBADMSG, -EIO (also: the helper is gone for good), ... The areas then show
 * a whole transaction, and hac_get_info() tells which.
 */
HAC_API HAC_MUST_CHECK int hac_advance(hac *h, uint64_t *epoch);

/*
 * Wait until this context is primary, for at most `ms` milliseconds (-1: for
 * ever). It then holds the newest transaction, its areas are writable, and a new
 * generation has begun. 0 at once if it is primary. Blocks no other call.
 * However a standby is promoted, its areas change in this call only, in the
 * caller's thread; until then it is one. Areas that did not arrive are new.
 * Errors: -ETIMEDOUT, -EBADF (closed meanwhile), -EPROTO (no replication), and
 * those of hac_advance(), after which it can be tried again.
 */
HAC_API HAC_MUST_CHECK int hac_wait_primary(hac *h, int ms);

/* Ask the helper to make this standby primary; hac_wait_primary() then waits for
 * it. The old primary, should it live, is fenced. Errors: -EPROTO (no standby). */
HAC_API HAC_MUST_CHECK int hac_promote(hac *h);

/* ------------------------------------------------------------ engines -- */

struct hac_engine_info {
	size_t size; /* IN sizeof(struct hac_engine_info) */
	const char *name;
	uint32_t available;     /* its probe wrote a page and saw it reported */
	uint32_t words;         /* it sees single writes */
	uint32_t kernel_writes; /* read(2) into an area just works */
	uint32_t reserved;
	char reason[192]; /* why (not) */
};
/*
 * The index-th engine. -ENOENT past the last. Probes run once a process.
 * The environment variable HAC_DISABLE=uffd,emul makes engines unavailable
 * (read at the first probe).
 */
HAC_API HAC_MUST_CHECK int hac_get_engine(uint32_t index, struct hac_engine_info *info);

/* -------------------------------------------------------------- image -- */

/*
 * Write the state of the last epoch as a new image at `destination` (which
 * must not exist), with a UUID of its own, and the context's codec and key. Errors: -EEXIST, -EPROTO inside a
 * transaction, and those of the file system; a partial copy is removed.
 */
HAC_API HAC_MUST_CHECK int hac_copy(hac *h, const char *destination);

/*
 * Replace base and journal by a new base of the last epoch. A crash leaves
 * either. Errors: -EPROTO inside a transaction, -EOPNOTSUPP without an image
 * or without twin, and those of the file system, with the old base in place.
 */
HAC_API HAC_MUST_CHECK int hac_compact(hac *h);

/* What hac_check_image() found. */
struct hac_check {
	size_t size; /* IN sizeof(struct hac_check) */
	char uuid[37];
	char file[219];         /* the damaged file, relative; "" if none */
	uint64_t offset;        /* of the damage in it */
	uint64_t damage_epoch;  /* first epoch that the damage may have hit */
	uint64_t dropped_bytes; /* a damaged or unfinished end; opening cuts it */
	uint64_t epoch;         /* the last whole epoch */
	uint64_t base_epoch;
	uint64_t generation;
	uint64_t frames;
	uint64_t transactions;
	uint64_t journal_bytes;
	uint64_t base_bytes;
	uint32_t areas;
	uint32_t segments;
	uint32_t locked_by; /* pid that has it open for writing, or 0 */
	uint32_t reserved;
};
/*
 * Read an image from end to end; changes nothing. 0: sound, or only its end
 * is to be cut (dropped_bytes > 0). -EBADMSG: damaged; file, offset and
 * damage_epoch say where. Both fill in `check`. This call and the next two take
 * the key of an encrypted image from where the environment variable HAC_KEY_FILE
 * says, as key_file in struct hac_options.
 */
HAC_API HAC_MUST_CHECK int hac_check_image(const char *path, struct hac_check *check);

/* One record of an image, for hac_log_image(). */
struct hac_log_record {
	const char *kind; /* "generation", "layout", "drop", "transaction" */
	const char *file; /* relative to the image */
	uint64_t offset;  /* of the frame that holds it */
	uint64_t generation;
	uint64_t epoch;
	uint64_t parent;           /* generation: */
	uint64_t branch_epoch;     /* generation: */
	uint64_t time_ns;          /* of the frame, since 1970 */
	uint64_t runs;             /* transaction: */
	uint64_t bytes;            /* transaction: bytes of its runs; layout: size */
	uint32_t area;             /* layout, drop: its id */
	uint32_t partial;          /* transaction: 1 if more of it follows */
	const char *name;          /* layout: */
	const char *type;          /* layout: */
	const struct hac_run *run; /* transaction: `runs` of them */
	const unsigned char *data; /* transaction: their bytes */
};
/* Calls `each` for every record in order, until it returns non-zero, which is
 * then the result. The record is lent for the call. */
HAC_API HAC_MUST_CHECK int
hac_log_image(const char *path, int (*each)(void *argument, const struct hac_log_record *record),
	      void *argument);

/*
 * hac_compact() for an image that is not open. Compressed as its frames
 * were last. Given a key (HAC_KEY_FILE), an image that is not encrypted becomes it; that is
 * the only way to open such an image with a key.
 */
HAC_API HAC_MUST_CHECK int hac_compact_image(const char *path);

/* --------------------------------------------------------------- misc -- */

/* The detail of this thread's last failed call; "" before the first. Valid
 * until the next failing call of this thread. */
HAC_API const char *hac_error_detail(void);

/* See to it that libhac's SIGSEGV handler is in front again, after somebody
 * else (faulthandler, say) installed one. Every hac_begin() does this, too. */
HAC_API int hac_claim_faults(void);

/* The version of the library: major * 10000 + minor * 100 + patch. */
HAC_API uint32_t hac_version(void);
#define HAC_VERSION 100u

#ifdef __cplusplus
}
#endif
#endif /* HAC_H */
