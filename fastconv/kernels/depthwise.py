"""Depthwise convolution, forward and both gradients: each filter reads one channel, filter f channel f // (F // C).

    y[n, f, oh, ow]    = sum over kh, kw of x[n, c, oh * SH - PT + kh * DH, ow * SW - PL + kw * DW] * weight[f, kh, kw]
    dx[n, c, h, w]     = sum over the filters of c, outputs and taps that read (h, w) of dout[n, f, oh, ow] * weight[f, kh, kw]
    dweight[f, kh, kw] = sum over n, oh, ow of dout[n, f, oh, ow] * x[n, c, oh * SH - PT + kh * DH, ow * SW - PL + kw * DW]

All three read their planes in place, vectors along the rows (`simd_depthwise`). Square kernels of 5 and 7 without dilation have tiles
that load a row of the image once for all rows of the result that it touches; any other shape goes tap by tap, through a table of entries.
Those of 3 with stride 1 or 2 have kernels of their own (depthwise_rolls.py).
A task owns bands of rows of its result, or filters of one part of the batch; kernels have the signature of `tasks`.
"""
from __future__ import annotations

import numpy as np

from .jit import jit
from .simd import AHEAD_BYTES, integers, lanes_of, prefetch
from .simd_depthwise import MIDDLE, RELU, RESIDUAL, any_tile, drain, row_tile, tap_tile

JOB = ("N", "C", "H", "W", "F", "OH", "OW", "KH", "KW", "SH", "SW", "PT", "PL", "DH", "DW",
       "variant", "bands", "units", "tasks", "parts", "relu", "entries")
SIZES = len(JOB)
# variant: which tiles
FIVE_1, FIVE_2, SEVEN_1, ANY_1, ANY_2, ANY = range(6)
CHAIN = 512                                  # terms of one chain of a sum
SUMS_BYTES = 64 * 1024                       # sums of the taps of some filters, a vector each
FAR_BYTES = 3 * 2**19                        # of both images, from which on rows to read and to write are asked for ahead of time: they are beyond L2
STACK_BYTES = 32 * 1024                      # planes of x and dout that one tile goes through


@jit
def unpack_job(job):
    """The integers of JOB."""
    return integers(SIZES, job)


