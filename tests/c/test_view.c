/* SPDX-License-Identifier: MIT */
/* engine/ledger/stacks.c, view.c, view_rows.c, view_tree.c: small examples written out, then random recordings against
 * a model that does everything the slow way, with stacks as lists of frames and keys as text. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build_recording.h"
#include "ledger/view.h"

/* ---- a recording, opened -------------------------------------------------------------------------------------- */

typedef struct {
    recording_t r;
    heft_reader_t reader;
    heft_stacks_t stacks;
} opened_t;

static void open_recording(opened_t *o)
{
    size_t bytes;
    heft_err_t err = {0};
    unsigned char *data = recording_write(&o->r, HEFT_STATE_CLOSED, &bytes);
    if (heft_reader_open_bytes(&o->reader, data, bytes, &err) != HEFT_OK)
        fail_msg("%s at %llu", err.text, (unsigned long long)err.off);
    free(data);
    assert_true(heft_stacks_init(&o->stacks, &o->reader));
}

static void close_recording(opened_t *o)
{
    heft_stacks_done(&o->stacks);
    heft_reader_close(&o->reader);
    recording_done(&o->r);
}

static char *text_of(const heft_stacks_t *s, uint32_t name)
{
    static char buffers[8][64];
    static unsigned next;
    char *buffer = buffers[next++ % 8];
    snprintf(buffer, sizeof buffers[0], "%.*s", (int)s->names[name].len, s->names[name].ptr);
    return buffer;
}

/* ---- the model: a stack is a list of frames -------------------------------------------------------------------- */

typedef struct {
    const char *file, *function, *module, *import; /* import "" = none */
    uint32_t line;
} frame_t;

enum { DEPTH_MAX = 80, ROWS_MAX = 3000, KEY_MAX = 4000 };

/* The visible stack of a node, innermost first; always a frame at least.  `thread`: index or HEFT_NONE; `region`: the
 * names of the regions that it is in, each after a slash, the outermost first. */
typedef struct {
    frame_t frames[DEPTH_MAX];
    uint32_t n;
    uint32_t thread;
    char region[400];
    bool is_nowhere; /* nothing is known of where it was asked for */
    heft_amount_t amount;
    bool kept;
} stack_t_;
#define stack_t stack_t_

static const char *model_text(const recording_t *r, uint32_t ref)
{
    return ref == 0 ? "" : r->strings + ref + 4; /* the builder ends them with 0 */
}

#define PATHS_CUT "<paths cut>"

static bool has_cuts(const recording_t *r)
{
    return (r->header.flags & HEFT_FLAG_PATHS_CUT) != 0 || r->header.cut_events != 0;
}

static bool is_model_base(const recording_t *r, uint32_t n)
{
    return r->details[n].kind == HEFT_NODE_ROOT || r->details[n].kind == HEFT_NODE_THREAD ||
           r->details[n].kind == HEFT_NODE_REGION;
}

static void model_base(const recording_t *r, uint32_t n, uint32_t *thread, char *region)
{
    char around[400];
    *thread = HEFT_NONE;
    region[0] = '\0';
    for (; n != 0; n = r->nodes[n].parent) {
        if (r->details[n].kind == HEFT_NODE_THREAD)
            *thread = r->details[n].what;
        if (r->details[n].kind != HEFT_NODE_REGION)
            continue;
        strcpy(around, region);
        assert(strlen(around) + 20 < sizeof around);
        sprintf(region, "/%s%s", model_text(r, r->details[n].what), around);
    }
}

/* Did requests find no room directly under this base, at any of the nodes that it is shown for? */
static bool is_model_base_cut(const recording_t *r, uint32_t thread, const char *region)
{
    char other_region[400];
    uint32_t other;
    for (uint32_t n = 1; n < r->header.node_n; n++) {
        if (!is_model_base(r, n) || !(r->details[n].flags & HEFT_DETAIL_CUT))
            continue;
        model_base(r, n, &other, other_region);
        if (other == thread && strcmp(region, other_region) == 0)
            return has_cuts(r);
    }
    return false;
}

static stack_t model_stack(const recording_t *r, uint32_t n)
{
    stack_t s = {.n = 0, .thread = HEFT_NONE};
    const frame_t cut = {PATHS_CUT, PATHS_CUT, PATHS_CUT, "", 0};
    const char *import = "";
    model_base(r, n, &s.thread, s.region);
    for (; !is_model_base(r, n); n = r->nodes[n].parent) {
        const heft_detail_t *d = &r->details[n];
        if (d->kind == HEFT_NODE_IMPORT && import[0] == '\0')
            import = model_text(r, d->what); /* the innermost of imports without a frame between them */
        if (d->kind != HEFT_NODE_FRAME || r->codes[d->what].flags != 0)
            continue;
        const heft_code_t *c = &r->codes[d->what];
        assert(s.n < DEPTH_MAX - 1);
        s.frames[s.n++] = (frame_t){.file = c->file ? model_text(r, c->file) : "<unknown>",
                                    .function = c->name ? model_text(r, c->name) : "<unknown>",
                                    .module = model_text(r, c->module),
                                    .import = import,
                                    .line = d->line};
        import = "";
        if (has_cuts(r) && (d->flags & HEFT_DETAIL_FLAT) != 0)
            s.frames[s.n++] = cut;
    }
    s.is_nowhere = s.n == 0 && import[0] == '\0' && is_model_base_cut(r, s.thread, s.region);
    if (s.is_nowhere)
        s.frames[s.n++] = cut;
    else if (import[0] != '\0' || s.n == 0)
        s.frames[s.n++] = (frame_t){"<interpreter>", "<interpreter>", "<interpreter>", import, 0};
    return s;
}

static heft_amount_t model_amount(const recording_t *r, uint32_t n, heft_moment_t moment, uint32_t span)
{
    uint64_t epoch = 0, live = 0, peak = 0;
    heft_amount_t nothing = {0, 0}, amounts[4];
    const heft_node_t *node = &r->nodes[n];
    if (r->details[n].kind == HEFT_NODE_ALIAS)
        return nothing;
    for (uint32_t i = 1; i < r->header.node_n; i++) {
        if (r->details[i].kind != HEFT_NODE_ALIAS && r->nodes[i].epoch > epoch)
            epoch = r->nodes[i].epoch;
    }
    for (uint32_t i = 1; i < r->header.node_n; i++) {
        if (r->details[i].kind == HEFT_NODE_ALIAS)
            continue;
        uint64_t now = (uint64_t)(r->nodes[i].allocated_bytes - r->nodes[i].freed_bytes);
        live += now;
        peak += r->nodes[i].epoch == epoch ? r->details[i].peak_bytes : now;
    }
    amounts[HEFT_MOMENT_TOTAL] = (heft_amount_t){(uint64_t)node->allocated_bytes, (uint64_t)node->allocated_blocks};
    amounts[HEFT_MOMENT_LIVE] = (heft_amount_t){(uint64_t)(node->allocated_bytes - node->freed_bytes),
                                                (uint64_t)(node->allocated_blocks - node->freed_blocks)};
    amounts[HEFT_MOMENT_PEAK] = live > peak || node->epoch != epoch
                                    ? amounts[HEFT_MOMENT_LIVE]
                                    : (heft_amount_t){r->details[n].peak_bytes, r->details[n].peak_blocks};
    amounts[HEFT_MOMENT_TEMPORARY] = (heft_amount_t){r->details[n].temporary_bytes, r->details[n].temporary_blocks};
    for (uint32_t i = 0; i < span && r->details[n].temp != 0; i++) {
        amounts[HEFT_MOMENT_TEMPORARY].bytes += r->temps[r->details[n].temp].bytes[i];
        amounts[HEFT_MOMENT_TEMPORARY].blocks += r->temps[r->details[n].temp].blocks[i];
    }
    return amounts[moment];
}

/* What the views' options say of a file, by its name. */
typedef struct {
    uint32_t span, keep, seed;
    heft_moment_t moment;
    bool own, has_pattern, has_parts;
} options_t;

