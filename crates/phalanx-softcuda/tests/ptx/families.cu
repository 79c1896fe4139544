// One kernel a family of instructions, for tests of the interpreter. `families.ptx` is what NVRTC 12.9 makes of this file for
// compute_80 with -lineinfo and --std=c++17. Result `k` of element `i` of `n` lies at `k n + i`.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

typedef long long s64;
typedef unsigned long long u64;
typedef unsigned u32;
typedef unsigned short u16;

#define ELEMENT const int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= n) return; int k = 0
#define PUT(value) out[n * k++ + i] = (value)

extern "C" __global__ void words(const u32 *as, const u32 *bs, u32 *out, int n) {
    ELEMENT;
    const u32 a = as[i], b = bs[i];
    const int x = a, y = b;
    PUT(a + b); PUT(a - b); PUT(a * b); PUT(__umulhi(a, b)); PUT(__mulhi(x, y));
    PUT(a / (b | 1)); PUT(a % (b | 1)); PUT(x / (y | 1)); PUT(x % (y | 1));
    PUT(min(a, b)); PUT(max(a, b)); PUT(min(x, y)); PUT(max(x, y)); PUT(abs(x));
    PUT(a << (b & 31)); PUT(a >> (b & 31)); PUT(x >> (b & 31)); PUT(a & b); PUT(a | b); PUT(a ^ ~b);
    PUT(__popc(a)); PUT(__clz(x)); PUT(__brev(a)); PUT(__ffs(x)); PUT(__byte_perm(a, b, 0x5140));
    PUT(__funnelshift_l(a, b, b)); PUT(__funnelshift_r(a, b, b)); PUT(__funnelshift_rc(a, b, b & 63));
    PUT(__usad(a, b, 7)); PUT(__dp4a(x, y, 5)); PUT(__dp4a(a, b, 5u)); PUT((u32)(u16)(a + b) * 3); PUT((int)(short)a >> 3);
    u32 r;
    asm("bfe.u32 %0, %1, 5, 11;" : "=r"(r) : "r"(a)); PUT(r);
    asm("bfe.s32 %0, %1, 5, 11;" : "=r"(r) : "r"(a)); PUT(r);
    asm("bfi.b32 %0, %1, %2, 7, 9;" : "=r"(r) : "r"(a), "r"(b)); PUT(r);
    asm("lop3.b32 %0, %1, %2, %3, 0xe8;" : "=r"(r) : "r"(a), "r"(b), "r"(a + b)); PUT(r);
    asm("{ .reg .u32 t; add.cc.u32 t, %1, %2; addc.u32 %0, 0, 0; }" : "=r"(r) : "r"(a), "r"(b)); PUT(r);
}

extern "C" __global__ void longs(const u64 *as, const u64 *bs, u64 *out, int n) {
    ELEMENT;
    const u64 a = as[i], b = bs[i];
    const s64 x = a, y = b;
    PUT(a + b); PUT(a - b); PUT(a * b); PUT(__umul64hi(a, b)); PUT(__mul64hi(x, y));
    PUT(a / (b | 1)); PUT(a % (b | 1)); PUT(x / (y | 1)); PUT(x % (y | 1)); PUT(min(a, b)); PUT(max(x, y)); PUT(llabs(x));
    PUT(a << (b & 63)); PUT(a >> (b & 63)); PUT(x >> (b & 63)); PUT(a & ~b); PUT(__popcll(a)); PUT(__clzll(x)); PUT(__brevll(a));
    PUT((u64)(u32)a * (u32)b); PUT((s64)(int)a * (int)b); PUT(a > b ? a : ~b); PUT(x < y ? 1 : 2);
}

