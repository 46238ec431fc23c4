/* SPDX-License-Identifier: MIT */
/* engine/ledger/reader.c and reader_check.c: what is read, the peak against brute force, and every kind of damage. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "build_recording.h"
#include "ledger/reader.h"

#define PAGE HEFT_FORMAT_PAGE

/* ---- helpers ------------------------------------------------------------------------------------------------- */

/* The columns of recording_write with pages = 1 and few elements: one page each, behind META. */
enum { AT_META = 2, AT_NODES, AT_DETAILS, AT_TEMPS, AT_CODES, AT_STRINGS, AT_THREADS, AT_SOURCE };

static void small(recording_t *r)
{
    recording_init(r);
    r->source = "x\x9c not really zlib";
    uint32_t thread = recording_thread(r, "MainThread");
    uint32_t main_code = recording_code(r, "app.py", "<module>", "__main__", 0);
    uint32_t lib_code = recording_code(r, "lib.py", "load", "lib", 0);
    uint32_t line = recording_frame(r, thread, main_code, 3);
    uint32_t call = recording_frame(r, line, lib_code, 40);
    uint32_t import = recording_node(r, HEFT_NODE_IMPORT, line, recording_string(r, "lib"), 0);
    uint32_t alias = recording_node(r, HEFT_NODE_ALIAS, call, 0, 0);
    r->nodes[alias].allocated_blocks = HEFT_NODE_ALIAS_MARK;
    r->nodes[alias].epoch = line;
    r->details[line].flags |= HEFT_DETAIL_RECURSIVE;
    recording_alloc(r, line, 1000, 10);
    recording_free(r, line, 400, 4);
    recording_alloc(r, call, 70, 7);
    recording_alloc(r, import, 5, 1);
    r->details[call].temporary_bytes = 20;
    r->details[call].temporary_blocks = 2;
    *recording_temp(r, call) = (heft_temp_t){.bytes = {10, 5}, .blocks = {1, 1}};
}

static heft_status_t open_state(const recording_t *r, heft_state_t state, heft_reader_t *reader, heft_err_t *err)
{
    size_t bytes;
    unsigned char *data = recording_write(r, state, &bytes);
    heft_status_t status = heft_reader_open_bytes(reader, data, bytes, err);
    free(data);
    return status;
}

/* The recording must be refused; returns the error. */
static heft_err_t refuse(const recording_t *r, heft_state_t state, heft_status_t expected)
{
    heft_reader_t reader;
    heft_err_t err = {0};
    assert_int_equal(open_state(r, state, &reader, &err), expected);
    assert_int_equal(err.code, expected);
    assert_non_null(err.text);
    assert_null(reader.nodes);
    return err;
}

static heft_err_t refuse_bytes(const unsigned char *data, size_t bytes, heft_status_t expected)
{
    heft_reader_t reader;
    heft_err_t err = {0};
    assert_int_equal(heft_reader_open_bytes(&reader, data, bytes, &err), expected);
    assert_int_equal(err.code, expected);
    assert_null(reader.meta);
    return err;
}

static bool same_text(heft_text_t text, const char *expected)
{
    return text.len == strlen(expected) && memcmp(text.ptr, expected, text.len) == 0;
}

static void same_amount(heft_amount_t amount, uint64_t bytes, uint64_t blocks)
{
    assert_int_equal(amount.bytes, bytes);
    assert_int_equal(amount.blocks, blocks);
}

/* ---- sound recordings ---------------------------------------------------------------------------------------- */

static void check_small(const heft_reader_t *r)
{
    assert_int_equal(r->header.node_n, 7);
    assert_int_equal(r->recursive_n, 1);
    same_amount(r->total, 1075, 18);
    same_amount(r->live, 675, 14);
    same_amount(r->temporary, 20, 2);
    same_amount(heft_reader_amount(r, 3, HEFT_MOMENT_TOTAL, 0), 1000, 10);
    same_amount(heft_reader_amount(r, 3, HEFT_MOMENT_LIVE, 0), 600, 6);
    same_amount(heft_reader_amount(r, 4, HEFT_MOMENT_TEMPORARY, 2), 35, 4);
    same_amount(heft_reader_amount(r, 3, HEFT_MOMENT_TEMPORARY, 0), 0, 0);
    same_amount(heft_reader_amount(r, 6, HEFT_MOMENT_TOTAL, 0), 0, 0); /* the alias */
    assert_true(same_text(heft_reader_string(r, r->codes[1].file), "app.py"));
    assert_true(same_text(heft_reader_string(r, r->codes[2].name), "load"));
    assert_true(same_text(heft_reader_string(r, r->threads[0].name), "MainThread"));
    assert_true(same_text(heft_reader_string(r, 0), ""));
    assert_int_equal(r->meta_bytes, strlen("{\"command\": [\"app.py\"]}"));
    assert_memory_equal(r->meta, "{\"command\"", 10);
}

