// SPDX-License-Identifier: MIT
#include "context.h"

#include "control.h"
#include "error.h"
#include "helper.h"
#include "standby.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KNOWN_FLAGS \
	(HAC_NO_TWIN | HAC_STRICT | HAC_READONLY | HAC_PARTIAL | HAC_FAIL_FULL | HAC_JOIN_STRAYS)

/*
 * Contexts are not freed: a call on a closed one must find out that it is.
 * The list keeps them reachable, for whoever looks for leaks.
 */
struct kept {
	hac *h;
	struct kept *next;
};

static struct kept *_Atomic kept;

int context_enter(hac *h)
{
	if (!h)
		return hac_fail(EINVAL, "the context is NULL");
	if (h->process != process_current())
		return hac_fail(
			ECHILD,
			"the context belongs to the parent of this process: open one of your own after fork");
	pthread_mutex_lock(&h->lock);
	if (h->closed) {
		pthread_mutex_unlock(&h->lock);
		return hac_fail(EBADF, "the context is closed");
	}
	return 0;
}

void context_leave(hac *h)
{
	pthread_mutex_unlock(&h->lock);
}

/* --------------------------------------------------------------- open -- */

static int check_level(const struct hac_level *level, bool path, bool replication)
{
	if (level->kind > HAC_LEVEL_BACKUP)
		return hac_fail(EINVAL, "unknown level %u", level->kind);
	if (level->kind == HAC_LEVEL_BACKUP && !replication)
		return hac_fail(EINVAL, "level BACKUP(%u): the context has no backups",
				level->count);
	if (level->kind == HAC_LEVEL_BACKUP && (!level->count || level->count > HAC_BACKUPS_MAX))
		return hac_fail(EINVAL, "level BACKUP(%u): 1 to %u backups are possible",
				level->count, HAC_BACKUPS_MAX);
	if (level->kind != HAC_LEVEL_BACKUP && level->count)
		return hac_fail(EINVAL, "only level BACKUP has a count");
	if (level->kind == HAC_LEVEL_JOURNAL && !path)
		return hac_fail(EINVAL, "level JOURNAL: a context without a path has no journal");
	return 0;
}

static int check_replication(const char *path, const struct hac_options *o)
{
	int result = helper_check(o->replication);

	if (result)
		return result;
	if (!path)
		return hac_fail(EINVAL, "replication needs the path of an image");
	if (o->flags & HAC_READONLY || o->at)
		return hac_fail(EINVAL,
				"replication goes on with the newest epoch: not with HAC_READONLY "
				"(readonly), nor with an older epoch (at)");
	return 0;
}

static int check_options(const char *path, const struct hac_options *o)
{
	if (o->size != sizeof(*o))
		return hac_fail(EINVAL, "struct hac_options: size is %zu, must be %zu", o->size,
				sizeof(*o));
	if (o->flags & ~KNOWN_FLAGS)
		return hac_fail(EINVAL, "unknown context flags 0x%x", o->flags & ~KNOWN_FLAGS);
	if (o->flags & HAC_STRICT && o->flags & HAC_JOIN_STRAYS)
		return hac_fail(EINVAL,
				"HAC_STRICT (strict) refuses the writes that HAC_JOIN_STRAYS "
				"(join_strays) lets in: choose one");
	if (o->flush_ms < 0)
		return hac_fail(EINVAL, "flush_ms is %d, must be 0 or more", o->flush_ms);
	if (path && !*path)
		return hac_fail(EINVAL, "the path of the image is empty");
	if (!path && (o->flags & HAC_READONLY || o->at))
		return hac_fail(EINVAL, "readonly and at need the path of an image");
	if (o->ring_bytes > (1ul << 40))
		return hac_fail(EINVAL, "ring_bytes is %zu, at most 2^40", o->ring_bytes);
	if (o->reserved)
		return hac_fail(EINVAL, "struct hac_options: reserved is %u, must be 0",
				o->reserved);
	if (o->replication) {
		int result = check_replication(path, o);

		if (result)
			return result;
	}
	return check_level(&o->level, path != NULL, o->replication);
}

static int open_image(hac *h, const char *path, const struct hac_options *o)
{
	struct image_options image = {
		.readonly = o->flags & HAC_READONLY,
		.at = o->at,
		.coding = &h->coding,
	};
	struct drainer_options drainer = { .ring_bytes = o->ring_bytes, .flush_ms = o->flush_ms };
	int result = image_open(path, &image, &h->image);

	if (result)
		return result;
	h->next_area_id = h->image->next_area_id;
	h->unclaimed = h->image->areas_count;
	atomic_store(&h->epoch, h->image->epoch);
	if (image.readonly)
		return 0;
	result = drainer_start(h->image, &drainer, &h->drainer);
	if (result) {
		image_close(h->image);
		h->image = NULL;
	}
	return result;
}

/* The helper keeps its own place, whatever becomes of the current directory. */
static char *absolute(const char *path)
{
	char *directory, *whole = NULL;

	if (*path == '/')
		return strdup(path);
	directory = getcwd(NULL, 0);
	if (directory && asprintf(&whole, "%s/%s", directory, path) < 0)
		whole = NULL;
	free(directory);
	return whole;
}

