/* SPDX-License-Identifier: MIT */
/* The recorder: one for the process, the state that the allocator hooks work on.
 *
 * Life:   off -> waiting (booted; the interpreter still imports site) -> on -> off (sealed, or a forked child)
 *
 * Lock.  Everything here and in the ledger is protected by `lock`: hooks that hold the interpreter's lock take the
 * owner's side (a few plain instructions), others the guest's.  No critical section calls into the interpreter in a way
 * that could run Python code or allocate. */
#ifndef HEFT_PYTHON_RECORDER_H
#define HEFT_PYTHON_RECORDER_H

#include "python/version.h"

#include <emmintrin.h>

#include "base/bias.h"
#include "base/region.h"
#include "ledger/blocks.h"
#include "ledger/ledger.h"
#include "ledger/tree.h"

#define HEFT_STAMP_BASES 1024u           /* recordings that stamps can tell apart */
#define HEFT_NOBODY ((PyThreadState *)1) /* no thread state, and not NULL either */

/* What is known of a thread, by its thread state. */
typedef struct {
    __m128i recent;   /* as heft_recorder_t.recent, while another thread runs */
    uint32_t node;    /* root of its stacks: `root`, or the node of the region that it is in */
    uint32_t renames; /* looks at its name still to come */
    PyThreadState *ts;
    /* Tell a new thread state from an old one at the same address; the first number is unique in its interpreter. */
    uint64_t ts_id;
    int64_t interp_id;
    uint32_t root; /* its thread's node */
} __attribute__((aligned(64))) heft_thread_state_t;

typedef struct {
    /* read by every event */
    PyThreadState *ts; /* the thread state whose data `thread` is; HEFT_NOBODY forces the slow way */
    heft_thread_state_t *thread;
    /* The thread's last four requests, newest first: low words of address >> 3.  Moved as a whole register: a wide load
     * right after a narrow store would wait until the store has left the core. */
    __m128i recent;
    heft_bias_t lock;         /* CAREFUL while any of full_walk, check, ... is set, WATCHFUL while `regions` is */
    uint64_t context_version; /* of `ts` when its region was last looked up */
    uint32_t stamp_base; /* added to nodes in frames: HEFT_NODES_MAX times the number of the recording, modulo 1024 */
    ptrdiff_t tstate_offset; /* from the thread pointer to the current thread state's variable; 0 = ask (version.h) */
    int64_t ticks;           /* requests until the clock is read again */
    heft_tree_t tree __attribute__((aligned(64)));
    heft_blocks_t blocks;

    /* rare */
    bool on;
    bool expects_end; /* see heft_recorder_expect_end */
    bool full_walk;   /* do not trust stamps */
    bool check;       /* MEMHEFT_CHECK: compare every stack with the full walk */
    uint32_t hides;   /* how many calls of heft_hooks_hide have not been taken back, of all threads */
    bool regions;     /* the program uses regions: look which one a thread is in, see regions.h */
    bool guest;       /* the lock is held from the guest's side: no interpreter lock */
    uint32_t trials;  /* requests still to be compared by the self-test */
    heft_ledger_t ledger;
    uint64_t interval;     /* mean distance of samples in bytes; 0 = exact */
    uint64_t seed;         /* of the gaps */
    uint32_t number;       /* of the recording, 1 to 65535 and round again */
    bool owns_range;       /* the range of sampled blocks is this process' own, see sampled.c */
    bool is_ready;         /* what is done once in a process has been done */
    uint32_t shared_root;  /* of all threads without a root of their own; 0 = not made yet */
    char own_folder[1024]; /* of memheft's Python code, with a slash: its frames are machinery; "" = none runs here */
    heft_region_t thread_region, walk_region;
    heft_thread_state_t *threads;
    heft_frame_t **walk; /* frames of one walk, top first */
    uint32_t walk_max;
    uint64_t start_ns, rusage_ns; /* monotonic clock; when resident memory was last asked for */
    int statm_fd;                 /* /proc/self/statm, kept at a high number; -1 = closed */
    ino_t statm_ino;              /* of what we opened: the program may have closed it and opened another there */
    long maxrss_before;           /* KiB; the kernel's peak outlives exec: up to here it is the launcher's */
    pid_t pid;
    PyInterpreterState *interp;             /* the main one; others are recorded as guests */
    PyObject *name_attribute, *dunder_name; /* "_name", "__name__": immortal for the process' life */
} heft_recorder_t;