extern "C" __global__ void singles(const float *as, const float *bs, const float *cs, float *out, int n) {
    ELEMENT;
    const float a = as[i], b = bs[i], c = cs[i];
    PUT(__fadd_rn(a, b)); PUT(__fsub_rn(a, b)); PUT(__fmul_rn(a, b)); PUT(__fdiv_rn(a, b)); PUT(fmaf(a, b, c));
    PUT(__fsqrt_rn(fabsf(a))); PUT(__frcp_rn(a)); PUT(fminf(a, b)); PUT(fmaxf(a, b)); PUT(-a); PUT(copysignf(a, b));
    PUT(rintf(a)); PUT(floorf(a)); PUT(ceilf(a)); PUT(truncf(a));
    PUT(__saturatef(a)); PUT(a < b ? c : a); PUT(isnan(a) ? 1.0f : 2.0f); PUT((float)(a >= b && b <= c));
    PUT(__int_as_float(__float2int_rn(a))); PUT(__int_as_float(__float2int_rz(a)));
    PUT(__uint_as_float(__float2uint_rd(a))); PUT(__int_as_float(__float2int_ru(a)));
    PUT((float)__float_as_int(a)); PUT((float)__float_as_uint(a)); PUT((float)(double)a);
}

extern "C" __global__ void approximations(const float *as, float *out, int n) {
    ELEMENT;
    const float a = as[i];
    PUT(expf(a)); PUT(logf(fabsf(a))); PUT(tanhf(a)); PUT(rsqrtf(fabsf(a))); PUT(__expf(a)); PUT(__logf(fabsf(a)));
    PUT(__sinf(a)); PUT(__cosf(a)); PUT(sinf(a)); PUT(powf(fabsf(a), 1.5f)); PUT(__fdividef(1.0f, a)); PUT(erff(a)); PUT(log1pf(fabsf(a)));
}

extern "C" __global__ void doubles(const double *as, const double *bs, double *out, int n) {
    ELEMENT;
    const double a = as[i], b = bs[i];
    PUT(a + b); PUT(a - b); PUT(a * b); PUT(a / b); PUT(fma(a, b, 1.0)); PUT(sqrt(fabs(a))); PUT(fmin(a, b)); PUT(fmax(a, b));
    PUT(rint(a)); PUT(floor(a)); PUT((double)(s64)a); PUT((double)(float)a); PUT((double)(int)a); PUT((double)__double_as_longlong(a));
    PUT(exp(a * 0.01)); PUT(log(fabs(a)));
}

extern "C" __global__ void halves(const float *as, const float *bs, u32 *out, int n) {
    ELEMENT;
    const float a = as[i], b = bs[i];
    const __half ha = __float2half_rn(a), hb = __float2half_rn(b);
    const __nv_bfloat16 ba = __float2bfloat16_rn(a), bb = __float2bfloat16_rn(b);
    PUT(__half_as_ushort(ha)); PUT(__bfloat16_as_ushort(ba));
    PUT(__half_as_ushort(__float2half_rz(a))); PUT(__bfloat16_as_ushort(__float2bfloat16_rz(a)));
    PUT(__half_as_ushort(__float2half_ru(a))); PUT(__half_as_ushort(__float2half_rd(a)));
    PUT(__float_as_uint(__half2float(ha))); PUT(__float_as_uint(__bfloat162float(ba)));
    PUT(__half_as_ushort(__hadd(ha, hb))); PUT(__half_as_ushort(__hmul(ha, hb))); PUT(__half_as_ushort(__hfma(ha, hb, ha)));
    PUT(__bfloat16_as_ushort(__hadd(ba, bb))); PUT(__bfloat16_as_ushort(__hmul(ba, bb)));
    PUT(__bfloat16_as_ushort(__hfma(ba, bb, ba))); PUT(__hlt(ha, hb)); PUT(__hge(ba, bb));
    __half2 h2 = __floats2half2_rn(a, b);
    h2 = __hfma2(h2, h2, __hadd2(h2, h2));
    PUT(__half_as_ushort(__low2half(h2)) | (u32)__half_as_ushort(__high2half(h2)) << 16);
    __nv_bfloat162 b2 = __floats2bfloat162_rn(a, b);
    b2 = __hmax2(b2, __hmul2(b2, b2));
    PUT(__bfloat16_as_ushort(__low2bfloat16(b2)) | (u32)__bfloat16_as_ushort(__high2bfloat16(b2)) << 16);
}

