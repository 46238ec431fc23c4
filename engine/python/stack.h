/* SPDX-License-Identifier: MIT */
/* From the running frame to its node in the call tree: the heart of the recorder.
 *
 * A stamp is a value written into a field of a running frame that the interpreter resets when a frame is pushed or
 * suspended and otherwise treats alike.  If the stamp is still there, the frame is the same activation, so everything
 * older stands in the calls that lead to it, unchanged; only the frame's own instruction has to be read again.  The
 * stamp holds the number of the *parent's* node, so that one hash lookup answers:
 *
 *     node = child(stamp of the top frame, instruction of the top frame)
 *
 * 3.11-3.13: `stacktop`.  -1 while a frame runs; every negative value is treated like -1, so -2 - node fits.  It is
 *   overwritten when the frame makes an inlined call, and then the frame's first free stack slot, which the call has
 *   just vacated, holds the frame's own node (odd, so that no pointer equals it).  Which callees prove that a slot was
 *   vacated is `called_inline`.
 * 3.14-3.15: `visited`, a byte that is 0 at push and that nobody reads in these builds (the collector of 3.14.0-3.14.4
 *   writes 1, which only makes us walk); our 2 vouches for the four bytes of padding behind it, which hold the node.
 *   Only frames on the thread's own stack: generators keep the byte across yields; a coroutine that awaits another has
 *   a vacated slot instead.
 *
 * A stamp also holds the number of its recording (heft_rec.stamp_base): what an earlier one has left in frames that
 * still run, in whatever thread or greenlet, is none.
 *
 * What must not be written: the slot of a coroutine that waits while throw() runs in the one it awaits.  throw() links
 * the frames by hand, nothing was taken off the stack, and nothing will be put there before the next throw().  A frame
 * that stands at SEND has really sent (heft_frame_may_vouch, version.h).
 *
 * What must not be pinned: a frame under a trace function, which may assign f_lineno to it.  Frames above it are not
 * stamped (3.11-3.13: a caller with a saved stack pointer that called through C; 3.14: tstate->tracing).
 *
 * heft_stack_full is the oracle: the whole stack, no stamp read or written.  MEMHEFT_CHECK compares on each request,
 * and the first requests of every recording are compared anyway (recorder.h, `trials`).
 *
 * Sources: reference/cpython-internals 1.5, 1.6; CPython's Include/internal/pycore_frame.h, pycore_interpframe.h. */
#ifndef HEFT_PYTHON_STACK_H
#define HEFT_PYTHON_STACK_H

#include "python/recorder.h"

HEFT_INLINE uint32_t heft_stack_child(uint32_t parent, heft_frame_t *frame)
{
    uint64_t ip = heft_frame_ip(frame);
    uint32_t node = heft_tree_find(&heft_rec.tree, parent, ip);
    return HEFT_LIKELY(node != 0) ? node : heft_recorder_child_slow(parent, ip, frame);
}

/* The same as part of a walk. */
HEFT_INLINE uint32_t heft_stack_child_at(uint32_t parent, heft_frame_t *frame)
{
    uint64_t ip = heft_frame_ip(frame);
    heft_memo_t *memo = heft_tree_place(&heft_rec.tree, frame);
    if (HEFT_LIKELY(memo->ip == ip && memo->parent == parent))
        return memo->node;
    uint32_t node = heft_tree_find(&heft_rec.tree, parent, ip);
    if (HEFT_UNLIKELY(node == 0)) {
        node = heft_recorder_child_slow(parent, ip, frame);
        if (heft_tree_find(&heft_rec.tree, parent, ip) == 0)
            return node; /* not remembered: no fact, the answer depends on the module that is imported */
    }
    *memo = (heft_memo_t){ip, parent, node};
    return node;
}

/* The oracle: every frame, one lookup each. */
static HEFT_NOINLINE uint32_t heft_stack_full(heft_frame_t *top, uint32_t root)
{
    uint32_t n = 0, node = root;
    for (heft_frame_t *f = top; f != NULL; f = f->previous) {
        if (heft_frame_is_shim(f))
            continue;
        if (n == heft_rec.walk_max) {
            heft_rec.tree.header->cut_events++;
            break; /* two million frames deep: the oldest are left out */
        }
        heft_rec.walk[n++] = f;
    }
    while (n > 0)
        node = heft_stack_child(node, heft_rec.walk[--n]);
    return node;
}

