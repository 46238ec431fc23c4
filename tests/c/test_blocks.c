/* SPDX-License-Identifier: MIT */
/* The block table against a dictionary of what is live: under a model of pymalloc, under a model of malloc, under an
 * allocator that follows no rule, and out of memory.  And its size. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "build_recording.h"
#include "ledger/blocks.h"
#include "writer.h"

#define POOL_BYTES 16384u
#define POOL_ROOM (POOL_BYTES - 48)

/* ---- the dictionary ------------------------------------------------------------------------------------------ */

typedef enum { POOL, MALLOC, ANY } owner_t;

typedef struct {
    uintptr_t address;
    size_t size;
    uint32_t node;
    owner_t owner;
    uint32_t next; /* of the chain; index + 1 */
} block_t;

typedef struct {
    block_t *blocks;
    uint32_t n, room;
    uint32_t *chains;
    uint32_t mask;
} dict_t;

static void dict_init(dict_t *d, uint32_t room)
{
    *d = (dict_t){.room = room, .mask = 1};
    while (d->mask < room)
        d->mask = d->mask * 2 + 1;
    d->blocks = malloc(room * sizeof *d->blocks);
    d->chains = calloc((size_t)d->mask + 1, sizeof *d->chains);
    assert_true(d->blocks != NULL && d->chains != NULL);
}

static void dict_done(dict_t *d)
{
    free(d->blocks);
    free(d->chains);
}

static uint32_t *chain_of(const dict_t *d, uintptr_t address)
{
    return &d->chains[(uint32_t)((address >> 4) * 0x9E3779B1u >> 7) & d->mask];
}

static block_t *dict_get(const dict_t *d, uintptr_t address)
{
    uint32_t i = *chain_of(d, address);
    while (i != 0 && d->blocks[i - 1].address != address)
        i = d->blocks[i - 1].next;
    return i == 0 ? NULL : &d->blocks[i - 1];
}

static void dict_put(dict_t *d, block_t block)
{
    assert_true(d->n < d->room && dict_get(d, block.address) == NULL);
    uint32_t *head = chain_of(d, block.address);
    block.next = *head;
    d->blocks[d->n++] = block;
    *head = d->n;
}

static uint32_t *link_to(dict_t *d, uint32_t index)
{
    uint32_t *at = chain_of(d, d->blocks[index].address);
    while (*at != index + 1)
        at = &d->blocks[*at - 1].next;
    return at;
}

static void dict_del(dict_t *d, uint32_t index)
{
    *link_to(d, index) = d->blocks[index].next;
    if (index != --d->n) { /* the last one moves into the gap */
        *link_to(d, d->n) = index + 1;
        d->blocks[index] = d->blocks[d->n];
    }
}

/* ---- a table and its model ----------------------------------------------------------------------------------- */

#define ARENAS 6u
#define POOLS (ARENAS * 64u)

typedef struct {
    uint32_t units, live; /* a pool is of one class as long as it has a block */
    bool used[POOL_ROOM / 16];
} pool_t;

typedef struct {
    heft_blocks_t table;
    dict_t dict;
    uint64_t random;
    pool_t *pools;
    uint32_t recycled, fast, growths, last_slots;
} model_t;

static uintptr_t arena_base(uint32_t arena)
{
    /* the first four are 64 GiB apart: the same slot of the window table */
    uintptr_t base = 0x7f1200000000;
    return arena < 4 ? base + ((uintptr_t)arena << 36) : base + (uintptr_t)(arena - 3) * (3u << 20);
}

static uintptr_t pool_base(uint32_t pool)
{
    return arena_base(pool / 64) + (uintptr_t)(pool % 64) * POOL_BYTES;
}

static void model_init(model_t *m, uint64_t seed, uint32_t room)
{
    *m = (model_t){.random = seed};
    dict_init(&m->dict, room);
    m->pools = calloc(POOLS, sizeof *m->pools);
    assert_non_null(m->pools);
    assert_true(heft_blocks_init(&m->table));
    m->last_slots = (uint32_t)m->table.slots;
}

static void model_done(model_t *m)
{
    heft_blocks_done(&m->table);
    dict_done(&m->dict);
    free(m->pools);
}

static uint32_t random_node(model_t *m)
{
    return 1 + random_below(&m->random, HEFT_NODES_MAX - 1);
}

