"""What the tests of recording share: exact requests, recordings read straight from the engine, marked lines.

`exact` is a small extension module, compiled for the test: it asks CPython's allocators for blocks of exact
sizes and keeps them in numbered places, so that a line of Python that calls it asks for nothing else.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pytest
from conftest import MEMHEFT, TIMEOUT, Result, Workplace

from memheft import _engine

Moment: TypeAlias = Literal["peak", "live", "total", "temporary"]
Lines: TypeAlias = dict[int, tuple[int, int]]

HEAD = sys.getsizeof(b"")  # bytes(n) is one request of n + HEAD
EXIT_UNKNOWN = -(2**31)
RUNNING, SEALED, CLOSED = 2, 3, 4
FLAG_FULL_WALK, FLAG_JIT, FLAG_DISK_FULL, FLAG_FILE_GONE, FLAG_CONTRADICTION = 1, 2, 4, 8, 16
FLAG_LATE_END = 64

EXACT = r"""
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#define PLACES 4096
enum { RAW, MEM, OBJ };
static void *places[PLACES];
static int domains[PLACES];

static void *request(int domain, void *old, size_t n)
{
    switch (domain) {
    case RAW: return old != NULL ? PyMem_RawRealloc(old, n) : PyMem_RawMalloc(n);
    case MEM: return old != NULL ? PyMem_Realloc(old, n) : PyMem_Malloc(n);
    default: return old != NULL ? PyObject_Realloc(old, n) : PyObject_Malloc(n);
    }
}

static void release(int domain, void *p)
{
    switch (domain) {
    case RAW: PyMem_RawFree(p); break;
    case MEM: PyMem_Free(p); break;
    default: PyObject_Free(p); break;
    }
}

typedef struct { char operation; int domain, place; size_t n; int ok; } step_t;

/* m: malloc, c: calloc, r: realloc (keeps the domain), f: free.  After a failed request all is as it was. */
static void work(step_t *s)
{
    void **at = &places[s->place], *p = NULL;
    if (s->operation == 'f') {
        release(domains[s->place], *at);
        *at = NULL;
        s->ok = 1;
        return;
    }
    if (s->operation == 'r')
        p = request(domains[s->place], *at, s->n);
    else if (s->operation == 'm')
        p = request(s->domain, NULL, s->n);
    else if (s->domain == RAW)
        p = PyMem_RawCalloc(s->n, 1);
    else
        p = s->domain == MEM ? PyMem_Calloc(s->n, 1) : PyObject_Calloc(s->n, 1);
    s->ok = p != NULL;
    if (p == NULL)
        return;
    if (s->operation != 'r')
        domains[s->place] = s->domain;
    *at = p;
}

static void *thread_work(void *arg) { work(arg); return NULL; }
static void *attached_work(void *arg)
{
    PyGILState_STATE state = PyGILState_Ensure();
    work(arg);
    PyGILState_Release(state);
    return NULL;
}

static int parse(PyObject *const *args, Py_ssize_t n, step_t *s)
{
    if (n != 4 || !PyUnicode_Check(args[0]) || PyUnicode_GET_LENGTH(args[0]) != 1)
        return PyErr_Format(PyExc_TypeError, "operation, domain, place, size"), 0;
    s->operation = (char)PyUnicode_READ_CHAR(args[0], 0);
    s->domain = (int)PyLong_AsLong(args[1]);
    s->place = (int)PyLong_AsLong(args[2]);
    s->n = PyLong_AsSize_t(args[3]);
    if (PyErr_Occurred())
        return 0;
    if (s->place < 0 || s->place >= PLACES || s->domain < RAW || s->domain > OBJ ||
        (s->operation == 'f') != (s->operation != 'r' && places[s->place] != NULL) ||
        (s->operation == 'r' && places[s->place] == NULL))
        return PyErr_Format(PyExc_ValueError, "place %d, operation %c", s->place, s->operation), 0;
    return 1;
}

#define STEP(name, body)                                                                       \
    static PyObject *name(PyObject *self, PyObject *const *args, Py_ssize_t n)                 \
    {                                                                                          \
        step_t s;                                                                              \
        (void)self;                                                                            \
        if (!parse(args, n, &s))                                                               \
            return NULL;                                                                       \
        body;                                                                                  \
        return PyBool_FromLong(s.ok);                                                          \
    }

static void in_thread(void *(*function)(void *), step_t *s)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, function, s) != 0)
        abort();
    pthread_join(thread, NULL);
}

