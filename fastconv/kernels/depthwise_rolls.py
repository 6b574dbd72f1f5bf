"""Depthwise convolution with kernels of 3 x 3 and stride 1 or 2: planes are gone down row by row (simd_depthwise_rolls.py).

Kernels have the signature of `tasks`, and the job, units and arguments of `depthwise`.
"""
from __future__ import annotations

import numpy as np

from .depthwise import CHAIN, FAR_BYTES, STACK_BYTES, SUMS_BYTES, add_taps, finite, part_of, unpack_job
from .jit import jit
from .simd import AHEAD_BYTES, lanes_of, prefetch
from .simd_depthwise import RELU, drain
from .simd_depthwise_rolls import ADD, ONE_TWO, TWO_ONE, pair_tile, roll_sums, roll_tile, spread_tile

PAIRED = 1                                   # `variant` of a job: small planes and stride 2, two rows of a result in a vector
WIDE_BYTES = 256                             # rows from which on those of stride 2 are asked for in the order of memory, not as the tile goes down
ROWS_BYTES, FAR_ROWS_BYTES = 8 * 1024, 4 * 1024      # of the source, that a tile goes down at once: the next columns find them in L1


@jit
def rows_down(row_bytes, far):
    """How many rows of a result a tile goes down at once, each of so many bytes of the source. far: they come from memory, which likes its order."""
    return max(8, (FAR_ROWS_BYTES if far else ROWS_BYTES) // max(1, row_bytes))


@jit
def ahead_of(one, other):
    """How many elements before their turn both images are asked for; 0: they are in L2."""
    return AHEAD_BYTES // one.itemsize if (one.size + other.size) * one.itemsize > FAR_BYTES else 0


@jit
def add_residual(target, added, relu):
    """target += added, clipped at 0 where `relu`."""
    zero = target.dtype.type(0)
    for i in range(target.size):
        value = target[i] + added[i]
        target[i] = zero if relu and value < 0 else value


@jit
def forward(first, last, src, weight, dst, bias, residual, job, table):
    """src: x, dst: y = conv + bias (F,) + residual (as y), where these are not empty; then ReLU. A task does some bands of rows of planes of y."""
    (N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, variant, bands, units, tasks, parts, relu, entries) = unpack_job(job)
    M, slack = F // C, PL + 2 * (3 + 2 * lanes_of(src))
    zeros, near = np.zeros(W + 2 * slack, src.dtype), ahead_of(src, dst)
    most = rows_down(W * SH * src.itemsize, near)
    in_order = near if SH == 2 and W * src.itemsize > WIDE_BYTES else 0
    near -= in_order
    flags = RELU if relu and not residual.size else 0
    unit, stop_unit = first * units // tasks, last * units // tasks
    plane, band = unit // bands, unit % bands
    n, f = plane // F, plane % F
    while variant == PAIRED and bands == 1 and unit < stop_unit:              # planes of an image
        planes = min(stop_unit - unit, F - f)
        pair_tile(planes, src, plane * H * W, H * W, H, W, -PT, weight, 9 * f, 3, 1, dst, plane * OH * OW, OH, OW, bias, f, flags, zeros, slack, near)
        if residual.size:
            start, stop = plane * OH * OW, (plane + planes) * OH * OW
            add_residual(dst[start:stop], residual[start:stop], relu)
        unit, plane, f = unit + planes, plane + planes, f + planes
        if f == F:
            f = 0
    for _ in range(unit, stop_unit):
        at, w_at = (n * C + (f if M == 1 else f // M)) * H * W, 9 * f
        addend = bias[f] if bias.size else src.dtype.type(0)
        oh, stop = part_of(band, bands, OH)
        while oh < stop:
            take, to = min(most, stop - oh), (plane * OH + oh) * OW
            if in_order:
                prefetch(src, at + (2 * oh - PT) * W + in_order, 2 * take * W)
                prefetch(dst, to + in_order, take * OW)
            if SH == 1:
                roll_tile(1, 0, src, at, H, W, oh - PT, -PL, weight, w_at, 3, 1, dst, to, OW, take, OW, addend, flags, zeros, slack, near)
            else:
                roll_tile(2, 0, src, at, H, W, 2 * oh - PT, -PL, weight, w_at, 3, 1, dst, to, OW, take, OW, addend, flags, zeros, slack, near)
            if residual.size:                    # they are in L1
                add_residual(dst[to:to + take * OW], residual[to:to + take * OW], relu)
            oh += take
        band += 1                                # divisions would cost as much as a small plane
        if band == bands:
            band, plane, f = 0, plane + 1, f + 1
            if f == F:
                n, f = n + 1, 0


@jit
def to_input(first, last, src, weight, dst, bias, residual, job, table):
    """src: dout, dst: dx. A task does some bands of rows of planes of dx; of stride 2 of pairs of rows."""
    (N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, variant, bands, units, tasks, parts, relu, entries) = unpack_job(job)
    M, A, slack, none = F // C, (H + SH - 1) // SH, PL + 2 * (3 + lanes_of(src)), src.dtype.type(0)
    zeros, near = np.zeros(OW + 2 * slack, src.dtype), ahead_of(src, dst)
    most = SH * rows_down(OW * src.itemsize, near)
    all_finite, two_col = finite(weight), PL // 2 - 1 + PL % 2
    unit, stop_unit = first * units // tasks, last * units // tasks
    plane, band = unit // bands, unit % bands
    c = plane % C
    for _ in range(unit, stop_unit):
        dout_at, dx_at, w_at = plane * M * OH * OW, plane * H * W, 9 * c * M
        a0, a1 = part_of(band, bands, A)
        h, stop = SH * a0, min(H, SH * a1)
        if not all_finite and not finite(weight[w_at:w_at + 9 * M]):
            add_taps(src, dout_at, weight, w_at, dst, dx_at, a0, a1, C, H, W, M, OH, OW, 3, 3, SH, SW, PT, PL, 1, 1)
            h = stop
        while h < stop:
            take, to = min(most, stop - h), dx_at + h * W
            for m in range(M):                   # the sums of the filters before stand in dx
                flags, at, w_m = (ADD if m else 0), dout_at + m * OH * OW, w_at + 9 * m
                if SH == 1 and M == 1:
                    roll_tile(1, 0, src, at, OH, OW, h + PT - 2, PL - 2, weight, w_m + 8, -3, -1, dst, to, W, take, W, none, 0, zeros, slack, near)
                elif SH == 1:
                    roll_tile(1, 1, src, at, OH, OW, h + PT - 2, PL - 2, weight, w_m + 8, -3, -1, dst, to, W, take, W, none, flags, zeros, slack, near)
                elif PL % 2 and M == 1:
                    spread_tile(ONE_TWO, 0, src, at, OH, OW, h + PT, two_col, weight, w_m, dst, to, W, take, W, 0, zeros, slack, near)
                elif PL % 2:
                    spread_tile(ONE_TWO, 1, src, at, OH, OW, h + PT, two_col, weight, w_m, dst, to, W, take, W, flags, zeros, slack, near)
                else:
                    spread_tile(TWO_ONE, 1, src, at, OH, OW, h + PT, two_col, weight, w_m, dst, to, W, take, W, flags, zeros, slack, near)
            h += take
        band += 1
        if band == bands:
            band, plane, c = 0, plane + 1, c + 1
            if c == C:
                c = 0


@jit
def to_weight(first, last, src, weight, dst, bias, residual, job, table):
    """src: x, weight: dout, dst: (parts, F, 3, 3), bias: where it is not empty the gradient to the bias, (parts, F): all as `depthwise.to_weight` has it.

    A kernel of its own: in one with the tiles of other kernels those of stride 2 took 4 to 10 % longer.
    """
    (N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, variant, bands, units, tasks, parts, relu, entries) = unpack_job(job)
    lanes, near = lanes_of(src), ahead_of(src, weight)
    M, slack, x_plane, d_plane = F // C, PL + 2 * (3 + 2 * lanes), H * W, OH * OW
    together = max(1, SUMS_BYTES // (9 * lanes * src.itemsize))                  # filters whose sums are kept from image to image
    stack = 1                                # small planes that one tile goes through
    if M == 1:
        stack = max(1, min(together, STACK_BYTES // ((x_plane + d_plane) * src.itemsize)))
    biases = together * 9                    # behind the sums of the taps, those of dout
    room = biases + together + lanes         # `drain` takes `lanes` sums at once
    zeros, sums, total = np.zeros(W + 2 * slack, src.dtype), np.zeros(room * lanes, src.dtype), np.zeros(room, np.float64)
    most = min(rows_down(W * SH * src.itemsize, near), CHAIN, OH)
    segment, groups = CHAIN // most * lanes, tasks // parts
    for task in range(first, last):
        part, group = task % parts, task // parts
        line_begin, line_end = part_of(part, parts, N * OH)
        f_begin, f_end = part_of(group, groups, F)
        for f0 in range(f_begin, f_end, together):
            f1, line, terms = min(f_end, f0 + together), line_begin, 0
            n, oh_begin = line // OH, line % OH
            while line < line_end:               # an image, or the part of it that is this task's
                oh_end, terms_before = min(OH, oh_begin + line_end - line), terms
                for f in range(f0, f1, stack):
                    planes, oh, terms = min(stack, f1 - f), oh_begin, terms_before
                    at, tap0, d_plane_at = (n * C + (f if M == 1 else f // M)) * x_plane, (f - f0) * 9, (n * F + f) * d_plane
                    s0, d0 = tap0 * lanes, (biases + f - f0) * lanes
                    while oh < oh_end:
                        take, row = min(most, oh_end - oh), oh * SH - PT
                        for ow in range(0, OW, segment):
                            columns = min(segment, OW - ow)
                            d_at, col = d_plane_at + oh * OW + ow, ow * SW - PL
                            chain = take * ((columns + lanes - 1) // lanes)
                            if terms + chain > CHAIN:
                                drain(sums, s0, planes * 9, total, tap0)
                                drain(sums, d0, planes, total, biases + f - f0)
                                terms = 0
                            terms += chain
                            if SH == 1:
                                roll_sums(1, planes, src, at, x_plane, H, W, row, col, weight, d_at, d_plane, OW, take, columns, sums, s0, d0,
                                          zeros, slack, near)
                            else:
                                roll_sums(2, planes, src, at, x_plane, H, W, row, col, weight, d_at, d_plane, OW, take, columns, sums, s0, d0,
                                          zeros, slack, near)
                        oh += take
                line, n, oh_begin = line + oh_end - oh_begin, n + 1, 0
            drain(sums, 0, (f1 - f0) * 9, total, 0)
            drain(sums, biases * lanes, f1 - f0, total, biases)
            line, found = dst[(part * F + f0) * 9:(part * F + f1) * 9], total[:(f1 - f0) * 9]
            for i in range((f1 - f0) * 9):
                line[i] = found[i]
            if bias.size:
                line, found = bias[part * F + f0:part * F + f1], total[biases:biases + f1 - f0]
                for i in range(f1 - f0):
                    line[i] = found[i]
            total[:] = 0
