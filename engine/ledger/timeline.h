/* SPDX-License-Identifier: MIT */
/* The timeline of a recording: how much was live, and resident, from its start to now, in a bounded number of points.
 *
 *     point i covers  [i * interval, (i + 1) * interval)    the largest live sum seen in it, and the largest resident
 * one
 *
 * When the points are used up, neighbours are joined and the interval doubles: a run of a second and one of a month
 * both have between HEFT_TIMELINE_POINTS / 2 and HEFT_TIMELINE_POINTS of them.  It lies in the file like all counters.
 */
#ifndef HEFT_LEDGER_TIMELINE_H
#define HEFT_LEDGER_TIMELINE_H

#include "ledger/format.h"

#define HEFT_TIMELINE_FIRST_NS 1000000u /* interval at first */

/* What is so at `now_ns`, which never goes back.  `resident`: bytes, 0 = not asked just now.  Stretches without a call
 * are filled with what was last known.  Cost: a division; O(points) when the interval doubles. */
void heft_timeline_add(heft_timeline_t *timeline, uint64_t now_ns, uint64_t live, uint64_t resident);

#endif
