/* Records that kernels leave for each other, and limits of RFC 8878. torpor/gpu/records.py says the same to the host. */

#ifndef TORPOR_RECORDS_CUH
#define TORPOR_RECORDS_CUH

#include "shim.cuh"

enum : u32 {
    BLOCK_MAX = 131072, /* raw bytes of a zstd block */
    BITS_MAX = 11,      /* of a Huffman code */
    SYMBOLS = 256,
    DESCRIPTION_MAX = 129, /* bytes of a Huffman table's description, its head byte among them */
    ALIGN = 16,            /* frames begin at multiples of it (docs/format.md §6) */
    FOUR_STREAMS = 256,    /* from so many literals on they are coded as four streams */
};

enum : u32 { OK = 0, NOT_OURS = 1, DAMAGED = 2 }; /* of a frame; NOT_OURS: valid perhaps, but it holds more than literals */

enum : u32 { NONE = 0, COPY = 1, REPEAT = 2, HUFFMAN = 3 }; /* how a block is coded */

/* How a block of a plane will be written. */
struct Plan {
    u64 from;      /* its first byte in the plane */
    u64 to;        /* its first byte in the output */
    u32 kind, raw; /* raw bytes; 0: there is no such block */
    u32 size;      /* bytes in the frame, the 3 of the block's head and, for the first block, the frame's head among them */
    u32 head;      /* bytes of the frame's head; 0 if it is not the first block */
    u32 frame_raw; /* raw bytes of its frame */
    u32 last;      /* whether the frame ends with it */
    u32 streams;   /* 1 or 4 */
    u32 described; /* bytes of `description` */
    u32 stream[4]; /* bytes of each stream */
    u32 code[SYMBOLS]; /* bits of the code in the low half, their number in the high half */
    u8 description[136];
};

/* A frame to be decoded, or made: then `from` is its first raw byte, and `to` and `size` say nothing yet. */
struct Frame {
    u64 from, to;  /* its first byte in the coded bytes; where its raw bytes go */
    u32 size, raw; /* its coded and raw bytes */
};

/* A block found in a frame. */
struct Block {
    u64 from, to;
    u64 table;      /* where the description of its Huffman table lies */
    u32 size, raw;  /* coded bytes: what to copy, 1 to repeat, or the streams */
    u32 table_size, kind, streams, frame;
};

static_assert(sizeof(Plan) == 1224 && sizeof(Frame) == 24 && sizeof(Block) == 48, "records.py counts on it");

#endif
