// Rows picked by index: embeddings.

#include "common.cuh"

// Rows of a table of `rows`, NaN beyond it. A block takes a row.
extern "C" __global__ void gather_rows(u64 n, u64 d, u64 rows, const float *table, const u32 *ids, float *y) {
    for (u64 row = blockIdx.x; row < n; row += gridDim.x) {
        u64 id = ids[row];
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) y[row * d + i] = id < rows ? table[id * d + i] : NOT_A_NUMBER;
    }
}

#define CHUNK 128

// table[ids[i]] += dy[i] in the order of i; the table is cleared first without `add`. A block of 128 threads takes a row of
// the table and looks through the ids, 128 at a time, for those that are its own.
extern "C" __global__ void scatter_rows(u64 n, u64 rows, u64 d, const u32 *ids, const float *dy, u32 add,
                                        float *table) {
    __shared__ u32 found[CHUNK / WARP];
    for (u64 row = blockIdx.x; row < rows; row += gridDim.x) {
        float *to = table + row * d;
        if (!add)
            for (u64 i = threadIdx.x; i < d; i += CHUNK) to[i] = 0.0f;
        for (u64 base = 0; base < n; base += CHUNK) {
            u64 at = base + threadIdx.x;
            u32 own = __ballot_sync(ALL_LANES, at < n && ids[at] == row);
            if (lane() == 0) found[warp()] = own;
            __syncthreads();
            for (u32 w = 0; w < CHUNK / WARP; w++)
                for (u32 left = found[w]; left != 0; left &= left - 1) {
                    const float *from = dy + (base + w * WARP + __ffs(left) - 1) * d;
                    for (u64 i = threadIdx.x; i < d; i += CHUNK) to[i] += from[i];
                }
            __syncthreads();
        }
    }
}

// A block takes a row.
extern "C" __global__ void one_hot(u64 n, u64 d, float value, const u32 *ids, float *out) {
    for (u64 row = blockIdx.x; row < n; row += gridDim.x) {
        u32 id = ids[row];
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) out[row * d + i] = i == id ? value : 0.0f;
    }
}
