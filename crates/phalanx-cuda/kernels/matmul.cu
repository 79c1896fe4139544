// What cuBLAS leaves: bias and activation after a product, and products of layouts that it does not take.

#include "unary.cuh"

// No activation, as a kind.
#define NO_ACT 0xffffffffu

// y = act(sums + bias) for rows of n; `bias` may be null. The sums get the bias too where they lie apart from y. A block of
// 32 x 8 threads takes eight rows, a thread four neighbours of a row at a time.
extern "C" __global__ void bias_act(u64 rows, u64 n, const float *bias, u32 act, float *sums, float *y) {
    for (u64 row = (u64)blockIdx.x * ROWS_AT_ONCE + threadIdx.y; row < rows; row += (u64)gridDim.x * ROWS_AT_ONCE) {
        float *from = sums + row * n;
        for (u64 i = threadIdx.x; i < (n + 3) / 4; i += COLUMNS) {
            float4 v = get_four(from, i, n);
            if (bias) {
                float4 b = get_four(bias, i, n);
                v = make_float4(v.x + b.x, v.y + b.y, v.z + b.z, v.w + b.w);
                if (sums != y) put_four(from, i, n, v, 0);
            }
            put_four(y + row * n, i, n, act == NO_ACT ? v : values_at(act, v), 0);
        }
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
