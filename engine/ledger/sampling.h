/* SPDX-License-Identifier: MIT */
/* The arithmetic of sampled recordings.
 *
 * A block of n bytes is sampled with p = 1 - exp(-n / interval) and stands for w = 1 / p blocks: n * w bytes.  Counters
 * hold bytes as whole numbers, blocks in 1/HEFT_BLOCK_PARTS (w is not whole, and would be far off for large blocks). */
#ifndef HEFT_LEDGER_SAMPLING_H
#define HEFT_LEDGER_SAMPLING_H

#include <stddef.h>
#include <stdint.h>

#define HEFT_BLOCK_PARTS 256

/* A block of no bytes is sampled as if it had as many as the smallest block takes: it would never be met otherwise. */
#define HEFT_SAMPLING_EMPTY 16

typedef struct {
    int64_t bytes;
    int64_t blocks; /* in 1/HEFT_BLOCK_PARTS */
} heft_weighted_t;

/* What a sampled block of `size` bytes stands for.  The same for the same size, so that a free takes off exactly what
 * the request has added. */
heft_weighted_t heft_weigh(size_t size, uint64_t interval);

/* Variances of the estimates `bytes` and `parts` (blocks in 1/HEFT_BLOCK_PARTS) of one node, whose blocks are taken to
 * be of one size: k = blocks / w of them were sampled, each with a variance of n^2 w (w - 1) bytes and w (w - 1)
 * blocks.  Errors of sums are roots of sums of these. */
void heft_sampling_variance(uint64_t bytes, uint64_t parts, uint64_t interval, double *of_bytes, double *of_blocks);

#endif
