/* Blocks of Huffman coded literals (RFC 8878 §4.2) into bytes, one block of threads a zstd block: all of them make its table, four
   decode its streams. An entry of the table holds up to three symbols, so that a thread's long way takes fewer steps. */

#include "bytes.cuh"
#include "huffman.cuh"
#include "weights.cuh"

enum : u32 { DECODER_THREADS = 64, TABLE_SIZE = 1 << BITS_MAX };

/* A table's entry: symbols in bits 0 … 23, bits of all their codes in 24 … 27, their number in 28 … 29. */
struct DecodeState {
    u32 table[TABLE_SIZE];
    u16 single[TABLE_SIZE]; /* one symbol, its bits in the high half */
    u16 places[SYMBOLS];
    u8 weights[SYMBOLS];
    u8 description[DESCRIPTION_MAX + 3];
    u32 edge[5]; /* where streams begin and end, from the block's first on */
    u32 most, status;
};

/* A stream is read from its last byte to its first: `bits` holds what comes next in its high bits. */
struct Stream {
    const u8 *first, *next; /* `next`: a multiple of 4; words below it are still to be read */
    u64 bits;
    u32 have;
};

/* Bytes in front of the stream are masked away, they may belong to anyone; but they are bytes of the buffer, which begins at a word. */
DEVICE void refill(Stream *in)
{
    u32 word = 0;
    if (in->next > in->first) {
        in->next -= 4;
        word = load_word(in->next);
        if (in->next < in->first)
            word = word >> 8 * (in->first - in->next) << 8 * (in->first - in->next);
    }
    in->bits |= (u64)word << (32 - in->have);
    in->have += 32;
}

/* Bits of the stream, without the one that ends it; 0 bytes or no such one: false. */
DEVICE bool open_stream(Stream *in, const u8 *from, u32 size, u32 *bits)
{
    if (size == 0 || from[size - 1] == 0)
        return false;
    u32 top = high_bit(from[size - 1]);
    *bits = 8 * (size - 1) + top;
    in->first = from;
    in->next = from + size;
    in->bits = 0;
    in->have = 0;
    while (((u64)in->next & 3) && in->next > from) {
        in->next--;
        in->bits |= (u64)*in->next << (56 - in->have);
        in->have += 8;
    }
    if (in->have == 0)
        refill(in);
    in->bits <<= 8 - top;
    in->have -= 8 - top;
    return true;
}

/* Decodes `count` symbols to `out`. False if they are not exactly what the stream holds. */
DEVICE bool decode_stream(const DecodeState *s, const u8 *from, u32 size, u8 *out, u32 count)
{
    Stream in;
    u32 bits, taken = 0, shift = 32 - s->most;
    if (!open_stream(&in, from, size, &bits))
        return false;
    u32 filled = (u32)((u64)out & 3); /* whole words are written; bytes of the first one before `out` are others' */
    u8 *at = out - filled, *begin = out;
    u64 waiting = 0;
    while (count > 0) {
        if (in.have < 32)
            refill(&in);
        u32 place = (u32)(in.bits >> 32) >> shift, used, number, symbols;
        if (count >= 3) {
            u32 entry = s->table[place];
            symbols = entry & 0xFFFFFF;
            used = entry >> 24 & 15;
            number = entry >> 28;
        } else {
            symbols = s->single[place] & 0xFF;
            used = s->single[place] >> 8;
            number = 1;
        }
        in.bits <<= used;
        in.have -= used;
        taken += used;
        count -= number;
        waiting |= (u64)symbols << 8 * filled;
        filled += number;
        if (filled >= 4) {
            if (at < begin)
                for (u32 i = (u32)(begin - at); i < 4; i++)
                    at[i] = (u8)(waiting >> 8 * i);
            else
                store_word(at, (u32)waiting);
            at += 4;
            waiting >>= 32;
            filled -= 4;
        }
    }
    for (u32 i = at < begin ? (u32)(begin - at) : 0; i < filled; i++)
        at[i] = (u8)(waiting >> 8 * i);
    return taken == bits;
}

