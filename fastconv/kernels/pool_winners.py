"""Poolings of small planes whose windows are lists: many planes side by side, as in `pool_planes`.

Every window is a list of elements of a plane, the same for all of them, in row-major order: whatever its size, stride, dilation and edges, and
of whatever sizes the others are. Units: groups of as many planes as a vector has lanes. job: planes, tasks, units, elements of a plane and of
its result, where the list of each window begins and the last one ends, then the lists. Kernels have the signature of `tasks`.
"""
from __future__ import annotations

import numpy as np

from .gemm import aligned
from .jit import jit
from .pool_planes import load, store
from .simd_planes import EXACT, MAX, mean, share, winners
from .simd_pool import any_nan
from .tiles import VECTOR_BYTES

HEAD = 5                                     # integers of a job before the lists


@jit
def unpack(first, last, job, lanes):
    """Planes, elements of a plane and of its result, beginnings of the lists, the lists, the units of tasks first .. last, and where the
    elements of planes side by side lie: one vector behind the other."""
    tasks, units, size, outputs = job[1], job[2], job[3], job[4]
    begins, elements, places = job[HEAD:HEAD + outputs + 1], job[HEAD + outputs + 1:], np.arange(max(size, outputs)) * lanes
    return job[0], size, outputs, begins, elements, first * units // tasks, last * units // tasks, places


@jit
def planes_of(unit, planes, lanes):
    """The first plane of a unit, and how many there are."""
    return unit * lanes, min(lanes, planes - unit * lanes)


@jit(exact=True)
def all_winners(src, plane, count, size, x, places, outputs, begins, elements, best, where, lowest, lanes):
    """Of every window of these planes, its maximum and which element it is, as vectors one behind the other."""
    nan = any_nan(src, plane * size, count * size)       # reads all of them in order: the planes side by side would miss the caches
    load(src, plane * size, count, size, x, places, lanes)
    if nan:
        for o in range(outputs):
            winners(EXACT, x, elements, begins[o], begins[o + 1] - begins[o], best, where, o * lanes, lowest)
    else:
        for o in range(outputs):
            winners(MAX, x, elements, begins[o], begins[o + 1] - begins[o], best, where, o * lanes, lowest)


@jit(exact=True)
def maximum_winners(first, last, src, weight, dst, bias, residual, job, table):
    """src: x, dst: y, bias: -inf. table: the indices, written too, or empty."""
    lanes = VECTOR_BYTES // src.itemsize
    planes, size, outputs, begins, elements, start, stop, places = unpack(first, last, job, lanes)
    x, best, where = aligned(size * lanes, src), aligned((outputs + lanes) * lanes, src), np.empty(outputs * lanes, np.int32)
    for unit in range(start, stop):
        plane, count = planes_of(unit, planes, lanes)
        all_winners(src, plane, count, size, x, places, outputs, begins, elements, best, where, bias[0], lanes)
        store(best, outputs, dst, plane * outputs, count, lanes)
        if table.size:
            for r in range(count):
                indices, winner = table[(plane + r) * outputs:(plane + r + 1) * outputs], where[r:]
                for o in range(outputs):
                    indices[o] = winner[o * lanes]


@jit(exact=True)
def max_backward_winners(first, last, src, weight, dst, bias, residual, job, table):
    """src: dout, weight: x, dst: dx, bias: -inf."""
    lanes = VECTOR_BYTES // src.itemsize
    planes, size, outputs, begins, elements, start, stop, places = unpack(first, last, job, lanes)
    x, best, where = aligned(size * lanes, src), aligned(outputs * lanes, src), np.empty(outputs * lanes, np.int32)
    for unit in range(start, stop):
        plane, count = planes_of(unit, planes, lanes)
        all_winners(weight, plane, count, size, x, places, outputs, begins, elements, best, where, bias[0], lanes)
        dx, dout = dst[plane * size:(plane + count) * size], src[plane * outputs:(plane + count) * outputs]
        dx[:] = 0
        for o in range(outputs):             # plane after plane for each: what is added to one place lies far apart
            for r in range(count):
                place = where[o * lanes + r]
                if place >= 0:
                    dx[np.uint64(r * size + place)] += dout[np.uint64(r * outputs + o)]


@jit
def average_lists(first, last, src, weight, dst, bias, residual, job, table):
    """src: x, dst: y. No list is empty."""
    lanes = VECTOR_BYTES // src.itemsize
    planes, size, outputs, begins, elements, start, stop, places = unpack(first, last, job, lanes)
    x, y = aligned(size * lanes, src), aligned((outputs + lanes) * lanes, src)
    for unit in range(start, stop):
        plane, count = planes_of(unit, planes, lanes)
        any_nan(src, plane * size, count * size)             # reads all of them in order
        load(src, plane * size, count, size, x, places, lanes)
        for o in range(outputs):
            mean(x, elements, begins[o], begins[o + 1] - begins[o], y, o * lanes)
        store(y, outputs, dst, plane * outputs, count, lanes)


@jit
def average_backward_lists(first, last, src, weight, dst, bias, residual, job, table):
    """src: dout, dst: dx. No list is empty."""
    lanes = VECTOR_BYTES // src.itemsize
    planes, size, outputs, begins, elements, start, stop, places = unpack(first, last, job, lanes)
    dout, dx = aligned(outputs * lanes, src), aligned((size + lanes) * lanes, src)
    for unit in range(start, stop):
        plane, count = planes_of(unit, planes, lanes)
        load(src, plane * outputs, count, outputs, dout, places, lanes)
        dx[:size * lanes] = 0
        for o in range(outputs):
            share(dout, o * lanes, elements, begins[o], begins[o + 1] - begins[o], dx)
        store(dx, size, dst, plane * size, count, lanes)
