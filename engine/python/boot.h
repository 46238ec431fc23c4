/* SPDX-License-Identifier: MIT */
/* Starting to record in a process of one's own: what `memheft run` leads to. */
#ifndef HEFT_PYTHON_BOOT_H
#define HEFT_PYTHON_BOOT_H

#include <stdbool.h>

/* Called by memheft.pth: record into `path` from the main program's first step to its end.  What goes wrong is said on
 * stderr in one line, and the result is false; the program then runs unrecorded. */
bool heft_boot(const char *path);

/* What to write on stderr when the process ends and its recording is closed. */
void heft_boot_hint(const char *text);

/* What a recording needs of the process, done once: the current thread's variable, the handlers of the end.  False
 * without an exception when they cannot be had.  The caller holds the interpreter's lock. */
bool heft_boot_prepare(void);

/* NULL, or why this interpreter cannot be recorded, in one line (static). */
const char *heft_boot_unsupported(void);

#endif
