"""Blocks of the gradient to the weights, directly: which way its vectors lie, the units of pixels, and who sums them."""
from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..kernels import direct_dots, direct_weight
from ..kernels.simd import LINE_BYTES
from ..kernels.tiles import DOT_COLUMNS, DOT_COLUMNS_SMALL, DOT_ROWS, DOT_ROWS_SMALL, ROWS, TILES, VECTOR_BYTES, VECTORS
from .direct import TOTAL_BYTES, WINDOW_BYTES, Axis, Plane, padded_filters, tile_rows
from .parts import TASKS, even, round_up, split
from .shape import Shape

COMPACT_BYTES = 640 * 1024                   # sums that one task keeps whole, in L2, filters along the vectors
LEAST_UNIT, LEAST_STREAMED = 192, 128        # fewer are summed in vain; the same where else dout would be made ready in several rounds
UNIT_PIXELS = 512                            # of dout that one chain sums, filters along the vectors: a panel of them streams from L2 for each tile
ROW_BYTES = 8 * 1024                         # of a row of a unit, pixels along the vectors: adding up lanes costs as much as 500 bytes
LINED_BYTES = 320 * 1024                     # rows of x that a task keeps in L2
MOST_LINED_BYTES = 8 * 1024 * 1024          # the same, of one channel of a huge kernel
PAGE_BYTES = 4096                            # addresses so far apart share the lines of L1
LINE_UP = 5.0                                # vector operations to put one vector of pixels beside another
PART_UNITS = 32                              # units that one part adds up in the working dtype: parts and rounds are added in float64
ROUND_BYTES = 16 * 1024 * 1024               # of dout turned or lined up at a time
PARTS_BYTES = 4 * 1024 * 1024                # of gradients to the weights that parts of the batch keep for themselves

# What the two ways cost, in the time of a vector multiply-add, measured on the layer tables.
TILES_TURNED, TILES_DOTS = 1.06, 1.1 if TILES.registers >= 32 else 1.35        # a multiply-add in a tile
TILES_ONE_TAP = 2.0                          # the same of dots of one tap: each row comes from L2, and most of their vectors cross a cache line
TURN, LOAD, WAIT = 6.0, 3.0, 10.0            # to turn a vector, to put one into a window, to wait for one from memory
COPY, COPY_SECOND, COPY_ELEMENT = 3.0, 8.0, 1.2              # to put a vector beside another; every second element; an element
COPY_RUN, COPY_ROW = 30.0, 6.0               # to begin with an image, and with a row of it
ADD_LANES = 1.5                              # to begin and to end a tile's sums, for each of them


class Round(NamedTuple):
    """Some of the units: dout made ready for them, and their sums."""

    job: np.ndarray
    parts: int                               # of its units, each summed into a place of its own
    ready_tasks: int                         # 0 where each task makes ready what it needs, or nothing need be


class WeightStage(NamedTuple):
    """The gradient to the weights: rounds of making dout ready and multiplying it."""

    kernel: Any
    ready: Any
    rounds: list[Round]
    table: np.ndarray
    tasks: int                               # for each part of a round
    parts: int
    place: int                               # elements of dout made ready in a round
    workspace: int
    straight: bool                           # x and dout have changed places
    share: float                             # of the multiply-adds computed that the result needs, overheads counted as multiply-adds


def to_weight(s: Shape) -> WeightStage:
    """The stage of the gradient to the weights, in the cheapest of three ways."""
    stages = turned(s), dots(s), dots(s, True)
    return max(stages, key=lambda stage: stage.share)


def _is_product(s: Shape) -> bool:
    """Is it a product of two matrices, planes as they are?"""
    return s.KH == s.KW == s.SH == s.SW == 1 and (s.H, s.W) == (s.OH, s.OW) and s.PT == s.PL == 0


