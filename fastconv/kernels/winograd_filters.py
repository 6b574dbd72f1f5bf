"""The filters of Winograd's convolution: from weights to U, along vectors of filters."""
from __future__ import annotations

from .direct import pack_panel, panel_width, turn_taps
from .gemm import aligned
from .jit import jit
from .simd_winograd import FILTER, FILTER_2, FILTER_5, FILTER_LINE, FILTER_LONG, FILTER_STEPS, spread
from .tiles import VECTOR_BYTES, VECTORS

SQUARE, SQUARE_5, SQUARE_2, ROW, COLUMN, STEPS, GRADIENT, LINES, LONG_LINES = range(9)        # forms of tiles; GRADIENT: of gradients to 4x4 results
FILTER_CHANNELS = 32                         # of filters that are brought into vectors at a time

PACK_JOB = ("C", "F", "form", "taps", "elements", "panel_pad", "group", "raw_group", "raw_filter", "raw_channel", "turned", "places", "KW", "SW")


@jit
def load_taps(weight, at, raw_filter, raw_channel, channels, taps, valid, turned, table, places, target):
    """Filters along the vectors: target[(c * taps + k) * lanes + f] = weight[at + f * raw_filter + c * raw_channel + k], k counted backwards if turned.

    Only `valid` filters are read; the last of them stands for those that are missing. Turned: raw_filter = taps, and table[places:] has where
    each tap goes; otherwise raw_channel = taps.
    """
    lanes = VECTOR_BYTES // weight.itemsize
    if turned:
        for c in range(channels):
            turn_taps(weight, at + c * raw_channel, taps, valid, target[c * taps * lanes:], table[places:])
    else:
        pack_panel(weight, at, raw_filter, channels * taps, valid, lanes, target, 0)


@jit
def transform_panel(form, weight, at, raw_filter, raw_channel, channels, taps, filters, panel, turned, table, places, room, dst, to, step):
    """U of `filters` filters from weight[at:] on: dst[to + e * step + c * panel + f]; the last filter stands for those that a panel lacks.

    room: for FILTER_CHANNELS * taps + lanes vectors.
    """
    lanes = VECTOR_BYTES // weight.itemsize
    for c0 in range(0, channels, FILTER_CHANNELS):
        nc = min(FILTER_CHANNELS, channels - c0)
        for v in range(0, panel, lanes):
            load_taps(weight, at + v * raw_filter + c0 * raw_channel, raw_filter, raw_channel, nc, taps, min(lanes, filters - v), turned, table, places,
                      room)
            for c in range(nc):
                begin, end = c * taps * lanes, to + (c0 + c) * panel + v
                if form == SQUARE:
                    spread(FILTER, room, begin, 3, dst, end, step)
                elif form == SQUARE_2:
                    spread(FILTER_2, room, begin, 3, dst, end, step)
                elif form == SQUARE_5:
                    spread(FILTER_5, room, begin, 5, dst, end, step)
                elif form == STEPS:
                    spread(FILTER_STEPS, room, begin, 3, dst, end, step)
                else:
                    spread(FILTER_LINE, room, begin, 3, dst, end, step)


@jit
def depth_of(C, SW, lanes):
    """Numbers of a pixel's vectors that a sum goes over: where one vector has room for them no more than there are."""
    return SW * C if SW * C <= lanes else (SW * C + lanes - 1) // lanes * lanes


@jit
def transform_lines(form, weight, at, raw_filter, C, KH, KW, SW, depth, filters, panel, table, room, dst, to, step):
    """The same for the taps of each row of a filter, every SW-th of them a line: dst[to + e * step + (kh * depth + phase * C + c) * panel + f].

    depth: at least SW * C; zeros for what is more. room: for KH * KW + taps + lanes vectors.
    """
    lanes = VECTOR_BYTES // weight.itemsize
    taps = (KW + SW - 1) // SW
    elements = taps + 3
    line = room[KH * KW * lanes:]
    for e in range(elements):
        for kh in range(KH):
            dst[to + e * step + (kh * depth + SW * C) * panel:to + e * step + (kh + 1) * depth * panel] = 0
    for c in range(C):
        for v in range(0, panel, lanes):
            load_taps(weight, at + v * raw_filter + c * KH * KW, raw_filter, KH * KW, 1, KH * KW, min(lanes, filters - v), 0, table, 0, room)
            for k in range(KH * SW):
                kh, phase = k // SW, k % SW
                for t in range(taps):
                    here, end = (kh * KW + t * SW + phase) * lanes, (t + 1) * lanes
                    if t * SW + phase < KW:
                        line[t * lanes:end] = room[here:here + lanes]
                    else:
                        line[t * lanes:end] = 0
                end = to + (kh * depth + phase * C + c) * panel + v
                if form == LINES:
                    spread(FILTER_LINE, line, 0, taps, dst, end, step)
                else:
                    spread(FILTER_LONG, line, 0, taps, dst, end, step)


@jit
def transform(first, last, src, weight, dst, bias, residual, job, table):
    """U. Tasks: panels of filters of one group, as `panel_width` cuts them.

    job: the integers of PACK_JOB; group: elements of a group's U; places: where the table says how turned taps lie. A panel is `elements`
    times (C, panel), with panel_pad zeros behind each, or no two of the streams that are written could stay in L1.
    """
    C, F, form, T, elements, pad, group = job[0], job[1], job[2], job[3], job[4], job[5], job[6]
    raw_group, raw_filter, raw_channel, turned, places = job[7], job[8], job[9], job[10], job[11]
    lanes = VECTOR_BYTES // weight.itemsize
    width = VECTORS * lanes
    panels = (F + width - 1) // width
    taps = aligned((FILTER_CHANNELS * T + lanes) * lanes, weight)
    for task in range(first, last):
        g, f0 = task // panels, task % panels * width
        panel = panel_width(F - f0, lanes)
        base, step = g * group + f0 // width * elements * (C * width + pad), C * panel + pad
        for e in range(elements):
            dst[base + e * step + C * panel:base + (e + 1) * step] = 0
        transform_panel(form, weight, g * raw_group + f0 * raw_filter, raw_filter, raw_channel, C, T, F - f0, panel, turned, table, places, taps, dst, base,
                        step)


@jit
def transform_rows(first, last, src, weight, dst, bias, residual, job, table):
    """The same for lines: a panel is `elements` times (KH, depth, panel)."""
    C, F, form, T, elements, pad, group = job[0], job[1], job[2], job[3], job[4], job[5], job[6]
    raw_group, raw_filter, KW, SW = job[7], job[8], job[12], job[13]
    lanes = VECTOR_BYTES // weight.itemsize
    width, KH, depth = VECTORS * lanes, T // KW, depth_of(C, SW, lanes)
    panels = (F + width - 1) // width
    taps = aligned((FILTER_CHANNELS * T + lanes) * lanes, weight)
    for task in range(first, last):
        g, f0 = task // panels, task % panels * width
        panel = panel_width(F - f0, lanes)
        base, step = g * group + f0 // width * elements * (KH * depth * width + pad), KH * depth * panel + pad
        for e in range(elements):
            dst[base + e * step + KH * depth * panel:base + (e + 1) * step] = 0
        transform_lines(form, weight, g * raw_group + f0 * raw_filter, raw_filter, C, KH, KW, SW, depth, F - f0, panel, table, taps, dst, base, step)
