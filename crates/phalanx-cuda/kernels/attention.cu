// Causal attention that never keeps the scores.
//
// qkv is batch x time x 3 x heads x dim, y and dy batch x time x heads x dim, lse and along batch x heads x time; dim
// is at most D. Sums are in f32.
//
// A warp takes 4 SIDE positions of a head, its own: queries, or keys in `attention_dkv`. The others pass by in tiles of
// PASSING through shared memory. Products of own and passing rows are a tile of SIDE x PASSING / 8 a lane; as weights they
// go through shared memory to where a lane has SIDE of the rows and D / 8 of the coordinates of sums of passing rows. What
// a position does not see is left out of sums, instead of being multiplied by zero: it may be no number.
//
// What the last positions see is the most, what sees the first keys too: the blocks of these come first, so that none is
// left alone at the end.

#include "common.cuh"
#include "math.cuh"

#define ACROSS 8
#define DOWN 4

struct Attention {
    u32 batch, time, heads, dim;
    float scale;
};

// Where lse and along of a head are.
__device__ __forceinline__ u64 row_at(const Attention &a) { return ((u64)blockIdx.z * a.heads + blockIdx.y) * a.time; }

// Rows of D in shared memory, 16 bytes free after each GROUP, so that lanes read rows of several groups at once.
template <u32 D, u32 GROUP> __device__ __forceinline__ constexpr u32 tile_at(u32 row) {
    return row * D + row / GROUP * 4;
}

// Weights of a warp, its own rows side by side: some bytes are free after the passing rows of a lane, as above.
template <u32 EACH, u32 OWN> __device__ __forceinline__ constexpr u32 weight_at(u32 passing) {
    return passing * OWN + passing / EACH * (OWN < WARP ? WARP - OWN : 4);
}

// Rows of a head: those of its first position, and how much further the next position's are.
struct Head {
    const float *at;
    u64 step;
};

__device__ __forceinline__ Head part(const Attention &a, const float *qkv, u32 which) {
    return {qkv + (((u64)blockIdx.z * a.time * 3 + which) * a.heads + blockIdx.y) * a.dim, (u64)3 * a.heads * a.dim};
}

__device__ __forceinline__ Head output(const Attention &a, const float *y) {
    return {y + ((u64)blockIdx.z * a.time * a.heads + blockIdx.y) * a.dim, (u64)a.heads * a.dim};
}

__device__ __forceinline__ bool by_four(const Attention &a, const void *at) {
    return (a.dim % 4 | (u64)at % sizeof(float4)) == 0;
}

// Loads COUNT rows of each of TILES heads into shared memory by the whole block, zeros beyond the last position.
template <u32 D, u32 GROUP, u32 COUNT, u32 THREADS, u32 TILES>
__device__ __forceinline__ void load_rows(const Attention &a, const Head (&heads)[TILES], u32 first,
                                          float *const (&tiles)[TILES]) {
    constexpr u32 STEP = THREADS / (D / 4);
    u32 row = threadIdx.x / (D / 4), col = threadIdx.x % (D / 4) * 4;
    const float *at[TILES];
    bool whole = true;
#pragma unroll
    for (u32 i = 0; i < TILES; i++) {
        at[i] = heads[i].at + (u64)(first + row) * heads[i].step + col;
        whole = whole && by_four(a, heads[i].at);
    }
    static_assert(COUNT % STEP == 0, "every thread loads as often");
    bool here = whole && col < a.dim;
#pragma unroll 2
    for (u32 n = 0; n < COUNT; n += STEP) {
        float4 four[TILES] = {};
#pragma unroll
        for (u32 i = 0; i < TILES; i++)
            if (here && first + row + n < a.time) four[i] = *(const float4 *)(at[i] + n * heads[i].step);
#pragma unroll
        for (u32 i = 0; i < TILES; i++) *(float4 *)(tiles[i] + tile_at<D, GROUP>(row + n) + col) = four[i];
    }
    if (whole) return;
#pragma unroll 1
    for (; row < min(COUNT, a.time - min(first, a.time)); row += STEP)
#pragma unroll
        for (u32 i = 0; i < TILES; i++) {
#pragma unroll 1
            for (u32 e = 0; e < 4 && col + e < a.dim; e++) tiles[i][tile_at<D, GROUP>(row) + col + e] = at[i][e];
            at[i] += STEP * heads[i].step;
        }
}

