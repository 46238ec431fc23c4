/* SPDX-License-Identifier: MIT */
/* Entering, leaving and looking up regions, see regions.h.
 *
 * The variable's value is a chain of tuples, the innermost first, or None:
 *
 *     (owner, "parse", (owner, "request", None))
 *
 * Tuples do not change, so a task's copy of its context stays what it was when the task was made, whoever leaves what
 * afterwards.  Looking it up takes no lock, allocates nothing and runs no Python code: keys of a context are compared
 * by identity.  Entering and leaving are hidden from the recording.  Cost: entering and leaving one microsecond
 * together, most of it Python's; a change of regions one walk of the stack. */
#define PY_SSIZE_T_CLEAN
#include "python/recorder.h"

#include "python/regions.h"
#include "python/stack.h"

#define DEPTH_MAX 64 /* regions around each other that are told apart: those further out */

static PyObject *variable; /* NULL until the first region; immortal for the process' life */

bool heft_regions_in_use(void)
{
    return variable != NULL;
}

static bool is_chain(PyObject *value)
{
    return value != NULL && PyTuple_CheckExact(value);
}

/* The chain of this context: a new reference to a tuple, or NULL, perhaps with an exception. */
static PyObject *get_chain(void)
{
    PyObject *value = NULL;
    if (variable == NULL || PyContextVar_Get(variable, NULL, &value) < 0)
        return NULL;
    if (!is_chain(value))
        Py_CLEAR(value);
    return value;
}

/* ---- looking it up ------------------------------------------------------------------------------------------------
 */

/* What this thread has just seen.  The chain is the context's: it lives until the thread goes on. */
static __thread struct {
    PyThreadState *ts;
    uint64_t version;
    PyObject *chain; /* borrowed */
} seen __attribute__((tls_model("initial-exec")));

HEFT_COLD void heft_regions_look(PyThreadState *ts)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyObject *pending = PyErr_GetRaisedException();
#else
    PyObject *pending, *value, *traceback;
    PyErr_Fetch(&pending, &value, &traceback);
#endif
    uint64_t version = ts->context_ver;
    PyObject *chain = get_chain();
    seen.ts = NULL;
    if (!PyErr_Occurred()) { /* else it is too deep for a comparison: it is still where it was, and looks again */
        seen.ts = ts;
        seen.version = version;
        seen.chain = chain;
    }
    Py_XDECREF(chain); /* the context holds it */
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(pending);
#else
    PyErr_Restore(pending, value, traceback);
#endif
}

static uint32_t node_of(PyObject *chain, uint32_t root)
{
    PyObject *names[DEPTH_MAX];
    char buffer[HEFT_TEXT_MAX];
    uint32_t n = 0;
    for (; is_chain(chain); chain = PyTuple_GET_ITEM(chain, 2))
        names[n++ % DEPTH_MAX] = PyTuple_GET_ITEM(chain, 1);
    uint32_t node = root, kept = n < DEPTH_MAX ? n : DEPTH_MAX;
    for (uint32_t i = 1; i <= kept; i++)
        node = heft_tree_region(&heft_rec.tree, node, heft_codes_text(names[(n - i) % DEPTH_MAX], buffer));
    return node;
}

HEFT_COLD void heft_regions_follow(PyThreadState *ts)
{
    heft_thread_state_t *thread = heft_rec.thread;
    bool has_looked = seen.ts == ts && seen.version == ts->context_ver;
    heft_rec.context_version = has_looked ? ts->context_ver : UINT64_MAX;
    if (!has_looked || heft_rec.tree.details[thread->root].kind != HEFT_NODE_THREAD || thread->ts != ts)
        return;     /* hidden just now; or one of very many threads, which share a record */
    seen.ts = NULL; /* once: who follows later has to look again */
    uint32_t node = seen.chain != NULL ? node_of(seen.chain, thread->root) : thread->root;
    if (node == thread->node)
        return;
    thread->node = node;
    heft_stack_forget(heft_top_frame(ts));
}

/* ---- entering and leaving -----------------------------------------------------------------------------------------
 */

/* The chain with `owner`'s innermost region taken out; NULL with an exception.  New reference. */
static PyObject *without(PyObject *chain, PyObject *owner)
{
    PyObject *rest = chain;
    size_t n = 0;
    for (; is_chain(rest) && PyTuple_GET_ITEM(rest, 0) != owner; rest = PyTuple_GET_ITEM(rest, 2))
        n++;
    if (!is_chain(rest))
        return Py_NewRef(chain);                                /* entered in another context */
    PyObject **inner = n > 0 ? PyMem_New(PyObject *, n) : NULL; /* out of order: these were entered later, and stay */
    if (n > 0 && inner == NULL)
        return PyErr_NoMemory();
    PyObject *at = chain, *result = Py_NewRef(PyTuple_GET_ITEM(rest, 2));
    for (size_t i = 0; i < n; i++, at = PyTuple_GET_ITEM(at, 2))
        inner[i] = at;
    while (n-- > 0 && result != NULL) {
        PyObject *outer = result;
        result = PyTuple_Pack(3, PyTuple_GET_ITEM(inner[n], 0), PyTuple_GET_ITEM(inner[n], 1), outer);
        Py_DECREF(outer);
    }
    PyMem_Free(inner);
    return result;
}

/* Make `chain` this context's. */
static bool set_chain(PyObject *chain)
{
    PyObject *token = PyContextVar_Set(variable, chain);
    Py_XDECREF(token);
    return token != NULL;
}

static bool is_main_interpreter(void)
{
    return PyInterpreterState_Get() == PyInterpreterState_Main();
}

/* Hide what follows from the recording.  Before 3.12 a request may run the collector, and so the program's finalizers:
 * theirs is not to be hidden. */
static int hide(void)
{
    heft_hooks_hide(true);
    seen.ts = NULL;
    return PyGC_Disable();
}

/* Setting a variable gives the context no new version, and the thread's next request may be one without the
 * interpreter's lock: the thread goes to its region now. */
static void show(int collects)
{
    if (collects)
        PyGC_Enable();
    heft_hooks_hide(false);
    if (!heft_rec.on || heft_rec.tree.frames_kept != 0)
        return;
    heft_rec.regions = true;
    heft_recorder_set_careful();
    heft_hooks_settle();
}

PyObject *heft_regions_enter(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    if (n != 2 || !PyUnicode_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "enter_region takes an owner and a name");
        return NULL;
    }
    if (!is_main_interpreter())
        Py_RETURN_NONE; /* the others' allocations are recorded under their threads alone */
    int collects = hide();
    if (variable == NULL)
        variable = PyContextVar_New("memheft.region", Py_None);
    PyObject *outer = variable != NULL ? get_chain() : NULL;
    PyObject *chain = NULL;
    if (!PyErr_Occurred())
        chain = PyTuple_Pack(3, args[0], args[1], outer != NULL ? outer : Py_None);
    bool ok = chain != NULL && set_chain(chain);
    Py_XDECREF(chain);
    Py_XDECREF(outer);
    show(collects);
    return ok ? Py_NewRef(Py_None) : NULL;
}

PyObject *heft_regions_leave(PyObject *module, PyObject *owner)
{
    (void)module;
    if (!is_main_interpreter())
        Py_RETURN_NONE;
    int collects = hide();
    PyObject *chain = get_chain();
    PyObject *left = chain != NULL ? without(chain, owner) : NULL;
    bool ok = chain == NULL ? !PyErr_Occurred() : left != NULL && (left == chain || set_chain(left));
    Py_XDECREF(left);
    Py_XDECREF(chain);
    show(collects);
    return ok ? Py_NewRef(Py_None) : NULL;
}
