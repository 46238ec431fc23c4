/* SPDX-License-Identifier: MIT */
/* The recording's file under a program that deletes, fills, closes and reuses what it likes; and its finishing from
 * outside. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ledger/finish.h"
#include "ledger/ledger.h"
#include "ledger/reader.h"
#include "ledger/strings.h"
#include "ledger/tree.h"

static char folder[] = "/tmp/heft-ledger-XXXXXX";
static char path[128];

static int set_up(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "%s/a.heft", folder);
    unlink(path);
    assert_int_equal(heft_ledger_create(path, "{\"a\": 1}", 8, 0), 0);
    return 0;
}

/* Nodes until `until` of them exist or no more fit; all of them distinct paths.  Returns how many there are. */
static uint32_t grow_tree(heft_tree_t *tree, uint32_t until)
{
    uint32_t code = heft_tree_find_code(tree, 0x1000);
    if (code == 0) {
        heft_code_info_t info = {.address = 0x1000,
                                 .base = 0x1080,
                                 .end = 0x1000000,
                                 .key = 1,
                                 .file = {"a.py", 4},
                                 .name = {"f", 1},
                                 .first_line = 1};
        code = heft_tree_add_code(tree, &info);
    }
    while (tree->node_n < until) {
        heft_frame_info_t info = {.code = code, .instr = 2 * tree->node_n, .line = tree->node_n};
        uint32_t before = tree->node_n;
        heft_tree_count_alloc(tree, heft_tree_insert(tree, HEFT_TREE_ROOT, 0x1080 + 2 * tree->node_n, &info), 10);
        if (tree->node_n == before)
            break;
    }
    return tree->node_n;
}

static heft_status_t read_back(heft_reader_t *reader)
{
    heft_err_t err = {0};
    heft_status_t status = heft_reader_open(reader, path, &err);
    if (status != HEFT_OK)
        print_message("%s: %s\n", heft_status_name(status), err.text);
    return status;
}

static void test_creation_says_what_is_wrong(void **state)
{
    (void)state;
    char other[256];
    assert_int_equal(heft_ledger_create(path, "", 0, 0), EEXIST);
    snprintf(other, sizeof other, "%s/missing/b.heft", folder);
    assert_int_equal(heft_ledger_create(other, "", 0, 0), ENOENT);
    heft_ledger_t one, two;
    assert_int_equal(heft_ledger_attach(&one, path), 0);
    one.header->state = HEFT_STATE_RUNNING;
    assert_int_equal(heft_ledger_attach(&two, path), EINVAL); /* somebody records there */
    heft_ledger_detach(&one);
    snprintf(other, sizeof other, "%s/foreign", folder);
    int fd = open(other, O_RDWR | O_CREAT, 0600);
    assert_int_equal(ftruncate(fd, 3 * 4096), 0);
    assert_int_equal(heft_ledger_attach(&two, other), EINVAL);
    assert_int_equal(ftruncate(fd, 5), 0);
    assert_int_equal(heft_ledger_attach(&two, other), EINVAL);
    close(fd);
    unlink(other);
}

static void test_growth_and_seal(void **state)
{
    (void)state;
    heft_ledger_t ledger;
    heft_tree_t tree;
    heft_reader_t reader;
    assert_int_equal(heft_ledger_attach(&ledger, path), 0);
    assert_true(ledger.fd > 2);
    assert_true(heft_tree_init(&tree, &ledger));
    ledger.header->state = HEFT_STATE_RUNNING;
    heft_node_t *first = &tree.nodes[1];
    assert_int_equal(grow_tree(&tree, 30000), 30000);
    assert_ptr_equal(first, &tree.nodes[1]); /* nothing moves */
    assert_int_equal(read_back(&reader), HEFT_OK);
    assert_int_equal(reader.live.bytes, tree.live_bytes);
    heft_reader_close(&reader);
    heft_ledger_seal(&ledger);
    heft_ledger_close(&ledger, 3);
    assert_int_equal(read_back(&reader), HEFT_OK);
    assert_int_equal(reader.header.state, HEFT_STATE_CLOSED);
    assert_int_equal(reader.header.exit_status, 3);
    assert_int_equal(reader.header.node_n, 30000);
    heft_reader_close(&reader);
    heft_tree_done(&tree);
    heft_ledger_detach(&ledger);
}

