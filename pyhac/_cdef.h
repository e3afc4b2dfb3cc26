/* SPDX-License-Identifier: MIT */
/* What pyhac uses of hac.h, in the C that cffi parses. hac.h is the contract;
 * the C compiler checks this file against it when the extension is built. */

typedef struct hac hac;

struct hac_level {
	uint32_t kind;
	uint32_t count;
};

struct hac_options {
	size_t size;
	uint32_t flags;
	int32_t flush_ms;
	const char *engine;
	struct hac_level level;
	uint64_t at;
	size_t ring_bytes;
	uint32_t codec;
	uint32_t reserved;
	const char *key_file;
	const struct hac_replication *replication;
};

struct hac_replication {
	size_t size;
	uint32_t role;
	uint32_t reserved;
	const char *const *command;
	const char *const *arguments;
};

int hac_advance(hac *h, uint64_t *epoch);
int hac_wait_primary(hac *h, int ms);
int hac_promote(hac *h);

int hac_open(const char *path, const struct hac_options *options, hac **out);
int hac_close(hac *h);

struct hac_info {
	size_t size;
	uint64_t epoch;
	uint64_t generation;
	uint64_t parent;
	uint64_t branch_epoch;
	uint64_t durable;
	uint64_t dropped_bytes;
	uint64_t dropped_epoch;
	uint32_t areas;
	uint32_t unclaimed;
	uint32_t stage;
	uint32_t flags;
	uint32_t role;
	uint32_t helper;
	char engine[64];
	char reason[192];
};
int hac_get_info(hac *h, struct hac_info *info);

struct hac_stats {
	size_t size;
	uint64_t transactions;
	uint64_t aborts;
	uint64_t strays;
	uint64_t faults;
	uint64_t dirty_pages;
	uint64_t changed_words;
	uint64_t delta_bytes;
	uint64_t writes;
	uint64_t fallbacks;
	uint64_t begin_ns;
	uint64_t end_ns;
};
int hac_get_stats(hac *h, struct hac_stats *stats);

struct hac_area_options {
	size_t size;
	uint32_t flags;
	uint32_t reserved;
	const char *type;
	const char *fingerprint;
	const char *engine;
	size_t capacity;
};
int hac_map(hac *h, const char *name, size_t size,
	    const struct hac_area_options *options, void **address);
int hac_adopt(hac *h, const char *name, void *address, size_t size,
	      const struct hac_area_options *options);
int hac_grow(hac *h, const char *name, size_t size);
int hac_drop(hac *h, const char *name);
int hac_restored(hac *h, const char *name);
int hac_unmap(void *address);

struct hac_area_info {
	size_t size;
	uint32_t id;
	uint32_t flags;
	uint32_t claimed;
	uint32_t restored;
	uint32_t adopted;
	uint32_t reserved;
	void *address;
	uint64_t stored_address;
	uint64_t bytes;
	uint64_t capacity;
	const char *name;
	const char *type;
	const char *fingerprint;
	const char *engine;
};
int hac_get_area(hac *h, uint32_t index, struct hac_area_info *info);

struct hac_run {
	uint64_t offset;
	uint32_t length;
	uint32_t area;
};

struct hac_delta {
	size_t size;
	uint32_t form;
	uint32_t flags;
	struct hac_run *runs;
	size_t runs_max;
	size_t runs_count;
	unsigned char *bytes;
	size_t bytes_max;
	size_t bytes_count;
};

int hac_begin(hac *h);
int hac_prepare(hac *h, struct hac_delta *delta);
int hac_finish(hac *h, uint64_t *epoch);
int hac_end(hac *h, struct hac_delta *delta, uint64_t *epoch);
int hac_next(hac *h, struct hac_delta *delta, uint64_t *epoch);
int hac_abort(hac *h);
int hac_wait(hac *h, uint64_t epoch, const struct hac_level *level, int ms);
int hac_will_write(hac *h, void *address, size_t size);

