// The functions of one number that activations are. Everything but the logarithm has the bits of the CPU.

#pragma once

#include "common.cuh"
#include "math.cuh"

// The order of phalanx_tensor::op::UnaryKind.
enum Unary { RELU, GELU, GELU_TANH, SILU, SIGMOID, TANH, EXP, LN, SQRT, RSQRT, RECIP, SQUARE };

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + exp_of(-x)); }

// The normal distribution: density and distribution function.
__device__ __forceinline__ float density(float x) { return 0.3989422804014327f * exp_of(-0.5f * x * x); }
__device__ __forceinline__ float distribution(float x) { return 0.5f * (1.0f + erf_of(x * 0.7071067811865476f)); }

// sqrt(2 / pi), and the cubic's factor in the tanh form of GELU.
#define GELU_A 0.7978845608028654
#define GELU_B 0.044715

// GELU in its tanh form is x s(u) with the sigmoid s: s, and the derivatives of u.
struct GeluParts {
    float s, slope, bend;
};

__device__ __forceinline__ GeluParts gelu_parts(float x) {
    float xx = x * x;
    float u = x * ((float)(2.0 * GELU_A) + (float)(2.0 * GELU_A * GELU_B) * xx);
    float slope = (float)(2.0 * GELU_A) + (float)(6.0 * GELU_A * GELU_B) * xx;
    return {sigmoid(u), slope, (float)(12.0 * GELU_A * GELU_B) * x};
}

__device__ float value_at(u32 kind, float x) {
    switch (kind) {
    case RELU: return x < 0.0f ? 0.0f : x;
    case GELU: return x * distribution(x);
    case GELU_TANH: return x * gelu_parts(x).s;
    case SILU: return x * sigmoid(x);
    case SIGMOID: return sigmoid(x);
    case TANH: return tanh_of(x);
    case EXP: return exp_of(x);
    case LN: return logf(x);
    case SQRT: return sqrtf(x);
    case RSQRT: return 1.0f / sqrtf(x);
    case RECIP: return 1.0f / x;
    default: return x * x;
    }
}

// Of four.
__device__ __forceinline__ float4 values_at(u32 kind, float4 x) {
#pragma unroll 1
    for (u32 i = 0; i < 4; i++) x = turned(x, value_at(kind, x.x));
    return x;
}
