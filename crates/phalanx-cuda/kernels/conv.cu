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

extern "C" __global__ void im2col(Conv g, const float *x, float *columns) {
    u32 cells = g.out_h * g.out_w, width = g.images * cells, len = g.c_group * g.kernel_h * g.kernel_w * width;
    for (u64 next = grid_first(); next < len; next += grid_step()) {
        u32 i = (u32)next, tap = i / width, column = i - tap * width;
        u32 image = column / cells, cell = column - image * cells;
        u32 c = tap / (g.kernel_w * g.kernel_h), ky = tap / g.kernel_w % g.kernel_h, kx = tap % g.kernel_w;
        u32 out_row = cell / g.out_w, out_col = cell - out_row * g.out_w;
        // below 0 wraps round and is beyond the image
        u32 row = out_row * g.stride_h + ky - g.padding_h, col = out_col * g.stride_w + kx - g.padding_w;
        u32 plane = image * g.c + g.c_first + c;
        columns[i] = row < g.h && col < g.w ? x[(plane * g.h + row) * g.w + col] : 0.0f;
    }
}

// dx (+)= patches that hold each input cell. A thread takes an input cell of the group.
extern "C" __global__ void col2im(Conv g, const float *columns, u32 add, float *dx) {
    u32 cells = g.out_h * g.out_w, width = g.images * cells, len = g.images * g.c_group * g.h * g.w;
    for (u64 next = grid_first(); next < len; next += grid_step()) {
        u32 i = (u32)next, col = i % g.w, row = i / g.w % g.h, c = i / (g.w * g.h) % g.c_group;
        u32 image = i / (g.w * g.h) / g.c_group;
        float sum = 0.0f;
        for (u32 ky = 0; ky < g.kernel_h; ky++) {
            u32 y = row + g.padding_h - ky, out_row = y / g.stride_h;
            if (row + g.padding_h < ky || y % g.stride_h != 0 || out_row >= g.out_h) continue;
            for (u32 kx = 0; kx < g.kernel_w; kx++) {
                u32 x = col + g.padding_w - kx, out_col = x / g.stride_w;
                if (col + g.padding_w < kx || x % g.stride_w != 0 || out_col >= g.out_w) continue;
                u32 tap = (c * g.kernel_h + ky) * g.kernel_w + kx;
                sum += columns[tap * width + image * cells + out_row * g.out_w + out_col];
            }
        }
        put(dx + ((image * g.c + g.c_first + c) * g.h + row) * g.w + col, sum, add);
    }
}

// Whether b comes after a in the maximum: greater, or NaN where a is a number.
__device__ __forceinline__ bool beats(float b, float a) { return !(b <= a) && a == a; }

// y = act(sums + bias), images first. A thread takes an output; `bias` and `argmax` may be null.
extern "C" __global__ void conv_finish(Conv g, u32 act, const float *sums, const float *bias, float *y, u32 *argmax) {
    u32 pooled = act == RELU_POOL2;
    u32 rows = pooled ? g.out_h / 2 : g.out_h, cols = pooled ? g.out_w / 2 : g.out_w;
    u32 cells = g.out_h * g.out_w, outs = rows * cols, width = g.images * cells, len = g.images * g.o_group * outs;
    for (u64 next = grid_first(); next < len; next += grid_step()) {
        u32 i = (u32)next, plane_of = i / outs, out = i - plane_of * outs;
        u32 image = plane_of / g.o_group, o = plane_of - image * g.o_group;
        const float *plane = sums + (o * width + image * cells);
        u32 to = (image * g.o + g.o_first + o) * outs + out;
        float shift = bias ? bias[g.o_first + o] : 0.0f;
        if (pooled) {
            u32 row = out / cols, place = row * 2 * g.out_w + (out - row * cols) * 2;
            u32 places[4] = {place, place + 1, place + g.out_w, place + g.out_w + 1};
            float most = plane[place];
#pragma unroll
            for (u32 k = 1; k < 4; k++) {
                float here = plane[places[k]];
                if (beats(here, most)) {
                    most = here;
                    place = places[k];
                }
            }
            float v = most + shift;
            y[to] = v < 0.0f ? 0.0f : v;
            argmax[to] = place;
        } else {
            float v = plane[out] + shift;
            y[to] = act == RELU_ACT && v < 0.0f ? 0.0f : v;
        }
    }
}

// The gradient of the sums, from that of the output through the activation. A thread takes a sum.
extern "C" __global__ void conv_spread(Conv g, u32 act, const float *dy, const float *y, const u32 *argmax,
                                       float *dsums) {
    u32 pooled = act == RELU_POOL2;
    u32 rows = pooled ? g.out_h / 2 : g.out_h, cols = pooled ? g.out_w / 2 : g.out_w;
    u32 cells = g.out_h * g.out_w, outs = rows * cols, width = g.images * cells, len = g.o_group * width;
    for (u64 next = grid_first(); next < len; next += grid_step()) {
        u32 i = (u32)next, o = i / width, column = i - o * width, image = column / cells, cell = column - image * cells;
        u32 plane = (image * g.o + g.o_first + o) * outs;
        float v = 0.0f;
        if (pooled) {
            u32 row = cell / g.out_w, col = (cell - row * g.out_w) / 2, from = plane + row / 2 * cols + col;
            if (row / 2 < rows && col < cols && argmax[from] == cell && y[from] > 0.0f) v = dy[from];
        } else {
            v = act == NONE || y[plane + cell] > 0.0f ? dy[plane + cell] : 0.0f;
        }
        dsums[i] = v;
    }
}
