/* Byte planes of elements rotated left by one bit, and back: the bytes of torpor/native/planes.c.

   A thread takes 16 bytes of elements at a time, so elements and planes begin at multiples of 16. Planes that are not wanted are null. */

#include "records.cuh"

enum : u32 { PLANE_THREADS = 256 };

struct alignas(16) Quad {
    u32 word[4];
};

DEVICE u32 rotate2(u32 pair) { return (pair << 1 & 0xFFFEFFFEu) | (pair >> 15 & 0x00010001u); } /* two elements in a word */
DEVICE u32 unrotate2(u32 pair) { return (pair >> 1 & 0x7FFF7FFFu) | (pair << 15 & 0x80008000u); }
DEVICE u32 rotate4(u32 word) { return word << 1 | word >> 31; }
DEVICE u32 unrotate4(u32 word) { return word >> 1 | word << 31; }

KERNEL(PLANE_THREADS) split2(const u8 *elements, u64 count, u8 *low, u8 *high)
{
    PHASE(t, PLANE_THREADS)
    {
        u64 whole = count / 8, step = BLOCKS * PLANE_THREADS;
        for (u64 i = BLOCK * PLANE_THREADS + t; i < whole; i += step) {
            Quad in = *(const Quad *)(elements + 16 * i);
            for (u32 half = 0; half < 2; half++) {
                u32 a = rotate2(in.word[2 * half]), b = rotate2(in.word[2 * half + 1]);
                u64 at = 8 * i + 4 * half;
                if (low)
                    store_word(low + at, (a & 0xFF) | (a >> 8 & 0xFF00) | (b & 0xFF) << 16 | (b << 8 & 0xFF000000u));
                if (high)
                    store_word(high + at, (a >> 8 & 0xFF) | (a >> 16 & 0xFF00) | (b << 8 & 0xFF0000) | (b & 0xFF000000u));
            }
        }
        u64 i = 8 * whole + t;
        if (BLOCK == 0 && i < count) {
            u32 word = rotate2(elements[2 * i] | (u32)elements[2 * i + 1] << 8);
            if (low)
                low[i] = (u8)word;
            if (high)
                high[i] = (u8)(word >> 8);
        }
    }
}

KERNEL(PLANE_THREADS) merge2(const u8 *low, const u8 *high, u64 count, u8 *elements)
{
    PHASE(t, PLANE_THREADS)
    {
        u64 whole = count / 8, step = BLOCKS * PLANE_THREADS;
        for (u64 i = BLOCK * PLANE_THREADS + t; i < whole; i += step) {
            Quad out;
            for (u32 half = 0; half < 2; half++) {
                u32 a = load_word(low + 8 * i + 4 * half), b = load_word(high + 8 * i + 4 * half);
                out.word[2 * half] = unrotate2((a & 0xFF) | (b & 0xFF) << 8 | (a & 0xFF00) << 8 | (b & 0xFF00) << 16);
                out.word[2 * half + 1] = unrotate2((a >> 16 & 0xFF) | (b >> 8 & 0xFF00) | (a >> 8 & 0xFF0000) | (b & 0xFF000000u));
            }
            *(Quad *)(elements + 16 * i) = out;
        }
        u64 i = 8 * whole + t;
        if (BLOCK == 0 && i < count) {
            u32 word = unrotate2(low[i] | (u32)high[i] << 8);
            elements[2 * i] = (u8)word;
            elements[2 * i + 1] = (u8)(word >> 8);
        }
    }
}

KERNEL(PLANE_THREADS) split4(const u8 *elements, u64 count, u8 *plane0, u8 *plane1, u8 *plane2, u8 *plane3)
{
    PHASE(t, PLANE_THREADS)
    {
        u8 *planes[4] = {plane0, plane1, plane2, plane3};
        u64 whole = count / 4, step = BLOCKS * PLANE_THREADS;
        for (u64 i = BLOCK * PLANE_THREADS + t; i < whole; i += step) {
            Quad in = *(const Quad *)(elements + 16 * i);
            for (u32 e = 0; e < 4; e++)
                in.word[e] = rotate4(in.word[e]);
            for (u32 k = 0; k < 4; k++) {
                if (!planes[k])
                    continue;
                u32 word = 0;
                for (u32 e = 0; e < 4; e++)
                    word |= (in.word[e] >> 8 * k & 0xFF) << 8 * e;
                store_word(planes[k] + 4 * i, word);
            }
        }
        u64 i = 4 * whole + t;
        if (BLOCK == 0 && i < count) {
            u32 word = rotate4(load_word(elements + 4 * i));
            for (u32 k = 0; k < 4; k++)
                if (planes[k])
                    planes[k][i] = (u8)(word >> 8 * k);
        }
    }
}

KERNEL(PLANE_THREADS) merge4(const u8 *plane0, const u8 *plane1, const u8 *plane2, const u8 *plane3, u64 count, u8 *elements)
{
    PHASE(t, PLANE_THREADS)
    {
        const u8 *planes[4] = {plane0, plane1, plane2, plane3};
        u64 whole = count / 4, step = BLOCKS * PLANE_THREADS;
        for (u64 i = BLOCK * PLANE_THREADS + t; i < whole; i += step) {
            Quad out = {{0, 0, 0, 0}};
            for (u32 k = 0; k < 4; k++) {
                u32 word = load_word(planes[k] + 4 * i);
                for (u32 e = 0; e < 4; e++)
                    out.word[e] |= (word >> 8 * e & 0xFF) << 8 * k;
            }
            for (u32 e = 0; e < 4; e++)
                out.word[e] = unrotate4(out.word[e]);
            *(Quad *)(elements + 16 * i) = out;
        }
        u64 i = 4 * whole + t;
        if (BLOCK == 0 && i < count) {
            u32 word = 0;
            for (u32 k = 0; k < 4; k++)
                word |= (u32)planes[k][i] << 8 * k;
            store_word(elements + 4 * i, unrotate4(word));
        }
    }
}
