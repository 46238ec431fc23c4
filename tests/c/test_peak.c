/* SPDX-License-Identifier: MIT */
/* What a recording says of the peak, of live, total and temporary blocks, against a replay of the log of all events.
 *
 * The writer keeps no log: it saves a node's value before the first change after a maximum (tree.h).  The oracle here
 * keeps everything, looks for the maximum among all prefixes, and counts once more up to there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "build_recording.h"
#include "writer.h"

#define NODES 24u
#define THREADS 3u
#define EVENTS 400u

typedef enum {
    ALLOC,  /* block asked for */
    FREE,   /* given back */
    RETAKE, /* taken out for a realloc: as a free, but no temporary */
    UNFREE, /* that realloc has failed */
} kind_t;

typedef struct {
    kind_t kind;
    uint32_t block;
    uint32_t thread;
    uint64_t now_ns;
} event_t;

typedef struct {
    uint32_t node; /* index into nodes */
    uint64_t bytes;
    uint32_t thread, request; /* the how manieth of its thread */
    bool is_live, is_out;
} block_t;

typedef struct {
    writer_t w;
    uint64_t random, size_max;
    uint32_t nodes[NODES];
    uint32_t requests[THREADS];
    block_t blocks[EVENTS];
    uint32_t block_n;
    event_t log[EVENTS];
    uint32_t log_n;
} trace_t;

typedef struct {
    heft_amount_t live[NODES], total[NODES], temporary[NODES][HEFT_TEMP_SPANS];
    uint64_t last_ns[NODES];
    uint64_t bytes;
} sums_t;

/* ---- the oracle ---------------------------------------------------------------------------------------------- */

static void add(heft_amount_t *sum, uint64_t bytes)
{
    sum->bytes += bytes;
    sum->blocks++;
}

/* Everything up to event number `end`, from the beginning. */
static void replay(const trace_t *t, uint32_t end, sums_t *sums)
{
    uint32_t requests[THREADS] = {0};
    memset(sums, 0, sizeof *sums);
    for (uint32_t e = 0; e < end; e++) {
        const event_t *event = &t->log[e];
        const block_t *block = &t->blocks[event->block];
        heft_amount_t *live = &sums->live[block->node];
        if (event->kind == ALLOC) {
            requests[event->thread]++;
            add(&sums->total[block->node], block->bytes);
            sums->last_ns[block->node] = event->now_ns;
        }
        if (event->kind == ALLOC || event->kind == UNFREE) {
            add(live, block->bytes);
            sums->bytes += block->bytes;
        } else {
            live->bytes -= block->bytes;
            live->blocks--;
            sums->bytes -= block->bytes;
        }
        /* freed before its thread asked for another 1, 2, 4 blocks */
        for (uint32_t span = 0; event->kind == FREE && span < HEFT_TEMP_SPANS; span++) {
            uint32_t since = requests[event->thread] - block->request;
            if (event->thread == block->thread && since < 1u << span)
                add(&sums->temporary[block->node][span], block->bytes);
        }
    }
}

/* The peak is just before the first free after the first of all maxima. */
static uint32_t find_peak(const trace_t *t, uint64_t *at_ns, bool *is_now)
{
    uint64_t sum = 0, highest = 0;
    uint32_t end = 0;
    for (uint32_t e = 0; e < t->log_n; e++) {
        uint64_t bytes = t->blocks[t->log[e].block].bytes;
        sum = t->log[e].kind == ALLOC || t->log[e].kind == UNFREE ? sum + bytes : sum - bytes;
        if (sum > highest) {
            highest = sum;
            end = e + 1;
        }
    }
    *is_now = false;
    if (highest == 0)
        return 0;
    while (end < t->log_n && (t->log[end].kind == ALLOC || t->log[end].kind == UNFREE))
        end++;
    *is_now = end == t->log_n;
    *at_ns = *is_now ? t->w.tree.now_ns : t->log[end].now_ns;
    return end;
}