static void test_small(void **state)
{
    (void)state;
    recording_t r;
    heft_reader_t reader;
    small(&r);
    for (heft_state_t s = HEFT_STATE_RUNNING; s <= HEFT_STATE_CLOSED; s++) {
        assert_int_equal(open_state(&r, s, &reader, NULL), HEFT_OK);
        check_small(&reader);
        assert_int_equal(reader.is_final, s >= HEFT_STATE_SEALED);
        assert_memory_equal(reader.source, r.source, reader.source_bytes);
        heft_reader_close(&reader);
        heft_reader_close(&reader);
    }
    recording_done(&r);
}

static void test_nothing_recorded(void **state)
{
    (void)state;
    recording_t r;
    heft_reader_t reader;
    recording_init(&r);
    for (uint32_t n = 0; n <= 2; n++) { /* as created, as attached, with a root */
        r.header.node_n = n;
        r.header.temp_n = r.header.code_n = n > 0;
        r.header.string_bytes = n > 0 ? 4 : 0;
        assert_int_equal(open_state(&r, HEFT_STATE_CREATED, &reader, NULL), HEFT_OK);
        same_amount(reader.peak, 0, 0);
        same_amount(reader.total, 0, 0);
        heft_reader_close(&reader);
    }
    recording_done(&r);
}

/* Columns of many chunks that lie apart. */
static void test_many_chunks(void **state)
{
    (void)state;
    recording_t r;
    heft_reader_t reader;
    recording_init(&r);
    uint32_t thread = recording_thread(&r, "main"), code = recording_code(&r, "a.py", "f", "a", 0);
    for (uint32_t i = 1; i <= 3000; i++)
        recording_alloc(&r, recording_frame(&r, i % 2 ? thread : r.header.node_n - 1, code, i), i, 1);
    assert_int_equal(open_state(&r, HEFT_STATE_CLOSED, &reader, NULL), HEFT_OK);
    assert_memory_equal(reader.nodes + 1, r.nodes + 1, (r.header.node_n - 1) * sizeof *r.nodes);
    assert_memory_equal(reader.details + 1, r.details + 1, (r.header.node_n - 1) * sizeof *r.details);
    same_amount(reader.total, 3000 * 3001 / 2, 3000);
    heft_reader_close(&reader);
    recording_done(&r);
}

/* A writer that does as ledger/tree.h does, next to one that copies everything at each new maximum. */
static void play(recording_t *r, uint64_t seed, heft_amount_t *best_amounts, uint32_t node_n)
{
    int64_t live = 0, peak = 0, best = 0, sizes[64];
    uint32_t owners[64], block_n = 0;
    uint64_t epoch = 1;
    for (uint32_t step = 0, steps = random_below(&seed, 400); step < steps; step++) {
        bool is_alloc = block_n == 0 || (block_n < 64 && random_below(&seed, 100) < 55);
        uint32_t b = is_alloc ? block_n : random_below(&seed, block_n);
        uint32_t n = is_alloc ? 2 + random_below(&seed, node_n - 2) : owners[b];
        heft_node_t *node = &r->nodes[n];
        if (!is_alloc && live > peak) {
            peak = live;
            epoch++;
        }
        if (node->epoch != epoch) {
            r->details[n].peak_bytes = (uint64_t)(node->allocated_bytes - node->freed_bytes);
            r->details[n].peak_blocks = (uint64_t)(node->allocated_blocks - node->freed_blocks);
            node->epoch = epoch;
        }
        if (is_alloc) {
            owners[block_n] = n;
            sizes[block_n++] = random_below(&seed, 100);
            recording_alloc(r, n, sizes[b], 1);
            live += sizes[b];
        } else {
            recording_free(r, n, sizes[b], 1);
            live -= sizes[b];
            sizes[b] = sizes[--block_n];
            owners[b] = owners[block_n];
        }
        if (live <= best)
            continue;
        best = live;
        for (uint32_t i = 1; i < node_n; i++)
            best_amounts[i] = (heft_amount_t){(uint64_t)(r->nodes[i].allocated_bytes - r->nodes[i].freed_bytes),
                                              (uint64_t)(r->nodes[i].allocated_blocks - r->nodes[i].freed_blocks)};
    }
}

