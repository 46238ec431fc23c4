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
#define HOLE_UNITS 64u /* less is not worth closing: 4 MiB */
/* Closed spans at a time, each of which splits a mapping of the kernel's in three; and spans of which only the room is
 * closed, ever: what is opened behind one may have come to memory by itself (another anon_vma), and the kernel then
 * never joins it with what is before. */
#define HOLES_MAX 1024u
#define COPY_BYTES ((size_t)1 << 20)
#define DONTNEED_LOCKED 24 /* MADV_DONTNEED_LOCKED: newer than some C libraries */

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

/* ---- pages --------------------------------------------------------------------------------------------------------
 *
 * No address of the range is unmapped, not for a moment: the program's own mmap() in another thread might be put there,
 * and our next call would wipe it.  So pages are never moved (mremap) and never mapped over (MAP_FIXED), which also
 * lets neighbours be one mapping for the kernel: a process may have 65,530. */

static bool open_units(const heft_range_t *range, uint32_t first, uint32_t end)
{
    int saved_errno = errno;
    bool ok = mprotect(address_of(range, first), (end - first) * UNIT, PROT_READ | PROT_WRITE) == 0;
    errno = saved_errno;
    return ok;
}

/* May fail: closed units are those that have to be opened before they are used. */
static void close_units(const heft_range_t *range, uint32_t first, uint32_t end)
{
    int saved_errno = errno;
    (void)mprotect(address_of(range, first), (end - first) * UNIT, PROT_NONE);
    errno = saved_errno;
}

/* Give open pages back: they read as zeros. */
static void drop_pages(char *at, size_t bytes)
{
    int saved_errno = errno;
    if (madvise(at, bytes, MADV_DONTNEED) != 0 && madvise(at, bytes, DONTNEED_LOCKED) != 0)
        memset(at, 0, bytes); /* locked in memory (mlockall) by a kernel before 5.18: they stay */
    errno = saved_errno;
}

