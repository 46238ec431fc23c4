/* SPDX-License-Identifier: MIT */
/* arrow_stream(), see table.h: lists of int, str and None become Arrow's buffers, once; readers of the stream take
 * those as they are.  The capsule owns the stream until a reader has moved it out. */
#include "python/table.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "export/arrow.h"

#define CAPSULE_NAME "arrow_array_stream" /* by the Arrow PyCapsule interface */

static void release_capsule(PyObject *capsule)
{
    struct ArrowArrayStream *stream = PyCapsule_GetPointer(capsule, CAPSULE_NAME);
    if (stream != NULL && stream->release != NULL)
        stream->release(stream);
    free(stream);
}

static bool refused(void)
{
    PyErr_SetString(PyExc_MemoryError, "no memory for an Arrow table, or a column of more than 2 GiB of text");
    return false;
}

static bool append_number(heft_arrow_t *table, PyObject *cell)
{
    if (!PyLong_Check(cell)) { /* nor what can be made one: __index__ is code of its own, which may change the list */
        PyErr_Format(PyExc_TypeError, "a column of numbers holds %R", cell);
        return false;
    }
    long long value = PyLong_AsLongLong(cell);
    if (value == -1 && PyErr_Occurred())
        return false;
    return heft_arrow_append_int64(table, value) || refused();
}

/* Arrow's text is UTF-8: lone surrogates, as in names of files that are no text, are written out. */
static bool append_text(heft_arrow_t *table, PyObject *cell)
{
    if (!PyUnicode_Check(cell)) {
        PyErr_Format(PyExc_TypeError, "a column of text holds %R", cell);
        return false;
    }
    Py_ssize_t bytes;
    const char *text = PyUnicode_AsUTF8AndSize(cell, &bytes);
    if (text != NULL)
        return heft_arrow_append_utf8(table, text, (size_t)bytes) || refused();
    PyErr_Clear();
    PyObject *escaped = PyUnicode_AsEncodedString(cell, "utf-8", "backslashreplace");
    if (escaped == NULL)
        return false;
    bool ok = heft_arrow_append_utf8(table, PyBytes_AS_STRING(escaped), (size_t)PyBytes_GET_SIZE(escaped));
    Py_DECREF(escaped);
    return ok || refused();
}

static bool append_column(heft_arrow_t *table, PyObject *column, Py_ssize_t *rows)
{
    const char *name, *kind_name;
    PyObject *cells;
    if (!PyTuple_Check(column) || !PyArg_ParseTuple(column, "ssO!", &name, &kind_name, &PyList_Type, &cells)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "a column is (name, kind, list)");
        return false;
    }
    bool is_text = strcmp(kind_name, "utf8") == 0;
    if (!is_text && strcmp(kind_name, "int64") != 0) {
        PyErr_Format(PyExc_ValueError, "no such kind of column: %s", kind_name);
        return false;
    }
    if (*rows >= 0 && PyList_GET_SIZE(cells) != *rows) {
        PyErr_SetString(PyExc_ValueError, "columns are of one length");
        return false;
    }
    *rows = PyList_GET_SIZE(cells);
    if (!heft_arrow_add_column(table, name, is_text ? HEFT_ARROW_UTF8 : HEFT_ARROW_INT64))
        return refused();
    bool ok = true;
    for (Py_ssize_t i = 0; ok && i < *rows && i < PyList_GET_SIZE(cells); i++) {
        PyObject *cell = Py_NewRef(PyList_GET_ITEM(cells, i));
        if (cell == Py_None)
            ok = heft_arrow_append_null(table) || refused();
        else
            ok = is_text ? append_text(table, cell) : append_number(table, cell);
        Py_DECREF(cell);
    }
    if (ok && PyList_GET_SIZE(cells) != *rows) { /* by a finalizer that the collector ran */
        PyErr_SetString(PyExc_ValueError, "a column was changed while it was read");
        return false;
    }
    return ok;
}

PyObject *heft_table_arrow_stream(PyObject *module, PyObject *columns)
{
    heft_arrow_t table;
    Py_ssize_t rows = -1;
    PyObject *list = PySequence_List(columns), *capsule = NULL;
    (void)module;
    if (list == NULL)
        return NULL;
    heft_arrow_init(&table);
    bool ok = true;
    for (Py_ssize_t i = 0; ok && i < PyList_GET_SIZE(list); i++)
        ok = append_column(&table, PyList_GET_ITEM(list, i), &rows);
    struct ArrowArrayStream *stream = ok ? calloc(1, sizeof *stream) : NULL;
    if (stream != NULL && heft_arrow_export(&table, stream)) {
        capsule = PyCapsule_New(stream, CAPSULE_NAME, release_capsule);
        if (capsule == NULL)
            stream->release(stream);
    } else if (ok)
        refused();
    if (capsule == NULL)
        free(stream);
    heft_arrow_done(&table);
    Py_DECREF(list);
    return capsule;
}
