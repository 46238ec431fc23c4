/* SPDX-License-Identifier: MIT */
/* From the first step of the main program to its end, without a line of Python.
 *
 *     exec python ... -> site -> memheft.pth -> heft_boot: attach, hooks wait
 *                     -> no Python frame left: the main program begins, hooks record
 *                     -> main module, threads, exit handlers have ended: `at_python_exit` seals (registered first, so
 *                        it runs last)
 *                     -> the interpreter is torn down, unrecorded
 *                     -> exit(): `at_process_exit` notes the status and waits until the watcher has drawn the summary
 *
 * A process that is killed, or leaves by _exit, comes as far as it comes: the file is right at any time, and the
 * watcher sees the end. */
#define _GNU_SOURCE
#include "python/boot.h"

#include <errno.h>
#include <limits.h>
#include <link.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "python/recorder.h"

#define DRAW_SECONDS 60 /* a watcher that takes longer is left behind */
#define START_SECONDS 2

/* ---- the thread-local current thread state ------------------------------------------------------------------------
 */

#if PY_VERSION_HEX >= 0x030C0000
#define CANDIDATES_MAX 16
#define STATIC_TLS_BYTES 65536

typedef struct {
    const void *wanted;
    void **found[CANDIDATES_MAX];
    int n;
} candidates_t;

static int collect_candidates(struct dl_phdr_info *info, size_t size, void *arg)
{
    candidates_t *c = arg;
    (void)size;
    if (info->dlpi_tls_data == NULL)
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_TLS)
            continue;
        void **word = info->dlpi_tls_data, **end = word + info->dlpi_phdr[i].p_memsz / sizeof *word;
        for (; word < end && c->n < CANDIDATES_MAX; word++) {
            if (*word == c->wanted)
                c->found[c->n++] = word;
        }
    }
    return 0;
}

/* The interpreter reads it with a function call, twice as dear as the load itself.  The variable is not exported, but
 * it is the only thread-local word that holds the thread state now and NULL while the lock is released.  Its distance
 * from the thread pointer is the same in all threads only in the block that lies right below it; a libpython that was
 * loaded later may have a block elsewhere, and is asked. */
static void find_tstate(void)
{
    candidates_t c = {.wanted = PyThreadState_Get()};
    bool cleared[CANDIDATES_MAX] = {false};
    dl_iterate_phdr(collect_candidates, &c);
    PyThreadState *ts = PyEval_SaveThread();
    for (int i = 0; i < c.n; i++)
        cleared[i] = *c.found[i] == NULL;
    PyEval_RestoreThread(ts);
    int chosen = -1, chosen_n = 0;
    for (int i = 0; i < c.n; i++) {
        if (cleared[i] && *c.found[i] == (void *)ts) {
            chosen = i;
            chosen_n++;
        }
    }
    ptrdiff_t offset = chosen_n == 1 ? (char *)c.found[chosen] - (char *)__builtin_thread_pointer() : 0;
    if (offset < 0 && offset > -STATIC_TLS_BYTES)
        heft_rec.tstate_offset = offset;
}
#else
static void find_tstate(void) {}
#endif

/* ---- the end ----------------------------------------------------------------------------------------------------- */

static time_t monotonic_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static void close_and_wait(int status)
{
    heft_header_t *header = heft_rec.ledger.header;
    if (header == NULL || heft_rec.pid != getpid() || header->state != HEFT_STATE_SEALED)
        return;
    heft_ledger_close(&heft_rec.ledger, status);
    struct timespec slice = {.tv_nsec = 100000000};
    time_t start = monotonic_seconds();
    while (header->watcher_pid != 0 && __atomic_load_n(&header->drawn, __ATOMIC_ACQUIRE) == 0) {
        bool expected = header->watcher_pid == HEFT_WATCHER_EXPECTED; /* it has not said its number yet */
        if (monotonic_seconds() - start > (expected ? START_SECONDS : DRAW_SECONDS) ||
            (!expected && kill((pid_t)header->watcher_pid, 0) != 0))
            break;
        syscall(SYS_futex, &header->drawn, FUTEX_WAIT, 0, &slice, NULL, 0);
    }
}

/* Where there is no watcher: one line about the recording, if stderr is still what it was at the start. */
static struct {
    char *text;
    dev_t dev;
    ino_t ino;
} hint;

