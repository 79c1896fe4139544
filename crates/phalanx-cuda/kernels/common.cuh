// What kernels share: sizes, writing or adding, and sums over the threads of a warp and of a block.
//
// Sums run along a fixed tree, so that the same operands give the same bits. Blocks have whole warps. Compiled with
// --fmad=false: a product and a sum are contracted only where fmaf is written.

#pragma once

typedef unsigned int u32;
typedef unsigned long long u64;

#define WARP 32u
#define ALL_LANES 0xffffffffu
#define INFINITE __int_as_float(0x7f800000)
#define NOT_A_NUMBER __int_as_float(0x7fc00000)

// This thread's first element and its step, where threads of the whole grid share a range.
__device__ __forceinline__ u64 grid_first() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ u64 grid_step() { return (u64)gridDim.x * blockDim.x; }

__device__ __forceinline__ u32 lane() { return threadIdx.x % WARP; }
__device__ __forceinline__ u32 warp() { return threadIdx.x / WARP; }

// Sets or adds.
__device__ __forceinline__ void put(float *out, float value, u32 add) { *out = add ? *out + value : value; }

// Whether four numbers at a time may be read or written there.
__device__ __forceinline__ bool by_four(const void *at) { return ((u64)at & 15) == 0; }

__device__ __forceinline__ float4 four_at(const float *x, u64 i) { return ((const float4 *)x)[i]; }

// The i-th four of n numbers, at once where they lie so; 0 beyond the end.
__device__ __forceinline__ float4 get_four(const float *x, u64 i, u64 n) {
    u64 left = n - 4 * i;
    if (left >= 4 && by_four(x)) return four_at(x, i);
    x += 4 * i;
    return make_float4(x[0], left > 1 ? x[1] : 0.0f, left > 2 ? x[2] : 0.0f, left > 3 ? x[3] : 0.0f);
}

// Sets or adds the i-th four of n numbers.
__device__ __forceinline__ void put_four(float *out, u64 i, u64 n, float4 v, u32 add) {
    u64 left = n - 4 * i;
    if (add) {
        float4 old = get_four(out, i, n);
        v = make_float4(old.x + v.x, old.y + v.y, old.z + v.z, old.w + v.w);
    }
    if (left >= 4 && by_four(out)) {
        ((float4 *)out)[i] = v;
        return;
    }
    out += 4 * i;
    out[0] = v.x;
    if (left > 1) out[1] = v.y;
    if (left > 2) out[2] = v.z;
    if (left > 3) out[3] = v.w;
}

// The next of four: v.x goes off and `last` comes in, so that after four turns all are replaced. Loops that are not unrolled
// have the code of a function once.
__device__ __forceinline__ float4 turned(float4 v, float last) { return make_float4(v.y, v.z, v.w, last); }

__device__ __forceinline__ bool is_finite(float x) { return fabsf(x) < INFINITE; }

template <typename T> __device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
    for (u32 half = WARP / 2; half > 0; half /= 2) x += __shfl_xor_sync(ALL_LANES, x, half);
    return x;
}

// The greatest number; NaN is passed over.
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (u32 half = WARP / 2; half > 0; half /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, half));
    return x;
}

// The sum over a block, to every thread of it.
template <typename T> __device__ __forceinline__ T block_sum(T x) {
    __shared__ T held[WARP];
    x = warp_sum(x);
    if (blockDim.x == WARP) return x;
    __syncthreads();
    if (lane() == 0) held[warp()] = x;
    __syncthreads();
    return warp_sum(lane() < blockDim.x / WARP ? held[lane()] : (T)0);
}

// The greatest number of a block, to every thread of it; NaN is passed over.
__device__ __forceinline__ float block_max(float x) {
    __shared__ float held[WARP];
    x = warp_max(x);
    if (blockDim.x == WARP) return x;
    __syncthreads();
    if (lane() == 0) held[warp()] = x;
    __syncthreads();
    return warp_max(lane() < blockDim.x / WARP ? held[lane()] : -INFINITE);
}

// A block of 32 x 8 threads that adds up rows of 32 columns, thread (column, slice) every eighth row.
#define COLUMNS 32
#define ROWS_AT_ONCE 8

// The rows of part `part` of `parts`, of `len` in all.
struct Rows {
    u64 first, end;
};

__device__ __forceinline__ Rows rows_of(u64 part, u64 parts, u64 len) {
    u64 each = (len + parts - 1) / parts, first = part * each;
    return {first, first + each < len ? first + each : len};
}

// Adds the sums of the threads above each other, in order; for the threads of the first row.
__device__ __forceinline__ float column_sum(float sum) {
    __shared__ float held[ROWS_AT_ONCE][COLUMNS];
    __syncthreads();
    held[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    for (u32 row = 1; threadIdx.y == 0 && row < ROWS_AT_ONCE; row++) sum += held[row][threadIdx.x];
    return sum;
}

// How to walk a buffer: steps along up to six dims, 0 along those it is broadcast to.
#define DIMS 6
struct Steps {
    u64 offset;
    u64 step[DIMS];
};

// The extents walked, the last one first; 1 beyond the rank. Their product is below 2^32.
struct Extents {
    u32 of[DIMS];
};

// Where two walks are at an index.
struct Pair {
    u64 a, b;
};

__device__ __forceinline__ Pair walk(u32 index, const Extents &extents, const Steps &a, const Steps &b) {
    Pair at = {a.offset, b.offset};
#pragma unroll
    for (int dim = 0; dim < DIMS; dim++) {
        if (index == 0) break;
        u32 whole = index / extents.of[dim];
        u32 rest = index - whole * extents.of[dim];
        at.a += rest * a.step[dim];
        at.b += rest * b.step[dim];
        index = whole;
    }
    return at;
}
