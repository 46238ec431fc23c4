/* SPDX-License-Identifier: MIT */
/* The allocator hooks: what runs on every request and every free of Python memory.
 *
 *     PyObject_Malloc -> obj_malloc -> pymalloc            1 to 512 bytes: recorded here
 *                                         '-> PyMem_RawMalloc -> raw_malloc -> malloc      else, and when no arena can
 *                                                                                          be had: recorded there
 *
 * The real allocator is always called first, a free is recorded before it happens (another thread may be given the
 * address at once), and a realloc takes the old record out before and puts the new one in after.  Under an allocator
 * other than plain pymalloc (debug hooks, PYTHONMALLOC=malloc, mimalloc) nothing is known of what it passes on to whom:
 * there each domain records all its requests itself and marks the thread as nested for what lies beneath.
 *
 * Cost of a request: about 6 ns, of a free: 4 ns (docs/internals/overhead.md). */
#define _GNU_SOURCE
#include "python/recorder.h"

#include <link.h>

#include "python/sampled.h"
#include "python/stack.h"

#define SMALL_MAX HEFT_SMALL_MAX
#define DOMAINS 3

/* Hooks of one kind, at their place in the chain. */
typedef struct {
    PyMemAllocatorEx next[DOMAINS], ours[DOMAINS]; /* ours.ctx points at next */
    bool in_place[DOMAINS]; /* ours are in the chain: on top, beneath tracemalloc, or beneath somebody unknown */
} layer_t;

static layer_t exact, sampled, waiting;
static bool is_waiting;

/* RAW serves threads without the interpreter's lock, which may meet our function and a foreign ctx, or the other way
 * round, while an allocator is being set.  So its hooks ignore their ctx, are installed once and stay. */
#define REAL_RAW (&exact.next[PYMEM_DOMAIN_RAW])

/* The last block of at most SMALL_MAX bytes that RAW has recorded in this thread.  When pymalloc can get no arena it
 * passes small requests on as well, and the hook above would record the same block once more. */
static __thread void *last_small_raw __attribute__((tls_model("initial-exec")));

/* Set while obj_malloc or obj_calloc passes a request on to RAW: its caller holds the interpreter's lock. */
static __thread bool passed_on __attribute__((tls_model("initial-exec")));

/* Set while a realloc, or a foreign allocator, runs beneath us: its calls to other domains are its own business.  Or
 * while this thread hides what it asks for. */
static __thread int nested __attribute__((tls_model("initial-exec")));

/* Is an exact recording on?  (After one of the other kind these hooks may still be in the chain.) */
HEFT_INLINE bool is_exact(void)
{
    return heft_rec.on && heft_rec.interval == 0;
}

/* ---- recording, inside the lock ---------------------------------------------------------------------------------- */

HEFT_COLD static void compare_stacks(uint32_t *node, PyThreadState *ts)
{
    uint32_t full = heft_stack_full(heft_top_frame(ts), heft_rec.thread->node);
    if (heft_rec.check)
        heft_rec.tree.header->check_compared++;
    else if (--heft_rec.trials == 0)
        heft_recorder_set_careful();
    if (full == *node)
        return;
    heft_rec.tree.header->check_mismatches++;
    if (!heft_rec.check) {
        heft_rec.full_walk = true;
        heft_rec.tree.header->flags |= HEFT_FLAG_FULL_WALK;
    }
    heft_recorder_set_careful();
    *node = full;
}

HEFT_INLINE uint32_t current_node(PyThreadState *ts)
{
    if (HEFT_UNLIKELY(heft_rec.full_walk))
        return heft_stack_full(heft_top_frame(ts), heft_rec.thread->node);
    uint32_t node = heft_stack_node(ts, heft_top_frame(ts), heft_rec.thread->node);
    if (HEFT_UNLIKELY(heft_rec.trials != 0 || heft_rec.check))
        compare_stacks(&node, ts);
    return node;
}

/* What a block is remembered by: allocators keep blocks 8 bytes apart or more. */
HEFT_INLINE int recent_key(const void *p)
{
    return (int)(uint32_t)((uintptr_t)p >> 3);
}

HEFT_INLINE void remember(__m128i *recent, const void *p)
{
    __m128i key = _mm_cvtsi32_si128(recent_key(p));
    *recent = _mm_or_si128(_mm_slli_si128(*recent, 4), key);
}

