/* SPDX-License-Identifier: MIT */
/* Compiler seams and the three tiers of assertions.
 *
 * HEFT_ASSERT     kept in every build that is tested; off in release (NDEBUG)
 * HEFT_DCHECK     debug builds: cheap conditions on hot paths
 * HEFT_SLOWCHECK  debug builds with HEFT_SLOW_CHECKS: runs a structure's whole `check`
 *
 * None of them ever sees untrusted input: that is validated and reported, not asserted. */
#ifndef HEFT_BASE_COMPILER_H
#define HEFT_BASE_COMPILER_H

#include <assert.h>

#define HEFT_LIKELY(x) __builtin_expect(!!(x), 1)
#define HEFT_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define HEFT_INLINE static inline __attribute__((always_inline))
#define HEFT_COLD __attribute__((noinline, cold))
#define HEFT_NOINLINE __attribute__((noinline))

#ifdef NDEBUG
#define HEFT_ASSERT(x) ((void)sizeof(x))
#define HEFT_DCHECK(x) ((void)sizeof(x))
#else
#define HEFT_ASSERT(x) assert(x)
#define HEFT_DCHECK(x) assert(x)
#endif

#if defined(HEFT_SLOW_CHECKS) && !defined(NDEBUG)
#define HEFT_SLOWCHECK(x) assert(x)
#else
#define HEFT_SLOWCHECK(x) ((void)sizeof(x))
#endif

#if defined(__SANITIZE_THREAD__)
#define HEFT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HEFT_TSAN 1
#endif
#endif
#ifndef HEFT_TSAN
#define HEFT_TSAN 0
#endif

#endif
