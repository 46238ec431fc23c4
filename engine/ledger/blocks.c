/* SPDX-License-Identifier: MIT */
/* The block table's cold half, see blocks.h: making shadows for pools, and the second table. */
#define _GNU_SOURCE
#include "ledger/blocks.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define INDEX_BYTES ((size_t)64 << 20)  /* address space for windows: 528 bytes for each MiB of heap */
#define SHADOW_BYTES ((size_t)16 << 20) /* at first; doubled when full */
#define ADDRESS_BITS 44u                /* of an address >> 3 */
#define NODE_LOW_BITS 20u
#define SIZE_BITS 48u
#define FIRST_SLOTS 1024u
#define SMALL_SLOTS (1u << 16) /* below: grow by doubling at 6/10; from here on: by an eighth at 9/10 */
#define ENTRY_SLACK 512u       /* entries behind the last home slot, for runs that start near the end */
#define ENTRY_RESERVE ((size_t)4 << 20)

/* A word for each place where a block of `units` may begin, the last of which reaches beyond the pool: no block of
 * pymalloc's is there, but heft__blocks_word does not tell that place from the others. */
static uint32_t pool_words(uint32_t units)
{
    return ((1u << HEFT_POOL_BITS) - HEFT_POOL_HEADER + units * 16 - 1) / (units * 16);
}

HEFT_NOINLINE heft_pool_t *heft__blocks_find_pool(const heft_blocks_t *blocks, uintptr_t address)
{
    uint64_t number = address >> HEFT_WINDOW_BITS;
    heft_window_t *window = blocks->windows[number % HEFT_WINDOW_SLOTS];
    while (window != NULL && window->number != number)
        window = window->next;
    return window != NULL ? &window->pools[(address >> HEFT_POOL_BITS) % HEFT_WINDOW_POOLS] : NULL;
}

static heft_pool_t *find_or_make_pool(heft_blocks_t *blocks, uintptr_t address)
{
    heft_pool_t *pool = heft__blocks_find_pool(blocks, address);
    if (pool != NULL)
        return pool;
    heft_window_t *window = heft_region_take(&blocks->index_region, sizeof(heft_window_t));
    if (window == NULL)
        return NULL;
    window->number = address >> HEFT_WINDOW_BITS;
    heft_window_t **slot = &blocks->windows[window->number % HEFT_WINDOW_SLOTS];
    window->next = *slot;
    *slot = window;
    return &window->pools[(address >> HEFT_POOL_BITS) % HEFT_WINDOW_POOLS];
}

static bool has_blocks(const heft_blocks_t *blocks, const heft_pool_t *pool)
{
    const uint32_t *word = &blocks->shadow[pool->shadow];
    for (uint32_t n = pool_words(pool->units); n > 0; n--, word++) {
        if (*word != 0)
            return true;
    }
    return false;
}

/* Room for `n` words; may move the region, which is why pools hold indexes. */
static uint32_t *take_words(heft_blocks_t *blocks, uint32_t n)
{
    uint32_t *words = heft_region_take(&blocks->shadow_region, n * sizeof(uint32_t));
    if (words == NULL && blocks->shadow_region.used / sizeof(uint32_t) < UINT32_MAX / 2 &&
        heft_region_double(&blocks->shadow_region)) {
        blocks->shadow = (uint32_t *)(void *)blocks->shadow_region.base;
        words = heft_region_take(&blocks->shadow_region, n * sizeof(uint32_t));
    }
    return words;
}

static heft_pool_t *make_pool(heft_blocks_t *blocks, uintptr_t address, uint32_t units)
{
    heft_pool_t *pool = find_or_make_pool(blocks, address);
    if (pool == NULL)
        return NULL;
    if (pool->units != 0) {
        if (has_blocks(blocks, pool))
            return NULL; /* not a pool of pymalloc's: one class at a time is its rule */
        heft_recent_pool_t *recent = &blocks->recent[pool->units - 1];
        if (recent->shadow == pool->shadow)
            *recent = (heft_recent_pool_t){0};
        blocks->shadow[pool->shadow] = blocks->free_shadow[pool->units];
        blocks->free_shadow[pool->units] = pool->shadow;
        *pool = (heft_pool_t){0};
    }
    uint32_t shadow = blocks->free_shadow[units];
    if (shadow != 0) {
        blocks->free_shadow[units] = blocks->shadow[shadow];
        blocks->shadow[shadow] = 0; /* the other words are 0: a shadow is only given back empty */
    } else {
        uint32_t *words = take_words(blocks, pool_words(units));
        if (words == NULL)
            return NULL;
        shadow = (uint32_t)(words - blocks->shadow);
    }
    *pool = (heft_pool_t){
        .shadow = shadow, .units = (uint16_t)units, .reciprocal = (uint16_t)((32768 + units - 1) / units)};
    HEFT_ASSERT(!has_blocks(blocks, pool));
    return pool;
}

