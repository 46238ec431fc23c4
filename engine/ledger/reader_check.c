/* SPDX-License-Identifier: MIT */
/* The second half of opening a recording: every element of every column, then the sums and the peak.
 *
 * After it, the code that groups and draws may index without asking: parents are smaller than children, what a node
 * refers to exists, strings lie inside their column, no sum overflows.  Two passes at most, 10 ns a node. */
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "ledger/reader.h"
#include "ledger/sampling.h"

#define ROOT 1u

#define OFF(kind, type, i, field) heft__reader_off(file, kind, (uint64_t)(i) * sizeof(type) + offsetof(type, field))

static inline bool is_alias(const heft_reader_t *r, uint32_t n)
{
    return r->details[n].kind == HEFT_NODE_ALIAS;
}

/* A counter of blocks counts parts of blocks in a sampled recording. */
static heft_amount_t amount_of(const heft_reader_t *r, uint64_t bytes, uint64_t blocks)
{
    heft_amount_t amount = {.bytes = bytes, .blocks = blocks};
    if (r->header.interval_bytes != 0) {
        amount.blocks = blocks / HEFT_BLOCK_PARTS + (blocks % HEFT_BLOCK_PARTS >= HEFT_BLOCK_PARTS / 2);
        heft_sampling_variance(bytes, blocks, r->header.interval_bytes, &amount.bytes_variance,
                               &amount.blocks_variance);
    }
    return amount;
}

/* Each block is counted under the smallest span that holds it: the first one in the detail, the others in a record.
 * Record 0 belongs to the root. */
static heft_amount_t sum_spans(const heft_reader_t *r, uint32_t n, uint32_t span)
{
    const heft_detail_t *detail = &r->details[n];
    uint64_t bytes = detail->temporary_bytes, blocks = detail->temporary_blocks;
    for (uint32_t i = 0; i < span && (detail->temp != 0 || n == ROOT); i++) {
        bytes += r->temps[detail->temp].bytes[i];
        blocks += r->temps[detail->temp].blocks[i];
    }
    return amount_of(r, bytes, blocks);
}

heft_amount_t heft_reader_amount(const heft_reader_t *r, uint32_t n, heft_moment_t moment, uint32_t span)
{
    HEFT_DCHECK(n > 0 && n < r->header.node_n && span < HEFT_TEMP_SPANS);
    const heft_node_t *node = &r->nodes[n];
    const heft_detail_t *detail = &r->details[n];
    if (detail->kind == HEFT_NODE_ALIAS)
        return (heft_amount_t){0};
    switch (moment) {
    case HEFT_MOMENT_TOTAL: return amount_of(r, (uint64_t)node->allocated_bytes, (uint64_t)node->allocated_blocks);
    case HEFT_MOMENT_TEMPORARY: return sum_spans(r, n, span);
    case HEFT_MOMENT_PEAK:
        if (!r->peak_is_now && node->epoch == r->header.epoch) /* changed since: what it was then */
            return amount_of(r, detail->peak_bytes, detail->peak_blocks);
        break;
    case HEFT_MOMENT_LIVE: break;
    }
    return amount_of(r, (uint64_t)(node->allocated_bytes - node->freed_bytes),
                     (uint64_t)(node->allocated_blocks - node->freed_blocks));
}

heft_text_t heft_reader_string(const heft_reader_t *r, uint32_t ref)
{
    uint32_t len;
    if (ref == 0)
        return (heft_text_t){"", 0};
    HEFT_DCHECK(ref % 4 == 0 && ref + sizeof len <= r->header.string_bytes);
    memcpy(&len, r->strings + ref, sizeof len);
    return (heft_text_t){r->strings + ref + sizeof len, len};
}

static bool is_string(const heft_reader_t *r, uint32_t ref)
{
    uint32_t len, end = r->header.string_bytes;
    if (ref == 0)
        return true;
    if (ref % 4 != 0 || ref >= end || end - ref < sizeof len)
        return false;
    memcpy(&len, r->strings + ref, sizeof len);
    return len <= end - ref - sizeof len;
}

static heft_status_t check_codes(const heft_reader_t *r, const heft_reader_file_t *file, heft_err_t *err)
{
    for (uint32_t i = 1; i < r->header.code_n; i++) {
        const heft_code_t *code = &r->codes[i];
        if (!is_string(r, code->file) || !is_string(r, code->name) || !is_string(r, code->module))
            return heft_err_set(err, HEFT_ERR_CORRUPT, "a code object's name is not a string",
                                OFF(HEFT_COLUMN_CODE, heft_code_t, i, file));
    }
    return HEFT_OK;
}

