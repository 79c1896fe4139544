// Rows picked by index: embeddings.

#include "common.cuh"

// Rows of a table of `rows`, NaN beyond it. A block takes a row.
extern "C" __global__ void gather_rows(u64 n, u64 d, u64 rows, const float *table, const u32 *ids, float *y) {
    for (u64 row = blockIdx.x; row < n; row += gridDim.x) {
        u64 id = ids[row];
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) y[row * d + i] = id < rows ? table[id * d + i] : NOT_A_NUMBER;
    }
}

#define SEEKERS 256u
#define STRIDES 8u
#define WORDS (SEEKERS / WARP * STRIDES)
#define CHUNK (SEEKERS * STRIDES)
#define AHEAD 16u

// Counts bits of 64 words of the chunk and lists their places in order; a warp takes two words a lane. The count of all, to
// every lane.
__device__ __forceinline__ u32 list_bits(const u32 *words, unsigned short *list) {
    u32 low = words[2 * lane()], high = words[2 * lane() + 1], own = __popc(low) + __popc(high), upto = own;
#pragma unroll
    for (u32 step = 1; step < WARP; step *= 2) {
        u32 before = __shfl_up_sync(ALL_LANES, upto, step);
        if (lane() >= step) upto += before;
    }
    u32 at = upto - own, first = 2 * lane() * WARP;
    for (; low != 0; low &= low - 1) list[at++] = first + __ffs(low) - 1;
    for (; high != 0; high &= high - 1) list[at++] = first + WARP + __ffs(high) - 1;
    return __shfl_sync(ALL_LANES, upto, WARP - 1);
}

// table[ids[i]] += dy[i] in the order of i; the table is cleared first without `add`. A block of 256 threads takes `each`
// neighbouring rows of the table, looks through the ids, 2048 at a time, for those that are its own, and lists them.
extern "C" __global__ void scatter_rows(u64 n, u64 rows, u64 d, u32 each, const u32 *ids, const float *dy, u32 add,
                                        float *table) {
    __shared__ u32 found[WORDS], count;
    __shared__ unsigned short list[CHUNK];
    for (u64 first = (u64)blockIdx.x * each; first < rows; first += (u64)gridDim.x * each) {
        u64 own = rows - first < each ? rows - first : each;
        float *to = table + first * d;
        if (!add)
            for (u64 row = 0; row < own; row++)
                for (u64 i = threadIdx.x; i < d; i += SEEKERS) to[row * d + i] = 0.0f;
        for (u64 base = 0; base < n; base += CHUNK) {
            u32 held[STRIDES];
#pragma unroll
            for (u32 k = 0; k < STRIDES; k++) {
                u64 at = base + k * SEEKERS + threadIdx.x;
                held[k] = at < n ? ids[at] : 0xffffffffu;
            }
#pragma unroll
            for (u32 k = 0; k < STRIDES; k++) {
                u32 hits = __ballot_sync(ALL_LANES, held[k] - first < own);
                if (lane() == 0) found[k * (SEEKERS / WARP) + warp()] = hits;
            }
            __syncthreads();
            if (warp() == 0) {
                u32 all = list_bits(found, list);
                if (lane() == 0) count = all;
            }
            __syncthreads();
            for (u64 i = threadIdx.x; count > 0 && i < d; i += SEEKERS) {
                u32 row = 0;
                float sum = to[i];
                for (u32 k = 0; k < count; k += AHEAD) {
                    float values[AHEAD];
                    u32 of[AHEAD];
#pragma unroll
                    for (u32 a = 0; a < AHEAD; a++) {
                        u64 at = base + (k + a < count ? list[k + a] : list[k]);
                        values[a] = dy[at * d + i];
                        of[a] = own == 1 ? 0 : ids[at] - (u32)first;
                    }
#pragma unroll
                    for (u32 a = 0; a < AHEAD; a++) {
                        if (k + a >= count) break;
                        if (of[a] != row) {
                            to[row * d + i] = sum;
                            row = of[a];
                            sum = to[row * d + i];
                        }
                        sum += values[a];
                    }
                }
                to[row * d + i] = sum;
            }
            __syncthreads();
        }
    }
}

// Sums of a table of few rows over parts of the positions, parts x rows x d, each in the order of positions; the parts are
// to be summed in theirs. A warp takes a part and 32 columns, for which it holds the whole table in shared memory.
extern "C" __global__ void scatter_parts(u64 n, u32 rows, u64 d, u64 parts, const u32 *ids, const float *dy, float *out) {
    extern __shared__ float held[];
    u64 column = (u64)blockIdx.y * WARP + lane();
    bool is_column = column < d;
    float *own = held + lane();
    for (u64 part = blockIdx.x; part < parts; part += gridDim.x) {
        for (u32 row = 0; row < rows; row++) own[row * WARP] = 0.0f;
        Rows positions = rows_of(part, parts, n);
        for (u64 base = positions.first; base < positions.end; base += WARP) {
            u32 count = positions.end - base < WARP ? (u32)(positions.end - base) : WARP;
            u32 id = lane() < count ? ids[base + lane()] : 0xffffffffu;
            float values[WARP];
#pragma unroll
            for (u32 k = 0; k < WARP; k++) values[k] = k < count && is_column ? dy[(base + k) * d + column] : 0.0f;
#pragma unroll
            for (u32 k = 0; k < WARP; k++) {
                u32 row = __shfl_sync(ALL_LANES, id, k);
                if (row < rows) own[row * WARP] += values[k];
            }
        }
        if (is_column)
            for (u32 row = 0; row < rows; row++) out[(part * rows + row) * d + column] = own[row * WARP];
    }
}

// A block takes a row.
extern "C" __global__ void one_hot(u64 n, u64 d, float value, const u32 *ids, float *out) {
    for (u64 row = blockIdx.x; row < n; row += gridDim.x) {
        u32 id = ids[row];
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) out[row * d + i] = i == id ? value : 0.0f;
    }
}