void heft_boot_hint(const char *text)
{
    struct stat st;
    if (fstat(STDERR_FILENO, &st) != 0)
        return;
    hint.text = strdup(text);
    hint.dev = st.st_dev;
    hint.ino = st.st_ino;
}

static void say_hint(void)
{
    struct stat st;
    if (hint.text == NULL || heft_rec.pid != getpid() || heft_rec.ledger.header == NULL ||
        heft_rec.ledger.header->state != HEFT_STATE_CLOSED)
        return;
    if (fstat(STDERR_FILENO, &st) != 0 || st.st_dev != hint.dev || st.st_ino != hint.ino)
        return;
    struct sigaction ignored = {.sa_handler = SIG_IGN}, before;
    sigaction(SIGPIPE, &ignored, &before); /* a reader that has left is no reason to end otherwise */
    ssize_t n = write(STDERR_FILENO, hint.text, strlen(hint.text));
    (void)n;
    sigaction(SIGPIPE, &before, NULL);
}

static void at_process_exit(int status, void *unused)
{
    (void)unused;
    close_and_wait(status & 0xFF);
    say_hint();
}

/* The interpreter's last call before it is gone.  A program that clears the exit handlers is sealed here, and one that
 * ends by KeyboardInterrupt, which does not go through exit(), waits for its summary here. */
static void at_interpreter_end(void)
{
    if (heft_rec.on && heft_rec.pid == getpid())
        heft_rec.ledger.header->flags |= HEFT_FLAG_LATE_END;
    heft_recorder_seal();
    if (heft_is_ending_by_sigint()) {
        close_and_wait(-SIGINT);
        say_hint();
    }
}

static PyObject *at_python_exit(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    for (const heft_frame_t *f = heft_top_frame(PyThreadState_Get()); f != NULL; f = f->previous) {
        if (!heft_frame_is_shim(f)) {
            /* the program itself runs the exit handlers, or it ends in the middle of a call from C */
            heft_recorder_expect_end();
            Py_RETURN_NONE;
        }
    }
    heft_recorder_seal();
    Py_RETURN_NONE;
}

/* Exit handlers run last in, first out; we are the first.  `atexit` is imported for this and forgotten again, so that
 * the program finds sys.modules as it would be without us. */
static bool register_exit(void)
{
    static PyMethodDef method = {"_memheft_seal", at_python_exit, METH_NOARGS, NULL};
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    bool imported = PyDict_GetItemString(modules, "atexit") != NULL;
    PyObject *function = PyCFunction_New(&method, NULL);
    PyObject *atexit_module = PyImport_ImportModule("atexit");
    PyObject *result = NULL;
    if (function != NULL && atexit_module != NULL)
        result = PyObject_CallMethod(atexit_module, "register", "O", function);
    if (!imported && atexit_module != NULL && PyDict_DelItemString(modules, "atexit") != 0)
        PyErr_Clear();
    bool ok = result != NULL;
    Py_XDECREF(result);
    Py_XDECREF(atexit_module);
    Py_XDECREF(function);
    if (!ok)
        PyErr_Clear();
    return ok && Py_AtExit(at_interpreter_end) == 0 && on_exit(at_process_exit, NULL) == 0;
}

/* ---- the beginning ----------------------------------------------------------------------------------------------- */

bool heft_boot_prepare(void)
{
    static bool registered;
    if (heft_rec.tstate_offset == 0)
        find_tstate();
    registered = registered || register_exit();
    return registered;
}

static void complain(const char *why)
{
    fprintf(stderr, "memheft: not recorded: %s\n", why);
}

bool heft_boot(const char *path)
{
    static bool booted;
    if (booted)
        return false;
    booted = true;
    const char *why = heft_boot_unsupported();
    if (why != NULL) {
        complain(why);
        return false;
    }
    if (!heft_boot_prepare()) {
        complain("the interpreter's exit handlers cannot be registered");
        return false;
    }
    if (!heft_recorder_open(path)) {
        char text[256];
        snprintf(text, sizeof text, "the recording cannot be opened: %s", strerror(errno));
        PyErr_Clear();
        complain(text);
        return false;
    }
    heft_hooks_wait();
    return true;
}

const char *heft_boot_unsupported(void)
{
    return heft_selftest_layout();
}