/* An opening that failed: its detail is the one that counts. */
static void drop_helper(hac *h)
{
	char *detail = strdup(hac_error_detail());

	(void)!drainer_stop(h->drainer);
	h->drainer = NULL;
	if (detail)
		hac_fail(EIO, "%s", detail);
	free(detail);
}

/* Nobody but the helper writes it, so what is read is what it has said. */
static int read_replicated(hac *h, const char *path, const struct control_message *ready)
{
	const struct image_options options = { .readonly = true, .coding = &h->coding };
	int result;

	if (h->role == HAC_STANDBY)
		return standby_open_image(h, path, &h->image);
	result = image_open(path, &options, &h->image);
	if (result || h->image->epoch == ready->epoch)
		return result;
	return hac_fail(EIO, "image %s holds epoch %llu, but the helper says %llu", path,
			(unsigned long long)h->image->epoch, (unsigned long long)ready->epoch);
}

void context_take_lead(hac *h, const struct control_message *lead)
{
	struct image *image = h->image;

	image->generation = lead->generation;
	image->parent = lead->parent;
	image->branch_epoch = lead->branch_epoch;
	image->last_epoch = lead->last_epoch;
	image->next_area_id = lead->next_area_id;
	drainer_take_image(h->drainer, image, lead);
	h->role = HAC_PRIMARY;
}

static int open_replicated(hac *h, const char *given, const struct hac_options *o)
{
	struct drainer_options drainer = { .ring_bytes = o->ring_bytes, .flush_ms = o->flush_ms };
	char *path = absolute(given);
	struct helper_options helper = {
		.replication = o->replication,
		.path = path,
		.key_file = o->key_file,
		.codec = o->codec,
		.flush_ms = o->flush_ms,
	};
	struct control_message ready;
	int result;

	if (!path)
		return hac_fail(ENOMEM, "no memory to open image %s", given);
	result = drainer_connect(&drainer, &helper, &ready, &h->drainer);
	if (!result) {
		h->role = ready.role;
		result = read_replicated(h, path, &ready);
	}
	free(path);
	if (!result) {
		h->next_area_id = ready.next_area_id;
		h->unclaimed = h->image->areas_count;
		atomic_store(&h->epoch, h->image->epoch);
		h->image->dropped_bytes = ready.dropped_bytes;
		h->image->dropped_epoch = ready.dropped_epoch;
		if (h->role == HAC_PRIMARY)
			context_take_lead(h, &ready);
		return 0;
	}
	if (h->drainer)
		drop_helper(h);
	image_close(h->image);
	h->image = NULL;
	return result;
}

/* For HAC_ADVISE: the contexts that the program leaves open. A thread that is in
 * the middle of a call keeps nobody from exiting. */
static void report_open(void)
{
	const struct kept *entry;
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	for (entry = atomic_load(&kept); entry; entry = entry->next) {
		hac *h = entry->h;

		if (h->process != process_current() || pthread_mutex_timedlock(&h->lock, &until))
			continue;
		if (!h->closed)
			advise_write(h);
		pthread_mutex_unlock(&h->lock);
	}
}

static pthread_once_t report_once = PTHREAD_ONCE_INIT;

static void report_at_exit(void)
{
	atexit(report_open);
}

static void keep(hac *h, struct kept *entry)
{
	entry->h = h;
	entry->next = atomic_load(&kept);
	while (!atomic_compare_exchange_weak(&kept, &entry->next, entry))
		;
}

int hac_open(const char *path, const struct hac_options *options, hac **out)
{
	static const struct hac_options defaults = { .size = sizeof(defaults) };
	const struct hac_options *o = options ? options : &defaults;
	struct kept *entry;
	int result = check_options(path, o);
	hac *h;

	if (result)
		return result;
	h = calloc(1, sizeof(*h));
	entry = calloc(1, sizeof(*entry));
	if (!h || !entry) {
		result = hac_fail(ENOMEM, "no memory for a context");
		goto fail;
	}
	h->flags = o->flags;
	h->process = process_current();
	h->level = o->level;
	if (!h->level.kind)
		h->level.kind = path && !(o->flags & HAC_READONLY) ? HAC_LEVEL_JOURNAL :
								     HAC_LEVEL_RING;
	h->next_area_id = 1;
	result = context_check_engine(h, o->engine);
	if (result)
		goto fail;
	snprintf(h->engine, sizeof(h->engine), "%s", o->engine ? o->engine : "auto");
	snprintf(h->reason, sizeof(h->reason), "%s: no area is mapped yet", h->engine);
	result = frame_coding_load(o->codec, o->key_file, &h->coding);
	if (!result && path)
		result = o->replication ? open_replicated(h, path, o) : open_image(h, path, o);
	if (result)
		goto fail;
	pthread_mutex_init(&h->lock, NULL);
	h->stats.size = sizeof(h->stats);
	h->start = clock_started();
	if (advise_wanted())
		pthread_once(&report_once, report_at_exit);
	keep(h, entry);
	*out = h;
	return 0;
fail:
	if (h)
		frame_coding_wipe(&h->coding);
	free(h);
	free(entry);
	return result;
}

