"""Normalisation of rows, each with statistics of its own: layer, RMS, instance norm and groups that one core takes whole.

Memory is KEYS rows of COUNT elements. A row is read once from memory: its sums are taken, and it is changed while the caches still hold it.
A row is a group of DIV segments, one for each channel, or every element of it has a weight and a bias of its own, which stand in `bias` and
`residual`: there row r begins at r % PERIOD * COUNT (layer norm: at 0). COUNT is the length of a row; the rest is as in norm.py.

Rows too long for that, or too few, are cut into parts of SPAN elements and take two passes.
"""
from __future__ import annotations

import numpy as np

from .jit import jit
from .norm import (
    CENTERED,
    CHANNELS,
    COEFFICIENTS,
    COLUMNS,
    COUNT,
    DIV,
    FLAGS,
    FOLDED,
    GIVEN,
    GRADIENTS,
    KEYS,
    LENGTH,
    PADDED,
    PARAMETERS,
    PARTS,
    PERIOD,
    PLANES,
    ROWS,
    RUNNING,
    SHIFTS,
    SPAN,
    STATS,
    STREAM,
    SUMS,
    UNITS,
    add_columns,
    finite,
    group_gradients,
    mean_of_first,
    move_running,
    split,
    statistics,
    wide_gradient_moments,
)
from .norm_simd import (
    LARGE,
    SMALL,
    gradient_rows,
    gradient_segment,
    row_gradient_sums,
    scale_rows,
    scale_segment,
    segment_gradient_sums,
    segment_moments,
    settle,
)

LINE_BYTES = 64
NEAR = 1024                                  # elements that a part is ahead of its own pass
STRIP = 16                                   # rows whose gradients to weight and bias are added in the dtype of x


# ---------------------------------------------------------------- statistics of a few rows
@jit
def shift_rows(src, other, job, f, key, count):
    """The shifts of rows key .. key + count - 1: of given statistics the mean, else from the first values; 0 where no mean is subtracted."""
    keys, L, shifts = job[KEYS], job[COUNT], job[SHIFTS]
    for i in range(key, key + count):
        if not job[FLAGS] & CENTERED:
            f[shifts + i] = 0.0
        elif job[FLAGS] & GIVEN:
            f[shifts + i] = finite(split(f[job[STATS] + i], src)[0])
        else:
            f[shifts + i] = mean_of_first(src, i * L, L)
        if other.size:
            f[shifts + keys + i] = mean_of_first(other, i * L, L)


@jit
def row_statistics(job, f, key, count, sums):
    """mean and invstd of `count` rows from their sums, which stand at f[sums] and f[sums + count], one for each row."""
    keys, n, eps, folded = job[KEYS], job[COUNT], f[0], job[FOLDED]
    total, square, shift = f[sums:sums + count], f[sums + count:sums + 2 * count], f[job[SHIFTS] + key:job[SHIFTS] + key + count]
    mean, invstd = f[job[STATS] + key:job[STATS] + key + count], f[job[STATS] + keys + key:job[STATS] + keys + key + count]
    centered = 1.0 if job[FLAGS] & CENTERED else 0.0
    for i in range(count):
        offset = centered * (total[i] / n)
        variance = square[i] / n - offset * offset
        variance = 0.0 if variance < 0 else variance
        square[i] = variance
        mean[i], invstd[i] = shift[i] + offset, 1 / np.sqrt(variance + eps)
    for i in range(count if job[FLAGS] & RUNNING else 0):            # no assignment of arrays, which Numba compiles for seconds
        f[folded + key + i], f[folded + keys + key + i] = mean[i], square[i]


@jit
def sum_rows(src, job, f, key, count, sums):
    """The sums of `count` rows and their statistics."""
    L, shifts = job[COUNT], job[SHIFTS] + key
    shift_rows(src, src[:0], job, f, key, count)
    if not segment_moments(src, key * L, L, L, count, f, shifts, 1, sums, count):
        for i in range(count):
            found = wide_gradient_moments(src, src, (key + i) * L, L, f[shifts + i], f[shifts + i])
            f[sums + i], f[sums + count + i] = found[0], found[1]
    row_statistics(job, f, key, count, sums)


