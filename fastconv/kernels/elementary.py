"""exp, tanh, the logistic function and the normal distribution without branches or calls, so that LLVM makes vectors of loops over them.

    exp(x) = 2^n * (1 + r + r^2 P(r)),    n = rint(x / ln 2),  r = x - n ln 2, ln 2 in two parts        (Cody and Waite, 1980)

The sum with 1.5 * 2^(mantissa bits) rounds x / ln 2 and leaves n in its low bits: from there it goes into an exponent. exp is computed 2^64
times too large and then scaled, so that denormal results are rounded once.

The normal distribution is exp(-a^2/2) M(a) for a = |x|, with M(a) (a + k) a polynomial in (a - k) / (a + k): the mapping of Shepherd and
Laframboise (1981) for erfc. Neither tail cancels.

    log(x) = e ln 2 + 2 s Q(s^2),    x = 2^e m,  sqrt(1/2) <= m < sqrt(2),  s = (m - 1) / (m + 1)

is needed in float64 only, for sums and for powers: x^p = exp(p / 2 log(x))^2, where the square overflows and underflows as it should.

All polynomials interpolate their function at the Chebyshev nodes of its interval, solved for in 60 digits: P over |r| <= ln 2 / 2, M (a + k)
over 0 <= a <= LARGEST, Q over 0 <= s^2 <= 0.0295. Relative errors before rounding: of exp 8e-9 and 1.4e-17, of M 7e-8 and 4e-17,
of Q 8e-21. Arguments are float32 or float64 scalars. Nothing may be reordered here: all kernels are exact.
"""
from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .jit import jit
from .simd import either
from .tiles import FMA

# Lowest coefficient first, for float32 and for float64: P of exp; M (a + k), still to be multiplied by 2^-64; Q of the logarithm.
_FITTED = (
    ((0.5000000000, 0.1666657699, 0.04166655462, 0.008363179053, 0.001392618359),
     (0.5000000000000001, 0.16666666666666669, 0.04166666666662413, 0.008333333333330062, 0.0013888888917213717,
      0.00019841269863053618, 2.4801521295954376e-05, 2.7557268459997064e-06, 2.7620088445409746e-07, 2.510038549551032e-08)),
    ((0.7468860428, -0.5749941438, 0.3308425597, -0.1302553179, 0.02501478542, 0.004812514846, -0.003632645844,
      -0.0001124502357, 0.0003399254319),
     (0.7552851304157515, -0.6078966419718917, 0.38713740074221936, -0.1865218579596934, 0.06039657489067665,
      -0.007540188965625017, -0.0034796923618040597, 0.0016308184424805887, 0.00013334424978358428, -0.00023109482414997105,
      -1.9078434059248706e-06, 3.51442149682578e-05, 7.149308325478401e-07, -5.919013186154044e-06, -6.249906995369785e-07,
      1.0200713392568465e-06, 2.6354310560684456e-07, -1.546196819122192e-07, -7.634712843441086e-08, 1.4842390072751344e-08,
      1.3976528155950821e-08, -1.015295717649618e-11, -9.990624160023276e-10)),
    ((), (1.0, 0.3333333333333333, 0.2000000000000375, 0.14285714284408765, 0.11111111338581137,
          0.09090886859866332, 0.07693580858531021, 0.06624372679941282, 0.06631132146503059)),
)
LOWER = 2.0 ** -64
DENSITY = 0.3989422804014327 * LOWER         # 1 / sqrt(2 pi)
MIDDLE = 3.6, 4.0                            # the |x| that the variable of M takes for 0, in float32 and float64
LARGEST = 15.0, 40.0                         # |x| from which on exp(-x^2 / 2) is 0
LOWEST = -104.0, -746.0                      # exp of less is 0

POLYNOMIALS = (_FITTED[0], tuple(tuple(c * LOWER for c in coefficients) for coefficients in _FITTED[1]), _FITTED[2],
               ((), _FITTED[0][0]))             # the digits of float32, in float64

_BITS = {4: (23, 127, 1.5 * 2.0 ** 23), 8: (52, 1023, 1.5 * 2.0 ** 52)}       # mantissa bits, bias of the exponent, the number that rounds


# ---------------------------------------------------------------- scalar operations with a plain twin each
def _by_type(x, single, double):
    """The constant for the type of x, in that type."""
    return type(x)(single if x.itemsize == 4 else double)


def _by_type_intrinsic(typingctx, x, single, double):
    def codegen(context, builder, sig, args):
        return builder.fptrunc(args[1], ir.FloatType()) if sig.return_type == types.float32 else args[2]

    return x(x, types.float64, types.float64), codegen


def _fma(x, y, z):
    """x * y + z, rounded once where the processor can."""
    return x * y + z


def _emit_fma(builder, x, y, z):
    if not FMA:
        return builder.fadd(builder.fmul(x, y), z)
    name = "llvm.fma.f32" if isinstance(x.type, ir.FloatType) else "llvm.fma.f64"
    return builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(x.type, [x.type] * 3), name), [x, y, z])


