/* SPDX-License-Identifier: MIT */
/* engine/base/map.c: numbers given out once, found again, through several growths. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_put_and_get),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
