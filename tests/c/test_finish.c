/* SPDX-License-Identifier: MIT */
/* What the watcher adds to a recording when its process is gone: how it ended, checksums, the sources. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "build_recording.h"
#include "ledger/finish.h"
#include "writer.h"

#define PAGE HEFT_FORMAT_PAGE

typedef struct {
    writer_t w;
    int fd; /* the watcher's */
} fixture_t;

static int set_up(void **state)
{
    fixture_t *f = malloc(sizeof *f);
    assert_non_null(f);
    writer_init(&f->w);
    f->fd = open(f->w.path, O_RDWR | O_CLOEXEC);
    assert_true(f->fd >= 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture_t *f = *state;
    limit_file_size((uint64_t)RLIM_INFINITY);
    close(f->fd);
    writer_done(&f->w);
    free(f);
    return 0;
}

static void count_something(writer_t *w, uint32_t node_n)
{
    fill_tree(w, node_n);
    for (uint32_t i = 1; i < w->tree.node_n; i++) {
        if (w->tree.details[i].kind == HEFT_NODE_ALIAS)
            continue;
        heft_tree_count_alloc(&w->tree, i, 100 + i);
        if (i % 3 == 0)
            heft_tree_count_free(&w->tree, i, 100 + i);
        if (i % 100 == 1 && w->tree.details[i].temp == 0)
            heft_tree_add_temp(&w->tree, i);
    }
}

static void assert_end(const writer_t *w, heft_state_t state, int status, uint64_t ended_ns)
{
    heft_reader_t reader;
    read_back(&reader, w->path);
    assert_int_equal(reader.header.state, state);
    assert_int_equal(reader.header.exit_status, status);
    assert_int_equal(reader.header.ended_ns, ended_ns);
    assert_int_equal(reader.is_final, state >= HEFT_STATE_SEALED);
    assert_int_equal(reader.live.bytes, w->tree.live_bytes);
    heft_reader_close(&reader);
}

/* ---- how it ended -------------------------------------------------------------------------------------------- */

static void test_a_killed_one_stays_running(void **state)
{
    fixture_t *f = *state;
    count_something(&f->w, 3000);
    assert_end(&f->w, HEFT_STATE_RUNNING, HEFT_EXIT_UNKNOWN, 0);
    static const int statuses[] = {-9, -11, -64};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(heft_finish_exit(f->fd, statuses[i], 77), 0);
        assert_end(&f->w, HEFT_STATE_RUNNING, statuses[i], 77);
    }
    for (uint32_t i = 1; i < f->w.ledger.chunk_n; i++)
        assert_int_equal(f->w.ledger.chunks[i].crc, 0); /* META is the first */
}

/* What is summed from outside is what would have been summed inside. */
static void test_one_that_left_is_sealed(void **state)
{
    fixture_t *f = *state;
    uint32_t crc[HEFT_FORMAT_CHUNKS];
    count_something(&f->w, 9000);
    assert_int_equal(heft_finish_exit(f->fd, 7, 77), 0);
    assert_end(&f->w, HEFT_STATE_CLOSED, 7, 77);
    assert_true(f->w.ledger.chunk_n > 9);
    for (uint32_t i = 0; i < f->w.ledger.chunk_n; i++)
        crc[i] = f->w.ledger.chunks[i].crc;
    heft_ledger_seal(&f->w.ledger);
    for (uint32_t i = 0; i < f->w.ledger.chunk_n; i++)
        assert_int_equal(crc[i], f->w.ledger.chunks[i].crc);
}

static void test_every_state(void **state)
{
    fixture_t *f = *state;
    static const int statuses[] = {0, 1, 255, -9, -15};
    count_something(&f->w, 100);
    heft_ledger_seal(&f->w.ledger);
    for (size_t i = 0; i < 5; i++) { /* it sealed, and did not come as far as closing */
        assert_int_equal(heft_finish_exit(f->fd, statuses[i], 77), 0);
        assert_end(&f->w, HEFT_STATE_SEALED, statuses[i], 77);
    }
    heft_ledger_close(&f->w.ledger, 3);
    assert_end(&f->w, HEFT_STATE_CLOSED, 3, 77);
    char other[160]; /* it never began */
    heft_reader_t reader;
    snprintf(other, sizeof other, "%s/b.heft", f->w.folder);
    assert_int_equal(heft_ledger_create(other, "{}", 2, 0, 0), 0);
    int fd = open(other, O_RDWR | O_CLOEXEC);
    assert_int_equal(heft_finish_exit(fd, 1, 77), 0);
    read_back(&reader, other);
    assert_int_equal(reader.header.state, HEFT_STATE_CREATED);
    assert_int_equal(reader.header.exit_status, 1);
    heft_reader_close(&reader);
    close(fd);
}

