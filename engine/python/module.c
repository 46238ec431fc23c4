/* SPDX-License-Identifier: MIT */
/* memheft._engine: the extension's one exported symbol.
 *
 * Loaded in two ways.  `import memheft._engine` (the command line, the watcher, the API, MEMHEFT=) gets a module.
 * memheft.pth loads the file with MEMHEFT_BOOT=pid|engine|recording in the environment: then that process is to be
 * recorded, and nobody keeps the module.  (The engine is named for sitecustomize, see memheft/launch.  memheft.pth
 * takes the one of that name in memheft's own folder: an environment variable must not bring code into an isolated
 * interpreter.) */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "python/boot.h"
#include "python/recording.h"
#include "python/regions.h"
#include "python/session.h"
#include "python/snapshot.h"
#include "python/table.h"
#include "python/traces.h"
#include "python/watch.h"

static PyObject *engine_supported(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    const char *why = heft_boot_unsupported();
    if (why == NULL)
        Py_RETURN_NONE;
    return PyUnicode_FromString(why);
}

/* memheft.pth is read twice in a virtual environment, and keeps no module in which to note that. */
static PyObject *engine_first(PyObject *module, PyObject *unused)
{
    static bool asked;
    bool first = !asked;
    (void)module;
    (void)unused;
    asked = true;
    return PyBool_FromLong(first);
}

static PyObject *engine_boot(PyObject *module, PyObject *args)
{
    PyObject *path = NULL;
    const char *hint;
    (void)module;
    if (!PyArg_ParseTuple(args, "O&z:boot", PyUnicode_FSConverter, &path, &hint))
        return NULL;
    bool booted = heft_boot(PyBytes_AS_STRING(path));
    if (booted && hint != NULL)
        heft_boot_hint(hint);
    Py_DECREF(path);
    return PyBool_FromLong(booted);
}

static PyMethodDef methods[] = {
    {"supported", engine_supported, METH_NOARGS, "None, or why this interpreter cannot be recorded, in one line."},
    {"first", engine_first, METH_NOARGS, "True at the first call in this process."},
    {"boot", engine_boot, METH_VARARGS, "boot(path, hint): record from the main program's first step to its end."},
    {"start", heft_session_start, METH_VARARGS,
     "start(path, meta, force, folder, interval): record from now on; in memory if path is None, then its descriptor."},
    {"stop", heft_session_stop, METH_NOARGS, "Stop recording."},
    {"is_on", heft_session_is_on, METH_NOARGS, "Is a recording being made?"},
    {"current", heft_snapshot_current, METH_NOARGS,
     "Number, file and time of creation of the recording of this process, or None."},
    {"snapshot", heft_snapshot_take, METH_O, "snapshot(number): the recording of that number as it is now."},
    {"enter_region", (PyCFunction)(void (*)(void))heft_regions_enter, METH_FASTCALL,
     "enter_region(owner, name): from now on this context is in a region of that name."},
    {"leave_region", heft_regions_leave, METH_O, "leave_region(owner): it is where it was before."},
    {"create", heft_watch_create, METH_VARARGS,
     "create(path, meta, force, watcher, interval): make an empty recording."},
    {"add_source", heft_watch_add_source, METH_VARARGS, "add_source(path, blob): append the sources to a recording."},
    {"arrow_stream", heft_table_arrow_stream, METH_O, "arrow_stream(columns): a capsule with an Arrow C stream."},
    {NULL, NULL, 0, NULL},
};

static int engine_exec(PyObject *module)
{
    if (heft_recording_add_types(module) != 0 || heft_snapshot_add_type(module) != 0 || heft_traces_add(module) != 0)
        return -1;
    return heft_watch_add_types(module);
}

static int engine_traverse(PyObject *module, visitproc visit, void *arg)
{
    const heft_module_state_t *state = PyModule_GetState(module);
    Py_VISIT(state->snapshot_type);
    return 0;
}

static int engine_clear(PyObject *module)
{
    heft_module_state_t *state = PyModule_GetState(module);
    Py_CLEAR(state->snapshot_type);
    return 0;
}

static void engine_free(void *module)
{
    engine_clear(module);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)engine_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "memheft._engine",
    .m_doc = "memheft's engine.",
    .m_size = sizeof(heft_module_state_t),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = engine_traverse,
    .m_clear = engine_clear,
    .m_free = engine_free,
};

PyMODINIT_FUNC PyInit__engine(void);
PyMODINIT_FUNC PyInit__engine(void)
{
    const char *boot = getenv("MEMHEFT_BOOT");
    const char *engine = boot != NULL ? strchr(boot, '|') : NULL;
    const char *path = engine != NULL ? strchr(engine + 1, '|') : NULL;
    if (path != NULL && strtol(boot, NULL, 10) == (long)getpid()) /* else a process that the program started early */
        heft_boot(path + 1);
    return PyModuleDef_Init(&definition);
}
