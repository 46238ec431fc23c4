/* SPDX-License-Identifier: MIT */
/* The bytes of a recording (.heft), version 1.  Little-endian, x86-64 alignment.
 *
 *     0        4096      8192
 *     +--------+---------+----------+-------+----------+--------+--- - - -
 *     | header | chunk   | meta     | nodes | details  | codes  | more chunks,
 *     |        | table   | (JSON)   |  ...  |   ...    |  ...   | doubling
 *     +--------+---------+----------+-------+----------+--------+--- - - -
 *
 * A column (all nodes, all codes, ...) is the concatenation of its chunks in the order of the chunk table, so element
 * i of a column is found without any pointer.  The process that records maps the chunks side by side and counts in
 * place: the file is the memory, and it is right after SIGKILL.  Chunks are only added, never moved.
 *
 * Who writes: the process that records, under its ledger lock; after its end the watcher of `memheft run` adds the
 * exit status, the time of the end and the source chunk.  Readers copy the file, then check everything (reader.c):
 * nothing here is trusted. Counts in the header are published after the elements they cover. */
#ifndef HEFT_LEDGER_FORMAT_H
#define HEFT_LEDGER_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#define HEFT_FORMAT_MAGIC "\x89HEFT\r\n\x1a" /* 8 bytes; \r\n and \x1a catch text-mode damage, as in PNG */
#define HEFT_FORMAT_VERSION 1u
#define HEFT_FORMAT_PAGE 4096u

/* The columns, and the two chunks that are not columns (META, SOURCE: opaque bytes). */
typedef enum {
    HEFT_COLUMN_NODE = 1,    /* heft_node_t */
    HEFT_COLUMN_DETAIL = 2,  /* heft_detail_t, one for each node */
    HEFT_COLUMN_TEMP = 3,    /* heft_temp_t, for nodes whose temporary blocks lived a little longer */
    HEFT_COLUMN_CODE = 4,    /* heft_code_t */
    HEFT_COLUMN_STRING = 5,  /* bytes, see heft_header_t.string_bytes */
    HEFT_COLUMN_THREAD = 6,  /* heft_thread_t */
    HEFT_CHUNK_META = 7,     /* JSON, UTF-8: command, python, paths */
    HEFT_CHUNK_SOURCE = 8,   /* zlib stream of JSON, UTF-8: source lines, written by the watcher; the last one counts */
    HEFT_CHUNK_TIMELINE = 9, /* heft_timeline_t */
} heft_chunk_kind_t;

#define HEFT_FORMAT_CHUNKS 128u /* entries of the chunk table: one page */

typedef struct {
    uint32_t kind;  /* heft_chunk_kind_t; 0 = free entry, the first one ends the table */
    uint32_t crc;   /* CRC-32C of the used part of the chunk once the recording is sealed, else 0 */
    uint64_t off;   /* bytes from the start of the file, a multiple of the page */
    uint64_t bytes; /* size on disk, a multiple of the page */
    uint64_t used;  /* META, SOURCE: bytes that count.  Columns: 0, the header's counts say */
} heft_chunk_t;

/* The life of a recording, heft_header_t.state. */
typedef enum {
    HEFT_STATE_CREATED = 1, /* the file exists, nobody has recorded into it yet */
    HEFT_STATE_RUNNING = 2, /* a process records (or was killed while it did) */
    HEFT_STATE_SEALED = 3,  /* main module, threads and exit handlers have ended; counters are final */
    HEFT_STATE_CLOSED = 4,  /* the process is about to leave exit(); exit_status is set */
} heft_state_t;

#define HEFT_EXIT_UNKNOWN INT32_MIN
#define HEFT_WATCHER_EXPECTED UINT64_MAX /* a watcher is starting */