static uint8_t class_of(const options_t *o, const char *file)
{
    (void)o;
    switch (file[0]) {
    case 'a': return HEFT_CLASS_OWN; /* app.py */
    case '/': return file[1] == 'u' ? 1 : 2;
    default: return file[1] == 's' ? 0 : 3; /* <string>; <interpreter>, <unknown> */
    }
}

static bool in_pattern(const options_t *o, const char *file)
{
    return !o->has_pattern || (strlen(file) + o->seed) % 3 != 0;
}

static bool in_parts(const options_t *o, const char *region)
{
    return !o->has_parts || (strlen(region) + o->seed) % 3 != 0;
}

static bool is_shown(const options_t *o, const char *file)
{
    bool chargeable = !o->own || class_of(o, file) == HEFT_CLASS_OWN || strcmp(file, "<interpreter>") == 0 ||
                      strcmp(file, PATHS_CUT) == 0;
    return chargeable && (o->keep >> class_of(o, file) & 1) && in_pattern(o, file);
}

/* Charge to the nearest own frame, which may be among those that were cut: drop the frames inside it. */
static void charge_own(const options_t *o, stack_t *s)
{
    uint32_t k = 0;
    while (k < s->n && class_of(o, s->frames[k].file) != HEFT_CLASS_OWN && strcmp(s->frames[k].file, PATHS_CUT) != 0)
        k++;
    if (k == s->n) {
        s->frames[0] = (frame_t){"<interpreter>", "<interpreter>", "<interpreter>", "", 0};
        s->n = 1;
        return;
    }
    memmove(s->frames, s->frames + k, (s->n - k) * sizeof *s->frames);
    s->n -= k;
}

static stack_t *model_stacks(const recording_t *r, const options_t *o)
{
    stack_t *stacks = calloc(r->header.node_n, sizeof *stacks);
    assert(stacks != NULL);
    for (uint32_t n = 1; n < r->header.node_n; n++) {
        stacks[n] = model_stack(r, n);
        if (o->own)
            charge_own(o, &stacks[n]);
        stacks[n].amount = model_amount(r, n, o->moment, o->span);
        stacks[n].kept = is_shown(o, stacks[n].frames[0].file) && in_parts(o, stacks[n].region) &&
                         !heft_amount_is_zero(stacks[n].amount);
    }
    return stacks;
}

/* ---- the model: rows are keyed by text --------------------------------------------------------------------------- */

typedef struct {
    char key[KEY_MAX];
    heft_amount_t self, under;
    bool shown;
} row_t;

typedef struct {
    row_t rows[ROWS_MAX];
    uint32_t n;
} rows_t;

static row_t *row_at(rows_t *rows, const char *key)
{
    for (uint32_t i = 0; i < rows->n; i++) {
        if (strcmp(rows->rows[i].key, key) == 0)
            return &rows->rows[i];
    }
    assert(rows->n < ROWS_MAX && strlen(key) < sizeof rows->rows[0].key);
    row_t *row = &rows->rows[rows->n++];
    *row = (row_t){.self = {0, 0}};
    strcpy(row->key, key);
    return row;
}

static void frame_key(char *key, const frame_t *f, heft_by_t by)
{
    switch (by) {
    case HEFT_BY_LINE: sprintf(key, "%s:%u %s %s", f->file, f->line, f->function, f->module); break;
    case HEFT_BY_FUNCTION: sprintf(key, "%s %s %s", f->file, f->function, f->module); break;
    case HEFT_BY_FILE: sprintf(key, "%s", f->file); break;
    case HEFT_BY_MODULE: sprintf(key, "%s", f->module); break;
    default: sprintf(key, "%s:%u %s %s %s", f->file, f->line, f->function, f->module, f->import); break;
    }
}

static void model_frame_rows(rows_t *rows, const stack_t *s, heft_by_t by, const options_t *o)
{
    char keys[DEPTH_MAX][200];
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        const frame_t *f = &s->frames[i];
        frame_key(keys[n], f, by);
        row_t *row = row_at(rows, keys[n]);
        if (i == 0)
            heft_amount_add(&row->self, s->amount);
        row->shown |= is_shown(o, f->file);
        n++;
    }
    for (uint32_t i = 0; i < n; i++) {
        bool again = false;
        for (uint32_t k = 0; k < i; k++)
            again |= strcmp(keys[i], keys[k]) == 0;
        if (!again)
            heft_amount_add(&row_at(rows, keys[i])->under, s->amount);
    }
}

static void stack_key(char *key, const stack_t *s, uint32_t from)
{
    key += sprintf(key, "%d%s", (int)s->thread, s->region);
    for (uint32_t i = from; i < s->n; i++) {
        *key++ = '|';
        frame_key(key, &s->frames[i], HEFT_BY_STACK);
        key += strlen(key);
    }
}

/* The region's own row, and those of the regions around it. */
static void model_region_rows(rows_t *rows, const stack_t *s)
{
    char region[400];
    strcpy(region, s->region);
    heft_amount_add(&row_at(rows, region)->self, s->amount);
    if (region[0] == '\0')
        heft_amount_add(&row_at(rows, region)->under, s->amount);
    for (; region[0] != '\0'; *strrchr(region, '/') = '\0') {
        row_at(rows, region)->shown = true;
        heft_amount_add(&row_at(rows, region)->under, s->amount);
    }
}

static void model_rows(rows_t *rows, const recording_t *r, const stack_t *stacks, heft_by_t by, const options_t *o)
{
    char key[KEY_MAX];
    rows->n = 0;
    for (uint32_t n = 1; n < r->header.node_n; n++) {
        const stack_t *s = &stacks[n];
        if (!s->kept)
            continue;
        if (by == HEFT_BY_THREAD) {
            sprintf(key, "%d", (int)s->thread);
            heft_amount_add(&row_at(rows, key)->self, s->amount);
            heft_amount_add(&row_at(rows, key)->under, s->amount);
        } else if (by == HEFT_BY_REGION) {
            model_region_rows(rows, s);
        } else if (by != HEFT_BY_STACK) {
            model_frame_rows(rows, s, by, o);
        }
        for (uint32_t from = 0; by == HEFT_BY_STACK && from < s->n; from++) {
            stack_key(key, s, from);
            row_t *row = row_at(rows, key);
            heft_amount_add(&row->under, s->amount);
            if (from == 0)
                heft_amount_add(&row->self, s->amount);
        }
    }
}

static frame_t frame_from(const heft_stacks_t *s, uint32_t frame)
{
    const heft_frame_t *f = &s->frames[frame];
    return (frame_t){text_of(s, s->files[f->file]), text_of(s, f->function), text_of(s, f->module),
                     text_of(s, f->import), f->line};
}

/* The names of a region of ours as the model writes them. */
static void our_region(char *region, const heft_stacks_t *s, uint32_t part)
{
    char around[400];
    for (region[0] = '\0'; part != HEFT_NONE; part = s->parts[part].up) {
        assert_true(part < s->part_n);
        strcpy(around, region);
        sprintf(region, "/%s%s", text_of(s, s->parts[part].name), around);
    }
}

/* The key of a row of ours as the model writes it. */
static void our_key(char *key, const heft_stacks_t *s, heft_by_t by, const heft_row_t *row)
{
    if (by == HEFT_BY_THREAD) {
        sprintf(key, "%d", (int)row->key);
    } else if (by == HEFT_BY_REGION) {
        our_region(key, s, row->key);
    } else if (by == HEFT_BY_STACK) {
        char region[400];
        our_region(region, s, s->vertices[row->key].part);
        key += sprintf(key, "%d%s", (int)s->vertices[row->key].thread, region);
        for (uint32_t v = row->key; !heft_stacks_is_base(s, v); v = s->vertices[v].up) {
            frame_t f = frame_from(s, s->vertices[v].frame);
            *key++ = '|';
            frame_key(key, &f, HEFT_BY_STACK);
            key += strlen(key);
        }
    } else if (by == HEFT_BY_MODULE) {
        strcpy(key, text_of(s, row->key));
    } else {
        frame_t f = frame_from(s, row->frame);
        frame_key(key, &f, by);
    }
}

