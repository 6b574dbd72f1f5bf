"""Max pooling. Windows are clipped to the image: padding is never the maximum. NaN wins, and of equal elements the first in row-major order.

src: x (planes, D, H, W), dst: y (planes, OD, OH, OW), bias: one element that is below all others. Kernels have the signature of `tasks`.
"""
from __future__ import annotations

import numpy as np

from .geometry import inside
from .jit import jit
from .past import lines_past
from .pool_geometry import (
    BUFFER,
    FIVE_1,
    ONE_1,
    PART,
    THREE_1,
    THREE_2,
    TWO_1,
    TWO_2,
    band_of,
    block_of,
    blocks,
    first_tap,
    rows_of,
    units_of,
    unpack,
)
from .simd import AHEAD_BYTES, one_of, prefetch, settle
from .simd_pool import MAX, any_nan, index_row, pairs_gradient, pool_row
from .tiles import VECTOR_BYTES

ZEROED = 4096                                # elements of dx that are set to zero at a time
FOUND = (TWO_2, THREE_2, THREE_1, FIVE_1)    # those that `find` has vectors for


# ---------------------------------------------------------------- exact, for every dtype: tap by tap
@jit(exact=True)
def larger(value, best):
    """Does `value` replace `best`? NaN wins over every number and stays; of equal values the first stays."""
    return (value > best) | ((value != value) & (best == best))      # no branches: LLVM makes vectors of it


@jit(exact=True)
def max_strided(x, at, step, y, to, n):
    """y[to + i] = x[at + i * step] where that is larger, for i < n."""
    s, t = x[at:], y[to:to + n]
    if step == 1:
        for i in range(n):
            t[i] = s[i] if larger(s[i], t[i]) else t[i]
    elif step == 2:
        for i in range(n):
            t[i] = s[2 * i] if larger(s[2 * i], t[i]) else t[i]
    else:
        for i in range(n):
            t[i] = s[i * step] if larger(s[i * step], t[i]) else t[i]


@jit(exact=True)
def max_along(src, at, lo, hi, job, dst, to, ow0, ow1, lowest):
    """dst[to + ow - ow0] for ow0 <= ow < ow1, from columns lo .. hi - 1 of one row: column c is src[at + c - lo]."""
    SW, KW, PL, DW = job[12], job[9], job[15], job[18]
    for kw in range(KW):
        offset = kw * DW - PL + ow0 * SW - lo
        first, last = inside(offset, SW, hi - lo, ow1 - ow0)
        max_strided(src, at + first * SW + offset, SW, dst, to + first, last - first)


@jit(exact=True)
def max_rows(src, at, offsets, rows, W, job, dst, to, ow0, ow1, lowest):
    """A row of the result from its list of rows, tap by tap."""
    dst[to:to + ow1 - ow0] = lowest
    for r in range(rows):
        max_along(src, at + offsets[r], 0, W, job, dst, to, ow0, ow1, lowest)


@jit(exact=True)
def argmax_rows(src, at, offsets, rows, W, job, best, to, where, where_to, ow0, ow1, lowest):
    """The same, and where[ow]: the place of the maximum in its volume; -1 where a window misses the image."""
    SW, KW, PL, DW = job[12], job[9], job[15], job[18]
    n = ow1 - ow0
    y, places = best[to:to + n], where[where_to:where_to + n]
    for i in range(n):                       # the window's first element inside the image: it stays where nothing is larger
        w = (ow0 + i) * SW - PL
        w += first_tap(w, DW) * DW
        missed = rows == 0 or w >= W
        places[i] = -1 if missed else offsets[0] + w
        y[i] = lowest if missed else src[at + offsets[0] + w]
    for r in range(rows):
        for kw in range(KW):
            offset = kw * DW - PL + ow0 * SW
            first, last = inside(offset, SW, W, n)
            row, place = src[at + offsets[r] + offset + first * SW:], offsets[r] + offset
            for i in range(first, last):
                v, m = row[(i - first) * SW], y[i]
                take = larger(v, m)
                y[i] = v if take else m
                places[i] = place + i * SW if take else places[i]


