// Convolutions around a matrix product: patches of a batch as columns, and what comes before and after.
//
// One group of some images at a time. `columns` is taps x (images cells), `sums` is channels x (images cells), cells
// those of the output before pooling; images and outputs are NCHW, of all groups, channels from `first` on. Each of them
// is counted in 32 bits, in which a division is cheap.

#include "common.cuh"

struct Conv {
    // channels of the input and output in all, and of this group with the first of each
    u32 c, o, c_group, o_group, c_first, o_first;
    u32 h, w, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w;
    u32 images;
};

// The order of phalanx_tensor::op::Activation.
enum { NONE, RELU_ACT, RELU_POOL2 };

// Patches by cells of the output; SIDE is that of a square kernel, or 0 for any. Blocks in y share the channels, a thread
// takes a cell and writes it for each tap.
template <u32 SIDE>
__device__ __forceinline__ void patches(const Conv &g, const float *__restrict__ x, float *__restrict__ columns) {
    u32 kernel_h = SIDE ? SIDE : g.kernel_h, kernel_w = SIDE ? SIDE : g.kernel_w;
    u32 cells = g.out_h * g.out_w, width = g.images * cells;
    for (u32 c = blockIdx.y; c < g.c_group; c += gridDim.y)
#pragma unroll 1
        for (u64 next = grid_first(); next < width; next += grid_step()) {
            u32 column = (u32)next, image = column / cells, cell = column - image * cells;
            u32 out_row = cell / g.out_w, out_col = cell - out_row * g.out_w;
            // below 0 wraps round and is beyond the image
            u32 row = out_row * g.stride_h - g.padding_h, col = out_col * g.stride_w - g.padding_w;
            u32 from = ((image * g.c + g.c_first + c) * g.h + row) * g.w + col;
            u32 to = c * kernel_h * kernel_w * width + column;
#pragma unroll(SIDE == 3 ? 3 : 1)
            for (u32 ky = 0; ky < kernel_h; ky++)
#pragma unroll(SIDE ? SIDE : 1)
                for (u32 kx = 0; kx < kernel_w; kx++) {
                    bool is_in = row + ky < g.h && col + kx < g.w;
                    columns[to + (ky * kernel_w + kx) * width] = is_in ? x[from + ky * g.w + kx] : 0.0f;
                }
        }
}

extern "C" __global__ void im2col(Conv g, const float *__restrict__ x, float *__restrict__ columns) {
    if (g.kernel_h == 3 && g.kernel_w == 3) return patches<3>(g, x, columns);
    if (g.kernel_h == 5 && g.kernel_w == 5) return patches<5>(g, x, columns);
    patches<0>(g, x, columns);
}

// What patches hold of an input cell, in the order of taps; SIDE is that of a square kernel of stride 1, or 0 for any.
template <u32 SIDE>
__device__ __forceinline__ float held_by(const Conv &g, const float *columns, u32 width, u32 row, u32 col) {
    float sum = 0.0f;
    if constexpr (SIDE != 0) {
#pragma unroll(SIDE == 3 ? 3 : 1)
        for (u32 ky = 0; ky < SIDE; ky++) {
            // below 0 wraps round and is beyond the output
            u32 y = row + g.padding_h - ky;
#pragma unroll
            for (u32 kx = 0; kx < SIDE; kx++) {
                u32 x = col + g.padding_w - kx;
                sum += y < g.out_h && x < g.out_w ? columns[(ky * SIDE + kx) * width + y * g.out_w + x] : 0.0f;
            }
        }
    } else {
        for (u32 ky = 0; ky < g.kernel_h; ky++) {
            u32 y = row + g.padding_h - ky, out_row = y / g.stride_h;
            if (row + g.padding_h < ky || y % g.stride_h != 0 || out_row >= g.out_h) continue;
            for (u32 kx = 0; kx < g.kernel_w; kx++) {
                u32 x = col + g.padding_w - kx, out_col = x / g.stride_w;
                if (col + g.padding_w < kx || x % g.stride_w != 0 || out_col >= g.out_w) continue;
                sum += columns[(ky * g.kernel_w + kx) * width + out_row * g.out_w + out_col];
            }
        }
    }
    return sum;
}

