/* SPDX-License-Identifier: MIT */
/* A table as an Arrow C stream, by the Arrow project's C data interface: no library, no copy for whoever reads it.
 *
 *     builder    heft_arrow_init, add a column, append its cells, add the next ...
 *     stream     heft_arrow_export: the builder's buffers, now of a stream of one batch
 *
 * Columns are int64 and utf8 (32-bit offsets), each with or without a validity bitmap.  The batch is handed out once;
 * it frees the buffers when its reader releases it. */
#ifndef HEFT_EXPORT_ARROW_H
#define HEFT_EXPORT_ARROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- the interface, as arrow.apache.org defines it; names are theirs ------------------------------------------------
 */

#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE
#define ARROW_FLAG_NULLABLE 2

struct ArrowSchema {
    const char *format, *name, *metadata;
    int64_t flags, n_children;
    struct ArrowSchema **children, *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
};

struct ArrowArray {
    int64_t length, null_count, offset, n_buffers, n_children;
    const void **buffers;
    struct ArrowArray **children, *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
};
#endif

#ifndef ARROW_C_STREAM_INTERFACE
#define ARROW_C_STREAM_INTERFACE
struct ArrowArrayStream {
    int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *out);
    int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *out);
    const char *(*get_last_error)(struct ArrowArrayStream *);
    void (*release)(struct ArrowArrayStream *);
    void *private_data;
};
#endif

/* ---- the builder ------------------------------------------------------------------------------------------------- */

typedef enum { HEFT_ARROW_INT64, HEFT_ARROW_UTF8 } heft_arrow_kind_t;

typedef struct {
    char *name;
    heft_arrow_kind_t kind;
    int64_t rows, nulls;
    uint8_t *valid;   /* a bit for each row; NULL while there is no null */
    int64_t *numbers; /* int64 */
    int32_t *ends;    /* utf8: rows + 1 offsets into text */
    char *text;
    size_t row_room, text_bytes, text_room, valid_room;
} heft_arrow_column_t;

typedef struct {
    heft_arrow_column_t *columns;
    size_t column_n;
} heft_arrow_t;

void heft_arrow_init(heft_arrow_t *table);
void heft_arrow_done(heft_arrow_t *table);

/* Begin a column; false: no memory. */
bool heft_arrow_add_column(heft_arrow_t *table, const char *name, heft_arrow_kind_t kind);

/* Append to the last column.  False: no memory, or a column of text over 2 GiB. */
bool heft_arrow_append_int64(heft_arrow_t *table, int64_t value);
bool heft_arrow_append_utf8(heft_arrow_t *table, const char *text, size_t bytes);
bool heft_arrow_append_null(heft_arrow_t *table);

/* Move all of it into a stream; the table is empty afterwards.  Columns must be of one length.  False: no memory, and
 * the table is as before. */
bool heft_arrow_export(heft_arrow_t *table, struct ArrowArrayStream *stream);

#endif
