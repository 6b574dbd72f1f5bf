"""Batch normalisation of (N, C, S): statistics of each channel, the normalisation, and its gradients.

    y = (x - mean) * invstd * weight + bias
    dx = weight * invstd * (dout - mean(dout) - xhat * mean(dout * xhat))            xhat = (x - mean) * invstd

The statistics are exact for a mean of 1e6 and a deviation of 1 in float32: a part of a row is summed in float64, its squared
deviations from its own mean follow while it is in L1, and the parts of a channel are combined by the formula of Chan, Golub and
LeVeque (1979). The mean stays in float64; x - mean is taken in two steps (the mean's float32 value, then what that left out), the
first of which is exact where it matters.

A matrix (N, C) has its channels side by side: there a task takes COLUMNS of them and walks down the rows.
"""
from __future__ import annotations

import numpy as np
from numba import prange

from .jit import jit
from .rows import sum_strided
from .sums import CHAIN, fold_table, parts_of

COLUMNS = 64                                 # channels of one task where they lie side by side
ROWS = 64                                    # rows of one task there


# ---------------------------------------------------------------- statistics
@jit
def part_statistics(t, x, means, squares):
    """Task t = (n * C + c) * parts + part: mean and sum of squared deviations of that part of x (N, C, S)."""
    N, C, S = x.shape
    parts = parts_of(S)
    part, row = t % parts, t // parts
    s0 = row * S + part * CHAIN
    n = row * S + min(S, part * CHAIN + CHAIN) - s0
    xs = x.reshape(-1)[s0:s0 + n]
    mean = sum_strided(xs, 0, 1, n) / n
    square = np.float64(0)
    for s in range(n):
        d = xs[s] - mean
        square += d * d
    means[row % C, row // C * parts + part] = mean
    squares[row % C, row // C * parts + part] = square


@jit
def combine(N, S, means, squares, mean, variance):
    """mean[c], variance[c] (biased) from the parts of each channel, in their order."""
    parts = parts_of(S)
    for c in range(means.shape[0]):
        total = np.float64(0)
        for i in range(N * parts):
            total += means[c, i] * (min(S, i % parts * CHAIN + CHAIN) - i % parts * CHAIN)
        center = total / (N * S)
        square = np.float64(0)
        for i in range(N * parts):
            d = means[c, i] - center
            square += squares[c, i] + d * d * (min(S, i % parts * CHAIN + CHAIN) - i % parts * CHAIN)
        mean[c], variance[c] = center, square / (N * S)


@jit
def column_statistics(t, x, mean, variance):
    """Task t: mean and biased variance of channels t * COLUMNS .. of x (N, C)."""
    N, C = x.shape
    c0, c1 = t * COLUMNS, min(C, t * COLUMNS + COLUMNS)
    total, square = np.zeros(c1 - c0, np.float64), np.zeros(c1 - c0, np.float64)
    for n in range(N):
        row = x[n, c0:c1]
        for c in range(c1 - c0):
            total[c] += row[c]
    for c in range(c1 - c0):
        total[c] /= N
    for n in range(N):
        row = x[n, c0:c1]
        for c in range(c1 - c0):
            d = row[c] - total[c]
            square[c] += d * d
    for c in range(c1 - c0):
        mean[c0 + c], variance[c0 + c] = total[c], square[c] / N


@jit
def statistics_serial(x, mean, variance):
    N, C, S = x.shape
    if S == 1:
        for t in range((C + COLUMNS - 1) // COLUMNS):
            column_statistics(t, x.reshape(N, C), mean, variance)
    else:
        means, squares = np.empty((C, N * parts_of(S)), np.float64), np.empty((C, N * parts_of(S)), np.float64)
        for t in range(means.size):
            part_statistics(t, x, means, squares)
        combine(N, S, means, squares, mean, variance)


@jit(parallel=True)
def statistics_parallel(x, mean, variance):
    N, C, S = x.shape
    if S == 1:
        matrix = x.reshape(N, C)
        for t in prange((C + COLUMNS - 1) // COLUMNS):
            column_statistics(t, matrix, mean, variance)
    else:
        means, squares = np.empty((C, N * parts_of(S)), np.float64), np.empty((C, N * parts_of(S)), np.float64)
        for t in prange(means.size):
            part_statistics(t, x, means, squares)
        combine(N, S, means, squares, mean, variance)


# ---------------------------------------------------------------- y
@jit
def tasks_of(N, C, S):
    """Tasks of an elementwise pass: the parts of every row, or the blocks of a matrix."""
    if S == 1:
        return ((N + ROWS - 1) // ROWS) * ((C + COLUMNS - 1) // COLUMNS)
    return N * C * parts_of(S)


@jit(exact=True)
def normalize_part(t, x, mean, rest, scale, shift, y):
    """y = ((x - mean) - rest) * scale + shift, in that order: the part or block t. mean ... shift: (C,) in the dtype of x (N, C, S)."""
    N, C, S = x.shape
    xf, yf = x.reshape(-1), y.reshape(-1)
    if S == 1:
        c_blocks = (C + COLUMNS - 1) // COLUMNS
        n0, c0 = t // c_blocks * ROWS, t % c_blocks * COLUMNS
        c1 = min(C, c0 + COLUMNS)
        m, r, a, b = mean[c0:c1], rest[c0:c1], scale[c0:c1], shift[c0:c1]
        for n in range(n0, min(N, n0 + ROWS)):
            xs, ys = xf[n * C + c0:n * C + c1], yf[n * C + c0:n * C + c1]
            for c in range(c1 - c0):
                ys[c] = ((xs[c] - m[c]) - r[c]) * a[c] + b[c]
    else:
        parts = parts_of(S)
        part, row = t % parts, t // parts
        c = row % C
        m, r, a, b = mean[c], rest[c], scale[c], shift[c]
        s0, n = row * S + part * CHAIN, min(CHAIN, S - part * CHAIN)
        xs, ys = xf[s0:s0 + n], yf[s0:s0 + n]
        for s in range(n):
            ys[s] = ((xs[s] - m) - r) * a + b


@jit(exact=True)
def normalize_serial(x, mean, rest, scale, shift, y):
    for t in range(tasks_of(x.shape[0], x.shape[1], x.shape[2])):
        normalize_part(t, x, mean, rest, scale, shift, y)


@jit(parallel=True, exact=True)
def normalize_parallel(x, mean, rest, scale, shift, y):
    for t in prange(tasks_of(x.shape[0], x.shape[1], x.shape[2])):
        normalize_part(t, x, mean, rest, scale, shift, y)


# ---------------------------------------------------------------- gradients
@jit
def gradient_sums_part(t, dout, x, mean, douts, products, offsets):
    """Task t = (n * C + c) * parts + part: the sums of dout, of dout * (x - mean) and of x - mean over that part. mean: (C,) float64."""
    N, C, S = x.shape
    parts = parts_of(S)
    part, row = t % parts, t // parts
    s0, n, m = row * S + part * CHAIN, min(CHAIN, S - part * CHAIN), mean[row % C]
    xs, ds = x.reshape(-1)[s0:s0 + n], dout.reshape(-1)[s0:s0 + n]
    total, product, offset = np.float64(0), np.float64(0), np.float64(0)
    for s in range(n):
        total += ds[s]
        product += ds[s] * (xs[s] - m)
        offset += xs[s] - m
    douts[row % C, row // C * parts + part] = total
    products[row % C, row // C * parts + part] = product
    offsets[row % C, row // C * parts + part] = offset


@jit
def gradient_sums_columns(t, dout, x, mean, dout_sum, product_sum, offset_sum):
    """Task t: the same for channels t * COLUMNS .. of x (N, C)."""
    N, C = x.shape
    c0, c1 = t * COLUMNS, min(C, t * COLUMNS + COLUMNS)
    total, product, offset, m = np.zeros(c1 - c0), np.zeros(c1 - c0), np.zeros(c1 - c0), mean[c0:c1]
    for n in range(N):
        ds, xs = dout[n, c0:c1], x[n, c0:c1]
        for c in range(c1 - c0):
            d = xs[c] - m[c]
            total[c] += ds[c]
            product[c] += ds[c] * d
            offset[c] += d
    dout_sum[c0:c1], product_sum[c0:c1], offset_sum[c0:c1] = total, product, offset


@jit
def gradient_sums_serial(dout, x, mean, dout_sum, product_sum, offset_sum):
    N, C, S = x.shape
    if S == 1:
        for t in range((C + COLUMNS - 1) // COLUMNS):
            gradient_sums_columns(t, dout.reshape(N, C), x.reshape(N, C), mean, dout_sum, product_sum, offset_sum)
    else:
        douts = np.empty((C, N * parts_of(S)), np.float64)
        products, offsets = np.empty_like(douts), np.empty_like(douts)
        for t in range(douts.size):
            gradient_sums_part(t, dout, x, mean, douts, products, offsets)
        fold_table(douts, dout_sum)
        fold_table(products, product_sum)
        fold_table(offsets, offset_sum)


@jit(parallel=True)
def gradient_sums_parallel(dout, x, mean, dout_sum, product_sum, offset_sum):
    N, C, S = x.shape
    if S == 1:
        dout_matrix, matrix = dout.reshape(N, C), x.reshape(N, C)
        for t in prange((C + COLUMNS - 1) // COLUMNS):
            gradient_sums_columns(t, dout_matrix, matrix, mean, dout_sum, product_sum, offset_sum)
    else:
        douts = np.empty((C, N * parts_of(S)), np.float64)
        products, offsets = np.empty_like(douts), np.empty_like(douts)
        for t in prange(douts.size):
            gradient_sums_part(t, dout, x, mean, douts, products, offsets)
        fold_table(douts, dout_sum)
        fold_table(products, product_sum)
        fold_table(offsets, offset_sum)


@jit(exact=True)
def gradient_part(t, dout, x, mean, rest, dout_mean, slope, scale, dx):
    """dx = ((dout - dout_mean) - ((x - mean) - rest) * slope) * scale, the part or block t. All but dout, x, dx: (C,)."""
    N, C, S = x.shape
    xf, df, dxf = x.reshape(-1), dout.reshape(-1), dx.reshape(-1)
    if S == 1:
        c_blocks = (C + COLUMNS - 1) // COLUMNS
        n0, c0 = t // c_blocks * ROWS, t % c_blocks * COLUMNS
        c1 = min(C, c0 + COLUMNS)
        m, r, d, k, a = mean[c0:c1], rest[c0:c1], dout_mean[c0:c1], slope[c0:c1], scale[c0:c1]
        for n in range(n0, min(N, n0 + ROWS)):
            xs, ds, ys = xf[n * C + c0:n * C + c1], df[n * C + c0:n * C + c1], dxf[n * C + c0:n * C + c1]
            for c in range(c1 - c0):
                ys[c] = ((ds[c] - d[c]) - ((xs[c] - m[c]) - r[c]) * k[c]) * a[c]
    else:
        parts = parts_of(S)
        part, row = t % parts, t // parts
        c = row % C
        m, r, d, k, a = mean[c], rest[c], dout_mean[c], slope[c], scale[c]
        s0, n = row * S + part * CHAIN, min(CHAIN, S - part * CHAIN)
        xs, ds, ys = xf[s0:s0 + n], df[s0:s0 + n], dxf[s0:s0 + n]
        for i in range(n):
            ys[i] = ((ds[i] - d) - ((xs[i] - m) - r) * k) * a


@jit(exact=True)
def gradient_serial(dout, x, mean, rest, dout_mean, slope, scale, dx):
    for t in range(tasks_of(x.shape[0], x.shape[1], x.shape[2])):
        gradient_part(t, dout, x, mean, rest, dout_mean, slope, scale, dx)


@jit(parallel=True, exact=True)
def gradient_parallel(dout, x, mean, rest, dout_mean, slope, scale, dx):
    for t in prange(tasks_of(x.shape[0], x.shape[1], x.shape[2])):
        gradient_part(t, dout, x, mean, rest, dout_mean, slope, scale, dx)