/* How many requests of its thread lie between the block's and now: 0..3, or -1 for more.  Forgets it. */
HEFT_INLINE int requests_since(__m128i *recent, const void *p)
{
    __m128i key = _mm_set1_epi32(recent_key(p));
    __m128i same = _mm_cmpeq_epi32(*recent, key);
    int mask = _mm_movemask_ps(_mm_castsi128_ps(same));
    if (HEFT_LIKELY(mask == 0))
        return -1;
    *recent = _mm_andnot_si128(same, *recent);
    return __builtin_ctz((unsigned)mask);
}

/* A request in the owner's name; the block's record is already made. */
HEFT_INLINE void count_request(const void *p, size_t n, uint32_t node)
{
    heft_tree_count_alloc(&heft_rec.tree, node, n);
    remember(&heft_rec.recent, p);
    if (HEFT_UNLIKELY(--heft_rec.ticks < 0))
        heft_recorder_tick();
}

HEFT_INLINE void count_free(__m128i *recent, const void *p, uint32_t node, size_t size)
{
    int since = requests_since(recent, p);
    if (since >= 0) {
        if (since > 0 && heft_rec.tree.details[node].temp == 0)
            heft_tree_add_temp(&heft_rec.tree, node);
        heft_tree_count_temp(&heft_rec.tree, node, size, (unsigned)since);
    }
    heft_tree_count_free(&heft_rec.tree, node, size);
}

/* ---- one event of a thread that holds the interpreter's lock ----------------------------------------------------- */

static HEFT_NOINLINE void look_for_region(PyThreadState *ts)
{
    nested++; /* hidden, should it ask for memory: the fast way does not go on before we have looked */
    heft_regions_look(ts);
    nested--;
}

/* The owner's side of the lock is for those who hold the main interpreter's lock, and asked for before anything else: a
 * guest who took it would let the next one in beside the owner.  False: the caller is a guest, or nothing is recorded
 * (in a forked child a guest may hold the lock for ever). */
HEFT_INLINE bool begin_event(PyThreadState *ts)
{
    if (HEFT_UNLIKELY(!is_exact() || ts == NULL || ts->interp != heft_rec.interp))
        return false;
    bool looks = HEFT_UNLIKELY(heft_rec.regions) && !nested &&
                 (ts != heft_rec.ts || heft_rec.context_version != ts->context_ver);
    if (HEFT_UNLIKELY(looks)) {
        heft_bias_disown(&heft_rec.lock); /* the fast way may have left us inside */
        look_for_region(ts);
    }
    heft_bias_own(&heft_rec.lock);
    if (HEFT_UNLIKELY(heft_rec.expects_end) && heft_is_finalizing()) {
        heft_bias_disown(&heft_rec.lock);
        heft_recorder_seal();
        return false;
    }
    if (HEFT_UNLIKELY(ts != heft_rec.ts))
        heft_recorder_switch(ts);
    else if (HEFT_UNLIKELY(looks))
        heft_regions_follow(ts);
    return true;
}

static void guest_request(PyThreadState *ts, void *p, size_t n, bool small);
static void guest_free(PyThreadState *ts, void *p);

/* Of a block that stood at a new one's address: it has been freed without our seeing it. */
HEFT_INLINE void count_displaced(void)
{
    if (HEFT_UNLIKELY(heft_rec.blocks.displaced != 0)) {
        heft_tree_count_free(&heft_rec.tree, heft_rec.blocks.displaced, heft_rec.blocks.displaced_size);
        heft_rec.blocks.displaced = 0;
    }
}

/* Make the block's record; false when there is no memory for it: then it must not be counted either. */
HEFT_INLINE bool put_large(void *p, size_t n, uint32_t node)
{
    bool put = heft_blocks_put_large(&heft_rec.blocks, (uintptr_t)p, n, node);
    count_displaced();
    return put;
}

HEFT_INLINE bool put_small(void *p, size_t n, uint32_t node)
{
    bool put = heft_blocks_put_small(&heft_rec.blocks, (uintptr_t)p, n, node);
    count_displaced();
    return put;
}