# ---------------------------------------------------------------- groups of segments
@jit
def group_rows(first, last, src, weight, dst, bias, residual, job, table):
    """The forward of groups: task t is UNITS rows, ROWS at a time."""
    f = table.view(np.float64)
    S, div, keys, C, block = job[LENGTH], job[DIV], job[KEYS], job[CHANNELS], job[ROWS]
    for t in range(first, last):
        sums, known = job[SUMS] + t * 4 * block * div, job[COEFFICIENTS] + t * 6 * block * div
        for key in range(t * job[UNITS], min(keys, (t + 1) * job[UNITS]), block):
            count = min(block, min(keys, (t + 1) * job[UNITS]) - key)
            sum_rows(src, job, f, key, count, sums)
            c = key * div % C
            for i in range(count):
                mean, invstd = f[job[STATS] + key + i], f[job[STATS] + keys + key + i]
                center = np.float64(src.dtype.type(mean))
                rest = mean - center if np.isfinite(center) else 0.0
                for to in range(known + 6 * i * div, known + 6 * (i + 1) * div, 6):
                    scale = invstd * f[job[PARAMETERS] + c]
                    f[to], f[to + 1], f[to + 2] = center, scale, f[job[PARAMETERS] + C + c] - (rest * scale if rest != 0 else 0.0)
                    c = c + 1 if c + 1 < C else 0
            scale_segment(src, dst, key * div * S, S, S, count * div, f, known, 6, job[STREAM])
    settle(job[STREAM])


@jit
def group_rows_gradient(first, last, src, weight, dst, bias, residual, job, table):
    """The backward of groups, but for the sums over the images of what their channels add to dweight and dbias."""
    f = table.view(np.float64)
    S, div, keys, block, shifts = job[LENGTH], job[DIV], job[KEYS], job[ROWS], job[SHIFTS]
    for t in range(first, last):
        sums, known = job[SUMS] + t * 4 * block * div, job[COEFFICIENTS] + t * 6 * block * div
        for key in range(t * job[UNITS], min(keys, (t + 1) * job[UNITS]), block):
            count = min(block, min(keys, (t + 1) * job[UNITS]) - key)
            apart = count * div
            shift_rows(src, weight, job, f, key, count)
            if div == 1:
                well = segment_gradient_sums(src, weight, key * S, S, S, count, f, shifts + key, shifts + keys + key, 1, sums, apart)
            else:
                well = True
                for i in range(key, key + count):
                    well &= segment_gradient_sums(src, weight, i * div * S, S, S, div, f, shifts + i, shifts + keys + i, 0,
                                                  sums + (i - key) * div, apart)
            if not well:
                for i in range(apart):
                    owner = key + i // div
                    found = wide_gradient_moments(src, weight, (key * div + i) * S, S, f[shifts + owner], f[shifts + keys + owner])
                    f[sums + i], f[sums + apart + i], f[sums + 2 * apart + i], f[sums + 3 * apart + i] = found
            for i in range(count):
                group_gradients(src, job, f, key + i, sums + i * div, apart, 1, known + 6 * i * div)
            if dst.size:
                gradient_segment(src, weight, dst, key * div * S, S, S, apart, f, known, 6, job[STREAM])
    settle(job[STREAM])


@jit
def finish_running(first, last, src, weight, dst, bias, residual, job, table):
    """Move the running statistics of instance norm."""
    move_running(job, table.view(np.float64), job[FOLDED], job[FOLDED] + job[KEYS])


# ---------------------------------------------------------------- a weight and a bias for each element
@jit
def scale_coefficients(src, job, f, key, count, known):
    """center, rest and invstd of rows key .. key + count - 1, at f[known + 5 * i]."""
    mean, invstd = f[job[STATS] + key:job[STATS] + key + count], f[job[STATS] + job[KEYS] + key:job[STATS] + job[KEYS] + key + count]
    for i in range(count):
        center, rest = split(mean[i], src)
        to = known + 5 * i
        f[to], f[to + 1], f[to + 2] = center, -rest * invstd[i] if rest != 0 else 0.0, invstd[i]


