// Lengths of the gradients of single samples, where no product of matrices gives them.

#include "common.cuh"

// sums[image][channel] = sum over cells of dsums[channel][image cells]: the gradients of a convolution's bias. A warp
// takes one.
extern "C" __global__ void plane_sums(u64 channels, u64 images, u64 cells, const float *dsums, u64 step, float *sums) {
    for (u64 i = grid_first() / WARP; i < channels * images; i += grid_step() / WARP) {
        u64 channel = i % channels, image = i / channels;
        float sum = 0.0f;
        for (u64 cell = lane(); cell < cells; cell += WARP) sum += dsums[channel * step + image * cells + cell];
        sum = warp_sum(sum);
        if (lane() == 0) sums[i] = sum;
    }
}

// The squared length of the gradient of a table's row, where position t of a sample is the first that picked it, else 0:
// rows of dy with the same id are added in order, then squared in f64. A block takes a position.
extern "C" __global__ void gather_norms(u64 positions, u64 steps, u64 d, const u32 *ids, const float *dy, double *out) {
    for (u64 at = blockIdx.x; at < positions; at += gridDim.x) {
        u64 begin = at / steps * steps, end = begin + steps;
        float before = 0.0f;
        for (u64 t = begin + threadIdx.x; t < at; t += blockDim.x)
            if (ids[t] == ids[at]) before = 1.0f;
        bool is_first = block_max(before) == 0.0f;
        double squares = 0.0;
        for (u64 i = threadIdx.x; is_first && i < d; i += blockDim.x) {
            float sum = 0.0f;
            for (u64 t = at; t < end; t++)
                if (ids[t] == ids[at]) sum += dy[t * d + i];
            squares += (double)sum * (double)sum;
        }
        squares = block_sum(squares);
        if (threadIdx.x == 0) out[at] = squares;
    }
}
