/* SPDX-License-Identifier: MIT */
/* memheft._engine.traces: what the interpreter's module _tracemalloc offers, on our recorder. */
#ifndef HEFT_PYTHON_TRACES_H
#define HEFT_PYTHON_TRACES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Add the module; -1 with an exception. */
int heft_traces_add(PyObject *engine);

#endif
