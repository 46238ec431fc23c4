/* SPDX-License-Identifier: MIT */
/* The recording's file, see ledger.h.
 *
 *     address space   |chunk 0|chunk 1|    chunk 2    |............|      one reserved range for each column
 *                         |       |           |
 *     file       header table meta c0 c0 c0 ... c1 ... c2                  in the order in which columns grew
 *
 * Growth is the only thing that can fail once recording has begun.  It is rare (a column doubles each time), so it
 * may cost a few system calls.  The file descriptor is kept at a high number, out of the way of programs that count
 * on the lowest free one, and checked by device and inode before each use: programs that close everything would
 * otherwise make us write into a file of theirs. */
#define _GNU_SOURCE
#include "ledger/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/compiler.h"
#include "base/crc32c.h"
#include "base/region.h"

#define PAGE HEFT_FORMAT_PAGE
#define TIMELINE_BYTES (2 * PAGE)
#define REFUSALS 4096u /* failed attempts between two questions to a full disk */

static const struct {
    size_t element, max, first; /* bytes, elements, bytes of the first chunk */
} column_shapes[HEFT_COLUMN_THREAD + 1] = {
    [HEFT_COLUMN_NODE] = {sizeof(heft_node_t), HEFT_NODES_MAX, 16 * PAGE},
    [HEFT_COLUMN_DETAIL] = {sizeof(heft_detail_t), HEFT_NODES_MAX, 16 * PAGE},
    [HEFT_COLUMN_TEMP] = {sizeof(heft_temp_t), HEFT_TEMPS_MAX, 4 * PAGE},
    [HEFT_COLUMN_CODE] = {sizeof(heft_code_t), HEFT_CODES_MAX, 4 * PAGE},
    [HEFT_COLUMN_STRING] = {1, HEFT_STRING_BYTES_MAX, 16 * PAGE},
    [HEFT_COLUMN_THREAD] = {sizeof(heft_thread_t), HEFT_THREADS_MAX, PAGE},
};

static size_t round_page(size_t bytes)
{
    return (bytes + PAGE - 1) & ~(size_t)(PAGE - 1);
}

static bool is_our_file(const heft_ledger_t *ledger, int fd)
{
    struct stat st;
    return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == ledger->dev && st.st_ino == ledger->ino;
}

/* Move the descriptor to just below the soft limit of open files, 960 at most: a process' table of descriptors is as
 * large as its highest one. */
int heft_ledger_move_high(int fd)
{
    struct rlimit limit;
    rlim_t floor = 960;
    if (fd < 0)
        return fd;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < floor + 64)
        floor = limit.rlim_cur - limit.rlim_cur / 16 - 1;
    int high = fcntl(fd, F_DUPFD_CLOEXEC, (int)floor);
    if (high < 0)
        return fd;
    close(fd);
    return high;
}

/* A descriptor of the file, or -1.  Reopened by name if the program closed ours. */
static int ledger_fd(heft_ledger_t *ledger)
{
    if (is_our_file(ledger, ledger->fd))
        return ledger->fd;
    int fd = open(ledger->path, O_RDWR | O_CLOEXEC);
    bool is_gone = fd < 0 && (errno == ENOENT || errno == ENOTDIR);
    if (fd >= 0 && !is_our_file(ledger, fd)) {
        is_gone = true;
        close(fd);
        fd = -1;
    }
    if (is_gone)
        ledger->header->flags |= HEFT_FLAG_FILE_GONE;
    ledger->fd = fd < 0 ? -1 : heft_ledger_move_high(fd);
    return ledger->fd;
}

