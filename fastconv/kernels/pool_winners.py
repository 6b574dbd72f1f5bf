"""Max pooling of small planes with the places of the maxima, and its gradient: many planes side by side, as in `pool_planes`.

Every window is a list of elements of a plane, the same for all of them, in row-major order: whatever its size, stride, dilation and edges.
src: x, or dout of the gradient, whose `weight` is x; dst: y, or dx; table: the indices, of the forward; bias: -inf. Units: groups of as many
planes as a vector has lanes. job: planes, tasks, units, elements of a plane and of its result, where the list of each window begins and the
last one ends, then the lists. Kernels have the signature of `tasks`.
"""
from __future__ import annotations

import numpy as np

from .gemm import aligned
from .jit import jit
from .pool_planes import load, store
from .simd_planes import give, planes_out, winners
from .tiles import VECTOR_BYTES

HEAD = 5                                     # integers of a job before the lists


@jit
def unpack(job):
    """planes, tasks, units, elements of a plane and of its result, beginnings of the lists, and the lists."""
    outputs = job[4]
    return job[0], job[1], job[2], job[3], outputs, job[HEAD:HEAD + outputs + 1], job[HEAD + outputs + 1:]


@jit(exact=True)
def all_winners(x, outputs, begins, elements, best, where, lowest, lanes):
    """Of every window, its maximum and which element it is, as vectors one behind the other."""
    for o in range(outputs):
        winners(x, elements, begins[o], begins[o + 1] - begins[o], best, where, o * lanes, lowest)


@jit(exact=True)
def maximum_winners(first, last, src, weight, dst, bias, residual, job, table):
    """y and the indices."""
    lanes = VECTOR_BYTES // src.itemsize
    planes, tasks, units, size, outputs, begins, elements = unpack(job)
    places = np.arange(max(size, outputs)) * lanes       # one vector behind the other
    x, best, where = aligned(size * lanes, src), aligned((outputs + lanes) * lanes, src), aligned((outputs + lanes) * lanes, src)
    line = aligned(outputs * lanes, src)
    for unit in range(first * units // tasks, last * units // tasks):
        plane = unit * lanes
        count = min(lanes, planes - plane)
        load(src, plane, count, size, x, places, lanes)
        all_winners(x, outputs, begins, elements, best, where, bias[0], lanes)
        store(best, outputs, dst, plane, count, lanes, line)
        planes_out(where, outputs, line, 0)
        indices = table[plane * outputs:(plane + count) * outputs]
        for i in range(indices.size):
            indices[i] = np.int64(line[i])


@jit(exact=True)
def max_backward_winners(first, last, src, weight, dst, bias, residual, job, table):
    """dx."""
    lanes = VECTOR_BYTES // src.itemsize
    planes, tasks, units, size, outputs, begins, elements = unpack(job)
    places = np.arange(max(size, outputs)) * lanes       # one vector behind the other
    x, dx, line = aligned(size * lanes, src), aligned((size + lanes) * lanes, src), aligned(size * lanes, src)
    best, where, dout = aligned(outputs * lanes, src), aligned(outputs * lanes, src), aligned(outputs * lanes, src)
    for unit in range(first * units // tasks, last * units // tasks):
        plane = unit * lanes
        count = min(lanes, planes - plane)
        load(weight, plane, count, size, x, places, lanes)
        load(src, plane, count, outputs, dout, places, lanes)
        all_winners(x, outputs, begins, elements, best, where, bias[0], lanes)
        dx[:size * lanes] = 0
        for o in range(outputs):
            give(dout, where, o * lanes, elements, begins[o], begins[o + 1] - begins[o], dx)
        store(dx, size, dst, plane, count, lanes, line)
