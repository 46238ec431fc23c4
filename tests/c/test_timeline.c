/* SPDX-License-Identifier: MIT */
/* engine/ledger/timeline.c against a list of all that was added. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "build_recording.h"
#include "ledger/timeline.h"

typedef struct {
    uint64_t now, live, resident;
} added_t;

/* What point `i` must be: the largest of what was added in it and, if nothing was, of what was known before it. */
static heft_point_t expected(const added_t *added, size_t n, uint64_t from, uint64_t to, uint64_t fine)
{
    heft_point_t point = {0, 0}, last = {0, 0};
    for (uint64_t at = from; at < to; at += fine) { /* as if at the first resolution, then joined */
        bool any = false;
        heft_point_t here = {0, 0};
        last = (heft_point_t){0, 0};
        for (size_t k = 0; k < n && added[k].now < at + fine; k++) {
            last.live_bytes = added[k].live;
            last.resident_bytes = added[k].resident != 0 ? added[k].resident : last.resident_bytes;
            if (added[k].now < at)
                continue;
            any = true;
            here.live_bytes = last.live_bytes > here.live_bytes ? last.live_bytes : here.live_bytes;
            here.resident_bytes = last.resident_bytes > here.resident_bytes ? last.resident_bytes : here.resident_bytes;
        }
        if (!any)
            here = last;
        point.live_bytes = here.live_bytes > point.live_bytes ? here.live_bytes : point.live_bytes;
        point.resident_bytes = here.resident_bytes > point.resident_bytes ? here.resident_bytes : point.resident_bytes;
    }
    return point;
}

static void test_against_all_that_was_added(void **state)
{
    (void)state;
    static heft_timeline_t t;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        uint64_t random = seed, now = 0;
        uint32_t n = 1 + random_below(&random, 300), step = 1u << random_below(&random, 27);
        added_t *added = calloc(n, sizeof *added);
        assert_non_null(added);
        memset(&t, 0, sizeof t);
        for (uint32_t i = 0; i < n; i++) {
            now += random_below(&random, step);
            added[i] = (added_t){now, random_below(&random, 1000), random_below(&random, 3) ? 0 : 1 + i};
            heft_timeline_add(&t, now, added[i].live, added[i].resident);
        }
        assert_in_range(t.point_n, 1, HEFT_TIMELINE_POINTS);
        assert_int_equal(t.point_n, now / t.interval_ns + 1);
        assert_true(t.interval_ns == HEFT_TIMELINE_FIRST_NS || t.point_n > HEFT_TIMELINE_POINTS / 2 - 2);
        uint64_t fine = HEFT_TIMELINE_FIRST_NS;
        if (t.interval_ns / fine <= 16) { /* each join looks once more at what a gap was filled with */
            for (uint32_t i = 0; i < t.point_n; i++) {
                uint64_t from = i * t.interval_ns, to = from + t.interval_ns, end = now / fine * fine + fine;
                heft_point_t point = expected(added, n, from, to < end ? to : end, fine);
                assert_true(t.points[i].live_bytes <= point.live_bytes);
                if (t.interval_ns == fine)
                    assert_memory_equal(&t.points[i], &point, sizeof point);
            }
        }
        uint64_t most = 0, kept = 0; /* no maximum is ever lost */
        for (uint32_t i = 0; i < n; i++)
            most = added[i].live > most ? added[i].live : most;
        for (uint32_t i = 0; i < t.point_n; i++)
            kept = t.points[i].live_bytes > kept ? t.points[i].live_bytes : kept;
        assert_int_equal(kept, most);
        free(added);
    }
}

static void test_long_times(void **state)
{
    (void)state;
    static heft_timeline_t t;
    memset(&t, 0, sizeof t);
    heft_timeline_add(&t, 0, 7, 9);
    heft_timeline_add(&t, UINT64_MAX / 2, 5, 0);
    assert_in_range(t.point_n, HEFT_TIMELINE_POINTS / 2 - 1, HEFT_TIMELINE_POINTS);
    assert_int_equal(t.points[0].live_bytes, 7);
    assert_int_equal(t.points[1].live_bytes, 7); /* nothing happened */
    assert_int_equal(t.points[t.point_n - 1].live_bytes, 5);
    assert_int_equal(t.points[t.point_n - 1].resident_bytes, 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_all_that_was_added),
        cmocka_unit_test(test_long_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