/* The table's growth is what its header promises: by doubling, later by an eighth. */
static void watch_growth(model_t *m)
{
    uint32_t slots = (uint32_t)m->table.slots, last = m->last_slots;
    if (slots == last)
        return;
    assert_int_equal(slots, last < (1u << 16) ? last * 2 : last + last / 8);
    assert_true(m->table.entry_n * 10 <= (uint64_t)slots * 9);
    m->last_slots = slots;
    m->growths++;
}

/* What pymalloc would do: some free place in some pool of the class, or in an empty one whatever it was before. */
static bool pick_in_pool(model_t *m, uint32_t units, uint32_t *pool_number, uint32_t *index)
{
    uint32_t room = POOL_ROOM / (units * 16);
    for (int attempt = 0; attempt < 20; attempt++) {
        *pool_number = random_below(&m->random, POOLS);
        pool_t *pool = &m->pools[*pool_number];
        if (pool->live == room || (pool->live != 0 && pool->units != units))
            continue;
        m->recycled += pool->live == 0 && pool->units != 0 && pool->units != units;
        *index = random_below(&m->random, room);
        while (pool->live != 0 && pool->used[*index])
            *index = (*index + 1) % room;
        return true;
    }
    return false;
}

static void put_in_pool(model_t *m)
{
    block_t block = {.size = 1 + random_below(&m->random, 512), .node = random_node(m), .owner = POOL};
    uint32_t units = (uint32_t)(block.size + 15) / 16, number, index;
    if (!pick_in_pool(m, units, &number, &index))
        return;
    pool_t *pool = &m->pools[number];
    pool->units = units;
    pool->live++;
    pool->used[index] = true;
    block.address = pool_base(number) + 48 + index * units * 16;
    bool is_fast =
        random_below(&m->random, 2) && heft_blocks_put_fast(&m->table, block.address, block.size, block.node);
    m->fast += is_fast;
    if (!is_fast)
        heft_blocks_put_small(&m->table, block.address, block.size, block.node);
    dict_put(&m->dict, block);
}

static uintptr_t malloc_address(model_t *m)
{
    switch (random_below(&m->random, 4)) {
    case 0: return 0x555500000000 + (uintptr_t)random_below(&m->random, 1u << 24) * 16;
    case 1: /* one slot of the window table again, other windows */
        return 0x7f1200000000 + ((uintptr_t)(5 + random_below(&m->random, 4)) << 36) +
               (uintptr_t)random_below(&m->random, 1u << 20) * 16;
    case 2: return 0x7fff00000010 + (uintptr_t)random_below(&m->random, 1u << 12) * 4096; /* mapped for itself */
    default: return arena_base(4) + (1u << 20) + (uintptr_t)random_below(&m->random, 1u << 16) * 16; /* next door */
    }
}

static void put_malloced(model_t *m)
{
    block_t block = {.address = malloc_address(m), .node = random_node(m), .owner = MALLOC};
    switch (random_below(&m->random, 4)) {
    case 0: block.size = random_below(&m->random, 600); break;
    case 1: block.size = random_below(&m->random, 1u << 20); break;
    case 2: block.size = (size_t)1 << random_below(&m->random, 47); break;
    default: block.size = 0;
    }
    if (dict_get(&m->dict, block.address) != NULL)
        return;
    assert_true(heft_blocks_put_large(&m->table, block.address, block.size, block.node));
    watch_growth(m);
    dict_put(&m->dict, block);
}

/* An allocator of which nothing is known hands out what looks like small blocks. */
static void put_anywhere(model_t *m)
{
    block_t block = {.size = 1 + random_below(&m->random, 512), .node = random_node(m), .owner = ANY};
    block.address = pool_base(random_below(&m->random, POOLS)) + (uintptr_t)random_below(&m->random, 1024) * 16;
    if (random_below(&m->random, 4) == 0) { /* where a pool's last block would not fit */
        uintptr_t units = (block.size + 15) / 16;
        block.address = block.address / POOL_BYTES * POOL_BYTES + 48 + POOL_ROOM / (units * 16) * (units * 16);
    }
    if (dict_get(&m->dict, block.address) != NULL)
        return;
    heft_blocks_put_small(&m->table, block.address, block.size, block.node);
    watch_growth(m);
    dict_put(&m->dict, block);
}

/* As a free looks for it (hooks.c). */
static bool take_any(heft_blocks_t *table, uintptr_t address, size_t *size, uint32_t *node)
{
    return heft_blocks_take_small(table, address, size, node) ||
           (table->strays && heft_blocks_take_large(table, address, size, node));
}

