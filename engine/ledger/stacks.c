/* SPDX-License-Identifier: MIT */
/* From the recorded tree of instructions to the tree of lines, see stacks.h.
 *
 *     recorded                            shown
 *     thread                              thread
 *       app.py:3 (instruction 12)           app.py:3  import=json
 *         import json                         json/__init__.py:106
 *           importlib ...                   app.py:3
 *             json/__init__.py:106            util.py:7
 *       app.py:3 (instruction 30)
 *         util.py:7
 *
 * One pass over the nodes, parents first: a node's vertex follows from its parent's vertex and its own frame.  Frames
 * of the import machinery and of the launcher have their parent's vertex; an import replaces the importing frame by
 * one that carries the module's name.  Frames are numbered through pairs of numbers (file and line, function and
 * module, the two pairs, ...), so that one small map from 64-bit keys does all of it, and a (code, line) that was met
 * before costs a single look-up.  About 60 ns a node. */
#include "ledger/stacks.h"

#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "base/hash.h"

/* What is only needed while building. */
typedef struct {
    heft_stacks_t *s;
    heft_map_t name_of_ref, name_of_hash; /* string reference -> name; text's hash -> name */
    heft_map_t file_of_name;
    heft_map_t frame_of_site;             /* code, line -> frame */
    heft_map_t places, functions;         /* file, line; function, module */
    heft_map_t lines, functions_in_files; /* the keys of a frame */
    heft_map_t frame_of_line;             /* line key, import -> frame */
    heft_map_t vertices;                  /* up, frame -> vertex; HEFT_NONE, thread -> vertex; up, ~part -> vertex */
    heft_map_t parts;                     /* part around it, name -> part */
    uint32_t name_room, file_room, frame_room, line_room, part_room, vertex_room;
    uint32_t *columns; /* by line key: the only column seen, or COLUMN_* */
    bool failed;       /* no memory; everything made after it is worthless */
} build_t;

#define COLUMN_SEVERAL 0u
#define COLUMN_UNSEEN UINT32_MAX

/* Room for one more element behind `n`.  Sticky failure. */
static bool reserve(build_t *b, void *array, uint32_t n, uint32_t *room, size_t size)
{
    void *old;
    if (b->failed || n < *room)
        return !b->failed;
    memcpy(&old, array, sizeof old);
    size_t bigger = n == 0 ? 64 : (size_t)n * 2;
    void *p = bigger < HEFT_NONE ? realloc(old, bigger * size) : NULL;
    b->failed = p == NULL;
    if (p != NULL) {
        memcpy(array, &p, sizeof p);
        *room = (uint32_t)bigger;
    }
    return !b->failed;
}

/* The number of a pair; new pairs get *count. */
static uint32_t number(build_t *b, heft_map_t *map, uint32_t high, uint32_t low, uint32_t *count, bool *is_new)
{
    *is_new = false;
    uint32_t *value = b->failed ? NULL : heft_map_put(map, heft_map_pair(high, low), is_new);
    if (value == NULL) {
        b->failed = true;
        return 0;
    }
    if (*is_new)
        *value = (*count)++;
    return *value;
}

/* ---- names and files ---------------------------------------------------------------------------------------- */

static uint32_t name_of_text(build_t *b, heft_text_t text)
{
    heft_stacks_t *s = b->s;
    uint64_t key = heft_hash_bytes(heft_hash_secret(), text.ptr, text.len);
    for (;; key++) { /* the next key when two texts share one */
        bool is_new;
        uint32_t n = number(b, &b->name_of_hash, (uint32_t)(key >> 32), (uint32_t)key, &s->name_n, &is_new);
        if (b->failed)
            return 0;
        if (!is_new && s->names[n].len == text.len && memcmp(s->names[n].ptr, text.ptr, text.len) == 0)
            return n;
        if (!is_new)
            continue;
        if (!reserve(b, &s->names, n, &b->name_room, sizeof *s->names))
            return 0;
        s->names[n] = text;
        return n;
    }
}

static uint32_t name_of(build_t *b, uint32_t ref)
{
    bool is_new = false;
    uint32_t *value = b->failed ? NULL : heft_map_put(&b->name_of_ref, ref, &is_new);
    if (value == NULL) {
        b->failed = true;
        return 0;
    }
    if (is_new)
        *value = name_of_text(b, heft_reader_string(b->s->reader, ref));
    return *value;
}

static uint32_t file_of_name(build_t *b, uint32_t name)
{
    heft_stacks_t *s = b->s;
    bool is_new;
    uint32_t file = number(b, &b->file_of_name, 0, name, &s->file_n, &is_new);
    if (is_new && reserve(b, &s->files, file, &b->file_room, sizeof *s->files))
        s->files[file] = name;
    return file;
}

