/* SPDX-License-Identifier: MIT */
/* The block table: which node a live block belongs to, and its size.  Found by address, on every allocation and free.
 *
 * Small blocks (up to 512 bytes).  Pymalloc cuts pools of 16 KiB, aligned to their size, into equal blocks of a
 * multiple of 16 bytes behind a header of 48.  The table keeps a shadow for each pool: one word a block.
 *
 *     address   | window (1 MiB) | pool | offset |
 *                      |             |       `---> word = (offset - 48) / block size, by a multiplication
 *        windows[hash] '             |
 *             `--> window.pools[64] -'-> { shadow, block size }     word: node 23 bits | size - 1 in 9 bits
 *
 * That is 4 bytes for each block the pool has room for: 6 % of 64-byte objects.  The shape is pymalloc's, the truth is
 * not: a block is kept here if and only if its address is an exact multiple in a pool of its class; everything else
 * (other allocators, debug headers, a pool that seems to hold two classes) goes to the second table, so the
 * table is right under any allocator and merely large under a foreign one.
 *
 * All other blocks.  Open addressing in the order of the hash (so that growing by an eighth is one backward pass in
 * place): 16 bytes an entry, never more than 9/10 full (6/10 while it is
 * small and memory matters less than speed).
 *
 * Not thread-safe: the caller holds the ledger lock. */
#ifndef HEFT_LEDGER_BLOCKS_H
#define HEFT_LEDGER_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/region.h"

#define HEFT_POOL_BITS 14u
#define HEFT_POOL_HEADER 48u
#define HEFT_WINDOW_BITS 20u
#define HEFT_WINDOW_POOLS (1u << (HEFT_WINDOW_BITS - HEFT_POOL_BITS))
#define HEFT_WINDOW_SLOTS (1u << 16) /* direct-mapped: windows that share a slot (64 GiB apart) form a chain */
#define HEFT_SMALL_MAX 512u
#define HEFT_SMALL_CLASSES 32u

typedef struct {
    uint32_t shadow;     /* word index into the shadow region; 0 = none */
    uint16_t reciprocal; /* ceil(2^15 / units), see heft__blocks_word; 0 = none */
    uint16_t units;      /* block size / 16, 0 = unused */
} heft_pool_t;

typedef struct heft_window {
    uint64_t number;          /* address >> HEFT_WINDOW_BITS */
    struct heft_window *next; /* chain of the slot; NULL ends it */
    heft_pool_t pools[HEFT_WINDOW_POOLS];
} heft_window_t;

/* The pool that a class' last block came from: pymalloc fills one before it takes the next. */
typedef struct {
    uintptr_t base; /* 0 = none */
    uint32_t shadow;
    uint32_t reciprocal;
} heft_recent_pool_t;

typedef struct {
    uint64_t key;  /* hash order is by this: address >> 3 (44 bits) << 20 | node's low 20 bits; 0 = free */
    uint64_t size; /* bytes (48 bits) | node's high bits << 48 */
} heft_entry_t;

typedef struct {
    heft_window_t **windows;                       /* HEFT_WINDOW_SLOTS, NULL = none */
    uint32_t *shadow;                              /* the words; word 0 unused */
    heft_recent_pool_t recent[HEFT_SMALL_CLASSES]; /* of pools whose shadow is of just that class */
    bool strays; /* a small block went to the second table: look there for small ones too */

    heft_entry_t *entries;
    uint64_t slots; /* home slots; the array has ENTRY_SLACK more */
    uint64_t entry_n;
    uint64_t entry_limit; /* grow when entry_n reaches it */

    heft_region_t index_region, shadow_region;
    uint32_t free_shadow[HEFT_SMALL_CLASSES + 1]; /* by units; lists through the first word */
    size_t entry_reserved;                        /* bytes mapped for entries */
    uint64_t lost;                                /* blocks that found no memory */
    size_t
        displaced_size; /* of the block that the last put_large found at its address, its free not having been seen */
    uint32_t displaced; /* its node, 0 = none; the caller counts it as freed and clears this */
} heft_blocks_t;

bool heft_blocks_init(heft_blocks_t *blocks);
void heft_blocks_done(heft_blocks_t *blocks);

/* The second table: any size, any allocator.  put: false when memory ran out (counted in `lost`).  take: false when
 * unknown. */
bool heft_blocks_put_large(heft_blocks_t *blocks, uintptr_t address, size_t size, uint32_t node);
bool heft_blocks_take_large(heft_blocks_t *blocks, uintptr_t address, size_t *size, uint32_t *node);

heft_pool_t *heft__blocks_make_pool(heft_blocks_t *blocks, uintptr_t address, size_t size);

heft_pool_t *heft__blocks_find_pool(const heft_blocks_t *blocks, uintptr_t address);

HEFT_INLINE heft_pool_t *heft__blocks_pool(const heft_blocks_t *blocks, uintptr_t address)
{
    uint64_t number = address >> HEFT_WINDOW_BITS;
    heft_window_t *window = blocks->windows[number % HEFT_WINDOW_SLOTS];
    if (HEFT_UNLIKELY(window == NULL || window->number != number))
        return heft__blocks_find_pool(blocks, address);
    return &window->pools[(address >> HEFT_POOL_BITS) % HEFT_WINDOW_POOLS];
}

/* The shadow word of the block at `address`, or NULL when the address is no block's start in this pool.
 *
 * With q = units of 16 bytes from the first block, u = units of a block, r = ceil(2^15 / u): q * r = (q / u) * 2^15 +
 * rest, where the rest is below r exactly when u divides q (q < 1024, u <= 32).  An address in the header gives a
 * product beyond 2^25, and a pool without a shadow has r = 0: both fail the same comparison. */