template <u32 SIDE> __device__ __forceinline__ void gather(const Conv &g, const float *columns, u32 add, float *dx) {
    u32 cells = g.out_h * g.out_w, width = g.images * cells, inputs = g.h * g.w;
    for (u32 c = blockIdx.y; c < g.c_group; c += gridDim.y)
#pragma unroll 1
        for (u64 next = grid_first(); next < (u64)g.images * inputs; next += grid_step()) {
            u32 i = (u32)next, image = i / inputs, cell = i - image * inputs, row = cell / g.w, col = cell - row * g.w;
            const float *from = columns + (c * g.kernel_h * g.kernel_w * width + image * cells);
            put(dx + ((image * g.c + g.c_first + c) * inputs + cell), held_by<SIDE>(g, from, width, row, col), add);
        }
}

// dx (+)= patches that hold each input cell. Blocks in y share the channels of the group, a thread takes a cell.
extern "C" __global__ void col2im(Conv g, const float *__restrict__ columns, u32 add, float *__restrict__ dx) {
    bool is_near = g.stride_h == 1 && g.stride_w == 1;
    if (is_near && g.kernel_h == 3 && g.kernel_w == 3) return gather<3>(g, columns, add, dx);
    if (is_near && g.kernel_h == 5 && g.kernel_w == 5) return gather<5>(g, columns, add, dx);
    gather<0>(g, columns, add, dx);
}

// Whether b comes after a in the maximum: greater, or NaN where a is a number.
__device__ __forceinline__ bool beats(float b, float a) { return !(b <= a) && a == a; }

__device__ __forceinline__ float rectified(float x) { return x < 0.0f ? 0.0f : x; }

// y = act(sums + bias), images first. Blocks in y share the channels, a thread takes an output, or four where they lie so;
// `bias` and `argmax` may be null.
extern "C" __global__ void conv_finish(Conv g, u32 act, const float *sums, const float *bias, float *y, u32 *argmax) {
    u32 pooled = act == RELU_POOL2;
    u32 rows = pooled ? g.out_h / 2 : g.out_h, cols = pooled ? g.out_w / 2 : g.out_w;
    u32 cells = g.out_h * g.out_w, outs = rows * cols, width = g.images * cells;
    u32 at_once = !pooled && cells % 4 == 0 && by_four(sums) && by_four(y) ? 4 : 1, count = g.images * outs / at_once;
    for (u32 o = blockIdx.y; o < g.o_group; o += gridDim.y) {
        float shift = bias ? bias[g.o_first + o] : 0.0f;
        const float *from = sums + o * width;
#pragma unroll 1
        for (u64 next = grid_first(); next < count; next += grid_step()) {
            u32 i = (u32)next * at_once, image = i / outs, out = i - image * outs;
            u32 to = (image * g.o + g.o_first + o) * outs + out;
            if (pooled) {
                const float *plane = from + image * cells;
                u32 row = out / cols, place = row * 2 * g.out_w + (out - row * cols) * 2;
                u32 places[4] = {place, place + 1, place + g.out_w, place + g.out_w + 1};
                float held[4];
                if (g.out_w % 2 == 0) {
                    float2 upper = *(const float2 *)(plane + places[0]), lower = *(const float2 *)(plane + places[2]);
                    held[0] = upper.x, held[1] = upper.y, held[2] = lower.x, held[3] = lower.y;
                } else {
#pragma unroll
                    for (u32 k = 0; k < 4; k++) held[k] = plane[places[k]];
                }
                float most = held[0];
#pragma unroll
                for (u32 k = 1; k < 4; k++)
                    if (beats(held[k], most)) {
                        most = held[k];
                        place = places[k];
                    }
                y[to] = rectified(most + shift);
                argmax[to] = place;
            } else if (at_once == 4) {
                float4 v = *(const float4 *)(from + i);
                v.x += shift, v.y += shift, v.z += shift, v.w += shift;
                if (act == RELU_ACT) v = {rectified(v.x), rectified(v.y), rectified(v.z), rectified(v.w)};
                *(float4 *)(y + to) = v;
            } else {
                float v = from[i] + shift;
                y[to] = act == RELU_ACT ? rectified(v) : v;
            }
        }
    }
}