static void take(model_t *m, uint32_t i)
{
    block_t block = m->dict.blocks[i];
    heft_blocks_t *table = &m->table;
    size_t size = 0;
    uint32_t node = 0, *word = heft_blocks_word_of(table, block.address);
    if (block.owner == MALLOC) {
        assert_true(heft_blocks_take_large(table, block.address, &size, &node));
    } else if (block.owner == POOL && word != NULL && random_below(&m->random, 2)) { /* the short way */
        heft_blocks_read_word(*word, &size, &node);
        *word = 0;
    } else if (block.owner == POOL) {
        assert_true(heft_blocks_take_small(table, block.address, &size, &node));
    } else {
        assert_true(take_any(table, block.address, &size, &node));
    }
    assert_int_equal(size, block.size);
    assert_int_equal(node, block.node);
    assert_false(heft_blocks_take_small(table, block.address, &size, &node));
    assert_false(heft_blocks_take_large(table, block.address, &size, &node));
    if (block.owner == POOL) {
        for (uint32_t a = 0; a < ARENAS; a++) {
            uintptr_t offset = block.address - arena_base(a);
            if (offset < 64 * POOL_BYTES) {
                pool_t *pool = &m->pools[a * 64 + offset / POOL_BYTES];
                pool->live--;
                pool->used[(offset % POOL_BYTES - 48) / (pool->units * 16)] = false;
            }
        }
    }
    dict_del(&m->dict, i);
}

/* pymalloc shrinks in place by up to a quarter, whatever class the new size is of. */
static void shrink(model_t *m, uint32_t i)
{
    block_t *block = &m->dict.blocks[i];
    size_t size;
    uint32_t node;
    if (block->owner != POOL)
        return;
    assert_true(heft_blocks_take_small(&m->table, block->address, &size, &node));
    assert_int_equal(size, block->size);
    block->size -= random_below(&m->random, (uint32_t)block->size / 4 + 1);
    block->node = random_node(m);
    heft_blocks_put_shrunk(&m->table, block->address, block->size, block->node);
}

/* An address where no block begins is never found, be it inside of one. */
static void probe(model_t *m)
{
    size_t size;
    uint32_t node;
    uintptr_t address = random_below(&m->random, 2)
                            ? malloc_address(m)
                            : pool_base(random_below(&m->random, POOLS)) + 16ull * random_below(&m->random, 1024);
    if (m->dict.n > 0 && random_below(&m->random, 2))
        address = m->dict.blocks[random_below(&m->random, m->dict.n)].address + 16 * (1 + random_below(&m->random, 8));
    if (dict_get(&m->dict, address) != NULL)
        return;
    assert_false(heft_blocks_take_small(&m->table, address, &size, &node));
    assert_false(heft_blocks_take_large(&m->table, address, &size, &node));
}

static uint64_t count_malloced(const dict_t *d)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < d->n; i++)
        n += d->blocks[i].owner == MALLOC;
    return n;
}

static void take_the_rest(model_t *m)
{
    while (m->dict.n > 0)
        take(m, random_below(&m->random, m->dict.n));
    assert_int_equal(m->table.entry_n, 0);
    assert_int_equal(m->table.lost, 0);
    assert_true(heft_blocks_check(&m->table));
}

static void test_pymalloc_and_malloc(void **state)
{
    (void)state;
    uint32_t recycled = 0, fast = 0;
    for (uint64_t seed = 1; seed <= (is_exhaustive() ? 60 : 6); seed++) {
        model_t m;
        model_init(&m, seed, 1u << 16);
        for (int step = 0; step < 60000; step++) {
            /* waves: pools empty now and then, and are of another class afterwards */
            uint32_t dice = random_below(&m.random, 16), growing = step / 4000 % 2 ? 5 : 10;
            if (dice < growing)
                random_below(&m.random, 4) ? put_in_pool(&m) : put_malloced(&m);
            else if (m.dict.n > 0 && dice < 14)
                take(&m, random_below(&m.random, m.dict.n));
            else if (m.dict.n > 0 && dice == 14)
                shrink(&m, random_below(&m.random, m.dict.n));
            else
                probe(&m);
            if (step % 4000 == 0) {
                assert_true(heft_blocks_check(&m.table));
                assert_int_equal(m.table.entry_n, count_malloced(&m.dict));
            }
        }
        assert_false(m.table.strays); /* pymalloc's blocks are all in shadows */
        take_the_rest(&m);
        recycled += m.recycled;
        fast += m.fast;
        model_done(&m);
    }
    assert_true(recycled > 1000 && fast > 1000); /* it did happen */
}

