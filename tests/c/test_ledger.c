/* SPDX-License-Identifier: MIT */
/* The recording's file, on a real disk, under a program that deletes, moves, fills, closes and reuses what it likes. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "build_recording.h"
#include "ledger/finish.h"
#include "ledger/timeline.h"
#include "writer.h"

#define PAGE HEFT_FORMAT_PAGE
#define NOBODY 65534u

static int set_up(void **state)
{
    writer_t *w = malloc(sizeof *w);
    assert_non_null(w);
    writer_init_folder(w, true);
    assert_int_equal(heft_ledger_create(w->path, "{\"a\": 1}", 8, 0, 0), 0);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    writer_t *w = *state;
    char small[160];
    snprintf(small, sizeof small, "%s/small", w->folder); /* of test_a_full_disk, if it failed */
    if (umount2(small, MNT_DETACH) == 0 || errno == EINVAL)
        rmdir(small);
    limit_file_size((uint64_t)RLIM_INFINITY);
    writer_done(w);
    free(*state);
    return 0;
}

static void beside(const writer_t *w, const char *name, char other[160])
{
    snprintf(other, 160, "%s/%s", w->folder, name);
}

/* Files that are open, and ranges that are mapped: what an attempt that failed must not leave behind. */
static uint32_t count_open(void)
{
    uint32_t n = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

static size_t address_space(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    assert_true(f != NULL && fscanf(f, "%lu", &pages) == 1);
    fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* ---- create -------------------------------------------------------------------------------------------------- */

static void test_what_create_writes(void **state)
{
    writer_t *w = *state;
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 100000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *meta = malloc(sizes[i] + 1);
        uint64_t random = i;
        assert_non_null(meta);
        for (size_t k = 0; k < sizes[i]; k++)
            meta[k] = (char)random_below(&random, 256);
        unlink(w->path);
        assert_int_equal(heft_ledger_create(w->path, meta, sizes[i], HEFT_WATCHER_EXPECTED, 0), 0);
        size_t bytes;
        unsigned char *file = slurp(w->path, &bytes);
        heft_header_t header;
        memcpy(&header, file, sizeof header);
        assert_memory_equal(header.magic, HEFT_FORMAT_MAGIC, 8);
        assert_int_equal(header.version, HEFT_FORMAT_VERSION);
        assert_int_equal(header.header_bytes, sizeof header);
        assert_int_equal(header.chunk_table_off, PAGE);
        assert_int_equal(header.chunk_table_n, HEFT_FORMAT_CHUNKS);
        assert_int_equal(header.static_crc, heft_crc32c(0, file, offsetof(heft_header_t, static_crc)));
        assert_int_equal(header.state, HEFT_STATE_CREATED);
        assert_int_equal(header.exit_status, HEFT_EXIT_UNKNOWN);
        assert_true(header.watcher_pid == HEFT_WATCHER_EXPECTED);
        assert_true(header.created_unix_ns > UINT64_C(1700000000) * 1000000000u);
        assert_int_equal(bytes, 2 * PAGE + (sizes[i] + PAGE - 1) / PAGE * PAGE + 2 * PAGE);
        heft_reader_t reader;
        read_back(&reader, w->path);
        assert_int_equal(reader.meta_bytes, sizes[i]);
        if (sizes[i] > 0)
            assert_memory_equal(reader.meta, meta, sizes[i]);
        assert_non_null(reader.timeline);
        assert_int_equal(reader.timeline->point_n, 0);
        heft_reader_close(&reader);
        free(file);
        free(meta);
    }
}

static void test_create_says_what_is_wrong(void **state)
{
    writer_t *w = *state;
    char other[160], longest[5000];
    size_t bytes, bytes_after;
    uint32_t open_before = count_open();
    unsigned char *before = slurp(w->path, &bytes);
    assert_int_equal(heft_ledger_create(w->path, "x", 1, 0, 0), EEXIST);
    assert_int_equal(heft_ledger_create(w->folder, "x", 1, 0, 0), EEXIST);
    unsigned char *after = slurp(w->path, &bytes_after);
    assert_int_equal(bytes, bytes_after);
    assert_memory_equal(before, after, bytes); /* not touched */
    free(before);
    free(after);
    beside(w, "missing/b.heft", other);
    assert_int_equal(heft_ledger_create(other, "", 0, 0, 0), ENOENT);
    beside(w, "a.heft/b.heft", other);
    assert_int_equal(heft_ledger_create(other, "", 0, 0, 0), ENOTDIR);
    assert_int_equal(heft_ledger_create("", "", 0, 0, 0), ENOENT);
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    assert_int_equal(heft_ledger_create(longest, "", 0, 0, 0), ENAMETOOLONG);
    beside(w, "link", other);
    assert_int_equal(symlink("/nonexistent/target", other), 0);
    assert_int_equal(heft_ledger_create(other, "", 0, 0, 0), EEXIST); /* nobody is led somewhere else */
    /* the disk is full on the way: no half file */
    beside(w, "half", other);
    limit_file_size(2 * PAGE);
    assert_int_equal(heft_ledger_create(other, "more than fits", 14, 0, 0), EFBIG);
    limit_file_size((uint64_t)RLIM_INFINITY);
    assert_int_equal(access(other, F_OK), -1);
    assert_int_equal(count_open(), open_before);
}

static void test_a_folder_that_may_not_be_written(void **state)
{
    writer_t *w = *state;
    char other[160];
    beside(w, "b.heft", other);
    assert_int_equal(chmod(w->folder, 0555), 0);
    bool is_root = geteuid() == 0;
    if (is_root)
        assert_int_equal(seteuid(NOBODY), 0); /* root may write anywhere */
    int error = heft_ledger_create(other, "", 0, 0, 0);
    if (is_root)
        assert_int_equal(seteuid(0), 0);
    assert_int_equal(chmod(w->folder, 0755), 0);
    assert_int_equal(error, EACCES);
    assert_int_equal(access(other, F_OK), -1);
}

/* ---- attach -------------------------------------------------------------------------------------------------- */

static void test_only_one_records(void **state)
{
    writer_t *w = *state;
    heft_ledger_t second;
    writer_attach(w);
    assert_int_equal(heft_ledger_attach(&second, w->path), EINVAL); /* before it runs, */
    assert_int_equal(second.fd, -1);
    writer_start(w);
    assert_int_equal(heft_ledger_attach(&second, w->path), EINVAL); /* while it does, */
    heft_ledger_seal(&w->ledger);
    assert_int_equal(heft_ledger_attach(&second, w->path), EINVAL);
    heft_ledger_close(&w->ledger, 0);
    assert_int_equal(heft_ledger_attach(&second, w->path), EINVAL); /* and after that */
    heft_reader_t reader;
    read_back(&reader, w->path);
    assert_int_equal(reader.header.node_n, 3);
    heft_reader_close(&reader);
}

static void refuse(const writer_t *w, const char *name, int error)
{
    char other[160];
    heft_ledger_t ledger;
    uint32_t open_before = count_open();
    size_t space_before = address_space();
    beside(w, name, other);
    assert_int_equal(heft_ledger_attach(&ledger, other), error);
    assert_int_equal(ledger.fd, -1);
    assert_null(ledger.header);
    assert_int_equal(count_open(), open_before);
    assert_true(address_space() < space_before + ((size_t)1 << 20));
}

static void write_file(const writer_t *w, const char *name, const void *data, size_t bytes)
{
    char other[160];
    beside(w, name, other);
    int fd = open(other, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, bytes), bytes);
    close(fd);
}