static bool add_chunk(heft_ledger_t *ledger, heft_chunk_kind_t kind, size_t bytes)
{
    heft_column_t *column = &ledger->columns[kind];
    HEFT_ASSERT(bytes % PAGE == 0 && bytes > 0);
    if (ledger->chunk_n >= HEFT_FORMAT_CHUNKS - 2 /* room for the watcher's source chunk */)
        return false;
    int fd = ledger_fd(ledger);
    if (fd < 0)
        return false;
    uint64_t off = ledger->file_bytes;
    struct rlimit limit; /* beyond it the kernel would send SIGXFSZ, which kills where Python no longer ignores it */
    int error = getrlimit(RLIMIT_FSIZE, &limit) == 0 && off + bytes > limit.rlim_cur ? EFBIG : EINTR;
    while (error == EINTR)
        error = posix_fallocate(fd, (off_t)off, (off_t)bytes);
    if (error != 0) {
        if (error == ENOSPC || error == EDQUOT || error == EFBIG)
            ledger->header->flags |= HEFT_FLAG_DISK_FULL;
        return false;
    }
    void *p =
        mmap(column->base + column->mapped, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)off);
    if (p == MAP_FAILED)
        return false;
    column->mapped += bytes;
    ledger->file_bytes = off + bytes;
    heft_chunk_t *chunk = &ledger->chunks[ledger->chunk_n++];
    chunk->off = off;
    chunk->bytes = bytes;
    __atomic_store_n(&chunk->kind, (uint32_t)kind, __ATOMIC_RELEASE);
    return true;
}

HEFT_COLD bool heft_ledger_reach_slow(heft_ledger_t *ledger, heft_chunk_kind_t kind, size_t end)
{
    int saved_errno = errno, cancel_state;
    heft_column_t *column = &ledger->columns[kind];
    HEFT_ASSERT(kind >= HEFT_COLUMN_NODE && kind <= HEFT_COLUMN_THREAD);
    HEFT_ASSERT(end > column->mapped);
    if (column->refusals > 0) {
        column->refusals--;
        return false;
    }
    bool ok = true;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state); /* no thread may end here: it holds the lock */
    while (ok && end > column->mapped) {
        size_t bytes = column->mapped ? column->mapped : column->first;
        if (bytes > column->reserved - column->mapped)
            bytes = column->reserved - column->mapped;
        ok = bytes > 0 && add_chunk(ledger, kind, bytes);
    }
    pthread_setcancelstate(cancel_state, NULL);
    if (!ok)
        column->refusals = REFUSALS;
    errno = saved_errno;
    return ok;
}

uint64_t heft_ledger_column_bytes(const heft_header_t *header, uint32_t kind)
{
    switch (kind) {
    case HEFT_COLUMN_NODE: return (uint64_t)header->node_n * sizeof(heft_node_t);
    case HEFT_COLUMN_DETAIL: return (uint64_t)header->node_n * sizeof(heft_detail_t);
    case HEFT_COLUMN_TEMP: return (uint64_t)header->temp_n * sizeof(heft_temp_t);
    case HEFT_COLUMN_CODE: return (uint64_t)header->code_n * sizeof(heft_code_t);
    case HEFT_COLUMN_STRING: return header->string_bytes;
    case HEFT_COLUMN_THREAD: return (uint64_t)header->thread_n * sizeof(heft_thread_t);
    default: return 0;
    }
}

