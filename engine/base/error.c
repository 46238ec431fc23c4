/* SPDX-License-Identifier: MIT */
/* Status words and the error struct, see error.h. */
#include "base/error.h"

#include <stddef.h>

#include "base/compiler.h"

HEFT_COLD heft_status_t heft_err_set(heft_err_t *err, heft_status_t code, const char *text, uint64_t off)
{
    HEFT_ASSERT(code != HEFT_OK && text != NULL);
    if (err != NULL)
        *err = (heft_err_t){.code = code, .text = text, .off = off};
    return code;
}

HEFT_COLD heft_status_t heft_err_set_errno(heft_err_t *err, heft_status_t code, const char *text, int sys_errno)
{
    heft_err_set(err, code, text, HEFT_ERR_NO_OFF);
    if (err != NULL)
        err->sys_errno = sys_errno;
    return code;
}

const char *heft_status_name(heft_status_t code)
{
    switch (code) {
    case HEFT_OK: return "ok";
    case HEFT_ERR_MISSING: return "missing";
    case HEFT_ERR_EMPTY: return "empty";
    case HEFT_ERR_FOREIGN: return "foreign";
    case HEFT_ERR_NEWER: return "newer";
    case HEFT_ERR_TRUNCATED: return "truncated";
    case HEFT_ERR_CORRUPT: return "corrupt";
    case HEFT_ERR_IO: return "io";
    case HEFT_ERR_NOMEM: return "nomem";
    }
    return "unknown";
}
