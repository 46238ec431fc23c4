/* SPDX-License-Identifier: MIT */
/* engine/export/pprof.c, read back by a decoder of its own that checks what profile.proto demands: every id is there
 * once, every index is in its table, strings are distinct; and the sums. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "export/pprof.h"
#include "opened.h"

enum { IDS_MAX = 4096, LABELS_MAX = 16, SAMPLES_MAX = 16 };

typedef struct {
    const unsigned char *at, *end;
} cursor_t;

/* A field: its number; its value, or for a message what is in it. */
typedef struct {
    uint32_t number;
    uint64_t value;
    cursor_t inside;
} field_t;

static uint64_t get_varint(cursor_t *c)
{
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
        assert_true(c->at < c->end && shift < 64);
        value |= (uint64_t)(*c->at & 0x7f) << shift;
        if (*c->at++ < 0x80)
            return value;
    }
}

static bool next(cursor_t *c, field_t *field)
{
    if (c->at == c->end)
        return false;
    uint64_t key = get_varint(c);
    *field = (field_t){.number = (uint32_t)(key >> 3), .value = get_varint(c)};
    assert_true((key & 7) == 0 || (key & 7) == 2);
    if ((key & 7) == 2) {
        assert_true(field->value <= (uint64_t)(c->end - c->at));
        field->inside = (cursor_t){c->at, c->at + field->value};
        c->at += field->value;
    }
    return true;
}

static uint64_t number_in(cursor_t message, uint32_t number)
{
    field_t field;
    while (next(&message, &field)) {
        if (field.number == number)
            return field.value;
    }
    return 0;
}

typedef struct {
    char *strings[IDS_MAX];
    uint32_t string_n, type_n, sample_n, mapping_n;
    bool functions[IDS_MAX], locations[IDS_MAX];
    uint64_t names[IDS_MAX], starts[IDS_MAX]; /* of functions */
    uint64_t sums[4];
    uint64_t types[4], default_type, time_ns, duration_ns, period, comments[4];
    uint32_t comment_n;
    struct {
        uint64_t keys[LABELS_MAX], texts[LABELS_MAX]; /* strings */
        uint64_t bytes;                               /* of the last type */
        uint32_t label_n;
    } samples[SAMPLES_MAX]; /* the first ones */
} decoded_t;

static void get_sample(decoded_t *d, cursor_t c)
{
    field_t field;
    uint32_t location_n = 0, value_n = 0, i = d->sample_n < SAMPLES_MAX - 1 ? d->sample_n : SAMPLES_MAX - 1;
    d->samples[i].label_n = 0;
    while (next(&c, &field)) {
        if (field.number == 1) {
            for (; field.inside.at < field.inside.end; location_n++) {
                uint64_t id = get_varint(&field.inside);
                assert_true(id < IDS_MAX && d->locations[id]); /* ours come before they are used */
            }
        } else if (field.number == 2) {
            for (; field.inside.at < field.inside.end; value_n++)
                d->sums[value_n] += d->samples[i].bytes = get_varint(&field.inside);
        } else {
            assert_int_equal(field.number, 3);
            uint32_t n = d->samples[i].label_n++;
            assert_true(n < LABELS_MAX);
            d->samples[i].keys[n] = number_in(field.inside, 1);
            d->samples[i].texts[n] = number_in(field.inside, 2);
            assert_true(d->samples[i].keys[n] != 0);
        }
    }
    assert_true(location_n > 0);
    assert_int_equal(value_n, d->type_n);
    d->sample_n++;
}

static char *copy_of(cursor_t text)
{
    size_t n = (size_t)(text.end - text.at);
    char *copy = calloc(n + 1, 1);
    assert_non_null(copy);
    memcpy(copy, text.at, n);
    return copy;
}

static decoded_t *decode(const heft_out_t *out)
{
    decoded_t *d = calloc(1, sizeof *d);
    assert_non_null(d);
    cursor_t c = {(unsigned char *)out->ptr, (unsigned char *)out->ptr + out->n};
    field_t f;
    while (next(&c, &f)) {
        uint64_t id = f.number == 4 || f.number == 5 ? number_in(f.inside, 1) : 0;
        switch (f.number) {
        case 1: d->types[d->type_n++] = number_in(f.inside, 1); break;
        case 2: get_sample(d, f.inside); break;
        case 3:
            d->mapping_n++;
            assert_int_equal(number_in(f.inside, 1), 1);
            assert_int_equal(number_in(f.inside, 7) + number_in(f.inside, 8) + number_in(f.inside, 9), 3);
            break;
        case 4:
            assert_true(id > 0 && id < IDS_MAX && !d->locations[id]);
            d->locations[id] = true;
            assert_int_equal(number_in(f.inside, 2), 1);
            break;
        case 5:
            assert_true(id > 0 && id < IDS_MAX && !d->functions[id]);
            d->functions[id] = true;
            d->names[id] = number_in(f.inside, 2);
            d->starts[id] = number_in(f.inside, 5);
            break;
        case 6:
            assert_true(d->string_n < IDS_MAX);
            d->strings[d->string_n++] = copy_of(f.inside);
            break;
        case 9: d->time_ns = f.value; break;
        case 10: d->duration_ns = f.value; break;
        case 11: assert_true(number_in(f.inside, 1) > 0); break;
        case 12: d->period = f.value; break;
        case 13: d->comments[d->comment_n++] = f.value; break;
        case 14: d->default_type = f.value; break;
        default: fail_msg("field %u", f.number);
        }
    }
    assert_int_equal(d->mapping_n, 1);
    assert_string_equal(d->strings[0], "");
    return d;
}

static void done(decoded_t *d)
{
    for (uint32_t i = 0; i < d->string_n; i++)
        free(d->strings[i]);
    free(d);
}

