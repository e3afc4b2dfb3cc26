/* SPDX-License-Identifier: MIT */
/* What the engines over Xen share: all but their names. See engine.h. */
#ifndef HAC_XEN_ENGINE_H
#define HAC_XEN_ENGINE_H

#include "area.h"
#include "xen_gate.h"

int xen_engine_arm(struct area *area, size_t from, size_t to, uint32_t handler);
int xen_engine_harvest(struct area *area, struct extents *out, bool peek);
bool xen_engine_is_quiet(struct area *area);
/* Xen sees it by itself. */
int xen_engine_open_seen(struct area *area, size_t from, size_t to);
/* Xen does not, or not always: report it at the next harvest. */
int xen_engine_open_noted(struct area *area, size_t from, size_t to);
void xen_engine_disarm(struct area *area);

#endif
