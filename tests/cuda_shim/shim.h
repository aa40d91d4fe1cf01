// Enough of CUDA's scalar intrinsics to run device functions on a CPU (g++ -ffp-contract=off).
#include <cmath>
#include <cstring>
#define __device__
#define __forceinline__ inline
static inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline float __double2float_rn(double a) { return (float)a; }
static inline long long __double_as_longlong(double a) { long long b; std::memcpy(&b, &a, 8); return b; }
static inline double __longlong_as_double(unsigned long long a) { double b; std::memcpy(&b, &a, 8); return b; }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)(((unsigned long long)a * b) >> 32); }
