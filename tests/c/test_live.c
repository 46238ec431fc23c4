/* SPDX-License-Identifier: MIT */
/* The writer (ledger.c, tree.c) and the reader on one file: while it grows, after SIGKILL at any moment, and sealed. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "build_recording.h"
#include "ledger/ledger.h"
#include "ledger/tree.h"
#include "ledger/view.h"

#ifdef HEFT_SLOW_CHECKS
#define STEPS 4000u /* each new node walks the whole tree */
#else
#define STEPS 50000u
#endif
#define CODES 300u
#define BLOCKS 4096u

/* What the writer knows; in the child only. */
typedef struct {
    heft_ledger_t ledger;
    heft_tree_t tree;
    uint32_t codes[CODES];
    struct {
        uint32_t node;
        uint32_t bytes;
    } blocks[BLOCKS];
    uint64_t random;
    int64_t live, peak, total;
} writer_t;

static heft_str_t str(const char *text)
{
    return (heft_str_t){text, strlen(text)};
}

static void start(writer_t *w, const char *path, uint64_t seed)
{
    *w = (writer_t){.random = seed};
    if (heft_ledger_attach(&w->ledger, path) != 0 || !heft_tree_init(&w->tree, &w->ledger))
        _exit(3);
    w->ledger.header->state = HEFT_STATE_RUNNING;
    uint32_t thread = heft_tree_thread(&w->tree, 1, HEFT_THREAD_MAIN);
    heft_tree_name_thread(&w->tree, thread, str("MainThread"));
    for (uint32_t i = 0; i < CODES; i++) {
        char file[40], name[40];
        snprintf(file, sizeof file, "/src/file%u.py", i / 7);
        snprintf(name, sizeof name, "function_%u", i);
        heft_code_info_t info = {.address = (i + 1) * 0x1000,
                                 .base = (i + 1) * 0x1000 + 0x100,
                                 .end = (i + 1) * 0x1000 + 0x900,
                                 .key = i,
                                 .file = str(file),
                                 .name = str(name),
                                 .first_line = 1};
        w->codes[i] = heft_tree_add_code(&w->tree, &info);
        heft_tree_name_module(&w->tree, w->codes[i], str("module"));
    }
}

/* The node of a random stack. */
static uint32_t random_stack(writer_t *w)
{
    uint32_t node = 2, switches = 0;
    for (uint32_t depth = 1 + random_below(&w->random, 6); depth > 0; depth--) {
        uint32_t code = random_below(&w->random, CODES), instr = 2 * random_below(&w->random, 8);
        uint64_t ip = (code + 1) * UINT64_C(0x1000) + 0x100 + instr;
        uint32_t next = heft_tree_probe(&w->tree, node, ip, &switches);
        heft_frame_info_t frame = {.code = w->codes[code], .instr = instr, .line = 1 + instr / 4, .column = 3};
        node = next != 0 ? next : heft_tree_insert(&w->tree, node, ip, &frame);
    }
    return node;
}

static void step(writer_t *w)
{
    uint32_t i = random_below(&w->random, BLOCKS);
    if (w->blocks[i].node != 0) {
        heft_tree_count_free(&w->tree, w->blocks[i].node, w->blocks[i].bytes);
        w->live -= w->blocks[i].bytes;
        w->blocks[i].node = 0;
        return;
    }
    w->blocks[i].node = random_stack(w);
    w->blocks[i].bytes = random_below(&w->random, 1000);
    heft_tree_count_alloc(&w->tree, w->blocks[i].node, w->blocks[i].bytes);
    w->live += w->blocks[i].bytes;
    w->total += w->blocks[i].bytes;
    w->peak = w->live > w->peak ? w->live : w->peak;
}

/* A file of its own for each test, in /tmp. */
static void make_path(char *path)
{
    sprintf(path, "/tmp/heft-live-%d.heft", (int)getpid());
    unlink(path);
    assert_int_equal(heft_ledger_create(path, "{}", 2, 0, 0), 0);
}

static pid_t start_child(const char *path, uint64_t seed)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    writer_t *w = malloc(sizeof *w);
    if (w == NULL)
        _exit(3);
    start(w, path, seed);
    for (int i = 0; i < 100000; i++)
        step(w);
    for (;;)
        pause(); /* until it is killed */
}

static void look(const char *path, heft_amount_t *total)
{
    heft_reader_t reader;
    heft_stacks_t stacks;
    heft_view_t view;
    heft_err_t err = {0};
    if (heft_reader_open(&reader, path, &err) != HEFT_OK)
        fail_msg("%s: %s at %lld", heft_status_name(err.code), err.text, (long long)err.off);
    assert_true(heft_stacks_init(&stacks, &reader));
    uint8_t *classes = calloc(stacks.file_n, 1);
    assert_non_null(classes);
    heft_view_options_t options = {.moment = HEFT_MOMENT_PEAK, .classes = classes, .keep = 1};
    assert_true(heft_view_init(&view, &stacks, &options));
    assert_int_equal(view.total.bytes, reader.peak.bytes);
    *total = reader.total;
    heft_view_done(&view);
    free(classes);
    heft_stacks_done(&stacks);
    heft_reader_close(&reader);
}

static void test_while_it_grows(void **state)
{
    (void)state;
    char path[64];
    heft_amount_t total, before = {0, 0};
    make_path(path);
    pid_t pid = start_child(path, 1);
    for (int i = 0; i < 40 || (before.bytes == 0 && i < 10000); i++) {
        usleep(500);
        look(path, &total);
        assert_true(total.bytes >= before.bytes);
        before = total;
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    look(path, &total);
    assert_true(total.bytes > 0);
    unlink(path);
}

static void test_killed(void **state)
{
    (void)state;
    char path[64];
    heft_amount_t total;
    for (uint32_t i = 0; i < 60; i++) {
        make_path(path);
        pid_t pid = start_child(path, i);
        usleep(i * i * 10);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        look(path, &total);
        unlink(path);
    }
}

static void test_sealed(void **state)
{
    (void)state;
    char path[64];
    heft_reader_t reader;
    heft_err_t err = {0};
    make_path(path);
    writer_t *w = malloc(sizeof *w);
    assert_non_null(w);
    start(w, path, 7);
    for (uint32_t i = 0; i < STEPS; i++)
        step(w);
    heft_ledger_seal(&w->ledger);
    heft_ledger_close(&w->ledger, 0);
    if (heft_reader_open(&reader, path, &err) != HEFT_OK)
        fail_msg("%s: %s at %lld", heft_status_name(err.code), err.text, (long long)err.off);
    assert_true(reader.is_final);
    assert_int_equal(reader.live.bytes, w->live);
    assert_int_equal(reader.total.bytes, w->total);
    assert_int_equal(reader.peak.bytes, w->peak);
    assert_int_equal(reader.meta_bytes, 2);
    heft_reader_close(&reader);
    heft_tree_done(&w->tree);
    free((char *)(uintptr_t)w->ledger.path); /* the ledger itself has no end: it lives as long as its process */
    free(w);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_while_it_grows),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_sealed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
