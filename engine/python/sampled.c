/* SPDX-License-Identifier: MIT */
/* The allocator hooks of sampled mode: a countdown of bytes, and now and then a block that is recorded.
 *
 *     request of n bytes    countdown -= n;  still >= 0: on to the real allocator, nothing else
 *                           crossed: the block is a sample.  It comes from an address range of its own (base/range.h),
 *                           is charged to the stack with its weight, and the next gap is drawn
 *     free                  outside the range: on to the real allocator; inside: a sample, taken off again
 *
 * Gaps are exponential with mean `interval`, so samples are a Poisson process over the bytes requested: a block of n
 * bytes is taken with probability p = 1 - exp(-n / interval) and stands for 1 / p blocks of its size (Horvitz and
 * Thompson, 1952).  That is unbiased for bytes and blocks of every size at every moment.  The peak is the highest of
 * these estimates, and therefore a little too high on average.
 *
 * A realloc is one more request of its new size.  Whether a sample is temporary is known because the four requests
 * after it take the slow way and are counted.
 *
 * Sampled blocks outlive recordings: the hooks stay, and give them back.  A forked child has a copy of the range but
 * not of the lock's owner: it leaves the blocks that it was born with alone (frees of these do nothing), and puts
 * samples of its own above them.
 *
 * Cost of a request that is not sampled: a subtraction and a branch; RAW reads `nested` before that, and above another
 * allocator than pymalloc all domains do, and add to it and take off again. */
#define _GNU_SOURCE
#include "python/recorder.h"

#include "python/sampled.h"

#include <math.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/range.h"
#include "ledger/sampling.h"
#include "python/stack.h"

#define SMALL_MAX HEFT_SMALL_MAX
#define RANGE_BYTES ((size_t)256 << 30)
#define IDLE_BYTES 4096 /* between two looks of a thread whether a recording is on */
#define WATCHED 4u      /* requests after a sample that are counted */

/* Before each sampled block; the range's head before that holds its node. */
typedef struct {
    uint64_t request; /* number of the request in its thread | recording << 48 */
    void *thread;     /* whose request it was: address of its `me` */
} tag_t;
_Static_assert(sizeof(tag_t) == 16, "blocks stay aligned to 16");

typedef struct {
    int64_t countdown; /* bytes to the next sample; below zero while `watch` counts */
    int64_t held;      /* the same, while `watch` counts */
    uint64_t requests; /* counted ones; begins anywhere, for a new thread may get the address of a dead one's `me` */
    uint64_t random;
    uint32_t watch;    /* requests still to be counted */
    uint64_t interval; /* that the gap was drawn for; 0 = none */
    uint32_t nested;   /* a foreign allocator or a realloc runs beneath */
} sampler_t;

static __thread sampler_t me __attribute__((tls_model("initial-exec")));

static heft_range_t range;   /* protected by the recorder's lock; of the process that sets heft_rec.owns_range */
static uintptr_t range_base; /* with what a forked child got from its parent, which lies below its own range */
static size_t range_bytes;
static PyMemAllocatorEx *real_raw;

HEFT_INLINE bool is_sampled(const void *p)
{
    return (uintptr_t)p - range_base < range_bytes;
}

/* Of a sampled block: not one that this process was born with. */
static bool is_ours(const void *p)
{
    return heft_rec.owns_range && heft_range_has(&range, p);
}

static tag_t *tag_of(void *p)
{
    return (tag_t *)p - 1;
}

static heft_range_head_t *head_of(void *p)
{
    return heft_range_head(tag_of(p));
}

static size_t size_of(void *p)
{
    return (size_t)head_of(p)->size - sizeof(tag_t);
}

/* ---- gaps ---------------------------------------------------------------------------------------------------------
 */

/* xorshift64* (Vigna, 2016). */
static uint64_t next_random(void)
{
    me.random ^= me.random >> 12;
    me.random ^= me.random << 25;
    me.random ^= me.random >> 27;
    return me.random * 0x2545F4914F6CDD1Du;
}

