// conv2d.cuh: what the conv2d kernels share: the bits of `flags`, and which pixel a row of the output is.
#ifndef PAGNP_CONV2D_CUH
#define PAGNP_CONV2D_CUH

// pagnp/backends/gpu/conv.py has the same numbers.
#define CONV_SCALE 1      // fma(acc, scale, shift)
#define CONV_BIAS 2       // acc + bias
#define CONV_RESIDUAL 4   // acc + residual
#define CONV_RELU 8
#define CONV_SITES 16     // only the output pixels sites[0 .. rows)
#define CONV_SCATTERED 32 // row sites[i] of out and residual, not row i
#define CONV_COUNTED 64   // of the sites only the first *count
#define CONV_ALIGNED 128  // out and residual take 16 bytes at once: c_out/groups, addresses are multiples of 4 values

// Output pixel (image, oy, ox) and its row in out and residual.
struct ConvPlace {
    long long image, row;
    int oy, ox;
};

__device__ __forceinline__ long long conv_rows(long long rows, const int* count, int flags) {
    return flags & CONV_COUNTED ? (long long)*count : rows;
}

// a / b for 0 <= a, 0 < b: most sizes fit into 32 bits, and 64 take several times as long.
__device__ __forceinline__ long long conv_quotient(long long a, int b) {
    return a >> 32 ? a / b : (long long)((unsigned)a / (unsigned)b);
}

__device__ __forceinline__ ConvPlace conv_place(long long i, const int* sites, int flags, int h_out, int w_out) {
    const long long site = flags & CONV_SITES ? (long long)sites[i] : i;
    ConvPlace place;
    const long long line = conv_quotient(site, w_out);
    place.image = conv_quotient(line, h_out);
    place.oy = (int)(line - place.image * h_out);
    place.ox = (int)(site - line * w_out);
    place.row = (flags & CONV_SITES) && !(flags & CONV_SCATTERED) ? i : site;
    return place;
}

__device__ __forceinline__ float conv_epilogue(float acc, const float* scale, const float* shift, const float* bias,
                                               const float* residual, int flags, long long co, long long row_offset) {
    return epilogue_step(acc, flags & CONV_SCALE ? scale : nullptr, shift, flags & CONV_BIAS ? bias : nullptr,
                         flags & CONV_RESIDUAL ? residual : nullptr, flags & CONV_RELU, co, row_offset);
}

#endif
