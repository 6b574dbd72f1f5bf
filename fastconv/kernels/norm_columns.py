"""Batch norm of a matrix (N, C), or of images of a few pixels: channels side by side, as columns.

A matrix has ROWS rows and COLUMNS columns; channel c has the S columns from c * S on. A task takes SPAN rows and UNITS columns, so that long
and wide matrices both keep every core busy, and goes down a few rows at a time; their sums stand in float64 in an area of its own, 2 or 4
lines of PADDED numbers. `residual` holds what each column needs as vectors of the dtype of x, PADDED apart: the coefficients of the
second pass, 6 lines, and before them the shifts, 2. A line of coefficients begins again behind its last column: the second pass takes whole rows
as one run of memory. The rest is as in norm.py: KEYS and CHANNELS are C, LENGTH is S.
"""
from __future__ import annotations

import numpy as np

from .gemm import aligned
from .jit import jit
from .norm import (
    CHANNELS,
    COLUMNS,
    COUNT,
    EPS,
    FLAGS,
    FOLDED,
    GIVEN,
    GRADIENTS,
    LENGTH,
    OWN,
    PADDED,
    PARAMETERS,
    PARTS,
    ROWS,
    SHIFTS,
    SPAN,
    STATS,
    STREAM,
    SUMS,
    UNITS,
    add_columns,
    batch_gradients,
    finite,
    forward_coefficients,
    gradient_coefficients,
    own_statistics,
    running_statistics,
    split,
    spread_of,
)
from .norm_simd import LARGE, SMALL, column_gradient_sums, column_moments, gradient_columns, scale_columns, shifts_of_first
from .simd import settle
from .tiles import VECTOR_BYTES

STRIP = 16                                    # rows whose sums stay in the dtype of x
LINE = 64                                    # bytes of the longest vector
CHANGED = 8                                  # rows that the second pass takes at a time, of parts of rows
PROBE = 8                                    # rows whose mean is the shift


@jit
def shift_columns(x, job, f, shifts):
    """f[shifts + c] = the shift of each channel, from its first values (see `shifts_of_first`)."""
    C, S, n = job[CHANNELS], job[LENGTH], min(job[ROWS], PROBE)
    if S == 1:                               # the rows one after the other, as memory lies
        total, low, high = np.zeros(C, np.float64), x[:C].copy(), x[:C].copy()
        for r in range(n):
            row = x[r * C:(r + 1) * C]
            for c in range(C):
                total[c] += row[c]
                low[c], high[c] = min(low[c], row[c]), max(high[c], row[c])
        line = f[shifts:shifts + C]
        for c in range(C):
            shift = np.float64(x.dtype.type(total[c] / n))
            line[c] = shift if np.isfinite(shift) and 2 * abs(shift) > np.float64(high[c]) - np.float64(low[c]) else 0.0
    else:
        shifts_of_first(x, 0, S, S, C, f, shifts)


@jit(views=True)
def prepare_columns(first, last, src, weight, dst, bias, residual, job, table):
    """Before the first pass: the shifts."""
    f = table.view(np.float64)
    C, S, P, shifts = job[CHANNELS], job[LENGTH], job[PADDED], job[SHIFTS]
    if not job[FLAGS] & (OWN | GIVEN):
        running_statistics(job, f)
    if job[FLAGS] & GIVEN or not job[FLAGS] & OWN:
        line, mean = f[shifts:shifts + C], f[job[STATS]:job[STATS] + C]
        for c in range(C):
            line[c] = finite(split(mean[c], src)[0])
    else:
        shift_columns(src, job, f, shifts)
    if weight.size:
        shift_columns(weight, job, f, shifts + C)
    for k in range(2 if weight.size else 1):
        line, values = residual[k * P:k * P + C * S], f[shifts + k * C:shifts + (k + 1) * C]
        if S == 1:
            for c in range(C):
                line[c] = values[c]
        else:
            for c in range(C):
                line[c * S:(c + 1) * S] = values[c]


