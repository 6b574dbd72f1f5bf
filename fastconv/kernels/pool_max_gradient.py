"""The gradient of max pooling in planes, row by row, in vectors: of windows of 3 x 3 and stride 2 without indices, of small ones with them.

Without indices padding is -inf, which no element of the image loses to: planes with a NaN or an element -inf are done tap by tap.
"""
from __future__ import annotations

import numpy as np

from .gemm import aligned
from .jit import jit
from .past import lines_past, pour_all, pour_for
from .pool_geometry import PART, blocks, rows_of, units_of, unpack
from .pool_max import argmax_rows
from .rows import fill
from .simd import AHEAD_BYTES, LINE_BYTES, copy_row, one_of, settle
from .simd_places import give_at
from .simd_pool import any_low
from .simd_threes import spread, spread_each
from .tiles import VECTOR_BYTES

LANES = 8                                    # of a vector, from which on `max_backward_threes` takes windows of stride 1: all but two count


@jit(exact=True)
def by_taps(src, weight, dst, plane, row0, row1, oh0, oh1, offsets, best, where, job, lowest):
    """Rows row0 .. row1 - 1 of dx from windows oh0 .. oh1, whatever the elements are."""
    H, W, OH, OW = job[2], job[3], job[5], job[6]
    dx = dst[(plane * H + row0) * W:(plane * H + row1) * W]
    dx[:] = 0
    for oh in range(oh0, oh1 + 1):
        argmax_rows(weight, plane * H * W, offsets, rows_of(offsets, job, 0, oh), W, job, best, 0, where, 0, 0, OW, lowest)
        dout = src[(plane * OH + oh) * OW:(plane * OH + oh + 1) * OW]
        for ow in range(OW):
            place = where[ow] - row0 * W
            if 0 <= place < dx.size:
                dx[place] += dout[ow]


