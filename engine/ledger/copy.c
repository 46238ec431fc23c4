/* SPDX-License-Identifier: MIT */
/* A recording's copy in memory, see copy.h. */
#define _GNU_SOURCE
#include "ledger/copy.h"

#include <string.h>
#include <sys/mman.h>

#include "base/compiler.h"
#include "base/crc32c.h"

#define PAGE HEFT_FORMAT_PAGE

static size_t round_page(size_t bytes)
{
    return (bytes + PAGE - 1) & ~(size_t)(PAGE - 1);
}

static heft_header_t *header_of(const heft_copy_t *copy)
{
    return (heft_header_t *)(void *)copy->base;
}

static heft_chunk_t *chunks_of(const heft_copy_t *copy)
{
    return (heft_chunk_t *)(void *)(copy->base + PAGE);
}

/* Append a chunk to a copy of which `*used` bytes are taken. */
static void append(heft_copy_t *copy, size_t *used, heft_chunk_t *chunk, uint32_t kind, const void *data, size_t bytes)
{
    HEFT_DCHECK(bytes > 0 && *used + round_page(bytes) <= copy->bytes);
    bool is_column = kind <= HEFT_COLUMN_THREAD;
    *chunk =
        (heft_chunk_t){.kind = kind, .off = *used, .bytes = round_page(bytes), .used = is_column ? 0 : (uint64_t)bytes};
    memcpy(copy->base + *used, data, bytes);
    *used += round_page(bytes);
}

bool heft_copy_take(heft_copy_t *copy, const heft_tree_t *tree)
{
    const heft_ledger_t *ledger = tree->ledger;
    HEFT_ASSERT(ledger->header->state == HEFT_STATE_RUNNING);
    if (heft_copy_room(ledger) > copy->bytes)
        return false;
    heft_header_t *header = header_of(copy);
    heft_chunk_t *chunk = chunks_of(copy);
    size_t used = 2 * PAGE;
    *header = *ledger->header;
    if (ledger->meta_bytes > 0)
        append(copy, &used, chunk++, HEFT_CHUNK_META, ledger->meta, ledger->meta_bytes);
    append(copy, &used, chunk++, HEFT_CHUNK_TIMELINE, ledger->timeline, sizeof *ledger->timeline);
    for (uint32_t kind = HEFT_COLUMN_NODE; kind <= HEFT_COLUMN_THREAD; kind++) {
        size_t bytes = heft_ledger_column_bytes(header, kind);
        if (bytes > 0)
            append(copy, &used, chunk++, kind, ledger->columns[kind].base, bytes);
    }
    copy->live_bytes = tree->live_bytes;
    return true;
}

/* As heft_tree_check at the end of a recording: what nodes hold is what was counted along with them. */
static bool adds_up(const heft_copy_t *copy, const heft_node_t *nodes)
{
    int64_t live = 0;
    for (uint32_t i = 1; i < header_of(copy)->node_n; i++) {
        const heft_node_t *node = &nodes[i];
        if (node->allocated_blocks == HEFT_NODE_ALIAS_MARK)
            continue;
        if (node->freed_bytes > node->allocated_bytes || node->freed_blocks > node->allocated_blocks)
            return false;
        live += node->allocated_bytes - node->freed_bytes;
    }
    return live == copy->live_bytes;
}

void heft_copy_seal(heft_copy_t *copy)
{
    heft_header_t *header = header_of(copy);
    size_t used = 2 * PAGE;
    for (heft_chunk_t *chunk = chunks_of(copy); chunk->kind != 0; chunk++) {
        const char *data = copy->base + chunk->off;
        size_t bytes = chunk->used > 0 ? chunk->used : heft_ledger_column_bytes(header, chunk->kind);
        if (chunk->kind == HEFT_COLUMN_NODE && !adds_up(copy, (const heft_node_t *)(const void *)data))
            header->flags |= HEFT_FLAG_CONTRADICTION;
        chunk->crc = heft_crc32c(0, data, bytes);
        used = chunk->off + chunk->bytes;
    }
    header->flags |= HEFT_FLAG_SNAPSHOT;
    header->watcher_pid = 0; /* nobody draws or finishes a copy */
    header->drawn = 0;
    header->state = HEFT_STATE_CLOSED;
    if (used < copy->bytes)
        munmap(copy->base + used, copy->bytes - used);
    copy->bytes = used;
}

size_t heft_copy_room(const heft_ledger_t *ledger)
{
    size_t bytes = 2 * PAGE + round_page(ledger->meta_bytes) + round_page(sizeof(heft_timeline_t));
    for (uint32_t kind = HEFT_COLUMN_NODE; kind <= HEFT_COLUMN_THREAD; kind++)
        bytes += round_page(heft_ledger_column_bytes(ledger->header, kind));
    return bytes;
}

bool heft_copy_init(heft_copy_t *copy, size_t bytes)
{
    bytes = round_page(bytes);
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    *copy = p != MAP_FAILED ? (heft_copy_t){.base = p, .bytes = bytes} : (heft_copy_t){0};
    return p != MAP_FAILED;
}

void heft_copy_done(heft_copy_t *copy)
{
    if (copy->base != NULL)
        munmap(copy->base, copy->bytes);
    *copy = (heft_copy_t){0};
}
