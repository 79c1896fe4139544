// Layer, RMS and batch normalisation.
//
// Layer and RMS: a block takes a row of d; `stats` has mean and 1/sqrt(var + eps) of each row, or the latter alone.
// Batch: x and y are n x c x hw; a block takes a channel, sums are in f64.

#include "common.cuh"

extern "C" __global__ void layer_norm(u64 rows, u64 d, float eps, const float *x, const float *gain, const float *bias,
                                      float *y, float *stats) {
    float scale = 1.0f / (float)d;
    for (u64 row = blockIdx.x; row < rows; row += gridDim.x) {
        const float *from = x + row * d;
        float sum = 0.0f, squares = 0.0f;
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) sum += from[i];
        float mean = block_sum(sum) * scale;
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) squares += (from[i] - mean) * (from[i] - mean);
        float rstd = 1.0f / sqrtf(block_sum(squares) * scale + eps);
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) y[row * d + i] = (from[i] - mean) * rstd * gain[i] + bias[i];
        if (threadIdx.x == 0) {
            stats[2 * row] = mean;
            stats[2 * row + 1] = rstd;
        }
    }
}

// As `layer_norm` for rows of at most 4 * WARP * FOURS, divisible by four and aligned for it: a warp takes a row, which it
// holds in registers.
#define FOURS 4
extern "C" __global__ void layer_norm_held(u64 rows, u64 d, float eps, const float *x, const float *gain,
                                           const float *bias, float *y, float *stats) {
    float scale = 1.0f / (float)d;
    u32 fours = (u32)(d / 4);
    for (u64 row = grid_first() / WARP; row < rows; row += grid_step() / WARP) {
        float4 held[FOURS];
        float sum = 0.0f, squares = 0.0f;
#pragma unroll
        for (u32 part = 0; part < FOURS; part++) {
            u32 i = part * WARP + lane();
            if (i >= fours) break;
            held[part] = four_at(x + row * d, i);
            sum += (held[part].x + held[part].y) + (held[part].z + held[part].w);
        }
        float mean = warp_sum(sum) * scale;
#pragma unroll
        for (u32 part = 0; part < FOURS; part++) {
            if (part * WARP + lane() >= fours) break;
            float4 v = held[part];
            v = make_float4(v.x - mean, v.y - mean, v.z - mean, v.w - mean);
            squares += (v.x * v.x + v.y * v.y) + (v.z * v.z + v.w * v.w);
            held[part] = v;
        }
        float rstd = 1.0f / sqrtf(warp_sum(squares) * scale + eps);
#pragma unroll
        for (u32 part = 0; part < FOURS; part++) {
            u32 i = part * WARP + lane();
            if (i >= fours) break;
            float4 v = held[part], g = four_at(gain, i), b = four_at(bias, i);
            v = make_float4(v.x * rstd * g.x + b.x, v.y * rstd * g.y + b.y, v.z * rstd * g.z + b.z, v.w * rstd * g.w + b.w);
            put_four(y + row * d, i, d, v, 0);
        }
        if (lane() == 0) {
            stats[2 * row] = mean;
            stats[2 * row + 1] = rstd;
        }
    }
}

extern "C" __global__ void rms_norm(u64 rows, u64 d, float eps, const float *x, const float *gain, float *y,
                                    float *stats) {
    float scale = 1.0f / (float)d;
    for (u64 row = blockIdx.x; row < rows; row += gridDim.x) {
        const float *from = x + row * d;
        float squares = 0.0f;
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) squares += from[i] * from[i];
        float rstd = 1.0f / sqrtf(block_sum(squares) * scale + eps);
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) y[row * d + i] = from[i] * rstd * gain[i];
        if (threadIdx.x == 0) stats[row] = rstd;
    }
}

// Mean and reciprocal deviation of a row; a mean of 0 where `stats` has one number a row.
__device__ __forceinline__ float2 row_stats(const float *stats, u64 row, u32 per_row) {
    return per_row == 2 ? make_float2(stats[2 * row], stats[2 * row + 1]) : make_float2(0.0f, stats[row]);
}

// The gradient of the input of both; the mean of dy gain goes off where there was a mean.
extern "C" __global__ void norm_grad(u64 rows, u64 d, u32 per_row, const float *x, const float *gain,
                                     const float *stats, const float *dy, u32 add, float *dx) {
    float scale = 1.0f / (float)d;
    for (u64 row = blockIdx.x; row < rows; row += gridDim.x) {
        float2 s = row_stats(stats, row, per_row);
        float sum = 0.0f, along = 0.0f;
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) {
            u64 at = row * d + i;
            float g = dy[at] * gain[i];
            sum += g;
            along += g * ((x[at] - s.x) * s.y);
        }
        sum = per_row == 2 ? block_sum(sum) * scale : 0.0f;
        along = block_sum(along) * scale;
        for (u64 i = threadIdx.x; i < d; i += blockDim.x) {
            u64 at = row * d + i;
            put(dx + at, (dy[at] * gain[i] - sum - (x[at] - s.x) * s.y * along) * s.y, add);
        }
    }
}

// gains (+)= sum over the steps of dy (x - mean) rstd, for each sample of `steps` rows: samples x parts x d, in parts as
// `sum_columns` has them. With one sample it is the gradient of the gain.
extern "C" __global__ void norm_gains(u64 samples, u64 steps, u64 d, u64 parts, u32 per_row, const float *x,
                                      const float *stats, const float *dy, u32 add, float *gains) {
    u64 column = (u64)blockIdx.x * COLUMNS + threadIdx.x;
    for (u64 part = blockIdx.y; part < samples * parts; part += gridDim.y) {
        u64 first = part / parts * steps;
        Rows rows = rows_of(part % parts, parts, steps);
        float sum = 0.0f;
        if (column < d)
            for (u64 step = rows.first + threadIdx.y; step < rows.end; step += ROWS_AT_ONCE) {
                u64 row = first + step;
                float2 s = row_stats(stats, row, per_row);
                sum += dy[row * d + column] * ((x[row * d + column] - s.x) * s.y);
            }
        sum = column_sum(sum);
        if (threadIdx.y == 0 && column < d) put(gains + part * d + column, sum, add);
    }
}

// sums[c] = (sum x, sum x y) over images and cells.
extern "C" __global__ void channel_sums(u32 n, u32 c, u32 hw, const float *x, const float *y, double *sums) {
    for (u32 channel = blockIdx.x; channel < c; channel += gridDim.x) {
        double sum = 0.0, product = 0.0;
        // in 32 bits, in which a division is cheap
        for (u64 next = threadIdx.x; next < n * hw; next += blockDim.x) {
            u32 i = (u32)next;
            u64 at = ((u64)(i / hw) * c + channel) * hw + i % hw;
            sum += (double)x[at];
            product += (double)x[at] * (double)y[at];
        }
        sum = block_sum(sum);
        product = block_sum(product);
        if (threadIdx.x == 0) {
            sums[2 * channel] = sum;
            sums[2 * channel + 1] = product;
        }
    }
}

// out (+)= k[c][0] x + k[c][1] y + k[c][2]. A block takes a plane.
extern "C" __global__ void channel_affine(u64 planes, u64 c, u64 hw, const float *k, const float *x, const float *y,
                                          u32 add, float *out) {
    for (u64 plane = blockIdx.x; plane < planes; plane += gridDim.x) {
        const float *of = k + plane % c * 3;
        float a = of[0], b = of[1], shift = of[2];
        for (u64 i = plane * hw + threadIdx.x; i < (plane + 1) * hw; i += blockDim.x)
            put(out + i, a * x[i] + b * y[i] + shift, add);
    }
}
