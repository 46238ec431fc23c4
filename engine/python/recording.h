/* SPDX-License-Identifier: MIT */
/* memheft._engine.Recording, .View and .EngineError: the reader as Python sees it.  See memheft/_engine.pyi. */
#ifndef HEFT_PYTHON_RECORDING_H
#define HEFT_PYTHON_RECORDING_H

#include <Python.h>

#include "base/error.h"

/* Add the two types and the exception to the module.  0, or -1 with an exception set. */
int heft_recording_add_types(PyObject *module);

/* Raise the module's EngineError for `err`; always returns NULL.  HEFT_ERR_NOMEM becomes MemoryError. */
PyObject *heft_recording_raise(PyObject *module, const heft_err_t *err);

#endif