/* Page 0.  The part up to static_crc is written once and covered by it; the rest changes while the program runs. */
typedef struct {
    /* written at creation */
    uint8_t magic[8];
    uint32_t version;
    uint32_t header_bytes;    /* sizeof(heft_header_t) of the writer */
    uint64_t created_unix_ns; /* wall clock */
    uint64_t chunk_table_off;
    uint32_t chunk_table_n;  /* HEFT_FORMAT_CHUNKS */
    uint32_t mode;           /* 0 exact, 1 sampled */
    uint64_t interval_bytes; /* mean distance of samples; 0 when exact */
    uint32_t reserved0;
    uint32_t static_crc; /* CRC-32C of the bytes before this field */

    /* written by the recording process */
    uint32_t state;      /* heft_state_t; a futex word: woken when it changes */
    int32_t exit_status; /* exit code, -signal, or HEFT_EXIT_UNKNOWN */
    uint32_t drawn;      /* futex word: 1 once the watcher has written the sources and the summary */
    uint32_t flags;      /* HEFT_FLAG_* */
    uint64_t pid;
    uint64_t watcher_pid;    /* 0 = nobody will set `drawn`, or HEFT_WATCHER_EXPECTED */
    uint64_t now_ns;         /* time of the last reading of the clock, from the start of the recording */
    uint64_t peak_at_ns;     /* when the sum of live bytes was last at a new maximum */
    uint64_t rss_peak_bytes; /* peak resident memory of the process; 0 = not known */
    uint64_t tool_bytes;     /* memory held by the recorder itself: mapped tables and the used part of the file */
    uint64_t lost_events;    /* blocks that could not be recorded (no memory for the block table) */
    uint64_t cut_events;     /* call paths looked for and charged to an ancestor: the tree was full, or the disk; */
                             /* the answer is remembered, so the requests are more: see HEFT_DETAIL_CUT */
    uint64_t folded_nodes;   /* alias nodes that stand for recursion */
    uint64_t check_compared; /* MEMHEFT_CHECK: stacks compared with the full walk, and how many differed */
    uint64_t check_mismatches;
    uint64_t epoch; /* not kept current while running: the largest epoch of any node is */

    /* published counts of the columns; node 0 and code 0 are unused */
    uint32_t node_n;
    uint32_t temp_n;
    uint32_t code_n;
    uint32_t thread_n;
    uint32_t string_bytes;
    uint32_t reserved1;

    /* added later: 0 in a header that ends before it (header_bytes) */
    uint64_t ended_ns; /* when the watcher saw the process die, by its own clock from the start; 0 = it saw it leave */
} heft_header_t;

#define HEFT_HEADER_BYTES_LEAST offsetof(heft_header_t, ended_ns) /* of the first version 1 */

#define HEFT_FLAG_FULL_WALK 1u      /* stamps were not used: the self-test disagreed, or MEMHEFT_FULL_WALK is set */
#define HEFT_FLAG_JIT 2u            /* the interpreter's JIT was on: lines are approximate */
#define HEFT_FLAG_DISK_FULL 4u      /* the file could not grow: see cut_events */
#define HEFT_FLAG_FILE_GONE 8u      /* the file was deleted or moved away while recording */
#define HEFT_FLAG_CONTRADICTION 16u /* the counters did not add up at the end: do not rely on them */
#define HEFT_FLAG_PATHS_CUT 32u     /* very many call paths: the last ones keep their innermost line only */
#define HEFT_FLAG_LATE_END 64u      /* the end was seen after the interpreter's teardown: little is left by then */
#define HEFT_FLAG_REGIONS_CUT 128u  /* very many regions: the last ones were counted with those around them */
#define HEFT_FLAG_SNAPSHOT 256u     /* a copy of a recording that went on; its duration is that of the moment */

/* A vertex of the call tree: one cache line, everything that an event touches.
 * live = allocated - freed.  The value at the peak: if epoch equals the largest epoch of all nodes, the node changed
 * since the last maximum and the detail's peak_* hold what it was then; else it has not changed since: the peak value
 * is the live one.  (The writer advances its epoch just before the first free after a new maximum; if the present sum
 * of live bytes is higher than the sum of peak values, the peak is now.) */
typedef struct {
    uint64_t ip;     /* the process' own key: address of the instruction (0 once the code object is dead), or odd */
    uint32_t parent; /* node; always less than this node's own number; 0 only for the root */
    uint32_t next;   /* hash chain of the process */
    int64_t allocated_bytes;
    int64_t allocated_blocks; /* HEFT_NODE_ALIAS_MARK: this node is not real, `epoch` is the node that it stands for */
    int64_t freed_bytes;
    int64_t freed_blocks;
    uint64_t epoch;
    uint64_t last_ns; /* time of the last allocation */
} heft_node_t;

#define HEFT_REGIONS_MAX 4096u /* nodes of regions in a recording */

#define HEFT_NODE_ALIAS_MARK (-1) /* never counted on; the detail's kind is HEFT_NODE_ALIAS */

typedef enum {
    HEFT_NODE_ROOT = 1,   /* node 1 */
    HEFT_NODE_THREAD = 2, /* child of the root; `what` = index into the threads */
    HEFT_NODE_FRAME = 3,  /* a Python frame at an instruction; `what` = code */
    HEFT_NODE_IMPORT = 4, /* an import of the module named `what` (string); parent = the frame that imports */
    HEFT_NODE_ALIAS = 5,  /* see HEFT_NODE_ALIAS_MARK */
    HEFT_NODE_REGION = 6, /* a region named `what` (string); child of a thread, or of the region around it */
} heft_node_kind_t;

