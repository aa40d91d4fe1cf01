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

// Memory of the block whose size the launch gives: a pointer `name`, aligned to 16 bytes.
#ifndef PAGNP_SHIM  // the tests run these sources on the CPU and have a macro of their own
#define DYNAMIC_SHARED(type, name)                              \
    extern __shared__ __align__(16) unsigned char dynamic_shared[]; \
    type* const name = (type*)dynamic_shared
#endif

#endif
