/* SPDX-License-Identifier: MIT */
/* Collapsed stacks, the input of flamegraph.pl and its relatives: `root;...;leaf BYTES`, a line for each stack. */
#ifndef HEFT_EXPORT_COLLAPSED_H
#define HEFT_EXPORT_COLLAPSED_H

#include "export/out.h"
#include "ledger/view.h"

/* Write the bytes of a view; the lines' numbers sum to its total.  `files`: how each file is called, stacks->file_n of
 * them, or NULL: as recorded.  If several threads allocated, the root frame of a line is its thread.  False: no
 * memory. */
bool heft_collapsed_write(const heft_view_t *view, const heft_text_t *files, heft_out_t *out);

#endif
