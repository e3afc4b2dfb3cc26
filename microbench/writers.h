/* SPDX-License-Identifier: MIT */
/*
 * The threads that write: the main thread is writer 0, the others persist. Within
 * a run they meet at a spin barrier; between runs they sleep, so that they do
 * not disturb the program whose turn it is.
 */
#ifndef MICROBENCH_WRITERS_H
#define MICROBENCH_WRITERS_H

#include "workload.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

struct writers {
	const struct workload *workload;
	void *area;
	_Atomic uint64_t go; /* the transaction to write */
	_Atomic unsigned int done;
	_Atomic unsigned int named; /* hands out the thread numbers */
	_Atomic bool awake;
	pthread_mutex_t lock;
	pthread_cond_t wake;
};

static inline void writers_relax(unsigned int *spins)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
	/* With fewer cores than writers spinning alone would never end. */
	if (++*spins % 4096 == 0)
		sched_yield();
}

static inline void *writers_main(void *argument)
{
	struct writers *w = argument;
	unsigned int me = atomic_fetch_add(&w->named, 1) + 1, spins = 0;
	uint64_t seen = 0, txn;

	for (;;) {
		txn = atomic_load_explicit(&w->go, memory_order_acquire);
		if (txn != seen) {
			seen = txn;
			workload_write(w->workload, w->area, txn, me);
			atomic_fetch_add_explicit(&w->done, 1, memory_order_release);
		} else if (atomic_load_explicit(&w->awake, memory_order_relaxed)) {
			writers_relax(&spins);
		} else {
			pthread_mutex_lock(&w->lock);
			while (!atomic_load(&w->awake))
				pthread_cond_wait(&w->wake, &w->lock);
			pthread_mutex_unlock(&w->lock);
		}
	}
	return NULL;
}

static inline void writers_start(struct writers *w, const struct workload *workload, void *area)
{
	memset(w, 0, sizeof(*w));
	w->workload = workload;
	w->area = area;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->wake, NULL);
	for (unsigned int i = 1; i < workload->pattern.threads; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, writers_main, w))
			errx(1, "cannot start a writer");
		pthread_detach(thread);
	}
}

static inline void writers_awake(struct writers *w, bool awake)
{
	if (w->workload->pattern.threads == 1)
		return;
	pthread_mutex_lock(&w->lock);
	atomic_store(&w->awake, awake);
	pthread_cond_broadcast(&w->wake);
	pthread_mutex_unlock(&w->lock);
}

/* All writes of transaction `txn`; returns when every writer is through. */
static inline void writers_write(struct writers *w, uint64_t txn)
{
	unsigned int others = w->workload->pattern.threads - 1, spins = 0;

	if (others) {
		atomic_store_explicit(&w->done, 0, memory_order_relaxed);
		atomic_store_explicit(&w->go, txn, memory_order_release);
	}
	workload_write(w->workload, w->area, txn, 0);
	while (others && atomic_load_explicit(&w->done, memory_order_acquire) != others)
		writers_relax(&spins);
}

#endif
