/* SPDX-License-Identifier: MIT */
/* Finishing a recording from outside, see finish.h. */
#define _GNU_SOURCE
#include "ledger/finish.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "ledger/ledger.h"

#define CHUNK_AT(i) ((off_t)(HEFT_FORMAT_PAGE + (i) * sizeof(heft_chunk_t)))

static int read_all(int fd, void *data, size_t bytes, off_t off)
{
    char *p = data;
    while (bytes > 0) {
        ssize_t n = pread(fd, p, bytes, off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : EINVAL;
        p += n;
        off += n;
        bytes -= (size_t)n;
    }
    return 0;
}

static int write_all(int fd, const void *data, size_t bytes, off_t off)
{
    const char *p = data;
    while (bytes > 0) {
        ssize_t n = pwrite(fd, p, bytes, off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : EIO;
        p += n;
        off += n;
        bytes -= (size_t)n;
    }
    return 0;
}

/* CRC of `bytes` of the file from `off`. */
static int sum_file(int fd, off_t off, uint64_t bytes, uint32_t *crc)
{
    enum { PIECE = 1 << 16 };
    char *piece = malloc(PIECE);
    int error = piece == NULL ? ENOMEM : 0;
    *crc = 0;
    while (error == 0 && bytes > 0) {
        size_t n = bytes < PIECE ? (size_t)bytes : PIECE;
        error = read_all(fd, piece, n, off);
        if (error == 0)
            *crc = heft_crc32c(*crc, piece, n);
        off += (off_t)n;
        bytes -= n;
    }
    free(piece);
    return error;
}

static int seal_file(int fd, const heft_header_t *header)
{
    uint64_t done[HEFT_COLUMN_THREAD + 1] = {0};
    int error = 0;
    for (uint32_t i = 0; error == 0 && i < HEFT_FORMAT_CHUNKS; i++) {
        heft_chunk_t chunk;
        error = read_all(fd, &chunk, sizeof chunk, CHUNK_AT(i));
        if (error != 0 || chunk.kind == 0)
            break;
        if (chunk.kind == HEFT_CHUNK_TIMELINE) {
            error = sum_file(fd, (off_t)chunk.off, chunk.used, &chunk.crc);
            if (error == 0)
                error = write_all(fd, &chunk, sizeof chunk, CHUNK_AT(i));
            continue;
        }
        if (chunk.kind > HEFT_COLUMN_THREAD)
            continue;
        uint64_t whole = heft_ledger_column_bytes(header, chunk.kind), at = done[chunk.kind];
        uint64_t part = whole > at ? whole - at : 0;
        if (part > chunk.bytes)
            part = chunk.bytes;
        done[chunk.kind] = at + chunk.bytes;
        error = sum_file(fd, (off_t)chunk.off, part, &chunk.crc);
        if (error == 0)
            error = write_all(fd, &chunk, sizeof chunk, CHUNK_AT(i));
    }
    return error;
}

static int write_state(int fd, heft_state_t state)
{
    uint32_t word = state;
    return write_all(fd, &word, sizeof word, offsetof(heft_header_t, state));
}

int heft_finish_exit(int fd, int exit_status, uint64_t ended_ns)
{
    heft_header_t header;
    int error = read_all(fd, &header, sizeof header, 0);
    if (error != 0)
        return error;
    bool is_end = header.state == HEFT_STATE_RUNNING && exit_status >= 0;
    if (is_end)
        error = seal_file(fd, &header);
    if (error == 0 && header.header_bytes >= sizeof header)
        error = write_all(fd, &ended_ns, sizeof ended_ns, offsetof(heft_header_t, ended_ns));
    if (error == 0)
        error = write_all(fd, &exit_status, sizeof exit_status, offsetof(heft_header_t, exit_status));
    if (error == 0 && is_end) /* last: a closed recording has its status */
        error = write_state(fd, HEFT_STATE_CLOSED);
    return error;
}

int heft_finish_add_source(int fd, const void *blob, size_t bytes)
{
    heft_chunk_t chunk;
    uint32_t i = 0;
    int error = 0;
    for (; i < HEFT_FORMAT_CHUNKS; i++) {
        error = read_all(fd, &chunk, sizeof chunk, CHUNK_AT(i));
        if (error != 0)
            return error;
        if (chunk.kind == 0)
            break;
    }
    if (i >= HEFT_FORMAT_CHUNKS - 1)
        return E2BIG; /* the last entry stays free: it ends the table */
    struct stat st;
    if (fstat(fd, &st) != 0)
        return errno;
    uint64_t off = ((uint64_t)st.st_size + HEFT_FORMAT_PAGE - 1) & ~(uint64_t)(HEFT_FORMAT_PAGE - 1);
    chunk = (heft_chunk_t){
        .kind = HEFT_CHUNK_SOURCE,
        .crc = heft_crc32c(0, blob, bytes),
        .off = off,
        .bytes = (bytes + HEFT_FORMAT_PAGE - 1) & ~(uint64_t)(HEFT_FORMAT_PAGE - 1),
        .used = bytes,
    };
    error = posix_fallocate(fd, (off_t)off, (off_t)chunk.bytes);
    if (error == 0)
        error = write_all(fd, blob, bytes, (off_t)off);
    if (error == 0) /* at once: half an entry of a sealed recording is damage, for a reader of just now or for ever */
        error = write_all(fd, &chunk, sizeof chunk, CHUNK_AT(i));
    if (error != 0 && ftruncate(fd, st.st_size) != 0)
        error = error != 0 ? error : errno; /* unreferenced bytes at the end do no harm */
    return error;
}
