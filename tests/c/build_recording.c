/* SPDX-License-Identifier: MIT */
/* Recordings made by hand, see build_recording.h. */
#include "build_recording.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"

#define PAGE HEFT_FORMAT_PAGE

/* ---- columns ------------------------------------------------------------------------------------------------- */

/* One more zeroed element; `n` of them are there.  The arrays grow by doubling at powers of two. */
static void *grow(void *array, uint32_t n, size_t size)
{
    if ((n & (n - 1)) == 0 || n == 0) {
        array = realloc(array, (n == 0 ? 1 : (size_t)n * 2) * size);
        assert(array != NULL);
    }
    memset((char *)array + n * size, 0, size);
    return array;
}

#define ADD(column, count)                                                                                             \
    (recording->column = grow(recording->column, recording->header.count, sizeof *recording->column),                  \
     recording->header.count++)

void recording_init(recording_t *recording)
{
    *recording = (recording_t){.pages = 1, .meta = "{\"command\": [\"app.py\"]}"};
    heft_header_t *h = &recording->header;
    memcpy(h->magic, HEFT_FORMAT_MAGIC, sizeof h->magic);
    h->version = HEFT_FORMAT_VERSION;
    h->header_bytes = sizeof *h;
    h->created_unix_ns = UINT64_C(1700000000000000000);
    h->chunk_table_off = PAGE;
    h->chunk_table_n = HEFT_FORMAT_CHUNKS;
    h->exit_status = HEFT_EXIT_UNKNOWN;
    h->pid = 4711;
    h->now_ns = 2000;
    h->peak_at_ns = 1000;
    (void)ADD(nodes, node_n);
    recording->details = grow(recording->details, 0, sizeof *recording->details);
    (void)ADD(temps, temp_n);
    (void)ADD(codes, code_n);
    recording->strings = malloc(1 << 20);
    assert(recording->strings != NULL);
    memset(recording->strings, 0, 4);
    h->string_bytes = 4;
    recording_node(recording, HEFT_NODE_ROOT, 0, 0, 0);
}

void recording_done(recording_t *recording)
{
    free(recording->nodes);
    free(recording->details);
    free(recording->temps);
    free(recording->codes);
    free(recording->threads);
    free(recording->strings);
}

uint32_t recording_string(recording_t *recording, const char *text)
{
    uint32_t len = (uint32_t)strlen(text), ref = recording->header.string_bytes;
    if (len == 0)
        return 0;
    assert(ref + 12 + len < 1 << 20);
    memcpy(recording->strings + ref, &len, sizeof len);
    memset(recording->strings + ref + 4 + len, 0, 4);
    memcpy(recording->strings + ref + 4, text, len);
    recording->header.string_bytes = (ref + 4 + len + 1 + 3) & ~3u; /* always a 0 behind it: tests read them as text */
    return ref;
}

uint32_t recording_code(recording_t *recording, const char *file, const char *name, const char *module, uint32_t flags)
{
    uint32_t n = ADD(codes, code_n);
    recording->codes[n] = (heft_code_t){.file = recording_string(recording, file),
                                        .name = recording_string(recording, name),
                                        .module = recording_string(recording, module),
                                        .first_line = 1,
                                        .flags = flags};
    return n;
}

uint32_t recording_node(recording_t *recording, heft_node_kind_t kind, uint32_t parent, uint32_t what, uint32_t line)
{
    recording->details = grow(recording->details, recording->header.node_n, sizeof *recording->details);
    uint32_t n = ADD(nodes, node_n);
    recording->nodes[n].parent = parent;
    recording->nodes[n].ip = n * 2;
    recording->details[n] = (heft_detail_t){.kind = (uint8_t)kind, .what = what, .line = line};
    return n;
}

uint32_t recording_thread(recording_t *recording, const char *name)
{
    uint32_t index = ADD(threads, thread_n);
    uint32_t node = recording_node(recording, HEFT_NODE_THREAD, 1, index, 0);
    recording->threads[index] = (heft_thread_t){
        .native_id = 4711 + index, .started_ns = index, .node = node, .name = recording_string(recording, name)};
    return node;
}

