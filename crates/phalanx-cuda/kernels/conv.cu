// Convolutions around a matrix product: patches of a batch as columns, and what comes before and after.
//
// One group of some images at a time. `columns` is taps x (images cells), `sums` is channels x (images cells), cells
// those of the output before pooling; images and outputs are NCHW, of all groups, channels from `first` on.

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
    u64 cells = (u64)g.out_h * g.out_w, width = g.images * cells;
    u64 len = (u64)g.c_group * g.kernel_h * g.kernel_w * width;
    for (u64 i = grid_first(); i < len; i += grid_step()) {
        u64 tap = i / width, column = i - tap * width;
        u32 image = (u32)(column / cells), cell = (u32)(column % cells);
        u32 kx = (u32)(tap % g.kernel_w), ky = (u32)(tap / g.kernel_w % g.kernel_h);
        u32 c = (u32)(tap / (g.kernel_w * g.kernel_h));
        // below 0 wraps round and is beyond the image
        u32 row = cell / g.out_w * g.stride_h + ky - g.padding_h, col = cell % g.out_w * g.stride_w + kx - g.padding_w;
        u64 plane = (u64)image * g.c + g.c_first + c;
        columns[i] = row < g.h && col < g.w ? x[(plane * g.h + row) * g.w + col] : 0.0f;
    }
}

// dx (+)= patches that hold each input cell. A thread takes an input cell of the group.
extern "C" __global__ void col2im(Conv g, const float *columns, u32 add, float *dx) {
    u64 cells = (u64)g.out_h * g.out_w, width = g.images * cells;
    u64 len = (u64)g.images * g.c_group * g.h * g.w;
    for (u64 i = grid_first(); i < len; i += grid_step()) {
        u32 col = (u32)(i % g.w), row = (u32)(i / g.w % g.h), c = (u32)(i / g.w / g.h % g.c_group);
        u32 image = (u32)(i / g.w / g.h / g.c_group);
        float sum = 0.0f;
        for (u32 ky = 0; ky < g.kernel_h; ky++) {
            u32 y = row + g.padding_h - ky;
            if (row + g.padding_h < ky || y % g.stride_h != 0 || y / g.stride_h >= g.out_h) continue;
            for (u32 kx = 0; kx < g.kernel_w; kx++) {
                u32 x = col + g.padding_w - kx;
                if (col + g.padding_w < kx || x % g.stride_w != 0 || x / g.stride_w >= g.out_w) continue;
                u64 tap = ((u64)c * g.kernel_h + ky) * g.kernel_w + kx;
                sum += columns[tap * width + image * cells + y / g.stride_h * g.out_w + x / g.stride_w];
            }
        }
        put(dx + (((u64)image * g.c + g.c_first + c) * g.h + row) * g.w + col, sum, add);
    }
}

// Whether b comes after a in the maximum: greater, or NaN where a is a number.
__device__ __forceinline__ bool beats(float b, float a) { return !(b <= a) && a == a; }

// y = act(sums + bias), images first. A thread takes an output; `bias` and `argmax` may be null.
extern "C" __global__ void conv_finish(Conv g, u32 act, const float *sums, const float *bias, float *y, u32 *argmax) {
    u32 pooled = act == RELU_POOL2;
    u32 rows = pooled ? g.out_h / 2 : g.out_h, cols = pooled ? g.out_w / 2 : g.out_w;
    u64 cells = (u64)g.out_h * g.out_w, outs = (u64)rows * cols, width = g.images * cells;
    for (u64 i = grid_first(); i < (u64)g.images * g.o_group * outs; i += grid_step()) {
        u32 out = (u32)(i % outs), o = (u32)(i / outs % g.o_group), image = (u32)(i / outs / g.o_group);
        const float *plane = sums + o * width + image * cells;
        u64 to = ((u64)image * g.o + g.o_first + o) * outs + out;
        float shift = bias ? bias[g.o_first + o] : 0.0f;
        if (pooled) {
            u32 place = out / cols * 2 * g.out_w + out % cols * 2;
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
    u64 cells = (u64)g.out_h * g.out_w, outs = (u64)rows * cols, width = g.images * cells;
    for (u64 i = grid_first(); i < g.o_group * width; i += grid_step()) {
        u32 cell = (u32)(i % cells), image = (u32)(i / cells % g.images), o = (u32)(i / width);
        u64 plane = ((u64)image * g.o + g.o_first + o) * outs;
        float v = 0.0f;
        if (pooled) {
            u32 row = cell / g.out_w / 2, col = cell % g.out_w / 2;
            u64 from = plane + row * cols + col;
            if (row < rows && col < cols && argmax[from] == cell && y[from] > 0.0f) v = dy[from];
        } else {
            v = act == NONE || y[plane + cell] > 0.0f ? dy[plane + cell] : 0.0f;
        }
        dsums[i] = v;
    }
}
