// Pooling over windows of planes. A thread takes an output, or in a gradient an input cell, which looks at the windows
// that it lies in, in their order. Inputs and outputs are counted in 32 bits, in which a division is cheap.

#include "common.cuh"

struct Pool {
    u32 h, w, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w;
};

// The cells of window (i, j): rows from y0 below y1, columns from x0 below x1.
struct Window {
    u32 y0, y1, x0, x1;
};

__device__ __forceinline__ u32 less(u32 a, u32 b) { return a > b ? a - b : 0; }

__device__ __forceinline__ Window window(const Pool &p, u32 i, u32 j) {
    u32 y = i * p.stride_h, x = j * p.stride_w;
    return {less(y, p.padding_h), less(min(y + p.kernel_h, p.h + p.padding_h), p.padding_h), less(x, p.padding_w),
            less(min(x + p.kernel_w, p.w + p.padding_w), p.padding_w)};
}

// The windows over a cell: rows from y0 below y1, columns from x0 below x1.
__device__ __forceinline__ Window over(const Pool &p, u32 y, u32 x) {
    u32 bottom = y + p.padding_h, right = x + p.padding_w;
    u32 y0 = bottom < p.kernel_h ? 0 : (bottom - p.kernel_h) / p.stride_h + 1;
    u32 x0 = right < p.kernel_w ? 0 : (right - p.kernel_w) / p.stride_w + 1;
    return {y0, min(bottom / p.stride_h + 1, p.out_h), x0, min(right / p.stride_w + 1, p.out_w)};
}

// The greatest, the first of equals, a NaN wins.
extern "C" __global__ void max_pool(Pool p, u32 len, const float *x, float *y, u32 *argmax) {
    u32 outs = p.out_h * p.out_w, cells = p.h * p.w;
    for (u64 next = grid_first(); next < len; next += grid_step()) {
        u32 o = (u32)next, plane_of = o / outs, out = o - plane_of * outs;
        const float *plane = x + plane_of * cells;
        Window at = window(p, out / p.out_w, out % p.out_w);
        bool begun = false;
        float most = -INFINITE;
        u32 place = 0;
        for (u32 i = at.y0; i < at.y1; i++)
            for (u32 j = at.x0; j < at.x1; j++) {
                float here = plane[i * p.w + j];
                if (!begun || here > most || here != here) {
                    most = here;
                    place = i * p.w + j;
                }
                begun = true;
            }
        y[o] = most;
        argmax[o] = place;
    }
}

// dx += dy where the maximum was.
extern "C" __global__ void max_pool_grad(Pool p, u32 len, const u32 *argmax, const float *dy, float *dx) {
    u32 outs = p.out_h * p.out_w, cells = p.h * p.w;
    for (u64 next = grid_first(); next < len; next += grid_step()) {
        u32 c = (u32)next, cell = c % cells, plane = c / cells * outs;
        Window at = over(p, cell / p.w, cell % p.w);
        float sum = dx[c];
        for (u32 i = at.y0; i < at.y1; i++)
            for (u32 j = at.x0; j < at.x1; j++) {
                u32 o = plane + i * p.out_w + j;
                if (argmax[o] == cell) sum += dy[o];
            }
        dx[c] = sum;
    }
}

extern "C" __global__ void max_pool_tangent(Pool p, u32 len, const u32 *argmax, const float *x, float *y) {
    u32 outs = p.out_h * p.out_w, cells = p.h * p.w;
    for (u64 next = grid_first(); next < len; next += grid_step()) {
        u32 o = (u32)next;
        y[o] = x[o / outs * cells + argmax[o]];
    }
}

extern "C" __global__ void avg_pool(Pool p, u32 len, float scale, const float *x, float *y) {
    u32 outs = p.out_h * p.out_w, cells = p.h * p.w;
    for (u64 next = grid_first(); next < len; next += grid_step()) {
        u32 o = (u32)next, plane_of = o / outs, out = o - plane_of * outs;
        const float *plane = x + plane_of * cells;
        Window at = window(p, out / p.out_w, out % p.out_w);
        float sum = 0.0f;
        for (u32 i = at.y0; i < at.y1; i++)
            for (u32 j = at.x0; j < at.x1; j++) sum += plane[i * p.w + j];
        y[o] = sum * scale;
    }
}

extern "C" __global__ void avg_pool_grad(Pool p, u32 len, float scale, const float *dy, u32 add, float *dx) {
    u32 outs = p.out_h * p.out_w, cells = p.h * p.w;
    for (u64 next = grid_first(); next < len; next += grid_step()) {
        u32 c = (u32)next, cell = c % cells, plane = c / cells * outs;
        Window at = over(p, cell / p.w, cell % p.w);
        float sum = add ? dx[c] : 0.0f;
        for (u32 i = at.y0; i < at.y1; i++)
            for (u32 j = at.x0; j < at.x1; j++) sum += dy[plane + i * p.out_w + j] * scale;
        dx[c] = sum;
    }
}