heft_temp_t *recording_temp(recording_t *recording, uint32_t node)
{
    uint32_t n = ADD(temps, temp_n);
    recording->details[node].temp = n;
    return &recording->temps[n];
}

void recording_alloc(recording_t *recording, uint32_t node, int64_t bytes, int64_t blocks)
{
    recording->nodes[node].allocated_bytes += bytes;
    recording->nodes[node].allocated_blocks += blocks;
}

void recording_free(recording_t *recording, uint32_t node, int64_t bytes, int64_t blocks)
{
    recording->nodes[node].freed_bytes += bytes;
    recording->nodes[node].freed_blocks += blocks;
}

/* ---- file ---------------------------------------------------------------------------------------------------- */

typedef struct {
    unsigned char *data;
    size_t bytes, room;
    uint32_t chunk_n;
} writer_t;

static void add_chunk(writer_t *w, uint32_t kind, const void *data, size_t used, size_t bytes)
{
    assert(bytes % PAGE == 0 && used <= bytes && w->chunk_n < HEFT_FORMAT_CHUNKS);
    while (w->bytes + bytes > w->room)
        w->room *= 2;
    w->data = realloc(w->data, w->room);
    assert(w->data != NULL);
    memset(w->data + w->bytes, 0, bytes);
    if (used > 0)
        memcpy(w->data + w->bytes, data, used);
    heft_chunk_t chunk = {.kind = kind, .off = w->bytes, .bytes = bytes};
    chunk.used = kind > HEFT_COLUMN_THREAD ? used : 0;
    memcpy(w->data + PAGE + w->chunk_n++ * sizeof chunk, &chunk, sizeof chunk);
    w->bytes += bytes;
}

static void add_blob(writer_t *w, uint32_t kind, const char *text)
{
    if (text != NULL)
        add_chunk(w, kind, text, strlen(text), (strlen(text) + PAGE - 1) / PAGE * PAGE);
}

unsigned char *recording_write(const recording_t *r, heft_state_t state, size_t *bytes)
{
    const heft_header_t *h = &r->header;
    const struct {
        const void *data;
        size_t bytes;
    } columns[] = {
        [HEFT_COLUMN_NODE] = {r->nodes, h->node_n * sizeof *r->nodes},
        [HEFT_COLUMN_DETAIL] = {r->details, h->node_n * sizeof *r->details},
        [HEFT_COLUMN_TEMP] = {r->temps, h->temp_n * sizeof *r->temps},
        [HEFT_COLUMN_CODE] = {r->codes, h->code_n * sizeof *r->codes},
        [HEFT_COLUMN_STRING] = {r->strings, h->string_bytes},
        [HEFT_COLUMN_THREAD] = {r->threads, h->thread_n * sizeof *r->threads},
    };
    size_t done[HEFT_COLUMN_THREAD + 1] = {0};
    writer_t w = {.bytes = 2 * PAGE, .room = 2 * PAGE};
    w.data = calloc(1, w.room);
    assert(w.data != NULL);
    memcpy(w.data, h, sizeof *h);
    ((heft_header_t *)(void *)w.data)->state = (uint32_t)state;
    add_blob(&w, HEFT_CHUNK_META, r->meta);
    bool more = true;
    for (uint32_t round = 0; more; round++) { /* so that chunks of a column lie apart */
        more = false;
        for (uint32_t kind = HEFT_COLUMN_NODE; kind <= HEFT_COLUMN_THREAD; kind++) {
            size_t left = columns[kind].bytes - done[kind], part = done[kind] ? done[kind] : r->pages * PAGE;
            if (left == 0 && round > 0)
                continue;
            size_t used = left < part ? left : part;
            add_chunk(&w, kind, used == 0 ? NULL : (const char *)columns[kind].data + done[kind], used, part);
            done[kind] += used;
            more |= used < left;
        }
    }
    add_blob(&w, HEFT_CHUNK_SOURCE, r->source);
    recording_repair(w.data, w.bytes);
    *bytes = w.bytes;
    return w.data;
}