static void test_an_allocator_without_rules(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= (is_exhaustive() ? 60 : 6); seed++) {
        model_t m;
        model_init(&m, seed, 1u << 16);
        for (int step = 0; step < 60000; step++) {
            uint32_t dice = random_below(&m.random, 16), growing = step / 4000 % 2 ? 5 : 9;
            if (dice < growing)
                put_anywhere(&m);
            else if (m.dict.n > 0 && dice < 15)
                take(&m, random_below(&m.random, m.dict.n));
            else
                probe(&m);
            if (step % 4000 == 0)
                assert_true(heft_blocks_check(&m.table));
        }
        assert_true(m.table.strays);
        take_the_rest(&m);
        model_done(&m);
    }
}

static void test_many_blocks(void **state)
{
    (void)state;
    uint32_t most = is_exhaustive() ? 1000000 : 150000;
    model_t m;
    model_init(&m, 1, most + 1);
    for (int wave = 0; wave < 2; wave++) {
        while (m.dict.n < most) {
            random_below(&m.random, 8) ? put_malloced(&m) : put_in_pool(&m);
            if (m.dict.n > 0 && random_below(&m.random, 8) == 0)
                take(&m, random_below(&m.random, m.dict.n));
        }
        assert_true(heft_blocks_check(&m.table));
        while (m.dict.n > most / 3)
            take(&m, random_below(&m.random, m.dict.n));
        assert_true(heft_blocks_check(&m.table));
    }
    assert_true(m.growths >= 6 + 4); /* 1024 doubles six times until it is large */
    take_the_rest(&m);
    model_done(&m);
}

/* ---- finding a word ------------------------------------------------------------------------------------------ */

/* The proof of heft__blocks_word's comment by looking at every case. */
static void test_an_address_is_a_blocks_start_or_nothing(void **state)
{
    (void)state;
    enum { SHADOW = 1000 };
    heft_blocks_t table = {.shadow = (uint32_t *)0x100000};
    for (uint32_t units = 1; units <= 32; units++) {
        heft_pool_t pool = {
            .shadow = SHADOW, .units = (uint16_t)units, .reciprocal = (uint16_t)((32768 + units - 1) / units)};
        heft_pool_t none = {0};
        for (uint32_t offset = 0; offset < POOL_BYTES; offset++) {
            const uint32_t *word = heft__blocks_word(&table, &pool, 0x7e0000000000 + 5 * POOL_BYTES + offset);
            uint32_t unit = offset / 16; /* addresses are multiples of 16: nobody hands out others */
            if (unit < 3 || (unit - 3) % units != 0)
                assert_null(word);
            else
                assert_ptr_equal(word, table.shadow + SHADOW + (unit - 3) / units);
            assert_null(heft__blocks_word(&table, &none, 0x7e0000000000 + offset));
        }
    }
}

/* Every start of a block in three pools of each class, the one that would reach beyond its pool too: all words are
 * different, and none of them is somebody else's. */
static void test_words_are_distinct(void **state)
{
    (void)state;
    heft_blocks_t table;
    uint32_t n = 0, node;
    size_t size;
    assert_true(heft_blocks_init(&table));
    for (int round = 0; round < 2; round++) {
        for (uint32_t pass = 0; pass < 2; pass++) {
            n = 0;
            for (uint32_t pool = 0; pool < 3 * 32; pool++) {
                uint32_t units = round == 0 ? 1 + pool % 32 : 32 - pool % 32; /* all are recycled */
                for (uint32_t offset = 48; offset < POOL_BYTES; offset += units * 16) {
                    uintptr_t address = 0x7e0000000000 + (uintptr_t)pool * POOL_BYTES + offset;
                    n++;
                    if (pass == 0) {
                        heft_blocks_put_small(&table, address, units * 16 - n % 16, n);
                    } else {
                        assert_true(heft_blocks_take_small(&table, address, &size, &node));
                        assert_int_equal(node, n);
                        assert_int_equal(size, units * 16 - n % 16);
                    }
                }
            }
        }
    }
    assert_false(table.strays);
    heft_blocks_done(&table);
}

/* ---- pools that change -------------------------------------------------------------------------------------- */