static void compare_rows(const heft_view_t *view, heft_by_t by, rows_t *model)
{
    const heft_stacks_t *s = view->stacks;
    heft_rows_t ours;
    heft_amount_t sum = {0, 0};
    char key[KEY_MAX];
    assert_true(heft_view_rows(view, by, &ours));
    uint32_t expected = 0;
    for (uint32_t i = 0; i < model->n; i++)
        expected += !heft_amount_is_zero(model->rows[i].self) || (model->rows[i].shown && by != HEFT_BY_STACK);
    assert_int_equal(ours.row_n, expected);
    for (size_t i = 0; i < ours.row_n; i++) {
        const heft_row_t *row = &ours.rows[i];
        our_key(key, s, by, row);
        row_t *same = row_at(model, key);
        assert_int_equal(row->self.bytes, same->self.bytes);
        assert_int_equal(row->self.blocks, same->self.blocks);
        assert_int_equal(row->under.bytes, same->under.bytes);
        assert_int_equal(row->under.blocks, same->under.blocks);
        assert_true(i == 0 || ours.rows[i - 1].self.bytes >= row->self.bytes);
        same->self = same->under = (heft_amount_t){0, 0}; /* a second row of this key would fail */
        heft_amount_add(&sum, row->self);
    }
    assert_int_equal(sum.bytes, view->total.bytes);
    assert_int_equal(sum.blocks, view->total.blocks);
    heft_rows_done(&ours);
}

/* ---- owners and imports of lines ------------------------------------------------------------------------------- */

/* May a frame be named as the caller for which a library worked? */
static bool is_model_owner(const options_t *o, const char *file, bool foreign)
{
    return foreign ? class_of(o, file) != HEFT_CLASS_STDLIB && strcmp(file, "<interpreter>") != 0 &&
                         strcmp(file, PATHS_CUT) != 0
                   : class_of(o, file) == HEFT_CLASS_OWN;
}

/* The key of the own (`foreign`: not of the standard library) caller that carries most of a line; NULL when none does,
 * or when more has no such caller. */
static const char *model_owner(rows_t *owners, const recording_t *r, const stack_t *stacks, const char *line,
                               const options_t *o, bool foreign, heft_amount_t *best_amount)
{
    char key[400];
    uint64_t nobody = 0;
    owners->n = 0;
    for (uint32_t n = 1; n < r->header.node_n; n++) {
        const stack_t *s = &stacks[n];
        uint32_t k = 1;
        frame_key(key, &s->frames[0], HEFT_BY_LINE);
        if (!s->kept || strcmp(key, line) != 0 || class_of(o, s->frames[0].file) == HEFT_CLASS_OWN ||
            (foreign && class_of(o, s->frames[0].file) != HEFT_CLASS_STDLIB))
            continue;
        while (k < s->n && !is_model_owner(o, s->frames[k].file, foreign))
            k++;
        if (k == s->n) {
            nobody += s->amount.bytes;
            continue;
        }
        frame_key(key, &s->frames[k], HEFT_BY_STACK);
        heft_amount_add(&row_at(owners, key)->self, s->amount);
    }
    const row_t *best = NULL;
    for (uint32_t i = 0; i < owners->n; i++) {
        const row_t *row = &owners->rows[i];
        if (best == NULL || row->self.bytes > best->self.bytes ||
            (row->self.bytes == best->self.bytes && row->self.blocks > best->self.blocks))
            best = row;
    }
    if (best != NULL && nobody > best->self.bytes)
        best = NULL;
    *best_amount = best != NULL ? best->self : (heft_amount_t){0, 0};
    return best != NULL ? best->key : NULL;
}

/* Sum over the imports of a line, by module; a recursion counts each time. */
static void model_imports(rows_t *imports, const recording_t *r, const stack_t *stacks, const char *line)
{
    char key[400];
    imports->n = 0;
    for (uint32_t n = 1; n < r->header.node_n; n++) {
        const stack_t *s = &stacks[n];
        for (uint32_t k = 0; s->kept && k < s->n; k++) {
            frame_key(key, &s->frames[k], HEFT_BY_LINE);
            if (strcmp(key, line) == 0 && s->frames[k].import[0])
                heft_amount_add(&row_at(imports, s->frames[k].import)->self, s->amount);
        }
    }
}

static void compare_lines(const heft_view_t *view, rows_t *rows, const recording_t *r, const stack_t *stacks,
                          const options_t *o)
{
    const heft_stacks_t *s = view->stacks;
    heft_rows_t ours;
    char line[400], key[400];
    assert_true(heft_view_rows(view, HEFT_BY_LINE, &ours));
    for (size_t i = 0; i < ours.row_n; i++) {
        const heft_row_t *row = &ours.rows[i];
        heft_amount_t best;
        our_key(line, s, HEFT_BY_LINE, row);
        const char *owner = model_owner(rows, r, stacks, line, o, false, &best);
        if (owner == NULL)
            owner = model_owner(rows, r, stacks, line, o, true, &best);
        assert_int_equal(owner != NULL, row->owner != HEFT_NONE);
        assert_true(row->owned.bytes == best.bytes && row->owned.blocks == best.blocks);
        if (owner != NULL) { /* several may carry the same */
            frame_t f = frame_from(s, row->owner);
            frame_key(key, &f, HEFT_BY_STACK);
            const row_t *mine = row_at(rows, key);
            assert_true(mine->self.bytes == best.bytes && mine->self.blocks == best.blocks);
        }
        model_imports(rows, r, stacks, line);
        assert_int_equal(rows->n, row->import_n);
        uint64_t previous = UINT64_MAX;
        for (uint32_t k = 0; k < row->import_n; k++) {
            uint64_t bytes = row_at(rows, text_of(s, ours.imports[row->import_first + k]))->self.bytes;
            assert_true(bytes <= previous);
            previous = bytes;
        }
        assert_int_equal(rows->n, row->import_n);
    }
    heft_rows_done(&ours);
}

/* ---- trees ----------------------------------------------------------------------------------------------------- */

/* A tree row is the path of labels that leads to it. */
static void model_tree(rows_t *rows, const recording_t *r, const stack_t *stacks, bool inverted, bool threads)
{
    char path[DEPTH_MAX * 200];
    rows->n = 0;
    row_at(rows, "");
    for (uint32_t n = 1; n < r->header.node_n; n++) {
        const stack_t *s = &stacks[n];
        row_t *row = row_at(rows, "");
        if (!s->kept)
            continue;
        heft_amount_add(&row->under, s->amount);
        path[0] = '\0';
        char regions[DEPTH_MAX][400];
        uint32_t region_n = 0;
        strcpy(regions[0], s->region);
        while (regions[region_n][0] != '\0') { /* the innermost first, each with those around it */
            assert(region_n < DEPTH_MAX - 1);
            strcpy(regions[region_n + 1], regions[region_n]);
            *strrchr(regions[++region_n], '/') = '\0';
        }
        bool has_thread = threads && s->thread != HEFT_NONE;
        uint32_t place_n = s->n + region_n + has_thread;
        for (uint32_t k = 0; k < place_n; k++) {
            uint32_t place = inverted ? k : place_n - 1 - k; /* 0 = innermost frame; then regions, then the thread */
            strcat(path, "|");
            if (place >= s->n + region_n)
                sprintf(path + strlen(path), "%u", s->thread);
            else if (place >= s->n)
                strcat(path, regions[place - s->n]);
            else
                frame_key(path + strlen(path), &s->frames[place], HEFT_BY_STACK);
            row = row_at(rows, path);
            heft_amount_add(&row->under, s->amount);
        }
        heft_amount_add(&row->self, s->amount);
    }
}

