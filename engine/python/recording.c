/* SPDX-License-Identifier: MIT */
/* Recordings for the Python half, see recording.h: no rules of their own here, only conversion.
 *
 *     Recording   reader + stacks (C), and as Python objects: its names, frames, files   made once, at open
 *     View        numbers (C) + a reference to its Recording
 *
 * Lists of tuples leave this file; what is in them is shared (a name is one str, a frame id one int), so that the rows
 * of 100,000 stacks are mostly pointers.  Used by `memheft report`, never inside a program that is recorded. */
#include "python/recording.h"

#include <math.h>
#include <string.h>

#include "base/compiler.h"
#include "export/collapsed.h"
#include "export/pprof.h"
#include "export/speedscope.h"
#include "ledger/reader.h"
#include "ledger/stacks.h"
#include "ledger/view.h"

typedef struct {
    PyObject ob_base; /* PyObject_HEAD */
    heft_reader_t reader;
    heft_stacks_t stacks;
    PyObject *names;     /* tuple of str by name */
    PyObject *frame_ids; /* tuple of int: i is i */
    PyObject *frames;    /* list, as View.frames */
    PyObject *files;     /* list of str */
    PyObject *regions;   /* list of tuples of str */
} HeftRecording;

typedef struct {
    PyObject ob_base;
    HeftRecording *recording;
    heft_view_t view;
} HeftView;

/* ---- small conversions --------------------------------------------------------------------------------------- */

static PyObject *text_as_str(heft_text_t text)
{
    PyObject *str = PyUnicode_DecodeUTF8(text.ptr, (Py_ssize_t)text.len, "surrogatepass");
    if (str == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) { /* cut in the middle, or damaged */
        PyErr_Clear();
        str = PyUnicode_DecodeUTF8(text.ptr, (Py_ssize_t)text.len, "replace");
    }
    return str;
}

static PyObject *name_as_str(const HeftRecording *self, uint32_t name)
{
    return Py_NewRef(PyTuple_GET_ITEM(self->names, name));
}

/* HEFT_NONE is -1 in Python. */
static PyObject *index_as_int(uint32_t index)
{
    return index == HEFT_NONE ? PyLong_FromLong(-1) : PyLong_FromUnsignedLong(index);
}

static PyObject *frame_as_int(const HeftRecording *self, uint32_t frame)
{
    return frame == HEFT_NONE ? PyLong_FromLong(-1) : Py_NewRef(PyTuple_GET_ITEM(self->frame_ids, frame));
}

/* A tuple of `n` objects; takes the references, any of which may be NULL with an exception set. */
static PyObject *pack(Py_ssize_t n, PyObject **items)
{
    PyObject *tuple = NULL;
    bool ok = true;
    for (Py_ssize_t i = 0; i < n; i++)
        ok &= items[i] != NULL;
    if (ok)
        tuple = PyTuple_New(n);
    for (Py_ssize_t i = 0; i < n; i++) {
        if (tuple != NULL)
            PyTuple_SET_ITEM(tuple, i, items[i]);
        else
            Py_XDECREF(items[i]);
    }
    return tuple;
}

#define PACK(...)                                                                                                      \
    pack((Py_ssize_t)(sizeof((PyObject *[]){__VA_ARGS__}) / sizeof(PyObject *)), (PyObject *[]){__VA_ARGS__})

/* Put a new object into a list or tuple that is being filled.  False: it was NULL. */
static bool fill(PyObject *sequence, Py_ssize_t i, PyObject *item)
{
    if (item == NULL)
        return false;
    if (PyList_Check(sequence))
        PyList_SET_ITEM(sequence, i, item);
    else
        PyTuple_SET_ITEM(sequence, i, item);
    return true;
}

static bool set_number(PyObject *dict, const char *key, uint64_t value)
{
    PyObject *number = PyLong_FromUnsignedLongLong(value);
    bool ok = number != NULL && PyDict_SetItemString(dict, key, number) == 0;
    Py_XDECREF(number);
    return ok;
}

/* ---- errors -------------------------------------------------------------------------------------------------- */

static PyObject *err_message(const heft_err_t *err)
{
    if (err->sys_errno != 0 && err->code == HEFT_ERR_IO)
        return PyUnicode_FromFormat("%s: %s", err->text, strerror(err->sys_errno));
    return PyUnicode_FromString(err->text);
}