static uint64_t column_bytes(const heft_header_t *h, uint32_t kind)
{
    switch (kind) {
    case HEFT_COLUMN_NODE: return (uint64_t)h->node_n * sizeof(heft_node_t);
    case HEFT_COLUMN_DETAIL: return (uint64_t)h->node_n * sizeof(heft_detail_t);
    case HEFT_COLUMN_TEMP: return (uint64_t)h->temp_n * sizeof(heft_temp_t);
    case HEFT_COLUMN_CODE: return (uint64_t)h->code_n * sizeof(heft_code_t);
    case HEFT_COLUMN_STRING: return h->string_bytes;
    case HEFT_COLUMN_THREAD: return (uint64_t)h->thread_n * sizeof(heft_thread_t);
    default: return 0;
    }
}

void recording_repair(unsigned char *data, size_t bytes)
{
    heft_header_t header;
    uint64_t done[HEFT_COLUMN_THREAD + 1] = {0};
    if (bytes < sizeof header)
        return;
    memcpy(&header, data, sizeof header);
    header.static_crc = heft_crc32c(0, &header, offsetof(heft_header_t, static_crc));
    memcpy(data, &header, sizeof header);
    for (uint32_t i = 0; i < header.chunk_table_n && i < HEFT_FORMAT_CHUNKS; i++) {
        heft_chunk_t chunk;
        uint64_t at = header.chunk_table_off + i * sizeof chunk;
        if (header.chunk_table_off > bytes || at + sizeof chunk > bytes)
            return;
        memcpy(&chunk, data + at, sizeof chunk);
        if (chunk.kind == 0)
            return;
        uint64_t used = chunk.used;
        if (chunk.kind <= HEFT_COLUMN_THREAD) {
            uint64_t whole = column_bytes(&header, chunk.kind), from = done[chunk.kind];
            used = whole > from ? whole - from : 0;
            used = used < chunk.bytes ? used : chunk.bytes;
            done[chunk.kind] = from + chunk.bytes;
        }
        if (chunk.off > bytes || used > bytes - chunk.off)
            continue;
        chunk.crc = heft_crc32c(0, data + chunk.off, used);
        memcpy(data + at, &chunk, sizeof chunk);
    }
}

/* ---- random -------------------------------------------------------------------------------------------------- */

uint32_t random_below(uint64_t *state, uint32_t limit)
{
    *state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    uint64_t z = *state;
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)((z ^ z >> 31) >> 32) % limit;
}

static void random_counters(recording_t *r, uint64_t *s, uint32_t n)
{
    heft_node_t *node = &r->nodes[n];
    if (random_below(s, 3) == 0)
        return;
    /* few different sizes, so that rows are equal at times */
    int64_t blocks = 1 + random_below(s, 4), size = random_below(s, 4) * 16;
    recording_alloc(r, n, blocks * size, blocks);
    if (random_below(s, 2) == 0) {
        int64_t freed = random_below(s, (uint32_t)blocks + 1);
        recording_free(r, n, freed * size, freed);
    }
    node->epoch = 1 + random_below(s, 3);
    r->details[n].peak_blocks = random_below(s, 4);
    r->details[n].peak_bytes = r->details[n].peak_blocks * (uint64_t)random_below(s, 100);
    r->details[n].temporary_blocks = random_below(s, 3);
    r->details[n].temporary_bytes = r->details[n].temporary_blocks * 8;
    if (random_below(s, 3) == 0) {
        heft_temp_t *temp = recording_temp(r, n);
        for (uint32_t i = 0; i + 1 < HEFT_TEMP_SPANS; i++) {
            temp->blocks[i] = random_below(s, 3);
            temp->bytes[i] = temp->blocks[i] * 8;
        }
    }
}

