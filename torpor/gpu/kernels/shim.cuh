/* What the kernels need of CUDA; and the same on one CPU thread, so that they run, bit for bit, where there is no GPU.

   A kernel is a row of phases. PHASE(t, threads) runs its body once for each thread and then waits for all of them: on a GPU in
   parallel with a barrier, on a CPU as a loop. Hence what outlives a phase lies in SHARED memory or depends on the arguments alone;
   a phase is left by `continue`, never by `break` or `return`; and what stands round a phase must hold for the whole block. */

#ifndef TORPOR_SHIM_CUH
#define TORPOR_SHIM_CUH

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef __CUDACC__

#define DEVICE static __device__
#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
#define SHARED(type, name) __shared__ type name
#define PHASE(t, threads) for (u32 t = threadIdx.x, once_ = 1; once_; once_ = 0, __syncthreads())
#define BLOCK ((u64)blockIdx.x)
#define BLOCKS ((u64)gridDim.x)

DEVICE u32 high_bit(u32 value) { return 31 - __clz((int)value); }
DEVICE u32 load_word(const u8 *at) { return *(const u32 *)at; }
DEVICE void store_word(u8 *at, u32 word) { *(u32 *)at = word; }
DEVICE void or_word(u8 *at, u32 bits) { atomicOr((u32 *)at, bits); }
DEVICE void add(u32 *to, u32 value) { atomicAdd(to, value); }
DEVICE void raise(u32 *to, u32 value) { atomicMax(to, value); }

#else

#include <stdlib.h>
#include <string.h>

#define DEVICE static inline
#define KERNEL(threads) extern "C" void
#define SHARED(type, name) type name; memset((void *)&name, 0xA5, sizeof name) /* nobody may count on zeros */
#define PHASE(t, threads) for (u32 i_ = 0, t = shim_thread(0, threads); i_ < (threads); t = shim_thread(++i_, threads))
#define BLOCK ((u64)shim_block)
#define BLOCKS ((u64)shim_blocks)

/* Set by whoever calls a kernel: which block it is, of how many, and in what order its threads take their turns. */
extern "C" {
u32 shim_block = 0, shim_blocks = 1, shim_turn = 0;
}

/* `threads` is a power of two: every `shim_turn` gives another order of them, so a race inside a phase shows. */
DEVICE u32 shim_thread(u32 number, u32 threads) { return (number ^ shim_turn) & (threads - 1); }

DEVICE u32 high_bit(u32 value) { return 31 - (u32)__builtin_clz(value); }
DEVICE u32 load_word(const u8 *at)
{
    u32 word;
    if ((size_t)at & 3)
        abort(); /* a GPU traps too */
    memcpy(&word, at, 4);
    return word;
}
DEVICE void store_word(u8 *at, u32 word)
{
    if ((size_t)at & 3)
        abort();
    memcpy(at, &word, 4);
}
DEVICE void or_word(u8 *at, u32 bits) { store_word(at, load_word(at) | bits); }
DEVICE void add(u32 *to, u32 value) { *to += value; }
DEVICE void raise(u32 *to, u32 value) { *to = *to < value ? value : *to; }

#endif
#endif