PyObject *heft_recording_raise(PyObject *module, const heft_err_t *err)
{
    HEFT_ASSERT(err->code != HEFT_OK);
    if (err->code == HEFT_ERR_NOMEM)
        return PyErr_NoMemory();
    PyObject *type = PyObject_GetAttrString(module, "EngineError");
    PyObject *message = type == NULL ? NULL : err_message(err);
    PyObject *error = message == NULL ? NULL : PyObject_CallOneArg(type, message);
    PyObject *code = error == NULL ? NULL : PyUnicode_FromString(heft_status_name(err->code));
    PyObject *offset = code == NULL                  ? NULL
                       : err->off == HEFT_ERR_NO_OFF ? Py_NewRef(Py_None)
                                                     : PyLong_FromUnsignedLongLong(err->off);
    if (offset != NULL && PyObject_SetAttrString(error, "code", code) == 0 &&
        PyObject_SetAttrString(error, "message", message) == 0 && PyObject_SetAttrString(error, "offset", offset) == 0)
        PyErr_SetObject(type, error);
    Py_XDECREF(offset);
    Py_XDECREF(code);
    Py_XDECREF(error);
    Py_XDECREF(message);
    Py_XDECREF(type);
    return NULL;
}

/* ---- Recording: open ----------------------------------------------------------------------------------------- */

static PyObject *make_names(const heft_stacks_t *s)
{
    PyObject *names = PyTuple_New(s->name_n);
    for (uint32_t i = 0; names != NULL && i < s->name_n; i++) {
        if (!fill(names, i, text_as_str(s->names[i])))
            Py_CLEAR(names);
    }
    return names;
}

static PyObject *make_frame(const HeftRecording *self, const heft_frame_t *frame)
{
    bool imports = frame->import != HEFT_NAME_EMPTY;
    return PACK(PyLong_FromUnsignedLong(frame->file), PyLong_FromUnsignedLong(frame->line),
                PyLong_FromUnsignedLong(frame->column), name_as_str(self, frame->function),
                name_as_str(self, frame->module), imports ? name_as_str(self, frame->import) : Py_NewRef(Py_None));
}

/* The names of a region and of those around it, outermost first. */
static PyObject *make_region(const HeftRecording *self, uint32_t part)
{
    const heft_stacks_t *s = &self->stacks;
    Py_ssize_t n = 0;
    for (uint32_t at = part; at != HEFT_NONE; at = s->parts[at].up)
        n++;
    PyObject *names = PyTuple_New(n);
    for (uint32_t at = part; names != NULL && at != HEFT_NONE; at = s->parts[at].up)
        fill(names, --n, name_as_str(self, s->parts[at].name));
    return names;
}

static bool make_objects(HeftRecording *self)
{
    const heft_stacks_t *s = &self->stacks;
    self->names = make_names(s);
    self->frame_ids = PyTuple_New(s->frame_n);
    self->frames = PyList_New(s->frame_n);
    self->files = PyList_New(s->file_n);
    self->regions = PyList_New(s->part_n);
    bool ok = self->names != NULL && self->frame_ids != NULL && self->frames != NULL && self->files != NULL &&
              self->regions != NULL;
    for (uint32_t i = 0; ok && i < s->frame_n; i++)
        ok = fill(self->frame_ids, i, PyLong_FromUnsignedLong(i)) &&
             fill(self->frames, i, make_frame(self, &s->frames[i]));
    for (uint32_t i = 0; ok && i < s->file_n; i++)
        ok = fill(self->files, i, name_as_str(self, s->files[i]));
    for (uint32_t i = 0; ok && i < s->part_n; i++)
        ok = fill(self->regions, i, make_region(self, i));
    return ok;
}

/* From a file, or if that is NULL from memory. */
static heft_status_t open_reader(heft_reader_t *reader, PyObject *path, const Py_buffer *data, heft_err_t *err)
{
    if (path != NULL)
        return heft_reader_open(reader, PyBytes_AS_STRING(path), err);
    return heft_reader_open_bytes(reader, data->buf, (size_t)data->len, err);
}

static PyObject *recording_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *path = NULL;
    heft_err_t err = {0};
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0)
        return PyErr_Format(PyExc_TypeError, "Recording() takes no keyword arguments");
    PyObject *from;
    Py_buffer data = {0};
    if (!PyArg_ParseTuple(args, "O:Recording", &from))
        return NULL;
    if (PyObject_CheckBuffer(from) && !PyBytes_Check(from)) {
        if (PyObject_GetBuffer(from, &data, PyBUF_SIMPLE) < 0)
            return NULL;
    } else if (!PyUnicode_FSConverter(from, &path)) {
        return NULL;
    }
    HeftRecording *self = (HeftRecording *)PyType_GenericAlloc(type, 0);
    bool ok = self != NULL;
    if (ok && open_reader(&self->reader, path, &data, &err) != HEFT_OK) {
        PyObject *module = PyType_GetModule(type);
        if (module != NULL)
            heft_recording_raise(module, &err);
        ok = false;
    } else if (ok && !heft_stacks_init(&self->stacks, &self->reader)) {
        PyErr_NoMemory();
        ok = false;
    }
    ok = ok && make_objects(self);
    Py_XDECREF(path);
    PyBuffer_Release(&data);
    if (!ok)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void recording_dealloc(PyObject *object)
{
    HeftRecording *self = (HeftRecording *)object;
    PyTypeObject *type = Py_TYPE(object);
    Py_XDECREF(self->names);
    Py_XDECREF(self->frame_ids);
    Py_XDECREF(self->frames);
    Py_XDECREF(self->files);
    Py_XDECREF(self->regions);
    heft_stacks_done(&self->stacks);
    heft_reader_close(&self->reader);
    PyObject_Free(object);
    Py_DECREF(type);
}

