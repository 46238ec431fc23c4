/* SPDX-License-Identifier: MIT */
/* Spans and slabs of an address range, see range.h. */
#define _GNU_SOURCE
#include "base/range.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/compiler.h"

#define UNIT ((size_t)64 << 10)
#define PAGE ((size_t)4096)
#define HEAD sizeof(heft_range_head_t)
#define SLAB_HEAD 64u
#define SMALL_MAX (32u << (HEFT_RANGE_CLASSES - 1))

_Static_assert(sizeof(heft_range_head_t) == 16, "blocks are aligned to 16");

/* The first bytes of a slab's unit. */
typedef struct {
    uint32_t slot, used; /* bytes of a slot; slots in use */
    uint32_t free;       /* first freed slot, as number + 1; linked through the slots */
    uint32_t fresh;      /* slots from here on were never used */
    uint32_t next, previous;
} slab_t;
_Static_assert(sizeof(slab_t) <= SLAB_HEAD, "room for a slab's head");

static char *address_of(const heft_range_t *range, uint32_t unit)
{
    return range->base + (size_t)unit * UNIT;
}

static uint32_t unit_of(const heft_range_t *range, const void *block)
{
    return (uint32_t)((size_t)((const char *)block - range->base) / UNIT);
}

static size_t whole_pages(size_t bytes)
{
    return (bytes + PAGE - 1) & ~(PAGE - 1);
}

/* ---- spans --------------------------------------------------------------------------------------------------------
 */

static uint32_t bin_of(uint32_t length)
{
    return 31u - (uint32_t)__builtin_clz(length);
}

static void mark(heft_range_t *range, uint32_t first, uint32_t length, bool is_free)
{
    heft_range_unit_t *a = &range->units[first], *b = &range->units[first + length - 1];
    a->length = b->length = length;
    a->is_free = b->is_free = is_free;
}

static void put_in_bin(heft_range_t *range, uint32_t first, uint32_t length)
{
    uint32_t *head = &range->bins[bin_of(length)];
    mark(range, first, length, true);
    range->units[first].next = *head;
    range->units[first].previous = 0;
    if (*head != 0)
        range->units[*head - 1].previous = first + 1;
    *head = first + 1;
}

static void take_from_bin(heft_range_t *range, uint32_t first)
{
    const heft_range_unit_t *unit = &range->units[first];
    if (unit->previous != 0)
        range->units[unit->previous - 1].next = unit->next;
    else
        range->bins[bin_of(unit->length)] = unit->next;
    if (unit->next != 0)
        range->units[unit->next - 1].previous = unit->previous;
}

/* Free span of at least `length` units out of the bins, or from above the top; its first unit, or UINT32_MAX. */
static uint32_t take_span(heft_range_t *range, uint32_t length)
{
    for (uint32_t bin = bin_of(length); bin < HEFT_RANGE_BINS; bin++) {
        for (uint32_t at = range->bins[bin]; at != 0; at = range->units[at - 1].next) {
            uint32_t first = at - 1, found = range->units[first].length;
            if (found < length)
                continue;
            take_from_bin(range, first);
            if (found > length)
                put_in_bin(range, first + length, found - length);
            mark(range, first, length, false);
            return first;
        }
    }
    if (length > range->unit_n - range->top)
        return UINT32_MAX;
    uint32_t first = range->top;
    range->top += length;
    mark(range, first, length, false);
    return first;
}

/* Back into the bins, joined with its free neighbours; what ends at the top lowers it. */
static void give_span(heft_range_t *range, uint32_t first, uint32_t length)
{
    if (first + length < range->top && range->units[first + length].is_free) {
        uint32_t after = range->units[first + length].length;
        take_from_bin(range, first + length);
        length += after;
    }
    if (first > 0 && range->units[first - 1].is_free) {
        uint32_t before = range->units[first - 1].length;
        take_from_bin(range, first - before);
        first -= before;
        length += before;
    }
    if (first + length == range->top)
        range->top = first;
    else
        put_in_bin(range, first, length);
}