HEFT_INLINE uint32_t *heft__blocks_word(const heft_blocks_t *blocks, const heft_pool_t *pool, uintptr_t address)
{
    uint32_t q = (uint32_t)(address >> 4) % (1u << (HEFT_POOL_BITS - 4)) - HEFT_POOL_HEADER / 16;
    uint32_t product = q * pool->reciprocal;
    if (HEFT_UNLIKELY((product & ~(0x3FFu << 15)) >= pool->reciprocal))
        return NULL;
    return &blocks->shadow[pool->shadow + (product >> 15)];
}

/* Record a block of 1..512 bytes.  False, as with heft_blocks_put_large, when there is no memory for it. */
HEFT_INLINE bool heft_blocks_put_small(heft_blocks_t *blocks, uintptr_t address, size_t size, uint32_t node)
{
    HEFT_DCHECK(size >= 1 && size <= HEFT_SMALL_MAX && node < 1u << 23);
    uint32_t low = (uint32_t)size - 1;
    heft_pool_t *pool = heft__blocks_pool(blocks, address);
    if (HEFT_UNLIKELY(pool == NULL || pool->units != (low >> 4) + 1))
        pool = heft__blocks_make_pool(blocks, address, size);
    if (HEFT_LIKELY(pool != NULL)) {
        uint32_t *word = heft__blocks_word(blocks, pool, address);
        if (HEFT_LIKELY(word != NULL)) {
            *word = node << 9 | low;
            uintptr_t base = address & ~(((uintptr_t)1 << HEFT_POOL_BITS) - 1);
            blocks->recent[low >> 4] = (heft_recent_pool_t){base, pool->shadow, pool->reciprocal};
            return true;
        }
    }
    bool put = heft_blocks_put_large(blocks, address, size, node);
    if (put)
        blocks->strays = true;
    return put;
}

/* Record a block that was just taken out of a shadow and shrunk where it stands: pymalloc keeps it in its pool although
 * the size is now another class's. */
HEFT_INLINE void heft_blocks_put_shrunk(heft_blocks_t *blocks, uintptr_t address, size_t size, uint32_t node)
{
    heft_pool_t *pool = heft__blocks_pool(blocks, address);
    HEFT_DCHECK(pool != NULL && size >= 1 && size <= pool->units * 16u);
    *heft__blocks_word(blocks, pool, address) = node << 9 | ((uint32_t)size - 1);
}

/* Record a block from pymalloc itself if that is a matter of one word: its pool is its class' last one.  (An address
 * that pymalloc hands out for a class is a block's start in a pool of that class, so nothing is left to check.) */
HEFT_INLINE bool heft_blocks_put_fast(heft_blocks_t *blocks, uintptr_t address, size_t size, uint32_t node)
{
    uint32_t low = (uint32_t)size - 1;
    const heft_recent_pool_t *recent = &blocks->recent[low >> 4];
    uintptr_t offset = address - recent->base;
    if (HEFT_UNLIKELY(offset >= 1u << HEFT_POOL_BITS))
        return false;
    uint32_t index = ((uint32_t)(offset >> 4) - HEFT_POOL_HEADER / 16) * recent->reciprocal >> 15;
    blocks->shadow[recent->shadow + index] = node << 9 | low;
    return true;
}

/* The word of the block at `address`, or NULL: it has none, or finding it takes longer (heft_blocks_take_small does).
 * heft_blocks_read_word takes it apart. */
HEFT_INLINE uint32_t *heft_blocks_word_of(const heft_blocks_t *blocks, uintptr_t address)
{
    uint64_t number = address >> HEFT_WINDOW_BITS;
    heft_window_t *window = blocks->windows[number % HEFT_WINDOW_SLOTS];
    if (HEFT_UNLIKELY(window == NULL || window->number != number))
        return NULL;
    return heft__blocks_word(blocks, &window->pools[(address >> HEFT_POOL_BITS) % HEFT_WINDOW_POOLS], address);
}

HEFT_INLINE void heft_blocks_read_word(uint32_t word, size_t *size, uint32_t *node)
{
    *node = word >> 9;
    *size = (word & 511) + 1;
}

/* Forget the block at `address`; false when no shadow knows it (a stray may still be in the second table). */
HEFT_INLINE bool heft_blocks_take_small(heft_blocks_t *blocks, uintptr_t address, size_t *size, uint32_t *node)
{
    heft_pool_t *pool = heft__blocks_pool(blocks, address);
    if (HEFT_LIKELY(pool != NULL)) {
        uint32_t *word = heft__blocks_word(blocks, pool, address);
        if (HEFT_LIKELY(word != NULL && *word != 0)) {
            uint32_t value = *word;
            *word = 0;
            *node = value >> 9;
            *size = (value & 511) + 1;
            return true;
        }
    }
    return false;
}

/* The block at `address`, which stays; false when unknown. */
bool heft_blocks_find(const heft_blocks_t *blocks, uintptr_t address, size_t *size, uint32_t *node);

/* Every block, in no order; ends early when `visit` returns false, and then returns false too. */
typedef bool (*heft_visit_block_t)(void *context, size_t size, uint32_t node);
bool heft_blocks_visit(const heft_blocks_t *blocks, heft_visit_block_t visit, void *context);

/* Forget all blocks; false, and nothing has changed, when memory for an empty table cannot be had. */
bool heft_blocks_clear(heft_blocks_t *blocks);

/* Resident bytes of the table. */
size_t heft_blocks_tool_bytes(const heft_blocks_t *blocks);

/* Validate the second table (tests): O(entries). */
bool heft_blocks_check(const heft_blocks_t *blocks);

#endif
