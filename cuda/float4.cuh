// float4.cuh: four neighbouring channels in one 16-byte access. Only for addresses that are multiples of 16.
#ifndef PAGNP_FLOAT4_CUH
#define PAGNP_FLOAT4_CUH

__device__ __forceinline__ float4 load_4(const float* x) { return *reinterpret_cast<const float4*>(x); }

__device__ __forceinline__ void store_4(float* out, float4 value) { *reinterpret_cast<float4*>(out) = value; }

// The first of the four elements that this thread works on.
__device__ __forceinline__ long long quad_index() { return 4 * element_index(); }

#endif