static int64_t draw_gap(void)
{
    double u = (double)((next_random() >> 11) + 1) * 0x1p-53; /* (0, 1] */
    double gap = -log(u) * (double)heft_rec.interval;
    return gap < 0x1p62 ? (int64_t)gap : INT64_MAX / 2;
}

static void seed(void)
{
    static uint64_t threads;
    uint64_t z = heft_rec.seed + __atomic_add_fetch(&threads, 1, __ATOMIC_RELAXED) * 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u; /* splitmix64 (Vigna) */
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    me.random = (z ^ z >> 31) | 1;
    me.requests = next_random();
}

/* What a request of n bytes takes off the countdown, as heft_weigh() has it. */
HEFT_INLINE int64_t charge(size_t n)
{
    return (int64_t)(n + (n == 0) * HEFT_SAMPLING_EMPTY);
}

/* A request of `n` bytes has made the countdown negative.  Is its block a sample? */
static bool is_hit(size_t n)
{
    if (!heft_rec.on || heft_rec.interval == 0) {
        me.countdown = IDLE_BYTES;
        me.interval = 0;
        me.watch = 0;
        return false;
    }
    if (me.interval != heft_rec.interval) {
        /* A new thread, or one that was idle, or the rest of a gap of another kind.  (The rest of a gap of the same
         * kind, from an earlier recording, is as good as a new one: that is what exponential gaps are like.) */
        if (me.random == 0)
            seed();
        me.interval = heft_rec.interval;
        me.watch = 0;
        me.countdown = draw_gap() - charge(n);
        if (me.countdown >= 0)
            return false;
    }
    me.requests++;
    if (me.watch > 0) {
        me.held -= charge(n);
        if (me.held >= 0) {
            me.countdown = --me.watch == 0 ? me.held : -1;
            return false;
        }
    }
    me.held = draw_gap();
    me.watch = WATCHED;
    me.countdown = -1;
    return true;
}

/* ---- samples ------------------------------------------------------------------------------------------------------
 */

/* The caller's stack; inside the lock.  His own frames cannot change while he is here. */
static uint32_t caller_node(PyThreadState *holder)
{
    PyThreadState *ts = holder != NULL ? holder : PyGILState_GetThisThreadState();
    bool is_holder = holder != NULL && holder->interp == heft_rec.interp;
    heft_rec.guest = !is_holder; /* without the interpreter's lock no dict is looked into */
    heft_thread_state_t *thread = heft_recorder_thread(ts);
    if (is_holder) {
        heft_rec.thread = thread;
        if (heft_rec.regions)
            heft_regions_follow(ts);
    }
    uint32_t node = ts == NULL ? thread->node : heft_stack_full(heft_top_frame(ts), thread->node);
    heft_rec.guest = false;
    return node;
}

static void count_in(void *p, size_t n, uint32_t node)
{
    heft_weighted_t weighted = heft_weigh(n, heft_rec.interval);
    head_of(p)->number = node;
    *tag_of(p) = (tag_t){(me.requests & 0xFFFFFFFFFFFFu) | (uint64_t)heft_rec.number << 48, &me};
    heft_tree_count_allocs(&heft_rec.tree, node, weighted.bytes, weighted.blocks);
    heft_recorder_tick();
}

static void count_out(void *p, bool is_free)
{
    const tag_t *tag = tag_of(p);
    if (!heft_rec.on || tag->request >> 48 != heft_rec.number)
        return; /* of an earlier recording */
    heft_weighted_t weighted = heft_weigh(size_of(p), heft_rec.interval);
    uint32_t node = head_of(p)->number;
    uint64_t since = (me.requests - tag->request) & 0xFFFFFFFFFFFFu;
    if (is_free && tag->thread == &me && since < WATCHED) {
        if (since > 0 && heft_rec.tree.details[node].temp == 0)
            heft_tree_add_temp(&heft_rec.tree, node);
        heft_tree_count_temps(&heft_rec.tree, node, weighted.bytes, weighted.blocks, (unsigned)since);
    }
    heft_tree_count_frees(&heft_rec.tree, node, weighted.bytes, weighted.blocks);
}

