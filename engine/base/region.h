/* SPDX-License-Identifier: MIT */
/* A region: address space reserved once, used from the bottom up, so that what it holds does not move.
 *
 *     base                 used            reserved
 *     |####################|...............|        pages above `used` cost nothing until they are touched
 *
 * The recorder's own tables live in regions: mapped memory, so that the tool never measures itself. */
#ifndef HEFT_BASE_REGION_H
#define HEFT_BASE_REGION_H

#include <stdbool.h>
#include <stddef.h>

typedef struct {
    char *base;      /* page-aligned, zero-filled where never written; NULL = not mapped */
    size_t reserved; /* bytes of address space */
    size_t used;     /* bytes handed out */
} heft_region_t;

/* Reserve `bytes` of zeroed, lazily committed memory.  False when the kernel refuses; the region is then empty.
 * Address space counts against RLIMIT_AS, so callers ask for what they may need and no more. */
bool heft_region_init(heft_region_t *region, size_t bytes);

/* How much of `bytes` to reserve: all, or a sixteenth where RLIMIT_AS makes the program pay for address space. */
size_t heft_region_share(size_t bytes);

void heft_region_done(heft_region_t *region);

/* `bytes` more (rounded up to 16), zeroed; NULL when the region is full.  Owned by the region. */
void *heft_region_take(heft_region_t *region, size_t bytes);

/* Twice the address space; the base may move.  False when the kernel refuses: nothing has changed then. */
bool heft_region_double(heft_region_t *region);

#endif