static void compare_tree(const heft_view_t *view, rows_t *model, bool inverted, bool threads)
{
    const heft_stacks_t *s = view->stacks;
    heft_branches_t tree;
    static char path[DEPTH_MAX * 200];
    size_t ends[DEPTH_MAX + 2] = {0};
    uint64_t last[DEPTH_MAX + 2];
    uint32_t parts[DEPTH_MAX + 2] = {HEFT_NONE}; /* outside in: the region that a row at this depth is in */
    assert_true(heft_view_tree(view, inverted, &tree));
    assert_int_equal(tree.branch_n, model->n);
    assert_true(tree.branches[0].depth == 0 && tree.branches[0].frame == HEFT_NONE);
    assert_true(tree.branches[0].thread == HEFT_NONE && tree.branches[0].part == HEFT_NONE);
    for (size_t i = 0; i < tree.branch_n; i++) {
        const heft_branch_t *b = &tree.branches[i];
        char *label = path + (b->depth == 0 ? 0 : ends[b->depth - 1]);
        label[0] = '\0';
        if (b->frame != HEFT_NONE) {
            frame_t f = frame_from(s, b->frame);
            label[0] = '|';
            frame_key(label + 1, &f, HEFT_BY_STACK);
            assert_int_equal(b->part, inverted ? HEFT_NONE : parts[b->depth - 1]);
        } else if (b->part != HEFT_NONE) {
            assert_true(b->depth > 0);
            label[0] = '|';
            our_region(label + 1, s, b->part);
        } else if (b->depth > 0) {
            assert_true(threads);
            sprintf(label, "|%u", b->thread);
        }
        ends[b->depth] = strlen(path);
        parts[b->depth] = b->part;
        row_t *same = row_at(model, path);
        assert_int_equal(b->self.bytes, same->self.bytes);
        assert_int_equal(b->self.blocks, same->self.blocks);
        assert_int_equal(b->under.bytes, same->under.bytes);
        assert_int_equal(b->under.blocks, same->under.blocks);
        if (i > 0) {
            assert_true(b->depth > 0 && b->depth <= tree.branches[i - 1].depth + 1);
            assert_true(b->depth > tree.branches[i - 1].depth || b->under.bytes <= last[b->depth]);
        }
        last[b->depth] = b->under.bytes;
    }
    heft_branches_done(&tree);
}

static bool several_threads(const recording_t *r, const stack_t *stacks)
{
    bool seen[8] = {false}; /* the last: those without a thread */
    int n = 0;
    for (uint32_t i = 1; i < r->header.node_n; i++) {
        uint32_t thread = stacks[i].thread == HEFT_NONE ? 7 : stacks[i].thread;
        n += stacks[i].kept && !seen[thread];
        seen[thread] |= stacks[i].kept;
    }
    return n > 1;
}

/* ---- what was cut ---------------------------------------------------------------------------------------------- */

static void compare_cuts(const heft_view_t *view, const recording_t *r, const stack_t *stacks)
{
    heft_amount_t cut = {0}, uncertain = {0};
    for (uint32_t n = 1; n < r->header.node_n; n++) {
        if (!stacks[n].kept)
            continue;
        if (stacks[n].is_nowhere || (has_cuts(r) && (r->details[n].flags & HEFT_DETAIL_FLAT) != 0))
            heft_amount_add(&cut, stacks[n].amount);
        if (r->details[n].flags & HEFT_DETAIL_CUT)
            heft_amount_add(&uncertain, stacks[n].amount);
    }
    assert_int_equal(view->cut.bytes, cut.bytes);
    assert_int_equal(view->cut.blocks, cut.blocks);
    assert_int_equal(view->uncertain.bytes, uncertain.bytes);
    assert_int_equal(view->uncertain.blocks, uncertain.blocks);
}

/* ---- random recordings ----------------------------------------------------------------------------------------- */

static void compare_all(opened_t *opened, const options_t *o, rows_t *rows)
{
    const heft_stacks_t *s = &opened->stacks;
    uint8_t classes[16], pattern[16], parts[64];
    char region[400];
    heft_view_t view;
    assert_true(s->file_n <= 16 && s->part_n < 64);
    for (uint32_t f = 0; f < s->file_n; f++) {
        classes[f] = class_of(o, text_of(s, s->files[f]));
        pattern[f] = in_pattern(o, text_of(s, s->files[f]));
    }
    for (uint32_t p = 0; p <= s->part_n; p++) {
        our_region(region, s, p < s->part_n ? p : HEFT_NONE);
        parts[p] = in_parts(o, region);
    }
    heft_view_options_t options = {.moment = o->moment,
                                   .span = o->span,
                                   .classes = classes,
                                   .own = o->own,
                                   .keep = o->keep,
                                   .pattern = o->has_pattern ? pattern : NULL,
                                   .parts = o->has_parts ? parts : NULL};
    assert_true(heft_view_init(&view, s, &options));
    stack_t *stacks = model_stacks(&opened->r, o);
    compare_cuts(&view, &opened->r, stacks);
    for (heft_by_t by = HEFT_BY_LINE; by <= HEFT_BY_REGION; by++) {
        model_rows(rows, &opened->r, stacks, by, o);
        compare_rows(&view, by, rows);
    }
    compare_lines(&view, rows, &opened->r, stacks, o);
    bool threads = several_threads(&opened->r, stacks);
    for (int inverted = 0; inverted < 2; inverted++) {
        model_tree(rows, &opened->r, stacks, inverted != 0, threads);
        compare_tree(&view, rows, inverted != 0, threads);
    }
    free(stacks);
    heft_view_done(&view);
}

static void test_random_against_model(void **state)
{
    (void)state;
    rows_t *rows = malloc(sizeof *rows);
    assert_non_null(rows);
    for (uint32_t seed = 0; seed < 1500; seed++) {
        opened_t opened;
        uint64_t random = seed;
        recording_random(&opened.r, seed, 4 + random_below(&random, 36));
        open_recording(&opened);
        for (int i = 0; i < 4; i++) {
            options_t o = {.moment = (heft_moment_t)random_below(&random, 4),
                           .span = random_below(&random, 3),
                           .own = random_below(&random, 3) == 0,
                           .seed = seed,
                           .keep = random_below(&random, 2) ? 0xf : random_below(&random, 16),
                           .has_pattern = random_below(&random, 4) == 0,
                           .has_parts = random_below(&random, 4) == 0};
            compare_all(&opened, &o, rows);
        }
        close_recording(&opened);
    }
    free(rows);
}

/* ---- examples -------------------------------------------------------------------------------------------------- */

/* app.py:1 imports lib (through importlib), whose body calls app.py's f at line 5, which recurses. */
static void example(opened_t *o)
{
    recording_t *r = &o->r;
    recording_init(r);
    uint32_t main_thread = recording_thread(r, "MainThread");
    uint32_t app = recording_code(r, "app.py", "<module>", "__main__", 0);
    uint32_t f = recording_code(r, "app.py", "f", "__main__", 0);
    uint32_t lib = recording_code(r, "/usr/lib.py", "<module>", "lib", 0);
    uint32_t machinery =
        recording_code(r, "<frozen importlib._bootstrap>", "_load", "importlib._bootstrap", HEFT_CODE_IMPORT_MACHINERY);
    uint32_t line = recording_frame(r, main_thread, app, 1);
    uint32_t import = recording_node(r, HEFT_NODE_IMPORT, line, recording_string(r, "lib"), 0);
    uint32_t load = recording_frame(r, import, machinery, 900);
    uint32_t body = recording_frame(r, load, lib, 10);
    uint32_t outer = recording_frame(r, body, f, 5);
    uint32_t inner = recording_frame(r, outer, f, 5);
    recording_alloc(r, load, 1000, 10);
    recording_alloc(r, body, 200, 2);
    recording_alloc(r, outer, 30, 3);
    recording_alloc(r, inner, 4, 1);
    recording_alloc(r, main_thread, 50000, 5);
    open_recording(o);
}

static heft_view_t example_view(const opened_t *o, bool own)
{
    static uint8_t classes[8];
    heft_view_t view;
    assert_int_equal(o->stacks.file_n, 3); /* importlib's is not among them */
    for (uint32_t f = 0; f < o->stacks.file_n; f++)
        classes[f] = class_of(NULL, text_of(&o->stacks, o->stacks.files[f]));
    heft_view_options_t options = {.moment = HEFT_MOMENT_TOTAL, .classes = classes, .own = own, .keep = 0xf};
    assert_true(heft_view_init(&view, &o->stacks, &options));
    return view;
}