/* The colder half of a node: a cache line as well. */
typedef struct {
    uint64_t peak_bytes; /* see heft_node_t */
    uint64_t peak_blocks;
    uint64_t first_ns;        /* when the node was made: its first allocation, or its first descendant's */
    uint64_t temporary_bytes; /* of blocks that were freed before their thread asked for another one */
    uint64_t temporary_blocks;
    uint32_t temp;         /* index into the temporaries, 0 = none */
    uint32_t what;         /* by kind */
    uint32_t instr;        /* FRAME: byte offset of the instruction in the code */
    uint32_t line;         /* FRAME: 1-based, 0 = not known */
    uint32_t next_of_code; /* FRAME: list of the process, ended by 0 */
    uint16_t column;       /* FRAME: 1-based, 0 = not known, 65535 = that or more */
    uint8_t kind;          /* heft_node_kind_t */
    uint8_t flags;         /* HEFT_DETAIL_* */
} heft_detail_t;

#define HEFT_DETAIL_RECURSIVE 1u /* recursion was folded onto this node */
#define HEFT_DETAIL_CUT 2u       /* requests of missing descendants were charged here too (cut_events) */
#define HEFT_DETAIL_FLAT                                                                                               \
    4u /* a thread's or region's child to which paths were cut (HEFT_FLAG_PATHS_CUT): callers not kept */

/* Longer-lived temporary blocks of a node: freed after one further request of their thread ([0]), after two or three
 * ([1]). So what was freed before another 1, 2, 4 blocks were asked for (the spans) is the detail's temporary_*, that
 * plus [0], and that plus [1].  Record 0 belongs to the root: what found no record of its own. */
#define HEFT_TEMP_SPANS 3u
typedef struct {
    uint64_t bytes[HEFT_TEMP_SPANS - 1];
    uint64_t blocks[HEFT_TEMP_SPANS - 1];
} heft_temp_t;

typedef struct {
    uint32_t file;   /* string: co_filename */
    uint32_t name;   /* string: co_qualname */
    uint32_t module; /* string: __name__ of the globals it ran in; 0 = not known */
    uint32_t first_line;
    uint32_t flags;      /* HEFT_CODE_* */
    uint32_t first_node; /* list of the process through next_of_code */
    uint64_t address;    /* of the code object; 0 once it is dead.  The process' own */
} heft_code_t;

#define HEFT_CODE_IMPORT_MACHINERY 1u /* importlib: its frames are shown as the import they serve */
#define HEFT_CODE_START_MACHINERY 2u  /* runpy and the like: its frames are not shown */

typedef struct {
    uint64_t native_id; /* as in threading.get_native_id() */
    uint64_t started_ns;
    uint32_t node;
    uint32_t name;  /* string; 0 = no Python name known */
    uint32_t flags; /* HEFT_THREAD_* */
    uint32_t reserved;
} heft_thread_t;

#define HEFT_THREAD_MAIN 1u
#define HEFT_THREAD_SHARED 2u /* all threads after those that found a root, and those Python does not know */

typedef struct {
    uint64_t live_bytes;
    uint64_t resident_bytes; /* of the process; 0 = not known */
} heft_point_t;

#define HEFT_TIMELINE_POINTS 500u

/* See timeline.h. */
typedef struct {
    uint64_t interval_ns; /* 0 = no point yet */
    uint32_t point_n;
    uint32_t reserved;
    heft_point_t last; /* what was last known */
    heft_point_t points[HEFT_TIMELINE_POINTS];
} heft_timeline_t;

/* A string is a reference: byte offset into the string column, of { uint32_t length; bytes; padding to 4 }.
 * UTF-8 with surrogateescape'd bytes kept as three-byte surrogates; 0 = no string (the column starts with 4 unused
 * bytes). */

_Static_assert(sizeof(heft_chunk_t) == 32, "format");
_Static_assert(HEFT_FORMAT_CHUNKS * sizeof(heft_chunk_t) == HEFT_FORMAT_PAGE, "format");
_Static_assert(offsetof(heft_header_t, static_crc) == 52, "format");
_Static_assert(sizeof(heft_header_t) <= HEFT_FORMAT_PAGE, "format");
_Static_assert(sizeof(heft_node_t) == 64, "format");
_Static_assert(sizeof(heft_detail_t) == 64, "format");
_Static_assert(sizeof(heft_temp_t) == 32, "format");
_Static_assert(sizeof(heft_code_t) == 32, "format");
_Static_assert(sizeof(heft_thread_t) == 32, "format");
_Static_assert(sizeof(heft_timeline_t) <= 2 * HEFT_FORMAT_PAGE, "format");

#endif
