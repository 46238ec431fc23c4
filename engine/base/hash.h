/* SPDX-License-Identifier: MIT */
/* Hashes for what stands in files: whoever wrote the file must not be able to choose keys that meet in one slot, which
 * would make a reader's tables lists.  So they depend on a secret, drawn once in a process; what is built with them
 * must not show their order. */
#ifndef HEFT_BASE_HASH_H
#define HEFT_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

typedef struct {
    uint64_t low, high;
} heft_secret_t;

/* The secret of this process.  Any thread may ask. */
heft_secret_t heft_hash_secret(void);

/* SipHash-2-4 (Aumasson and Bernstein, 2012) of n bytes; without the secret nobody can find two texts of one hash any
 * faster than by trying. */
uint64_t heft_hash_bytes(heft_secret_t secret, const void *bytes, size_t n);

/* Of one word, in about 3 ns: two 128-bit products folded, as in wyhash (Wang Yi, 2019).  Not proven as SipHash is, but
 * keys that meet under one secret do not meet under another. */
HEFT_INLINE uint64_t heft_hash_word(heft_secret_t secret, uint64_t word)
{
    __extension__ typedef unsigned __int128 wide_t;
    wide_t product = (wide_t)(word ^ secret.low) * (UINT64_C(0x9e3779b97f4a7c15) ^ secret.high);
    product = (wide_t)((uint64_t)product ^ secret.low) * ((uint64_t)(product >> 64) ^ secret.high);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

#endif
