/* SPDX-License-Identifier: MIT */
/* engine/export/speedscope.c: an example written out; random recordings: weights sum, frames are used. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "export/speedscope.h"
#include "opened.h"

static char *write_file(const heft_speedscope_t *file)
{
    heft_out_t out = {0};
    assert_true(heft_speedscope_write(file, &out));
    heft_out_bytes(&out, "", 1);
    return out.ptr;
}

static void test_example(void **state)
{
    (void)state;
    opened_t o;
    open_example(&o);
    heft_speedscope_profile_t profiles[] = {
        {.view = &o.views[HEFT_MOMENT_TOTAL], .name = heft_text_of("All \"bytes\""), .thread = HEFT_PATHS_ALL},
        {.view = &o.views[HEFT_MOMENT_LIVE], .name = heft_text_of("Blocks"), .thread = HEFT_PATHS_ALL, .blocks = true},
        {.view = &o.views[HEFT_MOMENT_TOTAL], .name = heft_text_of("Thread-1"), .thread = 1},
        {.view = &o.views[HEFT_MOMENT_TEMPORARY], .name = heft_text_of("None"), .thread = HEFT_NONE},
    };
    heft_speedscope_t file = {.name = heft_text_of("app\n"),
                              .exporter = heft_text_of("memheft@1"),
                              .profiles = profiles,
                              .profile_n = 4,
                              .active = 2};
    char *text = write_file(&file);
    assert_string_equal(
        text,
        "{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\",\"exporter\":\"memheft@1\","
        "\"name\":\"app\\u000a\",\"activeProfileIndex\":2,\"shared\":{\"frames\":[\n"
        "{\"name\":\"<module>\",\"file\":\"app.py\",\"line\":9},\n"
        "{\"name\":\"Reader.read\",\"file\":\"lib/read.py\",\"line\":5},\n"
        "{\"name\":\"Reader.read\",\"file\":\"lib/read.py\",\"line\":6}]},\"profiles\":[\n"
        "{\"type\":\"sampled\",\"name\":\"All \\\"bytes\\\"\",\"unit\":\"bytes\",\"startValue\":0,\"endValue\":157,"
        "\"samples\":[\n[0],\n[0,1],\n[0,2],\n[1]],\"weights\":[7,100,20,30]},\n"
        "{\"type\":\"sampled\",\"name\":\"Blocks\",\"unit\":\"none\",\"startValue\":0,\"endValue\":15,"
        "\"samples\":[\n[0],\n[0,1],\n[0,2],\n[1]],\"weights\":[1,10,1,3]},\n"
        "{\"type\":\"sampled\",\"name\":\"Thread-1\",\"unit\":\"bytes\",\"startValue\":0,\"endValue\":30,"
        "\"samples\":[\n[1]],\"weights\":[30]},\n"
        "{\"type\":\"sampled\",\"name\":\"None\",\"unit\":\"bytes\",\"startValue\":0,\"endValue\":0,"
        "\"samples\":[],\"weights\":[]}]}\n");
    free(text);
    close_recording(&o);
}

/* The format has no place for regions: stacks that differ in them alone are one. */
static void test_regions(void **state)
{
    (void)state;
    opened_t o;
    open_regions(&o);
    heft_speedscope_profile_t profiles[] = {
        {.view = &o.views[HEFT_MOMENT_TOTAL], .name = heft_text_of("all"), .thread = HEFT_PATHS_ALL},
        {.view = &o.views[HEFT_MOMENT_TOTAL], .name = heft_text_of("worker"), .thread = 1},
    };
    heft_speedscope_t file = {.profiles = profiles, .profile_n = 2};
    char *text = write_file(&file);
    const char *shared = strstr(text, "\"shared\"");
    assert_non_null(shared);
    assert_string_equal(shared,
                        "\"shared\":{\"frames\":[\n"
                        "{\"name\":\"<interpreter>\",\"file\":\"<interpreter>\"},\n"
                        "{\"name\":\"<module>\",\"file\":\"app.py\",\"line\":9}]},\"profiles\":[\n"
                        "{\"type\":\"sampled\",\"name\":\"all\",\"unit\":\"bytes\",\"startValue\":0,\"endValue\":63,"
                        "\"samples\":[\n[0],\n[1]],\"weights\":[4,59]},\n"
                        "{\"type\":\"sampled\",\"name\":\"worker\",\"unit\":\"bytes\",\"startValue\":0,\"endValue\":48,"
                        "\"samples\":[\n[1]],\"weights\":[48]}]}\n");
    free(text);
    close_recording(&o);
}

/* Samples come in the order of time: that of first allocations. */
static void test_order(void **state)
{
    (void)state;
    opened_t o;
    recording_init(&o.r);
    uint32_t thread = recording_thread(&o.r, "MainThread");
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t node = recording_frame(&o.r, thread, recording_code(&o.r, "f.py", "f", "m", 0), 1 + i);
        recording_alloc(&o.r, node, 10 + i, 1);
        o.r.details[node].first_ns = 100 - i * 10;
        o.r.nodes[node].last_ns = 200;
    }
    open_recording(&o);
    heft_speedscope_profile_t profile = {.view = &o.views[HEFT_MOMENT_TOTAL], .thread = HEFT_PATHS_ALL};
    heft_speedscope_t file = {.profiles = &profile, .profile_n = 1};
    char *text = write_file(&file);
    assert_non_null(strstr(text, "\"weights\":[13,12,11,10]"));
    assert_non_null(strstr(text, "\"samples\":[\n[0],\n[1],\n[2],\n[3]]"));
    free(text);
    close_recording(&o);
}

static uint64_t sum_of_weights(const char **text)
{
    uint64_t sum = 0;
    char *at = strstr(*text, "\"weights\":[");
    assert_non_null(at);
    for (at += 10; *at != ']';) {
        if (at[1] == ']')
            break;
        uint64_t weight = strtoull(at + 1, &at, 10);
        assert_true(weight > 0);
        sum += weight;
    }
    *text = at;
    return sum;
}

static void test_random(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        opened_t o;
        recording_random(&o.r, seed, 30 + (uint32_t)seed * 5);
        open_recording(&o);
        uint32_t thread_n = o.r.header.thread_n;
        heft_speedscope_profile_t profiles[64];
        size_t n = 0;
        for (int i = 0; i < 4; i++)
            profiles[n++] = (heft_speedscope_profile_t){.view = &o.views[i], .thread = HEFT_PATHS_ALL, .blocks = i % 2};
        profiles[n++] = (heft_speedscope_profile_t){.view = &o.views[0], .thread = HEFT_NONE};
        for (uint32_t t = 0; t < thread_n; t++)
            profiles[n++] = (heft_speedscope_profile_t){.view = &o.views[0], .thread = t};
        heft_speedscope_t file = {.profiles = profiles, .profile_n = n};
        char *text = write_file(&file);
        const char *at = text;
        for (int i = 0; i < 4; i++)
            assert_int_equal(sum_of_weights(&at), i % 2 ? o.views[i].total.blocks : o.views[i].total.bytes);
        uint64_t threads = 0;
        for (uint32_t t = 0; t < thread_n + 1; t++)
            threads += sum_of_weights(&at);
        assert_int_equal(threads, o.views[0].total.bytes);
        free(text);
        close_recording(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_example),
        cmocka_unit_test(test_regions),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
