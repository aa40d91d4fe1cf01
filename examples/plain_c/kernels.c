#include "kernels.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(FLT_EVAL_METHOD == 0, "float and double must be rounded at each step: use SSE2, not the x87");

enum { BLOCK = 128 };

// The dot-product rule: chains of BLOCK fused steps from +0, their totals added in order.
typedef struct {
    float total, chain;
    int terms, blocks;
} Dot;

static void add_term(Dot *d, float weight, float x) {
    if (d->terms == BLOCK) {
        d->total = d->blocks ? d->total + d->chain : d->chain;
        d->chain = 0.0f;
        d->terms = 0;
        d->blocks++;
    }
    d->chain = fmaf(weight, x, d->chain);
    d->terms++;
}

static float dot_total(const Dot *d) {
    return d->blocks ? d->total + d->chain : d->chain;
}

static float relu(float v) {
    return v < 0.0f ? 0.0f : v;  // NaN stays NaN, -0 stays -0: fmaxf(v, 0) does neither
}

static float epilogue(Epilogue e, float acc, int co, size_t place) {
    if (e.scale) acc = fmaf(acc, e.scale[co], e.shift[co]);
    if (e.bias) acc = acc + e.bias[co];
    if (e.residual) acc = acc + e.residual[place];
    return e.relu ? relu(acc) : acc;
}

// The sum of products of one output element. A tap in the padding is a term with x = +0.
static float conv2d_sum(Window v, const float *x, const float *weight, int n, int oy, int ox, int co) {
    int c_group = v.c_in / v.groups, first = co / (v.c_out / v.groups) * c_group;
    Dot d = {0};
    for (int ky = 0; ky < v.k_h; ky++)
        for (int kx = 0; kx < v.k_w; kx++) {
            int iy = oy * v.stride[0] - v.padding[0] + ky * v.dilation[0];
            int ix = ox * v.stride[1] - v.padding[2] + kx * v.dilation[1];
            int inside = iy >= 0 && iy < v.h_in && ix >= 0 && ix < v.w_in;
            const float *pixel = inside ? x + (((size_t)n * v.h_in + iy) * v.w_in + ix) * v.c_in + first : NULL;
            const float *row = weight + ((size_t)ky * v.k_w + kx) * c_group * v.c_out + co;
            for (int ci = 0; ci < c_group; ci++)
                add_term(&d, row[(size_t)ci * v.c_out], inside ? pixel[ci] : 0.0f);
        }
    return dot_total(&d);
}

void conv2d(Window v, const float *x, const float *weight, Epilogue e, Sites at, float *out) {
    int rows = at.sites ? at.count : v.n * v.h_out * v.w_out;
    for (int row = 0; row < rows; row++) {
        int site = at.sites ? at.sites[row] : row;
        int ox = site % v.w_out, oy = site / v.w_out % v.h_out, n = site / v.w_out / v.h_out;
        for (int co = 0; co < v.c_out; co++) {
            size_t place = (size_t)(at.compact ? row : site) * v.c_out + co;
            out[place] = epilogue(e, conv2d_sum(v, x, weight, n, oy, ox, co), co, place);
        }
    }
}

void max_pool2d(Window v, const float *x, float *out) {
    for (int row = 0; row < v.n * v.h_out * v.w_out; row++) {
        int ox = row % v.w_out, oy = row / v.w_out % v.h_out, n = row / v.w_out / v.h_out;
        for (int c = 0; c < v.c_in; c++) {
            float best = -INFINITY;
            for (int ky = 0; ky < v.k_h; ky++)
                for (int kx = 0; kx < v.k_w; kx++) {
                    int iy = oy * v.stride[0] - v.padding[0] + ky * v.dilation[0];
                    int ix = ox * v.stride[1] - v.padding[2] + kx * v.dilation[1];
                    if (iy < 0 || iy >= v.h_in || ix < 0 || ix >= v.w_in) continue;  // padding never wins
                    float a = x[(((size_t)n * v.h_in + iy) * v.w_in + ix) * v.c_in + c];
                    if (a > best || isnan(a)) best = a;
                }
            out[(size_t)row * v.c_in + c] = best;
        }
    }
}

// The two source positions of output position o along one axis, and the weight of the second.
typedef struct {
    int i0, i1;
    float w;
} Source;

static Source source(int o, int in, int out, int align_corners) {
    int64_t num = (2 * (int64_t)o + 1) * in - out, den = 2 * (int64_t)out;
    if (num < 0) num = 0;
    if (align_corners) {
        num = out > 1 ? (int64_t)o * (in - 1) : 0;
        den = out > 1 ? out - 1 : 1;
    }
    int i0 = (int)(num / den);
    return (Source){i0, i0 + 1 < in ? i0 + 1 : in - 1, (float)((double)(num % den) / (double)den)};
}