static void test_a_pool_of_two_classes_loses_nothing(void **state)
{
    (void)state;
    heft_blocks_t table;
    size_t size;
    uint32_t node;
    assert_true(heft_blocks_init(&table));
    uintptr_t base = 0x7e0000000000;
    heft_blocks_put_small(&table, base + 48, 32, 1);
    heft_blocks_put_small(&table, base + 48 + 128, 128, 2); /* no pymalloc would */
    assert_true(table.strays);
    assert_true(heft_blocks_take_small(&table, base + 48, &size, &node));
    assert_int_equal(node, 1);
    assert_false(heft_blocks_take_small(&table, base + 48 + 128, &size, &node));
    assert_true(heft_blocks_take_large(&table, base + 48 + 128, &size, &node));
    assert_int_equal(node, 2);
    assert_int_equal(size, 128);
    heft_blocks_done(&table);
}

typedef struct {
    uint64_t blocks, bytes, nodes, limit;
} visit_t;

static bool visit(void *context, size_t size, uint32_t node)
{
    visit_t *v = context;
    v->blocks++;
    v->bytes += size;
    v->nodes += node;
    return v->blocks != v->limit;
}

/* Looking changes nothing; clearing leaves nothing. */
static void find_visit_forget(bool has_rules)
{
    model_t m;
    size_t size;
    uint32_t node;
    model_init(&m, 7, 1u << 16);
    for (int step = 0; step < 30000; step++) {
        if (m.dict.n > 0 && random_below(&m.random, 3) == 0)
            take(&m, random_below(&m.random, m.dict.n));
        else if (!has_rules)
            put_anywhere(&m);
        else
            random_below(&m.random, 2) ? put_in_pool(&m) : put_malloced(&m);
    }
    visit_t expected = {0}, got = {0}, some = {.limit = 3};
    for (uint32_t i = 0; i < m.dict.n; i++) {
        const block_t *block = &m.dict.blocks[i];
        visit(&expected, block->size, block->node);
        assert_true(heft_blocks_find(&m.table, block->address, &size, &node));
        assert_true(size == block->size && node == block->node);
        if (dict_get(&m.dict, block->address + 8) == NULL)
            assert_false(heft_blocks_find(&m.table, block->address + 8, &size, &node));
    }
    assert_true(heft_blocks_visit(&m.table, visit, &got));
    assert_memory_equal(&got, &expected, sizeof got);
    assert_false(heft_blocks_visit(&m.table, visit, &some));
    assert_int_equal(some.blocks, 3);
    assert_true(heft_blocks_check(&m.table));

    assert_true(heft_blocks_clear(&m.table));
    got = (visit_t){0};
    assert_true(heft_blocks_visit(&m.table, visit, &got));
    assert_int_equal(got.blocks, 0);
    for (uint32_t i = 0; i < m.dict.n; i++) {
        assert_false(heft_blocks_find(&m.table, m.dict.blocks[i].address, &size, &node));
        assert_false(heft_blocks_take_small(&m.table, m.dict.blocks[i].address, &size, &node));
        assert_false(heft_blocks_take_large(&m.table, m.dict.blocks[i].address, &size, &node));
    }
    model_done(&m);
}

static void test_blocks_are_found_visited_and_forgotten(void **state)
{
    (void)state;
    find_visit_forget(true);
    find_visit_forget(false);
}

static void test_a_recycled_pool_forgets_its_class(void **state)
{
    (void)state;
    heft_blocks_t table;
    size_t size;
    uint32_t node;
    assert_true(heft_blocks_init(&table));
    uintptr_t base = 0x7e0000000000;
    size_t bytes = 0;
    for (int round = 0; round < 50; round++) {
        heft_blocks_put_small(&table, base + 48, 32, 1);
        assert_true(heft_blocks_put_fast(&table, base + 48 + 32, 32, 2));
        assert_true(heft_blocks_take_small(&table, base + 48, &size, &node));
        assert_true(heft_blocks_take_small(&table, base + 48 + 32, &size, &node));
        heft_blocks_put_small(&table, base + 48, 64, 3);
        assert_false(heft_blocks_put_fast(&table, base + 48 + 96, 32, 4)); /* its shadow belongs to others now */
        assert_true(heft_blocks_take_small(&table, base + 48, &size, &node));
        assert_int_equal(node, 3);
        if (round == 0)
            bytes = heft_blocks_tool_bytes(&table);
    }
    assert_int_equal(heft_blocks_tool_bytes(&table), bytes); /* shadows are used again */
    assert_false(table.strays);
    heft_blocks_done(&table);
}

