/* SPDX-License-Identifier: MIT */
/* The biased lock: owners that pass a baton and guests that do not, all adding to plain variables. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bias.h"

#define OWNERS 2
#define GUESTS 3
#define OWNER_ROUNDS 200000
#define GUEST_ROUNDS 2000

static heft_bias_t lock;
static pthread_mutex_t baton = PTHREAD_MUTEX_INITIALIZER; /* the interpreter's lock */
static uint64_t first, second; /* plain on purpose: the lock protects them, equal outside it */
static uint64_t torn;
static uint32_t spoiled; /* errno of a guest; atomic */
static bool guests_are_filtered, are_confined;

static void add(void)
{
    torn += first != second;
    first++;
    second++;
}

static void *own(void *unused)
{
    for (int i = 0; i < OWNER_ROUNDS / 100; i++) {
        pthread_mutex_lock(&baton);
        for (int k = 0; k < 100; k++) {
            heft_bias_own(&lock);
            add();
            heft_bias_disown(&lock);
        }
        pthread_mutex_unlock(&baton);
    }
    return unused;
}

/* From here on this thread has no membarrier, as in a program that has confined itself.  False: not possible here. */
static bool forbid_membarrier(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof rules / sizeof *rules, .filter = rules};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void *visit(void *unused)
{
    if (guests_are_filtered && forbid_membarrier())
        __atomic_store_n(&are_confined, true, __ATOMIC_SEQ_CST);
    for (int i = 0; i < GUEST_ROUNDS; i++) {
        errno = 77;
        heft_bias_lock(&lock);
        add();
        heft_bias_unlock(&lock);
        if (errno != 77) /* it runs inside of malloc */
            __atomic_fetch_add(&spoiled, 1, __ATOMIC_RELAXED);
    }
    return unused;
}

static void run(void)
{
    pthread_t threads[OWNERS + GUESTS];
    first = second = torn = spoiled = 0;
    for (int i = 0; i < OWNERS + GUESTS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, i < OWNERS ? own : visit, NULL), 0);
    for (int i = 0; i < OWNERS + GUESTS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(torn, 0);
    assert_int_equal(spoiled, 0);
    assert_int_equal(first, OWNERS * OWNER_ROUNDS + GUESTS * GUEST_ROUNDS);
    assert_int_equal(second, first);
    assert_int_equal(lock.busy, 0);
    assert_int_equal(lock.attention & HEFT_BIAS_GUEST, 0);
}

static void test_membarrier(void **state)
{
    (void)state;
    heft_bias_init(&lock);
    run();
}

static void test_fenced(void **state)
{
    (void)state;
    heft_bias_init(&lock);
    lock.attention |= HEFT_BIAS_FENCED;
    run();
    assert_true(lock.attention & HEFT_BIAS_FENCED);
}

static void test_careful_is_only_a_detour(void **state)
{
    (void)state;
    heft_bias_init(&lock);
    lock.attention |= HEFT_BIAS_CAREFUL;
    run();
    assert_true(lock.attention & HEFT_BIAS_CAREFUL);
}

/* ---- one at a time, step by step ------------------------------------------------------------------------------ */

static uint32_t arrived, entered; /* by the other side; atomic */

static void *guest_once(void *unused)
{
    __atomic_store_n(&arrived, 1, __ATOMIC_SEQ_CST);
    heft_bias_lock(&lock);
    __atomic_store_n(&entered, 1, __ATOMIC_SEQ_CST);
    first++;
    heft_bias_unlock(&lock);
    return unused;
}

static void *owner_once(void *unused)
{
    __atomic_store_n(&arrived, 1, __ATOMIC_SEQ_CST);
    heft_bias_own(&lock);
    __atomic_store_n(&entered, 1, __ATOMIC_SEQ_CST);
    first++;
    heft_bias_disown(&lock);
    return unused;
}

/* The other side knocks while we are inside; it enters when we have left, and not before. */
static void exclude(void *(*other)(void *), bool guest_inside)
{
    pthread_t thread;
    for (int round = 0; round < 20; round++) {
        arrived = entered = 0;
        first = 0;
        guest_inside ? heft_bias_lock(&lock) : heft_bias_own(&lock);
        assert_int_equal(pthread_create(&thread, NULL, other, NULL), 0);
        while (!__atomic_load_n(&arrived, __ATOMIC_SEQ_CST))
            sched_yield();
        for (int i = 0; i < 50; i++) {
            sched_yield();
            assert_int_equal(__atomic_load_n(&entered, __ATOMIC_SEQ_CST), 0);
        }
        first++;
        guest_inside ? heft_bias_unlock(&lock) : heft_bias_disown(&lock);
        pthread_join(thread, NULL);
        assert_int_equal(entered, 1);
        assert_int_equal(first, 2);
    }
}

static void test_each_excludes_the_other(void **state)
{
    (void)state;
    for (int fenced = 0; fenced < 2; fenced++) {
        heft_bias_init(&lock);
        if (fenced)
            lock.attention |= HEFT_BIAS_FENCED;
        exclude(guest_once, false);
        exclude(owner_once, true);
        exclude(guest_once, true);
    }
}

/* ---- kernels and filters that refuse membarrier --------------------------------------------------------------- */

static void *init_confined(void *is_possible)
{
    *(bool *)is_possible = forbid_membarrier();
    heft_bias_init(&lock);
    return NULL;
}

static void test_without_membarrier_owners_fence(void **state)
{
    (void)state;
    pthread_t thread; /* a filter is for ever, but only for its thread */
    bool is_possible = false;
    assert_int_equal(pthread_create(&thread, NULL, init_confined, &is_possible), 0);
    pthread_join(thread, NULL);
    if (!is_possible) {
        print_message("not run: no seccomp filters here\n");
        skip();
    }
    assert_int_equal(lock.attention, HEFT_BIAS_FENCED);
    run();
}

static void test_membarrier_is_taken_away_later(void **state)
{
    (void)state;
    heft_bias_init(&lock);
    guests_are_filtered = true;
    run();
    guests_are_filtered = false;
    if (__atomic_load_n(&are_confined, __ATOMIC_SEQ_CST))
        assert_true(lock.attention & HEFT_BIAS_FENCED); /* noticed, and remembered */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_membarrier),
        cmocka_unit_test(test_fenced),
        cmocka_unit_test(test_careful_is_only_a_detour),
        cmocka_unit_test(test_each_excludes_the_other),
        cmocka_unit_test(test_without_membarrier_owners_fence),
        cmocka_unit_test(test_membarrier_is_taken_away_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
