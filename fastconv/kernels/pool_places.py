"""Max pooling with the places of the maxima, and its gradient, for windows of any size: the columns of a window first, then their maxima.

A window costs as many steps as it has rows and columns, and not as many as it has elements. Arguments as in `pool_max`; floats only.
"""
from __future__ import annotations

import numpy as np

from .gemm import aligned
from .geometry import inside
from .jit import jit
from .pool_geometry import band_of, block_of, blocks, first_tap, rows_of, units_of, unpack
from .pool_max import add_at, larger
from .simd import prefetch
from .simd_lines import MOST_LINES, across, down, lay
from .tiles import VECTOR_BYTES


@jit(exact=True)
def later_maxima(values, starts, at, place, step, y, places, n):
    """For i < n: y[i] = values[at + i * step] and places[i] = starts[...] + place + i * step where that wins, or came before it and is equal."""
    s, rows, best, where = values[at:], starts[at:], y[:n], places[:n]
    if step == 1:
        for i in range(n):
            v, m, p, q = s[i], best[i], rows[i] + place + i, where[i]
            take = larger(v, m) | (((v == m) | ((v != v) & (m != m))) & (p < q))
            best[i] = v if take else m
            where[i] = p if take else q
    else:
        for i in range(n):
            v, m, p, q = s[i * step], best[i], rows[i * step] + place + i * step, where[i]
            take = larger(v, m) | (((v == m) | ((v != v) & (m != m))) & (p < q))
            best[i] = v if take else m
            where[i] = p if take else q


@jit(exact=True)
def argmax_columns(src, at, offsets, rows, W, job, best, where, columns, starts, ow0, ow1, lowest):
    """best[i], where[i]: the maximum of window ow0 + i and its place in the volume, -1 where it misses the image.

    columns, starts: the maximum of each column that the windows hold, and where its row starts.
    """
    SW, KW, PL, DW = job[12], job[9], job[15], job[18]
    n, lo = ow1 - ow0, max(0, ow0 * SW - PL)
    w = min(W, (ow1 - 1) * SW - PL + (KW - 1) * DW + 1) - lo
    for r in range(rows):
        row, offset = src[at + offsets[r] + lo:], offsets[r]
        for c in range(w):
            v, m = row[c], columns[c]
            take = (r == 0) | larger(v, m)
            columns[c] = v if take else m
            starts[c] = offset if take else starts[c]
    for i in range(n):
        c = (ow0 + i) * SW - PL
        c += first_tap(c, DW) * DW
        missed = rows == 0 or c >= W
        where[i] = -1 if missed else starts[c - lo] + c
        best[i] = lowest if missed else columns[c - lo]
    if rows:
        for kw in range(KW):
            offset = kw * DW - PL + ow0 * SW
            first, last = inside(offset, SW, W, n)
            c = offset + first * SW
            later_maxima(columns, starts, c - lo, c, SW, best[first:], where[first:], last - first)


@jit(exact=True)
def maximum_places(first, last, src, weight, dst, bias, residual, job, table):
    """table: the indices."""
    planes, D, H, W, OD, OH, OW, KD, KH, KW, SD, SH, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    row_blocks, column_blocks, units, tasks, _ = blocks(job)
    room = min(W, (-(-OW // column_blocks) - 1) * SW + (KW - 1) * DW + 1)
    offsets, columns, starts = np.empty(KD * KH, np.int64), np.empty(room, src.dtype), np.empty(room, np.int64)
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        at, od, y_at, oh0, oh1, ow0, ow1 = block_of(unit, job)
        for oh in range(oh0, oh1):
            to = y_at + oh * OW
            argmax_columns(src, at, offsets, rows_of(offsets, job, od, oh), W, job, dst[to + ow0:to + ow1], table[to + ow0:to + ow1],
                           columns, starts, ow0, ow1, bias[0])


@jit(exact=True)
def max_backward_places(first, last, src, weight, dst, bias, residual, job, table):
    """src: dout, dst: dx, weight: x. At most MOST_LINES rows and columns of a window. Units: bands of rows (d, h) of each volume of dx."""
    planes, D, H, W, OD, OH, OW, KD, KH, KW, SD, SH, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    bands, _, units, tasks, _ = blocks(job)
    lanes = VECTOR_BYTES // src.itemsize
    dense = (OW - 1) * SW + 1                # windows that start at every element: few are not wanted, and vectors take them side by side
    room = max(PL + W, dense + DW * (KW - 1)) + 2 * lanes
    best, which = aligned(room, src), np.empty(room, np.int8)
    rows, won = np.empty(dense + lanes, np.int8), np.empty(dense + lanes, np.int8)
    offsets, zero = np.empty(KD * KH, np.int64), src.dtype.type(0)
    apart = SD > DD * (KD - 1) and SH > DH * (KH - 1) and SW > DW * (KW - 1)
    lay(1, 1, weight, 0, 0, best, 0, 0, room - lanes, 0)
    for i in range(room):
        which[i] = MOST_LINES
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        plane, row0, row1, od0, od1, oh0, oh1 = band_of(unit, job)
        at, ahead = plane * D * H * W, row1 * W
        dx, lo = dst[at + row0 * W:at + row1 * W], row0 * W
        for i in range(dx.size):
            dx[i] = 0
        chunk = (row1 - row0) * W // max(1, (od1 - od0) * (oh1 - oh0)) + 1
        for od in range(od0, od1):
            for oh in range(oh0, oh1):
                prefetch(weight, at + ahead, chunk)
                prefetch(dst, at + ahead, chunk)
                ahead += chunk
                count = rows_of(offsets, job, od, oh)
                if count == 0:
                    continue
                down(weight, at, offsets, count, W, best, PL, which, PL)
                across(best, which, KW, DW, rows, won, dense)
                to = ((plane * OD + od) * OH + oh) * OW
                douts = src[to:to + OW]
                for i in range(OW):
                    j = i * SW
                    if rows[j] < MOST_LINES:
                        place = np.uint64(offsets[rows[j]] + j + won[j] * DW - PL - lo)      # unsigned: Numba has nothing to wrap around
                        if place < np.uint64(dx.size):
                            dx[place] = douts[i] + (zero if apart else dx[place])


@jit
def max_backward_columns(first, last, src, weight, dst, bias, residual, job, table):
    """The same for windows of any size. Units: bands of rows (d, h) of each volume of dx."""
    planes, D, H, W, OD, OH, OW, KD, KH, KW, SD, SH, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    bands, _, units, tasks, _ = blocks(job)
    offsets, columns, starts = np.empty(KD * KH, np.int64), np.empty(W, src.dtype), np.empty(W, np.int64)
    best, where = np.empty(OW, src.dtype), np.empty(OW, np.int64)
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        plane, row0, row1, od0, od1, oh0, oh1 = band_of(unit, job)
        at = plane * D * H * W
        dx = dst[at + row0 * W:at + row1 * W]
        dx[:] = 0
        for od in range(od0, od1):
            for oh in range(oh0, oh1):
                row = ((plane * OD + od) * OH + oh) * OW
                argmax_columns(weight, at, offsets, rows_of(offsets, job, od, oh), W, job, best, where, columns, starts, 0, OW, bias[0])
                add_at(dx, row0 * W, src[row:row + OW], where, 0, D * H * W)
