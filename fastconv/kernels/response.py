"""Local response normalisation of (N, C, S): each element divided by a power of the squares of its neighbours in other channels.

    y = x / div^beta,    div = k + alpha / size * sum of x^2 over the channels c - size // 2 .. c + (size - 1) // 2
    dx = dout / div^beta - 2 alpha beta / size * x * sum over the channels whose sum holds this one of  dout x / div^(beta + 1)

Kernels of the shared signature (kernels/tasks.py): task t = n * blocks + block, all channels of a block of pixels that stays in the cache. job: C, S,
pixels of a task, blocks, size. bias: alpha / size, beta, k.
"""
from __future__ import annotations

import math

import numpy as np

from .elementary import raised
from .jit import jit


@jit
def divisors(src, at, S, C, n, c, size, bias, div):
    """div = k + alpha / size * the sum of squares, for n pixels of channel c. Channel 0 of the block begins at src[at]."""
    div[:] = 0
    for other in range(max(0, c - size // 2), min(C, c + (size - 1) // 2 + 1)):
        x = src[at + other * S:at + other * S + n]
        for i in range(n):
            div[i] += x[i] * x[i]
    share, k = bias[0], bias[2]
    for i in range(n):
        div[i] = k + share * div[i]


@jit
def raise_by(div, beta, result):
    """result = div^-beta."""
    if beta == 0.75:
        for i in range(result.size):
            root = math.sqrt(div[i])
            result[i] = 1 / (root * math.sqrt(root))
    elif beta == 0.5:
        for i in range(result.size):
            result[i] = 1 / math.sqrt(div[i])
    elif beta == 1:
        for i in range(result.size):
            result[i] = 1 / div[i]
    elif beta == 0:
        result[:] = 1
    else:
        power = -np.float64(beta)
        for i in range(result.size):
            result[i] = raised(div[i], power, np.nan)


@jit
def response(first, last, src, weight, dst, bias, residual, job, table):
    """src: x, dst: y."""
    C, S, pixels, blocks, size = job[0], job[1], job[2], job[3], job[4]
    line = np.empty(pixels, src.dtype)
    for t in range(first, last):
        s0 = t % blocks * pixels
        n = min(pixels, S - s0)
        at, div = t // blocks * C * S + s0, line[:n]
        for c in range(C):
            divisors(src, at, S, C, n, c, size, bias, div)
            x, y = src[at + c * S:at + c * S + n], dst[at + c * S:at + c * S + n]
            raise_by(div, bias[1], y)
            for i in range(n):
                y[i] *= x[i]


@jit
def response_backward(first, last, src, weight, dst, bias, residual, job, table):
    """src: x, weight: dout, dst: dx. The sums of `size` channels are kept in turn."""
    C, S, pixels, blocks, size = job[0], job[1], job[2], job[3], job[4]
    factor = -2 * bias[0] * bias[1]
    kept = min(size, C)
    all_div, all_sums, all_terms = np.empty(pixels, src.dtype), np.empty(pixels, src.dtype), np.empty(kept * pixels, src.dtype)
    for t in range(first, last):
        s0 = t % blocks * pixels
        n = min(pixels, S - s0)
        at, div, sums = t // blocks * C * S + s0, all_div[:n], all_sums[:n]
        ready = 0                            # channels whose terms are known
        for c in range(C):
            while ready < min(C, c + size // 2 + 1):
                divisors(src, at, S, C, n, ready, size, bias, div)
                place = at + ready * S
                x, dout, dx = src[place:place + n], weight[place:place + n], dst[place:place + n]
                terms = all_terms[ready % kept * n:(ready % kept + 1) * n]
                raise_by(div, bias[1], dx)
                for i in range(n):
                    dx[i] *= dout[i]
                for i in range(n):
                    terms[i] = dx[i] * x[i] / div[i]
                ready += 1
            sums[:] = 0
            for other in range(max(0, c - (size - 1) // 2), ready):
                terms = all_terms[other % kept * n:(other % kept + 1) * n]
                for i in range(n):
                    sums[i] += terms[i]
            x, dx = src[at + c * S:at + c * S + n], dst[at + c * S:at + c * S + n]
            for i in range(n):
                dx[i] += factor * x[i] * sums[i]
