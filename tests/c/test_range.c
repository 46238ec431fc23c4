/* SPDX-License-Identifier: MIT */
/* engine/base/range.c: blocks do not overlap, keep what is written to them, and leave no page behind. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/range.h"
#include "build_recording.h"

#define MIB ((size_t)1 << 20)
#define BLOCKS 400u

static size_t resident_pages(const heft_range_t *range)
{
    size_t n = range->reserved / 4096, resident = 0;
    unsigned char *pages = malloc(n);
    assert_non_null(pages);
    assert_int_equal(mincore(range->base, range->reserved, pages), 0);
    for (size_t i = 0; i < n; i++)
        resident += pages[i] & 1;
    free(pages);
    return resident;
}

typedef struct {
    unsigned char *block;
    size_t size;
    unsigned char fill;
} model_t;

/* The first and the last bytes and one in each page: enough to see another block's writing. */
static void fill(const model_t *m)
{
    for (size_t i = 0; i < m->size; i += i < 64 || i + 64 > m->size ? 1 : 61)
        m->block[i] = (unsigned char)(m->fill + i);
}

static bool is_filled(const model_t *m, size_t size)
{
    for (size_t i = 0; i < size; i += i < 64 || i + 64 > m->size ? 1 : 61) {
        if (m->block[i] != (unsigned char)(m->fill + i))
            return false;
    }
    return true;
}

static size_t random_size(uint64_t *random)
{
    switch (random_below(random, 6)) {
    case 0: return random_below(random, 40);
    case 1: return random_below(random, 600);
    case 2: return 16000 + random_below(random, 1000);
    case 3: return random_below(random, 300000);
    case 4: return 65536 * (1 + random_below(random, 4)) - 16 + random_below(random, 3) - 1;
    default: return random_below(random, 4 * (uint32_t)MIB);
    }
}

static void test_random_blocks(void **state)
{
    (void)state;
    static model_t models[BLOCKS];
    for (uint64_t seed = 1; seed <= 6; seed++) {
        heft_range_t range;
        uint64_t random = seed;
        size_t reserved = seed % 2 ? 4096 * MIB : 200 * MIB; /* the latter fills up */
        uint32_t refused = 0;
        assert_true(heft_range_init(&range, reserved));
        memset(models, 0, sizeof models);
        for (uint32_t step = 0; step < 4000; step++) {
            model_t *m = &models[random_below(&random, BLOCKS)];
            size_t size = random_size(&random);
            if (m->block == NULL) {
                bool zeroed = random_below(&random, 2);
                m->block = heft_range_alloc(&range, size, zeroed);
                refused += m->block == NULL;
                if (m->block == NULL)
                    continue;
                assert_int_equal((uintptr_t)m->block % 16, 0);
                assert_true(heft_range_has(&range, m->block));
                for (size_t i = 0; zeroed && i < size; i++)
                    assert_int_equal(m->block[i], 0);
                heft_range_head(m->block)->number = step;
                *m = (model_t){m->block, size, (unsigned char)step};
                fill(m);
            } else if (random_below(&random, 3) == 0) {
                assert_true(is_filled(m, m->size));
                heft_range_free(&range, m->block);
                m->block = NULL;
            } else {
                uint32_t number = heft_range_head(m->block)->number;
                if (random_below(&random, 2))
                    size = m->size + m->size / 8;
                unsigned char *block = heft_range_resize(&range, m->block, size);
                refused += block == NULL;
                if (block != NULL) {
                    m->block = block;
                    assert_true(is_filled(m, size < m->size ? size : m->size));
                    m->size = size;
                    fill(m);
                }
                assert_int_equal(heft_range_head(m->block)->number, number);
                assert_int_equal(heft_range_head(m->block)->size, m->size);
            }
            if (step % 64 == 0)
                assert_true(heft_range_check(&range));
        }
        assert_true(seed % 2 ? refused == 0 : refused > 0);
        for (uint32_t i = 0; i < BLOCKS; i++) {
            if (models[i].block != NULL) {
                assert_true(is_filled(&models[i], models[i].size));
                heft_range_free(&range, models[i].block);
            }
        }
        assert_true(heft_range_check(&range));
        assert_int_equal(range.block_n, 0);
        assert_int_equal(range.top, 0);
        assert_int_equal(resident_pages(&range), 0);
        heft_range_done(&range);
    }
}

/* A list that grows by an eighth each time is moved seldom, and never copied. */
static void test_growing(void **state)
{
    (void)state;
    heft_range_t range;
    assert_true(heft_range_init(&range, 16384 * MIB));
    void *between = NULL, *block = heft_range_alloc(&range, 100000, false);
    uint32_t moves = 0;
    for (size_t size = 100000; size < 2000 * MIB; size += size / 8) {
        void *grown = heft_range_resize(&range, block, size);
        assert_non_null(grown);
        moves += grown != block;
        block = grown;
        if (between == NULL) /* stands in the way */
            between = heft_range_alloc(&range, 100000, false);
    }
    assert_in_range(moves, 1, 15);
    assert_in_range(resident_pages(&range), 2, 64); /* never touched: the pages are not there */
    heft_range_free(&range, block);
    heft_range_free(&range, between);
    heft_range_done(&range);
}

static void test_sizes_that_cannot_be(void **state)
{
    (void)state;
    heft_range_t range;
    assert_true(heft_range_init(&range, 64 * MIB));
    void *block = heft_range_alloc(&range, 10, false);
    assert_null(heft_range_alloc(&range, SIZE_MAX, false));
    assert_null(heft_range_alloc(&range, SIZE_MAX - 20, true));
    assert_null(heft_range_alloc(&range, 65 * MIB, true));
    assert_null(heft_range_resize(&range, block, SIZE_MAX));
    assert_null(heft_range_resize(&range, block, 65 * MIB));
    assert_true(heft_range_check(&range));
    heft_range_free(&range, block);
    heft_range_done(&range);
    assert_false(heft_range_init(&range, SIZE_MAX / 2));
    assert_null(heft_range_alloc(&range, 1, false));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_blocks),
        cmocka_unit_test(test_growing),
        cmocka_unit_test(test_sizes_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
