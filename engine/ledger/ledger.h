/* SPDX-License-Identifier: MIT */
/* The ledger: a recording's file, mapped and growing (format.h has the bytes).
 *
 * `memheft run` creates the file, so that what is wrong with it is said before the program starts; the program's own
 * process attaches to it and counts in place.  A column is a range of address space reserved once; its chunks are
 * reserved on disk (posix_fallocate) and then mapped at the next free place in the range, so elements never move and
 * a full disk is an error code here, never a SIGBUS later.
 *
 * Not thread-safe: the caller holds the ledger lock. */
#ifndef HEFT_LEDGER_LEDGER_H
#define HEFT_LEDGER_LEDGER_H

#include <stdbool.h>
#include <sys/types.h>

#include "ledger/format.h"

typedef struct {
    char *base;        /* element 0; page-aligned */
    size_t reserved;   /* bytes of address space */
    size_t mapped;     /* bytes backed by the file */
    size_t first;      /* bytes of the first chunk; each further one doubles the column */
    uint32_t refusals; /* calls to answer "no" before the disk is asked again */
} heft_column_t;

typedef struct {
    heft_header_t *header;     /* mapped, shared with readers and the watcher */
    heft_chunk_t *chunks;      /* mapped, HEFT_FORMAT_CHUNKS entries */
    heft_timeline_t *timeline; /* mapped */
    const char *meta;          /* mapped, read-only; NULL when there is none */
    size_t meta_bytes;
    heft_column_t columns[HEFT_COLUMN_THREAD + 1]; /* by kind; 0 is unused */
    uint32_t chunk_n;
    uint64_t file_bytes;
    int fd; /* moved out of the program's way, verified before each use: the program may close any number */
    dev_t dev;
    ino_t ino;
    const char *path; /* absolute; owned */
} heft_ledger_t;

/* Create the file at `path` with header and META chunk, state CREATED.  `interval_bytes`: mean distance of samples, 0 =
 * every block.  0 or an errno: EEXIST when there is one. */
int heft_ledger_create(const char *path, const void *meta, size_t meta_bytes, uint64_t watcher_pid,
                       uint64_t interval_bytes);

/* The same in an open, empty file. */
int heft_ledger_create_in(int fd, const void *meta, size_t meta_bytes, uint64_t watcher_pid, uint64_t interval_bytes);

/* Map an existing file of state CREATED for recording, with the first chunk of every column.  0 or an errno;
 * EINVAL: not a recording of this version, or somebody has recorded into it already. */
int heft_ledger_attach(heft_ledger_t *ledger, const char *path);

/* Move a descriptor of ours out of the program's way; the new number, or the old one if it cannot be moved. */
int heft_ledger_move_high(int fd);

/* Unmap and close; the file stays as it is. */
void heft_ledger_detach(heft_ledger_t *ledger);

/* Make room for element `index` of `size` bytes.  False: the column, the chunk table or the disk is full, or the
 * file is gone; the header's flags say which. */
bool heft_ledger_reach_slow(heft_ledger_t *ledger, heft_chunk_kind_t kind, size_t end);
static inline bool heft_ledger_reach(heft_ledger_t *ledger, heft_chunk_kind_t kind, uint32_t index, size_t size)
{
    size_t end = ((size_t)index + 1) * size;
    return end <= ledger->columns[kind].mapped || heft_ledger_reach_slow(ledger, kind, end);
}

/* Counters are final: fill in the chunks' checksums and enter SEALED. */
void heft_ledger_seal(heft_ledger_t *ledger);

/* SEALED -> CLOSED, with the exit status; wakes the watcher. */
void heft_ledger_close(heft_ledger_t *ledger, int exit_status);

/* Bytes of the column `kind` that count, from the header's counts (any header, untrusted ones too: no overflow). */
uint64_t heft_ledger_column_bytes(const heft_header_t *header, uint32_t kind);

static inline heft_node_t *heft_ledger_nodes(const heft_ledger_t *l)
{
    return (heft_node_t *)(void *)l->columns[HEFT_COLUMN_NODE].base;
}
static inline heft_detail_t *heft_ledger_details(const heft_ledger_t *l)
{
    return (heft_detail_t *)(void *)l->columns[HEFT_COLUMN_DETAIL].base;
}
static inline heft_temp_t *heft_ledger_temps(const heft_ledger_t *l)
{
    return (heft_temp_t *)(void *)l->columns[HEFT_COLUMN_TEMP].base;
}
static inline heft_code_t *heft_ledger_codes(const heft_ledger_t *l)
{
    return (heft_code_t *)(void *)l->columns[HEFT_COLUMN_CODE].base;
}
static inline heft_thread_t *heft_ledger_threads(const heft_ledger_t *l)
{
    return (heft_thread_t *)(void *)l->columns[HEFT_COLUMN_THREAD].base;
}
static inline char *heft_ledger_strings(const heft_ledger_t *l)
{
    return l->columns[HEFT_COLUMN_STRING].base;
}

/* Limits of the columns, in elements (bytes for strings). */
#define HEFT_NODES_MAX (1u << 20)
#define HEFT_TEMPS_MAX (1u << 19)
#define HEFT_CODES_MAX (1u << 17)
#define HEFT_STRING_BYTES_MAX (32u << 20)
#define HEFT_THREADS_MAX 256u

#endif
