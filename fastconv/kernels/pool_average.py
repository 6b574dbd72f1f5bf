"""Average pooling. Windows are clipped to the image: padding adds nothing to a sum.

src: x (planes, D, H, W), dst: y (planes, OD, OH, OW). weight: how many elements the windows count, as a factor for each od, each oh and each
ow, in this order, and behind them ones, as many as a vector has lanes. Kernels have the signature of `tasks`.
"""
from __future__ import annotations

import numpy as np

from .geometry import inside
from .jit import jit
from .pool_geometry import blocks, rows_of, touching, units_of, unpack
from .rows import add_spread, add_strided, sum_strided
from .simd_pool import MEAN, SUM, WIDE, any_nan, pool_row

# The kernel of a row: by stride and taps along it, by way of a buffer, or window by window in float64.
BUFFER, ONE_1, TWO_1, THREE_1, FIVE_1, TWO_2, THREE_2, LONG = range(8)


@jit
def long_row(src, at, offsets, rows, W, job, dst, to, ow0, ow1, count, counts, count_at):
    """A row of the result, window by window, summed in float64."""
    SW, KW, PL, DW = job[12], job[9], job[15], job[18]
    for ow in range(ow0, ow1):
        total, w0 = np.float64(0), ow * SW - PL
        lo, hi = inside(w0, DW, W, KW)               # the taps inside the image
        for r in range(rows):
            total += sum_strided(src, at + offsets[r] + w0 + lo * DW, DW, hi - lo)
        dst[to + ow - ow0] = total / (np.float64(count) * counts[count_at + ow])


@jit
def average(first, last, src, weight, dst, bias, residual, job, table):
    """y: every window's sum over the number of its elements."""
    planes, D, H, W, OD, OH, OW, KD, KH, KW, SD, SH, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    row_blocks, column_blocks, units, tasks, variant = blocks(job)
    offsets = np.empty(KD * KH, np.int64)
    buffer = np.empty((-(-OW // column_blocks) - 1) * SW + (KW - 1) * DW + 1 if variant == BUFFER else 0, src.dtype)
    square = KD == 1 and KH == KW and SH == SW and DH == 1 and variant < LONG and variant != BUFFER
    inner0, inner1 = (-(-PT // SH), (H + PT - KH) // SH + 1) if square else (0, 0)     # rows whose windows lie inside the plane
    wide = W * src.itemsize >= WIDE and SH > 1
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        column, block = unit % column_blocks, unit // column_blocks
        plane_od, block = block // row_blocks, block % row_blocks
        plane, od = plane_od // OD * D * H * W, plane_od % OD
        ow0, ow1 = column * OW // column_blocks, (column + 1) * OW // column_blocks
        col, n, counts_at, read = ow0 * SW - PL, ow1 - ow0, OD + OH + ow0, 0
        lo, hi = max(0, min(W, col)), min(W, max(0, col + (n - 1) * SW + (KW - 1) * DW + 1))
        for oh in range(block * OH // row_blocks, (block + 1) * OH // row_blocks):
            to, count, inner = (plane_od * OH + oh) * OW + ow0, weight[od] * weight[OD + oh], inner0 <= oh < inner1
            at, rows = plane, 0
            if inner:
                h0 = oh * SH - PT
                at += h0 * W
                if wide:                     # read in order, then used row beside row
                    fresh, read = max(read, h0), h0 + KH
                    any_nan(src, plane + fresh * W + lo, (read - 1 - fresh) * W + hi - lo)
            else:
                rows = rows_of(offsets, job, od, oh)
            if variant == TWO_2:
                pool_row(MEAN, 2, 2, inner, src, at, offsets, rows, W, col, dst, to, n, count, weight, counts_at)
            elif variant == THREE_2:
                pool_row(MEAN, 2, 3, inner, src, at, offsets, rows, W, col, dst, to, n, count, weight, counts_at)
            elif variant == THREE_1:
                pool_row(MEAN, 1, 3, inner, src, at, offsets, rows, W, col, dst, to, n, count, weight, counts_at)
            elif variant == TWO_1:
                pool_row(MEAN, 1, 2, inner, src, at, offsets, rows, W, col, dst, to, n, count, weight, counts_at)
            elif variant == FIVE_1:
                pool_row(MEAN, 1, 5, inner, src, at, offsets, rows, W, col, dst, to, n, count, weight, counts_at)
            elif variant == ONE_1:
                pool_row(MEAN, 1, 1, inner, src, at, offsets, rows, W, col, dst, to, n, count, weight, counts_at)
            elif variant == LONG:
                long_row(src, plane, offsets, rows, W, job, dst, to, ow0, ow1, count, weight, OD + OH)
            else:
                pool_row(SUM, 1, 1, False, src, at + lo, offsets, rows, hi - lo, 0, buffer, 0, hi - lo, count, weight, 0)
                y = dst[to:to + n]
                y[:] = 0
                for kw in range(KW):
                    offset = kw * DW + col - lo
                    w_first, w_last = inside(offset, SW, hi - lo, n)
                    add_strided(buffer, w_first * SW + offset, SW, dst, to + w_first, w_last - w_first)
                for ow in range(n):
                    y[ow] /= count * weight[counts_at + ow]


@jit
def average_backward(first, last, src, weight, dst, bias, residual, job, table):
    """src: dout, dst: dx: every element gets its share of each window that holds it. Units: bands of rows (d, h) of each volume of dx.

    A row of dout spreads over W once, and what comes of it is added to each row that its windows hold.
    """
    planes, D, H, W, OD, OH, OW, KD, KH, KW, SD, SH, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    bands, _, units, tasks, _ = blocks(job)
    offsets, share, spread = np.empty(KD * KH, np.int64), np.empty(OW, src.dtype), np.empty(W, src.dtype)
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        plane, band = unit // bands, unit % bands
        at, row0, row1 = plane * D * H * W, band * D * H // bands, (band + 1) * D * H // bands
        dst[at + row0 * W:at + row1 * W] = 0
        od0, od1 = touching(row0 // H, (row1 - 1) // H + 1, KD, SD, PD, DD, OD)
        oh0, oh1 = touching(row0, row1, KH, SH, PT, DH, OH) if D == 1 else (0, OH)
        for od in range(od0, od1):
            for oh in range(oh0, oh1):
                row = ((plane * OD + od) * OH + oh) * OW
                dout, count = src[row:row + OW], weight[od] * weight[OD + oh]
                for ow in range(OW):
                    share[ow] = dout[ow] / (count * weight[OD + OH + ow])
                spread[:] = 0
                for kw in range(KW):
                    offset = kw * DW - PL
                    w_first, w_last = inside(offset, SW, W, OW)
                    if w_first < w_last:
                        add_spread(share, w_first, spread, w_first * SW + offset, SW, w_last - w_first)
                for r in range(rows_of(offsets, job, od, oh)):
                    if row0 * W <= offsets[r] < row1 * W:
                        add_strided(spread, 0, 1, dst, at + offsets[r], W)
