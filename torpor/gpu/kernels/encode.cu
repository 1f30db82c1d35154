/* A plane into zstd frames of Huffman coded literals, by three kernels:

   plan_blocks   one block of threads a zstd block: histograms, code, sizes
   place_blocks  one block of threads in all: where each frame and block goes
   write_blocks  one block of threads a zstd block: heads and bits, all at their final place

   The output must be zeros: bits are or-ed in where two threads share a word. */

#include "bytes.cuh"
#include "huffman.cuh"
#include "weights.cuh"

enum : u32 { CODER_THREADS = 256, LANES = CODER_THREADS / 4, COPIES = 8 };

struct PlanState {
    u32 count[4][SYMBOLS][COPIES]; /* a histogram for each stream, in copies so that threads seldom meet in one word */
    u32 by_stream[4][SYMBOLS], total[SYMBOLS], work[SYMBOLS];
    u16 places[SYMBOLS];
    u8 order[SYMBOLS], weights[SYMBOLS];
    u32 symbols, last, most;
    u32 bits[4];
    Plan plan;
};

DEVICE u32 frame_head(u32 raw) { return raw < 256 ? 6 : raw < 65792 ? 7 : 9; }

/* Where a stream's literals begin and end in its block. */
DEVICE u32 stream_edge(u32 raw, u32 streams, u32 stream)
{
    u32 part = (raw + streams - 1) / streams;
    return stream >= streams ? raw : stream * part;
}

DEVICE u32 literals_head(u32 raw) { return raw < 1024 ? 3 : raw < 16384 ? 4 : 5; }

/* By one thread: from counts to weights, their description and places. `plan.described` 0: this block is not for Huffman. */
DEVICE void make_code(PlanState *s)
{
    for (u32 i = 0; i < s->symbols; i++)
        s->work[i] = s->total[s->order[i]];
    huffman_depths(s->work, s->symbols);
    s->most = limit_depths(s->work, s->symbols);
    for (u32 i = 0; i < s->symbols; i++)
        s->weights[s->order[i]] = (u8)(s->most + 1 - s->work[i]);
    code_places(s->weights, s->last + 1, s->places);
    s->plan.described = write_weights(s->weights, s->last, s->plan.description);
}

/* By one thread: which kind of block it will be, and how large. */
DEVICE void settle(PlanState *s)
{
    Plan *plan = &s->plan;
    plan->kind = s->symbols == 1 ? REPEAT : COPY;
    plan->size = 3 + (s->symbols == 1 ? 1 : plan->raw);
    if (s->symbols > 1 && plan->described) {
        u32 size = 3 + literals_head(plan->raw) + plan->described + (plan->streams == 4 ? 6 : 0) + 1;
        bool fits = true;
        for (u32 i = 0; i < plan->streams; i++) {
            plan->stream[i] = s->bits[i] / 8 + 1; /* a one ends the stream, zeros fill its last byte */
            size += plan->stream[i];
            fits = fits && plan->stream[i] < 65536; /* the jump table's width */
        }
        if (fits && size < plan->size) {
            plan->kind = HUFFMAN;
            plan->size = size;
        }
    }
    plan->size += plan->head;
}

/* `plane`: bytes, at a multiple of 4. `frames`: where each frame's raw bytes begin in it, and how many they are. `plans`: one for each of
   `per_frame` blocks of each frame. */
