/* SPDX-License-Identifier: MIT */
/* engine/ledger/sampling.c: weights are those of the probabilities, variances those of a simulation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "build_recording.h"
#include "ledger/sampling.h"

static double uniform(uint64_t *random)
{
    return ((double)random_below(random, 1u << 30) + 0.5) / (1u << 30);
}

static void test_weights(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 16, 500, 4096, 65536, 524288, 1 << 20, 10 << 20, (size_t)1 << 40};
    static const uint64_t intervals[] = {1, 100, 4096, 524288, 1u << 30};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (size_t k = 0; k < sizeof intervals / sizeof *intervals; k++) {
            heft_weighted_t w = heft_weigh(sizes[i], intervals[k]);
            double p = -expm1(-(double)sizes[i] / (double)intervals[k]);
            assert_true(fabs((double)w.bytes * p - (double)sizes[i]) <= 0.5);
            assert_true(fabs((double)w.blocks * p - HEFT_BLOCK_PARTS) <= 0.5);
        }
    }
    assert_int_equal(heft_weigh(0, 4096).bytes, 0);
    assert_int_equal(heft_weigh(0, 4096).blocks, heft_weigh(HEFT_SAMPLING_EMPTY, 4096).blocks);
}

/* Blocks of one size, each sampled or not, many times over: the estimate is right on average, and varies as said. */
static void test_variance(void **state)
{
    (void)state;
    static const struct {
        size_t size;
        uint32_t blocks;
    } cases[] = {{0, 20000}, {64, 4000}, {3000, 900}, {70000, 60}, {400000, 10}};
    const uint64_t interval = 65536;
    const uint32_t runs = 3000;
    uint64_t random = 7;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        heft_weighted_t w = heft_weigh(cases[i].size, interval);
        double p = -expm1(-(double)(cases[i].size == 0 ? HEFT_SAMPLING_EMPTY : cases[i].size) / (double)interval);
        double whole = (double)cases[i].size * cases[i].blocks, number = cases[i].blocks;
        double sum = 0, squares = 0, said = 0, block_sum = 0, block_squares = 0, said_blocks = 0;
        for (uint32_t run = 0; run < runs; run++) {
            uint64_t hits = 0;
            for (uint32_t b = 0; b < cases[i].blocks; b++)
                hits += uniform(&random) < p;
            double bytes_variance, blocks_variance, bytes = (double)hits * (double)w.bytes;
            double blocks = (double)hits * (double)w.blocks / HEFT_BLOCK_PARTS;
            heft_sampling_variance(hits * (uint64_t)w.bytes, hits * (uint64_t)w.blocks, interval, &bytes_variance,
                                   &blocks_variance);
            sum += bytes;
            squares += (bytes - whole) * (bytes - whole);
            block_sum += blocks;
            block_squares += (blocks - number) * (blocks - number);
            said += bytes_variance;
            said_blocks += blocks_variance;
        }
        double variance = squares / runs, block_variance = block_squares / runs;
        assert_true(fabs(sum / runs - whole) < 4 * sqrt(variance / runs) + 1);
        assert_true(fabs(block_sum / runs - number) < 4 * sqrt(block_variance / runs) + number / 256);
        assert_true(fabs(said / runs - variance) <= 0.15 * variance);
        assert_true(fabs(said_blocks / runs - block_variance) <= 0.15 * block_variance);
    }
    double a = 1, b = 1;
    heft_sampling_variance(0, 0, 4096, &a, &b);
    assert_true(a == 0 && b == 0);
    heft_sampling_variance(1000, 256, 0, &a, &b); /* exact */
    assert_true(a == 0 && b == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_variance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
