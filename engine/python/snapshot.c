/* SPDX-License-Identifier: MIT */
/* The recording of this process at one moment, as an object whose buffer is a recording (ledger/copy.h).
 *
 *     holding the interpreter's lock    how much is there?
 *     without it                        map that much and touch it
 *     holding it, and the ledger's      copy: nobody counts, and no realloc of a thread that holds it is half done
 *     without both                      checksums
 *
 * A RAW realloc of a thread without the interpreter's lock may be half done: its block then belongs to nobody.
 *
 * The object is hidden from the recording: a block of memory that the program has not asked for. */
#define _GNU_SOURCE
#include "python/recorder.h" /* first: it sees the interpreter from inside */

#include <unistd.h>

#include "ledger/copy.h"
#include "python/snapshot.h"

typedef struct {
    PyObject ob_base; /* PyObject_HEAD */
    heft_copy_t copy;
} HeftSnapshot;

static size_t held_bytes; /* changed atomically: the recorder's clock reads it without the interpreter's lock */

size_t heft_snapshot_bytes(void)
{
    return __atomic_load_n(&held_bytes, __ATOMIC_RELAXED);
}

/* Is `number` that of the recording that is being made in this process?  Those of compat.tracemalloc are not shown. */
static bool is_on(long number)
{
    return heft_rec.on && heft_rec.pid == getpid() && heft_rec.tree.frames_kept == 0 && (long)heft_rec.number == number;
}

PyObject *heft_snapshot_current(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    if (!is_on((long)heft_rec.number))
        Py_RETURN_NONE;
    PyObject *path = PyUnicode_DecodeFSDefault(heft_rec.ledger.path);
    const unsigned long long created = heft_rec.ledger.header->created_unix_ns;
    return path != NULL ? Py_BuildValue("INK", heft_rec.number, path, created) : NULL;
}

static void map_room(heft_copy_t *copy, size_t room)
{
    Py_BEGIN_ALLOW_THREADS
    heft_copy_init(copy, room); /* else its base is NULL */
    Py_END_ALLOW_THREADS
    __atomic_add_fetch(&held_bytes, copy->bytes, __ATOMIC_RELAXED);
}

static void give_back(heft_copy_t *copy)
{
    __atomic_sub_fetch(&held_bytes, copy->bytes, __ATOMIC_RELAXED);
    heft_copy_done(copy);
}

/* False: an exception is set, and the copy is empty. */
static bool take(heft_copy_t *copy, long number)
{
    bool taken = false;
    while (!taken) {
        size_t room = is_on(number) ? heft_copy_room(&heft_rec.ledger) : 0;
        if (room > 0) {
            map_room(copy, room + room / 16 + 16 * HEFT_FORMAT_PAGE); /* others go on, and make call paths */
            if (copy->base == NULL) {
                PyErr_Format(PyExc_MemoryError, "no memory for a snapshot of %zu bytes", room);
                return false;
            }
        }
        if (!is_on(number)) { /* it may have been stopped just now */
            give_back(copy);
            PyErr_SetString(PyExc_RuntimeError, "the recording is not being made in this process");
            return false;
        }
        heft_bias_lock(&heft_rec.lock);
        heft_rec.rusage_ns = 0; /* ask for the resident peak as well */
        heft_recorder_tick();
        taken = heft_copy_take(copy, &heft_rec.tree);
        heft_bias_unlock(&heft_rec.lock);
        if (!taken)
            give_back(copy);
    }
    return true;
}

static HeftSnapshot *new_snapshot(PyObject *module)
{
    const heft_module_state_t *state = PyModule_GetState(module);
    return (HeftSnapshot *)PyType_GenericAlloc((PyTypeObject *)state->snapshot_type, 0);
}

PyObject *heft_snapshot_take(PyObject *module, PyObject *object)
{
    long number = PyLong_AsLong(object);
    if (number == -1 && PyErr_Occurred())
        return NULL;
    heft_hooks_hide(true);
    HeftSnapshot *self = new_snapshot(module);
    heft_hooks_hide(false);
    if (self == NULL)
        return NULL;
    if (!take(&self->copy, number)) {
        Py_DECREF(self);
        return NULL;
    }
    size_t mapped = self->copy.bytes;
    Py_BEGIN_ALLOW_THREADS
    heft_copy_seal(&self->copy);
    Py_END_ALLOW_THREADS
    __atomic_sub_fetch(&held_bytes, mapped - self->copy.bytes, __ATOMIC_RELAXED);
    return (PyObject *)self;
}

/* ---- the type ---------------------------------------------------------------------------------------------------- */

static int snapshot_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
    const heft_copy_t *copy = &((HeftSnapshot *)self)->copy;
    return PyBuffer_FillInfo(view, self, copy->base, (Py_ssize_t)copy->bytes, 1, flags);
}

static void snapshot_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    give_back(&((HeftSnapshot *)self)->copy);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyType_Slot snapshot_slots[] = {
    {Py_tp_doc, (void *)"A recording in memory, of one moment; made by snapshot().  Its buffer is the file."},
    {Py_tp_dealloc, (void *)snapshot_dealloc},
    {Py_bf_getbuffer, (void *)snapshot_getbuffer},
    {0, NULL},
};

static PyType_Spec snapshot_spec = {
    .name = "memheft._engine.Snapshot",
    .basicsize = sizeof(HeftSnapshot),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = snapshot_slots,
};

int heft_snapshot_add_type(PyObject *module)
{
    heft_module_state_t *state = PyModule_GetState(module);
    state->snapshot_type = PyType_FromModuleAndSpec(module, &snapshot_spec, NULL);
    return state->snapshot_type == NULL ? -1 : PyModule_AddObjectRef(module, "Snapshot", state->snapshot_type);
}
