/* SPDX-License-Identifier: MIT */
/* pprof's profile.proto by hand, see pprof.h: two wire types and a scratch buffer are all of protobuf that it takes.
 *
 *     sample    location ids (the innermost first), a value for each type, labels (region, thread, thread_id, pid)
 *     location  a line of a function; function, mapping, string: tables that others point into
 *
 * Locations are the recording's lines and functions its functions, written once and only if a sample uses them; a
 * sample is a distinct stack of such lines in one thread.  Values are of the whole population, as Go's are: nobody
 * downstream scales them. */
#include "export/pprof.h"

#include <stdlib.h>

#include "base/compiler.h"
#include "export/paths.h"
#include "export/texts.h"

/* Field numbers of profile.proto. */
enum {
    TYPE = 1,
    SAMPLE,
    MAPPING,
    LOCATION,
    FUNCTION,
    STRING,
    TIME = 9,
    DURATION,
    PERIOD_TYPE,
    PERIOD,
    COMMENT,
    DEFAULT
};

typedef struct {
    const heft_pprof_t *profile;
    const heft_stacks_t *stacks;
    heft_out_t *out;
    heft_out_t message, nested; /* scratch */
    heft_texts_t strings;
    uint32_t *names;         /* by name: its string, 0 = not met */
    bool *lines, *functions; /* by key: written; ids are keys + 1 */
    uint32_t *first_lines;   /* by function key: of its def, 0 = not known */
    heft_paths_t paths;
    heft_amount_t *amounts[2]; /* by path; [1]: inuse */
} pprof_t;

/* ---- protobuf ------------------------------------------------------------------------------------------------- */

static void put_varint(heft_out_t *out, uint64_t number)
{
    unsigned char bytes[10];
    size_t n = 0;
    for (; number >= 0x80; number >>= 7)
        bytes[n++] = (unsigned char)(number | 0x80);
    bytes[n++] = (unsigned char)number;
    heft_out_bytes(out, bytes, n);
}

/* Zero is what a field is without being written. */
static void put_number(heft_out_t *out, uint32_t field, uint64_t number)
{
    if (number == 0)
        return;
    put_varint(out, field << 3);
    put_varint(out, number);
}

/* Put what was gathered in `from` as one field, and empty that. */
static void put_message(heft_out_t *out, uint32_t field, heft_out_t *from)
{
    put_varint(out, field << 3 | 2);
    put_varint(out, from->n);
    heft_out_bytes(out, from->ptr, from->n);
    out->failed |= from->failed;
    from->n = 0;
}

/* ---- tables --------------------------------------------------------------------------------------------------- */

/* Its number in the table; 0 is the empty one. */
static uint32_t string_of(pprof_t *w, heft_text_t text)
{
    size_t off = w->strings.bytes.n;
    heft_out_text(&w->strings.bytes, text, HEFT_TEXT_PLAIN);
    return heft_texts_end(&w->strings, off);
}

static uint32_t string_of_name(pprof_t *w, uint32_t name)
{
    if (w->names[name] == 0)
        w->names[name] = string_of(w, w->stacks->names[name]);
    return w->names[name];
}

/* Without a system_name: of one that equals the name, pprof takes whatever stands in <> for C++ and leaves it out. */
static uint64_t function_id(pprof_t *w, const heft_frame_t *frame)
{
    uint64_t id = (uint64_t)frame->function_key + 1;
    if (w->functions[frame->function_key])
        return id;
    w->functions[frame->function_key] = true;
    uint64_t name = string_of_name(w, frame->function);
    uint64_t file = string_of_name(w, w->stacks->files[frame->file]);
    put_number(&w->message, 1, id);
    put_number(&w->message, 2, name);
    put_number(&w->message, 4, file);
    put_number(&w->message, 5, w->first_lines[frame->function_key]);
    put_message(w->out, FUNCTION, &w->message);
    return id;
}

static uint64_t location_id(pprof_t *w, const heft_frame_t *frame)
{
    uint64_t id = (uint64_t)frame->line_key + 1;
    if (w->lines[frame->line_key])
        return id;
    w->lines[frame->line_key] = true;
    uint64_t function = function_id(w, frame);
    put_number(&w->nested, 1, function);
    put_number(&w->nested, 2, frame->line);
    put_number(&w->nested, 3, frame->column);
    put_number(&w->message, 1, id);
    put_number(&w->message, 2, 1); /* the mapping */
    put_message(&w->message, 4, &w->nested);
    put_message(w->out, LOCATION, &w->message);
    return id;
}

