"""Power-average pooling over (planes, D, H, W): y = (K / count * sum of x^p over the window)^(1/p), K its taps, count those that are no overhang.

    dx = x^(p-1) * sum over the windows that hold x of  dout * K / count * s^(1/p - 1),    s = K / count * sum, 0 where s is 0

Kernels of the shared signature (kernels/tasks.py). The powers of a window's rows are added over the whole width first, in vectors, then its
columns. job: the integers that `unpack` names. bias: p, then K / count along D, H and W for the last window there: count is K for all others.

Small planes lie side by side, as in pool_planes.py: rows of a few elements would leave most of them to scalar code.
"""
from __future__ import annotations

import math

import numpy as np

from . import pool_planes
from .elementary import raised, sign_of
from .gemm import aligned
from .geometry import inside
from .jit import jit
from .pool_geometry import units_of
from .rows import add_spread, add_strided, fill, sum_strided
from .simd_planes import SUM
from .simd_pool import any_nan
from .tiles import VECTOR_BYTES

LONG = 64                                    # columns of a window from which on they are summed in float64
KEPT_BYTES = 256 * 1024                      # of rows of powers: those of the windows of one row of the result, where they are no more


@jit
def unpack(job):
    """(units, tasks, size, blocks), then for D, H and W: input size, output size, taps, stride, padding before, dilation.

    Of the forward, size: outputs of a unit, blocks: units of a row. Of the backward, size: rows of a unit, blocks: units of a plane.
    """
    return ((job[0], job[1], job[2], job[3]), (job[4], job[5], job[6], job[7], job[8], job[9]),
            (job[10], job[11], job[12], job[13], job[14], job[15]), (job[16], job[17], job[18], job[19], job[20], job[21]))


@jit
def plain(p):
    """Whether powers are products."""
    return p == 1 or p == 2 or p == 3


@jit
def shared(p):
    """Whether one power serves for x^p and x^(p - 1)."""
    return p > 1 and not plain(p)


@jit(inline=True)
def raise_all(x, p, result):
    """result = x^p for a p in float64 that is not 0."""
    sign = sign_of(p)
    for i in range(result.size):
        result[i] = raised(x[i], p, sign)


@jit(views=True)
def add_power(x, p, sums):
    """sums += x^p for a plain p."""
    if p == 1:
        for i in range(sums.size):
            sums[i] += x[i]
    elif p == 2:
        for i in range(sums.size):
            sums[i] += x[i] * x[i]
    else:
        for i in range(sums.size):
            sums[i] += x[i] * x[i] * x[i]


@jit(views=True)
def add_kept_power(x, p, sums, at, kept, known):
    """The same for any other p; kept: x^p where known[0] is `at`, the place of x, and from then on."""
    if known[0] != at:
        known[0] = at
        raise_all(x, np.float64(p), kept[:sums.size])
    for i in range(sums.size):
        sums[i] += kept[i]


@jit
def raised_from(number, slope, p):
    """number^p, slope being number^(p - 1): a whole p has another sign than p - 1, other powers are those of |number| or NaN."""
    return (number if sign_of(np.float64(p)) * sign_of(np.float64(p) - 1) == -1 else abs(number)) * slope


@jit(views=True)
def add_product(x, slopes, p, sums):
    """sums += x^p. slopes: x^(p - 1)."""
    for i in range(sums.size):
        sums[i] += raised_from(x[i], slopes[i], p)


@jit
def memory(src, job, p, width):
    """Room for the powers of the rows of a window, `width` elements each, and for the places that they are the powers of; of one row where those are many."""
    rows = job[6] * job[12]                  # KD * KH
    rows = 0 if plain(p) else 1 if rows * width * src.itemsize > KEPT_BYTES else rows
    known = np.empty(rows, np.int64)
    fill(known, -1)
    return np.empty(rows * width, src.dtype), known


