"""Softmax and its logarithm along one axis, and their gradients: rows side by side in memory, or columns of (outer, D, inner).

    softmax      y = exp(x - m) / s        m = max(x), s = sum(exp(x - m))        dx = y (dout - sum(dout y))
    logarithm    y = x - m - log(s)                                               dx = dout - exp(y) sum(dout)

A task owns a block of whole rows or columns that stays in the cache from one pass to the next. exp runs over the block as one long row:
short rows would leave most elements to LLVM's scalar remainder. Kernels of the shared signature (kernels/tasks.py).
"""
from __future__ import annotations

import numpy as np

from .elementary import exp_negative, logarithm
from .jit import jit
from .simd import settle
from .simd_softmax import column_gradients

CHUNK = 4096                                 # elements that exp runs over at a time: they stay in L1
LANES = 64                                   # chains of a maximum


@jit(exact=True)
def exp_all(source, target):
    for i in range(target.size):
        target[i] = exp_negative(source[i])


@jit(exact=True)
def largest(x, chains):
    """The largest element of x that is no NaN. chains: LANES elements to work in."""
    best, done = x.dtype.type(-np.inf), 0
    if x.size >= 2 * LANES:
        chains[:] = -np.inf
        done = x.size // LANES * LANES
        for i in range(0, done, LANES):
            part = x[i:i + LANES]
            for j in range(LANES):           # no reduction, which LLVM would not make vectors of, as it may not reorder NaN
                chains[j] = part[j] if part[j] > chains[j] else chains[j]
        for j in range(LANES):
            best = chains[j] if chains[j] > best else best
    rest = x[done:]
    for i in range(rest.size):
        best = rest[i] if rest[i] > best else best
    return best


@jit(exact=True)
def exp_in_place(x):
    """A loop of its own: where source and target are one array, LLVM's test whether they overlap sends it to scalar code."""
    for i in range(x.size):
        x[i] = exp_negative(x[i])


@jit
def less(x, m, y):
    for i in range(y.size):
        y[i] = x[i] - m


@jit
def reduce_by(x, m):
    for i in range(x.size):
        x[i] -= m


@jit
def scale(x, factor):
    for i in range(x.size):
        x[i] *= factor


@jit
def sum_of(x):
    """In float64, of parts of CHUNK elements in the dtype of x."""
    total = np.float64(0)
    for i in range(0, x.size, CHUNK):
        part, some = x[i:i + CHUNK], x.dtype.type(0)
        for j in range(part.size):
            some += part[j]
        total += some
    return total


@jit
def product_sum(x, y):
    """The sum of x * y, like sum_of."""
    total = np.float64(0)
    for i in range(0, x.size, CHUNK):
        xs, ys, some = x[i:i + CHUNK], y[i:i + CHUNK], x.dtype.type(0)
        for j in range(xs.size):
            some += xs[j] * ys[j]
        total += some
    return total


@jit
def softmax_rows(first, last, src, weight, dst, bias, residual, job, table):
    """job: D, rows, rows of a task, whether the logarithm is wanted. Task t: the rows from t * that number on."""
    D, rows, count, log = job[0], job[1], job[2], job[3]
    line, chains = np.empty(CHUNK if log else 0, src.dtype), np.empty(LANES, src.dtype)
    for t in range(first, last):
        r0, r1 = t * count, min(rows, (t + 1) * count)
        if D > CHUNK:
            for r in range(r0, r1):
                x, y = src[r * D:(r + 1) * D], dst[r * D:(r + 1) * D]
                m, total = largest(x, chains), np.float64(0)
                for i in range(0, D, CHUNK):
                    part = y[i:i + CHUNK]
                    less(x[i:i + CHUNK], m, part)
                    if log:
                        exp_all(part, line[:part.size])
                        total += sum_of(line[:part.size])
                    else:
                        exp_in_place(part)
                        total += sum_of(part)
                if log:
                    reduce_by(y, src.dtype.type(logarithm(total)))
                else:
                    scale(y, src.dtype.type(1 / total))
        else:
            y = dst[r0 * D:r1 * D]
            for r in range(r0, r1):
                x = src[r * D:(r + 1) * D]
                less(x, largest(x, chains), dst[r * D:(r + 1) * D])
            if log:
                exp_all(y, line[:y.size])
            else:
                exp_in_place(y)
            for r in range(r1 - r0):
                part = y[r * D:(r + 1) * D]
                if log:
                    reduce_by(part, src.dtype.type(logarithm(sum_of(line[r * D:(r + 1) * D]))))
                else:
                    scale(part, src.dtype.type(1 / sum_of(part)))