static void set_state(heft_header_t *header, heft_state_t state)
{
    __atomic_store_n(&header->state, (uint32_t)state, __ATOMIC_RELEASE);
    syscall(SYS_futex, &header->state, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void heft_ledger_seal(heft_ledger_t *ledger)
{
    size_t done[HEFT_COLUMN_THREAD + 1] = {0};
    for (uint32_t i = 0; i < ledger->chunk_n; i++) {
        heft_chunk_t *chunk = &ledger->chunks[i];
        if (chunk->kind == HEFT_CHUNK_TIMELINE)
            chunk->crc = heft_crc32c(0, ledger->timeline, sizeof *ledger->timeline);
        if (chunk->kind < HEFT_COLUMN_NODE || chunk->kind > HEFT_COLUMN_THREAD)
            continue; /* META has its sum since the beginning */
        size_t whole = heft_ledger_column_bytes(ledger->header, chunk->kind), at = done[chunk->kind];
        size_t part = whole > at ? whole - at : 0;
        if (part > chunk->bytes)
            part = chunk->bytes;
        chunk->crc = heft_crc32c(0, ledger->columns[chunk->kind].base + at, part);
        done[chunk->kind] = at + chunk->bytes;
    }
    set_state(ledger->header, HEFT_STATE_SEALED);
}

void heft_ledger_close(heft_ledger_t *ledger, int exit_status)
{
    ledger->header->exit_status = exit_status;
    set_state(ledger->header, HEFT_STATE_CLOSED);
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

int heft_ledger_create_in(int fd, const void *meta, size_t meta_bytes, uint64_t watcher_pid, uint64_t interval_bytes)
{
    size_t timeline_off = 2 * PAGE + round_page(meta_bytes), bytes = timeline_off + TIMELINE_BYTES;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    heft_header_t header = {
        .version = HEFT_FORMAT_VERSION,
        .header_bytes = sizeof(heft_header_t),
        .created_unix_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec,
        .chunk_table_off = PAGE,
        .chunk_table_n = HEFT_FORMAT_CHUNKS,
        .mode = interval_bytes != 0,
        .interval_bytes = interval_bytes,
        .state = HEFT_STATE_CREATED,
        .exit_status = HEFT_EXIT_UNKNOWN,
        .watcher_pid = watcher_pid,
    };
    memcpy(header.magic, HEFT_FORMAT_MAGIC, sizeof header.magic);
    header.static_crc = heft_crc32c(0, &header, offsetof(heft_header_t, static_crc));
    heft_chunk_t meta_chunk = {
        .kind = HEFT_CHUNK_META,
        .crc = heft_crc32c(0, meta, meta_bytes),
        .off = 2 * PAGE,
        .bytes = timeline_off - 2 * PAGE,
        .used = meta_bytes,
    };
    heft_chunk_t timeline_chunk = {
        .kind = HEFT_CHUNK_TIMELINE, /* zeros for now */
        .off = timeline_off,
        .bytes = TIMELINE_BYTES,
        .used = sizeof(heft_timeline_t),
    };
    off_t entry = PAGE;
    int error = posix_fallocate(fd, 0, (off_t)bytes);
    if (error == 0)
        error = write_all(fd, &header, sizeof header, 0);
    if (error == 0 && meta_bytes > 0) {
        error = write_all(fd, &meta_chunk, sizeof meta_chunk, entry);
        entry += (off_t)sizeof meta_chunk;
    }
    if (error == 0)
        error = write_all(fd, &timeline_chunk, sizeof timeline_chunk, entry);
    if (error == 0)
        error = write_all(fd, meta, meta_bytes, 2 * PAGE);
    return error;
}

int heft_ledger_create(const char *path, const void *meta, size_t meta_bytes, uint64_t watcher_pid,
                       uint64_t interval_bytes)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return errno;
    int error = heft_ledger_create_in(fd, meta, meta_bytes, watcher_pid, interval_bytes);
    if (close(fd) != 0 && error == 0)
        error = errno;
    if (error != 0)
        unlink(path); /* ours: O_EXCL made it; never leave half a file */
    return error;
}

static bool reserve_columns(heft_ledger_t *ledger)
{
    for (int kind = HEFT_COLUMN_NODE; kind <= HEFT_COLUMN_THREAD; kind++) {
        heft_column_t *column = &ledger->columns[kind];
        size_t bytes = round_page(heft_region_share(column_shapes[kind].element * column_shapes[kind].max));
        void *p = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED)
            return false;
        *column = (heft_column_t){.base = p, .reserved = bytes, .first = column_shapes[kind].first};
    }
    return true;
}

static int map_file(heft_ledger_t *ledger, const char *path)
{
    struct stat st;
    ledger->fd = open(path, O_RDWR | O_CLOEXEC);
    if (ledger->fd < 0)
        return errno;
    if (fstat(ledger->fd, &st) != 0)
        return errno;
    ledger->dev = st.st_dev;
    ledger->ino = st.st_ino;
    if (st.st_size < (off_t)(2 * PAGE))
        return EINVAL;
    ledger->file_bytes = round_page((size_t)st.st_size);
    char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ledger->fd, 0);
    if (p == MAP_FAILED)
        return errno;
    ledger->header = (heft_header_t *)(void *)p;
    ledger->chunks = (heft_chunk_t *)(void *)(p + PAGE);
    const heft_header_t *h = ledger->header;
    if (memcmp(h->magic, HEFT_FORMAT_MAGIC, sizeof h->magic) != 0 || h->version != HEFT_FORMAT_VERSION ||
        h->static_crc != heft_crc32c(0, h, offsetof(heft_header_t, static_crc)) || h->state != HEFT_STATE_CREATED)
        return EINVAL;
    for (; ledger->chunk_n < HEFT_FORMAT_CHUNKS && ledger->chunks[ledger->chunk_n].kind != 0; ledger->chunk_n++) {
        const heft_chunk_t *chunk = &ledger->chunks[ledger->chunk_n];
        if (chunk->kind <= HEFT_COLUMN_THREAD)
            return EINVAL; /* somebody is about to record */
        if (chunk->kind == HEFT_CHUNK_META && ledger->meta == NULL) {
            /* the file may be gone when a copy of the recording wants it */
            if (chunk->used == 0 || chunk->used > ledger->file_bytes || chunk->off > ledger->file_bytes - chunk->used)
                return EINVAL;
            p = mmap(NULL, chunk->used, PROT_READ, MAP_SHARED, ledger->fd, (off_t)chunk->off);
            if (p == MAP_FAILED)
                return errno;
            ledger->meta = p;
            ledger->meta_bytes = chunk->used;
        }
        if (chunk->kind != HEFT_CHUNK_TIMELINE)
            continue;
        p = mmap(NULL, TIMELINE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ledger->fd, (off_t)chunk->off);
        if (p == MAP_FAILED)
            return errno;
        ledger->timeline = (heft_timeline_t *)(void *)p;
    }
    return ledger->timeline != NULL ? 0 : EINVAL;
}

