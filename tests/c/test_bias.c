/* SPDX-License-Identifier: MIT */
/* The biased lock: owners that pass a baton and guests that do not, all adding to plain variables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "base/bias.h"

#define OWNERS 2
#define GUESTS 3
#define OWNER_ROUNDS 200000
#define GUEST_ROUNDS 2000

static heft_bias_t lock;
static pthread_mutex_t baton = PTHREAD_MUTEX_INITIALIZER; /* the interpreter's lock */
static uint64_t first, second; /* plain on purpose: the lock protects them, equal outside it */
static uint64_t torn;

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

static void *visit(void *unused)
{
    for (int i = 0; i < GUEST_ROUNDS; i++) {
        heft_bias_lock(&lock);
        add();
        heft_bias_unlock(&lock);
    }
    return unused;
}

static void run(void)
{
    pthread_t threads[OWNERS + GUESTS];
    first = second = torn = 0;
    for (int i = 0; i < OWNERS + GUESTS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, i < OWNERS ? own : visit, NULL), 0);
    for (int i = 0; i < OWNERS + GUESTS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(torn, 0);
    assert_int_equal(first, OWNERS * OWNER_ROUNDS + GUESTS * GUEST_ROUNDS);
    assert_int_equal(second, first);
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
}

static void test_careful_is_only_a_detour(void **state)
{
    (void)state;
    heft_bias_init(&lock);
    lock.attention |= HEFT_BIAS_CAREFUL;
    run();
    assert_true(lock.attention & HEFT_BIAS_CAREFUL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_membarrier),
        cmocka_unit_test(test_fenced),
        cmocka_unit_test(test_careful_is_only_a_detour),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