/* A function begins where the first of its code objects does. */
static void find_first_lines(pprof_t *w)
{
    const heft_stacks_t *s = w->stacks;
    const heft_reader_t *r = s->reader;
    for (uint32_t n = 1; n < r->header.node_n; n++) {
        uint32_t frame = s->vertices[s->vertex_of_node[n]].frame;
        if (r->details[n].kind != HEFT_NODE_FRAME || frame == HEFT_NONE)
            continue;
        const heft_code_t *code = &r->codes[r->details[n].what];
        uint32_t *first = &w->first_lines[s->frames[frame].function_key];
        if (code->flags == 0 && code->first_line != 0 && (*first == 0 || code->first_line < *first))
            *first = code->first_line;
    }
}

/* ---- samples -------------------------------------------------------------------------------------------------- */

static void put_label(pprof_t *w, const char *key, uint32_t string, uint64_t number)
{
    if (string == 0 && number == 0)
        return;
    put_number(&w->nested, 1, string_of(w, heft_text_of(key)));
    put_number(&w->nested, 2, string);
    put_number(&w->nested, 3, number);
    put_message(&w->message, 3, &w->nested);
}

/* A label of several values: pprof's -tagfocus finds each, the innermost stands first. */
static void put_regions(pprof_t *w, uint32_t part)
{
    const heft_stacks_t *s = w->stacks;
    for (; part != HEFT_NONE; part = s->parts[part].up)
        put_label(w, "region", string_of(w, s->names[s->parts[part].name]), 0);
}

/* Locations are written into the profile itself meanwhile, before the sample that uses them. */
static void write_sample(pprof_t *w, uint32_t path, heft_out_t *ids)
{
    const heft_stacks_t *s = w->stacks;
    const heft_path_t *paths = w->paths.paths;
    for (uint32_t at = path; at != 0 && !heft_stacks_is_base(s, paths[at].vertex); at = paths[at].up)
        put_varint(ids, location_id(w, &s->frames[s->vertices[paths[at].vertex].frame]));
    put_message(&w->message, 1, ids);
    for (int i = 0; i < (w->profile->inuse == NULL ? 1 : 2); i++) {
        put_varint(&w->nested, w->amounts[i][path].blocks);
        put_varint(&w->nested, w->amounts[i][path].bytes);
    }
    put_message(&w->message, 2, &w->nested);
    put_regions(w, s->vertices[paths[path].vertex].part);
    uint32_t thread = s->vertices[paths[path].vertex].thread;
    if (thread != HEFT_NONE) {
        const heft_thread_t *t = &s->reader->threads[thread];
        put_label(w, "thread", string_of(w, heft_reader_string(s->reader, t->name)), 0);
        put_label(w, "thread_id", 0, t->native_id);
    }
    put_label(w, "pid", 0, s->reader->header.pid);
    put_message(w->out, SAMPLE, &w->message);
}

static bool write_samples(pprof_t *w)
{
    heft_out_t ids = {0};
    for (int i = 0; i < 2; i++) {
        w->amounts[i] = calloc(w->paths.path_n, sizeof *w->amounts[i]);
        if (w->amounts[i] == NULL)
            return false;
    }
    heft_paths_sum(&w->paths, w->profile->alloc, HEFT_PATHS_ALL, w->amounts[0], NULL);
    if (w->profile->inuse != NULL)
        heft_paths_sum(&w->paths, w->profile->inuse, HEFT_PATHS_ALL, w->amounts[1], NULL);
    for (uint32_t p = 1; p < w->paths.path_n; p++) {
        if (!heft_amount_is_zero(w->amounts[0][p]) || !heft_amount_is_zero(w->amounts[1][p]))
            write_sample(w, p, &ids);
    }
    heft_out_done(&ids);
    return true;
}

/* ---- the rest ------------------------------------------------------------------------------------------------- */

