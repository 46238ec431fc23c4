/* SPDX-License-Identifier: MIT */
/* A file in memory, while it is written.  Sticky: after the first request that memory refuses, calls do nothing. */
#ifndef HEFT_EXPORT_OUT_H
#define HEFT_EXPORT_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ledger/reader.h"

typedef struct {
    char *ptr; /* owned */
    size_t n, room;
    bool failed; /* no memory; what there is is worthless */
} heft_out_t;

/* All zeroes is an empty one. */
void heft_out_done(heft_out_t *out);

void heft_out_bytes(heft_out_t *out, const void *bytes, size_t n);
void heft_out_string(heft_out_t *out, const char *text);
void heft_out_number(heft_out_t *out, uint64_t number); /* decimal */

/* What a name becomes.  Always well-formed UTF-8, whatever it holds: a lone surrogate (a byte of a file name that is no
 * text) is written out as \udcff, other damage as U+FFFD. */
typedef enum {
    HEFT_TEXT_PLAIN, /* as it is */
    HEFT_TEXT_JSON,  /* the inside of a JSON string */
    HEFT_TEXT_LABEL, /* without ';' and anything that may end a line: ':' and blanks in their place */
} heft_dialect_t;

void heft_out_text(heft_out_t *out, heft_text_t text, heft_dialect_t dialect);

static inline heft_text_t heft_text_of(const char *text)
{
    return (heft_text_t){text, __builtin_strlen(text)};
}

#endif