/* ---- Recording: attributes ----------------------------------------------------------------------------------- */

static PyObject *recording_meta(PyObject *self, void *Py_UNUSED(closure))
{
    const heft_reader_t *r = &((HeftRecording *)self)->reader;
    return PyBytes_FromStringAndSize(r->meta, (Py_ssize_t)r->meta_bytes);
}

static PyObject *recording_source(PyObject *self, void *Py_UNUSED(closure))
{
    const heft_reader_t *r = &((HeftRecording *)self)->reader;
    return PyBytes_FromStringAndSize(r->source, (Py_ssize_t)r->source_bytes);
}

static PyObject *recording_files(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(((HeftRecording *)self)->files);
}

static PyObject *recording_regions(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(((HeftRecording *)self)->regions);
}

static PyObject *recording_header(PyObject *self, void *Py_UNUSED(closure))
{
    const heft_reader_t *r = &((HeftRecording *)self)->reader;
    const heft_header_t *h = &r->header;
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"format_version", h->version},
        {"file_bytes", r->file_bytes},
        {"mode", h->mode},
        {"interval_bytes", h->interval_bytes},
        {"created_unix_ns", h->created_unix_ns},
        {"state", h->state},
        {"drawn", h->drawn},
        {"flags", h->flags},
        {"pid", h->pid},
        {"watcher_pid", h->watcher_pid},
        {"now_ns", h->now_ns},
        {"ended_ns", h->ended_ns},
        {"peak_at_ns", h->peak_at_ns},
        {"rss_peak_bytes", h->rss_peak_bytes},
        {"tool_bytes", h->tool_bytes},
        {"lost_events", h->lost_events},
        {"cut_events", h->cut_events},
        {"folded_nodes", h->folded_nodes},
        {"check_compared", h->check_compared},
        {"check_mismatches", h->check_mismatches},
        {"epoch", h->epoch},
        {"node_n", h->node_n},
        {"temp_n", h->temp_n},
        {"code_n", h->code_n},
        {"thread_n", h->thread_n},
        {"string_bytes", h->string_bytes},
    };
    PyObject *dict = PyDict_New();
    PyObject *status = dict == NULL ? NULL : PyLong_FromLong(h->exit_status); /* the only one with a sign */
    bool ok = status != NULL && PyDict_SetItemString(dict, "exit_status", status) == 0;
    for (size_t i = 0; ok && i < sizeof numbers / sizeof *numbers; i++)
        ok = set_number(dict, numbers[i].key, numbers[i].value);
    Py_XDECREF(status);
    if (!ok)
        Py_CLEAR(dict);
    return dict;
}

static PyObject *recording_timeline(PyObject *self, void *Py_UNUSED(closure))
{
    const heft_timeline_t *timeline = ((HeftRecording *)self)->reader.timeline;
    if (timeline == NULL || timeline->point_n == 0)
        Py_RETURN_NONE;
    PyObject *points = PyList_New(timeline->point_n);
    for (uint32_t i = 0; points != NULL && i < timeline->point_n; i++) {
        const heft_point_t *p = &timeline->points[i];
        unsigned long long live = p->live_bytes, resident = p->resident_bytes;
        PyObject *point = resident != 0 ? Py_BuildValue("KK", live, resident) : Py_BuildValue("KO", live, Py_None);
        if (point == NULL)
            Py_CLEAR(points);
        else
            PyList_SET_ITEM(points, i, point);
    }
    return points != NULL ? Py_BuildValue("KN", (unsigned long long)timeline->interval_ns, points) : NULL;
}

static PyObject *recording_totals(PyObject *self, void *Py_UNUSED(closure))
{
    const heft_reader_t *r = &((HeftRecording *)self)->reader;
    PyObject *dict = PyDict_New();
    bool ok = dict != NULL && set_number(dict, "peak_bytes", r->peak.bytes) &&
              set_number(dict, "peak_blocks", r->peak.blocks) && set_number(dict, "live_bytes", r->live.bytes) &&
              set_number(dict, "live_blocks", r->live.blocks) && set_number(dict, "allocated_bytes", r->total.bytes) &&
              set_number(dict, "allocated_blocks", r->total.blocks) &&
              set_number(dict, "temporary_bytes", r->temporary.bytes) &&
              set_number(dict, "temporary_blocks", r->temporary.blocks);
    if (!ok)
        Py_CLEAR(dict);
    return dict;
}

