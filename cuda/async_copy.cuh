// async_copy.cuh: copies from global to shared memory that run while the thread goes on (cp.async, from sm_80 on).
// A thread sees what it copied itself after async_wait; other threads see it after a barrier behind that.
#ifndef PAGNP_ASYNC_COPY_CUH
#define PAGNP_ASYNC_COPY_CUH

#ifndef PAGNP_SHIM  // the tests run these sources on the CPU and have functions of their own

#if __CUDA_ARCH__ >= 800

// 16 bytes, both addresses multiples of 16; zeros where not wanted (global is not read then, but must be an address).
__device__ __forceinline__ void async_copy_16(void* shared, const void* global, bool wanted) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((unsigned)__cvta_generic_to_shared(shared)),
                 "l"(__cvta_generic_to_global(global)), "r"(wanted ? 16 : 0)
                 : "memory");
}

// 4 bytes, both addresses multiples of 4.
__device__ __forceinline__ void async_copy_4(void* shared, const void* global, bool wanted) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"((unsigned)__cvta_generic_to_shared(shared)),
                 "l"(__cvta_generic_to_global(global)), "r"(wanted ? 4 : 0)
                 : "memory");
}

// The copies since the last commit become a group.
__device__ __forceinline__ void async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Wait until at most the `groups` latest groups of this thread are still on their way.
template <int groups>
__device__ __forceinline__ void async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
}

#else  // before sm_80: copies at once

__device__ __forceinline__ void async_copy_16(void* shared, const void* global, bool wanted) {
    *(float4*)shared = wanted ? *(const float4*)global : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}
__device__ __forceinline__ void async_copy_4(void* shared, const void* global, bool wanted) {
    *(float*)shared = wanted ? *(const float*)global : 0.0f;
}
__device__ __forceinline__ void async_commit() {}
template <int groups>
__device__ __forceinline__ void async_wait() {}

#endif
#endif
#endif