def _fma_intrinsic(typingctx, x, y, z):
    def codegen(context, builder, sig, args):
        return _emit_fma(builder, *args)

    return x(x, x, x), codegen


def _polynomial(which, x):
    """The polynomial of this number (an integer literal) at x, by Horner's rule."""
    coefficients = POLYNOMIALS[which][x.itemsize == 8]
    value = type(x)(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + type(x)(coefficient)
    return value


def _polynomial_intrinsic(typingctx, which, x):
    if not isinstance(which, types.IntegerLiteral):
        return None
    coefficients = POLYNOMIALS[which.literal_value][x == types.float64]

    def codegen(context, builder, sig, args):
        constants = [ir.Constant(args[1].type, float(np.float32(c)) if x == types.float32 else c) for c in coefficients]
        value = constants[-1]
        for constant in constants[-2::-1]:
            value = _emit_fma(builder, value, args[1], constant)
        return value

    return x(which, x), codegen


def _rounder(x):
    """The number that makes an integer of what it is added to, and leaves it in the low bits of the sum."""
    return type(x)(_BITS[x.itemsize][2])


def _rounder_intrinsic(typingctx, x):
    def codegen(context, builder, sig, args):
        return ir.Constant(args[0].type, _BITS[x.bitwidth // 8][2])

    return x(x), codegen


def _two_to(lift, h):
    """2^(n + lift), where h is n added to the rounder and n + lift within the range of exponents. lift: an integer literal."""
    mantissa, bias, _ = _BITS[h.itemsize]
    bits = np.array(h).view(f"u{h.itemsize}") + np.array(bias + lift, f"u{h.itemsize}")
    return type(h)((bits << np.array(mantissa, bits.dtype)).view(type(h)))


def _two_to_intrinsic(typingctx, lift, h):
    if not isinstance(lift, types.IntegerLiteral):
        return None
    mantissa, bias, _ = _BITS[h.bitwidth // 8]

    def codegen(context, builder, sig, args):
        integer = ir.IntType(h.bitwidth)
        bits = builder.add(builder.bitcast(args[1], integer), ir.Constant(integer, bias + lift.literal_value))
        return builder.bitcast(builder.shl(bits, ir.Constant(integer, mantissa)), args[1].type)

    return h(lift, h), codegen


def _parts(x):
    """e and m of a float64 x > 0 that is not denormal: x = 2^e m, m from sqrt(1/2) to sqrt(2)."""
    m, e = np.frexp(x)
    return (np.float64(e - 1), 2 * m) if m < 0.7071067811865476 else (np.float64(e), m)


def _parts_intrinsic(typingctx, x):
    if x != types.float64:
        return None

    def codegen(context, builder, sig, args):
        i64 = ir.IntType(64)
        bits = builder.bitcast(args[0], i64)
        root = ir.Constant(i64, 0x3FE6A09E667F3BCD - (1023 << 52))           # sqrt(1/2), whose exponent counts as 1023 in k below
        k = builder.lshr(builder.sub(bits, root), ir.Constant(i64, 52))
        shifted = builder.shl(builder.sub(k, ir.Constant(i64, 1023)), ir.Constant(i64, 52))
        m = builder.bitcast(builder.sub(bits, shifted), args[0].type)
        # An integer below 2^52 becomes a float in the low bits of 2^52: some instruction sets have no conversion.
        e = builder.bitcast(builder.or_(k, ir.Constant(i64, 0x4330000000000000)), args[0].type)
        e = builder.fsub(e, ir.Constant(args[0].type, 2.0 ** 52 + 1023))
        return context.make_tuple(builder, sig.return_type, (e, m))

    return types.UniTuple(types.float64, 2)(x), codegen


by_type = either(_by_type, _by_type_intrinsic)
fma = either(_fma, _fma_intrinsic)
parts = either(_parts, _parts_intrinsic)
polynomial = either(_polynomial, _polynomial_intrinsic, literal=True)
rounder = either(_rounder, _rounder_intrinsic)
two_to = either(_two_to, _two_to_intrinsic, literal=True)


# ---------------------------------------------------------------- functions
@jit(exact=True, merged=True)
def reduced(x):
    """n added to the rounder, n, and r = x - n ln 2: the first step of exp."""
    h = fma(x, by_type(x, 1.4426950408889634, 1.4426950408889634), rounder(x))
    n = h - rounder(x)
    r = fma(n, by_type(x, -0.693359375, -6.93145751953125e-1), x)            # n times the first part of ln 2 is exact
    return h, n, fma(n, by_type(x, 2.12194440e-4, -1.42860682030941723212e-6), r)


@jit(exact=True)
def exp_lifted(x, more):
    """2^64 exp(x + more) for x <= 0 (and up to 40) and a tiny `more`; NaN for NaN."""
    x = by_type(x, LOWEST[0], LOWEST[1]) if x < by_type(x, LOWEST[0], LOWEST[1]) else x
    h, n, r = reduced(x)
    r += more
    one = by_type(x, 1.0, 1.0)
    return fma(fma(polynomial(0, r), r, one), r, one) * two_to(64, h)


@jit(exact=True)
def exp_negative(x):
    """exp(x) for x <= 0 (and up to 40); NaN for NaN."""
    return exp_lifted(x, by_type(x, -0.0, -0.0)) * by_type(x, LOWER, LOWER)


@jit(exact=True)
def expm1_negative(x):
    """exp(x) - 1 for x <= 0, to its last digits near 0 too."""
    x = by_type(x, -40.0, -40.0) if x < by_type(x, -40.0, -40.0) else x
    h, n, r = reduced(x)
    scale = two_to(0, h)
    return fma(scale, fma(polynomial(0, r), r * r, r), scale - by_type(x, 1.0, 1.0))


@jit(exact=True)
def logistic(x):
    """1 / (1 + exp(-x)), and its derivative."""
    one = by_type(x, 1.0, 1.0)
    z = exp_negative(-abs(x))
    share = one / (one + z)
    return (z if x < by_type(x, 0.0, 0.0) else one) * share, z * share * share


@jit(exact=True)
def hyperbolic_tangent(x):
    """tanh(x). Its derivative is four times that of the logistic function at 2 x."""
    zero, two = by_type(x, 0.0, 0.0), by_type(x, 2.0, 2.0)
    e = expm1_negative(-two * abs(x))
    y = (zero - e) / (two + e)
    return -y if x < zero else y


@jit(exact=True)
def normal(x):
    """The standard normal distribution up to x, and its density at x."""
    one, top, middle = by_type(x, 1.0, 1.0), by_type(x, LARGEST[0], LARGEST[1]), by_type(x, MIDDLE[0], MIDDLE[1])
    a = abs(x)
    a = top if a > top else a
    b = by_type(x, -0.5, -0.5) * a
    exponent = b * a
    e = exp_lifted(exponent, fma(b, a, -exponent))           # what rounding took from the exponent: the tail feels it
    share = one / (a + middle)
    tail = e * (polynomial(1, fma(share, -(middle + middle), one)) * share)
    return tail if x < by_type(x, 0.0, 0.0) else one - tail, e * by_type(x, DENSITY, DENSITY)


@jit(exact=True, merged=True)
def power_of_single(a, p):
    """a^p to 1e-8, for an `a` that came from float32: neither it nor any power that float32 holds is near the ends of float64."""
    e, m = parts(a)
    s = (m - 1.0) / (m + 1.0)
    y = p * (e * 0.6931471805599453 + 2.0 * s * polynomial(2, s * s))
    y = -380.0 if y < -380.0 else y
    y = 380.0 if y > 380.0 else y
    h, n, r = reduced(np.float64(y))
    return (1.0 + fma(polynomial(3, r), r * r, r)) * two_to(0, h)


@jit(exact=True, merged=True)
def power_of_double(a, p):
    """a^p to the last digits of float64, a not negative."""
    tiny = a < 2.3e-308
    e, m = parts(a * 18014398509481984.0 if tiny else a)     # 2^54: no denormals
    e = e - 54.0 if tiny else e
    s = (m - 1.0) / (m + 1.0)
    # The logarithm, and the rest that rounding takes from it: the relative error of exp is the absolute one of its argument, here of p log x.
    whole, part = e * 6.93145751953125e-1, 2.0 * s * polynomial(2, s * s)
    log = whole + part
    rest = fma(e, 1.42860682030941723212e-6, part - (log - whole))
    near = log + rest
    rest -= near - log
    half = 0.5 * p
    y = half * near
    rest = fma(half, near, -y) + half * rest
    rest = rest if abs(y) < 380.0 else 0.0
    y = -380.0 if y < -380.0 else y
    y = 380.0 if y > 380.0 else y
    h, n, r = reduced(np.float64(y))
    r += rest
    root = (1.0 + fma(polynomial(0, r), r * r, r)) * two_to(0, h)
    return root * root


@jit(exact=True, merged=True)
def raised(number, p, sign):
    """number^p, p not 0, in float64. sign: what a negative number is raised to besides: 1, -1 or NaN, for even, odd and other p."""
    x = np.float64(number)
    a = abs(x)
    result = power_of_single(a, p) if by_type(number, 1.0, 0.0) == 1 else power_of_double(a, p)
    result = np.nan if (x < 0) & (sign != sign) else result
    result = (0.0 if p > 0 else np.inf) if a == 0.0 else result
    result = (np.inf if p > 0 else 0.0) if a == np.inf else result
    result = -result if (sign == -1.0) & (math.copysign(1.0, x) < 0) else result
    return a if a != a else result


@jit(exact=True, merged=True)
def logarithm(x):
    """log(x) of a finite float64 that is at least 1, or of NaN."""
    e, m = parts(x)
    s = (m - 1.0) / (m + 1.0)
    found = fma(e, 6.93145751953125e-1, fma(e, 1.42860682030941723212e-6, 2.0 * s * polynomial(2, s * s)))
    return x if x != x else found


@jit
def sign_of(p):
    """The `sign` of `raised`."""
    if p != np.floor(p):
        return np.nan
    return 1.0 if p % 2 == 0 else -1.0
