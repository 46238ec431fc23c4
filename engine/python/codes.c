/* SPDX-License-Identifier: MIT */
/* Code objects: what a new call path needs to know of them, and their death.
 *
 * Code objects are not kept alive.  Their deallocator is wrapped, so that nodes of a dying one can no longer be found
 * by the address of its instructions, which may soon belong to another.  Everything here reads the objects' memory
 * directly: it runs inside an allocator hook, may not allocate, and a guest does not even hold the interpreter's lock.
 */
#include "python/recorder.h"

#include <string.h>

static void put_utf8(char **out, const char *end, uint32_t c)
{
    char *p = *out;
    if (end - p < 4)
        return;
    if (c < 0x80) {
        *p++ = (char)c;
    } else if (c < 0x800) {
        *p++ = (char)(0xC0 | c >> 6);
        *p++ = (char)(0x80 | (c & 63));
    } else if (c < 0x10000) {
        *p++ = (char)(0xE0 | c >> 12);
        *p++ = (char)(0x80 | (c >> 6 & 63));
        *p++ = (char)(0x80 | (c & 63));
    } else {
        *p++ = (char)(0xF0 | c >> 18);
        *p++ = (char)(0x80 | (c >> 12 & 63));
        *p++ = (char)(0x80 | (c >> 6 & 63));
        *p++ = (char)(0x80 | (c & 63));
    }
    *out = p;
}

heft_str_t heft_codes_text(PyObject *unicode, char buffer[HEFT_TEXT_MAX])
{
    if (unicode == NULL || !PyUnicode_Check(unicode) || !PyUnicode_IS_READY(unicode))
        return (heft_str_t){"?", 1};
    size_t length = (size_t)PyUnicode_GET_LENGTH(unicode);
    if (PyUnicode_IS_COMPACT_ASCII(unicode))
        return (heft_str_t){(const char *)PyUnicode_DATA(unicode), length};
    int kind = (int)PyUnicode_KIND(unicode);
    const void *data = PyUnicode_DATA(unicode);
    char *p = buffer;
    for (size_t i = 0; i < length && p + 4 <= buffer + HEFT_TEXT_MAX; i++)
        put_utf8(&p, buffer + HEFT_TEXT_MAX, PyUnicode_READ(kind, data, (Py_ssize_t)i));
    return (heft_str_t){buffer, (size_t)(p - buffer)};
}

static bool ends_with(heft_str_t s, const char *tail)
{
    size_t n = strlen(tail);
    return s.bytes >= n && memcmp(s.data + s.bytes - n, tail, n) == 0;
}

static bool equals(heft_str_t s, const char *text)
{
    return s.bytes == strlen(text) && memcmp(s.data, text, s.bytes) == 0;
}

/* Machinery that is not shown: what imports (importlib, zipimport) and what starts a program (runpy). */
static uint32_t flags_of(heft_str_t file)
{
    if (equals(file, "<frozen importlib._bootstrap>") || equals(file, "<frozen importlib._bootstrap_external>") ||
        equals(file, "<frozen zipimport>") || equals(file, "<frozen importlib.util>") ||
        ends_with(file, "/importlib/util.py") || ends_with(file, "/importlib/__init__.py") ||
        ends_with(file, "/importlib/_bootstrap.py") || ends_with(file, "/importlib/_bootstrap_external.py"))
        return HEFT_CODE_IMPORT_MACHINERY;
    if (equals(file, "<frozen runpy>") || ends_with(file, "/runpy.py"))
        return HEFT_CODE_START_MACHINERY;
    return 0;
}

/* What tells one text from another besides file, name and first line: the size, the arguments and the line table. */
static uint64_t key_of(const PyCodeObject *code)
{
    uint64_t h = 0xCBF29CE484222325u ^ (uint64_t)Py_SIZE(code) ^ (uint64_t)(unsigned)code->co_argcount << 32;
    if (code->co_linetable != NULL && PyBytes_Check(code->co_linetable)) {
        const char *p = PyBytes_AS_STRING(code->co_linetable);
        for (Py_ssize_t n = PyBytes_GET_SIZE(code->co_linetable); n > 0; n--)
            h = (h ^ (uint8_t)*p++) * 0x100000001B3u;
    }
    return h;
}

/* A dict with other keys than exact strings compares them by anybody's __eq__. */
static bool has_plain_keys(PyObject *dict)
{
    return ((PyDictObject *)dict)->ma_keys->dk_kind != DICT_KEYS_GENERAL;
}

