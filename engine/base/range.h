/* SPDX-License-Identifier: MIT */
/* An allocator in an address range of its own: whether a block is one of its is told by one comparison.
 *
 *     base                                              top              reserved
 *     |slab |large span      |free |slab |large span ...|.................|      units of 64 KiB
 *        |          `-- head, then the block; pages are given back when it is freed
 *        `-- 64 KiB cut into slots of one size (32 bytes to 16 KiB), each with a head
 *
 *     head (16 bytes)  { size requested, the caller's number, slot size or 0 }   then the block, aligned to 16
 *
 * Made for few blocks (the sampled ones), so it spends address space and a few system calls rather than code.  Pages
 * are given back when a block is freed or shrinks; a large block that grows gets as much room again, to grow in place.
 *
 * Units are opened (readable and writable) when they are taken and mostly stay open, so that all of them are one
 * mapping for the kernel; only a large free span, or the unused room of a large block, is closed again, and no more
 * than about a thousand of each.  A write beyond a block is therefore seldom caught.  Open units count in RLIMIT_DATA,
 * and with vm.overcommit_memory=2 those that were once open count as committed; what mlockall() makes resident are the
 * open ones.
 *
 * Not thread-safe: the caller has a lock. */
#ifndef HEFT_BASE_RANGE_H
#define HEFT_BASE_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/region.h"

#define HEFT_RANGE_CLASSES 10u /* slots of 32 << class bytes */
#define HEFT_RANGE_BINS 32u    /* free spans by the logarithm of their length */

typedef struct {
    uint64_t size;   /* bytes requested */
    uint32_t number; /* the caller's */
    uint32_t slot;   /* bytes of its slot; 0 = a span of its own */
} heft_range_head_t;

typedef struct {
    uint32_t length; /* units; of the first and the last unit of a span */
    union {
        uint32_t next; /* free spans of its bin, as unit + 1 */
        uint32_t open; /* of a span in use: units from its start that may be touched */
    };
    uint32_t previous;
    bool is_free;
    bool is_closed; /* of its first unit: not all of it may be touched */
} heft_range_unit_t;

typedef struct {
    char *base; /* NULL = none */
    size_t reserved;
    uint32_t unit_n, top;  /* units reserved; units ever used, minus what was free at the end */
    uint32_t open_top;     /* from the top up to here units are open */
    uint32_t hole_n;       /* spans that are closed, or end so */
    uint32_t rooms_closed; /* spans that ever ended so when they were taken */
    heft_region_t unit_region;
    heft_range_unit_t *units;
    uint32_t bins[HEFT_RANGE_BINS];     /* first free span, as unit + 1; 0 = none */
    uint32_t slabs[HEFT_RANGE_CLASSES]; /* slabs that have a free slot, as unit + 1 */
    uint64_t block_n;
} heft_range_t;

/* Reserve `bytes` of address space, or as much less as the kernel grants, down to a 64th.  False: not even that. */
bool heft_range_init(heft_range_t *range, size_t bytes);

/* In a forked child: start again above the blocks that were there at the fork.  Those stay as they are for ever:
 * heft_range_has() is false of them.  Another thread may have been at work on `range` when the fork happened.  False:
 * no room above, or no memory; then nothing has changed. */
bool heft_range_rest(heft_range_t *range);

/* Give everything back; no block may be in use.  Not of what heft_range_rest() has made. */
void heft_range_done(heft_range_t *range);

/* A block of `size` bytes, zeroed if `zeroed`; NULL when there is no room. */
void *heft_range_alloc(heft_range_t *range, size_t size, bool zeroed);
void heft_range_free(heft_range_t *range, void *block);

/* As realloc; the head's number is kept.  NULL: no room, the block is as it was. */
void *heft_range_resize(heft_range_t *range, void *block, size_t size);

static inline bool heft_range_has(const heft_range_t *range, const void *block)
{
    return (uintptr_t)block - (uintptr_t)range->base < range->reserved;
}

static inline heft_range_head_t *heft_range_head(void *block)
{
    return (heft_range_head_t *)block - 1;
}

/* Validate the whole structure (tests): O(units in use). */
bool heft_range_check(const heft_range_t *range);

#endif