@jit
def band_of(unit, bands, H, KH, SH, PT, OH):
    """The plane of a unit, its first row and the end of its rows, and the first and last row of windows that touch them."""
    plane, band = unit // bands, unit % bands
    row0, row1 = band * H // bands, (band + 1) * H // bands
    return plane, row0, row1, max(0, (row0 + PT - KH) // SH + 1), min(OH - 1, (row1 - 1 + PT) // SH)


@jit(exact=True)
def has_low(weight, plane, oh0, oh1, H, W, KH, SH, PT):
    """Whether these rows of windows hold what `any_low` looks for."""
    above, below = max(0, oh0 * SH - PT), max(0, min(H, oh1 * SH - PT + KH))
    return any_low(weight, (plane * H + above) * W, max(0, below - above) * W)


@jit(exact=True)
def max_backward_threes(first, last, src, weight, dst, bias, residual, job, table):
    """src: dout, dst: dx, weight: x, bias: -inf. Units: bands of rows of each plane of dx. Windows of 3 x 3 and stride 2 or, of at least LANES lanes, 1.

    Bands are done in parts that stay in L1: what a part's windows give to the rows behind it is carried to the next.
    """
    planes, D, H, W, OD, OH, OW, KD, K, KW, SD, S, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    bands, _, units, tasks, past = blocks(job)
    lowest, lanes, odd = bias[0], VECTOR_BYTES // src.itemsize, PL % 2
    rows = max(1, PART // (S * W * src.itemsize))            # of windows, in a part
    room = 2 * (W // max(1, lanes - 2) + 2) * lanes if S == 1 else W // 2 + 2 + 2 * lanes
    carry, low, none, line = aligned(room, src), np.full(W, lowest, src.dtype), np.zeros(OW, src.dtype), aligned((S * rows + 1) * W + 2 * lanes, src)
    offsets, tops, where = np.empty(K, np.int64), np.empty(OW, src.dtype), np.empty(OW, np.int64)
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        plane, row0, row1, oh0, oh1 = band_of(unit, bands, H, K, S, PT, OH)
        at, dout = plane * H * W, plane * OH * OW
        fill(carry, 0)
        oh, end = (row0 + PT - K) // S + 1, (row1 + PT + S - 1) // S     # that touch these rows, or would in an endless plane
        while oh < end:
            h, n = oh * S - PT, min(rows, end - oh)
            if has_low(weight, plane, max(0, oh), min(oh + n, OH) - 1, H, W, K, S, PT):
                by_taps(src, weight, dst, plane, row0, row1, oh0, oh1, offsets, tops, where, job, lowest)
                break
            if S == 1:
                spread_each(weight, at, h, H, W, low, src, dout, oh, OH, OW, none, n, PL, carry, line, lanes)
            elif odd:
                spread(1, weight, at, h, H, W, low, src, dout, oh, OH, OW, none, n, PL, carry, line, lanes)
            else:
                spread(0, weight, at, h, H, W, low, src, dout, oh, OH, OW, none, n, PL, carry, line, lanes)
            top, bottom = max(row0, h), min(row1, h + S * n)
            if past and top < bottom:        # else all these windows begin above the band
                lines_past(line, lanes + (top - h) * W, dst, at + top * W, (bottom - top) * W)
            elif top < bottom:
                copy_row(1, line, lanes + (top - h) * W, dst, at + top * W, (bottom - top) * W)
            oh += n
    settle(past)


@jit(exact=True)
def max_backward_at(first, last, src, weight, dst, bias, residual, job, table):
    """src: dout, dst: dx, table: the forward's indices, for planes of fewer than 2 ** BITS elements under windows of 3 rows and columns with stride
    1 or 2 along both, or side by side of 2. Units: bands of rows of each plane of dx. residual: one element, set where an index lies outside its window."""
    planes, D, H, W, OD, OH, OW, KD, K, KW, SD, S, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    bands, _, units, tasks, past = blocks(job)
    ahead, pitch = 0 if past else AHEAD_BYTES // src.itemsize, W // S + 2 * VECTOR_BYTES // src.itemsize
    carry, line = aligned(2 * pitch, src), np.empty(W, src.dtype)
    part = aligned(max(2 * W, PART // src.itemsize) + 2 * LINE_BYTES // src.itemsize if past else 0, src)
    target = one_of(past, part, dst)
    start, stop = units_of(first, last, units, tasks)
    place = (start // bands * H + start % bands * H // bands) * W        # what comes into part[to] next, or dst[to], goes to dst[place]
    begin = to = (dst.ctypes.data // src.itemsize + place) % (LINE_BYTES // src.itemsize) if past else place
    for unit in range(start, stop):
        plane, row0, row1, oh0, oh1 = band_of(unit, bands, H, K, S, PT, OH)
        carry[:] = 0
        h, missed = row0, False
        for oh in range(oh0, oh1 + 1):
            h = oh * S - PT
            at, wanted = (plane * OH + oh) * OW, row0 <= h < row1
            if past:
                begin, to = pour_for(S * W, part, begin, to, dst, place)
            here = to if wanted else -1
            if S == 1:
                missed |= give_at(1, 3, 0, table, src, at, OW, h * W, H * W, carry, pitch, target, here, line, PL, W, ahead)
            elif K == 2:
                missed |= give_at(2, 2, 0, table, src, at, OW, h * W, H * W, carry, pitch, target, here, line, PL, W, ahead)
            elif PL % 2:
                missed |= give_at(2, 3, 1, table, src, at, OW, h * W, H * W, carry, pitch, target, here, line, PL, W, ahead)
            else:
                missed |= give_at(2, 3, 0, table, src, at, OW, h * W, H * W, carry, pitch, target, here, line, PL, W, ahead)
            to, place = to + wanted * W, place + wanted * W
            if S == 2 and row0 <= h + 1 < row1:          # not in turns with the row before: that halves the speed of memory at 224 columns
                copy_row(1, line, 0, target, to, W)
                to, place = to + W, place + W
            h += S
        for r in range(max(row0, h), row1):  # rows that no further windows give to
            if past:
                begin, to = pour_for(W, part, begin, to, dst, place)
            row, kept = target[to:to + W], r - h
            to, place = to + W, place + W
            if oh1 >= oh0 and kept < K - S:
                for q in range(S):
                    values = carry[(kept * S + q) * pitch:(kept * S + q + 1) * pitch]
                    for m in range((W - q + S - 1) // S):
                        row[m * S + q] = values[m]
            else:
                row[:] = 0
        if missed:
            residual[0] = 1
    if past:
        pour_all(part, begin, to, dst, place - to)
    settle(past)
