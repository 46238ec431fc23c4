/* SPDX-License-Identifier: MIT */
/* Snapshots of the recording that is being made in this process, see memheft/_engine.pyi. */
#ifndef HEFT_PYTHON_SNAPSHOT_H
#define HEFT_PYTHON_SNAPSHOT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* current() and snapshot(number): methods of the module. */
PyObject *heft_snapshot_current(PyObject *module, PyObject *unused);
PyObject *heft_snapshot_take(PyObject *module, PyObject *number);

/* Bytes of memory that living snapshots hold.  Needs no lock. */
size_t heft_snapshot_bytes(void);

/* The module's state: the types that its functions make objects of, whatever its attributes are by now. */
typedef struct {
    PyObject *snapshot_type; /* owned; NULL before the module is complete */
} heft_module_state_t;

int heft_snapshot_add_type(PyObject *module);

#endif
