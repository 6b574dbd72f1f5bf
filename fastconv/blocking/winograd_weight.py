"""Blocks of Winograd's gradient to the weights: how tiles, channels and filters are cut into tasks, and where it is worth its transforms."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels import winograd_weight
from ..kernels.simd_winograd import OUTPUTS
from ..kernels.tiles import ROWS, VECTOR_BYTES, VECTORS
from ..kernels.winograd import ELEMENTS, TAPS
from .direct import tile_rows
from .direct_weight import PART_UNITS, PARTS_BYTES, Round, WeightStage
from .parts import even, round_up, split
from .shape import Shape
from .winograd import GRAIN, places_of, step_of

BLOCK = 64                                   # channels, and filters, of a task
LARGE_BLOCK_BYTES = 512                      # of them where there are two blocks at least of this size and a full chain of tiles
TILES = 56                                   # that one chain sums
TASK_SHARE = 0.25                            # of the direct multiplications are left

# What a part of the work costs, in vector multiply-adds.
TILE_COST = 430.0                            # to bring a tile of a vector of channels into V, or of filters into Y, from memory
PRODUCT_COST = 1.1                           # a multiply-add in the register tiles
CHAIN_COST = 4.0                             # tiles' worth, to fetch and to store a register tile
SUM_COST = 200.0                             # to bring the sums of a channel and a vector of filters back to 3x3
START_COST = 20_000.0                        # of a call, more than of the direct gradient
DIRECT_SUM_COST = 20.0                       # to bring a vector of the direct gradient's sums where it belongs
GAIN = 0.95                                  # of the direct gradient's cost that a choice must stay below


def to_weight(s: Shape) -> WeightStage:
    """The stage of the gradient to the weights."""
    lanes = VECTOR_BYTES // s.size
    width = VECTORS * lanes
    C, F = s.C // s.G, s.F // s.G
    tiles_h, tiles_w = -(-s.OH // OUTPUTS), -(-s.OW // OUTPUTS)
    large = LARGE_BLOCK_BYTES // s.size
    block = large if min(C, F) >= 2 * large and s.N * tiles_h * tiles_w >= TILES else BLOCK
    channels, filters = even(C, block, lanes), even(F, block, width)
    images, rows, columns = 1, tiles_h, tiles_w
    if tiles_h * tiles_w <= TILES:
        images = even(s.N, TILES // (tiles_h * tiles_w))
    elif tiles_w <= TILES:
        rows = even(tiles_h, TILES // tiles_w)
    else:
        rows, columns = 1, even(tiles_w, TILES)
    blocks = -(-s.N // images) * -(-tiles_h // rows) * -(-tiles_w // columns)
    tiles = images * rows * columns
    if s.G * -(-C // channels) * -(-F // filters) * blocks == 1 < split(1, GRAIN * TASK_SHARE * s.flops):
        filters = even(F, -(-F // 2), width)             # one half for a second thread
    tasks = s.G * -(-C // channels) * -(-F // filters)
    most_parts = max(1, min(blocks, PARTS_BYTES // (s.F * C * TAPS * s.size)))
    parts = min(max(split(tasks, TASK_SHARE * s.flops), -(-blocks // PART_UNITS)), most_parts)
    per_round = even(blocks, PART_UNITS * parts)
    v_row = round_up(channels, lanes) + lanes            # no two rows begin at the same place of a page
    v_step, y_step, m_step = step_of(tiles * v_row, s.size), step_of(tiles * width, s.size), step_of((channels + ROWS) * width, s.size)
    tables = places_of(OUTPUTS * rows + 2, OUTPUTS * columns + 2, s.W, lanes), places_of(OUTPUTS * rows, OUTPUTS * columns, s.OW, lanes)
    rounds = []
    for first in range(0, blocks, per_round):
        count = min(per_round, blocks - first)
        job = np.array([s.N, s.G, C, F, s.H, s.W, s.OH, s.OW, -s.PT, -s.PL, tiles_h, tiles_w, images, rows, columns, first, count, min(parts, count),
                        channels, filters, v_row, v_step, y_step, m_step, tables[0].size], np.int64)
        rounds.append(Round(job, min(parts, count), 0))
    window = (OUTPUTS * rows + 2) * (OUTPUTS * columns + 2) * lanes
    room = window + ELEMENTS * (v_step + -(-filters // width) * (y_step + m_step)) + ROWS + (channels * TAPS + lanes) * lanes
    all_tiles, vectors = s.N * tiles_h * tiles_w, -(-F // lanes)
    cost = (PRODUCT_COST * ELEMENTS * (all_tiles + CHAIN_COST * blocks) * tile_rows(C, ROWS) * vectors
            + all_tiles * TILE_COST * (-(-C // lanes) * -(-F // filters) + vectors * -(-C // channels))
            + len(rounds) * parts * C * vectors * SUM_COST + START_COST / s.G)
    return WeightStage(winograd_weight.weights, None, rounds, np.concatenate(tables).astype(np.int64), tasks, parts, 0, room * s.size, False,
                       s.flops / 2 / lanes / s.G / cost)


def fits(s: Shape) -> bool:
    """Whether these tiles can do it."""
    return s.KH == s.KW == 3 and s.SH == s.SW == s.DH == s.DW == 1 and s.meets


def pays(s: Shape, stage_of: Callable[[str], Any]) -> bool:
    """Whether this is expected to be faster than the direct gradient to the weights. stage_of: makes the stage of "winograd" and of "direct"."""
    if not fits(s) or s.flops * s.H * s.W == 0:
        return False
    needed, vectors = s.flops / 2 / (VECTOR_BYTES // s.size), s.C // s.G * s.F * TAPS / (VECTOR_BYTES // s.size)
    return needed / stage_of("winograd").share < GAIN * (needed / stage_of("direct").share + DIRECT_SUM_COST * vectors)
