/* SPDX-License-Identifier: MIT */
/* Distinct texts, see texts.h.
 *
 *     bytes   <module> (app.py:9)Reader.read (read.py:5)...       ends   19 42 ...
 *
 * A text is written where it would stand, then looked up by its hash: the next hash is tried when another text has this
 * one, so that equal numbers mean equal texts whatever the hash does. */
#include "export/texts.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

static bool reserve(heft_texts_t *texts)
{
    if (texts->n < texts->room)
        return true;
    uint32_t room = texts->room == 0 ? 64 : texts->room * 2;
    size_t *ends = room < UINT32_MAX / 2 ? realloc(texts->ends, room * sizeof *ends) : NULL;
    if (ends == NULL)
        return false;
    texts->ends = ends;
    texts->room = room;
    return true;
}

heft_text_t heft_texts_get(const heft_texts_t *texts, uint32_t number)
{
    size_t off = number == 0 ? 0 : texts->ends[number - 1];
    size_t n = texts->ends[number] - off;
    return (heft_text_t){n == 0 ? "" : texts->bytes.ptr + off, n};
}

uint32_t heft_texts_end(heft_texts_t *texts, size_t off)
{
    size_t n = texts->bytes.n - off;
    const char *text = n == 0 ? "" : texts->bytes.ptr + off;
    uint64_t h = heft_hash_bytes(heft_hash_secret(), text, n);
    texts->bytes.failed |= !reserve(texts);
    while (!texts->bytes.failed) {
        bool is_new;
        uint32_t *number = heft_map_put(&texts->number_of_hash, h++, &is_new);
        if (number == NULL) {
            texts->bytes.failed = true;
        } else if (is_new) {
            texts->ends[texts->n] = texts->bytes.n;
            return *number = texts->n++;
        } else {
            heft_text_t known = heft_texts_get(texts, *number);
            if (known.len == n && memcmp(known.ptr, text, n) == 0) {
                texts->bytes.n = off;
                return *number;
            }
        }
    }
    return 0;
}

void heft_texts_done(heft_texts_t *texts)
{
    heft_out_done(&texts->bytes);
    heft_map_done(&texts->number_of_hash);
    free(texts->ends);
    *texts = (heft_texts_t){0};
}
