// Softmax and its logarithm of rows of d, with their gradients. A block takes a row.

#include "common.cuh"
#include "math.cuh"

extern "C" __global__ void softmax(u64 rows, u64 d, const float *x, float *y) {
    for (u64 row = blockIdx.x; row < rows; row += gridDim.x) {
        const float *from = x + row * d;
        float *to = y + row * d;
        float most = -INFINITE, sum = 0.0f;
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) most = fmaxf(most, from[i]);
        most = block_max(most);
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) {
            float e = exp_of(from[i] - most);
            to[i] = e;
            sum += e;
        }
        float scale = 1.0f / block_sum(sum);
        // each thread scales what it wrote
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) to[i] *= scale;
    }
}

// dx (+)= y (dy - sum(y dy)).
extern "C" __global__ void softmax_grad(u64 rows, u64 d, const float *y, const float *dy, u32 add, float *dx) {
    for (u64 row = blockIdx.x; row < rows; row += gridDim.x) {
        float along = 0.0f;
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) along += y[row * d + i] * dy[row * d + i];
        along = block_sum(along);
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) {
            u64 at = row * d + i;
            put(dx + at, y[at] * (dy[at] - along), add);
        }
    }
}

extern "C" __global__ void log_softmax(u64 rows, u64 d, const float *x, float *y) {
    for (u64 row = blockIdx.x; row < rows; row += gridDim.x) {
        const float *from = x + row * d;
        float most = -INFINITE, sum = 0.0f;
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) most = fmaxf(most, from[i]);
        most = block_max(most);
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) sum += exp_of(from[i] - most);
        float log_sum = most + logf(block_sum(sum));
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) y[row * d + i] = from[i] - log_sum;
    }
}

// dx (+)= dy - e^y sum(dy).
extern "C" __global__ void log_softmax_grad(u64 rows, u64 d, const float *y, const float *dy, u32 add, float *dx) {
    for (u64 row = blockIdx.x; row < rows; row += gridDim.x) {
        float sum = 0.0f;
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) sum += dy[row * d + i];
        sum = block_sum(sum);
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) {
            u64 at = row * d + i;
            put(dx + at, dy[at] - exp_of(y[at]) * sum, add);
        }
    }
}
