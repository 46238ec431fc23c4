/* SPDX-License-Identifier: MIT */
/* Interned strings, see strings.h. */
#include "ledger/strings.h"

#include <string.h>

#include "base/compiler.h"

#define FIRST_SLOTS 1024u
#define SLOTS_MAX (1u << 20)

/* FNV-1a, 64 bits: short strings, rare calls (http://www.isthe.com/chongo/tech/comp/fnv/). */
static uint64_t hash_bytes(const char *data, size_t bytes)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ (uint8_t)data[i]) * 0x100000001B3u;
    return h ^ h >> 32;
}

static heft_str_t string_at(const heft_strings_t *strings, uint32_t offset)
{
    const char *p = heft_ledger_strings(strings->ledger) + offset;
    uint32_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    return (heft_str_t){p + sizeof bytes, bytes};
}

static void grow(heft_strings_t *strings)
{
    uint32_t slots = (strings->mask + 1) * 2;
    if (slots > SLOTS_MAX)
        return; /* half full, and put takes no more */
    memset(strings->slots, 0, (size_t)slots * sizeof *strings->slots);
    strings->mask = slots - 1;
    uint32_t end = strings->ledger->header->string_bytes;
    for (uint32_t offset = 4; offset < end;) {
        heft_str_t s = string_at(strings, offset);
        uint32_t i = (uint32_t)hash_bytes(s.data, s.bytes) & strings->mask;
        while (strings->slots[i] != 0)
            i = (i + 1) & strings->mask;
        strings->slots[i] = offset;
        offset += (uint32_t)(sizeof(uint32_t) + ((s.bytes + 3) & ~(size_t)3));
    }
}

static heft_str_t shorten(heft_str_t s)
{
    if (s.bytes > HEFT_STRING_MAX) {
        s.bytes = HEFT_STRING_MAX;
        while (s.bytes > 0 && ((uint8_t)s.data[s.bytes] & 0xC0) == 0x80)
            s.bytes--; /* not inside a character */
    }
    return s;
}

/* The slot that holds `s`, or the free one where it would stand. */
static uint32_t slot_of(const heft_strings_t *strings, heft_str_t s)
{
    uint32_t i = (uint32_t)hash_bytes(s.data, s.bytes) & strings->mask;
    for (; strings->slots[i] != 0; i = (i + 1) & strings->mask) {
        heft_str_t old = string_at(strings, strings->slots[i]);
        if (old.bytes == s.bytes && memcmp(old.data, s.data, s.bytes) == 0)
            break;
    }
    return i;
}

uint32_t heft_strings_find(const heft_strings_t *strings, heft_str_t s)
{
    return s.bytes == 0 ? 0 : strings->slots[slot_of(strings, shorten(s))];
}

uint32_t heft_strings_put(heft_strings_t *strings, heft_str_t s)
{
    heft_ledger_t *ledger = strings->ledger;
    if (s.bytes == 0)
        return 0;
    s = shorten(s);
    uint32_t i = slot_of(strings, s);
    if (strings->slots[i] != 0)
        return strings->slots[i];
    uint32_t offset = ledger->header->string_bytes;
    size_t end = offset + sizeof(uint32_t) + ((s.bytes + 3) & ~(size_t)3);
    if (strings->count >= SLOTS_MAX / 2 || end > HEFT_STRING_BYTES_MAX ||
        !heft_ledger_reach(ledger, HEFT_COLUMN_STRING, (uint32_t)(end - 1), 1))
        return 0;
    char *p = heft_ledger_strings(ledger) + offset;
    uint32_t bytes = (uint32_t)s.bytes;
    memcpy(p, &bytes, sizeof bytes);
    memcpy(p + sizeof bytes, s.data, s.bytes);
    __atomic_store_n(&ledger->header->string_bytes, (uint32_t)end, __ATOMIC_RELEASE);
    strings->slots[i] = offset;
    if (++strings->count * 2 > strings->mask)
        grow(strings);
    return offset;
}

bool heft_strings_init(heft_strings_t *strings, heft_ledger_t *ledger)
{
    HEFT_ASSERT(ledger->header->string_bytes == 4);
    *strings = (heft_strings_t){.ledger = ledger, .mask = FIRST_SLOTS - 1};
    if (!heft_region_init(&strings->region, SLOTS_MAX * sizeof(uint32_t)))
        return false;
    strings->slots = (uint32_t *)(void *)strings->region.base;
    return true;
}

void heft_strings_done(heft_strings_t *strings)
{
    heft_region_done(&strings->region);
    *strings = (heft_strings_t){0};
}
