"""The gradient of max pooling without indices, for windows of any size, stride and dilation, in vectors.

Which element of its windows wins is found along one axis after the other: the first maximum of each row of W, of these the first down the rows of
H, then of D. So each element is looked at once for every column, row and depth of a window, not for every element of it. What the windows give then
goes back the same way, along D, H and W, to the one that won there. Nothing is scattered.

x lies in lines of work memory with its padding, and windows start at every element, whatever their stride: those that there are none of give
nothing. So every step is one run over all lines, whatever their length; what runs over the end of a line is padding, or given nothing.
"""
from __future__ import annotations

import numpy as np

from .gemm import aligned
from .jit import jit
from .pool_geometry import blocks, units_of, unpack
from .rows import fill
from .simd import copy_row, prefetch
from .simd_lines import collect, first_of, lay
from .tiles import VECTOR_BYTES


@jit(exact=True)
def max_backward_lines(first, last, src, weight, dst, bias, residual, job, table):
    """src: dout, dst: dx, weight: x. At most MOST_LINES taps along each axis. Units: runs of planes of each volume of dx, of rows where D is 1."""
    planes, D, H, W, OD, OH, OW, KD, KH, KW, SD, SH, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    bands, _, units, tasks, _ = blocks(job)
    lanes = VECTOR_BYTES // src.itemsize
    # a: the axis that is cut into bands, m: the one between it and W.
    if D == 1 and OD == 1 and KD == 1:
        A, M, OA, OM, KA, KM, SA, SM, PA, PM, DA, DM = H, 1, OH, 1, KH, 1, SH, 1, PT, 0, DH, 1
    else:
        A, M, OA, OM, KA, KM, SA, SM, PA, PM, DA, DM = D, H, OD, OH, KD, KH, SD, SH, PD, PT, DD, DH
    reach_a, reach_m, reach_w = DA * (KA - 1), DM * (KM - 1), DW * (KW - 1)
    row = max(PL + W, (OW - 1) * SW + 1 + reach_w)           # a line and the padding on both sides of it
    high = max(PM + M, (OM - 1) * SM + 1 + reach_m)
    size = high * row                        # one of a
    front = reach_m * row + reach_w
    room = front + (-(-A // bands) + 2 * reach_a) * size + front + 2 * lanes        # the last windows of all look as far behind
    keys, given, won = aligned(room, src), aligned(room, src), np.empty(3 * room, np.int8)
    counts, steps = (KW, KM, KA), (DW, DM * row, DA * size)
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        plane, band = unit // bands, unit % bands
        a0, a1 = band * A // bands, (band + 1) * A // bands
        top = a0 + PA - reach_a              # the first window, counted from the first padded element, has number 0 of the lines
        # Lines lo .. hi hold elements, lines begin .. end windows.
        lo, hi = max(0, PA - top), min(a1 - a0 + 2 * reach_a, A + PA - top)
        begin, end = max(0, -top), min(a1 - a0 + reach_a, (OA - 1) * SA + 1 - top)
        x, dout, ahead = plane * A * M * W, plane * OA * OM * OW, (a1 - a0) * M * W
        if begin >= end or lo >= hi:
            fill(dst[x + a0 * M * W:x + a1 * M * W], 0)
            continue
        for a in range(a1 - a0 + 2 * reach_a):
            for m in range(high):
                real = lo <= a < hi and PM <= m < PM + M
                lay(1, 1, weight, x + ((top + a - PA) * M + m - PM) * W, W if real else 0, keys, front + a * size + m * row, PL, row, ahead)
        for axis in range(3):                # one place in the code, whatever the axis: half as long to compile
            if counts[axis] > 1:
                n, at = ((end - begin) * size, front + begin * size) if axis == 2 else ((hi - lo) * size, front + lo * size)
                first_of(keys, at, counts[axis], steps[axis], keys, at, won, axis * room + at, n)
        ahead = (a1 - a0) // SA * OM * OW
        oa, next_a = (top + begin + SA - 1) // SA, (top + begin + SA - 1) // SA * SA - top
        for a in range(a1 - a0 + reach_a):
            om, next_m = 0, 0
            for m in range(high):
                at, to, real = dout + (oa * OM + om) * OW, front + a * size + m * row, a == next_a and a < end and m == next_m and om < OM
                n = OW if real else 0
                if SW == 1:
                    lay(1, 0, src, at, n, given, to, 0, row, ahead)
                elif SW == 2:
                    lay(2, 0, src, at, n, given, to, 0, row, ahead)
                else:
                    lay(1, 0, src, at, 0, given, to, 0, row, 0)
                    line, values = given[to:], src[at:at + n]
                    for i in range(n):
                        line[i * SW] = values[i]
                if m == next_m:
                    om += 1
                    next_m += SM
            if a == next_a:
                oa += 1
                next_a += SA
        fill(given[:front], 0)
        band_at = at = front + reach_a * size                # of the band's first line in won, and in given, where it moves to the front
        for axis in range(2, -1, -1):
            if counts[axis] > 1:
                to = at - (counts[axis] - 1) * steps[axis]
                collect(won, axis * room + band_at, given, at, counts[axis], steps[axis], given, to, (a1 - a0) * size)
                at = to
        for a in range(a1 - a0):
            for m in range(M):
                to = x + ((a0 + a) * M + m) * W
                prefetch(dst, to + (a1 - a0) * M * W, W)
                copy_row(1, given, a * size + (PM + m) * row + PL, dst, to, W)
