/* SPDX-License-Identifier: MIT */
/* From a file to a heft_reader_t: header, chunk table, columns; reader_check.c then looks at every element.
 *
 *     file     [header][table][meta][n0][d0][c0]..[n1]..[d1]      chunks of a column lie anywhere, in order
 *                                    |             |
 *     reader                        [n0..........|n1....]         one private array for each column
 *
 * pread into private memory, no mapping: the file may be cut, rewritten or appended to under our hands, and a check
 * is worth nothing if the bytes can change after it.  Cost: one copy and one checksum, 2 GB/s.
 *
 * The process may be recording while we read.  Counts are published after what they cover and references are written
 * after what they refer to, so the order in which we look makes a consistent whole: the header's number of nodes, the
 * nodes and their details, the header again, what nodes refer to, the header a third time, the strings.
 *
 * Checksums exist once the recording is sealed.  Before that, a counter may be caught between two additions. */
#define _GNU_SOURCE
#include "ledger/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/compiler.h"
#include "base/crc32c.h"

#define PAGE HEFT_FORMAT_PAGE
#define KINDS (HEFT_CHUNK_TIMELINE + 1)

/* Where the bytes come from, and what is known about them so far. */
struct heft_reader_file {
    int fd;           /* or -1: */
    const char *data; /* borrowed */
    uint64_t bytes;   /* size; of a growing file, when last asked */
    heft_header_t header;
    heft_chunk_t chunks[HEFT_FORMAT_CHUNKS];
    uint32_t chunk_n;
    bool is_sealed;
};
typedef heft_reader_file_t file_t;

