/* Byte planes of 2- and 4-byte floats that were rotated left by one bit (docs/format.md, codec 3): one pass, no temporaries.

   Plain loops: compilers turn them into vector code, once for every kind of processor named in CLONES; the loader picks at run time. */

#include "kernels.h"

typedef uint16_t __attribute__((aligned(1))) word2; /* elements may begin anywhere in a file */
typedef uint32_t __attribute__((aligned(1))) word4;

CLONES void torpor_split2(const uint8_t *from, unsigned plane, uint8_t *restrict into, size_t count)
{
    const word2 *words = (const word2 *)from;
    if (plane == 0)
        for (size_t i = 0; i < count; i++)
            into[i] = (uint8_t)(words[i] << 1 | words[i] >> 15);
    else
        for (size_t i = 0; i < count; i++)
            into[i] = (uint8_t)(words[i] >> 7);
}

CLONES void torpor_split4(const uint8_t *from, unsigned plane, uint8_t *restrict into, size_t count)
{
    const word4 *words = (const word4 *)from;
    if (plane == 0)
        for (size_t i = 0; i < count; i++)
            into[i] = (uint8_t)(words[i] << 1 | words[i] >> 31);
    else if (plane == 1)
        for (size_t i = 0; i < count; i++)
            into[i] = (uint8_t)(words[i] >> 7);
    else if (plane == 2)
        for (size_t i = 0; i < count; i++)
            into[i] = (uint8_t)(words[i] >> 15);
    else
        for (size_t i = 0; i < count; i++)
            into[i] = (uint8_t)(words[i] >> 23);
}

CLONES void torpor_merge2(const uint8_t *restrict a, const uint8_t *restrict b, uint8_t *restrict into, size_t count)
{
    word2 *words = (word2 *)into;
    for (size_t i = 0; i < count; i++) {
        uint16_t word = (uint16_t)(a[i] | (uint16_t)(b[i] << 8));
        words[i] = (uint16_t)(word >> 1 | word << 15);
    }
}

CLONES void torpor_merge4(const uint8_t *restrict a, const uint8_t *restrict b, const uint8_t *restrict c, const uint8_t *restrict d,
                          uint8_t *restrict into, size_t count)
{
    word4 *words = (word4 *)into;
    for (size_t i = 0; i < count; i++) {
        uint32_t word = a[i] | (uint32_t)b[i] << 8 | (uint32_t)c[i] << 16 | (uint32_t)d[i] << 24;
        words[i] = word >> 1 | word << 31;
    }
}
