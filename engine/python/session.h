/* SPDX-License-Identifier: MIT */
/* start() and stop(): a recording inside a running program, see memheft/_engine.pyi. */
#ifndef HEFT_PYTHON_SESSION_H
#define HEFT_PYTHON_SESSION_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* NULL, or why no recording can be started now, in one line (static). */
const char *heft_session_why_not(void);

PyObject *heft_session_start(PyObject *module, PyObject *args);
PyObject *heft_session_stop(PyObject *module, PyObject *unused);
PyObject *heft_session_is_on(PyObject *module, PyObject *unused);

#endif
