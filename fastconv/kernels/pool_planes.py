"""Pooling of small planes, many side by side: a vector holds one element of each (simd_planes.py). Units: groups of so many planes.

Planes are laid out with their padding, so that every window is whole; windows are combined along one axis after the other. The same serves
the gradient of the average: dout, its elements a stride apart between zeros, under windows of stride 1.

src: x, or dout of a gradient; dst: y, or dx. table: where each element of a plane goes in the padded one, then the numbers of the elements of
the result, all times the lanes. Kernels have the signature of `tasks`.
"""
from __future__ import annotations

from .gemm import aligned
from .jit import jit
from .simd_planes import EXACT, MAX, SUM, divide, planes_in, planes_out, windows
from .simd_pool import any_nan
from .tiles import VECTOR_BYTES

# The integers of a job: elements of a plane, the padded plane, windows, their strides and dilations, and the result; which are divided.
NAMES = ("planes", "tasks", "units", "V", "HP", "WP", "DP", "KD", "KH", "KW", "SD", "SH", "SW", "DD", "DH", "DW", "OD", "OH", "OW", "gradient")


@jit
def unpack(job):
    return (job[0], job[1], job[2], job[3], job[4], job[5], job[6], job[7], job[8], job[9], job[10], job[11], job[12], job[13], job[14],
            job[15], job[16], job[17], job[18], job[19])


@jit(views=True)
def load(src, at, count, V, target, places, lanes):
    """`count` planes of V elements from src[at] on, side by side."""
    if count == lanes and V >= lanes:
        planes_in(src, at, V, target, places, V * lanes)
        return
    for e in range(V):
        x, t = src[at + e:], target[places[e]:places[e] + lanes]
        for r in range(count):
            t[r] = x[r * V]


@jit(views=True)
def store(source, V, dst, at, count, lanes):
    """The reverse, from vectors one behind the other."""
    if count == lanes:
        planes_out(source, V, dst, at, V * lanes)
        return
    for e in range(V):
        s, y = source[e * lanes:(e + 1) * lanes], dst[at + e:]
        for r in range(count):
            y[r * V] = s[r]


@jit(inline=True)
def all_windows(kind, x, deep, row, y, job, lanes):
    """y: the windows of the padded planes x. deep, row: to work in, a plane and a row of windows over the whole width. kind: a literal."""
    planes, tasks, units, V, HP, WP, DP, KD, KH, KW, SD, SH, SW, DD, DH, DW, OD, OH, OW, gradient = unpack(job)
    width, plane = WP * lanes, HP * WP * lanes
    for od in range(OD):
        source, at = (deep, 0) if KD > 1 else (x, od * SD * plane)
        if KD > 1:
            windows(kind, KD, x, od * SD * plane, DD * plane, lanes, deep, 0, HP * WP)
        for oh in range(OH):
            windows(kind, KH, source, at + oh * SH * width, DH * width, lanes, row, 0, WP)
            windows(kind, KW, row, 0, DW * lanes, SW * lanes, y, (od * OH + oh) * OW * lanes, OW)


@jit(exact=True)
def maximum_planes(first, last, src, weight, dst, bias, residual, job, table):
    """float32 and float64, without indices. bias: -inf."""
    planes, tasks, units, V, HP, WP, DP, KD, KH, KW, SD, SH, SW, DD, DH, DW, OD, OH, OW, gradient = unpack(job)
    lanes = VECTOR_BYTES // src.itemsize
    x, deep = aligned(DP * HP * WP * lanes, src), aligned(HP * WP * lanes if KD > 1 else 0, src)
    row, y = aligned(WP * lanes, src), aligned((OD * OH * OW + lanes) * lanes, src)
    x[:] = bias[0]
    for unit in range(first * units // tasks, last * units // tasks):
        plane = unit * lanes
        count = min(lanes, planes - plane)
        nan = any_nan(src, plane * V, count * V)             # reads all of them in order: the planes side by side would miss the caches
        load(src, plane * V, count, V, x, table, lanes)
        if nan:
            all_windows(EXACT, x, deep, row, y, job, lanes)
        else:
            all_windows(MAX, x, deep, row, y, job, lanes)
        store(y, OD * OH * OW, dst, plane * OD * OH * OW, count, lanes)


@jit
def average_planes(first, last, src, weight, dst, bias, residual, job, table):
    """weight: how many elements each window counts. Of a gradient dout is divided by that, else the result."""
    planes, tasks, units, V, HP, WP, DP, KD, KH, KW, SD, SH, SW, DD, DH, DW, OD, OH, OW, gradient = unpack(job)
    lanes = VECTOR_BYTES // src.itemsize
    x, deep = aligned(DP * HP * WP * lanes, src), aligned(HP * WP * lanes if KD > 1 else 0, src)
    row, y = aligned(WP * lanes, src), aligned((OD * OH * OW + lanes) * lanes, src)
    x[:] = 0
    for unit in range(first * units // tasks, last * units // tasks):
        plane = unit * lanes
        count = min(lanes, planes - plane)
        any_nan(src, plane * V, count * V)                   # reads all of them in order
        load(src, plane * V, count, V, x, table, lanes)
        if gradient:
            divide(x, table, 0, V, weight)
        all_windows(SUM, x, deep, row, y, job, lanes)
        if not gradient:
            divide(y, table, V, OD * OH * OW, weight)
        store(y, OD * OH * OW, dst, plane * OD * OH * OW, count, lanes)