// One warp or several, each on its own: `n` results a thread.
extern "C" __global__ void warps(const u32 *as, u32 *out, int n) {
    const int i = threadIdx.x;
    int k = 0;
    const u32 a = as[i], all = 0xffffffff;
    PUT(__shfl_sync(all, a, i + 5)); PUT(__shfl_up_sync(all, a, 3)); PUT(__shfl_down_sync(all, a, 7)); PUT(__shfl_xor_sync(all, a, 9));
    PUT(__shfl_sync(all, a, i + 3, 8)); PUT(__shfl_down_sync(all, a, 2, 16)); PUT(__shfl_up_sync(all, a, 1, 4));
    PUT(__ballot_sync(all, a & 1)); PUT(__any_sync(all, a == 3)); PUT(__all_sync(all, a < 1000));
    PUT(__match_any_sync(all, a & 3)); int same; PUT(__match_all_sync(all, a >> 16, &same)); PUT(same);
    PUT(__reduce_add_sync(all, a)); PUT(__reduce_min_sync(all, (int)a)); PUT(__reduce_max_sync(all, a)); PUT(__reduce_xor_sync(all, a));
    u32 half = i & 16 ? 0xffff0000u : 0x0000ffffu;
    if (i & 16) { PUT(__reduce_add_sync(half, a) + 1); } else { PUT(__reduce_add_sync(half, a)); }
    if ((i & 31) < 7) { PUT(__activemask()); } else { PUT(0); }
    u64 wide = (u64)a << 32 | i;
    wide = __shfl_xor_sync(all, wide, 1);
    PUT((u32)(wide >> 32) + (u32)wide);
}

extern "C" __global__ void atomics(u32 *words, float *single, double *dbl, u64 *wide, __half2 *pair, u32 *order) {
    const u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    atomicAdd(&words[0], i); atomicSub(&words[1], 1); atomicMin((int *)&words[2], -(int)i); atomicMax(&words[3], i);
    atomicAnd(&words[4], ~(1u << (i & 31))); atomicOr(&words[5], 1u << (i & 31)); atomicXor(&words[6], i);
    atomicInc(&words[7], 9); atomicDec(&words[8], 9);
    u32 seen = words[9], assumed;
    do { assumed = seen; seen = atomicCAS(&words[9], assumed, assumed + 2); } while (seen != assumed);
    order[i] = atomicAdd(&words[10], 1);
    atomicAdd(single, 0.5f); atomicAdd(dbl, 0.25); atomicAdd(wide, (u64)1 << 33); atomicAdd(pair, __floats2half2_rn(1.0f, 2.0f));
    __shared__ u32 local;
    if (threadIdx.x == 0) local = 0;
    __syncthreads();
    atomicAdd(&local, i);
    __syncthreads();
    if (threadIdx.x == 0) atomicExch(&words[11 + blockIdx.x], local);
}

// The sum of a block by its warps, and then the sum of blocks by the last of them.
extern "C" __global__ void sum(const float *as, float *partial, u32 *done, float *out, int n) {
    __shared__ float parts[32];
    __shared__ bool last;
    float x = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) x += as[i];
    for (int o = 16; o > 0; o >>= 1) x += __shfl_xor_sync(0xffffffff, x, o);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < blockDim.x / 32; w++) x += parts[w];
        partial[blockIdx.x] = x;
        __threadfence();
        last = atomicAdd(done, 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        x = 0;
        for (int b = 0; b < gridDim.x; b++) x += ((volatile float *)partial)[b];
        *out = x;
    }
}

extern "C" __global__ void barriers(const u32 *as, u32 *out) {
    const int i = threadIdx.x, n = blockDim.x;
    int k = 0;
    PUT(__syncthreads_count(as[i] & 1)); PUT(__syncthreads_and(as[i] < 100)); PUT(__syncthreads_or(as[i] == 5));
}

// Lanes that go different ways, and meet again.
extern "C" __global__ void ways(const u32 *as, u32 *out, int n) {
    ELEMENT;
    u32 a = as[i], steps = 0;
    while (a != 1 && steps < 1000) { a = a & 1 ? 3 * a + 1 : a / 2; steps++; }
    PUT(steps);
    switch (as[i] % 7) {
    case 0: a = 11; break;
    case 1: a = as[i] * 3; break;
    case 2: a += 5; // and on
    case 3: a ^= 0x55; break;
    case 4: for (u32 j = 0; j < as[i] % 5; j++) a += j; break;
    case 5: return;
    default: a = __popc(as[i]);
    }
    PUT(a + (__activemask() != 0));
}

