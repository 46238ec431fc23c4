/* SPDX-License-Identifier: MIT */
/* Memory that runs out anywhere between opening a recording and its last view, export or Arrow table: each call fails
 * cleanly, releases what it had, and works again.  Linked with --wrap for malloc, calloc and realloc: the n-th request
 * of a round fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "build_recording.h"
#include "export/arrow.h"
#include "export/collapsed.h"
#include "export/pprof.h"
#include "export/speedscope.h"
#include "ledger/view.h"

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);

static uint32_t countdown; /* 0 = never fail; 1 = the next request fails, and all after it */

static bool is_refused(void)
{
    if (countdown > 1)
        countdown--;
    else if (countdown == 1)
        return true;
    return false;
}

void *__wrap_malloc(size_t bytes)
{
    return is_refused() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t n, size_t bytes)
{
    return is_refused() ? NULL : __real_calloc(n, bytes);
}

void *__wrap_realloc(void *old, size_t bytes)
{
    return is_refused() ? NULL : __real_realloc(old, bytes);
}

static bool make_groups(const heft_view_t *view)
{
    bool ok = true;
    for (heft_by_t by = HEFT_BY_LINE; ok && by <= HEFT_BY_REGION; by++) {
        heft_rows_t rows;
        ok = heft_view_rows(view, by, &rows);
        heft_rows_done(&rows);
    }
    for (int inverted = 0; ok && inverted < 2; inverted++) {
        heft_branches_t tree;
        ok = heft_view_tree(view, inverted != 0, &tree);
        heft_branches_done(&tree);
    }
    return ok;
}

static bool make_exports(const heft_view_t *view)
{
    heft_out_t outs[3] = {{0}};
    heft_pprof_t pprof = {.alloc = view, .inuse = view, .default_type = heft_text_of("inuse_space")};
    heft_speedscope_profile_t profile = {.view = view, .thread = HEFT_PATHS_ALL};
    heft_speedscope_t speedscope = {.profiles = &profile, .profile_n = 1};
    bool ok = heft_pprof_write(&pprof, &outs[0]) && heft_speedscope_write(&speedscope, &outs[1]) &&
              heft_collapsed_write(view, NULL, &outs[2]);
    for (int i = 0; i < 3; i++) {
        assert_true(!ok || (outs[i].n > 0 && !outs[i].failed));
        heft_out_done(&outs[i]);
    }
    return ok;
}

/* Everything once; true if memory was enough. */
static bool make_all(const unsigned char *data, size_t bytes)
{
    static const uint8_t classes[16] = {3, 0, 1, 2, 0, 1, 2};
    heft_reader_t reader;
    heft_stacks_t stacks;
    heft_view_t view;
    heft_err_t err = {0};
    heft_status_t status = heft_reader_open_bytes(&reader, data, bytes, &err);
    if (status != HEFT_OK) {
        assert_int_equal(status, HEFT_ERR_NOMEM);
        assert_int_equal(err.code, HEFT_ERR_NOMEM);
        return false;
    }
    bool ok = heft_stacks_init(&stacks, &reader);
    for (int own = 0; ok && own < 2; own++) {
        heft_view_options_t options = {.moment = HEFT_MOMENT_TOTAL, .classes = classes, .own = own, .keep = 15};
        assert_true(stacks.file_n <= sizeof classes);
        assert_true(stacks.part_n > 0); /* regions are among what asks for memory */
        ok = heft_view_init(&view, &stacks, &options) && make_groups(&view) && make_exports(&view);
        heft_view_done(&view);
    }
    heft_stacks_done(&stacks);
    heft_reader_close(&reader);
    return ok;
}

static void test_each_request_fails(void **state)
{
    (void)state;
    recording_t r;
    size_t bytes;
    recording_random(&r, 21, 120);
    unsigned char *data = recording_write(&r, HEFT_STATE_CLOSED, &bytes);
    uint32_t n = 0;
    bool ok = false;
    while (!ok && n < 1000) {
        countdown = ++n;
        ok = make_all(data, bytes);
        countdown = 0;
        assert_true(make_all(data, bytes));
    }
    assert_true(ok && n > 50); /* so many requests there are */
    free(data);
    recording_done(&r);
}

/* A table of 200 rows, made, exported and read; true if memory was enough. */
static bool make_table(void)
{
    heft_arrow_t table;
    struct ArrowArrayStream stream = {0};
    struct ArrowSchema schema = {0};
    struct ArrowArray batch = {0};
    heft_arrow_init(&table);
    bool ok = heft_arrow_add_column(&table, "number", HEFT_ARROW_INT64);
    for (int64_t i = 0; ok && i < 200; i++)
        ok = i == 100 ? heft_arrow_append_null(&table) : heft_arrow_append_int64(&table, i);
    ok = ok && heft_arrow_add_column(&table, "text", HEFT_ARROW_UTF8);
    for (int64_t i = 0; ok && i < 200; i++)
        ok = i == 0 ? heft_arrow_append_null(&table) : heft_arrow_append_utf8(&table, "text", 4);
    ok = ok && heft_arrow_export(&table, &stream);
    heft_arrow_done(&table);
    ok = ok && stream.get_schema(&stream, &schema) == 0 && stream.get_next(&stream, &batch) == 0;
    if (schema.release != NULL)
        schema.release(&schema);
    if (batch.release != NULL)
        batch.release(&batch);
    if (stream.release != NULL) {
        assert_true(ok || stream.get_last_error(&stream) != NULL);
        stream.release(&stream);
    }
    return ok;
}

static void test_each_request_of_a_table_fails(void **state)
{
    (void)state;
    uint32_t n = 0;
    bool ok = false;
    while (!ok && n < 1000) {
        countdown = ++n;
        ok = make_table();
        countdown = 0;
        assert_true(make_table());
    }
    assert_true(ok && n > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_request_fails),
        cmocka_unit_test(test_each_request_of_a_table_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
