// threads.cuh: which element a thread works on.
#ifndef PAGNP_THREADS_CUH
#define PAGNP_THREADS_CUH

// The number of this thread in a grid of one dimension.
__device__ __forceinline__ long long element_index() {
    return (long long)blockIdx.x * blockDim.x + threadIdx.x;
}

// How many rows are there: *count of at most `rows`, or all of them.
__device__ __forceinline__ long long wanted_rows(long long rows, const int* count, int has_count) {
    return has_count ? (long long)*count : rows;
}

#endif