@jit
def rows(first, last, src, weight, dst, bias, residual, job, table):
    """The forward of rows whose elements have parameters of their own: task t is UNITS rows, ROWS at a time."""
    f = table.view(np.float64)
    L, keys, period, block = job[COUNT], job[KEYS], job[PERIOD], job[ROWS]
    alike = L * src.itemsize % LINE_BYTES == 0 or not job[STREAM]
    for t in range(first, last):
        known = job[COEFFICIENTS] + t * 5 * block
        for key in range(t * job[UNITS], min(keys, (t + 1) * job[UNITS]), block):
            count = min(block, min(keys, (t + 1) * job[UNITS]) - key)
            sum_rows(src, job, f, key, count, job[SUMS] + t * 4 * block)
            scale_coefficients(src, job, f, key, count, known)
            together = count if period == 1 and alike else 1
            for i in range(0, count, together):
                scale_rows(src, dst, (key + i) * L, L, together, L, bias, residual, (key + i) % period * L, f, known + 5 * i, job[STREAM])
    settle(job[STREAM])


@jit
def wide_row_gradient_sums(x, dout, at, n, weight, to, shift):
    total, square, gradient, product = np.float64(0), np.float64(0), np.float64(0), np.float64(0)
    xs, es, ws = x[at:at + n], dout[at:at + n], weight[to:to + n]
    for i in range(n):
        d, e = np.float64(xs[i]) - shift, np.float64(es[i]) * np.float64(ws[i])
        total += d
        square += d * d
        gradient += e
        product += e * d
    return total, square, gradient, product


@jit
def row_sums(x, dout, at, n, weight, to, shift):
    """The sums of d, d * d, e and e * d over a part of a row, d = x - shift, e = dout * weight."""
    total, square, gradient, product = row_gradient_sums(x, dout, at, n, weight, to, shift)
    fits = (n * SMALL < square < LARGE or total == square == 0) and abs(product) < LARGE
    if x.itemsize == 4 and not fits:
        return wide_row_gradient_sums(x, dout, at, n, weight, to, shift)
    return total, square, gradient, product


@jit
def row_gradients(src, job, f, key, total, square, gradient, product, known):
    """Of one row: its statistics, and center, rest, invstd, dout_mean, slope of its dx at f[known]."""
    n, keys, stats = job[COUNT], job[KEYS], job[STATS]
    if job[FLAGS] & CENTERED:
        mean, _, invstd = statistics(total, square, n, f[job[SHIFTS] + key], f[0])
        product -= total / n * gradient
    else:
        mean, invstd, gradient = 0.0, 1 / np.sqrt(square / n + f[0]), 0.0
    if job[FLAGS] & GIVEN:
        invstd = f[stats + keys + key]
    f[stats + key], f[stats + keys + key] = mean, invstd
    center, rest = split(mean, src)
    f[known], f[known + 1], f[known + 2] = center, -rest * invstd if rest != 0 else 0.0, invstd
    f[known + 3], f[known + 4] = gradient / n, product * invstd / n


@jit
def rows_gradient(first, last, src, weight, dst, bias, residual, job, table):
    """The backward of such rows; each task leaves what it adds to dweight and dbias in an area of its own, 2 lines of PADDED numbers."""
    f = table.view(np.float64)
    L, keys, period, P, block = job[COUNT], job[KEYS], job[PERIOD], job[PADDED], job[ROWS]
    for t in range(first, last):
        known, area = job[COEFFICIENTS] + t * 5 * block, job[PLANES] + t * 2 * P
        f[area:area + 2 * P] = 0
        for key in range(t * job[UNITS], min(keys, (t + 1) * job[UNITS]), block):
            count = min(block, min(keys, (t + 1) * job[UNITS]) - key)
            shift_rows(src, src[:0], job, f, key, count)
            for i in range(count):
                at, to = (key + i) * L, (key + i) % period * L
                found = row_sums(src, weight, at, L, bias, to, f[job[SHIFTS] + key + i])
                row_gradients(src, job, f, key + i, found[0], found[1], found[2], found[3], known + 5 * i)
            if period == 1:
                gradient_rows(src, weight, dst, key * L, L, count, L, bias, 0, f, known, f, area, P, job[STREAM])
            else:
                for i in range(count):
                    to = (key + i) % period * L
                    gradient_rows(src, weight, dst, (key + i) * L, L, 1, L, bias, to, f, known + 5 * i, f, area + to, P, job[STREAM])
    settle(job[STREAM])


