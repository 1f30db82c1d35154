/* Which blocks a zstd frame has (RFC 8878 §3.1.1), one thread a frame. Frames come from strangers: everything is checked against where
   the frame, its place in the output and the caller's list of blocks end, before the block is handed on. */

#include "bytes.cuh"

enum : u32 { FRAME_THREADS = 64 };

/* What is left of a frame. */
struct Reader {
    const u8 *coded;
    u64 at, end;
};

DEVICE bool has(const Reader *in, u64 bytes) { return in->end - in->at >= bytes; }

/* The frame's head: OK, and the most bytes that a block may stand for. */
DEVICE u32 read_head(Reader *in, u32 raw, u32 *block_max)
{
    if (!has(in, 6) || get_bytes(in->coded + in->at, 4) != 0xFD2FB528u)
        return DAMAGED;
    u32 descriptor = in->coded[in->at + 4], form = descriptor >> 6, single = descriptor >> 5 & 1;
    in->at += 5;
    if (descriptor & 8)
        return DAMAGED; /* a reserved bit */
    if (descriptor & 7)
        return NOT_OURS; /* a checksum, a dictionary */
    u64 window = raw;
    if (!single) {
        u32 byte = in->coded[in->at++];
        window = 1ull << (10 + (byte >> 3));
        window += (window >> 3) * (byte & 7);
    }
    u32 bytes = form == 0 ? single : 1u << form;
    if (bytes == 0)
        return NOT_OURS; /* it does not say how long it is */
    if (!has(in, bytes))
        return DAMAGED;
    u64 content = get_bytes(in->coded + in->at, bytes < 4 ? bytes : 4) + (bytes == 2 ? 256u : 0u);
    if (content != raw || (bytes == 8 && get_bytes(in->coded + in->at + 4, 4)))
        return DAMAGED;
    in->at += bytes;
    *block_max = window < BLOCK_MAX ? (u32)window : (u32)BLOCK_MAX;
    return OK;
}

/* A block of literals, at `in->at … end`, into `block`. `table` is where the last table was described, and how long that is. */
DEVICE u32 read_literals(const Reader *in, u64 end, Block *block, u64 *table, u32 *table_size)
{
    const u8 *coded = in->coded;
    u64 at = in->at, left = end - at;
    if (left < 2)
        return DAMAGED;
    u32 type = coded[at] & 3, form = coded[at] >> 2 & 3;
    if (type < 2) {
        u32 head = form == 1 ? 2 : form == 3 ? 3 : 1;
        if (left < head)
            return DAMAGED;
        block->raw = get_bytes(coded + at, head) >> (head == 1 ? 3 : 4);
        block->kind = type == 0 ? COPY : REPEAT;
        block->size = type == 0 ? block->raw : 1;
        block->from = at + head;
    } else {
        u32 head = form < 2 ? 3 : form + 2, width = form < 2 ? 10 : form == 2 ? 14 : 18;
        if (left < head)
            return DAMAGED;
        u64 word = get_bytes(coded + at, head < 4 ? head : 4) | (head == 5 ? (u64)coded[at + 4] << 32 : 0);
        u32 mask = (1u << width) - 1;
        block->raw = (u32)(word >> 4) & mask;
        block->size = (u32)(word >> (4 + width)) & mask;
        block->kind = HUFFMAN;
        block->streams = form ? 4 : 1;
        block->from = at + head;
        if (block->raw == 0 || block->size == 0 || (form && block->raw < 6))
            return DAMAGED;
        if (left < (u64)head + block->size)
            return DAMAGED;
        if (type == 2) {
            u32 first = coded[block->from];
            *table = block->from;
            *table_size = 1 + (first < 128 ? first : (first - 126) / 2);
            if (*table_size >= block->size)
                return DAMAGED;
            block->from += *table_size;
            block->size -= *table_size;
        }
        if (*table_size == 0)
            return DAMAGED; /* the table of a block before, and there is none */
        block->table = *table;
        block->table_size = *table_size;
    }
    u64 stop = block->from + block->size;
    if (stop >= end)
        return DAMAGED;
    if (coded[stop])
        return NOT_OURS; /* sequences follow the literals */
    return stop + 1 == end ? OK : DAMAGED;
}

/* All blocks of a frame into `blocks`, at most `slots`; the number of those that stand for bytes into `used`. */
DEVICE u32 read_frame(const u8 *coded, const Frame *frame, u32 number, u32 slots, Block *blocks, u32 *used)
{
    Reader in = {coded, frame->from, frame->from + frame->size};
    u32 block_max = 0, done = 0, table_size = 0;
    u64 table = 0;
    u32 status = read_head(&in, frame->raw, &block_max);
    bool last = false;
    while (status == OK && !last) {
        if (!has(&in, 3))
            return DAMAGED;
        u32 head = get_bytes(coded + in.at, 3), size = head >> 3, type = head >> 1 & 3;
        in.at += 3;
        last = head & 1;
        if (type == 3 || size > block_max)
            return DAMAGED;
        Block block = {in.at, frame->to + done, 0, size, size, 0, COPY, 1, number};
        if (type == 1) {
            block.kind = REPEAT;
            block.size = 1;
        }
        u32 inside = type == 1 ? 1 : size;
        if (!has(&in, inside))
            return DAMAGED;
        if (type == 2)
            status = read_literals(&in, in.at + inside, &block, &table, &table_size);
        if (status != OK)
            return status;
        if (block.raw > block_max || block.raw > frame->raw - done)
            return DAMAGED;
        in.at += inside;
        done += block.raw;
        if (block.raw == 0)
            continue;
        if (*used == slots)
            return NOT_OURS;
        blocks[(*used)++] = block;
    }
    if (status != OK)
        return status;
    return done == frame->raw && in.at == in.end ? OK : DAMAGED;
}

/* `coded`: `coded_size` bytes from a multiple of 16 on. `blocks`: `slots` for each frame. `status`: one for each frame. */
KERNEL(FRAME_THREADS)
read_frames(const u8 *coded, u64 coded_size, const Frame *frames, u64 count, u64 out_size, u32 slots, Block *blocks, u32 *status)
{
    PHASE(t, FRAME_THREADS)
    {
        u64 j = BLOCK * FRAME_THREADS + t;
        if (j >= count)
            continue;
        Frame frame = frames[j];
        u32 used = 0, found = DAMAGED;
        if (frame.from <= coded_size && frame.size <= coded_size - frame.from && frame.to <= out_size && frame.raw <= out_size - frame.to)
            found = read_frame(coded, &frame, (u32)j, slots, blocks + j * slots, &used);
        status[j] = found;
        for (u32 i = found == OK ? used : 0; i < slots; i++)
            blocks[j * slots + i].kind = NONE;
    }
}
