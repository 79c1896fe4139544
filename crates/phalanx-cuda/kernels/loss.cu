// Cross entropy of rows of d logits, fused with softmax. A block takes a row.

#include "common.cuh"
#include "math.cuh"

// lse = log(sum(e^x)), shifted by the greatest; loss = lse - x[label]. `hits` counts the rows whose greatest logit is at
// the label, the first of equals. The loss of a label that is none is NaN.
extern "C" __global__ void cross_entropy(u64 rows, u64 d, const float *logits, const u32 *labels, float *loss,
                                         float *lse, u32 *hits) {
    for (u64 row = blockIdx.x; row < rows; row += gridDim.x) {
        const float *x = logits + row * d;
        u32 label = labels[row];
        float own = label < d ? x[label] : NOT_A_NUMBER, most = -INFINITE, beaten = 0.0f;
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) {
            float here = x[i];
            most = fmaxf(most, here);
            if (i < label ? here >= own : here > own) beaten = 1.0f;
        }
        most = block_max(most);
        beaten = block_max(beaten);
        float sum = 0.0f;
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) sum += exp_of(x[i] - most);
        sum = block_sum(sum);
        if (threadIdx.x == 0) {
            float log_sum = most + logf(sum);
            lse[row] = log_sum;
            loss[row] = log_sum - own;
            if (beaten == 0.0f && is_finite(own)) atomicAdd(hits, 1u);
        }
    }
}

// dx (+)= dloss (softmax(x) - onehot(label)).
extern "C" __global__ void cross_entropy_grad(u64 rows, u64 d, const float *logits, const u32 *labels, const float *lse,
                                              const float *dloss, u32 add, float *dx) {
    for (u64 row = blockIdx.x; row < rows; row += gridDim.x) {
        float log_sum = lse[row], scale = dloss[row];
        u32 label = labels[row];
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) {
            u64 at = row * d + i;
            float v = scale * exp_of(logits[at] - log_sum);
            v = add ? dx[at] + v : v;
            dx[at] = i == label ? v - scale : v;
        }
    }
}
