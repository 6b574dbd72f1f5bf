"""Average pooling. Windows are clipped to the image: padding adds nothing to a sum.

src: x (planes, D, H, W), dst: y (planes, OD, OH, OW). weight: how many elements the windows count, as a factor for each od, each oh and each
ow, in this order, and behind them ones, as many as a vector has lanes. Kernels have the signature of `tasks`.
"""
from __future__ import annotations

import numpy as np

from .gemm import aligned
from .geometry import inside
from .jit import jit
from .norm_simd import segment_sums
from .past import pour, pour_all
from .pool_geometry import BUFFER, FIVE_1, ONE_1, PART, THREE_1, THREE_2, TWO_1, TWO_2, band_of, block_of, blocks, rows_of, units_of, unpack
from .rows import add_spread, add_strided, fill
from .simd import AHEAD_BYTES, LINE_BYTES, copy_row, one_of, prefetch, settle
from .simd_pool import MEAN, SUM, pool_row
from .simd_shares import add_rows, repeat_rows, share_row
from .tiles import VECTOR_BYTES

NEAR = 3                                     # rows that `average_backward_rows` adds at once
GROUP = 64                                   # planes whose means are taken together
MOST_BESIDE = 4                              # columns of a window that `average_backward_beside` has vectors for


@jit
def average(first, last, src, weight, dst, bias, residual, job, table):
    """y: every window's sum over the number of its elements."""
    planes, D, H, W, OD, OH, OW, KD, KH, KW, SD, SH, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    row_blocks, column_blocks, units, tasks, variant = blocks(job)
    offsets = np.empty(KD * KH, np.int64)
    buffer = np.empty((-(-OW // column_blocks) - 1) * SW + (KW - 1) * DW + 1 if variant == BUFFER else 0, src.dtype)
    square = KD == 1 and KH == KW and SH == SW and DH == 1 and variant != BUFFER
    inner0, inner1 = (-(-PT // SH), (H + PT - KH) // SH + 1) if square else (0, 0)     # rows whose windows lie inside the plane
    ahead, fetched = AHEAD_BYTES // src.itemsize, min(D, SD) * min(H, SH) * W         # of one row of windows, whatever the stride
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        plane, od, y_at, oh0, oh1, ow0, ow1 = block_of(unit, job)
        col, n, counts_at = ow0 * SW - PL, ow1 - ow0, OD + OH + ow0
        lo, hi = max(0, min(W, col)), min(W, max(0, col + (n - 1) * SW + (KW - 1) * DW + 1))
        for oh in range(oh0, oh1):
            h0, to, count, inner = oh * SH - PT, y_at + oh * OW + ow0, weight[od] * weight[OD + oh], inner0 <= oh < inner1
            at, rows = plane, 0
            prefetch(src, plane + (od * H + h0) * SD * W + lo + ahead, fetched if column_blocks == 1 else hi - lo)
            if inner:
                at += (od * SD * H + h0) * W
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
def mean_planes(first, last, src, weight, dst, bias, residual, job, table):
    """y: the mean of each plane, one window. job: planes, tasks, elements of a plane."""
    planes, tasks, S = job[0], job[1], job[2]
    count, sums, units = weight[0] * weight[1] * weight[2], np.empty(GROUP, np.float64), -(-planes // GROUP)
    for plane in range(first * units // tasks * GROUP, min(planes, last * units // tasks * GROUP), GROUP):
        y = dst[plane:min(planes, plane + GROUP)]
        segment_sums(src, plane * S, S, S, y.size, sums, 0)
        for i in range(y.size):
            y[i] = sums[i] / count


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
    """The same where windows are not dilated, D and KD are 1, SW is 1 or 2, a window has at most MOST_TAPS[SW - 1] columns, and a row of dx lies
    in the windows of at most NEAR rows of dout.

    A row of dout spreads over W once, each window's share over its columns, and a row of dx is the sum of those that touch it.
    """
    planes, D, H, W, OD, OH, OW, KD, KH, KW, SD, SH, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    bands, _, units, tasks, past = blocks(job)
    lanes, ahead = VECTOR_BYTES // src.itemsize, AHEAD_BYTES // src.itemsize
    many, counted, factors = max(1, PART // (W * src.itemsize)), src.dtype.type(0), np.empty(OW + 3 * lanes, src.dtype)
    lines, part = aligned(((many - 1) // SH + 2 + NEAR) * W + 2 * lanes, src), aligned(many * W + 2 * LINE_BYTES // src.itemsize if past else 0, src)
    target = one_of(past, part, dst)
    factors[:] = 0
    start, stop = units_of(first, last, units, tasks)
    place = (start // bands * H + start % bands * H // bands) * W        # of part[0] in dst; part[head:held] goes there before what follows
    head = held = (dst.ctypes.data // src.itemsize + place) % (LINE_BYTES // src.itemsize)
    for unit in range(start, stop):
        plane, band = unit // bands, unit % bands
        row0, row1 = band * H // bands, (band + 1) * H // bands
        low = high = (row0 + PT - KH) // SH + 1                          # rows low .. high - 1 of dout, or of zeros, lie in `lines`
        for begin in range(row0, row1, many):
            end, to = min(row1, begin + many), held if past else (plane * H + begin) * W
            near, far = (begin + PT - KH) // SH + 1, (end - 1 + PT) // SH + 1        # rows of windows that touch these, or would in an endless plane
            copy_row(1, lines, (near - low) * W, lines, 0, max(0, high - near) * W)
            for oh in range(max(high, near), far):
                line = (oh - near) * W
                if not 0 <= oh < OH:
                    fill(lines[line:line + W], 0)
                    continue
                if weight[0] * weight[OD + oh] != counted:
                    counted = weight[0] * weight[OD + oh]
                    for ow in range(OW):
                        factors[lanes + ow] = 1 / (counted * weight[OD + OH + ow])
                if SW == 1:
                    share_row(1, KW, src, (plane * OH + oh) * OW, OW, factors, lines, line, PL, W, ahead)
                else:
                    share_row(2, KW, src, (plane * OH + oh) * OW, OW, factors, lines, line, PL, W, ahead)
            low, high = near, far
            if not past:
                prefetch(dst, to + ahead, (end - begin) * W)
            if SH == 1:
                add_rows(lines, 0, W, KH, target, to, (end - begin) * W)
            else:
                one, beyond = near, (begin + PT) // SH + 1
                for h in range(begin, end):
                    one += one * SH + KH <= h + PT       # counted on: divisions take longer than a row
                    beyond += beyond * SH <= h + PT
                    add_rows(lines, (one - near) * W, W, beyond - one, target, to + (h - begin) * W, W)
            if past:
                place = (plane * H + begin) * W - held
                head, held = pour(part, head, held + (end - begin) * W, dst, place)
                place = (plane * H + end) * W - held
    pour_all(part, head, held, dst, place)
    settle(past)


@jit
def average_backward_beside(first, last, src, weight, dst, bias, residual, job, table):
    """The same for whole windows side by side in planes, without padding: of 2 to MOST_BESIDE columns, or of the whole plane."""
    H, W, OD, OH, OW, KH, KW = job[2], job[3], job[4], job[5], job[6], job[8], job[9]
    bands, _, units, tasks, _ = blocks(job)
    count = weight[0] * weight[OD] * weight[OD + OH]
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        plane, band = unit // bands, unit % bands
        if KH == H and KW == W:
            size, share = (band + 1) * H // bands * W - band * H // bands * W, src[plane] / count
            dx = dst[plane * H * W + band * H // bands * W:]
            for i in range(size):
                dx[i] = share
            continue
        oh0, oh1 = band * OH // bands, (band + 1) * OH // bands
        at, to, n = (plane * OH + oh0) * OW, (plane * H + oh0 * KH) * W, oh1 - oh0
        if KW == 2:
            repeat_rows(2, src, at, OW, count, dst, to, W, KH, n)
        elif KW == 3:
            repeat_rows(3, src, at, OW, count, dst, to, W, KH, n)
        else:
            repeat_rows(4, src, at, OW, count, dst, to, W, KH, n)
        if band == bands - 1:                # rows that no window holds
            dst[(plane * H + OH * KH) * W:(plane + 1) * H * W] = 0
