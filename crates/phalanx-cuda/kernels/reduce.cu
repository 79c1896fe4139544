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