static void test_peak_against_brute_force(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 3000; seed++) {
        recording_t r;
        heft_reader_t reader;
        heft_amount_t best[12] = {{0, 0}}, sum = {0, 0};
        recording_init(&r);
        uint32_t code = recording_code(&r, "a.py", "f", "a", 0), thread = recording_thread(&r, "main");
        while (r.header.node_n < 12)
            recording_frame(&r, thread, code, r.header.node_n);
        for (uint32_t n = 1; n < 12; n++)
            r.nodes[n].epoch = 1;
        play(&r, seed, best, 12);
        assert_int_equal(open_state(&r, seed % 2 ? HEFT_STATE_CLOSED : HEFT_STATE_RUNNING, &reader, NULL), HEFT_OK);
        for (uint32_t n = 1; n < 12; n++) {
            heft_amount_t mine = heft_reader_amount(&reader, n, HEFT_MOMENT_PEAK, 0);
            assert_int_equal(mine.bytes, best[n].bytes);
            /* an allocation of 0 bytes at the peak makes no new maximum of bytes: blocks may be one ahead */
            sum.bytes += mine.bytes;
            sum.blocks += mine.blocks;
        }
        same_amount(reader.peak, sum.bytes, sum.blocks);
        heft_reader_close(&reader);
        recording_done(&r);
    }
}

static void test_temporaries_without_a_record(void **state)
{
    (void)state;
    recording_t r;
    heft_reader_t reader;
    small(&r);
    r.temps[0] = (heft_temp_t){.bytes = {1, 2}, .blocks = {1, 1}};
    assert_int_equal(open_state(&r, HEFT_STATE_CLOSED, &reader, NULL), HEFT_OK);
    same_amount(heft_reader_amount(&reader, 1, HEFT_MOMENT_TEMPORARY, 0), 0, 0);
    same_amount(heft_reader_amount(&reader, 1, HEFT_MOMENT_TEMPORARY, 1), 1, 1);
    same_amount(heft_reader_amount(&reader, 1, HEFT_MOMENT_TEMPORARY, 2), 3, 2);
    same_amount(heft_reader_amount(&reader, 5, HEFT_MOMENT_TEMPORARY, 2), 0, 0);
    same_amount(reader.temporary, 20, 2);
    heft_reader_close(&reader);
    recording_done(&r);
}

/* A process was killed between two additions. */
static void test_torn_counters(void **state)
{
    (void)state;
    recording_t r;
    heft_reader_t reader;
    small(&r);
    recording_free(&r, 4, 100, 20);
    r.details[3].peak_bytes = UINT64_MAX;
    r.nodes[3].epoch = 9;
    r.details[5].temp = r.header.temp_n;
    assert_int_equal(open_state(&r, HEFT_STATE_RUNNING, &reader, NULL), HEFT_OK);
    same_amount(heft_reader_amount(&reader, 4, HEFT_MOMENT_LIVE, 0), 0, 0);
    same_amount(heft_reader_amount(&reader, 5, HEFT_MOMENT_TEMPORARY, 0), 0, 0);
    same_amount(reader.live, 605, 7);
    assert_true(reader.peak_is_now);
    assert_int_equal(reader.header.peak_at_ns, reader.header.now_ns);
    heft_reader_close(&reader);
    r.header.flags = HEFT_FLAG_CONTRADICTION; /* sealed, but by an engine that had given up */
    assert_int_equal(open_state(&r, HEFT_STATE_CLOSED, &reader, NULL), HEFT_OK);
    heft_reader_close(&reader);
    r.header.flags = 0;
    refuse(&r, HEFT_STATE_SEALED, HEFT_ERR_CORRUPT);
    recording_done(&r);
}

/* ---- damage: one test for each thing that is checked ---------------------------------------------------------- */

typedef struct {
    unsigned char *data;
    size_t bytes;
} image_t;

static image_t small_image(void)
{
    recording_t r;
    image_t image;
    small(&r);
    image.data = recording_write(&r, HEFT_STATE_CLOSED, &image.bytes);
    recording_done(&r);
    return image;
}

#define HEADER(image) ((heft_header_t *)(void *)(image).data)
#define CHUNK(image, i) (&((heft_chunk_t *)(void *)((image).data + PAGE))[i])

static void test_size(void **state)
{
    (void)state;
    image_t image = small_image();
    refuse_bytes(image.data, 0, HEFT_ERR_EMPTY);
    refuse_bytes(NULL, 0, HEFT_ERR_EMPTY);
    for (size_t n = 1; n < image.bytes; n += n < 300 ? 1 : 97) {
        unsigned char *part = malloc(n); /* exactly: ASan sees a read behind the end */
        assert_non_null(part);
        memcpy(part, image.data, n);
        heft_err_t err = refuse_bytes(part, n, HEFT_ERR_TRUNCATED);
        assert_int_equal(err.off, n);
        free(part);
    }
    free(image.data);
}

static void test_foreign(void **state)
{
    (void)state;
    image_t image = small_image();
    refuse_bytes((const unsigned char *)"PK\3\4", 4, HEFT_ERR_FOREIGN);
    refuse_bytes((const unsigned char *)"\x89HEFT\n\x1a and then some", 21, HEFT_ERR_FOREIGN); /* lost its \r */
    image.data[0] ^= 1;
    assert_int_equal(refuse_bytes(image.data, image.bytes, HEFT_ERR_FOREIGN).off, 0);
    free(image.data);
}

