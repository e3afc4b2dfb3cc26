/* SPDX-License-Identifier: MIT */
/* Errors with a detail: what, where, and what to do. */
#ifndef HAC_ERROR_H
#define HAC_ERROR_H

/*
 * Set this thread's detail message and return -code, so that a function can
 * end with `return hac_fail(EINVAL, "area '%s': ...", name)`.
 */
int hac_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
