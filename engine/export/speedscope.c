/* SPDX-License-Identifier: MIT */
/* speedscope's JSON, see speedscope.h.
 *
 *     {"$schema": .., "shared": {"frames": [{"name", "file", "line", "col"}, ..]},
 *      "profiles": [{"type": "sampled", "unit": "bytes", "samples": [[0, 1], [0]], "weights": [512, 64], ..}, ..]}
 *
 * A sample is a stack, the root first, and comes at the time of its first allocation: so "Time Order" shows the order
 * in which a program began to need its memory.  Frames are lines; only those that some profile uses are written,
 * numbered as they are met. */
#include "export/speedscope.h"

#include <stdlib.h>

typedef struct {
    uint64_t first_ns, weight;
    uint32_t path;
} sample_t;

typedef struct {
    const heft_speedscope_t *file;
    const heft_stacks_t *stacks;
    heft_paths_t paths;
    heft_amount_t *amounts; /* of the profile that is written, by path */
    heft_times_t *times;
    sample_t *samples;
    size_t sample_n;
    uint32_t *stack;   /* room for the deepest */
    uint32_t *numbers; /* by line key: of its frame, HEFT_NONE = not met */
    uint32_t number_n;
    heft_out_t frames, profiles; /* of which the file is put together */
} scope_t;

static int compare_samples(const void *pa, const void *pb)
{
    const sample_t *a = pa, *b = pb;
    if (a->first_ns != b->first_ns)
        return a->first_ns < b->first_ns ? -1 : 1;
    return (a->path > b->path) - (a->path < b->path);
}

static void write_key_text(heft_out_t *out, const char *key, heft_text_t text)
{
    heft_out_string(out, key);
    heft_out_string(out, "\"");
    heft_out_text(out, text, HEFT_TEXT_JSON);
    heft_out_string(out, "\"");
}

static void write_key_number(heft_out_t *out, const char *key, uint64_t number)
{
    heft_out_string(out, key);
    heft_out_number(out, number);
}

static uint32_t number_of(scope_t *w, const heft_frame_t *frame)
{
    const heft_stacks_t *s = w->stacks;
    uint32_t *number = &w->numbers[frame->line_key];
    if (*number != HEFT_NONE)
        return *number;
    write_key_text(&w->frames, w->number_n == 0 ? "\n{\"name\":" : ",\n{\"name\":", s->names[frame->function]);
    write_key_text(&w->frames, ",\"file\":", s->names[s->files[frame->file]]);
    if (frame->line != 0)
        write_key_number(&w->frames, ",\"line\":", frame->line);
    if (frame->column != 0)
        write_key_number(&w->frames, ",\"col\":", frame->column);
    heft_out_string(&w->frames, "}");
    return *number = w->number_n++;
}

static void write_stack(scope_t *w, uint32_t path)
{
    heft_out_t *out = &w->profiles;
    uint32_t depth = 0;
    for (uint32_t at = path; at != 0; at = w->paths.paths[at].up)
        w->stack[depth++] = w->stacks->vertices[w->paths.paths[at].vertex].frame;
    heft_out_string(out, "[");
    while (depth-- > 0) {
        heft_out_number(out, number_of(w, &w->stacks->frames[w->stack[depth]]));
        heft_out_string(out, depth == 0 ? "]" : ",");
    }
}

static uint64_t find_samples(scope_t *w, const heft_speedscope_profile_t *profile)
{
    uint64_t sum = 0;
    heft_paths_sum(&w->paths, profile->view, profile->thread, w->amounts, w->times);
    w->sample_n = 0;
    for (uint32_t p = 1; p < w->paths.path_n; p++) {
        uint64_t weight = profile->blocks ? w->amounts[p].blocks : w->amounts[p].bytes;
        if (weight != 0)
            w->samples[w->sample_n++] = (sample_t){w->times[p].first_ns, weight, p};
        sum += weight;
    }
    qsort(w->samples, w->sample_n, sizeof *w->samples, compare_samples);
    return sum;
}

static void write_profile(scope_t *w, const heft_speedscope_profile_t *profile)
{
    heft_out_t *out = &w->profiles;
    uint64_t sum = find_samples(w, profile);
    write_key_text(out, "\n{\"type\":\"sampled\",\"name\":", profile->name);
    write_key_text(out, ",\"unit\":", heft_text_of(profile->blocks ? "none" : "bytes"));
    write_key_number(out, ",\"startValue\":0,\"endValue\":", sum);
    heft_out_string(out, ",\"samples\":[");
    for (size_t i = 0; i < w->sample_n; i++) {
        heft_out_string(out, i == 0 ? "\n" : ",\n");
        write_stack(w, w->samples[i].path);
    }
    heft_out_string(out, "],\"weights\":[");
    for (size_t i = 0; i < w->sample_n; i++)
        write_key_number(out, i == 0 ? "" : ",", w->samples[i].weight);
    heft_out_string(out, "]}");
}

static void put_together(scope_t *w, heft_out_t *out)
{
    heft_out_string(out, "{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\"");
    write_key_text(out, ",\"exporter\":", w->file->exporter);
    write_key_text(out, ",\"name\":", w->file->name);
    write_key_number(out, ",\"activeProfileIndex\":", w->file->active);
    heft_out_string(out, ",\"shared\":{\"frames\":[");
    heft_out_bytes(out, w->frames.ptr, w->frames.n);
    heft_out_string(out, "]},\"profiles\":[");
    heft_out_bytes(out, w->profiles.ptr, w->profiles.n);
    heft_out_string(out, "]}\n");
    out->failed |= w->frames.failed || w->profiles.failed;
}

static bool prepare(scope_t *w)
{
    const heft_stacks_t *s = w->stacks;
    uint32_t *labels = malloc(s->frame_n * sizeof *labels);
    for (uint32_t i = 0; labels != NULL && i < s->frame_n; i++)
        labels[i] = s->frames[i].line_key;
    bool ok = labels != NULL && heft_paths_init(&w->paths, s, labels, NULL, NULL);
    free(labels);
    if (!ok)
        return false;
    w->amounts = malloc(w->paths.path_n * sizeof *w->amounts);
    w->times = malloc(w->paths.path_n * sizeof *w->times);
    w->samples = malloc(w->paths.path_n * sizeof *w->samples);
    w->stack = malloc(w->paths.path_n * sizeof *w->stack);
    w->numbers = malloc(s->line_n * sizeof *w->numbers);
    for (uint32_t i = 0; w->numbers != NULL && i < s->line_n; i++)
        w->numbers[i] = HEFT_NONE;
    return w->amounts != NULL && w->times != NULL && w->samples != NULL && w->stack != NULL && w->numbers != NULL;
}

bool heft_speedscope_write(const heft_speedscope_t *file, heft_out_t *out)
{
    scope_t w = {.file = file, .stacks = file->profiles[0].view->stacks};
    bool ok = prepare(&w);
    for (size_t i = 0; ok && i < file->profile_n; i++) {
        heft_out_string(&w.profiles, i == 0 ? "" : ",");
        write_profile(&w, &file->profiles[i]);
    }
    if (ok)
        put_together(&w, out);
    heft_paths_done(&w.paths);
    heft_out_done(&w.frames);
    heft_out_done(&w.profiles);
    free(w.amounts);
    free(w.times);
    free(w.samples);
    free(w.stack);
    free(w.numbers);
    return ok && !out->failed;
}