static void test_newer(void **state)
{
    (void)state;
    image_t image = small_image();
    HEADER(image)->version = HEFT_FORMAT_VERSION + 1; /* even its checksum may be another */
    refuse_bytes(image.data, image.bytes, HEFT_ERR_NEWER);
    refuse_bytes(image.data, 12, HEFT_ERR_NEWER);
    HEADER(image)->version = 0;
    refuse_bytes(image.data, image.bytes, HEFT_ERR_CORRUPT);
    recording_repair(image.data, image.bytes);
    refuse_bytes(image.data, image.bytes, HEFT_ERR_CORRUPT);
    free(image.data);
}

/* What a header of an older writer does not have is 0, whatever stands there. */
static void test_a_shorter_header(void **state)
{
    (void)state;
    for (int is_older = 0; is_older < 2; is_older++) {
        heft_reader_t reader;
        image_t image = small_image();
        HEADER(image)->header_bytes = is_older ? HEFT_HEADER_BYTES_LEAST : sizeof(heft_header_t);
        HEADER(image)->ended_ns = 5;
        recording_repair(image.data, image.bytes);
        assert_int_equal(heft_reader_open_bytes(&reader, image.data, image.bytes, NULL), HEFT_OK);
        assert_int_equal(reader.header.ended_ns, is_older ? 0 : 5);
        heft_reader_close(&reader);
        free(image.data);
    }
}

static void refuse_header(size_t off, size_t size, uint64_t value, heft_status_t expected)
{
    image_t image = small_image();
    memcpy(image.data + off, &value, size);
    recording_repair(image.data, image.bytes);
    heft_err_t err = refuse_bytes(image.data, image.bytes, expected);
    if (expected == HEFT_ERR_CORRUPT)
        assert_int_equal(err.off, off);
    free(image.data);
}

#define REFUSE_HEADER(field, value, expected)                                                                          \
    refuse_header(offsetof(heft_header_t, field), sizeof(((heft_header_t *)NULL)->field), value, expected)

static void test_header(void **state)
{
    (void)state;
    REFUSE_HEADER(header_bytes, 8, HEFT_ERR_CORRUPT);
    REFUSE_HEADER(header_bytes, HEFT_HEADER_BYTES_LEAST - 1, HEFT_ERR_CORRUPT);
    REFUSE_HEADER(header_bytes, 5000, HEFT_ERR_CORRUPT);
    REFUSE_HEADER(chunk_table_off, 0, HEFT_ERR_CORRUPT);
    REFUSE_HEADER(chunk_table_off, PAGE + 8, HEFT_ERR_CORRUPT);
    REFUSE_HEADER(chunk_table_off, 100 * PAGE, HEFT_ERR_TRUNCATED);
    REFUSE_HEADER(chunk_table_off, UINT64_MAX - PAGE + 1, HEFT_ERR_TRUNCATED);
    REFUSE_HEADER(chunk_table_n, 0, HEFT_ERR_CORRUPT);
    REFUSE_HEADER(chunk_table_n, HEFT_FORMAT_CHUNKS + 1, HEFT_ERR_CORRUPT);
    REFUSE_HEADER(mode, 2, HEFT_ERR_CORRUPT);
    REFUSE_HEADER(state, 0, HEFT_ERR_CORRUPT);
    REFUSE_HEADER(state, 5, HEFT_ERR_CORRUPT);
    REFUSE_HEADER(node_n, PAGE / sizeof(heft_node_t) + 1, HEFT_ERR_CORRUPT);
    REFUSE_HEADER(node_n, UINT32_MAX, HEFT_ERR_CORRUPT);
    REFUSE_HEADER(temp_n, UINT32_MAX, HEFT_ERR_CORRUPT);
    REFUSE_HEADER(code_n, UINT32_MAX, HEFT_ERR_CORRUPT);
    REFUSE_HEADER(thread_n, UINT32_MAX, HEFT_ERR_CORRUPT);
    REFUSE_HEADER(string_bytes, UINT32_MAX, HEFT_ERR_CORRUPT);
}

static void refuse_chunk(uint32_t i, heft_chunk_t chunk, heft_status_t expected)
{
    image_t image = small_image();
    *CHUNK(image, i) = chunk;
    recording_repair(image.data, image.bytes);
    refuse_bytes(image.data, image.bytes, expected);
    free(image.data);
}

