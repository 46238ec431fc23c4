/* SPDX-License-Identifier: MIT */
/* The call tree of a recording as people see it: lines instead of instructions, imports instead of importlib.
 *
 * Made once for each recording; views (view.h) put numbers on it. */
#ifndef HEFT_LEDGER_STACKS_H
#define HEFT_LEDGER_STACKS_H

#include "base/map.h"
#include "ledger/reader.h"

#define HEFT_NONE UINT32_MAX

/* Names (file, function, module) are numbers, equal for equal text. */
#define HEFT_NAME_EMPTY 0u       /* not known */
#define HEFT_NAME_INTERPRETER 1u /* "<interpreter>": what no Python frame asked for */
#define HEFT_NAME_UNKNOWN 2u     /* "<unknown>": a file or function without a name */

#define HEFT_NAME_PATHS_CUT                                                                                            \
    3u /* "<paths cut>": the callers of a line that were not kept (HEFT_FLAG_PATHS_CUT), or                            \
          all of a call path (HEFT_DETAIL_CUT at a thread or the root) */

#define HEFT_FILE_INTERPRETER 0u
#define HEFT_FRAME_INTERPRETER 0u

/* A line of code that was running; distinct in everything but the column. */
typedef struct {
    uint32_t file;         /* index into files */
    uint32_t line;         /* 1-based, 0 = not known */
    uint32_t column;       /* 1-based; 0 = not known, or several on this line */
    uint32_t function;     /* name */
    uint32_t module;       /* name */
    uint32_t import;       /* name of the module that this line imports just now, or HEFT_NAME_EMPTY */
    uint32_t line_key;     /* equal for frames of equal file, line, function, module */
    uint32_t function_key; /* equal for frames of equal file, function, module */
    uint32_t rank;         /* its place by file, line, function, module, import */
} heft_frame_t;

/* A region that the program has named (memheft.region), the same in all threads; up < own number. */
typedef struct {
    uint32_t name;
    uint32_t up; /* the region around it, HEFT_NONE = none */
} heft_part_t;

/* A distinct stack: a frame, called from `up`.  up < own number.
 *
 *     0 root  1 its <interpreter>  2 thread  3 the thread's <interpreter>  4, 5, ... frames, regions, further threads
 *
 * Stacks begin at bases: the root, a thread, or a region of a thread (under the thread or the region around it).  The
 * vertex behind a base is always the <interpreter> frame under it: where that which has no frame goes.  Stacks of which
 * only the innermost line was kept stand under a frame <paths cut> of their base; those of which nothing was kept are
 * that frame. */
typedef struct {
    uint32_t up;
    uint32_t frame;  /* HEFT_NONE for bases */
    uint32_t thread; /* index into the recording's threads; HEFT_NONE at the root */
    uint32_t part;   /* index into the parts: the region that it is in, HEFT_NONE = none */
    uint32_t first;  /* child, 0 = none */
    uint32_t next;   /* sibling, 0 = none */
    uint32_t cut;    /* base that holds what found no room below it: its <paths cut>; else 0 */
    bool recursive;  /* recursion was folded onto it (HEFT_DETAIL_RECURSIVE) */
} heft_vertex_t;

typedef struct {
    const heft_reader_t *reader; /* borrowed */

    heft_text_t *names;   /* by number; text borrowed from the reader */
    uint32_t *name_ranks; /* place in the order of bytes */
    uint32_t name_n;

    heft_part_t *parts;
    uint32_t part_n;

    uint32_t *files; /* name of each; only files that appear in a frame, and 0 */
    uint32_t file_n;

    heft_frame_t *frames;
    uint32_t frame_n, line_n, function_n; /* the latter: how many keys there are */
    uint32_t cut_frame, cut_file;         /* <paths cut>; HEFT_NONE when no path was cut */

    heft_vertex_t *vertices;
    uint32_t vertex_n;
    uint32_t *vertex_of_node; /* by node of the recording: itself, or what it is shown as */
} heft_stacks_t;

/* Build the stacks of a recording that stays open while they live.  False: no memory (*stacks is then empty). */
bool heft_stacks_init(heft_stacks_t *stacks, const heft_reader_t *reader);
void heft_stacks_done(heft_stacks_t *stacks);

/* Is this vertex the root, a thread or a region rather than a frame? */
static inline bool heft_stacks_is_base(const heft_stacks_t *stacks, uint32_t vertex)
{
    return stacks->vertices[vertex].frame == HEFT_NONE;
}

/* Is it a region's base? */
static inline bool heft_stacks_is_part(const heft_stacks_t *stacks, uint32_t vertex)
{
    return heft_stacks_is_base(stacks, vertex) && stacks->vertices[vertex].part != HEFT_NONE;
}

/* Was the way to this node not kept?  Then it stands directly under a base: a file that says so of others is not
 * believed, whatever its checksums. */
static inline bool heft_stacks_is_cut(const heft_stacks_t *stacks, uint32_t node)
{
    uint32_t from = stacks->vertex_of_node[stacks->reader->nodes[node].parent];
    return stacks->cut_frame != HEFT_NONE && (stacks->reader->details[node].flags & HEFT_DETAIL_FLAT) != 0 &&
           heft_stacks_is_base(stacks, from);
}

/* May blocks of this node be those of lines below it for which there was no room? */
static inline bool heft_stacks_is_uncertain(const heft_stacks_t *stacks, uint32_t node)
{
    return (stacks->reader->details[node].flags & HEFT_DETAIL_CUT) != 0;
}

/* Is nothing known of where its blocks were asked for? */
static inline bool heft_stacks_is_nowhere(const heft_stacks_t *stacks, uint32_t node)
{
    return stacks->vertices[stacks->vertex_of_node[node]].cut != 0;
}

/* The vertex to which blocks of `node` are charged: always a frame. */
static inline uint32_t heft_stacks_site(const heft_stacks_t *stacks, uint32_t node)
{
    uint32_t vertex = stacks->vertex_of_node[node];
    if (!heft_stacks_is_base(stacks, vertex))
        return vertex;
    return stacks->vertices[vertex].cut != 0 ? stacks->vertices[vertex].cut : vertex + 1;
}

#endif