static void check_row(const heft_view_t *view, const heft_rows_t *rows, size_t i, const char *line, uint64_t bytes,
                      uint64_t under)
{
    char key[400];
    assert_true(i < rows->row_n);
    our_key(key, view->stacks, HEFT_BY_LINE, &rows->rows[i]);
    assert_string_equal(key, line);
    assert_int_equal(rows->rows[i].self.bytes, bytes);
    assert_int_equal(rows->rows[i].under.bytes, under);
}

static void test_import_and_recursion(void **state)
{
    (void)state;
    opened_t o;
    heft_rows_t rows;
    example(&o);
    heft_view_t view = example_view(&o, false);
    assert_true(heft_view_rows(&view, HEFT_BY_LINE, &rows));
    assert_int_equal(rows.row_n, 4);
    check_row(&view, &rows, 0, "<interpreter>:0 <interpreter> <interpreter>", 50000, 50000);
    check_row(&view, &rows, 1, "app.py:1 <module> __main__", 1000, 1234);
    check_row(&view, &rows, 2, "/usr/lib.py:10 <module> lib", 200, 234);
    check_row(&view, &rows, 3, "app.py:5 f __main__", 34, 34);
    assert_int_equal(rows.rows[1].import_n, 1);
    assert_string_equal(text_of(&o.stacks, rows.imports[rows.rows[1].import_first]), "lib");
    assert_int_equal(rows.rows[1].owner, HEFT_NONE);
    const heft_frame_t *owner = &o.stacks.frames[rows.rows[2].owner]; /* the importing line */
    assert_string_equal(text_of(&o.stacks, owner->import), "lib");
    assert_int_equal(owner->line, 1);
    heft_rows_done(&rows);

    assert_true(heft_view_rows(&view, HEFT_BY_MODULE, &rows));
    assert_int_equal(rows.row_n, 3);
    assert_string_equal(text_of(&o.stacks, rows.rows[1].key), "__main__"); /* the importing line's 1000, f's 34 */
    assert_int_equal(rows.rows[1].self.bytes, 1034);
    assert_int_equal(rows.rows[1].under.bytes, 1234); /* it imports it all */
    assert_int_equal(rows.rows[2].self.bytes, 200);
    assert_int_equal(rows.rows[2].under.bytes, 234);
    heft_rows_done(&rows);
    heft_view_done(&view);
    close_recording(&o);
}

static void test_own(void **state)
{
    (void)state;
    opened_t o;
    heft_rows_t rows;
    example(&o);
    heft_view_t view = example_view(&o, true);
    assert_true(heft_view_rows(&view, HEFT_BY_LINE, &rows));
    assert_int_equal(rows.row_n, 3);
    check_row(&view, &rows, 0, "<interpreter>:0 <interpreter> <interpreter>", 50000, 50000);
    check_row(&view, &rows, 1, "app.py:1 <module> __main__", 1200, 1234);
    check_row(&view, &rows, 2, "app.py:5 f __main__", 34, 34);
    heft_rows_done(&rows);
    heft_view_done(&view);
    close_recording(&o);
}

/* main() at app.py:1 calls into the library, which the tree has room for, then once more, which it has not:
 *
 *     main thread   app.py:1   /lib.py:10   100            before the bound
 *                   /lib.py:20              7              after it: who called it is not known
 *                   app.py:2                5
 *     worker        /lib.py:20              3
 */
static void cut_example(opened_t *o)
{
    recording_init(&o->r);
    uint32_t main = recording_thread(&o->r, "main"), worker = recording_thread(&o->r, "worker");
    uint32_t app = recording_code(&o->r, "app.py", "main", "__main__", 0);
    uint32_t lib = recording_code(&o->r, "/lib.py", "f", "lib", 0);
    uint32_t caller = recording_frame(&o->r, main, app, 1);
    recording_alloc(&o->r, recording_frame(&o->r, caller, lib, 10), 100, 1);
    const struct {
        uint32_t thread, code, line;
        int64_t bytes, blocks;
    } flat[] = {{main, lib, 20, 7, 2}, {main, app, 2, 5, 1}, {worker, lib, 20, 3, 1}};
    for (size_t i = 0; i < sizeof flat / sizeof *flat; i++) {
        uint32_t node = recording_frame(&o->r, flat[i].thread, flat[i].code, flat[i].line);
        recording_alloc(&o->r, node, flat[i].bytes, flat[i].blocks);
        o->r.details[node].flags |= HEFT_DETAIL_FLAT;
    }
}

static void test_paths_that_were_cut(void **state)
{
    (void)state;
    for (int is_cut = 0; is_cut < 2; is_cut++) {
        opened_t o;
        heft_rows_t rows;
        heft_branches_t tree;
        cut_example(&o);
        o.r.header.flags = is_cut ? HEFT_FLAG_PATHS_CUT : 0; /* without the flag nothing is guessed */
        open_recording(&o);
        assert_int_equal(o.stacks.file_n, 3 + is_cut);
        uint8_t classes[4];
        for (uint32_t f = 0; f < o.stacks.file_n; f++)
            classes[f] = class_of(NULL, text_of(&o.stacks, o.stacks.files[f]));
        heft_view_options_t options = {.moment = HEFT_MOMENT_TOTAL, .classes = classes, .keep = 0xf};
        heft_view_t view;
        assert_true(heft_view_init(&view, &o.stacks, &options));
        assert_int_equal(view.total.bytes, 115);
        assert_int_equal(view.cut.bytes, is_cut ? 15 : 0);
        assert_int_equal(view.cut.blocks, is_cut ? 4 : 0);
        assert_true(heft_view_rows(&view, HEFT_BY_LINE, &rows)); /* what a line asked for itself is what it was */
        check_row(&view, &rows, 0, "/lib.py:10 f lib", 100, 100);
        check_row(&view, &rows, 1, "/lib.py:20 f lib", 10, 10);
        check_row(&view, &rows, 2, "app.py:2 main __main__", 5, 5);
        assert_int_equal(rows.rows[1].owner, HEFT_NONE);
        heft_rows_done(&rows);
        assert_true(heft_view_tree(&view, false, &tree)); /* root, main, app.py:1, /lib.py:10, ... */
        assert_int_equal(tree.branch_n, 8 + 2 * is_cut);
        uint32_t cut_n = 0;
        for (size_t i = 0; i < tree.branch_n; i++) {
            if (tree.branches[i].frame != o.stacks.cut_frame || tree.branches[i].frame == HEFT_NONE)
                continue;
            assert_int_equal(tree.branches[i].depth, 2);
            assert_int_equal(tree.branches[i].self.bytes, 0);
            assert_int_equal(tree.branches[i].under.bytes, cut_n++ == 0 ? 12 : 3);
        }
        assert_int_equal(cut_n, 2 * is_cut);
        heft_branches_done(&tree);
        heft_view_done(&view);

        options.own = true;
        assert_true(heft_view_init(&view, &o.stacks, &options));
        assert_true(heft_view_rows(&view, HEFT_BY_LINE, &rows));
        check_row(&view, &rows, 0, "app.py:1 main __main__", 100, 100);
        check_row(&view, &rows, 1,
                  is_cut ? "<paths cut>:0 <paths cut> <paths cut>" : "<interpreter>:0 <interpreter> <interpreter>", 10,
                  is_cut ? 15 : 10);
        check_row(&view, &rows, 2, "app.py:2 main __main__", 5, 5);
        assert_int_equal(rows.row_n, 3);
        heft_rows_done(&rows);
        heft_view_done(&view);
        close_recording(&o);
    }
}

/* The disk is full: what main() called is at app.py:1, what ran in a second thread at its root, and what ran in threads
 * without a root of their own at the root of all.  The interpreter's own requests at those roots cannot be told apart.
 */
