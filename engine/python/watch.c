/* SPDX-License-Identifier: MIT */
/* create(), add_source() and Watch, see memheft/_engine.pyi.
 *
 * The watcher is a process of its own that sleeps until the program has ended.  Two things wake it: the program's
 * header (state CLOSED: it is about to leave exit() and waits for us) and the program's death (pidfd).  A thread turns
 * the second into the first, so that one futex is waited on and nothing polls. */
#define _GNU_SOURCE
#include "python/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ledger/finish.h"
#include "ledger/ledger.h"

PyObject *heft_watch_create(PyObject *module, PyObject *args)
{
    PyObject *path = NULL;
    Py_buffer meta;
    int force, watcher;
    unsigned long long interval;
    (void)module;
    if (!PyArg_ParseTuple(args, "O&y*ppK:create", PyUnicode_FSConverter, &path, &meta, &force, &watcher, &interval))
        return NULL;
    const char *name = PyBytes_AS_STRING(path);
    int error = 0;
    if (force && unlink(name) != 0 && errno != ENOENT)
        error = errno;
    if (error == 0)
        error = heft_ledger_create(name, meta.buf, (size_t)meta.len, watcher ? HEFT_WATCHER_EXPECTED : 0, interval);
    if (error != 0) {
        errno = error;
        PyErr_SetFromErrnoWithFilename(PyExc_OSError, name);
    }
    PyBuffer_Release(&meta);
    Py_DECREF(path);
    if (error != 0)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *heft_watch_add_source(PyObject *module, PyObject *args)
{
    PyObject *path = NULL;
    Py_buffer blob;
    (void)module;
    if (!PyArg_ParseTuple(args, "O&y*:add_source", PyUnicode_FSConverter, &path, &blob))
        return NULL;
    int fd = open(PyBytes_AS_STRING(path), O_RDWR | O_CLOEXEC);
    int error = fd < 0 ? errno : heft_finish_add_source(fd, blob.buf, (size_t)blob.len);
    if (fd >= 0)
        close(fd);
    if (error != 0) {
        errno = error;
        PyErr_SetFromErrnoWithFilename(PyExc_OSError, PyBytes_AS_STRING(path));
    }
    PyBuffer_Release(&blob);
    Py_DECREF(path);
    if (error != 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- how a process that is not our child ended ---------------------------------------------------------------------
 */

/* linux/pidfd.h of Linux 6.15, absent from older headers: PIDFD_GET_INFO with PIDFD_INFO_EXIT. */
typedef struct {
    uint64_t mask, cgroupid;
    uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    int32_t exit_code;
    uint32_t coredump_mask, coredump_signal;
} heft_pidfd_info_t;
#define PIDFD_INFO_WITH_EXIT ((uint64_t)1 << 3)
#define PIDFD_GET_INFO_WITH_EXIT _IOWR(0xFF, 11, heft_pidfd_info_t)

/* The wait status, or -1.  The zombie's stat tells while it is one, the pidfd once it has been reaped. */
static int wait_status(int pidfd, uint64_t pid)
{
    struct timespec pause = {.tv_nsec = 2000000};
    for (int i = 0; i < 100; i++) {
        char name[64], text[1024];
        snprintf(name, sizeof name, "/proc/%llu/stat", (unsigned long long)pid);
        FILE *f = fopen(name, "r");
        size_t n = f != NULL ? fread(text, 1, sizeof text - 1, f) : 0;
        if (f != NULL)
            fclose(f);
        text[n] = 0;
        const char *p = strrchr(text, ')');
        const char *last = strrchr(text, ' ');
        int code;
        if (p != NULL && p[1] == ' ' && p[2] == 'Z' && last != NULL && sscanf(last, "%d", &code) == 1)
            return code;
        heft_pidfd_info_t info = {.mask = PIDFD_INFO_WITH_EXIT};
        if (ioctl(pidfd, PIDFD_GET_INFO_WITH_EXIT, &info) == 0 && (info.mask & PIDFD_INFO_WITH_EXIT))
            return info.exit_code;
        nanosleep(&pause, NULL);
    }
    return -1;
}

/* ---- Watch ------------------------------------------------------------------------------------------------------- */

/* What the thread that waits for the program's death works on.  It may outlive the object and the interpreter, so
 * this is never freed, nor the header unmapped: one for each program that is watched. */
typedef struct {
    int pidfd;
    uint64_t pid;
    heft_header_t *header; /* mapped, shared with the program */
    uint64_t start_ns;     /* monotonic: when we began to watch, just after the recording was made */
    uint64_t died_ns;      /* set by the thread with `died` */
    uint32_t died;         /* set by the thread; then the state's futex is woken */
} target_t;

typedef struct {
    PyObject_HEAD int fd;
    target_t *target;
} HeftWatch;

static uint64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void *wait_for_death(void *arg)
{
    target_t *target = arg;
    struct pollfd p = {.fd = target->pidfd, .events = POLLIN};
    while (poll(&p, 1, -1) < 0 && errno == EINTR)
        ;
    target->died_ns = monotonic_ns();
    __atomic_store_n(&target->died, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, &target->header->state, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    return NULL;
}

/* Until the program has closed the recording or is dead.  The death flag is not the futex word, so a wake between the
 * test and the wait would be lost: the wait is bounded, and the thread's wake makes it short. */
static void wait_for_end(target_t *target)
{
    struct timespec bound = {.tv_sec = 1};
    for (;;) {
        uint32_t state = __atomic_load_n(&target->header->state, __ATOMIC_ACQUIRE);
        if (state == HEFT_STATE_CLOSED || __atomic_load_n(&target->died, __ATOMIC_ACQUIRE))
            return;
        syscall(SYS_futex, &target->header->state, FUTEX_WAIT, state, &bound, NULL, 0);
    }
}

/* The resident peak of a program that waits for us at its exit, exact and without what was before its exec. */
static void note_resident_peak(heft_header_t *header)
{
    char name[64], line[256];
    unsigned long long kib;
    snprintf(name, sizeof name, "/proc/%llu/status", (unsigned long long)header->pid);
    FILE *f = fopen(name, "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "VmHWM: %llu kB", &kib) == 1)
            header->rss_peak_bytes = (uint64_t)kib * 1024;
    }
    if (f != NULL)
        fclose(f);
}

static PyObject *watch_wait(PyObject *object, PyObject *unused)
{
    HeftWatch *self = (HeftWatch *)object;
    target_t *target = self->target;
    pthread_t thread;
    int status = -1;
    uint32_t state;
    (void)unused;
    int error = pthread_create(&thread, NULL, wait_for_death, target);
    if (error != 0) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    pthread_detach(thread);
    Py_BEGIN_ALLOW_THREADS
    wait_for_end(target);
    state = __atomic_load_n(&target->header->state, __ATOMIC_ACQUIRE);
    if (state != HEFT_STATE_CLOSED)
        status = wait_status(target->pidfd, target->pid);
    Py_END_ALLOW_THREADS
    if (state == HEFT_STATE_CLOSED) {
        note_resident_peak(target->header);
        int end = target->header->exit_status;
        return end < 0 ? Py_BuildValue("si", "signaled", -end) : Py_BuildValue("si", "exited", end);
    }
    int end = status < 0 ? HEFT_EXIT_UNKNOWN : WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
    error = heft_finish_exit(self->fd, end, target->died_ns - target->start_ns);
    if (error != 0) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    if (state == HEFT_STATE_CREATED)
        return Py_BuildValue("sO", "never-started", Py_None);
    if (status < 0)
        return Py_BuildValue("sO", "exited", Py_None);
    return end < 0 ? Py_BuildValue("si", "signaled", -end) : Py_BuildValue("si", "exited", end);
}

static PyObject *watch_add_source(PyObject *object, PyObject *blob)
{
    Py_buffer view;
    if (PyObject_GetBuffer(blob, &view, PyBUF_SIMPLE) != 0)
        return NULL;
    int error = heft_finish_add_source(((HeftWatch *)object)->fd, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    if (error != 0) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static PyObject *watch_done(PyObject *object, PyObject *unused)
{
    heft_header_t *header = ((HeftWatch *)object)->target->header;
    (void)unused;
    __atomic_store_n(&header->drawn, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, &header->drawn, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    Py_RETURN_NONE;
}

static int watch_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
    HeftWatch *self = (HeftWatch *)object;
    PyObject *path = NULL;
    int pidfd;
    unsigned long long pid;
    struct stat st;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0) {
        PyErr_SetString(PyExc_TypeError, "Watch() takes no keyword arguments");
        return -1;
    }
    if (self->target != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Watch() watches already");
        return -1;
    }
    if (!PyArg_ParseTuple(args, "O&iK:Watch", PyUnicode_FSConverter, &path, &pidfd, &pid))
        return -1;
    int fd = open(PyBytes_AS_STRING(path), O_RDWR | O_CLOEXEC);
    void *p = MAP_FAILED;
    if (fd >= 0 && fstat(fd, &st) == 0) {
        errno = EINVAL;
        if (st.st_size >= (off_t)(2 * HEFT_FORMAT_PAGE))
            p = mmap(NULL, HEFT_FORMAT_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (p == MAP_FAILED)
        PyErr_SetFromErrnoWithFilename(PyExc_OSError, PyBytes_AS_STRING(path));
    Py_DECREF(path);
    target_t *target = p != MAP_FAILED ? malloc(sizeof *target) : NULL;
    if (target == NULL) {
        if (p != MAP_FAILED) {
            munmap(p, HEFT_FORMAT_PAGE);
            PyErr_NoMemory();
        }
        if (fd >= 0)
            close(fd);
        return -1;
    }
    *target = (target_t){.pidfd = pidfd, .pid = pid, .header = p, .start_ns = monotonic_ns()};
    target->header->watcher_pid = (uint64_t)getpid();
    self->fd = fd;
    self->target = target;
    return 0;
}

static void watch_dealloc(PyObject *object)
{
    HeftWatch *self = (HeftWatch *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->target != NULL)
        close(self->fd);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef watch_methods[] = {
    {"wait", watch_wait, METH_NOARGS, "Sleep until the program has ended; how it ended."},
    {"add_source", watch_add_source, METH_O, "Append the sources to the recording."},
    {"done", watch_done, METH_NOARGS, "Let the program go, if it still waits."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot watch_slots[] = {
    {Py_tp_init, (void *)watch_init},
    {Py_tp_dealloc, (void *)watch_dealloc},
    {Py_tp_methods, watch_methods},
    {Py_tp_doc, (void *)"Watch(path, pidfd, pid): a recording and the process that makes it."},
    {0, NULL},
};

static PyType_Spec watch_spec = {
    .name = "memheft._engine.Watch",
    .basicsize = sizeof(HeftWatch),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = watch_slots,
};

int heft_watch_add_types(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&watch_spec);
    if (type == NULL)
        return -1;
    int result = PyModule_AddObjectRef(module, "Watch", type);
    Py_DECREF(type);
    return result;
}
