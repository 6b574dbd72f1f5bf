"""Max unpooling of planes: each element goes to the place of its index, all others are 0. Its gradient fetches what lies there.

Kernels of the shared signature (kernels/tasks.py). job: elements of a plane of x, of a plane of the result, planes (forward) or elements
(backward) of a task, planes, parts of a plane of the result; and a place for a number that is no index: the kernels skip such places
and leave them there for the caller, who looks when they are done. table: the indices, -1 for an element that comes from nowhere.
"""
from __future__ import annotations

import numpy as np

from .jit import jit

AHEAD = 4096                                 # elements that are set to 0 at a time, shortly before they are written


@jit
def unpool(first, last, src, weight, dst, bias, residual, job, table):
    """src: x, dst: the result. Of elements of one index the last counts. Task t = block of planes * parts + part."""
    n, size, count, planes, parts = job[0], job[1], job[2], job[3], job[4]
    for t in range(first, last):
        part, p0 = t % parts, t // parts * count
        e0, e1 = part * size // parts, (part + 1) * size // parts
        for plane in range(p0, min(planes, p0 + count)):
            x, where, y = src[plane * n:(plane + 1) * n], table[plane * n:(plane + 1) * n], dst[plane * size:(plane + 1) * size]
            clear = e0                       # behind it nothing is written yet
            for i in range(n):
                at = where[i]
                if e0 <= at < e1:
                    if at >= clear:
                        end = min(e1, at + AHEAD)
                        y[clear:end] = 0
                        clear = end
                    y[at] = x[i]
                elif at < -1 or at >= size:
                    job[5] = at
            y[clear:e1] = 0


@jit
def unpool_backward(first, last, src, weight, dst, bias, residual, job, table):
    """src: dout, dst: dx."""
    n, size, count = job[0], job[1], job[2]
    lo, hi = first * count, min(dst.size, last * count)
    for plane in range(lo // n, (hi + n - 1) // n):
        i0, i1, dout = max(lo, plane * n), min(hi, (plane + 1) * n), src[plane * size:(plane + 1) * size]
        where, dx, missed = table[i0:i1], dst[i0:i1], False
        for i in range(len(where)):
            at = np.uint64(where[i])         # unsigned: one comparison, and Numba has nothing to wrap around
            if at < np.uint64(size):
                dx[i] = dout[at]
            else:
                dx[i] = 0
                missed = True
        for i in range(len(where) if missed else 0):
            if where[i] < -1 or where[i] >= size:
                job[5] = where[i]
