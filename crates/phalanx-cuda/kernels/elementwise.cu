// Element by element: functions of one tensor with their derivatives, and arithmetic of two.
//
// Threads of the whole grid share the elements; most kernels take four neighbours at a time. `add` is 1 to add to the output,
// 0 to overwrite it. Everything but the logarithm has the bits of the CPU.

#include "unary.cuh"

// The order of phalanx_tensor::op::BinaryKind.
enum Binary { ADD, SUB, MUL, DIV };

__device__ float slope_at(u32 kind, float x) {
    switch (kind) {
    case RELU: return x > 0.0f ? 1.0f : 0.0f;
    case GELU: return distribution(x) + x * density(x);
    case GELU_TANH: {
        GeluParts p = gelu_parts(x);
        return p.s + x * (p.s * (1.0f - p.s)) * p.slope;
    }
    case SILU: {
        float s = sigmoid(x);
        return s * (1.0f + x * (1.0f - s));
    }
    case SIGMOID: {
        float s = sigmoid(x);
        return s * (1.0f - s);
    }
    case TANH: {
        float t = tanh_of(x);
        return 1.0f - t * t;
    }
    case EXP: return exp_of(x);
    case LN: return 1.0f / x;
    case SQRT: return 0.5f / sqrtf(x);
    case RSQRT: return -0.5f / (x * sqrtf(x));
    case RECIP: return -1.0f / (x * x);
    default: return 2.0f * x;
    }
}

__device__ float bend_at(u32 kind, float x) {
    switch (kind) {
    case RELU: return 0.0f;
    case GELU: return (2.0f - x * x) * density(x);
    case GELU_TANH: {
        GeluParts p = gelu_parts(x);
        float s1 = p.s * (1.0f - p.s);
        return s1 * (2.0f * p.slope + x * ((1.0f - 2.0f * p.s) * p.slope * p.slope + p.bend));
    }
    case SILU: {
        float s = sigmoid(x);
        return s * (1.0f - s) * (2.0f + x * (1.0f - 2.0f * s));
    }
    case SIGMOID: {
        float s = sigmoid(x);
        return s * (1.0f - s) * (1.0f - 2.0f * s);
    }
    case TANH: {
        float t = tanh_of(x);
        return -2.0f * t * (1.0f - t * t);
    }
    case EXP: return exp_of(x);
    case LN: return -1.0f / (x * x);
    case SQRT: return -0.25f / (x * sqrtf(x));
    case RSQRT: return 0.75f / (x * x * sqrtf(x));
    case RECIP: return 2.0f / (x * x * x);
    default: return 2.0f;
    }
}

__device__ __forceinline__ float combined(u32 kind, float a, float b) {
    switch (kind) {
    case ADD: return a + b;
    case SUB: return a - b;
    case MUL: return a * b;
    default: return a / b;
    }
}

extern "C" __global__ void fill(float *out, float value, u64 n) {
    for (u64 i = grid_first(); i < n; i += grid_step()) out[i] = value;
}

extern "C" __global__ void unary(u32 kind, const float *x, float *out, u64 n) {
    for (u64 i = grid_first(); i < (n + 3) / 4; i += grid_step())
        put_four(out, i, n, values_at(kind, get_four(x, i, n)), 0);
}

extern "C" __global__ void unary_grad(u32 kind, const float *x, const float *dy, u32 add, float *out, u64 n) {
    for (u64 i = grid_first(); i < (n + 3) / 4; i += grid_step()) {
        float4 v = get_four(x, i, n), g = get_four(dy, i, n);
#pragma unroll 1
        for (u32 turns = 0; turns < 4; turns++) {
            v = turned(v, slope_at(kind, v.x) * g.x);
            g = turned(g, 0.0f);
        }
        put_four(out, i, n, v, add);
    }
}

extern "C" __global__ void unary_grad2(u32 kind, const float *x, const float *dx, const float *dy, u32 add, float *out,
                                       u64 n) {
    for (u64 i = grid_first(); i < n; i += grid_step()) put(out + i, bend_at(kind, x[i]) * dx[i] * dy[i], add);
}

extern "C" __global__ void affine(float alpha, float beta, const float *x, u32 add, float *y, u64 n) {
    for (u64 i = grid_first(); i < (n + 3) / 4; i += grid_step()) {
        float4 v = get_four(x, i, n);
        v = make_float4(alpha * v.x + beta, alpha * v.y + beta, alpha * v.z + beta, alpha * v.w + beta);
        put_four(y, i, n, v, add);
    }
}

extern "C" __global__ void binary(u32 kind, const float *a, const float *b, u32 add, float *out, u64 n) {
    for (u64 i = grid_first(); i < n; i += grid_step()) put(out + i, combined(kind, a[i], b[i]), add);
}

// `out` is dense; the operands are walked by their steps.
extern "C" __global__ void binary_strided(u32 kind, const float *a, const float *b, Extents extents, Steps of_a,
                                          Steps of_b, u32 add, float *out, u32 n) {
    for (u64 i = grid_first(); i < n; i += grid_step()) {
        Pair at = walk((u32)i, extents, of_a, of_b);
        put(out + i, combined(kind, a[at.a], b[at.b]), add);
    }
}
