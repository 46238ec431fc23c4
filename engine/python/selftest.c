/* SPDX-License-Identifier: MIT */
/* Is the interpreter that loaded us the one we were compiled for?  Asked at import, before anything is touched.
 *
 * 1. the minor version, debug and free-threaded builds, by exported data;
 * 2. 3.13+: the offsets that the interpreter itself publishes for debuggers;
 * 3. the running stack, read our way, against the one that the public API shows.
 * What only a running program can show (stamps) is compared on the first requests of each recording (recorder.h). */
#include "python/recorder.h"

#include <stddef.h>
#include <string.h>

#define TEXT(x) #x
#define TEXT_OF(x) TEXT(x)
#define BUILT_FOR TEXT_OF(PY_MAJOR_VERSION) "." TEXT_OF(PY_MINOR_VERSION)

#if PY_VERSION_HEX >= 0x030D0000
static bool are_offsets_ours(void)
{
#if PY_VERSION_HEX >= 0x030E0000
    const struct _Py_DebugOffsets *o = &_PyRuntime.debug_offsets;
#else
    const _Py_DebugOffsets *o = &_PyRuntime.debug_offsets;
#endif
    return memcmp(o->cookie, "xdebugpy", 8) == 0 && o->free_threaded == 0 &&
           o->thread_state.size == sizeof(PyThreadState) &&
           o->thread_state.current_frame == offsetof(PyThreadState, current_frame) &&
           o->thread_state.interp == offsetof(PyThreadState, interp) &&
           o->thread_state.native_thread_id == offsetof(PyThreadState, native_thread_id) &&
           o->interpreter_frame.size == sizeof(heft_frame_t) &&
           o->interpreter_frame.previous == offsetof(heft_frame_t, previous) &&
           o->interpreter_frame.executable == offsetof(heft_frame_t, f_executable) &&
           o->interpreter_frame.instr_ptr == offsetof(heft_frame_t, instr_ptr) &&
           o->interpreter_frame.localsplus == offsetof(heft_frame_t, localsplus) &&
           o->interpreter_frame.owner == offsetof(heft_frame_t, owner) &&
           o->code_object.co_code_adaptive == offsetof(PyCodeObject, co_code_adaptive) &&
           o->code_object.filename == offsetof(PyCodeObject, co_filename) &&
           o->code_object.qualname == offsetof(PyCodeObject, co_qualname) &&
           o->code_object.linetable == offsetof(PyCodeObject, co_linetable) &&
           o->code_object.firstlineno == offsetof(PyCodeObject, co_firstlineno);
}
#endif

/* The frames as the public API sees them, top first, against ours. */
static bool is_stack_ours(PyThreadState *ts)
{
    const heft_frame_t *f = heft_top_frame(ts);
    PyFrameObject *frame = PyThreadState_GetFrame(ts); /* a new reference */
    bool same = frame != NULL;
    while (same && frame != NULL) {
        while (f != NULL && (heft_frame_is_shim(f) || heft_frame_is_incomplete(f)))
            f = f->previous;
        PyCodeObject *code = PyFrame_GetCode(frame);
        same = f != NULL && heft_frame_code(f) == code &&
               (intptr_t)PyFrame_GetLasti(frame) == (intptr_t)(heft_frame_ip(f) - (uintptr_t)_PyCode_CODE(code));
        Py_DECREF(code);
        PyFrameObject *back = PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = back;
        if (f != NULL)
            f = f->previous;
    }
    Py_XDECREF(frame);
    for (; same && f != NULL; f = f->previous)
        same = heft_frame_is_shim(f) || heft_frame_is_incomplete(f);
    return same;
}

const char *heft_selftest_layout(void)
{
    if (Py_Version >> 16 != PY_VERSION_HEX >> 16)
        return "memheft's engine was built for Python " BUILT_FOR "; reinstall memheft for this interpreter";
    if (PySys_GetObject("gettotalrefcount") != NULL)
        return "debug builds of Python cannot be recorded; use a release build";
#if PY_VERSION_HEX >= 0x030D0000
    if (_PyRuntime.debug_offsets.free_threaded != 0)
        return "free-threaded builds of Python cannot be recorded yet; use the default build";
    if (!are_offsets_ours())
        return "this Python's frames are laid out differently from those memheft was built for; reinstall memheft";
#endif
    PyThreadState *ts = PyThreadState_Get();
    if (heft_current_tstate() != ts || heft_holder_tstate() != ts)
        return "this Python's current thread is not where memheft expects it; reinstall memheft for this interpreter";
    if (heft_top_frame(ts) != NULL && !is_stack_ours(ts))
        return "this Python's stack does not read as expected; reinstall memheft for exactly this interpreter";
    return NULL;
}
