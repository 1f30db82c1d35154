/* Keyed BLAKE3 of many pieces in one call, eight compressions side by side: chunks of one piece, or of several short ones.

   Written after the specification (github.com/BLAKE3-team/BLAKE3-specs); the module `blake3` says the same of every piece, and does it
   where there is no AVX2. Long pieces go to it, which is faster with them. */

#include "kernels.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && !defined(NO_AVX2)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))
#define INLINE __attribute__((always_inline, target("avx2"))) static inline
#define LANES 8
#define BLOCK 64
#define CHUNK 1024
#define BLOCKS 16 /* of a chunk */
enum { CHUNK_START = 1, CHUNK_END = 2, PARENT = 4, ROOT = 8, KEYED = 16 };

static const uint32_t IV[4] = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A};
static const uint8_t ORDER[7][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8},
    {3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1}, {10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6},
    {12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4}, {9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7},
    {11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13},
};

/* A run of blocks that are compressed one after the other into one chaining value. */
struct lane {
    const uint8_t *data;
    uint32_t *out; /* 8 words */
    uint32_t blocks, last; /* how many; bytes of the last */
    uint32_t counter, first, end; /* flags of the first block and of the last, beside KEYED */
};

/* Lanes with the same number of blocks wait for each other. */
struct queue {
    const uint32_t *key;
    struct lane lanes[BLOCKS + 1][LANES];
    unsigned waiting[BLOCKS + 1];
};

INLINE __m256i rotate16(__m256i x)
{
    return _mm256_shuffle_epi8(x, _mm256_set_epi8(13, 12, 15, 14, 9, 8, 11, 10, 5, 4, 7, 6, 1, 0, 3, 2, 13, 12, 15, 14, 9, 8, 11, 10,
                                                  5, 4, 7, 6, 1, 0, 3, 2));
}

INLINE __m256i rotate8(__m256i x)
{
    return _mm256_shuffle_epi8(x, _mm256_set_epi8(12, 15, 14, 13, 8, 11, 10, 9, 4, 7, 6, 5, 0, 3, 2, 1, 12, 15, 14, 13, 8, 11, 10, 9,
                                                  4, 7, 6, 5, 0, 3, 2, 1));
}

INLINE __m256i rotate(__m256i x, int bits) { return _mm256_or_si256(_mm256_srli_epi32(x, bits), _mm256_slli_epi32(x, 32 - bits)); }

INLINE void mix(__m256i *a, __m256i *b, __m256i *c, __m256i *d, __m256i x, __m256i y)
{
    *a = _mm256_add_epi32(_mm256_add_epi32(*a, *b), x);
    *d = rotate16(_mm256_xor_si256(*d, *a));
    *c = _mm256_add_epi32(*c, *d);
    *b = rotate(_mm256_xor_si256(*b, *c), 12);
    *a = _mm256_add_epi32(_mm256_add_epi32(*a, *b), y);
    *d = rotate8(_mm256_xor_si256(*d, *a));
    *c = _mm256_add_epi32(*c, *d);
    *b = rotate(_mm256_xor_si256(*b, *c), 7);
}

/* Eight rows of eight words become eight columns. */
INLINE void transpose(__m256i r[LANES])
{
    __m256i a[LANES], b[LANES];
    for (int i = 0; i < LANES; i += 2) {
        a[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        a[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < LANES; i += 4)
        for (int j = 0; j < 2; j++) {
            b[i + 2 * j] = _mm256_unpacklo_epi64(a[i + j], a[i + 2 + j]);
            b[i + 2 * j + 1] = _mm256_unpackhi_epi64(a[i + j], a[i + 2 + j]);
        }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x20);
        r[i + 4] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x31);
    }
}

/* Compresses up to eight lanes with as many blocks each, and empties their place in the queue. */
AVX2 static void flush(struct queue *queue, unsigned blocks)
{
    struct lane *lanes = queue->lanes[blocks];
    unsigned count = queue->waiting[blocks];
    uint8_t padded[LANES][BLOCK];
    const uint8_t *at[LANES];
    uint32_t counters[LANES], lasts[LANES], firsts[LANES], ends[LANES];
    __m256i h[8], m[16], v[16];
    if (count == 0)
        return;
    for (unsigned i = 0; i < LANES; i++) {
        const struct lane *lane = &lanes[i < count ? i : 0]; /* lanes that are not there repeat the first */
        at[i] = lane->data;
        counters[i] = lane->counter;
        lasts[i] = lane->last;
        firsts[i] = lane->first | KEYED | (blocks == 1 ? lane->end : 0);
        ends[i] = lane->end | KEYED;
        if (lane->last < BLOCK) {
            memset(padded[i], 0, BLOCK);
            memcpy(padded[i], lane->data + (size_t)BLOCK * (blocks - 1), lane->last);
        }
    }
    for (int i = 0; i < 8; i++)
        h[i] = _mm256_set1_epi32((int)queue->key[i]);
    for (unsigned block = 0; block < blocks; block++) {
        int last = block + 1 == blocks;
        for (unsigned i = 0; i < LANES; i++) {
            const uint8_t *from = last && lasts[i] < BLOCK ? padded[i] : at[i] + (size_t)BLOCK * block;
            m[i] = _mm256_loadu_si256((const __m256i *)(const void *)from);
            m[i + 8] = _mm256_loadu_si256((const __m256i *)(const void *)(from + 32));
        }
        transpose(m);
        transpose(m + 8);
        for (int i = 0; i < 8; i++)
            v[i] = h[i];
        for (int i = 0; i < 4; i++)
            v[8 + i] = _mm256_set1_epi32((int)IV[i]);
        v[12] = _mm256_loadu_si256((const __m256i *)(const void *)counters);
        v[13] = _mm256_setzero_si256(); /* no piece has 2^32 chunks */
        v[14] = last ? _mm256_loadu_si256((const __m256i *)(const void *)lasts) : _mm256_set1_epi32(BLOCK);
        v[15] = block == 0 ? _mm256_loadu_si256((const __m256i *)(const void *)firsts)
              : last       ? _mm256_loadu_si256((const __m256i *)(const void *)ends)
                           : _mm256_set1_epi32(KEYED);
#pragma GCC unroll 7
        for (int round = 0; round < 7; round++) {
            const uint8_t *o = ORDER[round];
            for (int i = 0; i < 4; i++) /* columns */
                mix(&v[i], &v[4 + i], &v[8 + i], &v[12 + i], m[o[2 * i]], m[o[2 * i + 1]]);
            for (int i = 0; i < 4; i++) /* diagonals */
                mix(&v[i], &v[4 + (i + 1) % 4], &v[8 + (i + 2) % 4], &v[12 + (i + 3) % 4], m[o[8 + 2 * i]], m[o[9 + 2 * i]]);
        }
        for (int i = 0; i < 8; i++)
            h[i] = _mm256_xor_si256(v[i], v[i + 8]);
    }
    transpose(h);
    for (unsigned i = 0; i < count; i++)
        _mm256_storeu_si256((__m256i *)(void *)lanes[i].out, h[i]);
    queue->waiting[blocks] = 0;
}

