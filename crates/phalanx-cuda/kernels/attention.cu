// Causal attention that never keeps the scores.
//
// qkv is batch x time x 3 x heads x dim, y and dy batch x time x heads x dim, lse and along batch x heads x time. A block
// of 8 warps takes 8 positions of a head, a warp each; the others pass by in tiles of 32, one a lane, through shared
// memory. A lane then owns every 32nd coordinate of its warp's row. dim is at most 128. Sums are in f32.
//
// What the last positions see is the most, what sees the first keys too: the blocks of these come first, so that none is
// left alone at the end.

#include "common.cuh"
#include "math.cuh"

#define WARPS 8
#define MOST 128
#define OWN (MOST / 32)

struct Attention {
    u32 batch, time, heads, dim;
    float scale;
};

// Queries, keys or values (0, 1, 2) of a head at a position.
__device__ __forceinline__ u64 part_at(const Attention &a, u32 which, u32 b, u32 h, u32 t) {
    return ((((u64)b * a.time + t) * 3 + which) * a.heads + h) * a.dim;
}

// Outputs of a head at a position.
__device__ __forceinline__ u64 out_at(const Attention &a, u32 b, u32 h, u32 t) {
    return (((u64)b * a.time + t) * a.heads + h) * a.dim;
}

// Loads 32 rows of a head into shared memory, zeros beyond the last position; `which` is 3 for outputs.
__device__ __forceinline__ void load_tile(const Attention &a, const float *from, u32 which, u32 b, u32 h, u32 first,
                                          float (*tile)[MOST + 1]) {
    for (u32 row = warp(); row < WARP; row += WARPS) {
        u32 t = first + row;
        u64 at = which == 3 ? out_at(a, b, h, t) : part_at(a, which, b, h, t);
        for (u32 col = lane(); col < a.dim; col += WARP) tile[row][col] = t < a.time ? from[at + col] : 0.0f;
    }
}

__device__ __forceinline__ float dot(const float *x, const float *y, u32 dim) {
    float sum = 0.0f;
    for (u32 i = 0; i < dim; i++) sum = fmaf(x[i], y[i], sum);
    return sum;
}

extern "C" __global__ void attention(Attention a, const float *qkv, float *y, float *lse) {
    __shared__ float keys[WARP][MOST + 1], queries[WARPS][MOST];
    u32 h = blockIdx.y, b = blockIdx.z, base = (gridDim.x - 1 - blockIdx.x) * WARPS, t = base + warp();
    bool live = t < a.time;
    for (u32 i = lane(); live && i < a.dim; i += WARP) queries[warp()][i] = qkv[part_at(a, 0, b, h, t) + i];
    float most = -INFINITE, sum = 0.0f, out[OWN] = {};
    for (u32 first = 0; first < min(base + WARPS, a.time); first += WARP) {
        __syncthreads();
        load_tile(a, qkv, 1, b, h, first, keys);
        __syncthreads();
        if (!live || first > t) continue;
        bool seen = first + lane() <= t;
        float score = seen ? a.scale * dot(queries[warp()], keys[lane()], a.dim) : -INFINITE;
        float now = fmaxf(most, warp_max(score));
        float shrink = exp_of(most - now), weight = seen ? exp_of(score - now) : 0.0f;
        sum = sum * shrink + warp_sum(weight);
#pragma unroll
        for (u32 k = 0; k < OWN; k++) out[k] *= shrink;
        u32 count = min(WARP, t - first + 1);
        for (u32 j = 0; j < count; j++) {
            float w = __shfl_sync(ALL_LANES, weight, j);
            const float *value = qkv + part_at(a, 2, b, h, first + j);
#pragma unroll
            for (u32 k = 0; k < OWN; k++) {
                u32 col = k * WARP + lane();
                if (col < a.dim) out[k] = fmaf(w, value[col], out[k]);
            }
        }
        most = now;
    }
    if (!live) return;
    float inverse = 1.0f / sum;
#pragma unroll
    for (u32 k = 0; k < OWN; k++) {
        u32 col = k * WARP + lane();
        if (col < a.dim) y[out_at(a, b, h, t) + col] = out[k] * inverse;
    }
    if (lane() == 0) lse[((u64)b * a.heads + h) * a.time + t] = most + logf(sum);
}

// along = sum dy y of each position and head. A warp takes one.
extern "C" __global__ void attention_along(Attention a, const float *y, const float *dy, float *along) {
    u64 count = (u64)a.batch * a.heads * a.time;
    for (u64 i = grid_first() / WARP; i < count; i += grid_step() / WARP) {
        u32 t = (u32)(i % a.time), h = (u32)(i / a.time % a.heads), b = (u32)(i / a.time / a.heads);
        u64 at = out_at(a, b, h, t);
        float sum = 0.0f;
        for (u32 col = lane(); col < a.dim; col += WARP) sum += dy[at + col] * y[at + col];
        sum = warp_sum(sum);
        if (lane() == 0) along[i] = sum;
    }
}

