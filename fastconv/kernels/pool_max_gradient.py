"""The gradient of max pooling in planes, row by row, in vectors: of windows of 3 x 3 and stride 2 without indices, of small ones with them.

Without indices padding is -inf, which no element of the image loses to: planes with a NaN or an element -inf are done tap by tap.
"""
from __future__ import annotations

import numpy as np

from .gemm import aligned
from .jit import jit
from .pool_geometry import blocks, rows_of, units_of, unpack
from .pool_max import argmax_rows
from .simd import AHEAD_BYTES, copy_row
from .simd_places import give_at
from .simd_pool import any_low
from .simd_threes import spread
from .tiles import VECTOR_BYTES


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
    """src: dout, dst: dx, weight: x, bias: -inf. Units: bands of rows of each plane of dx. Windows of 3 x 3 and stride 2: what a row of them gives to
    its last row of dx is carried to the next one."""
    planes, D, H, W, OD, OH, OW, KD, KH, KW, SD, SH, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    bands, _, units, tasks, _ = blocks(job)
    lowest, lanes, ahead = bias[0], VECTOR_BYTES // src.itemsize, AHEAD_BYTES // src.itemsize
    carry, lows, dump = aligned(W + PL + 4 * lanes, src), np.full(W, lowest, src.dtype), np.empty(W, src.dtype)
    offsets, tops, where = np.empty(KH * KD, np.int64), np.empty(OW, src.dtype), np.empty(OW, np.int64)
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        plane, row0, row1, oh0, oh1 = band_of(unit, bands, H, KH, SH, PT, OH)
        if has_low(weight, plane, oh0, oh1, H, W, KH, SH, PT):
            by_taps(src, weight, dst, plane, row0, row1, oh0, oh1, offsets, tops, where, job, lowest)
            continue
        carry[:] = 0
        x, dx, h = plane * H * W, plane * H * W, row0
        for oh in range(oh0, oh1 + 1):
            h = oh * SH - PT
            a, b, c = x + h * W if 0 <= h < H else -1, x + (h + 1) * W if 0 <= h + 1 < H else -1, x + (h + 2) * W if 0 <= h + 2 < H else -1
            one, two = dx + h * W if row0 <= h < row1 else -1, dx + (h + 1) * W if row0 <= h + 1 < row1 else -1
            spread(weight, a, b, c, lows, src, (plane * OH + oh) * OW, OW, carry, dst, one, two, dump, PL, W, ahead)
            h += 2
        for r in range(max(row0, h), row1):  # rows that no further windows give to
            if r == h:
                copy_row(1, carry, PL, dst, dx + r * W, W)
            else:
                dst[dx + r * W:dx + (r + 1) * W] = 0


@jit(exact=True)
def max_backward_at(first, last, src, weight, dst, bias, residual, job, table):
    """src: dout, dst: dx, table: the forward's indices, for planes of fewer than 2 ** BITS elements under windows of 3 rows and columns with stride
    1 or 2 along both, or side by side of 2. Units: bands of rows of each plane of dx. residual: one element, set where an index lies outside its window."""
    planes, D, H, W, OD, OH, OW, KD, K, KW, SD, S, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    bands, _, units, tasks, _ = blocks(job)
    ahead, pitch = AHEAD_BYTES // src.itemsize, W // S + 2 * VECTOR_BYTES // src.itemsize
    carry, line = aligned(2 * pitch, src), np.empty(W, src.dtype)
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        plane, row0, row1, oh0, oh1 = band_of(unit, bands, H, K, S, PT, OH)
        carry[:] = 0
        dx, h, missed = plane * H * W, row0, False
        for oh in range(oh0, oh1 + 1):
            h = oh * S - PT
            at, to = (plane * OH + oh) * OW, dx + h * W if row0 <= h < row1 else -1
            if S == 1:
                missed |= give_at(1, 3, 0, table, src, at, OW, h * W, H * W, carry, pitch, dst, to, line, PL, W, ahead)
            elif K == 2:
                missed |= give_at(2, 2, 0, table, src, at, OW, h * W, H * W, carry, pitch, dst, to, line, PL, W, ahead)
            elif PL % 2:
                missed |= give_at(2, 3, 1, table, src, at, OW, h * W, H * W, carry, pitch, dst, to, line, PL, W, ahead)
            else:
                missed |= give_at(2, 3, 0, table, src, at, OW, h * W, H * W, carry, pitch, dst, to, line, PL, W, ahead)
            if S == 2 and row0 <= h + 1 < row1:          # not in turns with the row before: that halves the speed of memory at 224 columns
                copy_row(1, line, 0, dst, dx + (h + 1) * W, W)
            h += S
        for r in range(max(row0, h), row1):  # rows that no further windows give to
            row, kept = dst[dx + r * W:dx + (r + 1) * W], r - h
            if oh1 >= oh0 and kept < K - S:
                for q in range(S):
                    values = carry[(kept * S + q) * pitch:(kept * S + q + 1) * pitch]
                    for m in range((W - q + S - 1) // S):
                        row[m * S + q] = values[m]
            else:
                row[:] = 0
        if missed:
            residual[0] = 1