#if PY_VERSION_HEX < 0x030E0000

/* ---- 3.11 - 3.13: stacktop --------------------------------------------------------------------------------------- */

/* stacktop: -1 while a frame runs, or -2 - a stamp; else where its stack was saved. */
HEFT_INLINE int heft_stacktop_of(uint32_t node)
{
    return -2 - (int)(heft_rec.stamp_base + node);
}

/* The node in a stamp of this recording, or no number of a node. */
HEFT_INLINE uint32_t heft_stamped_node(int stacktop)
{
    return (uint32_t)(-2 - stacktop) - heft_rec.stamp_base;
}

#define heft_slot(f, i) (*(uint64_t *)(void *)&(f)->localsplus[i])

HEFT_INLINE uint64_t heft_slot_of(uint32_t node)
{
    return ((uint64_t)heft_rec.stamp_base << 32 | node) << 1 | 1;
}

/* Does a slot hold a node of this recording? */
HEFT_INLINE bool heft_is_slot(uint64_t slot)
{
    return (slot & 1) && slot >> 33 == heft_rec.stamp_base;
}

/* Was `callee` (whose previous is `f`) pushed by an instruction of `f` that took something off f's stack? */
HEFT_INLINE bool called_inline(const heft_frame_t *callee, const heft_frame_t *f)
{
    if (callee == NULL || callee->previous != f)
        return false;
#if PY_VERSION_HEX >= 0x030D0000
    if (heft_frame_is_incomplete(f))
        return false; /* the __init__ trampoline: pushed in mid-call, never executed a call of its own */
#endif
#if PY_VERSION_HEX < 0x030C0000
    if (callee->is_entry)
        return false;
#endif
    if (callee->owner == FRAME_OWNED_BY_THREAD)
        return true;
#if PY_VERSION_HEX >= 0x030C0000
    /* a coroutine can only have been entered by SEND, which takes the value that is sent */
    if (callee->owner == FRAME_OWNED_BY_GENERATOR && (heft_frame_code(callee)->co_flags & CO_COROUTINE))
        return true;
#endif
    return false;
}

/* Was `callee` entered through C from `f`, the next frame that is not a shim? */
HEFT_INLINE bool called_through_c(const heft_frame_t *callee, const heft_frame_t *f)
{
#if PY_VERSION_HEX >= 0x030C0000
    return callee->previous != f;
#else
    (void)f;
    return callee->is_entry;
#endif
}

/* No stamp on top: walk down to the first one, then up again, leaving stamps. */
static HEFT_NOINLINE __attribute__((unused)) uint32_t heft_stack_walk(heft_frame_t *top, uint32_t root)
{
    heft_frame_t **walk = heft_rec.walk, *callee = NULL;
    uint32_t n = 0, node = root;
    for (heft_frame_t *f = top; f != NULL; callee = f, f = f->previous) {
        if (heft_frame_is_shim(f))
            continue;
        int depth = f->stacktop;
        if (heft_stamped_node(depth) < HEFT_NODES_MAX) {
            node = heft_stack_child_at(heft_stamped_node(depth), f);
            break;
        }
        if (depth >= 0 && called_inline(callee, f) && heft_is_slot(heft_slot(f, depth))) {
            node = (uint32_t)(heft_slot(f, depth) >> 1);
            break;
        }
        if (n == heft_rec.walk_max)
            return heft_stack_full(top, root);
        walk[n++] = f;
    }
    for (uint32_t i = n; i-- > 0;) {
        heft_frame_t *f = walk[i];
        uint32_t parent = node;
        int depth = f->stacktop;
        bool under_trace = i + 1 < n && walk[i + 1]->stacktop >= 0 && called_through_c(f, walk[i + 1]);
        if (i == 0 && depth < 0 && heft_frame_is_incomplete(f)) {
            if (!under_trace)
                f->stacktop = heft_stacktop_of(parent);
            return parent;
        }
        node = heft_stack_child_at(parent, f);
        if (under_trace) {
            while (i-- > 0)
                node = heft_stack_child(node, walk[i]);
            return node;
        }
        if (depth < 0)
            f->stacktop = heft_stacktop_of(parent);
        else if (i > 0 && called_inline(walk[i - 1], f) && heft_frame_may_vouch(f, walk[i - 1]))
            heft_slot(f, depth) = heft_slot_of(node);
    }
    return node;
}

