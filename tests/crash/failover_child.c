// SPDX-License-Identifier: MIT
/*
 * The primary of tests/crash/test_failover.py: one transaction after the other,
 * each a number, until it is killed.
 *
 *	failover_child IMAGE ring|journal|backup -- HELPER ... -- ARGUMENT ...
 *
 * Transaction n puts n into four words that n alone determines, and into word 0;
 * each 64th puts it into all of a second area, which is larger than the ring. So
 * the state that transaction n left can be worked out from n. Whenever one has
 * reached its level, n and the helper's pid are written to standard output.
 *
 * Exit codes: 3, fenced; 4, in doubt; 1, anything else.
 */
#include <err.h>
#include <errno.h>
#include <hac.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WORDS 8192u
#define BULK 16384u

static hac *context;

static uint64_t mixed(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static void must(int result, const char *call)
{
	if (!result)
		return;
	warnx("%s: %s", call, hac_error_detail());
	_exit(result == -ESTALE ? 3 : result == -EUCLEAN ? 4 : 1);
}

static void tell(uint64_t n)
{
	struct hac_info info = { .size = sizeof(info) };
	uint64_t line[2];

	must(hac_get_info(context, &info), "hac_get_info");
	line[0] = n;
	line[1] = info.helper;
	if (write(STDOUT_FILENO, line, sizeof(line)) != sizeof(line))
		_exit(1);
}

static void transact(uint64_t *words, uint64_t *bulk, uint64_t n)
{
	must(hac_begin(context), "hac_begin");
	for (uint64_t j = 0; j < 4; j++)
		words[1 + mixed(4 * n + j) % (WORDS - 1)] = n;
	words[0] = n;
	if (n % 64 == 0)
		for (uint32_t i = 0; i < BULK; i++)
			bulk[i] = n;
	must(hac_end(context, NULL, NULL), "hac_end");
}

static enum hac_level_kind level_of(const char *name)
{
	if (!strcmp(name, "ring"))
		return HAC_LEVEL_RING;
	return strcmp(name, "journal") ? HAC_LEVEL_BACKUP : HAC_LEVEL_JOURNAL;
}

int main(int argc, char **argv)
{
	struct hac_replication replication = { .size = sizeof(replication), .role = HAC_PRIMARY };
	struct hac_options options = {
		.size = sizeof(options),
		.ring_bytes = 65536,
		.replication = &replication,
	};
	void *words, *bulk;
	int second = 4;

	if (argc < 6 || strcmp(argv[3], "--"))
		errx(1, "usage: failover_child IMAGE LEVEL -- HELPER ... -- ARGUMENT ...");
	options.level.kind = level_of(argv[2]);
	options.level.count = options.level.kind == HAC_LEVEL_BACKUP;
	while (argv[second] && strcmp(argv[second], "--"))
		second++;
	replication.command = (const char *const *)argv + 4;
	if (argv[second]) {
		argv[second] = NULL;
		replication.arguments = (const char *const *)argv + second + 1;
	}
	must(hac_open(argv[1], &options, &context), "hac_open");
	must(hac_map(context, "words", WORDS * 8, NULL, &words), "hac_map");
	must(hac_map(context, "bulk", BULK * 8, NULL, &bulk), "hac_map");
	tell(*(uint64_t *)words);
	for (uint64_t n = *(uint64_t *)words + 1;; n++) {
		transact(words, bulk, n);
		tell(n);
	}
}
