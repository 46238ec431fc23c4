/* SPDX-License-Identifier: MIT */
/* The functions of _tracemalloc, see memheft/compat/tracemalloc.py for what they are for.
 *
 * While tracing, a recording is made in memory whose tree is plain (ledger/tree.h): a block's node is its traceback.
 * Nobody reads the recording; what is asked for is read from the tables.
 *
 *     block table --collect, under the lock--> (size, node) of each block --> tuples, equal ones shared
 *                                                     node --> frames, by walking up the tree
 *
 * Nodes never move and never change their meaning, so the second half needs no lock; that nobody stops the recording
 * meanwhile follows from the interpreter's lock and from the collector being off: no Python code runs. */
#define _GNU_SOURCE
#include "python/recorder.h" /* first: it sees the interpreter from inside */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "python/boot.h"
#include "python/session.h"
#include "python/traces.h"

#define FRAMES_MAX 65535 /* of a traceback; also where counting ends */

static int limit = 1; /* as given to the last start, protected by the interpreter's lock */

static bool is_tracing(void)
{
    return heft_rec.on && heft_rec.tree.frames_kept != 0 && heft_rec.pid == getpid();
}

/* What _tracemalloc does not trace of its own changed within minor versions (gh-128679): in later ones all that its
 * functions return. */
static bool hides_results(void)
{
    return Py_Version >= 0x030D0200 || (Py_Version >= 0x030C0900 && Py_Version < 0x030D0000);
}

/* ---- free lists -------------------------------------------------------------------------------------------------- */

/* An object that the interpreter takes from a free list belongs to the line that made it.  From 3.13 on the interpreter
 * tells us of each new object (as it tells _tracemalloc; there can be one who is told). */
#if PY_VERSION_HEX >= 0x030D0000
static int see_object(PyObject *object, PyRefTracerEvent event, void *unused)
{
    (void)unused;
    /* not is_tracing(): a system call for each object; in a forked child `on` is false, until it records itself */
    bool tracing = heft_rec.on && heft_rec.tree.frames_kept != 0;
    if (event == PyRefTracer_CREATE && tracing && !(heft_rec.hides && hides_results()))
        heft_hooks_reuse((char *)object - _PyType_PreHeaderSize(Py_TYPE(object)));
    return 0;
}

static void see_objects(bool see)
{
    void *data;
    PyRefTracer now = PyRefTracer_GetTracer(&data);
    if (see && now == NULL)
        (void)PyRefTracer_SetTracer(see_object, NULL);
    else if (!see && now == see_object)
        (void)PyRefTracer_SetTracer(NULL, NULL);
}
#else
static void see_objects(bool see)
{
    (void)see;
}
#endif

/* ---- life -------------------------------------------------------------------------------------------------------- */

/* The file in memory to record into; its descriptor is only needed until the recorder has one of its own. */
static int open_recording(void)
{
    char name[64];
    int fd = memfd_create("memheft", MFD_CLOEXEC);
    if (fd < 0)
        return errno;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    int error = heft_ledger_create_in(fd, "{}", 2, 0, 0);
    if (error == 0 && !heft_boot_prepare())
        error = ENOMEM;
    if (error == 0 && !heft_recorder_open(name))
        error = errno != 0 ? errno : EIO;
    close(fd);
    return error;
}

static bool parse_limit(PyObject *const *args, Py_ssize_t arg_n, int *frames)
{
    int overflow = 0;
    *frames = 1;
    if (arg_n > 1) {
        PyErr_Format(PyExc_TypeError, "start expected at most 1 argument, got %zd", arg_n);
        return false;
    }
    if (arg_n == 0)
        return true;
    long value = PyLong_AsLongAndOverflow(args[0], &overflow);
    if (value == -1 && PyErr_Occurred())
        return false;
    if (overflow != 0 || value < INT_MIN || value > INT_MAX) {
        PyErr_SetString(PyExc_OverflowError, "Python int too large to convert to C int");
        return false;
    }
    if (value < 1 || value > FRAMES_MAX) {
        PyErr_Format(PyExc_ValueError, "the number of frames must be in range [1; %i]", FRAMES_MAX);
        return false;
    }
    *frames = (int)value;
    return true;
}

/* No tuple of arguments: it would go to the free lists, and what is made of it would not be traced. */
static PyObject *traces_start(PyObject *module, PyObject *const *args, Py_ssize_t arg_n)
{
    int frames;
    (void)module;
    if (!parse_limit(args, arg_n, &frames))
        return NULL;
    if (is_tracing())
        Py_RETURN_NONE;
    const char *why = heft_session_why_not();
    if (why != NULL) {
        PyErr_SetString(PyExc_RuntimeError, why);
        return NULL;
    }
    int error = open_recording();
    if (error != 0) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    limit = frames;
    heft_rec.own_folder[0] = 0;
    heft_rec.tree.frames_kept = (uint32_t)frames;
    see_objects(true);
    heft_recorder_begin();
    heft_hooks_start();
    Py_RETURN_NONE;
}

