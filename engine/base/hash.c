/* SPDX-License-Identifier: MIT */
/* SipHash and its key, see hash.h.
 *
 *     four words of state from the key; for each eight bytes of text:   v3 ^= m, two rounds, v0 ^= m
 *     the last word holds the rest of the text and its length;          then v2 ^= 0xff, four rounds, all four xored */
#define _GNU_SOURCE
#include "base/hash.h"

#include <pthread.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static heft_secret_t the_secret; /* written once, by draw() */

static void draw(void)
{
    if (getrandom(&the_secret, sizeof the_secret, GRND_NONBLOCK) == (ssize_t)sizeof the_secret)
        return;
    /* an old kernel, or one just booted: what the author of a file does not know either */
    struct timespec real, up;
    clock_gettime(CLOCK_REALTIME, &real);
    clock_gettime(CLOCK_MONOTONIC, &up);
    the_secret.low = (uint64_t)real.tv_sec << 32 ^ (uint64_t)real.tv_nsec ^ (uint64_t)(uintptr_t)&real;
    the_secret.high = (uint64_t)up.tv_sec << 32 ^ (uint64_t)up.tv_nsec ^ (uint64_t)(uintptr_t)&the_secret << 16;
}

heft_secret_t heft_hash_secret(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, draw);
    return the_secret;
}

static inline uint64_t rotate(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

static inline void mix(uint64_t v[4], int rounds)
{
    while (rounds-- > 0) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] = rotate(v[0], 32) + v[3];
        v[2] += v[1];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[2] = rotate(v[2], 32);
    }
}

static inline void add_word(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    mix(v, 2);
    v[0] ^= word;
}

uint64_t heft_hash_bytes(heft_secret_t secret, const void *bytes, size_t n)
{
    uint64_t v[4] = {secret.low ^ UINT64_C(0x736f6d6570736575), secret.high ^ UINT64_C(0x646f72616e646f6d),
                     secret.low ^ UINT64_C(0x6c7967656e657261), secret.high ^ UINT64_C(0x7465646279746573)};
    const char *p = bytes;
    uint64_t word;
    for (size_t left = n; left >= sizeof word; left -= sizeof word, p += sizeof word) {
        memcpy(&word, p, sizeof word);
        add_word(v, word);
    }
    word = 0;
    if (n % sizeof word != 0) /* memcpy wants a pointer even for no bytes */
        memcpy(&word, p, n % sizeof word);
    add_word(v, word | (uint64_t)n << 56);
    v[2] ^= 0xff;
    mix(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