HEFT_INLINE void record_small(void *p, size_t n)
{
    PyThreadState *ts = heft_holder_tstate();
    if (HEFT_UNLIKELY(nested)) { /* hidden */
        if (begin_event(ts))
            heft_bias_disown(&heft_rec.lock); /* the fast way may have left us inside */
        return;
    }
    if (HEFT_UNLIKELY(!begin_event(ts))) {
        guest_request(ts, p, n, true);
        return;
    }
    uint32_t node = current_node(ts);
    if (put_small(p, n, node))
        count_request(p, n, node);
    heft_bias_disown(&heft_rec.lock);
}

HEFT_INLINE void record_large(PyThreadState *ts, void *p, size_t n)
{
    if (HEFT_UNLIKELY(!begin_event(ts))) {
        guest_request(ts, p, n, false);
        return;
    }
    uint32_t node = current_node(ts);
    if (put_large(p, n, node))
        count_request(p, n, node);
    heft_bias_disown(&heft_rec.lock);
}

/* Which table a block is looked for in: SMALL pymalloc's shadows, LARGE the other, EITHER both. */
typedef enum { NOWHERE, SMALL, LARGE, EITHER } table_t;

/* Take the record out; returns where it was found. */
HEFT_INLINE table_t take(table_t table, const void *p, size_t *size, uint32_t *node)
{
    if (table != LARGE && heft_blocks_take_small(&heft_rec.blocks, (uintptr_t)p, size, node))
        return SMALL;
    if ((table != SMALL || HEFT_UNLIKELY(heft_rec.blocks.strays)) &&
        heft_blocks_take_large(&heft_rec.blocks, (uintptr_t)p, size, node))
        return LARGE;
    return NOWHERE;
}

HEFT_INLINE void record_free(PyThreadState *ts, void *p, table_t table)
{
    size_t size;
    uint32_t node;
    if (HEFT_UNLIKELY(!begin_event(ts))) {
        guest_free(ts, p);
        return;
    }
    if (HEFT_LIKELY(take(table, p, &size, &node) != NOWHERE))
        count_free(&heft_rec.recent, p, node, size);
    heft_bias_disown(&heft_rec.lock);
}

/* ---- one event of anybody else: threads without the lock, threads of other interpreters ---------------------------
 */

/* A guest's thread, by the state it has or last had; NULL: Python does not know it. */
static PyThreadState *guest_state(PyThreadState *ts)
{
    return ts != NULL ? ts : PyGILState_GetThisThreadState(); /* reads thread-local storage only */
}

/* The thread's last requests: the owner's are where he works on them. */
static __m128i *recent_of(heft_thread_state_t *thread)
{
    return thread == heft_rec.thread ? &heft_rec.recent : &thread->recent;
}

HEFT_COLD static void guest_request(PyThreadState *ts, void *p, size_t n, bool small)
{
    if (!is_exact())
        return;
    ts = guest_state(ts);
    heft_bias_lock(&heft_rec.lock);
    if (is_exact()) {
        heft_rec.guest = true;
        heft_thread_state_t *thread = heft_recorder_thread(ts);
        uint32_t root = thread->node;
        /* its own frames cannot change while it is here; they may be read but not stamped */
        uint32_t node = ts == NULL ? root : heft_stack_full(heft_top_frame(ts), root);
        bool put = small ? put_small(p, n, node) : put_large(p, n, node);
        if (put) {
            heft_tree_count_alloc(&heft_rec.tree, node, n);
            remember(recent_of(thread), p);
        }
        heft_rec.guest = false;
    }
    heft_bias_unlock(&heft_rec.lock);
}

HEFT_COLD static table_t guest_take(PyThreadState *ts, void *p, size_t *size, uint32_t *node, bool is_free)
{
    if (!is_exact())
        return NOWHERE;
    ts = guest_state(ts);
    heft_bias_lock(&heft_rec.lock);
    table_t found = is_exact() ? take(EITHER, p, size, node) : NOWHERE;
    if (found != NOWHERE) {
        heft_rec.guest = true;
        __m128i *recent = recent_of(heft_recorder_thread(ts));
        if (is_free) {
            count_free(recent, p, *node, *size);
        } else {
            (void)requests_since(recent, p);
            heft_tree_count_free(&heft_rec.tree, *node, *size);
        }
        heft_rec.guest = false;
    }
    heft_bias_unlock(&heft_rec.lock);
    return found;
}