static void compare(const trace_t *t)
{
    static sums_t now, peak;
    heft_reader_t reader;
    heft_amount_t sum[HEFT_MOMENT_TEMPORARY + 1] = {{0, 0}};
    uint64_t at_ns = 0;
    bool is_now;
    replay(t, t->log_n, &now);
    replay(t, find_peak(t, &at_ns, &is_now), &peak);
    t->w.ledger.header->now_ns = t->w.tree.now_ns;
    read_back(&reader, t->w.path);
    for (uint32_t i = 0; i < NODES; i++) {
        const heft_amount_t expected[] = {peak.live[i], now.live[i], now.total[i], now.temporary[i][0]};
        for (uint32_t moment = HEFT_MOMENT_PEAK; moment <= HEFT_MOMENT_TEMPORARY; moment++) {
            heft_amount_t amount = heft_reader_amount(&reader, t->nodes[i], (heft_moment_t)moment, 0);
            assert_int_equal(amount.bytes, expected[moment].bytes);
            assert_int_equal(amount.blocks, expected[moment].blocks);
            sum[moment].bytes += amount.bytes;
            sum[moment].blocks += amount.blocks;
        }
        for (uint32_t span = 0; span < HEFT_TEMP_SPANS; span++) {
            heft_amount_t amount = heft_reader_amount(&reader, t->nodes[i], HEFT_MOMENT_TEMPORARY, span);
            assert_int_equal(amount.bytes, now.temporary[i][span].bytes);
            assert_int_equal(amount.blocks, now.temporary[i][span].blocks);
        }
        assert_int_equal(reader.nodes[t->nodes[i]].last_ns, now.last_ns[i]);
    }
    const heft_amount_t whole[] = {reader.peak, reader.live, reader.total, reader.temporary};
    for (uint32_t moment = HEFT_MOMENT_PEAK; moment <= HEFT_MOMENT_TEMPORARY; moment++) {
        assert_int_equal(whole[moment].bytes, sum[moment].bytes);
        assert_int_equal(whole[moment].blocks, sum[moment].blocks);
    }
    assert_int_equal(reader.peak.bytes, peak.bytes);
    assert_int_equal(reader.live.bytes, now.bytes);
    assert_int_equal(reader.live.bytes, t->w.tree.live_bytes);
    assert_int_equal(reader.header.peak_at_ns, at_ns);
    assert_int_equal(reader.peak_is_now, is_now);
    heft_reader_close(&reader);
}

/* ---- the writer ---------------------------------------------------------------------------------------------- */

static void record(trace_t *t, kind_t kind, uint32_t block, uint32_t thread)
{
    t->log[t->log_n++] = (event_t){kind, block, thread, t->w.tree.now_ns};
}

/* What hooks.c knows: how many requests of this thread lie between the block's and now, 0..3, or -1. */
static int requests_since(const trace_t *t, const block_t *block, uint32_t thread)
{
    uint32_t since = t->requests[thread] - block->request;
    return block->thread == thread && since < 4 ? (int)since : -1;
}

static void alloc(trace_t *t)
{
    uint32_t thread = random_below(&t->random, THREADS), n = t->block_n++;
    uint64_t bytes = random_below(&t->random, 8) == 0 ? 0 : random_below(&t->random, (uint32_t)t->size_max);
    t->blocks[n] = (block_t){random_below(&t->random, NODES), bytes, thread, ++t->requests[thread], true, false};
    heft_tree_count_alloc(&t->w.tree, t->nodes[t->blocks[n].node], bytes);
    record(t, ALLOC, n, thread);
}

static void give_back(trace_t *t, uint32_t n)
{
    block_t *block = &t->blocks[n];
    heft_tree_t *tree = &t->w.tree;
    uint32_t thread = random_below(&t->random, 4) ? block->thread : random_below(&t->random, THREADS);
    uint32_t node = t->nodes[block->node];
    int since = requests_since(t, block, thread);
    if (since >= 0) {
        if (since > 0 && tree->details[node].temp == 0)
            heft_tree_add_temp(tree, node);
        heft_tree_count_temp(tree, node, block->bytes, (unsigned)since);
    }
    heft_tree_count_free(tree, node, block->bytes);
    block->is_live = false;
    record(t, FREE, n, thread);
}

