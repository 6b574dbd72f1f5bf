"""Blocks of Winograd's convolution: how tiles and filters are cut into tasks, and where it is worth its transforms.

Everything here depends on shapes, dtype and instruction set alone.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..kernels import winograd
from ..kernels.tiles import ROWS, ROWS_HALF, VECTOR_BYTES, VECTORS
from ..kernels.winograd import ELEMENTS, OUTPUTS
from . import direct
from .direct import CHAIN, tile_rows
from .parts import even, round_up, split
from .shape import Shape

# What a part of the work costs, in vector multiply-adds.
INPUT_COST = 280.0                           # to bring a tile of a vector of channels into V
RESULT_COST = 250.0                          # to make the results of a tile and a vector of filters of M
PRODUCT_COST = 1.06                          # a multiply-add in the register tiles
TILE_COST = 4                                # channels' worth, to start and to store a register tile
FETCH_COST = {True: 0.13, False: 0.06}       # a byte of transformed filters, from memory or out of the cache of all cores
FILTER_COST = 0.28                           # a byte of them, to make it
SHARED_CACHE = 16 * 1024 * 1024              # what may be left of that cache
GAIN = 0.95                                  # of the direct convolution's cost that a choice must stay below

V_BYTES = 640 * 1024                         # transformed pixels of a block of tiles: they stay in L2
MOST_V_BYTES = 16 * 1024 * 1024              # of ever so many channels
M_BYTES = 256 * 1024                         # products of a block of filters: they stay there too
LEAST_TILES = 2 * ROWS                       # transformed filters are fetched once for so many tiles
LEAST_FILTERS = 128                          # of a task, which transforms its own pixels
MOST_WORKSPACE = 64 * 1024 * 1024            # of a thread
PAGE = 4096


class Stage(NamedTuple):
    """One run of the tiles, and how the filters are transformed for it."""

    kernel: Any
    job: np.ndarray
    table: np.ndarray
    tasks: int
    pack: Any
    pack_job: np.ndarray
    pack_tasks: int
    packed: int                              # elements of the transformed filters
    workspace: int                           # bytes one thread keeps
    raw_at: int                              # where among them the weights stand as they are; -1: nowhere
    cost: float                              # of a call, in vector multiply-adds


def fits(s: Shape) -> bool:
    """Whether these tiles can do it."""
    return s.KH == s.KW == 3 and s.SH == s.SW == s.DH == s.DW == 1


def has_room(stage: Stage) -> bool:
    """Whether a thread's workspace holds its blocks: not those of some hundred thousand channels."""
    return stage.workspace <= MOST_WORKSPACE


def pays(s: Shape, stage_of: Callable[[str], Any]) -> bool:
    """Whether this is expected to be faster than the direct convolution. stage_of: makes the stage of "winograd" and of "direct"."""
    return (fits(s) and s.flops * s.H * s.W > 0 and has_room(stage_of("winograd"))
            and stage_of("winograd").cost < GAIN * _direct_cost(s, stage_of("direct")))


