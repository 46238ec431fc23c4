/* SPDX-License-Identifier: MIT */
/* A recording that is being made, in a folder of its own, for tests of what writes it. */
#ifndef HEFT_TESTS_WRITER_H
#define HEFT_TESTS_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ledger/ledger.h"
#include "ledger/reader.h"
#include "ledger/tree.h"

#ifdef HEFT_SLOW_CHECKS
#define HAS_SLOW_CHECKS 1 /* each insertion walks the whole tree: tests of large ones are shorter, or not run */
#else
#define HAS_SLOW_CHECKS 0
#endif

/* MEMHEFT_TEST_EXHAUSTIVE=1: minutes instead of seconds. */
bool is_exhaustive(void);

typedef struct {
    char folder[64];
    char path[160]; /* folder/a.heft */
    heft_ledger_t ledger;
    heft_tree_t tree;
    uint32_t thread;                     /* node of the main thread */
    uint32_t filler_parent, filler_name; /* of fill_tree */
} writer_t;

/* A folder and a name in it; no file yet.  On a disk, or in memory: for tests that make thousands. */
void writer_init_folder(writer_t *writer, bool on_disk);

/* The same with a recording; META is "{}".  `small`: as for a process under an address space limit, columns of a
 * sixteenth. */
void writer_init_ledger(writer_t *writer, bool small);

/* The same with a tree and a thread, RUNNING. */
void writer_init(writer_t *writer);
void writer_init_small(writer_t *writer);

/* Attach to the file at writer->path; make a tree, and start. */
void writer_attach(writer_t *writer);
void writer_start(writer_t *writer);

/* Unmap, close, and delete the folder with all files in it. */
void writer_done(writer_t *writer);

/* Read the file back; fails the test when it cannot be. */
void read_back(heft_reader_t *reader, const char *path);

/* Files of this process grow to `bytes` at most: a full disk for everybody.  RLIM_INFINITY: no limit. */
void limit_file_size(uint64_t bytes);

/* The process gets no more than `more` bytes of address space besides what it has.  Undone by unlimit_memory. */
void limit_memory(size_t more);
void unlimit_memory(void);

/* The whole file; the caller frees. */
unsigned char *slurp(const char *path, size_t *bytes);

heft_str_t str(const char *text); /* borrowed */

#define CODE_BYTES 0x200u

static inline uint64_t base_of(uint64_t address)
{
    return address + 0x80;
}

/* The address of an instruction; `instr` as in heft_frame_info_t: -2 is before the first. */
static inline uint64_t ip_of(uint64_t address, uint32_t instr)
{
    return base_of(address) + (uint64_t)(int64_t)(int32_t)instr;
}

/* A code object at `address`, its instructions from base_of(address). */
heft_code_info_t code_info(uint64_t address, uint64_t key, const char *name);

/* The node of (parent, instruction) as the recorder finds it: memo, bucket, machinery, new. */
uint32_t child(heft_tree_t *tree, uint32_t parent, uint64_t address, const heft_frame_info_t *frame,
               const char *imported);

/* The same for a plain frame. */
uint32_t plain_child(heft_tree_t *tree, uint32_t parent, uint32_t code, uint64_t address, uint32_t instr);

/* Nodes until there are `node_n` or no more fit: imports of modules without end, which cost no slow checks. */
void fill_tree(writer_t *writer, uint32_t node_n);
#define FILLER_ADDRESS UINT64_C(0x700000000000) /* of the code object that imports them */

#endif