/* The pool entry of `address`, given a shadow for blocks of `size`'s class.  NULL: keep the block elsewhere. */
HEFT_COLD heft_pool_t *heft__blocks_make_pool(heft_blocks_t *blocks, uintptr_t address, size_t size)
{
    uint32_t units = (uint32_t)(size + 15) / 16;
    HEFT_ASSERT(units >= 1 && units <= HEFT_SMALL_CLASSES);
    int saved_errno = errno;
    heft_pool_t *pool = make_pool(blocks, address, units);
    errno = saved_errno;
    return pool;
}

/* ---- the second table: linear probing, entries in the order of their hash --------------------------------------- */

/* Two multiplications: the product of one keeps equal distances equal, and at some of them (4880, 20672, 87568 bytes)
 * blocks of one size would all stand in one long run. */
static uint64_t hash_address(uint64_t address44)
{
    uint64_t h = address44 * 0x9E3779B97F4A7C15u;
    return (h ^ h >> 32) * 0xD6E8FEB86659FD93u;
}

static uint64_t home_of(const heft_blocks_t *blocks, uint64_t hash)
{
    __extension__ typedef unsigned __int128 wide_t;
    return (uint64_t)((wide_t)hash * blocks->slots >> 64);
}

static uint64_t entry_hash(const heft_entry_t *entry)
{
    return hash_address(entry->key >> NODE_LOW_BITS);
}

/* Shift every entry to its place in the larger table, from the top down: entries only move up. */
static void spread(heft_blocks_t *blocks, uint64_t old_slots, uint64_t new_slots)
{
    heft_entry_t *e = blocks->entries;
    uint64_t limit = new_slots + ENTRY_SLACK, next = limit; /* the lowest place taken so far */
    blocks->slots = new_slots;
    /* first pack the entries against the end, in order, then lay them out from the bottom up */
    for (uint64_t i = old_slots + ENTRY_SLACK; i-- > 0;) {
        if (e[i].key != 0) {
            heft_entry_t moved = e[i];
            e[i].key = 0;
            e[--next] = moved;
        }
    }
    uint64_t place = 0;
    for (uint64_t i = next; i < limit; i++) {
        heft_entry_t moved = e[i];
        e[i].key = 0;
        uint64_t home = home_of(blocks, entry_hash(&moved));
        if (home > place)
            place = home;
        e[place++] = moved;
    }
    HEFT_ASSERT(place <= limit);
}

static uint64_t entry_limit(uint64_t slots)
{
    return slots / 10 * (slots < SMALL_SLOTS ? 6 : 9);
}

static bool grow_entries(heft_blocks_t *blocks)
{
    uint64_t slots = blocks->slots + blocks->slots / (blocks->slots < SMALL_SLOTS ? 1 : 8);
    size_t bytes = (slots + ENTRY_SLACK) * sizeof(heft_entry_t);
    if (bytes > blocks->entry_reserved) {
        int saved_errno = errno;
        size_t reserve = blocks->entry_reserved * 2 > bytes ? blocks->entry_reserved * 2 : bytes;
        void *p = mremap(blocks->entries, blocks->entry_reserved, reserve, MREMAP_MAYMOVE);
        if (p != MAP_FAILED)
            madvise(p, reserve, MADV_NOHUGEPAGE);
        errno = saved_errno;
        if (p == MAP_FAILED)
            return false;
        blocks->entries = p;
        blocks->entry_reserved = reserve;
    }
    spread(blocks, blocks->slots, slots);
    blocks->entry_limit = entry_limit(slots);
    return true;
}