/* ---- pages --------------------------------------------------------------------------------------------------------
 */

static bool map_pages(char *at, size_t bytes)
{
    int saved_errno = errno;
    bool ok = mprotect(at, bytes, PROT_READ | PROT_WRITE) == 0;
    errno = saved_errno;
    return ok;
}

/* The pages are gone, the addresses stay reserved. */
static void unmap_pages(char *at, size_t bytes)
{
    int saved_errno = errno;
    if (mmap(at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        madvise(at, bytes, MADV_DONTNEED); /* too many mappings: give at least the memory back */
    errno = saved_errno;
}

/* ---- slabs --------------------------------------------------------------------------------------------------------
 */

static slab_t *slab_at(const heft_range_t *range, uint32_t unit)
{
    return (slab_t *)(void *)address_of(range, unit);
}

static heft_range_head_t *slot_at(slab_t *slab, uint32_t number)
{
    return (heft_range_head_t *)(void *)((char *)slab + SLAB_HEAD + (size_t)number * slab->slot);
}

static uint32_t slots_in(const slab_t *slab)
{
    return (uint32_t)((UNIT - SLAB_HEAD) / slab->slot);
}

static uint32_t class_of(size_t bytes)
{
    return bytes <= 32 ? 0 : 32 - (uint32_t)__builtin_clz((uint32_t)(bytes - 1)) - 5;
}

static void link_slab(heft_range_t *range, uint32_t unit)
{
    slab_t *slab = slab_at(range, unit);
    uint32_t *head = &range->slabs[class_of(slab->slot)];
    slab->next = *head;
    slab->previous = 0;
    if (*head != 0)
        slab_at(range, *head - 1)->previous = unit + 1;
    *head = unit + 1;
}

static void unlink_slab(heft_range_t *range, uint32_t unit)
{
    slab_t *slab = slab_at(range, unit);
    if (slab->previous != 0)
        slab_at(range, slab->previous - 1)->next = slab->next;
    else
        range->slabs[class_of(slab->slot)] = slab->next;
    if (slab->next != 0)
        slab_at(range, slab->next - 1)->previous = slab->previous;
}

static heft_range_head_t *alloc_slot(heft_range_t *range, size_t bytes)
{
    uint32_t class = class_of(bytes);
    if (range->slabs[class] == 0) {
        uint32_t unit = take_span(range, 1);
        if (unit == UINT32_MAX)
            return NULL;
        if (!map_pages(address_of(range, unit), UNIT)) {
            give_span(range, unit, 1);
            return NULL;
        }
        *slab_at(range, unit) = (slab_t){.slot = 32u << class};
        link_slab(range, unit);
    }
    uint32_t unit = range->slabs[class] - 1;
    slab_t *slab = slab_at(range, unit);
    heft_range_head_t *head;
    if (slab->free != 0) {
        head = slot_at(slab, slab->free - 1);
        slab->free = head->number;
    } else {
        head = slot_at(slab, slab->fresh++);
    }
    slab->used++;
    if (slab->free == 0 && slab->fresh == slots_in(slab))
        unlink_slab(range, unit);
    head->slot = slab->slot;
    return head;
}

static void free_slot(heft_range_t *range, heft_range_head_t *head)
{
    uint32_t unit = unit_of(range, head);
    slab_t *slab = slab_at(range, unit);
    bool was_full = slab->free == 0 && slab->fresh == slots_in(slab);
    head->number = slab->free;
    slab->free = (uint32_t)(((char *)head - (char *)slab - SLAB_HEAD) / slab->slot) + 1;
    slab->used--;
    if (was_full)
        link_slab(range, unit);
    if (slab->used == 0) {
        unlink_slab(range, unit);
        unmap_pages(address_of(range, unit), UNIT);
        give_span(range, unit, 1);
    }
}

/* ---- large blocks
 * --------------------------------------------------------------------------------------------------*/

static uint32_t units_for(size_t size)
{
    return (uint32_t)((size + HEAD + UNIT - 1) / UNIT);
}

/* A span with room for `room` bytes, of which `size` are mapped. */
static heft_range_head_t *alloc_span(heft_range_t *range, size_t size, size_t room)
{
    uint32_t length = units_for(room), first = take_span(range, length);
    if (first == UINT32_MAX && units_for(size) < length) {
        length = units_for(size);
        first = take_span(range, length);
    }
    if (first == UINT32_MAX)
        return NULL;
    if (!map_pages(address_of(range, first), whole_pages(size + HEAD))) {
        give_span(range, first, length);
        return NULL;
    }
    heft_range_head_t *head = (heft_range_head_t *)(void *)address_of(range, first);
    head->slot = 0;
    return head;
}

static void free_span(heft_range_t *range, uint32_t first, size_t mapped)
{
    unmap_pages(address_of(range, first), mapped);
    give_span(range, first, range->units[first].length);
}

/* Grow or shrink where it stands. */
static bool resize_span(heft_range_t *range, heft_range_head_t *head, size_t size)
{
    uint32_t first = unit_of(range, head), length = range->units[first].length, wanted = units_for(size);
    size_t before = whole_pages(head->size + HEAD), after = whole_pages(size + HEAD);
    char *base = (char *)head;
    if (wanted > length) {
        uint32_t next = first + length, more = wanted - length;
        bool at_top = next == range->top;
        if (at_top ? more > range->unit_n - range->top
                   : !range->units[next].is_free || range->units[next].length < more)
            return false;
        if (!map_pages(base + before, after - before))
            return false;
        if (at_top) {
            range->top += more;
        } else {
            uint32_t found = range->units[next].length;
            take_from_bin(range, next);
            if (found > more)
                put_in_bin(range, next + more, found - more);
        }
        mark(range, first, wanted, false);
    } else if (after > before) {
        if (!map_pages(base + before, after - before))
            return false;
    } else if (after < before) {
        unmap_pages(base + after, before - after);
        if (wanted <= length / 4) { /* half of the rest is kept to grow into */
            mark(range, first, 2 * wanted, false);
            mark(range, first + 2 * wanted, length - 2 * wanted, false);
            give_span(range, first + 2 * wanted, length - 2 * wanted);
        }
    }
    head->size = size;
    return true;
}

/* To a new span with as much room again, by moving pages. */
static heft_range_head_t *move_span(heft_range_t *range, heft_range_head_t *head, size_t size)
{
    size_t before = whole_pages(head->size + HEAD), after = whole_pages(size + HEAD);
    heft_range_head_t old = *head, *moved = alloc_span(range, size, size <= SIZE_MAX / 4 ? 2 * size : size);
    if (moved == NULL)
        return NULL;
    HEFT_ASSERT(after > before);
    int saved_errno = errno;
    bool is_moved = mremap(head, before, before, MREMAP_MAYMOVE | MREMAP_FIXED, moved) != MAP_FAILED;
    errno = saved_errno;
    if (!is_moved)
        memcpy(moved, head, old.size + HEAD);
    free_span(range, unit_of(range, head), before);
    moved->size = size;
    return moved;
}

/* ---- blocks -------------------------------------------------------------------------------------------------------
 */

void *heft_range_alloc(heft_range_t *range, size_t size, bool zeroed)
{
    if (range->base == NULL || size > range->reserved - HEAD)
        return NULL;
    bool is_small = size + HEAD <= SMALL_MAX;
    heft_range_head_t *head = is_small ? alloc_slot(range, size + HEAD) : alloc_span(range, size, size);
    if (head == NULL)
        return NULL;
    head->size = size;
    head->number = 0;
    if (zeroed && is_small) /* the pages of a span are new */
        memset(head + 1, 0, size);
    range->block_n++;
    return head + 1;
}

void heft_range_free(heft_range_t *range, void *block)
{
    heft_range_head_t *head = heft_range_head(block);
    HEFT_ASSERT(heft_range_has(range, block) && range->block_n > 0);
    range->block_n--;
    if (head->slot != 0)
        free_slot(range, head);
    else
        free_span(range, unit_of(range, head), whole_pages(head->size + HEAD));
}

void *heft_range_resize(heft_range_t *range, void *block, size_t size)
{
    heft_range_head_t *head = heft_range_head(block);
    if (size > range->reserved - HEAD)
        return NULL;
    bool stays_small = size + HEAD <= SMALL_MAX;
    if (head->slot != 0 && size + HEAD <= head->slot && (head->slot == 32 || size + HEAD > head->slot / 4)) {
        head->size = size;
        return block;
    }
    if (head->slot == 0 && !stays_small) {
        if (resize_span(range, head, size))
            return block;
        head = move_span(range, head, size);
        return head != NULL ? head + 1 : NULL;
    }
    void *moved = heft_range_alloc(range, size, false);
    if (moved == NULL)
        return NULL;
    heft_range_head(moved)->number = head->number;
    memcpy(moved, block, size < head->size ? size : head->size);
    heft_range_free(range, block);
    return moved;
}

bool heft_range_check(const heft_range_t *range)
{
    bool was_free = false;
    uint64_t blocks = 0, free_spans = 0, listed = 0;
    for (uint32_t at = 0; at < range->top;) {
        const heft_range_unit_t *first = &range->units[at], *last = first + first->length - 1;
        if (first->length == 0 || first->length > range->top - at || last->length != first->length ||
            last->is_free != first->is_free || (was_free && first->is_free))
            return false;
        if (!first->is_free) {
            const slab_t *slab = slab_at(range, at);
            const heft_range_head_t *head = (const heft_range_head_t *)(const void *)slab;
            /* a slab begins with its slot size, a block of its own with its size: above SMALL_MAX */
            bool is_slab = first->length == 1 && slab->slot <= SMALL_MAX && head->size >> 32 != 0;
            if (!is_slab && units_for(head->size) > first->length)
                return false;
            blocks += is_slab ? slab->used : 1;
        }
        free_spans += first->is_free;
        was_free = first->is_free;
        at += first->length;
    }
    for (uint32_t bin = 0; bin < HEFT_RANGE_BINS; bin++) {
        for (uint32_t at = range->bins[bin]; at != 0; at = range->units[at - 1].next) {
            if (!range->units[at - 1].is_free || bin_of(range->units[at - 1].length) != bin)
                return false;
            listed++;
        }
    }
    return !was_free && blocks == range->block_n && free_spans == listed;
}

bool heft_range_init(heft_range_t *range, size_t bytes)
{
    *range = (heft_range_t){0};
    size_t least = bytes / 64 > UNIT ? bytes / 64 : UNIT;
    void *base = MAP_FAILED;
    for (bytes &= ~(UNIT - 1); bytes >= least && base == MAP_FAILED; bytes /= 2)
        base = mmap(NULL, bytes & ~(UNIT - 1), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return false;
    range->reserved = (bytes * 2) & ~(UNIT - 1);
    range->unit_n = (uint32_t)(range->reserved / UNIT);
    if (!heft_region_init(&range->unit_region, range->unit_n * sizeof(heft_range_unit_t))) {
        munmap(base, range->reserved);
        *range = (heft_range_t){0};
        return false;
    }
    madvise(base, range->reserved, MADV_NOHUGEPAGE); /* a huge page would make a slab cost 2 MiB */
    range->base = base;
    range->units = (heft_range_unit_t *)(void *)range->unit_region.base;
    return true;
}

void heft_range_done(heft_range_t *range)
{
    HEFT_ASSERT(range->block_n == 0);
    if (range->base != NULL)
        munmap(range->base, range->reserved);
    heft_region_done(&range->unit_region);
    *range = (heft_range_t){0};
}
