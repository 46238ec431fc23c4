/* SPDX-License-Identifier: MIT */
/* CRC-32C (Castagnoli): the checksum of every part of our files. */
#ifndef HEFT_BASE_CRC32C_H
#define HEFT_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The sum of `bytes` at `data`, continuing `crc`; start with 0.  Of nothing it is 0.  No locks, no allocation. */
uint32_t heft_crc32c(uint32_t crc, const void *data, size_t bytes);

/* The same without the processor's help: what the fast path is tested against. */
uint32_t heft_crc32c_portable(uint32_t crc, const void *data, size_t bytes);

#endif