/* On pages of its own, which a child made by fork finds zeroed (MADV_WIPEONFORK): off, nobody, no ledger.  So a child
 * stays out of the parent's recording even if it was made without fork handlers. */
#define HEFT_RECORDER_BYTES 8192
typedef union {
    heft_recorder_t rec;
    char pages[HEFT_RECORDER_BYTES];
} heft_recorder_pages_t;
_Static_assert(sizeof(heft_recorder_pages_t) == HEFT_RECORDER_BYTES, "whole pages");
extern heft_recorder_pages_t heft_recorder_pages;
#define heft_rec (heft_recorder_pages.rec)

/* ---- recorder.c -------------------------------------------------------------------------------------------------- */

/* Start, called inside a hook (or at boot) by a thread that holds the interpreter's lock. */
bool heft_recorder_open(const char *path);
void heft_recorder_begin(void);

/* Give everything back after the seal, so that another recording can be opened. */
void heft_recorder_close(void);

/* The final state: main module, threads and exit handlers have ended.  Idempotent; does nothing in a forked child. */
void heft_recorder_seal(void);

/* The end may be near: from now on look whether the interpreter is being torn down, and seal when it is. */
void heft_recorder_expect_end(void);

/* In a forked child: let go of the parent's recording. */
void heft_recorder_forget(void);

/* Read the clock.  Called every 64 requests and whenever something new happens. */
void heft_recorder_tick(void);

/* Set or clear the lock's CAREFUL and WATCHFUL, from the flags above. */
void heft_recorder_set_careful(void);

/* Make heft_rec.thread the record of `ts`, on the owner's side of the lock. */
void heft_recorder_switch(PyThreadState *ts);

/* The record of a thread; NULL stands for threads that Python does not know.  Never NULL itself. */
heft_thread_state_t *heft_recorder_thread(PyThreadState *ts);

/* The slow half of finding a child: the bucket, then a new node. */
uint32_t heft_recorder_child_slow(uint32_t parent, uint64_t ip, heft_frame_t *frame);

/* ---- codes.c ----------------------------------------------------------------------------------------------------- */

/* Fill in what the tree wants to know of the frame's instruction; registers the code object if it is new. */
void heft_codes_describe(heft_frame_t *frame, heft_frame_info_t *info);

/* The text of a str as UTF-8, cut to HEFT_TEXT_MAX bytes; "?" for anything else.  Borrowed from the str or from
 * `buffer`; allocates nothing. */
#define HEFT_TEXT_MAX (3u * 1024u)
heft_str_t heft_codes_text(PyObject *unicode, char buffer[HEFT_TEXT_MAX]);

/* Forget what is known of code objects, at the start of a recording. */
void heft_codes_reset(void);

/* Put ourselves before code objects' deallocator, to retire those that die. */
void heft_codes_watch(void);

/* ---- hooks.c ----------------------------------------------------------------------------------------------------- */

void heft_hooks_wait(void);    /* wait for the main program to begin, then record */
void heft_hooks_install(void); /* record, after having waited */
void heft_hooks_start(void);   /* record at once */
/* Where RAW's allocator beneath the hooks of sampled mode is kept. */
PyMemAllocatorEx *heft_hooks_sampled_raw(void);
void heft_hooks_remove(void); /* as far as others' hooks on top of ours allow; passive in any case */

/* Do not record what this thread asks for, until it is called with false.  The interpreter's lock is held all the time.
 * May be nested. */
void heft_hooks_hide(bool hidden);

/* Go to the region that this thread, which holds the main interpreter's lock, is in now. */
void heft_hooks_settle(void);

/* An object was made of a block from a free list: if the block is known, it now belongs to the line that runs. */
void heft_hooks_reuse(const void *block);

/* ---- regions.c --------------------------------------------------------------------------------------------------- */

/* Has this process entered a region before? */
bool heft_regions_in_use(void);

/* Find the region that this thread is in, outside the recorder's lock and hidden: the interpreter is asked, which may
 * raise and allocate.  For the holder of the main interpreter's lock; keeps the exception that is set. */
void heft_regions_look(PyThreadState *ts);

/* Set heft_rec.thread->node for it, inside the lock; `ts`, whose record that is, has just looked. */
void heft_regions_follow(PyThreadState *ts);

/* ---- selftest.c -------------------------------------------------------------------------------------------------- */

/* NULL if this interpreter is laid out as the one we were compiled for, else why it cannot be recorded: one line. */
const char *heft_selftest_layout(void);

#endif