static PyObject *recording_threads(PyObject *self, void *Py_UNUSED(closure))
{
    const heft_reader_t *r = &((HeftRecording *)self)->reader;
    PyObject *list = PyList_New(r->header.thread_n);
    for (uint32_t i = 0; list != NULL && i < r->header.thread_n; i++) {
        const heft_thread_t *t = &r->threads[i];
        PyObject *name = t->name == 0 ? Py_NewRef(Py_None) : text_as_str(heft_reader_string(r, t->name));
        if (!fill(list, i,
                  PACK(name, PyLong_FromUnsignedLongLong(t->native_id), PyLong_FromUnsignedLongLong(t->started_ns))))
            Py_CLEAR(list);
    }
    return list;
}

/* Where functions begin; of one name there may be several.  Code 0 is nobody's. */
static PyObject *recording_functions(PyObject *self, void *Py_UNUSED(closure))
{
    const heft_reader_t *r = &((HeftRecording *)self)->reader;
    uint32_t n = r->header.code_n;
    PyObject *list = PyList_New(n > 0 ? n - 1 : 0);
    for (uint32_t i = 1; list != NULL && i < n; i++) {
        const heft_code_t *code = &r->codes[i];
        if (!fill(list, i - 1,
                  PACK(text_as_str(heft_reader_string(r, code->file)), text_as_str(heft_reader_string(r, code->name)),
                       PyLong_FromUnsignedLong(code->first_line))))
            Py_CLEAR(list);
    }
    return list;
}

/* ---- Recording.view ------------------------------------------------------------------------------------------ */

static bool parse_moment(const char *name, heft_moment_t *moment)
{
    static const char *const names[] = {"peak", "live", "total", "temporary"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) {
            *moment = (heft_moment_t)i;
            return true;
        }
    }
    PyErr_Format(PyExc_ValueError, "no such moment: %s", name);
    return false;
}

static bool parse_span(int temporary, uint32_t *span)
{
    for (*span = 0; *span < HEFT_TEMP_SPANS; ++*span) {
        if (temporary == 1 << *span)
            return true;
    }
    PyErr_SetString(PyExc_ValueError, "temporary must be 1, 2 or 4");
    return false;
}

static bool check_lengths(const HeftRecording *self, const Py_buffer *classes, const Py_buffer *pattern,
                          const Py_buffer *parts)
{
    const uint8_t *class = classes->buf;
    Py_ssize_t n = self->stacks.file_n;
    if (classes->len != n || (pattern->buf != NULL && pattern->len != n)) {
        PyErr_Format(PyExc_ValueError, "classes and pattern need one byte for each of %zd files", n);
        return false;
    }
    if (parts->buf != NULL && parts->len != (Py_ssize_t)self->stacks.part_n + 1) {
        PyErr_SetString(PyExc_ValueError, "regions need one byte for each, and one more");
        return false;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        if (class[i] >= HEFT_CLASSES_MAX) {
            PyErr_Format(PyExc_ValueError, "a class of files must be less than %d", (int)HEFT_CLASSES_MAX);
            return false;
        }
    }
    return true;
}

static PyObject *make_view(HeftRecording *self, const heft_view_options_t *options)
{
    PyObject *module = PyType_GetModule(Py_TYPE(self));
    PyObject *type = module == NULL ? NULL : PyObject_GetAttrString(module, "View");
    HeftView *view = type == NULL ? NULL : (HeftView *)PyType_GenericAlloc((PyTypeObject *)type, 0);
    Py_XDECREF(type);
    if (view == NULL)
        return NULL;
    view->recording = (HeftRecording *)Py_NewRef((PyObject *)self);
    if (!heft_view_init(&view->view, &self->stacks, options)) {
        Py_DECREF((PyObject *)view);
        return PyErr_NoMemory();
    }
    return (PyObject *)view;
}

static PyObject *recording_view(PyObject *object, PyObject *args)
{
    HeftRecording *self = (HeftRecording *)object;
    heft_view_options_t options = {0};
    const char *moment;
    int temporary, own;
    Py_buffer classes = {0}, pattern = {0}, parts = {0};
    if (!PyArg_ParseTuple(args, "siy*pIz*|z*:view", &moment, &temporary, &classes, &own, &options.keep, &pattern,
                          &parts))
        return NULL;
    PyObject *view = NULL;
    if (parse_moment(moment, &options.moment) && parse_span(temporary, &options.span) &&
        check_lengths(self, &classes, &pattern, &parts)) {
        options.classes = classes.buf;
        options.own = own != 0;
        options.pattern = pattern.buf;
        options.parts = parts.buf;
        view = make_view(self, &options);
    }
    PyBuffer_Release(&classes);
    PyBuffer_Release(&pattern);
    PyBuffer_Release(&parts);
    return view;
}

/* ---- View ---------------------------------------------------------------------------------------------------- */