// A warp sets or adds to its rows of TILES heads what its lanes have of them, by way of its rows in shared memory.
template <u32 D, u32 SIDE, u32 TILES>
__device__ __forceinline__ void store_rows(const Attention &a, const float (&out)[TILES][SIDE][D / ACROSS], u32 first,
                                           const Head (&heads)[TILES], float *const (&tiles)[TILES], u32 add) {
    __syncwarp();
#pragma unroll
    for (u32 n = 0; n < TILES; n++) {
        float *tile = tiles[n] + tile_at<D, SIDE>(lane() % DOWN * SIDE) + lane() / DOWN * 4;
#pragma unroll
        for (u32 i = 0; i < SIDE; i++)
#pragma unroll
            for (u32 c = 0; c < D / ACROSS; c += 4)
                *(float4 *)(tile + i * D + c * ACROSS) = {out[n][i][c], out[n][i][c + 1], out[n][i][c + 2],
                                                          out[n][i][c + 3]};
    }
    __syncwarp();
    constexpr u32 OWN = DOWN * SIDE, STEP = WARP / (D / 4);
    u32 row = lane() / (D / 4), col = lane() % (D / 4) * 4;
    if (col >= a.dim) return;
#pragma unroll 1
    for (; row < min(OWN, a.time - first); row += STEP) {
#pragma unroll
        for (u32 n = 0; n < TILES; n++) {
            const float *from = tiles[n] + tile_at<D, SIDE>(row) + col;
            float *to = (float *)heads[n].at + (u64)(first + row) * heads[n].step + col;
            if (by_four(a, heads[n].at)) {
                float4 four = *(const float4 *)from;
                if (add) {
                    float4 old = *(float4 *)to;
                    four = {old.x + four.x, old.y + four.y, old.z + four.z, old.w + four.w};
                }
                *(float4 *)to = four;
            } else {
#pragma unroll 1
                for (u32 i = 0; i < min(4, a.dim - col); i++) put(to + i, from[i], add);
            }
        }
    }
}

// Products of a lane's own rows and its passing rows.
template <u32 D, u32 SIDE, u32 EACH>
__device__ __forceinline__ void products(u32 dim, const float *own, const float *passing, float (&out)[EACH][SIDE]) {
    own += tile_at<D, SIDE>(lane() % DOWN * SIDE);
    passing += tile_at<D, EACH>(lane() / DOWN * EACH);
#pragma unroll
    for (u32 j = 0; j < EACH; j++)
#pragma unroll
        for (u32 i = 0; i < SIDE; i++) out[j][i] = 0.0f;
#pragma unroll 1
    for (u32 col = 0; col < dim; col += 4) {
        float4 x[SIDE];
#pragma unroll
        for (u32 i = 0; i < SIDE; i++) x[i] = *(const float4 *)(own + i * D + col);
#pragma unroll
        for (u32 j = 0; j < EACH; j++) {
            float4 y = *(const float4 *)(passing + j * D + col);
#pragma unroll
            for (u32 i = 0; i < SIDE; i++) {
                float sum = fmaf(x[i].x, y.x, out[j][i]);
                sum = fmaf(x[i].y, y.y, sum);
                sum = fmaf(x[i].z, y.z, sum);
                out[j][i] = fmaf(x[i].w, y.w, sum);
            }
        }
    }
}