static void write_type(pprof_t *w, uint32_t field, const char *type, const char *unit)
{
    put_number(&w->message, 1, string_of(w, heft_text_of(type)));
    put_number(&w->message, 2, string_of(w, heft_text_of(unit)));
    put_message(w->out, field, &w->message);
}

static void write_head(pprof_t *w)
{
    const heft_header_t *h = &w->stacks->reader->header;
    write_type(w, TYPE, "alloc_objects", "count");
    write_type(w, TYPE, "alloc_space", "bytes");
    if (w->profile->inuse != NULL) {
        write_type(w, TYPE, "inuse_objects", "count");
        write_type(w, TYPE, "inuse_space", "bytes");
    }
    put_number(&w->message, 1, 1);
    put_number(&w->message, 5, string_of(w, w->profile->executable));
    for (uint32_t has = 7; has <= 9; has++) /* functions, file names, line numbers: nothing is to be looked up */
        put_number(&w->message, has, 1);
    put_message(w->out, MAPPING, &w->message);
    put_number(w->out, TIME, w->profile->time_ns);
    put_number(w->out, DURATION, w->profile->duration_ns);
    write_type(w, PERIOD_TYPE, "space", "bytes");
    put_number(w->out, PERIOD, h->interval_bytes == 0 ? 1 : h->interval_bytes);
    for (size_t i = 0; i < w->profile->comment_n; i++)
        put_number(w->out, COMMENT, string_of(w, w->profile->comments[i]));
    put_number(w->out, DEFAULT, string_of(w, w->profile->default_type));
}

/* False: no memory, for any of them. */
static bool write_strings(pprof_t *w)
{
    for (uint32_t i = 0; i < w->strings.n && !w->strings.bytes.failed; i++) {
        heft_text_t text = heft_texts_get(&w->strings, i);
        heft_out_bytes(&w->message, text.ptr, text.len);
        put_message(w->out, STRING, &w->message);
    }
    return !w->strings.bytes.failed;
}

/* Paths are told apart by line, by region and by thread. */
static bool make_paths(pprof_t *w)
{
    const heft_stacks_t *s = w->stacks;
    uint32_t thread_n = s->reader->header.thread_n;
    uint32_t *labels = malloc(((size_t)s->frame_n + thread_n + s->part_n + 1) * sizeof *labels);
    if (labels == NULL)
        return false;
    uint32_t *threads = labels + s->frame_n, *parts = threads + thread_n;
    for (uint32_t i = 0; i < s->frame_n; i++)
        labels[i] = s->frames[i].line_key;
    for (uint32_t i = 0; i < thread_n; i++)
        threads[i] = s->line_n + i;
    for (uint32_t i = 0; i < s->part_n; i++)
        parts[i] = s->line_n + thread_n + i;
    bool ok = heft_paths_init(&w->paths, s, labels, threads, parts);
    free(labels);
    return ok;
}

static bool make_tables(pprof_t *w)
{
    const heft_stacks_t *s = w->stacks;
    w->names = calloc(s->name_n, sizeof *w->names);
    w->lines = calloc(s->line_n, sizeof *w->lines);
    w->functions = calloc(s->function_n, sizeof *w->functions);
    w->first_lines = calloc(s->function_n, sizeof *w->first_lines);
    return w->names != NULL && w->lines != NULL && w->functions != NULL && w->first_lines != NULL;
}

bool heft_pprof_write(const heft_pprof_t *profile, heft_out_t *out)
{
    pprof_t w = {.profile = profile, .stacks = profile->alloc->stacks, .out = out};
    HEFT_ASSERT(profile->inuse == NULL || profile->inuse->stacks == w.stacks);
    bool ok = string_of(&w, heft_text_of("")) == 0 && make_tables(&w) && make_paths(&w);
    if (ok) {
        find_first_lines(&w);
        write_head(&w);
        ok = write_samples(&w);
    }
    ok = ok && write_strings(&w) && !out->failed;
    heft_paths_done(&w.paths);
    heft_out_done(&w.message);
    heft_out_done(&w.nested);
    heft_texts_done(&w.strings);
    free(w.names);
    free(w.lines);
    free(w.functions);
    free(w.first_lines);
    free(w.amounts[0]);
    free(w.amounts[1]);
    return ok;
}
