/* SPDX-License-Identifier: MIT */
/* The Arrow C stream, see arrow.h.
 *
 *     stream ──owns──> table ──moved by get_next──> batch (a struct array) ──owns──> one array for each column
 *
 * By the interface's rules a reader may move any structure by a plain copy, and may take children out of a batch and
 * release them on their own: so each array owns its buffers, and a parent releases only children that still have a
 * `release`. */
#define _GNU_SOURCE
#include "export/arrow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"

/* ---- the builder ------------------------------------------------------------------------------------------------- */

/* Room for `need` elements of `size` bytes, at least doubled. */
static bool grow(void *buffer, size_t *room, size_t need, size_t size)
{
    void **p = buffer;
    if (need <= *room)
        return true;
    size_t wanted = *room < 64 ? 64 : *room * 2;
    if (wanted < need)
        wanted = need;
    void *moved = wanted > SIZE_MAX / 2 / size ? NULL : realloc(*p, wanted * size);
    if (moved == NULL)
        return false;
    *p = moved;
    *room = wanted;
    return true;
}

void heft_arrow_init(heft_arrow_t *table)
{
    *table = (heft_arrow_t){0};
}

static void free_column(heft_arrow_column_t *column)
{
    free(column->name);
    free(column->valid);
    free(column->numbers);
    free(column->ends);
    free(column->text);
}

void heft_arrow_done(heft_arrow_t *table)
{
    for (size_t i = 0; i < table->column_n; i++)
        free_column(&table->columns[i]);
    free(table->columns);
    *table = (heft_arrow_t){0};
}

bool heft_arrow_add_column(heft_arrow_t *table, const char *name, heft_arrow_kind_t kind)
{
    heft_arrow_column_t *moved = realloc(table->columns, (table->column_n + 1) * sizeof *moved);
    if (moved == NULL)
        return false;
    table->columns = moved;
    heft_arrow_column_t *column = &moved[table->column_n];
    *column = (heft_arrow_column_t){.kind = kind, .name = strdup(name)};
    if (kind == HEFT_ARROW_UTF8)
        column->ends = calloc(1, sizeof *column->ends); /* the first offset is there without rows, too */
    if (column->name == NULL || (kind == HEFT_ARROW_UTF8 && column->ends == NULL)) {
        free_column(column);
        return false;
    }
    column->row_room = kind == HEFT_ARROW_UTF8 ? 1 : 0;
    table->column_n++;
    return true;
}

static heft_arrow_column_t *last_column(heft_arrow_t *table)
{
    HEFT_ASSERT(table->column_n > 0);
    return &table->columns[table->column_n - 1];
}

/* Note whether the row that is being appended has a value.  The bitmap is made at the first that has none. */
static bool note_valid(heft_arrow_column_t *column, bool is_valid)
{
    if (column->valid == NULL && is_valid)
        return true;
    bool is_new = column->valid == NULL;
    size_t row = (size_t)column->rows, before = column->valid_room;
    if (!grow(&column->valid, &column->valid_room, row / 8 + 1, 1))
        return false;
    memset(column->valid + before, 0, column->valid_room - before);
    for (size_t i = 0; is_new && i < row; i++)
        column->valid[i / 8] |= (uint8_t)(1u << i % 8);
    if (is_valid)
        column->valid[row / 8] |= (uint8_t)(1u << row % 8);
    else
        column->nulls++;
    return true;
}

static bool append_number(heft_arrow_column_t *column, int64_t value, bool is_valid)
{
    if (!grow(&column->numbers, &column->row_room, (size_t)column->rows + 1, sizeof *column->numbers) ||
        !note_valid(column, is_valid))
        return false;
    column->numbers[column->rows++] = value;
    return true;
}

static bool append_text(heft_arrow_column_t *column, const char *text, size_t bytes, bool is_valid)
{
    if (bytes > INT32_MAX - column->text_bytes ||
        !grow(&column->text, &column->text_room, column->text_bytes + bytes, 1) ||
        !grow(&column->ends, &column->row_room, (size_t)column->rows + 2, sizeof *column->ends) ||
        !note_valid(column, is_valid))
        return false;
    if (bytes > 0)
        memcpy(column->text + column->text_bytes, text, bytes);
    column->text_bytes += bytes;
    column->ends[++column->rows] = (int32_t)column->text_bytes;
    return true;
}

bool heft_arrow_append_int64(heft_arrow_t *table, int64_t value)
{
    heft_arrow_column_t *column = last_column(table);
    HEFT_ASSERT(column->kind == HEFT_ARROW_INT64);
    return append_number(column, value, true);
}

bool heft_arrow_append_utf8(heft_arrow_t *table, const char *text, size_t bytes)
{
    heft_arrow_column_t *column = last_column(table);
    HEFT_ASSERT(column->kind == HEFT_ARROW_UTF8);
    return append_text(column, text, bytes, true);
}

bool heft_arrow_append_null(heft_arrow_t *table)
{
    heft_arrow_column_t *column = last_column(table);
    return column->kind == HEFT_ARROW_UTF8 ? append_text(column, "", 0, false) : append_number(column, 0, false);
}

/* ---- schemas ----------------------------------------------------------------------------------------------------- */

static void release_schema(struct ArrowSchema *schema)
{
    for (int64_t i = 0; i < schema->n_children; i++) {
        struct ArrowSchema *child = schema->children[i];
        if (child != NULL && child->release != NULL)
            child->release(child);
        free(child);
    }
    free(schema->children);
    free((char *)(uintptr_t)schema->name);
    schema->release = NULL;
}

