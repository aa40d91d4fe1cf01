// nearest.cuh: the source index of `nearest`.
#ifndef PAGNP_NEAREST_CUH
#define PAGNP_NEAREST_CUH

// PyTorch's rule: floor(o * step), step = f32(in) / f32(out), in float32. The product is never negative.
__device__ __forceinline__ long long nearest_index(long long o, float step, long long length_in) {
    const long long index = (long long)__fmul_rn((float)o, step);
    return index < length_in - 1 ? index : length_in - 1;
}

#endif
