// Measure exp, exp10, log and sigmoid of pagnp-bits/1 on all 2^32 float32 inputs against 80-bit functions,
// or print their digests. Usage: g++ -O2 -ffp-contract=off tools/sweep_transcendentals.cpp -o sweep, then
//   ./sweep [exp|exp10|log|sigmoid] [step]              worst errors; `step` takes only every step-th input
//   ./sweep digests [exp|exp10|log|sigmoid] [chunk]     SHA-256 of each chunk and of all, or of one chunk: the lines
//                                                       that tools/sweep_digests.py writes and checks

// Written from docs/NUMERICS.md alone, so that it also checks the page. All four on one core: errors 10 to 15 minutes,
// digests seven. The exit status is 1 if an error reaches 0.50000002 ulp or an end is wrong.

#include <algorithm>
#include <cctype>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "sha256.h"

static_assert(LDBL_MANT_DIG >= 64, "long double must be wider than double (x86 with GCC or Clang)");
static_assert(FLT_EVAL_METHOD == 0, "float and double must be evaluated as such");

const double EXP_LOW = -200.0, EXP_HIGH = 200.0, MAGIC = 0x1.8p+52;
const double INV_LN2 = 0x1.71547652b82fep+0, LN2_HI = 0x1.62e42fee00000p-1, LN2_LO = 0x1.a39ef35793c76p-33;
const double LN10 = 0x1.26bb1bbb55516p+1, SQRT2 = 0x1.6a09e667f3bcdp+0;
const double E[13] = {
    0x1p+0,
    0x1p+0,
    0x1p-1,
    0x1.5555555555555p-3,
    0x1.5555555555555p-5,
    0x1.1111111111111p-7,
    0x1.6c16c16c16c17p-10,
    0x1.a01a01a01a01ap-13,
    0x1.a01a01a01a01ap-16,
    0x1.71de3a556c734p-19,
    0x1.27e4fb7789f5cp-22,
    0x1.ae64567f544e4p-26,
    0x1.1eed8eff8d898p-29,
};
const double L[10] = {
    0x1p+1,
    0x1.5555555555555p-1,
    0x1.999999999999ap-2,
    0x1.2492492492492p-2,
    0x1.c71c71c71c71cp-3,
    0x1.745d1745d1746p-3,
    0x1.3b13b13b13b14p-3,
    0x1.1111111111111p-3,
    0x1.e1e1e1e1e1e1ep-4,
    0x1.af286bca1af28p-4,
};

template <class To, class From>
To bits_as(From value) {
    static_assert(sizeof(To) == sizeof(From), "");
    To result;
    memcpy(&result, &value, sizeof result);
    return result;
}

double exp64(double x) {
    double xc = x > EXP_LOW ? x : EXP_LOW;
    xc = xc < EXP_HIGH ? xc : EXP_HIGH;
    double t = xc * INV_LN2;
    t = t + MAGIC;
    int64_t k = int64_t(bits_as<uint64_t>(t) - bits_as<uint64_t>(MAGIC));
    double n = t - MAGIC;
    double r = xc - n * LN2_HI;
    r = r - n * LN2_LO;
    double p = E[12];
    for (int i = 11; i >= 0; i--) p = p * r + E[i];
    double y = p * bits_as<double>(uint64_t(k + 1023) << 52);
    return std::isnan(x) ? x : y;
}

double log64(double x) {
    uint64_t b = bits_as<uint64_t>(x);
    int64_t e = int64_t(b >> 52) - 1023;
    double m = bits_as<double>((b & 0x000FFFFFFFFFFFFFull) | 0x3FF0000000000000ull);
    if (m > SQRT2) {
        m = m * 0.5;
        e = e + 1;
    }
    double f = m - 1, s = f / (f + 2), z = s * s, q = L[9], n = double(e);
    for (int i = 8; i >= 0; i--) q = q * z + L[i];
    double y = n * LN2_HI + (s * q + n * LN2_LO);
    if (std::isnan(x) || x == INFINITY) return x;
    if (x == 0) return -INFINITY;
    return x < 0 ? NAN : y;
}

// The true value is base + rest, base exact. Near 0 the sigmoid misses ties by x^3 / 48: too little for 64 bits.
struct Truth {
    long double base, rest;
};

const long double NEAR_ZERO = 0x1p-36L, TRUE_LN10 = 2.302585092994045684018L;

Truth true_exp(float x) { return {0, fabsf(x) < NEAR_ZERO ? 1 + (long double)x : expl(x)}; }
Truth true_exp10(float x) { return {0, fabsf(x) < NEAR_ZERO ? 1 + x * TRUE_LN10 : exp10l(x)}; }
Truth true_log(float x) { return {0, logl(x)}; }
Truth true_sigmoid(float x) {
    if (fabsf(x) < 1) return {0.5L, tanhl(x / 2.0L) / 2};
    return {0, x < 0 ? expl(x) / (1 + expl(x)) : 1 / (1 + expl(-x))};
}

struct Op {
    const char *name;
    float (*value)(float);
    Truth (*truth)(float);
    float constant_beyond;  // |x| above this gives `low` (x < 0) or `high`
    float low, high;
};

