// What rules over gradients cost, for n vectors of d numbers anywhere in memory: inner products, weighted sums and
// statistics of columns, as phalanx_tensor::rows has them for the host.

#include "common.cuh"

#define RUN_G 4096

// Inner products of all pairs j <= i, of each run of 4096 columns, in f64: out[pair][run]. A block takes a pair and a run;
// the host adds the runs in order.
extern "C" __global__ void gram(const u64 *rows, u32 n, u64 d, u64 runs, double *out) {
    u64 pairs = (u64)n * (n + 1) / 2;
    for (u64 at = blockIdx.x; at < pairs * runs; at += gridDim.x) {
        u64 pair = at / runs, from = at % runs * RUN_G, end = from + RUN_G < d ? from + RUN_G : d;
        u32 i = 0;
        while ((u64)(i + 1) * (i + 2) / 2 <= pair) i++;
        const float *a = (const float *)rows[i], *b = (const float *)rows[pair - (u64)i * (i + 1) / 2];
        double sum = 0.0;
        for (u64 k = from + threadIdx.x; k < end; k += blockDim.x) sum += (double)a[k] * (double)b[k];
        sum = block_sum(sum);
        if (threadIdx.x == 0) out[at] = sum;
    }
}

// out = sum of w x in f64, the rows in order, rounded once; rows of weight 0 are not read.
extern "C" __global__ void weighted_sum(const u64 *rows, const double *weights, u32 n, u64 d, float *out) {
    for (u64 k = grid_first(); k < d; k += grid_step()) {
        double sum = 0.0;
        for (u32 i = 0; i < n; i++)
            if (weights[i] != 0.0) sum += weights[i] * (double)((const float *)rows[i])[k];
        out[k] = (float)sum;
    }
}

// The order of the launcher's statistics.
enum { MEDIAN, TRIMMED_MEAN, MEAN_AROUND_MEDIAN, SIGN_SUM };

// A statistic of each column: the numbers are sorted by a network of comparators in shared memory, n for each thread of
// the block, means are summed in f64 in the order of ranks. `count` is what goes on each side, or what stays. `beyond`
// becomes 1 where a number is infinite or NaN; the result has then no meaning.
extern "C" __global__ void columns(const u64 *rows, u32 n, u64 d, u32 statistic, u32 count, const uint2 *comparators,
                                   u32 steps, float *out, u32 *beyond) {
    extern __shared__ float held[];
    float *own = held + threadIdx.x;
    u32 next = blockDim.x;
    for (u64 k = grid_first(); k < d; k += grid_step()) {
        for (u32 i = 0; i < n; i++) {
            float x = ((const float *)rows[i])[k];
            own[i * next] = x;
            if (!is_finite(x)) *beyond = 1;
        }
        for (u32 s = 0; s < steps; s++) {
            float *low = own + comparators[s].x * next, *high = own + comparators[s].y * next;
            float x = *low, y = *high;
            *low = y < x ? y : x;
            *high = y < x ? x : y;
        }
        double sum = 0.0, middle = ((double)own[(n - 1) / 2 * next] + (double)own[n / 2 * next]) * 0.5;
        if (statistic == MEDIAN) {
            sum = middle;
        } else if (statistic == TRIMMED_MEAN) {
            for (u32 i = count; i < n - count; i++) sum += (double)own[i * next];
            sum /= (double)(n - 2 * count);
        } else if (statistic == MEAN_AROUND_MEDIAN) {
            // the nearest are neighbours: the window moves up past what is farther than what would come in
            u32 first = 0;
            for (u32 i = 0; i + count < n; i++)
                if (middle - (double)own[i * next] > (double)own[(i + count) * next] - middle) first++;
            for (u32 i = first; i < first + count; i++) sum += (double)own[i * next];
            sum /= (double)count;
        } else {
            for (u32 i = 0; i < n; i++) sum += own[i * next] > 0.0f ? 1.0 : own[i * next] < 0.0f ? -1.0 : 0.0;
        }
        out[k] = (float)sum;
    }
}
