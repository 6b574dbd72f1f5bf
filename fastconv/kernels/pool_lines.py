"""The gradient of max pooling without indices, for windows of any size, stride and dilation: line by line, in vectors.

The first maximum of each window along a row of x is found first, then the first of these over the rows (kd, kh) of the window: so each
element is looked at once for every column and every row of a window, not for every element of it. Then each row of dx collects what the windows
give to it, and of that each column what it won. Nothing is scattered.
"""
from __future__ import annotations

import numpy as np

from .gemm import aligned
from .jit import jit
from .pool_geometry import band_of, blocks, units_of, unpack
from .rows import copy_strided
from .simd import copy_row
from .simd_lines import collect, first_of, order, pad
from .tiles import VECTOR_BYTES


@jit
def windows_of(part, outputs, K, S, D):
    """Most windows that touch `part` elements of an axis, and most elements that they reach over."""
    reach = D * (K - 1)
    windows = min(outputs, (part + reach) // S + 1)
    return windows, max(0, windows - 1) * S + reach + 1


@jit
def holders(K, S, P, D, step):
    """The taps of `collect` for the elements w, w + S, ... of an axis, w < S: the windows that hold them, in order, are steps of this length from
    window 0, 1, ... on."""
    taps = np.empty((S, K + 1, 3), np.int64)
    for w in range(S):
        count = 0
        for k in range(K - 1, -1, -1):
            if (w + P - k * D) % S == 0:
                count += 1
                taps[w, count, 0] = taps[w, count, 2] = (w + P - k * D) // S * step
                taps[w, count, 1] = k
        taps[w, 0, 0] = count
    return taps


@jit
def fill(array, value):
    """Element by element: to compile the assignment of a slice takes seconds."""
    for i in range(array.size):
        array[i] = value


@jit
def collect_far(won, won_at, values, at, taps, phase, dst, n):
    """dst[w] as of `collect` for w < n and strides of 3 and more. phase: to work in."""
    stride = taps.shape[0]
    for q in range(min(stride, n)):
        width = (n - q + stride - 1) // stride
        collect(1, won, won_at, values, at, taps, q, phase, 0, width)
        for m in range(width):
            dst[m * stride + q] = phase[m]


@jit
def tap_of(distance, dilation):
    """The tap so far into a window, or -1."""
    return distance // dilation if distance % dilation == 0 else -1


@jit(exact=True)
def max_backward_lines(first, last, src, weight, dst, bias, residual, job, table):
    """src: dout, dst: dx, weight: x. At most MOST_LINES columns of a window, and rows. Units: bands of rows (d, h) of each volume of dx."""
    planes, D, H, W, OD, OH, OW, KD, KH, KW, SD, SH, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    bands, _, units, tasks, _ = blocks(job)
    lanes, band = VECTOR_BYTES // src.itemsize, -(-D * H // bands)
    flat = D == 1 and OD == 1 and KD == 1
    pitch = -(-OW // lanes) * lanes
    length = pitch + (KW - 1) * DW // SW + 1                 # of the columns 0, SW, ... of a padded row, and of 1, SW + 1, ...
    padded, parts = aligned(max(length * SW, PL + W) + SW, src), aligned(length * SW if SW > 1 else 0, src)
    lines = parts if SW > 1 else padded      # here: to choose between arrays costs more than a line of them
    pad(padded, 0, padded.size)
    most_d, deep = windows_of(min(D, band // H + 2), OD, KD, SD, DD)
    most_h, most_high = windows_of(band if flat else H, OH, KH, SH, DH)
    spare = (KH - 1) * DH // SH + 1          # rows of windows before the first one and behind the last that rows of one plane ask for
    before = -(-((KW - 1) * DW // SW + 1) // lanes) * lanes                  # and such windows of a row
    behind = before + max(0, (W + PL) // SW + 1 - OW) + 2 * lanes
    best, top, columns = aligned(deep * most_high * pitch, src), aligned(pitch, src), np.empty(before + deep * most_high * pitch + behind, np.int8)
    rows = np.empty((most_d * most_h + 2 * spare) * pitch, np.int8)
    douts, given = aligned(rows.size, src), aligned(before + pitch + behind, src)
    fill(douts, 0)                           # there is nothing behind the last window
    fill(given, 0)
    line, phase = aligned(W + 2 * SW * lanes, src), aligned(W // SW + 1 + lanes, src)
    along, down = np.empty(KW, np.int64), np.empty(KD * KH, np.int64)
    for k in range(KW):
        along[k] = k * DW % SW * length + k * DW // SW
    column_taps, row_taps = holders(KW, SW, PL, DW, 1), holders(KH if flat else KD * KH, SH, 0, DH, pitch)
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        plane, row0, row1, od0, od1, oh0, oh1 = band_of(unit, job)
        x, many, done, looked = plane * D * H * W, oh1 - oh0, row0, 0
        if od0 >= od1 or oh0 >= oh1:
            fill(dst[x + row0 * W:x + row1 * W], 0)
            continue
        fill(rows, -1)
        top_d, top_h, high = od0 * SD - PD, oh0 * SH - PT, (many - 1) * SH + (KH - 1) * DH + 1
        for t in range(KD * KH):
            down[t] = (t // KH * DD * high + t % KH * DH) * pitch
        for window in range((od1 - od0) * many):
            o = 0 if flat else window // many
            od, oh = od0 + o, oh0 + window - o * many
            corner, slot = (o * SD * high + (oh - oh0) * SH) * pitch, (spare + window) * pitch
            needed = (o * SD + (KD - 1) * DD) * high + (oh - oh0) * SH + (KH - 1) * DH + 1
            for r in range(looked, needed):
                d = 0 if flat else r // high
                h = top_h + r - d * high
                d += top_d
                if 0 <= d < D and 0 <= h < H:
                    order(weight, x + (d * H + h) * W, padded, PL, W)
                    if SW == 2:
                        for q in range(2):
                            copy_row(2, padded, q, parts, q * length, length)
                    elif SW > 2:
                        for q in range(SW):
                            copy_strided(padded, q, SW, parts, q * length, length)
                    first_of(lines, 0, along, KW, best, r * pitch, columns, before + r * pitch, OW)
                else:
                    pad(best, r * pitch, pitch)
            looked = max(looked, needed)
            first_of(best, corner, down, KD * KH, top, 0, rows, slot, OW)
            copy_row(1, src, ((plane * OD + od) * OH + oh) * OW, douts, slot, OW)
            end = row1 if window == (od1 - od0) * many - 1 else min(row1, (oh + 1) * SH - PT) if flat else done
            for row in range(done, end):     # to which no later window gives
                d = 0 if flat else row // H
                h = row - d * H
                if flat:
                    q = (h + PT) // SH
                    which, at = h + PT - q * SH, (spare + q - oh0) * pitch
                else:
                    which, at, count = 0, 0, 0
                    for wd in range(max(od0, -(((KD - 1) * DD - PD - d) // SD)), min(od1, (d + PD) // SD + 1)):
                        kd = tap_of(d + PD - wd * SD, DD)
                        for wh in range(max(oh0, -(((KH - 1) * DH - PT - h) // SH)), min(oh1, (h + PT) // SH + 1)):
                            kh = tap_of(h + PT - wh * SH, DH)
                            if kd >= 0 and kh >= 0:
                                count += 1
                                row_taps[0, count, 0] = row_taps[0, count, 2] = (spare + (wd - od0) * many + wh - oh0) * pitch
                                row_taps[0, count, 1] = kd * KH + kh
                    row_taps[0, 0, 0] = count
                collect(1, rows, at, douts, at, row_taps, which, given, before, OW)
                at = before + max(0, min((d - top_d) * high + h - top_h, looked - 1)) * pitch
                if SW == 1:
                    collect(1, columns, at, given, before, column_taps, 0, line, 0, W)
                elif SW == 2:
                    collect(2, columns, at, given, before, column_taps, 0, line, 0, (W + 1) // 2)
                else:
                    collect_far(columns, at, given, before, column_taps, phase, line, W)
                copy_row(1, line, 0, dst, x + row * W, W)
            done = max(done, end)