/* The slot of `address44`, or the slot before which it would stand. */
static uint64_t seek(const heft_blocks_t *blocks, uint64_t address44, bool *found)
{
    uint64_t hash = hash_address(address44);
    uint64_t i = home_of(blocks, hash);
    for (;; i++) {
        const heft_entry_t *entry = &blocks->entries[i];
        if (entry->key >> NODE_LOW_BITS == address44) {
            *found = true;
            return i;
        }
        if (entry->key == 0 || entry_hash(entry) > hash) {
            *found = false;
            return i;
        }
    }
}

static void read_entry(const heft_entry_t *entry, size_t *size, uint32_t *node)
{
    *size = (size_t)(entry->size & ((1ull << SIZE_BITS) - 1));
    *node = (uint32_t)(entry->key & ((1u << NODE_LOW_BITS) - 1)) | (uint32_t)(entry->size >> SIZE_BITS)
                                                                       << NODE_LOW_BITS;
}

/* The first free entry from `i` on. */
static uint64_t end_of_run(const heft_blocks_t *blocks, uint64_t i)
{
    while (blocks->entries[i].key != 0)
        i++;
    return i;
}

/* One free entry always ends the last run. */
static bool is_slack_full(const heft_blocks_t *blocks, uint64_t end)
{
    return end >= blocks->slots + ENTRY_SLACK - 1;
}

bool heft_blocks_put_large(heft_blocks_t *blocks, uintptr_t address, size_t size, uint32_t node)
{
    uint64_t address44 = (uint64_t)address >> 3;
    if (address44 >> ADDRESS_BITS != 0 || (uint64_t)size >> SIZE_BITS != 0 ||
        (blocks->entry_n >= blocks->entry_limit && !grow_entries(blocks) &&
         blocks->entry_n >= blocks->slots - blocks->slots / 32)) {
        blocks->lost++;
        return false;
    }
    heft_entry_t entry = {
        .key = address44 << NODE_LOW_BITS | (node & ((1u << NODE_LOW_BITS) - 1)),
        .size = (uint64_t)size | (uint64_t)(node >> NODE_LOW_BITS) << SIZE_BITS,
    };
    bool found;
    uint64_t i = seek(blocks, address44, &found);
    if (found) {
        /* the allocator handed out an address whose free we did not see; the old block is no more */
        read_entry(&blocks->entries[i], &blocks->displaced_size, &blocks->displaced);
        blocks->entries[i] = entry;
        return true;
    }
    uint64_t end = end_of_run(blocks, i);
    if (is_slack_full(blocks, end) && grow_entries(blocks)) {
        i = seek(blocks, address44, &found);
        end = end_of_run(blocks, i);
    }
    if (is_slack_full(blocks, end)) {
        blocks->lost++;
        return false;
    }
    memmove(&blocks->entries[i + 1], &blocks->entries[i], (end - i) * sizeof(heft_entry_t));
    blocks->entries[i] = entry;
    blocks->entry_n++;
    return true;
}

bool heft_blocks_take_large(heft_blocks_t *blocks, uintptr_t address, size_t *size, uint32_t *node)
{
    uint64_t address44 = (uint64_t)address >> 3;
    bool found = false;
    uint64_t i = address44 >> ADDRESS_BITS == 0 ? seek(blocks, address44, &found) : 0;
    if (!found)
        return false;
    read_entry(&blocks->entries[i], size, node);
    /* close the gap: move back every following entry that is not at home */
    uint64_t end = i + 1;
    while (blocks->entries[end].key != 0 && home_of(blocks, entry_hash(&blocks->entries[end])) < end)
        end++;
    memmove(&blocks->entries[i], &blocks->entries[i + 1], (end - i - 1) * sizeof(heft_entry_t));
    blocks->entries[end - 1] = (heft_entry_t){0};
    blocks->entry_n--;
    return true;
}

bool heft_blocks_find(const heft_blocks_t *blocks, uintptr_t address, size_t *size, uint32_t *node)
{
    heft_pool_t *pool = heft__blocks_pool(blocks, address);
    uint32_t *word = pool != NULL && address % 16 == 0 ? heft__blocks_word(blocks, pool, address) : NULL;
    if (word != NULL && *word != 0) {
        heft_blocks_read_word(*word, size, node);
        return true;
    }
    uint64_t address44 = (uint64_t)address >> 3;
    bool found = false;
    uint64_t i = address44 >> ADDRESS_BITS == 0 ? seek(blocks, address44, &found) : 0;
    if (found)
        read_entry(&blocks->entries[i], size, node);
    return found;
}