HEFT_COLD static void guest_free(PyThreadState *ts, void *p)
{
    size_t size;
    uint32_t node;
    (void)guest_take(ts, p, &size, &node, true);
}

/* ---- realloc ----------------------------------------------------------------------------------------------------- */

/* What a realloc took out, and how it goes on. */
typedef struct {
    __m128i recent; /* of the owner, to undo */
    size_t size;
    uint32_t node;
    table_t found;
    bool by_owner;
} resized_t;

/* It failed: the old block is still there, as if nothing had happened. */
HEFT_COLD static void put_back(void *p, const resized_t *old)
{
    if (!is_exact())
        return;
    heft_bias_lock(&heft_rec.lock); /* the guest's side serves everybody */
    if (is_exact() && old->found != NOWHERE) {
        if (old->found == SMALL)
            heft_blocks_put_shrunk(&heft_rec.blocks, (uintptr_t)p, old->size, old->node);
        else
            (void)put_large(p, old->size, old->node); /* no room: counted as lost, and live for ever */
        heft_tree_uncount_free(&heft_rec.tree, old->node, old->size);
        if (old->by_owner)
            heft_rec.recent = old->recent;
    }
    heft_bias_unlock(&heft_rec.lock);
}

/* A small block that goes to the second table: from now on small ones are looked for there, too. */
HEFT_COLD static void record_stray(PyThreadState *ts, void *p, size_t n)
{
    heft_bias_lock(&heft_rec.lock); /* the guest's side serves everybody */
    heft_rec.blocks.strays = true;
    heft_bias_unlock(&heft_rec.lock);
    record_large(ts, p, n);
}

/* Where pymalloc has put a resized block: in a pool if it came from one and still fits, else where malloc put it. */
HEFT_INLINE void record_resized(PyThreadState *ts, void *before, const resized_t *old, void *p, size_t n, table_t table)
{
    if (table != EITHER || old->found == LARGE || n - 1 >= SMALL_MAX) {
        if (old->found == SMALL && n == 0)
            record_stray(ts, p, n); /* a pool's block of no bytes: the shadow's word cannot say that */
        else
            record_large(ts, p, n);
        return;
    }
    if (old->found == NOWHERE || !begin_event(ts)) {
        record_stray(ts, p, n); /* older than the recording: which class its pool has is not known */
        return;
    }
    uint32_t node = current_node(ts);
    bool put = true;
    if (p == before)
        heft_blocks_put_shrunk(&heft_rec.blocks, (uintptr_t)p, n, node);
    else
        put = put_small(p, n, node);
    if (put)
        count_request(p, n, node);
    heft_bias_disown(&heft_rec.lock);
}

/* A block that is resized belongs to the line that asked for its present size; it was not freed, so it is no temporary.
 */
HEFT_INLINE void *resize(PyMemAllocatorEx *next, PyThreadState *ts, void *before, size_t n, table_t table)
{
    resized_t old = {0};
    if (HEFT_LIKELY(begin_event(ts))) {
        old.found = take(table, before, &old.size, &old.node);
        old.by_owner = true;
        old.recent = heft_rec.recent;
        if (old.found != NOWHERE) {
            (void)requests_since(&heft_rec.recent, before);
            heft_tree_count_free(&heft_rec.tree, old.node, old.size);
        }
        heft_bias_disown(&heft_rec.lock);
    } else {
        old.found = guest_take(ts, before, &old.size, &old.node, false);
    }
    nested++;
    void *p = next->realloc(next->ctx, before, n);
    nested--;
    if (HEFT_UNLIKELY(p == NULL))
        put_back(before, &old);
    else
        record_resized(ts, before, &old, p, n, table);
    return p;
}

/* ---- RAW: with or without the interpreter's lock ------------------------------------------------------------------
 */

HEFT_INLINE void record_raw(void *p, size_t n)
{
    if (n - 1 < SMALL_MAX)
        last_small_raw = p;
    record_large(passed_on ? heft_holder_tstate() : heft_current_tstate(), p, n);
}

static void *raw_malloc(void *ctx, size_t n)
{
    (void)ctx;
    void *p = REAL_RAW->malloc(REAL_RAW->ctx, n);
    if (HEFT_LIKELY(p != NULL && !nested))
        record_raw(p, n);
    return p;
}

