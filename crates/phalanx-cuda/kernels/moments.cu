// What every step asks of a flat buffer, and inner products of rows, with the bits of the CPU.
//
// Blocks of 4096 elements are summed in f64 in sixteen lanes, element i of a block in lane i mod 16, the lanes in a tree
// of halves. Sixteen threads take a block; the host adds the blocks in order.

#include "common.cuh"

#define LANES 16
#define RUN 4096
// Numbers that a thread loads before it adds them.
#define LANE_AHEAD 16

// The next numbers of a lane, of `left` that follow; what is beyond them is 0, which moves no sum.
__device__ __forceinline__ void load_ahead(float (&held)[LANE_AHEAD], const float *from, u32 left) {
#pragma unroll
    for (u32 k = 0; k < LANE_AHEAD; k++) held[k] = k * LANES < left ? from[k * LANES] : 0.0f;
}

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
        u32 end = run < runs ? (n - run * RUN < RUN ? n - run * RUN : RUN) : 0;
        double square = 0.0, magnitude = 0.0;
        u32 infinite = 0;
        const float *from = x + run * RUN;
#pragma unroll 1
        for (u32 i = lane16; i < end; i += LANES * LANE_AHEAD) {
            float held[LANE_AHEAD];
            load_ahead(held, from + i, end - i);
#pragma unroll
            for (u32 k = 0; k < LANE_AHEAD; k++) {
                double wide = held[k];
                square += wide * wide;
                magnitude += fabs(wide);
                infinite += is_finite(held[k]) ? 0 : 1;
            }
        }
        double beyond = infinite;
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
        u32 end = row < rows ? (d - from < RUN ? d - from : RUN) : 0;
        double product = 0.0;
        const float *of_a = a + row * d + from, *of_b = b + row * step_b + from;
#pragma unroll 1
        for (u32 i = lane16; i < end; i += LANES * LANE_AHEAD) {
            float left[LANE_AHEAD], right[LANE_AHEAD];
            load_ahead(left, of_a + i, end - i);
            load_ahead(right, of_b + i, end - i);
#pragma unroll
            for (u32 k = 0; k < LANE_AHEAD; k++) product += (double)left[k] * (double)right[k];
        }
        product = sixteen(product);
        if (lane16 == 0 && row < rows) out[at] = product;
    }
}
