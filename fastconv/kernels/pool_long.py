"""Average pooling of windows so large that sums in their own dtype would lose digits: summed in float64, the columns of a window first.

A window costs as many steps as it has rows and columns, and not as many as it has elements. Arguments as in `pool_average`.
"""
from __future__ import annotations

import numpy as np

from .geometry import inside
from .jit import jit
from .pool_geometry import block_of, blocks, rows_of, units_of, unpack
from .rows import add_strided, sum_strided


@jit
def average_long(first, last, src, weight, dst, bias, residual, job, table):
    """y: every window's sum over the number of its elements. table[0]: the columns whose sums may be kept; where a block of windows holds
    more, each window is summed row by row."""
    planes, D, H, W, OD, OH, OW, KD, KH, KW, SD, SH, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    row_blocks, column_blocks, units, tasks, _ = blocks(job)
    room = min(W, (-(-OW // column_blocks) - 1) * SW + (KW - 1) * DW + 1)
    kept = room <= table[0]
    offsets, columns, totals = np.empty(KD * KH, np.int64), np.empty(room if kept else 0), np.empty(-(-OW // column_blocks))
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        at, od, y_at, oh0, oh1, ow0, ow1 = block_of(unit, job)
        n, lo = ow1 - ow0, max(0, ow0 * SW - PL)
        w = min(W, (ow1 - 1) * SW - PL + (KW - 1) * DW + 1) - lo
        for oh in range(oh0, oh1):
            rows, to, count = rows_of(offsets, job, od, oh), y_at + oh * OW, weight[od] * weight[OD + oh]
            if kept:
                columns[:] = 0
                for r in range(rows):
                    add_strided(src, at + offsets[r] + lo, 1, columns, 0, w)
            totals[:] = 0
            if kept and n > KW:              # tap by tap, all windows at once
                for kw in range(KW):
                    offset = kw * DW - PL + ow0 * SW
                    begin, end = inside(offset, SW, W, n)
                    add_strided(columns, offset + begin * SW - lo, SW, totals, begin, end - begin)
            else:
                for i in range(n):
                    offset = (ow0 + i) * SW - PL
                    begin, end = inside(offset, DW, W, KW)               # the taps inside the image
                    offset += begin * DW
                    if kept:
                        totals[i] = sum_strided(columns, offset - lo, DW, end - begin)
                    else:
                        for r in range(rows):
                            totals[i] += sum_strided(src, at + offsets[r] + offset, DW, end - begin)
            y, counts = dst[to + ow0:to + ow1], weight[OD + OH + ow0:OD + OH + ow1]
            for i in range(n):
                y[i] = totals[i] / (np.float64(count) * counts[i])
