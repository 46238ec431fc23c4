/* SPDX-License-Identifier: MIT */
/* Everything that differs between CPython versions, and nothing else: a new version or a free-threaded build is a new
 * branch here (and a new stamp in stack.h when frames change).
 *
 *            stamp                         thread state                    frame
 *   3.11     stacktop                      runtime's current thread        prev_instr, f_code, is_entry
 *   3.12     stacktop                      thread-local, fixed offset      prev_instr, f_code, shim frames
 *   3.13     stacktop                      thread-local, fixed offset      instr_ptr, f_executable
 *   3.14-15  visited + the padding         thread-local, fixed offset      instr_ptr, tagged f_executable
 */
#ifndef HEFT_PYTHON_VERSION_H
#define HEFT_PYTHON_VERSION_H

/* before Python.h: 3.11 and 3.12 declare some functions differently otherwise */
#define Py_BUILD_CORE 1
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if PY_VERSION_HEX < 0x030B0100 || PY_VERSION_HEX >= 0x03100000
#error "memheft records CPython 3.11.1 to 3.15"
#endif
#ifdef Py_GIL_DISABLED
#error "memheft does not record free-threaded builds yet"
#endif

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include "internal/pycore_code.h"
#include "internal/pycore_dict.h"
#include "internal/pycore_frame.h"
#if PY_VERSION_HEX >= 0x030E0000
#include "internal/pycore_interpframe.h"
#include "internal/pycore_interpframe_structs.h"
#endif
#include "internal/pycore_object.h"
#include "internal/pycore_pylifecycle.h"
#include "internal/pycore_pymem.h"
#include "internal/pycore_pystate.h"
#include "internal/pycore_runtime.h"
#include <opcode.h>
#pragma GCC diagnostic pop

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

typedef struct _PyInterpreterFrame heft_frame_t;

/* ---- frames ------------------------------------------------------------------------------------------------------ */

#if PY_VERSION_HEX >= 0x030D0000
#define heft_frame_ip(f) ((uintptr_t)(f)->instr_ptr)
#define heft_top_frame(ts) ((ts)->current_frame)
#else
#define heft_frame_ip(f) ((uintptr_t)(f)->prev_instr)
#define heft_top_frame(ts) ((ts)->cframe->current_frame)
#endif

/* The code object of a frame that is not on the C stack. */
HEFT_INLINE PyCodeObject *heft_frame_code(const heft_frame_t *f)
{
#if PY_VERSION_HEX >= 0x030E0000
    return (PyCodeObject *)(f->f_executable.bits & ~(uintptr_t)3);
#elif PY_VERSION_HEX >= 0x030D0000
    return (PyCodeObject *)f->f_executable;
#else
    return f->f_code;
#endif
}

/* Is this the shim that each C call of the eval loop puts on the chain? */
HEFT_INLINE bool heft_frame_is_shim(const heft_frame_t *f)
{
#if PY_VERSION_HEX >= 0x030E0000
    return f->owner >= FRAME_OWNED_BY_INTERPRETER;
#elif PY_VERSION_HEX >= 0x030C0000
    return f->owner == FRAME_OWNED_BY_CSTACK;
#else
    (void)f;
    return false;
#endif
}

/* Before its first RESUME a frame is not yet visible to Python: what it allocates (cells, the generator itself)
 * belongs to its caller, as in tracemalloc. */
HEFT_INLINE bool heft_frame_is_incomplete(const heft_frame_t *f)
{
    const PyCodeObject *code = heft_frame_code(f);
    return f->owner != FRAME_OWNED_BY_GENERATOR &&
           heft_frame_ip(f) <
               (uintptr_t)_PyCode_CODE(code) + (uintptr_t)code->_co_firsttraceable * sizeof(_Py_CODEUNIT);
}

/* May the free stack slot of `f`, in which its call has just vacated a place, hold what we know of it?  A Python
 * function was called, which took its arguments; a coroutine was resumed, by SEND if `f` stands there, else by throw().
 */
HEFT_INLINE bool heft_frame_may_vouch(const heft_frame_t *f, const heft_frame_t *callee)
{
#if PY_VERSION_HEX >= 0x030C0000
    if (callee->owner != FRAME_OWNED_BY_GENERATOR)
        return true;
    const _Py_CODEUNIT *ip = (const _Py_CODEUNIT *)heft_frame_ip(f);
#if PY_VERSION_HEX < 0x030D0000
    /* The last unit of the instruction: at SEND that is its cache, a counter.  It may look like a yield, which costs a
     * walk; but at a yield the unit before is a cache as well, and a counter may look like SEND. */
    if (ip->op.code == YIELD_VALUE || ip->op.code >= MIN_INSTRUMENTED_OPCODE)
        return false;
    ip -= 1;
#endif
    return ip->op.code == SEND || ip->op.code == SEND_GEN;
#else
    (void)f;
    (void)callee;
    return true;
#endif
}