/* -------------------------------------------------------------- close -- */

static int end_everything(hac *h)
{
	int result = 0;

	if (h->stage != STAGE_IDLE && !(h->flags & HAC_NO_TWIN)) {
		result = transaction_abort(h);
		if (result)
			return result;
	}
	if (h->flags & HAC_READONLY || h->role == HAC_STANDBY || h->stage != STAGE_IDLE ||
	    !h->areas_count)
		return 0;
	return transaction_end_strays(h);
}

/* They are let go as the journal gets there, or when it fails. */
static void see_waiters_off(hac *h)
{
	if (h->drainer)
		drainer_let_go(h->drainer);
	if (h->role)
		helper_let_go(drainer_helper(h->drainer));
	while (atomic_load(&h->waiters))
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
}

static int stop_drainer(hac *h)
{
	uint64_t epoch = atomic_load(&h->epoch);
	int stopped;

	h->durable_at_close = drainer_durable(h->drainer);
	stopped = drainer_stop(h->drainer);
	h->drainer = NULL;
	if (!stopped || h->role == HAC_STANDBY) {
		h->durable_at_close = epoch;
		return stopped;
	}
	/* Who is fenced has lost nothing that was synced. */
	if (stopped == -ESTALE && h->durable_at_close >= epoch)
		return 0;
	return hac_fail(stopped == -ESTALE ? EUCLEAN : -stopped,
			"image %s: the journal did not take everything after epoch %llu: %s",
			h->image->path, (unsigned long long)h->durable_at_close,
			strerror(-stopped));
}

int hac_close(hac *h)
{
	int result = context_enter(h), stopped;
	size_t i;

	if (result)
		return result;
	result = end_everything(h);
	if (result == -EREMCHG) {
		context_leave(h);
		return result;
	}
	advise_write(h);
	see_waiters_off(h);
	stopped = h->drainer ? stop_drainer(h) : 0;
	if (!result)
		result = stopped;
	for (i = 0; i < h->areas_count; i++)
		context_retire(h->areas[i]);
	h->areas_count = 0;
	free(h->areas);
	h->areas = NULL;
	free(h->drops);
	h->drops = NULL;
	if (h->image)
		image_close(h->image);
	h->image = NULL;
	frame_coding_wipe(&h->coding);
	delta_free(&h->delta);
	extents_free(&h->extents);
	h->closed = true;
	context_leave(h);
	return result;
}

int hac_unmap(void *address)
{
	struct area *area;
	int result = registry_take_closed(address, &area);

	if (!result)
		area_destroy(area);
	return result;
}

/* --------------------------------------------------------------- wait -- */

static const char *level_text(const struct hac_level *level, char text[32])
{
	if (level->kind == HAC_LEVEL_BACKUP)
		snprintf(text, 32, "level BACKUP(%u)", level->count);
	else
		snprintf(text, 32, "the journal");
	return text;
}

/* The context is not to be looked at but for its drainer. */
static int wait_level(hac *h, uint64_t epoch, const struct hac_level *level, int ms)
{
	uint32_t backups = level->kind == HAC_LEVEL_BACKUP ? level->count : 0;
	int result = drainer_wait_backups(h->drainer, epoch, backups, ms);
	char text[32], why[256];
	uint64_t doubt;

	if (!result) {
		doubt = atomic_load(&h->doubt);
		if (doubt && doubt_epoch(doubt) <= epoch && doubt_backups(doubt) <= backups)
			atomic_compare_exchange_strong(&h->doubt, &doubt, 0);
		return 0;
	}
	atomic_store(&h->doubt, doubt_make(epoch, backups));
	snprintf(why, sizeof(why), "%s", hac_error_detail());
	return hac_fail(EUCLEAN, "epoch %llu ended but is not known to have reached %s: %s",
			(unsigned long long)epoch, level_text(level, text), why);
}

int hac_wait(hac *h, uint64_t epoch, const struct hac_level *level, int ms)
{
	struct hac_level want;
	int result = context_enter(h);

	if (result)
		return result;
	want = level && level->kind ? *level : h->level;
	result = check_level(&want, h->image != NULL, h->role);
	if (!result && epoch > atomic_load(&h->epoch))
		result = hac_fail(EINVAL, "epoch %llu has not ended", (unsigned long long)epoch);
	/* What a standby shows is in its journal. */
	if (!result && h->role == HAC_STANDBY && want.kind == HAC_LEVEL_BACKUP)
		result = standby_refuse(h);
	if (result || want.kind == HAC_LEVEL_RING || !h->drainer || h->role == HAC_STANDBY) {
		context_leave(h);
		return result;
	}
	/* Waiting keeps nobody out, and hac_close() leaves the drainer alone
	 * while somebody waits. */
	atomic_fetch_add(&h->waiters, 1);
	context_leave(h);
	result = wait_level(h, epoch, &want, ms);
	atomic_fetch_sub(&h->waiters, 1);
	return result;
}
