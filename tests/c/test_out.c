/* SPDX-License-Identifier: MIT */
/* engine/export/out.c: names of every kind in every dialect, and random bytes, against what UTF-8 allows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "build_recording.h"
#include "export/out.h"

static void check(const char *text, size_t len, heft_dialect_t dialect, const char *expected)
{
    heft_out_t out = {0};
    heft_out_text(&out, (heft_text_t){text, len}, dialect);
    heft_out_bytes(&out, "", 1);
    assert_string_equal(out.ptr, expected);
    assert_int_equal(out.n, strlen(expected) + 1);
    heft_out_done(&out);
}

static void check_all(const char *text, const char *plain, const char *json, const char *label)
{
    check(text, strlen(text), HEFT_TEXT_PLAIN, plain);
    check(text, strlen(text), HEFT_TEXT_JSON, json);
    check(text, strlen(text), HEFT_TEXT_LABEL, label);
}

static void test_names(void **state)
{
    (void)state;
    check_all("", "", "", "");
    check_all("f.<locals>.g", "f.<locals>.g", "f.<locals>.g", "f.<locals>.g");
    check_all("é漢😀\u00a0", "é漢😀\u00a0", "é漢😀\u00a0", "é漢😀\u00a0");
    check_all("a\"b\\c", "a\"b\\c", "a\\\"b\\\\c", "a\"b\\c");
    check_all("a;b\nc\rd\te\x7f", "a;b\nc\rd\te\x7f", "a;b\\u000ac\\u000dd\\u0009e\x7f", "a:b c d e ");
    check_all("\xc2\x85\xe2\x80\xa8\xe2\x80\xa9", "\xc2\x85\xe2\x80\xa8\xe2\x80\xa9",
              "\xc2\x85\xe2\x80\xa8\xe2\x80\xa9", "   ");
    check("a\0b", 3, HEFT_TEXT_JSON, "a\\u0000b");
    check("a\0b", 3, HEFT_TEXT_LABEL, "a b");
}

/* A surrogate is what the byte of a file name that is no text was read as. */
static void test_surrogates(void **state)
{
    (void)state;
    check_all("a\xed\xb3\xbfz", "a\\udcffz", "a\\\\udcffz", "a\\udcffz");
    check_all("\xed\xa0\x80\xed\xb0\x80", "\\ud800\\udc00", "\\\\ud800\\\\udc00", "\\ud800\\udc00");
}

static void test_damage(void **state)
{
    (void)state;
    static const char *const damaged[] = {
        "\x80", "\xc0\xaf", "\xc3", "\xe2\x82", "\xf5\x80\x80\x80", "\xf4\x90\x80\x80", "\xe0\x80\x80", "\xff"};
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        char expected[64] = "<", text[64] = "<";
        strcat(strcat(text, damaged[i]), ">");
        for (size_t n = 0; n < strlen(damaged[i]); n++)
            strcat(expected, "\xef\xbf\xbd");
        strcat(expected, ">");
        check_all(text, expected, expected, expected);
    }
}

/* How long a well-formed character is, by the table of the Unicode standard (3-7); 0: it is none. */
static size_t standard_length(const unsigned char *p, size_t n)
{
    static const unsigned char rows[][4] = {{1, 0x00, 0x7f, 0},    {2, 0xc2, 0xdf, 0x80}, {3, 0xe0, 0xe0, 0xa0},
                                            {3, 0xe1, 0xec, 0x80}, {3, 0xed, 0xed, 0x80}, {3, 0xee, 0xef, 0x80},
                                            {4, 0xf0, 0xf0, 0x90}, {4, 0xf1, 0xf3, 0x80}, {4, 0xf4, 0xf4, 0x80}};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        if (p[0] < rows[r][1] || p[0] > rows[r][2])
            continue;
        unsigned char last = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
        for (size_t i = 1; i < rows[r][0]; i++) {
            if (i >= n || p[i] < (i == 1 ? rows[r][3] : 0x80) || p[i] > (i == 1 ? last : 0xbf))
                return 0;
        }
        return rows[r][0];
    }
    return 0;
}

static void test_random_bytes(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (int round = 0; round < 20000; round++) {
        char text[24];
        size_t n = random_below(&seed, sizeof text);
        for (size_t i = 0; i < n; i++)
            text[i] = (char)(random_below(&seed, 2) ? 0x80 + random_below(&seed, 0x80) : random_below(&seed, 0x100));
        for (heft_dialect_t dialect = HEFT_TEXT_PLAIN; dialect <= HEFT_TEXT_LABEL; dialect++) {
            heft_out_t out = {0};
            heft_out_text(&out, (heft_text_t){text, n}, dialect);
            for (size_t i = 0, length; i < out.n; i += length) {
                length = standard_length((unsigned char *)out.ptr + i, out.n - i);
                assert_true(length > 0);
                assert_false(dialect != HEFT_TEXT_PLAIN && (unsigned char)out.ptr[i] < 0x20);
                assert_false(dialect == HEFT_TEXT_LABEL && out.ptr[i] == ';');
            }
            heft_out_done(&out);
        }
    }
}

static void test_numbers_and_growth(void **state)
{
    (void)state;
    heft_out_t out = {0};
    heft_out_number(&out, 0);
    heft_out_string(&out, " ");
    heft_out_number(&out, UINT64_MAX);
    assert_memory_equal(out.ptr, "0 18446744073709551615", 22);
    assert_int_equal(out.n, 22);
    for (int i = 0; i < 100000; i++)
        heft_out_number(&out, (uint64_t)i % 10);
    assert_int_equal(out.n, 100022);
    assert_int_equal(out.ptr[100021], '9');
    assert_false(out.failed);
    heft_out_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),        cmocka_unit_test(test_surrogates),         cmocka_unit_test(test_damage),
        cmocka_unit_test(test_random_bytes), cmocka_unit_test(test_numbers_and_growth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
