/* SPDX-License-Identifier: MIT */
/* A hash map from 64-bit keys to 32-bit numbers: what readers number things with (distinct names, frames, stacks).
 * Entries are only added.  Open addressing, at most half full, 16 bytes a slot. */
#ifndef HEFT_BASE_MAP_H
#define HEFT_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"

typedef struct {
    uint64_t key;
    uint32_t value;
    uint32_t full; /* 1 = in use */
} heft_map_slot_t;

typedef struct {
    heft_map_slot_t *slots; /* owned; NULL before the first put */
    size_t mask;            /* number of slots - 1 */
    size_t used;
    heft_secret_t secret; /* of the hash; drawn with the first slots */
} heft_map_t;

/* An empty map; all zeroes is one as well. */
void heft_map_init(heft_map_t *map);
void heft_map_done(heft_map_t *map);

/* Where the value of `key` stands, made with value 0 if it is new (*is_new says so).  Borrowed until the next put.
 * NULL: no memory; the map is as it was. */
uint32_t *heft_map_put(heft_map_t *map, uint64_t key, bool *is_new);

/* The value of `key`, or `missing`. */
uint32_t heft_map_get(const heft_map_t *map, uint64_t key, uint32_t missing);

/* Two 32-bit numbers as a key. */
static inline uint64_t heft_map_pair(uint32_t high, uint32_t low)
{
    return (uint64_t)high << 32 | low;
}

#endif
