/* SPDX-License-Identifier: MIT */
/* Collapsed stacks, see collapsed.h.
 *
 *     <module> (app.py:20);rows (app.py:7);DictReader.__next__ (csv.py:178) 83521
 *
 * The dialect has no quoting: what separates frames and lines is replaced in names (HEFT_TEXT_LABEL).  Frames that read
 * the same afterwards are the same, so that no stack is there twice: labels are numbers of distinct texts. */
#include "export/collapsed.h"

#include <stdlib.h>

#include "export/paths.h"
#include "export/texts.h"

typedef struct {
    const heft_view_t *view;
    const heft_text_t *files;
    heft_texts_t labels;
    uint32_t *frames, *threads, *parts; /* labels */
} collapse_t;

static uint32_t label_frame(collapse_t *c, const heft_frame_t *frame)
{
    const heft_stacks_t *s = c->view->stacks;
    heft_text_t unknown = s->names[HEFT_NAME_UNKNOWN], function = s->names[frame->function];
    heft_text_t file = c->files == NULL ? s->names[s->files[frame->file]] : c->files[frame->file];
    size_t off = c->labels.bytes.n;
    heft_out_text(&c->labels.bytes, function.len == 0 ? unknown : function, HEFT_TEXT_LABEL);
    if (s->files[frame->file] != frame->function) { /* not <interpreter> and the like */
        heft_out_string(&c->labels.bytes, " (");
        heft_out_text(&c->labels.bytes, file.len == 0 ? unknown : file, HEFT_TEXT_LABEL);
        if (frame->line != 0) {
            heft_out_string(&c->labels.bytes, ":");
            heft_out_number(&c->labels.bytes, frame->line);
        }
        heft_out_string(&c->labels.bytes, ")");
    }
    return heft_texts_end(&c->labels, off);
}

static uint32_t label_thread(collapse_t *c, const heft_thread_t *thread)
{
    const heft_reader_t *reader = c->view->stacks->reader;
    size_t off = c->labels.bytes.n;
    heft_out_string(&c->labels.bytes, "thread ");
    if (thread->name != 0)
        heft_out_text(&c->labels.bytes, heft_reader_string(reader, thread->name), HEFT_TEXT_LABEL);
    heft_out_string(&c->labels.bytes, thread->name != 0 ? " (" : "(");
    heft_out_number(&c->labels.bytes, thread->native_id);
    heft_out_string(&c->labels.bytes, ")");
    return heft_texts_end(&c->labels, off);
}

static uint32_t label_region(collapse_t *c, heft_text_t name)
{
    size_t off = c->labels.bytes.n;
    heft_out_string(&c->labels.bytes, "region ");
    heft_out_text(&c->labels.bytes, name, HEFT_TEXT_LABEL);
    return heft_texts_end(&c->labels, off);
}

static bool make_labels(collapse_t *c)
{
    const heft_stacks_t *s = c->view->stacks;
    uint32_t thread_n = s->reader->header.thread_n;
    c->frames = malloc(((size_t)s->frame_n + 1) * sizeof *c->frames);
    c->threads = malloc(((size_t)thread_n + 1) * sizeof *c->threads);
    c->parts = malloc(((size_t)s->part_n + 1) * sizeof *c->parts);
    bool ok = c->frames != NULL && c->threads != NULL && c->parts != NULL;
    for (uint32_t i = 0; ok && i < s->frame_n; i++)
        c->frames[i] = label_frame(c, &s->frames[i]);
    for (uint32_t i = 0; ok && i < thread_n; i++)
        c->threads[i] = label_thread(c, &s->reader->threads[i]);
    for (uint32_t i = 0; ok && i < s->part_n; i++)
        c->parts[i] = label_region(c, s->names[s->parts[i].name]);
    return ok && !c->labels.bytes.failed;
}

static bool write_lines(const collapse_t *c, const heft_paths_t *paths, heft_out_t *out)
{
    heft_amount_t *amounts = malloc(paths->path_n * sizeof *amounts);
    uint32_t *stack = malloc(paths->path_n * sizeof *stack);
    bool ok = amounts != NULL && stack != NULL;
    if (ok)
        heft_paths_sum(paths, c->view, HEFT_PATHS_ALL, amounts, NULL);
    for (uint32_t p = 1; ok && p < paths->path_n; p++) {
        uint32_t depth = 0;
        if (amounts[p].bytes == 0)
            continue;
        for (uint32_t at = p; at != 0; at = paths->paths[at].up)
            stack[depth++] = paths->paths[at].label;
        while (depth-- > 0) {
            heft_text_t label = heft_texts_get(&c->labels, stack[depth]);
            heft_out_bytes(out, label.ptr, label.len);
            heft_out_string(out, depth == 0 ? " " : ";");
        }
        heft_out_number(out, amounts[p].bytes);
        heft_out_string(out, "\n");
    }
    free(amounts);
    free(stack);
    return ok && !out->failed;
}

bool heft_collapsed_write(const heft_view_t *view, const heft_text_t *files, heft_out_t *out)
{
    collapse_t c = {.view = view, .files = files};
    heft_paths_t paths = {0};
    bool ok =
        make_labels(&c) &&
        heft_paths_init(&paths, view->stacks, c.frames, heft_view_has_threads(view) ? c.threads : NULL, c.parts) &&
        write_lines(&c, &paths, out);
    heft_paths_done(&paths);
    heft_texts_done(&c.labels);
    free(c.frames);
    free(c.threads);
    free(c.parts);
    return ok;
}
