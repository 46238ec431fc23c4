/* SPDX-License-Identifier: MIT */
/* A view as a tree, see view.h.
 *
 * The usual tree is that of the vertices, written out with the largest child first.
 *
 * The inverted one begins with what allocated and goes on with callers.  Its rows are sets of stacks: all that agree in
 * their innermost frames.  One array holds the stacks; a row is a slice of it, its children are parts of it:
 *
 *     row              items[first .. first + n)                    after sorting by the next caller
 *     json.py:3        | app.py:1 | main.py:7 | app.py:1 |    ->    | app.py:1  app.py:1 | main.py:7 |
 *
 * An inverted tree may be far larger than the recording (sum of all depths), so rows are opened by weight, the heaviest
 * first, until ROWS_MAX exist or STEPS_MAX moves were made; no screen shows that many. */
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "ledger/view.h"

#define ROWS_MAX 400000u
#define STEPS_MAX 20000000u

/* Order among siblings: heaviest first, then by rank of the frame; threads by number. */
typedef struct {
    heft_amount_t under;
    uint64_t rank;
    uint32_t at; /* vertex, or row */
} sibling_t;

static int compare_siblings(const void *pa, const void *pb)
{
    const sibling_t *a = pa, *b = pb;
    if (a->under.bytes != b->under.bytes)
        return a->under.bytes > b->under.bytes ? -1 : 1;
    if (a->under.blocks != b->under.blocks)
        return a->under.blocks > b->under.blocks ? -1 : 1;
    return (a->rank > b->rank) - (a->rank < b->rank);
}

static uint64_t rank_of(const heft_stacks_t *s, uint32_t v)
{
    const heft_vertex_t *vertex = &s->vertices[v];
    if (vertex->frame != HEFT_NONE)
        return s->frames[vertex->frame].rank;
    return vertex->part == HEFT_NONE ? UINT64_C(1) << 32 | vertex->thread : UINT64_C(2) << 32 | vertex->part;
}

/* ---- from the outside in ------------------------------------------------------------------------------------- */

typedef struct {
    uint32_t vertex, depth;
} todo_t;

/* The children of `v` that hold something, appended to siblings[n]; threads are passed through unless `threads`. */
static uint32_t collect(const heft_view_t *view, uint32_t v, bool threads, sibling_t *siblings, uint32_t n)
{
    const heft_stacks_t *s = view->stacks;
    for (uint32_t child = s->vertices[v].first; child != 0; child = s->vertices[child].next) {
        if (heft_amount_is_zero(view->under[child]))
            continue;
        if (!threads && heft_stacks_is_base(s, child) &&
            !heft_stacks_is_part(s, child)) /* one level of them at most: no deep recursion */
            n = collect(view, child, true, siblings, n);
        else
            siblings[n++] = (sibling_t){view->under[child], rank_of(s, child), child};
    }
    return n;
}

static void write_out(const heft_view_t *view, heft_branches_t *tree, todo_t *todo, sibling_t *siblings)
{
    const heft_stacks_t *s = view->stacks;
    bool threads = heft_view_has_threads(view);
    uint32_t todo_n = 0;
    todo[todo_n++] = (todo_t){0, 0};
    while (todo_n > 0) {
        todo_t t = todo[--todo_n];
        const heft_vertex_t *vertex = &s->vertices[t.vertex];
        tree->branches[tree->branch_n++] = (heft_branch_t){.depth = t.depth,
                                                           .frame = vertex->frame,
                                                           .thread = threads ? vertex->thread : HEFT_NONE,
                                                           .part = vertex->part,
                                                           .self = view->self[t.vertex],
                                                           .under = view->under[t.vertex],
                                                           .recursive = vertex->recursive};
        uint32_t n = collect(view, t.vertex, threads, siblings, 0);
        qsort(siblings, n, sizeof *siblings, compare_siblings);
        while (n-- > 0) /* the largest last, to be taken first */
            todo[todo_n++] = (todo_t){siblings[n].at, t.depth + 1};
        HEFT_ASSERT(tree->branch_n + todo_n <= s->vertex_n);
    }
}

