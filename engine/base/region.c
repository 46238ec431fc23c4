/* SPDX-License-Identifier: MIT */
/* Reserved address space, see region.h.  MAP_NORESERVE: untouched pages are charged to nobody, also where the kernel
 * counts commitments (vm.overcommit_memory=2 still refuses very large ones: then init fails and says so). */
#define _GNU_SOURCE
#include "base/region.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include "base/compiler.h"

void *heft_region_take(heft_region_t *region, size_t bytes)
{
    HEFT_ASSERT(region->base != NULL);
    HEFT_ASSERT(bytes > 0);
    size_t rest = region->reserved - region->used;
    if (bytes > rest || (bytes = (bytes + 15) & ~(size_t)15) > rest)
        return NULL;
    char *p = region->base + region->used;
    region->used += bytes;
    return p;
}

bool heft_region_init(heft_region_t *region, size_t bytes)
{
    HEFT_ASSERT(bytes > 0);
    *region = (heft_region_t){0};
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return false;
    /* transparent huge pages would make a table of a few kilobytes cost two megabytes */
    madvise(p, bytes, MADV_NOHUGEPAGE);
    *region = (heft_region_t){.base = p, .reserved = bytes};
    return true;
}

size_t heft_region_share(size_t bytes)
{
    struct rlimit limit;
    bool limited = getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
    return limited ? bytes / 16 : bytes;
}

bool heft_region_double(heft_region_t *region)
{
    void *p = mremap(region->base, region->reserved, region->reserved * 2, MREMAP_MAYMOVE);
    if (p == MAP_FAILED)
        return false;
    madvise(p, region->reserved * 2, MADV_NOHUGEPAGE);
    region->base = p;
    region->reserved *= 2;
    return true;
}

void heft_region_done(heft_region_t *region)
{
    if (region->base != NULL)
        munmap(region->base, region->reserved);
    *region = (heft_region_t){0};
}