/* ---- frames ------------------------------------------------------------------------------------------------- */

/* The frame of a line that imports `import` (or nothing). */
static uint32_t frame_of_line(build_t *b, const heft_frame_t *like, uint32_t import)
{
    heft_stacks_t *s = b->s;
    heft_frame_t frame = *like; /* reserve may move what `like` points to */
    bool is_new;
    frame.import = import;
    uint32_t n = number(b, &b->frame_of_line, frame.line_key, import, &s->frame_n, &is_new);
    if (is_new && reserve(b, &s->frames, n, &b->frame_room, sizeof *s->frames))
        s->frames[n] = frame;
    return n;
}

static uint32_t make_frame(build_t *b, uint32_t file, uint32_t line, uint32_t function, uint32_t module)
{
    heft_stacks_t *s = b->s;
    uint32_t place_n = (uint32_t)b->places.used, code_n = (uint32_t)b->functions.used;
    bool is_new;
    uint32_t place = number(b, &b->places, file, line, &place_n, &is_new);
    uint32_t code = number(b, &b->functions, function, module, &code_n, &is_new);
    heft_frame_t frame = {.file = file, .line = line, .function = function, .module = module};
    frame.function_key = number(b, &b->functions_in_files, file, code, &s->function_n, &is_new);
    frame.line_key = number(b, &b->lines, place, code, &s->line_n, &is_new);
    if (is_new && reserve(b, &b->columns, frame.line_key, &b->line_room, sizeof *b->columns))
        b->columns[frame.line_key] = COLUMN_UNSEEN;
    return frame_of_line(b, &frame, HEFT_NAME_EMPTY);
}

static uint32_t frame_of_node(build_t *b, const heft_detail_t *detail)
{
    heft_stacks_t *s = b->s;
    bool is_new = false;
    uint32_t *value =
        b->failed ? NULL : heft_map_put(&b->frame_of_site, heft_map_pair(detail->what, detail->line), &is_new);
    if (value == NULL) {
        b->failed = true;
        return 0;
    }
    if (is_new) {
        const heft_code_t *code = &s->reader->codes[detail->what];
        uint32_t file = file_of_name(b, code->file ? name_of(b, code->file) : HEFT_NAME_UNKNOWN);
        uint32_t function = code->name ? name_of(b, code->name) : HEFT_NAME_UNKNOWN;
        *value = make_frame(b, file, detail->line, function, name_of(b, code->module));
    }
    if (b->failed)
        return 0;
    uint32_t *column = &b->columns[s->frames[*value].line_key];
    uint32_t mine = detail->column == UINT16_MAX ? 0 : detail->column;
    *column = *column == COLUMN_UNSEEN || *column == mine ? mine : COLUMN_SEVERAL;
    return *value;
}

/* ---- vertices ----------------------------------------------------------------------------------------------- */

static void add_vertex(build_t *b, heft_vertex_t vertex)
{
    HEFT_ASSERT(b->s->vertex_n < b->vertex_room);
    b->s->vertices[b->s->vertex_n++] = vertex;
}

/* A base, with its <interpreter> behind it. */
static void add_base(build_t *b, uint32_t up, uint32_t thread, uint32_t part)
{
    uint32_t v = b->s->vertex_n;
    add_vertex(b, (heft_vertex_t){.up = up, .frame = HEFT_NONE, .thread = thread, .part = part});
    add_vertex(b, (heft_vertex_t){.up = v, .frame = HEFT_FRAME_INTERPRETER, .thread = thread, .part = part});
}

/* The root (`thread` = HEFT_NONE) or a thread. */
static uint32_t thread_vertex(build_t *b, uint32_t thread)
{
    bool is_new;
    uint32_t next = b->s->vertex_n;
    uint32_t v = number(b, &b->vertices, HEFT_NONE, thread, &next, &is_new);
    if (is_new)
        add_base(b, 0, thread, HEFT_NONE);
    return v;
}

/* A region of the thread or region that `up` stands for. */
static uint32_t part_vertex(build_t *b, uint32_t up, uint32_t name)
{
    heft_stacks_t *s = b->s;
    bool is_new;
    uint32_t around = s->vertices[up].part, next = s->vertex_n;
    uint32_t part = number(b, &b->parts, around, name, &s->part_n, &is_new);
    if (is_new && reserve(b, &s->parts, part, &b->part_room, sizeof *s->parts))
        s->parts[part] = (heft_part_t){.name = name, .up = around};
    uint32_t v = number(b, &b->vertices, up, ~part, &next, &is_new); /* there are far fewer than 2^31 of each */
    if (is_new && !b->failed)
        add_base(b, up, s->vertices[up].thread, part);
    return v;
}

static uint32_t frame_vertex(build_t *b, uint32_t up, uint32_t frame);