static void test_chunks(void **state)
{
    (void)state;
    image_t image = small_image();
    heft_chunk_t meta = *CHUNK(image, 0), nodes = *CHUNK(image, 1), bad;
#define REFUSE_CHUNK(i, like, field, value, expected)                                                                  \
    (bad = (like), bad.field = (value), refuse_chunk(i, bad, expected))
    REFUSE_CHUNK(1, nodes, kind, 10, HEFT_ERR_CORRUPT);
    REFUSE_CHUNK(1, nodes, kind, 0, HEFT_ERR_CORRUPT); /* the table seems to end: the rest is behind the end */
    REFUSE_CHUNK(1, nodes, kind, HEFT_COLUMN_TEMP, HEFT_ERR_CORRUPT);
    REFUSE_CHUNK(1, nodes, kind, HEFT_CHUNK_META, HEFT_ERR_CORRUPT);
    REFUSE_CHUNK(1, nodes, off, nodes.off + 1, HEFT_ERR_CORRUPT);
    REFUSE_CHUNK(1, nodes, off, 0, HEFT_ERR_CORRUPT);
    REFUSE_CHUNK(1, nodes, off, PAGE, HEFT_ERR_CORRUPT); /* the table itself */
    REFUSE_CHUNK(1, nodes, off, nodes.off + PAGE, HEFT_ERR_CORRUPT);
    REFUSE_CHUNK(1, nodes, off, image.bytes, HEFT_ERR_TRUNCATED);
    REFUSE_CHUNK(1, nodes, off, UINT64_MAX - PAGE + 1, HEFT_ERR_CORRUPT);
    REFUSE_CHUNK(1, nodes, bytes, 0, HEFT_ERR_CORRUPT);
    REFUSE_CHUNK(1, nodes, bytes, PAGE - 1, HEFT_ERR_CORRUPT);
    REFUSE_CHUNK(1, nodes, bytes, 2 * PAGE, HEFT_ERR_CORRUPT);
    REFUSE_CHUNK(1, nodes, bytes, UINT64_C(1) << 40, HEFT_ERR_TRUNCATED);
    REFUSE_CHUNK(1, nodes, bytes, UINT64_MAX - PAGE + 1, HEFT_ERR_CORRUPT);
    REFUSE_CHUNK(1, nodes, used, 1, HEFT_ERR_CORRUPT);
    REFUSE_CHUNK(0, meta, used, PAGE + 1, HEFT_ERR_CORRUPT);
    REFUSE_CHUNK(20, nodes, used, 0, HEFT_ERR_CORRUPT); /* behind the end */
    free(image.data);
}

static void test_checksums(void **state)
{
    (void)state;
    image_t image = small_image();
    for (uint32_t i = 0; i < 8; i++) {
        CHUNK(image, i)->crc ^= 1;
        heft_err_t err = refuse_bytes(image.data, image.bytes, HEFT_ERR_CORRUPT);
        assert_int_equal(err.off, CHUNK(image, i)->off);
        CHUNK(image, i)->crc ^= 1;
    }
    free(image.data);
}

/* One change to the small recording's columns, which must be refused when sealed; `off` is where the error must be. */
#define REFUSE(change, page, type, index, field)                                                                       \
    do {                                                                                                               \
        recording_t r;                                                                                                 \
        small(&r);                                                                                                     \
        change;                                                                                                        \
        heft_err_t err = refuse(&r, HEFT_STATE_CLOSED, HEFT_ERR_CORRUPT);                                              \
        size_t at = (index) * sizeof(type) + offsetof(type, field);                                                    \
        assert_int_equal(err.off, at + (page) * (size_t)PAGE);                                                         \
        recording_done(&r);                                                                                            \
    } while (0)

static void test_nodes(void **state)
{
    (void)state;
    REFUSE(r.nodes[3].parent = 3, AT_NODES, heft_node_t, 3, parent);
    REFUSE(r.nodes[3].parent = 4, AT_NODES, heft_node_t, 3, parent);
    REFUSE(r.nodes[3].parent = 0, AT_NODES, heft_node_t, 3, parent);
    REFUSE(r.nodes[3].parent = UINT32_MAX, AT_NODES, heft_node_t, 3, parent);
    REFUSE(r.nodes[1].parent = 1, AT_NODES, heft_node_t, 1, parent);
    REFUSE(r.details[1].kind = HEFT_NODE_FRAME, AT_NODES, heft_node_t, 1, parent);
    REFUSE(recording_frame(&r, 6, 1, 1), AT_NODES, heft_node_t, 7, parent); /* below the alias */
    REFUSE(r.nodes[6].allocated_blocks = 0, AT_NODES, heft_node_t, 6, allocated_blocks);
    REFUSE(r.nodes[5].allocated_blocks = -1, AT_NODES, heft_node_t, 5, allocated_blocks);
    REFUSE(r.nodes[3].allocated_bytes = -5, AT_NODES, heft_node_t, 3, allocated_bytes);
    REFUSE(r.nodes[3].freed_bytes = -5, AT_NODES, heft_node_t, 3, allocated_bytes);
    REFUSE(r.nodes[3].freed_bytes = 1001, AT_NODES, heft_node_t, 3, allocated_bytes);
    REFUSE(r.nodes[3].freed_blocks = 11, AT_NODES, heft_node_t, 3, allocated_bytes);
    REFUSE(r.details[3].peak_bytes = UINT64_MAX, AT_NODES, heft_node_t, 3, allocated_bytes);
}

