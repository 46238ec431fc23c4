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

/* The chain of this context: a new reference to a tuple, or NULL. */
static PyObject *get_chain(void)
{
    PyObject *value = NULL;
    if (variable == NULL || PyContextVar_Get(variable, NULL, &value) < 0)
        return NULL;
    if (!is_chain(value))
        Py_CLEAR(value);
    return value;
}

/* ---- looking it up, inside the recorder's lock --------------------------------------------------------------------
 */

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
    heft_rec.context_version = ts->context_ver;
    if (heft_rec.tree.details[thread->root].kind != HEFT_NODE_THREAD || thread->ts != ts)
        return; /* one of very many threads, which share a record */
    PyObject *chain = get_chain();
    uint32_t node = chain != NULL ? node_of(chain, thread->root) : thread->root;
    Py_XDECREF(chain); /* the context holds it */
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
    PyObject *inner[DEPTH_MAX], *rest = chain;
    uint32_t n = 0;
    for (; is_chain(rest) && PyTuple_GET_ITEM(rest, 0) != owner; rest = PyTuple_GET_ITEM(rest, 2)) {
        if (n < DEPTH_MAX)
            inner[n] = rest;
        n++;
    }
    if (!is_chain(rest) || n > DEPTH_MAX)
        return Py_NewRef(chain); /* entered in another context */
    PyObject *result = Py_NewRef(PyTuple_GET_ITEM(rest, 2));
    while (n-- > 0 && result != NULL) {
        PyObject *outer = result;
        result = PyTuple_Pack(3, PyTuple_GET_ITEM(inner[n], 0), PyTuple_GET_ITEM(inner[n], 1), outer);
        Py_DECREF(outer);
    }
    return result;
}

/* Make `chain` this context's. */
static bool set_chain(PyObject *chain)
{
    PyObject *token = PyContextVar_Set(variable, chain);
    if (token == NULL)
        return false;
    Py_DECREF(token);
    if (heft_rec.on && heft_rec.tree.frames_kept == 0) {
        heft_rec.regions = true;
        heft_rec.ts = HEFT_NOBODY; /* setting a variable gives the context no new version: the next request looks */
    }
    return true;
}

static bool is_main_interpreter(void)
{
    return PyInterpreterState_Get() == PyInterpreterState_Main();
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
    heft_hooks_hide(true);
    if (variable == NULL)
        variable = PyContextVar_New("memheft.region", Py_None);
    PyObject *outer = variable != NULL ? get_chain() : NULL;
    PyObject *chain = variable != NULL ? PyTuple_Pack(3, args[0], args[1], outer != NULL ? outer : Py_None) : NULL;
    bool ok = chain != NULL && set_chain(chain);
    Py_XDECREF(chain);
    Py_XDECREF(outer);
    heft_hooks_hide(false);
    return ok ? Py_NewRef(Py_None) : NULL;
}

PyObject *heft_regions_leave(PyObject *module, PyObject *owner)
{
    (void)module;
    if (!is_main_interpreter())
        Py_RETURN_NONE;
    heft_hooks_hide(true);
    PyObject *chain = get_chain();
    PyObject *left = chain != NULL ? without(chain, owner) : NULL;
    bool ok = chain == NULL || (left != NULL && (left == chain || set_chain(left)));
    Py_XDECREF(left);
    Py_XDECREF(chain);
    heft_hooks_hide(false);
    return ok ? Py_NewRef(Py_None) : NULL;
}
