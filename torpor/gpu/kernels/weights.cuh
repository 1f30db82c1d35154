/* The description of a Huffman table: weights of all symbols but the last, as half bytes or FSE coded (RFC 8878 §4.1, §4.2.1). */

#ifndef TORPOR_WEIGHTS_CUH
#define TORPOR_WEIGHTS_CUH

#include "records.cuh"

enum : u32 { FSE_BITS = 6, FSE_SIZE = 1 << FSE_BITS, FSE_SYMBOLS = BITS_MAX + 1 };

/* Bits from the least significant upwards. What does not fit is counted and not written. */
struct BitWriter {
    u8 *bytes;
    u32 limit, size, filled;
    u64 waiting;
};

DEVICE void put(BitWriter *out, u32 value, u32 bits)
{
    out->waiting |= (u64)value << out->filled;
    for (out->filled += bits; out->filled >= 8; out->filled -= 8, out->waiting >>= 8, out->size++)
        if (out->size < out->limit)
            out->bytes[out->size] = (u8)out->waiting;
}

DEVICE void finish(BitWriter *out) { put(out, 0, (8 - out->filled) & 7); }

/* 64 shares in proportion to the counts, at least one for whatever occurs and 63 for what is alone. */
DEVICE void fse_shares(const u8 *weights, u32 count, u32 *share)
{
    u32 number[FSE_SYMBOLS] = {0}, sum = 0;
    for (u32 i = 0; i < count; i++)
        number[weights[i]]++;
    for (u32 s = 0; s < FSE_SYMBOLS; s++) {
        u32 part = (number[s] * FSE_SIZE + count / 2) / count;
        share[s] = number[s] == 0 ? 0 : part ? part : 1;
        sum += share[s];
    }
    u32 most = 0;
    for (u32 s = 1; s < FSE_SYMBOLS; s++)
        most = share[s] > share[most] ? s : most;
    for (; sum > FSE_SIZE; sum--) {
        share[most]--;
        for (u32 s = 0; s < FSE_SYMBOLS; s++)
            most = share[s] > share[most] ? s : most;
    }
    share[most] += FSE_SIZE - sum;
    if (share[most] == FSE_SIZE) { /* a lone symbol would take no bits, so another that never comes takes a share */
        share[most]--;
        share[most ? 0 : 1]++;
    }
}

DEVICE void put_shares(BitWriter *out, const u32 *share)
{
    u32 remaining = FSE_SIZE + 1, threshold = FSE_SIZE, bits = FSE_BITS + 1, s = 0;
    put(out, FSE_BITS - 5, 4);
    while (remaining > 1) {
        u32 value = share[s++] + 1, spare = 2 * threshold - 1 - remaining;
        remaining -= value - 1;
        bool none = value == 1;
        value += value >= threshold ? spare : 0;
        put(out, value, bits - (value < spare));
        for (; remaining < threshold; threshold >>= 1)
            bits--;
        if (!none)
            continue;
        u32 run = 0; /* of further symbols without a share: told by threes */
        while (!share[s]) {
            s++;
            run++;
        }
        for (; run >= 3; run -= 3)
            put(out, 3, 2);
        put(out, run, 2);
    }
    finish(out);
}

/* Which symbol stands at which place of the table. Shares are at least 1: writers here use no "less than one". */
DEVICE void fse_spread(const u32 *share, u32 symbols, u8 *table, u32 bits, u32 end)
{
    u32 size = 1u << bits, step = (size >> 1) + (size >> 3) + 3, at = 0;
    for (u32 s = 0; s < symbols; s++)
        for (u32 i = 0; i < share[s]; i++) {
            table[at] = (u8)s;
            do
                at = (at + step) & (size - 1);
            while (at >= end);
        }
}