static heft_status_t read_at(const file_t *file, uint64_t off, void *to, size_t bytes, heft_err_t *err)
{
    HEFT_ASSERT(to != NULL || bytes == 0);
    if (off > file->bytes || bytes > file->bytes - off)
        return heft_err_set(err, HEFT_ERR_TRUNCATED, "the file is shorter than it says", file->bytes);
    if (file->fd < 0) {
        if (bytes > 0)
            memcpy(to, file->data + off, bytes);
        return HEFT_OK;
    }
    for (char *p = to; bytes > 0;) {
        ssize_t n = pread(file->fd, p, bytes, (off_t)off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return heft_err_set_errno(err, HEFT_ERR_IO, "the file cannot be read", errno);
        if (n == 0) /* it was cut meanwhile */
            return heft_err_set(err, HEFT_ERR_TRUNCATED, "the file is shorter than it says", off);
        p += n;
        off += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return HEFT_OK;
}

static heft_status_t ask_size(file_t *file, heft_err_t *err)
{
    struct stat st;
    if (file->fd < 0)
        return HEFT_OK;
    if (fstat(file->fd, &st) != 0)
        return heft_err_set_errno(err, HEFT_ERR_IO, "the file cannot be read", errno);
    if (S_ISDIR(st.st_mode))
        return heft_err_set_errno(err, HEFT_ERR_IO, "the file cannot be read", EISDIR);
    if (!S_ISREG(st.st_mode))
        return heft_err_set(err, HEFT_ERR_FOREIGN, "not a regular file", HEFT_ERR_NO_OFF);
    file->bytes = (uint64_t)st.st_size;
    return HEFT_OK;
}

/* ---- header ------------------------------------------------------------------------------------------------- */

static heft_status_t check_header(const heft_header_t *h, heft_err_t *err)
{
    if (h->static_crc != heft_crc32c(0, h, offsetof(heft_header_t, static_crc)))
        return heft_err_set(err, HEFT_ERR_CORRUPT, "the header's checksum is wrong",
                            offsetof(heft_header_t, static_crc));
    if (h->version == 0)
        return heft_err_set(err, HEFT_ERR_CORRUPT, "the format version is 0", offsetof(heft_header_t, version));
    if (h->header_bytes < HEFT_HEADER_BYTES_LEAST || h->header_bytes > PAGE)
        return heft_err_set(err, HEFT_ERR_CORRUPT, "the header has an impossible size",
                            offsetof(heft_header_t, header_bytes));
    if (h->chunk_table_off < PAGE || h->chunk_table_off % PAGE != 0)
        return heft_err_set(err, HEFT_ERR_CORRUPT, "the chunk table is at an impossible place",
                            offsetof(heft_header_t, chunk_table_off));
    if (h->chunk_table_n == 0 || h->chunk_table_n > HEFT_FORMAT_CHUNKS)
        return heft_err_set(err, HEFT_ERR_CORRUPT, "the chunk table has an impossible size",
                            offsetof(heft_header_t, chunk_table_n));
    if (h->mode > 1)
        return heft_err_set(err, HEFT_ERR_CORRUPT, "the mode is not known", offsetof(heft_header_t, mode));
    if (h->state < HEFT_STATE_CREATED || h->state > HEFT_STATE_CLOSED)
        return heft_err_set(err, HEFT_ERR_CORRUPT, "the state is not known", offsetof(heft_header_t, state));
    return HEFT_OK;
}

static heft_status_t read_header(file_t *file, heft_err_t *err)
{
    heft_header_t *h = &file->header;
    size_t have = file->bytes < sizeof *h ? (size_t)file->bytes : sizeof *h;
    heft_status_t status = read_at(file, 0, h, have, err);
    if (status != HEFT_OK)
        return status;
    if (memcmp(h->magic, HEFT_FORMAT_MAGIC, have < sizeof h->magic ? have : sizeof h->magic) != 0)
        return heft_err_set(err, HEFT_ERR_FOREIGN, "not a memheft recording", 0);
    if (have >= offsetof(heft_header_t, header_bytes) && h->version > HEFT_FORMAT_VERSION)
        return heft_err_set(err, HEFT_ERR_NEWER, "recorded by a newer version of memheft",
                            offsetof(heft_header_t, version));
    if (have < sizeof *h)
        return heft_err_set(err, HEFT_ERR_TRUNCATED, "the file ends inside its header", file->bytes);
    status = check_header(h, err);
    if (status == HEFT_OK && h->header_bytes < sizeof *h) /* an older one: what it does not have is 0 */
        memset((char *)h + h->header_bytes, 0, sizeof *h - h->header_bytes);
    return status;
}

/* ---- chunk table -------------------------------------------------------------------------------------------- */

static bool overlaps(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
    return a < b + b_bytes && b < a + a_bytes;
}

static heft_status_t check_chunk(const file_t *file, uint32_t i, heft_err_t *err)
{
    const heft_chunk_t *c = &file->chunks[i];
    uint64_t table = file->header.chunk_table_off, at = table + i * sizeof *c;
    bool is_column = c->kind <= HEFT_COLUMN_THREAD;
    if (c->kind >= KINDS)
        return heft_err_set(err, HEFT_ERR_CORRUPT, "a chunk is of no known kind", at + offsetof(heft_chunk_t, kind));
    if (c->off < PAGE || c->off % PAGE != 0 || c->off > UINT64_MAX / 4)
        return heft_err_set(err, HEFT_ERR_CORRUPT, "a chunk is at an impossible place",
                            at + offsetof(heft_chunk_t, off));
    if (c->bytes == 0 || c->bytes % PAGE != 0 || c->bytes > UINT64_MAX / 4)
        return heft_err_set(err, HEFT_ERR_CORRUPT, "a chunk has an impossible size",
                            at + offsetof(heft_chunk_t, bytes));
    if (is_column ? c->used != 0 : c->used > c->bytes)
        return heft_err_set(err, HEFT_ERR_CORRUPT, "a chunk holds more than its size",
                            at + offsetof(heft_chunk_t, used));
    if (c->off + c->bytes > file->bytes)
        return heft_err_set(err, HEFT_ERR_TRUNCATED, "the file is shorter than its chunk table says", file->bytes);
    bool is_apart = !overlaps(c->off, c->bytes, table, file->header.chunk_table_n * sizeof *c);
    for (uint32_t k = 0; is_apart && k < i; k++) {
        const heft_chunk_t *other = &file->chunks[k];
        is_apart = !overlaps(c->off, c->bytes, other->off, other->bytes);
        if (c->kind == HEFT_CHUNK_META && other->kind == HEFT_CHUNK_META)
            return heft_err_set(err, HEFT_ERR_CORRUPT, "two descriptions of the run",
                                at + offsetof(heft_chunk_t, kind));
    }
    if (!is_apart)
        return heft_err_set(err, HEFT_ERR_CORRUPT, "two chunks overlap", at + offsetof(heft_chunk_t, off));
    return HEFT_OK;
}

static heft_status_t read_table(file_t *file, heft_err_t *err)
{
    uint32_t n = file->header.chunk_table_n;
    heft_status_t status = read_at(file, file->header.chunk_table_off, file->chunks, n * sizeof *file->chunks, err);
    if (status == HEFT_OK) /* chunks may lie in what was added since the size was asked: they are older than this */
        status = ask_size(file, err);
    file->chunk_n = 0;
    while (status == HEFT_OK && file->chunk_n < n && file->chunks[file->chunk_n].kind != 0)
        status = check_chunk(file, file->chunk_n++, err);
    bool is_sealed = file->header.state >= HEFT_STATE_SEALED;
    for (uint32_t i = file->chunk_n; status == HEFT_OK && i < n; i++) {
        const heft_chunk_t *c = &file->chunks[i]; /* of a running process it may be half filled in */
        if (c->kind != 0 || (is_sealed && (c->crc != 0 || c->off != 0 || c->bytes != 0 || c->used != 0)))
            status = heft_err_set(err, HEFT_ERR_CORRUPT, "a chunk behind the end of the chunk table",
                                  file->header.chunk_table_off + i * sizeof *file->chunks);
    }
    return status;
}

/* Header and table as they are now; later ones cover all that an earlier one covered.  What seems damaged is looked at
 * once more: the watcher may have been adding an entry just then. */
static heft_status_t look(file_t *file, heft_err_t *err)
{
    heft_status_t status = HEFT_ERR_CORRUPT;
    for (int attempt = 0; attempt < (file->fd < 0 ? 1 : 2) && status == HEFT_ERR_CORRUPT; attempt++) {
        status = ask_size(file, err);
        if (status == HEFT_OK)
            status = read_header(file, err);
        if (status == HEFT_OK)
            status = read_table(file, err);
    }
    return status;
}

/* ---- columns ------------------------------------------------------------------------------------------------ */

uint64_t heft__reader_off(const file_t *file, heft_chunk_kind_t kind, uint64_t byte)
{
    for (uint32_t i = 0; i < file->chunk_n; i++) {
        const heft_chunk_t *c = &file->chunks[i];
        if (c->kind != (uint32_t)kind)
            continue;
        if (byte < c->bytes)
            return c->off + byte;
        byte -= c->bytes;
    }
    return HEFT_ERR_NO_OFF;
}

static heft_status_t check_sum(const heft_chunk_t *c, const char *data, size_t bytes, heft_err_t *err)
{
    if (c->crc != heft_crc32c(0, data, bytes))
        return heft_err_set(err, HEFT_ERR_CORRUPT, "the checksum of a chunk is wrong: the file was damaged", c->off);
    return HEFT_OK;
}

/* Column `kind`, `count` elements of `size` bytes, into fresh memory at *to (void **, in effect).  `count_off`: the
 * header's field that says so. */
static heft_status_t read_column(const file_t *file, heft_chunk_kind_t kind, uint32_t count, size_t size,
                                 size_t count_off, void *to, heft_err_t *err)
{
    uint64_t bytes = (uint64_t)count * size, room = 0, done = 0;
    for (uint32_t i = 0; i < file->chunk_n; i++)
        room += file->chunks[i].kind == (uint32_t)kind ? file->chunks[i].bytes : 0;
    if (bytes > room) /* room is part of the file: no count makes us ask for more memory than the file has bytes */
        return heft_err_set(err, HEFT_ERR_CORRUPT, "a count is larger than its column", count_off);
    if (bytes == 0)
        return HEFT_OK;
    char *data = malloc(bytes);
    if (data == NULL)
        return heft_err_set(err, HEFT_ERR_NOMEM, "not enough memory to read the recording", HEFT_ERR_NO_OFF);
    memcpy(to, &data, sizeof data); /* owned by the reader from here on, whatever happens */
    heft_status_t status = HEFT_OK;
    for (uint32_t i = 0; status == HEFT_OK && i < file->chunk_n; i++) {
        const heft_chunk_t *c = &file->chunks[i];
        if (c->kind != (uint32_t)kind)
            continue;
        size_t part = bytes - done < c->bytes ? bytes - done : c->bytes;
        status = read_at(file, c->off, data + done, part, err);
        if (status == HEFT_OK && file->is_sealed)
            status = check_sum(c, data + done, part, err);
        done += part;
    }
    HEFT_ASSERT(status != HEFT_OK || done == bytes);
    return status;
}

/* META or SOURCE: the last chunk of the kind. */
static heft_status_t read_blob(const file_t *file, heft_chunk_kind_t kind, char **to, size_t *to_bytes, heft_err_t *err)
{
    const heft_chunk_t *c = NULL;
    for (uint32_t i = 0; i < file->chunk_n; i++)
        c = file->chunks[i].kind == (uint32_t)kind ? &file->chunks[i] : c;
    if (c == NULL || c->used == 0)
        return HEFT_OK;
    *to = malloc(c->used);
    if (*to == NULL)
        return heft_err_set(err, HEFT_ERR_NOMEM, "not enough memory to read the recording", HEFT_ERR_NO_OFF);
    *to_bytes = c->used;
    heft_status_t status = read_at(file, c->off, *to, c->used, err);
    if (status == HEFT_OK && (file->is_sealed || c->crc != 0)) /* blobs have their sum from the beginning */
        status = check_sum(c, *to, c->used, err);
    return status;
}

/* Numbers that no writer can have left are an error in a sealed recording; in others there is no timeline then. */
static heft_status_t read_timeline(heft_reader_t *reader, const file_t *file, heft_err_t *err)
{
    char *data = NULL;
    size_t bytes = 0;
    uint64_t off = heft__reader_off(file, HEFT_CHUNK_TIMELINE, 0);
    heft_status_t status = read_blob(file, HEFT_CHUNK_TIMELINE, &data, &bytes, err);
    reader->timeline = (heft_timeline_t *)(void *)data; /* owned by the reader, whatever happens */
    if (status != HEFT_OK || data == NULL)
        return status;
    const heft_timeline_t *t = reader->timeline;
    bool is_sound = bytes == sizeof *t && t->point_n <= HEFT_TIMELINE_POINTS &&
                    t->interval_ns <= INT64_MAX / HEFT_TIMELINE_POINTS && (t->interval_ns > 0 || t->point_n == 0);
    if (!is_sound && file->is_sealed)
        return heft_err_set(err, HEFT_ERR_CORRUPT, "the timeline has impossible numbers", off);
    if (!is_sound) {
        free(data);
        reader->timeline = NULL;
    }
    return HEFT_OK;
}

#define COLUMN(kind, count, type, to)                                                                                  \
    read_column(file, kind, file->header.count, sizeof(type), offsetof(heft_header_t, count), &reader->to, err)

static heft_status_t read_all(heft_reader_t *reader, file_t *file, heft_err_t *err)
{
    heft_status_t status = ask_size(file, err);
    if (status != HEFT_OK)
        return status;
    if (file->bytes == 0)
        return heft_err_set(err, HEFT_ERR_EMPTY, "the file is empty", 0);
    if ((status = look(file, err)) != HEFT_OK)
        return status;
    heft_header_t *header = &reader->header;
    *header = file->header;
    file->is_sealed = header->state >= HEFT_STATE_SEALED;

    if ((status = COLUMN(HEFT_COLUMN_NODE, node_n, heft_node_t, nodes)) != HEFT_OK ||
        (status = COLUMN(HEFT_COLUMN_DETAIL, node_n, heft_detail_t, details)) != HEFT_OK)
        return status;
    if (!file->is_sealed && (status = look(file, err)) != HEFT_OK)
        return status;
    header->temp_n = file->header.temp_n;
    header->code_n = file->header.code_n;
    header->thread_n = file->header.thread_n;
    if ((status = COLUMN(HEFT_COLUMN_TEMP, temp_n, heft_temp_t, temps)) != HEFT_OK ||
        (status = COLUMN(HEFT_COLUMN_CODE, code_n, heft_code_t, codes)) != HEFT_OK ||
        (status = COLUMN(HEFT_COLUMN_THREAD, thread_n, heft_thread_t, threads)) != HEFT_OK)
        return status;
    if (!file->is_sealed && (status = look(file, err)) != HEFT_OK)
        return status;
    header->string_bytes = file->header.string_bytes;
    if ((status = COLUMN(HEFT_COLUMN_STRING, string_bytes, char, strings)) != HEFT_OK ||
        (status = read_blob(file, HEFT_CHUNK_META, &reader->meta, &reader->meta_bytes, err)) != HEFT_OK ||
        (status = read_blob(file, HEFT_CHUNK_SOURCE, &reader->source, &reader->source_bytes, err)) != HEFT_OK ||
        (status = read_timeline(reader, file, err)) != HEFT_OK)
        return status;
    reader->file_bytes = file->bytes;
    reader->is_final = file->is_sealed && !(header->flags & HEFT_FLAG_CONTRADICTION);
    return heft__reader_check(reader, file, err);
}

/* ---- open, close -------------------------------------------------------------------------------------------- */

heft_status_t heft_reader_open(heft_reader_t *reader, const char *path, heft_err_t *err)
{
    HEFT_ASSERT(reader != NULL && path != NULL);
    *reader = (heft_reader_t){0};
    /* O_NONBLOCK: a name that turns out to be a pipe is an error, not a wait */
    file_t file = {.fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)};
    if (file.fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return heft_err_set_errno(err, HEFT_ERR_MISSING, "no such file", errno);
    if (file.fd < 0)
        return heft_err_set_errno(err, HEFT_ERR_IO, "the file cannot be opened", errno);
    heft_status_t status = read_all(reader, &file, err);
    close(file.fd);
    if (status != HEFT_OK)
        heft_reader_close(reader);
    return status;
}

heft_status_t heft_reader_open_bytes(heft_reader_t *reader, const void *data, size_t bytes, heft_err_t *err)
{
    HEFT_ASSERT(reader != NULL && (data != NULL || bytes == 0));
    *reader = (heft_reader_t){0};
    file_t file = {.fd = -1, .data = data, .bytes = bytes};
    heft_status_t status = read_all(reader, &file, err);
    if (status != HEFT_OK)
        heft_reader_close(reader);
    return status;
}

void heft_reader_close(heft_reader_t *reader)
{
    free(reader->nodes);
    free(reader->details);
    free(reader->temps);
    free(reader->codes);
    free(reader->threads);
    free(reader->strings);
    free(reader->meta);
    free(reader->source);
    free(reader->timeline);
    *reader = (heft_reader_t){0};
}