static void view_dealloc(PyObject *object)
{
    HeftView *self = (HeftView *)object;
    PyTypeObject *type = Py_TYPE(object);
    heft_view_done(&self->view);
    Py_XDECREF((PyObject *)self->recording);
    PyObject_Free(object);
    Py_DECREF(type);
}

static PyObject *view_total_bytes(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(((HeftView *)self)->view.total.bytes);
}

/* The standard error of an estimate, rounded up. */
static PyObject *error_as_int(double variance)
{
    return PyLong_FromDouble(ceil(sqrt(variance)));
}

static PyObject *view_total_blocks(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(((HeftView *)self)->view.total.blocks);
}

static PyObject *view_cut_bytes(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(((HeftView *)self)->view.cut.bytes);
}

static PyObject *view_bytes_error(PyObject *self, void *Py_UNUSED(closure))
{
    return error_as_int(((HeftView *)self)->view.total.bytes_variance);
}

static PyObject *view_blocks_error(PyObject *self, void *Py_UNUSED(closure))
{
    return error_as_int(((HeftView *)self)->view.total.blocks_variance);
}

static PyObject *view_cut_blocks(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(((HeftView *)self)->view.cut.blocks);
}

static PyObject *view_uncertain_bytes(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(((HeftView *)self)->view.uncertain.bytes);
}

static PyObject *view_uncertain_blocks(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(((HeftView *)self)->view.uncertain.blocks);
}

static PyObject *view_frames(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(((HeftView *)self)->recording->frames);
}

static PyObject *import_names(const HeftRecording *rec, const heft_rows_t *rows, const heft_row_t *row)
{
    PyObject *names = PyTuple_New(row->import_n);
    for (uint32_t i = 0; names != NULL && i < row->import_n; i++)
        fill(names, i, name_as_str(rec, rows->imports[row->import_first + i]));
    return names;
}

static PyObject *stack_of(const HeftRecording *rec, uint32_t vertex)
{
    const heft_stacks_t *s = &rec->stacks;
    Py_ssize_t depth = 0;
    for (uint32_t v = vertex; !heft_stacks_is_base(s, v); v = s->vertices[v].up)
        depth++;
    PyObject *stack = PyTuple_New(depth);
    for (uint32_t v = vertex; stack != NULL && !heft_stacks_is_base(s, v); v = s->vertices[v].up)
        fill(stack, PyTuple_GET_SIZE(stack) - depth--, frame_as_int(rec, s->vertices[v].frame));
    return stack;
}

static PyObject *row_key(const HeftRecording *rec, heft_by_t by, const heft_rows_t *rows, const heft_row_t *row)
{
    const heft_frame_t *f = row->frame == HEFT_NONE ? NULL : &rec->stacks.frames[row->frame];
    switch (by) {
    case HEFT_BY_FUNCTION:
        return PACK(PyLong_FromUnsignedLong(f->file), name_as_str(rec, f->function), name_as_str(rec, f->module));
    case HEFT_BY_FILE: return PyLong_FromUnsignedLong(row->key);
    case HEFT_BY_MODULE: return name_as_str(rec, row->key);
    case HEFT_BY_THREAD:
    case HEFT_BY_REGION: return index_as_int(row->key);
    case HEFT_BY_STACK: return stack_of(rec, row->key);
    case HEFT_BY_LINE: break;
    }
    return PACK(PyLong_FromUnsignedLong(f->file), PyLong_FromUnsignedLong(f->line), name_as_str(rec, f->function),
                name_as_str(rec, f->module), import_names(rec, rows, row));
}

/* The places in a stack onto which recursion was folded. */
static PyObject *recursive_places(const HeftRecording *rec, uint32_t vertex)
{
    const heft_stacks_t *s = &rec->stacks;
    Py_ssize_t n = 0, place = 0;
    for (uint32_t v = vertex; !heft_stacks_is_base(s, v); v = s->vertices[v].up)
        n += s->vertices[v].recursive;
    PyObject *places = PyTuple_New(n);
    n = 0;
    for (uint32_t v = vertex; places != NULL && !heft_stacks_is_base(s, v); v = s->vertices[v].up, place++) {
        if (s->vertices[v].recursive && !fill(places, n++, PyLong_FromSsize_t(place)))
            Py_CLEAR(places);
    }
    return places;
}

/* None for what holds nothing itself. */
static PyObject *time_as_int(const heft_row_t *row, uint64_t ns)
{
    return row->times.first_ns > row->times.last_ns ? Py_NewRef(Py_None) : PyLong_FromUnsignedLongLong(ns);
}

