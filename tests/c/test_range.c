/* SPDX-License-Identifier: MIT */
/* engine/base/range.c: blocks do not overlap, keep what is written to them, and leave no page behind; to the kernel the
 * range is always there, in few pieces. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/range.h"
#include "build_recording.h"

#define MIB ((size_t)1 << 20)
#define BLOCKS 400u

static size_t resident_pages(const heft_range_t *range)
{
    size_t n = range->reserved / 4096, resident = 0;
    unsigned char *pages = malloc(n);
    assert_non_null(pages);
    assert_int_equal(mincore(range->base, range->reserved, pages), 0);
    for (size_t i = 0; i < n; i++)
        resident += pages[i] & 1;
    free(pages);
    return resident;
}

/* Pieces of the range that the kernel keeps apart. */
static size_t mappings(const heft_range_t *range)
{
    uintptr_t begin, end, base = (uintptr_t)range->base;
    size_t n = 0;
    char line[4096];
    FILE *maps = fopen("/proc/self/maps", "re");
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps) != NULL) {
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &begin, &end) == 2)
            n += end > base && begin < base + range->reserved;
    }
    fclose(maps);
    return n;
}

typedef struct {
    unsigned char *block;
    size_t size;
    unsigned char fill;
} model_t;

/* The first and the last bytes and one in each page: enough to see another block's writing. */
static void fill(const model_t *m)
{
    for (size_t i = 0; i < m->size; i += i < 64 || i + 64 > m->size ? 1 : 61)
        m->block[i] = (unsigned char)(m->fill + i);
}

static bool is_filled(const model_t *m, size_t size)
{
    for (size_t i = 0; i < size; i += i < 64 || i + 64 > m->size ? 1 : 61) {
        if (m->block[i] != (unsigned char)(m->fill + i))
            return false;
    }
    return true;
}

static size_t random_size(uint64_t *random)
{
    switch (random_below(random, 6)) {
    case 0: return random_below(random, 40);
    case 1: return random_below(random, 600);
    case 2: return 16000 + random_below(random, 1000);
    case 3: return random_below(random, 300000);
    case 4: return 65536 * (1 + random_below(random, 4)) - 16 + random_below(random, 3) - 1;
    default: return random_below(random, 4 * (uint32_t)MIB);
    }
}

static void test_random_blocks(void **state)
{
    (void)state;
    static model_t models[BLOCKS];
    for (uint64_t seed = 1; seed <= 6; seed++) {
        heft_range_t range;
        uint64_t random = seed;
        size_t reserved = seed % 2 ? 4096 * MIB : 200 * MIB; /* the latter fills up */
        uint32_t refused = 0;
        assert_true(heft_range_init(&range, reserved));
        memset(models, 0, sizeof models);
        for (uint32_t step = 0; step < 4000; step++) {
            model_t *m = &models[random_below(&random, BLOCKS)];
            size_t size = random_size(&random);
            if (m->block == NULL) {
                bool zeroed = random_below(&random, 2);
                m->block = heft_range_alloc(&range, size, zeroed);
                refused += m->block == NULL;
                if (m->block == NULL)
                    continue;
                assert_int_equal((uintptr_t)m->block % 16, 0);
                assert_true(heft_range_has(&range, m->block));
                for (size_t i = 0; zeroed && i < size; i++)
                    assert_int_equal(m->block[i], 0);
                heft_range_head(m->block)->number = step;
                *m = (model_t){m->block, size, (unsigned char)step};
                fill(m);
            } else if (random_below(&random, 3) == 0) {
                assert_true(is_filled(m, m->size));
                heft_range_free(&range, m->block);
                m->block = NULL;
            } else {
                uint32_t number = heft_range_head(m->block)->number;
                if (random_below(&random, 2))
                    size = m->size + m->size / 8;
                unsigned char *block = heft_range_resize(&range, m->block, size);
                refused += block == NULL;
                if (block != NULL) {
                    m->block = block;
                    assert_true(is_filled(m, size < m->size ? size : m->size));
                    m->size = size;
                    fill(m);
                }
                assert_int_equal(heft_range_head(m->block)->number, number);
                assert_int_equal(heft_range_head(m->block)->size, m->size);
            }
            if (step % 64 == 0)
                assert_true(heft_range_check(&range));
        }
        assert_true(seed % 2 ? refused == 0 : refused > 0);
        for (uint32_t i = 0; i < BLOCKS; i++) {
            if (models[i].block != NULL) {
                assert_true(is_filled(&models[i], models[i].size));
                heft_range_free(&range, models[i].block);
            }
        }
        assert_true(heft_range_check(&range));
        assert_int_equal(range.block_n, 0);
        assert_int_equal(range.top, 0);
        assert_int_equal(resident_pages(&range), 0);
        heft_range_done(&range);
    }
}

