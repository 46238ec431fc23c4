/* SPDX-License-Identifier: MIT */
/* engine/base/region.c: memory that is zeroed, costs nothing until it is touched, keeps what it holds when it grows,
 * and is as it was when the kernel refuses. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/region.h"
#include "build_recording.h"
#include "writer.h"

#define PAGE 4096u
#define MIB ((size_t)1 << 20)

static bool is_zero(const char *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (p[i] != 0)
            return false;
    }
    return true;
}

/* Pages of the region that have memory. */
static size_t resident_pages(const heft_region_t *region)
{
    size_t n = region->reserved / PAGE, resident = 0;
    unsigned char *pages = malloc(n);
    assert_non_null(pages);
    assert_int_equal(mincore(region->base, region->reserved, pages), 0);
    for (size_t i = 0; i < n; i++)
        resident += pages[i] & 1;
    free(pages);
    return resident;
}

static void test_pieces_are_apart_and_zeroed(void **state)
{
    (void)state;
    heft_region_t region;
    uint64_t random = 1;
    assert_true(heft_region_init(&region, MIB));
    assert_int_equal((uintptr_t)region.base % PAGE, 0);
    assert_int_equal(region.reserved, MIB);
    char *end = region.base;
    size_t given = 0;
    for (;;) {
        size_t bytes = 1 + random_below(&random, 3000), rounded = (bytes + 15) / 16 * 16;
        char *p = heft_region_take(&region, bytes);
        if (p == NULL) {
            assert_true(given + rounded > MIB);
            break;
        }
        assert_ptr_equal(p, end); /* from the bottom up, without gaps */
        assert_true(is_zero(p, bytes));
        memset(p, 0xA5, rounded);
        end = p + rounded;
        given += rounded;
        assert_int_equal(region.used, given);
    }
    assert_int_equal(region.used, given); /* a refusal takes nothing */
    if (given < MIB)
        assert_non_null(heft_region_take(&region, MIB - given)); /* to the last byte */
    assert_null(heft_region_take(&region, 1));
    assert_int_equal(region.used, MIB);
    heft_region_done(&region);
    assert_null(region.base);
    heft_region_done(&region); /* nothing to do */
}

static void test_no_size_is_too_large_to_be_refused(void **state)
{
    (void)state;
    static const size_t sizes[] = {MIB + 1, SIZE_MAX / 2, SIZE_MAX - 16, SIZE_MAX - 15, SIZE_MAX - 14, SIZE_MAX};
    heft_region_t region;
    assert_true(heft_region_init(&region, MIB));
    assert_non_null(heft_region_take(&region, 32));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_null(heft_region_take(&region, sizes[i]));
        assert_int_equal(region.used, 32);
    }
    heft_region_done(&region);
}

static void test_untouched_pages_cost_nothing(void **state)
{
    (void)state;
    heft_region_t region;
    assert_true(heft_region_init(&region, 64 * MIB));
    assert_int_equal(resident_pages(&region), 0);
    for (size_t i = 0; i < 5; i++) /* also where huge pages are the rule: they would cost 2 MiB each */
        region.base[i * 8 * MIB + 5 * PAGE] = 1;
    assert_int_equal(resident_pages(&region), 5);
    assert_true(heft_region_double(&region));
    assert_int_equal(resident_pages(&region), 5);
    for (size_t i = 0; i < 3; i++)
        region.base[(64 + i * 8) * MIB + 7 * PAGE] = 1;
    assert_int_equal(resident_pages(&region), 8);
    heft_region_done(&region);
}

static void test_doubling_keeps_everything(void **state)
{
    (void)state;
    heft_region_t region;
    uint32_t n = 0, moves = 0;
    assert_true(heft_region_init(&region, 4 * (size_t)PAGE));
    for (int round = 0; round < 8; round++) {
        uint32_t *p;
        while ((p = heft_region_take(&region, 64)) != NULL) {
            assert_true(is_zero((const char *)p, 64));
            *p = ++n;
        }
        assert_int_equal((size_t)n * 64, region.reserved);
        /* every other time something stands in the way, and the region has to move */
        void *obstacle = MAP_FAILED;
        if (round % 2 == 0)
            obstacle = mmap(region.base + region.reserved, PAGE, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        const char *before = region.base;
        size_t reserved = region.reserved;
        assert_true(heft_region_double(&region));
        assert_int_equal(region.reserved, 2 * reserved);
        assert_int_equal(region.used, reserved);
        if (round % 2 == 0)
            assert_ptr_not_equal(region.base, before);
        moves += region.base != before;
        if (obstacle != MAP_FAILED)
            munmap(obstacle, PAGE);
        for (uint32_t i = 0; i < n; i++)
            assert_int_equal(*(uint32_t *)(void *)(region.base + (size_t)i * 64), i + 1);
        assert_true(is_zero(region.base + reserved, reserved));
    }
    assert_true(moves >= 4);
    heft_region_done(&region);
}

static void test_what_the_kernel_refuses_changes_nothing(void **state)
{
    (void)state;
    heft_region_t region = {.base = (char *)&region, .used = 5}; /* whatever was there */
    assert_false(heft_region_init(&region, (size_t)1 << 60));
    assert_null(region.base);
    assert_int_equal(region.reserved, 0);
    assert_int_equal(region.used, 0);
    heft_region_done(&region);

    assert_true(heft_region_init(&region, 8 * MIB));
    char *p = heft_region_take(&region, 100), *base = region.base;
    memset(p, 0x5A, 100);
    limit_memory(4 * MIB);
    bool doubled = heft_region_double(&region);
    heft_region_t other;
    bool made = heft_region_init(&other, 8 * MIB);
    unlimit_memory();
    assert_false(doubled);
    assert_false(made);
    assert_null(other.base);
    assert_ptr_equal(region.base, base);
    assert_int_equal(region.reserved, 8 * MIB);
    assert_int_equal(region.used, 112);
    for (int i = 0; i < 100; i++)
        assert_int_equal(p[i], 0x5A);
    assert_true(heft_region_double(&region)); /* now it may */
    assert_int_equal(region.base[99], 0x5A);
    heft_region_done(&region);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_are_apart_and_zeroed),
        cmocka_unit_test(test_no_size_is_too_large_to_be_refused),
        cmocka_unit_test(test_untouched_pages_cost_nothing),
        cmocka_unit_test(test_doubling_keeps_everything),
        cmocka_unit_test(test_what_the_kernel_refuses_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
