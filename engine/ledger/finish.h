/* SPDX-License-Identifier: MIT */
/* What is added to a recording by somebody who is not recording: the watcher, after the program's end.
 * Works on the file alone, by pread and pwrite; the process that recorded is gone or waits. */
#ifndef HEFT_LEDGER_FINISH_H
#define HEFT_LEDGER_FINISH_H

#include <stddef.h>

#include "ledger/format.h"

/* Note how and when the process ended: exit code, -signal or HEFT_EXIT_UNKNOWN; nanoseconds.  A process that left by
 * _exit without sealing is sealed here (checksums, state CLOSED): its counters are final.  A killed one keeps state
 * RUNNING.  0 or an errno. */
int heft_finish_exit(int fd, int exit_status, uint64_t ended_ns);

/* Append a SOURCE chunk.  0 or an errno (ENOSPC: nothing has changed; E2BIG: the chunk table is full). */
int heft_finish_add_source(int fd, const void *blob, size_t bytes);

#endif