STEP(step, work(&s))
STEP(nogil, Py_BEGIN_ALLOW_THREADS work(&s); Py_END_ALLOW_THREADS)
STEP(stranger, Py_BEGIN_ALLOW_THREADS in_thread(thread_work, &s); Py_END_ALLOW_THREADS)
STEP(attached, Py_BEGIN_ALLOW_THREADS in_thread(attached_work, &s); Py_END_ALLOW_THREADS)

/* As many blocks of one size as are asked for, kept in a list of their own. */
static void **hoard;
static PyObject *fill(PyObject *self, PyObject *args)
{
    int domain;
    Py_ssize_t n, count;
    (void)self;
    if (!PyArg_ParseTuple(args, "inn", &domain, &n, &count))
        return NULL;
    hoard = malloc((size_t)count * sizeof *hoard);
    for (Py_ssize_t i = 0; i < count; i++)
        hoard[i] = request(domain, NULL, (size_t)n);
    Py_RETURN_NONE;
}

/* Threads that Python does not know, at work while it goes on. */
static pthread_t storm_threads[16];
static int storm_n;
static long storm_rounds;
static void *storm_work(void *arg)
{
    void *p[16] = {0};
    (void)arg;
    for (long i = 0; i < storm_rounds; i++) {
        int k = (int)(i & 15);
        PyMem_RawFree(p[k]);
        p[k] = PyMem_RawMalloc(1000 + (size_t)k);
        if (i % 7 == 0)
            p[k] = PyMem_RawRealloc(p[k], 2000);
    }
    for (int k = 0; k < 16; k++)
        PyMem_RawFree(p[k]);
    return NULL;
}

static PyObject *storm(PyObject *self, PyObject *args)
{
    (void)self;
    if (!PyArg_ParseTuple(args, "il", &storm_n, &storm_rounds) || storm_n > 16)
        return NULL;
    for (int i = 0; i < storm_n; i++) {
        if (pthread_create(&storm_threads[i], NULL, storm_work, NULL) != 0)
            abort();
    }
    Py_RETURN_NONE;
}

