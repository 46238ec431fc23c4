/* SPDX-License-Identifier: MIT */
/* The call tree: what answers for a path, what happens when code dies, and the peak against a replay of every event. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "build_recording.h"
#include "ledger/reader.h"
#include "ledger/tree.h"

typedef struct {
    char path[64];
    heft_ledger_t ledger;
    heft_tree_t tree;
    uint32_t thread;
} fixture_t;

static heft_str_t str(const char *text)
{
    return (heft_str_t){text, strlen(text)};
}

static int set_up(void **state)
{
    fixture_t *f = calloc(1, sizeof *f);
    snprintf(f->path, sizeof f->path, "/tmp/heft-tree-%d.heft", (int)getpid());
    unlink(f->path);
    assert_int_equal(heft_ledger_create(f->path, "{}", 2, 0), 0);
    assert_int_equal(heft_ledger_attach(&f->ledger, f->path), 0);
    assert_true(heft_tree_init(&f->tree, &f->ledger));
    f->ledger.header->state = HEFT_STATE_RUNNING;
    f->thread = heft_tree_thread(&f->tree, 4711, HEFT_THREAD_MAIN);
    assert_int_not_equal(f->thread, 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture_t *f = *state;
    heft_tree_done(&f->tree);
    heft_ledger_detach(&f->ledger);
    unlink(f->path);
    free(f);
    return 0;
}

#ifdef HEFT_SLOW_CHECKS /* each insertion validates the whole tree */
#define SCALE 50
#else
#define SCALE 1
#endif
#define CODE_BYTES 0x200u

static uint64_t base_of(uint64_t address)
{
    return address + 0x80;
}

static heft_code_info_t code_info(uint64_t address, uint64_t key, const char *name)
{
    return (heft_code_info_t){.address = address,
                              .base = base_of(address),
                              .end = base_of(address) + CODE_BYTES,
                              .key = key,
                              .file = str("app.py"),
                              .name = str(name),
                              .module = str("app"),
                              .first_line = 1};
}

/* The node of (parent, instruction) as the recorder finds it: memo, bucket, new. */
static uint32_t child(heft_tree_t *tree, uint32_t parent, uint32_t code, uint64_t address, uint32_t instr,
                      bool incomplete)
{
    uint64_t ip = base_of(address) + instr;
    uint32_t import_switch = 0, node = heft_tree_find(tree, parent, ip);
    if (node == 0)
        node = heft_tree_probe(tree, parent, ip, &import_switch);
    if (node == 0) {
        heft_frame_info_t info = {.code = code, .instr = instr, .line = 1 + instr / 2, .incomplete = incomplete};
        node = heft_tree_insert(tree, parent, ip, &info);
    }
    heft_tree_remember(tree, parent, ip, node);
    return node;
}

static void test_paths_are_told_apart_and_found_again(void **state)
{
    heft_tree_t *tree = &((fixture_t *)*state)->tree;
    uint32_t root = ((fixture_t *)*state)->thread;
    heft_code_info_t fi = code_info(0x1000, 1, "f"), gi = code_info(0x2000, 2, "g");
    uint32_t f = heft_tree_add_code(tree, &fi), g = heft_tree_add_code(tree, &gi);
    uint32_t f10 = child(tree, root, f, 0x1000, 10, false), f20 = child(tree, root, f, 0x1000, 20, false);
    assert_int_not_equal(f10, f20);
    uint32_t g1 = child(tree, f10, g, 0x2000, 4, false), g2 = child(tree, f20, g, 0x2000, 4, false);
    assert_int_not_equal(g1, g2);
    assert_int_equal(child(tree, f10, g, 0x2000, 4, false), g1);
    assert_int_equal(child(tree, f20, g, 0x2000, 4, false), g2);
    assert_int_equal(tree->nodes[g1].parent, f10);
    assert_int_equal(tree->details[g1].line, 3);
    /* before its RESUME a frame's work belongs to its caller */
    assert_int_equal(child(tree, f10, g, 0x2000, 2, true), f10);
    assert_int_equal(child(tree, f10, g, 0x2000, 2, true), f10);
    assert_true(heft_tree_check(tree));
}

