/* Bytes at any place, out of and into words: threads write whole words where they can, and share the others' bytes with care. */

#ifndef TORPOR_BYTES_CUH
#define TORPOR_BYTES_CUH

#include "records.cuh"

/* Or-s the low `bytes` bytes of a value in; returns where they end. */
DEVICE u64 or_bytes(u8 *out, u64 at, u64 value, u32 bytes)
{
    for (u32 i = 0; i < bytes; i++, at++, value >>= 8)
        or_word(out + at / 4 * 4, (u32)(value & 0xFF) << 8 * (at & 3));
    return at;
}

/* A thread's part of copying `size` bytes to `out + at`. `shared`: the words at the ends belong to others too, who or bits in. */
DEVICE void copy_bytes(u8 *out, u64 at, const u8 *from, u32 size, u32 thread, u32 threads, bool shared)
{
    u64 end = at + size;
    for (u64 word = at / 4 + thread; 4 * word < end; word += threads) {
        if (4 * word >= at && 4 * word + 4 <= end) {
            const u8 *in = from + (4 * word - at);
            store_word(out + 4 * word, in[0] | (u32)in[1] << 8 | (u32)in[2] << 16 | (u32)in[3] << 24);
            continue;
        }
        for (u64 i = 4 * word; i < 4 * word + 4; i++)
            if (i >= at && i < end) {
                if (shared)
                    or_bytes(out, i, from[i - at], 1);
                else
                    out[i] = from[i - at];
            }
    }
}

DEVICE u32 get_bytes(const u8 *from, u32 bytes)
{
    u32 value = 0;
    for (u32 i = 0; i < bytes; i++)
        value |= (u32)from[i] << 8 * i;
    return value;
}

#endif