/* Before the lock; hidden, should it ask for memory. */
static void look_for_region(PyThreadState *holder)
{
    if (HEFT_LIKELY(!heft_rec.regions) || holder == NULL || holder->interp != heft_rec.interp)
        return;
    me.nested++;
    heft_regions_look(holder);
    me.nested--;
}

void heft_sampled_hide(int change)
{
    me.nested += (uint32_t)change;
}

/* Inside the lock: is the gap that ends here still asked for?  To a thread without the interpreter's lock, its
 * recording may have ended since, and an exact one begun. */
static bool is_wanted(void)
{
    return heft_rec.on && heft_rec.interval == me.interval;
}

/* A sampled block, or NULL: the recording has just ended, or there is no room (then see lose()). */
static HEFT_NOINLINE void *sample(PyThreadState *holder, size_t n, bool zeroed)
{
    void *block = NULL;
    look_for_region(holder);
    heft_bias_lock(&heft_rec.lock);
    if (is_wanted()) {
        block = heft_range_alloc(&range, n + sizeof(tag_t), zeroed);
        if (block != NULL) {
            block = (tag_t *)block + 1;
            count_in(block, n, caller_node(holder));
        }
    }
    heft_bias_unlock(&heft_rec.lock);
    return block;
}

/* A sample found no room, and its request was granted by the real allocator. */
static HEFT_COLD void lose(void)
{
    heft_bias_lock(&heft_rec.lock);
    if (is_wanted())
        heft_rec.blocks.lost++;
    heft_bias_unlock(&heft_rec.lock);
}

static HEFT_NOINLINE void give_back(void *p)
{
    if (!is_ours(p))
        return; /* its parent's */
    heft_bias_lock(&heft_rec.lock);
    count_out(p, true);
    heft_range_free(&range, tag_of(p));
    heft_bias_unlock(&heft_rec.lock);
}

/* A hidden request has crossed the gap: it is no sample, and what is left of the gap is a new one. */
static void pass_hidden(void)
{
    me.countdown = me.watch == 0 && me.interval != 0 && me.interval == heft_rec.interval ? draw_gap() : -1;
}

static HEFT_NOINLINE void *crossed(PyMemAllocatorEx *next, PyThreadState *holder, size_t n, bool zeroed)
{
    if (HEFT_UNLIKELY(me.nested))
        pass_hidden();
    bool hit = me.nested == 0 && is_hit(n);
    void *p = hit ? sample(holder, n, zeroed) : NULL;
    if (p != NULL)
        return p;
    me.nested++;
    p = zeroed ? next->calloc(next->ctx, 1, n) : next->malloc(next->ctx, n);
    me.nested--;
    if (hit && p != NULL)
        lose();
    return p;
}

/* A sampled block becomes a sample of another size, where it stands or elsewhere in the range.  NULL: no room, or the
 * recording has just ended; the block is as it was. */
static void *resize_in_range(PyThreadState *holder, void *p, size_t n)
{
    void *moved = NULL;
    size_t before = size_of(p);
    heft_bias_lock(&heft_rec.lock);
    tag_t *tag = is_wanted() ? heft_range_resize(&range, tag_of(p), n + sizeof(tag_t)) : NULL;
    if (tag != NULL) {
        moved = tag + 1;
        size_t now = (size_t)head_of(moved)->size;
        head_of(moved)->size = before + sizeof(tag_t); /* it is taken off as what it was */
        count_out(moved, false);
        head_of(moved)->size = now;
        count_in(moved, n, caller_node(holder));
    }
    heft_bias_unlock(&heft_rec.lock);
    return moved;
}

