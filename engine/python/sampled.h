/* SPDX-License-Identifier: MIT */
/* The allocator hooks of sampled mode, see sampled.c. */
#ifndef HEFT_PYTHON_SAMPLED_H
#define HEFT_PYTHON_SAMPLED_H

#include "python/version.h"

/* Reserve the range of sampled blocks.  `real`: RAW's allocator beneath the hooks; set before the first call of one.
 * False: no address space. */
bool heft_sampled_start(PyMemAllocatorEx *real);

/* A recording has just begun: this thread looks at its next request.  Others that allocated before may look up to 4 KiB
 * late, if the hooks stayed from an earlier recording. */
void heft_sampled_begin(void);

/* For RAW; for MEM and OBJ above pymalloc; for these above anything else.  Once installed they have to stay: sampled
 * blocks are given back through them. */
extern const PyMemAllocatorEx heft_sampled_raw, heft_sampled_obj, heft_sampled_any;

/* Take no samples of what this thread asks for while the sum of changes is above 0. */
void heft_sampled_hide(int change);

#endif
