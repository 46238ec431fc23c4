/* SPDX-License-Identifier: MIT */
/* Python's columns as an Arrow stream, in a capsule. */
#ifndef HEFT_PYTHON_TABLE_H
#define HEFT_PYTHON_TABLE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* arrow_stream(columns): see memheft/_engine.pyi. */
PyObject *heft_table_arrow_stream(PyObject *module, PyObject *columns);

#endif
