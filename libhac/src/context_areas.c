// SPDX-License-Identifier: MIT
/* The areas of a context: claim, grow, drop, and which engine they get. */
#include "context.h"
#include "engine.h"
#include "error.h"
#include "fault.h"
#include "standby.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct area *context_area(const hac *h, const char *name)
{
	size_t i;

	for (i = 0; i < h->areas_count; i++)
		if (!strcmp(h->areas[i]->layout.name, name))
			return h->areas[i];
	return NULL;
}

/* Leave the memory to whoever still looks at it; see hac_unmap(). */
void context_retire(struct area *area)
{
	area_disarm(area);
	if (area->adopted) {
		registry_remove(area);
		area_destroy(area);
		return;
	}
	atomic_store(&area->mode, AREA_CLOSED);
	/* Whatever the engine, a write is to be explained. Without the handler
	 * it is but a crash. */
	fault_claim();
	mprotect(area->memory, area->tail, PROT_READ);
	if (area->twin)
		munmap(area->twin, page_up(area->layout.capacity));
	area->twin = NULL;
	if (area->alias) {
		munmap(area->alias, area->span);
		close(area->alias_fd);
		area->alias = NULL;
		area->alias_fd = -1;
	}
}

int context_check_engine(const hac *h, const char *name)
{
	const struct engine *engine;
	int result;

	if (!name)
		return 0;
	result = engine_find(name, &engine);
	if (result)
		return result;
	if (h->flags & HAC_NO_TWIN && engine->flags & ENGINE_NEEDS_TWIN)
		return hac_fail(
			EINVAL,
			"engine '%s' finds changes by comparing with the twin: it cannot work without one",
			name);
	return 0;
}

static int read_area_options(const char *name, const struct hac_area_options *given,
			     struct hac_area_options *o)
{
	size_t length = name ? strlen(name) : 0;

	*o = (struct hac_area_options){ .size = sizeof(*o) };
	if (!length || length > 255)
		return hac_fail(EINVAL, "an area's name has 1 to 255 bytes, not %zu", length);
	if (given) {
		if (given->size != sizeof(*o))
			return hac_fail(EINVAL, "struct hac_area_options: size is %zu, must be %zu",
					given->size, sizeof(*o));
		*o = *given;
	}
	if (o->flags & ~(HAC_POINTERS | HAC_NO_KERNEL_WRITES) || o->reserved)
		return hac_fail(EINVAL, "area '%s': unknown flags 0x%x", name,
				o->flags & ~(HAC_POINTERS | HAC_NO_KERNEL_WRITES));
	if (!o->type)
		o->type = "bytes";
	return 0;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

/* Does what the program declares fit what the image holds? */
static int check_layout(const struct layout *stored, struct area_request *r)
{
	if (strcmp(stored->type, r->type))
		return hac_fail(EPROTOTYPE,
				"area '%s': the image holds type %s, the program declares %s",
				r->name, stored->type, r->type);
	if (!same_text(stored->fingerprint, r->fingerprint))
		return hac_fail(EPROTOTYPE,
				"area '%s': the image's object is %s, this program's is %s",
				r->name, stored->fingerprint ? stored->fingerprint : "(none)",
				r->fingerprint ? r->fingerprint : "(none)");
	if ((stored->flags ^ r->flags) & HAC_POINTERS)
		return hac_fail(
			EPROTOTYPE,
			"area '%s': the image holds it with%s pointers, the program declares it with%s",
			r->name, stored->flags & HAC_POINTERS ? "" : "out",
			r->flags & HAC_POINTERS ? "" : "out");
	if (r->adopted && r->flags & HAC_POINTERS && stored->address != (uintptr_t)r->address)
		return hac_fail(
			EPROTOTYPE,
			"area '%s' holds pointers and was at %p when it was stored, but is at %p now: the same binary must be loaded at the same address",
			r->name, (void *)(uintptr_t)stored->address, r->address);
	if (stored->size != r->size && (r->adopted || stored->size < r->size ||
					stored->size > (r->capacity ? r->capacity : r->size)))
		return hac_fail(
			EPROTOTYPE,
			"area '%s': the image holds %llu bytes, the program declares %zu (capacity %zu)",
			r->name, (unsigned long long)stored->size, r->size,
			r->capacity ? r->capacity : r->size);
	r->size = stored->size;
	if (!r->adopted && r->flags & HAC_POINTERS)
		r->address = (void *)(uintptr_t)stored->address;
	return 0;
}

int context_check_stored(const struct layout *stored, const struct area *area)
{
	const struct layout *l = &area->layout;
	struct area_request r = {
		.name = l->name,
		.type = l->type,
		.fingerprint = l->fingerprint,
		.flags = l->flags & ~LAYOUT_ADOPTED,
		.size = l->size,
		.capacity = l->capacity,
		.address = area->adopted ? area->memory : NULL,
		.adopted = area->adopted,
	};
	int result = check_layout(stored, &r);

	if (!result && r.address && r.address != area->memory)
		return hac_fail(
			EPROTOTYPE,
			"area '%s' holds pointers and lies at %p on the primary, but at %p here: map it after it has arrived",
			l->name, r.address, (void *)area->memory);
	return result;
}

/* Where it lies matters only to pointers. */
bool context_layout_is_known(const struct layout *stored, const struct layout *now)
{
	return stored->capacity == now->capacity &&
	       (!(now->flags & HAC_POINTERS) || stored->address == now->address);
}

struct image_area *context_stored(const hac *h, const char *name)
{
	size_t i;

