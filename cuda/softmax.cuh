// softmax.cuh: softmax of the c numbers of one pixel, by one thread.
#ifndef PAGNP_SOFTMAX_CUH
#define PAGNP_SOFTMAX_CUH

// The first maximum by `>`.
__device__ __forceinline__ float first_maximum(const float* x, long long c) {
    float m = x[0];
    for (long long k = 1; k < c; ++k) m = x[k] > m ? x[k] : m;
    return m;
}

// e_k = exp(x_k - m), s = e_0 + e_1 + ... from +0, out_k = e_k / s. `out` may be x: element k is read before it is
// written, and what is read again is what was written here.
__device__ __forceinline__ void softmax_pixel(const float* x, float* out, long long c) {
    const float m = first_maximum(x, c);
    float s = 0.0f;
    for (long long k = 0; k < c; ++k) {
        const float e = exp_step(__fsub_rn(x[k], m));
        out[k] = e;
        s = __fadd_rn(s, e);
    }
    for (long long k = 0; k < c; ++k) out[k] = __fdiv_rn(out[k], s);
}

#endif