static heft_status_t check_threads(const heft_reader_t *r, const heft_reader_file_t *file, heft_err_t *err)
{
    for (uint32_t i = 0; i < r->header.thread_n; i++) {
        if (!is_string(r, r->threads[i].name))
            return heft_err_set(err, HEFT_ERR_CORRUPT, "a thread's name is not a string",
                                OFF(HEFT_COLUMN_THREAD, heft_thread_t, i, name));
        if (r->is_final && r->threads[i].node > r->header.node_n) /* equal: as with temporaries */
            return heft_err_set(err, HEFT_ERR_CORRUPT, "a thread's node does not exist",
                                OFF(HEFT_COLUMN_THREAD, heft_thread_t, i, node));
    }
    return HEFT_OK;
}

/* The target of an alias stands in `epoch`; it is an ancestor as the writer makes them, but only what readers rely on
 * is asked for. */
static bool is_alias_sound(const heft_reader_t *r, uint32_t n)
{
    uint64_t target = r->nodes[n].epoch;
    return target > 0 && target < r->header.node_n && !is_alias(r, (uint32_t)target);
}

/* Stacks begin at threads and at regions. */
static bool is_base(const heft_reader_t *r, uint32_t n)
{
    return r->details[n].kind == HEFT_NODE_THREAD || r->details[n].kind == HEFT_NODE_REGION;
}

static heft_status_t check_what(const heft_reader_t *r, uint32_t n, const heft_reader_file_t *file, heft_err_t *err)
{
    const heft_detail_t *detail = &r->details[n];
    bool is_sound = true;
    switch (detail->kind) {
    case HEFT_NODE_ROOT: is_sound = n == ROOT; break;
    case HEFT_NODE_THREAD: is_sound = r->nodes[n].parent == ROOT && detail->what < r->header.thread_n; break;
    case HEFT_NODE_FRAME: is_sound = detail->what > 0 && detail->what < r->header.code_n; break;
    case HEFT_NODE_IMPORT: is_sound = is_string(r, detail->what); break;
    case HEFT_NODE_ALIAS: is_sound = is_alias_sound(r, n); break;
    case HEFT_NODE_REGION: is_sound = is_base(r, r->nodes[n].parent) && is_string(r, detail->what); break;
    default:
        return heft_err_set(err, HEFT_ERR_CORRUPT, "a node is of no known kind",
                            OFF(HEFT_COLUMN_DETAIL, heft_detail_t, n, kind));
    }
    if (!is_sound)
        return heft_err_set(err, HEFT_ERR_CORRUPT, "a node refers to something that does not exist",
                            OFF(HEFT_COLUMN_DETAIL, heft_detail_t, n, what));
    return HEFT_OK;
}

static heft_status_t check_tree(const heft_reader_t *r, const heft_reader_file_t *file, heft_err_t *err)
{
    uint32_t region_n = 0;
    for (uint32_t n = 1; n < r->header.node_n; n++) {
        const heft_node_t *node = &r->nodes[n];
        const heft_detail_t *detail = &r->details[n];
        bool has_parent = node->parent > 0 && node->parent < n && !is_alias(r, node->parent);
        if (n == ROOT ? node->parent != 0 || detail->kind != HEFT_NODE_ROOT : !has_parent)
            return heft_err_set(err, HEFT_ERR_CORRUPT, "a node's parent is not an earlier node",
                                OFF(HEFT_COLUMN_NODE, heft_node_t, n, parent));
        if ((node->allocated_blocks == HEFT_NODE_ALIAS_MARK) != is_alias(r, n) && (r->is_final || is_alias(r, n)))
            return heft_err_set(err, HEFT_ERR_CORRUPT, "an alias is not marked as one",
                                OFF(HEFT_COLUMN_NODE, heft_node_t, n, allocated_blocks));
        if (detail->temp > r->header.temp_n) /* equal: the process ended before it could count the record */
            return heft_err_set(err, HEFT_ERR_CORRUPT, "a node's temporaries do not exist",
                                OFF(HEFT_COLUMN_DETAIL, heft_detail_t, n, temp));
        region_n += detail->kind == HEFT_NODE_REGION;
        if (region_n > HEFT_REGIONS_MAX) /* what is made of each may name all around it */
            return heft_err_set(err, HEFT_ERR_CORRUPT, "there are more regions than a recording can have",
                                OFF(HEFT_COLUMN_DETAIL, heft_detail_t, n, kind));
        heft_status_t status = check_what(r, n, file, err);
        if (status != HEFT_OK)
            return status;
    }
    return HEFT_OK;
}

/* ---- counters ----------------------------------------------------------------------------------------------- */

/* allocated >= freed >= 0, and a peak that is a number.  False where that had to be made so. */
static bool settle(int64_t *allocated, int64_t *freed, uint64_t *peak)
{
    int64_t was_allocated = *allocated, was_freed = *freed;
    uint64_t was_peak = *peak;
    *allocated = *allocated < 0 ? 0 : *allocated;
    *freed = *freed < 0 ? 0 : *freed > *allocated ? *allocated : *freed;
    *peak = *peak > INT64_MAX ? 0 : *peak;
    return *allocated == was_allocated && *freed == was_freed && *peak == was_peak;
}

