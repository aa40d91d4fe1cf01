// CUDA's scalar intrinsics. The compiler must not contract (-ffp-contract=off); std::fma rounds once, in hardware or not.
#ifndef PAGNP_SHIM_ARITHMETIC_H
#define PAGNP_SHIM_ARITHMETIC_H

static inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
static inline float __fmaf_ieee_rn(float a, float b, float c) { return std::fma(a, b, c); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline float __fsqrt_rn(float a) { return std::sqrt(a); }
static inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline double __dsqrt_rn(double a) { return std::sqrt(a); }

template <class To, class From>
static inline To pagnp_bits(From value) {
    static_assert(sizeof(To) == sizeof(From), "same size");
    To result;
    std::memcpy(&result, &value, sizeof result);
    return result;
}
static inline int __float_as_int(float a) { return pagnp_bits<int>(a); }
static inline unsigned __float_as_uint(float a) { return pagnp_bits<unsigned>(a); }
static inline float __int_as_float(int a) { return pagnp_bits<float>(a); }
static inline float __uint_as_float(unsigned a) { return pagnp_bits<float>(a); }
static inline long long __double_as_longlong(double a) { return pagnp_bits<long long>(a); }
static inline double __longlong_as_double(long long a) { return pagnp_bits<double>(a); }

static inline float __double2float_rn(double a) { return (float)a; }
static inline float __int2float_rn(int a) { return (float)a; }
static inline float __uint2float_rn(unsigned a) { return (float)a; }
static inline float __ll2float_rn(long long a) { return (float)a; }
static inline float __ull2float_rn(unsigned long long a) { return (float)a; }
static inline double __int2double_rn(int a) { return (double)a; }
static inline double __uint2double_rn(unsigned a) { return (double)a; }
static inline double __ll2double_rn(long long a) { return (double)a; }
static inline double __ull2double_rn(unsigned long long a) { return (double)a; }

// A GPU clamps to the range of the result; NaN becomes 0 in 32 bits from float, else the smallest number.
template <class To, class From>
static inline To pagnp_to_whole(From value, To not_a_number) {
    const To least = std::is_unsigned<To>::value ? To(0) : To(To(1) << (8 * sizeof(To) - 1)), most = To(~least);
    if (value != value) return not_a_number;
    const From beyond = std::ldexp(From(1), int(8 * sizeof(To)) - !std::is_unsigned<To>::value);
    if (value >= beyond) return most;
    return value <= From(least) ? least : To(value);
}
#define PAGNP_TO_WHOLE(name, from, to, nan)                                                        \
    static inline to name##_rz(from a) { return pagnp_to_whole<to>(std::trunc(a), (to)(nan)); }      \
    static inline to name##_rd(from a) { return pagnp_to_whole<to>(std::floor(a), (to)(nan)); }      \
    static inline to name##_ru(from a) { return pagnp_to_whole<to>(std::ceil(a), (to)(nan)); }       \
    static inline to name##_rn(from a) { return pagnp_to_whole<to>(std::nearbyint(a), (to)(nan)); }
PAGNP_TO_WHOLE(__float2int, float, int, 0)
PAGNP_TO_WHOLE(__float2uint, float, unsigned, 0)
PAGNP_TO_WHOLE(__float2ll, float, long long, 1ULL << 63)
PAGNP_TO_WHOLE(__double2int, double, int, 1U << 31)
PAGNP_TO_WHOLE(__double2ll, double, long long, 1ULL << 63)
#undef PAGNP_TO_WHOLE

static inline int __mulhi(int a, int b) { return (int)(((long long)a * b) >> 32); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)(((unsigned long long)a * b) >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
static inline int __popc(unsigned a) { return __builtin_popcount(a); }
static inline int __popcll(unsigned long long a) { return __builtin_popcountll(a); }
static inline int __ffs(int a) { return __builtin_ffs(a); }
static inline int __ffsll(long long a) { return __builtin_ffsll(a); }
static inline int __clz(int a) { return a ? __builtin_clz((unsigned)a) : 32; }
static inline int __clzll(long long a) { return a ? __builtin_clzll((unsigned long long)a) : 64; }

// Whole numbers only: for floats min and max treat NaN and -0 in a way of their own, and no kernel may use them.
#define PAGNP_LESS(kind)                                                  \
    static inline kind min(kind a, kind b) { return b < a ? b : a; }      \
    static inline kind max(kind a, kind b) { return a < b ? b : a; }
PAGNP_LESS(int)
PAGNP_LESS(unsigned)
PAGNP_LESS(long)
PAGNP_LESS(long long)
PAGNP_LESS(unsigned long long)
#undef PAGNP_LESS

template <class T>
static inline T __ldg(const T* p) {
    return *p;
}

#endif