	for (i = 0; h->image && i < h->image->areas_count; i++)
		if (h->image->areas[i].contents && !strcmp(h->image->areas[i].layout.name, name))
			return &h->image->areas[i];
	return NULL;
}

static void note_engines(hac *h)
{
	size_t i;

	h->faults = false;
	for (i = 0; i < h->areas_count; i++)
		if (h->areas[i]->engine && h->areas[i]->engine->flags & ENGINE_FAULTS)
			h->faults = true;
}

/* What the areas that are compared already come to. */
static size_t compared_bytes(const hac *h, const struct area *except)
{
	size_t i, bytes = 0;

	for (i = 0; i < h->areas_count; i++)
		if (h->areas[i] != except && h->areas[i]->engine &&
		    h->areas[i]->engine->flags & ENGINE_NEEDS_TWIN)
			bytes += h->areas[i]->layout.size;
	return bytes;
}

int context_choose_engine(hac *h, struct area *area, const char *name)
{
	const struct engine *engine;
	char reason[192];
	int result = engine_find(name, &engine);

	if (result)
		return result;
	area->automatic = engine->flags & ENGINE_CHOOSES;
	if (area->automatic)
		result = engine_choose(compared_bytes(h, area) + area->layout.size, area,
				       h->flags & HAC_JOIN_STRAYS, &engine, reason, sizeof(reason));
	else
		snprintf(reason, sizeof(reason), "%s: as asked for", name);
	if (result)
		return result;
	area->own = engine;
	result = engine_force(&engine, reason, sizeof(reason));
	if (result)
		return result;
	if (!area->twin && engine->flags & ENGINE_NEEDS_TWIN)
		return hac_fail(
			EINVAL,
			"area '%s': engine '%s' needs the twin that the context was opened without",
			area->layout.name, engine->name);
	result = area_set_engine(area, engine);
	if (!result) {
		if (!(engine->flags & ENGINE_WORDS))
			h->blind = true;
		note_engines(h);
		if (area->layout.size >= h->reason_size) {
			h->reason_size = area->layout.size;
			snprintf(h->reason, sizeof(h->reason), "%s", reason);
		}
	}
	return result;
}

static bool wants_alias(const struct area_request *r, const char *engine_name)
{
	const struct engine *engine;
	char reason[192];

	return !r->adopted && !engine_find(engine_name, &engine) &&
	       !engine_force(&engine, reason, sizeof(reason)) && engine->flags & ENGINE_ALIAS;
}

static int insert(hac *h, struct area *area)
{
	struct area **areas = realloc(h->areas, (h->areas_count + 1) * sizeof(*areas));
	size_t i;

	if (!areas)
		return hac_fail(ENOMEM, "no memory for area '%s'", area->layout.name);
	h->areas = areas;
	for (i = h->areas_count; i > 0; i--) {
		if (areas[i - 1]->layout.id < area->layout.id)
			break;
		areas[i] = areas[i - 1];
	}
	areas[i] = area;
	h->areas_count++;
	return 0;
}

static void take_out(hac *h, const struct area *area)
{
	size_t i, k = 0;

	for (i = 0; i < h->areas_count; i++)
		if (h->areas[i] != area)
			h->areas[k++] = h->areas[i];
	h->areas_count = k;
}

/*
 * Bytes, engine, watch. The image's copy is taken over last, when nothing can
 * fail any more, so that a failure leaves it to the next attempt.
 */
static int set_up(hac *h, struct area *area, struct image_area *stored, const char *engine)
{
	int result = 0;

	if (!(h->flags & HAC_READONLY))
		result = context_choose_engine(h, area, engine);
	if (result)
		return result;
	if (h->role == HAC_STANDBY)
		return standby_set_up(h, area, stored);
	if (stored)
		area_fill(area, stored->contents);
	if (h->flags & HAC_READONLY) {
		atomic_store(&area->mode, AREA_READONLY);
		if (mprotect(area->memory, area->tail, PROT_READ))
			return hac_fail(errno, "area '%s': %s", area->layout.name, strerror(errno));
	} else if (stored || h->stage != STAGE_IDLE) {
		/* New areas are watched from the first begin on, so that
		 * filling them in costs no faults. */
		result = area_arm(area);
		if (result)
			return hac_fail(-result, "area '%s': engine %s: %s", area->layout.name,
					area->engine->name, strerror(-result));
	}
	area->suspect = !stored; /* all of it is new */
	if (!stored)
		return 0;
	result = area_take_twin(area, stored->contents, page_up(stored->layout.capacity));
	if (result)
		return result;
	stored->contents = NULL;
	h->unclaimed--;
	area->restored = true;
	area->announced = context_layout_is_known(&stored->layout, &area->layout);
	return 0;
}

static int add_area(hac *h, struct area_request *r, const struct hac_area_options *o,
		    struct area **out)
{
	struct image_area *stored = context_stored(h, r->name);
	const char *engine = o->engine ? o->engine : h->engine;
	struct area *area;
	int result;