/* Take the stamps out of a stack that begins at another root from now on.  Frames that are suspended elsewhere have
 * none that count: they lose them when they go on. */
static HEFT_COLD __attribute__((unused)) void heft_stack_forget(heft_frame_t *top)
{
    heft_frame_t *callee = NULL;
    for (heft_frame_t *f = top; f != NULL; callee = f, f = f->previous) {
        if (heft_frame_is_shim(f))
            continue;
        int depth = f->stacktop;
        if (depth < 0)
            f->stacktop = -1;
        else if (called_inline(callee, f) && heft_is_slot(heft_slot(f, depth)))
            heft_slot(f, depth) = 0;
    }
}

/* The parent's node, or 0 if it has to be walked for: of a frame with a stamp, or of a new activation (which then gets
 * its stamp) whose caller's vacated slot knows. */
HEFT_INLINE uint32_t heft_stack_parent(heft_frame_t *top)
{
    int depth = top->stacktop; /* a shim's is 0 */
    uint32_t node = heft_stamped_node(depth);
    if (HEFT_LIKELY(node < HEFT_NODES_MAX))
        return node;
    heft_frame_t *caller = top->previous;
    if (depth >= 0 || caller == NULL || heft_frame_is_shim(caller))
        return 0;
    int caller_depth = caller->stacktop;
    if (caller_depth < 0 || !called_inline(top, caller) || !heft_is_slot(heft_slot(caller, caller_depth)))
        return 0;
    uint32_t parent = (uint32_t)(heft_slot(caller, caller_depth) >> 1);
    top->stacktop = heft_stacktop_of(parent);
    return parent;
}

/* The node of the stack whose top frame is `top`, of the thread whose node is `root`. */
HEFT_INLINE uint32_t heft_stack_node(const PyThreadState *ts, heft_frame_t *top, uint32_t root)
{
    (void)ts;
    if (HEFT_UNLIKELY(top == NULL))
        return root;
    uint32_t parent = heft_stack_parent(top);
    return HEFT_LIKELY(parent != 0) ? heft_stack_child(parent, top) : heft_stack_walk(top, root);
}

#else

/* ---- 3.14 - 3.15: visited and the padding behind it -------------------------------------------------------------- */

#define HEFT_STAMP 2

_Static_assert(offsetof(struct _PyInterpreterFrame, visited) == 75, "the stamp's byte");
_Static_assert(offsetof(struct _PyInterpreterFrame, localsplus) == 80, "four bytes of padding hold the node");

#define heft_padding(f) (*(uint32_t *)(void *)((char *)(f) + 76))

/* The node in the frame's padding, if it is of this recording; or no number of a node. */
HEFT_INLINE uint32_t heft_stamped_node(const heft_frame_t *f)
{
    return heft_padding(f) - heft_rec.stamp_base;
}

HEFT_INLINE bool is_stamped(const heft_frame_t *f)
{
    /* owner and visited are neighbours: one comparison */
    return *(const uint16_t *)(const void *)&f->owner == (HEFT_STAMP << 8 | FRAME_OWNED_BY_THREAD) &&
           heft_stamped_node(f) < HEFT_NODES_MAX;
}

/* A coroutine that awaits another has no stamp, but a free stack slot that its call or SEND has just vacated and that
 * is written to as soon as it goes on.  Nothing that the interpreter leaves there looks like this: no address has these
 * upper bits, and no tagged integer is that large. */
#define HEFT_SLOT_MARK ((uint64_t)0x4D48 << 48)

