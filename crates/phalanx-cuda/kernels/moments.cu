// What every step asks of a flat buffer, and inner products of rows, with the bits of the CPU.
//
// Blocks of 4096 elements are summed in f64 in sixteen lanes, element i of a block in lane i mod 16, the lanes in a tree
// of halves. Sixteen threads take a block; the host adds the blocks in order.

#include "common.cuh"

#define LANES 16
#define RUN 4096

// The upper half of the lanes on the lower one until one is left; true in the first lane.
__device__ __forceinline__ double sixteen(double x) {
#pragma unroll
    for (u32 half = LANES / 2; half > 0; half /= 2) x += __shfl_down_sync(ALL_LANES, x, half, LANES);
    return x;
}

// Three numbers a block of elements: sum of squares, sum of magnitudes, how many are infinite or NaN.
extern "C" __global__ void moments(const float *x, u64 n, u64 runs, double *out) {
    u32 lane16 = threadIdx.x % LANES;
    u64 per_grid = grid_step() / LANES;
    // all threads of a warp go round together, for the shuffles
    for (u64 base = 0; base < runs; base += per_grid) {
        u64 run = base + grid_first() / LANES;
        u64 end = run < runs ? (n - run * RUN < RUN ? n - run * RUN : RUN) : 0;
        double square = 0.0, magnitude = 0.0, beyond = 0.0;
        for (u64 i = lane16; i < end; i += LANES) {
            float narrow = x[run * RUN + i];
            double wide = narrow;
            square += wide * wide;
            magnitude += fabs(wide);
            beyond += is_finite(narrow) ? 0.0 : 1.0;
        }
        square = sixteen(square);
        magnitude = sixteen(magnitude);
        beyond = sixteen(beyond);
        if (lane16 == 0 && run < runs) {
            out[3 * run] = square;
            out[3 * run + 1] = magnitude;
            out[3 * run + 2] = beyond;
        }
    }
}

// Inner products of rows of d elements, one number for each of the `runs` blocks of each row. `step_b` is d, or 0 where
// one row of b serves all.
extern "C" __global__ void row_dots(const float *a, const float *b, u64 rows, u64 d, u64 step_b, u64 runs,
                                    double *out) {
    u32 lane16 = threadIdx.x % LANES;
    u64 per_grid = grid_step() / LANES;
    for (u64 base = 0; base < rows * runs; base += per_grid) {
        u64 at = base + grid_first() / LANES;
        u64 row = at / runs, from = at % runs * RUN;
        u64 end = row < rows ? (d - from < RUN ? d - from : RUN) : 0;
        double product = 0.0;
        for (u64 i = lane16; i < end; i += LANES)
            product += (double)a[row * d + from + i] * (double)b[row * step_b + from + i];
        product = sixteen(product);
        if (lane16 == 0 && row < rows) out[at] = product;
    }
}