@jit
def fold_rows(first, last, src, weight, dst, bias, residual, job, table):
    """dweight and dbias of each channel: the sums over its LENGTH columns and the areas, COLUMNS of them."""
    f = table.view(np.float64)
    C, S, P = job[CHANNELS], job[LENGTH], job[PADDED]
    total = f[job[PLANES]:job[PLANES] + 2 * P]
    for t in range(1, job[COLUMNS]):
        more = f[job[PLANES] + t * 2 * P:job[PLANES] + (t + 1) * 2 * P]
        for i in range(2 * P):
            total[i] += more[i]
    for k in range(2):
        found, line = f[job[GRADIENTS] + k * C:job[GRADIENTS] + (k + 1) * C], total[k * P:k * P + C * S]
        add_columns(line, S, found)


# ---------------------------------------------------------------- long rows, in parts
@jit
def sum_parts(first, last, src, weight, dst, bias, residual, job, table):
    """First pass: part `unit % PARTS` of each row; 2 sums of the forward, 4 of the backward."""
    f = table.view(np.float64)
    L, parts, span, sums, units = job[COUNT], job[PARTS], job[SPAN], job[SUMS], job[KEYS] * job[PARTS]
    for u in range(first, last):
        key, s = u // parts, u % parts * span
        at, n, shift = key * L + s, min(span, L - s), job[SHIFTS] + key
        if weight.size:
            found = row_sums(src, weight, at, n, bias, key % job[PERIOD] * L + s, f[shift])
            f[sums + u], f[sums + units + u], f[sums + 2 * units + u], f[sums + 3 * units + u] = found
        elif not segment_moments(src, at, n, n, 1, f, shift, 0, sums + u, units):
            wide = wide_gradient_moments(src, src, at, n, f[shift], f[shift])
            f[sums + u], f[sums + units + u] = wide[0], wide[1]


@jit
def prepare_parts(first, last, src, weight, dst, bias, residual, job, table):
    """Before the first pass: the shifts."""
    shift_rows(src, src[:0], job, table.view(np.float64), 0, job[KEYS])


@jit
def finish_parts(first, last, src, weight, dst, bias, residual, job, table):
    """Between the passes: the statistics of each row, in the backward what its dx is made of, and no gradients yet."""
    f = table.view(np.float64)
    parts, units, sums, keys = job[PARTS], job[KEYS] * job[PARTS], job[SUMS], job[KEYS]
    for key in range(keys):
        for k in range(4 if weight.size else 2):
            f[job[FOLDED] + k * keys + key] = f[sums + k * units + key * parts:sums + k * units + (key + 1) * parts].sum()
    if weight.size:
        for key in range(keys):
            at = job[FOLDED] + key
            row_gradients(src, job, f, key, f[at], f[at + keys], f[at + 2 * keys], f[at + 3 * keys], job[COEFFICIENTS] + 5 * key)
        f[job[PLANES]:job[PLANES] + 2 * job[PADDED]] = 0
    else:
        row_statistics(job, f, 0, keys, job[FOLDED])
        scale_coefficients(src, job, f, 0, keys, job[COEFFICIENTS])


@jit
def scale_parts(first, last, src, weight, dst, bias, residual, job, table):
    """Second pass of the forward."""
    f = table.view(np.float64)
    L, parts, span = job[COUNT], job[PARTS], job[SPAN]
    for u in range(first, last):
        key, s = u // parts, u % parts * span
        scale_rows(src, dst, key * L + s, NEAR, 1, min(span, L - s), bias, residual, key % job[PERIOD] * L + s, f, job[COEFFICIENTS] + 5 * key,
                   job[STREAM])
    settle(job[STREAM])


@jit
def gradient_parts(first, last, src, weight, dst, bias, residual, job, table):
    """Second pass of the backward: a task is a part of the columns, of all rows. PERIOD is 1."""
    f = table.view(np.float64)
    L, span, P, keys = job[COUNT], job[SPAN], job[PADDED], job[KEYS]
    for t in range(first, last):
        s = t * span
        n, area = min(span, L - s), job[PLANES] + s
        for key in range(0, keys, STRIP):
            gradient_rows(src, weight, dst, key * L + s, L, min(STRIP, keys - key), n, bias, s, f, job[COEFFICIENTS] + 5 * key, f, area, P, job[STREAM])
    settle(job[STREAM])
