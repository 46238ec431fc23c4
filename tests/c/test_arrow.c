/* SPDX-License-Identifier: MIT */
/* The Arrow stream, read as its interface tells readers to: moved, in part, not at all. */
#include "export/arrow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Two columns: i, or null where i % 5 == 0; "i" times i % 7, or null where i % 3 == 0. */
static void build(heft_arrow_t *table, int64_t rows, bool has_nulls)
{
    heft_arrow_init(table);
    assert_true(heft_arrow_add_column(table, "number", HEFT_ARROW_INT64));
    for (int64_t i = 0; i < rows; i++)
        assert_true(has_nulls && i % 5 == 0 ? heft_arrow_append_null(table) : heft_arrow_append_int64(table, -i));
    assert_true(heft_arrow_add_column(table, "text", HEFT_ARROW_UTF8));
    for (int64_t i = 0; i < rows; i++) {
        bool is_null = has_nulls && i % 3 == 0;
        assert_true(is_null ? heft_arrow_append_null(table) : heft_arrow_append_utf8(table, "iiiiiii", (size_t)i % 7));
    }
}

static bool is_valid(const struct ArrowArray *array, int64_t i)
{
    const uint8_t *bits = array->buffers[0];
    return bits == NULL || (bits[i / 8] >> i % 8 & 1) != 0;
}

static void check_batch(const struct ArrowArray *batch, int64_t rows, bool has_nulls)
{
    assert_int_equal(batch->length, rows);
    assert_int_equal(batch->n_children, 2);
    const struct ArrowArray *number = batch->children[0], *text = batch->children[1];
    const int64_t *numbers = number->buffers[1];
    const int32_t *ends = text->buffers[1];
    int64_t nulls[2] = {0, 0};
    assert_int_equal(number->n_buffers, 2);
    assert_int_equal(text->n_buffers, 3);
    assert_non_null(numbers);
    assert_non_null(text->buffers[2]);
    assert_int_equal(ends[0], 0);
    for (int64_t i = 0; i < rows; i++) {
        assert_int_equal(is_valid(number, i), !(has_nulls && i % 5 == 0));
        assert_int_equal(is_valid(text, i), !(has_nulls && i % 3 == 0));
        nulls[0] += !is_valid(number, i);
        nulls[1] += !is_valid(text, i);
        if (is_valid(number, i))
            assert_int_equal(numbers[i], -i);
        assert_int_equal(ends[i + 1] - ends[i], is_valid(text, i) ? i % 7 : 0);
    }
    assert_int_equal(number->null_count, nulls[0]);
    assert_int_equal(text->null_count, nulls[1]);
}

static void test_read(void **state)
{
    static const int64_t sizes[] = {0, 1, 7, 8, 9, 63, 64, 65, 1000, 100000};
    (void)state;
    for (size_t i = 0; i < 2 * sizeof sizes / sizeof *sizes; i++) {
        heft_arrow_t table;
        struct ArrowArrayStream stream;
        struct ArrowSchema schema;
        struct ArrowArray batch, end;
        build(&table, sizes[i / 2], i % 2);
        assert_true(heft_arrow_export(&table, &stream));
        heft_arrow_done(&table); /* empty by now */
        assert_int_equal(stream.get_schema(&stream, &schema), 0);
        assert_string_equal(schema.format, "+s");
        assert_int_equal(schema.n_children, 2);
        assert_string_equal(schema.children[0]->format, "l");
        assert_string_equal(schema.children[0]->name, "number");
        assert_string_equal(schema.children[1]->format, "u");
        assert_int_equal(schema.children[1]->flags, ARROW_FLAG_NULLABLE);
        assert_int_equal(stream.get_next(&stream, &batch), 0);
        assert_int_equal(stream.get_next(&stream, &end), 0);
        assert_null(end.release);
        assert_null(stream.get_last_error(&stream));
        stream.release(&stream);
        assert_null(stream.release);
        check_batch(&batch, sizes[i / 2], i % 2); /* outlives its stream */
        struct ArrowArray moved = batch;
        moved.release(&moved);
        schema.release(&schema);
        assert_null(moved.release);
        assert_null(schema.release);
    }
}

/* A reader may keep one column, release it when it likes, and drop the rest. */
static void test_moved_child(void **state)
{
    heft_arrow_t table;
    struct ArrowArrayStream stream;
    struct ArrowArray batch;
    (void)state;
    build(&table, 100, true);
    assert_true(heft_arrow_export(&table, &stream));
    assert_int_equal(stream.get_next(&stream, &batch), 0);
    struct ArrowArray kept = *batch.children[1];
    batch.children[1]->release = NULL;
    batch.release(&batch);
    stream.release(&stream);
    assert_int_equal(kept.length, 100);
    assert_int_equal(((const int32_t *)kept.buffers[1])[2], 1);
    kept.release(&kept);
}

static void test_never_read(void **state)
{
    heft_arrow_t table;
    struct ArrowArrayStream stream;
    (void)state;
    build(&table, 100, true);
    heft_arrow_done(&table);
    build(&table, 100, true);
    assert_true(heft_arrow_export(&table, &stream));
    stream.release(&stream);
}

static void test_no_columns(void **state)
{
    heft_arrow_t table;
    struct ArrowArrayStream stream;
    struct ArrowSchema schema;
    struct ArrowArray batch;
    (void)state;
    heft_arrow_init(&table);
    assert_true(heft_arrow_export(&table, &stream));
    assert_int_equal(stream.get_schema(&stream, &schema), 0);
    assert_int_equal(stream.get_next(&stream, &batch), 0);
    assert_int_equal(schema.n_children, 0);
    assert_int_equal(batch.length, 0);
    schema.release(&schema);
    batch.release(&batch);
    stream.release(&stream);
}

/* Offsets have 32 bits: a text that they cannot reach is refused, and the column is as before. */
static void test_too_much_text(void **state)
{
    heft_arrow_t table;
    (void)state;
    heft_arrow_init(&table);
    assert_true(heft_arrow_add_column(&table, "text", HEFT_ARROW_UTF8));
    assert_true(heft_arrow_append_utf8(&table, "abc", 3));
    assert_false(heft_arrow_append_utf8(&table, "", (size_t)INT32_MAX - 2));
    assert_true(heft_arrow_append_utf8(&table, "d", 1));
    assert_int_equal(table.columns[0].rows, 2);
    heft_arrow_done(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),       cmocka_unit_test(test_moved_child),   cmocka_unit_test(test_never_read),
        cmocka_unit_test(test_no_columns), cmocka_unit_test(test_too_much_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
