/* SPDX-License-Identifier: MIT */
/* The recording's strings: each distinct one once, named by its offset in the string column.
 *
 *     offset  0     4                       20
 *             +-----+-----+-----------+-----+-----+---- - -
 *             | --  | len | bytes ... | pad | len | ...          4-byte aligned
 *             +-----+-----+-----------+-----+-----+---- - -
 *
 * Finding is open addressing over the offsets; the table is the process' own, the bytes are the file's. */
#ifndef HEFT_LEDGER_STRINGS_H
#define HEFT_LEDGER_STRINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/region.h"
#include "ledger/ledger.h"

typedef struct {
    const char *data; /* borrowed, not terminated */
    size_t bytes;
} heft_str_t;

typedef struct {
    heft_ledger_t *ledger; /* borrowed */
    heft_region_t region;
    uint32_t *slots; /* offsets, 0 = free */
    uint32_t mask;
    uint32_t count;
} heft_strings_t;

bool heft_strings_init(heft_strings_t *strings, heft_ledger_t *ledger);
void heft_strings_done(heft_strings_t *strings);

/* The offset of `s`, added if it is new; 0 for the empty string and when there is no room.  Longer strings are cut
 * to HEFT_STRING_MAX bytes. */
uint32_t heft_strings_put(heft_strings_t *strings, heft_str_t s);

#define HEFT_STRING_MAX 4096u

/* The same, but adds nothing: 0 when it is not there. */
uint32_t heft_strings_find(const heft_strings_t *strings, heft_str_t s);

#endif
