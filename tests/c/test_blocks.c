/* SPDX-License-Identifier: MIT */
/* The block table against a plain array of what is live, and its size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "build_recording.h"
#include "ledger/blocks.h"

#define ARENAS 3u
#define ARENA_POOLS 64u

typedef struct {
    uintptr_t address;
    size_t size;
    uint32_t node;
    bool in_pool;
} block_t;

typedef struct {
    heft_blocks_t table;
    block_t *blocks;
    size_t n, room;
    uint64_t random;
    uint32_t pool_units[ARENAS * ARENA_POOLS]; /* class of each pool that has blocks */
    uint32_t pool_live[ARENAS * ARENA_POOLS];
} model_t;

static uintptr_t arena_base(uint32_t arena)
{
    /* the third is 64 GiB above the first: the same slot of the window table */
    static const uintptr_t bases[ARENAS] = {0x7f1200000000, 0x7f1200300000, 0x7f1200000000 + ((uintptr_t)1 << 36)};
    return bases[arena];
}

static void model_init(model_t *m, uint64_t seed)
{
    memset(m, 0, sizeof *m);
    m->random = seed;
    m->room = 1u << 16;
    m->blocks = malloc(m->room * sizeof *m->blocks);
    assert_non_null(m->blocks);
    assert_true(heft_blocks_init(&m->table));
}

static void model_done(model_t *m)
{
    heft_blocks_done(&m->table);
    free(m->blocks);
}

static bool is_taken(const model_t *m, uintptr_t address)
{
    for (size_t i = 0; i < m->n; i++) {
        if (m->blocks[i].address == address)
            return true;
    }
    return false;
}

/* An address that pymalloc might hand out for `size`: a pool is of one class as long as it has a block. */
static bool pick_in_pool(model_t *m, size_t size, uintptr_t *address, uint32_t *pool)
{
    uint32_t units = (uint32_t)(size + 15) / 16;
    *pool = random_below(&m->random, ARENAS * ARENA_POOLS);
    if (m->pool_live[*pool] != 0 && m->pool_units[*pool] != units)
        return false;
    uint32_t index = random_below(&m->random, (16384 - 48) / (units * 16));
    *address = arena_base(*pool / ARENA_POOLS) + (uintptr_t)(*pool % ARENA_POOLS) * 16384 + 48 + index * units * 16;
    return !is_taken(m, *address);
}

static uint32_t pool_of(uintptr_t address)
{
    for (uint32_t a = 0; a < ARENAS; a++) {
        if (address >= arena_base(a) && address < arena_base(a) + ARENA_POOLS * 16384)
            return a * ARENA_POOLS + (uint32_t)((address - arena_base(a)) / 16384);
    }
    return UINT32_MAX;
}

static void put(model_t *m)
{
    block_t block = {.node = 1 + random_below(&m->random, 1u << 20)};
    if (m->n >= 1500)
        return;
    if (random_below(&m->random, 3) != 0) {
        uint32_t pool;
        block.size = 1 + random_below(&m->random, 512);
        if (!pick_in_pool(m, block.size, &block.address, &pool))
            return;
        block.in_pool = true;
        m->pool_units[pool] = (uint32_t)(block.size + 15) / 16;
        m->pool_live[pool]++;
        if (random_below(&m->random, 2) || !heft_blocks_put_fast(&m->table, block.address, block.size, block.node))
            heft_blocks_put_small(&m->table, block.address, block.size, block.node);
    } else {
        block.size =
            random_below(&m->random, 4) == 0 ? random_below(&m->random, 600) : random_below(&m->random, 1u << 20);
        block.address = 0x555500000000 + (uintptr_t)random_below(&m->random, 1u << 20) * 16;
        if (is_taken(m, block.address))
            return;
        assert_true(heft_blocks_put_large(&m->table, block.address, block.size, block.node));
    }
    m->blocks[m->n++] = block;
}

static void take(model_t *m, size_t i)
{
    block_t block = m->blocks[i];
    size_t size = 0;
    uint32_t node = 0;
    if (block.in_pool) {
        assert_true(heft_blocks_take_small(&m->table, block.address, &size, &node));
        m->pool_live[pool_of(block.address)]--;
        uint32_t *word = heft_blocks_word_of(&m->table, block.address);
        assert_true(word == NULL || *word == 0); /* NULL: a window that is not the first of its slot */
    } else {
        assert_true(heft_blocks_take_large(&m->table, block.address, &size, &node));
        assert_false(heft_blocks_take_large(&m->table, block.address, &size, &node));
    }
    assert_int_equal(size, block.size);
    assert_int_equal(node, block.node);
    m->blocks[i] = m->blocks[--m->n];
}

/* pymalloc shrinks in place by up to a quarter. */
static void shrink(model_t *m, size_t i)
{
    block_t *block = &m->blocks[i];
    size_t size;
    uint32_t node;
    if (!block->in_pool)
        return;
    assert_true(heft_blocks_take_small(&m->table, block->address, &size, &node));
    block->size -= block->size / 4 * random_below(&m->random, 2);
    block->node = 1 + random_below(&m->random, 1u << 20);
    heft_blocks_put_shrunk(&m->table, block->address, block->size, block->node);
}