// Puts a lane's tile of weights where other lanes of the warp find it.
template <u32 SIDE, u32 EACH>
__device__ __forceinline__ void store_weights(const float (&tile)[EACH][SIDE], float *weights) {
    weights += weight_at<EACH, DOWN * SIDE>(lane() / DOWN * EACH) + lane() % DOWN * SIDE;
#pragma unroll
    for (u32 j = 0; j < EACH; j++)
#pragma unroll
        for (u32 i = 0; i < SIDE; i += 4)
            *(float4 *)(weights + j * DOWN * SIDE + i) = {tile[j][i], tile[j][i + 1], tile[j][i + 2], tile[j][i + 3]};
}

// Adds a passing row times the weights of a lane's own rows, those that see it or, with `keys`, that it sees; `after` is how
// far it comes after the first of these.
template <u32 D, u32 SIDE, u32 EACH, bool ALL, bool KEYS>
__device__ __forceinline__ void add_row(const float *weights, const float *passing, u32 row, u32 after,
                                        float (&out)[SIDE][D / ACROSS]) {
    float w[SIDE];
#pragma unroll
    for (u32 i = 0; i < SIDE; i += 4) {
        float4 four = *(const float4 *)(weights + weight_at<EACH, DOWN * SIDE>(row) + i);
        w[i] = four.x, w[i + 1] = four.y, w[i + 2] = four.z, w[i + 3] = four.w;
    }
#pragma unroll
    for (u32 c = 0; c < D / ACROSS; c += 4) {
        float4 v = *(const float4 *)(passing + tile_at<D, EACH>(row) + c * ACROSS);
#pragma unroll
        for (u32 i = 0; i < SIDE; i++) {
            if (!ALL && (KEYS ? i > after : i < after)) continue;
            out[i][c] = fmaf(w[i], v.x, out[i][c]);
            out[i][c + 1] = fmaf(w[i], v.y, out[i][c + 1]);
            out[i][c + 2] = fmaf(w[i], v.z, out[i][c + 2]);
            out[i][c + 3] = fmaf(w[i], v.w, out[i][c + 3]);
        }
    }
}

// Adds the weighted sums of passing rows. `ahead` is how far the lane's own rows come after the first passing one: negative
// with KEYS, at least PASSING without, where the diagonal does not pass through.
template <u32 D, u32 SIDE, u32 PASSING, bool KEYS>
__device__ __forceinline__ void add_rows(const float *weights, const float *passing, int ahead,
                                         float (&out)[SIDE][D / ACROSS]) {
    constexpr u32 EACH = PASSING / ACROSS, AT_ONCE = D < 128 ? 128 / D : 1;
    weights += lane() % DOWN * SIDE;
    passing += lane() / DOWN * 4;
    u32 first = KEYS ? max(ahead + (int)SIDE, 0) : 0, end = KEYS ? PASSING : min((u32)ahead, PASSING);
#pragma unroll 1
    for (u32 row = first; row < end; row += AT_ONCE)
#pragma unroll
        for (u32 j = 0; j < AT_ONCE; j++)
            add_row<D, SIDE, EACH, true, KEYS>(weights, passing, row + j, 0, out);
    if (ahead < 0 || ahead >= (int)PASSING) return;
#pragma unroll 1
    for (u32 after = 0; after < SIDE; after++)
        add_row<D, SIDE, EACH, false, KEYS>(weights, passing, ahead + after, after, out);
}

