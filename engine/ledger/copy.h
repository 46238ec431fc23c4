/* SPDX-License-Identifier: MIT */
/* A copy of a recording that is being made: a recording of its own, in memory, of one moment.
 *
 *     ledger   [header][table][meta][n0][c0]..[n1]....[n2........]     a reserved column is mostly not used yet
 *     copy     [header][table][meta][timeline][nnnnn][dd..][cc][ss]    what counts, a chunk for each column
 *
 * Made in three steps, so that the program waits for the second one alone:
 *
 *     heft_copy_init    map as much as is needed now, and a little more; touch every page
 *     heft_copy_take    under the ledger lock: copy.  64 + 64 bytes a node are most of it
 *     heft_copy_seal    checksums; the numbers are added up, as a recording's are when it is sealed
 *
 * It is mapped memory: the tool never measures itself. */
#ifndef HEFT_LEDGER_COPY_H
#define HEFT_LEDGER_COPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ledger/tree.h"

typedef struct {
    char *base;         /* owned; NULL = not mapped */
    size_t bytes;       /* mapped; after take: the recording, in whole pages */
    int64_t live_bytes; /* what the tree said at that moment */
} heft_copy_t;

/* Bytes that a copy of the ledger needs now.  Without the lock: an earlier answer may come out, never a torn one. */
size_t heft_copy_room(const heft_ledger_t *ledger);

/* Map `bytes`, all of them resident.  False: the kernel refuses; the copy is then empty. */
bool heft_copy_init(heft_copy_t *copy, size_t bytes);
void heft_copy_done(heft_copy_t *copy);

/* Copy the ledger of `tree`, of state RUNNING; the caller holds the ledger lock.  False: it has outgrown the memory,
 * and the copy is worth nothing. */
bool heft_copy_take(heft_copy_t *copy, const heft_tree_t *tree);

/* Finish what take has begun: give memory back that was not needed, enter CLOSED.  O(bytes), without the lock. */
void heft_copy_seal(heft_copy_t *copy);

#endif
