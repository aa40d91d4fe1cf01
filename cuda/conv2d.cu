// conv2d_f32_plain: one thread per (row, co), as the definition says it: to read first.
// Numerics: EXACT, fma chains of 128 over ky, kx, ci; padding is multiplied in as +0.
//
// x (n, h_in, w_in, c_in)   weight (k_h*k_w*c_in/groups, groups, width), width >= c_out/groups
// sites (rows)              out, residual (rows, c_out), or (n*h_out*w_out, c_out)
#include "contract.cuh"
#include "conv2d.cuh"
#include "threads.cuh"

extern "C" __global__ void conv2d_f32_plain(const float* x, const float* weight, const float* scale, const float* shift,
                                            const float* bias, const float* residual, float* out, const int* sites,
                                            const int* count, long long rows, int flags, int h_in, int w_in, int c_in,
                                            int h_out, int w_out, int c_out, int k_h, int k_w, int stride_y,
                                            int stride_x, int top, int left, int dilation_y, int dilation_x, int groups,
                                            int width) {
    const long long i = conv_quotient(element_index(), c_out);
    const int co = (int)(element_index() - i * c_out);
    if (i >= conv_rows(rows, count, flags)) return;
    const ConvPlace place = conv_place(i, sites, flags, h_out, w_out);
    const int c_in_group = c_in / groups, c_out_group = c_out / groups;
    const int group = co / c_out_group;
    const long long column = (long long)group * width + (co - group * c_out_group);
    float total = 0.0f, s = 0.0f;
    long long term = 0;
    for (int ky = 0; ky < k_h; ++ky) {
        for (int kx = 0; kx < k_w; ++kx) {
            const int iy = place.oy * stride_y - top + ky * dilation_y;
            const int ix = place.ox * stride_x - left + kx * dilation_x;
            const bool inside = 0 <= iy && iy < h_in && 0 <= ix && ix < w_in;
            const long long pixel = inside ? (place.image * h_in + iy) * w_in + ix : 0;
            for (int ci = 0; ci < c_in_group; ++ci) {
                const float value = inside ? x[pixel * c_in + group * c_in_group + ci] : 0.0f;
                s = fma_step(weight[term * groups * width + column], value, s);
                ++term;
                if (term % PAGNP_BLOCK == 0 || term == (long long)k_h * k_w * c_in_group) {
                    total = term <= PAGNP_BLOCK ? s : __fadd_rn(total, s);
                    s = 0.0f;
                }
            }
        }
    }
    out[place.row * c_out + co] =
        conv_epilogue(total, scale, shift, bias, residual, flags, co, place.row * c_out);
}