static void test_details(void **state)
{
    (void)state;
    REFUSE(r.details[3].kind = 0, AT_DETAILS, heft_detail_t, 3, kind);
    REFUSE(r.details[3].kind = 7, AT_DETAILS, heft_detail_t, 3, kind);
    REFUSE(r.details[3].kind = HEFT_NODE_ROOT, AT_DETAILS, heft_detail_t, 3, what);
    REFUSE(r.details[3].kind = HEFT_NODE_THREAD, AT_DETAILS, heft_detail_t, 3, what); /* not below the root */
    REFUSE(r.details[2].what = 1, AT_DETAILS, heft_detail_t, 2, what);
    REFUSE(r.details[3].what = 3, AT_DETAILS, heft_detail_t, 3, what);
    REFUSE(r.details[3].what = 0, AT_DETAILS, heft_detail_t, 3, what);
    REFUSE(r.details[5].what = 2, AT_DETAILS, heft_detail_t, 5, what);
    REFUSE(r.details[5].what = UINT32_MAX - 3, AT_DETAILS, heft_detail_t, 5, what);
    REFUSE(r.details[4].temp = 3, AT_DETAILS, heft_detail_t, 4, temp);
    REFUSE(r.nodes[6].epoch = 0, AT_DETAILS, heft_detail_t, 6, what);
    REFUSE(r.nodes[6].epoch = 6, AT_DETAILS, heft_detail_t, 6, what);
    REFUSE(r.nodes[6].epoch = UINT64_C(1) << 32 | 3, AT_DETAILS, heft_detail_t, 6, what);
}

/* A region under the thread, `a`, and one under that, `b`: nodes 7 and 8 of the small recording. */
static void add_regions(recording_t *r)
{
    uint32_t outer = recording_node(r, HEFT_NODE_REGION, 2, recording_string(r, "a"), 0);
    uint32_t inner = recording_node(r, HEFT_NODE_REGION, outer, recording_string(r, "b"), 0);
    recording_alloc(r, inner, 9, 3);
}

static void test_regions(void **state)
{
    (void)state;
    recording_t r;
    heft_reader_t reader;
    for (heft_state_t sealed = HEFT_STATE_RUNNING; sealed <= HEFT_STATE_CLOSED; sealed++) {
        small(&r);
        add_regions(&r);
        assert_int_equal(open_state(&r, sealed, &reader, NULL), HEFT_OK);
        assert_true(same_text(heft_reader_string(&reader, reader.details[7].what), "a"));
        assert_true(same_text(heft_reader_string(&reader, reader.details[8].what), "b"));
        same_amount(heft_reader_amount(&reader, 8, HEFT_MOMENT_LIVE, 0), 9, 3);
        heft_reader_close(&reader);
        /* in a recording that runs as in one that is sealed: neither can be shown */
        r.nodes[8].parent = 3;
        refuse(&r, sealed, HEFT_ERR_CORRUPT);
        r.nodes[8].parent = 7;
        r.details[8].what = 2;
        refuse(&r, sealed, HEFT_ERR_CORRUPT);
        recording_done(&r);
    }
}

static void test_damaged_regions(void **state)
{
    (void)state;
    /* it begins under a thread or a region */
    REFUSE((add_regions(&r), r.nodes[7].parent = 1), AT_DETAILS, heft_detail_t, 7, what);
    REFUSE((add_regions(&r), r.nodes[8].parent = 3), AT_DETAILS, heft_detail_t, 8, what); /* a frame */
    REFUSE((add_regions(&r), r.nodes[8].parent = 5), AT_DETAILS, heft_detail_t, 8, what); /* an import */
    REFUSE((add_regions(&r), r.nodes[8].parent = 6), AT_NODES, heft_node_t, 8, parent);   /* an alias */
    REFUSE((add_regions(&r), r.nodes[8].parent = 8), AT_NODES, heft_node_t, 8, parent);
    REFUSE((add_regions(&r), r.details[7].kind = HEFT_NODE_FRAME, r.details[7].what = 1), AT_DETAILS, heft_detail_t, 8,
           what);
    /* its name is a string */
    REFUSE((add_regions(&r), r.details[7].what = 2), AT_DETAILS, heft_detail_t, 7, what);
    REFUSE((add_regions(&r), r.details[8].what = r.header.string_bytes), AT_DETAILS, heft_detail_t, 8, what);
    REFUSE((add_regions(&r), r.details[8].what = UINT32_MAX - 3), AT_DETAILS, heft_detail_t, 8, what);
    REFUSE((add_regions(&r), memset(r.strings + r.details[8].what, 0xff, 4)), AT_DETAILS, heft_detail_t, 8, what);
    REFUSE((add_regions(&r), r.header.string_bytes -= 4), AT_DETAILS, heft_detail_t, 8, what); /* made last */
}

