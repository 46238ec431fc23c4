/* SPDX-License-Identifier: MIT */
/* Starting to record in a process of one's own: what `memheft run` leads to. */
#ifndef HEFT_PYTHON_BOOT_H
#define HEFT_PYTHON_BOOT_H

#include <stdbool.h>

/* Called when the module is loaded by memheft.pth: record into `path` from the main program's first step to its end.
 * What goes wrong is said on stderr in one line; the program then runs unrecorded. */
void heft_boot(const char *path);

/* NULL, or why this interpreter cannot be recorded, in one line (static). */
const char *heft_boot_unsupported(void);

#endif