static PyObject *row_as_tuple(const HeftRecording *rec, heft_by_t by, const heft_rows_t *rows, const heft_row_t *row)
{
    PyObject *owner =
        by == HEFT_BY_STACK ? index_as_int(rec->stacks.vertices[row->key].thread) : frame_as_int(rec, row->owner);
    return PACK(PyLong_FromUnsignedLongLong(row->self.bytes), PyLong_FromUnsignedLongLong(row->self.blocks),
                PyLong_FromUnsignedLongLong(row->under.bytes), PyLong_FromUnsignedLongLong(row->under.blocks),
                row_key(rec, by, rows, row), owner, time_as_int(row, row->times.first_ns),
                time_as_int(row, row->times.last_ns), PyLong_FromUnsignedLongLong(row->owned.bytes),
                by == HEFT_BY_STACK ? recursive_places(rec, row->key) : PyTuple_New(0),
                error_as_int(row->self.bytes_variance), error_as_int(row->self.blocks_variance),
                index_as_int(by == HEFT_BY_STACK ? rec->stacks.vertices[row->key].part : HEFT_NONE),
                error_as_int(row->under.bytes_variance), error_as_int(row->under.blocks_variance));
}

static PyObject *view_rows(PyObject *object, PyObject *args)
{
    static const char *const names[] = {"line", "function", "file", "module", "thread", "stack", "region"};
    HeftView *self = (HeftView *)object;
    const char *name;
    size_t by = 0, by_n = sizeof names / sizeof *names;
    heft_rows_t rows;
    if (!PyArg_ParseTuple(args, "s:rows", &name))
        return NULL;
    while (by < by_n && strcmp(names[by], name) != 0)
        by++;
    if (by == by_n)
        return PyErr_Format(PyExc_ValueError, "no such grouping: %s", name);
    if (!heft_view_rows(&self->view, (heft_by_t)by, &rows))
        return PyErr_NoMemory();
    PyObject *list = PyList_New((Py_ssize_t)rows.row_n);
    for (size_t i = 0; list != NULL && i < rows.row_n; i++) {
        if (!fill(list, (Py_ssize_t)i, row_as_tuple(self->recording, (heft_by_t)by, &rows, &rows.rows[i])))
            Py_CLEAR(list);
    }
    heft_rows_done(&rows);
    return list;
}

/* Empty, and then the same object each time, if the recording is exact. */
static PyObject *branch_errors(const HeftRecording *rec, const heft_branch_t *b)
{
    if (rec->reader.header.interval_bytes == 0)
        return PyTuple_New(0);
    return PACK(error_as_int(b->self.bytes_variance), error_as_int(b->self.blocks_variance),
                error_as_int(b->under.bytes_variance), error_as_int(b->under.blocks_variance));
}

static PyObject *view_tree(PyObject *object, PyObject *args)
{
    HeftView *self = (HeftView *)object;
    int inverted;
    heft_branches_t tree;
    if (!PyArg_ParseTuple(args, "p:tree", &inverted))
        return NULL;
    if (!heft_view_tree(&self->view, inverted != 0, &tree))
        return PyErr_NoMemory();
    PyObject *list = PyList_New((Py_ssize_t)tree.branch_n);
    for (size_t i = 0; list != NULL && i < tree.branch_n; i++) {
        const heft_branch_t *b = &tree.branches[i];
        PyObject *row =
            PACK(PyLong_FromUnsignedLong(b->depth), frame_as_int(self->recording, b->frame), index_as_int(b->thread),
                 PyLong_FromUnsignedLongLong(b->self.bytes), PyLong_FromUnsignedLongLong(b->self.blocks),
                 PyLong_FromUnsignedLongLong(b->under.bytes), PyLong_FromUnsignedLongLong(b->under.blocks),
                 PyBool_FromLong(b->recursive), index_as_int(b->part), branch_errors(self->recording, b));
        if (!fill(list, (Py_ssize_t)i, row))
            Py_CLEAR(list);
    }
    heft_branches_done(&tree);
    return list;
}

/* ---- foreign formats ----------------------------------------------------------------------------------------- */

/* Takes what was written; ok: whether it was. */
static PyObject *out_as_bytes(heft_out_t *out, bool ok)
{
    PyObject *bytes = ok ? PyBytes_FromStringAndSize(out->ptr, (Py_ssize_t)out->n) : PyErr_NoMemory();
    heft_out_done(out);
    return bytes;
}

static heft_text_t bytes_as_text(PyObject *bytes)
{
    return (heft_text_t){PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)};
}

/* A new array of the texts of a list of bytes, which must stay as it is meanwhile; the caller frees it. */
static heft_text_t *texts_of(PyObject *list, Py_ssize_t wanted_n)
{
    Py_ssize_t n = PyList_GET_SIZE(list);
    if (wanted_n >= 0 && n != wanted_n)
        return PyErr_Format(PyExc_ValueError, "%zd texts are needed, not %zd", wanted_n, n), NULL;
    heft_text_t *texts = PyMem_Calloc((size_t)n + 1, sizeof *texts);
    if (texts == NULL)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; texts != NULL && i < n; i++) {
        PyObject *item = PyList_GET_ITEM(list, i);
        if (!PyBytes_Check(item)) {
            PyMem_Free(texts);
            return PyErr_Format(PyExc_TypeError, "texts are bytes, not %s", Py_TYPE(item)->tp_name), NULL;
        }
        texts[i] = bytes_as_text(item);
    }
    return texts;
}