static bool visit_pool(const heft_blocks_t *blocks, const heft_pool_t *pool, heft_visit_block_t visit, void *context)
{
    size_t size;
    uint32_t node;
    for (uint32_t i = 0, n = pool->units != 0 ? pool_words(pool->units) : 0; i < n; i++) {
        uint32_t word = blocks->shadow[pool->shadow + i];
        heft_blocks_read_word(word, &size, &node);
        if (word != 0 && !visit(context, size, node))
            return false;
    }
    return true;
}

bool heft_blocks_visit(const heft_blocks_t *blocks, heft_visit_block_t visit, void *context)
{
    size_t size;
    uint32_t node;
    for (uint32_t slot = 0; slot < HEFT_WINDOW_SLOTS; slot++) {
        for (const heft_window_t *window = blocks->windows[slot]; window != NULL; window = window->next) {
            for (uint32_t i = 0; i < HEFT_WINDOW_POOLS; i++) {
                if (!visit_pool(blocks, &window->pools[i], visit, context))
                    return false;
            }
        }
    }
    for (uint64_t i = 0; i < blocks->slots + ENTRY_SLACK; i++) {
        if (blocks->entries[i].key == 0)
            continue;
        read_entry(&blocks->entries[i], &size, &node);
        if (!visit(context, size, node))
            return false;
    }
    return true;
}

bool heft_blocks_clear(heft_blocks_t *blocks)
{
    heft_blocks_t empty;
    if (!heft_blocks_init(&empty))
        return false;
    empty.lost = blocks->lost;
    heft_blocks_done(blocks);
    *blocks = empty;
    return true;
}

bool heft_blocks_check(const heft_blocks_t *blocks)
{
    uint64_t n = 0, last_hash = 0;
    for (uint64_t i = 0; i < blocks->slots + ENTRY_SLACK; i++) {
        const heft_entry_t *entry = &blocks->entries[i];
        if (entry->key == 0)
            continue;
        uint64_t hash = entry_hash(entry), home = home_of(blocks, hash);
        if (hash < last_hash || home > i)
            return false;
        for (uint64_t k = home; k < i; k++) {
            if (blocks->entries[k].key == 0)
                return false;
        }
        last_hash = hash;
        n++;
    }
    return n == blocks->entry_n;
}

size_t heft_blocks_tool_bytes(const heft_blocks_t *blocks)
{
    return blocks->index_region.used + blocks->shadow_region.used +
           (blocks->slots + ENTRY_SLACK) * sizeof(heft_entry_t);
}

bool heft_blocks_init(heft_blocks_t *blocks)
{
    *blocks = (heft_blocks_t){0};
    void *entries =
        mmap(NULL, ENTRY_RESERVE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (entries == MAP_FAILED)
        return false;
    madvise(entries, ENTRY_RESERVE, MADV_NOHUGEPAGE);
    blocks->entries = entries;
    blocks->entry_reserved = ENTRY_RESERVE;
    blocks->slots = FIRST_SLOTS;
    blocks->entry_limit = entry_limit(FIRST_SLOTS);
    if (!heft_region_init(&blocks->shadow_region, heft_region_share(SHADOW_BYTES)) ||
        !heft_region_init(&blocks->index_region, heft_region_share(INDEX_BYTES))) {
        heft_blocks_done(blocks);
        return false;
    }
    blocks->shadow = (uint32_t *)(void *)blocks->shadow_region.base;
    blocks->windows = heft_region_take(&blocks->index_region, HEFT_WINDOW_SLOTS * sizeof(heft_window_t *));
    (void)heft_region_take(&blocks->shadow_region, sizeof(uint32_t)); /* word 0 means "no shadow" */
    return true;
}

void heft_blocks_done(heft_blocks_t *blocks)
{
    if (blocks->entries != NULL)
        munmap(blocks->entries, blocks->entry_reserved);
    heft_region_done(&blocks->shadow_region);
    heft_region_done(&blocks->index_region);
    *blocks = (heft_blocks_t){0};
}