/* FSE codes `count` weights, from the last to the first, with two states in turn. Returns the bytes; more than `limit`: too long. */
DEVICE u32 fse_write(const u8 *weights, u32 count, u8 *bytes, u32 limit)
{
    u32 share[FSE_SYMBOLS], first[FSE_SYMBOLS], seen[FSE_SYMBOLS] = {0}, sum = 0;
    u8 table[FSE_SIZE], states[FSE_SIZE];
    BitWriter out = {bytes, limit, 0, 0, 0};
    fse_shares(weights, count, share);
    put_shares(&out, share);
    fse_spread(share, FSE_SYMBOLS, table, FSE_BITS, FSE_SIZE);
    for (u32 s = 0; s < FSE_SYMBOLS; s++) {
        first[s] = sum;
        sum += share[s];
    }
    for (u32 at = 0; at < FSE_SIZE; at++)
        states[first[table[at]] + seen[table[at]]++] = (u8)at;
    u32 state[2] = {0, 0};
    for (u32 i = count; i-- > 0;) {
        u32 s = weights[i], *now = &state[i & 1];
        /* A state, 64 … 127, is shifted right until it lies in share … 2 share - 1: that is the place among the symbol's states. */
        if (i + 2 >= count) {
            *now = FSE_SIZE + states[first[s]]; /* its first state takes the most bits: by these the reader sees the end */
            continue;
        }
        u32 bits = 0;
        while (*now >> bits >= 2 * share[s])
            bits++;
        put(&out, *now & ((1u << bits) - 1), bits);
        *now = FSE_SIZE + states[first[s] + (*now >> bits) - share[s]];
    }
    put(&out, state[1] - FSE_SIZE, FSE_BITS);
    put(&out, state[0] - FSE_SIZE, FSE_BITS);
    put(&out, 1, 1);
    finish(&out);
    return out.size;
}

/* Writes a description of `count` weights (1 … 255; the last symbol's is not among them). Returns its bytes; 0 if there is none. */
DEVICE u32 write_weights(const u8 *weights, u32 count, u8 *description)
{
    if (count > 128) {
        u32 size = fse_write(weights, count, description + 1, 127);
        description[0] = (u8)size;
        return size > 127 ? 0 : 1 + size;
    }
    description[0] = (u8)(127 + count);
    for (u32 i = 0; i < count; i += 2)
        description[1 + i / 2] = (u8)(weights[i] << 4 | (i + 1 < count ? weights[i + 1] : 0));
    return 1 + (count + 1) / 2;
}

/* `bits` bits from bit `at` on, zeros beyond the end. */
DEVICE u32 bits_at(const u8 *bytes, u32 size, u32 at, u32 bits)
{
    u32 word = 0;
    for (u32 i = 0; i < 3; i++)
        word |= at / 8 + i < size ? (u32)bytes[at / 8 + i] << 8 * i : 0;
    return word >> (at & 7) & ((1u << bits) - 1);
}

struct Backwards {
    const u8 *bytes;
    u32 size;
    int left; /* bits; below 0: more were asked for than there are */
};

DEVICE u32 take(Backwards *in, u32 bits)
{
    in->left -= (int)bits;
    return in->left >= 0 ? bits_at(in->bytes, in->size, (u32)in->left, bits) : 0;
}

/* Shares of FSE symbols; returns the bytes they take, 0 if that is none. `share` -1: less than one. */
DEVICE u32 read_shares(const u8 *bytes, u32 size, int *share, u32 *log)
{
    u32 at = 4, s = 0;
    *log = 5 + bits_at(bytes, size, 0, 4);
    if (*log > FSE_BITS)
        return 0;
    for (u32 i = 0; i <= FSE_SYMBOLS; i++)
        share[i] = 0;
    u32 remaining = 1u << *log;
    while (remaining > 0) {
        u32 bits = high_bit(remaining + 1) + 1, value = bits_at(bytes, size, at, bits);
        u32 low = (1u << (bits - 1)) - 1, spare = (1u << bits) - 2 - remaining;
        at += bits;
        if ((value & low) < spare) {
            value &= low;
            at--;
        } else if (value > low)
            value -= spare;
        if (s > FSE_SYMBOLS)
            return 0;
        share[s++] = (int)value - 1;
        remaining -= value ? value - 1 : 1;
        if (value != 1)
            continue;
        for (u32 run = 3; run == 3; s += run) {
            run = bits_at(bytes, size, at, 2);
            at += 2;
            if (s > FSE_SYMBOLS)
                return 0;
        }
    }
    at = (at + 7) / 8;
    return at <= size ? at : 0;
}