/* What found no room under a base is nobody's, but not the interpreter's: part of what it holds itself
 * is, and cannot be told from the rest. */
static uint32_t cut_base(build_t *b, uint32_t base, uint32_t node)
{
    heft_stacks_t *s = b->s;
    if (!b->failed && s->cut_frame != HEFT_NONE && heft_stacks_is_uncertain(s, node))
        s->vertices[base].cut = frame_vertex(b, base, s->cut_frame);
    return base;
}

static uint32_t frame_vertex(build_t *b, uint32_t up, uint32_t frame)
{
    bool is_new;
    uint32_t next = b->s->vertex_n;
    uint32_t v = number(b, &b->vertices, up, frame, &next, &is_new);
    if (is_new) {
        const heft_vertex_t *from = &b->s->vertices[up];
        add_vertex(b, (heft_vertex_t){.up = up, .frame = frame, .thread = from->thread, .part = from->part});
    }
    return v;
}

/* An import made by what `from` shows. */
static uint32_t import_vertex(build_t *b, uint32_t from, uint32_t name)
{
    heft_stacks_t *s = b->s;
    if (name == HEFT_NAME_EMPTY)
        return from;
    if (heft_stacks_is_base(s, from)) /* imported by nobody: at startup, or by native code */
        return frame_vertex(b, from, frame_of_line(b, &s->frames[HEFT_FRAME_INTERPRETER], name));
    return frame_vertex(b, s->vertices[from].up, frame_of_line(b, &s->frames[s->vertices[from].frame], name));
}

static uint32_t vertex_of_node(build_t *b, uint32_t n)
{
    const heft_reader_t *r = b->s->reader;
    const heft_detail_t *detail = &r->details[n];
    uint32_t from = b->s->vertex_of_node[r->nodes[n].parent];
    switch (detail->kind) {
    case HEFT_NODE_ROOT: return cut_base(b, from, n);
    case HEFT_NODE_THREAD: return cut_base(b, thread_vertex(b, detail->what), n);
    case HEFT_NODE_REGION: return cut_base(b, part_vertex(b, from, name_of(b, detail->what)), n);
    case HEFT_NODE_IMPORT: return import_vertex(b, from, name_of(b, detail->what));
    case HEFT_NODE_FRAME:
        if (r->codes[detail->what].flags & (HEFT_CODE_IMPORT_MACHINERY | HEFT_CODE_START_MACHINERY))
            return from;
        if (heft_stacks_is_cut(b->s, n))
            from = frame_vertex(b, from, b->s->cut_frame);
        from = frame_vertex(b, from, frame_of_node(b, detail));
        if (!b->failed && (detail->flags & HEFT_DETAIL_RECURSIVE) != 0)
            b->s->vertices[from].recursive = true;
        return from;
    default: return from; /* aliases, to which nothing is charged */
    }
}

static bool build_vertices(build_t *b)
{
    heft_stacks_t *s = b->s;
    const heft_header_t *h = &s->reader->header;
    /* a node makes one vertex at most, a base two and one for paths cut */
    uint64_t room = (uint64_t)h->node_n + 3 * (uint64_t)h->thread_n + 3;
    for (uint32_t n = 1; n < h->node_n; n++)
        room += s->reader->details[n].kind == HEFT_NODE_REGION ? 2 : 0;
    if (room >= HEFT_NONE)
        return false;
    b->vertex_room = (uint32_t)room;
    s->vertices = malloc(room * sizeof *s->vertices);
    s->vertex_of_node = calloc((size_t)h->node_n + 1, sizeof *s->vertex_of_node);
    if (s->vertices == NULL || s->vertex_of_node == NULL)
        return false;
    uint32_t root = thread_vertex(b, HEFT_NONE);
    HEFT_ASSERT(root == 0 && (b->failed || s->vertex_n == 2));
    for (uint32_t n = 1; n < h->node_n && !b->failed; n++)
        s->vertex_of_node[n] = vertex_of_node(b, n);
    for (uint32_t v = s->vertex_n; v-- > 1 && !b->failed;) { /* backwards: children come out in order */
        heft_vertex_t *vertex = &s->vertices[v];
        HEFT_ASSERT(vertex->up < v);
        vertex->next = s->vertices[vertex->up].first;
        s->vertices[vertex->up].first = v;
    }
    return !b->failed;
}

/* ---- order -------------------------------------------------------------------------------------------------- */

typedef struct {
    heft_text_t text;
    uint32_t name;
} name_place_t;

static int compare_names(const void *pa, const void *pb)
{
    const name_place_t *a = pa, *b = pb;
    size_t n = a->text.len < b->text.len ? a->text.len : b->text.len;
    int order = n == 0 ? 0 : memcmp(a->text.ptr, b->text.ptr, n);
    return order != 0 ? order : (a->text.len > b->text.len) - (a->text.len < b->text.len);
}