static void test_attach_says_what_is_wrong(void **state)
{
    writer_t *w = *state;
    size_t bytes;
    unsigned char *good = slurp(w->path, &bytes), *bad = malloc(bytes);
    assert_non_null(bad);
    refuse(w, "missing", ENOENT);
    refuse(w, ".", EISDIR);
    write_file(w, "bad", "", 0);
    refuse(w, "bad", EINVAL);
    write_file(w, "bad", good, 5);
    refuse(w, "bad", EINVAL);
    write_file(w, "bad", good, 2 * PAGE - 1);
    refuse(w, "bad", EINVAL);
    memset(bad, 0, bytes);
    write_file(w, "bad", bad, bytes);
    refuse(w, "bad", EINVAL);
    for (size_t i = 0; i < offsetof(heft_header_t, static_crc) + 4; i++) { /* each byte of what never changes */
        memcpy(bad, good, bytes);
        bad[i] ^= 1;
        write_file(w, "bad", bad, bytes);
        refuse(w, "bad", EINVAL);
    }
    heft_header_t header; /* a later version, in itself right */
    memcpy(&header, good, sizeof header);
    header.version++;
    header.static_crc = heft_crc32c(0, &header, offsetof(heft_header_t, static_crc));
    memcpy(bad, good, bytes);
    memcpy(bad, &header, sizeof header);
    write_file(w, "bad", bad, bytes);
    refuse(w, "bad", EINVAL);
    free(good);
    free(bad);
}

