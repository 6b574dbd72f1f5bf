"""Average pooling. Windows are clipped to the image: padding adds nothing to a sum.

src: x (planes, D, H, W), dst: y (planes, OD, OH, OW). weight: how many elements the windows count, as a factor for each od, each oh and each
ow, in this order, and behind them ones, as many as a vector has lanes. Kernels have the signature of `tasks`.
"""
from __future__ import annotations

import numpy as np

from .geometry import inside
from .jit import jit
from .pool_geometry import BUFFER, FIVE_1, ONE_1, THREE_1, THREE_2, TWO_1, TWO_2, band_of, block_of, blocks, rows_of, units_of, unpack
from .rows import add_spread, add_strided
from .simd_pool import MEAN, SUM, WIDE, any_nan, pool_row

NEAR = 3                                     # rows and columns that `average_backward_rows` adds at once


@jit
def average(first, last, src, weight, dst, bias, residual, job, table):
    """y: every window's sum over the number of its elements."""
    planes, D, H, W, OD, OH, OW, KD, KH, KW, SD, SH, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    row_blocks, column_blocks, units, tasks, variant = blocks(job)
    offsets = np.empty(KD * KH, np.int64)
    buffer = np.empty((-(-OW // column_blocks) - 1) * SW + (KW - 1) * DW + 1 if variant == BUFFER else 0, src.dtype)
    square = KD == 1 and KH == KW and SH == SW and DH == 1 and variant != BUFFER
    inner0, inner1 = (-(-PT // SH), (H + PT - KH) // SH + 1) if square else (0, 0)     # rows whose windows lie inside the plane
    wide = W * src.itemsize >= WIDE and SH > 1
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        plane, od, y_at, oh0, oh1, ow0, ow1 = block_of(unit, job)
        col, n, counts_at, read = ow0 * SW - PL, ow1 - ow0, OD + OH + ow0, 0
        lo, hi = max(0, min(W, col)), min(W, max(0, col + (n - 1) * SW + (KW - 1) * DW + 1))
        for oh in range(oh0, oh1):
            to, count, inner = y_at + oh * OW + ow0, weight[od] * weight[OD + oh], inner0 <= oh < inner1
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
        plane, row0, row1, od0, od1, oh0, oh1 = band_of(unit, job)
        at = plane * D * H * W
        dst[at + row0 * W:at + row1 * W] = 0
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


@jit
def average_backward_rows(first, last, src, weight, dst, bias, residual, job, table):
    """The same where windows are not dilated, D and KD are 1, SW is 1 or 2, a window has at most NEAR columns SW apart, and a row of dx lies
    in the windows of at most NEAR rows of dout.

    A row of dx is the sum of those rows, each divided by its counts and between zeros, and of that sum shifted from tap to tap.
    """
    planes, D, H, W, OD, OH, OW, KD, KH, KW, SD, SH, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    bands, _, units, tasks, _ = blocks(job)
    pitch = NEAR + max(OW, W + PL) + 1       # of a line: zeros, a row of dout, zeros
    lines, sums, zeros = np.zeros(NEAR * pitch, src.dtype), np.zeros(pitch, src.dtype), np.zeros(pitch, src.dtype)
    counts = weight[OD + OH:OD + OH + OW]
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        plane, band = unit // bands, unit % bands
        row0, row1, ready, old0, old1 = band * H // bands, (band + 1) * H // bands, -1, -1, -1
        for h in range(row0, row1):
            oh0, oh1 = max(0, (h + PT - KH) // SH + 1), min(OH - 1, (h + PT) // SH)
            dx = dst[(plane * H + h) * W:(plane * H + h + 1) * W]
            if oh1 < oh0:
                dx[:] = 0
                continue
            for oh in range(max(ready + 1, oh0), oh1 + 1):
                at, count = (plane * OH + oh) * OW, weight[0] * weight[OD + oh]
                dout, line = src[at:at + OW], lines[oh % NEAR * pitch + NEAR:oh % NEAR * pitch + NEAR + OW]
                for ow in range(OW):
                    line[ow] = dout[ow] / (count * counts[ow])
            ready = oh1
            total = lines[oh0 % NEAR * pitch:(oh0 % NEAR + 1) * pitch]
            if oh1 > oh0:
                if oh0 != old0 or oh1 != old1:
                    middle = lines[(oh0 + 1) % NEAR * pitch:((oh0 + 1) % NEAR + 1) * pitch]
                    bottom = zeros if oh1 == oh0 + 1 else lines[oh1 % NEAR * pitch:(oh1 % NEAR + 1) * pitch]
                    for j in range(pitch):
                        sums[j] = total[j] + middle[j] + bottom[j]
                    old0, old1 = oh0, oh1
                total = sums
            if SW == 1:
                one, two = total[NEAR + PL:], total[NEAR + PL - 1:] if KW > 1 else zeros
                three = total[NEAR + PL - 2:] if KW > 2 else zeros
                for w in range(W):
                    dx[w] = one[w] + two[w] + three[w]
            else:                            # columns 2 * i + q of dx: the taps k with k = q + PL, and every second one
                k0, k1 = PL % 2, (1 + PL) % 2
                at0, at1 = NEAR + (PL - k0) // 2, NEAR + (1 + PL - k1) // 2
                one0, two0 = total[at0:] if k0 < KW else zeros, total[at0 - 1:] if k0 + 2 < KW else zeros
                one1, two1 = total[at1:] if k1 < KW else zeros, total[at1 - 1:] if k1 + 2 < KW else zeros
                for i in range(W // 2):
                    dx[2 * i] = one0[i] + two0[i]
                    dx[2 * i + 1] = one1[i] + two1[i]
                if W % 2:
                    dx[W - 1] = one0[W // 2] + two0[W // 2]