@jit(views=True)
def power_row(src, plane, od, oh, ow0, ow1, job, p, line, kept, known, slopes, sloped, result):
    """result[ow - ow0] = the sum of x^p over the windows ow0 .. ow1 of a row. line: W elements to work in; kept, known: see `memory`.

    slopes: x^(p - 1) of the elements from number `sloped` on, or empty.
    """
    _, (D, OD, KD, SD, PD, DD), (H, OH, KH, SH, PH, DH), (W, OW, KW, SW, PW, DW) = unpack(job)
    c0 = max(0, ow0 * SW - PW)
    c1 = max(c0, min(W, (ow1 - 1) * SW - PW + (KW - 1) * DW + 1))
    sums = line[:c1 - c0]
    fill(sums, 0)
    fill(result[:ow1 - ow0], 0)
    for kd in range(KD):
        d = od * SD - PD + kd * DD
        if 0 <= d < D:
            for kh in range(KH):
                h = oh * SH - PH + kh * DH
                if 0 <= h < H:
                    at = ((plane * D + d) * H + h) * W
                    if 0 <= at - sloped < slopes.size:
                        add_product(src[at + c0:at + c1], slopes[at - sloped + c0:], p, sums)
                    elif known.size:         # neighbouring rows of the result share rows of x
                        slot = (kd * KH + h % KH) % known.size
                        add_kept_power(src[at + c0:at + c1], p, sums, at + c0, kept[slot * line.size:], known[slot:])
                    else:
                        add_power(src[at + c0:at + c1], p, sums)
    if KW < LONG:
        for kw in range(KW):
            offset = ow0 * SW - PW + kw * DW
            lo, hi = inside(offset, SW, W, ow1 - ow0)
            if lo < hi:
                add_strided(sums, lo * SW + offset - c0, SW, result, lo, hi - lo)
    else:
        for ow in range(ow0, ow1):
            start = ow * SW - PW
            lo, hi = inside(start, DW, W, KW)
            if lo < hi:
                result[ow - ow0] = sum_strided(sums, start + lo * DW - c0, DW, hi - lo)


@jit(views=True)
def factor_of(od, OD, oh, OH, bias):
    """K / count of a row of windows, along D and H."""
    factor = bias[1] if od == OD - 1 else bias.dtype.type(1)
    return factor * bias[2] if oh == OH - 1 else factor


@jit
def power(first, last, src, weight, dst, bias, residual, job, table):
    """src: x, dst: y."""
    (units, tasks, size, blocks), (D, OD, KD, SD, PD, DD), (H, OH, KH, SH, PH, DH), (W, OW, KW, SW, PW, DW) = unpack(job)
    p = bias[0]
    line = np.empty(min(W, (size - 1) * SW + (KW - 1) * DW + 1), src.dtype)
    kept, known = memory(src, job, p, line.size)
    start, stop = units_of(first, last, units, tasks)
    for u in range(start, stop):
        some_powers(u, src, dst, bias, job, line, kept, known)


