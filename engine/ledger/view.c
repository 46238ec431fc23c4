/* SPDX-License-Identifier: MIT */
/* Numbers for each vertex, see view.h.
 *
 *     node amounts --site--> vertex --own?--> nearest own vertex --kept?--> self --children to parents--> under
 *
 * Three passes over arrays, 3 ms for 150,000 nodes: parents have smaller numbers than their children, so a pass forward
 * hands something down the tree and a pass backward sums it up, and no depth of the tree can exhaust anything. */
#include "ledger/view.h"

#include <stdlib.h>

#include "base/compiler.h"

static void charge_nodes(heft_view_t *view, const heft_view_options_t *options, const uint32_t *owners)
{
    const heft_stacks_t *s = view->stacks;
    for (uint32_t n = 1; n < s->reader->header.node_n; n++) {
        heft_amount_t amount = heft_reader_amount(s->reader, n, options->moment, options->span);
        if (heft_amount_is_zero(amount))
            continue;
        uint32_t vertex = heft_stacks_site(s, n);
        if (owners != NULL)
            vertex = owners[vertex];
        HEFT_DCHECK(!heft_stacks_is_base(s, vertex));
        if (!(heft_view_file(view, vertex) & HEFT_VIEW_SHOWN))
            continue;
        uint32_t part = s->vertices[vertex].part;
        if (options->parts != NULL && !options->parts[part == HEFT_NONE ? s->part_n : part])
            continue;
        heft_amount_add(&view->self[vertex], amount);
        heft_amount_add(&view->total, amount);
        if (heft_stacks_is_cut(s, n) || heft_stacks_is_nowhere(s, n))
            heft_amount_add(&view->cut, amount);
        if (heft_stacks_is_uncertain(s, n))
            heft_amount_add(&view->uncertain, amount);
        heft_times_add(&view->times[vertex],
                       (heft_times_t){s->reader->details[n].first_ns, s->reader->nodes[n].last_ns});
    }
}

/* For each vertex the one that is charged for it: itself or the nearest own caller, else its thread's <interpreter>, or
 * the <paths cut> above it. */
static uint32_t *find_owners(const heft_view_t *view)
{
    const heft_stacks_t *s = view->stacks;
    uint32_t *owners = malloc(s->vertex_n * sizeof *owners);
    if (owners == NULL)
        return NULL;
    for (uint32_t v = 0; v < s->vertex_n; v++) {
        if (heft_stacks_is_base(s, v))
            owners[v] = v + 1;
        else if (heft_view_file(view, v) & HEFT_VIEW_OWN || s->vertices[v].frame == s->cut_frame)
            owners[v] = v;
        else
            owners[v] = owners[s->vertices[v].up];
    }
    return owners;
}

static void sum_under(heft_view_t *view)
{
    const heft_stacks_t *s = view->stacks;
    for (uint32_t v = 0; v < s->vertex_n; v++)
        view->under[v] = view->self[v];
    for (uint32_t v = s->vertex_n; v-- > 1;)
        heft_amount_add(&view->under[s->vertices[v].up], view->under[v]);
    HEFT_ASSERT(view->under[0].bytes == view->total.bytes);
    HEFT_ASSERT(view->under[0].blocks == view->total.blocks);
}

bool heft_view_init(heft_view_t *view, const heft_stacks_t *stacks, const heft_view_options_t *options)
{
    HEFT_ASSERT(options->span < HEFT_TEMP_SPANS && options->classes != NULL);
    *view = (heft_view_t){.stacks = stacks};
    view->self = calloc(stacks->vertex_n, sizeof *view->self);
    view->under = malloc(stacks->vertex_n * sizeof *view->under);
    view->times = malloc(stacks->vertex_n * sizeof *view->times);
    view->files = calloc(stacks->file_n, 1);
    uint32_t *owners = NULL;
    bool ok = view->self != NULL && view->under != NULL && view->times != NULL && view->files != NULL;
    for (uint32_t v = 0; ok && v < stacks->vertex_n; v++)
        view->times[v] = HEFT_TIMES_NEVER;
    for (uint32_t f = 0; ok && f < stacks->file_n; f++) {
        HEFT_ASSERT(options->classes[f] < HEFT_CLASSES_MAX);
        bool is_kept = options->keep >> options->classes[f] & 1;
        view->files[f] = options->classes[f] == HEFT_CLASS_OWN      ? HEFT_VIEW_OWN
                         : options->classes[f] == HEFT_CLASS_STDLIB ? HEFT_VIEW_STDLIB
                                                                    : 0;
        view->files[f] |= is_kept && (options->pattern == NULL || options->pattern[f]) ? HEFT_VIEW_SHOWN : 0;
    }
    if (ok && options->own) {
        owners = find_owners(view);
        ok = owners != NULL;
        for (uint32_t f = 0; ok && f < stacks->file_n; f++) /* nothing is charged to the others: do not list them */
            view->files[f] &=
                view->files[f] & HEFT_VIEW_OWN || f == HEFT_FILE_INTERPRETER || f == stacks->cut_file ? 0xff : 0;
    }
    if (ok) {
        charge_nodes(view, options, owners);
        sum_under(view);
    }
    free(owners);
    if (!ok)
        heft_view_done(view);
    return ok;
}

bool heft_view_has_threads(const heft_view_t *view)
{
    const heft_stacks_t *s = view->stacks;
    uint32_t n = 0, without = 0;
    for (uint32_t v = s->vertices[0].first; v != 0; v = s->vertices[v].next) {
        bool is_empty = heft_amount_is_zero(view->under[v]);
        n += heft_stacks_is_base(s, v) && !is_empty;
        without |= !heft_stacks_is_base(s, v) && !is_empty;
    }
    return n + without > 1;
}

void heft_view_done(heft_view_t *view)
{
    free(view->self);
    free(view->under);
    free(view->times);
    free(view->files);
    *view = (heft_view_t){0};
}
