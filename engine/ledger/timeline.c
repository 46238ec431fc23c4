/* SPDX-License-Identifier: MIT */
/* Adding to a timeline, see timeline.h. */
#include "ledger/timeline.h"

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void join_neighbours(heft_timeline_t *t)
{
    uint32_t n = (t->point_n + 1) / 2;
    for (uint32_t i = 0; i < n; i++) {
        heft_point_t a = t->points[2 * i], b = 2 * i + 1 < t->point_n ? t->points[2 * i + 1] : a;
        t->points[i] = (heft_point_t){larger(a.live_bytes, b.live_bytes), larger(a.resident_bytes, b.resident_bytes)};
    }
    t->point_n = n;
    t->interval_ns *= 2;
}

void heft_timeline_add(heft_timeline_t *t, uint64_t now_ns, uint64_t live, uint64_t resident)
{
    if (t->interval_ns == 0)
        t->interval_ns = HEFT_TIMELINE_FIRST_NS;
    while (now_ns / t->interval_ns >= HEFT_TIMELINE_POINTS)
        join_neighbours(t);
    uint32_t at = (uint32_t)(now_ns / t->interval_ns);
    for (; t->point_n < at; t->point_n++) /* nothing happened since */
        t->points[t->point_n] = t->last;
    t->last.live_bytes = live;
    if (resident != 0)
        t->last.resident_bytes = resident;
    if (t->point_n == at) {
        t->points[t->point_n++] = t->last;
        return;
    }
    heft_point_t *point = &t->points[at];
    point->live_bytes = larger(point->live_bytes, live);
    point->resident_bytes = larger(point->resident_bytes, t->last.resident_bytes);
}
