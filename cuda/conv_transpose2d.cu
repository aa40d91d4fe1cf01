// conv_transpose2d_f32_plain: one thread per (row, co), the gather form, as the definition says it.
// Numerics: EXACT, fma chains of 128 over the taps of the output's phase, then ci; inputs outside the map are +0.
//
// x (n, h_in, w_in, c_in)   weight (k_h, k_w, c_in, c_out/groups)   out, residual (n*h_out*w_out = rows, c_out)
#include "contract.cuh"
#include "conv2d.cuh"
#include "threads.cuh"

extern "C" __global__ void conv_transpose2d_f32_plain(const float* x, const float* weight, const float* scale,
                                                      const float* shift, const float* bias, const float* residual,
                                                      float* out, long long rows, int flags, int h_in, int w_in,
                                                      int c_in, int h_out, int w_out, int c_out, int k_h, int k_w,
                                                      int stride_y, int stride_x, int top, int left, int dilation_y,
                                                      int dilation_x, int groups) {
    const long long i = conv_quotient(element_index(), c_out);
    const int co = (int)(element_index() - i * c_out);
    if (i >= rows) return;
    const ConvPlace place = conv_place(i, nullptr, 0, h_out, w_out);
    const int c_in_group = c_in / groups, c_out_group = c_out / groups;
    const int group = co / c_out_group;
    float total = 0.0f, s = 0.0f;
    long long term = 0;
    for (int ky = 0; ky < k_h; ++ky) {
        const int y = place.oy + top - ky * dilation_y;  // stride_y * iy
        if (y % stride_y != 0) continue;
        for (int kx = 0; kx < k_w; ++kx) {
            const int column = place.ox + left - kx * dilation_x;
            if (column % stride_x != 0) continue;
            const int iy = y / stride_y, ix = column / stride_x;
            const bool inside = 0 <= iy && iy < h_in && 0 <= ix && ix < w_in;
            const long long pixel = inside ? (place.image * h_in + iy) * w_in + ix : 0;
            const long long tap = ((long long)ky * k_w + kx) * c_in + group * c_in_group;
            for (int ci = 0; ci < c_in_group; ++ci) {
                const float value = inside ? x[pixel * c_in + group * c_in_group + ci] : 0.0f;
                s = fma_step(weight[(tap + ci) * c_out_group + (co - group * c_out_group)], value, s);
                ++term;
                if (term % PAGNP_BLOCK == 0) {
                    total = term == PAGNP_BLOCK ? s : __fadd_rn(total, s);
                    s = 0.0f;
                }
            }
        }
    }
    if (term % PAGNP_BLOCK != 0) total = term < PAGNP_BLOCK ? s : __fadd_rn(total, s);
    out[place.row * c_out + co] =
        conv_epilogue(total, scale, shift, bias, residual, flags, co, place.row * c_out);
}
