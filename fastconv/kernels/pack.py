"""Weights in the order in which the direct engine's tiles read them. weight is (G * F, C, T) in memory: F filters of C channels and T taps a group.

Task t packs panel t % panels of group t // panels. job: C, F, T, elements of one packed group, phases, rows of a panel. table: PHASE integers for
each phase, as the engine's, then the numbers of the taps of each phase. "Channels" and "filters" are the weights' own, whichever way the
convolution goes.
"""
from __future__ import annotations

import numpy as np

from .direct import pack_panel, panel_width, place_taps, turn_taps
from .gemm import pack_a, panel_rows
from .jit import jit
from .simd import copy_row, copy_vectors, lanes_of
from .tiles import VECTORS


@jit
def pack_filters(first, last, src, weight, dst, bias, residual, job, table):
    """Filters along the vectors, for the forward pass: panels of filters, (C * T, panel) each."""
    C, F, T, group = job[0], job[1], job[2], job[3]
    lanes = lanes_of(weight)
    width, K = VECTORS * lanes, C * T
    panels = (F + width - 1) // width
    for t in range(first, last):
        g, f0 = t // panels, t % panels * width
        panel = panel_width(F - f0, lanes)
        pack_panel(weight, (g * F + f0) * K, K, K, min(panel, F - f0), panel, dst, g * group + f0 * K)


@jit
def pack_channels(first, last, src, weight, dst, bias, residual, job, table):
    """Channels along the vectors, for the gradient to the input: for each phase panels of channels, (F * taps, panel) each.

    One tap: only one phase has any weights, and a panel is a copy.
    """
    C, F, T, group, phases = job[0], job[1], job[2], job[3], job[4]
    lanes = lanes_of(weight)
    width = VECTORS * lanes
    panels = (C + width - 1) // width
    places, steps = np.empty(T, np.int64), np.empty(T, np.int64)
    for t in range(first, last):
        g, c0 = t // panels, t % panels * width
        panel = panel_width(C - c0, lanes)
        for v in range(0, panel, lanes):
            valid = min(lanes, C - c0 - v)
            place_taps(table, table[0], phases, g * group + v, group // T, c0 * F, panel, places, steps)
            for f in range(F):
                start = ((g * F + f) * C + c0 + v) * T
                if T == 1 and valid == lanes:
                    copy_vectors(1, weight, start, dst, places[0])
                else:
                    turn_taps(weight, start, T, valid, dst, places)
                for k in range(T):
                    places[k] += steps[k]


@jit
def pack_rows(first, last, src, weight, dst, bias, residual, job, table):
    """Pixels along the vectors, forward: panels of filters, element (k, f) of a panel at k * its height + f."""
    C, F, T, group, panel = job[0], job[1], job[2], job[3], job[5]
    K = C * T
    panels = (F + panel - 1) // panel
    for t in range(first, last):
        g, f0 = t // panels, t % panels * panel
        pack_a(weight, (g * F + f0) * K, min(panel, F - f0), K, K, 1, dst, g * group + f0 * K)


@jit
def pack_rows_turned(first, last, src, weight, dst, bias, residual, job, table):
    """Pixels along the vectors, gradient to the input: panels of channels, for each filter the taps in the order of the table; one phase."""
    C, F, T, group, panel = job[0], job[1], job[2], job[3], job[5]
    panels = (C + panel - 1) // panel
    tap_at, taps = table[0], table[1]
    for t in range(first, last):
        g, c0 = t // panels, t % panels * panel
        height = panel_rows(min(panel, C - c0))
        start = g * group + c0 * F * taps
        if T == 1:                           # channels lie side by side
            valid = min(height, C - c0)
            if valid < height:
                dst[start:start + F * height] = 0        # only so that no forgotten denormal slows the product down
            for f in range(F):
                copy_row(1, weight, (g * F + f) * C + c0, dst, start + f * height, valid)
            continue
        for r in range(height):
            c = min(c0 + r, C - 1)
            for k in range(taps):
                column, source = dst[start + k * height + r:], weight[(g * F * C + c) * T + table[tap_at + k]:]
                for f in range(F):
                    column[f * taps * height] = source[f * C * T]
