/* SPDX-License-Identifier: MIT */
/* The recorder's cold parts: starting, threads, new call paths, the clock, sealing.  See recorder.h. */
#define _GNU_SOURCE
#include "python/recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ledger/timeline.h"
#include "python/sampled.h"
#include "python/snapshot.h"

/* Thread states with a record of their own, by address.  Records are not given back: a new thread mostly gets the
 * address of a dead one, and where not, the HEFT_THREADS_MAX roots are used up long before. */
#define THREAD_STATES 8192u
#define WALK_FRAMES (1u << 21)
#define TRIALS 512u
#define RENAMES 64u
#define TICKS 64
#define RUSAGE_NS 50000000u

heft_recorder_pages_t heft_recorder_pages __attribute__((aligned(4096)));

/* ---- new call paths ---------------------------------------------------------------------------------------------- */

static void name_thread(heft_thread_state_t *thread);

static uint32_t import_node(uint32_t import_switch, const heft_frame_t *frame)
{
    char buffer[HEFT_TEXT_MAX];
    return heft_tree_import(&heft_rec.tree, import_switch, heft_codes_text(heft_frame_local(frame, 0), buffer));
}

/* A call path for which there is no node yet. */
HEFT_COLD static uint32_t new_child(uint32_t parent, uint64_t ip, heft_frame_t *frame)
{
    heft_tree_t *tree = &heft_rec.tree;
    heft_frame_info_t info = {0};
    heft_recorder_tick();
    heft_codes_describe(frame, &info);
    /* once more: a code object of the same text may have come back to life just now, and its nodes with it */
    uint32_t import_switch = 0;
    uint32_t node = heft_tree_probe(tree, parent, ip, &import_switch);
    if (import_switch != 0)
        return import_node(import_switch, frame);
    if (node == 0)
        node = heft_tree_insert(tree, parent, ip, &info);
    if (!heft_rec.guest && heft_rec.thread->renames > 0)
        name_thread(heft_rec.thread);
    if (info.import_switch && tree->details[node].kind == HEFT_NODE_ALIAS)
        return import_node(node, frame);
    if (!info.import_switch && info.code != 0)
        heft_tree_remember(tree, parent, ip, node);
    return node;
}