/* No room for the first chunks: nothing has happened, to the process or to the file. */
static void test_an_attempt_that_fails_leaves_nothing(void **state)
{
    writer_t *w = *state;
    struct stat before, after;
    assert_int_equal(stat(w->path, &before), 0);
    for (uint32_t pages = 0; pages < 56; pages += 7) {
        limit_file_size((uint64_t)before.st_size + (uint64_t)pages * PAGE);
        refuse(w, "a.heft", ENOSPC);
        heft_reader_t reader;
        read_back(&reader, w->path);
        assert_int_equal(reader.header.state, HEFT_STATE_CREATED);
        heft_reader_close(&reader);
    }
    limit_file_size((uint64_t)RLIM_INFINITY);
    assert_int_equal(stat(w->path, &after), 0);
    assert_int_equal(before.st_size, after.st_size);
    limit_memory((size_t)4 << 20); /* not even the smaller columns */
    heft_ledger_t ledger;
    int error = heft_ledger_attach(&ledger, w->path);
    unlimit_memory();
    assert_int_equal(error, ENOMEM);
    /* somebody else may try, and is read right */
    writer_attach(w);
    writer_start(w);
    heft_tree_count_alloc(&w->tree, w->thread, 4711);
    heft_reader_t reader;
    read_back(&reader, w->path);
    assert_int_equal(reader.live.bytes, 4711);
    assert_int_equal(reader.header.thread_n, 1);
    assert_int_equal(reader.header.flags, 0);
    heft_reader_close(&reader);
}

