// What cuBLAS leaves: bias and ReLU after a product, and products of layouts that it does not take.

#include "common.cuh"

// y = act(y + bias) for rows of n; `bias` may be null. A block takes a row.
extern "C" __global__ void bias_act(u64 rows, u64 n, const float *bias, u32 relu, float *y) {
    for (u64 row = blockIdx.x; row < rows; row += gridDim.x)
        for (u64 i = threadIdx.x; i < n; i += blockDim.x) {
            float v = bias ? y[row * n + i] + bias[i] : y[row * n + i];
            y[row * n + i] = relu && v < 0.0f ? 0.0f : v;
        }
}

// How a matrix lies: steps from row to row, column to column, and matrix to matrix of a batch.
struct Layout {
    u64 offset, row, column, batch;
};

#define TILE 16

// c (m x n) (+)= a (m x k) b (k x n) for any layout, a tile of 16 x 16 a block; blocks in z share the batch. Where
// `sums` is set the products of the batch add up into one c, in order.
extern "C" __global__ void matmul_any(u32 batch, u32 m, u32 n, u32 k, const float *a, const float *b, float *c,
                                      Layout of_a, Layout of_b, Layout of_c, u32 add, u32 sums) {
    __shared__ float left[TILE][TILE + 1], right[TILE][TILE + 1];
    u32 x = threadIdx.x, y = threadIdx.y;
    u32 row = blockIdx.y * TILE + y, column = blockIdx.x * TILE + x;
    u32 first = sums ? 0 : blockIdx.z, step = sums ? 1 : gridDim.z;
    float sum = 0.0f;
    for (u32 z = first; z < batch; z += step) {
        if (!sums) sum = 0.0f;
        const float *from_a = a + of_a.offset + z * of_a.batch, *from_b = b + of_b.offset + z * of_b.batch;
        for (u32 base = 0; base < k; base += TILE) {
            bool in_a = row < m && base + x < k, in_b = column < n && base + y < k;
            left[y][x] = in_a ? from_a[row * of_a.row + (base + x) * of_a.column] : 0.0f;
            right[y][x] = in_b ? from_b[(base + y) * of_b.row + column * of_b.column] : 0.0f;
            __syncthreads();
#pragma unroll
            for (u32 i = 0; i < TILE; i++) sum = fmaf(left[y][i], right[i][x], sum);
            __syncthreads();
        }
        if (row < m && column < n && (!sums || z + 1 == batch))
            put(c + of_c.offset + z * of_c.batch + row * of_c.row + column * of_c.column, sum, add);
    }
}