/* `stamp_base` is a multiple of HEFT_NODES_MAX: what is left of it fits between the mark and the node. */
HEFT_INLINE uint64_t heft_slot_of(uint32_t node)
{
    return HEFT_SLOT_MARK | (uint64_t)(heft_rec.stamp_base / HEFT_NODES_MAX) << 32 | node;
}

HEFT_INLINE bool heft_is_slot(uint64_t slot)
{
    return slot >> 32 == heft_slot_of(0) >> 32;
}

HEFT_INLINE bool has_vacated_slot(const heft_frame_t *f, const heft_frame_t *callee)
{
    if (callee == NULL || callee->previous != f || f->owner != FRAME_OWNED_BY_GENERATOR || f->stackpointer == NULL)
        return false;
    if (callee->owner == FRAME_OWNED_BY_GENERATOR)
        return (heft_frame_code(callee)->co_flags & CO_COROUTINE) !=
               0; /* a generator may come from FOR_ITER: nothing taken */
    return callee->owner == FRAME_OWNED_BY_THREAD;
}

/* Is the slot inside the frame?  Asked before it is written to. */
HEFT_INLINE bool is_slot_inside(const heft_frame_t *f)
{
    const PyCodeObject *code = heft_frame_code(f);
    return f->stackpointer >= f->localsplus + code->co_nlocalsplus &&
           f->stackpointer < f->localsplus + code->co_nlocalsplus + code->co_stacksize;
}

static HEFT_NOINLINE __attribute__((unused)) uint32_t heft_stack_walk(const PyThreadState *ts, heft_frame_t *top,
                                                                      uint32_t root)
{
    heft_frame_t **walk = heft_rec.walk, *callee = NULL;
    uint32_t n = 0, node = root;
    for (heft_frame_t *f = top; f != NULL; callee = f, f = f->previous) {
        if (heft_frame_is_shim(f))
            continue;
        if (is_stamped(f)) {
            node = heft_stack_child_at(heft_stamped_node(f), f);
            break;
        }
        if (has_vacated_slot(f, callee) && heft_is_slot(f->stackpointer->bits)) {
            node = (uint32_t)f->stackpointer->bits;
            break;
        }
        if (n == heft_rec.walk_max)
            return heft_stack_full(top, root);
        walk[n++] = f;
    }
    bool pin = ts->tracing == 0;
    for (uint32_t i = n; i-- > 0;) {
        heft_frame_t *f = walk[i];
        if (pin && f->owner == FRAME_OWNED_BY_THREAD) {
            heft_padding(f) = heft_rec.stamp_base + node;
            f->visited = HEFT_STAMP;
        }
        node = heft_stack_child_at(node, f);
        if (pin && i > 0 && has_vacated_slot(f, walk[i - 1]) && heft_frame_may_vouch(f, walk[i - 1]) &&
            is_slot_inside(f))
            f->stackpointer->bits = heft_slot_of(node);
    }
    return node;
}

/* Take the stamps out of a stack that begins at another root from now on.  Frames that are suspended elsewhere have
 * none that count: they lose them when they go on. */
static HEFT_COLD __attribute__((unused)) void heft_stack_forget(heft_frame_t *top)
{
    heft_frame_t *callee = NULL;
    for (heft_frame_t *f = top; f != NULL; callee = f, f = f->previous) {
        if (heft_frame_is_shim(f))
            continue;
        if (is_stamped(f))
            f->visited = 0;
        else if (has_vacated_slot(f, callee) && heft_is_slot(f->stackpointer->bits))
            f->stackpointer->bits = 0;
    }
}

/* The parent's node if `top` is stamped, else 0. */
HEFT_INLINE uint32_t heft_stack_parent(heft_frame_t *top)
{
    return HEFT_LIKELY(is_stamped(top)) ? heft_stamped_node(top) : 0;
}

HEFT_INLINE uint32_t heft_stack_node(const PyThreadState *ts, heft_frame_t *top, uint32_t root)
{
    if (HEFT_UNLIKELY(top == NULL))
        return root;
    uint32_t parent = heft_stack_parent(top);
    return HEFT_LIKELY(parent != 0) ? heft_stack_child(parent, top) : heft_stack_walk(ts, top, root);
}

#endif
#endif
