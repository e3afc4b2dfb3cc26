/* SPDX-License-Identifier: MIT */
/* A context that follows a primary: its areas, and how they move. */
#ifndef HAC_STANDBY_H
#define HAC_STANDBY_H

#include "context.h"

/* With the lock, all of them. */

/* A new area's bytes, from the image if that has it, and its protection. */
int standby_set_up(hac *h, struct area *area, struct image_area *stored);

/* Read the image at `path` as it is now, for h->image. */
int standby_open_image(hac *h, const char *path, struct image **out);

/* Refuse what only a primary does. */
int standby_refuse(const hac *h);

#endif
