// Sums and maxima along the middle extent of `outer x len x inner`.

#include "common.cuh"

// inner = 1: a block sums a row.
extern "C" __global__ void sum_rows(const float *x, u64 rows, u64 len, u32 add, float *out) {
    for (u64 row = blockIdx.x; row < rows; row += gridDim.x) {
        float sum = 0.0f;
        for (u64 i = threadIdx.x; i < len; i += blockDim.x) sum += x[row * len + i];
        sum = block_sum(sum);
        if (threadIdx.x == 0) put(out + row, sum, add);
    }
}

#define COLUMNS 32
#define SLICES 8

// A block of 32 x 8 threads sums 32 columns, thread (column, slice) every eighth row; slices are added in order.
// Blocks in y share the outer extent.
extern "C" __global__ void sum_columns(const float *x, u64 outer, u64 len, u64 inner, u32 add, float *out) {
    __shared__ float held[SLICES][COLUMNS];
    u64 column = (u64)blockIdx.x * COLUMNS + threadIdx.x;
    for (u64 o = blockIdx.y; o < outer; o += gridDim.y) {
        float sum = 0.0f;
        if (column < inner)
            for (u64 row = threadIdx.y; row < len; row += SLICES) sum += x[(o * len + row) * inner + column];
        held[threadIdx.y][threadIdx.x] = sum;
        __syncthreads();
        if (threadIdx.y == 0 && column < inner) {
            for (u32 slice = 1; slice < SLICES; slice++) sum += held[slice][threadIdx.x];
            put(out + o * inner + column, sum, add);
        }
        __syncthreads();
    }
}

// A thread takes a column; a NaN gives NaN.
extern "C" __global__ void max_axis(const float *x, u64 outer, u64 len, u64 inner, float *out) {
    for (u64 i = grid_first(); i < outer * inner; i += grid_step()) {
        const float *column = x + i / inner * len * inner + i % inner;
        float most = column[0];
        for (u64 row = 1; row < len; row++) {
            float here = column[row * inner];
            most = here > most || here != here ? here : most;
        }
        out[i] = most;
    }
}
