/* SPDX-License-Identifier: MIT */
/* Interned strings: one reference for each text, of any bytes, through growth, to the end of their room. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "build_recording.h"
#include "ledger/strings.h"
#include "writer.h"

typedef struct {
    writer_t writer;
    heft_strings_t strings;
} fixture_t;

static void init(fixture_t *f, bool small)
{
    writer_init_ledger(&f->writer, small);
    assert_true(heft_strings_init(&f->strings, &f->writer.ledger));
}

static void done(fixture_t *f)
{
    heft_strings_done(&f->strings);
    writer_done(&f->writer);
}

static heft_str_t at(const fixture_t *f, uint32_t ref)
{
    uint32_t bytes;
    assert_true(ref % 4 == 0 && ref >= 4 && ref < f->writer.ledger.header->string_bytes);
    memcpy(&bytes, heft_ledger_strings(&f->writer.ledger) + ref, sizeof bytes);
    assert_true(ref + 4 + bytes <= f->writer.ledger.header->string_bytes);
    return (heft_str_t){heft_ledger_strings(&f->writer.ledger) + ref + 4, bytes};
}

static void assert_text(const fixture_t *f, uint32_t ref, const char *data, size_t bytes)
{
    heft_str_t s = at(f, ref);
    assert_int_equal(s.bytes, bytes);
    if (bytes > 0)
        assert_memory_equal(s.data, data, bytes);
}

static void test_equal_text_equal_reference(void **state)
{
    (void)state;
    fixture_t f;
    init(&f, false);
    assert_int_equal(heft_strings_put(&f.strings, (heft_str_t){"", 0}), 0);
    assert_int_equal(heft_strings_put(&f.strings, (heft_str_t){NULL, 0}), 0);
    assert_int_equal(f.writer.ledger.header->string_bytes, 4);
    uint32_t a = heft_strings_put(&f.strings, str("a")), b = heft_strings_put(&f.strings, str("b"));
    assert_int_equal(a, 4); /* the first place there is */
    assert_int_equal(b, 12);
    /* ends, zeros, and bytes that are no text */
    uint32_t ab = heft_strings_put(&f.strings, str("ab")), zero = heft_strings_put(&f.strings, (heft_str_t){"a\0", 2}),
             two = heft_strings_put(&f.strings, (heft_str_t){"a\0\0", 3}),
             odd = heft_strings_put(&f.strings, (heft_str_t){"\xFF\xFE\x80", 3}),
             surrogate = heft_strings_put(&f.strings, (heft_str_t){"\xED\xB2\x80", 3});
    const uint32_t refs[] = {a, b, ab, zero, two, odd, surrogate};
    for (size_t i = 0; i < 7; i++) {
        for (size_t k = 0; k < i; k++)
            assert_int_not_equal(refs[i], refs[k]);
    }
    assert_text(&f, zero, "a\0", 2);
    assert_text(&f, odd, "\xFF\xFE\x80", 3);
    char beginnings[300]; /* of one text, all of them: wherever two meet in the table, they are told apart */
    memset(beginnings, 'x', sizeof beginnings);
    for (uint32_t bytes = sizeof beginnings, last = surrogate; bytes > 0; bytes--) {
        uint32_t ref = heft_strings_put(&f.strings, (heft_str_t){beginnings, bytes});
        assert_true(ref > last);
        last = ref;
    }
    uint32_t end = f.writer.ledger.header->string_bytes;
    char own[] = "a"; /* text is compared, not its place */
    assert_int_equal(heft_strings_put(&f.strings, (heft_str_t){own, 1}), a);
    assert_int_equal(heft_strings_put(&f.strings, (heft_str_t){"a\0\0", 3}), two);
    assert_int_equal(f.writer.ledger.header->string_bytes, end);
    done(&f);
}

/* Finding adds nothing, not even where adding would. */
static void test_finding(void **state)
{
    (void)state;
    fixture_t f;
    char text[HEFT_STRING_MAX + 64];
    init(&f, false);
    assert_int_equal(heft_strings_find(&f.strings, str("")), 0);
    assert_int_equal(heft_strings_find(&f.strings, (heft_str_t){NULL, 0}), 0);
    assert_int_equal(heft_strings_find(&f.strings, str("a")), 0);
    uint32_t a = heft_strings_put(&f.strings, str("a")), zero = heft_strings_put(&f.strings, (heft_str_t){"a\0", 2});
    assert_int_equal(heft_strings_find(&f.strings, str("a")), a);
    assert_int_equal(heft_strings_find(&f.strings, (heft_str_t){"a\0", 2}), zero);
    assert_int_equal(heft_strings_find(&f.strings, (heft_str_t){"a\0\0", 3}), 0);
    assert_int_equal(heft_strings_find(&f.strings, str("b")), 0);
    assert_int_equal(heft_strings_find(&f.strings, str("")), 0);
    assert_int_equal(f.strings.count, 2);
    assert_int_equal(f.writer.ledger.header->string_bytes, zero + 8);
    /* text that is cut, in the middle of a character here: by what is left of it */
    memset(text, 'x', sizeof text);
    memcpy(text + HEFT_STRING_MAX - 1, "\xE2\x82\xAC", 3);
    for (size_t bytes = HEFT_STRING_MAX + 2; bytes <= sizeof text; bytes += 31)
        assert_int_equal(heft_strings_find(&f.strings, (heft_str_t){text, bytes}), 0);
    uint32_t longest = heft_strings_put(&f.strings, (heft_str_t){text, sizeof text});
    assert_text(&f, longest, text, HEFT_STRING_MAX - 1);
    for (size_t bytes = HEFT_STRING_MAX + 2; bytes <= sizeof text; bytes += 31)
        assert_int_equal(heft_strings_find(&f.strings, (heft_str_t){text, bytes}), longest);
    assert_int_equal(heft_strings_find(&f.strings, (heft_str_t){text, HEFT_STRING_MAX - 1}), longest);
    assert_int_equal(heft_strings_find(&f.strings, (heft_str_t){text, HEFT_STRING_MAX - 2}), 0);
    assert_int_equal(f.strings.count, 3);
    done(&f);
}