/* A view of this recording, or NULL with an exception. */
static const heft_view_t *view_of(const HeftRecording *self, PyObject *object)
{
    if (Py_TYPE(object)->tp_dealloc != view_dealloc || ((HeftView *)object)->recording != self) {
        PyErr_SetString(PyExc_ValueError, "a view of the same recording is needed");
        return NULL;
    }
    return &((HeftView *)object)->view;
}

static PyObject *view_collapsed(PyObject *object, PyObject *args)
{
    HeftView *self = (HeftView *)object;
    heft_out_t out = {0};
    PyObject *files;
    if (!PyArg_ParseTuple(args, "O!:collapsed", &PyList_Type, &files))
        return NULL;
    heft_text_t *texts = texts_of(files, self->recording->stacks.file_n);
    if (texts == NULL)
        return NULL;
    bool ok = heft_collapsed_write(&self->view, texts, &out);
    PyMem_Free(texts);
    return out_as_bytes(&out, ok);
}

static PyObject *recording_pprof(PyObject *object, PyObject *args)
{
    HeftRecording *self = (HeftRecording *)object;
    heft_pprof_t profile = {0};
    heft_out_t out = {0};
    PyObject *alloc, *inuse, *executable, *comments;
    const char *type;
    unsigned long long time_ns, duration_ns;
    if (!PyArg_ParseTuple(args, "OOsSO!KK:pprof", &alloc, &inuse, &type, &executable, &PyList_Type, &comments, &time_ns,
                          &duration_ns))
        return NULL;
    profile.alloc = view_of(self, alloc);
    profile.inuse = profile.alloc == NULL || inuse == Py_None ? NULL : view_of(self, inuse);
    if (PyErr_Occurred())
        return NULL;
    heft_text_t *texts = texts_of(comments, -1);
    if (texts == NULL)
        return NULL;
    profile.default_type = heft_text_of(type);
    profile.executable = bytes_as_text(executable);
    profile.comments = texts;
    profile.comment_n = (size_t)PyList_GET_SIZE(comments);
    profile.time_ns = time_ns;
    profile.duration_ns = duration_ns;
    bool ok = heft_pprof_write(&profile, &out);
    PyMem_Free(texts);
    return out_as_bytes(&out, ok);
}

static bool parse_profile(const HeftRecording *self, PyObject *item, heft_speedscope_profile_t *profile)
{
    PyObject *view, *name;
    long long thread;
    int blocks;
    if (!PyTuple_Check(item))
        PyErr_SetString(PyExc_TypeError, "a profile is a tuple");
    if (PyErr_Occurred() || !PyArg_ParseTuple(item, "OSLp", &view, &name, &thread, &blocks))
        return false;
    *profile = (heft_speedscope_profile_t){.view = view_of(self, view),
                                           .name = bytes_as_text(name),
                                           .thread = thread == -2   ? HEFT_PATHS_ALL
                                                     : thread == -1 ? HEFT_NONE
                                                                    : (uint32_t)thread,
                                           .blocks = blocks != 0};
    return profile->view != NULL;
}

static PyObject *recording_speedscope(PyObject *object, PyObject *args)
{
    HeftRecording *self = (HeftRecording *)object;
    heft_speedscope_t file = {0};
    heft_out_t out = {0};
    PyObject *list, *name;
    const char *exporter;
    Py_ssize_t active;
    if (!PyArg_ParseTuple(args, "O!nSs:speedscope", &PyList_Type, &list, &active, &name, &exporter))
        return NULL;
    Py_ssize_t n = PyList_GET_SIZE(list);
    if (active < 0 || active >= n)
        return PyErr_Format(PyExc_ValueError, "there is no profile %zd", active);
    heft_speedscope_profile_t *profiles = PyMem_Calloc((size_t)n, sizeof *profiles);
    if (profiles == NULL)
        return PyErr_NoMemory();
    bool ok = true;
    for (Py_ssize_t i = 0; ok && i < n; i++)
        ok = parse_profile(self, PyList_GET_ITEM(list, i), &profiles[i]);
    PyObject *bytes = NULL;
    if (ok) {
        file.name = bytes_as_text(name);
        file.exporter = heft_text_of(exporter);
        file.profiles = profiles;
        file.profile_n = (size_t)n;
        file.active = (size_t)active;
        ok = heft_speedscope_write(&file, &out);
        bytes = out_as_bytes(&out, ok);
    }
    PyMem_Free(profiles);
    return bytes;
}

