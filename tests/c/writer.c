/* SPDX-License-Identifier: MIT */
/* Recordings that are being made, see writer.h. */
#define _GNU_SOURCE
#include "writer.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

bool is_exhaustive(void)
{
    const char *value = getenv("MEMHEFT_TEST_EXHAUSTIVE");
    return value != NULL && strcmp(value, "1") == 0;
}

void writer_init_folder(writer_t *writer, bool on_disk)
{
    *writer = (writer_t){.ledger = {.fd = -1}};
    bool in_memory = !on_disk && access("/dev/shm", W_OK) == 0;
    snprintf(writer->folder, sizeof writer->folder, "%s/heft-test-XXXXXX", in_memory ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(writer->folder));
    snprintf(writer->path, sizeof writer->path, "%s/a.heft", writer->folder);
}

void writer_attach(writer_t *writer)
{
    assert_int_equal(heft_ledger_attach(&writer->ledger, writer->path), 0);
}

void writer_start(writer_t *writer)
{
    assert_true(heft_tree_init(&writer->tree, &writer->ledger));
    writer->ledger.header->state = HEFT_STATE_RUNNING;
    writer->thread = heft_tree_thread(&writer->tree, 4711, HEFT_THREAD_MAIN);
    assert_int_not_equal(writer->thread, 0);
}

void writer_init_ledger(writer_t *writer, bool small)
{
    struct rlimit before, limit;
    writer_init_folder(writer, false);
    assert_int_equal(heft_ledger_create(writer->path, "{}", 2, 0, 0), 0);
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    limit = before;
    if (small && limit.rlim_cur == RLIM_INFINITY)
        limit.rlim_cur = (rlim_t)1 << 47; /* any number will do */
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    writer_attach(writer);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
}

void writer_init(writer_t *writer)
{
    writer_init_ledger(writer, false);
    writer_start(writer);
}

void writer_init_small(writer_t *writer)
{
    writer_init_ledger(writer, true);
    writer_start(writer);
}

void writer_done(writer_t *writer)
{
    if (writer->tree.nodes != NULL)
        heft_tree_done(&writer->tree);
    heft_ledger_detach(&writer->ledger);
    DIR *dir = opendir(writer->folder);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_type != DT_DIR)
            unlinkat(dirfd(dir), entry->d_name, 0);
    }
    closedir(dir);
    assert_int_equal(rmdir(writer->folder), 0);
}

void read_back(heft_reader_t *reader, const char *path)
{
    heft_err_t err = {0};
    if (heft_reader_open(reader, path, &err) != HEFT_OK)
        fail_msg("%s: %s at %lld", heft_status_name(err.code), err.text, (long long)err.off);
}

void limit_file_size(uint64_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes == (uint64_t)RLIM_INFINITY ? limit.rlim_max : (rlim_t)bytes;
    signal(SIGXFSZ, SIG_IGN); /* as in every Python process */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static struct rlimit memory_before;

void limit_memory(size_t more)
{
    char text[64] = "";
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC); /* no stdio: it would allocate */
    assert_true(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
    close(fd);
    assert_int_equal(getrlimit(RLIMIT_AS, &memory_before), 0);
    struct rlimit limit = memory_before;
    limit.rlim_cur = strtoull(text, NULL, 10) * (rlim_t)sysconf(_SC_PAGESIZE) + more;
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
}

void unlimit_memory(void)
{
    assert_int_equal(setrlimit(RLIMIT_AS, &memory_before), 0);
}

unsigned char *slurp(const char *path, size_t *bytes)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    unsigned char *data = malloc((size_t)st.st_size + 1);
    assert_non_null(data);
    *bytes = 0;
    for (ssize_t n; (n = read(fd, data + *bytes, (size_t)st.st_size - *bytes)) > 0;)
        *bytes += (size_t)n;
    assert_int_equal(*bytes, st.st_size);
    close(fd);
    return data;
}

heft_str_t str(const char *text)
{
    return (heft_str_t){text, strlen(text)};
}

heft_code_info_t code_info(uint64_t address, uint64_t key, const char *name)
{
    return (heft_code_info_t){.address = address,
                              .base = base_of(address),
                              .end = base_of(address) + CODE_BYTES,
                              .key = key,
                              .file = str("app.py"),
                              .name = str(name),
                              .first_line = 1};
}

uint32_t child(heft_tree_t *tree, uint32_t parent, uint64_t address, const heft_frame_info_t *frame,
               const char *imported)
{
    uint64_t ip = ip_of(address, frame->instr);
    uint32_t import_switch = 0, node = heft_tree_find(tree, parent, ip);
    if (node != 0)
        return node;
    node = heft_tree_probe(tree, parent, ip, &import_switch);
    if (import_switch != 0)
        return heft_tree_import(tree, import_switch, str(imported));
    if (node == 0 && heft_tree_is_machinery(tree, ip))
        node = parent;
    if (node == 0) {
        node = heft_tree_insert(tree, parent, ip, frame);
        if (frame->import_switch && tree->details[node].kind == HEFT_NODE_ALIAS)
            return heft_tree_import(tree, node, str(imported));
        return node;
    }
    heft_tree_remember(tree, parent, ip, node);
    return node;
}

uint32_t plain_child(heft_tree_t *tree, uint32_t parent, uint32_t code, uint64_t address, uint32_t instr)
{
    heft_frame_info_t frame = {.code = code, .instr = instr, .line = 1 + instr / 2, .column = 3};
    return child(tree, parent, address, &frame, "");
}

#define FILLER_NAMES 4096u /* few, so that their strings need no room */

void fill_tree(writer_t *writer, uint32_t node_n)
{
    heft_tree_t *tree = &writer->tree;
    uint32_t code = heft_tree_find_code(tree, FILLER_ADDRESS), before = 0;
    if (code == 0) {
        heft_code_info_t info = code_info(FILLER_ADDRESS, 0xF111, "_find_and_load");
        code = heft_tree_add_code(tree, &info);
    }
    heft_frame_info_t frame = {.code = code, .machinery = true, .import_switch = true};
    if (writer->filler_parent == 0)
        writer->filler_parent = writer->thread;
    while (tree->node_n < node_n && tree->node_n != before) {
        char name[16];
        before = tree->node_n;
        snprintf(name, sizeof name, "%u", writer->filler_name);
        uint32_t node = child(tree, writer->filler_parent, FILLER_ADDRESS, &frame, name);
        writer->filler_name += tree->node_n != before;
        if (writer->filler_name == FILLER_NAMES) {
            writer->filler_parent = node;
            writer->filler_name = 0;
        }
    }
}