static void put(struct queue *queue, struct lane lane)
{
    queue->lanes[lane.blocks][queue->waiting[lane.blocks]++] = lane;
    if (queue->waiting[lane.blocks] == LANES)
        flush(queue, lane.blocks);
}

static void put_chunks(struct queue *queue, const uint8_t *data, uint64_t length, uint32_t *values)
{
    uint32_t counter = 0;
    uint64_t whole = length;
    do {
        uint32_t size = length > CHUNK ? CHUNK : (uint32_t)length;
        uint32_t blocks = size ? (size + BLOCK - 1) / BLOCK : 1;
        uint32_t end = CHUNK_END | (whole <= CHUNK ? ROOT : 0);
        put(queue, (struct lane){data, values + 8 * (size_t)counter, blocks, size - BLOCK * (blocks - 1), counter, CHUNK_START, end});
        data += size;
        length -= size;
        counter++;
    } while (length);
}

static uint64_t chunks_of(uint64_t length) { return length ? (length + CHUNK - 1) / CHUNK : 1; }

/* The id of each piece, 32 bytes one behind the other. `values`: room for the chaining values of all chunks of all pieces. */
static void hash_all(struct queue *queue, const uint8_t *data, const uint32_t *offsets, const uint32_t *lengths, size_t count,
                     uint32_t *values, uint8_t *ids)
{
    uint32_t *value = values;
    size_t open = count;
    for (size_t i = 0; i < count; i++) {
        put_chunks(queue, data + offsets[i], lengths[i], value);
        value += 8 * chunks_of(lengths[i]);
    }
    for (unsigned blocks = 1; blocks <= BLOCKS; blocks++)
        flush(queue, blocks);
    /* The tree of each piece, a level of all of them at a time: neighbours become parents, who is alone goes up as it is. */
    for (unsigned level = 0; open; level++) {
        open = 0;
        value = values;
        for (size_t i = 0; i < count; i++) {
            uint64_t chunks = chunks_of(lengths[i]), here = (chunks + (1ull << level) - 1) >> level;
            for (uint64_t pair = 0; here > 1 && pair < here / 2; pair++)
                put(queue, (struct lane){(const uint8_t *)(value + 16 * pair), value + 8 * pair, 1, BLOCK, 0, PARENT, here == 2 ? ROOT : 0});
            open += here > 2;
            value += 8 * chunks;
        }
        flush(queue, 1);
        value = values;
        for (size_t i = 0; i < count; i++) {
            uint64_t chunks = chunks_of(lengths[i]), here = (chunks + (1ull << level) - 1) >> level;
            if (here > 1 && here % 2)
                memmove(value + 8 * (here / 2), value + 8 * (here - 1), 32);
            value += 8 * chunks;
        }
    }
    value = values;
    for (size_t i = 0; i < count; i++) {
        memcpy(ids + 32 * i, value, 32);
        value += 8 * chunks_of(lengths[i]);
    }
}

/* Keyed BLAKE3 of `count` pieces of `data`. Returns 0 where it can't be done here. */
int torpor_hash_many(const uint8_t *data, const uint32_t *offsets, const uint32_t *lengths, size_t count, const uint8_t *key, uint8_t *ids)
{
    uint64_t chunks = 0;
    uint32_t words[8];
    if (!__builtin_cpu_supports("avx2"))
        return 0;
    for (size_t i = 0; i < count; i++)
        chunks += chunks_of(lengths[i]);
    struct queue *queue = malloc(sizeof *queue);
    uint32_t *values = malloc(32 * (chunks ? chunks : 1));
    if (queue && values) {
        memcpy(words, key, sizeof words);
        queue->key = words;
        memset(queue->waiting, 0, sizeof queue->waiting);
        hash_all(queue, data, offsets, lengths, count, values, ids);
    }
    int done = queue && values;
    free(queue);
    free(values);
    return done;
}

#else

int torpor_hash_many(const uint8_t *data, const uint32_t *offsets, const uint32_t *lengths, size_t count, const uint8_t *key, uint8_t *ids)
{
    (void)data, (void)offsets, (void)lengths, (void)count, (void)key, (void)ids;
    return 0;
}

#endif