static void test_too_many_regions(void **state)
{
    (void)state;
    recording_t r;
    heft_reader_t reader;
    small(&r);
    for (uint32_t i = 0; i < HEFT_REGIONS_MAX; i++)
        recording_node(&r, HEFT_NODE_REGION, i == 0 ? 2 : r.header.node_n - 1, 0, 0);
    assert_int_equal(open_state(&r, HEFT_STATE_CLOSED, &reader, NULL), HEFT_OK);
    heft_reader_close(&reader);
    recording_node(&r, HEFT_NODE_REGION, 2, 0, 0);
    refuse(&r, HEFT_STATE_CLOSED, HEFT_ERR_CORRUPT);
    recording_done(&r);
}

static void test_references(void **state)
{
    (void)state;
    REFUSE(r.codes[1].file = r.header.string_bytes, AT_CODES, heft_code_t, 1, file);
    REFUSE(r.codes[1].name = 5, AT_CODES, heft_code_t, 1, file);
    REFUSE(r.codes[1].module = UINT32_MAX & ~3u, AT_CODES, heft_code_t, 1, file);
    REFUSE(memset(r.strings + r.codes[1].file, 0xff, 4), AT_CODES, heft_code_t, 1, file);
    REFUSE(r.header.string_bytes -= 4, AT_DETAILS, heft_detail_t, 5, what); /* the import's name, made last */
    REFUSE(r.threads[0].name = 2, AT_THREADS, heft_thread_t, 0, name);
    REFUSE(r.threads[0].node = 8, AT_THREADS, heft_thread_t, 0, node);
}

/* Sums that would leave 63 bits. */
static void test_sums(void **state)
{
    (void)state;
    recording_t r;
    for (int i = 0; i < 7; i++) {
        small(&r);
        heft_temp_t *temp = &r.temps[1];
        int64_t most = INT64_MAX;
        switch (i) {
        case 0: r.nodes[3].allocated_bytes = r.nodes[3].freed_bytes = most; break;
        case 1: r.nodes[3].allocated_blocks = most; break;
        case 2: r.details[3].peak_bytes = (uint64_t)most, r.details[4].peak_bytes = 1; break;
        case 3: r.details[3].peak_blocks = r.details[4].peak_blocks = (uint64_t)most; break;
        case 4: temp->bytes[1] = UINT64_MAX; break;
        case 5: temp->blocks[0] = UINT64_C(1) << 63; break;
        default: r.details[2].temporary_bytes = UINT64_MAX; break;
        }
        r.nodes[3].epoch = r.nodes[4].epoch = 1;
        refuse(&r, HEFT_STATE_CLOSED, HEFT_ERR_CORRUPT);
        refuse(&r, HEFT_STATE_RUNNING, HEFT_ERR_CORRUPT);
        recording_done(&r);
    }
}

/* ---- every bit ------------------------------------------------------------------------------------------------ */

static bool same_columns(const heft_reader_t *a, const heft_reader_t *b)
{
    return memcmp(a->nodes, b->nodes, a->header.node_n * sizeof *a->nodes) == 0 &&
           memcmp(a->details, b->details, a->header.node_n * sizeof *a->details) == 0 &&
           memcmp(a->temps, b->temps, a->header.temp_n * sizeof *a->temps) == 0 &&
           memcmp(a->codes, b->codes, a->header.code_n * sizeof *a->codes) == 0 &&
           memcmp(a->threads, b->threads, a->header.thread_n * sizeof *a->threads) == 0 &&
           memcmp(a->strings, b->strings, a->header.string_bytes) == 0 && a->meta_bytes == b->meta_bytes &&
           memcmp(a->meta, b->meta, a->meta_bytes) == 0 && a->source_bytes == b->source_bytes &&
           memcmp(a->source, b->source, a->source_bytes) == 0;
}

static bool same_counts(const heft_header_t *a, const heft_header_t *b)
{
    return a->node_n == b->node_n && a->temp_n == b->temp_n && a->code_n == b->code_n && a->thread_n == b->thread_n &&
           a->string_bytes == b->string_bytes;
}

/* A sealed recording with any one bit turned is refused or reads the same (the bit was in padding, or in the part of
 * the header that changes while a program runs and has no checksum: pid, times). */
