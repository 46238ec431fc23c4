/* SPDX-License-Identifier: MIT */
/* A recording made by hand, opened, with the views that exports are made of. */
#ifndef HEFT_TESTS_OPENED_H
#define HEFT_TESTS_OPENED_H

#include <stdlib.h>

#include "build_recording.h"
#include "ledger/view.h"

typedef struct {
    recording_t r;
    heft_reader_t reader;
    heft_stacks_t stacks;
    heft_view_t views[4]; /* by moment; temporary: of span 1 */
} opened_t;

static inline void open_recording(opened_t *o)
{
    static const uint8_t classes[64] = {3};
    size_t bytes;
    heft_err_t err = {0};
    unsigned char *data = recording_write(&o->r, HEFT_STATE_CLOSED, &bytes);
    if (heft_reader_open_bytes(&o->reader, data, bytes, &err) != HEFT_OK)
        fail_msg("%s at %llu", err.text, (unsigned long long)err.off);
    free(data);
    assert_true(heft_stacks_init(&o->stacks, &o->reader));
    assert_true(o->stacks.file_n <= sizeof classes);
    for (heft_moment_t moment = HEFT_MOMENT_PEAK; moment <= HEFT_MOMENT_TEMPORARY; moment++) {
        heft_view_options_t options = {.moment = moment, .classes = classes, .keep = 15};
        assert_true(heft_view_init(&o->views[moment], &o->stacks, &options));
    }
}

static inline void close_recording(opened_t *o)
{
    for (int i = 0; i < 4; i++)
        heft_view_done(&o->views[i]);
    heft_stacks_done(&o->stacks);
    heft_reader_close(&o->reader);
    recording_done(&o->r);
}

/* MainThread: main, from which read allocates 100 bytes at line 5 and 20 at line 6, of which all but 5 of the latter
 * are freed again; an import of json at main's line, 7 bytes.  Thread-1: read, 30 bytes at line 5. */
static inline void open_example(opened_t *o)
{
    recording_t *r = &o->r;
    recording_init(r);
    uint32_t main = recording_code(r, "app.py", "<module>", "__main__", 0);
    uint32_t read = recording_code(r, "lib/read.py", "Reader.read", "lib.read", 0);
    r->codes[main].first_line = 1;
    r->codes[read].first_line = 4;
    uint32_t one = recording_thread(r, "MainThread"), two = recording_thread(r, "Thread-1");
    r->threads[0].native_id = 4711;
    r->threads[1].native_id = 4712;
    uint32_t call = recording_frame(r, one, main, 9);
    uint32_t import = recording_node(r, HEFT_NODE_IMPORT, call, recording_string(r, "json"), 0);
    uint32_t five = recording_frame(r, call, read, 5), six = recording_frame(r, call, read, 6);
    uint32_t other = recording_frame(r, two, read, 5);
    recording_alloc(r, five, 100, 10);
    recording_alloc(r, six, 20, 2);
    recording_free(r, six, 15, 1);
    recording_alloc(r, import, 7, 1);
    recording_alloc(r, other, 30, 3);
    open_recording(o);
}

/* app.py:9 asks in all of them: in MainThread for 1 byte, in its region `load` for 2, in `parse` within that for 8; in
 * Thread-1's `load` for 16, in its own `a;b` for 32.  What MainThread's `load` asks for itself: 4. */
static inline void open_regions(opened_t *o)
{
    recording_t *r = &o->r;
    recording_init(r);
    uint32_t main = recording_code(r, "app.py", "<module>", "__main__", 0);
    uint32_t one = recording_thread(r, "MainThread"), two = recording_thread(r, "Thread-1");
    uint32_t load = recording_node(r, HEFT_NODE_REGION, one, recording_string(r, "load"), 0);
    uint32_t parse = recording_node(r, HEFT_NODE_REGION, load, recording_string(r, "parse"), 0);
    uint32_t other = recording_node(r, HEFT_NODE_REGION, two, recording_string(r, "load"), 0);
    uint32_t odd = recording_node(r, HEFT_NODE_REGION, two, recording_string(r, "a;b"), 0);
    const uint32_t bases[] = {one, load, load, parse, other, odd};
    for (uint32_t i = 0; i < 6; i++)
        recording_alloc(r, i == 2 ? load : recording_frame(r, bases[i], main, 9), 1 << i, 1);
    open_recording(o);
}

#endif