def _direct_cost(s: Shape, stage: direct.Stage) -> float:
    return s.flops / 2 / (VECTOR_BYTES // s.size) / stage.share


def why(s: Shape, stage: Stage) -> str:
    """What speaks for a stage."""
    other = direct.forward(s, prepared=stage.raw_at >= 0)
    return (f"tiles of 4x4 results take 36 multiplications for 144; {100 * stage.cost / _direct_cost(s, other):.0f} % of the direct "
            f"convolution's time is expected")


def describe(stage: Stage) -> str:
    """The blocks of a forward pass, in words."""
    job = dict(zip(winograd.JOB, stage.job.tolist()))
    return (f"{job['images']} images x {job['rows']} x {job['columns']} tiles x {job['filters']} filters; {stage.tasks} tasks; "
            f"{stage.packed:,} numbers of transformed filters")


def forward(s: Shape, relu: bool = False, prepared: bool = False) -> Stage:
    """The stage of a forward pass. prepared: the filters are transformed beforehand, and the weights stand behind them."""
    C, F = s.C // s.G, s.F // s.G
    return _stage(s.N, s.G, C, F, (s.H, s.W), (s.OH, s.OW), -s.PT, -s.PL, s.size, relu, prepared, (F * C * 9, C * 9, 9), False)


def to_input(s: Shape) -> Stage:
    """The stage of the gradient to the input: the same with turned filters."""
    C, F = s.C // s.G, s.F // s.G
    return _stage(s.N, s.G, F, C, (s.OH, s.OW), (s.H, s.W), s.PT - 2, s.PL - 2, s.size, False, False, (F * C * 9, 9, C * 9), True)


def _stage(N: int, G: int, C: int, F: int, source: tuple[int, int], target: tuple[int, int], row0: int, column0: int, size: int, relu: bool,
           prepared: bool, raw: tuple[int, int, int], turned: bool) -> Stage:
    lanes = VECTOR_BYTES // size
    width = VECTORS * lanes
    (H, W), (OH, OW) = source, target
    tiles_h, tiles_w = max(1, -(-OH // OUTPUTS)), max(1, -(-OW // OUTPUTS))
    v_row = round_up(C, lanes) + lanes       # no two rows begin at the same place of a page
    flops = 2.0 * N * G * C * F * tiles_h * tiles_w * ELEMENTS
    room = ELEMENTS * v_row * size           # of one tile
    most = max(min(LEAST_TILES, max(1, MOST_V_BYTES // room)), V_BYTES // room)
    images, rows, columns = 1, tiles_h, tiles_w
    if tiles_h * tiles_w <= most:
        images = even(N, max(1, most // (tiles_h * tiles_w)))
    elif tiles_w <= most:
        rows = even(tiles_h, most // tiles_w)
    else:
        rows, columns = 1, even(tiles_w, most)
    blocks = G * -(-N // images) * -(-tiles_h // rows) * -(-tiles_w // columns)
    tiles = images * rows * columns
    parts = split(blocks, flops)
    share = F if parts == 1 else even(F, max(min(F, LEAST_FILTERS), -(-F // parts)), width)
    filters = even(share, max(width, M_BYTES // (ELEMENTS * tiles * size)), width)
    height = ROWS if tile_rows(tiles, ROWS) <= tile_rows(tiles, ROWS_HALF) else ROWS_HALF
    m_row = filters + lanes
    computed = max(tile_rows(tiles, height), round_up(tiles, ROWS) if 0 < F % width <= lanes else 0)
    v_step, m_step = step_of(tiles * v_row, size), step_of(computed * m_row, size)
    chunk = even(C, CHAIN)
    places = places_of(rows, columns, 2, W, lanes)
    pad = lanes
    group = ELEMENTS * (C * direct.padded_filters(F, width, lanes) + -(-F // width) * pad)
    raw_at = G * group if prepared else -1
    job = np.array([N, G, C, F, H, W, OH, OW, row0, column0, tiles_h, tiles_w, images, rows, columns, share, filters, height, chunk, relu, v_row, v_step,
                    m_row, m_step, pad, group, raw_at, *raw, turned], np.int64)
    all_tiles, size_u = N * tiles_h * tiles_w, ELEMENTS * C * round_up(F, lanes) * size
    product = ELEMENTS * (C + TILE_COST) * round_up(F, lanes) / lanes * tile_rows(tiles, height) * all_tiles / tiles
    fetched = -(-all_tiles // tiles) * size_u * FETCH_COST[G * size_u > SHARED_CACHE]
    cost = G * (max(PRODUCT_COST * product, fetched) + all_tiles * (INPUT_COST * -(-C // lanes) + RESULT_COST * -(-F // lanes))
                + (0 if prepared else FILTER_COST * size_u))
    window = (OUTPUTS * rows + 2) * (OUTPUTS * columns + 2) * lanes
    room = window + ELEMENTS * (v_step + m_step) + ROWS * v_row + (OUTPUTS * OUTPUTS * columns + lanes) * lanes
    return Stage(winograd.tiles, job, places, blocks * -(-F // share), winograd.transform, np.array([C, F, pad, group, *raw, turned], np.int64),
                 G * -(-F // width), G * group + (G * C * F * 9 if prepared else 0), room * size, raw_at, cost)


def places_of(rows: int, columns: int, edge: int, W: int, lanes: int) -> np.ndarray:
    """Where each pixel of so many rows of W goes in a window, pixel W with them: it tells the window's pitch. Of a row where W is more."""
    high, pitch = OUTPUTS * rows + edge, OUTPUTS * columns + edge
    if W > pitch:                            # rows are never whole, and come one by one
        return np.arange(pitch + 1) * lanes
    pixels = np.arange(max(high * W, W + 1))
    return (pixels // max(1, W) * pitch + pixels % max(1, W)) * lanes


def step_of(elements: int, size: int) -> int:
    """So many elements and more, an odd number of cache lines modulo a page: 36 streams that do not push each other out."""
    line, page = 64 // size, PAGE // size
    return round_up(elements, page) + line


KERNELS = (winograd.tiles, winograd.transform)
