/* SPDX-License-Identifier: MIT */
/* Regions: what a program calls its parts (memheft.region), followed through contextvars.
 *
 * The region that runs is the value of one context variable, so that threads, tasks and callbacks are each in their
 * own.  In the call tree it is a node between the thread and its stacks:
 *
 *     thread --> region "request" --> region "parse" --> app.py:12 --> ...
 *
 * When a thread comes into another region, its stacks begin at another root: the stamps in its frames are taken out
 * (stack.h), and the next request walks once.  That it has come into another one is seen by the version that a thread
 * state gives to its context; only programs that use regions are asked.  What the recorder asks stands in recorder.h.
 */
#ifndef HEFT_PYTHON_REGIONS_H
#define HEFT_PYTHON_REGIONS_H

#include <Python.h>

/* enter_region(owner, name) and leave_region(owner): methods of the module.  `owner` is any object; leaving takes out
 * the innermost region that it entered in this context, and does nothing if there is none. */
PyObject *heft_regions_enter(PyObject *module, PyObject *const *args, Py_ssize_t n);
PyObject *heft_regions_leave(PyObject *module, PyObject *owner);

#endif
