/* SPDX-License-Identifier: MIT */
/* A recording made by hand, for tests of what reads it: fill in the columns, get the bytes of a valid file. */
#ifndef HEFT_TESTS_BUILD_RECORDING_H
#define HEFT_TESTS_BUILD_RECORDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ledger/format.h"

/* Everything may be changed by hand before recording_write(): it writes what stands here, right or wrong. */
typedef struct {
    heft_header_t header; /* the counts are those of the columns */
    heft_node_t *nodes;
    heft_detail_t *details;
    heft_temp_t *temps;
    heft_code_t *codes;
    heft_thread_t *threads;
    char *strings;
    const char *meta, *source; /* borrowed; NULL = no such chunk */
    uint32_t pages;            /* of a column's first chunk; the following ones double */
} recording_t;

/* An empty recording of state RUNNING with a root. */
void recording_init(recording_t *recording);
void recording_done(recording_t *recording);

/* Each returns the number of what it adds.  Strings are not looked up: equal ones may be added twice. */
uint32_t recording_string(recording_t *recording, const char *text);
uint32_t recording_code(recording_t *recording, const char *file, const char *name, const char *module, uint32_t flags);
uint32_t recording_thread(recording_t *recording, const char *name); /* and its node; returns the node */
uint32_t recording_node(recording_t *recording, heft_node_kind_t kind, uint32_t parent, uint32_t what, uint32_t line);

/* A record of temporaries for the node; borrowed until the next one is added. */
heft_temp_t *recording_temp(recording_t *recording, uint32_t node);

static inline uint32_t recording_frame(recording_t *recording, uint32_t parent, uint32_t code, uint32_t line)
{
    return recording_node(recording, HEFT_NODE_FRAME, parent, code, line);
}

/* Count blocks at a node. */
void recording_alloc(recording_t *recording, uint32_t node, int64_t bytes, int64_t blocks);
void recording_free(recording_t *recording, uint32_t node, int64_t bytes, int64_t blocks);

/* The bytes of the file in state `state`; the caller frees them. */
unsigned char *recording_write(const recording_t *recording, heft_state_t state, size_t *bytes);

/* Compute all checksums of a file in memory anew, as far as its header and chunk table make sense; any bytes are fine.
 * So a reader's checks behind the checksums can be reached. */
void recording_repair(unsigned char *data, size_t bytes);

/* A random number below `limit`, from a generator that is the same everywhere. */
uint32_t random_below(uint64_t *state, uint32_t limit);

/* A random tree of `node_n` nodes: threads, regions, imports, machinery, aliases, recursion, in some paths that were
 * cut; few names so that they meet. */
void recording_random(recording_t *recording, uint64_t seed, uint32_t node_n);

#endif