/* ---- types --------------------------------------------------------------------------------------------------- */

static PyGetSetDef recording_getset[] = {
    {"meta", recording_meta, NULL, "JSON that describes the run, as given to create()", NULL},
    {"source", recording_source, NULL, "zlib stream of the source lines, or nothing", NULL},
    {"header", recording_header, NULL, "the header's numbers by name", NULL},
    {"files", recording_files, NULL, "file names by file id; 0 is <interpreter>", NULL},
    {"regions", recording_regions, NULL, "names of each region, outermost first", NULL},
    {"threads", recording_threads, NULL, "(name or None, native id, started_ns) of each thread", NULL},
    {"timeline", recording_timeline, NULL,
     "(interval in ns, [(live bytes, resident bytes or None), ...]) from the start; None without points", NULL},
    {"functions", recording_functions, NULL, "(file, function, first line) of each code object", NULL},
    {"totals", recording_totals, NULL, "bytes and blocks of the whole recording at each moment", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef recording_methods[] = {
    {"view", recording_view, METH_VARARGS, "view(moment, temporary, classes, own, keep, pattern, regions=None, /)"},
    {"pprof", recording_pprof, METH_VARARGS,
     "pprof(alloc, inuse, default_type, executable, comments, time_ns, duration_ns, /): not compressed"},
    {"speedscope", recording_speedscope, METH_VARARGS,
     "speedscope(profiles, active, name, exporter, /); a profile: (view, name, thread or -2, blocks)"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot recording_slots[] = {
    {Py_tp_doc, (void *)"Recording(path or buffer, /): a recording, read and checked; EngineError when it cannot be."},
    {Py_tp_new, (void *)recording_new},
    {Py_tp_dealloc, (void *)recording_dealloc},
    {Py_tp_getset, recording_getset},
    {Py_tp_methods, recording_methods},
    {0, NULL},
};

static PyType_Spec recording_spec = {
    .name = "memheft._engine.Recording",
    .basicsize = sizeof(HeftRecording),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = recording_slots,
};

static PyGetSetDef view_getset[] = {
    {"total_bytes", view_total_bytes, NULL, "sum of the rows' bytes", NULL},
    {"total_blocks", view_total_blocks, NULL, "sum of the rows' blocks", NULL},
    {"cut_bytes", view_cut_bytes, NULL, "of total_bytes: whose callers were not kept (<paths cut>)", NULL},
    {"bytes_error", view_bytes_error, NULL, "standard error of total_bytes; 0 of an exact recording", NULL},
    {"blocks_error", view_blocks_error, NULL, "of total_blocks, likewise", NULL},
    {"cut_blocks", view_cut_blocks, NULL, "of total_blocks, likewise", NULL},
    {"uncertain_bytes", view_uncertain_bytes, NULL, "of total_bytes, at most: charged to a caller of their line", NULL},
    {"uncertain_blocks", view_uncertain_blocks, NULL, "of total_blocks, likewise", NULL},
    {"frames", view_frames, NULL, "(file id, line, column, function, module, import) by frame id", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef view_methods[] = {
    {"rows", view_rows, METH_VARARGS, "rows(by, /): by line, function, file, module, thread, stack or region"},
    {"tree", view_tree, METH_VARARGS, "tree(inverted, /): rows in preorder, the root first"},
    {"collapsed", view_collapsed, METH_VARARGS, "collapsed(files, /): collapsed stacks, files called like this"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot view_slots[] = {
    {Py_tp_doc, (void *)"A recording at one moment; made by Recording.view()."},
    {Py_tp_dealloc, (void *)view_dealloc},
    {Py_tp_getset, view_getset},
    {Py_tp_methods, view_methods},
    {0, NULL},
};

static PyType_Spec view_spec = {
    .name = "memheft._engine.View",
    .basicsize = sizeof(HeftView),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = view_slots,
};

static PyObject *make_error_type(void)
{
    PyObject *defaults = Py_BuildValue("{s:s,s:s,s:O}", "code", "", "message", "", "offset", Py_None);
    PyObject *type = defaults == NULL ? NULL
                                      : PyErr_NewExceptionWithDoc("memheft._engine.EngineError",
                                                                  "A recording that cannot be read.", NULL, defaults);
    Py_XDECREF(defaults);
    return type;
}

/* Takes the reference. */
static int add(PyObject *module, const char *name, PyObject *object)
{
    int status = object == NULL ? -1 : PyModule_AddObjectRef(module, name, object);
    Py_XDECREF(object);
    return status;
}

int heft_recording_add_types(PyObject *module)
{
    if (add(module, "EngineError", make_error_type()) < 0 ||
        add(module, "Recording", PyType_FromModuleAndSpec(module, &recording_spec, NULL)) < 0)
        return -1;
    return add(module, "View", PyType_FromModuleAndSpec(module, &view_spec, NULL));
}