const Op OPS[] = {
    {"exp", [](float x) { return float(exp64(x)); }, true_exp, 128, 0, INFINITY},
    {"exp10", [](float x) { return float(exp64(double(x) * LN10)); }, true_exp10, 64, 0, INFINITY},
    {"log", [](float x) { return float(log64(x)); }, true_log, FLT_MAX, NAN, INFINITY},
    {"sigmoid", [](float x) { return float(1.0 / (1.0 + exp64(-double(x)))); }, true_sigmoid, 128, 0, 1},
};

bool same(float a, float b) {
    return (std::isnan(a) && std::isnan(b)) || bits_as<uint32_t>(a) == bits_as<uint32_t>(b);
}

// True if `got` may stand where the truth is no finite float32: at NaN, at the poles, beyond the largest float32.
bool is_end(const Op &op, float x, float *want) {
    if (std::isnan(x)) return *want = x, true;
    if (op.truth == true_log && x <= 0) return *want = x == 0 ? -INFINITY : NAN, true;
    if (fabsf(x) > op.constant_beyond) return *want = x < 0 ? op.low : op.high, true;
    return false;
}

bool sweep(const Op &op, uint64_t step) {
    long double worst = 0;
    uint32_t worst_at = 0;
    uint64_t misrounded = 0, wrong_ends = 0;
    for (uint64_t i = 0; i < 1ull << 32; i += step) {
        float x = bits_as<float>(uint32_t(i)), got = op.value(x), want;
        if (is_end(op, x, &want)) {
            wrong_ends += !same(got, want);
            continue;
        }
        Truth truth = op.truth(x);
        long double whole = truth.base + truth.rest;
        if (!std::isfinite(float(whole)) || !std::isfinite(got)) {
            wrong_ends += !same(got, float(whole));
            continue;
        }
        int exponent = whole == 0 ? -126 : std::max(ilogbl(whole), -126);
        long double error = fabsl((got - truth.base) - truth.rest) * ldexpl(1, 23 - exponent);
        misrounded += error > 0.5L;
        if (!(error <= worst)) worst = error, worst_at = uint32_t(i);
    }
    printf("%-8s worst error %.9Lf ulp at %08X, %llu not the nearest float32, %llu wrong ends\n",
           op.name, worst, worst_at, (unsigned long long)misrounded, (unsigned long long)wrong_ends);
    fflush(stdout);
    return worst < 0.50000002L && wrong_ends == 0;
}

const uint64_t CHUNKS = 1024, CHUNK_SIZE = 1 << 22;

// Writes the SHA-256 of one chunk's outputs, little-endian, every NaN as 7FC00000.
void chunk_digest(const Op &op, uint64_t chunk, uint8_t digest[32]) {
    std::vector<uint8_t> bytes(4 * CHUNK_SIZE);
    for (uint64_t i = 0; i < CHUNK_SIZE; i++) {
        float value = op.value(bits_as<float>(uint32_t(chunk * CHUNK_SIZE + i)));
        uint32_t word = std::isnan(value) ? 0x7FC00000u : bits_as<uint32_t>(value);
        for (int byte = 0; byte < 4; byte++) bytes[4 * i + byte] = uint8_t(word >> (8 * byte));
    }
    Sha256 sha;
    sha.update(bytes.data(), bytes.size());
    sha.finish(digest);
}

// Lines `function chunk sha256` of the chunks from first to last, after all of them `function all sha256`.
void print_digests(const Op &op, uint64_t first, uint64_t last) {
    Sha256 all;
    uint8_t digest[32];
    for (uint64_t chunk = first; chunk <= last; chunk++) {
        chunk_digest(op, chunk, digest);
        all.update(digest, sizeof digest);
        printf("%s %llu %s\n", op.name, (unsigned long long)chunk, hex(digest).c_str());
        fflush(stdout);
    }
    all.finish(digest);
    if (first == 0 && last == CHUNKS - 1) printf("%s all %s\n", op.name, hex(digest).c_str());
}

int usage() {
    fprintf(stderr, "usage: sweep [exp|exp10|log|sigmoid] [step]  or  sweep digests [exp|exp10|log|sigmoid] [chunk]\n");
    return 2;
}

int main(int argc, char **argv) {
    std::deque<std::string> words(argv + 1, argv + argc);
    bool digests = !words.empty() && words[0] == "digests";
    if (digests) words.pop_front();
    std::string only;
    for (const Op &op : OPS) {
        if (!only.empty() || words.empty() || words[0] != op.name) continue;
        only = op.name;
        words.pop_front();
    }
    bool has_number = words.size() == 1 && isdigit(words[0][0]);
    uint64_t number = has_number ? strtoull(words[0].c_str(), nullptr, 10) : 1;
    if (words.size() > has_number || (digests ? number >= CHUNKS : number == 0)) return usage();

    bool good = true;
    if (digests) printf("# C++: tools/sweep_transcendentals.cpp, compiler %s\n", __VERSION__);
    for (const Op &op : OPS) {
        if (!only.empty() && only != op.name) continue;
        if (digests) {
            print_digests(op, has_number ? number : 0, has_number ? number : CHUNKS - 1);
        } else {
            good = sweep(op, number) && good;
        }
    }
    return good ? 0 : 1;
}
