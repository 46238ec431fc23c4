/* SPDX-License-Identifier: MIT */
/* Seeds for fuzz_reader: `make_seeds DIR` writes recordings of several sizes and states into DIR. */
#include <stdio.h>
#include <stdlib.h>

#include "build_recording.h"

static int write_seed(const char *dir, uint32_t i, const recording_t *recording, heft_state_t state)
{
    char path[4096];
    size_t bytes;
    unsigned char *data = recording_write(recording, state, &bytes);
    snprintf(path, sizeof path, "%s/%u.heft", dir, i);
    FILE *file = fopen(path, "wb");
    int ok = file != NULL && fwrite(data, 1, bytes, file) == bytes;
    ok = file != NULL && fclose(file) == 0 && ok;
    free(data);
    if (!ok)
        perror(path);
    return ok;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: make_seeds DIR\n");
        return 2;
    }
    int ok = 1;
    for (uint32_t i = 0; ok && i < 24; i++) {
        recording_t recording;
        recording_random(&recording, i, 3 + i * i / 2);
        recording.source = i % 3 == 0 ? "source" : NULL;
        recording.meta = i % 5 == 4 ? NULL : recording.meta;
        ok = write_seed(argv[1], i, &recording, (heft_state_t)(HEFT_STATE_RUNNING + i % 3));
        recording_done(&recording);
    }
    return ok ? 0 : 1;
}