// A block takes 4 SIDE queries a warp.
template <u32 D, u32 SIDE, u32 WARPS, u32 PASSING>
__device__ __forceinline__ void forward(const Attention &a, const float *qkv, float *y, float *lse) {
    constexpr u32 THREADS = WARPS * WARP, EACH = PASSING / ACROSS, OWN = DOWN * SIDE;
    static_assert(OWN <= PASSING && OWN <= WARP, "a warp has one tile on the diagonal");
    __shared__ __align__(16) float queries[tile_at<D, SIDE>(WARPS * OWN)], keys[tile_at<D, EACH>(PASSING)],
        values[tile_at<D, EACH>(PASSING)], tiles[WARPS][weight_at<EACH, OWN>(PASSING)];
    u32 base = (gridDim.x - 1 - blockIdx.x) * WARPS * OWN, t = base + warp() * OWN;
    u32 own = lane() % OWN, half = lane() / OWN, row = lane() % DOWN * SIDE;
    float *mine = queries + tile_at<D, SIDE>(warp() * OWN), *weights = tiles[warp()];
    load_rows<D, SIDE, WARPS * OWN, THREADS, 1>(a, {part(a, qkv, 0)}, base, {queries});
    // of the lane's own row, over every other key
    float most = -INFINITE, sum = 0.0f;
    float out[1][SIDE][D / ACROSS] = {};
    for (u32 first = 0; first < min(base + WARPS * OWN, a.time); first += PASSING) {
        __syncthreads();
        load_rows<D, EACH, PASSING, THREADS, 2>(a, {part(a, qkv, 1), part(a, qkv, 2)}, first, {keys, values});
        __syncthreads();
        if (t >= a.time || first >= t + OWN) continue;
        float score[EACH][SIDE];
        products<D, SIDE, EACH>(a.dim, mine, keys, score);
        store_weights<SIDE, EACH>(score, weights);
        __syncwarp();
        float now = most;
#pragma unroll 4
        for (u32 key = half; key < PASSING; key += WARP / OWN)
            if (first + key <= t + own) now = fmaxf(now, weights[weight_at<EACH, OWN>(key) + own]);
        if (OWN < WARP) now = fmaxf(now, __shfl_xor_sync(ALL_LANES, now, OWN));
        float shift = a.scale * now, shrink = exp_below(a.scale * most - shift);
        most = now;
        sum *= shrink;
#pragma unroll 4
        for (u32 key = half; key < PASSING; key += WARP / OWN) {
            float *at = weights + weight_at<EACH, OWN>(key) + own;
            float p = first + key <= t + own ? exp_below(fmaf(a.scale, *at, -shift)) : 0.0f;
            sum += p;
            *at = p;
        }
        __syncwarp();
#pragma unroll
        for (u32 i = 0; i < SIDE; i++) {
            float factor = __shfl_sync(ALL_LANES, shrink, row + i);
#pragma unroll
            for (u32 c = 0; c < D / ACROSS; c++) out[0][i][c] *= factor;
        }
        add_rows<D, SIDE, PASSING, false>(weights, values, t + row - first, out[0]);
    }
    if (t >= a.time) return;
    if (OWN < WARP) sum += __shfl_xor_sync(ALL_LANES, sum, OWN);
    if (half == 0 && t + own < a.time) lse[row_at(a) + t + own] = a.scale * most + logf(sum);
#pragma unroll
    for (u32 i = 0; i < SIDE; i++) {
        float inverse = 1.0f / __shfl_sync(ALL_LANES, sum, row + i);
#pragma unroll
        for (u32 c = 0; c < D / ACROSS; c++) out[0][i][c] *= inverse;
    }
    store_rows<D, SIDE, 1>(a, out, t, {output(a, y)}, {mine}, 0);
}