@jit
def sum_columns(first, last, src, weight, dst, bias, residual, job, table):
    """First pass: 2 sums of the forward, 4 of the backward."""
    room = job[UNITS] + LINE // src.itemsize
    near = aligned((4 if weight.size else 2) * room, src)            # sums in float64 would be more to load and store than a few rows are
    near[:] = 0
    for t in range(first, last):
        sum_some_columns(t, src, weight, residual, job, table.view(np.float64), near, room)


@jit(exact=True, views=True)
def sum_some_columns(t, src, weight, residual, job, f, near, room):
    """A task. Exact: LLVM is not to order a column's sums differently in rows side by side and in a row alone."""
    K, P, width, lines = job[COLUMNS], job[PADDED], job[UNITS], 4 if weight.size else 2
    block, j0 = t // job[PARTS], t % job[PARTS] * width
    end, n, to = min(job[ROWS], (block + 1) * job[SPAN]), min(width, K - j0), job[SUMS] + block * lines * P + j0
    for r in range(block * job[SPAN], end, STRIP):
        at, rows = r * K + j0, min(STRIP, end - r)
        if weight.size:
            column_gradient_sums(src, weight, at, K, rows, n, residual[j0:], P, near, room, job[STREAM])
        else:
            column_moments(src, at, K, rows, n, residual[j0:], near, room)
        for k in range(lines):
            line, part = f[to + k * P:to + k * P + n], near[k * room:k * room + n]
            if r == block * job[SPAN]:
                for i in range(n):
                    line[i] = part[i]
            else:
                for i in range(n):
                    line[i] += part[i]
            part[:] = 0


@jit(views=True)
def wide_column_sums(src, weight, job, f, c):
    """The folded sums of channel c again, all in float64."""
    C, S, K, folded = job[CHANNELS], job[LENGTH], job[COLUMNS], job[FOLDED]
    shift = f[job[SHIFTS] + c]
    total, square, gradient, product = np.float64(0), np.float64(0), np.float64(0), np.float64(0)
    for r in range(job[ROWS]):
        for j in range(r * K + c * S, r * K + (c + 1) * S):
            d = np.float64(src[j]) - shift
            total += d
            square += d * d
            if weight.size:
                e = np.float64(weight[j]) - f[job[SHIFTS] + C + c]
                gradient += e
                product += e * d
    f[folded + c], f[folded + C + c] = total, square
    if weight.size:
        f[folded + 2 * C + c], f[folded + 3 * C + c] = gradient, product


@jit
def fold_columns(src, weight, job, f):
    """The sums of each channel over its columns and all blocks of rows, in their order."""
    C, S, P, folded, lines = job[CHANNELS], job[LENGTH], job[PADDED], job[FOLDED], 4 if weight.size else 2
    blocks = (job[ROWS] + job[SPAN] - 1) // job[SPAN]
    for k in range(lines):
        total, line = f[folded + k * C:folded + (k + 1) * C], f[job[SUMS] + k * P:job[SUMS] + k * P + C * S]
        for block in range(1, blocks):
            more = f[job[SUMS] + (block * lines + k) * P:job[SUMS] + (block * lines + k) * P + C * S]
            for i in range(C * S):
                line[i] += more[i]
        add_columns(line, S, total)
    if src.itemsize == 4:
        fits = np.empty(C, np.uint8)
        total, square, least = f[folded:folded + C], f[folded + C:folded + 2 * C], job[COUNT] * SMALL
        for c in range(C):
            fits[c] = ((least < square[c]) & (square[c] < LARGE)) | ((total[c] == 0) & (square[c] == 0))
        if weight.size:
            product = f[folded + 3 * C:folded + 4 * C]
            for c in range(C):
                fits[c] &= abs(product[c]) < LARGE
        for c in range(C):
            if not fits[c]:
                wide_column_sums(src, weight, job, f, c)