/* The thread or region that node `n` is under, or the first thread. */
static uint32_t base_of(const recording_t *r, uint32_t n)
{
    while (n > 1 && r->details[n].kind != HEFT_NODE_THREAD && r->details[n].kind != HEFT_NODE_REGION)
        n = r->nodes[n].parent;
    return n > 1 ? n : 2;
}

/* Here and there the callers of a line were not kept, or requests of what is below a node are counted at it. */
static void random_cuts(recording_t *r, uint64_t *s)
{
    r->header.flags |= HEFT_FLAG_PATHS_CUT;
    r->header.cut_events = random_below(s, 2);
    for (uint32_t n = 1; n < r->header.node_n; n++) {
        heft_detail_t *detail = &r->details[n];
        uint32_t parent = r->nodes[n].parent;
        if (detail->kind == HEFT_NODE_FRAME && r->codes[detail->what].flags == 0 && base_of(r, parent) == parent &&
            random_below(s, 2) == 0)
            detail->flags |= HEFT_DETAIL_FLAT;
        if (detail->kind != HEFT_NODE_ALIAS && random_below(s, 8) == 0)
            detail->flags |= HEFT_DETAIL_CUT;
    }
}

void recording_random(recording_t *r, uint64_t seed, uint32_t node_n)
{
    static const char *const files[] = {"app.py", "/usr/lib/python3/lib.py", "/site-packages/pkg/x.py", "<string>", ""};
    static const char *const names[] = {"f", "g", "Class.method", "<module>", ""};
    static const char *const modules[] = {"__main__", "lib", "pkg.x", ""};
    static const char *const imports[] = {"lib", "pkg.x", "json", ""};
    static const char *const regions[] = {"load", "lib", "request", ""};
    uint64_t s = seed;
    recording_init(r);
    r->pages = 1 + random_below(&s, 2);
    uint32_t thread_n = 1 + random_below(&s, 3), code_n = 2 + random_below(&s, 9);
    for (uint32_t i = 0; i < thread_n; i++)
        recording_thread(r, i == 0 ? "MainThread" : "");
    for (uint32_t i = 0; i < code_n; i++)
        recording_code(r, files[random_below(&s, 5)], names[random_below(&s, 5)], modules[random_below(&s, 4)],
                       random_below(&s, 4) == 0 ? 1 + random_below(&s, 2) : 0);
    if (random_below(&s, 8) == 0)
        random_counters(r, &s, 1);
    while (r->header.node_n < node_n) {
        uint32_t n = r->header.node_n, parent = 2 + random_below(&s, n - 2);
        if (random_below(&s, 2) == 0) /* deep rather than broad */
            parent = n - 1 - random_below(&s, n - 2 < 3 ? n - 2 : 3);
        if (r->details[parent].kind == HEFT_NODE_ALIAS || random_below(&s, 40) == 0)
            parent = random_below(&s, 8) == 0 ? 1 : 2;
        uint32_t dice = random_below(&s, 13);
        if (dice == 0) {
            recording_node(r, HEFT_NODE_ALIAS, parent, 0, 0);
            r->nodes[n].allocated_blocks = HEFT_NODE_ALIAS_MARK;
            r->nodes[n].epoch = parent;
            r->details[parent].flags |= HEFT_DETAIL_RECURSIVE;
            continue;
        }
        if (dice == 12) {
            recording_node(r, HEFT_NODE_REGION, base_of(r, parent), recording_string(r, regions[random_below(&s, 4)]),
                           0);
        } else if (dice <= 3) {
            recording_node(r, HEFT_NODE_IMPORT, parent, recording_string(r, imports[random_below(&s, 4)]), 0);
        } else {
            recording_frame(r, parent, 1 + random_below(&s, code_n), random_below(&s, 4));
            r->details[n].column = (uint16_t)random_below(&s, 3);
        }
        random_counters(r, &s, n);
    }
    if (random_below(&s, 3) == 0)
        random_cuts(r, &s);
}
