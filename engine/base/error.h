/* SPDX-License-Identifier: MIT */
/* How the core says that something failed: a status to branch on, and a struct for those who have to explain it.
 * Both are plain values; nothing is allocated, nothing has to be freed, nothing is printed here. */
#ifndef HEFT_BASE_ERROR_H
#define HEFT_BASE_ERROR_H

#include <stdint.h>

typedef enum {
    HEFT_OK = 0,
    HEFT_ERR_MISSING = -1,   /* no such file */
    HEFT_ERR_EMPTY = -2,     /* a file of no bytes */
    HEFT_ERR_FOREIGN = -3,   /* not one of our files */
    HEFT_ERR_NEWER = -4,     /* ours, of a later format */
    HEFT_ERR_TRUNCATED = -5, /* shorter than it says */
    HEFT_ERR_CORRUPT = -6,   /* contradicts itself */
    HEFT_ERR_IO = -7,        /* the system would not read it: see sys_errno */
    HEFT_ERR_NOMEM = -8,
} heft_status_t;

#define HEFT_ERR_NO_OFF UINT64_MAX

typedef struct {
    heft_status_t code;
    const char *text; /* static; one line without path, offset and full stop */
    uint64_t off;     /* where in the file, or HEFT_ERR_NO_OFF */
    int sys_errno;    /* what the system said, or 0 */
} heft_err_t;

/* Fill in *err (may be NULL) and return `code`, so that a check is one line: `return heft_err_set(...)`. */
heft_status_t heft_err_set(heft_err_t *err, heft_status_t code, const char *text, uint64_t off);

/* The same after a failed system call. */
heft_status_t heft_err_set_errno(heft_err_t *err, heft_status_t code, const char *text, int sys_errno);

/* "missing", "empty", ...: the word that the command line and its JSON use.  Static. */
const char *heft_status_name(heft_status_t code);

#endif