/* Text number i: all different, of all lengths modulo 4, some long. */
static size_t make_text(uint32_t i, char *text)
{
    size_t n = (size_t)sprintf(text, "/a/file/number/%u.py", i);
    uint64_t random = i;
    for (size_t more = random_below(&random, 50) == 0 ? random_below(&random, 3000) : random_below(&random, 8);
         more > 0; more--)
        text[n++] = (char)(1 + random_below(&random, 255));
    return n;
}

static void test_growth_against_a_list(void **state)
{
    (void)state;
    enum { N = 40000 };
    fixture_t f;
    char text[4096];
    uint32_t *refs = malloc(N * sizeof *refs), last = 0;
    assert_non_null(refs);
    init(&f, false);
    const char *base = heft_ledger_strings(&f.writer.ledger);
    for (uint32_t i = 0; i < N; i++) {
        size_t n = make_text(i, text);
        assert_int_equal(heft_strings_find(&f.strings, (heft_str_t){text, n}), 0);
        refs[i] = heft_strings_put(&f.strings, (heft_str_t){text, n});
        assert_true(refs[i] > last); /* none is an old one, each stands behind the others */
        last = refs[i];
        if (i % 7 == 0) { /* any earlier one, before and after each growth */
            uint64_t random = i;
            uint32_t k = random_below(&random, i + 1);
            n = make_text(k, text);
            assert_int_equal(heft_strings_find(&f.strings, (heft_str_t){text, n}), refs[k]);
            assert_int_equal(heft_strings_put(&f.strings, (heft_str_t){text, n}), refs[k]);
        }
    }
    assert_int_equal(f.strings.count, N);
    assert_true(f.strings.mask + 1 >= 2 * N); /* grew from 1024 */
    assert_ptr_equal(base, heft_ledger_strings(&f.writer.ledger));
    for (uint32_t i = 0; i < N; i++) {
        size_t n = make_text(i, text);
        assert_text(&f, refs[i], text, n);
        assert_int_equal(heft_strings_find(&f.strings, (heft_str_t){text, n}), refs[i]);
        assert_int_equal(heft_strings_put(&f.strings, (heft_str_t){text, n}), refs[i]);
    }
    /* what stands in the file is what a reader gets */
    heft_reader_t reader;
    f.writer.ledger.header->node_n = 0; /* no tree here */
    read_back(&reader, f.writer.path);
    assert_int_equal(reader.header.string_bytes, f.writer.ledger.header->string_bytes);
    for (uint32_t i = 0; i < N; i += 13) {
        size_t n = make_text(i, text);
        heft_text_t s = heft_reader_string(&reader, refs[i]);
        assert_int_equal(s.len, n);
        assert_memory_equal(s.ptr, text, n);
    }
    heft_reader_close(&reader);
    free(refs);
    done(&f);
}

/* The longest prefix of whole characters within `limit`: by decoding from the start. */
static size_t whole_characters(const char *data, size_t bytes, size_t limit)
{
    size_t n = 0;
    while (n < bytes) {
        uint8_t c = (uint8_t)data[n];
        size_t width = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
        if (n + width > limit)
            break;
        n += width;
    }
    return n;
}

