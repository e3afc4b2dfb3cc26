// SPDX-License-Identifier: MIT
/*
 * What a context costs: at most twice its areas and 2 % and 1 MiB, under every
 * engine, and deltas of large transactions are given back.
 */
#include "each_engine.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1024ull * 1024)
#define SIZE (64 * MIB)

/* What this process has of memory, shared pages in part, in bytes. */
static unsigned long long proportional(void)
{
	unsigned long long kilobytes = 0;
	char line[256];
	FILE *file = fopen("/proc/self/smaps_rollup", "r");

	if (!file)
		SKIP("no /proc/self/smaps_rollup");
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "Pss: %llu kB", &kilobytes) == 1)
			break;
	fclose(file);
	CHECK(kilobytes);
	return kilobytes * 1024;
}

static void at_most(const char *engine, const char *when, unsigned long long before,
		    unsigned long long limit)
{
	unsigned long long now = proportional(), more = now > before ? now - before : 0;

	printf("%s: %s: %.2f MiB of %.2f\n", engine, when, (double)more / MIB, (double)limit / MIB);
	CHECK_MSG(more <= limit, "%s: %s: %llu bytes more than before, at most %llu allowed",
		  engine, when, more, limit);
}

static void write_pages(unsigned char *p, unsigned char value, size_t step)
{
	size_t i;

	for (i = 0; i < SIZE; i += step)
		p[i + 16] = value;
}

static void measure(const char *engine)
{
	unsigned long long before = proportional(), limit = 2 * SIZE + SIZE / 50 + MIB;
	hac *h = open_with(engine, 0);
	unsigned int i;
	void *address;

	CHECK_OK(hac_map(h, "large", SIZE, NULL, &address));
	at_most(engine, "mapped", before, MIB);
	memset(address, 1, SIZE);
	for (i = 0; i < 8; i++) {
		CHECK_OK(hac_begin(h));
		write_pages(address, (unsigned char)(i + 2), i % 2 ? 4096 : 65536);
		CHECK_OK(hac_end(h, NULL, NULL));
	}
	CHECK_OK(hac_begin(h));
	at_most(engine, "a word in every page", before, limit);
	memset(address, 77, SIZE);
	CHECK_OK(hac_end(h, NULL, NULL)); /* lent, so it is there until begin */
	CHECK_OK(hac_begin(h));
	at_most(engine, "all of it at once", before, limit);
	memset(address, 78, SIZE);
	CHECK_OK(hac_prepare(h, NULL));
	CHECK_OK(hac_abort(h));
	at_most(engine, "all of it aborted", before, limit);
	CHECK(((unsigned char *)address)[SIZE - 1] == 77);
	CHECK_OK(hac_close(h));
	at_most(engine, "closed", before, SIZE + MIB);
	CHECK_OK(hac_unmap(address));
	at_most(engine, "unmapped", before, MIB);
}

/* One process for each, or they would inherit from each other. */
static void engine_memory(const char *engine)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		measure(engine);
		exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_MSG(WIFEXITED(status) && !WEXITSTATUS(status), "%s: status 0x%x", engine, status);
}

int main(void)
{
	if (UNDER_ASAN || UNDER_TSAN)
		SKIP("sanitizers take memory of their own");
	EACH_ENGINE(engine_memory);
	return 0;
}
