// SPDX-License-Identifier: MIT
#include "error.h"

#include "hac.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char detail[1024];

int hac_fail(int code, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(detail, sizeof(detail), format, arguments);
	va_end(arguments);
	return -code;
}

const char *hac_error_detail(void)
{
	return detail;
}

uint32_t hac_version(void)
{
	return HAC_VERSION;
}
