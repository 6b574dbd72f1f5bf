"""Sums over the batch and the pixels of each channel, in two levels: short chains in the working dtype, their sums in float64.

Arrays are (N, C, S), and their rows are cut into `parts` of at most CHAIN elements. Where one channel must use every core, partial results
stand in a table (C, N * parts) and are added in its order, so that no sum depends on the number of threads.
"""
from __future__ import annotations

import numpy as np

from .jit import jit
from .rows import sum_strided

CHAIN = 4096                                 # elements of one part: 16 KiB of float32, so that a second look finds them in L1


@jit
def parts_of(S):
    return max(1, (S + CHAIN - 1) // CHAIN)


@jit
def fold_table(table, result):
    """result[c] = the sum of row c of table (C, parts)."""
    for c in range(table.shape[0]):
        total = np.float64(0)
        for i in range(table.shape[1]):
            total += table[c, i]
        result[c] = total


@jit
def sum_channels(first, last, src, weight, dst, bias, residual, job, table):
    """Tasks: a channel of src (N, C, S), dst[c] = its sum. job: N, C, S."""
    N, C, S = job[0], job[1], job[2]
    for c in range(first, last):
        total = np.float64(0)
        for n in range(N):
            for s0 in range(0, S, CHAIN):
                total += sum_strided(src, (n * C + c) * S + s0, 1, min(CHAIN, S - s0))
        dst[c] = total
