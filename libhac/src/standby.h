/* SPDX-License-Identifier: MIT */
/* A context that follows a primary: its areas, and how they move. */
#ifndef HAC_STANDBY_H
#define HAC_STANDBY_H

#include "context.h"

struct tail_plan;

/* With the lock, all of them. */

/* A new area's bytes, from the image if that has it, and its protection. */
int standby_set_up(hac *h, struct area *area, struct image_area *stored);

/* Read the image at `path` as it is now, for h->image. */
int standby_open_image(hac *h, const char *path, struct image **out);

/* Refuse what only a primary does. */
int standby_refuse(const hac *h);

/* ---- how they move (standby_move.c) ---- */

/* Move to the end of the plan; or on failure nothing has moved. */
int standby_apply(hac *h, const struct tail_plan *plan);

/* Move to what this image holds, which becomes the context's; or on failure
 * nothing has moved, and it is closed. */
int standby_put_image(hac *h, struct image *fresh);

/* Set access to the memory of an area, unless it was adopted. */
int standby_protect(struct area *area, int access);

/* Ids, or what is claimed, have changed. */
void standby_settle(hac *h);

#endif
