/* SPDX-License-Identifier: MIT */
/* The call tree and its counters: the hot half of the ledger.
 *
 * A node is one (parent, instruction) pair.  Finding it is a look into a small memo, else a hash chain; counting is a
 * handful of additions in one cache line.  Cost of an event: 1-3 ns here.
 *
 *     memos[f(parent, ip)] ---------> node         nearly always
 *     buckets[hash(parent, ip)] ----> node -> node.next -> ... -> 0
 *
 * Nodes are never removed and never renumbered: a number, once given out, names one call path for ever.
 *
 * Alias nodes answer for somebody else, so that the hot path needs no rules: an instruction before a frame's first
 * RESUME answers with its parent, a recursive call with the ancestor it repeats.  An import switch (a frame of
 * importlib's _find_and_load) answers differently for each module: the caller asks heft_tree_import.
 *
 * Recursion.  A node whose instruction already stands on its path aliases that ancestor.  That bounds the tree by the
 * program's text rather than by its depth, but mutual recursion over many functions can still make very many paths:
 * from HEFT_TREE_FOLD_CODE nodes on, a function that already stands on the path is folded as a whole (its instruction
 * becomes a sibling of the outermost activation) and no aliases are made for recursion any more.  From HEFT_TREE_FLAT
 * nodes on a new path keeps its innermost line only, directly under its thread or region (HEFT_FLAG_PATHS_CUT).  When
 * the column is full, or the disk, requests are charged to the parent and counted in header.cut_events.  Totals are
 * exact in every case.
 *
 * Plain trees (frames_kept != 0) answer for the innermost `frames_kept` frames, and nothing may change those: recursion
 * is not folded.  From HEFT_TREE_FOLD_CODE nodes on a path that is longer than that aliases the path of its innermost
 * frames_kept frames, directly under its thread, so that the tree is bounded by the number of answers.
 *
 * Peak by epoch.  A maximum of the sum of live bytes can only lie just before a free.  There the epoch advances; a node
 * saves its live values before its first change in an epoch.  Exact at O(1) an event; format.h says how to read it.
 *
 * Not thread-safe: the caller holds the ledger lock. */
#ifndef HEFT_LEDGER_TREE_H
#define HEFT_LEDGER_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/region.h"
#include "ledger/ledger.h"
#include "ledger/strings.h"

#define HEFT_TREE_ROOT 1u
#define HEFT_TREE_FOLD_CODE (1u << 16)
#define HEFT_TREE_FLAT (1u << 18)
#define HEFT_TREE_KEPT_MAX 64u /* with more frames_kept, paths are whole up to HEFT_TREE_FLAT */
#define HEFT_TREE_CODE_INDEX                                                                                           \
    4096u /* bucket heads of each index of code objects; chains grow with the program's text                           \
           */

typedef struct {
    uint64_t key;                  /* what the code is, see heft_code_info_t */
    uint64_t base, end;            /* addresses of its instructions, 0 once dead */
    uint32_t next_live, next_dead; /* chains of the two indexes */
} heft_code_slot_t;

/* A remembered answer: the node that answers for (parent, ip).  A fact, so it can miss but not lie; those of a code
 * object are forgotten when it dies. */
typedef struct {
    uint64_t ip;
    uint32_t parent;
    uint32_t node; /* 0: none */
} heft_memo_t;

#define HEFT_TREE_MEMOS 1024u  /* by parent and ip: 16 KiB, a third of a first-level cache */
#define HEFT_TREE_PLACES 1024u /* by place, behind the others */

typedef struct {
    /* one cache line: what every event reads */
    heft_node_t *nodes;
    heft_memo_t *memos;
    uint64_t epoch;
    int64_t live_bytes;
    int64_t peak_bytes;
    uint64_t now_ns; /* the clock as last read; the caller sets it */
    heft_detail_t *details;
    heft_header_t *header;
    heft_temp_t *temps;

    /* rarer */
    uint32_t *buckets;
    uint32_t bucket_mask;
    uint32_t node_n;      /* = header->node_n */
    uint32_t frames_kept; /* 0: fold recursion; else see above.  Set before the first path is made */
    uint32_t region_n;    /* nodes of regions */
    heft_ledger_t *ledger;
    heft_strings_t strings;
    heft_region_t bucket_region, memo_region;
    heft_region_t code_region;
    heft_code_slot_t *codes;           /* by code number */
    uint32_t *live_index, *dead_index; /* bucket heads: by code address, by key */
} heft_tree_t;