@jit(merged=True, views=True)
def spread(job, f, values, count, c, lines):
    """The coefficients of channel c, to all its columns."""
    S, P = job[LENGTH], job[PADDED]
    for k in range(count):
        if S == 1:
            lines[k * P + c] = f[values + k]
        else:
            lines[k * P + c * S:k * P + (c + 1) * S] = f[values + k]


@jit
def coefficients_at(job, dst):
    """Where in `residual` the lines of coefficients begin, PADDED apart. They lie to lines of the cache as dst does, for vectors of both to begin there."""
    return 2 * job[PADDED] + dst.ctypes.data % VECTOR_BYTES // dst.itemsize


@jit(views=True)
def begin_again(job, lines, count):
    """Behind the last column of each of `count` lines of coefficients, its first ones."""
    K, P, n = job[COLUMNS], job[PADDED], VECTOR_BYTES // lines.itemsize
    for k in range(count if K >= n else 0):
        line = lines[k * P:k * P + K + n]
        for i in range(n):
            line[K + i] = line[i]


@jit
def column_coefficients(job, f, lines):
    """As `forward_coefficients`, of all channels of a matrix: loops that LLVM makes vectors of."""
    C, P, at = job[CHANNELS], job[PADDED], job[PARAMETERS]
    mean, invstd, weight, bias = f[job[STATS]:job[STATS] + C], f[job[STATS] + C:job[STATS] + 2 * C], f[at:at + C], f[at + C:at + 2 * C]
    center, scale, shift = lines[:C], lines[P:P + C], lines[2 * P:2 * P + C]
    for c in range(C):
        center[c] = mean[c]
    for c in range(C):
        scale[c] = invstd[c] * weight[c]
    rest = np.empty(C, np.float64)
    for c in range(C):
        left = (mean[c] - center[c]) * (invstd[c] * weight[c])
        rest[c] = left if np.isfinite(center[c]) and mean[c] != center[c] else 0.0
    for c in range(C):
        shift[c] = bias[c] - rest[c]


@jit(views=True)
def finish_forward_columns(first, last, src, weight, dst, bias, residual, job, table):
    """Between the passes: statistics and coefficients."""
    f, lines = table.view(np.float64), residual[coefficients_at(job, dst):]
    C, stats = job[CHANNELS], job[STATS]
    if job[FLAGS] & OWN:
        fold_columns(src, weight, job, f)
        own_statistics(job, f)
    else:
        running_statistics(job, f)
    if job[LENGTH] == 1:
        column_coefficients(job, f, lines)
    else:
        for c in range(C):
            forward_coefficients(src, job, f, f[stats + c], f[stats + C + c], c, job[SUMS], 1)
            spread(job, f, job[SUMS], 3, c, lines)
    begin_again(job, lines, 3)