static bool outside_in(const heft_view_t *view, heft_branches_t *tree)
{
    uint32_t vertex_n = view->stacks->vertex_n;
    tree->branches = malloc(vertex_n * sizeof *tree->branches);
    todo_t *todo = malloc(vertex_n * sizeof *todo);
    sibling_t *siblings = malloc(vertex_n * sizeof *siblings);
    bool ok = tree->branches != NULL && todo != NULL && siblings != NULL;
    if (ok)
        write_out(view, tree, todo, siblings);
    free(todo);
    free(siblings);
    return ok;
}

/* ---- from the inside out ------------------------------------------------------------------------------------- */

/* One stack, and how far up the row that holds it has gone. */
typedef struct {
    uint64_t rank; /* of `at` */
    heft_amount_t amount;
    uint32_t at;
} item_t;

typedef struct {
    heft_branch_t branch;
    uint32_t first, item_n;        /* its slice of the items */
    uint32_t child_first, child_n; /* rows; once opened */
} row_t;

typedef struct {
    const heft_view_t *view;
    item_t *items;
    row_t *rows;
    uint32_t row_n, row_room;
    uint32_t *heap; /* rows not opened yet, the heaviest at 0 */
    uint32_t heap_n;
    uint64_t steps;
    bool threads;
} inverted_t;

static int compare_items(const void *pa, const void *pb)
{
    const item_t *a = pa, *b = pb;
    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    return (a->at > b->at) - (a->at < b->at); /* whatever the sort: the same rows each time */
}

static bool is_lighter(const inverted_t *t, uint32_t a, uint32_t b)
{
    uint64_t x = t->rows[a].branch.under.bytes, y = t->rows[b].branch.under.bytes;
    return x != y ? x < y : a > b;
}

static void heap_push(inverted_t *t, uint32_t row)
{
    uint32_t i = t->heap_n++;
    for (; i > 0 && is_lighter(t, t->heap[(i - 1) / 2], row); i = (i - 1) / 2)
        t->heap[i] = t->heap[(i - 1) / 2];
    t->heap[i] = row;
}

static uint32_t heap_pop(inverted_t *t)
{
    uint32_t top = t->heap[0], last = t->heap[--t->heap_n], i = 0;
    for (uint32_t child; (child = 2 * i + 1) < t->heap_n; i = child) {
        if (child + 1 < t->heap_n && is_lighter(t, t->heap[child], t->heap[child + 1]))
            child++;
        if (!is_lighter(t, last, t->heap[child]))
            break;
        t->heap[i] = t->heap[child];
    }
    t->heap[i] = last;
    return top;
}

static bool grow_rows(inverted_t *t)
{
    if (t->row_n < t->row_room)
        return true;
    uint32_t room = t->row_room == 0 ? 1024 : t->row_room * 2;
    row_t *rows = realloc(t->rows, room * sizeof *rows);
    t->rows = rows != NULL ? rows : t->rows;
    uint32_t *heap = rows != NULL ? realloc(t->heap, room * sizeof *heap) : NULL;
    t->heap = heap != NULL ? heap : t->heap;
    t->row_room = heap != NULL ? room : t->row_room;
    return heap != NULL;
}

/* Move the row's stacks one caller up; those that have none are counted as the row's own.  Returns how many are left,
 * at the front of the slice. */
static uint32_t move_up(inverted_t *t, row_t *row)
{
    const heft_stacks_t *s = t->view->stacks;
    uint32_t n = 0;
    for (uint32_t i = 0; i < row->item_n; i++) {
        item_t item = t->items[row->first + i];
        item.at = s->vertices[item.at].up;
        bool is_thread = heft_stacks_is_base(s, item.at) && !heft_stacks_is_part(s, item.at);
        if (is_thread && (!t->threads || item.at == 0)) {
            heft_amount_add(&row->branch.self, item.amount);
            continue;
        }
        item.rank = rank_of(s, item.at);
        t->items[row->first + n++] = item;
    }
    t->steps += row->item_n;
    return n;
}

