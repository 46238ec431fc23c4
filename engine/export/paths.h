/* SPDX-License-Identifier: MIT */
/* The stacks of a recording as a dialect tells them apart.
 *
 * A recording has more stacks than most formats can say: the same line importing two modules, the same calls in two
 * threads.  Who writes a format labels frames (and threads, and regions); stacks of equal labels become one path. */
#ifndef HEFT_EXPORT_PATHS_H
#define HEFT_EXPORT_PATHS_H

#include "ledger/view.h"

typedef struct {
    uint32_t up;     /* path of the caller; less than its own number, 0 at the root */
    uint32_t label;  /* not of the root, path 0 */
    uint32_t vertex; /* the first of its vertices */
} heft_path_t;

typedef struct {
    const heft_stacks_t *stacks; /* borrowed */
    heft_path_t *paths;
    uint32_t path_n;
    uint32_t *path_of; /* by vertex */
} heft_paths_t;

/* `frames`: a label for each frame; `threads`, `parts`: for each thread, each region, NULL = what they have in common
 * is one path.  False: no memory (*paths is then empty). */
bool heft_paths_init(heft_paths_t *paths, const heft_stacks_t *stacks, const uint32_t *frames, const uint32_t *threads,
                     const uint32_t *parts);
void heft_paths_done(heft_paths_t *paths);

/* What each path holds itself; only of one thread if `thread` is not HEFT_PATHS_ALL (HEFT_NONE: of no thread).
 * `amounts` has room for path_n; `times`, which may be NULL, as well. */
#define HEFT_PATHS_ALL (UINT32_MAX - 1)
void heft_paths_sum(const heft_paths_t *paths, const heft_view_t *view, uint32_t thread, heft_amount_t *amounts,
                    heft_times_t *times);

#endif