/* Processes that end in the middle of everything, by _exit or by a signal. */
static void test_real_processes(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 12; round++) {
        writer_t w;
        heft_reader_t reader;
        int status;
        bool is_killed = round % 2;
        writer_init_ledger(&w, false);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            writer_start(&w);
            for (uint32_t n = 100; is_killed || n < 2000 + round; n += 100)
                count_something(&w, n < 5000 ? n : 5000);
            _exit(40 + (int)round);
        }
        if (is_killed) {
            while (((volatile heft_header_t *)w.ledger.header)->node_n < 100 * round)
                usleep(200);
            kill(pid, SIGKILL);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        int end = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
        assert_int_equal(end, is_killed ? -SIGKILL : 40 + (int)round);
        int fd = open(w.path, O_RDWR | O_CLOEXEC);
        assert_int_equal(heft_finish_exit(fd, end, 77), 0);
        assert_int_equal(heft_finish_add_source(fd, "source", 6), 0);
        read_back(&reader, w.path);
        assert_int_equal(reader.header.exit_status, end);
        assert_int_equal(reader.header.state, is_killed ? HEFT_STATE_RUNNING : HEFT_STATE_CLOSED);
        assert_true(reader.header.node_n >= 100 && reader.total.bytes > 10000);
        assert_int_equal(reader.source_bytes, 6);
        heft_reader_close(&reader);
        close(fd);
        writer_done(&w);
    }
}

/* ---- sources ------------------------------------------------------------------------------------------------- */

static void test_sources_are_read_back(void **state)
{
    fixture_t *f = *state;
    static const size_t sizes[] = {1, 4095, 4096, 4097, 300000, 5};
    heft_reader_t reader;
    char *blob = malloc(300000);
    uint64_t random = 1;
    assert_non_null(blob);
    for (int sealed = 0; sealed < 2; sealed++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            for (size_t k = 0; k < sizes[i]; k++)
                blob[k] = (char)random_below(&random, 256);
            assert_int_equal(heft_finish_add_source(f->fd, blob, sizes[i]), 0);
            count_something(&f->w, 100);
            if (sealed && i == 0)
                heft_ledger_seal(&f->w.ledger); /* the counters were still changing */
            read_back(&reader, f->w.path);
            assert_int_equal(reader.source_bytes, sizes[i]); /* the last one counts */
            assert_memory_equal(reader.source, blob, sizes[i]);
            assert_int_equal(reader.file_bytes % PAGE, 0);
            assert_int_equal(reader.meta_bytes, 2);
            heft_reader_close(&reader);
            if (sealed)
                break;
        }
    }
    free(blob);
}

static void assert_unchanged(const fixture_t *f, const unsigned char *before, size_t bytes)
{
    size_t bytes_after;
    unsigned char *after = slurp(f->w.path, &bytes_after);
    assert_int_equal(bytes, bytes_after);
    assert_memory_equal(before, after, bytes);
    free(after);
}

