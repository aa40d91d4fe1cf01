"""Constants of exp64, log64, Philox4x32-10 and the Gumbel units: one place for every backend.

Plain Python numbers, no array library. All arithmetic below is float64, round to nearest even, and every `*`, `+`,
`-`, `/` is rounded by itself: no fma, no re-association. bits(v) is the uint64 pattern of a float64, float_of(b) its
inverse.

exp64(x), x any float64, saturated to [EXP_LOW, EXP_HIGH] (float32 results are 0 or inf long before that):

    xc = x  if x  > EXP_LOW  else EXP_LOW          a NaN becomes EXP_LOW here and is put back at the end
    xc = xc if xc < EXP_HIGH else EXP_HIGH
    t  = xc * INV_LN2
    t  = t + ROUND_MAGIC                           the integer nearest to t, in the low bits of t
    k  = int64(bits(t) - bits(ROUND_MAGIC))        |k| <= 289; no float-to-int conversion anywhere
    n  = t - ROUND_MAGIC                           k as a float64
    r  = xc - n * LN2_HI                           n * LN2_HI is exact
    r  = r  - n * LN2_LO
    p  = EXP_POLY[0]                               Horner: EXP_POLY runs from 1/12! down to 1/0!
    p  = p * r + EXP_POLY[i]                       i = 1 .. 12, the product rounded, then the sum
    y  = p * float_of(uint64(k + 1023) << 52)      exact
    return NaN if x is NaN else y

log64(x), x a float64 that is +-0, negative, +inf, NaN or positive and normal (every float32 is one of these):

    b = bits(x)
    e = int64(b >> 52) - 1023                      (of a negative or special x: anything, replaced at the end)
    m = float_of((b & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000)       1 <= m < 2
    if m > SQRT2:  m = m * 0.5;  e = e + 1         m in (0.7071, 1.4143), both steps exact
    f = m - 1.0                                    exact
    s = f / (f + 2.0)
    z = s * s
    q = LOG_POLY[0]                                Horner: LOG_POLY runs from 2/19 down to 2/1
    q = q * z + LOG_POLY[i]                        i = 1 .. 9, the product rounded, then the sum
    E = float64(e)                                 exact
    y = E * LN2_HI + (s * q + E * LN2_LO)          three products, then the inner sum, then the outer sum
    return x    if x is NaN or x = +inf
           -inf if x == 0
           NaN  if x < 0
           y    otherwise

The float32 ops convert once at each end (x64 is the float32 x made float64, exactly; f32 rounds to nearest even,
gradually into subnormals, overflow to inf):

    exp(x)     = f32(exp64(x64))
    exp10(x)   = f32(exp64(x64 * LN10))
    log(x)     = f32(log64(x64))
    sigmoid(x) = f32(1.0 / (1.0 + exp64(-x64)))
"""

_hex = float.fromhex

EXP_LOW = -200.0  # exp(-200) = 1.4e-87 is 0 in float32 and still normal in float64; so is its use in sigmoid
EXP_HIGH = 200.0
INV_LN2 = _hex("0x1.71547652b82fep+0")  # 1.4426950408889634
LN2_HI = _hex("0x1.62e42fee00000p-1")  # the upper 32 bits of ln 2 (the split of FreeBSD's msun e_exp.c)
LN2_LO = _hex("0x1.a39ef35793c76p-33")  # ln 2 - LN2_HI
LN10 = _hex("0x1.26bb1bbb55516p+1")  # 2.302585092994046
SQRT2 = _hex("0x1.6a09e667f3bcdp+0")  # 1.4142135623730951
ROUND_MAGIC = _hex("0x1.8000000000000p+52")  # 1.5 * 2^52: adding it rounds to an integer
ROUND_MAGIC_BITS = 0x4338000000000000
EXPONENT_BIAS = 1023
MANTISSA_BITS = 52
MANTISSA_MASK = 0x000FFFFFFFFFFFFF
ONE_BITS = 0x3FF0000000000000

# 1/12!, 1/11!, ... 1/1!, 1/0!, each rounded to float64; the remainder is below 1.7e-16 for |r| <= ln(2)/2
EXP_POLY = (
    _hex("0x1.1eed8eff8d898p-29"),
    _hex("0x1.ae64567f544e4p-26"),
    _hex("0x1.27e4fb7789f5cp-22"),
    _hex("0x1.71de3a556c734p-19"),
    _hex("0x1.a01a01a01a01ap-16"),
    _hex("0x1.a01a01a01a01ap-13"),
    _hex("0x1.6c16c16c16c17p-10"),
    _hex("0x1.1111111111111p-7"),
    _hex("0x1.5555555555555p-5"),
    _hex("0x1.5555555555555p-3"),
    _hex("0x1.0000000000000p-1"),
    _hex("0x1.0000000000000p+0"),
    _hex("0x1.0000000000000p+0"),
)

# 2/19, 2/17, ... 2/3, 2/1, each rounded to float64: log(1 + f) = s*2 + s^3*2/3 + ..., s = f/(f+2)
LOG_POLY = (
    _hex("0x1.af286bca1af28p-4"),
    _hex("0x1.e1e1e1e1e1e1ep-4"),
    _hex("0x1.1111111111111p-3"),
    _hex("0x1.3b13b13b13b14p-3"),
    _hex("0x1.745d1745d1746p-3"),
    _hex("0x1.c71c71c71c71cp-3"),
    _hex("0x1.2492492492492p-2"),
    _hex("0x1.999999999999ap-2"),
    _hex("0x1.5555555555555p-1"),
    _hex("0x1.0000000000000p+1"),
)

# Philox4x32-10 (Salmon et al. 2011): multipliers of words 0 and 2, and what each round adds to the two key words
PHILOX_MULTIPLIER_0 = 0xD2511F53
PHILOX_MULTIPLIER_1 = 0xCD9E8D57
PHILOX_WEYL_0 = 0x9E3779B9
PHILOX_WEYL_1 = 0xBB67AE85
PHILOX_ROUNDS = 10

# Gumbel noise, float64: kong2018 u = ((word >> 8) * 2^-24 + 1e-5) / 1.001, torch u = ((word >> 9) * 2 + 1) * 2^-24
TWO_POW_MINUS_24 = _hex("0x1.0000000000000p-24")
NOISE_OFFSET_2018 = _hex("0x1.4f8b588e368f1p-17")  # 1e-5, in the authors' GumbelNoisySoftMax
NOISE_DIVISOR_2018 = _hex("0x1.004189374bc6ap+0")  # 1.001, the same

# Gumbel unit, float32 values: kong2018 c = (p + 1e-3) / 1.001
PROBABILITY_OFFSET_2018 = _hex("0x1.0624de0000000p-10")  # f32(1e-3)
PROBABILITY_DIVISOR_2018 = _hex("0x1.00418a0000000p+0")  # f32(1.001)

L2_EPSILON = _hex("0x1.4f8b580000000p-17")  # f32(1e-5), outside the root (the authors' normals model)