/* What the caller knows of a code object.  `key` identifies its text: two code objects of equal key, file, name and
 * first line have the same instructions on the same lines, so one that dies may come back as the other. */
typedef struct {
    uint64_t address;   /* of the code object: identifies it while it lives */
    uint64_t base, end; /* of its instructions */
    uint64_t key;
    heft_str_t file, name; /* borrowed */
    uint32_t first_line;
    uint32_t flags; /* HEFT_CODE_* */
} heft_code_info_t;

typedef struct {
    uint32_t code;   /* from heft_tree_add_code */
    uint32_t instr;  /* byte offset, as an int32_t: -2 for a frame that has not begun (3.11, 3.12) */
    uint32_t line;   /* 1-based, 0 = not known */
    uint16_t column; /* 1-based, 0 = not known */
    bool incomplete; /* before the frame's first RESUME: belongs to the parent */
    bool machinery;  /* not shown: the parent answers, see heft_tree_is_machinery */
    bool import_switch;
} heft_frame_info_t;

/* False when memory for the tables cannot be had.  The ledger is borrowed and must outlive the tree. */
bool heft_tree_init(heft_tree_t *tree, heft_ledger_t *ledger);
void heft_tree_done(heft_tree_t *tree);

HEFT_INLINE heft_memo_t *heft__tree_memo(const heft_tree_t *tree, uint32_t parent, uint64_t ip)
{
    return &tree->memos[((uint32_t)(ip >> 1) + parent * 5) % HEFT_TREE_MEMOS];
}

/* The node that answers for instruction `ip` called from `parent`, if that is remembered, else 0: then ask
 * heft_tree_probe. */
HEFT_INLINE uint32_t heft_tree_find(const heft_tree_t *tree, uint32_t parent, uint64_t ip)
{
    const heft_memo_t *memo = heft__tree_memo(tree, parent, ip);
    return HEFT_LIKELY(memo->ip == ip && memo->parent == parent) ? memo->node : 0;
}

/* The same, remembered by where the caller found the pair (its frame's address): of a whole stack, the lookups then do
 * not wait for each other, as they would if each had to know its parent before it could begin. */
HEFT_INLINE heft_memo_t *heft_tree_place(const heft_tree_t *tree, const void *place)
{
    return &tree->memos[HEFT_TREE_MEMOS + ((uintptr_t)place >> 4) * 5 % HEFT_TREE_PLACES];
}

HEFT_INLINE void heft_tree_remember(heft_tree_t *tree, uint32_t parent, uint64_t ip, uint32_t node)
{
    *heft__tree_memo(tree, parent, ip) = (heft_memo_t){ip, parent, node};
}

/* The whole bucket.  Returns the node that answers for (parent, ip), or 0 when there is none.  For an import switch
 * returns 0 and its number in *import_switch. */
uint32_t heft_tree_probe(const heft_tree_t *tree, uint32_t parent, uint64_t ip, uint32_t *import_switch);

/* Make the node that probe did not find; returns the node that answers for it (or the switch's own number, if
 * frame->import_switch).  Never fails: when there is no room the parent answers, and the cut is counted. */
uint32_t heft_tree_insert(heft_tree_t *tree, uint32_t parent, uint64_t ip, const heft_frame_info_t *frame);

/* Machinery (importlib, runpy) has no nodes: whoever it works for answers.  An instruction of it is known by an alias
 * under the root, so that asking again costs one more lookup and no new node for each import. */
bool heft_tree_is_machinery(const heft_tree_t *tree, uint64_t ip);

/* The node of "import name" under an import switch. */
uint32_t heft_tree_import(heft_tree_t *tree, uint32_t import_switch, heft_str_t name);

/* A new thread's node, child of the root; 0 when the column is full. */
uint32_t heft_tree_thread(heft_tree_t *tree, uint64_t native_id, uint32_t flags);
void heft_tree_name_thread(heft_tree_t *tree, uint32_t node, heft_str_t name);

/* The node of the region `name` under `base`, a thread or the region around it: stacks inside the region begin there.
 * `base` itself when it is a region of that name, when there is no room, or when HEFT_REGIONS_MAX nodes of regions
 * exist (names made of numbers). */
uint32_t heft_tree_region(heft_tree_t *tree, uint32_t base, heft_str_t name);

