// SPDX-License-Identifier: MIT
/* The application's half of a drainer that runs in the helper. */
#include "control.h"
#include "drainer_internal.h"
#include "error.h"
#include "helper.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

int drainer_connect(const struct drainer_options *options, const struct helper_options *helper,
		    struct control_message *ready, struct drainer **out)
{
	struct drainer *drainer = calloc(1, sizeof(*drainer));
	int error;

	if (!drainer)
		return hac_fail(ENOMEM, "no memory for the drainer");
	error = ring_create(options->ring_bytes ? options->ring_bytes : RING_BYTES_SHARED,
			    &drainer->ring);
	if (error) {
		free(drainer);
		return error;
	}
	drainer->shared = (void *)drainer->ring.shared->user;
	if (drainer->ring.fd < 0)
		error = hac_fail(EFBIG,
				 "a helper needs the ring's %zu bytes in a memfd, which cannot be "
				 "made: raise the limit on file sizes (RLIMIT_FSIZE), or lower "
				 "ring_bytes",
				 drainer->ring.size);
	if (!error)
		error = helper_start(helper, &drainer->ring, drainer->shared, ready,
				     &drainer->helper);
	if (error) {
		ring_destroy(&drainer->ring);
		free(drainer);
		return error;
	}
	*out = drainer;
	return 0;
}

void drainer_take_image(struct drainer *drainer, struct image *image,
			const struct control_message *lead)
{
	drainer->image = image;
	drainer->next_area_id = lead->next_area_id;
	atomic_store(&drainer->pushed_epoch, lead->last_epoch);
}

struct helper *drainer_helper(const struct drainer *drainer)
{
	return drainer->helper;
}

bool drainer_place(const struct drainer *drainer, uint64_t *segment, uint64_t *offset,
		   uint32_t *resets)
{
	const struct drainer_shared *shared = drainer->shared;

	/* A helper that dies while it writes leaves the count odd, until the next
	 * one says where it stands. */
	for (int attempt = 0; attempt < 100; attempt++) {
		uint32_t before = atomic_load(&shared->place);

		*segment = atomic_load(&shared->place_segment);
		*offset = atomic_load(&shared->place_offset);
		*resets = atomic_load(&shared->resets);
		if (!(before & 1) && atomic_load(&shared->place) == before)
			return true;
		nanosleep(&(struct timespec){ 0, 20000 }, NULL);
	}
	return false;
}

static int wait_reserved(struct drainer *drainer, uint64_t position)
{
	struct drainer_shared *shared = drainer->shared;

	for (;;) {
		uint32_t changes = atomic_load(&shared->durable_changes);
		int error;

		if (atomic_load(&shared->reserved) >= position)
			return 0;
		if (atomic_load(&shared->reserve_refused) >= position)
			return hac_fail(-atomic_load(&shared->reserve_error), "%s",
					shared->reserve_detail);
		error = drainer_failed(drainer);
		if (error)
			return error;
		futex_wait(&shared->durable_changes, changes, -1);
	}
}

int drainer_remote_reserve(struct drainer *drainer, uint64_t position)
{
	struct drainer_shared *shared = drainer->shared;
	int error;

	if (atomic_load(&shared->reserved) >= position)
		return 0;
	/* The same position may have been refused before. */
	atomic_store(&shared->reserve_refused, 0);
	atomic_fetch_add(&shared->waiters, 1);
	atomic_store(&shared->reserve_to, position);
	ring_kick_consumer(&drainer->ring);
	error = wait_reserved(drainer, position);
	atomic_store(&shared->reserve_to, 0);
	atomic_fetch_sub(&shared->waiters, 1);
	return error;
}

int drainer_remote_compact(struct drainer *drainer)
{
	int error = drainer_failed(drainer);

	return error ? error : helper_compact(drainer->helper);
}

int drainer_remote_stop(struct drainer *drainer)
{
	int stopped = helper_stop(drainer->helper);
	int error = drainer_failed(drainer);

	if (!error)
		error = stopped;
	if (!error && drainer->image) {
		drainer->image->epoch = drainer_durable(drainer);
		drainer->image->last_epoch = atomic_load(&drainer->pushed_epoch);
		drainer->image->next_area_id = drainer->next_area_id;
	}
	ring_destroy(&drainer->ring);
	free(drainer);
	return error;
}
