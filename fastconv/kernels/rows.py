"""Loops over one row, the innermost of the plain kernels: views first, so that LLVM sees indices that cannot be negative, and vectorises.

Numba wraps negative indices around, with a test at every access where it cannot rule them out. Strides 1 and 2 have loops of their
own: a constant stride becomes shuffles, any other one gathers.
"""
from __future__ import annotations

import numpy as np

from .jit import jit
from .simd import add_even, copy_row


@jit(views=True)
def fill(array, value):
    """Element by element: to compile the assignment of a slice takes seconds."""
    for i in range(array.size):
        array[i] = value


@jit(views=True)
def copy_strided(source, at, step, target, to, n):
    """target[to + i] = source[at + i * step] for i < n."""
    if step == 1:
        copy_row(1, source, at, target, to, n)
    elif step == 2:
        copy_row(2, source, at, target, to, n)
    else:
        s, t = source[at:], target[to:to + n]
        for i in range(n):
            t[i] = s[i * step]


@jit(views=True)
def add_strided(source, at, step, target, to, n):
    """target[to + i] += source[at + i * step] for i < n."""
    s, t = source[at:], target[to:to + n]
    if step == 1:
        for i in range(n):
            t[i] += s[i]
    elif step == 2:
        for i in range(n):
            t[i] += s[2 * i]
    else:
        for i in range(n):
            t[i] += s[i * step]


@jit(views=True)
def add_scaled(factor, source, at, step, target, to, n):
    """target[to + i] += factor * source[at + i * step] for i < n."""
    s, t = source[at:], target[to:to + n]
    if step == 1:
        for i in range(n):
            t[i] += factor * s[i]
    elif step == 2:
        for i in range(n):
            t[i] += factor * s[2 * i]
    else:
        for i in range(n):
            t[i] += factor * s[i * step]


@jit(views=True)
def add_spread(source, at, target, to, step, n):
    """target[to + i * step] += source[at + i] for i < n."""
    s, t = source[at:at + n], target[to:]
    if step == 1:
        for i in range(n):
            t[i] += s[i]
    elif step == 2:
        add_even(source, at, target, to, n)
    else:
        for i in range(n):
            t[i * step] += s[i]


@jit(views=True)
def add_scaled_spread(factor, source, at, target, to, step, n):
    """target[to + i * step] += factor * source[at + i] for i < n."""
    s, t = source[at:at + n], target[to:]
    if step == 1:
        for i in range(n):
            t[i] += factor * s[i]
    else:
        for i in range(n):
            t[i * step] += factor * s[i]


@jit(views=True)
def dot_strided(source, at, step, other, to, n):
    """sum over i < n of source[at + i * step] * other[to + i], one chain in the working dtype."""
    s, o = source[at:], other[to:to + n]
    total = source.dtype.type(0)
    if step == 1:
        for i in range(n):
            total += s[i] * o[i]
    else:
        for i in range(n):
            total += s[i * step] * o[i]
    return total


@jit(views=True)
def sum_strided(source, at, step, n):
    """sum over i < n of source[at + i * step], in float64."""
    s = source[at:]
    total = np.float64(0)
    if step == 1:
        for i in range(n):
            total += s[i]
    else:
        for i in range(n):
            total += s[i * step]
    return total
