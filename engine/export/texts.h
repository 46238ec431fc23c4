/* SPDX-License-Identifier: MIT */
/* Distinct texts, numbered from 0 in the order in which they were first met. */
#ifndef HEFT_EXPORT_TEXTS_H
#define HEFT_EXPORT_TEXTS_H

#include "base/map.h"
#include "export/out.h"

/* All zeroes is an empty one.  Sticky: after memory ran out (bytes.failed) all numbers are 0. */
typedef struct {
    heft_out_t bytes; /* of all texts, one behind the other */
    size_t *ends;     /* by number: where in `bytes` it ends */
    uint32_t n, room;
    heft_map_t number_of_hash;
} heft_texts_t;

void heft_texts_done(heft_texts_t *texts);

/* The number of what was written to `bytes` since it ended at `off`; that is taken away again if it is known. */
uint32_t heft_texts_end(heft_texts_t *texts, size_t off);

/* A text by number; borrowed until the next one is written. */
heft_text_t heft_texts_get(const heft_texts_t *texts, uint32_t number);

#endif