/* Make the file what it was before the first chunk of a column. */
static void take_chunks_back(heft_ledger_t *ledger, uint32_t chunk_n, uint64_t file_bytes)
{
    memset(&ledger->chunks[chunk_n], 0, (ledger->chunk_n - chunk_n) * sizeof *ledger->chunks);
    if (is_our_file(ledger, ledger->fd) && ftruncate(ledger->fd, (off_t)file_bytes) == 0)
        ledger->file_bytes = file_bytes; /* else: unreferenced bytes at the end do no harm */
}

void heft_ledger_detach(heft_ledger_t *ledger)
{
    if (ledger->fd >= 0 && is_our_file(ledger, ledger->fd))
        close(ledger->fd);
    if (ledger->header != NULL)
        munmap((void *)ledger->header, 2 * PAGE);
    if (ledger->meta != NULL)
        munmap((void *)(uintptr_t)ledger->meta, ledger->meta_bytes);
    if (ledger->timeline != NULL)
        munmap((void *)ledger->timeline, TIMELINE_BYTES);
    for (int kind = HEFT_COLUMN_NODE; kind <= HEFT_COLUMN_THREAD; kind++) {
        if (ledger->columns[kind].base != NULL)
            munmap(ledger->columns[kind].base, ledger->columns[kind].reserved);
    }
    free((void *)ledger->path);
    *ledger = (heft_ledger_t){.fd = -1};
}

int heft_ledger_attach(heft_ledger_t *ledger, const char *path)
{
    *ledger = (heft_ledger_t){.fd = -1};
    int error = map_file(ledger, path);
    if (error == 0 && (ledger->path = strdup(path)) == NULL)
        error = ENOMEM;
    if (error == 0) {
        ledger->fd = heft_ledger_move_high(ledger->fd);
        if (!reserve_columns(ledger)) /* smaller under a limit: a smaller tree */
            error = ENOMEM;
    }
    if (error == 0) {
        uint32_t chunk_n = ledger->chunk_n;
        uint64_t file_bytes = ledger->file_bytes;
        for (int kind = HEFT_COLUMN_NODE; error == 0 && kind <= HEFT_COLUMN_THREAD; kind++) {
            if (!heft_ledger_reach_slow(ledger, (heft_chunk_kind_t)kind, 1))
                error = ENOSPC;
        }
        if (error != 0)
            take_chunks_back(ledger, chunk_n, file_bytes);
    }
    if (error == 0) {
        ledger->header->flags = 0;                           /* an earlier attempt may have found the disk full */
        ledger->header->node_n = ledger->header->code_n = 1; /* 0 means "none" everywhere */
        ledger->header->temp_n = 1;
        ledger->header->string_bytes = 4;
    } else {
        heft_ledger_detach(ledger);
    }
    return error;
}
