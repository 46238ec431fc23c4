/* SPDX-License-Identifier: MIT */
/* A profile of pprof (profile.proto), in the dialect of Go's heap profiles; not compressed. */
#ifndef HEFT_EXPORT_PPROF_H
#define HEFT_EXPORT_PPROF_H

#include "export/out.h"
#include "ledger/view.h"

typedef struct {
    const heft_view_t *alloc;    /* alloc_objects, alloc_space */
    const heft_view_t *inuse;    /* inuse_objects, inuse_space; of the same recording.  NULL: no such types */
    heft_text_t default_type;    /* what a viewer shows first */
    heft_text_t executable;      /* the interpreter: the one mapping there is */
    const heft_text_t *comments; /* comment_n */
    size_t comment_n;
    uint64_t time_ns, duration_ns; /* Unix time of the state shown; length of the recording */
} heft_pprof_t;

/* Write the profile; the samples' values sum to the views' totals.  False: no memory. */
bool heft_pprof_write(const heft_pprof_t *profile, heft_out_t *out);

#endif
