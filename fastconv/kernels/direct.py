"""Convolution by its definition: rows of the output accumulated tap by tap, no patch matrix.

    y[n, f, oh, ow]  = bias[f] + sum over c, kh, kw of x[n, c, oh * SH - PT + kh * DH, ow * SW - PL + kw * DW] * weight[f, c, kh, kw]

A task owns whole rows of its result (one filter's block of the gradient to the weights), so no two tasks write to one place and no
sum depends on the number of threads. Sums of more than CHAIN terms are cut into chains.
"""
from __future__ import annotations

import numpy as np
from numba import prange

from .geometry import inside, unpack
from .jit import jit
from .rows import add_scaled, add_scaled_spread, add_strided, dot_strided

CHAIN = 512                                  # terms of one float32 sum: longer chains lose digits


@jit
def forward_row(t, x, weight, bias, y, geometry):
    """Task t = (n * F + f) * OH + oh: one row of y."""
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(geometry)
    oh, f, n = t % OH, t // OH % F, t // OH // F
    CG = C // G
    xf, yf, wf = x.reshape(-1), y.reshape(-1), weight.reshape(-1)
    y_at = t * OW
    yf[y_at:y_at + OW] = bias[f] if bias.size else 0
    chain = np.zeros(OW, x.dtype)
    terms = 0
    for c in range(CG):
        plane = (n * C + f // (F // G) * CG + c) * H * W
        for kh in range(KH):
            h = oh * SH - PT + kh * DH
            if 0 <= h < H:
                for kw in range(KW):
                    offset = kw * DW - PL
                    lo, hi = inside(offset, SW, W, OW)
                    add_scaled(wf[((f * CG + c) * KH + kh) * KW + kw], xf, plane + h * W + lo * SW + offset, SW, chain, lo, hi - lo)
                    terms += 1
                    if terms == CHAIN:
                        add_strided(chain, 0, 1, yf, y_at, OW)
                        chain[:] = 0
                        terms = 0
    add_strided(chain, 0, 1, yf, y_at, OW)


@jit
def forward_serial(x, weight, bias, y, geometry):
    for t in range(y.shape[0] * y.shape[1] * y.shape[2]):
        forward_row(t, x, weight, bias, y, geometry)


@jit(parallel=True)
def forward_parallel(x, weight, bias, y, geometry):
    for t in prange(y.shape[0] * y.shape[1] * y.shape[2]):
        forward_row(t, x, weight, bias, y, geometry)


@jit
def input_row(t, dout, weight, dx, geometry):
    """Task t = (n * C + c) * H + h: one row of dx, the sum over the filters and taps that read it."""
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(geometry)
    h, c, n = t % H, t // H % C, t // H // C
    CG, FG = C // G, F // G
    g = c // CG
    df, xf, wf = dout.reshape(-1), dx.reshape(-1), weight.reshape(-1)
    chain = np.zeros(W, dout.dtype)
    xf[t * W:(t + 1) * W] = 0
    terms = 0
    for f in range(g * FG, (g + 1) * FG):
        for kh in range(KH):
            oh = h + PT - kh * DH
            if oh >= 0 and oh % SH == 0 and oh // SH < OH:
                row = ((n * F + f) * OH + oh // SH) * OW
                for kw in range(KW):
                    w = wf[((f * CG + c - g * CG) * KH + kh) * KW + kw]
                    offset = kw * DW - PL
                    lo, hi = inside(offset, SW, W, OW)
                    add_scaled_spread(w, df, row + lo, chain, lo * SW + offset, SW, hi - lo)
                    terms += 1
                    if terms == CHAIN:
                        add_strided(chain, 0, 1, xf, t * W, W)
                        chain[:] = 0
                        terms = 0
    add_strided(chain, 0, 1, xf, t * W, W)


@jit
def input_serial(dout, weight, dx, geometry):
    for t in range(dx.shape[0] * dx.shape[1] * dx.shape[2]):
        input_row(t, dout, weight, dx, geometry)


@jit(parallel=True)
def input_parallel(dout, weight, dx, geometry):
    for t in prange(dx.shape[0] * dx.shape[1] * dx.shape[2]):
        input_row(t, dout, weight, dx, geometry)


@jit
def dot_chained(source, at, step, other, to, n):
    """sum over i < n of source[at + i * step] * other[to + i]: chains in the working dtype, their sum in float64."""
    total = np.float64(0)
    for i in range(0, n, CHAIN):
        total += dot_strided(source, at + i * step, step, other, to + i, min(CHAIN, n - i))
    return total


@jit
def weight_taps(t, dout, x, dweight, geometry):
    """Task t = f * (C / G) + c: the KH x KW taps of one filter at one channel.

    Padding is zeros that take part, as in the definition: a NaN or inf of dout there makes NaN of every tap, so the outputs whose tap
    falls on padding are summed too, times zero.
    """
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(geometry)
    CG = C // G
    f, c = t // CG, t % CG
    xf, df, wf = x.reshape(-1), dout.reshape(-1), dweight.reshape(-1)
    for kh in range(KH):
        for kw in range(KW):
            offset = kw * DW - PL
            lo, hi = inside(offset, SW, W, OW)
            total, padding = np.float64(0), dout.dtype.type(0)
            for n in range(N):
                plane = (n * C + f // (F // G) * CG + c) * H * W
                for oh in range(OH):
                    h, row = oh * SH - PT + kh * DH, ((n * F + f) * OH + oh) * OW
                    first, last = lo, hi
                    if h < 0 or h >= H:
                        first, last = 0, 0
                    else:
                        total += dot_chained(xf, plane + h * W + lo * SW + offset, SW, df, row + lo, hi - lo)
                    for i in range(first):
                        padding += df[row + i] * 0
                    for i in range(last, OW):
                        padding += df[row + i] * 0
            wf[(t * KH + kh) * KW + kw] = total + padding


@jit
def weight_serial(dout, x, dweight, geometry):
    for t in range(dweight.shape[0] * dweight.shape[1]):
        weight_taps(t, dout, x, dweight, geometry)


@jit(parallel=True)
def weight_parallel(dout, x, dweight, geometry):
    for t in prange(dweight.shape[0] * dweight.shape[1]):
        weight_taps(t, dout, x, dweight, geometry)