// dq = sum over the keys seen of ds k, ds = scale p (dy v - along), along = sum dy y, which is kept for the other.
// With KEYS dk = sum over the queries that see the key of ds q, dv = sum of p dy. A block takes 4 SIDE queries or keys a warp.
// With ONE what passes by shares its place, and comes thrice.
template <u32 D, u32 SIDE, u32 WARPS, u32 PASSING, bool KEYS, bool ONE>
__device__ __forceinline__ void backward(const Attention &a, const float *qkv, const float *y, const float *lse,
                                         const float *dy, float *along, u32 add, float *dqkv) {
    constexpr u32 THREADS = WARPS * WARP, EACH = PASSING / ACROSS, LEN = tile_at<D, EACH>(PASSING),
                  OWN = DOWN * SIDE;
    static_assert(OWN <= PASSING && OWN <= WARP, "a warp has one tile on the diagonal");
    // of queries: own ones or passing ones
    constexpr u32 QUERIES = KEYS ? PASSING : WARPS * OWN;
    __shared__ __align__(16) float left[tile_at<D, SIDE>(WARPS * OWN)], left_y[tile_at<D, SIDE>(WARPS * OWN)],
        passing[(ONE ? 1 : 2) * LEN], tiles[WARPS][weight_at<EACH, OWN>(PASSING)], shifts[QUERIES], offs[QUERIES];
    float *right = passing, *right_y = passing + (ONE ? 0 : LEN), *weights = tiles[warp()];
    u32 base = (KEYS ? blockIdx.x : gridDim.x - 1 - blockIdx.x) * WARPS * OWN, t = base + warp() * OWN;
    u32 own = lane() % OWN, half = lane() / OWN, row = lane() % DOWN * SIDE;
    u32 mine = tile_at<D, SIDE>(warp() * OWN);
    // scores are products of queries and keys, their gradients of dy and values
    Head queries = part(a, qkv, 0), keys = part(a, qkv, 1), values = part(a, qkv, 2), dys = output(a, dy);
    load_rows<D, SIDE, WARPS * OWN, THREADS, 2>(a, {KEYS ? keys : queries, KEYS ? values : dys}, base, {left, left_y});
    if (!KEYS) {
        if (threadIdx.x < WARPS * OWN)
            shifts[threadIdx.x] = base + threadIdx.x < a.time ? lse[row_at(a) + base + threadIdx.x] : 0.0f;
        __syncthreads();
        // eight lanes a row
        u32 across = lane() % ACROSS;
#pragma unroll 1
        for (u32 i = lane() / ACROSS; i < OWN; i += WARP / ACROSS) {
            float sum = 0.0f;
            if (t + i < a.time) {
                const float *at = output(a, y).at + (u64)(t + i) * dys.step;
#pragma unroll 1
                for (u32 col = across; col < a.dim; col += ACROSS)
                    sum = fmaf(left_y[mine + tile_at<D, SIDE>(i) + col], at[col], sum);
            }
#pragma unroll
            for (u32 far = ACROSS / 2; far > 0; far /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, far);
            if (across == 0) {
                offs[warp() * OWN + i] = sum;
                if (t + i < a.time) along[row_at(a) + t + i] = sum;
            }
        }
    }
    float out[KEYS ? 2 : 1][SIDE][D / ACROSS] = {};
    u32 end = KEYS ? a.time : min(base + WARPS * OWN, a.time);
    for (u32 first = KEYS ? base / PASSING * PASSING : 0; first < end; first += PASSING) {
        bool live = t < a.time && (KEYS ? first + PASSING > t : first < t + OWN);
        int ahead = (int)(t + row - first);
        __syncthreads();
        if (ONE)
            load_rows<D, EACH, PASSING, THREADS, 1>(a, {KEYS ? queries : keys}, first, {right});
        else
            load_rows<D, EACH, PASSING, THREADS, 2>(a, {KEYS ? queries : keys, KEYS ? dys : values}, first,
                                                    {right, right_y});
        if (KEYS && threadIdx.x < PASSING) {
            u64 at = row_at(a) + first + threadIdx.x;
            bool in = first + threadIdx.x < a.time;
            shifts[threadIdx.x] = in ? lse[at] : 0.0f;
            offs[threadIdx.x] = in ? along[at] : 0.0f;
        }
        __syncthreads();
        float tile[EACH][SIDE];
        if (live) {
            products<D, SIDE, EACH>(a.dim, left + mine, right, tile);
            store_weights<SIDE, EACH>(tile, weights);
            __syncwarp();
#pragma unroll 4
            for (u32 other = half; other < PASSING; other += WARP / OWN) {
                float *at = weights + weight_at<EACH, OWN>(other) + own;
                bool seen = KEYS ? first + other >= t + own && first + other < a.time : first + other <= t + own;
                float shift = shifts[KEYS ? other : warp() * OWN + own];
                *at = seen ? exp_below(fmaf(a.scale, *at, -shift)) : 0.0f;
            }
            __syncwarp();
        }
        if (ONE) {
            __syncthreads();
            load_rows<D, EACH, PASSING, THREADS, 1>(a, {KEYS ? dys : values}, first, {right_y});
            __syncthreads();
        }
        if (live) {
            if constexpr (KEYS) add_rows<D, SIDE, PASSING, KEYS>(weights, right_y, ahead, out[1]);
            products<D, SIDE, EACH>(a.dim, left_y + mine, right_y, tile);
            __syncwarp();
#pragma unroll
            for (u32 j = 0; j < EACH; j++) {
                u32 other = lane() / DOWN * EACH + j;
                const float *at = weights + weight_at<EACH, OWN>(other) + row;
                const float *off = offs + (KEYS ? other : warp() * OWN + row);
#pragma unroll
                for (u32 i = 0; i < SIDE; i += 4) {
                    float4 p = *(const float4 *)(at + i);
                    tile[j][i] = a.scale * p.x * (tile[j][i] - off[KEYS ? 0 : i]);
                    tile[j][i + 1] = a.scale * p.y * (tile[j][i + 1] - off[KEYS ? 0 : i + 1]);
                    tile[j][i + 2] = a.scale * p.z * (tile[j][i + 2] - off[KEYS ? 0 : i + 2]);
                    tile[j][i + 3] = a.scale * p.w * (tile[j][i + 3] - off[KEYS ? 0 : i + 3]);
                }
            }
            store_weights<SIDE, EACH>(tile, weights);
            __syncwarp();
        }
        if (ONE) {
            __syncthreads();
            load_rows<D, EACH, PASSING, THREADS, 1>(a, {KEYS ? queries : keys}, first, {right});
            __syncthreads();
        }
        if (live) add_rows<D, SIDE, PASSING, KEYS>(weights, right, ahead, out[0]);
    }
    if (t >= a.time) return;
    if constexpr (KEYS)
        store_rows<D, SIDE, 2>(a, out, t, {part(a, dqkv, 1), part(a, dqkv, 2)}, {left + mine, left_y + mine}, add);
    else
        store_rows<D, SIDE, 1>(a, out, t, {part(a, dqkv, 0)}, {left + mine}, add);
}

