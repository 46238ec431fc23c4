/* SPDX-License-Identifier: MIT */
/* A recording that the program starts and stops itself.
 *
 *     start(path)    a file, as `memheft run` makes it
 *     start(None)    memory that behaves like a file (memfd); whoever started reads it through the descriptor returned
 *     stop()         seal, give all of the recorder's memory back; the hooks stay where somebody stands on top of them
 *
 * One recording at a time: the hooks and the stamps in frames are the process'.  Those who want several parts of a
 * program apart name regions inside one. */
#define _GNU_SOURCE
#include "python/recorder.h" /* first: it sees the interpreter from inside */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "python/boot.h"
#include "python/session.h"

static PyObject *fail(int error, PyObject *path)
{
    errno = error;
    return path != NULL ? PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path) : PyErr_SetFromErrno(PyExc_OSError);
}

/* Make the empty recording; the descriptor of one in memory, or -1.  `name` receives the path to attach to.  On an
 * error there is no file that was not there before. */
static int create(const char *path, const Py_buffer *meta, bool force, uint64_t interval, char name[PATH_MAX],
                  int *error)
{
    if (path != NULL) {
        *error = strlen(path) < PATH_MAX ? 0 : ENAMETOOLONG;
        if (*error == 0)
            memcpy(name, path, strlen(path) + 1);
        if (*error == 0 && force && unlink(path) != 0 && errno != ENOENT)
            *error = errno;
        if (*error == 0)
            *error = heft_ledger_create(path, meta->buf, (size_t)meta->len, 0, interval);
        return -1;
    }
    int fd = memfd_create("memheft", MFD_CLOEXEC);
    *error = fd < 0 ? errno : heft_ledger_create_in(fd, meta->buf, (size_t)meta->len, 0, interval);
    snprintf(name, PATH_MAX, "/proc/self/fd/%d", fd);
    if (*error != 0 && fd >= 0)
        close(fd);
    return *error == 0 ? fd : -1;
}

const char *heft_session_why_not(void)
{
    if (heft_rec.ledger.header != NULL && heft_rec.pid == getpid())
        return "a recording is being made already; there can be one at a time in a process";
    if (PyInterpreterState_Get() != PyInterpreterState_Main())
        return "only the main interpreter can start a recording";
    return heft_boot_unsupported();
}

PyObject *heft_session_start(PyObject *module, PyObject *args)
{
    PyObject *path_object, *path = NULL, *folder = NULL;
    Py_buffer meta;
    int force, error = 0;
    unsigned long long interval;
    char name[PATH_MAX];
    (void)module;
    if (!PyArg_ParseTuple(args, "Oy*pO&K:start", &path_object, &meta, &force, PyUnicode_FSConverter, &folder,
                          &interval))
        return NULL;
    const char *why = heft_session_why_not();
    if (why != NULL)
        PyErr_SetString(PyExc_RuntimeError, why);
    else if (PyBytes_GET_SIZE(folder) >= (Py_ssize_t)sizeof heft_rec.own_folder)
        PyErr_SetString(PyExc_RuntimeError, "memheft is installed in a folder whose name is too long");
    else if (path_object != Py_None && !PyUnicode_FSConverter(path_object, &path))
        path = NULL;
    if (PyErr_Occurred()) {
        PyBuffer_Release(&meta);
        Py_DECREF(folder);
        return NULL;
    }
    const char *file = path != NULL ? PyBytes_AS_STRING(path) : NULL;
    int fd = create(file, &meta, force != 0, interval, name, &error);
    bool created = error == 0;
    PyObject *result = fd >= 0 ? PyLong_FromLong(fd) : Py_NewRef(Py_None);
    if (result == NULL) {
        PyErr_Clear(); /* below it is an error like the others */
        error = ENOMEM;
    }
    if (error == 0 && !heft_boot_prepare())
        error = ENOMEM;
    else if (error == 0 && !heft_recorder_open(name))
        error = errno != 0 ? errno : EIO;
    if (error == 0)
        memcpy(heft_rec.own_folder, PyBytes_AS_STRING(folder), (size_t)PyBytes_GET_SIZE(folder) + 1);
    else if (fd >= 0)
        close(fd);
    else if (file != NULL && created)
        unlink(file); /* made just now, and of no use */
    PyBuffer_Release(&meta);
    Py_DECREF(folder);
    Py_XDECREF(path);
    if (error != 0) {
        Py_XDECREF(result);
        return fail(error, path_object != Py_None ? path_object : NULL);
    }
    heft_recorder_begin();
    heft_hooks_start();
    return result;
}

PyObject *heft_session_stop(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    if (!heft_rec.on || heft_rec.pid != getpid() || heft_rec.tree.frames_kept != 0) {
        PyErr_SetString(PyExc_RuntimeError, "no recording is being made");
        return NULL;
    }
    heft_recorder_seal();
    heft_ledger_close(&heft_rec.ledger, HEFT_EXIT_UNKNOWN); /* complete, and the process goes on: there is no status */
    heft_recorder_close();
    Py_RETURN_NONE;
}

PyObject *heft_session_is_on(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyBool_FromLong(heft_rec.on);
}
