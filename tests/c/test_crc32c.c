/* SPDX-License-Identifier: MIT */
/* engine/base/crc32c.c: published values, the fast path against the table, and sums of parts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"

static void test_published_values(void **state)
{
    (void)state;
    unsigned char block[32];
    assert_int_equal(heft_crc32c(0, "123456789", 9), 0xe3069283u);
    memset(block, 0, sizeof block); /* RFC 3720, B.4 */
    assert_int_equal(heft_crc32c(0, block, 32), 0x8a9136aau);
    memset(block, 0xff, sizeof block);
    assert_int_equal(heft_crc32c(0, block, 32), 0x62a8ab43u);
    for (unsigned char i = 0; i < 32; i++)
        block[i] = i;
    assert_int_equal(heft_crc32c(0, block, 32), 0x46dd794eu);
    assert_int_equal(heft_crc32c_portable(0, block, 32), 0x46dd794eu);
}

static void test_nothing(void **state)
{
    (void)state;
    assert_int_equal(heft_crc32c(0, NULL, 0), 0);
    assert_int_equal(heft_crc32c_portable(0, NULL, 0), 0);
    assert_int_equal(heft_crc32c(0x1234, "", 0), 0x1234);
}

static void test_both_ways_agree(void **state)
{
    (void)state;
    unsigned char data[300];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 167 + (i >> 3));
    for (size_t from = 0; from < 17; from++) { /* any alignment, any length */
        for (size_t n = 0; n + from <= sizeof data; n++)
            assert_int_equal(heft_crc32c(0, data + from, n), heft_crc32c_portable(0, data + from, n));
    }
}

static void test_sum_of_parts(void **state)
{
    (void)state;
    unsigned char data[100];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * i);
    uint32_t whole = heft_crc32c(0, data, sizeof data);
    for (size_t cut = 0; cut <= sizeof data; cut++) {
        uint32_t crc = heft_crc32c(0, data, cut);
        assert_int_equal(heft_crc32c(crc, data + cut, sizeof data - cut), whole);
        assert_int_equal(heft_crc32c_portable(crc, data + cut, sizeof data - cut), whole);
    }
}

static void test_each_bit_counts(void **state)
{
    (void)state;
    unsigned char data[40] = {0};
    uint32_t sound = heft_crc32c(0, data, sizeof data);
    for (size_t bit = 0; bit < sizeof data * 8; bit++) {
        data[bit / 8] ^= (unsigned char)(1 << bit % 8);
        assert_int_not_equal(heft_crc32c(0, data, sizeof data), sound);
        data[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_values), cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_both_ways_agree),  cmocka_unit_test(test_sum_of_parts),
        cmocka_unit_test(test_each_bit_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