// dq = sum over the keys seen of ds k, ds = scale p (dy v - along).
extern "C" __global__ void attention_dq(Attention a, const float *qkv, const float *lse, const float *along,
                                        const float *dy, u32 add, float *dqkv) {
    __shared__ float keys[WARP][MOST + 1], values[WARP][MOST + 1], queries[WARPS][MOST], dys[WARPS][MOST];
    u32 h = blockIdx.y, b = blockIdx.z, base = (gridDim.x - 1 - blockIdx.x) * WARPS, t = base + warp();
    bool live = t < a.time;
    float shift = 0.0f, off = 0.0f, dq[OWN] = {};
    if (live) {
        for (u32 i = lane(); i < a.dim; i += WARP) {
            queries[warp()][i] = qkv[part_at(a, 0, b, h, t) + i];
            dys[warp()][i] = dy[out_at(a, b, h, t) + i];
        }
        shift = lse[((u64)b * a.heads + h) * a.time + t];
        off = along[((u64)b * a.heads + h) * a.time + t];
    }
    for (u32 first = 0; first < min(base + WARPS, a.time); first += WARP) {
        __syncthreads();
        load_tile(a, qkv, 1, b, h, first, keys);
        load_tile(a, qkv, 2, b, h, first, values);
        __syncthreads();
        if (!live || first > t) continue;
        float ds = 0.0f;
        if (first + lane() <= t) {
            float p = exp_of(a.scale * dot(queries[warp()], keys[lane()], a.dim) - shift);
            ds = a.scale * p * (dot(dys[warp()], values[lane()], a.dim) - off);
        }
        u32 count = min(WARP, t - first + 1);
        for (u32 j = 0; j < count; j++) {
            float w = __shfl_sync(ALL_LANES, ds, j);
#pragma unroll
            for (u32 k = 0; k < OWN; k++) {
                u32 col = k * WARP + lane();
                if (col < a.dim) dq[k] = fmaf(w, keys[j][col], dq[k]);
            }
        }
    }
    if (!live) return;
#pragma unroll
    for (u32 k = 0; k < OWN; k++) {
        u32 col = k * WARP + lane();
        if (col < a.dim) put(dqkv + part_at(a, 0, b, h, t) + col, dq[k], add);
    }
}

// dk = sum over the queries that see the key of ds q, dv = sum of p dy. A warp takes a key.
extern "C" __global__ void attention_dkv(Attention a, const float *qkv, const float *lse, const float *along,
                                         const float *dy, u32 add, float *dqkv) {
    __shared__ float queries[WARP][MOST + 1], dys[WARP][MOST + 1], keys[WARPS][MOST], values[WARPS][MOST];
    u32 h = blockIdx.y, b = blockIdx.z, base = blockIdx.x * WARPS, t = base + warp();
    bool live = t < a.time;
    float dk[OWN] = {}, dv[OWN] = {};
    for (u32 i = lane(); live && i < a.dim; i += WARP) {
        keys[warp()][i] = qkv[part_at(a, 1, b, h, t) + i];
        values[warp()][i] = qkv[part_at(a, 2, b, h, t) + i];
    }
    for (u32 first = base; first < a.time; first += WARP) {
        __syncthreads();
        load_tile(a, qkv, 0, b, h, first, queries);
        load_tile(a, dy, 3, b, h, first, dys);
        __syncthreads();
        if (!live) continue;
        u32 query = first + lane();
        float p = 0.0f, ds = 0.0f;
        if (query >= t && query < a.time) {
            u64 at = ((u64)b * a.heads + h) * a.time + query;
            p = exp_of(a.scale * dot(queries[lane()], keys[warp()], a.dim) - lse[at]);
            ds = a.scale * p * (dot(dys[lane()], values[warp()], a.dim) - along[at]);
        }
        u32 count = min(WARP, a.time - first);
        for (u32 j = 0; j < count; j++) {
            float wp = __shfl_sync(ALL_LANES, p, j), ws = __shfl_sync(ALL_LANES, ds, j);
#pragma unroll
            for (u32 k = 0; k < OWN; k++) {
                u32 col = k * WARP + lane();
                if (col < a.dim) {
                    dv[k] = fmaf(wp, dys[j][col], dv[k]);
                    dk[k] = fmaf(ws, queries[j][col], dk[k]);
                }
            }
        }
    }
    if (!live) return;
#pragma unroll
    for (u32 k = 0; k < OWN; k++) {
        u32 col = k * WARP + lane();
        if (col < a.dim) {
            put(dqkv + part_at(a, 1, b, h, t) + col, dk[k], add);
            put(dqkv + part_at(a, 2, b, h, t) + col, dv[k], add);
        }
    }
}
