/* SPDX-License-Identifier: MIT */
/* Bytes of a file that is written in memory, see out.h.
 *
 * Names come from the program: a function may be called anything that code.replace() takes, and a file's name may hold
 * bytes that are no text.  Every dialect gets them through heft_out_text(), which decodes one character after another
 * and never trusts a length. */
#include "export/out.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DAMAGED UINT32_MAX

void heft_out_bytes(heft_out_t *out, const void *bytes, size_t n)
{
    if (out->failed || n == 0)
        return;
    if (n > out->room - out->n) {
        size_t room = out->room < 4096 ? 4096 : out->room + out->room / 2;
        room = room - out->n < n ? out->n + n : room;
        char *p = room < out->n ? NULL : realloc(out->ptr, room);
        out->failed = p == NULL;
        if (p == NULL)
            return;
        out->ptr = p;
        out->room = room;
    }
    memcpy(out->ptr + out->n, bytes, n);
    out->n += n;
}

void heft_out_string(heft_out_t *out, const char *text)
{
    heft_out_bytes(out, text, strlen(text));
}

void heft_out_number(heft_out_t *out, uint64_t number)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    heft_out_bytes(out, digits + at, sizeof digits - at);
}

/* The character at p[0..n), n > 0, and its length; surrogates pass.  DAMAGED: one byte that belongs to none. */
static uint32_t decode(const unsigned char *p, size_t n, size_t *length)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t want = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    *length = 1;
    if (want == 1)
        return p[0];
    if (want == 0 || want > n)
        return DAMAGED;
    uint32_t c = p[0] & (0x7fu >> want);
    for (size_t i = 1; i < want; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return DAMAGED;
        c = c << 6 | (p[i] & 0x3fu);
    }
    if (c < least[want] || c > 0x10ffff)
        return DAMAGED;
    *length = want;
    return c;
}

static bool ends_a_line(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029;
}

/* What stands for this character; `escape` has room for it.  NULL: itself. */
static const char *instead_of(uint32_t c, heft_dialect_t dialect, char escape[8])
{
    if (c == DAMAGED)
        return "\xef\xbf\xbd";
    if (c >= 0xd800 && c < 0xe000) {
        snprintf(escape, 8, dialect == HEFT_TEXT_JSON ? "\\\\u%04x" : "\\u%04x", (unsigned)(c & 0xffff));
        return escape;
    }
    if (dialect == HEFT_TEXT_LABEL)
        return c == ';' ? ":" : ends_a_line(c) ? " " : NULL;
    if (dialect == HEFT_TEXT_JSON && (c < 0x20 || c == '"' || c == '\\')) {
        snprintf(escape, 8, c < 0x20 ? "\\u%04x" : "\\%c", (unsigned)(c & 0xff));
        return escape;
    }
    return NULL;
}

void heft_out_text(heft_out_t *out, heft_text_t text, heft_dialect_t dialect)
{
    const unsigned char *p = (const unsigned char *)text.ptr;
    size_t begin = 0, length; /* p[begin..at) is written as it is */
    char escape[8];
    for (size_t at = 0; at < text.len; at += length) {
        const char *instead = instead_of(decode(p + at, text.len - at, &length), dialect, escape);
        if (instead == NULL)
            continue;
        heft_out_bytes(out, p + begin, at - begin);
        heft_out_string(out, instead);
        begin = at + length;
    }
    heft_out_bytes(out, p + begin, text.len - begin);
}

void heft_out_done(heft_out_t *out)
{
    free(out->ptr);
    *out = (heft_out_t){0};
}
