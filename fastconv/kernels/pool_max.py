"""Max pooling over planes, rows as the unit of work: memory is the limit, so a row is read tap by tap from L1.

Windows are clipped to the image: padding is never the maximum. A task owns bands of rows of one plane of its result.
"""
from __future__ import annotations

import numpy as np
from numba import prange

from .geometry import band_of, inside, outputs_of, unpack
from .jit import jit
from .rows import copy_strided
from .simd import max_pairs


@jit(exact=True)
def larger(value, best):
    """Does `value` replace `best`? NaN wins over every number and stays; of equal values the first stays."""
    return (value > best) | ((value != value) & (best == best))      # no branches: LLVM makes vectors of it


@jit(exact=True)
def max_strided(x, at, step, y, to, n):
    """y[to + i] = x[at + i * step] where that is larger, for i < n."""
    s, t = x[at:], y[to:to + n]
    if step == 1:
        for i in range(n):
            t[i] = s[i] if larger(s[i], t[i]) else t[i]
    elif step == 2:
        for i in range(n):
            t[i] = s[2 * i] if larger(s[2 * i], t[i]) else t[i]
    else:
        for i in range(n):
            t[i] = s[i * step] if larger(s[i * step], t[i]) else t[i]


@jit(exact=True)
def max_row(plane, oh, x, y, geometry, lowest):
    """One row of y (N, C, OH, OW), tap by tap."""
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(geometry)
    xf, yf, to = x.reshape(-1), y.reshape(-1), (plane * OH + oh) * OW
    yf[to:to + OW] = lowest[0]
    for kh in range(KH):
        h = oh * SH - PT + kh * DH
        if 0 <= h < H:
            row = (plane * H + h) * W
            for kw in range(KW):
                offset = kw * DW - PL
                lo, hi = inside(offset, SW, W, OW)
                max_strided(xf, row + lo * SW + offset, SW, yf, to + lo, hi - lo)


@jit(exact=True)
def max_band(t, x, y, indices, geometry, lowest, bands):
    """Task t: a band of rows of one plane of y and, unless empty, of the indices."""
    plane, oh0, oh1 = band_of(t, bands, geometry[5])
    for oh in range(oh0, oh1):
        if indices.size:
            to = (plane * geometry[5] + oh) * geometry[6]
            argmax_row(plane, oh, x, geometry, lowest, y.reshape(-1)[to:to + geometry[6]], indices.reshape(-1)[to:to + geometry[6]])
        else:
            max_row(plane, oh, x, y, geometry, lowest)


@jit(exact=True)
def first_tap(start, step):
    """The first tap whose element start + tap * step is not negative."""
    return 0 if start >= 0 else (-start + step - 1) // step


@jit(exact=True)
def argmax_row(plane, oh, x, geometry, lowest, best, where):
    """best[ow], where[ow]: the largest element of each window of row oh and its place h * W + w in the plane; -1 where it misses the image."""
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(geometry)
    xf = x.reshape(-1)
    h0 = oh * SH - PT
    h_first = h0 + first_tap(h0, DH) * DH
    for ow in range(OW):                     # the window's first element inside the image: it stays where nothing is larger
        w0 = ow * SW - PL
        w_first = w0 + first_tap(w0, DW) * DW
        missed = h_first >= H or w_first >= W
        where[ow] = -1 if missed else h_first * W + w_first
        best[ow] = lowest[0] if missed else xf[(plane * H + h_first) * W + w_first]
    for kh in range(KH):
        h = h0 + kh * DH
        if 0 <= h < H:
            row = (plane * H + h) * W
            for kw in range(KW):
                offset = kw * DW - PL
                lo, hi = inside(offset, SW, W, OW)
                for ow in range(lo, hi):
                    w = ow * SW + offset
                    v, m = xf[row + w], best[ow]
                    take = larger(v, m)
                    best[ow] = v if take else m
                    where[ow] = h * W + w if take else where[ow]


@jit(exact=True)
def max_serial(x, y, indices, geometry, lowest, bands):
    for t in range(y.shape[0] * y.shape[1] * bands):
        max_band(t, x, y, indices, geometry, lowest, bands)


@jit(parallel=True, exact=True)
def max_parallel(x, y, indices, geometry, lowest, bands):
    for t in prange(y.shape[0] * y.shape[1] * bands):
        max_band(t, x, y, indices, geometry, lowest, bands)


# ---------------------------------------------------------------- the commonest: maximum of 2 x 2, stride 2, no padding
@jit(exact=True)
def max_pairs_band(t, x, y, bands):
    """Task t: a band of rows of one plane of y (1, planes, OH, OW), in vectors, and again one by one if a NaN is met."""
    H, W, OH, OW = x.shape[2], x.shape[3], y.shape[2], y.shape[3]
    plane, oh0, oh1 = band_of(t, bands, OH)
    xf, yf = x.reshape(-1), y.reshape(-1)
    if max_pairs(oh1 - oh0, xf, (plane * H + 2 * oh0) * W, W, yf, (plane * OH + oh0) * OW, OW):
        for oh in range(oh0, oh1):
            row = yf[(plane * OH + oh) * OW:(plane * OH + oh + 1) * OW]
            copy_strided(xf, (plane * H + 2 * oh) * W, 2, row, 0, OW)
            for other in (1, W, W + 1):
                max_strided(xf, (plane * H + 2 * oh) * W + other, 2, row, 0, OW)


@jit(exact=True)
def max_pairs_serial(x, y, bands):
    for t in range(x.shape[1] * bands):
        max_pairs_band(t, x, y, bands)


@jit(parallel=True, exact=True)
def max_pairs_parallel(x, y, bands):
    for t in prange(x.shape[1] * bands):
        max_pairs_band(t, x, y, bands)


@jit(exact=True)
def max_backward_band(t, dout, x, indices, dx, geometry, lowest, bands):
    """Task t: one band of rows of dx (N, C, H, W). indices: those of the forward, or empty: then they are found again."""
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(geometry)
    plane, h0, h1 = band_of(t, bands, H)
    df, xf, known = dout.reshape(-1), dx.reshape(-1), indices.reshape(-1)
    xf[(plane * H + h0) * W:(plane * H + h1) * W] = 0
    best, where = np.empty(OW, x.dtype), np.empty(OW, np.int64)
    first, last = outputs_of(h0, h1, KH, SH, PT, DH, OH)
    for oh in range(first, last):
        row = (plane * OH + oh) * OW
        if known.size:
            for ow in range(OW):
                at = known[row + ow]
                if h0 * W <= at < h1 * W:
                    xf[plane * H * W + at] += df[row + ow]
        else:
            argmax_row(plane, oh, x, geometry, lowest, best, where)
            for ow in range(OW):
                if h0 * W <= where[ow] < h1 * W:
                    xf[plane * H * W + where[ow]] += df[row + ow]


@jit(exact=True)
def max_backward_serial(dout, x, indices, dx, geometry, lowest, bands):
    for t in range(dx.shape[0] * dx.shape[1] * bands):
        max_backward_band(t, dout, x, indices, dx, geometry, lowest, bands)


@jit(parallel=True, exact=True)
def max_backward_parallel(dout, x, indices, dx, geometry, lowest, bands):
    for t in prange(dx.shape[0] * dx.shape[1] * bands):
        max_backward_band(t, dout, x, indices, dx, geometry, lowest, bands)
