/* SPDX-License-Identifier: MIT */
/* Copies of a recording that goes on: read as any recording, with the numbers of their moment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "build_recording.h"
#include "ledger/copy.h"
#include "ledger/timeline.h"
#include "writer.h"

#define NODES 40u
#define BLOCKS 200u

typedef struct {
    writer_t w;
    uint64_t random;
    uint32_t nodes[NODES];
    struct {
        uint32_t node; /* 0: not asked for */
        uint32_t bytes;
    } blocks[BLOCKS];
    uint64_t live, live_blocks, total, peak;
} run_t;

static int set_up(void **state)
{
    run_t *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->random = 7;
    writer_init(&r->w);
    heft_code_info_t info = code_info(0x1000, 1, "work");
    uint32_t code = heft_tree_add_code(&r->w.tree, &info);
    for (uint32_t i = 0; i < NODES; i++)
        r->nodes[i] = plain_child(&r->w.tree, r->w.thread, code, 0x1000, 2 * i);
    *state = r;
    return 0;
}

static int tear_down(void **state)
{
    writer_done(&((run_t *)*state)->w);
    free(*state);
    return 0;
}

static void step(run_t *r)
{
    uint32_t i = random_below(&r->random, BLOCKS);
    r->w.tree.now_ns = ++r->w.ledger.header->now_ns;
    if (r->blocks[i].node != 0) {
        heft_tree_count_free(&r->w.tree, r->blocks[i].node, r->blocks[i].bytes);
        r->live -= r->blocks[i].bytes;
        r->live_blocks--;
        r->blocks[i].node = 0;
        return;
    }
    r->blocks[i].node = r->nodes[random_below(&r->random, NODES)];
    r->blocks[i].bytes = random_below(&r->random, 5000);
    heft_tree_count_alloc(&r->w.tree, r->blocks[i].node, r->blocks[i].bytes);
    r->live += r->blocks[i].bytes;
    r->live_blocks++;
    r->total += r->blocks[i].bytes;
    r->peak = r->live > r->peak ? r->live : r->peak;
}

static void copy_now(const run_t *r, heft_copy_t *copy)
{
    assert_true(heft_copy_init(copy, heft_copy_room(&r->w.ledger)));
    assert_true(heft_copy_take(copy, &r->w.tree));
    heft_copy_seal(copy);
}

static void read_copy(const heft_copy_t *copy, heft_reader_t *reader)
{
    heft_err_t err = {0};
    if (heft_reader_open_bytes(reader, copy->base, copy->bytes, &err) != HEFT_OK)
        fail_msg("%s at %llu", err.text, (unsigned long long)err.off);
}

/* ---- what is in a copy --------------------------------------------------------------------------------------- */

static void test_it_has_the_numbers_of_its_moment(void **state)
{
    run_t *r = *state;
    heft_reader_t reader;
    for (uint32_t n = 0; n < 100; n++) {
        heft_copy_t copy;
        for (uint32_t i = random_below(&r->random, 100); i > 0; i--)
            step(r);
        uint64_t live = r->live, live_blocks = r->live_blocks, total = r->total, peak = r->peak;
        uint64_t now_ns = r->w.ledger.header->now_ns;
        copy_now(r, &copy);
        for (uint32_t i = 0; i < 20; i++)
            step(r); /* it goes on, and the copy does not */
        read_copy(&copy, &reader);
        assert_true(reader.is_final);
        assert_int_equal(reader.header.state, HEFT_STATE_CLOSED);
        assert_int_equal(reader.header.flags, HEFT_FLAG_SNAPSHOT);
        assert_int_equal(reader.header.exit_status, HEFT_EXIT_UNKNOWN);
        assert_int_equal(reader.header.now_ns, now_ns);
        assert_int_equal(reader.live.bytes, live);
        assert_int_equal(reader.live.blocks, live_blocks);
        assert_int_equal(reader.total.bytes, total);
        assert_int_equal(reader.peak.bytes, peak);
        assert_int_equal(reader.meta_bytes, 2);
        assert_memory_equal(reader.meta, "{}", 2);
        heft_reader_close(&reader);
        heft_copy_done(&copy);
        assert_null(copy.base);
    }
    assert_int_equal(r->w.ledger.header->state, HEFT_STATE_RUNNING);
    assert_int_equal(r->w.ledger.header->flags, 0);
}

