// scan.cuh: sums over the threads of a block, for compaction in order. All threads of the block take part.
#ifndef PAGNP_SCAN_CUH
#define PAGNP_SCAN_CUH

#include "warp.cuh"

// How many threads of lower number have `flag` set; *total: how many threads of the block.
// warps (32) is shared memory; it must not be in use by another call still.
__device__ __forceinline__ int count_before(bool flag, int* warps, int* total) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const unsigned set = __ballot_sync(ALL_LANES, flag);
    if (lane == 0) warps[warp] = __popc(set);
    __syncthreads();
    int before = __popc(set & ((1u << lane) - 1u));
    *total = 0;
    for (int k = 0; k < (int)(blockDim.x / WARP); ++k) {
        if (k < warp) before += warps[k];
        *total += warps[k];
    }
    return before;
}

// The sum of `value` over the threads of lower number; *total: over the block. warps as above.
__device__ __forceinline__ int sum_before(int value, int* warps, int* total) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    int sum = value;  // of this warp's lanes up to this one
    for (int distance = 1; distance < WARP; distance *= 2) {
        const int other = __shfl_up_sync(ALL_LANES, sum, distance);
        if (lane >= distance) sum += other;
    }
    if (lane == WARP - 1) warps[warp] = sum;
    __syncthreads();
    int before = sum - value;
    *total = 0;
    for (int k = 0; k < (int)(blockDim.x / WARP); ++k) {
        if (k < warp) before += warps[k];
        *total += warps[k];
    }
    return before;
}

#endif
