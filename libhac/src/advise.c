// SPDX-License-Identifier: MIT
/*
 * HAC_ADVISE=FILE: what a context did, as a line of JSON at the end of FILE, when
 * it is closed or its process exits. So a program that knows nothing of it can be
 * advised on engines. Nobody is told of a failure: the line is missing then.
 */
#include "context.h"
#include "engine.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *advise_file(void)
{
	const char *file = secure_getenv("HAC_ADVISE");

	return file && *file ? file : NULL;
}

bool advise_wanted(void)
{
	return advise_file();
}

static void put_text(FILE *out, const char *text)
{
	putc('"', out);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < 0x20)
			fprintf(out, "\\u%04x", c);
		else
			fprintf(out, c == '"' || c == '\\' ? "\\%c" : "%c", c);
	}
	putc('"', out);
}

static void put_stats(FILE *out, const struct hac_stats *stats)
{
	const struct {
		const char *name;
		uint64_t value;
	} fields[] = {
		{ "transactions", stats->transactions },
		{ "aborts", stats->aborts },
		{ "strays", stats->strays },
		{ "faults", stats->faults },
		{ "dirty_pages", stats->dirty_pages },
		{ "changed_words", stats->changed_words },
		{ "delta_bytes", stats->delta_bytes },
		{ "writes", stats->writes },
		{ "fallbacks", stats->fallbacks },
		{ "begin_ns", stats->begin_ns },
		{ "end_ns", stats->end_ns },
	};
	size_t i;

	for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (fields[i].value == UINT64_MAX)
			fprintf(out, "%s\"%s\": null", i ? ", " : "", fields[i].name);
		else
			fprintf(out, "%s\"%s\": %" PRIu64, i ? ", " : "", fields[i].name,
				fields[i].value);
}

static void put_context(FILE *out, const hac *h)
{
	const struct hac_stats stats = context_stats(h);
	size_t i;

	fprintf(out, "{\"version\": 1, \"pid\": %d, \"path\": ", getpid());
	if (h->image)
		put_text(out, h->image->path);
	else
		fputs("null", out);
	fprintf(out, ", \"flags\": %" PRIu32 ", \"stats\": {", h->flags);
	put_stats(out, &stats);
	fputs("}, \"areas\": [", out);
	for (i = 0; i < h->areas_count; i++) {
		const struct area *area = h->areas[i];

		fprintf(out, "%s{\"name\": ", i ? ", " : "");
		put_text(out, area->layout.name);
		fprintf(out, ", \"bytes\": %" PRIu64 ", \"engine\": ", area->layout.size);
		put_text(out, area->engine ? area->engine->name : "none");
		fputs(", \"own_engine\": ", out);
		put_text(out, area->own ? area->own->name : "none");
		putc('}', out);
	}
	fputs("]}\n", out);
}

void advise_write(const hac *h)
{
	const char *file = advise_file();
	char *line = NULL;
	size_t size = 0;
	FILE *out;
	int fd;

	if (!file || h->flags & HAC_READONLY || h->role == HAC_STANDBY)
		return;
	out = open_memstream(&line, &size);
	if (!out)
		return;
	put_context(out, h);
	if (!fclose(out)) {
		/* One write at the end of the file: lines of others stay whole. */
		fd = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
		if (fd >= 0) {
			(void)!write(fd, line, size);
			close(fd);
		}
	}
	free(line);
}