static void test_a_descriptor_that_the_program_closed(void **state)
{
    (void)state;
    heft_ledger_t ledger;
    heft_tree_t tree;
    char other[256];
    assert_int_equal(heft_ledger_attach(&ledger, path), 0);
    assert_true(heft_tree_init(&tree, &ledger));
    snprintf(other, sizeof other, "%s/precious", folder);
    int fd = open(other, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(fd, "precious", 8), 8);
    assert_int_equal(dup2(fd, ledger.fd), ledger.fd); /* closes ours: the number is another file's now */
    assert_int_equal(grow_tree(&tree, 20000), 20000);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 8);
    assert_int_equal(ledger.header->flags, 0);
    close(fd);
    unlink(other);
    heft_tree_done(&tree);
    heft_ledger_detach(&ledger);
}

static void test_a_file_that_is_gone(void **state)
{
    (void)state;
    heft_ledger_t ledger;
    heft_tree_t tree;
    assert_int_equal(heft_ledger_attach(&ledger, path), 0);
    assert_true(heft_tree_init(&tree, &ledger));
    unlink(path);
    assert_int_equal(grow_tree(&tree, 5000), 5000); /* by the open descriptor */
    close(ledger.fd);
    uint32_t n = grow_tree(&tree, 100000);
    assert_true(n < 100000);
    assert_true(ledger.header->flags & HEFT_FLAG_FILE_GONE);
    assert_true(ledger.header->cut_events > 0);
    int64_t before = tree.live_bytes;
    grow_tree(&tree, 100000);
    assert_int_equal(tree.live_bytes, before + 10); /* charged to an ancestor, not lost */
    assert_true(heft_tree_check(&tree));
    heft_tree_done(&tree);
    heft_ledger_detach(&ledger);
}

static void test_a_full_disk(void **state)
{
    (void)state;
    char mount_point[160], inside[200];
    snprintf(mount_point, sizeof mount_point, "%s/small", folder);
    mkdir(mount_point, 0700);
    if (mount("tmpfs", mount_point, "tmpfs", 0, "size=2m") != 0) {
        print_message("not run: mounting a small disk needs root (%s)\n", strerror(errno));
        skip();
    }
    snprintf(inside, sizeof inside, "%s/a.heft", mount_point);
    heft_ledger_t ledger;
    heft_tree_t tree;
    assert_int_equal(heft_ledger_create(inside, "", 0, 0), 0);
    assert_int_equal(heft_ledger_attach(&ledger, inside), 0);
    assert_true(heft_tree_init(&tree, &ledger));
    ledger.header->state = HEFT_STATE_RUNNING;
    uint32_t n = grow_tree(&tree, 1000000);
    assert_true(n > 1000 && n < 1000000);
    assert_true(ledger.header->flags & HEFT_FLAG_DISK_FULL);
    for (uint32_t i = 1; i < n; i++) /* every mapped byte has its place on the disk: no SIGBUS */
        heft_tree_count_alloc(&tree, i, 1);
    assert_true(heft_tree_check(&tree));
    heft_ledger_seal(&ledger);
    heft_reader_t reader;
    heft_err_t err;
    assert_int_equal(heft_reader_open(&reader, inside, &err), HEFT_OK);
    assert_int_equal(reader.live.bytes, tree.live_bytes);
    heft_reader_close(&reader);
    snprintf(inside, sizeof inside, "%s/b.heft", mount_point);
    char *big = calloc(1, 4u << 20);
    assert_int_equal(heft_ledger_create(inside, big, 4u << 20, 0), ENOSPC);
    assert_int_equal(access(inside, F_OK), -1); /* no half file */
    free(big);
    heft_tree_done(&tree);
    heft_ledger_detach(&ledger);
    umount2(mount_point, MNT_DETACH);
    rmdir(mount_point);
}

