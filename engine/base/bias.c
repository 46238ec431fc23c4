/* SPDX-License-Identifier: MIT */
/* The rare halves of the biased lock, see bias.h. */
#define _GNU_SOURCE
#include "base/bias.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define YIELDS 100

/* The owner found a guest (or has to fence): step aside until no guest is left. */
HEFT_COLD void heft__bias_own_slow(heft_bias_t *lock)
{
    for (;;) {
        __atomic_store_n(&lock->busy, 1, __ATOMIC_SEQ_CST);
        if (!HEFT_TSAN)
            __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if ((__atomic_load_n(&lock->attention, __ATOMIC_SEQ_CST) & HEFT_BIAS_GUEST) == 0)
            return;
        __atomic_store_n(&lock->busy, 0, __ATOMIC_SEQ_CST);
        pthread_mutex_lock(&lock->mutex); /* sleeps as long as the guest works */
        pthread_mutex_unlock(&lock->mutex);
    }
}

static void pause_for(long ns)
{
    int saved_errno = errno;
    nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
    errno = saved_errno;
}

static void fence_everybody(heft_bias_t *lock)
{
    if ((__atomic_load_n(&lock->attention, __ATOMIC_RELAXED) & HEFT_BIAS_FENCED) == 0) {
        int saved_errno = errno;
        if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0)
            return;
        errno = saved_errno;
        /* forbidden since: the program has confined itself.  From now on owners fence; the store of one who was on his
         * way in without a fence is waited for, once in the process' life */
        __atomic_fetch_or(&lock->attention, HEFT_BIAS_FENCED, __ATOMIC_SEQ_CST);
        pause_for(1000000);
    }
    if (!HEFT_TSAN)
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void heft_bias_lock(heft_bias_t *lock)
{
    int cancel_state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    pthread_mutex_lock(&lock->mutex);
    lock->cancel_state = cancel_state;
    __atomic_fetch_or(&lock->attention, HEFT_BIAS_GUEST, __ATOMIC_SEQ_CST);
    fence_everybody(lock);
    /* the owner is inside for well below a microsecond, unless he makes a system call or has lost his core: to a thread
     * of lower priority yielding gives nothing */
    for (int i = 0; __atomic_load_n(&lock->busy, __ATOMIC_SEQ_CST); i++) {
        if (i < YIELDS)
            sched_yield();
        else
            pause_for(50000);
    }
}

void heft_bias_unlock(heft_bias_t *lock)
{
    int cancel_state = lock->cancel_state;
    __atomic_fetch_and(&lock->attention, ~HEFT_BIAS_GUEST, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&lock->mutex);
    pthread_setcancelstate(cancel_state, NULL);
}

void heft_bias_init(heft_bias_t *lock)
{
    *lock = (heft_bias_t){.attention = HEFT_BIAS_FENCED};
    pthread_mutex_init(&lock->mutex, NULL);
    if (!HEFT_TSAN && syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0)
        lock->attention = 0;
}