static void test_the_end_is_what_a_copy_of_the_end_is(void **state)
{
    run_t *r = *state;
    heft_copy_t copy;
    heft_reader_t one, two;
    for (uint32_t i = 0; i < 1000; i++) {
        step(r);
        heft_timeline_add(r->w.ledger.timeline, i * UINT64_C(1000000), r->live, 0);
    }
    heft_tree_add_temp(&r->w.tree, r->nodes[3]);
    heft_tree_count_temp(&r->w.tree, r->nodes[3], 10, 2);
    copy_now(r, &copy);
    heft_ledger_seal(&r->w.ledger);
    read_copy(&copy, &one);
    read_back(&two, r->w.path);
    assert_int_equal(one.header.node_n, two.header.node_n);
    assert_memory_equal(one.nodes + 1, two.nodes + 1, (one.header.node_n - 1) * sizeof *one.nodes);
    assert_memory_equal(one.details + 1, two.details + 1, (one.header.node_n - 1) * sizeof *one.details);
    assert_int_equal(one.header.code_n, two.header.code_n);
    assert_memory_equal(one.codes, two.codes, one.header.code_n * sizeof *one.codes);
    assert_int_equal(one.header.temp_n, two.header.temp_n);
    assert_memory_equal(one.temps, two.temps, one.header.temp_n * sizeof *one.temps);
    assert_int_equal(one.header.thread_n, 1);
    assert_memory_equal(one.threads, two.threads, sizeof *one.threads);
    assert_int_equal(one.header.string_bytes, two.header.string_bytes);
    assert_memory_equal(one.strings, two.strings, one.header.string_bytes);
    assert_memory_equal(one.timeline, two.timeline, sizeof *one.timeline);
    assert_int_equal(one.temporary.bytes, two.temporary.bytes);
    heft_reader_close(&one);
    heft_reader_close(&two);
    heft_copy_done(&copy);
}

static void test_what_is_reserved_is_not_copied(void **state)
{
    run_t *r = *state;
    heft_copy_t copy;
    uint64_t used = 4 * (uint64_t)HEFT_FORMAT_PAGE + 8192;
    for (uint32_t kind = HEFT_COLUMN_NODE; kind <= HEFT_COLUMN_THREAD; kind++)
        used += heft_ledger_column_bytes(r->w.ledger.header, kind) + HEFT_FORMAT_PAGE;
    assert_true(heft_copy_init(&copy, heft_copy_room(&r->w.ledger) + (1 << 20)));
    assert_true(heft_copy_take(&copy, &r->w.tree));
    heft_copy_seal(&copy); /* gives the rest back */
    assert_true(copy.bytes <= used);
    assert_true(copy.bytes < r->w.ledger.file_bytes);
    heft_copy_done(&copy);
}

/* ---- what goes wrong ----------------------------------------------------------------------------------------- */

static void test_it_grew_meanwhile(void **state)
{
    run_t *r = *state;
    heft_copy_t copy;
    assert_true(heft_copy_init(&copy, heft_copy_room(&r->w.ledger)));
    fill_tree(&r->w, r->w.tree.node_n + 200);
    assert_false(heft_copy_take(&copy, &r->w.tree));
    heft_copy_done(&copy);
    copy_now(r, &copy);
    heft_reader_t reader;
    read_copy(&copy, &reader);
    assert_int_equal(reader.header.node_n, r->w.tree.node_n);
    heft_reader_close(&reader);
    heft_copy_done(&copy);
}

static void test_no_memory(void **state)
{
    run_t *r = *state;
    heft_copy_t copy;
    assert_false(heft_copy_init(&copy, (size_t)1 << 50));
    assert_null(copy.base);
    heft_copy_done(&copy); /* of an empty one: nothing */
    step(r);
    copy_now(r, &copy);
    heft_copy_done(&copy);
}

static void test_the_file_is_gone_and_the_descriptor_closed(void **state)
{
    run_t *r = *state;
    heft_copy_t copy;
    heft_reader_t reader;
    step(r);
    assert_int_equal(unlink(r->w.path), 0);
    close(r->w.ledger.fd);
    copy_now(r, &copy);
    read_copy(&copy, &reader);
    assert_int_equal(reader.live.bytes, r->live);
    assert_memory_equal(reader.meta, "{}", 2);
    heft_reader_close(&reader);
    heft_copy_done(&copy);
}

static void test_counters_that_do_not_add_up(void **state)
{
    run_t *r = *state;
    heft_copy_t copy;
    heft_reader_t reader;
    step(r);
    r->w.tree.nodes[r->nodes[1]].allocated_bytes += 1;
    copy_now(r, &copy);
    read_copy(&copy, &reader);
    assert_true(reader.header.flags & HEFT_FLAG_CONTRADICTION);
    assert_false(reader.is_final);
    heft_reader_close(&reader);
    heft_copy_done(&copy);
    r->w.tree.nodes[r->nodes[1]].allocated_bytes -= 1;
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH(test_it_has_the_numbers_of_its_moment),
        WITH(test_the_end_is_what_a_copy_of_the_end_is),
        WITH(test_what_is_reserved_is_not_copied),
        WITH(test_it_grew_meanwhile),
        WITH(test_no_memory),
        WITH(test_the_file_is_gone_and_the_descriptor_closed),
        WITH(test_counters_that_do_not_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