static bool rank_names(heft_stacks_t *s)
{
    name_place_t *places = malloc(s->name_n * sizeof *places);
    s->name_ranks = malloc(s->name_n * sizeof *s->name_ranks);
    bool ok = places != NULL && s->name_ranks != NULL;
    if (ok) {
        for (uint32_t i = 0; i < s->name_n; i++)
            places[i] = (name_place_t){s->names[i], i};
        qsort(places, s->name_n, sizeof *places, compare_names);
        for (uint32_t i = 0; i < s->name_n; i++)
            s->name_ranks[places[i].name] = i;
    }
    free(places);
    return ok;
}

typedef struct {
    uint32_t by[6]; /* ranks of file name, line, ranks of function, module, import; number of the file */
    uint32_t frame;
} frame_place_t;

static int compare_frames(const void *pa, const void *pb)
{
    const frame_place_t *a = pa, *b = pb;
    for (size_t i = 0; i < sizeof a->by / sizeof *a->by; i++) {
        if (a->by[i] != b->by[i])
            return a->by[i] < b->by[i] ? -1 : 1;
    }
    return 0;
}

static bool rank_frames(heft_stacks_t *s)
{
    frame_place_t *places = malloc(s->frame_n * sizeof *places);
    if (places == NULL)
        return false;
    for (uint32_t i = 0; i < s->frame_n; i++) {
        const heft_frame_t *f = &s->frames[i];
        const uint32_t *rank = s->name_ranks;
        places[i] = (frame_place_t){
            {rank[s->files[f->file]], f->line, rank[f->function], rank[f->module], rank[f->import], f->file}, i};
    }
    qsort(places, s->frame_n, sizeof *places, compare_frames);
    for (uint32_t i = 0; i < s->frame_n; i++)
        s->frames[places[i].frame].rank = i;
    free(places);
    return true;
}

/* ---- init, done --------------------------------------------------------------------------------------------- */

/* The numbers that stacks.h promises. */
static void build_fixed(build_t *b)
{
    static const char *const texts[] = {"", "<interpreter>", "<unknown>", "<paths cut>"};
    for (uint32_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        uint32_t name = name_of_text(b, (heft_text_t){texts[i], strlen(texts[i])});
        HEFT_ASSERT(b->failed || name == i);
    }
    /* under the key of no name: a program may have a file called "<interpreter>" */
    uint32_t file = file_of_name(b, HEFT_NONE);
    uint32_t frame = make_frame(b, file, 0, HEFT_NAME_INTERPRETER, HEFT_NAME_INTERPRETER);
    HEFT_ASSERT(file == HEFT_FILE_INTERPRETER && frame == HEFT_FRAME_INTERPRETER);
    if (!b->failed)
        b->s->files[file] = HEFT_NAME_INTERPRETER;
    const heft_header_t *h = &b->s->reader->header;
    if (!(h->flags & HEFT_FLAG_PATHS_CUT) && h->cut_events == 0)
        return;
    b->s->cut_file = file_of_name(b, HEFT_NONE - 1);
    b->s->cut_frame = make_frame(b, b->s->cut_file, 0, HEFT_NAME_PATHS_CUT, HEFT_NAME_PATHS_CUT);
    if (!b->failed)
        b->s->files[b->s->cut_file] = HEFT_NAME_PATHS_CUT;
}

bool heft_stacks_init(heft_stacks_t *stacks, const heft_reader_t *reader)
{
    *stacks = (heft_stacks_t){.reader = reader, .cut_frame = HEFT_NONE, .cut_file = HEFT_NONE};
    build_t b = {.s = stacks};
    build_fixed(&b);
    bool ok = !b.failed && build_vertices(&b) && rank_names(stacks) && rank_frames(stacks);
    for (uint32_t i = 0; ok && i < stacks->frame_n; i++) {
        uint32_t column = b.columns[stacks->frames[i].line_key];
        stacks->frames[i].column = column == COLUMN_UNSEEN ? 0 : column;
    }
    heft_map_t *maps[] = {&b.name_of_ref,   &b.name_of_hash, &b.file_of_name, &b.frame_of_site,
                          &b.places,        &b.functions,    &b.lines,        &b.functions_in_files,
                          &b.frame_of_line, &b.vertices,     &b.parts};
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++)
        heft_map_done(maps[i]);
    free(b.columns);
    if (!ok)
        heft_stacks_done(stacks);
    return ok;
}

void heft_stacks_done(heft_stacks_t *stacks)
{
    free(stacks->names);
    free(stacks->name_ranks);
    free(stacks->files);
    free(stacks->parts);
    free(stacks->frames);
    free(stacks->vertices);
    free(stacks->vertex_of_node);
    *stacks = (heft_stacks_t){0};
}
