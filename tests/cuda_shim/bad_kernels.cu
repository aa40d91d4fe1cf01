// Kernels that are wrong on purpose, each beside its corrected twin: the shim must tell them apart.
// One block of 64 threads; x, out (64).
#include "async_copy.cuh"
#include "threads.cuh"

// Each thread passes its number on to its neighbour.
template <bool barrier>
__device__ __forceinline__ void neighbour(const float* x, float* out) {
    __shared__ float values[64];
    values[threadIdx.x] = x[threadIdx.x];
    if (barrier) __syncthreads();
    out[threadIdx.x] = values[(threadIdx.x + 1) % 64];
}
extern "C" __global__ void race_bad(const float* x, float* out) { neighbour<false>(x, out); }
extern "C" __global__ void race_good(const float* x, float* out) { neighbour<true>(x, out); }

// Memory is used again for the next round while slow threads still read: a second barrier is needed.
template <bool barrier>
__device__ __forceinline__ void rounds(const float* x, float* out) {
    DYNAMIC_SHARED(float, values);
    float sum = 0.0f;
    for (int round = 0; round < 3; ++round) {
        values[threadIdx.x] = __fmul_rn(x[threadIdx.x], (float)(round + 1));
        __syncthreads();
        sum = __fadd_rn(sum, values[63 - threadIdx.x]);
        if (barrier) __syncthreads();
    }
    out[threadIdx.x] = sum;
}
extern "C" __global__ void reuse_bad(const float* x, float* out) { rounds<false>(x, out); }
extern "C" __global__ void reuse_good(const float* x, float* out) { rounds<true>(x, out); }

// what: 0 all is well, 1 no wait, 2 no commit, 3 waits for one group too few
template <int what>
__device__ __forceinline__ void copied(const float* x, float* out) {
    __shared__ __align__(16) float values[2][64];
    for (int stage = 0; stage < 2; ++stage) {
        if (threadIdx.x < 16) async_copy_16(&values[stage][4 * threadIdx.x], x + 4 * threadIdx.x, stage == 0);
        if (what != 2) async_commit();
    }
    if (what == 3) async_wait<1>();
    if (what != 1 && what != 3) async_wait<0>();
    __syncthreads();
    out[threadIdx.x] = __fadd_rn(values[0][63 - threadIdx.x], values[1][threadIdx.x]);
}
extern "C" __global__ void copy_good(const float* x, float* out) { copied<0>(x, out); }
extern "C" __global__ void copy_bad_wait(const float* x, float* out) { copied<1>(x, out); }
extern "C" __global__ void copy_bad_commit(const float* x, float* out) { copied<2>(x, out); }
extern "C" __global__ void copy_bad_count(const float* x, float* out) { copied<3>(x, out); }

extern "C" __global__ void copy_bad_place(const float* x, float* out) {
    __shared__ float values[64];
    async_copy_16(values + threadIdx.x, x + threadIdx.x, true);
    async_commit();
    async_wait<0>();
    out[threadIdx.x] = values[threadIdx.x];
}

// A barrier that not all threads reach.
extern "C" __global__ void barrier_bad(const float* x, float* out) {
    if (threadIdx.x < 40) __syncthreads();
    out[threadIdx.x] = x[threadIdx.x];
}
extern "C" __global__ void barrier_bad_return(const float* x, float* out) {
    if (threadIdx.x >= 40) return;
    __syncthreads();
    out[threadIdx.x] = x[threadIdx.x];
}
extern "C" __global__ void barrier_bad_two(const float* x, float* out) {
    if (threadIdx.x < 40)
        __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = x[threadIdx.x];
}
extern "C" __global__ void barrier_good(const float* x, float* out) {
    if (threadIdx.x < 40) out[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    if (threadIdx.x >= 40) out[threadIdx.x] = x[threadIdx.x];
}

// Sums of a warp by shuffles.
template <bool alone>
__device__ __forceinline__ void warp_sum(const float* x, float* out) {
    float sum = x[threadIdx.x];
    if (alone && threadIdx.x % 32 >= 16) return;  // the others still name these lanes
    for (int step = 16; step; step /= 2) sum = __fadd_rn(sum, __shfl_down_sync(0xFFFFFFFFu, sum, step));
    out[threadIdx.x] = __shfl_sync(0xFFFFFFFFu, sum, 0);
}
extern "C" __global__ void shuffle_bad_lane(const float* x, float* out) { warp_sum<true>(x, out); }
extern "C" __global__ void shuffle_good(const float* x, float* out) { warp_sum<false>(x, out); }
extern "C" __global__ void shuffle_bad_mask(const float* x, float* out) {
    float got = 0.0f;
    if (threadIdx.x % 32 < 16) got = __shfl_xor_sync(0xFFFFu, x[threadIdx.x], 16);
    out[threadIdx.x] = got;
}
extern "C" __global__ void shuffle_bad_branch(const float* x, float* out) {
    if (threadIdx.x % 2)
        out[threadIdx.x] = __shfl_sync(0xFFFFFFFFu, x[threadIdx.x], 0);
    else
        out[threadIdx.x] = __shfl_sync(0xFFFFFFFFu, x[threadIdx.x], 1);
}

// Shared memory that nobody wrote.
template <int kept>
__device__ __forceinline__ void partly(const float* x, float* out) {
    __shared__ float values[64];
    if (threadIdx.x < kept) values[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = values[63 - threadIdx.x];
}
extern "C" __global__ void unwritten_bad(const float* x, float* out) { partly<63>(x, out); }
extern "C" __global__ void unwritten_good(const float* x, float* out) { partly<64>(x, out); }

extern "C" __global__ void beyond_bad(const float* x, float* out) {
    DYNAMIC_SHARED(float, values);
    values[threadIdx.x + 1] = x[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = values[threadIdx.x + 1];
}
extern "C" __global__ void beyond_bad_static(const float* x, float* out) {
    __shared__ float values[63];
    values[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = values[threadIdx.x];
}

// A wide load from an address that is a multiple of 4 bytes only.
extern "C" __global__ void wide_bad(const float* x, float* out) {
    if (threadIdx.x < 15) *(float4*)(out + 4 * threadIdx.x) = *(const float4*)(x + 4 * threadIdx.x + 1);
}
extern "C" __global__ void wide_good(const float* x, float* out) {
    if (threadIdx.x < 16) *(float4*)(out + 4 * threadIdx.x) = *(const float4*)(x + 4 * threadIdx.x);
}