@jit(views=True)
def some_powers(u, src, dst, bias, job, line, kept, known):
    """A unit."""
    (units, tasks, size, blocks), (D, OD, KD, SD, PD, DD), (H, OH, KH, SH, PH, DH), (W, OW, KW, SW, PW, DW) = unpack(job)
    p, w_last = bias[0], bias[3]
    row, ow0 = u // blocks, u % blocks * size
    ow1 = min(OW, ow0 + size)
    od, oh = row // OH % OD, row % OH
    y = dst[row * OW + ow0:row * OW + ow1]
    power_row(src, row // OH // OD, od, oh, ow0, ow1, job, p, line, kept, known, kept[:0], 0, y)
    if ow1 == OW:
        y[y.size - 1] *= w_last
    factor = factor_of(od, OD, oh, OH, bias)
    if p == 1:
        for i in range(y.size):
            y[i] *= factor
    elif p == 2:
        for i in range(y.size):
            y[i] = math.sqrt(y[i] * factor)
    else:
        root = min(1 / np.float64(p), 1.7e308)           # finite, whatever p is
        for i in range(y.size):
            y[i] = raised(y[i] * factor, root, np.nan)


@jit
def held(at, outputs, K, S, D):
    """Whether a window holds element `at` of an axis, counted with its padding."""
    k = max(0, (at - (outputs - 1) * S + D - 1) // D)        # the first tap of the last window that is not behind it
    while k < K and k * D <= at:
        if (at - k * D) % S == 0:
            return True
        k += 1
    return False


@jit
def columns_between(W, OW, KW, SW, PW, DW):
    """The columns that no window holds."""
    found, n = np.empty(W, np.int64), 0
    for w in range(W):
        if not held(w + PW, OW, KW, SW, DW):
            found[n] = w
            n += 1
    return found[:n]


@jit(views=True)
def times_slope(dx, x, p, slopes):
    """dx *= x^(p - 1). slopes: these, unless p is plain."""
    if slopes.size:
        for i in range(dx.size):
            dx[i] *= slopes[i]
    elif p == 2:
        for i in range(dx.size):
            dx[i] *= x[i]
    elif p == 3:
        for i in range(dx.size):
            dx[i] *= x[i] * x[i]


@jit
def power_backward(first, last, src, weight, dst, bias, residual, job, table):
    """src: x, weight: dout, dst: dx."""
    (units, tasks, size, blocks), (D, OD, KD, SD, PD, DD), (H, OH, KH, SH, PH, DH), (W, OW, KW, SW, PW, DW) = unpack(job)
    p, line, share = bias[0], np.empty(W, src.dtype), np.empty(OW, src.dtype)
    kept, known = memory(src, job, p, W)
    slopes, missed = np.empty(0 if plain(p) else min(D * H, size) * W, src.dtype), columns_between(W, OW, KW, SW, PW, DW)
    start, stop = units_of(first, last, units, tasks)
    for u in range(start, stop):
        power_gradient(u, src, weight, dst, bias, job, line, share, kept, known, slopes, missed)


@jit(views=True)
def power_gradient(u, src, weight, dst, bias, job, line, share, kept, known, slopes, missed):
    """A unit."""
    (units, tasks, size, blocks), (D, OD, KD, SD, PD, DD), (H, OH, KH, SH, PH, DH), (W, OW, KW, SW, PW, DW) = unpack(job)
    p, w_last, zero = bias[0], bias[3], src.dtype.type(0)
    plane, r0 = u // blocks, u % blocks * size
    r1 = min(D * H, r0 + size)
    x, dx = src[(plane * D * H + r0) * W:(plane * D * H + r1) * W], dst[(plane * D * H + r0) * W:(plane * D * H + r1) * W]
    own = slopes[:min(x.size, slopes.size)]
    raise_all(x, np.float64(p) - 1, own)
    base = own if shared(p) else own[:0]
    fill(dx, 0)
    for od in range(OD):
        for oh in range(OH):
            top = max(0, od * SD - PD) * H       # a first look at the rows that this window may reach
            end = (min(D, od * SD - PD + (KD - 1) * DD + 1) - 1) * H + H
            if top >= r1 or end <= r0:
                continue
            touched = False
            for kd in range(KD):
                d = od * SD - PD + kd * DD
                for kh in range(KH):
                    h = oh * SH - PH + kh * DH
                    touched = touched or (0 <= d < D and 0 <= h < H and r0 <= d * H + h < r1)
            if not touched:
                continue
            row = (plane * OD + od) * OH + oh
            factor, douts = factor_of(od, OD, oh, OH, bias), weight[row * OW:(row + 1) * OW]
            if p != 1:
                power_row(src, plane, od, oh, 0, OW, job, p, line, kept, known, base, (plane * D * H + r0) * W, share)
                share[OW - 1] *= w_last
            if p == 1:
                for i in range(OW):
                    share[i] = douts[i] * factor
            elif p == 2:
                for i in range(OW):
                    s = share[i] * factor
                    share[i] = zero if s == 0 else douts[i] * factor / math.sqrt(s)
            else:
                slope = 1 / np.float64(p) - 1
                for i in range(OW):
                    s = share[i] * factor
                    share[i] = zero if s == 0 else src.dtype.type(douts[i] * factor * raised(s, slope, np.nan))
            share[OW - 1] *= w_last
            fill(line, 0)
            for kw in range(KW):
                offset = kw * DW - PW
                lo, hi = inside(offset, SW, W, OW)
                if lo < hi:
                    add_spread(share, lo, line, lo * SW + offset, SW, hi - lo)
            for kd in range(KD):
                d = od * SD - PD + kd * DD
                for kh in range(KH):
                    h = oh * SH - PH + kh * DH
                    if 0 <= d < D and 0 <= h < H and r0 <= d * H + h < r1:
                        add_strided(line, 0, 1, dst, ((plane * D + d) * H + h) * W, W)
    times_slope(dx, x, p, own)
    for r in range(r0, r1):              # what no window holds: 0 times its slope may be NaN
        row = dx[(r - r0) * W:(r - r0 + 1) * W]
        if not (held(r // H + PD, OD, KD, SD, DD) and held(r % H + PH, OH, KH, SH, DH)):
            fill(row, 0)
        for w in missed:
            row[w] = 0


# ---------------------------------------------------------------- small planes side by side
@jit(views=True)
def powers(x, p, result):
    """result = x^p."""
    if p == 1:
        for i in range(x.size):
            result[i] = x[i]
    elif p == 2:
        for i in range(x.size):
            result[i] = x[i] * x[i]
    elif p == 3:
        for i in range(x.size):
            result[i] = x[i] * x[i] * x[i]
    else:
        raise_all(x, np.float64(p), result)


@jit(views=True)
def scale_windows(y, OD, OH, OW, lanes, bias):
    """Every window, a vector, times its K / count."""
    if bias[1] == 1 and bias[2] == 1 and bias[3] == 1:
        return
    for o in range(OD * OH * OW):
        factor = factor_of(o // (OH * OW), OD, o // OW % OH, OH, bias)
        factor *= bias[3] if o % OW == OW - 1 else bias.dtype.type(1)
        part = y[o * lanes:(o + 1) * lanes]
        for r in range(lanes):
            part[r] *= factor


@jit(views=True)
def place(source, table, n, target, lanes):
    """Vectors one behind the other to where the table says."""
    for e in range(n):
        part, to = source[e * lanes:(e + 1) * lanes], target[table[e]:table[e] + lanes]
        for r in range(lanes):
            to[r] = part[r]


@jit
def power_planes(first, last, src, weight, dst, bias, residual, job, table):
    """src: x, dst: y. job, table: as of `average_planes`."""
    planes, tasks, units, V, HP, WP, DP, KD, KH, KW, SD, SH, SW, DD, DH, DW, OD, OH, OW, gradient = pool_planes.unpack(job)
    lanes, outputs, p = VECTOR_BYTES // src.itemsize, OD * OH * OW, bias[0]
    x, deep = aligned(DP * HP * WP * lanes, src), aligned(HP * WP * lanes if KD > 1 else 0, src)
    raised_x, row = aligned(DP * HP * WP * lanes, src), aligned(WP * lanes, src)
    y = aligned((outputs + lanes) * lanes, src)
    x[:] = 0
    for unit in range(first * units // tasks, last * units // tasks):
        plane = unit * lanes
        count = min(lanes, planes - plane)
        any_nan(src, plane * V, count * V)                   # reads all of them in order
        pool_planes.load(src, plane * V, count, V, x, table, lanes)
        powers(x, p, raised_x)
        pool_planes.all_windows(SUM, raised_x, deep, row, y, job, lanes)
        scale_windows(y, OD, OH, OW, lanes, bias)
        result = y[:outputs * lanes]
        if p == 2:
            for i in range(result.size):
                result[i] = math.sqrt(result[i])
        elif p != 1:
            root = min(1 / np.float64(p), 1.7e308)           # finite, whatever p is
            for i in range(result.size):
                result[i] = raised(result[i], root, np.nan)
        pool_planes.store(y, outputs, dst, plane * outputs, count, lanes)


@jit
def power_planes_backward(first, last, src, weight, dst, bias, residual, job, table):
    """src: x, weight: dout, dst: dx. job, table: those of the forward, then those of the gradient of the average."""
    size = len(pool_planes.NAMES)
    gradient_job = job[size:]
    planes, tasks, units, V, HP, WP, DP, KD, KH, KW, SD, SH, SW, DD, DH, DW, OD, OH, OW, gradient = pool_planes.unpack(job)
    HG, WG, DG = gradient_job[4], gradient_job[5], gradient_job[6]
    lanes, outputs, p, zero = VECTOR_BYTES // src.itemsize, OD * OH * OW, bias[0], src.dtype.type(0)
    places, unpadded, gradient_places = table[:V], table[V + outputs + outputs:], table[V + outputs:]
    x, raised_x, padded = aligned(V * lanes, src), aligned(V * lanes, src), aligned(DP * HP * WP * lanes, src)
    deep, row = aligned(max(HP * WP, HG * WG) * lanes if KD > 1 else 0, src), aligned(max(WP, WG) * lanes, src)
    s, share = aligned((outputs + lanes) * lanes, src), aligned(outputs * lanes, src)
    slopes, inner = aligned(0 if plain(p) else V * lanes, src), np.empty(V, np.bool_)
    for e in range(V):
        q = places[e] // lanes
        inner[e] = held(q // (HP * WP), OD, KD, SD, DD) and held(q // WP % HP, OH, KH, SH, DH) and held(q % WP, OW, KW, SW, DW)
    spread, dx = aligned(DG * HG * WG * lanes, src), aligned((V + lanes) * lanes, src)
    padded[:] = 0
    spread[:] = 0
    for unit in range(first * units // tasks, last * units // tasks):
        plane = unit * lanes
        count = min(lanes, planes - plane)
        pool_planes.load(weight, plane * outputs, count, outputs, share, table[V:], lanes)
        scale_windows(share, OD, OH, OW, lanes, bias)
        if p != 1:
            any_nan(src, plane * V, count * V)               # reads all of them in order
            pool_planes.load(src, plane * V, count, V, x, unpadded, lanes)
            raise_all(x, np.float64(p) - 1, slopes)
            if shared(p):
                for i in range(raised_x.size):
                    raised_x[i] = raised_from(x[i], slopes[i], p)
            else:
                powers(x, p, raised_x)
            place(raised_x, places, V, padded, lanes)
            pool_planes.all_windows(SUM, padded, deep, row, s, job, lanes)
            scale_windows(s, OD, OH, OW, lanes, bias)
            if p == 2:
                for i in range(share.size):
                    share[i] = zero if s[i] == 0 else share[i] / math.sqrt(s[i])
            else:
                slope = 1 / np.float64(p) - 1
                for i in range(share.size):
                    share[i] = zero if s[i] == 0 else src.dtype.type(share[i] * raised(s[i], slope, np.nan))
        place(share, gradient_places, outputs, spread, lanes)
        pool_planes.all_windows(SUM, spread, deep, row, dx, gradient_job, lanes)
        times_slope(dx[:V * lanes], x, p, slopes)
        for e in range(V):
            if not inner[e]:                 # 0 times its slope may be NaN
                fill(dx[e * lanes:(e + 1) * lanes], 0)
        pool_planes.store(dx, V, dst, plane * V, count, lanes)