	if (context_area(h, r->name))
		return hac_fail(EBUSY, "area '%s' is claimed already", r->name);
	if (!stored && h->flags & HAC_READONLY)
		return hac_fail(EROFS, "the image has no area '%s', and the context is read-only",
				r->name);
	result = context_check_engine(h, o->engine);
	if (!result && stored)
		result = check_layout(&stored->layout, r);
	if (result)
		return result;
	r->twin = !(h->flags & (HAC_NO_TWIN | HAC_READONLY));
	r->alias = !(h->flags & HAC_READONLY) && wants_alias(r, engine);
	result = area_create(r, &area);
	if (result)
		return result;
	area->layout.id = stored ? stored->layout.id : h->role == HAC_STANDBY ? 0 : h->next_area_id;
	result = registry_add(area);
	if (result) {
		area_destroy(area);
		return result;
	}
	result = insert(h, area);
	if (!result) {
		result = set_up(h, area, stored, engine);
		if (result)
			take_out(h, area);
	}
	if (result) {
		area_disarm(area);
		registry_remove(area);
		area_destroy(area);
		return result;
	}
	if (!stored && h->role != HAC_STANDBY)
		h->next_area_id++;
	note_engines(h);
	*out = area;
	return 0;
}

int hac_map(hac *h, const char *name, size_t size, const struct hac_area_options *options,
	    void **address)
{
	struct hac_area_options o;
	struct area_request request;
	struct area *area;
	int result = context_enter(h);

	if (result)
		return result;
	result = read_area_options(name, options, &o);
	if (!result && (!size || size > PTRDIFF_MAX / 4))
		result = hac_fail(EINVAL, "area '%s': size is %zu", name, size);
	if (!result && o.capacity && o.capacity < size)
		result = hac_fail(EINVAL, "area '%s': capacity %zu is less than size %zu", name,
				  o.capacity, size);
	if (!result && o.capacity > PTRDIFF_MAX / 4)
		result = hac_fail(EINVAL, "area '%s': capacity is %zu", name, o.capacity);
	if (!result) {
		request = (struct area_request){
			.name = name,
			.type = o.type,
			.fingerprint = o.fingerprint,
			.flags = o.flags,
			.size = size,
			.capacity = o.capacity,
		};
		result = add_area(h, &request, &o, &area);
	}
	if (!result)
		*address = area->memory;
	context_leave(h);
	return result;
}

int hac_adopt(hac *h, const char *name, void *address, size_t size,
	      const struct hac_area_options *options)
{
	struct hac_area_options o;
	struct area_request request;
	struct area *area;
	int result = context_enter(h);

	if (result)
		return result;
	result = read_area_options(name, options, &o);
	if (!result && (!size || !address))
		result = hac_fail(EINVAL, "area '%s': %zu bytes at %p", name, size, address);
	if (!result && o.capacity)
		result = hac_fail(EINVAL,
				  "area '%s': adopted memory cannot grow, so it has no capacity",
				  name);
	if (!result && h->flags & HAC_READONLY)
		result = hac_fail(
			EROFS,
			"area '%s': adopting overwrites memory; map it in a read-only context",
			name);
	if (!result) {
		request = (struct area_request){
			.name = name,
			.type = o.type,
			.fingerprint = o.fingerprint,
			.flags = o.flags,
			.size = size,
			.address = address,
			.adopted = true,
		};
		result = add_area(h, &request, &o, &area);
	}
	context_leave(h);
	return result;
}

/* A larger area may want another engine. The old size stays if none works. */
static int grow(hac *h, struct area *area, size_t size)
{
	int result;

	if (area->adopted)
		return hac_fail(EINVAL, "area '%s': adopted memory cannot grow", area->layout.name);
	if (size < area->layout.size)
		return hac_fail(EINVAL, "area '%s': cannot shrink from %llu to %zu bytes",
				area->layout.name, (unsigned long long)area->layout.size, size);
	if (size > area->layout.capacity)
		return hac_fail(
			EINVAL,
			"area '%s': %zu bytes are more than its capacity of %llu; map it with a larger one",
			area->layout.name, size, (unsigned long long)area->layout.capacity);
	if (h->flags & HAC_READONLY)
		return hac_fail(EROFS, "area '%s': the context is read-only", area->layout.name);
	if (size == area->layout.size)
		return 0;
	result = area_extend(area, size);
	if (result)
		return result;
	area->announced = false;
	if (area->automatic)
		result = context_choose_engine(h, area, "auto");
	return result;
}

int hac_grow(hac *h, const char *name, size_t size)
{
	struct area *area;
	int result = context_enter(h);

	if (result)
		return result;
	area = name ? context_area(h, name) : NULL;
	result = area ? standby_refuse(h) :
			hac_fail(EINVAL, "no area '%s' is claimed", name ? name : "(null)");
	if (!result)
		result = grow(h, area, size);
	context_leave(h);
	return result;
}

static int drop(hac *h, const char *name)
{
	struct image_area *stored = context_stored(h, name);
	struct area *area = context_area(h, name);
	uint32_t *drops;

	if (h->stage != STAGE_IDLE)
		return hac_fail(EPROTO,
				"area '%s': end or abort the transaction before dropping it", name);
	if (h->flags & HAC_READONLY)
		return hac_fail(EROFS, "area '%s': the context is read-only", name);
	if (!area && !stored)
		return hac_fail(ENOENT, "there is no area '%s'", name);
	drops = realloc(h->drops, (h->drops_count + 1) * sizeof(*drops));
	if (!drops)
		return hac_fail(ENOMEM, "no memory to drop area '%s'", name);
	h->drops = drops;
	if (!area) {
		munmap(stored->contents, page_up(stored->layout.capacity));
		stored->contents = NULL;
		h->unclaimed--;
		drops[h->drops_count++] = stored->layout.id;
		return 0;
	}
	if (area->announced || area->restored)
		drops[h->drops_count++] = area->layout.id;
	h->past_faults += atomic_load(&area->faults);
	take_out(h, area);
	context_retire(area);
	note_engines(h);
	return 0;
}

int hac_drop(hac *h, const char *name)
{
	int result = context_enter(h);

	if (result)
		return result;
	result = name ? standby_refuse(h) : hac_fail(EINVAL, "the name is NULL");
	if (!result)
		result = drop(h, name);
	context_leave(h);
	return result;
}

int hac_restored(hac *h, const char *name)
{
	const struct area *area;
	int result = context_enter(h);

	if (result)
		return result;
	area = name ? context_area(h, name) : NULL;
	result = area ? area->restored :
			hac_fail(ENOENT, "no area '%s' is claimed", name ? name : "(null)");
	context_leave(h);
	return result;
}

int hac_will_write(hac *h, void *address, size_t size)
{
	uintptr_t at = (uintptr_t)address;
	size_t i, from;
	int result = context_enter(h);

	if (!result) {
		result = standby_refuse(h);
		if (result)
			context_leave(h);
	}
	if (result)
		return result;
	result = size ? -EINVAL : 0;
	for (i = 0; i < h->areas_count && result; i++) {
		struct area *area = h->areas[i];
		uintptr_t start = (uintptr_t)area->memory;

		if (at < start || at - start > area->layout.size ||
		    size > area->layout.size - (at - start))
			continue;
		from = at - start;
		/* From now on it is watched, or it could not be opened. */
		result = area_arm(area);
		if (!result)
			result = area_open(area, from, from + size);
		if (result)
			hac_fail(-result, "area '%s': %s", area->layout.name, strerror(-result));
		break;
	}
	if (result == -EINVAL)
		hac_fail(EINVAL, "%p, %zu bytes, does not lie within one area", address, size);
	context_leave(h);
	return result;
}