static void *raw_calloc(void *ctx, size_t count, size_t size)
{
    (void)ctx;
    void *p = REAL_RAW->calloc(REAL_RAW->ctx, count, size);
    if (HEFT_LIKELY(p != NULL && !nested))
        record_raw(p, count * size);
    return p;
}

static void raw_free(void *ctx, void *p)
{
    (void)ctx;
    if (HEFT_LIKELY(p != NULL)) {
        if (p == last_small_raw)
            last_small_raw = NULL;
        if (HEFT_UNLIKELY(p == (void *)heft_rec.ts))
            heft_rec.ts = HEFT_NOBODY; /* a thread state dies: another may get its address */
        /* nested as well: what lies beneath a realloc frees blocks of its own (tracemalloc's traces), and the block
         * that is resized has been taken out */
        record_free(heft_current_tstate(), p, LARGE);
    }
    REAL_RAW->free(REAL_RAW->ctx, p);
}

static void *raw_realloc(void *ctx, void *p, size_t n)
{
    (void)ctx;
    if (nested)
        return REAL_RAW->realloc(REAL_RAW->ctx, p, n);
    if (p == NULL)
        return raw_malloc(ctx, n);
    return resize(REAL_RAW, heft_current_tstate(), p, n, LARGE);
}

/* ---- OBJ and MEM above pymalloc -----------------------------------------------------------------------------------
 */

/* The same as record_small for what nearly all requests are: the same thread as last time, a top frame whose stamp
 * knows the parent, a node that is remembered, a pool that is known.  It makes no call, so it needs no stack; and what
 * it has changed when it gives up (`busy`, a stamp, a tick) does not keep the long way from starting at the beginning.
 */
HEFT_INLINE bool record_small_fast(void *p, size_t n)
{
    PyThreadState *ts = heft_fast_tstate(heft_rec.tstate_offset);
    if (HEFT_UNLIKELY(ts != heft_rec.ts))
        return false;
    /* ours is the owner's side now; the long way takes it once more */
    __atomic_store_n(&heft_rec.lock.busy, 1, __ATOMIC_RELAXED);
    __asm__ volatile("" ::: "memory");
    heft_frame_t *top = heft_top_frame(ts);
    uint32_t attention = __atomic_load_n(&heft_rec.lock.attention, __ATOMIC_ACQUIRE);
    if (HEFT_UNLIKELY(attention != 0) &&
        (attention != HEFT_BIAS_WATCHFUL || heft_rec.context_version != ts->context_ver))
        return false;
    if (HEFT_UNLIKELY(top == NULL) || HEFT_UNLIKELY(--heft_rec.ticks < 0)) /* the long way reads the clock */
        return false;
    uint32_t parent = heft_stack_parent(top);
    uint32_t node = heft_tree_find(&heft_rec.tree, parent, heft_frame_ip(top)); /* 0 for parent 0 as well */
    if (HEFT_UNLIKELY(node == 0) || HEFT_UNLIKELY(!heft_blocks_put_fast(&heft_rec.blocks, (uintptr_t)p, n, node)))
        return false;
    heft_tree_count_alloc(&heft_rec.tree, node, n);
    remember(&heft_rec.recent, p);
    heft_bias_disown(&heft_rec.lock);
    return true;
}

HEFT_INLINE bool record_free_fast(void *p)
{
    size_t size;
    uint32_t node;
    if (HEFT_UNLIKELY(heft_fast_tstate(heft_rec.tstate_offset) != heft_rec.ts))
        return false;
    __atomic_store_n(&heft_rec.lock.busy, 1, __ATOMIC_RELAXED);
    __asm__ volatile("" ::: "memory");
    if (HEFT_UNLIKELY(__atomic_load_n(&heft_rec.lock.attention, __ATOMIC_ACQUIRE) & ~HEFT_BIAS_WATCHFUL))
        return false;
    uint32_t *word = heft_blocks_word_of(&heft_rec.blocks, (uintptr_t)p);
    if (HEFT_UNLIKELY(word == NULL || *word == 0))
        return false;
    heft_blocks_read_word(*word, &size, &node);
    __m128i recent = heft_rec.recent;
    __m128i same = _mm_cmpeq_epi32(recent, _mm_set1_epi32(recent_key(p)));
    int mask = _mm_movemask_ps(_mm_castsi128_ps(same));
    if (mask != 0) {
        unsigned since = (unsigned)__builtin_ctz((unsigned)mask);
        if (HEFT_UNLIKELY(since != 0 && heft_rec.tree.details[node].temp == 0))
            return false;
        heft_rec.recent = _mm_andnot_si128(same, recent);
        heft_tree_count_temp(&heft_rec.tree, node, size, since);
    }
    *word = 0;
    heft_tree_count_free(&heft_rec.tree, node, size);
    heft_bias_disown(&heft_rec.lock);
    return true;
}