KERNEL(CODER_THREADS) plan_blocks(const u8 *plane, const Frame *frames, u32 per_frame, Plan *plans)
{
    SHARED(PlanState, s);
    PHASE(t, CODER_THREADS)
    {
        for (u32 stream = 0; stream < 4; stream++)
            for (u32 copy = 0; copy < COPIES; copy++)
                s.count[stream][t][copy] = 0;
        s.weights[t] = 0;
        s.places[t] = 0;
        if (t)
            continue;
        u64 start = frames[BLOCK / per_frame].from, end = start + frames[BLOCK / per_frame].raw;
        u64 from = start + BLOCK % per_frame * BLOCK_MAX;
        s.plan.from = from;
        s.plan.to = 0;
        s.plan.raw = from >= end ? 0 : end - from < BLOCK_MAX ? (u32)(end - from) : (u32)BLOCK_MAX;
        s.plan.frame_raw = (u32)(end - start);
        s.plan.head = from == start ? frame_head(s.plan.frame_raw) : 0;
        s.plan.last = from + BLOCK_MAX >= end;
        s.plan.streams = s.plan.raw < FOUR_STREAMS ? 1 : 4;
        s.plan.kind = NONE;
        s.plan.size = s.plan.described = s.symbols = s.last = s.most = 0;
        for (u32 i = 0; i < 4; i++)
            s.plan.stream[i] = s.bits[i] = 0;
        for (u32 i = 0; i < sizeof s.plan.description; i++)
            s.plan.description[i] = 0;
    }
    PHASE(t, CODER_THREADS)
    {
        u32 stream = t / LANES, lane = t % LANES, raw = s.plan.raw, streams = s.plan.streams;
        const u8 *at = plane + s.plan.from;
        u32 from = stream_edge(raw, streams, stream), to = stream_edge(raw, streams, stream + 1);
        for (u32 i = from + 4 * lane; i < to; i += 4 * LANES)
            if (i + 4 <= to && !((u64)(at + i) & 3)) {
                u32 word = load_word(at + i);
                for (u32 k = 0; k < 4; k++, word >>= 8)
                    add(&s.count[stream][word & 0xFF][t % COPIES], 1);
            } else
                for (u32 k = i; k < i + 4 && k < to; k++)
                    add(&s.count[stream][at[k]][t % COPIES], 1);
    }
    PHASE(t, CODER_THREADS)
    {
        u32 total = 0;
        for (u32 stream = 0; stream < 4; stream++) {
            u32 sum = 0;
            for (u32 copy = 0; copy < COPIES; copy++)
                sum += s.count[stream][t][copy];
            s.by_stream[stream][t] = sum;
            total += sum;
        }
        s.total[t] = total;
        if (total) {
            add(&s.symbols, 1);
            raise(&s.last, t);
        }
    }
    PHASE(t, CODER_THREADS)
    {
        u32 mine = s.total[t], rank = 0;
        for (u32 i = 0; i < SYMBOLS; i++)
            rank += s.total[i] && (s.total[i] < mine || (s.total[i] == mine && i < t));
        if (mine)
            s.order[rank] = (u8)t;
    }
    PHASE(t, CODER_THREADS)
    {
        if (t == 0 && s.symbols > 1)
            make_code(&s);
    }
    PHASE(t, CODER_THREADS)
    {
        u32 weight = s.weights[t], bits = weight ? s.most + 1 - weight : 0;
        s.plan.code[t] = weight ? (u32)s.places[t] >> (weight - 1) | bits << 16 : 0;
        for (u32 stream = 0; stream < 4; stream++)
            if (s.by_stream[stream][t])
                add(&s.bits[stream], s.by_stream[stream][t] * bits);
    }
    PHASE(t, CODER_THREADS)
    {
        if (t == 0 && s.plan.raw)
            settle(&s);
    }
    PHASE(t, CODER_THREADS)
    {
        for (u32 i = t; i < sizeof(Plan) / 4; i += CODER_THREADS)
            ((u32 *)&plans[BLOCK])[i] = ((const u32 *)&s.plan)[i];
    }
}

struct PlaceState {
    u64 start[CODER_THREADS + 1];
};

/* Frames one after another from 0 on, at multiples of 16. `frames[j]`: offset and size. `total`: where the last one ends. */
KERNEL(CODER_THREADS) place_blocks(Plan *plans, u64 frames, u32 per_frame, u64 *offsets, u32 *sizes, u64 *total)
{
    SHARED(PlaceState, s);
    PHASE(t, CODER_THREADS)
    {
        u64 part = (frames + CODER_THREADS - 1) / CODER_THREADS, sum = 0;
        for (u64 j = t * part; j < frames && j < (t + 1) * part; j++) {
            u32 size = 0;
            for (u32 k = 0; k < per_frame; k++)
                size += plans[j * per_frame + k].size;
            sizes[j] = size;
            sum += (size + ALIGN - 1) / ALIGN * ALIGN;
        }
        s.start[t + 1] = sum;
    }
    PHASE(t, CODER_THREADS)
    {
        if (t)
            continue;
        s.start[0] = 0;
        for (u32 i = 0; i < CODER_THREADS; i++)
            s.start[i + 1] += s.start[i];
    }
    PHASE(t, CODER_THREADS)
    {
        u64 part = (frames + CODER_THREADS - 1) / CODER_THREADS, at = s.start[t];
        for (u64 j = t * part; j < frames && j < (t + 1) * part; j++) {
            offsets[j] = at;
            u64 to = at;
            for (u32 k = 0; k < per_frame; k++) {
                plans[j * per_frame + k].to = to;
                to += plans[j * per_frame + k].size;
            }
            if (j + 1 == frames)
                *total = to;
            at += (to - at + ALIGN - 1) / ALIGN * ALIGN;
        }
    }
}

struct WriteState {
    u32 code[SYMBOLS];
    u32 bits[CODER_THREADS];  /* of each thread's literals, then: of all literals of its stream that are written before them */
    u64 stream[4];            /* where each stream begins in the output */
};

