// The exponential function, the hyperbolic tangent and the error function, with the bits of phalanx_tensor's for the CPU.
//
// Polynomials of fused multiply-adds, without the approximations of the hardware: what runs on stand-ins in tests is what
// runs on a device. Errors below 3 ulp (exp_of), 3e-7 (tanh_of), 6e-7 absolute (erf_of).

#pragma once

// Below it e^x has no normal number, and counts as 0.
#define EXP_LOW -87.33654f

// e^x between EXP_LOW and the greatest x with a finite result: range reduction to |r| <= ln(2)/2 and a polynomial of degree 7;
// NaN stays NaN.
__device__ __forceinline__ float exp_between(float x) {
    // ln(2) in two parts: the first has trailing zeros, so that its multiple is exact
    const float ln2_high = 0.6933594f, ln2_low = -2.1219444e-4f;
    // adding 1.5 * 2^23 rounds to an integer, which then sits in the low bits
    const float magic = 12582912.0f;
    float shifted = fmaf(x, 1.44269504f, magic);
    float n = shifted - magic;
    float r = fmaf(n, -ln2_low, fmaf(n, -ln2_high, x));
    float p = fmaf(1.0f / 5040.0f, r, 1.0f / 720.0f);
    p = fmaf(p, r, 1.0f / 120.0f);
    p = fmaf(p, r, 1.0f / 24.0f);
    p = fmaf(p, r, 1.0f / 6.0f);
    p = fmaf(p, r, 0.5f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    return p * __int_as_float((int)(((unsigned int)__float_as_int(shifted) << 23) + (127u << 23)));
}

__device__ __forceinline__ float exp_of(float x) {
    // e^high is the greatest result with an exponent of at most 127
    const float high = 88.37626f;
    float clamped = x > high ? high : x;
    float y = exp_between(clamped < EXP_LOW ? EXP_LOW : clamped);
    y = x > high ? __int_as_float(0x7f800000) : y;
    return x < EXP_LOW ? 0.0f : y;
}

// exp_of for x that is not above 0, but for rounding.
__device__ __forceinline__ float exp_below(float x) {
    float y = exp_between(x < EXP_LOW ? EXP_LOW : x);
    return x < EXP_LOW ? 0.0f : y;
}

__device__ __forceinline__ float tanh_of(float x) {
    float e = exp_of(-2.0f * fabsf(x));
    return copysignf((1.0f - e) / (1.0f + e), x);
}

// Abramowitz and Stegun 7.1.26.
__device__ __forceinline__ float erf_of(float x) {
    float a = fabsf(x);
    float t = 1.0f / fmaf(a, 0.3275911f, 1.0f);
    float p = fmaf(1.0614054f, t, -1.453152f);
    p = fmaf(p, t, 1.4214137f);
    p = fmaf(p, t, -0.28449674f);
    p = fmaf(p, t, 0.2548296f);
    return copysignf(1.0f - p * t * exp_of(-a * a), x);
}