static void test_every_bit(void **state)
{
    (void)state;
    image_t image = small_image();
    heft_reader_t sound, reader;
    size_t refused = 0;
    assert_int_equal(heft_reader_open_bytes(&sound, image.data, image.bytes, NULL), HEFT_OK);
    for (size_t at = 0; at < image.bytes; at++) {
        for (int bit = 0; bit < 8; bit++) {
            image.data[at] ^= (unsigned char)(1 << bit);
            heft_err_t err = {0};
            heft_status_t status = heft_reader_open_bytes(&reader, image.data, image.bytes, &err);
            if (status == HEFT_OK) {
                assert_true(same_counts(&reader.header, &sound.header) && same_columns(&reader, &sound));
            } else {
                assert_true(err.code == status && err.text != NULL && status != HEFT_ERR_NOMEM);
                assert_true(err.off < image.bytes || status == HEFT_ERR_TRUNCATED);
                refused++;
            }
            heft_reader_close(&reader);
            image.data[at] ^= (unsigned char)(1 << bit);
        }
    }
    assert_true(refused > 8 * 1000);
    heft_reader_close(&sound);
    free(image.data);
}

/* The same with the checksums made right again, and with random bytes: never a crash (for ASan, mostly). */
static void test_damage_behind_checksums(void **state)
{
    (void)state;
    uint64_t random = 5;
    for (int round = 0; round < 20000; round++) {
        recording_t r;
        image_t image;
        heft_reader_t reader;
        recording_random(&r, (uint64_t)round, 3 + random_below(&random, 30));
        image.data = recording_write(&r, 2 + random_below(&random, 3), &image.bytes);
        for (uint32_t i = 0, n = 1 + random_below(&random, 4); i < n; i++) {
            uint32_t page = random_below(&random, (uint32_t)(image.bytes / PAGE));
            uint32_t at = page * PAGE + random_below(&random, random_below(&random, 4) ? 256 : PAGE);
            image.data[at] = random_below(&random, 2) ? (unsigned char)random_below(&random, 256)
                                                      : (unsigned char)(image.data[at] + 1);
        }
        recording_repair(image.data, image.bytes);
        if (heft_reader_open_bytes(&reader, image.data, image.bytes, NULL) == HEFT_OK)
            heft_reader_close(&reader);
        free(image.data);
        recording_done(&r);
    }
}

/* ---- files ---------------------------------------------------------------------------------------------------- */

static void write_file(const char *path, const void *data, size_t bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, bytes), bytes);
    close(fd);
}

static void test_files(void **state)
{
    (void)state;
    char dir[] = "/tmp/heft-test-XXXXXX", path[64], pipe_path[64];
    heft_reader_t reader;
    heft_err_t err;
    assert_non_null(mkdtemp(dir));
    strcat(strcpy(path, dir), "/a.heft");
    strcat(strcpy(pipe_path, dir), "/pipe");
    assert_int_equal(heft_reader_open(&reader, path, &err), HEFT_ERR_MISSING);
    assert_int_equal(err.sys_errno, ENOENT);
    assert_int_equal(heft_reader_open(&reader, dir, &err), HEFT_ERR_IO);
    assert_int_equal(err.sys_errno, EISDIR);
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    assert_int_equal(heft_reader_open(&reader, pipe_path, &err), HEFT_ERR_FOREIGN); /* and does not wait */
    write_file(path, "", 0);
    assert_int_equal(heft_reader_open(&reader, path, &err), HEFT_ERR_EMPTY);
    image_t image = small_image();
    write_file(path, image.data, image.bytes - 1);
    assert_int_equal(heft_reader_open(&reader, path, &err), HEFT_ERR_TRUNCATED);
    write_file(path, image.data, image.bytes);
    assert_int_equal(heft_reader_open(&reader, path, &err), HEFT_OK);
    assert_int_equal(reader.file_bytes, image.bytes);
    check_small(&reader);
    heft_reader_close(&reader);
    free(image.data);
    unlink(path);
    unlink(pipe_path);
    rmdir(dir);
}

static void test_status_names(void **state)
{
    (void)state;
    static const char *const names[] = {"ok",        "missing", "empty", "foreign", "newer",
                                        "truncated", "corrupt", "io",    "nomem"};
    for (int i = 0; i < 9; i++)
        assert_string_equal(heft_status_name((heft_status_t)-i), names[i]);
    assert_string_equal(heft_status_name((heft_status_t)-77), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),
        cmocka_unit_test(test_nothing_recorded),
        cmocka_unit_test(test_many_chunks),
        cmocka_unit_test(test_peak_against_brute_force),
        cmocka_unit_test(test_temporaries_without_a_record),
        cmocka_unit_test(test_torn_counters),
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_newer),
        cmocka_unit_test(test_a_shorter_header),
        cmocka_unit_test(test_header),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_checksums),
        cmocka_unit_test(test_nodes),
        cmocka_unit_test(test_details),
        cmocka_unit_test(test_regions),
        cmocka_unit_test(test_damaged_regions),
        cmocka_unit_test(test_too_many_regions),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_damage_behind_checksums),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_status_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