/* __name__ of the frame's globals.  A lookup of an interned string in a dict of strings allocates
 * nothing and runs no Python code. */
static heft_str_t module_of(const heft_frame_t *frame, char buffer[HEFT_TEXT_MAX])
{
    if (heft_rec.guest || frame->f_globals == NULL || !PyDict_CheckExact(frame->f_globals) ||
        !has_plain_keys(frame->f_globals))
        return (heft_str_t){0};
    PyObject *name = PyDict_GetItemWithError(frame->f_globals, heft_rec.dunder_name);
    return name != NULL && PyUnicode_Check(name) ? heft_codes_text(name, buffer) : (heft_str_t){0};
}

static uint32_t number_of(const PyCodeObject *code)
{
    uint32_t number = heft_tree_find_code(&heft_rec.tree, (uintptr_t)code);
    if (number != 0)
        return number;
    char file[HEFT_TEXT_MAX], name[HEFT_TEXT_MAX];
    heft_code_info_t info = {
        .address = (uintptr_t)code,
        .base = (uintptr_t)_PyCode_CODE(code),
        .end = (uintptr_t)_PyCode_CODE(code) + (size_t)_PyCode_NBYTES(code),
        .key = key_of(code),
        .file = heft_codes_text(code->co_filename, file),
        .name = heft_codes_text(code->co_qualname, name),
        .first_line = code->co_firstlineno > 0 ? (uint32_t)code->co_firstlineno : 0,
    };
    info.flags = flags_of(info.file);
    return heft_tree_add_code(&heft_rec.tree, &info);
}

void heft_codes_describe(heft_frame_t *frame, heft_frame_info_t *info)
{
    PyCodeObject *code = heft_frame_code(frame);
    info->code = number_of(code);
    intptr_t offset = (intptr_t)(heft_frame_ip(frame) - (uintptr_t)_PyCode_CODE(code));
    info->instr = (uint32_t)offset;
    info->incomplete = heft_frame_is_incomplete(frame);
    if (info->incomplete)
        return; /* its globals may not be set yet */
    if (info->code != 0 && heft_ledger_codes(&heft_rec.ledger)[info->code].module == 0) {
        char module[HEFT_TEXT_MAX];
        heft_tree_name_module(&heft_rec.tree, info->code, module_of(frame, module));
    }
    int line = -1, column = -1, end_line, end_column;
    if (!PyCode_Addr2Location(code, (int)offset, &line, &column, &end_line, &end_column))
        line = column = -1;
    if (line < 0)
        line = PyCode_Addr2Line(code, (int)offset);
    info->line = line > 0 ? (uint32_t)line : 0;
    info->column = column < 0 ? 0 : column >= 65534 ? 65535 : (uint16_t)(column + 1);
    uint32_t flags = info->code != 0 ? heft_ledger_codes(&heft_rec.ledger)[info->code].flags : 0;
    info->machinery = flags != 0;
    if (flags & HEFT_CODE_IMPORT_MACHINERY) {
        char buffer[HEFT_TEXT_MAX];
        info->import_switch =
            code->co_argcount > 0 && equals(heft_codes_text(code->co_qualname, buffer), "_find_and_load");
    }
}

/* ---- death ------------------------------------------------------------------------------------------------------- */

static destructor code_dealloc;

static void retire_and_dealloc(PyObject *code)
{
    if (heft_rec.on) {
        /* the guest's side: rare enough, and right whatever interpreter this belongs to */
        heft_bias_lock(&heft_rec.lock);
        if (heft_rec.on)
            heft_tree_retire_code(&heft_rec.tree, (uintptr_t)code);
        heft_bias_unlock(&heft_rec.lock);
    }
    code_dealloc(code);
}

void heft_codes_watch(void)
{
    if (code_dealloc == NULL) {
        code_dealloc = PyCode_Type.tp_dealloc;
        PyCode_Type.tp_dealloc = retire_and_dealloc;
    }
}

PyObject *heft_plain_attribute(PyObject *object, PyObject *name)
{
    PyTypeObject *type = object != NULL ? Py_TYPE(object) : NULL;
    if (type == NULL || type->tp_getattro != PyObject_GenericGetAttr || _PyType_Lookup(type, name) != NULL)
        return NULL;
    if (!PyType_HasFeature(type, Py_TPFLAGS_MANAGED_DICT))
        return NULL;
    PyObject *dict = heft_instance_dict(object);
    if (dict != NULL && !has_plain_keys(dict))
        return NULL;
    return _PyObject_GenericGetAttrWithDict(object, name, NULL, 1);
}
