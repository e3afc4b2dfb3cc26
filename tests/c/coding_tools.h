/* SPDX-License-Identifier: MIT */
/* What the tests of compressed and encrypted images share. */
#ifndef CODING_TOOLS_H
#define CODING_TOOLS_H

#include "frame_tools.h"
#include "image_internal.h"
#include "image_tools.h"

#include <dirent.h>
#include <stddef.h>

struct found {
	struct frame_header header;
	size_t at;
};

__attribute__((unused)) static size_t find_frames(const struct bytes *file, struct found *out,
						  size_t room)
{
	const unsigned char *payload;
	size_t at = 0, count = 0;

	while (at < file->size) {
		CHECK(count < room);
		CHECK_OK(frame_decode(file->data + at, file->size - at, &out[count].header,
				      &payload));
		out[count].at = at;
		at += frame_size(&out[count++].header);
	}
	return count;
}

/* What is in the directory, as a text to compare. */
__attribute__((unused)) static void tree_bytes(const char *path, char *out, size_t room)
{
	char command[PATH_MAX + 64];
	FILE *pipe;
	size_t got;

	snprintf(command, sizeof(command), "cd '%s' && sha256sum * | sort", path);
	pipe = popen(command, "r");
	CHECK(pipe);
	got = fread(out, 1, room - 1, pipe);
	out[got] = '\0';
	CHECK(got && !pclose(pipe));
}

#endif