/* A free that nobody saw: the address is handed out again. */
static void test_the_later_block_counts(void **state)
{
    (void)state;
    heft_blocks_t table;
    size_t size;
    uint32_t node;
    assert_true(heft_blocks_init(&table));
    for (uint32_t i = 1; i <= 3; i++) {
        assert_true(heft_blocks_put_large(&table, 0x555500000010, 1000 * i, i));
        assert_int_equal(table.displaced, i - 1); /* the caller learns which one is no more */
        if (i > 1)
            assert_int_equal(table.displaced_size, 1000 * (i - 1));
        table.displaced = 0;
        heft_blocks_put_small(&table, 0x7e0000000000 + 48, 16, i);
    }
    assert_int_equal(table.entry_n, 1);
    assert_true(heft_blocks_take_large(&table, 0x555500000010, &size, &node));
    assert_int_equal(size, 3000);
    assert_int_equal(node, 3);
    assert_true(heft_blocks_take_small(&table, 0x7e0000000000 + 48, &size, &node));
    assert_int_equal(node, 3);
    heft_blocks_done(&table);
}

/* ---- the second table ---------------------------------------------------------------------------------------- */

static uint64_t longest_run(const heft_blocks_t *table)
{
    uint64_t run = 0, longest = 0;
    for (uint64_t i = 0; i < table->entry_reserved / sizeof(heft_entry_t) && i < table->slots + 512; i++) {
        run = table->entries[i].key != 0 ? run + 1 : 0;
        longest = run > longest ? run : longest;
    }
    return longest;
}

/* Blocks of one size in a row are what programs have most.  No distance between them may make them gather in one place
 * of the table: that is slow, and at its end there is no room. */
static void test_no_distance_makes_a_crowd(void **state)
{
    (void)state;
    uint32_t n = 600, step = is_exhaustive() ? 16 : 112;
    for (uintptr_t distance = 16; distance <= 1u << 20; distance += distance < 100000 ? 16 : step) {
        heft_blocks_t table;
        assert_true(heft_blocks_init(&table));
        uintptr_t first = 0x7f0000000010 + distance * 1001;
        for (uint32_t i = 0; i < n; i++) {
            if (!heft_blocks_put_large(&table, first + i * distance, 1000, 1))
                fail_msg("%u of %u blocks are lost at a distance of %zu", n - i, n, (size_t)distance);
        }
        uint64_t run = longest_run(&table);
        if (run > 250) /* 60 to 120 are normal */
            fail_msg("a run of %u at a distance of %zu", (unsigned)run, (size_t)distance);
        heft_blocks_done(&table);
    }
    static const struct {
        uintptr_t first, distance;
        uint32_t n;
    } rows[] = {
        {0x7f0000000010, 4880, 20000},   {0x7f0000000010, 20672, 20000},   {0x7f0000000010, 87568, 20000},
        {0x7f0000000010, 370944, 20000}, {0x7f0000000010, 1571344, 20000}, {0x10, (uintptr_t)1 << 36, 2000},
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        heft_blocks_t table;
        size_t size;
        uint32_t node;
        assert_true(heft_blocks_init(&table));
        for (uint32_t i = 0; i < rows[k].n; i++)
            assert_true(heft_blocks_put_large(&table, rows[k].first + i * rows[k].distance, 1, i));
        assert_true(heft_blocks_check(&table));
        for (uint32_t i = 0; i < rows[k].n; i++) {
            assert_true(heft_blocks_take_large(&table, rows[k].first + i * rows[k].distance, &size, &node));
            assert_int_equal(node, i);
        }
        heft_blocks_done(&table);
    }
}

static void test_what_does_not_fit_in_an_entry_is_counted(void **state)
{
    (void)state;
    heft_blocks_t table;
    size_t size;
    uint32_t node;
    assert_true(heft_blocks_init(&table));
    assert_true(heft_blocks_put_large(&table, ((uintptr_t)1 << 47) - 16, ((size_t)1 << 48) - 1, (1u << 23) - 1));
    assert_false(heft_blocks_put_large(&table, (uintptr_t)1 << 47, 1, 1)); /* no address of a process */
    assert_false(heft_blocks_put_large(&table, 0x555500000010, (size_t)1 << 48, 1));
    assert_int_equal(table.lost, 2);
    assert_int_equal(table.entry_n, 1);
    assert_false(heft_blocks_take_large(&table, (uintptr_t)1 << 47, &size, &node));
    assert_false(heft_blocks_take_large(&table, UINTPTR_MAX - 15, &size, &node));
    assert_true(heft_blocks_take_large(&table, ((uintptr_t)1 << 47) - 16, &size, &node));
    assert_int_equal(size, ((size_t)1 << 48) - 1);
    assert_int_equal(node, (1u << 23) - 1);
    heft_blocks_done(&table);
}

