"""Power-average pooling over (planes, D, H, W): y = (K / count * sum of x^p over the window)^(1/p), K its taps, count those that are no overhang.

    dx = x^(p-1) * sum over the windows that hold x of  dout * K / count * s^(1/p - 1),    s = K / count * sum, 0 where s is 0

Kernels of the shared signature (kernels/tasks.py). The powers of a window's rows are added over the whole width first, in vectors, then its
columns. job: the integers that `unpack` names. bias: p, then K / count as a factor for each place along D, H and W.
"""
from __future__ import annotations

import math

import numpy as np

from .elementary import raised, sign_of
from .geometry import inside
from .jit import jit
from .rows import add_spread, add_strided, sum_strided

LONG = 64                                    # columns of a window from which on they are summed in float64


@jit
def unpack(job):
    """(units, size, blocks), then for D, H and W: input size, output size, taps, stride, padding before, dilation.

    Of the forward, size: outputs of a unit, blocks: units of a row. Of the backward, size: rows of a unit, blocks: units of a plane.
    """
    return ((job[0], job[1], job[2]), (job[3], job[4], job[5], job[6], job[7], job[8]), (job[9], job[10], job[11], job[12], job[13], job[14]),
            (job[15], job[16], job[17], job[18], job[19], job[20]))


@jit
def add_power(x, p, sums):
    """sums += x^p."""
    if p == 1:
        for i in range(sums.size):
            sums[i] += x[i]
    elif p == 2:
        for i in range(sums.size):
            sums[i] += x[i] * x[i]
    elif p == 3:
        for i in range(sums.size):
            sums[i] += x[i] * x[i] * x[i]
    else:
        power, sign = np.float64(p), sign_of(np.float64(p))
        for i in range(sums.size):
            sums[i] += raised(x[i], power, sign)


@jit
def power_row(src, plane, od, oh, ow0, ow1, job, p, line, result):
    """result[ow - ow0] = the sum of x^p over the windows ow0 .. ow1 of a row. line: W elements to work in."""
    _, (D, OD, KD, SD, PD, DD), (H, OH, KH, SH, PH, DH), (W, OW, KW, SW, PW, DW) = unpack(job)
    c0 = max(0, ow0 * SW - PW)
    c1 = max(c0, min(W, (ow1 - 1) * SW - PW + (KW - 1) * DW + 1))
    sums = line[:c1 - c0]
    sums[:] = 0
    result[:ow1 - ow0] = 0
    for kd in range(KD):
        d = od * SD - PD + kd * DD
        if 0 <= d < D:
            for kh in range(KH):
                h = oh * SH - PH + kh * DH
                if 0 <= h < H:
                    at = ((plane * D + d) * H + h) * W
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


@jit
def power(first, last, src, weight, dst, bias, residual, job, table):
    """src: x, dst: y."""
    (units, size, blocks), (D, OD, KD, SD, PD, DD), (H, OH, KH, SH, PH, DH), (W, OW, KW, SW, PW, DW) = unpack(job)
    p, d_factor, h_factor, w_factor = bias[0], bias[1:1 + OD], bias[1 + OD:1 + OD + OH], bias[1 + OD + OH:]
    line = np.empty(min(W, (size - 1) * SW + (KW - 1) * DW + 1), src.dtype)
    for u in range(first, last):
        row, ow0 = u // blocks, u % blocks * size
        ow1 = min(OW, ow0 + size)
        od, oh = row // OH % OD, row % OH
        y, factors = dst[row * OW + ow0:row * OW + ow1], w_factor[ow0:ow1]
        power_row(src, row // OH // OD, od, oh, ow0, ow1, job, p, line, y)
        factor = d_factor[od] * h_factor[oh]
        if p == 1:
            for i in range(y.size):
                y[i] *= factor * factors[i]
        elif p == 2:
            for i in range(y.size):
                y[i] = math.sqrt(y[i] * (factor * factors[i]))
        else:
            root = min(1 / np.float64(p), 1.7e308)           # finite, whatever p is
            for i in range(y.size):
                y[i] = raised(y[i] * (factor * factors[i]), root, np.nan)


@jit
def power_backward(first, last, src, weight, dst, bias, residual, job, table):
    """src: x, weight: dout, dst: dx."""
    (units, size, blocks), (D, OD, KD, SD, PD, DD), (H, OH, KH, SH, PH, DH), (W, OW, KW, SW, PW, DW) = unpack(job)
    p, d_factor, h_factor, w_factor = bias[0], bias[1:1 + OD], bias[1 + OD:1 + OD + OH], bias[1 + OD + OH:]
    line, share, zero = np.empty(W, src.dtype), np.empty(OW, src.dtype), src.dtype.type(0)
    for u in range(first, last):
        plane, r0 = u // blocks, u % blocks * size
        r1 = min(D * H, r0 + size)
        dst[(plane * D * H + r0) * W:(plane * D * H + r1) * W] = 0
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
                factor, douts = d_factor[od] * h_factor[oh], weight[row * OW:(row + 1) * OW]
                if p != 1:
                    power_row(src, plane, od, oh, 0, OW, job, p, line, share)
                if p == 1:
                    for i in range(OW):
                        share[i] = douts[i] * (factor * w_factor[i])
                elif p == 2:
                    for i in range(OW):
                        scale = factor * w_factor[i]
                        s = share[i] * scale
                        share[i] = zero if s == 0 else douts[i] * scale / math.sqrt(s)
                else:
                    slope = 1 / np.float64(p) - 1
                    for i in range(OW):
                        scale = factor * w_factor[i]
                        s = share[i] * scale
                        share[i] = zero if s == 0 else src.dtype.type(douts[i] * scale * raised(s, slope, np.nan))
                line[:] = 0
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
        x, dx = src[(plane * D * H + r0) * W:(plane * D * H + r1) * W], dst[(plane * D * H + r0) * W:(plane * D * H + r1) * W]
        if p == 2:
            for i in range(x.size):
                dx[i] *= x[i]
        elif p != 1:
            less, sign = np.float64(p) - 1, sign_of(np.float64(p) - 1)
            for i in range(x.size):
                dx[i] *= raised(x[i], less, sign)