@jit(views=True)
def column_gradients(job, f, lines):
    """As `batch_gradients` and `gradient_coefficients`, of all channels of a matrix: loops that LLVM makes vectors of."""
    C, P, folded, count, eps = job[CHANNELS], job[PADDED], job[FOLDED], max(job[COUNT], 1), f[EPS]
    shift, dout_shift = f[job[SHIFTS]:job[SHIFTS] + C], f[job[SHIFTS] + C:job[SHIFTS] + 2 * C]
    total, square = f[folded:folded + C], f[folded + C:folded + 2 * C]
    gradient, product = f[folded + 2 * C:folded + 3 * C], f[folded + 3 * C:folded + 4 * C]
    mean, invstd = f[job[STATS]:job[STATS] + C], f[job[STATS] + C:job[STATS] + 2 * C]
    dweight, dbias = f[job[GRADIENTS]:job[GRADIENTS] + C], f[job[GRADIENTS] + C:job[GRADIENTS] + 2 * C]
    weight = f[job[PARAMETERS]:job[PARAMETERS] + C]
    for c in range(C):
        dbias[c] = gradient[c] + job[COUNT] * dout_shift[c]
    if not job[FLAGS] & OWN:
        for c in range(C):
            product[c] += dout_shift[c] * total[c] + (shift[c] - mean[c]) * dbias[c]
        for c in range(C):
            dweight[c] = product[c] * invstd[c]
        return
    for c in range(C):
        product[c] -= total[c] / count * gradient[c]
    for c in range(C):
        mean[c] = shift[c] + total[c] / count
    if not job[FLAGS] & GIVEN:
        spread_of(total, square, count)
        for c in range(C):
            invstd[c] = 1 / np.sqrt(square[c] + eps)
    for c in range(C):
        dweight[c] = product[c] * invstd[c]
    center, dout_center, a, b, d, factor = (lines[:C], lines[P:P + C], lines[2 * P:2 * P + C], lines[3 * P:3 * P + C], lines[4 * P:4 * P + C],
                                            lines[5 * P:5 * P + C])
    for c in range(C):
        center[c] = mean[c]
    for c in range(C):
        dout_center[c] = dout_shift[c]
    for c in range(C):
        a[c] = weight[c]
    for c in range(C):
        factor[c] = invstd[c]
    slope = product                          # its last use
    for c in range(C):
        slope[c] = weight[c] * (product[c] * invstd[c] * invstd[c] / count)
    for c in range(C):
        b[c] = -slope[c]
    rest = gradient
    for c in range(C):
        left = (mean[c] - center[c]) * slope[c]
        rest[c] = left if np.isfinite(center[c]) and mean[c] != center[c] and np.isfinite(slope[c]) else 0.0
    for c in range(C):
        d[c] = weight[c] * dout_shift[c] - weight[c] * (dbias[c] / count) + rest[c]


@jit(views=True)
def finish_backward_columns(first, last, src, weight, dst, bias, residual, job, table):
    """Between the passes: statistics, dweight and dbias, and coefficients."""
    f, lines = table.view(np.float64), residual[coefficients_at(job, dst):]
    fold_columns(src, weight, job, f)
    if job[LENGTH] == 1:
        column_gradients(job, f, lines)
    for c in range(job[CHANNELS] if job[LENGTH] > 1 else 0):
        mean, invstd, weight_c, dout_shift, dout_mean, slope = batch_gradients(src, job, f, c)
        if job[FLAGS] & OWN:
            gradient_coefficients(src, mean, invstd, weight_c, dout_shift, dout_mean, slope, f, job[SUMS], 1)
            spread(job, f, job[SUMS], 6, c, lines)
    begin_again(job, lines, 6)


@jit(views=True)
def finish_running_backward_columns(first, last, src, weight, dst, bias, residual, job, table):
    """The coefficients of dx = dout * scale, where the statistics are the running ones."""
    f, lines = table.view(np.float64), residual[coefficients_at(job, dst):]
    if not job[FLAGS] & GIVEN:
        running_statistics(job, f)
    to = job[SUMS]
    for c in range(job[CHANNELS]):
        f[to], f[to + 1], f[to + 2] = 0.0, f[job[STATS] + job[CHANNELS] + c] * f[job[PARAMETERS] + c], 0.0
        spread(job, f, to, 3, c, lines)
    begin_again(job, lines, 3)


@jit(views=True)
def change_columns(first, last, src, weight, dst, bias, residual, job, table):
    """Second pass: y from x, or dx from x and dout, by the coefficients of each column."""
    R, K, P, width, lines = job[ROWS], job[COLUMNS], job[PADDED], job[UNITS], residual[coefficients_at(job, dst):]
    for t in range(first, last):
        block, j0 = t // job[PARTS], t % job[PARTS] * width
        r1, n = min(R, (block + 1) * job[SPAN]), min(width, K - j0)
        known = lines[j0:]
        step = max(1, r1) if n == K else CHANGED
        for r in range(block * job[SPAN], r1, step):
            at, rows = r * K + j0, min(step, r1 - r)
            if weight.size:
                gradient_columns(src, weight, dst, at, K, rows, n, known, P, job[STREAM])
            else:
                scale_columns(src, dst, at, K, rows, n, known, P, job[STREAM])
    settle(job[STREAM])