/* The number of the living code object at `address`, or 0. */
uint32_t heft_tree_find_code(const heft_tree_t *tree, uint64_t address);

/* Register a code object; revives a dead one of the same text.  0 when the column is full. */
uint32_t heft_tree_add_code(heft_tree_t *tree, const heft_code_info_t *info);

/* Say in which module a code object runs. */
void heft_tree_name_module(heft_tree_t *tree, uint32_t code, heft_str_t module);

/* The code object at `address` is about to be freed: its nodes can no longer be found by instruction. */
void heft_tree_retire_code(heft_tree_t *tree, uint64_t address);

/* Give `node` a record for its longer-lived temporaries, if there is room; else the root's serves. */
void heft_tree_add_temp(heft_tree_t *tree, uint32_t node);

/* A temporary block of `node`, freed after `since` (0..3) further requests of its thread. */
HEFT_INLINE void heft_tree_count_temp(heft_tree_t *tree, uint32_t node, size_t bytes, unsigned since)
{
    heft_detail_t *detail = &tree->details[node];
    if (since == 0) {
        detail->temporary_bytes += bytes;
        detail->temporary_blocks++;
    } else {
        heft_temp_t *temp = &tree->temps[detail->temp];
        temp->bytes[since / 2] += bytes;
        temp->blocks[since / 2]++;
    }
}

HEFT_INLINE void heft__tree_touch(heft_tree_t *tree, heft_node_t *node)
{
    if (HEFT_UNLIKELY(node->epoch != tree->epoch)) {
        heft_detail_t *detail = &tree->details[node - tree->nodes];
        detail->peak_bytes = (uint64_t)(node->allocated_bytes - node->freed_bytes);
        detail->peak_blocks = (uint64_t)(node->allocated_blocks - node->freed_blocks);
        node->epoch = tree->epoch;
    }
}

/* The same for what one block stands for: of sampled recordings, see sampling.h. */
void heft_tree_count_allocs(heft_tree_t *tree, uint32_t node, int64_t bytes, int64_t blocks);
void heft_tree_count_frees(heft_tree_t *tree, uint32_t node, int64_t bytes, int64_t blocks);
void heft_tree_count_temps(heft_tree_t *tree, uint32_t node, int64_t bytes, int64_t blocks, unsigned since);

HEFT_INLINE void heft_tree_count_alloc(heft_tree_t *tree, uint32_t number, size_t bytes)
{
    HEFT_DCHECK(number > 0 && number < tree->node_n);
    heft_node_t *node = &tree->nodes[number];
    heft__tree_touch(tree, node);
    node->allocated_bytes += (int64_t)bytes;
    node->allocated_blocks++;
    node->last_ns = tree->now_ns;
    tree->live_bytes += (int64_t)bytes;
}

HEFT_INLINE void heft_tree_count_free(heft_tree_t *tree, uint32_t number, size_t bytes)
{
    HEFT_DCHECK(number > 0 && number < tree->node_n);
    heft_node_t *node = &tree->nodes[number];
    if (HEFT_UNLIKELY(tree->live_bytes > tree->peak_bytes)) {
        tree->peak_bytes = tree->live_bytes;
        tree->epoch++;
        tree->header->peak_at_ns = tree->now_ns;
    }
    heft__tree_touch(tree, node);
    node->freed_bytes += (int64_t)bytes;
    node->freed_blocks++;
    tree->live_bytes -= (int64_t)bytes;
}

/* Take a heft_tree_count_free back: the realloc it belonged to failed. */
HEFT_INLINE void heft_tree_uncount_free(heft_tree_t *tree, uint32_t number, size_t bytes)
{
    heft_node_t *node = &tree->nodes[number];
    heft__tree_touch(tree, node);
    node->freed_bytes -= (int64_t)bytes;
    node->freed_blocks--;
    tree->live_bytes += (int64_t)bytes;
}

/* Forget that there was more than now: the peak is searched for from here on. */
void heft_tree_reset_peak(heft_tree_t *tree);

/* All blocks are gone, and were never there as to the peak: O(nodes).  The caller forgets the blocks themselves. */
void heft_tree_clear(heft_tree_t *tree);

/* Validate the whole structure (tests, HEFT_SLOWCHECK): O(nodes). */
bool heft_tree_check(const heft_tree_t *tree);

/* Resident bytes of the tables outside the file. */
size_t heft_tree_tool_bytes(const heft_tree_t *tree);

#endif