@jit
def softmax_rows_backward(first, last, src, weight, dst, bias, residual, job, table):
    """src: y of the forward, weight: dout. job as for softmax_rows."""
    D, rows, count, log = job[0], job[1], job[2], job[3]
    for t in range(first, last):
        r0, r1 = t * count, min(rows, (t + 1) * count)
        if log:
            exp_all(src[r0 * D:r1 * D], dst[r0 * D:r1 * D])
        for r in range(r0, r1):
            y, dout, dx = src[r * D:(r + 1) * D], weight[r * D:(r + 1) * D], dst[r * D:(r + 1) * D]
            if log:
                share = src.dtype.type(sum_of(dout))
                for i in range(D):
                    dx[i] = dout[i] - dx[i] * share
            else:
                share = src.dtype.type(product_sum(dout, y))
                for i in range(D):
                    dx[i] = y[i] * (dout[i] - share)


@jit(exact=True)
def larger_of(x, m):
    for j in range(m.size):
        m[j] = x[j] if x[j] > m[j] else m[j]


@jit
def softmax_columns(first, last, src, weight, dst, bias, residual, job, table):
    """Task t = o * blocks + block, of (outer, D, inner).

    job: D, inner, columns of a task, blocks of columns, whether the logarithm is wanted, whether exp takes a block, one run of memory, at once.
    """
    D, inner, columns, blocks, log, whole = job[0], job[1], job[2], job[3], job[4], job[5]
    line = np.empty(0 if not log else D * inner if whole else columns, src.dtype)
    all_m, all_totals = np.empty(columns, src.dtype), np.empty(columns, np.float64)
    for t in range(first, last):
        c0 = t % blocks * columns
        n = min(columns, inner - c0)
        at, m, total = t // blocks * D * inner + c0, all_m[:n], all_totals[:n]
        m[:] = -np.inf
        total[:] = 0
        for d in range(D):
            larger_of(src[at + d * inner:at + d * inner + n], m)
        for d in range(D):
            x, y = src[at + d * inner:at + d * inner + n], dst[at + d * inner:at + d * inner + n]
            for j in range(n):
                y[j] = x[j] - m[j]
        if whole and log:
            exp_all(dst[at:at + D * inner], line)
        elif whole:
            exp_in_place(dst[at:at + D * inner])
        for d in range(D):
            y = dst[at + d * inner:at + d * inner + n]
            power = y if not log else line[d * n:d * n + n] if whole else line[:n]
            if not whole and log:
                exp_all(y, power)
            elif not whole:
                exp_in_place(y)
            for j in range(n):
                total[j] += power[j]
        if log:
            for j in range(n):
                m[j] = logarithm(total[j])
        else:
            for j in range(n):
                m[j] = 1 / total[j]
        for d in range(D):
            y = dst[at + d * inner:at + d * inner + n]
            if log:
                for j in range(n):
                    y[j] -= m[j]
            else:
                for j in range(n):
                    y[j] *= m[j]


@jit(views=True)
def softmax_columns_backward(first, last, src, weight, dst, bias, residual, job, table):
    """src: y of the forward, weight: dout. job as for softmax_columns; then how many columns further on memory is asked for, and whether the result
    is stored past the caches."""
    D, inner, columns, blocks, ahead, past = job[0], job[1], job[2], job[3], job[6], job[7]
    for t in range(first, last):
        c0 = t % blocks * columns
        column_gradients(src, weight, dst, t // blocks * D * inner + c0, D, inner, min(columns, inner - c0), ahead, past)
    settle(past)


@jit
def log_softmax_columns_backward(first, last, src, weight, dst, bias, residual, job, table):
    """src: y of the forward, weight: dout. job as for softmax_columns."""
    D, inner, columns, blocks, whole = job[0], job[1], job[2], job[3], job[5]
    all_totals, shares = np.empty(columns, np.float64), np.empty(columns, src.dtype)
    for t in range(first, last):
        c0 = t % blocks * columns
        n = min(columns, inner - c0)
        at, total, share = t // blocks * D * inner + c0, all_totals[:n], shares[:n]
        total[:] = 0
        for d in range(D):
            dout = weight[at + d * inner:at + d * inner + n]
            for j in range(n):
                total[j] += dout[j]
        for j in range(n):
            share[j] = total[j]
        if whole:
            exp_all(src[at:at + D * inner], dst[at:at + D * inner])
        for d in range(D):
            y, dout = src[at + d * inner:at + d * inner + n], weight[at + d * inner:at + d * inner + n]
            dx = dst[at + d * inner:at + d * inner + n]
            if not whole:
                exp_all(y, dx)
            for j in range(n):
                dx[j] = dout[j] - dx[j] * share[j]