/* A sampled block gets another size: one more request, whose block may be a sample or not. */
static HEFT_NOINLINE void *resize_sample(PyMemAllocatorEx *next, PyThreadState *holder, void *p, size_t n)
{
    size_t before = size_of(p);
    bool ours = is_ours(p);
    me.countdown -= charge(n);
    bool hit = me.nested == 0 && me.countdown < 0 && is_hit(n);
    void *moved = NULL;
    if (hit && ours) {
        look_for_region(holder);
        moved = resize_in_range(holder, p, n);
        if (moved != NULL)
            return moved;
    } else if (hit) {
        moved = sample(holder, n, false);
        hit = moved == NULL;
    }
    if (moved == NULL) {
        me.nested++;
        moved = next->malloc(next->ctx, n);
        me.nested--;
        if (moved == NULL)
            return NULL;
    }
    memcpy(moved, p, before < n ? before : n);
    if (ours) {
        heft_bias_lock(&heft_rec.lock);
        count_out(p, false);
        heft_range_free(&range, tag_of(p));
        heft_bias_unlock(&heft_rec.lock);
    }
    if (hit)
        lose();
    return moved;
}

/* A block that is no sample gets another size and has made the countdown negative. */
static HEFT_NOINLINE void *resize_crossed(PyMemAllocatorEx *next, PyThreadState *holder, void *p, size_t n)
{
    me.nested++;
    void *moved = next->realloc(next->ctx, p, n); /* afterwards n bytes may be read, however large it was */
    me.nested--;
    if (HEFT_UNLIKELY(me.nested))
        pass_hidden();
    if (moved == NULL || me.nested != 0 || !is_hit(n))
        return moved;
    void *block = sample(holder, n, false);
    if (block == NULL) {
        lose();
        return moved;
    }
    memcpy(block, moved, n);
    me.nested++;
    next->free(next->ctx, moved);
    me.nested--;
    return block;
}

/* ---- RAW ----------------------------------------------------------------------------------------------------------
 */

static void *raw_malloc(void *ctx, size_t n)
{
    (void)ctx;
    if (me.nested || HEFT_LIKELY((me.countdown -= charge(n)) >= 0))
        return real_raw->malloc(real_raw->ctx, n);
    return crossed(real_raw, heft_current_tstate(), n, false);
}

static void *raw_calloc(void *ctx, size_t count, size_t size)
{
    (void)ctx;
    if (me.nested || HEFT_LIKELY((me.countdown -= charge(count * size)) >= 0))
        return real_raw->calloc(real_raw->ctx, count, size);
    return crossed(real_raw, heft_current_tstate(), count * size, true);
}

static void raw_free(void *ctx, void *p)
{
    (void)ctx;
    if (HEFT_LIKELY(!is_sampled(p)))
        real_raw->free(real_raw->ctx, p);
    else
        give_back(p);
}

static void *raw_realloc(void *ctx, void *p, size_t n)
{
    if (p == NULL)
        return raw_malloc(ctx, n);
    if (HEFT_UNLIKELY(is_sampled(p)))
        return resize_sample(real_raw, heft_current_tstate(), p, n);
    if (me.nested || HEFT_LIKELY((me.countdown -= charge(n)) >= 0))
        return real_raw->realloc(real_raw->ctx, p, n);
    return resize_crossed(real_raw, heft_current_tstate(), p, n);
}

/* ---- MEM and OBJ above pymalloc: what is larger than its blocks is counted by RAW ----------------------------------
 */

static void *obj_malloc(void *ctx, size_t n)
{
    PyMemAllocatorEx *next = ctx;
    if (HEFT_UNLIKELY(n - 1 >= SMALL_MAX) || HEFT_LIKELY((me.countdown -= (int64_t)n) >= 0))
        return next->malloc(next->ctx, n);
    return crossed(next, heft_holder_tstate(), n, false);
}

static void *obj_calloc(void *ctx, size_t count, size_t size)
{
    PyMemAllocatorEx *next = ctx;
    if (HEFT_UNLIKELY(count * size - 1 >= SMALL_MAX) || HEFT_LIKELY((me.countdown -= (int64_t)(count * size)) >= 0))
        return next->calloc(next->ctx, count, size);
    return crossed(next, heft_holder_tstate(), count * size, true);
}