static bool is_zero(const char *page)
{
    return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

/* To pages that are zero.  Never needs more memory than before, as when the kernel moves them: what was never written
 * is not written now, and what has been copied is given back at once. */
static void copy_pages(char *to, char *from, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        size_t begin = at, end = bytes - at < COPY_BYTES ? bytes : at + COPY_BYTES;
        for (; at < end; at += PAGE) {
            if (!is_zero(from + at))
                memcpy(to + at, from + at, PAGE);
        }
        drop_pages(from + begin, end - begin);
    }
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

/* Of a span in use: its first `open` units may be touched. */
static void set_open(heft_range_t *range, uint32_t first, uint32_t open)
{
    heft_range_unit_t *unit = &range->units[first];
    range->hole_n -= unit->is_closed;
    unit->open = open;
    unit->is_closed = open < unit->length;
    range->hole_n += unit->is_closed;
}

static void put_in_bin(heft_range_t *range, uint32_t first, uint32_t length, bool is_closed)
{
    uint32_t *head = &range->bins[bin_of(length)];
    mark(range, first, length, true);
    range->units[first].is_closed = is_closed;
    range->hole_n += is_closed;
    range->units[first].next = *head;
    range->units[first].previous = 0;
    if (*head != 0)
        range->units[*head - 1].previous = first + 1;
    *head = first + 1;
}

/* Is it closed?  It is no hole of anybody's any more. */
static bool take_from_bin(heft_range_t *range, uint32_t first)
{
    heft_range_unit_t *unit = &range->units[first];
    bool is_closed = unit->is_closed;
    if (unit->previous != 0)
        range->units[unit->previous - 1].next = unit->next;
    else
        range->bins[bin_of(unit->length)] = unit->next;
    if (unit->next != 0)
        range->units[unit->next - 1].previous = unit->previous;
    range->hole_n -= is_closed;
    unit->is_closed = false;
    return is_closed;
}

/* The first free span of at least `length` units in the bins; UINT32_MAX: none. */
static uint32_t find_span(const heft_range_t *range, uint32_t length)
{
    for (uint32_t bin = bin_of(length); bin < HEFT_RANGE_BINS; bin++) {
        for (uint32_t at = range->bins[bin]; at != 0; at = range->units[at - 1].next) {
            if (range->units[at - 1].length >= length)
                return at - 1;
        }
    }
    return UINT32_MAX;
}

/* A span of `length` units, of which at least the first `wanted` are open, out of the bins or from above the top; its
 * first unit, or UINT32_MAX. */
static uint32_t take_span(heft_range_t *range, uint32_t length, uint32_t wanted)
{
    if (length - wanted < HOLE_UNITS || range->hole_n >= HOLES_MAX || range->rooms_closed >= HOLES_MAX)
        wanted = length;
    uint32_t first = find_span(range, length);
    if (first != UINT32_MAX) {
        bool is_closed = range->units[first].is_closed;
        if (is_closed && !open_units(range, first, first + wanted))
            return UINT32_MAX;
        uint32_t found = range->units[first].length;
        take_from_bin(range, first);
        if (found > length)
            put_in_bin(range, first + length, found - length, is_closed);
        if (!is_closed)
            wanted = length;
    } else {
        first = range->top;
        if (length > range->unit_n - first ||
            (first + wanted > range->open_top && !open_units(range, first, first + wanted)))
            return UINT32_MAX;
        range->top += length;
        if (range->open_top < range->top)
            range->open_top = range->top;
    }
    mark(range, first, length, false);
    set_open(range, first, wanted);
    range->rooms_closed += wanted < length;
    return first;
}

/* Back into the bins, joined with its free neighbours; what ends at the top lowers it.  Its pages are gone already. */
static void give_span(heft_range_t *range, uint32_t first, uint32_t length, bool is_closed)
{
    if (first + length < range->top && range->units[first + length].is_free) {
        uint32_t after = range->units[first + length].length;
        is_closed |= take_from_bin(range, first + length);
        length += after;
    }
    if (first > 0 && range->units[first - 1].is_free) {
        uint32_t before = range->units[first - 1].length;
        first -= before;
        is_closed |= take_from_bin(range, first);
        length += before;
    }
    if (first + length == range->top) {
        range->top = first;
        if (is_closed || range->open_top - first >= HOLE_UNITS) {
            close_units(range, first, range->open_top);
            range->open_top = first;
        }
        return;
    }
    is_closed |= length >= HOLE_UNITS && range->hole_n < HOLES_MAX;
    if (is_closed)
        close_units(range, first, first + length);
    put_in_bin(range, first, length, is_closed);
}

/* The same of a span in use. */
static void free_span(heft_range_t *range, uint32_t first)
{
    const heft_range_unit_t *unit = &range->units[first];
    uint32_t length = unit->length, open = unit->open;
    drop_pages(address_of(range, first), open * UNIT);
    set_open(range, first, length);
    give_span(range, first, length, open < length);
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
        uint32_t unit = take_span(range, 1, 1);
        if (unit == UINT32_MAX)
            return NULL;
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
        free_span(range, unit);
    }
}

/* ---- large blocks
 * --------------------------------------------------------------------------------------------------*/

static uint32_t units_for(size_t size)
{
    return (uint32_t)((size + HEAD + UNIT - 1) / UNIT);
}

/* A span with room for `room` bytes, for a block of `size`. */
static heft_range_head_t *alloc_span(heft_range_t *range, size_t size, size_t room)
{
    uint32_t wanted = units_for(size), first = take_span(range, units_for(room), wanted);
    if (first == UINT32_MAX && units_for(room) > wanted)
        first = take_span(range, wanted, wanted);
    if (first == UINT32_MAX)
        return NULL;
    heft_range_head_t *head = (heft_range_head_t *)(void *)address_of(range, first);
    head->slot = 0;
    return head;
}

/* Add units to a span of `length` until it has `wanted`: from the free span behind it, or from above the top. */
static bool extend_span(heft_range_t *range, uint32_t first, uint32_t length, uint32_t wanted)
{
    uint32_t next = first + length, more = wanted - length;
    bool at_top = next == range->top;
    if (at_top ? more > range->unit_n - next : !range->units[next].is_free || range->units[next].length < more)
        return false;
    if (!open_units(range, first + range->units[first].open, first + wanted))
        return false;
    if (at_top) {
        range->top += more;
        if (range->open_top < range->top)
            range->open_top = range->top;
    } else {
        uint32_t found = range->units[next].length;
        bool is_closed = take_from_bin(range, next);
        if (found > more)
            put_in_bin(range, next + more, found - more, is_closed);
    }
    mark(range, first, wanted, false);
    set_open(range, first, wanted);
    return true;
}