/* A row for each run of equal ranks in the slice. */
static bool add_children(inverted_t *t, uint32_t row, uint32_t n)
{
    const heft_stacks_t *s = t->view->stacks;
    uint32_t first = t->rows[row].first, end = first + n;
    qsort(t->items + first, n, sizeof *t->items, compare_items);
    t->rows[row].child_first = t->row_n;
    while (first < end) {
        const item_t *head = &t->items[first];
        const heft_vertex_t *vertex = &s->vertices[head->at];
        if (!grow_rows(t))
            return false;
        row_t *child = &t->rows[t->row_n];
        *child = (row_t){.first = first};
        child->branch.depth = t->rows[row].branch.depth + 1;
        child->branch.frame = vertex->frame;
        bool is_part = heft_stacks_is_part(s, head->at);
        child->branch.thread = vertex->frame == HEFT_NONE && !is_part ? vertex->thread : HEFT_NONE;
        child->branch.part = is_part ? vertex->part : HEFT_NONE;
        for (; first < end && t->items[first].rank == head->rank; first++) {
            heft_amount_add(&child->branch.under, t->items[first].amount);
            child->branch.recursive |= s->vertices[t->items[first].at].recursive;
        }
        child->item_n = first - child->first;
        t->rows[row].child_n++;
        heap_push(t, t->row_n++);
    }
    return true;
}

/* Row 0 with all that allocated, then the heaviest row again and again. */
static bool open_rows(inverted_t *t)
{
    const heft_view_t *view = t->view;
    if (!grow_rows(t))
        return false;
    t->rows[0] = (row_t){.branch = {.frame = HEFT_NONE, .thread = HEFT_NONE, .part = HEFT_NONE, .under = view->total}};
    t->row_n = 1;
    for (uint32_t v = 0; v < view->stacks->vertex_n; v++) {
        if (!heft_amount_is_zero(view->self[v]))
            t->items[t->rows[0].item_n++] = (item_t){rank_of(view->stacks, v), view->self[v], v};
    }
    if (!add_children(t, 0, t->rows[0].item_n))
        return false;
    while (t->heap_n > 0 && t->row_n < ROWS_MAX && t->steps < STEPS_MAX) {
        uint32_t row = heap_pop(t);
        uint32_t n = move_up(t, &t->rows[row]);
        if (!add_children(t, row, n))
            return false;
    }
    while (t->heap_n > 0) { /* not opened any more */
        row_t *row = &t->rows[heap_pop(t)];
        row->branch.self = row->branch.under;
    }
    return true;
}

static bool write_rows(inverted_t *t, heft_branches_t *tree)
{
    tree->branches = malloc(t->row_n * sizeof *tree->branches);
    uint32_t *todo = malloc(t->row_n * sizeof *todo), todo_n = 0;
    sibling_t *siblings = malloc(t->row_n * sizeof *siblings);
    bool ok = tree->branches != NULL && todo != NULL && siblings != NULL;
    if (ok)
        todo[todo_n++] = 0;
    while (todo_n > 0) {
        const row_t *row = &t->rows[todo[--todo_n]];
        tree->branches[tree->branch_n++] = row->branch;
        for (uint32_t i = 0; i < row->child_n; i++) /* made in the order of rank */
            siblings[i] = (sibling_t){t->rows[row->child_first + i].branch.under, i, row->child_first + i};
        qsort(siblings, row->child_n, sizeof *siblings, compare_siblings);
        for (uint32_t i = row->child_n; i-- > 0;)
            todo[todo_n++] = siblings[i].at;
    }
    HEFT_ASSERT(!ok || tree->branch_n == t->row_n);
    free(todo);
    free(siblings);
    return ok;
}

static bool inside_out(const heft_view_t *view, heft_branches_t *tree)
{
    inverted_t t = {.view = view, .threads = heft_view_has_threads(view)};
    t.items = malloc(view->stacks->vertex_n * sizeof *t.items);
    bool ok = t.items != NULL && open_rows(&t) && write_rows(&t, tree);
    free(t.items);
    free(t.rows);
    free(t.heap);
    return ok;
}

/* ---- entry points -------------------------------------------------------------------------------------------- */

bool heft_view_tree(const heft_view_t *view, bool inverted, heft_branches_t *tree)
{
    *tree = (heft_branches_t){0};
    bool ok = inverted ? inside_out(view, tree) : outside_in(view, tree);
    if (!ok)
        heft_branches_done(tree);
    return ok;
}

void heft_branches_done(heft_branches_t *tree)
{
    free(tree->branches);
    *tree = (heft_branches_t){0};
}