void bilinear(Window v, const float *x, int align_corners, float *out) {
    for (int row = 0; row < v.n * v.h_out * v.w_out; row++) {
        int ox = row % v.w_out, oy = row / v.w_out % v.h_out, n = row / v.w_out / v.h_out;
        Source sy = source(oy, v.h_in, v.h_out, align_corners), sx = source(ox, v.w_in, v.w_out, align_corners);
        const float *upper = x + ((size_t)n * v.h_in + sy.i0) * v.w_in * v.c_in;
        const float *lower = x + ((size_t)n * v.h_in + sy.i1) * v.w_in * v.c_in;
        for (int ch = 0; ch < v.c_in; ch++) {
            float a = upper[sx.i0 * v.c_in + ch], b = upper[sx.i1 * v.c_in + ch];
            float c = lower[sx.i0 * v.c_in + ch], d = lower[sx.i1 * v.c_in + ch];
            float t = fmaf(sx.w, b - a, a), u = fmaf(sx.w, d - c, c);
            out[(size_t)row * v.c_in + ch] = fmaf(sy.w, u - t, t);
        }
    }
}

static uint64_t bits_of(double v) {
    uint64_t b;
    memcpy(&b, &v, sizeof b);
    return b;
}

static double of_bits(uint64_t b) {
    double v;
    memcpy(&v, &b, sizeof v);
    return v;
}

static const double INV_LN2 = 0x1.71547652b82fep+0, LN2_HI = 0x1.62e42fee00000p-1, LN2_LO = 0x1.a39ef35793c76p-33;
static const double SQRT2 = 0x1.6a09e667f3bcdp+0, MAGIC = 0x1.8p+52;
static const double E[13] = {
    0x1p+0, 0x1p+0, 0x1p-1, 0x1.5555555555555p-3, 0x1.5555555555555p-5, 0x1.1111111111111p-7, 0x1.6c16c16c16c17p-10,
    0x1.a01a01a01a01ap-13, 0x1.a01a01a01a01ap-16, 0x1.71de3a556c734p-19, 0x1.27e4fb7789f5cp-22,
    0x1.ae64567f544e4p-26, 0x1.1eed8eff8d898p-29,
};
static const double L[10] = {
    0x1p+1, 0x1.5555555555555p-1, 0x1.999999999999ap-2, 0x1.2492492492492p-2, 0x1.c71c71c71c71cp-3,
    0x1.745d1745d1746p-3, 0x1.3b13b13b13b14p-3, 0x1.1111111111111p-3, 0x1.e1e1e1e1e1e1ep-4, 0x1.af286bca1af28p-4,
};

// In double, every product and sum is rounded by itself: compile with -ffp-contract=off.
static double exp64(double x) {
    double xc = x > -200.0 ? x : -200.0;
    xc = xc < 200.0 ? xc : 200.0;
    double t = xc * INV_LN2;
    t = t + MAGIC;
    int64_t k = (int64_t)(bits_of(t) - bits_of(MAGIC));
    double n = t - MAGIC, r = xc - n * LN2_HI;
    r = r - n * LN2_LO;
    double p = E[12];
    for (int i = 11; i >= 0; i--) p = p * r + E[i];
    return isnan(x) ? x : p * of_bits((uint64_t)(k + 1023) << 52);
}

static double log64(double x) {
    if (isnan(x) || x == INFINITY) return x;
    if (x == 0.0) return -INFINITY;
    if (x < 0.0) return NAN;
    int64_t e = (int64_t)(bits_of(x) >> 52) - 1023;
    double m = of_bits((bits_of(x) & 0x000FFFFFFFFFFFFFu) | 0x3FF0000000000000u);
    if (m > SQRT2) {
        m = m * 0.5;
        e = e + 1;
    }
    double f = m - 1.0, s = f / (f + 2.0), z = s * s, q = L[9];
    for (int i = 8; i >= 0; i--) q = q * z + L[i];
    return (double)e * LN2_HI + (s * q + (double)e * LN2_LO);
}

void exp_f32(int count, const float *x, float *out) {
    for (int i = 0; i < count; i++) out[i] = (float)exp64(x[i]);
}

void softmax(int pixels, int k, const float *x, float *out) {
    for (int i = 0; i < pixels; i++, x += k, out += k) {
        float m = x[0], s = 0.0f;
        for (int j = 1; j < k; j++) m = x[j] > m ? x[j] : m;
        for (int j = 0; j < k; j++) {
            out[j] = (float)exp64(x[j] - m);
            s = s + out[j];
        }
        for (int j = 0; j < k; j++) out[j] = out[j] / s;
    }
}

// What a gate decides on: its logits, in the gumbel modes with noise.
static void scores(Gate g, int pixel, int k, const float *z, float *y) {
    memcpy(y, z, sizeof(float) * k);
    if (!g.gumbel) return;
    if (!g.torch) softmax(1, k, z, y);
    for (int j = 0; j < k; j++) {
        if (!g.torch) y[j] = (float)log64((y[j] + 1e-3f) / 1.001f);
        y[j] = y[j] + g.noise[(size_t)(pixel % g.noise_pixels) * k + j];
        if (g.soft) y[j] = y[j] / g.temperature;
    }
}

void gate(Gate g, int pixels, int k, const float *z, void *out) {
    float *y = malloc(sizeof(float) * k);
    if (!y) abort();
    for (int i = 0; i < pixels; i++) {
        scores(g, i, k, z + (size_t)i * k, y);
        int best = 0;
        for (int j = 1; j < k; j++) best = y[j] > y[best] ? j : best;
        if (g.soft) softmax(1, k, y, (float *)out + (size_t)i * k);
        else if (g.index) ((int32_t *)out)[i] = best;
        else ((uint8_t *)out)[i] = g.threshold ? y[1] - y[0] > *g.threshold : y[1] > y[0];  // a tie, a NaN: skip
    }
    free(y);
}
