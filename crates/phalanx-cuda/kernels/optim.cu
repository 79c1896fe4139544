// Optimizer updates over the flat parameter buffer, one pass over memory each, with the bits of the CPU.
//
// p: parameters, g: gradients, which are scaled first; keep = 1 - lr wd. All of one length n.

#include "common.cuh"

extern "C" __global__ void sgd(float lr, float keep, float scale, float *p, const float *g, u64 n) {
    for (u64 i = grid_first(); i < n; i += grid_step()) p[i] = p[i] * keep - lr * (g[i] * scale);
}

// v = momentum v + g; the step is v, or g + momentum v with `nesterov`.
extern "C" __global__ void sgd_momentum(float lr, float momentum, u32 nesterov, float keep, float scale, float *p,
                                        const float *g, float *v, u64 n) {
    for (u64 i = grid_first(); i < n; i += grid_step()) {
        float scaled = g[i] * scale;
        float velocity = momentum * v[i] + scaled;
        v[i] = velocity;
        p[i] = p[i] * keep - lr * (nesterov ? scaled + momentum * velocity : velocity);
    }
}

// fresh = 1 - beta; rate = lr / (1 - beta1^t); root_correction = sqrt(1 - beta2^t).
extern "C" __global__ void adamw(float rate, float keep, float scale, float fresh1, float beta2, float fresh2,
                                 float root_correction, float eps, float *p, const float *g, float *m, float *v, u64 n) {
    for (u64 i = grid_first(); i < n; i += grid_step()) {
        float scaled = g[i] * scale;
        float first = m[i] + (scaled - m[i]) * fresh1;
        float second = v[i] * beta2 + scaled * scaled * fresh2;
        m[i] = first;
        v[i] = second;
        p[i] = p[i] * keep - rate * (first / (sqrtf(second) / root_correction + eps));
    }
}

extern "C" __global__ void adagrad(float lr, float eps, float keep, float scale, float *p, const float *g, float *s,
                                   u64 n) {
    for (u64 i = grid_first(); i < n; i += grid_step()) {
        float scaled = g[i] * scale;
        float sum = s[i] + scaled * scaled;
        s[i] = sum;
        p[i] = p[i] * keep - lr * (scaled / (sqrtf(sum) + eps));
    }
}
