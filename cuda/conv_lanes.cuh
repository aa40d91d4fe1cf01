// conv_lanes.cuh: one or four neighbouring channels of a depthwise convolution, each with its own chain.
#ifndef PAGNP_CONV_LANES_CUH
#define PAGNP_CONV_LANES_CUH

#include "contract.cuh"
#include "threads.cuh"
#include "conv2d.cuh"
#include "float4.cuh"

__device__ __forceinline__ void load_lanes(float (&value)[1], const float* x) { value[0] = *x; }
__device__ __forceinline__ void load_lanes(float (&value)[4], const float* x) {
    const float4 four = load_4(x);
    value[0] = four.x, value[1] = four.y, value[2] = four.z, value[3] = four.w;
}

__device__ __forceinline__ void store_lanes(float* out, const float (&value)[1]) { *out = value[0]; }
__device__ __forceinline__ void store_lanes(float* out, const float (&value)[4]) {
    store_4(out, make_float4(value[0], value[1], value[2], value[3]));
}

// The dot-product rule, term by term.
template <int LANES>
struct ConvSum {
    float s[LANES] = {}, total[LANES] = {};
    int terms = 0;

    // x is a null pointer where it is padding.
    __device__ __forceinline__ void add(const float* weight, const float* x) {
        float w[LANES], value[LANES] = {};
        load_lanes(w, weight);
        if (x) load_lanes(value, x);
#pragma unroll
        for (int lane = 0; lane < LANES; ++lane) s[lane] = fma_step(w[lane], value[lane], s[lane]);
        if (++terms % PAGNP_BLOCK == 0) end_chain();
    }

    __device__ __forceinline__ void end_chain() {
#pragma unroll
        for (int lane = 0; lane < LANES; ++lane) {
            total[lane] = terms <= PAGNP_BLOCK ? s[lane] : __fadd_rn(total[lane], s[lane]);
            s[lane] = 0.0f;
        }
    }

    // The epilogue for channels from co on of the row that starts at `row` in out.
    __device__ __forceinline__ void write(const float* scale, const float* shift, const float* bias,
                                          const float* residual, float* out, int flags, int co, long long row) {
        if (terms % PAGNP_BLOCK != 0) end_chain();
#pragma unroll
        for (int lane = 0; lane < LANES; ++lane)
            total[lane] = conv_epilogue(total[lane], scale, shift, bias, residual, flags, co + lane, row);
        store_lanes(out + row + co, total);
    }
};

#endif
