// SPDX-License-Identifier: MIT
/*
 * The loop of empty transactions in C, for a process that is Python: compiled
 * by microbench/empty.py as a shared object and given the addresses of
 * hac_begin() and hac_end() in the libhac that pyhac has loaded.
 */
#include <stdint.h>

int empty_transactions(int (*begin)(void *), int (*end)(void *, void *, uint64_t *), void *context,
		       uint64_t count)
{
	int error = 0;

	for (uint64_t i = 0; i < count && !error; i++) {
		error = begin(context);
		if (!error)
			error = end(context, 0, 0);
	}
	return error;
}