/* By one thread: where the streams lie, by the jump table. */
DEVICE u32 place_streams(const u8 *from, const Block *block, u32 *edge)
{
    edge[0] = 0;
    edge[1] = block->size;
    if (block->streams == 1)
        return OK;
    if (block->size < 6)
        return DAMAGED;
    edge[0] = 6;
    for (u32 i = 0; i < 3; i++) {
        edge[i + 1] = edge[i] + get_bytes(from + 2 * i, 2);
        if (edge[i + 1] > block->size)
            return DAMAGED;
    }
    edge[4] = block->size;
    return OK;
}

DEVICE u32 join(const DecodeState *s, u32 place)
{
    u32 entry = 0, used = 0, number = 0;
    while (number < 3) {
        u32 one = s->single[place << used & ((1u << s->most) - 1)], bits = one >> 8;
        if (number && used + bits > s->most)
            break; /* its code is not seen to its end */
        entry |= (one & 0xFF) << 8 * number++;
        used += bits;
    }
    return entry | used << 24 | number << 28;
}

/* `blocks`: as read_frames left them. `status`: of frames, raised where a block is damaged; what was decoded of it means nothing then. */
KERNEL(DECODER_THREADS) decode_blocks(const u8 *coded, const Block *blocks, u8 *out, u32 *status)
{
    SHARED(DecodeState, s);
    const Block *block = &blocks[BLOCK];
    const u8 *from = coded + block->from;
    u32 kind = block->kind, raw = block->raw, streams = block->streams;
    if (kind == NONE)
        return;
    if (kind == COPY) {
        PHASE(t, DECODER_THREADS) { copy_bytes(out, block->to, from, raw, t, DECODER_THREADS, false); }
        return;
    }
    if (kind == REPEAT) {
        PHASE(t, DECODER_THREADS)
        {
            for (u32 i = t; i < raw; i += DECODER_THREADS)
                out[block->to + i] = from[0];
        }
        return;
    }
    PHASE(t, DECODER_THREADS)
    {
        for (u32 i = t; i < DESCRIPTION_MAX; i += DECODER_THREADS)
            if (i < block->table_size)
                s.description[i] = coded[block->table + i];
    }
    PHASE(t, DECODER_THREADS)
    {
        if (t)
            continue;
        s.most = read_weights(s.description, block->table_size, s.weights);
        s.status = s.most ? place_streams(from, block, s.edge) : (u32)DAMAGED;
        if (s.status == OK)
            code_places(s.weights, SYMBOLS, s.places);
        else
            raise(&status[block->frame], s.status);
    }
    if (s.status != OK)
        return;
    PHASE(t, DECODER_THREADS)
    {
        for (u32 symbol = 0; symbol < SYMBOLS; symbol++) {
            u32 weight = s.weights[symbol], size = weight ? 1u << (weight - 1) : 0;
            for (u32 i = t; i < size; i += DECODER_THREADS)
                s.single[s.places[symbol] + i] = (u16)(symbol | (s.most + 1 - weight) << 8);
        }
    }
    PHASE(t, DECODER_THREADS)
    {
        for (u32 i = t; i < 1u << s.most; i += DECODER_THREADS)
            s.table[i] = join(&s, i);
    }
    PHASE(t, DECODER_THREADS)
    {
        u32 part = streams == 1 ? raw : (raw + 3) / 4;
        if (t >= streams)
            continue;
        u32 count = t == 3 ? (raw > 3 * part ? raw - 3 * part : 0) : part;
        bool whole = t != 3 || raw >= 3 * part;
        if (!whole || !decode_stream(&s, from + s.edge[t], s.edge[t + 1] - s.edge[t], out + block->to + t * part, count))
            raise(&status[block->frame], DAMAGED);
    }
}