static void test_random_traffic(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        model_t m;
        model_init(&m, seed);
        for (int step = 0; step < 20000; step++) {
            uint32_t dice = random_below(&m.random, 16);
            if (dice < 8)
                put(&m);
            else if (m.n > 0 && dice < 15)
                take(&m, random_below(&m.random, (uint32_t)m.n));
            else if (m.n > 0)
                shrink(&m, random_below(&m.random, (uint32_t)m.n));
        }
        assert_true(heft_blocks_check(&m.table));
        while (m.n > 0)
            take(&m, m.n - 1);
        assert_int_equal(m.table.entry_n, 0);
        assert_int_equal(m.table.lost, 0);
        assert_false(m.table.strays);
        model_done(&m);
    }
}

static void test_an_address_is_a_blocks_start_or_nothing(void **state)
{
    (void)state;
    heft_blocks_t table;
    assert_true(heft_blocks_init(&table));
    for (uint32_t units = 1; units <= 32; units++) {
        uintptr_t base = 0x7e0000000000 + (uintptr_t)units * 16384;
        heft_blocks_put_small(&table, base + 48, units * 16, 7);
        for (uint32_t offset = 0; offset < 16384; offset += 8) {
            uint32_t *word = heft_blocks_word_of(&table, base + offset);
            bool is_start = offset >= 48 && (offset - 48) % (units * 16) == 0;
            /* 8 bytes into a unit shares its 16-byte granule; nobody hands such addresses out */
            if (offset % 16 == 0)
                assert_int_equal(word != NULL, is_start);
        }
        for (uint32_t i = 1; i < (16384 - 48) / (units * 16); i++) /* distinct words, inside the shadow */
            assert_ptr_equal(heft_blocks_word_of(&table, base + 48 + i * units * 16),
                             heft_blocks_word_of(&table, base + 48) + i);
    }
    heft_blocks_done(&table);
}

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

static void test_a_recycled_pool_forgets_its_class(void **state)
{
    (void)state;
    heft_blocks_t table;
    size_t size;
    uint32_t node;
    assert_true(heft_blocks_init(&table));
    uintptr_t base = 0x7e0000000000;
    for (int round = 0; round < 3; round++) {
        heft_blocks_put_small(&table, base + 48, 32, 1);
        assert_true(heft_blocks_put_fast(&table, base + 48 + 32, 32, 2));
        assert_true(heft_blocks_take_small(&table, base + 48, &size, &node));
        assert_true(heft_blocks_take_small(&table, base + 48 + 32, &size, &node));
        heft_blocks_put_small(&table, base + 48, 64, 3);
        assert_false(heft_blocks_put_fast(&table, base + 48 + 96, 32, 4)); /* its shadow belongs to others now */
        assert_true(heft_blocks_take_small(&table, base + 48, &size, &node));
        assert_int_equal(node, 3);
    }
    assert_false(table.strays);
    heft_blocks_done(&table);
}

static void test_bytes_for_each_block(void **state)
{
    (void)state;
    uint32_t n = getenv("MEMHEFT_TEST_EXHAUSTIVE") != NULL ? 4000000 : 300000;
    heft_blocks_t table;
    assert_true(heft_blocks_init(&table));
    for (uint32_t i = 0; i < n; i++)
        assert_true(heft_blocks_put_large(&table, 0x7e0000000000 + (uintptr_t)i * 624, 600, 1 + i % 1000));
    assert_true(heft_blocks_check(&table));
    size_t large = heft_blocks_tool_bytes(&table);
    assert_true(large <= (size_t)n * 20 + (1u << 20));
    size_t size;
    uint32_t node;
    for (uint32_t i = 0; i < n; i++) {
        assert_true(heft_blocks_take_large(&table, 0x7e0000000000 + (uintptr_t)i * 624, &size, &node));
        assert_int_equal(node, 1 + i % 1000);
    }
    heft_blocks_done(&table);
    for (uint32_t units = 1; units <= 32; units++) {
        uint32_t pool_blocks = (16384 - 48) / (units * 16);
        assert_true(heft_blocks_init(&table));
        size_t before = heft_blocks_tool_bytes(&table);
        for (uint32_t i = 0; i < 64 * 64; i++) {
            for (uint32_t k = 0; k < pool_blocks; k += pool_blocks - 1) /* the pool's first and last block */
                heft_blocks_put_small(&table, 0x7e0000000000 + (uintptr_t)i * 16384 + 48 + k * units * 16, units * 16,
                                      1);
        }
        size_t bytes = heft_blocks_tool_bytes(&table) - before;
        assert_true(bytes <= (size_t)64 * 64 * pool_blocks * 5);
        heft_blocks_done(&table);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_traffic),
        cmocka_unit_test(test_an_address_is_a_blocks_start_or_nothing),
        cmocka_unit_test(test_a_pool_of_two_classes_loses_nothing),
        cmocka_unit_test(test_a_recycled_pool_forgets_its_class),
        cmocka_unit_test(test_bytes_for_each_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