/* ---- memory that runs out, or is much ------------------------------------------------------------------------ */

/* Large windows of address space, many pools: the index and the shadows have to grow, and move. */
static void test_a_large_heap(void **state)
{
    (void)state;
    uint32_t windows = is_exhaustive() ? 140000 : 20000, node;
    heft_blocks_t table;
    size_t size;
    assert_true(heft_blocks_init(&table));
    const uint32_t *before = table.shadow;
    for (uint32_t i = 0; i < 6000; i++) /* 24 MiB of words */
        heft_blocks_put_small(&table, 0x7d0000000000 + (uintptr_t)i * POOL_BYTES + 48 + 16, 16, 1 + i);
    for (uint32_t i = 0; i < windows; i++)
        heft_blocks_put_small(&table, 0x7e0000000000 + ((uintptr_t)i << 20) + 48, 512, 1 + i);
    assert_true(table.shadow_region.reserved > (size_t)16 << 20 || table.shadow != before);
    if (is_exhaustive())
        assert_true(table.strays); /* the index was full; the rest is in the second table */
    else
        assert_false(table.strays);
    for (uint32_t i = 0; i < windows; i++) {
        assert_true(take_any(&table, 0x7e0000000000 + ((uintptr_t)i << 20) + 48, &size, &node));
        assert_int_equal(node, 1 + i);
        assert_int_equal(size, 512);
    }
    for (uint32_t i = 0; i < 6000; i++) {
        assert_true(take_any(&table, 0x7d0000000000 + (uintptr_t)i * POOL_BYTES + 48 + 16, &size, &node));
        assert_int_equal(node, 1 + i);
        assert_int_equal(size, 16);
    }
    assert_int_equal(table.entry_n, 0);
    assert_int_equal(table.lost, 0);
    heft_blocks_done(&table);
}

static uintptr_t nth_address(uint32_t i)
{
    return 0x555500000010 + (uintptr_t)i * 1040;
}

static void test_no_memory_for_the_second_table(void **state)
{
    (void)state;
    heft_blocks_t table;
    size_t size;
    uint32_t node, n = 0, refused = 0;
    bool is_errno_kept = true;
    assert_true(heft_blocks_init(&table));
    limit_memory(0);
    while (refused < 100 && n < 1000000) { /* no assertions here: they may want memory */
        errno = 77;
        if (heft_blocks_put_large(&table, nth_address(n + refused), n % 5000, 1 + n % 1000))
            n++;
        else
            refused++;
        is_errno_kept &= errno == 77;
    }
    unlimit_memory();
    assert_int_equal(refused, 100);
    assert_int_equal(table.lost, 100);
    assert_int_equal(table.entry_n, n);
    assert_true(n > 200000);
    assert_true(is_errno_kept); /* we are beneath somebody's malloc */
    assert_true(heft_blocks_check(&table));
    for (uint32_t i = n; i < n + 50; i++)
        assert_false(heft_blocks_take_large(&table, nth_address(i), &size, &node));
    for (uint32_t i = n; i < 2 * n; i++) /* there is memory again */
        assert_true(heft_blocks_put_large(&table, nth_address(i), i % 5000, 1 + i % 1000));
    assert_true(heft_blocks_check(&table));
    for (uint32_t i = 0; i < 2 * n; i++) {
        assert_true(heft_blocks_take_large(&table, nth_address(i), &size, &node));
        assert_int_equal(size, i % 5000);
        assert_int_equal(node, 1 + i % 1000);
    }
    heft_blocks_done(&table);
}

static void test_no_memory_for_shadows(void **state)
{
    (void)state;
    heft_blocks_t table;
    size_t size;
    uint32_t node;
    assert_true(heft_blocks_init(&table));
    limit_memory(0);
    for (uint32_t i = 0; i < 5000; i++)
        heft_blocks_put_small(&table, 0x7d0000000000 + (uintptr_t)i * POOL_BYTES + 48, 1 + i % 16, 1 + i);
    unlimit_memory();
    assert_true(table.strays); /* 16 MiB of shadows are 4096 pools of this class */
    assert_true(table.entry_n > 500 && table.entry_n < 1000);
    for (uint32_t i = 0; i < 5000; i++) {
        assert_true(take_any(&table, 0x7d0000000000 + (uintptr_t)i * POOL_BYTES + 48, &size, &node));
        assert_int_equal(node, 1 + i);
        assert_int_equal(size, 1 + i % 16);
    }
    heft_blocks_done(&table);
    assert_null(table.entries);
    limit_memory((size_t)8 << 20); /* enough for entries, not for the rest */
    bool made = heft_blocks_init(&table);
    unlimit_memory();
    assert_false(made);
    assert_null(table.entries);
}