// The gradient of the sums, from that of the output through the activation. Blocks in y share the channels; a thread takes
// four sums that lie side by side, or the square of a maximum. `totals`, if any, is channels x blocks in x: what each block
// wrote, added up.
extern "C" __global__ void conv_spread(Conv g, u32 act, const float *dy, const float *y, const u32 *argmax,
                                       float *dsums, float *totals) {
    u32 pooled = act == RELU_POOL2;
    u32 rows = pooled ? g.out_h / 2 : g.out_h, cols = pooled ? g.out_w / 2 : g.out_w;
    u32 cells = g.out_h * g.out_w, outs = rows * cols, width = g.images * cells;
    // squares, of which the last may lie half beyond what is pooled
    u32 across = (g.out_w + 1) / 2, squares = (g.out_h + 1) / 2 * across;
    u32 at_once = cells % 4 == 0 && by_four(dy) && by_four(y) && by_four(dsums) ? 4 : 1;
    u32 count = pooled ? g.images * squares : width / at_once;
    for (u32 o = blockIdx.y; o < g.o_group; o += gridDim.y) {
        float total = 0.0f;
        float *to = dsums + o * width;
#pragma unroll 1
        for (u64 next = grid_first(); next < count; next += grid_step()) {
            if (pooled) {
                u32 i = (u32)next, image = i / squares, square = i - image * squares;
                u32 row = square / across, col = square - row * across, cell = 2 * (row * g.out_w + col);
                float v = 0.0f;
                u32 place = cell;
                if (row < rows && col < cols) {
                    u32 from = (image * g.o + g.o_first + o) * outs + row * cols + col;
                    float slope = dy[from];
                    place = argmax[from];
                    v = y[from] > 0.0f ? slope : 0.0f;
                }
                total += v;
                float *upper = to + (image * cells + cell), *lower = upper + g.out_w;
                float2 above = {place == cell ? v : 0.0f, place == cell + 1 ? v : 0.0f};
                float2 below = {place == cell + g.out_w ? v : 0.0f, place == cell + g.out_w + 1 ? v : 0.0f};
                bool has_lower = 2 * row + 1 < g.out_h;
                if (g.out_w % 2 == 0) {
                    *(float2 *)upper = above;
                    if (has_lower) *(float2 *)lower = below;
                } else {
                    bool has_right = 2 * col + 1 < g.out_w;
                    upper[0] = above.x;
                    if (has_right) upper[1] = above.y;
                    if (has_lower) lower[0] = below.x;
                    if (has_lower && has_right) lower[1] = below.y;
                }
            } else {
                u32 i = (u32)next * at_once, image = i / cells;
                u32 from = (image * g.o + g.o_first + o) * cells + (i - image * cells);
                if (at_once == 4) {
                    float4 v = *(const float4 *)(dy + from);
                    if (act != NONE) {
                        float4 out = *(const float4 *)(y + from);
                        v = {out.x > 0.0f ? v.x : 0.0f, out.y > 0.0f ? v.y : 0.0f, out.z > 0.0f ? v.z : 0.0f,
                             out.w > 0.0f ? v.w : 0.0f};
                    }
                    total += (v.x + v.y) + (v.z + v.w);
                    *(float4 *)(to + i) = v;
                } else {
                    float v = act == NONE || y[from] > 0.0f ? dy[from] : 0.0f;
                    total += v;
                    to[i] = v;
                }
            }
        }
        if (totals) {
            total = block_sum(total);
            if (threadIdx.x == 0) totals[o * gridDim.x + blockIdx.x] = total;
        }
    }
}