/* Decodes up to 255 weights; returns their number, 0 if that is none. */
DEVICE u32 fse_read(const u8 *bytes, u32 size, u8 *weights)
{
    int share[FSE_SYMBOLS + 1];
    u32 next[FSE_SYMBOLS + 1], log;
    u8 table[FSE_SIZE], bits[FSE_SIZE], base[FSE_SIZE];
    u32 head = read_shares(bytes, size, share, &log);
    if (head == 0 || head >= size || bytes[size - 1] == 0)
        return 0;
    u32 length = 1u << log, end = length, whole[FSE_SYMBOLS + 1];
    for (u32 s = 0; s <= FSE_SYMBOLS; s++) {
        whole[s] = share[s] > 0 ? (u32)share[s] : 0;
        next[s] = share[s] < 0 ? 1 : whole[s];
        if (share[s] < 0)
            table[--end] = (u8)s;
    }
    fse_spread(whole, FSE_SYMBOLS + 1, table, log, end ? end : 1);
    for (u32 at = 0; at < length; at++) {
        u32 state = next[table[at]]++;
        bits[at] = (u8)(log - high_bit(state));
        base[at] = (u8)((state << bits[at]) - length);
    }
    Backwards in = {bytes + head, size - head, 0};
    in.left = (int)(8 * (size - head - 1) + high_bit(bytes[size - 1]));
    u32 state[2], count = 0;
    state[0] = take(&in, log);
    state[1] = take(&in, log);
    if (in.left < 0)
        return 0;
    for (u32 turn = 0; in.left >= 0; turn ^= 1) {
        if (count >= SYMBOLS - 2)
            return 0;
        u32 at = state[turn];
        weights[count++] = table[at];
        state[turn] = base[at] + take(&in, bits[at]);
        if (in.left < 0)
            weights[count++] = table[state[turn ^ 1]];
    }
    return count;
}

/* Reads a description into the weights of all 256 symbols. Returns the bits of the longest code; 0 if that is none. */
DEVICE u32 read_weights(const u8 *description, u32 size, u8 *weights)
{
    u32 count, sum = 0, ones = 0;
    if (size < 2)
        return 0;
    if (description[0] >= 128) {
        count = description[0] - 127u;
        if (size != 1 + (count + 1) / 2)
            return 0;
        for (u32 i = 0; i < count; i++)
            weights[i] = i & 1 ? description[1 + i / 2] & 15 : description[1 + i / 2] >> 4;
    } else {
        if (size != 1u + description[0])
            return 0;
        count = fse_read(description + 1, size - 1, weights);
        if (count == 0)
            return 0;
    }
    for (u32 i = 0; i < count; i++) {
        if (weights[i] > BITS_MAX)
            return 0;
        sum += weights[i] ? 1u << (weights[i] - 1) : 0;
        ones += weights[i] == 1;
    }
    if (sum == 0)
        return 0;
    u32 most = high_bit(sum) + 1, rest = (1u << most) - sum, last = high_bit(rest) + 1;
    if (most > BITS_MAX || rest != 1u << (last - 1))
        return 0;
    weights[count] = (u8)last; /* what makes the code complete */
    ones += last == 1;
    for (u32 i = count + 1; i < SYMBOLS; i++)
        weights[i] = 0;
    return ones >= 2 && ones % 2 == 0 ? most : 0;
}

#endif
