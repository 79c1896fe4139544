// Strided copies: transposes, slices, concatenation and broadcasts.
//
// Threads of the whole grid share the indices of the common extents.

#include "common.cuh"

extern "C" __global__ void copy_strided(const float *x, Extents extents, Steps from, Steps to, u32 add, float *out,
                                        u32 n) {
    for (u64 i = grid_first(); i < n; i += grid_step()) {
        Pair at = walk((u32)i, extents, from, to);
        put(out + at.b, x[at.a], add);
    }
}
