/* SPDX-License-Identifier: MIT */
/* engine/base/map.c: numbers given out once, found again, through several growths; keys chosen to meet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/map.h"

static void test_empty(void **state)
{
    (void)state;
    heft_map_t map;
    heft_map_init(&map);
    assert_int_equal(heft_map_get(&map, 1, 99), 99);
    assert_int_equal(map.used, 0);
    heft_map_done(&map);
    heft_map_done(&map);
}

/* Keys of the kinds that occur: small pairs, equal halves, 0, all ones, hashes. */
static uint64_t key_of(uint32_t i)
{
    switch (i % 4) {
    case 0: return heft_map_pair(i, i);
    case 1: return heft_map_pair(0, i);
    case 2: return heft_map_pair(i, 0);
    default: return ~(i * UINT64_C(0x9e3779b97f4a7c15));
    }
}

static void test_put_and_get(void **state)
{
    (void)state;
    heft_map_t map;
    bool is_new;
    heft_map_init(&map);
    for (uint32_t i = 0; i < 20000; i++) {
        assert_int_equal(heft_map_get(&map, key_of(i), UINT32_MAX), UINT32_MAX);
        uint32_t *value = heft_map_put(&map, key_of(i), &is_new);
        assert_non_null(value);
        assert_true(is_new);
        assert_int_equal(*value, 0);
        *value = i + 7;
    }
    assert_int_equal(map.used, 20000);
    assert_true(map.used <= map.mask / 2 + 1);
    for (uint32_t i = 0; i < 20000; i++) {
        assert_int_equal(heft_map_get(&map, key_of(i), UINT32_MAX), i + 7);
        assert_int_equal(*heft_map_put(&map, key_of(i), &is_new), i + 7);
        assert_false(is_new);
    }
    assert_int_equal(heft_map_get(&map, key_of(20000), 5), 5);
    heft_map_done(&map);
}

/* The number of full slots one behind the other, at most. */
static size_t longest_run(const heft_map_t *map)
{
    size_t longest = 0, run = 0;
    for (size_t i = 0; i <= map->mask; i++) {
        run = map->slots[i].full ? run + 1 : 0;
        longest = run > longest ? run : longest;
    }
    return longest;
}

/* Keys that a file may choose: regular ones, and those that all meet in one slot under the hash of a multiplication and
 * a shift without a secret: 30000 of them would be one run. */
static void test_chosen_keys(void **state)
{
    (void)state;
    enum { KEYS = 30000 };
    const uint64_t multiplier = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t inverse = 1;
    for (int i = 0; i < 6; i++)
        inverse *= 2 - multiplier * inverse;
    assert_true(multiplier * inverse == 1);
    for (int kind = 0; kind < 5; kind++) {
        heft_map_t map;
        bool is_new;
        heft_map_init(&map);
        for (uint64_t i = 0; i < KEYS; i++) {
            uint64_t h = i << 32;
            h ^= h >> 29 ^ h >> 58; /* undone: h ^ h >> 29 */
            uint64_t met = h * inverse;
            const uint64_t keys[] = {met ^ met >> 32, i, i << 32, i << 40, heft_map_pair((uint32_t)i, (uint32_t)i)};
            assert_non_null(heft_map_put(&map, keys[kind], &is_new));
            assert_true(is_new);
        }
        assert_true(longest_run(&map) < KEYS / 50);
        heft_map_done(&map);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_put_and_get),
        cmocka_unit_test(test_chosen_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
