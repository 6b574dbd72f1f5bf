"""Pooling of planes as one long line (simd_flat.py), of windows of 2, 3 or 5 rows and as many columns, whose middles all lie in the plane.

No vector ends with a row, so that narrow planes fill them too. Units: runs of rows, counted through all planes; where not every element has a
window, of whole planes, as many as table says the wanted ones of, vector by vector. job: as in `pool_geometry`, row_blocks being the rows of a unit.
"""
from __future__ import annotations

import numpy as np

from .gemm import aligned
from .jit import jit
from .pool_geometry import blocks, rows_of, units_of, unpack
from .pool_max import max_rows
from .pool_max_gradient import by_taps
from .rows import fill
from .simd_flat import flat_first, flat_windows
from .simd_lines import collect, lay
from .simd_pool import MAX, MEAN
from .tiles import VECTOR_BYTES


@jit
def run_of(unit, job):
    """A unit: the planes or, where these are in bands, the band of rows; the first row of x and the end, and the same of y."""
    planes, H, OH, bands, group = job[0], job[2], job[5], job[19], job[20]
    if bands > 1:
        plane, band = unit // bands * H, unit % bands
        return plane + band * H // bands, plane + (band + 1) * H // bands, plane + band * H // bands, plane + (band + 1) * H // bands
    plane, end = unit * group, min(planes, (unit + 1) * group)
    return plane * H, end * H, plane * OH, end * OH