static bool add(uint64_t *sum, uint64_t value)
{
    return !__builtin_add_overflow(*sum, value, sum) && *sum <= INT64_MAX;
}

static bool add_amount(heft_amount_t *sum, heft_amount_t value)
{
    sum->bytes_variance += value.bytes_variance;
    sum->blocks_variance += value.blocks_variance;
    return add(&sum->bytes, value.bytes) && add(&sum->blocks, value.blocks);
}

static heft_status_t settle_counters(heft_reader_t *r, const heft_reader_file_t *file, heft_err_t *err)
{
    r->header.epoch = 0;
    for (uint32_t n = 1; n < r->header.node_n; n++) {
        heft_node_t *node = &r->nodes[n];
        heft_detail_t *detail = &r->details[n];
        if (detail->temp >= r->header.temp_n)
            detail->temp = 0;
        if (is_alias(r, n))
            continue;
        bool is_sound = settle(&node->allocated_bytes, &node->freed_bytes, &detail->peak_bytes);
        is_sound &= settle(&node->allocated_blocks, &node->freed_blocks, &detail->peak_blocks);
        if (!is_sound && r->is_final)
            return heft_err_set(err, HEFT_ERR_CORRUPT, "a node freed more than it allocated",
                                OFF(HEFT_COLUMN_NODE, heft_node_t, n, allocated_bytes));
        r->header.epoch = node->epoch > r->header.epoch ? node->epoch : r->header.epoch;
        r->recursive_n += (detail->flags & HEFT_DETAIL_RECURSIVE) != 0;
    }
    return HEFT_OK;
}

/* Add all temporaries of a node, number by number: sum_spans must not wrap either. */
static bool add_spans(const heft_reader_t *r, uint32_t n, heft_amount_t *sum)
{
    const heft_temp_t *temp = &r->temps[r->details[n].temp];
    bool fits = add(&sum->bytes, r->details[n].temporary_bytes) && add(&sum->blocks, r->details[n].temporary_blocks);
    for (uint32_t i = 0; i + 1 < HEFT_TEMP_SPANS && (r->details[n].temp != 0 || n == ROOT); i++)
        fits &= add(&sum->bytes, temp->bytes[i]) && add(&sum->blocks, temp->blocks[i]);
    return fits;
}

/* Two candidates for the peak: the sum kept by the epoch, and the present one. */
static heft_status_t sum_up(heft_reader_t *r, heft_err_t *err)
{
    bool fits = true;
    heft_amount_t widest = {0};
    r->peak_is_now = false;
    for (uint32_t n = 1; n < r->header.node_n; n++) {
        fits &= add_amount(&r->peak, heft_reader_amount(r, n, HEFT_MOMENT_PEAK, 0));
        fits &= add_amount(&r->live, heft_reader_amount(r, n, HEFT_MOMENT_LIVE, 0));
        fits &= add_amount(&r->total, heft_reader_amount(r, n, HEFT_MOMENT_TOTAL, 0));
        fits &= add_amount(&r->temporary, heft_reader_amount(r, n, HEFT_MOMENT_TEMPORARY, 0));
        fits &= is_alias(r, n) || add_spans(r, n, &widest);
        if (!fits)
            return heft_err_set(err, HEFT_ERR_CORRUPT, "the counters add up to an impossible sum", HEFT_ERR_NO_OFF);
    }
    if (r->live.bytes > r->peak.bytes) {
        r->peak_is_now = true;
        r->peak = r->live;
        r->header.peak_at_ns = r->header.now_ns;
    }
    return HEFT_OK;
}

heft_status_t heft__reader_check(heft_reader_t *r, const heft_reader_file_t *file, heft_err_t *err)
{
    /* record 0 is read for the root even when the column has nothing */
    if (r->temps == NULL && (r->temps = calloc(1, sizeof *r->temps)) == NULL)
        return heft_err_set(err, HEFT_ERR_NOMEM, "not enough memory to read the recording", HEFT_ERR_NO_OFF);
    heft_status_t status = check_codes(r, file, err);
    if (status == HEFT_OK)
        status = check_threads(r, file, err);
    if (status == HEFT_OK)
        status = check_tree(r, file, err);
    if (status == HEFT_OK)
        status = settle_counters(r, file, err);
    if (status == HEFT_OK)
        status = sum_up(r, err);
    HEFT_ASSERT(status != HEFT_OK || (r->live.bytes <= r->total.bytes && r->live.bytes <= r->peak.bytes));
    return status;
}
