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

/* Machinery that is not shown: what imports (importlib, zipimport), what starts a program (runpy), and our decorators.
 */
static uint32_t flags_of(heft_str_t file)
{
    if (heft_rec.tree.frames_kept != 0)
        return 0; /* traces show every frame there is */
    size_t own = strlen(heft_rec.own_folder);
    if (own != 0 && file.bytes >= own && memcmp(file.data, heft_rec.own_folder, own) == 0)
        return HEFT_CODE_START_MACHINERY;
    if (equals(file, "<frozen importlib._bootstrap>") || equals(file, "<frozen importlib._bootstrap_external>") ||
        equals(file, "<frozen zipimport>") || equals(file, "<frozen importlib.util>") ||
        ends_with(file, "/importlib/util.py") || ends_with(file, "/importlib/__init__.py") ||
        ends_with(file, "/importlib/_bootstrap.py") || ends_with(file, "/importlib/_bootstrap_external.py"))
        return HEFT_CODE_IMPORT_MACHINERY;
    if (equals(file, "<frozen runpy>") || ends_with(file, "/runpy.py") || ends_with(file, "/memheft/wrapping.py") ||
        ends_with(file, "/memheft/regions.py"))
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

/* ---- lines ------------------------------------------------------------------------------------------------------- */

/* Where reading a line table has stopped.  Tables can only be read from the start; the new instructions of one code
 * object mostly come in order (a module that builds large tables), so going on from here makes a whole module linear.
 */
typedef struct {
    const PyCodeObject *code; /* alive: retired code objects are forgotten here as well */
    uint32_t at;              /* byte of the table where the next entry begins */
    intptr_t offset;          /* first instruction that the next entry is for */
    intptr_t line;            /* before the next entry */
} cursor_t;

#define CURSORS 16u
static cursor_t cursors[CURSORS]; /* protected by the recorder's lock */

typedef struct {
    const uint8_t *p, *end;
} table_t;

static uint32_t take_byte(table_t *t)
{
    return t->p < t->end ? *t->p++ : 0;
}

static uint32_t take_varint(table_t *t)
{
    uint32_t byte = take_byte(t), value = byte & 63;
    for (uint32_t shift = 6; (byte & 64) && shift < 32; shift += 6) {
        byte = take_byte(t);
        value |= (byte & 63) << shift;
    }
    return value;
}

static intptr_t take_signed(table_t *t)
{
    uint32_t value = take_varint(t);
    return value & 1 ? -(intptr_t)(value >> 1) : (intptr_t)(value >> 1);
}

/* Line and column of the instruction, from the location table (CPython's Objects/locations.md): entries of a byte
 * 1|kind 4|units - 1, then what the kind needs. */
static void find_place(const PyCodeObject *code, uint32_t number, intptr_t offset, heft_frame_info_t *info)
{
    cursor_t *cursor = &cursors[number % CURSORS];
    if (offset < 0) { /* before the first instruction */
        info->line = code->co_firstlineno > 0 ? (uint32_t)code->co_firstlineno : 0;
        info->column = 1;
        return;
    }
    if (code->co_linetable == NULL || !PyBytes_Check(code->co_linetable))
        return;
    const uint8_t *start = (const uint8_t *)PyBytes_AS_STRING(code->co_linetable);
    if (cursor->code != code || cursor->offset > offset)
        *cursor = (cursor_t){.code = code, .line = code->co_firstlineno};
    table_t t = {start + cursor->at, start + PyBytes_GET_SIZE(code->co_linetable)};
    while (t.p < t.end) {
        const uint8_t *entry = t.p;
        uint32_t first = take_byte(&t), kind = first >> 3 & 15;
        intptr_t line = cursor->line, column = -1;
        bool has_line = kind != 15;
        if (kind < 10) {
            uint32_t second = take_byte(&t);
            column = (intptr_t)(kind << 3 | (second >> 4 & 7));
        } else if (kind < 13) {
            line += (intptr_t)kind - 10;
            column = (intptr_t)take_byte(&t);
            (void)take_byte(&t);
        } else if (kind == 13) {
            line += take_signed(&t);
        } else if (kind == 14) {
            line += take_signed(&t);
            (void)take_varint(&t);
            column = (intptr_t)take_varint(&t) - 1;
            (void)take_varint(&t);
        }
        intptr_t end = cursor->offset + ((intptr_t)(first & 7) + 1) * (intptr_t)sizeof(_Py_CODEUNIT);
        if (offset < end) {
            cursor->at = (uint32_t)(entry - start); /* to be read again: more than one instruction may ask */
            info->line = has_line && line > 0 ? (uint32_t)line : 0;
            info->column = column < 0 ? 0 : column >= 65534 ? 65535 : (uint16_t)(column + 1);
            return;
        }
        cursor->offset = end;
        cursor->line = line;
        cursor->at = (uint32_t)(t.p - start);
    }
}

static void forget_places(const PyCodeObject *code)
{
    for (uint32_t i = 0; i < CURSORS; i++) {
        if (cursors[i].code == code)
            cursors[i] = (cursor_t){0};
    }
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
    find_place(code, info->code, offset, info);
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
        if (heft_rec.on) {
            heft_tree_retire_code(&heft_rec.tree, (uintptr_t)code);
            forget_places((const PyCodeObject *)code);
        }
        heft_bias_unlock(&heft_rec.lock);
    }
    code_dealloc(code);
}

void heft_codes_reset(void)
{
    memset(cursors, 0, sizeof cursors);
}

void heft_codes_watch(void)
{
    if (code_dealloc == NULL) {
        code_dealloc = PyCode_Type.tp_dealloc;
        PyCode_Type.tp_dealloc = retire_and_dealloc;
    }
}
