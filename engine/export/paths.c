/* SPDX-License-Identifier: MIT */
/* Stacks of equal labels are one, see paths.h.
 *
 *     vertices                              paths, labels being lines
 *     MainThread > app.py:3 import=json     app.py:3 > json/__init__.py:106
 *                    > json/__init__.py:106
 *                > app.py:3                 app.py:3
 *     Thread-1   > app.py:3
 *
 * One pass, parents first, a look-up of (path of the caller, label) for each vertex. */
#include "export/paths.h"

#include <stdlib.h>

#include "base/compiler.h"

/* The label of a vertex; false: it has none. */
static bool label_of(const heft_stacks_t *s, uint32_t v, const uint32_t *frames, const uint32_t *threads,
                     const uint32_t *parts, uint32_t *label)
{
    const heft_vertex_t *vertex = &s->vertices[v];
    bool is_part = heft_stacks_is_part(s, v), is_base = heft_stacks_is_base(s, v);
    const uint32_t *labels = is_part ? parts : is_base ? threads : frames;
    if (labels != NULL)
        *label = labels[is_part ? vertex->part : is_base ? vertex->thread : vertex->frame];
    return labels != NULL;
}

static bool add_vertices(heft_paths_t *paths, heft_map_t *map, const uint32_t *frames, const uint32_t *threads,
                         const uint32_t *parts)
{
    const heft_stacks_t *s = paths->stacks;
    for (uint32_t v = 1; v < s->vertex_n; v++) {
        uint32_t up = paths->path_of[s->vertices[v].up], label;
        bool is_new;
        if (!label_of(s, v, frames, threads, parts, &label)) {
            paths->path_of[v] = up;
            continue;
        }
        uint32_t *path = heft_map_put(map, heft_map_pair(up, label), &is_new);
        if (path == NULL)
            return false;
        if (is_new) {
            *path = paths->path_n;
            paths->paths[paths->path_n++] = (heft_path_t){.up = up, .label = label, .vertex = v};
        }
        paths->path_of[v] = *path;
    }
    return true;
}

bool heft_paths_init(heft_paths_t *paths, const heft_stacks_t *stacks, const uint32_t *frames, const uint32_t *threads,
                     const uint32_t *parts)
{
    heft_map_t map;
    *paths = (heft_paths_t){.stacks = stacks, .path_n = 1};
    paths->paths = calloc(stacks->vertex_n, sizeof *paths->paths);
    paths->path_of = calloc(stacks->vertex_n, sizeof *paths->path_of);
    heft_map_init(&map);
    bool ok = paths->paths != NULL && paths->path_of != NULL && add_vertices(paths, &map, frames, threads, parts);
    heft_map_done(&map);
    if (!ok)
        heft_paths_done(paths);
    return ok;
}

void heft_paths_sum(const heft_paths_t *paths, const heft_view_t *view, uint32_t thread, heft_amount_t *amounts,
                    heft_times_t *times)
{
    const heft_stacks_t *s = paths->stacks;
    HEFT_ASSERT(view->stacks == s);
    for (uint32_t p = 0; p < paths->path_n; p++) {
        amounts[p] = (heft_amount_t){0};
        if (times != NULL)
            times[p] = HEFT_TIMES_NEVER;
    }
    for (uint32_t v = 1; v < s->vertex_n; v++) {
        if (thread != HEFT_PATHS_ALL && s->vertices[v].thread != thread)
            continue;
        heft_amount_add(&amounts[paths->path_of[v]], view->self[v]);
        if (times != NULL)
            heft_times_add(&times[paths->path_of[v]], view->times[v]);
    }
}

void heft_paths_done(heft_paths_t *paths)
{
    free(paths->paths);
    free(paths->path_of);
    *paths = (heft_paths_t){0};
}