static void test_what_is_refused_changes_nothing(void **state)
{
    fixture_t *f = *state;
    size_t bytes;
    char *blob = calloc(1, 3 * PAGE);
    assert_non_null(blob);
    count_something(&f->w, 500);
    heft_ledger_seal(&f->w.ledger);
    assert_int_equal(heft_finish_add_source(f->fd, "first", 5), 0);
    unsigned char *before = slurp(f->w.path, &bytes);
    for (uint32_t pages = 0; pages < 3; pages++) {
        limit_file_size(bytes + (uint64_t)pages * PAGE);
        assert_int_equal(heft_finish_add_source(f->fd, blob, 3 * PAGE), EFBIG);
        limit_file_size((uint64_t)RLIM_INFINITY);
        assert_unchanged(f, before, bytes);
    }
    assert_int_not_equal(heft_finish_add_source(f->fd, "", 0), 0); /* there is no chunk of nothing */
    assert_unchanged(f, before, bytes);
    int fd = open(f->w.path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(heft_finish_add_source(fd, "x", 1), EBADF);
    assert_int_equal(heft_finish_exit(fd, 0, 77), EBADF);
    close(fd);
    assert_int_equal(heft_finish_exit(-1, 0, 77), EBADF);
    assert_int_equal(heft_finish_add_source(-1, "x", 1), EBADF);
    assert_unchanged(f, before, bytes);
    free(before);
    free(blob);
}

static void test_the_table_is_full(void **state)
{
    fixture_t *f = *state;
    heft_reader_t reader;
    size_t bytes;
    uint32_t n = f->w.ledger.chunk_n;
    heft_ledger_seal(&f->w.ledger);
    for (; n < HEFT_FORMAT_CHUNKS - 1; n++) {
        char text[16];
        assert_int_equal(heft_finish_add_source(f->fd, text, (size_t)snprintf(text, sizeof text, "number %u", n)), 0);
    }
    unsigned char *before = slurp(f->w.path, &bytes);
    assert_int_equal(heft_finish_add_source(f->fd, "x", 1), E2BIG);
    assert_unchanged(f, before, bytes);
    free(before);
    read_back(&reader, f->w.path);
    assert_int_equal(reader.source_bytes, 10);
    assert_memory_equal(reader.source, "number 126", 10);
    heft_reader_close(&reader);
}

/* Somebody reads while the watcher adds: he sees a source or does not, and never half of an entry. */
static uint32_t is_stopped, reads, failures; /* atomic */

static void *read_all_the_time(void *arg)
{
    const fixture_t *f = arg;
    heft_reader_t reader;
    while (!__atomic_load_n(&is_stopped, __ATOMIC_SEQ_CST)) {
        if (heft_reader_open(&reader, f->w.path, NULL) != HEFT_OK)
            __atomic_fetch_add(&failures, 1, __ATOMIC_SEQ_CST);
        heft_reader_close(&reader);
        __atomic_fetch_add(&reads, 1, __ATOMIC_SEQ_CST);
    }
    return arg;
}

static void test_a_reader_while_sources_are_added(void **state)
{
    fixture_t *f = *state;
    pthread_t thread;
    static const heft_chunk_t none;
    is_stopped = reads = failures = 0;
    heft_ledger_seal(&f->w.ledger);
    heft_ledger_close(&f->w.ledger, 0);
    assert_int_equal(pthread_create(&thread, NULL, read_all_the_time, f), 0);
    while (__atomic_load_n(&reads, __ATOMIC_SEQ_CST) < 10)
        sched_yield();
    for (uint32_t i = 0; i < 6000 && __atomic_load_n(&failures, __ATOMIC_SEQ_CST) == 0; i++) {
        uint32_t entry = f->w.ledger.chunk_n + i % 100;
        if (i % 100 == 0 && i > 0) { /* a fresh table; nobody but this test takes entries away */
            __atomic_store_n(&is_stopped, 1, __ATOMIC_SEQ_CST);
            pthread_join(thread, NULL);
            for (uint32_t k = 0; k < 100; k++)
                f->w.ledger.chunks[f->w.ledger.chunk_n + k] = none;
            is_stopped = 0;
            assert_int_equal(pthread_create(&thread, NULL, read_all_the_time, f), 0);
        }
        assert_int_equal(heft_finish_add_source(f->fd, "source", 6), 0);
        assert_int_equal(f->w.ledger.chunks[entry].kind, HEFT_CHUNK_SOURCE);
    }
    __atomic_store_n(&is_stopped, 1, __ATOMIC_SEQ_CST);
    pthread_join(thread, NULL);
    assert_int_equal(failures, 0);
}

/* ---- files that are not what they seem ----------------------------------------------------------------------- */

/* The program has written into its own recording, or cut it: an error or not, but no harm. */
static void test_a_damaged_file(void **state)
{
    fixture_t *f = *state;
    size_t bytes;
    char other[160];
    uint64_t random = 7;
    count_something(&f->w, 2000);
    unsigned char *good = slurp(f->w.path, &bytes);
    snprintf(other, sizeof other, "%s/bad", f->w.folder);
    int fd = open(other, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    for (uint32_t round = 0; round < 300; round++) {
        unsigned char page[2 * PAGE];
        size_t kept = round % 3 == 0 ? random_below(&random, (uint32_t)bytes) : bytes;
        memcpy(page, good, sizeof page);
        for (uint32_t n = random_below(&random, 8); n > 0; n--) {
            /* the counts of the header, and the entries of the table that are in use */
            size_t at = random_below(&random, 2) ? random_below(&random, sizeof(heft_header_t))
                                                 : PAGE + random_below(&random, f->w.ledger.chunk_n * 32);
            page[at] = (unsigned char)random_below(&random, 256);
        }
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, good, bytes, 0), bytes);
        assert_int_equal(pwrite(fd, page, sizeof page, 0), sizeof page);
        assert_int_equal(ftruncate(fd, (off_t)kept), 0);
        (void)heft_finish_exit(fd, (int)random_below(&random, 3) - 1, random);
        (void)heft_finish_add_source(fd, "x", 1);
        assert_true(lseek(fd, 0, SEEK_END) <= (off_t)(bytes + 2 * PAGE)); /* it does not grow without end */
    }
    assert_int_equal(ftruncate(fd, 100), 0);
    assert_int_equal(heft_finish_exit(fd, 0, 77), EINVAL);
    assert_int_equal(heft_finish_add_source(fd, "x", 1), EINVAL);
    close(fd);
    free(good);
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH(test_a_killed_one_stays_running),
        WITH(test_one_that_left_is_sealed),
        WITH(test_every_state),
        cmocka_unit_test(test_real_processes),
        WITH(test_sources_are_read_back),
        WITH(test_what_is_refused_changes_nothing),
        WITH(test_the_table_is_full),
        WITH(test_a_reader_while_sources_are_added),
        WITH(test_a_damaged_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
