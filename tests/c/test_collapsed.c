/* SPDX-License-Identifier: MIT */
/* engine/export/collapsed.c: an example written out; random recordings: sums, and no stack twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "export/collapsed.h"
#include "opened.h"

/* What is written, ended by 0; the caller frees it. */
static char *collapse(const heft_view_t *view, const heft_text_t *files)
{
    heft_out_t out = {0};
    assert_true(heft_collapsed_write(view, files, &out));
    heft_out_bytes(&out, "", 1);
    return out.ptr;
}

static void check(const heft_view_t *view, const heft_text_t *files, const char *expected)
{
    char *text = collapse(view, files);
    assert_string_equal(text, expected);
    free(text);
}

static void test_example(void **state)
{
    (void)state;
    opened_t o;
    open_example(&o);
    check(&o.views[HEFT_MOMENT_TOTAL], NULL,
          "thread MainThread (4711);<module> (app.py:9) 7\n"
          "thread MainThread (4711);<module> (app.py:9);Reader.read (lib/read.py:5) 100\n"
          "thread MainThread (4711);<module> (app.py:9);Reader.read (lib/read.py:6) 20\n"
          "thread Thread-1 (4712);Reader.read (lib/read.py:5) 30\n");
    heft_text_t files[8];
    for (uint32_t f = 0; f < o.stacks.file_n; f++)
        files[f] = heft_text_of("x;y\n");
    check(&o.views[HEFT_MOMENT_LIVE], files,
          "thread MainThread (4711);<module> (x:y :9) 7\n"
          "thread MainThread (4711);<module> (x:y :9);Reader.read (x:y :5) 100\n"
          "thread MainThread (4711);<module> (x:y :9);Reader.read (x:y :6) 5\n"
          "thread Thread-1 (4712);Reader.read (x:y :5) 30\n");
    close_recording(&o);
}

/* One thread has no frame of its own; names that read alike once they are cleaned are one; no frame, no place. */
static void test_alike(void **state)
{
    (void)state;
    opened_t o;
    recording_init(&o.r);
    uint32_t thread = recording_thread(&o.r, "MainThread");
    static const char *const names[] = {"a;b", "a:b", "a\nb", "a b", ""};
    for (int i = 0; i < 5; i++)
        recording_alloc(&o.r, recording_frame(&o.r, thread, recording_code(&o.r, "f.py", names[i], "m", 0), 3), 1 << i,
                        1);
    recording_alloc(&o.r, recording_frame(&o.r, thread, recording_code(&o.r, "f.py", "g", "m", 0), 0), 32, 1);
    recording_alloc(&o.r, thread, 64, 1);
    recording_alloc(&o.r, recording_frame(&o.r, thread, recording_code(&o.r, "f.py", "zero", "m", 0), 7), 0, 1);
    open_recording(&o);
    check(&o.views[HEFT_MOMENT_TOTAL], NULL,
          "<interpreter> 64\na:b (f.py:3) 3\na b (f.py:3) 12\n<unknown> (f.py:3) 16\ng (f.py) 32\n");
    check(&o.views[HEFT_MOMENT_TEMPORARY], NULL, "");
    close_recording(&o);
}

/* Threads are shown where the tree shows them: also if another one has but blocks of no bytes. */
static void test_threads(void **state)
{
    (void)state;
    opened_t o;
    recording_init(&o.r);
    uint32_t threads[] = {recording_thread(&o.r, "MainThread"), recording_thread(&o.r, "Thread-1")};
    uint32_t code = recording_code(&o.r, "f.py", "f", "m", 0);
    recording_alloc(&o.r, recording_frame(&o.r, threads[0], code, 3), 5, 1);
    recording_alloc(&o.r, recording_frame(&o.r, threads[1], code, 3), 0, 1);
    open_recording(&o);
    heft_branches_t tree;
    const heft_view_t *view = &o.views[HEFT_MOMENT_TOTAL];
    assert_true(heft_view_tree(view, false, &tree));
    assert_int_equal(tree.branch_n, 5);
    assert_true(heft_view_has_threads(view));
    heft_branches_done(&tree);
    check(view, NULL, "thread MainThread (4711);f (f.py:3) 5\n");
    assert_false(heft_view_has_threads(&o.views[HEFT_MOMENT_TEMPORARY]));
    close_recording(&o);
}

/* Regions are frames below the thread, if that is one. */
static void test_regions(void **state)
{
    (void)state;
    opened_t o;
    open_regions(&o);
    check(&o.views[HEFT_MOMENT_TOTAL], NULL,
          "thread MainThread (4711);region load;<interpreter> 4\n"
          "thread MainThread (4711);<module> (app.py:9) 1\n"
          "thread MainThread (4711);region load;<module> (app.py:9) 2\n"
          "thread MainThread (4711);region load;region parse;<module> (app.py:9) 8\n"
          "thread Thread-1 (4712);region load;<module> (app.py:9) 16\n"
          "thread Thread-1 (4712);region a:b;<module> (app.py:9) 32\n");
    close_recording(&o);

    recording_init(&o.r);
    uint32_t thread = recording_thread(&o.r, "MainThread"), code = recording_code(&o.r, "f.py", "f", "m", 0);
    static const char *const names[] = {"x;y", "x:y", "z"}; /* the first two read alike */
    for (int i = 0; i < 3; i++) {
        uint32_t region = recording_node(&o.r, HEFT_NODE_REGION, thread, recording_string(&o.r, names[i]), 0);
        recording_alloc(&o.r, recording_frame(&o.r, region, code, 3), 1 << i, 1);
    }
    open_recording(&o);
    check(&o.views[HEFT_MOMENT_TOTAL], NULL, "region x:y;f (f.py:3) 3\nregion z;f (f.py:3) 4\n");
    close_recording(&o);
}

static int compare_lines(const void *pa, const void *pb)
{
    return strcmp(*(char *const *)pa, *(char *const *)pb);
}

static void check_sum(const heft_view_t *view)
{
    static char *lines[5000];
    uint64_t sum = 0;
    size_t n = 0;
    char *text = collapse(view, NULL), *at = text;
    for (char *end; (end = strchr(at, '\n')) != NULL; at = end + 1) {
        *end = '\0';
        char *blank = strrchr(at, ' ');
        assert_non_null(blank);
        uint64_t bytes = strtoull(blank + 1, NULL, 10);
        assert_true(bytes > 0);
        sum += bytes;
        *blank = '\0';
        assert_true(n < sizeof lines / sizeof *lines);
        lines[n++] = at;
    }
    assert_int_equal(*at, '\0');
    assert_int_equal(sum, view->total.bytes);
    qsort(lines, n, sizeof *lines, compare_lines);
    for (size_t i = 1; i < n; i++)
        assert_string_not_equal(lines[i - 1], lines[i]);
    free(text);
}

static void test_random(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        opened_t o;
        recording_random(&o.r, seed, 30 + (uint32_t)seed * 5);
        open_recording(&o);
        for (int i = 0; i < 4; i++)
            check_sum(&o.views[i]);
        close_recording(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_example), cmocka_unit_test(test_alike),  cmocka_unit_test(test_threads),
        cmocka_unit_test(test_regions), cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