@jit(exact=True)
def maximum_flat(first, last, src, weight, dst, bias, residual, job, table):
    """src: x, dst: y, bias: -inf. float32 and float64, without indices."""
    planes, D, H, W, OD, OH, OW, KD, K, KW, SD, SH, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    _, _, units, tasks, _ = blocks(job)
    offsets, strided = np.empty(K, np.int64), table.size > 0
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        row0, row1, y0, y1 = run_of(unit, job)
        at, n, q, to, room = row0 * W, (row1 - row0) * W, row0 % H * W, y0 * OW, (y1 - y0) * OW
        if K == 2:
            nan = flat_windows(MAX, 2, 1, src, at, n, H * W, W, q, dst, to, room, table, src, 0)
        elif K == 3 and strided:
            nan = flat_windows(MAX, 3, 1, src, at, n, H * W, W, q, dst, to, room, table, src, 0)
        elif K == 3:
            nan = flat_windows(MAX, 3, 0, src, at, n, H * W, W, q, dst, to, room, table, src, 0)
        else:
            nan = flat_windows(MAX, 5, 0, src, at, n, H * W, W, q, dst, to, room, table, src, 0)
        if nan:
            for row in range(y0, y1):
                max_rows(src, row // OH * H * W, offsets, rows_of(offsets, job, 0, row % OH), W, job, dst, row * OW, 0, OW, bias[0])


@jit
def average_flat(first, last, src, weight, dst, bias, residual, job, table):
    """src: x, dst: y, weight: how many elements each window counts, as `flat_windows` wants them; one vector of them: all the same."""
    planes, D, H, W, OD, OH, OW, KD, K, KW, SD, SH, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    _, _, units, tasks, _ = blocks(job)
    strided, each = table.size > 0, int(weight.size * weight.itemsize > VECTOR_BYTES)
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        row0, row1, y0, y1 = run_of(unit, job)
        at, n, q, to, room = row0 * W, (row1 - row0) * W, row0 % H * W, y0 * OW, (y1 - y0) * OW
        if K == 2:
            flat_windows(MEAN, 2, 1, src, at, n, H * W, W, q, dst, to, room, table, weight, each)
        elif K == 3 and strided:
            flat_windows(MEAN, 3, 1, src, at, n, H * W, W, q, dst, to, room, table, weight, each)
        elif K == 3:
            flat_windows(MEAN, 3, 0, src, at, n, H * W, W, q, dst, to, room, table, weight, each)
        else:
            flat_windows(MEAN, 5, 0, src, at, n, H * W, W, q, dst, to, room, table, weight, each)


@jit(exact=True)
def by_taps_of(src, weight, dst, row0, row1, offsets, best, where, job, lowest):
    """Rows row0 .. row1 - 1 of dx, counted through all planes, whatever the elements are."""
    H, OH, K, SH, PT = job[2], job[5], job[8], job[11], job[14]
    for plane in range(row0 // H, (row1 - 1) // H + 1):
        top, end = max(0, row0 - plane * H), min(H, row1 - plane * H)
        oh0, oh1 = max(0, (top + PT - K) // SH + 1), min(OH - 1, (end - 1 + PT) // SH)
        by_taps(src, weight, dst, plane, top, end, oh0, oh1, offsets, best, where, job, lowest)


@jit(exact=True)
def max_backward_flat(first, last, src, weight, dst, bias, residual, job, table):
    """src: dout, dst: dx, weight: x, bias: -inf. Windows of 3 or 5 rows and columns at every element. Units: as of the maximum.

    Which element wins is found along W and then along H, and what the windows give goes back along H and W, as in `pool_lines`, but without padding.
    """
    planes, D, H, W, OD, OH, OW, KD, K, KW, SD, SH, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    bands, group, units, tasks, _ = blocks(job)
    lanes, up, down = VECTOR_BYTES // src.itemsize, (K - 1) // 2, K // 2
    front = (K * W // lanes + 2) * lanes
    room = 2 * front + (group * H if bands == 1 else -(-H // bands) + 2 * (K - 1)) * W + 4 * lanes
    line, given, columns, rows = aligned(room, src), aligned(room, src), np.empty(room, np.int8), np.empty(room, np.int8)
    offsets, best, where, rest = np.empty(K, np.int64), np.empty(OW, src.dtype), np.empty(OW, np.int64), np.empty(lanes, src.dtype)
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        row0, row1, _, _ = run_of(unit, job)
        top, end = row0 // H * H, -(-row1 // H) * H
        g0, g1 = max(top, row0 - down), min(end, row1 + up)              # rows of windows that touch these
        h0, h1 = max(top, g0 - up), min(end, g1 + down)                  # and rows that they hold
        n, windows, at, to = (row1 - row0) * W, (g1 - g0) * W, front + (g0 - h0) * W, front + (row0 - h0) * W
        if K == 3:
            low = flat_first(3, 1, weight, h0 * W, 1, W, 0, (h1 - h0) * W, line, front, columns, front, dst, row0 * W)
            flat_first(3, 0, line, at, W, H * W, g0 % H * W, windows, line, at, rows, at, dst, 0)
        else:
            low = flat_first(5, 1, weight, h0 * W, 1, W, 0, (h1 - h0) * W, line, front, columns, front, dst, row0 * W)
            flat_first(5, 0, line, at, W, H * W, g0 % H * W, windows, line, at, rows, at, dst, 0)
        if low:
            by_taps_of(src, weight, dst, row0, row1, offsets, best, where, job, bias[0])
            continue
        lay(1, 0, src, g0 * W, windows, given, at, 0, windows, n)
        fill(given[at - down * W:at], 0)     # what else is looked at: rows beyond the planes
        fill(given[at + windows:at + windows + up * W + lanes], 0)
        whole = n // lanes * lanes
        for part in range(3):                # one place in the code for `collect`: it takes long to compile
            if part == 0:                    # along H
                winners, values, place, step, target, target_at, many = rows, given, to + up * W, W, line, to, n
            elif part == 1:                  # along W, but for a last part of a vector
                winners, values, place, step, target, target_at, many = columns, line, to + up, 1, dst, row0 * W, whole
            else:
                winners, values, place, step, target, target_at, many = columns, line, to + whole + up, 1, rest, 0, n - whole
            collect(winners, place, values, place, K, step, target, target_at, many)
            if part == 0:
                fill(line[to - lanes:to], 0)
                fill(line[to + n:to + n + lanes], 0)
        for i in range(n - whole):
            dst[row0 * W + whole + i] = rest[i]