static PyObject *traces_stop(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    if (is_tracing()) {
        see_objects(false);
        heft_recorder_seal();
        heft_recorder_close();
    }
    Py_RETURN_NONE;
}

static PyObject *traces_is_tracing(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyBool_FromLong(is_tracing());
}

static PyObject *traces_clear(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    if (!is_tracing())
        Py_RETURN_NONE;
    heft_bias_lock(&heft_rec.lock);
    bool cleared = heft_blocks_clear(&heft_rec.blocks);
    if (cleared)
        heft_tree_clear(&heft_rec.tree);
    heft_bias_unlock(&heft_rec.lock);
    if (!cleared)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

/* ---- sums -------------------------------------------------------------------------------------------------------- */

static PyObject *traces_get_traced_memory(PyObject *module, PyObject *unused)
{
    int64_t live = 0, peak = 0;
    (void)module;
    (void)unused;
    if (is_tracing()) {
        heft_bias_lock(&heft_rec.lock);
        live = heft_rec.tree.live_bytes;
        peak = heft_rec.tree.peak_bytes;
        heft_bias_unlock(&heft_rec.lock);
    }
    return Py_BuildValue("LL", (long long)live, (long long)(peak > live ? peak : live));
}

static PyObject *traces_reset_peak(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    if (is_tracing()) {
        heft_bias_lock(&heft_rec.lock);
        heft_tree_reset_peak(&heft_rec.tree);
        heft_bias_unlock(&heft_rec.lock);
    }
    Py_RETURN_NONE;
}

static PyObject *traces_get_traceback_limit(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyLong_FromLong(limit);
}

static PyObject *traces_get_tracemalloc_memory(PyObject *module, PyObject *unused)
{
    size_t bytes = 0;
    (void)module;
    (void)unused;
    if (is_tracing()) {
        heft_bias_lock(&heft_rec.lock);
        bytes = heft_tree_tool_bytes(&heft_rec.tree) + heft_blocks_tool_bytes(&heft_rec.blocks);
        heft_bias_unlock(&heft_rec.lock);
    }
    return PyLong_FromSize_t(bytes);
}

/* ---- tracebacks -------------------------------------------------------------------------------------------------- */

/* A frame as _tracemalloc shows it: of all that a node knows, the file and the line. */
typedef struct {
    uint32_t file; /* string */
    uint32_t line;
} place_t;

/* Frames of a node's path, innermost first: as many as are asked for into `places`, the number of all of them is
 * returned. */
static uint32_t read_places(uint32_t node, place_t *places, uint32_t max)
{
    const heft_tree_t *tree = &heft_rec.tree;
    uint32_t n = 0;
    for (; node != 0; node = tree->nodes[node].parent) {
        const heft_detail_t *detail = &tree->details[node];
        if (detail->kind != HEFT_NODE_FRAME)
            continue;
        if (n < max)
            places[n] = (place_t){heft_ledger_codes(&heft_rec.ledger)[detail->what].file, detail->line};
        n++;
    }
    return n;
}

static PyObject *file_name(uint32_t string)
{
    uint32_t bytes;
    if (string == 0)
        return PyUnicode_FromString("");
    const char *p = heft_ledger_strings(&heft_rec.ledger) + string;
    memcpy(&bytes, p, sizeof bytes);
    return PyUnicode_DecodeUTF8(p + sizeof bytes, (Py_ssize_t)bytes, "surrogatepass");
}

/* `names`: those that have been made, by string; borrowed from the frames they are in.  NULL: there is none to share,
 * and what is made is hidden, as _tracemalloc has its names already. */
static PyObject *new_frame(const place_t *place, PyObject **names)
{
    PyObject *name = names != NULL ? names[place->file / 4] : NULL;
    Py_XINCREF(name);
    if (name == NULL) {
        heft_hooks_hide(true);
        name = file_name(place->file);
        heft_hooks_hide(false);
    }
    if (name == NULL)
        return NULL;
    if (names != NULL)
        names[place->file / 4] = name;
    return Py_BuildValue("(NI)", name, (unsigned)place->line);
}

static PyObject *new_traceback(const place_t *places, uint32_t n, PyObject **names)
{
    if (n == 0)
        return Py_BuildValue("((si))", "<unknown>", 0);
    PyObject *tuple = PyTuple_New((Py_ssize_t)n);
    for (uint32_t i = 0; tuple != NULL && i < n; i++) {
        PyObject *frame = new_frame(&places[i], names);
        if (frame == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, frame);
    }
    return tuple;
}

static PyObject *traces_get_object_traceback(PyObject *module, PyObject *object)
{
    size_t size;
    uint32_t node = 0;
    (void)module;
    if (!is_tracing())
        Py_RETURN_NONE;
    uintptr_t address = (uintptr_t)object - _PyType_PreHeaderSize(Py_TYPE(object));
    heft_bias_lock(&heft_rec.lock);
    bool found = heft_blocks_find(&heft_rec.blocks, address, &size, &node);
    heft_bias_unlock(&heft_rec.lock);
    if (!found)
        Py_RETURN_NONE;
    uint32_t max = heft_rec.tree.frames_kept;
    place_t *places = malloc(max * sizeof *places);
    if (places == NULL)
        return PyErr_NoMemory();
    int collects = PyGC_Disable();
    uint32_t all = read_places(node, places, max);
    bool hides = hides_results();
    if (hides)
        heft_hooks_hide(true);
    PyObject *result = new_traceback(places, all < max ? all : max, NULL);
    if (hides)
        heft_hooks_hide(false);
    free(places);
    if (collects)
        PyGC_Enable();
    return result;
}

/* ---- all traces -------------------------------------------------------------------------------------------------- */

typedef struct {
    size_t size;
    uint32_t node;
} block_t;

typedef struct {
    block_t *blocks;
    size_t block_n, block_max;
} collected_t;

static bool collect(void *context, size_t size, uint32_t node)
{
    collected_t *all = context;
    if (all->block_n == all->block_max) {
        size_t max = all->block_max != 0 ? all->block_max * 2 : 4096;
        block_t *more = realloc(all->blocks, max * sizeof *more); /* the C library's: not traced */
        if (more == NULL)
            return false;
        all->blocks = more;
        all->block_max = max;
    }
    all->blocks[all->block_n++] = (block_t){size, node};
    return true;
}

/* Tracebacks that have been made.  The objects are borrowed: they live in the list that is being made. */
typedef struct {
    PyObject **names;   /* by string / 4 */
    PyObject **by_node; /* tracebacks */
    uint32_t *depths;   /* by node: the number of its frames */
    uint32_t *table;    /* of nodes with different tracebacks, hashed by them */
    uint32_t mask;
    uint32_t max;              /* frames of a traceback */
    place_t *places, *compare; /* of two nodes */
} known_t;

static bool make_known(known_t *known, size_t block_n)
{
    const heft_header_t *header = heft_rec.ledger.header;
    uint32_t max = heft_rec.tree.frames_kept, node_n = header->node_n, slots = 16;
    while (slots / 2 < node_n && slots / 2 < block_n)
        slots *= 2;
    *known = (known_t){
        .names = calloc(header->string_bytes / 4 + 1, sizeof *known->names),
        .by_node = calloc(node_n, sizeof *known->by_node),
        .depths = calloc(node_n, sizeof *known->depths),
        .table = calloc(slots, sizeof *known->table),
        .mask = slots - 1,
        .max = max,
        .places = malloc(max * sizeof *known->places),
        .compare = malloc(max * sizeof *known->compare),
    };
    return known->names != NULL && known->by_node != NULL && known->depths != NULL && known->table != NULL &&
           known->places != NULL && known->compare != NULL;
}

static void drop_known(known_t *known)
{
    free(known->names);
    free(known->by_node);
    free(known->depths);
    free(known->table);
    free(known->places);
    free(known->compare);
}

static uint32_t hash_places(const place_t *places, uint32_t n, uint32_t all)
{
    uint64_t h = all;
    for (uint32_t i = 0; i < n; i++)
        h = (h ^ ((uint64_t)places[i].file << 32 | places[i].line)) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(h >> 32);
}

/* The slot of a node's traceback: that of a node with the same one, or a free one. */
static uint32_t *find_slot(known_t *known, uint32_t all, uint32_t n)
{
    uint32_t i = hash_places(known->places, n, all) & known->mask;
    for (; known->table[i] != 0; i = (i + 1) & known->mask) {
        if (read_places(known->table[i], known->compare, known->max) == all &&
            memcmp(known->places, known->compare, n * sizeof(place_t)) == 0)
            break;
    }
    return &known->table[i];
}

/* The traceback of a node, or NULL with an exception. */
static PyObject *traceback_of(known_t *known, uint32_t node)
{
    if (known->by_node[node] != NULL)
        return Py_NewRef(known->by_node[node]);
    uint32_t all = read_places(node, known->places, known->max), n = all < known->max ? all : known->max;
    uint32_t *slot = find_slot(known, all, n);
    PyObject *traceback = *slot != 0 ? Py_NewRef(known->by_node[*slot]) : new_traceback(known->places, n, known->names);
    if (*slot == 0)
        *slot = node;
    known->by_node[node] = traceback;
    known->depths[node] = all == 0 ? 1 : all < FRAMES_MAX ? all : FRAMES_MAX;
    return traceback;
}

static bool append_trace(PyObject *list, known_t *known, const block_t *block)
{
    PyObject *traceback = traceback_of(known, block->node);
    if (traceback == NULL)
        return false;
    PyObject *trace =
        Py_BuildValue("(inNI)", 0, (Py_ssize_t)block->size, traceback, (unsigned)known->depths[block->node]);
    bool done = trace != NULL && PyList_Append(list, trace) == 0;
    Py_XDECREF(trace);
    return done;
}

/* All traces, into `list`; false with or without an exception, which then is MemoryError. */
static bool fill_list(PyObject *list)
{
    collected_t all = {0};
    known_t known = {0};
    heft_bias_lock(&heft_rec.lock);
    bool done = heft_blocks_visit(&heft_rec.blocks, collect, &all);
    heft_bias_unlock(&heft_rec.lock);
    done = done && make_known(&known, all.block_n);
    for (size_t i = 0; done && i < all.block_n; i++)
        done = append_trace(list, &known, &all.blocks[i]);
    drop_known(&known);
    free(all.blocks);
    return done;
}

static PyObject *traces_get_traces(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    bool hides_list = hides_results();
    PyObject *list = is_tracing() && hides_list ? NULL : PyList_New(0);
    if (!is_tracing() || (list == NULL && !hides_list))
        return list;
    int collects = PyGC_Disable();
    heft_hooks_hide(true);
    if (hides_list)
        list = PyList_New(0);
    if (list != NULL && !fill_list(list)) {
        Py_CLEAR(list);
        if (!PyErr_Occurred())
            PyErr_NoMemory();
    }
    heft_hooks_hide(false);
    if (collects)
        PyGC_Enable();
    return list;
}

/* ---- the module -------------------------------------------------------------------------------------------------- */

#define SIGNATURE(name, parameters, text) name "($module" parameters ")\n--\n\n" text

static PyMethodDef methods[] = {
    {"start", (PyCFunction)(void (*)(void))traces_start, METH_FASTCALL,
     SIGNATURE("start", ", nframe=1, /", "Start tracing; nframe frames of each block's traceback are kept.")},
    {"stop", traces_stop, METH_NOARGS, SIGNATURE("stop", "", "Stop tracing and forget all traces.")},
    {"is_tracing", traces_is_tracing, METH_NOARGS, SIGNATURE("is_tracing", "", "Are allocations traced?")},
    {"clear_traces", traces_clear, METH_NOARGS, SIGNATURE("clear_traces", "", "Forget all blocks traced so far.")},
    {"get_traced_memory", traces_get_traced_memory, METH_NOARGS,
     SIGNATURE("get_traced_memory", "", "Bytes of the traced blocks, now and at the peak: a tuple.")},
    {"reset_peak", traces_reset_peak, METH_NOARGS, SIGNATURE("reset_peak", "", "Let the peak be what there is now.")},
    {"get_traceback_limit", traces_get_traceback_limit, METH_NOARGS,
     SIGNATURE("get_traceback_limit", "", "How many frames of a traceback are kept.")},
    {"get_tracemalloc_memory", traces_get_tracemalloc_memory, METH_NOARGS,
     SIGNATURE("get_tracemalloc_memory", "", "Bytes that tracing itself takes.")},
    {"_get_object_traceback", traces_get_object_traceback, METH_O,
     SIGNATURE("_get_object_traceback", ", obj, /", "(file, line) of each frame, the most recent one first, or None.")},
    {"_get_traces", traces_get_traces, METH_NOARGS,
     SIGNATURE("_get_traces", "", "(domain, size, traceback, number of all its frames) of each block.")},
    {NULL, NULL, 0, NULL},
};

int heft_traces_add(PyObject *engine)
{
    PyObject *module = PyModule_New("memheft._engine.traces");
    int status = module != NULL ? PyModule_AddFunctions(module, methods) : -1;
    if (status == 0)
        status = PyModule_AddObjectRef(engine, "traces", module);
    Py_XDECREF(module);
    return status;
}