static void test_paths_without_room(void **state)
{
    (void)state;
    for (int own = 0; own < 2; own++) {
        opened_t o;
        heft_rows_t rows;
        heft_branches_t tree;
        recording_init(&o.r);
        uint32_t main = recording_thread(&o.r, "main"), worker = recording_thread(&o.r, "worker");
        uint32_t app = recording_code(&o.r, "app.py", "main", "__main__", 0);
        uint32_t lib = recording_code(&o.r, "/lib.py", "f", "lib", 0);
        uint32_t caller = recording_frame(&o.r, main, app, 1), flat = recording_frame(&o.r, worker, lib, 20);
        const struct {
            uint32_t node;
            uint8_t flags;
            int64_t bytes;
        } held[] = {{1, HEFT_DETAIL_CUT, 1000},
                    {main, 0, 200},
                    {caller, HEFT_DETAIL_CUT, 50},
                    {worker, HEFT_DETAIL_CUT, 30},
                    {flat, HEFT_DETAIL_FLAT, 4}};
        for (size_t i = 0; i < sizeof held / sizeof *held; i++) {
            recording_alloc(&o.r, held[i].node, held[i].bytes, 1);
            o.r.details[held[i].node].flags |= held[i].flags;
        }
        o.r.header.flags = HEFT_FLAG_DISK_FULL | HEFT_FLAG_PATHS_CUT;
        o.r.header.cut_events = 3;
        open_recording(&o);
        assert_int_equal(o.stacks.file_n, 4);
        uint8_t classes[4];
        for (uint32_t f = 0; f < o.stacks.file_n; f++)
            classes[f] = class_of(NULL, text_of(&o.stacks, o.stacks.files[f]));
        heft_view_options_t options = {.moment = HEFT_MOMENT_TOTAL, .classes = classes, .own = own != 0, .keep = 0xf};
        heft_view_t view;
        assert_true(heft_view_init(&view, &o.stacks, &options));
        assert_int_equal(view.total.bytes, 1284);
        assert_int_equal(view.cut.bytes, 1034);
        assert_int_equal(view.uncertain.bytes, 1080);
        assert_int_equal(view.uncertain.blocks, 3);
        assert_true(heft_view_rows(&view, HEFT_BY_LINE, &rows));
        check_row(&view, &rows, 0, "<paths cut>:0 <paths cut> <paths cut>", own ? 1034 : 1030, 1034);
        check_row(&view, &rows, 1, "<interpreter>:0 <interpreter> <interpreter>", 200, 200); /* main's, all its own */
        check_row(&view, &rows, 2, "app.py:1 main __main__", 50, 50);
        assert_int_equal(rows.row_n, own ? 3 : 4);
        heft_rows_done(&rows);
        assert_true(heft_view_tree(&view, false, &tree));
        uint32_t cut_n = 0;
        for (size_t i = 1; i < tree.branch_n; i++)
            cut_n += tree.branches[i].frame == o.stacks.cut_frame;
        assert_int_equal(cut_n, 2); /* one under each: that of the worker is both ways' */
        heft_branches_done(&tree);
        heft_view_done(&view);
        close_recording(&o);
    }
}

static void test_tree_of_one_thread(void **state)
{
    (void)state;
    opened_t o;
    heft_branches_t tree;
    example(&o);
    heft_view_t view = example_view(&o, false);
    assert_true(heft_view_tree(&view, false, &tree));
    static const uint64_t expected[][3] = {/* depth, self, under */
                                           {0, 0, 51234}, {1, 50000, 50000}, {1, 1000, 1234},
                                           {2, 200, 234}, {3, 30, 34},       {4, 4, 4}};
    assert_int_equal(tree.branch_n, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(tree.branches[i].depth, expected[i][0]);
        assert_int_equal(tree.branches[i].self.bytes, expected[i][1]);
        assert_int_equal(tree.branches[i].under.bytes, expected[i][2]);
        assert_int_equal(tree.branches[i].thread, HEFT_NONE);
    }
    heft_branches_done(&tree);
    heft_view_done(&view);
    close_recording(&o);
}

static void test_columns(void **state)
{
    (void)state;
    opened_t o;
    recording_init(&o.r);
    uint32_t thread = recording_thread(&o.r, "main"), code = recording_code(&o.r, "a.py", "f", "a", 0);
    static const uint16_t columns[][2] = {{7, 7}, {7, 9}, {0, 0}, {UINT16_MAX, UINT16_MAX}};
    static const uint32_t expected[] = {7, 0, 0, 0};
    for (uint32_t line = 0; line < 4; line++) {
        for (int i = 0; i < 2; i++) {
            uint32_t n = recording_frame(&o.r, thread, code, line + 1);
            o.r.details[n].column = columns[line][i];
        }
    }
    open_recording(&o);
    assert_int_equal(o.stacks.frame_n, 5);
    for (uint32_t line = 0; line < 4; line++)
        assert_int_equal(o.stacks.frames[line + 1].column, expected[line]);
    assert_int_equal(o.stacks.vertex_n, 2 + 2 + 4);
    close_recording(&o);
}

/* A program's own "<interpreter>" is not ours, equal names of different strings are one, others are not. */
static void test_names(void **state)
{
    (void)state;
    opened_t o;
    recording_init(&o.r);
    uint32_t thread = recording_thread(&o.r, "main");
    static const char *const files[] = {"a.py", "a.py", "<interpreter>", "<unknown>", "", "a.pyc"};
    for (uint32_t i = 0; i < 6; i++)
        recording_frame(&o.r, thread, recording_code(&o.r, files[i], "f", "", 0), 1);
    open_recording(&o);
    assert_int_equal(o.stacks.file_n, 5);
    assert_string_equal(text_of(&o.stacks, o.stacks.files[0]), "<interpreter>");
    assert_string_equal(text_of(&o.stacks, o.stacks.files[2]), "<interpreter>");
    assert_string_equal(text_of(&o.stacks, o.stacks.files[3]), "<unknown>");
    assert_string_equal(text_of(&o.stacks, o.stacks.files[4]), "a.pyc");
    assert_int_equal(o.stacks.frame_n, 5);
    close_recording(&o);
}

static void test_nothing_recorded(void **state)
{
    (void)state;
    opened_t o;
    uint8_t classes[1] = {3};
    heft_view_t view;
    recording_init(&o.r);
    o.r.header.node_n = 1;
    open_recording(&o);
    assert_int_equal(o.stacks.file_n, 1);
    heft_view_options_t options = {.moment = HEFT_MOMENT_PEAK, .classes = classes, .keep = 0xf};
    assert_true(heft_view_init(&view, &o.stacks, &options));
    for (heft_by_t by = HEFT_BY_LINE; by <= HEFT_BY_REGION; by++) {
        heft_rows_t rows;
        assert_true(heft_view_rows(&view, by, &rows));
        assert_int_equal(rows.row_n, 0);
        heft_rows_done(&rows);
    }
    for (int inverted = 0; inverted < 2; inverted++) {
        heft_branches_t tree;
        assert_true(heft_view_tree(&view, inverted != 0, &tree));
        assert_int_equal(tree.branch_n, 1);
        heft_branches_done(&tree);
    }
    heft_view_done(&view);
    close_recording(&o);
}

/* A chain of 100,000 frames, each allocating: no recursion, no quadratic time, and the inverted tree is cut. */
static void test_deep(void **state)
{
    (void)state;
    opened_t o;
    heft_view_t view;
    heft_rows_t rows;
    heft_branches_t tree;
    recording_init(&o.r);
    uint32_t node = recording_thread(&o.r, "main"), code = recording_code(&o.r, "a.py", "f", "a", 0);
    for (uint32_t i = 1; i <= 100000; i++) {
        node = recording_frame(&o.r, node, code, i % 1000);
        recording_alloc(&o.r, node, 1, 1);
    }
    open_recording(&o);
    uint8_t classes[2] = {3, 0};
    heft_view_options_t options = {.moment = HEFT_MOMENT_TOTAL, .classes = classes, .keep = 0xf};
    assert_true(heft_view_init(&view, &o.stacks, &options));
    assert_true(heft_view_rows(&view, HEFT_BY_LINE, &rows));
    assert_int_equal(rows.row_n, 1000);
    heft_rows_done(&rows);
    assert_true(heft_view_rows(&view, HEFT_BY_STACK, &rows));
    assert_int_equal(rows.row_n, 100000);
    heft_rows_done(&rows);
    assert_true(heft_view_tree(&view, false, &tree));
    assert_int_equal(tree.branch_n, 100001);
    heft_branches_done(&tree);
    assert_true(heft_view_tree(&view, true, &tree));
    uint64_t sum = 0;
    for (size_t i = 0; i < tree.branch_n; i++)
        sum += tree.branches[i].self.bytes;
    assert_int_equal(sum, 100000); /* cut, but nothing is lost */
    heft_branches_done(&tree);
    heft_view_done(&view);
    close_recording(&o);
}