/* Grow or shrink where it stands. */
static bool resize_span(heft_range_t *range, heft_range_head_t *head, size_t size)
{
    uint32_t first = unit_of(range, head), length = range->units[first].length, wanted = units_for(size);
    uint32_t open = range->units[first].open;
    size_t before = whole_pages(head->size + HEAD), after = whole_pages(size + HEAD);
    if (wanted > length) {
        if (!extend_span(range, first, length, wanted))
            return false;
    } else if (wanted > open) {
        if (!open_units(range, first + open, first + wanted))
            return false;
        set_open(range, first, wanted);
    } else if (after < before) {
        drop_pages((char *)head + after, before - after);
        if (wanted <= length / 4) { /* half of the rest is kept to grow into */
            uint32_t kept = 2 * wanted;
            mark(range, first, kept, false);
            set_open(range, first, open < kept ? open : kept);
            mark(range, first + kept, length - kept, false);
            give_span(range, first + kept, length - kept, open < length);
        }
    }
    head->size = size;
    return true;
}

/* To a new span with as much room again. */
static heft_range_head_t *move_span(heft_range_t *range, heft_range_head_t *head, size_t size)
{
    heft_range_head_t *moved = alloc_span(range, size, size <= SIZE_MAX / 4 ? 2 * size : size);
    if (moved == NULL)
        return NULL;
    copy_pages((char *)moved, (char *)head, whole_pages(head->size + HEAD));
    free_span(range, unit_of(range, head));
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
        free_span(range, unit_of(range, head));
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
    uint64_t blocks = 0, free_spans = 0, listed = 0, holes = 0;
    for (uint32_t at = 0; at < range->top;) {
        const heft_range_unit_t *first = &range->units[at], *last = first + first->length - 1;
        if (first->length == 0 || first->length > range->top - at || last->length != first->length ||
            last->is_free != first->is_free || (was_free && first->is_free))
            return false;
        if (!first->is_free && (first->open > first->length || first->is_closed != (first->open < first->length)))
            return false;
        holes += first->is_closed;
        if (!first->is_free) {
            const slab_t *slab = slab_at(range, at);
            const heft_range_head_t *head = (const heft_range_head_t *)(const void *)slab;
            /* a slab begins with its slot size, a block of its own with its size: above SMALL_MAX */
            bool is_slab = first->length == 1 && slab->slot <= SMALL_MAX && head->size >> 32 != 0;
            if (!is_slab && units_for(head->size) > first->open)
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
    return !was_free && blocks == range->block_n && free_spans == listed && holes == range->hole_n &&
           range->top <= range->open_top && range->open_top <= range->unit_n;
}

/* An empty range at closed addresses. */
static bool set_up(heft_range_t *range, char *base, size_t bytes)
{
    *range = (heft_range_t){.base = base, .reserved = bytes, .unit_n = (uint32_t)(bytes / UNIT)};
    if (!heft_region_init(&range->unit_region, range->unit_n * sizeof(heft_range_unit_t))) {
        *range = (heft_range_t){0};
        return false;
    }
    range->units = (heft_range_unit_t *)(void *)range->unit_region.base;
    return true;
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
    bytes = (bytes * 2) & ~(UNIT - 1);
    madvise(base, bytes, MADV_NOHUGEPAGE); /* a huge page would make a slab cost 2 MiB */
    if (!set_up(range, base, bytes)) {
        munmap(base, bytes);
        return false;
    }
    return true;
}

bool heft_range_rest(heft_range_t *range)
{
    heft_range_t old = *range;
    char *base = address_of(&old, old.top);
    size_t bytes = old.reserved - old.top * UNIT;
    /* who was inside may just have opened and written pages there */
    if (bytes == 0 || mprotect(base, bytes, PROT_NONE) != 0 || madvise(base, bytes, MADV_DONTNEED) != 0)
        return false;
    heft_range_t rest;
    if (!set_up(&rest, base, bytes))
        return false;
    heft_region_done(&old.unit_region);
    *range = rest;
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