static PyObject *calm(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    Py_BEGIN_ALLOW_THREADS
    for (int i = 0; i < storm_n; i++)
        pthread_join(storm_threads[i], NULL);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* Two threads take turns, without the interpreter's lock, at asking for a block and freeing it. */
static int turn;
static PyObject *alternate(PyObject *self, PyObject *args)
{
    int side;
    long rounds;
    (void)self;
    if (!PyArg_ParseTuple(args, "il", &side, &rounds))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    for (long i = 0; i < rounds; i++) {
        while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != side)
            sched_yield();
        PyMem_RawFree(PyMem_RawMalloc(1000));
        __atomic_store_n(&turn, 1 - side, __ATOMIC_RELEASE);
    }
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* A hook of somebody else's, on top of all others. */
static PyMemAllocatorEx below[3];
static long hooked;
static void *top_malloc(void *ctx, size_t n)
{
    PyMemAllocatorEx *next = ctx;
    __atomic_add_fetch(&hooked, 1, __ATOMIC_RELAXED);
    return next->malloc(next->ctx, n);
}
static void *top_calloc(void *ctx, size_t count, size_t n)
{
    PyMemAllocatorEx *next = ctx;
    return next->calloc(next->ctx, count, n);
}
static void *top_realloc(void *ctx, void *p, size_t n)
{
    PyMemAllocatorEx *next = ctx;
    return next->realloc(next->ctx, p, n);
}
static void top_free(void *ctx, void *p)
{
    PyMemAllocatorEx *next = ctx;
    next->free(next->ctx, p);
}

static PyObject *hook(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    for (int domain = RAW; domain <= OBJ; domain++) {
        PyMem_GetAllocator((PyMemAllocatorDomain)domain, &below[domain]);
        PyMemAllocatorEx top = {&below[domain], top_malloc, top_calloc, top_realloc, top_free};
        PyMem_SetAllocator((PyMemAllocatorDomain)domain, &top);
    }
    Py_RETURN_NONE;
}

/* How many requests went through it. */
static PyObject *unhook(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    for (int domain = RAW; domain <= OBJ; domain++)
        PyMem_SetAllocator((PyMemAllocatorDomain)domain, &below[domain]);
    return PyLong_FromLong(hooked);
}

static PyMethodDef methods[] = {
    {"step", (PyCFunction)(void (*)(void))step, METH_FASTCALL, NULL},
    {"nogil", (PyCFunction)(void (*)(void))nogil, METH_FASTCALL, NULL},
    {"stranger", (PyCFunction)(void (*)(void))stranger, METH_FASTCALL, NULL},
    {"attached", (PyCFunction)(void (*)(void))attached, METH_FASTCALL, NULL},
    {"fill", fill, METH_VARARGS, NULL},
    {"storm", storm, METH_VARARGS, NULL},
    {"calm", calm, METH_NOARGS, NULL},
    {"alternate", alternate, METH_VARARGS, NULL},
    {"hook", hook, METH_NOARGS, NULL},
    {"unhook", unhook, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "exact", .m_size = -1, .m_methods = methods};
PyMODINIT_FUNC PyInit_exact(void) { return PyModule_Create(&definition); }
"""
RAW, MEM, OBJ = 0, 1, 2


@functools.cache
def _compiled() -> Path:
    """Compile `exact`; the caller's test is skipped where that cannot be done."""
    include = sysconfig.get_path("include")
    compiler = (sysconfig.get_config_var("CC") or "cc").split()
    if shutil.which(compiler[0]) is None:
        compiler = ["cc"]
    if shutil.which(compiler[0]) is None or not (Path(include) / "Python.h").exists():
        pytest.skip("exact requests need a C compiler and Python.h")
    folder = Path(tempfile.mkdtemp(prefix="exact-"))
    atexit.register(shutil.rmtree, folder, True)
    source, module = folder / "exact.c", folder / f"exact{sysconfig.get_config_var('EXT_SUFFIX')}"
    source.write_text(EXACT)
    flags = ["-O1", "-fPIC", "-shared", "-pthread", f"-I{include}"]
    command = [*compiler, *flags, str(source), "-o", str(module)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    return module


def give_exact(place: Workplace) -> None:
    """Put the module `exact` beside the program."""
    module = _compiled()
    link = place.folder / module.name
    if not link.exists():
        link.symlink_to(module)


# -- recordings ------------------------------------------------------------------------------------------


@dataclass
class Recorded:
    """A recording, as the engine reads it."""

    path: Path
    text: str
    result: Result

    def __post_init__(self) -> None:
        self.engine = _engine.Recording(str(self.path))
        self.header = self.engine.header
        self.totals = self.engine.totals
        self._views: dict[tuple[Moment, int], _engine.View] = {}

    def view(self, moment: Moment, span: int = 1) -> _engine.View:
        if (moment, span) not in self._views:
            files = len(self.engine.files)
            self._views[moment, span] = self.engine.view(moment, span, bytes(files), False, 15, None)
        return self._views[moment, span]

    def rows(self, moment: Moment, span: int = 1) -> Iterator[tuple[str, int, str, int, int]]:
        """File, line, function, bytes and blocks of each line."""
        for size, blocks, _, _, key, *_ in self.view(moment, span).rows("line"):
            assert isinstance(key, tuple)
            yield self.engine.files[key[0]], key[1], key[2], size, blocks

    def lines(self, moment: Moment, span: int = 1, name: str = "app.py") -> Lines:
        """Bytes and blocks of each line of a file."""
        out: Lines = {}
        for file, line, _, size, blocks in self.rows(moment, span):
            if file.rpartition("/")[2] == name and (size, blocks) != (0, 0):
                before = out.get(line, (0, 0))
                out[line] = (before[0] + size, before[1] + blocks)
        return out

    def others(self, moment: Moment, but: set[int], name: str = "app.py") -> dict[tuple[str, int, str], Any]:
        """All lines but those of the file that are named."""
        out: dict[tuple[str, int, str], Any] = {}
        for file, line, function, size, blocks in self.rows(moment):
            if (file.rpartition("/")[2] != name or line not in but) and (size, blocks) != (0, 0):
                before = out.get((file, line, function), (0, 0))
                out[file, line, function] = (before[0] + size, before[1] + blocks)
        return out

    def at(self, mark: str, moment: Moment = "live", span: int = 1) -> tuple[int, int]:
        """Bytes and blocks of the line that ends in `# @mark`."""
        return self.lines(moment, span).get(self.line(mark), (0, 0))

    def line(self, mark: str) -> int:
        return marks(self.text)[mark]

    def threads(self, moment: Moment = "live") -> dict[tuple[str | None, int], tuple[int, int]]:
        """Bytes and blocks of each thread, by its name and native id."""
        out: dict[tuple[str | None, int], tuple[int, int]] = {}
        for size, blocks, _, _, key, *_ in self.view(moment).rows("thread"):
            assert isinstance(key, int)
            name, native, _ = self.engine.threads[key]
            before = out.get((name, native), (0, 0))
            out[name, native] = (before[0] + size, before[1] + blocks)
        return out

    def stacks(self, moment: Moment = "live") -> dict[tuple[tuple[str, int], ...], tuple[int, int]]:
        """Bytes and blocks of each stack: (function, line), innermost first."""
        view = self.view(moment)
        frames = view.frames
        out: dict[tuple[tuple[str, int], ...], tuple[int, int]] = {}
        for size, blocks, _, _, key, *_ in view.rows("stack"):
            assert isinstance(key, tuple)
            stack = tuple((frames[i][3], frames[i][1]) for i in key)
            before = out.get(stack, (0, 0))
            out[stack] = (before[0] + size, before[1] + blocks)
        return out

    def check_sums(self) -> None:
        """What holds for every recording that ended well or was stopped between two events."""
        assert not self.header["flags"] & FLAG_CONTRADICTION
        assert self.header["lost_events"] == 0
        moments: list[Moment] = ["peak", "live", "total"]
        for moment in moments:
            view, name = self.view(moment), {"total": "allocated"}.get(moment, moment)
            assert view.total_bytes == self.totals[f"{name}_bytes"], moment
            assert view.total_blocks == self.totals[f"{name}_blocks"], moment
            assert sum(row[0] for row in view.rows("line")) == view.total_bytes
        assert self.totals["live_bytes"] <= self.totals["peak_bytes"] <= self.totals["allocated_bytes"]


@functools.cache
def marks(text: str) -> dict[str, int]:
    """The lines that end in `# @name`."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        _, sign, name = line.partition("# @")
        if sign:
            assert name not in found, name
            found[name] = number
    return found


def record(
    place: Workplace,
    text: str,
    *words: str,
    code: int | None = 0,
    flags: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    output: str = "app.heft",
    **options: Any,
) -> Recorded:
    """Record a program and wait until its watcher has noted the end."""
    place.write("app.py", text)
    result = place.memheft(
        "run",
        "-q",
        "--force",
        "-o",
        output,
        *flags,
        "app.py",
        *words,
        environment=environment or {},
        **options,
    )
    if code is not None:
        assert result.code == code, result.err
    path = place.folder / output
    wait_for_end(path)
    return Recorded(path, text, result)


def is_about(numbers: tuple[int, int], size: int, blocks: int, spare: int = 3) -> bool:
    """Say whether these are the line's own blocks, and at most a few small ones that free lists hold now."""
    return 0 <= numbers[1] - blocks <= spare and 0 <= numbers[0] - size <= spare * 100


def wait_for_end(path: Path) -> dict[str, int]:
    """The header once the end is known: nobody waits for the watcher of a program that left in haste."""
    deadline = time.monotonic() + 10
    while True:
        header = _engine.Recording(str(path)).header
        if header["exit_status"] != EXIT_UNKNOWN:
            return header
        assert time.monotonic() < deadline, f"the end was never noted: {header}"
        time.sleep(0.005)


@contextmanager
def running(place: Workplace, text: str, *words: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is being recorded into app.heft, with pipes to it; it is gone afterwards."""
    place.write("app.py", text)
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [*MEMHEFT, "run", "-q", "--force", "-o", "app.heft", "app.py", *words]
    process: subprocess.Popen[bytes]
    with subprocess.Popen(command, cwd=place.folder, env=place.environment, **(pipes | options)) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@functools.cache
def has_allocator(name: str) -> bool:
    """Say whether PYTHONMALLOC knows it."""
    done = subprocess.run(
        [sys.executable, "-c", ""],
        env={"PYTHONMALLOC": name},
        capture_output=True,
        check=False,
        timeout=TIMEOUT,
    )
    return done.returncode == 0


ALLOCATORS = ("pymalloc", "debug", "malloc", "mimalloc")


def environment_of(allocator: str) -> dict[str, str]:
    """The environment that selects an allocator; skips where there is none of that name."""
    if allocator == "mimalloc" and not has_allocator(allocator):
        pytest.skip("this Python has no mimalloc")
    return {} if allocator == "pymalloc" else {"PYTHONMALLOC": allocator}