static HEFT_NOINLINE void *small_slow(void *p, size_t n)
{
    if (HEFT_LIKELY(p != last_small_raw)) {
        record_small(p, n);
        return p;
    }
    last_small_raw = NULL; /* pymalloc has passed it on: recorded */
    if (begin_event(heft_holder_tstate()))
        heft_bias_disown(&heft_rec.lock); /* the fast way may have left us inside */
    return p;
}

static HEFT_NOINLINE void free_slow(PyMemAllocatorEx *next, void *p)
{
    record_free(heft_holder_tstate(), p, SMALL);
    next->free(next->ctx, p);
}

static HEFT_NOINLINE void *large_malloc(PyMemAllocatorEx *next, size_t n)
{
    passed_on = true;
    void *p = next->malloc(next->ctx, n);
    passed_on = false;
    return p;
}

static void *obj_malloc(void *ctx, size_t n)
{
    PyMemAllocatorEx *next = ctx;
    if (HEFT_UNLIKELY(n - 1 >= SMALL_MAX))
        return large_malloc(next, n);
    void *p = next->malloc(next->ctx, n);
    if (HEFT_UNLIKELY(p == NULL) || HEFT_LIKELY(record_small_fast(p, n)))
        return p;
    return small_slow(p, n);
}

static void *obj_calloc(void *ctx, size_t count, size_t size)
{
    PyMemAllocatorEx *next = ctx;
    passed_on = true;
    void *p = next->calloc(next->ctx, count, size);
    passed_on = false;
    if (HEFT_LIKELY(p != NULL && count * size - 1 < SMALL_MAX))
        return small_slow(p, count * size);
    return p;
}

static void obj_free(void *ctx, void *p)
{
    PyMemAllocatorEx *next = ctx;
    if (HEFT_LIKELY(p == NULL || record_free_fast(p)))
        next->free(next->ctx, p); /* not pymalloc's: passed on to RAW, recorded there */
    else
        free_slow(next, p);
}

static void *obj_realloc(void *ctx, void *p, size_t n)
{
    PyMemAllocatorEx *next = ctx;
    if (p == NULL)
        return obj_malloc(ctx, n);
    if (HEFT_UNLIKELY(nested)) /* hidden */
        return next->realloc(next->ctx, p, n);
    return resize(next, heft_holder_tstate(), p, n, EITHER);
}

/* ---- OBJ and MEM above anything else ------------------------------------------------------------------------------
 */

static void *any_malloc(void *ctx, size_t n)
{
    PyMemAllocatorEx *next = ctx;
    nested++;
    void *p = next->malloc(next->ctx, n);
    nested--;
    if (p != NULL && !nested)
        record_large(heft_current_tstate(), p, n);
    return p;
}

static void *any_calloc(void *ctx, size_t count, size_t size)
{
    PyMemAllocatorEx *next = ctx;
    nested++;
    void *p = next->calloc(next->ctx, count, size);
    nested--;
    if (p != NULL && !nested)
        record_large(heft_current_tstate(), p, count * size);
    return p;
}

static void any_free(void *ctx, void *p)
{
    PyMemAllocatorEx *next = ctx;
    if (p != NULL && !nested)
        record_free(heft_current_tstate(), p, LARGE);
    nested++;
    next->free(next->ctx, p);
    nested--;
}

static void *any_realloc(void *ctx, void *p, size_t n)
{
    if (p == NULL)
        return any_malloc(ctx, n);
    PyMemAllocatorEx *next = ctx;
    if (nested)
        return next->realloc(next->ctx, p, n);
    return resize(next, heft_current_tstate(), p, n, LARGE);
}

/* ---- memory that is used again without a request ----------------------------------------------------------------- */

