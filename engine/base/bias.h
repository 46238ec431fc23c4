/* SPDX-License-Identifier: MIT */
/* A biased lock: nearly free for one owner role, dear for everybody else.
 *
 * The ledger is touched on every allocation by the one thread that holds the interpreter's lock (the owner role passes
 * between threads together with that lock, which orders them), and now and then by a thread that does not hold it.
 * An atomic read-modify-write for each event would cost as much as all the rest of the event.  Here the owner pays two
 * plain stores and a load; the other side pays a system call, membarrier, that makes the stores of all running threads
 * visible in order (Dekker's algorithm with the fence moved to the rare side).
 *
 *     owner                          guest
 *     busy = 1                       mutex; attention |= GUEST
 *     (compiler barrier)             membarrier()
 *     attention? -> back off         wait until busy == 0
 *     ... critical section ...       ... critical section ...
 *     busy = 0 (release)             attention &= ~GUEST (release); unlock
 *
 * Where membarrier is missing (old kernels, seccomp filters) attention has FENCED and the owner executes the fence
 * itself.  CAREFUL and WATCHFUL are the user's: they send an owner who looks at `attention` alone to his slow path, the
 * latter perhaps only if something else is true.
 * Not re-entrant for either side.  A critical section takes no other lock, waits for nobody and does not let go of the
 * interpreter's lock: who has entered leaves.  Most take well below a microsecond, not all: growing a table,
 * moving pages of sampled blocks and reading the clock make system calls, and a snapshot copies all of the ledger, tens
 * of MiB.  An owner who waits for that holds the interpreter's lock all the while. */
#ifndef HEFT_BASE_BIAS_H
#define HEFT_BASE_BIAS_H

#include <pthread.h>
#include <stdint.h>

#include "base/compiler.h"

typedef struct {
    uint32_t busy;         /* written by the owner only */
    uint32_t attention;    /* HEFT_BIAS_*, changed atomically */
    pthread_mutex_t mutex; /* orders guests among themselves, and the owner's wait */
    int cancel_state;      /* of the guest inside: pthread_cancel must not end him there; protected by the mutex */
} heft_bias_t;

#define HEFT_BIAS_GUEST 1u
#define HEFT_BIAS_FENCED 2u
#define HEFT_BIAS_CAREFUL 4u
#define HEFT_BIAS_WATCHFUL 8u

/* Register the process with membarrier; falls back to FENCED. */
void heft_bias_init(heft_bias_t *lock);

void heft__bias_own_slow(heft_bias_t *lock);

HEFT_INLINE void heft_bias_own(heft_bias_t *lock)
{
#if HEFT_TSAN
    heft__bias_own_slow(lock);
#else
    __atomic_store_n(&lock->busy, 1, __ATOMIC_RELAXED);
    __asm__ volatile("" ::: "memory");
    uint32_t attention = __atomic_load_n(&lock->attention, __ATOMIC_ACQUIRE);
    if (HEFT_UNLIKELY(attention & (HEFT_BIAS_GUEST | HEFT_BIAS_FENCED)))
        heft__bias_own_slow(lock);
#endif
}

HEFT_INLINE void heft_bias_disown(heft_bias_t *lock)
{
    __atomic_store_n(&lock->busy, 0, __ATOMIC_RELEASE);
}

void heft_bias_lock(heft_bias_t *lock);   /* guest side */
void heft_bias_unlock(heft_bias_t *lock); /* guest side */

#endif