/* By one thread: everything of a block but its literals. Returns where those go. */
DEVICE u64 write_heads(u8 *out, const Plan *plan, const u8 *from)
{
    u64 at = plan->to;
    if (plan->head) {
        at = or_bytes(out, at, 0xFD2FB528u, 4);
        u32 form = plan->head == 6 ? 0 : plan->head == 7 ? 1 : 2;
        at = or_bytes(out, at, form << 6 | 1 << 5, 1); /* a single segment, with its size */
        at = or_bytes(out, at, plan->frame_raw - (form == 1 ? 256 : 0), plan->head - 5);
    }
    u32 type = plan->kind == HUFFMAN ? 2 : plan->kind == REPEAT ? 1 : 0;
    u32 size = plan->kind == HUFFMAN ? plan->size - plan->head - 3 : plan->raw;
    at = or_bytes(out, at, plan->last | type << 1 | size << 3, 3);
    if (plan->kind == REPEAT)
        return or_bytes(out, at, from[0], 1);
    if (plan->kind != HUFFMAN)
        return at;
    u32 head = literals_head(plan->raw), width = head == 3 ? 10 : head == 4 ? 14 : 18, coded = size - head - 1;
    u32 form = plan->streams == 1 ? 0 : head - 2;
    u64 word = 2 | form << 2 | (u64)plan->raw << 4 | (u64)coded << (4 + width);
    at = or_bytes(out, at, word, head);
    for (u32 i = 0; i < plan->described; i++)
        at = or_bytes(out, at, plan->description[i], 1);
    for (u32 i = 0; i < 3 && plan->streams == 4; i++)
        at = or_bytes(out, at, plan->stream[i], 2);
    return at; /* the block's last byte, no sequences, is zero already */
}

/* A thread's literals of a stream: an equal share, so that it begins at a multiple of 4. */
DEVICE u32 share_edge(u32 from, u32 to, u32 lane)
{
    u32 part = (to - from + 4 * LANES - 1) / (4 * LANES) * 4, edge = from + part * lane;
    return edge < to ? edge : to;
}

/* Writes codes of literals, from the last to the first, from bit `bit` of the output on; then a one, if `ends`. */
DEVICE void write_codes(u8 *out, u64 bit, const u8 *from, u32 start, u32 end, const u32 *code, bool ends)
{
    u8 *at = out + bit / 32 * 4;
    u32 filled = (u32)bit & 31;
    u64 waiting = 0;
    bool edge = true; /* the first word may be another's too, and the last */
    for (u32 i = end; i > start || ends;) {
        u32 word, number = 1;
        if (i == start) {
            word = 0;
            waiting |= (u64)1 << filled++;
            number = 0;
            ends = false;
        } else if (i - start >= 4 && !((u64)(from + i) & 3)) {
            word = load_word(from + i - 4);
            number = 4;
        } else
            word = (u32)from[i - 1] << 24;
        i -= number;
        for (u32 k = 0; k <= number; k++) {
            if (filled >= 32) {
                if (edge)
                    or_word(at, (u32)waiting);
                else
                    store_word(at, (u32)waiting);
                edge = false;
                at += 4;
                waiting >>= 32;
                filled -= 32;
            }
            if (k == number)
                break;
            u32 entry = code[word >> 24];
            word <<= 8;
            waiting |= (u64)(entry & 0xFFFF) << filled;
            filled += entry >> 16;
        }
    }
    if (filled && waiting)
        or_word(at, (u32)waiting);
}

/* `out`: zeros, `capacity` bytes from a multiple of 16 on; a block that does not fit is left out. */
KERNEL(CODER_THREADS) write_blocks(const u8 *plane, const Plan *plans, u8 *out, u64 capacity)
{
    SHARED(WriteState, s);
    const Plan *plan = &plans[BLOCK];
    const u8 *from = plane + plan->from;
    u32 raw = plan->raw, streams = plan->streams, kind = plan->kind;
    if (kind == NONE || plan->to + plan->size > capacity / 4 * 4)
        return;
    PHASE(t, CODER_THREADS)
    {
        s.code[t] = plan->code[t];
        if (t)
            continue;
        u64 at = write_heads(out, plan, from);
        for (u32 i = 0; i < 4; i++) {
            s.stream[i] = at;
            at += plan->stream[i];
        }
    }
    if (kind == COPY) {
        PHASE(t, CODER_THREADS) { copy_bytes(out, s.stream[0], from, raw, t, CODER_THREADS, true); }
        return;
    }
    if (kind != HUFFMAN)
        return;
    PHASE(t, CODER_THREADS)
    {
        u32 begin = stream_edge(raw, streams, t / LANES), end = stream_edge(raw, streams, t / LANES + 1), bits = 0;
        u32 stop = share_edge(begin, end, t % LANES + 1), i = share_edge(begin, end, t % LANES);
        for (; i + 4 <= stop && !((u64)(from + i) & 3); i += 4) {
            u32 word = load_word(from + i);
            for (u32 k = 0; k < 4; k++, word >>= 8)
                bits += s.code[word & 0xFF] >> 16;
        }
        for (; i < stop; i++)
            bits += s.code[from[i]] >> 16;
        s.bits[t] = bits;
    }
    PHASE(t, CODER_THREADS)
    {
        if (t >= 4)
            continue;
        u32 sum = 0;
        for (u32 i = (t + 1) * LANES; i-- > t * LANES;) {
            u32 bits = s.bits[i];
            s.bits[i] = sum;
            sum += bits;
        }
    }
    PHASE(t, CODER_THREADS)
    {
        u32 stream = t / LANES, begin = stream_edge(raw, streams, stream), end = stream_edge(raw, streams, stream + 1);
        if (stream < streams)
            write_codes(out, 8 * s.stream[stream] + s.bits[t], from, share_edge(begin, end, t % LANES),
                        share_edge(begin, end, t % LANES + 1), s.code, t % LANES == 0);
    }
}