void heft_hooks_reuse(const void *p)
{
    size_t size;
    uint32_t before;
    if (!begin_event(heft_holder_tstate()))
        return;
    if (heft_blocks_find(&heft_rec.blocks, (uintptr_t)p, &size, &before)) {
        uint32_t node = current_node(heft_rec.ts);
        if (node != before) {
            heft_tree_count_free(&heft_rec.tree, before, size);
            if (take(EITHER, p, &size, &before) == SMALL)
                heft_blocks_put_shrunk(&heft_rec.blocks, (uintptr_t)p, size, node);
            else
                (void)put_large((void *)(uintptr_t)p, size, node); /* there is room: it has just been taken out */
            heft_tree_count_alloc(&heft_rec.tree, node, size);
        }
    }
    heft_bias_disown(&heft_rec.lock);
}

/* ---- waiting for the main program -------------------------------------------------------------------------------- */

static void remove_from(layer_t *layer, int first);

/* We are loaded while the interpreter imports site.  The program begins when no Python frame is left.  MEM and OBJ are
 * enough to see that. */
static void look_for_begin(void)
{
    PyThreadState *ts = heft_current_tstate();
    if (!is_waiting || ts == NULL || ts->interp != heft_rec.interp)
        return;
    for (heft_frame_t *f = heft_top_frame(ts); f != NULL; f = f->previous) {
        if (!heft_frame_is_shim(f))
            return;
    }
    is_waiting = false;
    remove_from(&waiting, PYMEM_DOMAIN_MEM); /* if somebody stands on top by now, these stay and only pass on */
    heft_recorder_begin();
    heft_hooks_install();
}

static void *wait_malloc(void *ctx, size_t n)
{
    PyMemAllocatorEx *next = ctx;
    void *p = next->malloc(next->ctx, n);
    look_for_begin();
    return p;
}

static void *wait_calloc(void *ctx, size_t count, size_t size)
{
    PyMemAllocatorEx *next = ctx;
    void *p = next->calloc(next->ctx, count, size);
    look_for_begin();
    return p;
}

static void *wait_realloc(void *ctx, void *p, size_t n)
{
    PyMemAllocatorEx *next = ctx;
    return next->realloc(next->ctx, p, n);
}

static void wait_free(void *ctx, void *p)
{
    PyMemAllocatorEx *next = ctx;
    next->free(next->ctx, p);
}

/* ---- installing -------------------------------------------------------------------------------------------------- */

/* Where the interpreter lies (python, or libpython). */
static uintptr_t python_start, python_end;

static int find_python(struct dl_phdr_info *info, size_t size, void *unused)
{
    (void)size;
    (void)unused;
    uintptr_t start = UINTPTR_MAX, end = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_LOAD)
            continue;
        uintptr_t at = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        start = at < start ? at : start;
        end = at + info->dlpi_phdr[i].p_memsz > end ? at + info->dlpi_phdr[i].p_memsz : end;
    }
    if ((uintptr_t)PyMem_SetAllocator < start || (uintptr_t)PyMem_SetAllocator >= end)
        return 0;
    python_start = start;
    python_end = end;
    return 1;
}

static bool is_pythons(uintptr_t address)
{
    return address >= python_start && address < python_end;
}

/* tracemalloc's hooks have a ctx that points at the allocators it saved, and it puts those back when it stops.  Whoever
 * came before us and wants to stay on top must be slipped in beneath there, or be taken out with it.  The saved
 * allocators, or NULL if `current` is not tracemalloc's: of Python's own allocators only the debug hooks have a ctx as
 * well, and theirs begins with the letter of the domain. */
static PyMemAllocatorEx *saved_by_tracemalloc(const PyMemAllocatorEx *current)
{
    PyMemAllocatorEx *saved = current->ctx;
    if (!is_pythons((uintptr_t)current->malloc) || !is_pythons((uintptr_t)saved))
        return NULL;
    uintptr_t word = (uintptr_t)saved->ctx;
    return word == 'r' || word == 'm' || word == 'o' ? NULL : saved;
}

