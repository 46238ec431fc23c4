/* SPDX-License-Identifier: MIT */
/* speedscope's own JSON: several `sampled` profiles over one table of frames. */
#ifndef HEFT_EXPORT_SPEEDSCOPE_H
#define HEFT_EXPORT_SPEEDSCOPE_H

#include "export/out.h"
#include "export/paths.h"

/* One of the profiles between which its user chooses. */
typedef struct {
    const heft_view_t *view;
    heft_text_t name;
    uint32_t thread; /* index, HEFT_NONE (what belongs to none) or HEFT_PATHS_ALL */
    bool blocks;     /* weights are numbers of blocks; else bytes */
} heft_speedscope_profile_t;

typedef struct {
    heft_text_t name, exporter;
    const heft_speedscope_profile_t *profiles; /* of the same recording; borrowed, like all of this */
    size_t profile_n;
    size_t active; /* the one that is shown first */
} heft_speedscope_t;

/* Write the file.  False: no memory. */
bool heft_speedscope_write(const heft_speedscope_t *file, heft_out_t *out);

#endif