static void test_example(void **state)
{
    (void)state;
    opened_t o;
    open_example(&o);
    heft_text_t comments[] = {heft_text_of("python app.py"), heft_text_of("")};
    heft_pprof_t profile = {.alloc = &o.views[HEFT_MOMENT_TOTAL],
                            .inuse = &o.views[HEFT_MOMENT_LIVE],
                            .default_type = heft_text_of("inuse_space"),
                            .executable = heft_text_of("/usr/bin/python\xed\xb3\xbf"),
                            .comments = comments,
                            .comment_n = 2,
                            .time_ns = UINT64_C(1700000000000001000),
                            .duration_ns = 2000};
    heft_out_t out = {0};
    assert_true(heft_pprof_write(&profile, &out));
    decoded_t *d = decode(&out);
    static const char *const types[] = {"alloc_objects", "alloc_space", "inuse_objects", "inuse_space"};
    static const uint64_t sums[] = {16, 157, 15, 142};
    assert_int_equal(d->type_n, 4);
    for (int i = 0; i < 4; i++) {
        assert_string_equal(d->strings[d->types[i]], types[i]);
        assert_int_equal(d->sums[i], sums[i]);
    }
    assert_int_equal(d->sample_n, 4);
    assert_string_equal(d->strings[d->default_type], "inuse_space");
    assert_string_equal(d->strings[d->comments[0]], "python app.py");
    assert_int_equal(d->comment_n, 1); /* an empty one is none */
    assert_int_equal(d->time_ns, profile.time_ns);
    assert_int_equal(d->duration_ns, 2000);
    assert_int_equal(d->period, 1);
    uint32_t found = 0;
    for (uint32_t id = 0; id < IDS_MAX; id++) {
        if (d->functions[id]) {
            bool is_read = strcmp(d->strings[d->names[id]], "Reader.read") == 0;
            assert_int_equal(d->starts[id], is_read ? 4 : 1);
            found++;
        }
    }
    assert_int_equal(found, 2);
    bool has_executable = false;
    for (uint32_t i = 0; i < d->string_n; i++)
        has_executable |= strcmp(d->strings[i], "/usr/bin/python\\udcff") == 0;
    assert_true(has_executable);
    done(d);
    heft_out_done(&out);
    close_recording(&o);
}

/* The labels of a sample that are text, in their order. */
static const char *labels_of(const decoded_t *d, uint32_t sample)
{
    static char text[400];
    char *at = text;
    *at = '\0';
    for (uint32_t i = 0; i < d->samples[sample].label_n; i++) {
        uint64_t key = d->samples[sample].keys[i], value = d->samples[sample].texts[i];
        assert_true(key < d->string_n && value < d->string_n);
        if (value != 0)
            at += sprintf(at, "%s=%s ", d->strings[key], d->strings[value]);
    }
    return text;
}

/* Regions are labels, the innermost first; the same stack in two of them is two samples. */
static void test_regions(void **state)
{
    (void)state;
    opened_t o;
    open_regions(&o);
    heft_pprof_t profile = {.alloc = &o.views[HEFT_MOMENT_TOTAL], .default_type = heft_text_of("alloc_space")};
    heft_out_t out = {0};
    assert_true(heft_pprof_write(&profile, &out));
    decoded_t *d = decode(&out);
    static const struct {
        uint64_t bytes;
        const char *labels;
    } expected[] = {{4, "region=load thread=MainThread "}, {1, "thread=MainThread "},
                    {2, "region=load thread=MainThread "}, {8, "region=parse region=load thread=MainThread "},
                    {16, "region=load thread=Thread-1 "},  {32, "region=a;b thread=Thread-1 "}};
    assert_int_equal(d->sample_n, 6);
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(d->samples[i].bytes, expected[i].bytes);
        assert_string_equal(labels_of(d, i), expected[i].labels);
    }
    uint32_t function_n = 0;
    for (uint32_t id = 0; id < IDS_MAX; id++)
        function_n += d->functions[id];
    assert_int_equal(function_n, 2); /* <module>, <interpreter>: regions are none */
    done(d);
    heft_out_done(&out);
    close_recording(&o);
}

static void check_sums(const opened_t *o, heft_moment_t alloc, const heft_view_t *inuse)
{
    heft_pprof_t profile = {.alloc = &o->views[alloc], .inuse = inuse, .default_type = heft_text_of("alloc_space")};
    heft_out_t out = {0};
    assert_true(heft_pprof_write(&profile, &out));
    decoded_t *d = decode(&out);
    assert_int_equal(d->type_n, inuse == NULL ? 2 : 4);
    assert_int_equal(d->sums[0], o->views[alloc].total.blocks);
    assert_int_equal(d->sums[1], o->views[alloc].total.bytes);
    assert_int_equal(d->sums[2], inuse == NULL ? 0 : inuse->total.blocks);
    assert_int_equal(d->sums[3], inuse == NULL ? 0 : inuse->total.bytes);
    for (uint32_t i = 0; i < d->string_n; i++) {
        for (uint32_t j = 0; j < i; j++)
            assert_string_not_equal(d->strings[i], d->strings[j]);
    }
    done(d);
    heft_out_done(&out);
}

static void test_random(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        opened_t o;
        recording_random(&o.r, seed, 30 + (uint32_t)seed * 5);
        open_recording(&o);
        check_sums(&o, HEFT_MOMENT_TOTAL, &o.views[HEFT_MOMENT_PEAK]);
        check_sums(&o, HEFT_MOMENT_TOTAL, &o.views[HEFT_MOMENT_LIVE]);
        check_sums(&o, HEFT_MOMENT_TEMPORARY, NULL);
        close_recording(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_example), cmocka_unit_test(test_regions),
                                       cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
