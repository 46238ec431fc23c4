/* SPDX-License-Identifier: MIT */
/* Weights and variances of samples, see sampling.h. */
#include "ledger/sampling.h"

#include <math.h>

heft_weighted_t heft_weigh(size_t size, uint64_t interval)
{
    double n = size == 0 ? HEFT_SAMPLING_EMPTY : (double)size;
    double weight = -1 / expm1(-n / (double)interval);
    return (heft_weighted_t){size == 0 ? 0 : llround(n * weight), llround(weight * HEFT_BLOCK_PARTS)};
}

void heft_sampling_variance(uint64_t bytes, uint64_t parts, uint64_t interval, double *of_bytes, double *of_blocks)
{
    *of_bytes = *of_blocks = 0;
    if (parts == 0 || interval == 0)
        return;
    double blocks = (double)parts / HEFT_BLOCK_PARTS, size = (double)bytes / blocks;
    double weight = -1 / expm1(-(size < 1 ? HEFT_SAMPLING_EMPTY : size) / (double)interval);
    *of_blocks = blocks * (weight - 1); /* k w (w - 1) with k = blocks / w */
    *of_bytes = *of_blocks * size * size;
}