static void test_the_descriptor_is_out_of_the_way(void **state)
{
    writer_t *w = *state;
    struct rlimit before, limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    static const rlim_t limits[] = {64, 256, 1000, 1024, 4096};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        limit = before;
        limit.rlim_cur = limits[i] < before.rlim_max ? limits[i] : before.rlim_max;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        unlink(w->path);
        assert_int_equal(heft_ledger_create(w->path, "", 0, 0, 0), 0);
        int lowest = dup(0), next;
        close(lowest);
        writer_attach(w);
        next = dup(0); /* the program's next number is the one it would have had */
        close(next);
        assert_int_equal(next, lowest);
        assert_true(w->ledger.fd >= (int)limit.rlim_cur / 2 || w->ledger.fd >= 900);
        assert_true(w->ledger.fd < 1024); /* select() works with no higher ones, and tables stay small */
        assert_true(fcntl(w->ledger.fd, F_GETFD) & FD_CLOEXEC);
        heft_ledger_detach(&w->ledger);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

/* ---- growth -------------------------------------------------------------------------------------------------- */

/* The file's chunks as its table says: apart from each other, without gaps, each column doubling. */
static void check_chunks(const writer_t *w)
{
    size_t bytes, end = 2 * PAGE, column[HEFT_CHUNK_TIMELINE + 1] = {0};
    unsigned char *file = slurp(w->path, &bytes);
    heft_chunk_t chunk;
    for (uint32_t i = 0; i < HEFT_FORMAT_CHUNKS; i++) {
        memcpy(&chunk, file + PAGE + i * sizeof chunk, sizeof chunk);
        if (chunk.kind == 0)
            break;
        assert_true(chunk.kind <= HEFT_CHUNK_TIMELINE);
        assert_int_equal(chunk.off, end);
        assert_true(chunk.bytes > 0 && chunk.bytes % PAGE == 0);
        if (chunk.kind <= HEFT_COLUMN_THREAD && column[chunk.kind] != 0)
            assert_int_equal(chunk.bytes, column[chunk.kind]);
        column[chunk.kind] += chunk.bytes;
        end += chunk.bytes;
    }
    assert_int_equal(end, bytes);
    for (uint32_t kind = HEFT_COLUMN_NODE; kind <= HEFT_COLUMN_THREAD; kind++)
        assert_int_equal(column[kind], w->ledger.columns[kind].mapped);
    free(file);
}

/* Every byte of every column, written in place, is at its place in the file; and nothing has moved. */
static void test_columns_are_the_file(void **state)
{
    writer_t *w = *state;
    static const struct {
        size_t element;
        uint32_t n;
    } shapes[HEFT_COLUMN_THREAD + 1] = {
        [HEFT_COLUMN_NODE] = {sizeof(heft_node_t), 30000},
        [HEFT_COLUMN_DETAIL] = {sizeof(heft_detail_t), 30000},
        [HEFT_COLUMN_TEMP] = {sizeof(heft_temp_t), 9000},
        [HEFT_COLUMN_CODE] = {sizeof(heft_code_t), 20000},
        [HEFT_COLUMN_STRING] = {1, 1000000},
        [HEFT_COLUMN_THREAD] = {sizeof(heft_thread_t), 256},
    };
    writer_attach(w);
    char *bases[HEFT_COLUMN_THREAD + 1];
    for (int kind = HEFT_COLUMN_NODE; kind <= HEFT_COLUMN_THREAD; kind++)
        bases[kind] = w->ledger.columns[kind].base;
    /* all columns grow in turns, so that their chunks are mixed */
    for (uint32_t permille = 1; permille <= 1000; permille += 37) {
        for (int kind = HEFT_COLUMN_NODE; kind <= HEFT_COLUMN_THREAD; kind++) {
            uint32_t n = (uint32_t)((uint64_t)shapes[kind].n * permille / 1000) + (permille < 1000);
            errno = 77;
            assert_true(heft_ledger_reach(&w->ledger, (heft_chunk_kind_t)kind, n - 1, shapes[kind].element));
            assert_int_equal(errno, 77);
            assert_ptr_equal(w->ledger.columns[kind].base, bases[kind]);
        }
    }
    for (int kind = HEFT_COLUMN_NODE; kind <= HEFT_COLUMN_THREAD; kind++) {
        uint32_t *words = (uint32_t *)(void *)bases[kind];
        for (size_t i = 0; i < w->ledger.columns[kind].mapped / 4; i++) {
            assert_int_equal(words[i], 0);
            words[i] = (uint32_t)kind * 0x10000000u + (uint32_t)i;
        }
    }
    check_chunks(w);
    size_t bytes, done[HEFT_COLUMN_THREAD + 1] = {0};
    unsigned char *file = slurp(w->path, &bytes);
    for (uint32_t i = 0; i < w->ledger.chunk_n; i++) {
        heft_chunk_t chunk = w->ledger.chunks[i];
        if (chunk.kind > HEFT_COLUMN_THREAD)
            continue;
        for (size_t k = 0; k < chunk.bytes / 4; k++) {
            uint32_t word;
            memcpy(&word, file + chunk.off + 4 * k, sizeof word);
            if (word != chunk.kind * 0x10000000u + (uint32_t)(done[chunk.kind] + k))
                fail_msg("chunk %u, word %zu", i, k);
        }
        done[chunk.kind] += chunk.bytes / 4;
    }
    free(file);
}

/* Whoever looks at the file sees counts that cover finished elements only, after each single step. */
static void test_counts_are_published(void **state)
{
    writer_t *w = *state;
    heft_header_t header;
    writer_attach(w);
    writer_start(w);
    int fd = open(w->path, O_RDONLY | O_CLOEXEC);
    uint32_t last = 0;
    for (uint32_t i = 0; i < 3000; i++) {
        fill_tree(w, w->tree.node_n + 1);
        if (i % 10 == 0)
            heft_tree_add_temp(&w->tree, w->tree.node_n - 1);
        assert_int_equal(pread(fd, &header, sizeof header, 0), sizeof header);
        assert_int_equal(header.node_n, w->tree.node_n);
        assert_true(header.node_n > last);
        assert_int_equal(header.temp_n, 1 + i / 10 + 1);
        assert_int_equal(header.code_n, 2);
        assert_int_equal(header.thread_n, 1);
        assert_int_equal(header.flags, 0);
        last = header.node_n;
        if (i % 500 == 0) {
            heft_reader_t reader;
            read_back(&reader, w->path);
            assert_int_equal(reader.header.node_n, last);
            assert_false(reader.is_final);
            heft_reader_close(&reader);
        }
    }
    close(fd);
    check_chunks(w);
}

/* The chunk table is full, the disk is not: the tree is cut, and the source still has its entry. */
static void test_the_chunk_table_is_full(void **state)
{
    writer_t *w = *state;
    int fd = open(w->path, O_RDWR | O_CLOEXEC);
    for (uint32_t i = 0; i < 115; i++)
        assert_int_equal(heft_finish_add_source(fd, "early", 5), 0);
    writer_attach(w);
    writer_start(w);
    fill_tree(w, 200000);
    assert_int_equal(w->ledger.chunk_n, HEFT_FORMAT_CHUNKS - 2);
    assert_true(w->tree.node_n > 1000 && w->tree.node_n < 200000);
    assert_true(w->ledger.header->cut_events > 0);
    assert_int_equal(w->ledger.header->flags, 0);
    heft_ledger_seal(&w->ledger);
    heft_ledger_close(&w->ledger, 0);
    assert_int_equal(heft_finish_add_source(fd, "the source", 10), 0);
    assert_int_equal(heft_finish_add_source(fd, "another one", 11), E2BIG);
    heft_reader_t reader;
    read_back(&reader, w->path);
    assert_int_equal(reader.header.node_n, w->tree.node_n);
    assert_int_equal(reader.source_bytes, 10);
    heft_reader_close(&reader);
    close(fd);
}

/* ---- what programs do to their files ------------------------------------------------------------------------- */

/* Nodes with something to count; returns how many there are. */
static uint32_t grow(writer_t *w, uint32_t until)
{
    uint32_t before = w->tree.node_n;
    fill_tree(w, until);
    for (uint32_t i = before; i < w->tree.node_n; i++) {
        if (w->tree.details[i].kind != HEFT_NODE_ALIAS)
            heft_tree_count_alloc(&w->tree, i, 10 + i % 3);
    }
    return w->tree.node_n;
}

static void assert_complete(const writer_t *w, const char *path)
{
    heft_reader_t reader;
    read_back(&reader, path);
    assert_int_equal(reader.header.node_n, w->tree.node_n);
    assert_int_equal(reader.live.bytes, w->tree.live_bytes);
    heft_reader_close(&reader);
    assert_true(heft_tree_check(&w->tree));
}

static void test_it_closes_everything(void **state)
{
    writer_t *w = *state;
    writer_attach(w);
    writer_start(w);
    for (uint32_t round = 1; round <= 5; round++) {
        close(w->ledger.fd);
        assert_int_equal(grow(w, round * 3000), round * 3000);
    }
    assert_true(w->ledger.fd > 500); /* opened again, and moved away again */
    assert_int_equal(w->ledger.header->flags, 0);
    assert_complete(w, w->path);
}

/* The number that was ours is another file's, at each growth again. */
static void test_it_uses_our_number_for_another_file(void **state)
{
    writer_t *w = *state;
    char other[160];
    size_t bytes;
    writer_attach(w);
    writer_start(w);
    write_file(w, "precious", "precious", 8);
    beside(w, "precious", other);
    int fd = open(other, O_RDWR | O_CLOEXEC);
    for (uint32_t round = 1; round <= 5; round++) {
        assert_int_equal(dup2(fd, w->ledger.fd), w->ledger.fd);
        assert_int_equal(grow(w, round * 4000), round * 4000);
    }
    unsigned char *data = slurp(other, &bytes);
    assert_int_equal(bytes, 8);
    assert_memory_equal(data, "precious", 8);
    free(data);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
    assert_int_equal(w->ledger.header->flags, 0);
    close(fd);
    for (int i = 500; i < 1024; i++) { /* those that we left to it */
        struct stat st, ours;
        assert_int_equal(stat(other, &ours), 0);
        if (i != w->ledger.fd && fstat(i, &st) == 0 && st.st_ino == ours.st_ino)
            close(i);
    }
    assert_complete(w, w->path);
}

static void test_it_moves_the_file(void **state)
{
    writer_t *w = *state;
    char other[160];
    writer_attach(w);
    writer_start(w);
    beside(w, "moved", other);
    assert_int_equal(rename(w->path, other), 0);
    assert_int_equal(grow(w, 5000), 5000); /* by the descriptor */
    assert_int_equal(w->ledger.header->flags, 0);
    assert_complete(w, other);
    close(w->ledger.fd);
    uint32_t n = grow(w, 100000);
    assert_true(n < 100000);
    assert_int_equal(w->ledger.header->flags, HEFT_FLAG_FILE_GONE);
    assert_complete(w, other); /* what is mapped is in the file, wherever that is */
    w->ledger.columns[HEFT_COLUMN_TEMP].refusals = 0;
    errno = 77; /* whoever asked for memory must not see ours */
    assert_false(heft_ledger_reach(&w->ledger, HEFT_COLUMN_TEMP, 10000, sizeof(heft_temp_t)));
    assert_int_equal(errno, 77);
    int64_t live = w->tree.live_bytes;
    assert_int_equal(rename(other, w->path), 0);
    uint32_t tries = 0;
    while (grow(w, n + 1) == n && tries++ < 10000)
        ;
    assert_true(w->tree.node_n > n); /* it is there again */
    assert_true(w->tree.live_bytes > live);
    assert_complete(w, w->path);
}

static void test_it_deletes_the_file(void **state)
{
    writer_t *w = *state;
    char other[160];
    writer_attach(w);
    writer_start(w);
    beside(w, "kept", other);
    assert_int_equal(link(w->path, other), 0); /* so that we can look at it afterwards */
    assert_int_equal(unlink(w->path), 0);
    assert_int_equal(grow(w, 5000), 5000);
    assert_int_equal(w->ledger.header->flags, 0);
    /* and our number is another's, and there is another file of our name */
    write_file(w, "a.heft", "something else", 14);
    int fd = open(w->path, O_RDWR | O_CLOEXEC);
    assert_int_equal(dup2(fd, w->ledger.fd), w->ledger.fd);
    int number = w->ledger.fd;
    uint32_t n = grow(w, 100000);
    assert_true(n < 100000);
    assert_int_equal(w->ledger.header->flags, HEFT_FLAG_FILE_GONE);
    assert_true(w->ledger.header->cut_events > 0);
    int64_t before = w->tree.live_bytes;
    heft_code_info_t info = code_info(0x1000, 1, "f");
    uint32_t code = heft_tree_add_code(&w->tree, &info), node = plain_child(&w->tree, w->thread, code, 0x1000, 10);
    assert_int_equal(node, w->thread); /* charged to an ancestor, not lost */
    heft_tree_count_alloc(&w->tree, node, 10);
    assert_int_equal(w->tree.live_bytes, before + 10);
    assert_complete(w, other);
    size_t bytes;
    unsigned char *data = slurp(w->path, &bytes);
    assert_int_equal(bytes, 14);
    assert_memory_equal(data, "something else", 14);
    free(data);
    close(fd);
    close(number);
    heft_ledger_seal(&w->ledger);
    heft_ledger_close(&w->ledger, 0);
    heft_reader_t reader;
    read_back(&reader, other);
    assert_true(reader.is_final);
    assert_true(reader.header.flags & HEFT_FLAG_FILE_GONE);
    heft_reader_close(&reader);
}

/* ---- a full disk --------------------------------------------------------------------------------------------- */

static void test_growth_is_refused(void **state)
{
    writer_t *w = *state;
    writer_attach(w);
    writer_start(w);
    assert_int_equal(grow(w, 900), 900);
    limit_file_size(w->ledger.file_bytes + 40 * PAGE); /* one column more can double, the other one not */
    uint32_t n = grow(w, 100000);
    assert_true(n < 100000);
    assert_int_equal(w->ledger.header->flags, HEFT_FLAG_DISK_FULL);
    assert_true(w->ledger.header->cut_events > 0);
    for (uint32_t i = 0; i < 5000; i++)
        heft_tree_count_alloc(&w->tree, w->thread, 3);
    assert_complete(w, w->path);
    check_chunks(w);
    limit_file_size((uint64_t)RLIM_INFINITY);
    uint32_t tries = 0;
    while (grow(w, n + 1) == n && tries++ < 10000)
        ;
    assert_true(w->tree.node_n > n);
    assert_int_equal(grow(w, 20000), 20000);
    heft_ledger_seal(&w->ledger);
    assert_complete(w, w->path);
    check_chunks(w);
}

static void test_a_full_disk(void **state)
{
    writer_t *w = *state;
    char inside[160], mount_point[160];
    beside(w, "small", mount_point);
    beside(w, "small/a.heft", inside);
    mkdir(mount_point, 0700);
    if (mount("tmpfs", mount_point, "tmpfs", 0, "size=2m") != 0) {
        print_message("not run: mounting a small disk needs root (%s)\n", strerror(errno));
        rmdir(mount_point);
        skip();
    }
    char kept[160];
    snprintf(kept, sizeof kept, "%s", w->path);
    snprintf(w->path, sizeof w->path, "%s", inside);
    assert_int_equal(heft_ledger_create(w->path, "", 0, 0, 0), 0);
    writer_attach(w);
    writer_start(w);
    uint32_t n = grow(w, 1000000);
    assert_true(n > 1000 && n < 1000000);
    assert_true(w->ledger.header->flags & HEFT_FLAG_DISK_FULL);
    for (uint32_t i = 1; i < n; i++) { /* every mapped byte has its place on the disk: no SIGBUS */
        if (w->tree.details[i].kind != HEFT_NODE_ALIAS)
            heft_tree_count_alloc(&w->tree, i, 1);
    }
    for (int kind = HEFT_COLUMN_NODE; kind <= HEFT_COLUMN_THREAD; kind++) {
        char *last = w->ledger.columns[kind].base + w->ledger.columns[kind].mapped - 1;
        *(volatile char *)last = *(volatile char *)last;
    }
    heft_ledger_seal(&w->ledger);
    assert_complete(w, w->path);
    beside(w, "small/b.heft", inside);
    char *big = calloc(1, 4u << 20);
    assert_int_equal(heft_ledger_create(inside, big, 4u << 20, 0, 0), ENOSPC);
    assert_int_equal(access(inside, F_OK), -1); /* no half file */
    free(big);
    heft_tree_done(&w->tree);
    heft_ledger_detach(&w->ledger);
    assert_int_equal(umount(mount_point), 0);
    rmdir(mount_point);
    snprintf(w->path, sizeof w->path, "%s", kept);
}

/* ---- the end ------------------------------------------------------------------------------------------------- */

static void test_seal(void **state)
{
    writer_t *w = *state;
    size_t bytes;
    heft_reader_t reader;
    heft_err_t err = {0};
    writer_attach(w);
    writer_start(w);
    assert_int_equal(grow(w, 9000), 9000);
    heft_ledger_seal(&w->ledger);
    assert_int_equal(w->ledger.header->state, HEFT_STATE_SEALED);
    heft_ledger_close(&w->ledger, 3);
    read_back(&reader, w->path);
    assert_true(reader.is_final);
    assert_int_equal(reader.header.state, HEFT_STATE_CLOSED);
    assert_int_equal(reader.header.exit_status, 3);
    heft_reader_close(&reader);
    assert_complete(w, w->path);
    /* each checksum is of what counts in its chunk, and of no more */
    unsigned char *file = slurp(w->path, &bytes);
    size_t done[HEFT_COLUMN_THREAD + 1] = {0};
    for (uint32_t i = 0; i < w->ledger.chunk_n; i++) {
        const heft_chunk_t *c = &w->ledger.chunks[i];
        uint64_t used = c->used;
        if (c->kind <= HEFT_COLUMN_THREAD) {
            uint64_t whole = heft_ledger_column_bytes(w->ledger.header, c->kind), at = done[c->kind];
            used = whole <= at ? 0 : whole - at < c->bytes ? whole - at : c->bytes;
            done[c->kind] += c->bytes;
        }
        assert_int_equal(c->crc, heft_crc32c(0, file + c->off, used));
        if (used < c->bytes) {
            file[c->off + used] ^= 1;
            assert_int_equal(heft_reader_open_bytes(&reader, file, bytes, &err), HEFT_OK);
            heft_reader_close(&reader);
        }
        if (used > 0) {
            file[c->off + used - 1] ^= 0x10;
            assert_int_equal(heft_reader_open_bytes(&reader, file, bytes, &err), HEFT_ERR_CORRUPT);
            assert_int_equal(err.off, c->off);
            file[c->off + used - 1] ^= 0x10;
        }
    }
    free(file);
}

/* What a sealed recording says of its timeline is checked; of another one, nonsense is no timeline. */
static void test_timelines_that_cannot_be(void **state)
{
    writer_t *w = *state;
    heft_reader_t reader;
    heft_err_t err = {0};
    writer_attach(w);
    writer_start(w);
    heft_timeline_add(w->ledger.timeline, 3000000, 10, 20);
    read_back(&reader, w->path);
    assert_int_equal(reader.timeline->point_n, 4);
    assert_int_equal(reader.timeline->points[3].live_bytes, 10);
    heft_reader_close(&reader);
    heft_timeline_t good = *w->ledger.timeline, bad[3] = {good, good, good};
    bad[0].point_n = HEFT_TIMELINE_POINTS + 1;
    bad[1].interval_ns = 0;
    bad[2].interval_ns = UINT64_MAX / HEFT_TIMELINE_POINTS;
    for (uint32_t i = 0; i < 3; i++) {
        *w->ledger.timeline = bad[i];
        read_back(&reader, w->path);
        assert_null(reader.timeline);
        heft_reader_close(&reader);
    }
    for (uint32_t i = 0; i < 3; i++) {
        *w->ledger.timeline = bad[i];
        heft_ledger_seal(&w->ledger);
        assert_int_equal(heft_reader_open(&reader, w->path, &err), HEFT_ERR_CORRUPT);
    }
    *w->ledger.timeline = good;
    heft_ledger_seal(&w->ledger);
    read_back(&reader, w->path);
    assert_memory_equal(reader.timeline, &good, sizeof good);
    heft_reader_close(&reader);
}

static void *wait_for_close(void *arg)
{
    heft_header_t *header = arg;
    uint32_t state;
    while ((state = __atomic_load_n(&header->state, __ATOMIC_ACQUIRE)) != HEFT_STATE_CLOSED)
        syscall(SYS_futex, &header->state, FUTEX_WAIT, state, NULL, NULL, 0);
    return (void *)(intptr_t)header->exit_status;
}

/* The watcher sleeps on the state; its exit status is there when it wakes. */
static void test_the_end_wakes_who_waits(void **state)
{
    writer_t *w = *state;
    pthread_t thread;
    void *result;
    writer_attach(w);
    writer_start(w);
    assert_int_equal(pthread_create(&thread, NULL, wait_for_close, w->ledger.header), 0);
    usleep(1000);
    heft_ledger_seal(&w->ledger);
    usleep(1000);
    heft_ledger_close(&w->ledger, 77);
    pthread_join(thread, &result);
    assert_int_equal((intptr_t)result, 77);
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH(test_what_create_writes),
        WITH(test_create_says_what_is_wrong),
        WITH(test_a_folder_that_may_not_be_written),
        WITH(test_only_one_records),
        WITH(test_attach_says_what_is_wrong),
        WITH(test_an_attempt_that_fails_leaves_nothing),
        WITH(test_the_descriptor_is_out_of_the_way),
        WITH(test_columns_are_the_file),
        WITH(test_counts_are_published),
        WITH(test_the_chunk_table_is_full),
        WITH(test_it_closes_everything),
        WITH(test_it_uses_our_number_for_another_file),
        WITH(test_it_moves_the_file),
        WITH(test_it_deletes_the_file),
        WITH(test_growth_is_refused),
        WITH(test_a_full_disk),
        WITH(test_seal),
        WITH(test_timelines_that_cannot_be),
        WITH(test_the_end_wakes_who_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