/* ---- regions --------------------------------------------------------------------------------------------------- */

/* "load" in both threads, with "parse" in it in one; in all of them, and outside, app.py:1 asks:
 *
 *     MainThread    app.py:1   1            load   app.py:1   2   <interpreter>   4      load / parse   app.py:1   8
 *     worker        app.py:1   16           load   app.py:1   32
 *     worker, parse (a region of its own)          app.py:1   64
 */
static void region_example(recording_t *r, bool is_worker_idle)
{
    recording_init(r);
    uint32_t main = recording_thread(r, "MainThread"), worker = recording_thread(r, "worker");
    uint32_t app = recording_code(r, "app.py", "f", "app", 0), lib = recording_code(r, "/lib.py", "g", "lib", 0);
    uint32_t load = recording_node(r, HEFT_NODE_REGION, main, recording_string(r, "load"), 0);
    uint32_t parse = recording_node(r, HEFT_NODE_REGION, load, recording_string(r, "parse"), 0);
    uint32_t other = recording_node(r, HEFT_NODE_REGION, worker, recording_string(r, "load"), 0);
    uint32_t alone = recording_node(r, HEFT_NODE_REGION, worker, recording_string(r, "parse"), 0);
    const uint32_t bases[] = {main, load, load, parse, worker, other, alone};
    for (uint32_t i = 0; i < (is_worker_idle ? 4 : 7); i++) {
        uint32_t node = i == 2 ? bases[i] : recording_frame(r, bases[i], app, 1);
        recording_alloc(r, node, 1 << i, 1);
    }
    recording_frame(r, alone, lib, 3); /* which asks for nothing */
}

static void check_region_rows(const heft_view_t *view, const uint64_t (*expected)[2], const char *const *regions,
                              size_t n)
{
    heft_rows_t rows;
    char key[400];
    assert_true(heft_view_rows(view, HEFT_BY_REGION, &rows));
    assert_int_equal(rows.row_n, n);
    for (size_t i = 0; i < n; i++) {
        our_key(key, view->stacks, HEFT_BY_REGION, &rows.rows[i]);
        assert_string_equal(key, regions[i]);
        assert_int_equal(rows.rows[i].self.bytes, expected[i][0]);
        assert_int_equal(rows.rows[i].under.bytes, expected[i][1]);
        assert_int_equal(rows.rows[i].frame, HEFT_NONE);
    }
    heft_rows_done(&rows);
}

/* A tree's rows: depth, f(rame), t(hread) or r(egion), bytes under it. */
static void check_shape(const heft_view_t *view, bool inverted, const char *expected)
{
    heft_branches_t tree;
    char text[1000] = "", *at = text;
    assert_true(heft_view_tree(view, inverted, &tree));
    for (size_t i = 1; i < tree.branch_n; i++) {
        const heft_branch_t *b = &tree.branches[i];
        char region[400];
        our_region(region, view->stacks, b->part);
        at += sprintf(at, "%u", b->depth);
        if (b->frame != HEFT_NONE)
            at += sprintf(at, "f%u", view->stacks->frames[b->frame].line);
        else
            at += b->part != HEFT_NONE ? sprintf(at, "%s", region) : sprintf(at, "t%u", b->thread);
        at += sprintf(at, "=%u ", (unsigned)b->under.bytes);
    }
    assert_string_equal(text, expected);
    heft_branches_done(&tree);
}

static void test_regions(void **state)
{
    (void)state;
    opened_t o;
    heft_view_t view;
    static const uint8_t classes[8] = {3};
    heft_view_options_t options = {.moment = HEFT_MOMENT_TOTAL, .classes = classes, .keep = 0xf};
    region_example(&o.r, false);
    open_recording(&o);
    assert_int_equal(o.stacks.part_n, 3); /* load is one, in whichever thread */
    assert_true(heft_view_init(&view, &o.stacks, &options));
    static const char *const regions[] = {"/parse", "/load", "", "/load/parse"};
    static const uint64_t rows[][2] = {{64, 64}, {38, 46}, {17, 17}, {8, 8}};
    check_region_rows(&view, rows, regions, 4);
    check_shape(&view, false,
                "1t1=112 2/parse=64 3f1=64 2/load=32 3f1=32 2f1=16 "
                "1t0=15 2/load=14 3/load/parse=8 4f1=8 3f0=4 3f1=2 2f1=1 ");
    check_shape(&view, true,
                "1f1=123 2/parse=64 3t1=64 2/load=34 3t1=32 3t0=2 2t1=16 2/load/parse=8 3/load=8 4t0=8 2t0=1 "
                "1f0=4 2/load=4 3t0=4 ");
    heft_view_done(&view);

    const uint8_t parts[] = {0, 1, 0, 0}; /* load / parse, and nothing else */
    options.parts = parts;
    assert_true(heft_view_init(&view, &o.stacks, &options));
    assert_int_equal(view.total.bytes, 8);
    static const char *const kept[] = {"/load/parse", "/load"};
    static const uint64_t kept_rows[][2] = {{8, 8}, {0, 8}};
    check_region_rows(&view, kept_rows, kept, 2);
    check_shape(&view, false, "1/load=8 2/load/parse=8 3f1=8 ");
    heft_view_done(&view);
    const uint8_t none[] = {0, 0, 0, 1}; /* what is in no region */
    options.parts = none;
    assert_true(heft_view_init(&view, &o.stacks, &options));
    assert_int_equal(view.total.bytes, 17);
    heft_view_done(&view);
    close_recording(&o);

    region_example(&o.r, true); /* one thread has no row of its own: its regions stand at the top */
    open_recording(&o);
    options.parts = NULL;
    assert_true(heft_view_init(&view, &o.stacks, &options));
    check_shape(&view, false, "1/load=14 2/load/parse=8 3f1=8 2f0=4 2f1=2 1f1=1 ");
    check_shape(&view, true, "1f1=11 2/load/parse=8 3/load=8 2/load=2 1f0=4 2/load=4 ");
    heft_view_done(&view);
    close_recording(&o);
}

/* Own code is looked for in the region alone: without any there, what a library asked for is the region's. */
static void test_own_in_regions(void **state)
{
    (void)state;
    opened_t o;
    heft_rows_t rows;
    recording_init(&o.r);
    uint32_t main = recording_thread(&o.r, "main"), app = recording_code(&o.r, "app.py", "f", "app", 0);
    uint32_t lib = recording_code(&o.r, "/usr/lib.py", "<module>", "lib", 0);
    uint32_t load = recording_node(&o.r, HEFT_NODE_REGION, main, recording_string(&o.r, "load"), 0);
    recording_alloc(&o.r, recording_frame(&o.r, recording_frame(&o.r, main, app, 1), lib, 10), 100, 1);
    recording_alloc(&o.r, recording_frame(&o.r, recording_frame(&o.r, load, app, 2), lib, 10), 20, 1);
    recording_alloc(&o.r, recording_frame(&o.r, load, lib, 10), 3, 1);
    open_recording(&o);
    heft_view_t view = example_view(&o, true);
    assert_true(heft_view_rows(&view, HEFT_BY_LINE, &rows));
    check_row(&view, &rows, 0, "app.py:1 f app", 100, 100);
    check_row(&view, &rows, 1, "app.py:2 f app", 20, 20);
    check_row(&view, &rows, 2, "<interpreter>:0 <interpreter> <interpreter>", 3, 3);
    heft_rows_done(&rows);
    static const char *const regions[] = {"", "/load"};
    static const uint64_t expected[][2] = {{100, 100}, {23, 23}};
    check_region_rows(&view, expected, regions, 2);
    heft_view_done(&view);
    close_recording(&o);
}