def turned(s: Shape) -> WeightStage:
    """Filters along the vectors."""
    C, F = s.C // s.G, s.F // s.G
    if _is_product(s):
        P = s.H * s.W                        # turn around the smaller one, and the result only if that is less
        h, w = Axis.forward(1, 1, 1, 0, 1), Axis.forward(P, 1, 1, 0, 1)
        straight = C * s.N * P <= F * s.N * P + C * F
        return _gather(s.N, s.G, *((F, C) if straight else (C, F)), (1, P), (1, P), h, w, s.size, straight, True)
    inside = s.KH == s.KW == 1 and s.PT == s.PL == 0 and (s.OH - 1) * s.SH < s.H and (s.OW - 1) * s.SW < s.W
    if inside and VECTORS * VECTOR_BYTES // s.size <= C <= F // 2 and s.OW <= UNIT_PIXELS:
        P = s.OH * s.OW                      # a product, too, with what remains of x when it is turned around
        h, w = Axis.forward(1, 1, 1, 0, 1), Axis.forward(P, 1, 1, 0, 1)
        return _gather(s.N, s.G, F, C, (1, P), (1, P), h, w, s.size, True, True, (s.SH, s.SW, s.OW, s.H, s.W))
    h, w = Axis.forward(s.OH, s.KH, s.SH, s.PT, s.DH), Axis.forward(s.OW, s.KW, s.SW, s.PL, s.DW)
    return _gather(s.N, s.G, C, F, (s.H, s.W), (s.OH, s.OW), h, w, s.size, False, False)