/* ---- size ---------------------------------------------------------------------------------------------------- */

static void test_bytes_for_each_block(void **state)
{
    (void)state;
    enum { ENTRIES = 1000000 };
    heft_blocks_t table;
    size_t size, most = 0;
    uint32_t node;
    assert_true(heft_blocks_init(&table));
    size_t empty = heft_blocks_tool_bytes(&table);
    for (uint32_t i = 0; i < ENTRIES; i++) {
        assert_true(heft_blocks_put_large(&table, 0x7e0000000000 + (uintptr_t)i * 624, 600, 1 + i % 1000));
        if (i >= 100000) { /* at any time, not only after the last growth */
            size_t bytes = (heft_blocks_tool_bytes(&table) - empty) * 100 / (i + 1);
            most = bytes > most ? bytes : most;
        }
    }
    assert_true(heft_blocks_check(&table));
    size_t all = heft_blocks_tool_bytes(&table);
    print_message("%u blocks of 600 bytes: %.2f bytes each, %.2f at most on the way; and %zu KiB\n", ENTRIES,
                  (double)(all - empty) / ENTRIES, (double)most / 100, empty / 1024);
    assert_true(all - empty <= (size_t)ENTRIES * 20);
    assert_true(most <= 2010);
    assert_true(empty <= (size_t)600 << 10);
    for (uint32_t i = 0; i < ENTRIES; i++) {
        assert_true(heft_blocks_take_large(&table, 0x7e0000000000 + (uintptr_t)i * 624, &size, &node));
        assert_int_equal(node, 1 + i % 1000);
    }
    assert_int_equal(table.entry_n, 0);
    heft_blocks_done(&table);
}

static void test_bytes_for_each_small_block(void **state)
{
    (void)state;
    enum { TABLE_POOLS = 64 * 16 };
    double sum = 0, worst = 0;
    for (uint32_t units = 1; units <= 32; units++) {
        heft_blocks_t table;
        uint32_t blocks = POOL_ROOM / (units * 16);
        assert_true(heft_blocks_init(&table));
        size_t shadow = table.shadow_region.used, before = heft_blocks_tool_bytes(&table);
        for (uint32_t i = 0; i < TABLE_POOLS; i++) /* one block of a pool is enough for its shadow */
            heft_blocks_put_small(&table, 0x7e0000000000 + (uintptr_t)i * POOL_BYTES + 48, units * 16, 1);
        double words = (double)(table.shadow_region.used - shadow) / TABLE_POOLS / blocks;
        double whole = (double)(heft_blocks_tool_bytes(&table) - before) / TABLE_POOLS / blocks;
        sum += words;
        worst = words > worst ? words : worst;
        assert_true(words <= 4.5); /* a word, and what rounding adds to a pool */
        assert_true(whole <= 4.8); /* with the index of pools */
        heft_blocks_done(&table);
    }
    print_message("full pools: %.3f bytes of shadow for each block, mean of the classes; %.3f at most\n", sum / 32,
                  worst);
    assert_true(sum / 32 <= 4.2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pymalloc_and_malloc),
        cmocka_unit_test(test_an_allocator_without_rules),
        cmocka_unit_test(test_blocks_are_found_visited_and_forgotten),
        cmocka_unit_test(test_many_blocks),
        cmocka_unit_test(test_an_address_is_a_blocks_start_or_nothing),
        cmocka_unit_test(test_words_are_distinct),
        cmocka_unit_test(test_a_pool_of_two_classes_loses_nothing),
        cmocka_unit_test(test_a_recycled_pool_forgets_its_class),
        cmocka_unit_test(test_the_later_block_counts),
        cmocka_unit_test(test_no_distance_makes_a_crowd),
        cmocka_unit_test(test_what_does_not_fit_in_an_entry_is_counted),
        cmocka_unit_test(test_a_large_heap),
        cmocka_unit_test(test_no_memory_for_the_second_table),
        cmocka_unit_test(test_no_memory_for_shadows),
        cmocka_unit_test(test_bytes_for_each_block),
        cmocka_unit_test(test_bytes_for_each_small_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