static void test_recursion_is_folded_but_not_across_imports(void **state)
{
    heft_tree_t *tree = &((fixture_t *)*state)->tree;
    uint32_t root = ((fixture_t *)*state)->thread;
    heft_code_info_t fi = code_info(0x1000, 1, "f"), ii = code_info(0x3000, 3, "_find_and_load");
    uint32_t f = heft_tree_add_code(tree, &fi), importer = heft_tree_add_code(tree, &ii);
    uint32_t f10 = child(tree, root, f, 0x1000, 10, false), node = f10;
    uint32_t before = tree->node_n;
    for (int depth = 0; depth < 10000; depth++)
        node = child(tree, node, f, 0x1000, 10, false);
    assert_int_equal(node, f10);
    assert_int_equal(tree->node_n, before + 1); /* one alias, whatever the depth */
    assert_true(tree->details[f10].flags & HEFT_DETAIL_RECURSIVE);

    heft_frame_info_t info = {.code = importer, .instr = 0, .machinery = true, .import_switch = true};
    uint64_t ip = base_of(0x3000);
    uint32_t import_switch = heft_tree_insert(tree, f10, ip, &info), found = 0;
    assert_int_equal(tree->details[import_switch].kind, HEFT_NODE_ALIAS);
    assert_int_equal(heft_tree_probe(tree, f10, ip, &found), 0);
    assert_int_equal(found, import_switch);
    uint32_t a = heft_tree_import(tree, import_switch, str("a")), b = heft_tree_import(tree, import_switch, str("b"));
    assert_int_not_equal(a, b);
    assert_int_equal(heft_tree_import(tree, import_switch, str("a")), a);
    assert_int_equal(tree->nodes[a].parent, f10);
    assert_int_not_equal(child(tree, a, f, 0x1000, 10, false), f10); /* the same instruction, called while importing */

    info = (heft_frame_info_t){.code = importer, .instr = 8, .machinery = true};
    assert_false(heft_tree_is_machinery(tree, base_of(0x3000) + 8));
    assert_int_equal(heft_tree_insert(tree, a, base_of(0x3000) + 8, &info), a);
    assert_true(heft_tree_is_machinery(tree, base_of(0x3000) + 8));
    assert_true(heft_tree_check(tree));
}

static void test_dead_code_is_never_mistaken_for_its_successor(void **state)
{
    heft_tree_t *tree = &((fixture_t *)*state)->tree;
    uint32_t root = ((fixture_t *)*state)->thread;
    heft_code_info_t fi = code_info(0x1000, 1, "f"), other = code_info(0x1000, 2, "f"),
                     again = code_info(0x5000, 1, "f");
    uint32_t f = heft_tree_add_code(tree, &fi);
    uint32_t f10 = child(tree, root, f, 0x1000, 10, false);
    heft_tree_retire_code(tree, 0x1000);
    assert_int_equal(heft_tree_find_code(tree, 0x1000), 0);
    assert_int_equal(heft_tree_find(tree, root, base_of(0x1000) + 10), 0);
    /* another text at the same address */
    uint32_t g = heft_tree_add_code(tree, &other);
    assert_int_not_equal(g, f);
    uint32_t g10 = child(tree, root, g, 0x1000, 10, false);
    assert_int_not_equal(g10, f10);
    /* the same text at another address takes over */
    assert_int_equal(heft_tree_add_code(tree, &again), f);
    assert_int_equal(child(tree, root, f, 0x5000, 10, false), f10);
    heft_tree_retire_code(tree, 0x1000);
    heft_tree_retire_code(tree, 0x5000);
    heft_tree_retire_code(tree, 0x9000); /* never seen: nothing */
    assert_true(heft_tree_check(tree));
}

static void test_a_loop_over_exec_does_not_grow_the_tree(void **state)
{
    heft_tree_t *tree = &((fixture_t *)*state)->tree;
    uint32_t root = ((fixture_t *)*state)->thread, after_first = 0;
    for (uint32_t i = 0; i < 20000 / SCALE; i++) {
        uint64_t address = 0x1000 + (uint64_t)(i % 7) * 0x1000;
        heft_code_info_t info = code_info(address, 1, "<module>");
        uint32_t code = heft_tree_add_code(tree, &info);
        heft_tree_count_alloc(tree, child(tree, root, code, address, 10, false), 16);
        heft_tree_retire_code(tree, address);
        if (i == 0)
            after_first = tree->node_n;
    }
    assert_int_equal(tree->node_n, after_first);
    assert_int_equal(tree->header->code_n, 2);
    assert_true(heft_tree_check(tree));
}

static void test_mutual_recursion_stays_bounded(void **state)
{
    heft_tree_t *tree = &((fixture_t *)*state)->tree;
    uint32_t root = ((fixture_t *)*state)->thread, codes[12];
    uint64_t random = 5;
    for (uint32_t i = 0; i < 12; i++) {
        heft_code_info_t info = code_info(0x10000 + i * 0x1000, i, "f");
        codes[i] = heft_tree_add_code(tree, &info);
    }
    for (int walk = 0; walk < 6000 / SCALE; walk++) {
        uint32_t node = root;
        for (int depth = 0; depth < 60; depth++) {
            uint32_t i = random_below(&random, 12);
            node = child(tree, node, codes[i], 0x10000 + i * 0x1000, 2 * random_below(&random, 4), false);
        }
        heft_tree_count_alloc(tree, node, 10);
    }
    assert_true(tree->node_n <= HEFT_NODES_MAX);
    assert_int_equal(tree->live_bytes, 60000 / SCALE);
    assert_true(heft_tree_check(tree));
}

/* ---- the peak, and everything else that is counted, against a replay ------------------------------------------------
 */

#define NODES 24u
#define EVENTS 400u

typedef struct {
    int64_t live_bytes, live_blocks, total_bytes, total_blocks, temp_bytes[HEFT_TEMP_SPANS],
        temp_blocks[HEFT_TEMP_SPANS];
} counts_t;