/* A list that grows by an eighth each time is moved seldom, and what it has not used needs no memory. */
static void test_growing(void **state)
{
    (void)state;
    heft_range_t range;
    assert_true(heft_range_init(&range, 16384 * MIB));
    void *between = NULL, *block = heft_range_alloc(&range, 100000, false);
    uint32_t moves = 0;
    for (size_t size = 100000; size < 2000 * MIB; size += size / 8) {
        void *grown = heft_range_resize(&range, block, size);
        assert_non_null(grown);
        moves += grown != block;
        block = grown;
        if (between == NULL) /* stands in the way */
            between = heft_range_alloc(&range, 100000, false);
    }
    assert_in_range(moves, 1, 15);
    assert_in_range(resident_pages(&range), 2, 64); /* never touched: the pages are not there */
    heft_range_free(&range, block);
    heft_range_free(&range, between);
    heft_range_done(&range);
}

static void test_sizes_that_cannot_be(void **state)
{
    (void)state;
    heft_range_t range;
    assert_true(heft_range_init(&range, 64 * MIB));
    void *block = heft_range_alloc(&range, 10, false);
    assert_null(heft_range_alloc(&range, SIZE_MAX, false));
    assert_null(heft_range_alloc(&range, SIZE_MAX - 20, true));
    assert_null(heft_range_alloc(&range, 65 * MIB, true));
    assert_null(heft_range_resize(&range, block, SIZE_MAX));
    assert_null(heft_range_resize(&range, block, 65 * MIB));
    assert_true(heft_range_check(&range));
    heft_range_free(&range, block);
    heft_range_done(&range);
    assert_false(heft_range_init(&range, SIZE_MAX / 2));
    assert_null(heft_range_alloc(&range, 1, false));
}

typedef struct {
    const heft_range_t *range;
    bool stop;
    uint64_t tried;
    void *got;
} intruder_t;