HEFT_INLINE PyObject *heft_frame_local(const heft_frame_t *f, int index)
{
#if PY_VERSION_HEX >= 0x030E0000
    return (PyObject *)(f->localsplus[index].bits & ~(uintptr_t)3);
#else
    return f->localsplus[index];
#endif
}

/* ---- the current thread ------------------------------------------------------------------------------------------ */

/* The thread state attached to this thread, NULL when it does not hold the interpreter's lock.  3.11 has one variable
 * for all threads, whose value may be another's and dying: it is compared, never followed.  (A thread that has gone
 * into a subinterpreter there counts as without the lock.) */
HEFT_INLINE PyThreadState *heft_current_tstate(void)
{
#if PY_VERSION_HEX < 0x030C0000
    PyThreadState *ts = (PyThreadState *)_Py_atomic_load_relaxed(&_PyRuntime.gilstate.tstate_current);
    return ts != NULL && ts == PyGILState_GetThisThreadState() ? ts : NULL;
#elif PY_VERSION_HEX < 0x030D0000
    return _PyThreadState_UncheckedGet();
#else
    return PyThreadState_GetUnchecked();
#endif
}

/* The same where the caller is known to hold the lock. */
HEFT_INLINE PyThreadState *heft_holder_tstate(void)
{
#if PY_VERSION_HEX < 0x030C0000
    return (PyThreadState *)_Py_atomic_load_relaxed(&_PyRuntime.gilstate.tstate_current);
#else
    return heft_current_tstate();
#endif
}

/* The same for the hot path: by its offset from the thread pointer.  With offset 0 this is the thread pointer itself
 * (the first word of its own block), which is no thread state and equals none. */
HEFT_INLINE PyThreadState *heft_fast_tstate(ptrdiff_t offset)
{
#if PY_VERSION_HEX < 0x030C0000
    (void)offset;
    return heft_holder_tstate();
#else
    return *(PyThreadState **)((char *)__builtin_thread_pointer() + offset);
#endif
}

/* Has the interpreter begun to be torn down? */
HEFT_INLINE bool heft_is_finalizing(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    return Py_IsFinalizing() != 0;
#else
    return _Py_IsFinalizing() != 0;
#endif
}

/* Did the main module end by a KeyboardInterrupt?  The interpreter then kills itself by SIGINT instead of exit().  The
 * field is read only where the runtime is certain to look as it did when this was compiled; else no, and the watcher
 * learns of the end from the kernel. */
HEFT_INLINE bool heft_is_ending_by_sigint(void)
{
#if PY_VERSION_HEX < 0x030C0000
    return _Py_UnhandledKeyboardInterrupt != 0;
#elif PY_VERSION_HEX < 0x030D0000
    return Py_Version == PY_VERSION_HEX && _PyRuntime.signals.unhandled_keyboard_interrupt != 0;
#else
    return _PyRuntime.debug_offsets.runtime_state.size == sizeof _PyRuntime &&
           _PyRuntime.signals.unhandled_keyboard_interrupt != 0;
#endif
}

/* What a class of Python's making keeps for `object` under the interned string `name`; borrowed, NULL if nothing. Reads
 * memory, nothing else: keys are compared by identity, so no __eq__ runs, nothing is allocated and nothing is freed. */
HEFT_INLINE PyObject *heft_instance_value(PyObject *object, PyObject *name)
{
    if (object == NULL || !PyType_HasFeature(Py_TYPE(object), Py_TPFLAGS_MANAGED_DICT))
        return NULL;
    PyDictValues *values = NULL;
#if PY_VERSION_HEX >= 0x030D0000
    PyDictObject *dict = _PyObject_GetManagedDict(object);
    if (dict == NULL && PyType_HasFeature(Py_TYPE(object), Py_TPFLAGS_INLINE_VALUES))
        values = _PyObject_InlineValues(object);
#elif PY_VERSION_HEX >= 0x030C0000
    PyDictOrValues both = *_PyObject_DictOrValuesPointer(object);
    PyDictObject *dict = NULL;
    if (_PyDictOrValues_IsValues(both))
        values = _PyDictOrValues_GetValues(both);
    else
        dict = (PyDictObject *)_PyDictOrValues_GetDict(both);
#else
    PyDictObject *dict = (PyDictObject *)*_PyObject_ManagedDictPointer(object);
    if (dict == NULL)
        values = *_PyObject_ValuesPointer(object);
#endif
    PyDictKeysObject *keys = dict != NULL     ? dict->ma_keys
                             : values != NULL ? ((PyHeapTypeObject *)Py_TYPE(object))->ht_cached_keys
                                              : NULL;
    if (dict != NULL)
        values = dict->ma_values;
    if (keys == NULL || keys->dk_kind == DICT_KEYS_GENERAL)
        return NULL;
    const PyDictUnicodeEntry *entries = DK_UNICODE_ENTRIES(keys);
    for (Py_ssize_t i = 0; i < keys->dk_nentries; i++) {
        if (entries[i].me_key == name)
            return values != NULL ? values->values[i] : entries[i].me_value;
    }
    return NULL;
}

#endif
