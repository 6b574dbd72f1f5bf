"""Adaptive pooling over (planes, D, H, W): windows of uneven sizes that touch or overlap, window o of S elements and O windows from o * S // O on.

Kernels of the shared signature (kernels/tasks.py). job: the sizes that `unpack` names, then where the windows of each axis begin and end. A
task does `count` units, each a run of outputs of one row (forward) or a block of one plane of dx (backward).

Narrow windows: the rows of a window are combined over the whole width first, in vectors, then its columns. Wide ones row by row. The
maximum is the first in row-major order, and the first NaN if there is one.
"""
from __future__ import annotations

import numpy as np

from .gemm import aligned
from .jit import jit
from .pool_max import add_volumes
from .rows import copy_strided, fill
from .simd import AHEAD_BYTES, prefetch
from .simd_lines import MOST_LINES, across, down, lay
from .softmax import sum_of
from .tiles import VECTOR_BYTES

HEAD = 12                                    # sizes before the windows in job
NARROW = 32                                  # columns of a window up to which its rows are combined first
DEEP = 256                                   # rows added in one chain
FLAT = 4                                     # columns of a window for each of its rows, up to which they are compared at every column of a row
LANES, FEW = 64, 16                          # chains of the maximum of a wide window, and of a short one


@jit
def unpack(job):
    """units, count, D, H, W, OD, OH, OW, size, blocks: of forwards, outputs of a unit and units of a row; of backwards see there.

    job[10] of forwards: the columns of the widest window.
    """
    return job[0], job[1], job[2], job[3], job[4], job[5], job[6], job[7], job[8], job[9]


@jit
def windows_of(job):
    """First element and end of the windows of D, H and W, one after the other: six views."""
    OD, OH, OW = job[5], job[6], job[7]
    d, h = HEAD, HEAD + 2 * OD
    w = h + 2 * OH
    return job[d:d + OD], job[d + OD:h], job[h:h + OH], job[h + OH:w], job[w:w + OW], job[w + OW:w + 2 * OW]


