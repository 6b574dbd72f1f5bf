"""Sums over the batch and the pixels of each channel, in two levels: short chains in the working dtype, their sums in float64.

Arrays are (N, C, S). The channels' rows are cut into `parts` of at most CHAIN elements; partial results stand in a table
(C, N * parts) and are added in its order, so that one channel can use every core and no sum depends on the number of threads.
"""
from __future__ import annotations

import numpy as np
from numba import prange

from .jit import jit
from .rows import sum_strided

CHAIN = 4096                                 # elements of one part: 16 KiB of float32, so that a second look finds them in L1


@jit
def parts_of(S):
    return max(1, (S + CHAIN - 1) // CHAIN)


@jit
def sum_part(t, x, table):
    """Task t = (n * C + c) * parts + part: table[c, n * parts + part] = the sum of that part of x (N, C, S)."""
    N, C, S = x.shape
    parts = parts_of(S)
    part, row = t % parts, t // parts
    s0, s1 = part * CHAIN, min(S, part * CHAIN + CHAIN)
    table[row % C, row // C * parts + part] = sum_strided(x.reshape(-1), row * S + s0, 1, s1 - s0)


@jit
def fold_table(table, result):
    """result[c] = the sum of row c of table (C, parts)."""
    for c in range(table.shape[0]):
        total = np.float64(0)
        for i in range(table.shape[1]):
            total += table[c, i]
        result[c] = total


@jit
def sum_channels_serial(x, result):
    table = np.empty((x.shape[1], x.shape[0] * parts_of(x.shape[2])), np.float64)
    for t in range(table.size):
        sum_part(t, x, table)
    fold_table(table, result)


@jit(parallel=True)
def sum_channels_parallel(x, result):
    table = np.empty((x.shape[1], x.shape[0] * parts_of(x.shape[2])), np.float64)
    for t in prange(table.size):
        sum_part(t, x, table)
    fold_table(table, result)
