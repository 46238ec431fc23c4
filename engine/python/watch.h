/* SPDX-License-Identifier: MIT */
/* The two ends of a recording that are not the program: creating it, and watching it to its end. */
#ifndef HEFT_PYTHON_WATCH_H
#define HEFT_PYTHON_WATCH_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* create(path, meta, force, watcher): see memheft/_engine.pyi. */
PyObject *heft_watch_create(PyObject *module, PyObject *args);

/* add_source(path, blob): append the sources to a recording that is closed. */
PyObject *heft_watch_add_source(PyObject *module, PyObject *args);

/* Add the type Watch.  0, or -1 with an exception. */
int heft_watch_add_types(PyObject *module);

#endif
