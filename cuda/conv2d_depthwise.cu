// conv2d_f32_depthwise: conv2d with one input and one output channel a group; one thread a channel of a row, in *_v4
// four of them.
// Numerics: EXACT, as conv2d_f32_plain.
//
// weight (k_h*k_w, c);  the rest as in conv2d.cu
#include "conv_lanes.cuh"

template <int LANES>
__device__ __forceinline__ void conv2d_depthwise(const float* x, const float* weight, const float* scale,
                                                 const float* shift, const float* bias, const float* residual,
                                                 float* out, const int* sites, const int* count, long long rows,
                                                 int flags, int h_in, int w_in, int h_out, int w_out, int c, int k_h,
                                                 int k_w, int stride_y, int stride_x, int top, int left,
                                                 int dilation_y, int dilation_x) {
    const long long i = conv_quotient(element_index(), c / LANES);
    const int channel = (int)(element_index() - i * (c / LANES)) * LANES;
    if (i >= conv_rows(rows, count, flags)) return;
    const ConvPlace place = conv_place(i, sites, flags, h_out, w_out);
    ConvSum<LANES> sum;
    for (int ky = 0; ky < k_h; ++ky) {
        const int iy = place.oy * stride_y - top + ky * dilation_y;
        for (int kx = 0; kx < k_w; ++kx) {
            const int ix = place.ox * stride_x - left + kx * dilation_x;
            const bool inside = 0 <= iy && iy < h_in && 0 <= ix && ix < w_in;
            const long long pixel = inside ? (place.image * h_in + iy) * w_in + ix : 0;
            sum.add(weight + (long long)(ky * k_w + kx) * c + channel, inside ? x + pixel * c + channel : nullptr);
        }
    }
    sum.write(scale, shift, bias, residual, out, flags, channel, place.row * c);
}

#define CONV2D_DEPTHWISE(name, lanes)                                                                                \
    extern "C" __global__ void name(const float* x, const float* weight, const float* scale, const float* shift,     \
                                    const float* bias, const float* residual, float* out, const int* sites,          \
                                    const int* count, long long rows, int flags, int h_in, int w_in, int c_in,       \
                                    int h_out, int w_out, int c_out, int k_h, int k_w, int stride_y, int stride_x,   \
                                    int top, int left, int dilation_y, int dilation_x, int groups, int width) {      \
        conv2d_depthwise<lanes>(x, weight, scale, shift, bias, residual, out, sites, count, rows, flags, h_in, w_in, \
                                h_out, w_out, c_out, k_h, k_w, stride_y, stride_x, top, left, dilation_y,            \
                                dilation_x);                                                                         \
    }

CONV2D_DEPTHWISE(conv2d_f32_depthwise, 1)
CONV2D_DEPTHWISE(conv2d_f32_depthwise_v4, 4)