static void test_long_text_is_cut_between_characters(void **state)
{
    (void)state;
    static const char *const characters[] = {"x", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x92\xBE", "\xED\xB2\x80"};
    fixture_t f;
    char text[HEFT_STRING_MAX + 64];
    init(&f, false);
    for (uint32_t width = 0; width < 5; width++) {
        for (uint32_t shift = 0; shift < 5; shift++) {
            size_t n = 0;
            while (n < shift)
                text[n++] = (char)('0' + width); /* so that all these texts differ */
            for (; n + 4 <= sizeof text; n += strlen(characters[width]))
                memcpy(text + n, characters[width], strlen(characters[width]));
            for (size_t whole = whole_characters(text, n, n - 8); whole >= HEFT_STRING_MAX - 8; whole--) {
                if (whole_characters(text, n, whole) != whole)
                    continue; /* not the end of a character: such text does not exist */
                size_t kept = whole <= HEFT_STRING_MAX ? whole : whole_characters(text, whole, HEFT_STRING_MAX);
                char *exact = malloc(whole); /* ASan sees a read behind its end */
                assert_non_null(exact);
                memcpy(exact, text, whole);
                uint32_t ref = heft_strings_put(&f.strings, (heft_str_t){exact, whole});
                assert_text(&f, ref, text, kept);
                free(exact);
            }
        }
    }
    assert_true(f.strings.count < 5 * 5 * 12); /* equal prefixes are equal strings */
    done(&f);
}

/* A string that is cut in its column's last bytes; a column of 2 MiB. */
static void test_the_column_is_full(void **state)
{
    (void)state;
    fixture_t f;
    char text[1000];
    uint32_t n = 0, ref;
    init(&f, true);
    assert_int_equal(f.writer.ledger.columns[HEFT_COLUMN_STRING].reserved, HEFT_STRING_BYTES_MAX / 16);
    memset(text, 'x', sizeof text);
    for (;; n++) {
        memcpy(text, &n, sizeof n);
        ref = heft_strings_put(&f.strings, (heft_str_t){text, sizeof text});
        if (ref == 0)
            break;
    }
    assert_int_equal(n, (HEFT_STRING_BYTES_MAX / 16 - 4) / (sizeof text + 4));
    uint32_t end = f.writer.ledger.header->string_bytes, count = f.strings.count;
    assert_int_equal(count, n);
    assert_int_equal(heft_strings_put(&f.strings, (heft_str_t){text, sizeof text}), 0);
    assert_int_equal(f.writer.ledger.header->string_bytes, end);
    assert_int_equal(f.strings.count, count);
    for (uint32_t i = 0; i < n; i++) { /* all others are still found */
        memcpy(text, &i, sizeof i);
        assert_int_equal(heft_strings_put(&f.strings, (heft_str_t){text, sizeof text}), 4 + i * (sizeof text + 4));
    }
    assert_int_equal(f.writer.ledger.header->flags, 0); /* full, but not the disk */
    ref = heft_strings_put(&f.strings, str("fits"));    /* short ones still do */
    assert_int_equal(ref, end);
    done(&f);
}

/* So many short strings that the table is full before the column is. */
static void test_the_table_is_full(void **state)
{
    (void)state;
    enum { MOST = 1 << 19 };
    fixture_t f;
    init(&f, false);
    for (uint32_t i = 0; i < MOST + 1000; i++) {
        uint32_t ref = heft_strings_put(&f.strings, (heft_str_t){(const char *)&i, sizeof i});
        assert_int_equal(ref, i < MOST ? 4 + 8 * i : 0);
    }
    assert_int_equal(f.strings.count, MOST);
    assert_true((size_t)(f.strings.mask + 1) * sizeof(uint32_t) <= f.strings.region.reserved);
    for (uint32_t i = 0; i < MOST; i += 31) {
        assert_int_equal(heft_strings_put(&f.strings, (heft_str_t){(const char *)&i, sizeof i}), 4 + 8 * i);
        assert_int_equal(heft_strings_find(&f.strings, (heft_str_t){(const char *)&i, sizeof i}), 4 + 8 * i);
    }
    for (uint32_t i = MOST; i < MOST + 1000; i++)
        assert_int_equal(heft_strings_find(&f.strings, (heft_str_t){(const char *)&i, sizeof i}), 0);
    done(&f);
}

static void test_the_disk_is_full(void **state)
{
    (void)state;
    fixture_t f;
    uint32_t n = 0;
    init(&f, false);
    limit_file_size(f.writer.ledger.file_bytes);
    while (heft_strings_put(&f.strings, (heft_str_t){(const char *)&n, sizeof n}) != 0)
        n++;
    assert_int_equal(n, (f.writer.ledger.columns[HEFT_COLUMN_STRING].mapped - 4) / 8);
    assert_true(f.writer.ledger.header->flags & HEFT_FLAG_DISK_FULL);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(heft_strings_put(&f.strings, (heft_str_t){(const char *)&i, sizeof i}), 4 + 8 * i);
    limit_file_size((uint64_t)RLIM_INFINITY);
    uint32_t tries = 0, ref = 0;
    while (ref == 0 && tries++ < 10000) /* a full disk is asked again now and then */
        ref = heft_strings_put(&f.strings, (heft_str_t){(const char *)&n, sizeof n});
    assert_int_equal(ref, 4 + 8 * n);
    done(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_text_equal_reference), cmocka_unit_test(test_finding),
        cmocka_unit_test(test_growth_against_a_list),      cmocka_unit_test(test_long_text_is_cut_between_characters),
        cmocka_unit_test(test_the_column_is_full),         cmocka_unit_test(test_the_table_is_full),
        cmocka_unit_test(test_the_disk_is_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
