/* SPDX-License-Identifier: MIT */
/* engine/base/hash.c: published values, texts and words that met under hashes without a secret. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"

/* Those of SipHash-2-4's authors: key 00 01 .. 0f, text 00 01 ... */
static void test_published_values(void **state)
{
    (void)state;
    static const uint64_t expected[] = {
        UINT64_C(0x726fdb47dd0e0e31), UINT64_C(0x74f839c593dc67fd), UINT64_C(0x0d6c8009d9a94f5a),
        UINT64_C(0x85676696d7fb7e2d), UINT64_C(0xcf2794e0277187b7), UINT64_C(0x18765564cd99a68d),
        UINT64_C(0xcbc9466e58fee3ce), UINT64_C(0xab0200f58b01d137), UINT64_C(0x93f5f5799a932462)};
    const heft_secret_t key = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
    unsigned char text[15];
    for (unsigned char i = 0; i < sizeof text; i++)
        text[i] = i;
    for (size_t n = 0; n < sizeof expected / sizeof *expected; n++)
        assert_true(heft_hash_bytes(key, text, n) == expected[n]);
    assert_true(heft_hash_bytes(key, text, sizeof text) == UINT64_C(0xa129ca6149be45e5));
    assert_true(heft_hash_bytes(key, NULL, 0) == expected[0]);
}

static int compare(const void *pa, const void *pb)
{
    const uint64_t *a = pa, *b = pb;
    return (*a > *b) - (*a < *b);
}

/* FNV-1a is 0 after these eight bytes, and stays so however many zeros follow. */
static void test_texts_that_met(void **state)
{
    (void)state;
    static char text[2000] = "\xd5\x6b\xb9\x53\x42\x87\x08\x36";
    static uint64_t hashes[sizeof text];
    size_t n = 0;
    for (size_t length = 8; length < sizeof text; length++)
        hashes[n++] = heft_hash_bytes(heft_hash_secret(), text, length);
    qsort(hashes, n, sizeof *hashes, compare);
    for (size_t i = 1; i < n; i++)
        assert_true(hashes[i - 1] != hashes[i]);
}

static void test_one_secret(void **state)
{
    (void)state;
    heft_secret_t secret = heft_hash_secret(), again = heft_hash_secret(), other = {secret.low ^ 1, secret.high};
    assert_memory_equal(&secret, &again, sizeof secret);
    assert_true(secret.low != 0 && secret.high != 0);
    assert_true(heft_hash_word(secret, 1) == heft_hash_word(again, 1));
    assert_true(heft_hash_word(secret, 1) != heft_hash_word(other, 1));
    assert_true(heft_hash_word(secret, 1) != heft_hash_word(secret, 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_values),
        cmocka_unit_test(test_texts_that_met),
        cmocka_unit_test(test_one_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