typedef struct {
    uint32_t node;
    uint32_t bytes;
} live_t;

static void compare(const fixture_t *f, const uint32_t *nodes, const counts_t *now, const counts_t *at_peak)
{
    heft_reader_t reader;
    heft_err_t err;
    assert_int_equal(heft_reader_open(&reader, f->path, &err), HEFT_OK);
    for (uint32_t i = 0; i < NODES; i++) {
        heft_amount_t peak = heft_reader_amount(&reader, nodes[i], HEFT_MOMENT_PEAK, 0);
        heft_amount_t live = heft_reader_amount(&reader, nodes[i], HEFT_MOMENT_LIVE, 0);
        heft_amount_t total = heft_reader_amount(&reader, nodes[i], HEFT_MOMENT_TOTAL, 0);
        assert_int_equal(peak.bytes, at_peak[i].live_bytes);
        assert_int_equal(peak.blocks, at_peak[i].live_blocks);
        assert_int_equal(live.bytes, now[i].live_bytes);
        assert_int_equal(live.blocks, now[i].live_blocks);
        assert_int_equal(total.bytes, now[i].total_bytes);
        assert_int_equal(total.blocks, now[i].total_blocks);
        int64_t bytes = 0, blocks = 0;
        for (uint32_t span = 0; span < HEFT_TEMP_SPANS; span++) {
            heft_amount_t temporary = heft_reader_amount(&reader, nodes[i], HEFT_MOMENT_TEMPORARY, span);
            bytes += now[i].temp_bytes[span];
            blocks += now[i].temp_blocks[span];
            assert_int_equal(temporary.bytes, bytes);
            assert_int_equal(temporary.blocks, blocks);
        }
    }
    heft_reader_close(&reader);
}

static void replay(fixture_t *f, uint64_t seed)
{
    heft_tree_t *tree = &f->tree;
    uint32_t nodes[NODES];
    counts_t now[NODES] = {0}, at_peak[NODES] = {0};
    live_t live[EVENTS];
    uint32_t live_n = 0;
    int64_t sum = 0, highest = 0;
    heft_code_info_t info = code_info(0x1000, seed, "f");
    uint32_t code = heft_tree_add_code(tree, &info);
    for (uint32_t i = 0; i < NODES; i++)
        nodes[i] = child(tree, f->thread, code, 0x1000, 2 * i, false);
    uint32_t events = 1 + random_below(&seed, EVENTS), growing = random_below(&seed, 3);
    for (uint32_t e = 0; e < events; e++) {
        bool is_request = live_n == 0 || random_below(&seed, 4) <= growing;
        uint32_t i = is_request ? random_below(&seed, NODES) : 0,
                 at = random_below(&seed, live_n + 1) % (live_n + !live_n);
        if (is_request) {
            live[live_n] = (live_t){i, random_below(&seed, 5000)};
            heft_tree_count_alloc(tree, nodes[i], live[live_n].bytes);
            now[i].live_bytes += live[live_n].bytes;
            now[i].total_bytes += live[live_n].bytes;
            now[i].live_blocks++;
            now[i].total_blocks++;
            sum += live[live_n++].bytes;
        } else {
            live_t block = live[at];
            live[at] = live[--live_n];
            uint32_t since = random_below(&seed, 6);
            if (since < 4) {
                if (since > 0 && tree->details[nodes[block.node]].temp == 0)
                    heft_tree_add_temp(tree, nodes[block.node]);
                heft_tree_count_temp(tree, nodes[block.node], block.bytes, since);
                now[block.node].temp_bytes[since == 0 ? 0 : since == 1 ? 1 : 2] += block.bytes;
                now[block.node].temp_blocks[since == 0 ? 0 : since == 1 ? 1 : 2]++;
            }
            heft_tree_count_free(tree, nodes[block.node], block.bytes);
            if (random_below(&seed, 20) == 0) { /* a realloc that fails: the free never happened */
                heft_tree_uncount_free(tree, nodes[block.node], block.bytes);
                live[live_n++] = block;
            } else {
                now[block.node].live_bytes -= block.bytes;
                now[block.node].live_blocks--;
                sum -= block.bytes;
            }
        }
        if (sum > highest) {
            highest = sum;
            memcpy(at_peak, now, sizeof now);
        }
    }
    assert_true(heft_tree_check(tree));
    compare(f, nodes, now, at_peak);
}

static void test_counters_against_a_replay(void **state)
{
    uint64_t traces = getenv("MEMHEFT_TEST_EXHAUSTIVE") != NULL ? 20000 : 1500 / SCALE;
    (void)state;
    for (uint64_t seed = 1; seed <= traces; seed++) {
        void *own = NULL;
        set_up(&own);
        replay(own, seed);
        tear_down(&own);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_paths_are_told_apart_and_found_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_recursion_is_folded_but_not_across_imports, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dead_code_is_never_mistaken_for_its_successor, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_loop_over_exec_does_not_grow_the_tree, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_mutual_recursion_stays_bounded, set_up, tear_down),
        cmocka_unit_test(test_counters_against_a_replay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