/* Paths were cut in a region, and the disk was full: <paths cut> stands in it, and not beside it. */
static void test_paths_cut_in_regions(void **state)
{
    (void)state;
    opened_t o;
    heft_view_t view;
    static const uint8_t classes[8] = {3};
    heft_view_options_t options = {.moment = HEFT_MOMENT_TOTAL, .classes = classes, .keep = 0xf};
    recording_init(&o.r);
    uint32_t main = recording_thread(&o.r, "main"), lib = recording_code(&o.r, "/lib.py", "f", "lib", 0);
    uint32_t load = recording_node(&o.r, HEFT_NODE_REGION, main, recording_string(&o.r, "load"), 0);
    uint32_t parse = recording_node(&o.r, HEFT_NODE_REGION, load, recording_string(&o.r, "parse"), 0);
    uint32_t flat = recording_frame(&o.r, load, lib, 20);
    recording_alloc(&o.r, flat, 1, 1);
    recording_alloc(&o.r, parse, 2, 1); /* nothing is known of it */
    recording_alloc(&o.r, load, 4, 1);  /* the interpreter's */
    recording_alloc(&o.r, recording_frame(&o.r, main, lib, 10), 8, 1);
    o.r.details[flat].flags = HEFT_DETAIL_FLAT;
    o.r.details[parse].flags = HEFT_DETAIL_CUT;
    o.r.header.flags = HEFT_FLAG_DISK_FULL | HEFT_FLAG_PATHS_CUT;
    o.r.header.cut_events = 1;
    open_recording(&o);
    assert_true(heft_view_init(&view, &o.stacks, &options));
    assert_int_equal(view.total.bytes, 15);
    assert_int_equal(view.cut.bytes, 3);
    assert_int_equal(view.uncertain.bytes, 2);
    static const char *const regions[] = {"", "/load", "/load/parse"};
    static const uint64_t expected[][2] = {{8, 8}, {5, 7}, {2, 2}};
    check_region_rows(&view, expected, regions, 3);
    heft_rows_t rows;
    assert_true(heft_view_rows(&view, HEFT_BY_LINE, &rows));
    assert_int_equal(rows.row_n, 4);
    check_row(&view, &rows, 0, "/lib.py:10 f lib", 8, 8);
    check_row(&view, &rows, 1, "<interpreter>:0 <interpreter> <interpreter>", 4, 4);
    check_row(&view, &rows, 2, "<paths cut>:0 <paths cut> <paths cut>", 2, 3);
    check_row(&view, &rows, 3, "/lib.py:20 f lib", 1, 1);
    heft_rows_done(&rows);
    check_shape(&view, false, "1f10=8 1/load=7 2f0=4 2/load/parse=2 3f0=2 2f0=1 3f20=1 ");
    heft_view_done(&view);
    close_recording(&o);
}

/* A file may say of any node that its callers were not kept: only where stacks begin can that be shown. */
static void test_a_chain_of_cut_paths(void **state)
{
    (void)state;
    opened_t o;
    recording_init(&o.r);
    uint32_t node = recording_thread(&o.r, "main"), code = recording_code(&o.r, "a.py", "f", "a", 0);
    for (uint32_t line = 1; line <= 100; line++) {
        node = recording_frame(&o.r, node, code, line);
        recording_alloc(&o.r, node, 1, 1);
        o.r.details[node].flags = HEFT_DETAIL_FLAT;
    }
    o.r.header.flags = HEFT_FLAG_PATHS_CUT;
    open_recording(&o);
    assert_int_equal(o.stacks.vertex_n, 2 + 2 + 1 + 100);
    close_recording(&o);
}

/* As many vertices as nodes can make: every base has an <interpreter>, and a <paths cut>. */
static void test_bases_that_were_all_cut(void **state)
{
    (void)state;
    enum { N = 20 };
    opened_t o;
    recording_init(&o.r);
    uint32_t thread = recording_thread(&o.r, "main");
    for (uint32_t i = 0; i < N; i++) {
        char name[2] = {(char)('a' + i), '\0'};
        recording_node(&o.r, HEFT_NODE_REGION, thread, recording_string(&o.r, name), 0);
    }
    for (uint32_t n = 1; n < o.r.header.node_n; n++)
        o.r.details[n].flags = HEFT_DETAIL_CUT;
    o.r.header.cut_events = 1;
    open_recording(&o);
    assert_int_equal(o.stacks.vertex_n, 3 * (1 + 1 + N));
    close_recording(&o);
}

/* As many regions as there can be, each in the one before, each with a block of its own. */
static void test_deep_regions(void **state)
{
    (void)state;
    enum { N = HEFT_REGIONS_MAX };
    opened_t o;
    heft_view_t view;
    heft_rows_t rows;
    heft_branches_t tree;
    static const uint8_t classes[2] = {3, 0};
    recording_init(&o.r);
    uint32_t node = recording_thread(&o.r, "main"), code = recording_code(&o.r, "a.py", "f", "a", 0), names[7];
    for (uint32_t i = 0; i < 7; i++)
        names[i] = recording_string(&o.r, "abcdefg" + i);
    for (uint32_t i = 0; i < N; i++) {
        node = recording_node(&o.r, HEFT_NODE_REGION, node, names[i % 7], 0);
        recording_alloc(&o.r, node, 1, 1);
    }
    recording_alloc(&o.r, recording_frame(&o.r, node, code, 1), 1, 1);
    open_recording(&o);
    assert_int_equal(o.stacks.part_n, N);
    for (int own = 0; own < 2; own++) {
        heft_view_options_t options = {.moment = HEFT_MOMENT_TOTAL, .classes = classes, .own = own != 0, .keep = 0xf};
        assert_true(heft_view_init(&view, &o.stacks, &options));
        assert_int_equal(view.total.bytes, N + 1);
        assert_true(heft_view_rows(&view, HEFT_BY_REGION, &rows));
        assert_int_equal(rows.row_n, N);
        assert_int_equal(rows.rows[0].self.bytes, 2); /* the innermost */
        assert_int_equal(rows.rows[0].under.bytes, 2);
        assert_int_equal(rows.rows[1].under.bytes, N + 1); /* the outermost */
        heft_rows_done(&rows);
        assert_true(heft_view_rows(&view, HEFT_BY_LINE, &rows));
        assert_int_equal(rows.row_n, 2);
        heft_rows_done(&rows);
        assert_true(heft_view_rows(&view, HEFT_BY_STACK, &rows));
        assert_int_equal(rows.row_n, N + 1);
        heft_rows_done(&rows);
        assert_true(heft_view_tree(&view, false, &tree));
        assert_int_equal(tree.branch_n, 1 + 2 * N + 1);
        heft_branches_done(&tree);
        assert_true(heft_view_tree(&view, true, &tree));
        uint64_t sum = 0;
        for (size_t i = 0; i < tree.branch_n; i++)
            sum += tree.branches[i].self.bytes;
        assert_int_equal(sum, N + 1);
        heft_branches_done(&tree);
        heft_view_done(&view);
    }
    close_recording(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_import_and_recursion),
        cmocka_unit_test(test_own),
        cmocka_unit_test(test_paths_that_were_cut),
        cmocka_unit_test(test_paths_without_room),
        cmocka_unit_test(test_tree_of_one_thread),
        cmocka_unit_test(test_columns),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_nothing_recorded),
        cmocka_unit_test(test_deep),
        cmocka_unit_test(test_regions),
        cmocka_unit_test(test_own_in_regions),
        cmocka_unit_test(test_paths_cut_in_regions),
        cmocka_unit_test(test_a_chain_of_cut_paths),
        cmocka_unit_test(test_bases_that_were_all_cut),
        cmocka_unit_test(test_deep_regions),
        cmocka_unit_test(test_random_against_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