@jit
def part_of(i, parts, size):
    """Where part i of `parts` of an axis starts and ends."""
    return (i * size // parts, (i + 1) * size // parts) if parts > 1 else (0, size)


@jit
def forward(first, last, src, weight, dst, bias, residual, job, table):
    """src: x (N, C, H, W), dst: y (N, F, OH, OW). y = conv + bias (F,) + residual (as y), where these are not empty; then ReLU.

    Units: bands of rows of each plane of y; a task does units / tasks of them. table: one entry for each row of the kernel (`any_tile`).
    """
    (N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, variant, bands, units, tasks, parts, relu, entries) = unpack_job(job)
    far, ahead = (src.size + dst.size) * src.itemsize > FAR_BYTES, AHEAD_BYTES // src.itemsize
    M, slack = F // C, PL + 2 * (KW * DW + lanes_of(src) * SW)
    zeros = np.zeros(W + 2 * slack, src.dtype)
    flags = (RELU if relu else 0) | (RESIDUAL if residual.size else 0)
    start, stop_unit = first * units // tasks, last * units // tasks
    plane, band = start // bands, start % bands
    n, f = plane // F, plane % F
    for _ in range(start, stop_unit):
        at, w_at = (n * C + (f if M == 1 else f // M)) * H * W, f * KH * KW
        addend = bias[f] if bias.size else src.dtype.type(0)
        oh, stop = part_of(band, bands, OH)
        while oh < stop:
            rows, row, to = stop - oh, oh * SH - PT, (plane * OH + oh) * OW
            take = min(rows, MIDDLE)
            if far:
                prefetch(src, at + row * W + ahead, take * min(H, SH) * W)
                prefetch(dst, to + ahead, take * OW)
            if variant == FIVE_1:
                row_tile(MIDDLE, 5, 1, src, at, H, W, row, -PL, KW, weight, w_at, KW, 1, dst, to, OW, take, OW, addend, residual,
                         flags, zeros, slack)
            elif variant == FIVE_2:
                row_tile(MIDDLE, 5, 2, src, at, H, W, row, -PL, KW, weight, w_at, KW, 1, dst, to, OW, take, OW, addend, residual,
                         flags, zeros, slack)
            elif variant == SEVEN_1:
                row_tile(MIDDLE, 7, 1, src, at, H, W, row, -PL, KW, weight, w_at, KW, 1, dst, to, OW, take, OW, addend, residual,
                         flags, zeros, slack)
            elif variant == ANY_1:
                any_tile(MIDDLE, 1, 1, src, at, H, W, row, -PL, SH, SW, DW, weight, w_at, 1, table, 0, entries, 0, dst, to, OW, take, OW,
                         addend, residual, flags, zeros, slack)
            elif variant == ANY_2:
                any_tile(MIDDLE, 2, 1, src, at, H, W, row, -PL, SH, SW, DW, weight, w_at, 1, table, 0, entries, 0, dst, to, OW, take, OW,
                         addend, residual, flags, zeros, slack)
            else:
                any_tile(MIDDLE, 0, 1, src, at, H, W, row, -PL, SH, SW, DW, weight, w_at, 1, table, 0, entries, 0, dst, to, OW, take, OW,
                         addend, residual, flags, zeros, slack)
            oh += take
        band += 1                                # divisions would cost as much as a small plane
        if band == bands:
            band, plane, f = 0, plane + 1, f + 1
            if f == F:
                n, f = n + 1, 0


@jit
def finite(values):
    """Is none of them NaN or infinite?"""
    zero = values.dtype.type(0)
    total = zero
    for i in range(values.size):
        total += values[i] * zero
    return total == 0


@jit
def add_taps(dout, dout_at, weight, w_at, dx, dx_at, a0, a1, C, H, W, M, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW):
    """A band of a plane of dx by its definition, for weights that are not finite: only taps that lie in dout take part."""
    dx[dx_at + a0 * SH * W:dx_at + min(H, a1 * SH) * W] = 0
    for m in range(M):
        for oh in range(OH):
            for kh in range(KH):
                h = oh * SH - PT + kh * DH
                if a0 * SH <= h < min(H, a1 * SH):
                    for ow in range(OW):
                        for kw in range(KW):
                            w = ow * SW - PL + kw * DW
                            if 0 <= w < W:
                                dx[dx_at + h * W + w] += dout[dout_at + (m * OH + oh) * OW + ow] * weight[w_at + (m * KH + kh) * KW + kw]


@jit
def to_input(first, last, src, weight, dst, bias, residual, job, table):
    """src: dout (N, F, OH, OW), dst: dx (N, C, H, W).

    dx falls into SH x SW phases, pixels (SH * a + p, SW * q + s): each is a convolution of stride 1 over dout with the taps of its phase.
    Units: bands of `a` of each plane of dx. table: the entries of each phase, behind them where those of phase p * SW + s start, and last
    the steps from one tap to the next, in columns of dout and in weights.
    """
    (N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, variant, bands, units, tasks, parts, relu, entries) = unpack_job(job)
    far, ahead = (src.size + dst.size) * src.itemsize > FAR_BYTES, AHEAD_BYTES // src.itemsize
    lanes = lanes_of(src)
    M, taps, A, starts, none = F // C, KH * KW, (H + SH - 1) // SH, table[6 * entries:], src.dtype.type(0)
    slack = PL + 2 * (KW * DW + lanes)
    zeros = np.zeros(OW + 2 * slack, src.dtype)
    wide, last_phase = (W + SW - 1) // SW, (H - 1) % SH
    block = np.empty(MIDDLE * wide if variant == ANY else 0, src.dtype)
    all_finite = finite(weight)
    tap_step, w_tap = table[6 * entries + SH * SW + 1], table[6 * entries + SH * SW + 2]
    start, stop_unit = first * units // tasks, last * units // tasks
    plane, band = start // bands, start % bands
    c = plane % C
    for _ in range(start, stop_unit):
        dout_at, dx_at, w_at = plane * M * OH * OW, plane * H * W, c * M * taps
        a0, a1 = part_of(band, bands, A)
        if not all_finite and not finite(weight[w_at:w_at + M * taps]):
            add_taps(src, dout_at, weight, w_at, dst, dx_at, a0, a1, C, H, W, M, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW)
            a1 = a0
        for p in range(SH):
            a, stop = a0, min(a1, A if p <= last_phase else A - 1)
            while a < stop:
                rows, to = stop - a, dx_at + (SH * a + p) * W
                take = min(rows, MIDDLE)
                if far and p == 0:
                    prefetch(src, dout_at + a * OW + ahead, take * OW)
                    prefetch(dst, to + ahead, take * min(H, SH) * W)
                if variant < ANY_1:
                    for m in range(M):           # the sums of the filters before stand in dx
                        flags, at, w_last = (RESIDUAL if m else 0), dout_at + m * OH * OW, w_at + m * taps + taps - 1
                        row, col = a + PT - KH + 1, PL - KW + 1
                        if variant == FIVE_1:
                            row_tile(MIDDLE, 5, 1, src, at, OH, OW, row, col, KW, weight, w_last, -KW, -1, dst, to, W, take, W, none,
                                     dst, flags, zeros, slack)
                        else:
                            row_tile(MIDDLE, 7, 1, src, at, OH, OW, row, col, KW, weight, w_last, -KW, -1, dst, to, W, take, W, none,
                                     dst, flags, zeros, slack)
                elif variant == ANY_1:
                    any_tile(MIDDLE, 1, 1, src, dout_at, OH, OW, a, 0, 1, 1, tap_step, weight, w_at, w_tap, table, starts[p], starts[p + 1],
                             0, dst, to, SH * W, take, W, none, dst, 0, zeros, slack)
                elif variant == ANY_2:
                    any_tile(MIDDLE, 1, 2, src, dout_at, OH, OW, a, 0, 1, 1, tap_step, weight, w_at, w_tap, table, starts[2 * p],
                             starts[2 * p + 1], starts[2 * p + 2], dst, to, SH * W, take, W, none, dst, 0, zeros, slack)
                else:
                    for s in range(SW):
                        columns = (W - s + SW - 1) // SW
                        any_tile(MIDDLE, 1, 1, src, dout_at, OH, OW, a, 0, 1, 1, tap_step, weight, w_at, w_tap, table, starts[p * SW + s],
                                 starts[p * SW + s + 1], 0, block, 0, columns, take, columns, none, dst, 0, zeros, slack)
                        for r in range(take):
                            line, target = block[r * columns:(r + 1) * columns], dst[to + r * SH * W + s:]
                            for q in range(columns):
                                target[q * SW] = line[q]
                a += take
        band += 1
        if band == bands:
            band, plane, c = 0, plane + 1, c + 1
            if c == C:
                c = 0


@jit
def to_weight(first, last, src, weight, dst, bias, residual, job, table):
    """src: x (N, C, H, W), weight: dout (N, F, OH, OW), dst: (parts, F, KH, KW), to be added up in float64 where parts is more than 1.

    A task takes some filters, and of all rows of the batch, (n, oh), one part. Each lane sums at most CHAIN terms, then the lanes are
    added up, and such sums in float64.
    """
    (N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, variant, bands, units, tasks, parts, relu, entries) = unpack_job(job)
    far, ahead = (src.size + weight.size) * src.itemsize > FAR_BYTES, AHEAD_BYTES // src.itemsize
    lanes = lanes_of(src)
    M, taps, slack = F // C, KH * KW, PL + 2 * (KW * DW + lanes * SW)
    x_plane, d_plane, s_plane = H * W, OH * OW, taps * lanes
    together = max(1, SUMS_BYTES // (s_plane * src.itemsize))                    # filters whose sums are kept from image to image
    stack = 1                                # small planes that one tile goes through
    if M == 1:
        stack = max(1, min(together, STACK_BYTES // ((x_plane + d_plane) * src.itemsize)))
    room = together * taps + lanes           # `drain` takes `lanes` sums at once
    zeros, sums, total = np.zeros(W + 2 * slack, src.dtype), np.zeros(room * lanes, src.dtype), np.zeros(room, np.float64)
    most = MIDDLE if variant < ANY else 1
    segment = CHAIN // most * lanes
    groups = tasks // parts
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
                    at, tap0 = (n * C + (f if M == 1 else f // M)) * x_plane, (f - f0) * taps
                    s0 = tap0 * lanes
                    while oh < oh_end:
                        take, row = most if oh_end - oh >= most else 1, oh * SH - PT
                        if far and planes == 1:
                            prefetch(src, at + row * W + ahead, take * min(H, SH) * W)
                            prefetch(weight, (n * F + f) * d_plane + oh * OW + ahead, take * OW)
                        elif far:                # as much of the next planes
                            prefetch(src, at + planes * (x_plane + oh * x_plane // OH), planes * take * x_plane // OH)
                            prefetch(weight, (n * F + f) * d_plane + planes * (d_plane + oh * OW), planes * take * OW)
                        for ow in range(0, OW, segment):
                            columns = min(segment, OW - ow)
                            d_at, col = (n * F + f) * d_plane + oh * OW + ow, ow * SW - PL
                            chain = take * ((columns + lanes - 1) // lanes)
                            if terms + chain > CHAIN:
                                drain(sums, s0, planes * taps, total, tap0)
                                terms = 0
                            terms += chain
                            if variant <= SEVEN_1 and take > 1:
                                for kw in range(KW):
                                    if variant == FIVE_1:
                                        tap_tile(MIDDLE, 5, 1, planes, src, at, x_plane, H, W, row, col + kw, 1, 1, weight, d_at,
                                                 d_plane, OW, columns, sums, s0 + kw * lanes, s_plane, KW, zeros, slack)
                                    elif variant == FIVE_2:
                                        tap_tile(MIDDLE, 5, 2, planes, src, at, x_plane, H, W, row, col + kw, 2, 2, weight, d_at,
                                                 d_plane, OW, columns, sums, s0 + kw * lanes, s_plane, KW, zeros, slack)
                                    else:
                                        tap_tile(MIDDLE, 7, 1, planes, src, at, x_plane, H, W, row, col + kw, 1, 1, weight, d_at,
                                                 d_plane, OW, columns, sums, s0 + kw * lanes, s_plane, KW, zeros, slack)
                            else:
                                for tap in range(taps):
                                    h, w, to = row + tap // KW * DH, col + tap % KW * DW, s0 + tap * lanes
                                    if SW == 1:
                                        if take > 1:
                                            tap_tile(MIDDLE, 1, 1, planes, src, at, x_plane, H, W, h, w, SH, 1, weight, d_at, d_plane,
                                                     OW, columns, sums, to, s_plane, 1, zeros, slack)
                                        else:
                                            tap_tile(1, 1, 1, planes, src, at, x_plane, H, W, h, w, SH, 1, weight, d_at, d_plane, OW,
                                                     columns, sums, to, s_plane, 1, zeros, slack)
                                    elif SW == 2:
                                        if take > 1:
                                            tap_tile(MIDDLE, 1, 2, planes, src, at, x_plane, H, W, h, w, SH, 2, weight, d_at, d_plane,
                                                     OW, columns, sums, to, s_plane, 1, zeros, slack)
                                        else:
                                            tap_tile(1, 1, 2, planes, src, at, x_plane, H, W, h, w, SH, 2, weight, d_at, d_plane, OW,
                                                     columns, sums, to, s_plane, 1, zeros, slack)
                                    else:
                                        tap_tile(1, 1, 0, planes, src, at, x_plane, H, W, h, w, SH, SW, weight, d_at, d_plane, OW,
                                                 columns, sums, to, s_plane, 1, zeros, slack)
                        oh += take
                line, n, oh_begin = line + oh_end - oh_begin, n + 1, 0
            drain(sums, 0, (f1 - f0) * taps, total, 0)
            line, found = dst[(part * F + f0) * taps:(part * F + f1) * taps], total[:(f1 - f0) * taps]
            for i in range((f1 - f0) * taps):
                line[i] = found[i]
            total[:] = 0