def _gather(N: int, G: int, C: int, F: int, source: Plane, target: Plane, h: Axis, w: Axis, size: int, straight: bool, product: bool,
            spread: tuple[int, ...] = (1, 1, 0, 0, 0)) -> WeightStage:
    lanes = VECTOR_BYTES // size
    width = VECTORS * lanes
    (H, W), (OH, OW) = source, target
    taps = h.kernel * w.kernel
    flops = 2.0 * N * G * C * F * OH * OW * taps
    in_place = product and math.gcd(H * W * size, PAGE_BYTES) <= PAGE_BYTES // 4        # not where a tile's rows meet in the same lines of L1
    sums = C * taps * round_up(F, width) * size
    unit = min(UNIT_PIXELS, (COMPACT_BYTES - sums) // ((C + F) * size))
    streamed = N * G * F * OH * OW * size > ROUND_BYTES
    # Compact: all sums of a group, and what they are sums of, in L2.
    compact = unit >= (LEAST_STREAMED if streamed else LEAST_UNIT) and N * OH * OW >= TASKS * UNIT_PIXELS
    if not compact:
        unit = UNIT_PIXELS
    images, rows, columns = 1, OH, OW
    if OH * OW <= unit:
        images = even(N, unit // max(1, OH * OW))
    elif OW <= unit:
        rows = even(OH, unit // OW)
    else:
        rows, columns = 1, even(OW, unit, LINE_BYTES // size if in_place else 1)
    units = -(-N // images) * -(-OH // rows) * -(-OW // columns)
    near_h, near_w = h.near(), w.near()
    segment = near_w.reach(columns)
    plane = near_h.reach(rows) * segment
    filters, packed_filters, room = round_up(F, width), padded_filters(F, width, lanes), images * rows * columns
    compact = compact and images * C * plane * size <= COMPACT_BYTES
    if compact:
        channels = C
    else:
        whole = ROWS // int(np.gcd(ROWS, taps))      # so many channels fill tiles with their taps
        channels = max(1, min(WINDOW_BYTES // (images * plane * size), 16 * ROWS // taps))
        channels = min(C, channels // whole * whole or channels)
    local = C <= channels and not spread[2]  # no two tasks would turn the same part of dout
    if not compact:
        blocks = split(G * -(-F // width) * -(-C // channels), flops)
        if blocks > 1 and not local:         # rather fewer channels to a task than parts of the batch, whose sums would be added once more
            channels = even(C, max(whole, -(-channels // blocks)), whole)
        each = (channels * taps + ROWS + (room if local else 0)) * size
        if each * filters > TOTAL_BYTES:
            filters = even(F, max(width, TOTAL_BYTES // each), width)
        filters = even(F, max(width, -(-filters // split(G * -(-C // channels) * -(-F // filters), flops))), width)
    tasks = G * -(-C // channels) * -(-F // filters)
    most_parts = max(1, PARTS_BYTES // (G * F * C * taps * size))
    parts = min(max(split(tasks, flops), -(-units // PART_UNITS)), most_parts)
    per_round = max(1, min(units, PART_UNITS * parts))
    if not local:
        per_round = max(1, min(per_round, ROUND_BYTES // max(1, G * packed_filters * room * size)))
    parts = max(1, min(parts, per_round))
    offsets = np.array([(i - h.low) * segment + j - w.low for i, _ in h.phases[0] for j, _ in w.phases[0]])
    grid = (np.arange(images)[:, None, None] * (channels * plane) + np.arange(rows)[:, None] * (near_h.step * segment) + np.arange(columns) * near_w.step)
    tap_rows = np.arange(channels)[:, None] * (H * W if in_place else plane) + offsets
    rounds = []
    for first in range(0, units, per_round):
        count = min(per_round, units - first)
        job = np.array([N, G, C, F, H, W, OH, OW, h.step, w.step, h.low, w.low, h.extent, w.extent, images, rows, columns, first, count,
                        min(parts, count), channels, filters, taps, grid.size, packed_filters, local, straight, in_place, *spread], np.int64)
        rounds.append(Round(job, min(parts, count), 0 if local else count * G))
    workspace = ((not in_place) * images * channels * plane + (channels * taps + lanes + (room if local else 0)) * filters) * size
    table = np.concatenate([grid.ravel(), tap_rows.ravel()]).astype(np.int64)
    # The cost for one image, in vector multiply-adds: tiles, turning dout around, loading windows, waiting for memory.
    P, read = OH * OW, C * H * W + F * OH * OW
    loaded = (0 if in_place else C * H * W * -(-F // filters)) + (F * OH * OW if spread[2] else 0)
    cost = (TILES_TURNED * tile_rows(C * taps) * padded_filters(F, width, lanes) * P + TURN * F * P + LOAD * loaded + WAIT * read) / lanes
    share = C * F * taps * P / lanes / cost
    return WeightStage(direct_weight.weights, direct_weight.turn_dout, rounds, table, tasks, parts, 0 if local else per_round * G * packed_filters * room,
                       workspace, straight, share)


def dots(s: Shape, windowed: bool = False) -> WeightStage:
    """Pixels along the vectors, those of each tap lined up, or windowed: all taps read one window of an image, row by row."""
    lanes = VECTOR_BYTES // s.size
    C, F, taps = s.C // s.G, s.F // s.G, s.KH * s.KW
    H, W, OH, OW, SH, SW = s.H, s.W, s.OH, s.OW, s.SH, s.SW
    product = _is_product(s) and not windowed
    if product:                              # one long row
        H, W, OH, OW = 1, H * W, 1, OH * OW
    whole = DOT_ROWS // math.gcd(DOT_ROWS, taps)             # so many channels fill tiles with their taps
    least = min(C, whole) * taps
    unit = max(lanes, min(max(ROW_BYTES // 2, min(ROW_BYTES, LINED_BYTES // least)), MOST_LINED_BYTES // taps) // s.size)
    images, rows, columns = 1, OH, OW
    if OH * OW <= unit:
        images = 1 if windowed else even(s.N, unit // (OH * OW))
    elif OW <= unit:
        rows = even(OH, unit // OW)
    else:
        rows, columns = 1, even(OW, unit, lanes)
    units = -(-s.N // images) * -(-OH // rows) * -(-OW // columns)
    run = rows * columns                     # of one image
    lining_up = LINE_UP * (product / F + 1 / (C * taps))     # as a share of the multiply-adds
    in_place = images == 1 or round_up(run, lanes) <= (1 + lining_up) * run
    window_rows, segment = (rows - 1) * SH + (s.KH - 1) * s.DH + 1, columns + (s.KW - 1) * s.DW // SW
    pitch = round_up(window_rows * segment if windowed else images * rows * columns, lanes)
    pitch += lanes * (pitch // lanes % 2 == 0)               # rows a power of two apart would meet in the same lines of the caches
    pieces = SW if windowed else taps
    channels = min(C, max(1, LINED_BYTES // (pitch * s.size * pieces)))
    if channels < C:
        channels = channels // whole * whole or channels
    lined = not (product and in_place)
    downs = -(-channels * taps // DOT_ROWS)
    slot = round_up(DOT_ROWS * DOT_COLUMNS, lanes)
    filters = even(F, max(1, TOTAL_BYTES // (downs * slot * s.size)) * DOT_COLUMNS, DOT_COLUMNS)
    blocks = s.G * -(-C // channels)
    most_parts = max(1, min(units, PARTS_BYTES // (s.G * F * C * taps * s.size)))
    parts = min(max(split(blocks * -(-F // filters), s.flops), -(-units // PART_UNITS)), most_parts)
    filters = even(F, max(DOT_COLUMNS, -(-filters // split(blocks * -(-F // filters) * parts, s.flops))), DOT_COLUMNS)
    per_round = max(1, min(units, PART_UNITS * parts))
    if not in_place:
        per_round = max(1, min(per_round, ROUND_BYTES // (s.G * F * pitch * s.size)))
    rounds = []
    for first in range(0, units, per_round):
        count = min(per_round, units - first)
        job = np.array([s.N, s.G, C, F, H, W, OH, OW, SH, SW, images, rows, columns, first, count, min(parts, count), channels, filters, taps, pitch,
                        not lined, in_place, windowed, window_rows, segment], np.int64)
        rounds.append(Round(job, min(parts, count), 0 if in_place else count * s.G))
    f_blocks = -(-F // filters)
    down, along = s.DH * np.arange(s.KH)[:, None], s.DW * np.arange(s.KW)
    if windowed:
        begins = np.arange(channels)[:, None, None] * (SW * pitch) + down * segment + along % SW * pitch + along // SW
        starts = [(-s.PT, phase - s.PL) for phase in range(SW)]
    else:
        begins = np.arange(channels * taps) * (pitch if lined else H * W)
        starts = np.stack(np.broadcast_arrays(down - s.PT, along - s.PL), -1)
    workspace = (channels * pieces * pitch * lined + downs * -(-filters // DOT_COLUMNS) * slot) * s.size
    # The cost of one unit, in vector multiply-adds: tiles, adding up their lanes, lining up x and dout.
    pixels, height = images * rows * columns, DOT_ROWS_SMALL if 0 < C * taps % DOT_ROWS <= DOT_ROWS_SMALL else DOT_ROWS
    steps = rows * -(-columns // lanes) if windowed else images * -(-run // lanes) if in_place else -(-pixels // lanes)
    tiled = (C * taps // DOT_ROWS * DOT_ROWS + (C * taps % DOT_ROWS > 0) * height) * round_up(F, DOT_COLUMNS_SMALL)
    high, wide = (window_rows, segment) if windowed else (images * rows, columns)
    each = COPY / lanes if SW == 1 else COPY_SECOND / lanes if SW == 2 else COPY_ELEMENT
    lining = images * COPY_RUN + high * (COPY_ROW + wide * each)
    cost = (TILES_DOTS if taps > 1 else TILES_ONE_TAP) * tiled * (steps + ADD_LANES) + lined * C * pieces * f_blocks * lining
    cost += (not in_place) * F * (COPY_RUN * images + COPY * steps)
    share = C * F * taps * pixels / lanes / cost
    table = np.concatenate((np.ravel(begins), np.ravel(starts))).astype(np.int64, copy=False)
    return WeightStage(direct_dots.dots, direct_dots.line_up_dout, rounds, table, blocks * f_blocks, min(parts, per_round),
                       0 if in_place else s.G * F * pitch * per_round, workspace, False, share)
