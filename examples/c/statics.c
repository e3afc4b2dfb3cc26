// SPDX-License-Identifier: MIT
/*
 * statics - a program whose variables outlive it.
 *
 *	statics IMAGE	one run; run it again and it continues
 *	statics		two runs, in a temporary folder
 *
 * Two ways to keep data:
 *
 * 1. Static variables. The attribute CRITICAL puts them next to each other in a
 *    section of the program, and hac_adopt() makes that section an area. The
 *    program may be loaded at another address each time: what is kept is the
 *    bytes, so such variables hold numbers and text, but no pointers.
 *
 * 2. A linked structure. hac_map() with HAC_POINTERS gives an area that comes
 *    back at the same address in every run, so pointers from the area into
 *    itself stay true. It must not point at anything outside.
 */
#include <err.h>
#include <ftw.h>
#include <hac.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ------------------------------------------------------ static variables -- */

/* The section's name is a C identifier, so the linker supplies its bounds. */
#define CRITICAL __attribute__((section("hac_cda")))
extern char __start_hac_cda[], __stop_hac_cda[];

static uint64_t runs CRITICAL;
static uint64_t notes_written CRITICAL;
static char greeting[64] CRITICAL = "hello for the first time";

/* ------------------------------------------------------ linked structure -- */

#define NOTES_BYTES (1 << 20)

struct note {
	struct note *next;
	char text[56];
};

struct notes {
	struct note *newest;
	struct note *free; /* the first that was never used */
	struct note first[];
};

static void add_note(struct notes *notes, const char *text)
{
	struct note *note = notes->free;

	if ((char *)(note + 1) > (char *)notes + NOTES_BYTES)
		errx(1, "no room for another note");
	notes->free = note + 1;
	snprintf(note->text, sizeof(note->text), "%s", text);
	note->next = notes->newest;
	notes->newest = note;
	notes_written++;
}

/* ----------------------------------------------------------------- a run -- */

/* What to do about an error is always the same here: say it and stop. */
static void check(int result)
{
	if (result < 0)
		errx(1, "%s", hac_error_detail());
}

static void one_run(const char *image)
{
	struct hac_area_options pointers = { .size = sizeof(pointers), .flags = HAC_POINTERS };
	struct notes *notes;
	char text[56];
	void *address;
	hac *h;

	check(hac_open(image, NULL, &h));

	/* If the image knows the area, its bytes replace the initial values. */
	check(hac_adopt(h, "statics", __start_hac_cda, (size_t)(__stop_hac_cda - __start_hac_cda),
			NULL));
	check(hac_map(h, "notes", NOTES_BYTES, &pointers, &address));
	notes = address;
	if (!hac_restored(h, "notes")) /* zeroed: give it its first shape */
		notes->free = notes->first;

	/*
	 * Everything between begin and end becomes permanent together, in both
	 * areas. hac_end() comes back when it is synced to the disk.
	 */
	check(hac_begin(h));
	runs++;
	snprintf(text, sizeof(text), "written by run %lu", (unsigned long)runs);
	add_note(notes, text);
	snprintf(greeting, sizeof(greeting), "hello again, after %lu run%s", (unsigned long)runs,
		 runs == 1 ? "" : "s");
	check(hac_end(h, NULL, NULL));

	/* A change of mind: abort puts every byte back, pointers included. */
	check(hac_begin(h));
	add_note(notes, "nobody will ever read this");
	check(hac_abort(h));

	printf("run %lu; the next one will say: %s\n", (unsigned long)runs, greeting);
	printf("  %lu notes, at %p in every run:\n", (unsigned long)notes_written, address);
	for (const struct note *note = notes->newest; note; note = note->next)
		printf("  %s\n", note->text);

	check(hac_close(h));
}

/* -------------------------------------------------- two runs, for a demo -- */

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
	(void)status, (void)type, (void)walk;
	return remove(path);
}

/* Another process each time, as if somebody had started the program again. */
static void start(const char *image)
{
	pid_t child;
	int status;

	fflush(stdout);
	child = fork();
	if (child < 0)
		err(1, "fork");
	if (!child) {
		execl("/proc/self/exe", "statics", image, (char *)NULL);
		err(1, "exec");
	}
	if (waitpid(child, &status, 0) != child || status)
		errx(1, "a run failed");
}

int main(int argc, char **argv)
{
	char folder[] = "/tmp/statics.XXXXXX", image[sizeof(folder) + 16];

	if (argc > 2)
		errx(2, "usage: statics [IMAGE]");
	if (argc == 2) {
		one_run(argv[1]);
		return 0;
	}
	if (!mkdtemp(folder))
		err(1, "%s", folder);
	snprintf(image, sizeof(image), "%s/statics.hac", folder);
	start(image);
	start(image);
	nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	return 0;
}
