"""Pooling of planes as one long line (simd_flat.py), of windows of 2, 3 or 5 rows and as many columns, whose middles all lie in the plane.

No vector ends with a row, so that narrow planes fill them too. Units: runs of rows, counted through all planes; where not every element has a
window, of whole planes, as many as table says the wanted ones of, vector by vector. job: as in `pool_geometry`, row_blocks being the rows of a unit.
"""
from __future__ import annotations

import numpy as np

from .jit import jit
from .pool_geometry import blocks, rows_of, units_of, unpack
from .pool_max import max_rows
from .simd_flat import flat_windows
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