static void obj_free(void *ctx, void *p)
{
    PyMemAllocatorEx *next = ctx;
    if (HEFT_LIKELY(!is_sampled(p)))
        next->free(next->ctx, p);
    else
        give_back(p);
}

static void *obj_realloc(void *ctx, void *p, size_t n)
{
    PyMemAllocatorEx *next = ctx;
    if (p == NULL)
        return obj_malloc(ctx, n);
    if (HEFT_UNLIKELY(is_sampled(p)))
        return resize_sample(next, heft_holder_tstate(), p, n);
    if (HEFT_UNLIKELY(n - 1 >= SMALL_MAX))
        return next->realloc(next->ctx, p, n);
    if (HEFT_UNLIKELY((me.countdown -= (int64_t)n) < 0))
        return resize_crossed(next, heft_holder_tstate(), p, n);
    me.nested++; /* a block of RAW's that shrinks would be counted once more */
    p = next->realloc(next->ctx, p, n);
    me.nested--;
    return p;
}

/* ---- MEM and OBJ above anything else: what lies beneath is its own business ----------------------------------------
 */

static void *any_malloc(void *ctx, size_t n)
{
    PyMemAllocatorEx *next = ctx;
    if (!me.nested && HEFT_UNLIKELY((me.countdown -= charge(n)) < 0))
        return crossed(next, heft_current_tstate(), n, false);
    me.nested++;
    void *p = next->malloc(next->ctx, n);
    me.nested--;
    return p;
}

static void *any_calloc(void *ctx, size_t count, size_t size)
{
    PyMemAllocatorEx *next = ctx;
    if (!me.nested && HEFT_UNLIKELY((me.countdown -= charge(count * size)) < 0))
        return crossed(next, heft_current_tstate(), count * size, true);
    me.nested++;
    void *p = next->calloc(next->ctx, count, size);
    me.nested--;
    return p;
}

static void any_free(void *ctx, void *p)
{
    PyMemAllocatorEx *next = ctx;
    if (HEFT_UNLIKELY(is_sampled(p))) {
        give_back(p);
        return;
    }
    me.nested++;
    next->free(next->ctx, p);
    me.nested--;
}

static void *any_realloc(void *ctx, void *p, size_t n)
{
    PyMemAllocatorEx *next = ctx;
    if (p == NULL)
        return any_malloc(ctx, n);
    if (HEFT_UNLIKELY(is_sampled(p)))
        return resize_sample(next, heft_current_tstate(), p, n);
    if (!me.nested && HEFT_UNLIKELY((me.countdown -= charge(n)) < 0))
        return resize_crossed(next, heft_current_tstate(), p, n);
    me.nested++;
    p = next->realloc(next->ctx, p, n);
    me.nested--;
    return p;
}

/* ---- tables -------------------------------------------------------------------------------------------------------
 */

/* Address space is free, unless a limit makes the program pay for it. */
static size_t range_wanted(void)
{
    struct rlimit limit;
    bool limited = getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
    return limited ? (size_t)limit.rlim_cur / 16 : RANGE_BYTES;
}

bool heft_sampled_start(PyMemAllocatorEx *real)
{
    real_raw = real;
    if (heft_rec.owns_range)
        return true;
    if (range_bytes != 0) { /* a forked child */
        if (!heft_range_rest(&range))
            return false;
    } else {
        if (!heft_range_init(&range, range_wanted()))
            return false;
        range_base = (uintptr_t)range.base;
        range_bytes = range.reserved;
    }
    heft_rec.owns_range = true;
    return true;
}

void heft_sampled_begin(void)
{
    me.interval = 0;
    me.random = 0; /* after a fork, numbers of its own */
    me.countdown = 0;
}

#define TABLE(name)                                                                                                    \
    {                                                                                                                  \
        .malloc = name##_malloc, .calloc = name##_calloc, .realloc = name##_realloc, .free = name##_free               \
    }

const PyMemAllocatorEx heft_sampled_raw = TABLE(raw), heft_sampled_obj = TABLE(obj), heft_sampled_any = TABLE(any);
