/* What the C files beside it give to kernels.py and coding.py. Every function may run in any number of threads. */

#ifndef TORPOR_KERNELS_H
#define TORPOR_KERNELS_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the kernels read elements as they lie in memory; without them numpy does the work"
#endif

#if defined(__x86_64__) && defined(__GLIBC__) && !defined(NO_CLONES)
#define CLONES __attribute__((target_clones("avx2", "default")))
#else
#define CLONES
#endif

/* Times are nanoseconds since 1970, and may lie before that. What 64 bits don't hold is the nearest that whole seconds of them do, as
   in torpor/workspace/scan.py. */
#define SECOND 1000000000LL
#define SECONDS (INT64_MAX / SECOND)

static inline int64_t nanoseconds(struct timespec at)
{
    return at.tv_sec < -SECONDS ? -SECONDS * SECOND : at.tv_sec >= SECONDS ? SECONDS * SECOND - 1 : at.tv_sec * SECOND + at.tv_nsec;
}

static inline struct timespec moment(int64_t at)
{
    int64_t seconds = at / SECOND, rest = at % SECOND;
    struct timespec found = {.tv_sec = seconds - (rest < 0), .tv_nsec = rest + (rest < 0 ? SECOND : 0)};
    return found;
}

#define TORPOR_ABI 4 /* raise it with every change of a signature; kernels.py asks for its own */

/* What torpor/workspace/scan.py reads; `error`: errno where there is no stat. */
struct seen {
    uint64_t device, inode, size, blocks, links;
    int64_t mtime, ctime;
    uint32_t mode, uid, gid;
    int32_t error;
};

void torpor_split2(const uint8_t *from, unsigned plane, uint8_t *restrict into, size_t count);
void torpor_split4(const uint8_t *from, unsigned plane, uint8_t *restrict into, size_t count);
void torpor_merge2(const uint8_t *restrict a, const uint8_t *restrict b, uint8_t *restrict into, size_t count);
void torpor_merge4(const uint8_t *restrict a, const uint8_t *restrict b, const uint8_t *restrict c, const uint8_t *restrict d,
                   uint8_t *restrict into, size_t count);

#endif