/* A realloc: taken out; then it fails, at once or after others have done something, or there is another block. */
static void take_out(trace_t *t, uint32_t n)
{
    heft_tree_count_free(&t->w.tree, t->nodes[t->blocks[n].node], t->blocks[n].bytes);
    t->blocks[n].is_live = false;
    t->blocks[n].is_out = true;
    record(t, RETAKE, n, 0);
}

static void put_back(trace_t *t, uint32_t n)
{
    heft_tree_uncount_free(&t->w.tree, t->nodes[t->blocks[n].node], t->blocks[n].bytes);
    t->blocks[n].is_live = true;
    t->blocks[n].is_out = false;
    record(t, UNFREE, n, 0);
}

static void step(trace_t *t, uint32_t growing)
{
    if (random_below(&t->random, 3) == 0) /* the clock is read now and then */
        t->w.tree.now_ns += random_below(&t->random, 1000);
    if (t->block_n == 0 || random_below(&t->random, 8) < growing) {
        alloc(t);
        return;
    }
    /* mostly young ones: that is where temporaries are */
    uint32_t range = random_below(&t->random, 2) || t->block_n < 6 ? t->block_n : 6;
    uint32_t n = t->block_n - 1 - random_below(&t->random, range);
    if (t->blocks[n].is_out)
        random_below(&t->random, 2) ? put_back(t, n) : alloc(t);
    else if (t->blocks[n].is_live)
        random_below(&t->random, 6) ? give_back(t, n) : take_out(t, n);
}

/* Nodes of every kind that can be charged: the root, threads, frames at several depths, an import. */
static void make_nodes(trace_t *t)
{
    heft_tree_t *tree = &t->w.tree;
    heft_code_info_t info = code_info(0x1000, 1, "f"), importer = code_info(0x2000, 2, "_find_and_load");
    uint32_t code = heft_tree_add_code(tree, &info), import_code = heft_tree_add_code(tree, &importer);
    t->nodes[0] = HEFT_TREE_ROOT;
    t->nodes[1] = t->w.thread;
    t->nodes[2] = heft_tree_thread(tree, 4712, 0);
    heft_frame_info_t frame = {.code = import_code, .machinery = true, .import_switch = true};
    t->nodes[3] = child(tree, t->w.thread, 0x2000, &frame, "module");
    for (uint32_t i = 4; i < NODES; i++)
        t->nodes[i] = plain_child(tree, t->nodes[1 + random_below(&t->random, i - 1)], code, 0x1000, 4 * i);
}

static void run(trace_t *t, uint64_t seed)
{
    *t = (trace_t){.random = seed};
    writer_init(&t->w);
    t->w.tree.now_ns = random_below(&t->random, 1000);
    make_nodes(t);
    t->size_max = (uint64_t)2 << random_below(&t->random, 14);
    uint32_t events = 1 + random_below(&t->random, EVENTS - 1), growing = 2 + random_below(&t->random, 4);
    while (t->log_n < events) {
        if (random_below(&t->random, 100) == 0)
            growing = 2 + random_below(&t->random, 4);
        step(t, growing);
        if (random_below(&t->random, 100) == 0) /* a reader looks in while it runs */
            compare(t);
    }
    assert_true(heft_tree_check(&t->w.tree));
    compare(t);
    heft_ledger_seal(&t->w.ledger);
    compare(t);
    writer_done(&t->w);
}

static void test_random_traces(void **state)
{
    (void)state;
    trace_t *t = malloc(sizeof *t);
    assert_non_null(t);
    uint64_t traces = is_exhaustive() ? 60000 : HAS_SLOW_CHECKS ? 800 : 3000;
    for (uint64_t seed = 1; seed <= traces; seed++)
        run(t, seed * 1000003);
    free(t);
}

