/* SPDX-License-Identifier: MIT */
/* A recording, read: a private copy of everything that counts in the file, checked (format.h has the bytes).
 *
 * Works on a file that is being written, that its process left behind when it was killed, and that somebody damaged:
 * the result is either a recording in which every number and reference is safe to use, or one clear error. */
#ifndef HEFT_LEDGER_READER_H
#define HEFT_LEDGER_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "ledger/format.h"

typedef struct {
    const char *ptr; /* not terminated; borrowed from whoever gave it */
    size_t len;
} heft_text_t;

/* What a node, a row, a whole recording holds.  Of a sampled recording these are estimates, whose standard errors are
 * the roots of the variances; of an exact one these are 0. */
typedef struct {
    uint64_t bytes;
    uint64_t blocks;
    double bytes_variance, blocks_variance;
} heft_amount_t;

/* The four questions that a report answers. */
typedef enum {
    HEFT_MOMENT_PEAK,      /* when the sum of live bytes was highest */
    HEFT_MOMENT_LIVE,      /* now, or at the end */
    HEFT_MOMENT_TOTAL,     /* everything ever requested */
    HEFT_MOMENT_TEMPORARY, /* freed before the thread asked for another 1, 2 or 4 blocks */
} heft_moment_t;

typedef struct {
    heft_header_t header; /* as in the file, but: epoch is the largest of any node, peak_at_ns is right if peak_is_now,
                             counts are those of the columns below */
    uint64_t file_bytes;
    bool is_final;        /* sealed: checksums were compared, counters do not contradict each other */
    bool peak_is_now;     /* the present sum of live bytes is a new maximum */
    uint32_t recursive_n; /* nodes onto which recursion was folded */

    /* the columns, header.*_n elements each; owned.  Node 0 is unused */
    heft_node_t *nodes;
    heft_detail_t *details;
    heft_temp_t *temps;
    heft_code_t *codes;
    heft_thread_t *threads;
    char *strings;

    char *meta; /* JSON; owned; NULL when there is none */
    size_t meta_bytes;
    char *source; /* zlib stream; owned; NULL when there is none */
    size_t source_bytes;
    heft_timeline_t *timeline; /* owned; NULL when there is none (a recording of an early version) */

    heft_amount_t peak, live, total, temporary; /* of all nodes; temporary of span 1 */
} heft_reader_t;

/* Read and check the file at `path`.  On failure *reader is empty and *err (may be NULL) says why. */
heft_status_t heft_reader_open(heft_reader_t *reader, const char *path, heft_err_t *err);

/* The same from memory, which may be released afterwards. */
heft_status_t heft_reader_open_bytes(heft_reader_t *reader, const void *data, size_t bytes, heft_err_t *err);

/* Release what open made; an empty or closed reader is fine. */
void heft_reader_close(heft_reader_t *reader);

/* What `node` itself (not its children) holds at a moment; `span` (0..2: within 1, 2, 4 blocks) is used by
 * HEFT_MOMENT_TEMPORARY.  Sums over all nodes fit into 63 bits. */
heft_amount_t heft_reader_amount(const heft_reader_t *reader, uint32_t node, heft_moment_t moment, uint32_t span);

/* The text of a checked reference (format.h); empty for 0.  Borrowed from the reader. */
heft_text_t heft_reader_string(const heft_reader_t *reader, uint32_t ref);

/* reader_check.c: the second half of open, on columns that are complete.  heft__reader_off: where in the file an
 * element stands, for an error. */
typedef struct heft_reader_file heft_reader_file_t;
heft_status_t heft__reader_check(heft_reader_t *reader, const heft_reader_file_t *file, heft_err_t *err);
uint64_t heft__reader_off(const heft_reader_file_t *file, heft_chunk_kind_t kind, uint64_t byte);

#endif