static bool describe(const heft_arrow_t *table, struct ArrowSchema *out)
{
    *out = (struct ArrowSchema){.format = "+s", .name = strdup(""), .release = release_schema};
    out->children = calloc(table->column_n + 1, sizeof(struct ArrowSchema *)); /* never of no size */
    bool ok = out->name != NULL && out->children != NULL;
    for (size_t i = 0; ok && i < table->column_n; i++) {
        const heft_arrow_column_t *column = &table->columns[i];
        struct ArrowSchema *child = out->children[i] = calloc(1, sizeof *child);
        out->n_children++;
        ok = child != NULL;
        if (ok) {
            child->format = column->kind == HEFT_ARROW_UTF8 ? "u" : "l";
            child->name = strdup(column->name);
            child->flags = ARROW_FLAG_NULLABLE;
            child->release = release_schema;
            ok = child->name != NULL;
        }
    }
    if (!ok)
        release_schema(out);
    return ok;
}

/* ---- arrays ------------------------------------------------------------------------------------------------------ */

static void release_column(struct ArrowArray *array)
{
    for (int64_t i = 0; i < array->n_buffers; i++)
        free((void *)(uintptr_t)array->buffers[i]);
    free(array->buffers);
    array->release = NULL;
}

static void release_batch(struct ArrowArray *array)
{
    for (int64_t i = 0; i < array->n_children; i++) {
        struct ArrowArray *child = array->children[i];
        if (child != NULL && child->release != NULL)
            child->release(child);
        free(child);
    }
    free(array->children);
    free(array->buffers);
    array->release = NULL;
}

/* Readers may want each buffer to be there, also of no rows. */
static bool fill_up(heft_arrow_column_t *column)
{
    if (column->kind == HEFT_ARROW_INT64 && column->numbers == NULL)
        return (column->numbers = calloc(1, sizeof *column->numbers)) != NULL;
    if (column->kind == HEFT_ARROW_UTF8 && column->text == NULL)
        return (column->text = calloc(1, 1)) != NULL;
    return true;
}

/* Move the table's buffers into a batch; the names stay.  False: no memory, nothing has moved. */
static bool hand_out(heft_arrow_t *table, struct ArrowArray *out)
{
    int64_t rows = table->column_n > 0 ? table->columns[0].rows : 0;
    *out = (struct ArrowArray){.length = rows, .n_buffers = 1, .release = release_batch};
    out->buffers = calloc(1, sizeof(void *)); /* one: the struct's own validity, which it does not need */
    out->children = calloc(table->column_n + 1, sizeof(struct ArrowArray *));
    bool ok = out->buffers != NULL && out->children != NULL;
    for (size_t i = 0; ok && i < table->column_n; i++) {
        struct ArrowArray *child = out->children[i] = calloc(1, sizeof *child);
        out->n_children++;
        if (child != NULL)
            child->buffers = calloc(3, sizeof(void *));
        ok = child != NULL && child->buffers != NULL && fill_up(&table->columns[i]);
        if (ok)
            child->release = release_column;
        else if (child != NULL)
            free(child->buffers);
    }
    if (!ok) {
        release_batch(out);
        return false;
    }
    for (size_t i = 0; i < table->column_n; i++) {
        heft_arrow_column_t *column = &table->columns[i];
        struct ArrowArray *child = out->children[i];
        child->length = rows;
        child->null_count = column->nulls;
        child->buffers[0] = column->valid;
        child->buffers[1] = column->kind == HEFT_ARROW_UTF8 ? (void *)column->ends : (void *)column->numbers;
        child->buffers[2] = column->text;
        child->n_buffers = column->kind == HEFT_ARROW_UTF8 ? 3 : 2;
        column->valid = NULL;
        column->numbers = NULL;
        column->ends = NULL;
        column->text = NULL;
    }
    return true;
}

/* ---- the stream -------------------------------------------------------------------------------------------------- */

typedef struct {
    heft_arrow_t table;
    bool is_over;
    const char *error;
} stream_t;

static int get_schema(struct ArrowArrayStream *self, struct ArrowSchema *out)
{
    stream_t *stream = self->private_data;
    stream->error = describe(&stream->table, out) ? NULL : "out of memory";
    return stream->error == NULL ? 0 : ENOMEM;
}

static int get_next(struct ArrowArrayStream *self, struct ArrowArray *out)
{
    stream_t *stream = self->private_data;
    stream->error = NULL;
    if (stream->is_over) {
        *out = (struct ArrowArray){0}; /* a released array is the end */
        return 0;
    }
    if (!hand_out(&stream->table, out)) {
        *out = (struct ArrowArray){0};
        stream->error = "out of memory";
        return ENOMEM;
    }
    stream->is_over = true;
    return 0;
}

static const char *get_last_error(struct ArrowArrayStream *self)
{
    return ((stream_t *)self->private_data)->error;
}

static void release_stream(struct ArrowArrayStream *self)
{
    stream_t *stream = self->private_data;
    heft_arrow_done(&stream->table);
    free(stream);
    self->release = NULL;
}

bool heft_arrow_export(heft_arrow_t *table, struct ArrowArrayStream *out)
{
    for (size_t i = 0; i < table->column_n; i++)
        HEFT_ASSERT(table->columns[i].rows == table->columns[0].rows);
    stream_t *stream = calloc(1, sizeof *stream);
    if (stream == NULL)
        return false;
    stream->table = *table;
    *table = (heft_arrow_t){0};
    *out = (struct ArrowArrayStream){
        .get_schema = get_schema,
        .get_next = get_next,
        .get_last_error = get_last_error,
        .release = release_stream,
        .private_data = stream,
    };
    return true;
}
