/* SPDX-License-Identifier: MIT */
/* libFuzzer on the reader: any bytes are refused or become a recording of which every view can be made.
 *
 * Most mutations are followed by making the checksums right again, so that what lies behind them is reached.  The
 * seeds come from make_seeds.c. */
#include <stdlib.h>
#include <string.h>

#include "build_recording.h"
#include "ledger/view.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t max_bytes, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t bytes, size_t max_bytes);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void look_at_rows(const heft_view_t *view)
{
    for (heft_by_t by = HEFT_BY_LINE; by <= HEFT_BY_REGION; by++) {
        heft_rows_t rows;
        heft_amount_t sum = {0, 0};
        require(heft_view_rows(view, by, &rows));
        for (size_t i = 0; i < rows.row_n; i++) {
            heft_amount_add(&sum, rows.rows[i].self);
            require(rows.rows[i].self.bytes <= rows.rows[i].under.bytes || by == HEFT_BY_MODULE);
            for (uint32_t k = 0; k < rows.rows[i].import_n; k++)
                require(rows.imports[rows.rows[i].import_first + k] < view->stacks->name_n);
        }
        require(sum.bytes == view->total.bytes && sum.blocks == view->total.blocks);
        heft_rows_done(&rows);
    }
}

static void look_at_trees(const heft_view_t *view)
{
    for (int inverted = 0; inverted < 2; inverted++) {
        heft_branches_t tree;
        heft_amount_t sum = {0, 0};
        require(heft_view_tree(view, inverted != 0, &tree));
        for (size_t i = 0; i < tree.branch_n; i++)
            heft_amount_add(&sum, tree.branches[i].self);
        require(sum.bytes == view->total.bytes && sum.blocks == view->total.blocks);
        heft_branches_done(&tree);
    }
}

static void look_at_views(const heft_stacks_t *stacks)
{
    uint8_t *classes = calloc(stacks->file_n, 1), *pattern = calloc(stacks->file_n, 1);
    uint8_t *parts = calloc((size_t)stacks->part_n + 1, 1);
    require(classes != NULL && pattern != NULL && parts != NULL);
    for (uint32_t p = 0; p <= stacks->part_n; p++)
        parts[p] = p % 3 != 1;
    for (uint32_t f = 0; f < stacks->file_n; f++) {
        classes[f] = (uint8_t)((f + 3) % 4);
        pattern[f] = f % 3 != 1;
    }
    for (uint32_t i = 0; i < 8; i++) {
        heft_view_t view;
        heft_view_options_t options = {.moment = (heft_moment_t)(i % 4),
                                       .span = i % HEFT_TEMP_SPANS,
                                       .classes = classes,
                                       .own = i >= 4,
                                       .keep = i == 6 ? 5 : 15,
                                       .pattern = i == 5 ? pattern : NULL,
                                       .parts = i == 3 || i == 5 ? parts : NULL};
        require(heft_view_init(&view, stacks, &options));
        look_at_rows(&view);
        look_at_trees(&view);
        heft_view_done(&view);
    }
    free(classes);
    free(pattern);
    free(parts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    heft_reader_t reader;
    heft_stacks_t stacks;
    heft_err_t err = {0};
    heft_status_t status = heft_reader_open_bytes(&reader, data, bytes, &err);
    require(status == err.code && (status == HEFT_OK || err.text != NULL));
    if (status != HEFT_OK)
        return 0;
    require(heft_stacks_init(&stacks, &reader));
    look_at_views(&stacks);
    heft_stacks_done(&stacks);
    heft_reader_close(&reader);
    return 0;
}

/* Values that are likely to be somewhere near a limit. */
static uint64_t likely(unsigned *seed)
{
    static const uint64_t values[] = {0,  1,    2,    3,         4,          7,         8,
                                      64, 4096, 8192, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX};
    *seed = *seed * 1103515245 + 12345;
    return values[(*seed >> 16) % (sizeof values / sizeof *values)];
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t max_bytes, unsigned seed)
{
    size_t places = bytes / 4;
    if (seed % 4 == 0 && places > 0) { /* a whole field, in a page's first elements: most pages are mostly empty */
        size_t page = seed / 4 % (bytes / 4096 + 1) * 4096, at = page + (seed / 64 % 128) * 4;
        uint64_t value = likely(&seed);
        size_t size = seed & 1 << 20 ? 4 : 8;
        if (at + size <= bytes)
            memcpy(data + at, &value, size);
    } else {
        bytes = LLVMFuzzerMutate(data, bytes, max_bytes);
    }
    if (seed % 3 != 0)
        recording_repair(data, bytes);
    return bytes;
}
