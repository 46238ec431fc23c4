/* SPDX-License-Identifier: MIT */
/* The map of map.h:  slots[hash & mask], then the following ones until the key or a free slot is met.
 *
 * Half of the slots are free at least, so a probe ends after 1.5 slots on average, whatever keys a file has: the hash
 * depends on the process' secret. */
#include "base/map.h"

#include <stdlib.h>

#include "base/compiler.h"

#define FIRST_SLOTS 64u

_Static_assert((FIRST_SLOTS & (FIRST_SLOTS - 1)) == 0, "the mask needs a power of two");
_Static_assert(sizeof(heft_map_slot_t) == 16, "four slots in a cache line");

/* The slot that holds `key`, or the free one where it belongs. */
static inline heft_map_slot_t *probe(const heft_map_t *map, uint64_t key)
{
    HEFT_DCHECK(map->used <= map->mask / 2 + 1);
    for (size_t i = (size_t)heft_hash_word(map->secret, key);; i++) {
        heft_map_slot_t *slot = &map->slots[i & map->mask];
        if (!slot->full || slot->key == key)
            return slot;
    }
}

static HEFT_NOINLINE bool grow(heft_map_t *map)
{
    size_t n = map->slots == NULL ? FIRST_SLOTS : (map->mask + 1) * 2;
    heft_map_t bigger = {
        .slots = calloc(n, sizeof *bigger.slots), .mask = n - 1, .used = map->used, .secret = heft_hash_secret()};
    if (bigger.slots == NULL)
        return false;
    if (map->slots != NULL) {
        for (size_t i = 0; i <= map->mask; i++) {
            if (map->slots[i].full)
                *probe(&bigger, map->slots[i].key) = map->slots[i];
        }
    }
    free(map->slots);
    *map = bigger;
    return true;
}

uint32_t *heft_map_put(heft_map_t *map, uint64_t key, bool *is_new)
{
    if ((map->slots == NULL || map->used > map->mask / 2) && !grow(map))
        return NULL;
    heft_map_slot_t *slot = probe(map, key);
    *is_new = !slot->full;
    if (*is_new) {
        *slot = (heft_map_slot_t){.key = key, .full = 1};
        map->used++;
    }
    HEFT_DCHECK(slot->key == key && map->used <= map->mask);
    return &slot->value;
}

uint32_t heft_map_get(const heft_map_t *map, uint64_t key, uint32_t missing)
{
    if (map->slots == NULL)
        return missing;
    const heft_map_slot_t *slot = probe(map, key);
    return slot->full ? slot->value : missing;
}

void heft_map_init(heft_map_t *map)
{
    *map = (heft_map_t){0};
}

void heft_map_done(heft_map_t *map)
{
    free(map->slots);
    *map = (heft_map_t){0};
}