static void test_finishing_from_outside(void **state)
{
    (void)state;
    heft_ledger_t ledger;
    heft_tree_t tree;
    heft_reader_t reader;
    assert_int_equal(heft_ledger_attach(&ledger, path), 0);
    assert_true(heft_tree_init(&tree, &ledger));
    ledger.header->state = HEFT_STATE_RUNNING;
    grow_tree(&tree, 9000);
    int fd = open(path, O_RDWR);
    assert_int_equal(heft_finish_exit(fd, -9), 0); /* killed: its counters are right, but nobody closed it */
    assert_int_equal(read_back(&reader), HEFT_OK);
    assert_int_equal(reader.header.state, HEFT_STATE_RUNNING);
    assert_int_equal(reader.header.exit_status, -9);
    heft_reader_close(&reader);
    assert_int_equal(heft_finish_exit(fd, 7), 0); /* _exit(7) */
    assert_int_equal(heft_finish_add_source(fd, "first", 5), 0);
    assert_int_equal(heft_finish_add_source(fd, "second one", 10), 0);
    assert_int_equal(read_back(&reader), HEFT_OK);
    assert_int_equal(reader.header.state, HEFT_STATE_CLOSED);
    assert_int_equal(reader.header.exit_status, 7);
    assert_int_equal(reader.source_bytes, 10);
    assert_memory_equal(reader.source, "second one", 10);
    assert_int_equal(reader.meta_bytes, 8);
    heft_reader_close(&reader);
    int error = 0;
    for (uint32_t i = 0; i < HEFT_FORMAT_CHUNKS && error == 0; i++)
        error = heft_finish_add_source(fd, "x", 1);
    assert_int_equal(error, E2BIG);
    assert_int_equal(read_back(&reader), HEFT_OK);
    heft_reader_close(&reader);
    close(fd);
    heft_tree_done(&tree);
    heft_ledger_detach(&ledger);
}

static void test_strings(void **state)
{
    (void)state;
    heft_ledger_t ledger;
    heft_strings_t strings;
    char text[HEFT_STRING_MAX + 100];
    uint32_t refs[3000];
    assert_int_equal(heft_ledger_attach(&ledger, path), 0);
    assert_true(heft_strings_init(&strings, &ledger));
    assert_int_equal(heft_strings_put(&strings, (heft_str_t){"", 0}), 0);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3000; i++) {
            size_t n = (size_t)snprintf(text, sizeof text, "/a/file/number/%d.py", i);
            uint32_t ref = heft_strings_put(&strings, (heft_str_t){text, n});
            assert_int_not_equal(ref, 0);
            if (round == 0)
                refs[i] = ref;
            assert_int_equal(ref, refs[i]);
        }
    }
    memset(text, 'a', sizeof text);
    memcpy(text + HEFT_STRING_MAX - 1, "\xC3\xA9", 2); /* a character across the limit goes as a whole */
    uint32_t ref = heft_strings_put(&strings, (heft_str_t){text, sizeof text}), bytes;
    memcpy(&bytes, heft_ledger_strings(&ledger) + ref, sizeof bytes);
    assert_int_equal(bytes, HEFT_STRING_MAX - 1);
    heft_strings_done(&strings);
    heft_ledger_detach(&ledger);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_creation_says_what_is_wrong, set_up),
        cmocka_unit_test_setup(test_growth_and_seal, set_up),
        cmocka_unit_test_setup(test_a_descriptor_that_the_program_closed, set_up),
        cmocka_unit_test_setup(test_a_file_that_is_gone, set_up),
        cmocka_unit_test(test_a_full_disk),
        cmocka_unit_test_setup(test_finishing_from_outside, set_up),
        cmocka_unit_test_setup(test_strings, set_up),
    };
    if (mkdtemp(folder) == NULL)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    rmdir(folder);
    return failed;
}