struct hac_engine_info {
	size_t size;
	const char *name;
	uint32_t available;
	uint32_t words;
	uint32_t kernel_writes;
	uint32_t reserved;
	char reason[192];
};
int hac_get_engine(uint32_t index, struct hac_engine_info *info);

int hac_copy(hac *h, const char *destination);
int hac_compact(hac *h);

struct hac_check {
	size_t size;
	char uuid[37];
	char file[219];
	uint64_t offset;
	uint64_t damage_epoch;
	uint64_t dropped_bytes;
	uint64_t epoch;
	uint64_t base_epoch;
	uint64_t generation;
	uint64_t frames;
	uint64_t transactions;
	uint64_t journal_bytes;
	uint64_t base_bytes;
	uint32_t areas;
	uint32_t segments;
	uint32_t locked_by;
	uint32_t reserved;
};
int hac_check_image(const char *path, struct hac_check *check);

struct hac_log_record {
	const char *kind;
	const char *file;
	uint64_t offset;
	uint64_t generation;
	uint64_t epoch;
	uint64_t parent;
	uint64_t branch_epoch;
	uint64_t time_ns;
	uint64_t runs;
	uint64_t bytes;
	uint32_t area;
	uint32_t partial;
	const char *name;
	const char *type;
	const struct hac_run *run;
	const unsigned char *data;
};
int hac_log_image(const char *path,
		  int (*each)(void *argument, const struct hac_log_record *record),
		  void *argument);
int hac_compact_image(const char *path);

const char *hac_error_detail(void);
int hac_claim_faults(void);
uint32_t hac_version(void);

/* Of _build.py's source, not of hac.h. */
int pyhac_wait(hac *h, uint64_t epoch, uint32_t kind, uint32_t count, int ms);
int64_t pyhac_track(hac *h, uint64_t *area, const uint32_t *words, size_t choices, size_t writes,
		    uint64_t count, uint64_t value);

extern "Python" int pyhac_each_record(void *argument,
				      const struct hac_log_record *record);

/* hac_helper.h; used by pyhac/replication/_keeper.py. */

typedef struct hac_keeper hac_keeper;

struct hac_keeper_options {
	size_t size;
	uint32_t flags;
	uint32_t codec;
	const char *key_file;
	int32_t ring;
	int32_t flush_ms;
};
int hac_keeper_open(const char *path, const struct hac_keeper_options *options,
		    hac_keeper **out);
void hac_keeper_close(hac_keeper *keeper);

struct hac_place {
	size_t size;
	char uuid[37];
	char reserved[3];
	uint32_t next_area_id;
	uint64_t generation;
	uint64_t parent;
	uint64_t branch_epoch;
	uint64_t epoch;
	uint64_t last_epoch;
	uint64_t base_epoch;
	uint64_t first_sequence;
	uint64_t first_segment;
	uint64_t sequence;
	uint64_t segment;
	uint64_t offset;
	uint64_t dropped_bytes;
	uint64_t dropped_epoch;
	uint64_t durable;
	uint64_t synced_segment;
	uint64_t synced_offset;
	uint64_t pushed_bytes;
};
int hac_keeper_place(hac_keeper *keeper, struct hac_place *place);

int hac_keeper_branch(hac_keeper *keeper);
int hac_keeper_lead(hac_keeper *keeper, int event, uint32_t flags);
int hac_keeper_acknowledge(hac_keeper *keeper, uint32_t index, uint64_t epoch);
int hac_keeper_pace(hac_keeper *keeper, uint32_t us);
int hac_keeper_fence(hac_keeper *keeper, uint64_t generation, const char *why);
int hac_keeper_drain(hac_keeper *keeper);
int hac_keeper_compact(hac_keeper *keeper);
int hac_keeper_append(hac_keeper *keeper, const void *frame, size_t size);
int64_t hac_frame_size(const void *bytes, size_t size);
int hac_keeper_replace(hac_keeper *keeper, const char *incoming);