@jit(exact=True)
def maximum_exact(first, last, src, weight, dst, bias, residual, job, table):
    """Any dtype. table: the indices, or empty."""
    planes, D, H, W, OD, OH, OW, KD, KH, KW, SD, SH, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    row_blocks, column_blocks, units, tasks, _ = blocks(job)
    offsets = np.empty(KD * KH, np.int64)
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        plane, od, y_at, oh0, oh1, ow0, ow1 = block_of(unit, job)
        for oh in range(oh0, oh1):
            rows, to = rows_of(offsets, job, od, oh), y_at + oh * OW + ow0
            if table.size:
                argmax_rows(src, plane, offsets, rows, W, job, dst, to, table, to, ow0, ow1, bias[0])
            else:
                max_rows(src, plane, offsets, rows, W, job, dst, to, ow0, ow1, bias[0])


# ---------------------------------------------------------------- floats without indices: vectors, and again tap by tap where there is a NaN
@jit(exact=True)
def maximum(first, last, src, weight, dst, bias, residual, job, table):
    """float32 and float64, without indices."""
    planes, D, H, W, OD, OH, OW, KD, KH, KW, SD, SH, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    row_blocks, column_blocks, units, tasks, variant = blocks(job)
    offsets, lowest = np.empty(KD * KH, np.int64), bias[0]
    buffer = np.empty((-(-OW // column_blocks) - 1) * SW + (KW - 1) * DW + 1 if variant == BUFFER else 0, src.dtype)
    square = KD == 1 and KH == KW and SH == SW and DH == 1 and variant != BUFFER
    inner0, inner1 = (-(-PT // SH), (H + PT - KH) // SH + 1) if square else (0, 0)     # rows whose windows lie inside the plane
    ahead, fetched = AHEAD_BYTES // src.itemsize, min(D, SD) * min(H, SH) * W         # of one row of windows, whatever the stride
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        plane, od, y_at, oh0, oh1, ow0, ow1 = block_of(unit, job)
        col, n = ow0 * SW - PL, ow1 - ow0
        lo, hi = max(0, min(W, col)), min(W, max(0, col + (n - 1) * SW + (KW - 1) * DW + 1))
        tested, bad = 0, -1                  # rows of the plane above `tested` were looked at for NaN, and there is none below row `bad`
        for oh in range(oh0, oh1):
            h0, to, inner = oh * SH - PT, y_at + oh * OW + ow0, inner0 <= oh < inner1
            at, rows = plane, 0
            prefetch(src, plane + (od * H + h0) * SD * W + lo + ahead, fetched if column_blocks == 1 else hi - lo)
            if inner:
                at += (od * SD * H + h0) * W
                fresh, tested = max(tested, h0), h0 + KH
                read = tested - SH           # of the last rows pool_row finds out itself
                if fresh < read and any_nan(src, at + (fresh - h0) * W + lo, (read - 1 - fresh) * W + hi - lo):
                    bad = read - 1
            else:
                rows = rows_of(offsets, job, od, oh)
            if variant == TWO_2:
                nan = pool_row(MAX, 2, 2, inner, src, at, offsets, rows, W, col, dst, to, n, lowest, dst, 0)
            elif variant == THREE_2:
                nan = pool_row(MAX, 2, 3, inner, src, at, offsets, rows, W, col, dst, to, n, lowest, dst, 0)
            elif variant == THREE_1:
                nan = pool_row(MAX, 1, 3, inner, src, at, offsets, rows, W, col, dst, to, n, lowest, dst, 0)
            elif variant == TWO_1:
                nan = pool_row(MAX, 1, 2, inner, src, at, offsets, rows, W, col, dst, to, n, lowest, dst, 0)
            elif variant == FIVE_1:
                nan = pool_row(MAX, 1, 5, inner, src, at, offsets, rows, W, col, dst, to, n, lowest, dst, 0)
            elif variant == ONE_1:
                nan = pool_row(MAX, 1, 1, inner, src, at, offsets, rows, W, col, dst, to, n, lowest, dst, 0)
            else:
                nan = pool_row(MAX, 1, 1, False, src, at + lo, offsets, rows, hi - lo, 0, buffer, 0, hi - lo, lowest, dst, 0)
                dst[to:to + n] = lowest
                max_along(buffer, 0, lo, hi, job, dst, to, ow0, ow1, lowest)
            if inner and nan:
                bad = tested - 1
            if nan or (inner and bad >= h0):
                max_rows(src, plane, offsets, rows_of(offsets, job, od, oh), W, job, dst, to, ow0, ow1, lowest)


# ---------------------------------------------------------------- floats with their places
@jit(exact=True)
def find(variant, src, at, offsets, rows, W, job, best, where, ow0, ow1, lowest):
    """best[i], where[i]: the maximum of window ow0 + i and its place in the volume, for a row of the result with these rows."""
    n, col = ow1 - ow0, ow0 * job[12] - job[15]
    if variant == TWO_2:
        nan = index_row(2, 2, src, at, offsets, rows, W, col, best, where, n)
    elif variant == THREE_2:
        nan = index_row(2, 3, src, at, offsets, rows, W, col, best, where, n)
    elif variant == THREE_1:
        nan = index_row(1, 3, src, at, offsets, rows, W, col, best, where, n)
    elif variant == FIVE_1:
        nan = index_row(1, 5, src, at, offsets, rows, W, col, best, where, n)
    else:
        nan = True
    if nan:
        argmax_rows(src, at, offsets, rows, W, job, best, 0, where, 0, ow0, ow1, lowest)


@jit(exact=True)
def maximum_indices(first, last, src, weight, dst, bias, residual, job, table):
    """float32 and float64. table: the indices."""
    planes, D, H, W, OD, OH, OW, KD, KH, KW, SD, SH, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    row_blocks, column_blocks, units, tasks, variant = blocks(job)
    room = -(-OW // column_blocks) + VECTOR_BYTES
    offsets, best, where = np.empty(KD * KH, np.int64), np.empty(room, src.dtype), np.empty(room, np.int64)
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        at, od, y_at, oh0, oh1, ow0, ow1 = block_of(unit, job)
        for oh in range(oh0, oh1):
            to, n = y_at + oh * OW + ow0, ow1 - ow0
            find(variant, src, at, offsets, rows_of(offsets, job, od, oh), W, job, best, where, ow0, ow1, bias[0])
            values, places = dst[to:to + n], table[to:to + n]
            for i in range(n):               # element by element: to compile the assignment of a slice takes seconds
                values[i] = best[i]
                places[i] = where[i]


# ---------------------------------------------------------------- the gradient
@jit(exact=True)
def max_backward_pairs(first, last, src, weight, dst, bias, residual, job, table):
    """src: dout, dst: dx, weight: x. Windows of 2 x 2 side by side, all inside the image. Units: bands of rows of each plane of y."""
    H, W, OH, OW = job[2], job[3], job[5], job[6]
    bands, _, units, tasks, past = blocks(job)
    offsets, best, where, ahead = np.empty(2, np.int64), np.empty(OW, src.dtype), np.empty(OW, np.int64), AHEAD_BYTES // src.itemsize
    many = max(1, PART // (2 * W * src.itemsize))            # rows of windows in a part, which is stored past the caches
    part = np.empty(many * 2 * W if past else 0, src.dtype)
    target = one_of(past, part, dst)
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        plane, band = unit // bands, unit % bands
        end = (band + 1) * OH // bands
        for begin in range(band * OH // bands, end, many):
            n, lead = min(many, end - begin), (plane * H + 2 * begin) * W
            for oh in range(begin, begin + n):
                at, row = (plane * H + 2 * oh) * W, (plane * OH + oh) * OW
                to = at - lead if past else at
                if past:
                    prefetch(weight, at + ahead, 2 * W)
                    prefetch(src, row + ahead, OW)
                else:
                    prefetch(dst, at + ahead, 2 * W)
                if any_nan(weight, at, 2 * W):
                    offsets[0], offsets[1] = 2 * oh * W, 2 * oh * W + W
                    argmax_rows(weight, plane * H * W, offsets, 2, W, job, best, 0, where, 0, 0, OW, bias[0])
                    target[to:to + 2 * W] = 0
                    for ow in range(OW):
                        target[to + where[ow] - 2 * oh * W] += src[row + ow]
                else:
                    pairs_gradient(weight, at, W, src, row, target, to, W, OW)
                    for k in range(2 * OW, W):               # a column that no window holds
                        target[to + k] = 0
                        target[to + W + k] = 0
            if past:
                lines_past(part, 0, dst, lead, 2 * n * W)
        if band == bands - 1:                # a row that no window holds
            dst[(plane * H + 2 * OH) * W:(plane + 1) * H * W] = 0
    settle(past)


@jit
def add_at(dx, lo, dout, places, begin, end):
    """dx[places[i] - lo] += dout[i] for those inside of dx; whether one of the others lies outside of begin .. end - 1 and is not -1."""
    length, wrong = np.uint64(len(dx)), False
    for i in range(len(dout)):
        place = np.uint64(places[i] - lo)    # unsigned: Numba has nothing to wrap around
        if place < length:
            dx[place] += dout[i]
        elif (places[i] < begin or places[i] >= end) and places[i] != -1:
            wrong = True
    return wrong


@jit
def max_backward(first, last, src, weight, dst, bias, residual, job, table):
    """src: dout, dst: dx, weight: x; table: the forward's indices, or empty: then the maxima are found again.

    residual: one element, set where an index lies so far from its window that the windows of other bands only would find it, and is not -1.
    Units: bands of rows (d, h) of each volume of dx.
    """
    planes, D, H, W, OD, OH, OW, KD, KH, KW, SD, SH, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    bands, _, units, tasks, variant = blocks(job)
    known = table.size > 0
    room = 0 if known else OW + VECTOR_BYTES
    offsets, best, where = np.empty(KD * KH, np.int64), np.empty(room, src.dtype), np.empty(room, np.int64)
    start, stop = units_of(first, last, units, tasks)
    for unit in range(start, stop):
        plane, row0, row1, od0, od1, oh0, oh1 = band_of(unit, job)
        at = plane * D * H * W
        lo = row0 * W
        dx = dst[at + lo:at + row1 * W]
        dx[:] = 0
        for od in range(od0, od1):
            for oh in range(oh0, oh1):
                row, height = ((plane * OD + od) * OH + oh) * OW, W if D == 1 else H * W
                begin = oh * SH - PT if D == 1 else od * SD - PD
                end = begin + ((KH - 1) * DH if D == 1 else (KD - 1) * DD) + 1
                if not known:
                    find(variant, weight, at, offsets, rows_of(offsets, job, od, oh), W, job, best, where, 0, OW, bias[0])
                begin, end = max(0, begin) * height, min(end * height, D * H * W)
                if add_at(dx, lo, src[row:row + OW], table[row:row + OW] if known else where[:OW], begin, end):
                    residual[0] = 1


@jit
def add_inside(dx, dout, places):
    """dx[places[i]] += dout[i] for those inside of dx; how many are not. As little as can be done for each: they are not waited for."""
    missed = 0
    for i in range(len(dout)):
        place = np.uint64(places[i])         # unsigned: Numba has nothing to wrap around
        if place < np.uint64(len(dx)):
            dx[place] += dout[i]
        else:
            missed += 1
    return missed


@jit
def add_volumes(start, stop, size, outputs, dout, table, dst, least):
    """The gradient of volumes start .. stop - 1 of `size` elements from known indices. One of them that is below `least` or no place, or 0."""
    group, wrong = max(1, ZEROED // max(1, size)), 0
    for plane0 in range(start, stop, group):
        plane1 = min(plane0 + group, stop)
        dst[plane0 * size:plane1 * size] = 0
        for plane in range(plane0, plane1):
            places = table[plane * outputs:(plane + 1) * outputs]
            if add_inside(dst[plane * size:(plane + 1) * size], dout[plane * outputs:(plane + 1) * outputs], places):
                for i in range(len(places)):
                    if places[i] < least or places[i] >= size:
                        wrong = places[i]
    return wrong


@jit
def max_backward_whole(first, last, src, weight, dst, bias, residual, job, table):
    """The same of known indices where a band is a whole volume: no row is looked at, whatever its length."""
    _, _, units, tasks, _ = blocks(job)
    start, stop = units_of(first, last, units, tasks)
    if add_volumes(start, stop, job[1] * job[2] * job[3], job[4] * job[5] * job[6], src, table, dst, -1) != 0:
        residual[0] = 1
