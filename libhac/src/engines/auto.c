// SPDX-License-Identifier: MIT
/* Not an engine but a choice among them, made when an area is claimed or has
 * grown. */
#include "engine.h"
#include "error.h"
#include "hac.h"

#include <errno.h>
#include <stdio.h>

/* Up to here, comparing everything beats asking the kernel (make bench). */
#define COMPARE_MAX (128u * 1024)
/* And up to here where begin does not compare, too. */
#define COMPARE_MAX_ONCE (256u * 1024)

int engine_choose(size_t size, const struct area *area, bool joins, const struct engine **out,
		  char *reason, size_t room)
{
	bool twin = area->twin, kernel_writes = !(area->layout.flags & HAC_NO_KERNEL_WRITES);
	unsigned int most = joins ? COMPARE_MAX_ONCE : COMPARE_MAX;
	char small[64];

	if (twin && size <= most && !engine_find("compare", out)) {
		snprintf(reason, room, "auto: %zu bytes are compared whole (up to %u)", size, most);
		return 0;
	}
	snprintf(small, sizeof(small), twin ? "%zu bytes" : "%zu bytes, no twin", size);
	if (!engine_find("uffd", out)) {
		snprintf(reason, room, "auto: %s, and the kernel tracks pages (userfaultfd)",
			 small);
		return 0;
	}
	/* Neither a twin nor the program's help is needed: next best. */
	if (!engine_find("ptxen", out)) {
		snprintf(reason, room, "auto: %s, and Xen tracks pages (userfaultfd is missing)",
			 small);
		return 0;
	}
	/* pt needs the program's help for kernel writes, which was either not
	 * excluded (then comparing is right, if slow) or was. */
	if (kernel_writes && twin && !engine_find("compare", out)) {
		snprintf(
			reason, room,
			"auto: %s, userfaultfd is missing, and only comparing sees the kernel's writes (kernel_writes=False allows pt)",
			small);
		return 0;
	}
	if (!engine_find("pt", out)) {
		snprintf(reason, room, "auto: %s, and userfaultfd is missing: page faults (pt)%s",
			 small, kernel_writes ? "; announce kernel writes" : "");
		return 0;
	}
	if (twin && !engine_find("compare", out)) {
		snprintf(reason, room, "auto: %s, and nothing else works", small);
		return 0;
	}
	return hac_fail(ENODEV,
			"no engine is available for an area of %s: uffd and pt are missing%s",
			small, twin ? "" : ", and compare needs a twin");
}

static int probe(char *reason, size_t size)
{
	snprintf(reason, size, "chooses among the others");
	return 0;
}

const struct engine engine_auto = {
	.name = "auto",
	.flags = ENGINE_CHOOSES | ENGINE_KERNEL_WRITES,
	.probe = probe,
};