__constant__ u32 table[8] = {3, 1, 4, 1, 5, 9, 2, 6};
__device__ u32 counter = 40;
struct Given { int first; u64 second; u16 third[5]; };

extern "C" __global__ void spaces(const Given given, const u32 *as, u32 *out, int n) {
    ELEMENT;
    u32 own[16];
    for (int j = 0; j < 16; j++) own[j] = as[i] + j * j;
    PUT(own[as[i] & 15]); PUT(table[as[i] & 7]); PUT(counter); PUT(given.first + (u32)given.second + given.third[as[i] % 5]);
    const uint4 four = ((const uint4 *)as)[i / 4];
    PUT(four.x + four.w);
    PUT(((const unsigned char *)as)[i * 4 + 1]); PUT(((const short *)as)[i * 2]);
}

__device__ u32 address(const void *p) { return (u32)__cvta_generic_to_shared(p); }

// A tile of 64 x 4 words, copied while the one before is used.
extern "C" __global__ void copies(const uint4 *from, u32 *out, int tiles) {
    __shared__ uint4 buffer[2][64];
    const int i = threadIdx.x;
    u32 x = 0;
    auto fetch = [&](int tile) {
        if (tile < tiles)
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address(&buffer[tile & 1][i])), "l"(&from[tile * 64 + i]));
        asm volatile("cp.async.commit_group;");
    };
    fetch(0);
    for (int tile = 0; tile < tiles; tile++) {
        fetch(tile + 1);
        asm volatile("cp.async.wait_group 1;");
        __syncthreads();
        const uint4 v = buffer[tile & 1][63 - i];
        x += v.x ^ v.y ^ v.z ^ v.w;
        __syncthreads();
    }
    out[i] = x;
}

// C of 16 x 8 from A of 16 x 16 by rows and B of 8 x 16, its columns by rows.
extern "C" __global__ void products(const u16 *as, const u16 *bs, float *out, int bf) {
    __shared__ __align__(16) u16 a[16][16];
    __shared__ __align__(16) u16 b[8][16];
    const int lane = threadIdx.x;
    for (int i = lane; i < 256; i += 32) a[i / 16][i % 16] = as[i];
    for (int i = lane; i < 128; i += 32) b[i / 16][i % 16] = bs[i];
    __syncwarp();
    u32 ra[4], rb[2];
    float c[4] = {0, 0, 0, 0};
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
        : "=r"(ra[0]), "=r"(ra[1]), "=r"(ra[2]), "=r"(ra[3]) : "r"(address(&a[lane % 16][lane / 16 * 8])));
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
        : "=r"(rb[0]), "=r"(rb[1]) : "r"(address(&b[lane % 8][lane / 8 % 2 * 8])));
    if (bf)
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(ra[0]), "r"(ra[1]), "r"(ra[2]), "r"(ra[3]), "r"(rb[0]), "r"(rb[1]));
    else
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(ra[0]), "r"(ra[1]), "r"(ra[2]), "r"(ra[3]), "r"(rb[0]), "r"(rb[1]));
    for (int j = 0; j < 4; j++) out[(lane / 4 + j / 2 * 8) * 8 + lane % 4 * 2 + j % 2] = c[j];
}

// C of 16 x 8 from A of 16 x 8 by rows and B of 8 x 8 by columns, in tf32.
extern "C" __global__ void tf32(const float *as, const float *bs, float *out) {
    const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    auto cut = [](float x) { u32 r; asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x)); return r; };
    const u32 a[4] = {cut(as[g * 8 + t]), cut(as[(g + 8) * 8 + t]), cut(as[g * 8 + t + 4]), cut(as[(g + 8) * 8 + t + 4])};
    const u32 b[2] = {cut(bs[g * 8 + t]), cut(bs[g * 8 + t + 4])};
    float c[4] = {1, 1, 1, 1};
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    for (int j = 0; j < 4; j++) out[(g + j / 2 * 8) * 8 + t * 2 + j % 2] = c[j];
}
