// contract.cuh: the scalar steps of pagnp-bits/1 in CUDA C, shared by every kernel.
// Constants and order of operations: pagnp/backends/constants.py. Rules: docs/NUMERICS.md.
// Every operation is an explicit intrinsic with one rounding, so no compiler can fuse or flush it
// (compile with --fmad=false --ftz=false all the same).
#ifndef PAGNP_CONTRACT_CUH
#define PAGNP_CONTRACT_CUH

#define PAGNP_BLOCK 128  // terms of one fma chain

// One step of the dot-product rule.
__device__ __forceinline__ float fma_step(float weight, float x, float s) { return __fmaf_rn(weight, x, s); }

// Not fmaxf: NaN must stay NaN, and -0 must stay -0.
__device__ __forceinline__ float relu_step(float x) { return x < 0.0f ? 0.0f : x; }

// scale and shift come together, or bias alone, or neither (null pointers); then residual, then relu.
__device__ __forceinline__ float epilogue_step(float acc, const float* scale, const float* shift, const float* bias,
                                              const float* residual, int relu, long long co, long long row_offset) {
    if (scale)
        acc = __fmaf_rn(acc, scale[co], shift[co]);
    else if (bias)
        acc = __fadd_rn(acc, bias[co]);
    if (residual) acc = __fadd_rn(acc, residual[row_offset + co]);
    return relu ? relu_step(acc) : acc;
}

// p * x + c, the product rounded before the sum.
__device__ __forceinline__ double horner_step(double p, double x, double c) { return __dadd_rn(__dmul_rn(p, x), c); }

__device__ __forceinline__ double exp64(double x) {
    const double coefficients[12] = {
        0x1.ae64567f544e4p-26, 0x1.27e4fb7789f5cp-22, 0x1.71de3a556c734p-19, 0x1.a01a01a01a01ap-16,
        0x1.a01a01a01a01ap-13, 0x1.6c16c16c16c17p-10, 0x1.1111111111111p-7,  0x1.5555555555555p-5,
        0x1.5555555555555p-3,  0x1.0000000000000p-1,  0x1.0000000000000p+0,  0x1.0000000000000p+0};
    double clamped = x > -200.0 ? x : -200.0;
    clamped = clamped < 200.0 ? clamped : 200.0;
    const double magic = 0x1.8p+52;  // adding it rounds to an integer
    const double shifted = __dadd_rn(__dmul_rn(clamped, 0x1.71547652b82fep+0), magic);
    const long long k = __double_as_longlong(shifted) - 0x4338000000000000LL;
    const double n = __dadd_rn(shifted, -magic);
    double r = __dadd_rn(clamped, -__dmul_rn(n, 0x1.62e42fee00000p-1));
    r = __dadd_rn(r, -__dmul_rn(n, 0x1.a39ef35793c76p-33));
    double p = 0x1.1eed8eff8d898p-29;
    for (int i = 0; i < 12; ++i) p = horner_step(p, r, coefficients[i]);
    const double y = __dmul_rn(p, __longlong_as_double((k + 1023) << 52));
    return x != x ? x : y;
}

// x: zero, negative, infinite, NaN or a positive normal number (every float is one of these as a double).
__device__ __forceinline__ double log64(double x) {
    const double coefficients[9] = {0x1.e1e1e1e1e1e1ep-4, 0x1.1111111111111p-3, 0x1.3b13b13b13b14p-3,
                                    0x1.745d1745d1746p-3, 0x1.c71c71c71c71cp-3, 0x1.2492492492492p-2,
                                    0x1.999999999999ap-2, 0x1.5555555555555p-1, 0x1.0000000000000p+1};
    const long long bits = __double_as_longlong(x);
    long long exponent = (bits >> 52) - 1023;
    double m = __longlong_as_double((bits & 0x000FFFFFFFFFFFFFLL) | 0x3FF0000000000000LL);
    if (m > 0x1.6a09e667f3bcdp+0) {
        m = __dmul_rn(m, 0.5);
        exponent += 1;
    }
    const double f = __dadd_rn(m, -1.0);
    const double s = __ddiv_rn(f, __dadd_rn(f, 2.0));
    const double z = __dmul_rn(s, s);
    double q = 0x1.af286bca1af28p-4;
    for (int i = 0; i < 9; ++i) q = horner_step(q, z, coefficients[i]);
    const double e = (double)exponent;
    const double low = __dadd_rn(__dmul_rn(s, q), __dmul_rn(e, 0x1.a39ef35793c76p-33));
    const double y = __dadd_rn(__dmul_rn(e, 0x1.62e42fee00000p-1), low);
    if (x != x || x == __longlong_as_double(0x7FF0000000000000LL)) return x;
    if (x == 0.0) return __longlong_as_double(0xFFF0000000000000LL);
    return x < 0.0 ? __longlong_as_double(0x7FF8000000000000LL) : y;
}

__device__ __forceinline__ float exp_step(float x) { return __double2float_rn(exp64((double)x)); }

__device__ __forceinline__ float exp10_step(float x) {
    return __double2float_rn(exp64(__dmul_rn((double)x, 0x1.26bb1bbb55516p+1)));
}

__device__ __forceinline__ float log_step(float x) { return __double2float_rn(log64((double)x)); }

__device__ __forceinline__ float sigmoid_step(float x) {
    return __double2float_rn(__ddiv_rn(1.0, __dadd_rn(1.0, exp64(-(double)x))));
}

// Philox4x32-10 (Salmon et al. 2011).
__device__ __forceinline__ void philox4x32(const unsigned counter[4], const unsigned key[2], unsigned out[4]) {
    unsigned c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; ++round) {
        const unsigned high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
        const unsigned high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

// Gumbel noise of one random word; form 0 is kong2018, 1 is torch.
__device__ __forceinline__ float gumbel_step(unsigned word, int form) {
    const double unit = 0x1.0p-24;
    const double u = form ? __dmul_rn((double)((word >> 9) * 2u + 1u), unit)
                          : __ddiv_rn(__dadd_rn(__dmul_rn((double)(word >> 8), unit), 0x1.4f8b588e368f1p-17),
                                      0x1.004189374bc6ap+0);
    return __double2float_rn(-log64(-log64(u)));
}

#endif