# ---------------------------------------------------------------- average
@jit
def adaptive_average(first, last, src, weight, dst, bias, residual, job, table):
    """src: x, dst: y."""
    units, count, D, H, W, OD, OH, OW, size, blocks = unpack(job)
    d_from, d_to, h_from, h_to, w_from, w_to = windows_of(job)
    line = np.empty(min(W, NARROW * size), src.dtype)
    for u in range(first * count, min(units, last * count)):
        row, ow0 = u // blocks, u % blocks * size
        ow1 = min(OW, ow0 + size)
        od, oh, plane = row // OH % OD, row % OH, row // OH // OD
        d0, d1, h0, h1 = d_from[od], d_to[od], h_from[oh], h_to[oh]
        deep, high = (d1 - d0) * (h1 - h0), h1 - h0
        if job[10] <= NARROW:
            c0, n, y = w_from[ow0], w_to[ow1 - 1] - w_from[ow0], dst[row * OW + ow0:row * OW + ow1]
            y[:] = 0
            for r0 in range(0, deep, DEEP):
                at = ((plane * D + d0) * H + h0) * W + c0
                sums = src[at:at + n] if deep == 1 else line[:n]
                if deep > 1:
                    sums[:] = 0
                for r in range(r0, min(deep, r0 + DEEP) if deep > 1 else 0):
                    at = ((plane * D + d0 + r // high) * H + h0 + r % high) * W + c0
                    x = src[at:at + n]
                    for i in range(n):
                        sums[i] += x[i]
                for ow in range(ow0, ow1):
                    part, total = sums[w_from[ow] - c0:w_to[ow] - c0], src.dtype.type(0)
                    for i in range(part.size):
                        total += part[i]
                    y[ow - ow0] += total
            for ow in range(ow0, ow1):
                y[ow - ow0] /= deep * (w_to[ow] - w_from[ow])
        else:
            for ow in range(ow0, ow1):
                wide, total = w_to[ow] - w_from[ow], np.float64(0)
                for d in range(d0, d1):
                    for h in range(h0, h1):
                        at = ((plane * D + d) * H + h) * W + w_from[ow]
                        total += sum_of(src[at:at + wide])
                dst[row * OW + ow] = total / (deep * wide)


@jit
def count_to(ordered, i):
    """How many elements of an ordered array are at most i."""
    lo, hi = 0, ordered.size
    while lo < hi:
        middle = (lo + hi) // 2
        if ordered[middle] <= i:
            lo = middle + 1
        else:
            hi = middle
    return lo


@jit
def holding(starts, ends, i):
    """The windows lo <= o < hi that hold element i."""
    return count_to(ends, i), count_to(starts, i)


@jit
def adaptive_average_backward(first, last, src, weight, dst, bias, residual, job, table):
    """src: dout, dst: dx. size: rows of a unit, blocks: units of a plane's rows, job[10]: columns of a unit, job[11]: units of a row."""
    units, count, D, H, W, OD, OH, OW, size, blocks = unpack(job)
    columns, c_blocks = job[10], job[11]
    if D * H == 1 and OW == 1 and c_blocks == 1:         # one window a plane
        for u in range(first * count, min(units, last * count)):
            share, dx = src[u] / src.dtype.type(W), dst[u * W:(u + 1) * W]
            for i in range(W):
                dx[i] = share
        return
    d_from, d_to, h_from, h_to, w_from, w_to = windows_of(job)
    for u in range(first * count, min(units, last * count)):
        c0, band, plane = u % c_blocks * columns, u // c_blocks % blocks, u // c_blocks // blocks
        c1 = min(W, c0 + columns)
        ow0, ow1 = holding(w_from, w_to, c0)[0], holding(w_from, w_to, c1 - 1)[1]
        before = (-1, -1, -1, -1)
        for r in range(band * size, min(D * H, (band + 1) * size)):
            od0, od1 = holding(d_from, d_to, r // H)
            oh0, oh1 = holding(h_from, h_to, r % H)
            at = (plane * D * H + r) * W
            if before == (od0, od1, oh0, oh1):           # a row like the one above
                copy_strided(dst, at - W + c0, 1, dst, at + c0, c1 - c0)
                continue
            before = (od0, od1, oh0, oh1)
            for od in range(od0, od1):
                for oh in range(oh0, oh1):
                    douts = src[((plane * OD + od) * OH + oh) * OW:]
                    deep = (d_to[od] - d_from[od]) * (h_to[oh] - h_from[oh])
                    done = c0 if od == od0 and oh == oh0 else c1         # columns behind it are still to be written for the first time
                    for ow in range(ow0, ow1):
                        share = douts[ow] / src.dtype.type(deep * (w_to[ow] - w_from[ow]))
                        begin, end = max(c0, w_from[ow]), min(c1, w_to[ow])
                        middle = max(begin, min(end, done))
                        old, new = dst[at + begin:at + middle], dst[at + middle:at + end]
                        for i in range(old.size):
                            old[i] += share
                        for i in range(new.size):
                            new[i] = share
                        done = max(done, end)


# ---------------------------------------------------------------- maximum
@jit(exact=True)
def larger(value, best):
    """Does `value` replace `best`? NaN wins over every number; of equal values the first stays."""
    return (value > best) | (value != value)


@jit(exact=True)
def largest(x, best, chains):
    """The largest of best and the elements of x; NaN if there is one. chains: LANES elements to work in."""
    done = 0
    if x.size >= 4 * LANES:
        fill(chains, best)
        done = x.size // LANES * LANES
        for i in range(0, done, LANES):
            part = x[i:i + LANES]
            for j in range(LANES):
                chains[j] = part[j] if larger(part[j], chains[j]) else chains[j]
        for j in range(LANES // 2):
            chains[j] = chains[j + LANES // 2] if larger(chains[j + LANES // 2], chains[j]) else chains[j]
        for j in range(FEW):
            chains[j] = chains[j + FEW] if larger(chains[j + FEW], chains[j]) else chains[j]
        for j in range(FEW):
            best = chains[j] if larger(chains[j], best) else best
    elif x.size >= 2 * FEW:
        few, done = chains[:FEW], x.size // FEW * FEW
        fill(few, best)
        for i in range(0, done, FEW):
            part = x[i:i + FEW]
            for j in range(FEW):
                few[j] = part[j] if larger(part[j], few[j]) else few[j]
        for j in range(FEW):
            best = few[j] if larger(few[j], best) else best
    rest = x[done:]
    for i in range(rest.size):
        best = rest[i] if larger(rest[i], best) else best
    return best


@jit(exact=True)
def find(x, value):
    """The first place of x that holds the value, or NaN where that is one; -1 without."""
    for i in range(0, x.size, LANES):
        part, hits = x[i:i + LANES], 0
        for j in range(part.size):
            hits += (part[j] == value) | ((part[j] != part[j]) & (value != value))
        if hits:
            for j in range(part.size):
                if (part[j] == value) | ((part[j] != part[j]) & (value != value)):
                    return i + j
    return -1


@jit(exact=True)
def maximum_row(src, plane, od, oh, ow0, ow1, job, line, line_rows, chains, best, where):
    """best[ow - ow0]: the maxima of outputs ow0 .. ow1 of a row; where, unless empty: their places in the plane."""
    D, H, W = job[2], job[3], job[4]
    d_from, d_to, h_from, h_to, w_from, w_to = windows_of(job)
    d0, d1, h0, h1 = d_from[od], d_to[od], h_from[oh], h_to[oh]
    base, high = plane * D * H * W, h1 - h0
    if job[10] <= NARROW:
        c0 = w_from[ow0]
        n = w_to[ow1 - 1] - c0
        tops, rows = line[:n], line_rows[:n]
        at = base + (d0 * H + h0) * W + c0
        x = src[at:at + n]
        for i in range(n):                   # element by element: to compile the assignment of a slice takes seconds
            tops[i] = x[i]
            rows[i] = 0
        for r in range(1, (d1 - d0) * high):
            at = base + ((d0 + r // high) * H + h0 + r % high) * W + c0
            x = src[at:at + n]
            if where.size:
                for i in range(n):
                    take = larger(x[i], tops[i]) & (tops[i] == tops[i])
                    tops[i] = x[i] if take else tops[i]
                    rows[i] = r if take else rows[i]
            else:
                for i in range(n):
                    tops[i] = x[i] if larger(x[i], tops[i]) else tops[i]
        for ow in range(ow0, ow1):
            i0, i1 = w_from[ow] - c0, w_to[ow] - c0
            top, column, row = tops[i0], i0, rows[i0]
            for i in range(i0 + 1, i1):      # no branches, which would be guessed wrong
                same = (tops[i] == top) | ((tops[i] != tops[i]) & (top != top))
                take = (same & (rows[i] < row)) | (larger(tops[i], top) & ((tops[i] == tops[i]) | (top == top)))
                top, column, row = tops[i] if take else top, i if take else column, rows[i] if take else row
            best[ow - ow0] = top
            if where.size:
                where[ow - ow0] = ((d0 + row // high) * H + h0 + row % high) * W + c0 + column
        return
    for ow in range(ow0, ow1):
        top, wide = src[base + (d0 * H + h0) * W + w_from[ow]], w_to[ow] - w_from[ow]
        for d in range(d0, d1):
            for h in range(h0, h1):
                at = base + (d * H + h) * W + w_from[ow]
                top = largest(src[at:at + wide], top, chains)
        best[ow - ow0] = top
        if where.size:
            for r in range((d1 - d0) * high):
                at = ((d0 + r // high) * H + h0 + r % high) * W + w_from[ow]
                place = find(src[base + at:base + at + wide], top)
                if place >= 0:
                    where[ow - ow0] = at + place
                    break


@jit(exact=True)
def widths_of(job):
    """Columns of the narrowest window and of the widest, and rows (d, h) of the deepest; no columns where `places_of_row` is of no use."""
    d_from, d_to, h_from, h_to, w_from, w_to = windows_of(job)
    least, most, deep, high = job[4], 0, 0, 0
    for o in range(w_from.size):
        least, most = min(least, w_to[o] - w_from[o]), max(most, w_to[o] - w_from[o])
    for o in range(d_from.size):
        deep = max(deep, d_to[o] - d_from[o])
    for o in range(h_from.size):
        high = max(high, h_to[o] - h_from[o])
    use = most - least <= 1 and most <= min(MOST_LINES, FLAT * deep * high) and deep * high <= MOST_LINES
    return (least, most, deep * high) if use else (0, 0, 0)


@jit(exact=True)
def memory(src, job, least, most, deep):
    """What `places_of_row` works in: offsets, best, which, rows and won."""
    lanes = VECTOR_BYTES // src.itemsize
    room, columns = (job[4] + most + 2 * lanes, job[4] + lanes) if least else (0, 0)
    best, which = aligned(room, src), np.empty(room, np.int8)
    lay(1, 1, src, 0, 0, best, 0, 0, room - lanes if least else 0, 0)
    for i in range(room):
        which[i] = MOST_LINES
    return np.empty(deep, np.int64), best, which, np.empty(2 * columns, np.int8), np.empty(2 * columns, np.int8)


@jit(exact=True)
def places_of_row(src, plane, od, oh, job, least, most, offsets, best, which, rows, won, where):
    """where: the places in the plane of the maxima of a row of outputs, by the rows of the windows first, in vectors. best, which: padding and no row
    from W on; rows, won: room for W columns twice."""
    D, H, W, OW, count, room = job[2], job[3], job[4], job[7], 0, won.size // 2
    d_from, d_to, h_from, h_to, w_from, w_to = windows_of(job)
    for d in range(d_from[od], d_to[od]):
        for h in range(h_from[oh], h_to[oh]):
            offsets[count] = (d * H + h) * W
            count += 1
    down(src, plane * D * H * W, offsets, count, W, best, 0, which, 0)
    for more in range(1 + most - least):
        across(best, which, least + more, 1, rows[more * room:], won[more * room:], W)
    for ow in range(OW):
        c = w_from[ow]
        j = c if w_to[ow] - c == least else c + room
        where[ow] = offsets[rows[j]] + c + won[j]


@jit(exact=True)
def adaptive_maximum(first, last, src, weight, dst, bias, residual, job, table):
    """src: x, dst: y. table: the indices, written too, or empty."""
    units, count, D, H, W, OD, OH, OW, size, blocks = unpack(job)
    if D * H == 1 and OW == 1 and not table.size:
        chains = np.empty(LANES, src.dtype)
        for u in range(first * count, min(units, last * count)):
            dst[u] = largest(src[u * W:(u + 1) * W], src[u * W], chains)
        return
    room = min(W, NARROW * size)
    line, rows, chains = np.empty(room, src.dtype), np.empty(room, np.int32), np.empty(LANES, src.dtype)
    least, most, deep = widths_of(job) if table.size and blocks == 1 else (0, 0, 0)
    offsets, tops, which, top_rows, won = memory(src, job, least, most, deep)
    for u in range(first * count, min(units, last * count)):
        row, ow0 = u // blocks, u % blocks * size
        ow1 = min(OW, ow0 + size)
        lo, hi = row * OW + ow0, row * OW + ow1
        if least:
            plane = row // OH // OD
            places_of_row(src, plane, row // OH % OD, row % OH, job, least, most, offsets, tops, which, top_rows, won, table[lo:hi])
            x, places, y = src[plane * D * H * W:], table[lo:hi], dst[lo:hi]
            for i in range(y.size):
                y[i] = x[places[i]]
            continue
        maximum_row(src, row // OH // OD, row // OH % OD, row % OH, ow0, ow1, job, line, rows, chains, dst[lo:hi], table[lo:hi])


@jit
def adaptive_maximum_backward_at(first, last, src, weight, dst, bias, residual, job, table):
    """src: dout, dst: dx, table: the forward's indices. One of them that is no place in the plane is left in job[11].

    size: elements of a unit, blocks: units of a plane.
    """
    units, count, D, H, W, OD, OH, OW, size, blocks = unpack(job)
    outputs = OD * OH * OW
    if blocks == 1:
        wrong = add_volumes(first * count, min(units, last * count), D * H * W, outputs, src, table, dst, 0)
        if wrong != 0:
            job[11] = wrong
        return
    for u in range(first * count, min(units, last * count)):
        plane, e0 = u // blocks, u % blocks * size
        e1 = min(D * H * W, e0 + size)
        dx = dst[plane * D * H * W:(plane + 1) * D * H * W]
        fill(dx[e0:e1], 0)
        where, douts = table[plane * outputs:(plane + 1) * outputs], src[plane * outputs:(plane + 1) * outputs]
        for o in range(outputs):
            if e0 <= where[o] < e1:
                dx[where[o]] += douts[o]
            elif where[o] < 0 or where[o] >= D * H * W:
                job[11] = where[o]


@jit(exact=True)
def adaptive_maximum_backward(first, last, src, weight, dst, bias, residual, job, table):
    """The same without indices, which are found again. weight: x."""
    units, count, D, H, W, OD, OH, OW, size, blocks = unpack(job)
    d_from, d_to, h_from, h_to, w_from, w_to = windows_of(job)
    least, most, deep = widths_of(job)
    offsets, tops, which, top_rows, won = memory(src, job, least, most, deep)
    ahead, best, found, chains = AHEAD_BYTES // src.itemsize, np.empty(OW, src.dtype), np.empty(OW, np.int64), np.empty(LANES, src.dtype)
    line, rows = np.empty(W, src.dtype), np.empty(W, np.int32)
    for u in range(first * count, min(units, last * count)):
        plane, e0 = u // blocks, u % blocks * size
        e1 = min(D * H * W, e0 + size)
        dx = dst[plane * D * H * W:(plane + 1) * D * H * W]
        fill(dx[e0:e1], 0)
        for od in range(OD):
            for oh in range(OH):
                at = ((plane * OD + od) * OH + oh) * OW
                douts = src[at:at + OW]
                if (d_from[od] * H + h_from[oh]) * W >= e1 or ((d_to[od] - 1) * H + h_to[oh]) * W <= e0:
                    continue
                if least:
                    chunk = (e1 - e0) // (OD * OH) + 1
                    prefetch(weight, plane * D * H * W + (od * OH + oh) * chunk + max(ahead, e1 - e0), chunk)
                    prefetch(dst, plane * D * H * W + (od * OH + oh) * chunk + max(ahead, e1 - e0), chunk)
                    places_of_row(weight, plane, od, oh, job, least, most, offsets, tops, which, top_rows, won, found)
                else:
                    maximum_row(weight, plane, od, oh, 0, OW, job, line, rows, chains, best, found)
                for ow in range(OW):
                    if e0 <= found[ow] < e1:
                        dx[found[ow]] += douts[ow]
