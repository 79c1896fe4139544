// Sums and maxima along the middle extent of `outer x len x inner`.

#include "common.cuh"

// The sum of numbers, by a block. A thread takes four neighbours at a time, loaded at once where they lie so; the order does
// not depend on where they lie.
__device__ __forceinline__ float sum_of(const float *x, u64 n) {
    float sum = 0.0f;
    u64 fours = n / 4;
    if (by_four(x)) {
        const float4 *held = (const float4 *)x;
#pragma unroll 4
        for (u64 i = threadIdx.x; i < fours; i += blockDim.x) {
            float4 v = held[i];
            sum += (v.x + v.y) + (v.z + v.w);
        }
    } else {
#pragma unroll 4
        for (u64 i = threadIdx.x; i < fours; i += blockDim.x)
            sum += (x[4 * i] + x[4 * i + 1]) + (x[4 * i + 2] + x[4 * i + 3]);
    }
    if (threadIdx.x < n % 4) sum += x[4 * fours + threadIdx.x];
    return block_sum(sum);
}

// inner = 1: each row in `parts` parts, which are to be summed in their order. A block sums a part.
extern "C" __global__ void sum_rows(const float *x, u64 rows, u64 len, u64 parts, u32 add, float *out) {
    for (u64 at = blockIdx.x; at < rows * parts; at += gridDim.x) {
        // parts begin at every fourth number
        Rows fours = rows_of(at % parts, parts, (len + 3) / 4);
        u64 first = 4 * fours.first, end = 4 * fours.end < len ? 4 * fours.end : len;
        float sum = sum_of(x + at / parts * len + first, first < end ? end - first : 0);
        if (threadIdx.x == 0) put(out + at, sum, add);
    }
}

// out = outer x parts x inner: the rows are summed in `parts` parts of neighbours, which are to be summed in their order. A
// block takes 32 columns; blocks in y share the parts of all.
extern "C" __global__ void sum_columns(const float *x, u64 outer, u64 len, u64 inner, u64 parts, u32 add, float *out) {
    u64 column = (u64)blockIdx.x * COLUMNS + threadIdx.x;
    for (u64 part = blockIdx.y; part < outer * parts; part += gridDim.y) {
        const float *from = x + part / parts * len * inner + column;
        Rows rows = rows_of(part % parts, parts, len);
        float sum = 0.0f;
        if (column < inner)
            for (u64 row = rows.first + threadIdx.y; row < rows.end; row += ROWS_AT_ONCE) sum += from[row * inner];
        sum = column_sum(sum);
        if (threadIdx.y == 0 && column < inner) put(out + part * inner + column, sum, add);
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
