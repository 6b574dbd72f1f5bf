"""Dropout by numbers that depend on a key and an element's place alone: any thread can draw them, and every thread count draws the same.

Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011): ten rounds of multiplications turn a
counter and a key into four words of 32 bits. Kernels of the shared signature (kernels/tasks.py).
"""
from __future__ import annotations

import numpy as np

from .jit import jit

BLOCK = 16384                                # elements of one task
PART = 1024                                  # elements drawn for at a time: element i of a part takes word i // 256 of counter i % 256
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
W0, W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@jit
def draw(part, key0, key1, words):
    """words (PART) of 32 bits each, those of this part. key0, key1: uint64 below 2^32."""
    quarter = PART // 4
    first, second, third, fourth = words[:quarter], words[quarter:2 * quarter], words[2 * quarter:3 * quarter], words[3 * quarter:]
    start = np.uint64(part) * np.uint64(quarter)
    for i in range(quarter):
        counter = start + np.uint64(i)
        c0, c1, c2, c3 = counter & LOW, counter >> HALF, np.uint64(0), np.uint64(0)
        k0, k1 = key0, key1
        for _ in range(10):
            p0, p1 = M0 * c0, M1 * c2
            c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW
            k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
        first[i], second[i], third[i], fourth[i] = c0, c1, c2, c3


@jit
def dropout(first, last, src, weight, dst, bias, residual, job, table):
    """dst = src * mask. weight: the mask, written too, or empty. bias: the factor of what stays. job: two words of the key, and the words,
    of 2^32, below which an element is dropped."""
    key0, key1, threshold, factor = np.uint64(job[0]), np.uint64(job[1]), np.uint64(job[2]), bias[0]
    words, line, zero = np.empty(PART, np.uint64), np.empty(PART, src.dtype), src.dtype.type(0)
    for lo in range(first * BLOCK, min(dst.size, last * BLOCK), PART):
        draw(lo // PART, key0, key1, words)
        x = src[lo:lo + PART]
        n = x.size
        y, mask = dst[lo:lo + n], weight[lo:lo + n] if weight.size else line[:n]
        for i in range(n):
            mask[i] = zero if words[i] < threshold else factor
        for i in range(n):
            y[i] = x[i] * mask[i]


@jit
def dropout_backward(first, last, src, weight, dst, bias, residual, job, table):
    """dst = weight * src: dout and the mask."""
    lo, hi = first * BLOCK, min(dst.size, last * BLOCK)
    mask, dout, dx = src[lo:hi], weight[lo:hi], dst[lo:hi]
    for i in range(dx.size):
        dx[i] = dout[i] * mask[i]