/* As the program's own threads do: map something.  They take what is free; this one asks where the blocks are. */
static void *intrude(void *argument)
{
    intruder_t *my = argument;
    while (!__atomic_load_n(&my->stop, __ATOMIC_RELAXED) && my->got == NULL) {
        for (size_t at = 0; at < 48 * MIB; at += 65536) {
            char *wish = my->range->base + at;
            void *p = mmap(wish, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
            if (p == wish)
                my->got = p;
            else if (p != MAP_FAILED) /* a kernel before 4.17 takes it for a wish */
                munmap(p, 4096);
            my->tried++;
        }
    }
    return NULL;
}

static void test_no_address_is_ever_free(void **state)
{
    (void)state;
    heft_range_t range;
    pthread_t thread;
    assert_true(heft_range_init(&range, 4096 * MIB));
    intruder_t intruder = {.range = &range};
    assert_int_equal(pthread_create(&thread, NULL, intrude, &intruder), 0);
    while (__atomic_load_n(&intruder.tried, __ATOMIC_RELAXED) < 300000 && intruder.got == NULL) {
        unsigned char *blocks[4];
        for (size_t i = 0; i < 4; i++)
            blocks[i] = heft_range_alloc(&range, 20000, false);
        for (size_t size = 40000; size < 10 * MIB; size *= 2) {
            for (size_t i = 0; i < 4; i++) {
                blocks[i] = heft_range_resize(&range, blocks[i], size);
                assert_non_null(blocks[i]);
                memset(blocks[i], 1, 100);
            }
        }
        for (size_t i = 0; i < 4; i++) {
            blocks[i] = heft_range_resize(&range, blocks[i], 2 * MIB);
            heft_range_free(&range, blocks[i]);
        }
    }
    __atomic_store_n(&intruder.stop, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    assert_null(intruder.got);
    assert_true(intruder.tried > 0);
    assert_true(heft_range_check(&range));
    heft_range_done(&range);
}

/* A process may have 65,530 mappings, of which the program needs some. */
static void test_few_mappings(void **state)
{
    (void)state;
    static void *blocks[4000];
    const size_t sizes[] = {20000, 70000, 5 * MIB};
    for (size_t k = 0; k < 3; k++) {
        heft_range_t range;
        assert_true(heft_range_init(&range, 65536 * MIB));
        for (size_t i = 0; i < 4000; i++) {
            blocks[i] = heft_range_alloc(&range, sizes[k], false);
            assert_non_null(blocks[i]);
            memset(blocks[i], 1, 5000);
        }
        assert_in_range(mappings(&range), 1, 3);
        for (size_t i = 0; i < 4000; i += 2)
            heft_range_free(&range, blocks[i]);
        assert_in_range(mappings(&range), 1, 3200);
        assert_true(heft_range_check(&range));
        assert_in_range(resident_pages(&range), 2 * 2000, 2 * 2000 + 100);
        for (size_t i = 1; i < 4000; i += 2) { /* each moves, and is given room */
            blocks[i] = heft_range_resize(&range, blocks[i], sizes[k] + 5 * MIB);
            assert_non_null(blocks[i]);
        }
        assert_in_range(mappings(&range), 1, 3200);
        assert_true(heft_range_check(&range));
        for (size_t i = 1; i < 4000; i += 2)
            heft_range_free(&range, blocks[i]);
        assert_int_equal(resident_pages(&range), 0);
        assert_in_range(mappings(&range), 1, 1100);
        assert_int_equal(range.hole_n, 0);
        heft_range_done(&range);
    }
}

/* Large free spans and unused room are not there for the kernel: it would count them, and mlockall() fill them. */
static void test_what_is_not_used_is_closed(void **state)
{
    (void)state;
    heft_range_t range;
    assert_true(heft_range_init(&range, 4096 * MIB));
    void *first = heft_range_alloc(&range, 100 * MIB, false), *second = heft_range_alloc(&range, 100 * MIB, false);
    first = heft_range_resize(&range, first, 110 * MIB); /* moved: a hole before `second`, room behind */
    assert_ptr_not_equal(range.base, (char *)first - 16);
    assert_int_equal(range.hole_n, 2);
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    assert_true(zero >= 0);
    char *inside = range.base + 50 * MIB, *room = (char *)first + 150 * MIB;
    assert_int_equal(read(zero, inside, 1), -1);
    assert_int_equal(read(zero, room, 1), -1);
    void *third = heft_range_alloc(&range, 60 * MIB, false); /* half of the hole */
    assert_int_equal(read(zero, inside, 1), 1);
    assert_int_equal(read(zero, range.base + 80 * MIB, 1), -1);
    assert_ptr_equal(heft_range_resize(&range, first, 160 * MIB), first);
    assert_int_equal(read(zero, room, 1), 1);
    assert_true(heft_range_check(&range));
    heft_range_free(&range, first);
    assert_int_equal(read(zero, room, 1), -1);
    heft_range_free(&range, second);
    heft_range_free(&range, third);
    assert_int_equal(read(zero, range.base, 1), -1);
    close(zero);
    heft_range_done(&range);
}

/* The kernel refuses to drop pages that the program has locked in memory. */
static void test_locked_pages(void **state)
{
    (void)state;
    heft_range_t range;
    assert_true(heft_range_init(&range, 64 * MIB));
    unsigned char *block = heft_range_alloc(&range, 100000, false), *after = heft_range_alloc(&range, 1, false);
    memset(block, 1, 100000);
    if (syscall(SYS_mlock, block - 16, 100016) != 0) {
        assert_true(errno == ENOMEM || errno == EPERM); /* RLIMIT_MEMLOCK */
        skip();
    }
    heft_range_free(&range, block);
    unsigned char *again = heft_range_alloc(&range, 100000, true);
    assert_ptr_equal(again, block);
    for (size_t i = 0; i < 100000; i++)
        assert_int_equal(again[i], 0);
    heft_range_free(&range, again);
    heft_range_free(&range, after);
    heft_range_done(&range);
}

/* What a forked child does that has samples of its own: those of its parent stay as they are. */
static void test_the_rest_of_a_range(void **state)
{
    (void)state;
    heft_range_t range;
    assert_true(heft_range_init(&range, 256 * MIB));
    model_t old[4] = {{.size = 100, .fill = 1}, {.size = 100000, .fill = 2}, {.size = 3 * MIB, .fill = 3}};
    for (size_t i = 0; i < 3; i++) {
        old[i].block = heft_range_alloc(&range, old[i].size, false);
        fill(&old[i]);
    }
    char *base = range.base, *end = range.base + range.reserved, *dirty = base + 65536 * (size_t)range.top;
    assert_int_equal(mprotect(dirty, 65536, PROT_READ | PROT_WRITE), 0); /* by a thread that is not in the child */
    memset(dirty, 1, 65536);
    assert_true(heft_range_rest(&range));
    assert_ptr_equal(range.base + range.reserved, end);
    for (size_t i = 0; i < 3; i++)
        assert_false(heft_range_has(&range, old[i].block));
    model_t new[3] = {{.size = 100, .fill = 4}, {.size = 100000, .fill = 5}, {.size = 200 * MIB, .fill = 6}};
    for (size_t i = 0; i < 3; i++) {
        new[i].block = heft_range_alloc(&range, new[i].size, true);
        assert_true(heft_range_has(&range, new[i].block));
        for (size_t at = 0; at < 60000 && at < new[i].size; at++)
            assert_int_equal(new[i].block[at], 0);
        fill(&new[i]);
    }
    assert_true(heft_range_check(&range));
    for (size_t i = 0; i < 3; i++) {
        assert_true(is_filled(&old[i], old[i].size));
        heft_range_free(&range, new[i].block);
    }
    assert_int_equal(resident_pages(&range), 0);
    void *all = heft_range_alloc(&range, range.reserved - 16, false);
    assert_non_null(all);
    assert_false(heft_range_rest(&range)); /* nothing is left */
    assert_true(heft_range_check(&range));
    heft_range_free(&range, all);
    munmap(base, (size_t)(range.base - base));
    heft_range_done(&range);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_blocks),        cmocka_unit_test(test_growing),
        cmocka_unit_test(test_sizes_that_cannot_be), cmocka_unit_test(test_no_address_is_ever_free),
        cmocka_unit_test(test_few_mappings),         cmocka_unit_test(test_what_is_not_used_is_closed),
        cmocka_unit_test(test_locked_pages),         cmocka_unit_test(test_the_rest_of_a_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
