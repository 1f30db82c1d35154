// Runs the kernels under sanitizers: damaged frames into the decoder, made-up planes through the encoder and back.
//
//   fuzz CORPUS SEED ROUNDS      CORPUS: frames one after another, each behind its raw and its coded length (4 bytes each)
//
// Buffers are exactly as long as promised, so a byte beyond them stops the program. Prints how many frames decoded, and how many not.

#include <stdio.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "kernels.cu"

using Bytes = std::unique_ptr<u8[]>;

struct Case {
    u32 raw;
    std::vector<u8> coded;
};

static std::mt19937 dice;

static u32 below(u32 limit) { return dice() % limit; }

template <class Kernel, class... Arguments> static void launch(u64 blocks, Kernel kernel, Arguments... arguments)
{
    shim_blocks = (u32)blocks;
    shim_turn = dice();
    for (shim_block = 0; shim_block < blocks; shim_block++)
        kernel(arguments...);
}

static u32 decode(const u8 *coded, u64 size, Frame frame, u8 *out, u64 out_size, u32 slots)
{
    std::vector<Block> blocks(slots);
    u32 status = 99;
    launch(1, read_frames, coded, size, (const Frame *)&frame, (u64)1, out_size, slots, blocks.data(), &status);
    launch(slots, decode_blocks, coded, (const Block *)blocks.data(), out, &status);
    return status;
}

static void damage(std::vector<u8> &bytes)
{
    u32 near_head = std::min<u32>((u32)bytes.size(), 160);
    for (u32 i = 1 + below(4); i > 0; i--)
        switch (below(6)) {
        case 0: bytes[below((u32)bytes.size())] = (u8)dice(); break;
        case 1: bytes[below(near_head)] = (u8)dice(); break;
        case 2: bytes[below(near_head)] ^= (u8)(1u << below(8)); break;
        case 3: bytes[below(std::min<u32>(near_head, 16))] ^= (u8)(1u << below(8)); break;
        case 4: bytes.resize(1 + below((u32)bytes.size())); near_head = std::min<u32>(near_head, (u32)bytes.size()); break;
        default: bytes.back() = (u8)dice(); break;
        }
}

static u32 try_frame(const Case &from)
{
    Case now = from;
    if (below(8))
        damage(now.coded);
    if (below(16) == 0)
        now.raw = below(400000);
    Frame frame = {0, below(5), (u32)now.coded.size(), now.raw};
    u64 size = now.coded.size(), out_size = frame.to + now.raw;
    if (below(32) == 0)
        frame.from = dice(), frame.size = below(2) ? (u32)dice() : frame.size;
    if (below(32) == 0)
        frame.to = (u64)dice() << below(33);
    Bytes coded(new u8[size]), out(new u8[out_size]);
    std::copy(now.coded.begin(), now.coded.end(), coded.get());
    return decode(coded.get(), size, frame, out.get(), out_size, 1 + below(8));
}

static bool try_plane()
{
    u32 count = 1 + below(below(2) ? 3000 : 300000), frame = 131072 + below(200000), alphabet = 1 + below(256), skew = below(12);
    Bytes plane(new u8[count]);
    for (u32 i = 0; i < count; i++) {
        u32 symbol = below(alphabet);
        for (u32 k = 0; k < skew; k++)
            symbol = std::min(symbol, below(alphabet));
        plane[i] = (u8)(below(2) ? symbol : alphabet - 1 - symbol);
    }
    u64 frames = (count + frame - 1) / frame, per_frame = (frame + BLOCK_MAX - 1) / BLOCK_MAX, blocks = frames * per_frame, total = 0;
    u64 capacity = (count + frames * 25 + 3 * blocks + 3) / 4 * 4;
    std::vector<Plan> plans(blocks);
    std::vector<u64> offsets(frames);
    std::vector<u32> sizes(frames);
    Bytes coded(new u8[capacity]()), out(new u8[count]);
    std::vector<Frame> table;
    for (u64 j = 0; j < frames; j++)
        table.push_back({j * frame, 0, 0, (u32)std::min<u64>(frame, count - j * frame)});
    launch(blocks, plan_blocks, (const u8 *)plane.get(), (const Frame *)table.data(), (u32)per_frame, plans.data());
    launch(1, place_blocks, plans.data(), frames, (u32)per_frame, offsets.data(), sizes.data(), &total);
    launch(blocks, write_blocks, (const u8 *)plane.get(), (const Plan *)plans.data(), coded.get(), capacity);
    for (u64 j = 0; j < frames; j++) {
        u32 raw = (u32)std::min<u64>(frame, count - j * frame);
        if (decode(coded.get(), capacity, {offsets[j], j * frame, sizes[j], raw}, out.get(), count, (u32)per_frame) != OK)
            return false;
    }
    // What does not fit is left out, and nothing is written beyond.
    u64 less = below((u32)total + 1);
    Bytes small(new u8[less / 4 * 4 + 1]());
    launch(blocks, write_blocks, (const u8 *)plane.get(), (const Plan *)plans.data(), small.get(), less);
    return std::equal(plane.get(), plane.get() + count, out.get());
}

int main(int count, char **words)
{
    if (count != 4)
        return 2;
    FILE *file = fopen(words[1], "rb");
    std::vector<Case> corpus;
    u32 head[2];
    while (file && fread(head, 4, 2, file) == 2) {
        corpus.push_back({head[0], std::vector<u8>(head[1])});
        if (fread(corpus.back().coded.data(), 1, head[1], file) != head[1])
            return 2;
    }
    if (corpus.empty())
        return 2;
    fclose(file);
    dice.seed((u32)atoi(words[2]));
    u32 found[3] = {0, 0, 0};
    for (int round = 0; round < atoi(words[3]); round++) {
        found[try_frame(corpus[below((u32)corpus.size())])]++;
        if (round % 32 == 0 && !try_plane())
            return 3;
    }
    printf("%u %u %u\n", found[OK], found[NOT_OURS], found[DAMAGED]);
    return 0;
}
