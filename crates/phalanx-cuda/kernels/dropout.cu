// Dropout by the generator of phalanx_tensor::rng: Philox4x32-10, the mask has the bits of the CPU's.
//
// Element i is drawn at index first + i of the stream: word (first + i) % 4 of block (first + i) / 4. A thread takes a
// block of the stream, that is up to four elements.

#include "common.cuh"

__device__ __forceinline__ uint4 philox(uint4 counter, u32 key0, u32 key1) {
#pragma unroll
    for (int round = 0; round < 10; round++) {
        u32 low0 = 0xD2511F53u * counter.x, high0 = __umulhi(0xD2511F53u, counter.x);
        u32 low1 = 0xCD9E8D57u * counter.z, high1 = __umulhi(0xCD9E8D57u, counter.z);
        counter = make_uint4(high1 ^ counter.y ^ key0, low1, high0 ^ counter.w ^ key1, low0);
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return counter;
}

extern "C" __global__ void dropout(u32 key0, u32 key1, u32 upper0, u32 upper1, u64 first, double p, float scale,
                                   const float *x, u32 add, float *out, u64 n) {
    u64 blocks = n == 0 ? 0 : (first + n - 1) / 4 - first / 4 + 1;
    for (u64 b = grid_first(); b < blocks; b += grid_step()) {
        u64 block = first / 4 + b;
        uint4 words = philox(make_uint4((u32)block, (u32)(block >> 32), upper0, upper1), key0, key1);
#pragma unroll
        for (u32 word = 0; word < 4; word++) {
            u64 index = block * 4 + word;
            if (index < first || index - first >= n) continue;
            u32 drawn = word == 0 ? words.x : word == 1 ? words.y : word == 2 ? words.z : words.w;
            float uniform = (float)(drawn >> 8) * (1.0f / 16777216.0f);
            u64 i = index - first;
            put(out + i, (double)uniform < p ? 0.0f : x[i] * scale, add);
        }
    }
}
