// SPDX-License-Identifier: MIT
/* What can be asked of a drainer at any time, from any thread, wherever it runs. */
#include "drainer_internal.h"

#include "error.h"

#include <errno.h>
#include <string.h>
#include <time.h>

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

int drainer_error(const struct drainer *drainer)
{
	return atomic_load(&drainer->shared->error);
}

int drainer_failed(const struct drainer *drainer)
{
	int error = drainer_error(drainer);

	if (!error)
		return 0;
	if (error == -ESTALE)
		return hac_fail(ESTALE,
				"fenced, this context begins no transaction any more: %s; close it "
				"and open it again, as a standby",
				drainer->shared->detail);
	return hac_fail(-error,
			"the drainer has failed, nothing more reaches the journal: %s; close the "
			"context and open it again",
			drainer->shared->detail);
}

void drainer_fail(struct drainer_shared *shared, struct ring *ring, int error, const char *detail)
{
	memccpy(shared->detail, detail, '\0', sizeof(shared->detail) - 1);
	atomic_store(&shared->error, error);
	drainer_wake_waiters(shared);
	ring_kick_producer(ring);
}

uint64_t drainer_durable(const struct drainer *drainer)
{
	return atomic_load(&drainer->shared->durable);
}

bool drainer_reached(const struct drainer *drainer, uint64_t epoch, uint32_t backups)
{
	if (drainer_durable(drainer) < epoch)
		return false;
	for (size_t i = 0; backups && i < HAC_BACKUPS_MAX; i++)
		backups -= atomic_load(&drainer->shared->acknowledged[i]) >= epoch;
	return !backups;
}

void drainer_let_go(struct drainer *drainer)
{
	atomic_store(&drainer->closing, true);
	drainer_wake_waiters(drainer->shared);
}

static int not_yet(const struct drainer *drainer, uint64_t epoch, uint32_t backups)
{
	if (drainer_durable(drainer) < epoch)
		return hac_fail(ETIMEDOUT, "epoch %llu is not synced yet",
				(unsigned long long)epoch);
	return hac_fail(ETIMEDOUT, "epoch %llu is not acknowledged by %u backup(s) yet",
			(unsigned long long)epoch, backups);
}

static int wait_reached(struct drainer *drainer, uint64_t epoch, uint32_t backups, int64_t end)
{
	struct drainer_shared *shared = drainer->shared;

	for (;;) {
		uint32_t changes = atomic_load(&shared->durable_changes);
		int64_t left = -1;
		int error;

		if (drainer_reached(drainer, epoch, backups))
			return 0;
		error = drainer_failed(drainer);
		if (error)
			return error;
		/* What is in the ring still reaches the journal then. */
		if (backups && atomic_load(&drainer->closing))
			return hac_fail(ECANCELED, "the context was closed meanwhile");
		if (end >= 0) {
			left = end - now_ns();
			if (left <= 0)
				return not_yet(drainer, epoch, backups);
		}
		futex_wait(&shared->durable_changes, changes, left);
	}
}

int drainer_wait_backups(struct drainer *drainer, uint64_t epoch, uint32_t backups, int ms)
{
	int64_t end = ms < 0 ? -1 : now_ns() + ms * INT64_C(1000000);
	int error;

	if (drainer_reached(drainer, epoch, backups))
		return 0;
	if (epoch > atomic_load(&drainer->pushed_epoch))
		return hac_fail(EINVAL, "epoch %llu has not ended", (unsigned long long)epoch);
	atomic_fetch_add(&drainer->shared->waiters, 1);
	/* It may be a while before it looks by itself. */
	if (drainer_durable(drainer) < epoch)
		ring_kick_consumer(&drainer->ring);
	error = wait_reached(drainer, epoch, backups, end);
	atomic_fetch_sub(&drainer->shared->waiters, 1);
	return error;
}

int drainer_wait(struct drainer *drainer, uint64_t epoch, int ms)
{
	return drainer_wait_backups(drainer, epoch, 0, ms);
}