/* Two maxima of the same height: the first one is the peak. */
static void test_the_first_of_equal_maxima(void **state)
{
    (void)state;
    writer_t w;
    heft_reader_t reader;
    writer_init(&w);
    heft_code_info_t info = code_info(0x1000, 1, "f");
    uint32_t code = heft_tree_add_code(&w.tree, &info);
    uint32_t a = plain_child(&w.tree, w.thread, code, 0x1000, 4), b = plain_child(&w.tree, w.thread, code, 0x1000, 8);
    heft_tree_count_alloc(&w.tree, a, 100);
    heft_tree_count_free(&w.tree, a, 100);
    heft_tree_count_alloc(&w.tree, b, 100);
    for (int i = 0; i < 2; i++) {
        read_back(&reader, w.path);
        assert_false(reader.peak_is_now);
        assert_int_equal(heft_reader_amount(&reader, a, HEFT_MOMENT_PEAK, 0).bytes, 100);
        assert_int_equal(heft_reader_amount(&reader, b, HEFT_MOMENT_PEAK, 0).bytes, 0);
        heft_reader_close(&reader);
        if (i == 0)
            heft_tree_count_free(&w.tree, b, 100);
    }
    heft_tree_count_alloc(&w.tree, b, 101); /* one byte more is another one */
    read_back(&reader, w.path);
    assert_true(reader.peak_is_now);
    assert_int_equal(heft_reader_amount(&reader, a, HEFT_MOMENT_PEAK, 0).bytes, 0);
    assert_int_equal(heft_reader_amount(&reader, b, HEFT_MOMENT_PEAK, 0).bytes, 101);
    heft_reader_close(&reader);
    writer_done(&w);
}

/* Sizes that no 32 bits hold. */
static void test_large_numbers(void **state)
{
    (void)state;
    writer_t w;
    heft_reader_t reader;
    writer_init(&w);
    size_t size = ((size_t)1 << 46) + 12345;
    for (int i = 0; i < 1000; i++)
        heft_tree_count_alloc(&w.tree, w.thread, size);
    for (int i = 0; i < 999; i++) {
        heft_tree_count_temp(&w.tree, w.thread, size, 0);
        heft_tree_count_free(&w.tree, w.thread, size);
    }
    read_back(&reader, w.path);
    assert_int_equal(reader.peak.bytes, 1000 * size);
    assert_int_equal(reader.live.bytes, size);
    assert_int_equal(reader.total.blocks, 1000);
    assert_int_equal(reader.temporary.bytes, 999 * size);
    heft_reader_close(&reader);
    writer_done(&w);
}

/* Nodes that find no record for their longer-lived temporaries are counted at the root's, whoever came first. */
static void test_temporaries_without_a_record(void **state)
{
    (void)state;
    for (int root_first = 0; root_first < 2; root_first++) {
        writer_t w;
        heft_reader_t reader;
        heft_amount_t sum[HEFT_TEMP_SPANS] = {{0, 0}};
        writer_init(&w);
        if (root_first)
            heft_tree_add_temp(&w.tree, HEFT_TREE_ROOT);
        heft_tree_count_temp(&w.tree, HEFT_TREE_ROOT, 1, 1);
        for (unsigned since = 0; since < 4; since++) /* the column is full: it has none */
            heft_tree_count_temp(&w.tree, w.thread, 100, since);
        read_back(&reader, w.path);
        for (uint32_t n = 1; n < reader.header.node_n; n++) {
            for (uint32_t span = 0; span < HEFT_TEMP_SPANS; span++) {
                heft_amount_t amount = heft_reader_amount(&reader, n, HEFT_MOMENT_TEMPORARY, span);
                sum[span].bytes += amount.bytes;
                sum[span].blocks += amount.blocks;
            }
        }
        assert_int_equal(sum[0].bytes, 100);
        assert_int_equal(sum[1].bytes, 201);
        assert_int_equal(sum[2].bytes, 401);
        assert_int_equal(sum[2].blocks, 5);
        heft_reader_close(&reader);
        writer_done(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_traces),
        cmocka_unit_test(test_the_first_of_equal_maxima),
        cmocka_unit_test(test_large_numbers),
        cmocka_unit_test(test_temporaries_without_a_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