// Kernels for heads of at most D: of a lane its rows, of a block its warps and what passes by, of a multiprocessor its blocks.
#define ATTENTION(D, SIDE, WARPS, PASSING, BACK_WARPS, BACK_PASSING, ONE, BLOCKS)                                           \
    extern "C" __global__ __launch_bounds__(WARPS *WARP) void attention_##D(Attention a, const float *qkv, float *y,       \
                                                                            float *lse) {                                 \
        forward<D, SIDE, WARPS, PASSING>(a, qkv, y, lse);                                                                 \
    }                                                                                                                     \
    extern "C" __global__ __launch_bounds__(BACK_WARPS *WARP, BLOCKS) void attention_dq_##D(                               \
        Attention a, const float *qkv, const float *y, const float *lse, const float *dy, float *along, u32 add,          \
        float *dqkv) {                                                                                                    \
        backward<D, SIDE, BACK_WARPS, BACK_PASSING, false, ONE>(a, qkv, y, lse, dy, along, add, dqkv);                    \
    }                                                                                                                     \
    extern "C" __global__ __launch_bounds__(BACK_WARPS *WARP, BLOCKS) void attention_dkv_##D(                              \
        Attention a, const float *qkv, const float *lse, const float *dy, float *along, u32 add, float *dqkv) {           \
        backward<D, SIDE, BACK_WARPS, BACK_PASSING, true, ONE>(a, qkv, nullptr, lse, dy, along, add, dqkv);               \
    }

ATTENTION(32, 4, 4, 32, 4, 32, false, 5)
ATTENTION(64, 4, 4, 32, 4, 16, false, 1)
ATTENTION(128, 4, 2, 16, 2, 16, true, 1)
