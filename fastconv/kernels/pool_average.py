"""Average pooling over planes, rows as the unit of work: memory is the limit, so a row is read tap by tap from L1.

Windows are clipped to the image: padding adds nothing to a sum. A task owns rows (forward) or bands of rows (backward) of its result.
"""
from __future__ import annotations

import numpy as np
from numba import prange

from .geometry import band_of, inside, outputs_of, unpack
from .jit import jit
from .rows import add_spread, add_strided, sum_strided

WIDE, LONG = 16, 512                         # windows of so many columns, or of more elements, are summed one by one in float64


@jit
def average_row(t, x, y, geometry, h_counts, w_counts):
    """Task t = plane * OH + oh: one row of y. An element is its window's sum over h_counts[oh] * w_counts[ow].

    Small windows: tap by tap, the row at once. Large ones: window by window, summed in float64.
    """
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(geometry)
    plane, oh = t // OH, t % OH
    xf, row, h0 = x.reshape(-1), y.reshape(-1)[t * OW:(t + 1) * OW], oh * SH - PT
    if KW >= WIDE or KH * KW > LONG:
        for ow in range(OW):
            total, w0 = np.float64(0), ow * SW - PL
            lo, hi = inside(w0, DW, W, KW)               # the taps inside the image
            for kh in range(KH):
                h = h0 + kh * DH
                if 0 <= h < H:
                    total += sum_strided(xf, (plane * H + h) * W + w0 + lo * DW, DW, hi - lo)
            row[ow] = total / (np.float64(h_counts[oh]) * w_counts[ow])
        return
    row[:] = 0
    for kh in range(KH):
        h = h0 + kh * DH
        if 0 <= h < H:
            for kw in range(KW):
                offset = kw * DW - PL
                lo, hi = inside(offset, SW, W, OW)
                add_strided(xf, (plane * H + h) * W + lo * SW + offset, SW, row, lo, hi - lo)
    for ow in range(OW):
        row[ow] /= h_counts[oh] * w_counts[ow]


@jit
def average_serial(x, y, geometry, h_counts, w_counts):
    for t in range(y.shape[0] * y.shape[1] * y.shape[2]):
        average_row(t, x, y, geometry, h_counts, w_counts)


@jit(parallel=True)
def average_parallel(x, y, geometry, h_counts, w_counts):
    for t in prange(y.shape[0] * y.shape[1] * y.shape[2]):
        average_row(t, x, y, geometry, h_counts, w_counts)


@jit
def average_backward_band(t, dout, dx, geometry, h_counts, w_counts, bands):
    """Task t: one band of rows of dx (N, C, H, W): every element gets its share of each window that holds it.

    A row of dout spreads over W once, and what comes of it is added to each of the KH rows.
    """
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(geometry)
    plane, h0, h1 = band_of(t, bands, H)
    df, xf = dout.reshape(-1), dx.reshape(-1)
    xf[(plane * H + h0) * W:(plane * H + h1) * W] = 0
    share, spread = np.empty(OW, dout.dtype), np.empty(W, dout.dtype)
    first, last = outputs_of(h0, h1, KH, SH, PT, DH, OH)
    for oh in range(first, last):
        douts = df[(plane * OH + oh) * OW:]
        for ow in range(OW):
            share[ow] = douts[ow] / (h_counts[oh] * w_counts[ow])
        spread[:] = 0
        for kw in range(KW):
            offset = kw * DW - PL
            lo, hi = inside(offset, SW, W, OW)
            if lo < hi:
                add_spread(share, lo, spread, lo * SW + offset, SW, hi - lo)
        for kh in range(KH):
            h = oh * SH - PT + kh * DH
            if h0 <= h < h1:
                add_strided(spread, 0, 1, xf, (plane * H + h) * W, W)


@jit
def average_backward_serial(dout, dx, geometry, h_counts, w_counts, bands):
    for t in range(dx.shape[0] * dx.shape[1] * bands):
        average_backward_band(t, dout, dx, geometry, h_counts, w_counts, bands)


@jit(parallel=True)
def average_backward_parallel(dout, dx, geometry, h_counts, w_counts, bands):
    for t in prange(dx.shape[0] * dx.shape[1] * bands):
        average_backward_band(t, dout, dx, geometry, h_counts, w_counts, bands)