/* Put `table` on top, for the domains where it is not in place yet; `next` keeps what stood there before. */
static void set_allocators(layer_t *layer, const PyMemAllocatorEx table[DOMAINS], int first)
{
    for (int domain = first; domain < DOMAINS; domain++) {
        PyMemAllocatorEx current, *ours = &layer->ours[domain];
        if (layer->in_place[domain])
            continue; /* of an earlier recording: twice in one chain would go round for ever */
        layer->in_place[domain] = true;
        PyMem_GetAllocator((PyMemAllocatorDomain)domain, &current);
        PyMemAllocatorEx *saved = saved_by_tracemalloc(&current);
        layer->next[domain] = saved != NULL ? *saved : current;
        *ours = table[domain];
        ours->ctx = &layer->next[domain];
        if (saved != NULL)
            *saved = *ours;
        else
            PyMem_SetAllocator((PyMemAllocatorDomain)domain, ours);
    }
}

static bool is_layers(const layer_t *layer, const PyMemAllocatorEx *allocators, int domain)
{
    return allocators->malloc == layer->ours[domain].malloc && allocators->ctx == layer->ours[domain].ctx;
}

static void remove_from(layer_t *layer, int first)
{
    for (int domain = first; domain < DOMAINS; domain++) {
        PyMemAllocatorEx current;
        PyMem_GetAllocator((PyMemAllocatorDomain)domain, &current);
        PyMemAllocatorEx *saved = saved_by_tracemalloc(&current);
        if (!layer->in_place[domain])
            continue;
        if (is_layers(layer, &current, domain))
            PyMem_SetAllocator((PyMemAllocatorDomain)domain, &layer->next[domain]);
        else if (saved != NULL && is_layers(layer, saved, domain))
            *saved = layer->next[domain];
        else
            continue; /* somebody stands on top of us and still calls us: heft_rec.on is false, we only pass on */
        layer->in_place[domain] = false;
    }
}

#define TABLE(name)                                                                                                    \
    {                                                                                                                  \
        .malloc = name##_malloc, .calloc = name##_calloc, .realloc = name##_realloc, .free = name##_free               \
    }

static bool plain_pymalloc;

static void look_around(void)
{
    if (python_end == 0)
        dl_iterate_phdr(find_python, NULL);
    if (exact.in_place[PYMEM_DOMAIN_OBJ] || sampled.in_place[PYMEM_DOMAIN_OBJ])
        return;                                          /* then the answer is still what it was */
    const char *name = _PyMem_GetCurrentAllocatorName(); /* NULL under tracemalloc, or anything unknown */
    plain_pymalloc = name != NULL && strcmp(name, "pymalloc") == 0;
}

void heft_hooks_wait(void)
{
    look_around();
    static const PyMemAllocatorEx table[DOMAINS] = {{0}, TABLE(wait), TABLE(wait)};
    is_waiting = true;
    set_allocators(&waiting, table, PYMEM_DOMAIN_MEM);
}

void heft_hooks_start(void)
{
    look_around();
    heft_hooks_install();
}

void heft_hooks_install(void)
{
    static const PyMemAllocatorEx raw = TABLE(raw), obj = TABLE(obj), any = TABLE(any);
    _Static_assert(PYMEM_DOMAIN_RAW == 0 && PYMEM_DOMAIN_MEM == 1 && PYMEM_DOMAIN_OBJ == 2, "order of the table");
    PyMemAllocatorEx table[DOMAINS] = {raw, plain_pymalloc ? obj : any, plain_pymalloc ? obj : any};
    if (heft_rec.interval != 0) {
        table[0] = heft_sampled_raw;
        table[1] = table[2] = plain_pymalloc ? heft_sampled_obj : heft_sampled_any;
    }
    set_allocators(heft_rec.interval != 0 ? &sampled : &exact, table, PYMEM_DOMAIN_RAW);
}

PyMemAllocatorEx *heft_hooks_sampled_raw(void)
{
    return &sampled.next[PYMEM_DOMAIN_RAW];
}

void heft_hooks_hide(bool hidden)
{
    int change = hidden ? 1 : -1;
    nested += change;
    heft_sampled_hide(change);
    heft_rec.hides += (uint32_t)change;
    heft_recorder_set_careful(); /* the fast way does not ask */
}

void heft_hooks_settle(void)
{
    PyThreadState *ts = heft_holder_tstate();
    look_for_region(ts);
    heft_bias_own(&heft_rec.lock);
    if (heft_rec.on)
        heft_recorder_switch(ts);
    heft_bias_disown(&heft_rec.lock);
}

void heft_hooks_remove(void)
{
    remove_from(&exact, PYMEM_DOMAIN_MEM); /* those of sampled mode have to stay */
}
