"""Depthwise convolution of small planes, a vector of channels side by side (simd_planes.py): rows of so few pixels leave most of a vector empty.

One filter a channel. Planes are turned around in memory, padding and all, and results back: what a tile reads and writes are whole vectors, in
the caches. Kernels have the signature of `tasks` and the job of `depthwise`. table: the elements of planes that are laid out so, and of their rows;
where the taps of each phase of a result start; where each element of a plane goes; two numbers for each tap, how far from the first element of a
window it is and where its weights are; and where the weights go, or dout. All but the starts times the lanes.
"""
from __future__ import annotations

import numpy as np

from .depthwise import CHAIN, add_taps, finite, part_of, unpack_job
from .direct import turn_taps
from .gemm import aligned
from .jit import jit
from .pool_planes import load, store
from .simd import borrowed, lanes_of
from .simd_depthwise_planes import COLUMNS, TAPS, sums_of_planes, taps_of_planes

FORWARD, TO_INPUT, TO_WEIGHT = range(3)      # `variant` of a job


@jit
def results(first, last, src, weight, dst, bias, residual, job, table):
    """src: x, or dout; dst: y, or dx. y = conv + bias (C,) + residual (as y), where these are not empty; then ReLU.

    Units: a vector of channels of one image, channels fastest: so memory is read and written in order.
    """
    (N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, variant, bands, units, tasks, parts, relu, entries) = unpack_job(job)
    lanes, T, zero = lanes_of(src), KH * KW, src.dtype.type(0)
    V, rows, columns, rise, down, across = H * W, OH, OW, SH, 1, 1
    if variant == TO_INPUT:                  # pixel (SH * a + p, SW * q + s) of dx is (a, q) of phase p * SW + s
        V, rows, columns, rise, down, across = OH * OW, H, W, 1, SH, SW
    R, blocks, phases = rows * columns, (C + lanes - 1) // lanes, down * across
    most = (columns + across - 1) // across  # of a row's results in one phase
    wide, starts, spots = table[1], table[2:], table[3 + phases:]
    taps, places = spots[V:], spots[V + 2 * T:]
    own_x, own_y, own_filters = aligned(table[0], src), aligned((R + (COLUMNS + 1) * across + lanes) * lanes, src), aligned((T + 1) * lanes, src)
    own_x[:] = 0
    own_filters[:] = 0                       # the bias behind the weights
    x, y, filters, weight, dst, bias = borrowed(own_x), borrowed(own_y), borrowed(own_filters), borrowed(weight), borrowed(dst), borrowed(bias)
    unit, stop = first * units // tasks, last * units // tasks
    block, n = unit % blocks, unit // blocks
    for _ in range(unit, stop):
        c = block * lanes
        count, source, at, w_at = min(lanes, C - c), (n * C + c) * V, (n * C + c) * R, c * T
        block += 1
        if block == blocks:
            block, n = 0, n + 1
        if variant == TO_INPUT and not finite(weight[w_at:w_at + count * T]):
            for r in range(count):
                add_taps(src, source + r * V, weight, w_at + r * T, dst, at + r * R, 0, H, C, H, W, 1, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW)
            continue
        turn_taps(weight, w_at, T, count, filters, places)
        if bias.size:
            addend, added = filters[T * lanes:], bias[c:c + count]
            for r in range(count):
                addend[r] = added[r]
        load(src, source, count, V, x, spots, lanes)
        if T == TAPS and phases == 1:
            taps_of_planes(TAPS, x, 0, rise * wide, taps, 0, T, filters, T * lanes, y, 0, columns * lanes, lanes, rows, columns)
        else:                                # row by row, as what is written behind one is written over
            to, line = 0, 0
            for a in range(0, rows, down):
                for phase in range(0, min(down, rows - a) * across, across):
                    for s in range(min(across, columns)):
                        taps_of_planes(0, x, line, 0, taps, starts[phase + s], starts[phase + s + 1], filters, T * lanes, y, to + s * lanes, 0,
                                       across * lanes, 1, most)
                    to += columns * lanes
                line += rise * wide
        store(y, R, dst, at, count, lanes)
        if residual.size:
            target, added = dst[at:at + count * R], residual[at:at + count * R]
            for p in range(count * R):
                target[p] += added[p]
        if relu:
            target = dst[at:at + count * R]
            for p in range(count * R):
                target[p] = zero if target[p] < 0 else target[p]
    own_x[0] = own_y[0] = own_filters[0] = 0                 # in use until here


@jit
def to_weight(first, last, src, weight, dst, bias, residual, job, table):
    """src: x, weight: dout, dst: (parts, C, KH, KW), bias: where it is not empty the gradient to the bias, (parts, C): all as `depthwise.to_weight` has it.

    A task takes vectors of channels of one part of the images.
    """
    (N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, variant, bands, units, tasks, parts, relu, entries) = unpack_job(job)
    lanes, blocks, groups = lanes_of(src), (C + lanes_of(src) - 1) // lanes_of(src), tasks // parts
    x, dout, size = aligned(table[0], src), aligned(OH * OW * lanes, src), (blocks + groups - 1) // groups * (KH * KW + 1) * lanes
    sums, total = np.zeros(size + lanes * lanes, src.dtype), np.zeros(size, np.float64)      # `store` reads more than there is
    x[:] = 0
    for task in range(first, last):
        part, group = task % parts, task // parts
        n_begin, n_end = part_of(part, parts, N)
        begin, end = part_of(group, groups, blocks)
        add_images(n_begin, n_end, begin, end, src, weight, job, table, x, dout, sums, total)
        take_sums(part * C, C, begin, end, lanes, KH * KW, total, sums, dst, bias)


@jit(views=True)
def add_images(n_begin, n_end, begin, end, src, weight, job, table, x, dout, sums, total):
    """total += what these images give for the vectors of channels begin .. end: their taps, and dout itself behind them; chains in sums, which is 0."""
    (N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, variant, bands, units, tasks, parts, relu, entries) = unpack_job(job)
    lanes, T, V, R = lanes_of(src), KH * KW, H * W, OH * OW
    wide, spots, terms = table[1], table[4:], 0
    taps, places = spots[V:], spots[V + 2 * T:]
    for n in range(n_begin, n_end):
        for block in range(begin, end):
            c, to = block * lanes, (block - begin) * (T + 1) * lanes
            count, plane_at = min(lanes, C - c), n * C + c
            load(src, plane_at * V, count, V, x, spots, lanes)
            load(weight, plane_at * R, count, R, dout, places, lanes)
            for k in range(0, T, TAPS):
                sums_of_planes(x, SH * wide, taps, k, min(TAPS, T - k), dout, OH, OW, sums, to + k * lanes, to + T * lanes)
        terms += R
        if terms + R > CHAIN or n + 1 == n_end:
            terms = 0
            for i in range(total.size):
                total[i] += sums[i]
                sums[i] = 0


@jit(views=True)
def take_sums(f, C, begin, end, lanes, T, total, sums, dst, bias):
    """The gradients of vectors of channels begin .. end, f filters further on in dst and bias; total is 0 afterwards."""
    for i in range(total.size):
        sums[i] = total[i]
        total[i] = 0
    for block in range(begin, end):
        found, c = sums[(block - begin) * (T + 1) * lanes:], block * lanes
        count = min(lanes, C - c)
        store(found, T, dst, (f + c) * T, count, lanes)
        if bias.size:
            line, source = bias[f + c:f + c + count], found[T * lanes:(T + 1) * lanes]
            for r in range(count):
                line[r] = source[r]
    for i in range(total.size):
        sums[i] = 0
