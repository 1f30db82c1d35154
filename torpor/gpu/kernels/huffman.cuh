/* Huffman codes as zstd has them (RFC 8878 §4.2.1), built by one thread of a block: some 256 symbols, a few microseconds.

   The weight of a symbol whose code has `n` bits is `most + 1 - n`, `most` the longest code's bits; 0: it does not occur. Codes are
   given out by ascending weight and, within a weight, by ascending symbol, from 0 on. */

#ifndef TORPOR_HUFFMAN_CUH
#define TORPOR_HUFFMAN_CUH

#include "records.cuh"

/* Bits of each code of an optimal prefix code. `work`: counts in ascending order, and then the bits in descending order (Moffat and
   Katajainen: first parents, then depths of inner nodes, then depths of leaves, all in place). `symbols` is 2 or more. */
DEVICE void huffman_depths(u32 *work, u32 symbols)
{
    u32 root = 0, leaf = 2;
    work[0] += work[1];
    for (u32 next = 1; next + 1 < symbols; next++) {
        u32 sum = 0;
        for (u32 child = 0; child < 2; child++) {
            if (leaf >= symbols || (root < next && work[root] < work[leaf])) {
                sum += work[root];
                work[root++] = next;
            } else
                sum += work[leaf++];
        }
        work[next] = sum;
    }
    work[symbols - 2] = 0;
    for (u32 next = symbols - 2; next-- > 0;)
        work[next] = work[work[next]] + 1;
    u32 inner = symbols - 1, next = symbols, open = 1;
    for (u32 depth = 0; open > 0; depth++) {
        u32 used = 0;
        for (; inner > 0 && work[inner - 1] == depth; inner--)
            used++;
        for (; open > used; open--)
            work[--next] = depth;
        open = 2 * used;
    }
}

/* Shortens codes of more than 11 bits, at the least frequent symbols' cost, so that the code stays complete. Returns the most bits. */
DEVICE u32 limit_depths(u32 *work, u32 symbols)
{
    u32 number[BITS_MAX + 1] = {0}, used = 0;
    for (u32 i = 0; i < symbols; i++)
        number[work[i] < BITS_MAX ? work[i] : BITS_MAX]++;
    for (u32 bits = 1; bits <= BITS_MAX; bits++)
        used += number[bits] << (BITS_MAX - bits);
    for (; used > 1u << BITS_MAX; used--) {
        u32 bits = BITS_MAX - 1;
        while (!number[bits])
            bits--;
        number[BITS_MAX]--;
        number[bits]--;
        number[bits + 1] += 2;
    }
    u32 i = symbols, most = 0;
    for (u32 bits = 1; bits <= BITS_MAX; bits++)
        for (u32 k = 0; k < number[bits]; k++) {
            work[--i] = bits;
            most = bits;
        }
    return most;
}

/* Gives each symbol that occurs the first of its places in a table of 2^most. `weights`: `symbols` of them, at most 11 each. */
DEVICE void code_places(const u8 *weights, u32 symbols, u16 *places)
{
    u32 next[BITS_MAX + 2] = {0}, sum = 0;
    for (u32 s = 0; s < symbols; s++)
        next[weights[s]] += weights[s] ? 1u << (weights[s] - 1) : 0;
    for (u32 w = 1; w <= BITS_MAX; w++) {
        u32 size = next[w];
        next[w] = sum;
        sum += size;
    }
    for (u32 s = 0; s < symbols; s++) {
        places[s] = (u16)next[weights[s]];
        next[weights[s]] += weights[s] ? 1u << (weights[s] - 1) : 0;
    }
}

#endif
