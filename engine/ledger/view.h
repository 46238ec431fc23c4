/* SPDX-License-Identifier: MIT */
/* Numbers on the stacks of a recording: one moment, perhaps filtered, grouped into rows or drawn as a tree.
 *
 * A view owns two numbers for each vertex: `self`, what it allocated itself, and `under`, that and all it called.
 * Everything below sums to `total` exactly. */
#ifndef HEFT_LEDGER_VIEW_H
#define HEFT_LEDGER_VIEW_H

#include "ledger/stacks.h"

/* Classes of files, by the caller's judgement. */
#define HEFT_CLASS_OWN 0u
#define HEFT_CLASS_STDLIB 1u /* the standard library */
#define HEFT_CLASSES_MAX 32u

typedef struct {
    heft_moment_t moment;
    uint32_t span;          /* HEFT_MOMENT_TEMPORARY: 0..2 */
    const uint8_t *classes; /* class of each file, stacks->file_n of them, each below HEFT_CLASSES_MAX; borrowed */
    bool own;               /* charge to the nearest own frame instead of the innermost; without one to <interpreter>,
                               or to <paths cut> if there may be one */
    uint32_t keep;          /* mask of classes: drop what is charged to files of others */
    const uint8_t *pattern; /* for each file: drop what is charged to it when 0; NULL = drop nothing; borrowed */
    const uint8_t *parts;   /* the same for each region, and last for what is in none */
} heft_view_options_t;

/* When blocks were asked for, from the start of the recording; first > last: never. */
typedef struct {
    uint64_t first_ns, last_ns;
} heft_times_t;

typedef struct {
    const heft_stacks_t *stacks; /* borrowed */
    heft_amount_t total;
    heft_amount_t cut;       /* of it: on stacks of which only the innermost line was kept, or nothing */
    heft_amount_t uncertain; /* of it, at most: charged to a caller of the line that asked, or to <paths cut> */
    heft_amount_t *self;     /* by vertex */
    heft_amount_t *under;    /* by vertex */
    heft_times_t *times;     /* by vertex: of what is charged to it */
    uint8_t *files;          /* HEFT_VIEW_* by file */
} heft_view_t;

#define HEFT_TIMES_NEVER ((heft_times_t){UINT64_MAX, 0})

#define HEFT_VIEW_OWN 1u   /* the file is own code */
#define HEFT_VIEW_SHOWN 2u /* the filters keep what is charged to it */
#define HEFT_VIEW_STDLIB 4u

/* Build a view.  False: no memory (*view is then empty).  Releases nothing of the caller's. */
bool heft_view_init(heft_view_t *view, const heft_stacks_t *stacks, const heft_view_options_t *options);
void heft_view_done(heft_view_t *view);

/* Are there several threads that allocated, be it blocks of no bytes?  What belongs to none counts as one more.  Then
 * trees and stacks begin with the thread. */
bool heft_view_has_threads(const heft_view_t *view);

static inline uint8_t heft_view_file(const heft_view_t *view, uint32_t vertex)
{
    const heft_stacks_t *s = view->stacks;
    return view->files[s->frames[s->vertices[vertex].frame].file];
}

static inline bool heft_amount_is_zero(heft_amount_t amount)
{
    return (amount.bytes | amount.blocks) == 0;
}

static inline void heft_amount_add(heft_amount_t *sum, heft_amount_t amount)
{
    sum->bytes += amount.bytes;
    sum->blocks += amount.blocks;
    sum->bytes_variance += amount.bytes_variance;
    sum->blocks_variance += amount.blocks_variance;
}

static inline void heft_times_add(heft_times_t *sum, heft_times_t times)
{
    sum->first_ns = times.first_ns < sum->first_ns ? times.first_ns : sum->first_ns;
    sum->last_ns = times.last_ns > sum->last_ns ? times.last_ns : sum->last_ns;
}

/* ---- view_rows.c --------------------------------------------------------------------------------------------- */

typedef enum {
    HEFT_BY_LINE,     /* key: the frame's line_key; import: what its frames import */
    HEFT_BY_FUNCTION, /* key: the frame's function_key */
    HEFT_BY_FILE,     /* key: file */
    HEFT_BY_MODULE,   /* key: name */
    HEFT_BY_THREAD,   /* key: index into the threads, HEFT_NONE for what belongs to none */
    HEFT_BY_STACK,    /* key: vertex */
    HEFT_BY_REGION,   /* key: index into the parts, HEFT_NONE for what is in none; under: with the regions in it */
} heft_by_t;

typedef struct {
    heft_amount_t self;  /* the rows' sum to the view's total */
    heft_amount_t under; /* what was allocated under the row's frames, each block once however often it recurs */
    heft_times_t times;  /* of `self` */
    uint32_t key;
    uint32_t frame; /* first of the row's frames by rank; HEFT_NONE for threads and regions */
    uint32_t owner; /* LINE: the nearest own caller that carries most, as a frame; of a line of the standard library
                       that has none, the nearest caller outside of it; HEFT_NONE = own itself, or more of it has no
                       such caller at all */
    heft_amount_t owned;             /* what the owner carries of `self` */
    uint32_t import_first, import_n; /* LINE: names in heft_rows_t.imports, largest first */
} heft_row_t;

typedef struct {
    heft_row_t *rows; /* largest `self` first; owned */
    size_t row_n;
    uint32_t *imports; /* owned */
    size_t import_n;
} heft_rows_t;

/* Group the view.  Rows that hold nothing themselves but have something under them are in it (last) if the filters
 * keep their file, except for stacks.  False: no memory (*rows is then empty). */
bool heft_view_rows(const heft_view_t *view, heft_by_t by, heft_rows_t *rows);
void heft_rows_done(heft_rows_t *rows);

/* ---- view_tree.c --------------------------------------------------------------------------------------------- */

typedef struct {
    uint32_t depth;
    uint32_t frame;     /* HEFT_NONE: the root, a thread or a region */
    uint32_t thread;    /* HEFT_NONE: the root; of a thread row, and of what stands below one, its index */
    uint32_t part;      /* of a region row, and of what stands below one, its index; else HEFT_NONE */
    heft_amount_t self; /* of all rows they sum to the total */
    heft_amount_t under;
    bool recursive; /* recursion was folded onto the frame, on one of the row's stacks at least */
} heft_branch_t;

typedef struct {
    heft_branch_t *branches; /* parents first, the largest child first; branches[0] is the root; owned */
    size_t branch_n;
} heft_branches_t;

/* Draw the view as a tree: from the threads (if more than one allocated) and outermost frames inwards, or `inverted`:
 * from what allocated to its callers.  There `self` is what had no further caller.  A tree that would be very large
 * inverted is cut where it is thinnest: the rest is `self` of the row at which it was cut.  False: no memory. */
bool heft_view_tree(const heft_view_t *view, bool inverted, heft_branches_t *tree);
void heft_branches_done(heft_branches_t *tree);

#endif