HEFT_NOINLINE uint32_t heft_recorder_child_slow(uint32_t parent, uint64_t ip, heft_frame_t *frame)
{
    heft_tree_t *tree = &heft_rec.tree;
    uint32_t import_switch = 0;
    uint32_t node = heft_tree_probe(tree, parent, ip, &import_switch);
    if (import_switch != 0)
        return import_node(import_switch, frame); /* not remembered: the answer depends on the module */
    if (node == 0 && heft_tree_is_machinery(tree, ip))
        node = parent;
    if (node == 0)
        return new_child(parent, ip, frame);
    heft_tree_remember(tree, parent, ip, node);
    return node;
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

/* A thread's Python name is an attribute of the Thread object, the first local of its outermost frame.  Read when call
 * paths are made, which is early in a thread's life and never again in a steady state. */
HEFT_COLD static void name_thread(heft_thread_state_t *thread)
{
    thread->renames--;
    const heft_frame_t *bottom = NULL;
    for (const heft_frame_t *f = heft_top_frame(thread->ts); f != NULL; f = f->previous) {
        if (!heft_frame_is_shim(f))
            bottom = f;
    }
    if (bottom == NULL || heft_frame_is_incomplete(bottom) || heft_frame_code(bottom)->co_argcount < 1)
        return;
    char buffer[HEFT_TEXT_MAX];
    heft_str_t function = heft_codes_text(heft_frame_code(bottom)->co_qualname, buffer);
    static const char bootstrap[] = "Thread._bootstrap";
    if (function.bytes != sizeof bootstrap - 1 || memcmp(function.data, bootstrap, function.bytes) != 0)
        return;
    PyObject *name = heft_instance_value(heft_frame_local(bottom, 0), heft_rec.name_attribute);
    if (name != NULL && PyUnicode_Check(name))
        heft_tree_name_thread(&heft_rec.tree, thread->root, heft_codes_text(name, buffer));
}

/* Is this the root of one thread other than the main one? */
static bool is_named_by_python(uint32_t root)
{
    const heft_detail_t *detail = &heft_rec.tree.details[root];
    return detail->kind == HEFT_NODE_THREAD && heft_ledger_threads(&heft_rec.ledger)[detail->what].flags == 0;
}

/* All threads after the first HEFT_THREADS_MAX - 1, and those that Python does not know. */
static uint32_t shared_root(void)
{
    uint32_t *root = &heft_rec.shared_root;
    if (*root == 0)
        *root = heft_tree_thread(&heft_rec.tree, 0, HEFT_THREAD_SHARED);
    return *root != 0 ? *root : HEFT_TREE_ROOT;
}

static uint32_t new_root(const PyThreadState *ts)
{
    heft_tree_t *tree = &heft_rec.tree;
    heft_recorder_tick();
    bool is_main = ts->interp == heft_rec.interp && (pid_t)ts->native_thread_id == heft_rec.pid;
    uint32_t node = tree->header->thread_n < HEFT_THREADS_MAX - 1
                        ? heft_tree_thread(tree, ts->native_thread_id, is_main ? HEFT_THREAD_MAIN : 0)
                        : 0;
    if (node == 0)
        return shared_root();
    if (is_main)
        heft_tree_name_thread(tree, node, (heft_str_t){"MainThread", 10});
    return node;
}

HEFT_COLD heft_thread_state_t *heft_recorder_thread(PyThreadState *ts)
{
    heft_thread_state_t *others = &heft_rec.threads[THREAD_STATES];
    if (ts == NULL) {
        others->node = others->root = shared_root();
        return others;
    }
    uint32_t i = (uint32_t)(((uintptr_t)ts >> 4) * 0x9E3779B1u >> 8) % THREAD_STATES;
    for (uint32_t n = 0; n < 64; n++, i = (i + 1) % THREAD_STATES) {
        heft_thread_state_t *thread = &heft_rec.threads[i];
        if (thread->ts == ts && thread->ts_id == ts->id && thread->interp_id == ts->interp->id)
            return thread;
        if (thread->ts == NULL || thread->ts == ts) {
            uint32_t root = new_root(ts);
            *thread = (heft_thread_state_t){.ts = ts, .ts_id = ts->id, .node = root, .root = root};
            thread->interp_id = ts->interp->id;
            thread->renames = is_named_by_python(root) ? RENAMES : 0;
            return thread;
        }
    }
    others->node = others->root = shared_root();
    others->ts = NULL;
    return others;
}

HEFT_COLD void heft_recorder_switch(PyThreadState *ts)
{
    heft_recorder_tick();
    if (heft_rec.thread != NULL)
        heft_rec.thread->recent = heft_rec.recent;
    heft_rec.thread = heft_recorder_thread(ts);
    heft_rec.recent = heft_rec.thread->recent;
    heft_rec.ts = ts;
    if (heft_rec.regions)
        heft_regions_follow(ts);
}

/* ---- the clock --------------------------------------------------------------------------------------------------- */

static uint64_t monotonic_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Resident bytes of the process now, 0 = not known.  Two system calls, a few microseconds. */
static uint64_t resident_bytes(void)
{
    char text[128];
    struct stat st;
    unsigned long long pages;
    int fd = heft_rec.statm_fd;
    if (fd < 0 || fstat(fd, &st) != 0 || st.st_ino != heft_rec.statm_ino)
        return 0;
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    if (n <= 0)
        return 0;
    text[n] = 0;
    const char *second = strchr(text, ' ');
    return second != NULL && sscanf(second, "%llu", &pages) == 1 ? (uint64_t)pages * 4096 : 0;
}

HEFT_NOINLINE void heft_recorder_tick(void)
{
    heft_tree_t *tree = &heft_rec.tree;
    heft_rec.ticks = TICKS;
    uint64_t now = monotonic_ns() - heft_rec.start_ns, live = tree->live_bytes < 0 ? 0 : (uint64_t)tree->live_bytes;
    tree->now_ns = now;
    tree->header->now_ns = now;
    if (heft_rec.rusage_ns != 0 && now - heft_rec.rusage_ns < RUSAGE_NS) {
        heft_timeline_add(heft_rec.ledger.timeline, now, live, 0);
        return;
    }
    int saved_errno = errno;
    struct rusage usage;
    heft_rec.rusage_ns = now;
    if (getrusage(RUSAGE_SELF, &usage) == 0 && usage.ru_maxrss > heft_rec.maxrss_before)
        tree->header->rss_peak_bytes = (uint64_t)usage.ru_maxrss * 1024;
    heft_timeline_add(heft_rec.ledger.timeline, now, live, resident_bytes());
    tree->header->tool_bytes =
        heft_tree_tool_bytes(tree) + heft_blocks_tool_bytes(&heft_rec.blocks) + heft_snapshot_bytes();
    tree->header->lost_events = heft_rec.blocks.lost;
    errno = saved_errno;
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

static void in_child(void)
{
    heft_recorder_forget();
}

/* With the JIT on, instructions lag behind what runs (3.14, 3.15): readers say that lines are approximate. */
static bool is_jit_on(void)
{
    PyObject *jit = PySys_GetObject("_jit"); /* borrowed; absent before 3.14 */
    PyObject *on = jit != NULL ? PyObject_CallMethod(jit, "is_enabled", NULL) : NULL;
    bool is_on = on == Py_True;
    Py_XDECREF(on);
    PyErr_Clear();
    return is_on;
}

/* Once in a process (a forked child's state is wiped, it counts as another). */
static bool get_ready(heft_recorder_t *rec)
{
    static bool handles_forks;
    /* old kernels (before 4.14) refuse: then the fork handler alone keeps children out */
    (void)madvise(&heft_recorder_pages, sizeof heft_recorder_pages, MADV_WIPEONFORK);
    rec->ts = HEFT_NOBODY;
    rec->statm_fd = -1;
    rec->pid = getpid();
    rec->interp = PyInterpreterState_Main();
    rec->name_attribute = PyUnicode_InternFromString("_name");
    rec->dunder_name = PyUnicode_InternFromString("__name__");
    if (rec->name_attribute == NULL || rec->dunder_name == NULL)
        return false;
    heft_bias_init(&rec->lock);
    if (!handles_forks)
        pthread_atfork(NULL, NULL, in_child);
    handles_forks = true;
    heft_codes_watch();
    rec->is_ready = true;
    return true;
}

static bool is_set(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && strcmp(value, "1") == 0;
}

static void open_statm(heft_recorder_t *rec)
{
    struct stat st;
    int low = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    rec->statm_fd = heft_ledger_move_high(low);
    if (low >= 0 && rec->statm_fd == low) { /* no high number to be had: the low ones are the program's */
        close(low);
        rec->statm_fd = -1;
    }
    if (rec->statm_fd >= 0 && fstat(rec->statm_fd, &st) == 0)
        rec->statm_ino = st.st_ino;
}

static void close_statm(heft_recorder_t *rec)
{
    struct stat st;
    if (rec->statm_fd >= 0 && fstat(rec->statm_fd, &st) == 0 && st.st_ino == rec->statm_ino)
        close(rec->statm_fd);
    rec->statm_fd = -1;
}

bool heft_recorder_open(const char *path)
{
    heft_recorder_t *rec = &heft_rec;
    if (!rec->is_ready && !get_ready(rec))
        return false;
    int error = heft_ledger_attach(&rec->ledger, path);
    if (error != 0) {
        errno = error;
        return false;
    }
    if (!heft_tree_init(&rec->tree, &rec->ledger) || !heft_blocks_init(&rec->blocks) ||
        !heft_region_init(&rec->thread_region, (THREAD_STATES + 1) * sizeof(heft_thread_state_t)) ||
        !heft_region_init(&rec->walk_region, heft_region_share(WALK_FRAMES * sizeof(heft_frame_t *)))) {
        error = errno;
        heft_recorder_close();
        errno = error;
        return false;
    }
    rec->threads = (heft_thread_state_t *)(void *)rec->thread_region.base;
    rec->walk = (heft_frame_t **)(void *)rec->walk_region.base;
    rec->walk_max = (uint32_t)(rec->walk_region.reserved / sizeof(heft_frame_t *));
    rec->interval = rec->ledger.header->interval_bytes;
    rec->number = rec->number % 65535 + 1;
    const char *seed = getenv("MEMHEFT_SEED");
    rec->seed = seed != NULL ? strtoull(seed, NULL, 10) : monotonic_ns() ^ (uint64_t)rec->pid << 40;
    if (rec->interval != 0 && !heft_sampled_start(heft_hooks_sampled_raw())) {
        heft_recorder_close();
        errno = ENOMEM;
        return false;
    }
    rec->check = is_set("MEMHEFT_CHECK");
    rec->full_walk = is_set("MEMHEFT_FULL_WALK");
    rec->expects_end = false;
    rec->stamp_base = (rec->stamp_base + HEFT_NODES_MAX) % (HEFT_STAMP_BASES * HEFT_NODES_MAX);
    heft_codes_reset();
    if (rec->full_walk)
        rec->ledger.header->flags |= HEFT_FLAG_FULL_WALK;
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        rec->maxrss_before = usage.ru_maxrss;
    if (is_jit_on())
        rec->ledger.header->flags |= HEFT_FLAG_JIT;
    open_statm(rec);
    rec->ledger.header->pid = (uint64_t)rec->pid;
    return true;
}

HEFT_COLD void heft_recorder_close(void)
{
    heft_recorder_t *rec = &heft_rec;
    HEFT_ASSERT(!rec->on);
    /* guests who wait for the lock find `on` false and leave */
    rec->thread = NULL;
    rec->threads = NULL;
    rec->shared_root = 0;
    rec->rusage_ns = 0;
    rec->recent = _mm_setzero_si128();
    close_statm(rec);
    heft_tree_done(&rec->tree);
    heft_blocks_done(&rec->blocks);
    heft_region_done(&rec->thread_region);
    heft_region_done(&rec->walk_region);
    heft_ledger_detach(&rec->ledger);
}

void heft_recorder_begin(void)
{
    heft_recorder_t *rec = &heft_rec;
    rec->start_ns = monotonic_ns();
    rec->trials = rec->interval == 0 ? TRIALS : 0;
    rec->regions = heft_regions_in_use() && rec->tree.frames_kept == 0;
    heft_recorder_set_careful();
    rec->ledger.header->state = HEFT_STATE_RUNNING;
    /* Hooks of an earlier recording may be in place, with threads inside that do not hold the interpreter's lock. */
    heft_bias_lock(&rec->lock);
    heft_recorder_tick();
    rec->on = true;
    heft_bias_unlock(&rec->lock);
    if (rec->interval != 0)
        heft_sampled_begin();
}

void heft_recorder_set_careful(void)
{
    bool careful =
        heft_rec.full_walk || heft_rec.check || heft_rec.trials != 0 || heft_rec.expects_end || heft_rec.hides;
    uint32_t set = (careful ? HEFT_BIAS_CAREFUL : 0) | (heft_rec.regions ? HEFT_BIAS_WATCHFUL : 0);
    uint32_t cleared = (HEFT_BIAS_CAREFUL | HEFT_BIAS_WATCHFUL) & ~set;
    __atomic_fetch_or(&heft_rec.lock.attention, set, __ATOMIC_RELAXED);
    __atomic_fetch_and(&heft_rec.lock.attention, ~cleared, __ATOMIC_RELAXED);
}

void heft_recorder_expect_end(void)
{
    heft_rec.expects_end = true;
    heft_recorder_set_careful(); /* the fast way does not ask */
}

HEFT_COLD void heft_recorder_forget(void)
{
    /* only this thread is left; another may have died inside the lock, so it is not taken */
    heft_rec.on = false;
    heft_rec.ts = HEFT_NOBODY;
    heft_hooks_remove();
}

HEFT_COLD void heft_recorder_seal(void)
{
    heft_recorder_t *rec = &heft_rec;
    if (!rec->on || rec->pid != getpid())
        return;
    heft_bias_lock(&rec->lock);
    rec->rusage_ns = 0; /* ask for the resident peak as well */
    heft_recorder_tick();
    rec->on = false;
    rec->ts = HEFT_NOBODY;
    if (!heft_tree_check(&rec->tree))
        rec->tree.header->flags |= HEFT_FLAG_CONTRADICTION;
    heft_ledger_seal(&rec->ledger);
    heft_bias_unlock(&rec->lock);
    heft_hooks_remove();
}
