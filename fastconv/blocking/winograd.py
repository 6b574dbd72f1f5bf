"""Blocks of Winograd's convolution: how tiles and filters are cut into tasks, and where it is worth its transforms.

Everything here depends on shapes, dtype and instruction set alone.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels import winograd, winograd_filters, winograd_results
from ..kernels.tiles import ROWS, ROWS_HALF, VECTOR_BYTES, VECTORS
from ..kernels.winograd import STEPS_KINDS, STEPS_POINTS, V_BLOCK, V_PITCH
from ..kernels.winograd_filters import COLUMN, FILTER_CHANNELS, ROW, SQUARE, SQUARE_2, SQUARE_5, STEPS
from . import direct, winograd_lines
from .direct import CHAIN, tile_rows
from .parts import even, has_room, parts_of, round_up, split, wanted_tasks
from .shape import Shape
from .winograd_form import PRODUCT_COST, START_COST, STORE_COST, TILE_COST, Form, Stage, step_of

FORMS = {                                    # by the size of the filters
    (3, 3): Form(SQUARE, 4, 4, 36, 36, 280.0, 250.0, 0.09),
    (5, 5): Form(SQUARE_5, 2, 2, 36, 36, 220.0, 150.0, 0.23),
    (1, 3): Form(ROW, 1, 4, 6, 6, 65.0, 65.0, 0.14),
    (3, 1): Form(COLUMN, 4, 1, 6, 6, 65.0, 65.0, 0.14),
}
STRIDED = Form(STEPS, 2, 2, STEPS_POINTS ** 2, STEPS_KINDS ** 2, 130.0, 110.0, 0.12)          # 3x3 in steps of two
SMALL = {(3, 3): Form(SQUARE_2, 2, 2, 16, 16, 110.0, 80.0, 0.16)}          # where products wait for filters
FEW_TILES = 16                               # large ones, up to which small ones are looked at,
LEAST_U_BYTES = 1024 * 1024                  # and the transformed filters of large ones: in L2 they keep nobody waiting

FETCH_COST = {True: 0.13, False: 0.06}       # a byte of transformed filters, from memory or out of the cache of all cores
NEAR_BYTES = 4 * 1024 * 1024                 # of them that go no further
SHARED_CACHE = 16 * 1024 * 1024              # what may be left of that cache
GAIN = 0.95                                  # of the direct convolution's cost that a choice must stay below

V_BYTES = 640 * 1024                         # transformed pixels of a block of tiles: they stay in L2
MOST_V_BYTES = 16 * 1024 * 1024              # of ever so many channels
FLEXIBLE = 1.3                               # times as many tiles where the blocks are of an even number then
M_BYTES = 256 * 1024                         # products of a block of filters: they stay there too
LEAST_TILES = 32                             # transformed filters are fetched once for so many tiles
GRAIN = 3                                    # times as many tasks as direct sums would make of the multiplications: transforms are work, too


def fits(s: Shape) -> bool:
    """Whether these tiles can do it."""
    return _in_steps_of_one(s) or winograd_lines.fits(s) or ((s.KH, s.KW, s.SH, s.SW) == (3, 3, 2, 2) and s.DH == s.DW == 1)


def fits_to_input(s: Shape) -> bool:
    """Whether the gradient to the input is such a convolution, too."""
    return _in_steps_of_one(s) and s.meets


def _in_steps_of_one(s: Shape) -> bool:
    return (s.KH, s.KW) in FORMS and s.SH == s.SW == s.DH == s.DW == 1


def pays(s: Shape, stage_of: Callable[[str], Any], forward: bool = True) -> bool:
    """Whether this is expected to be faster than the direct convolution. stage_of: makes the stage of "winograd" and of "direct"."""
    return ((fits(s) if forward else fits_to_input(s)) and s.flops * s.H * s.W > 0 and has_room(stage_of("winograd"))
            and stage_of("winograd").cost < GAIN * _direct_cost(s, stage_of("direct")))


def _direct_cost(s: Shape, stage: direct.Stage) -> float:
    return s.flops / 2 / (VECTOR_BYTES // s.size) / stage.share


def why(s: Shape, stage: Stage) -> str:
    """What speaks for a stage."""
    other = direct.forward(s, prepared=stage.raw_at >= 0)
    job = dict(zip(winograd_results.JOB, stage.job.tolist()))
    products = job["elements"] * (s.KH * s.SW if winograd_lines.fits(s) else 1)
    return (f"tiles of {job['high']}x{job['wide']} results take {products} multiplications for {job['high'] * job['wide'] * s.KH * s.KW}; "
            f"{100 * stage.cost / _direct_cost(s, other):.0f} % of the direct convolution's time is expected")


def form_of(stage: Stage) -> int:
    """Which tiles a stage takes, and so which transform of the filters."""
    return int(stage.job[winograd_results.JOB.index("form")])


def describe(stage: Stage) -> str:
    """The blocks of a forward pass, in words."""
    job = dict(zip(winograd_results.JOB, stage.job.tolist()))
    return (f"{job['images']} images x {job['rows']} x {job['columns']} tiles x {job['filters']} filters; {stage.tasks} tasks; "
            + (f"{stage.packed:,} numbers of transformed filters" if stage.pack else "each transforms its filters"))


def forward(s: Shape, relu: bool = False, prepared: bool = False) -> Stage:
    """The stage of a forward pass. prepared: the filters are transformed beforehand, and the weights stand behind them."""
    C, F, T = s.C // s.G, s.F // s.G, s.KH * s.KW
    if winograd_lines.fits(s):
        return winograd_lines.forward(s, relu, prepared)
    return _best(s, C, F, (s.H, s.W), (s.OH, s.OW), prepared, -s.PT, -s.PL, relu, (F * C * T, C * T, T), False)


def to_input(s: Shape) -> Stage:
    """The stage of the gradient to the input: the same with turned filters."""
    C, F, T = s.C // s.G, s.F // s.G, s.KH * s.KW
    return _best(s, F, C, (s.OH, s.OW), (s.H, s.W), False, s.PT - s.KH + 1, s.PL - s.KW + 1, False, (F * C * T, T, C * T), True)


def _best(s: Shape, C: int, F: int, source: tuple[int, int], target: tuple[int, int], prepared: bool, *rest: Any) -> Stage:
    """The cheapest stage: with large tiles, or with small ones where those are few; in a call also with filters that each task transforms."""
    large, small = (STRIDED, None) if s.SW > 1 else (FORMS[s.KH, s.KW], SMALL.get((s.KH, s.KW)))
    few = s.N * -(-target[0] // large.high) * -(-target[1] // large.wide) <= FEW_TILES
    forms = [large] if small is None or not few or large.elements * C * F * s.size <= LEAST_U_BYTES else [large, small]
    stages = [_stage(form, s, C, F, source, target, *rest, prepared, fresh) for form in forms for fresh in (False, True)[:1 if prepared else 2]]
    return min(stages, key=lambda stage: (not has_room(stage), stage.cost))


def _stage(kind: Form, s: Shape, C: int, F: int, source: tuple[int, int], target: tuple[int, int], row0: int, column0: int, relu: bool,
           raw: tuple[int, int, int], turned: bool, prepared: bool, fresh: bool) -> Stage:
    N, G, size, KH, KW, T = s.N, s.G, s.size, s.KH, s.KW, s.KH * s.KW
    form, high, wide, elements, kinds, input_cost, result_cost, filter_cost = kind
    lanes = VECTOR_BYTES // size
    width = VECTORS * lanes
    (H, W), (OH, OW) = source, target
    tiles_h, tiles_w = max(1, -(-OH // high)), max(1, -(-OW // wide))
    flops = 2.0 * N * G * C * F * tiles_h * tiles_w * elements
    room = elements * (round_up(C, lanes) + lanes) * size    # of one tile
    most = max(min(LEAST_TILES, max(1, MOST_V_BYTES // room)), V_BYTES // room)
    images, rows, columns = 1, tiles_h, tiles_w
    halves = G * F <= width and split(1, GRAIN * flops, wanted_tasks(prepared)) > 1          # nothing but tiles to cut, and for two threads
    if tiles_h * tiles_w <= most:
        images = even(N, max(1, most // (tiles_h * tiles_w)))
        if halves and images == N:
            images, rows = (-(-N // 2), tiles_h) if N > 1 else (1, -(-tiles_h // 2))
    elif tiles_w <= most:
        blocks = -(-tiles_h // (most // tiles_w))
        if N * G == tiles_h % 2 == 1 and blocks % 2 == 0 and F >= 2 * width and elements * C * F * size <= SHARED_CACHE:
            blocks += 1                      # so that two threads do half of the middle one each
        elif halves and N == blocks % 2 == 1:
            blocks += 1
        elif N * G == blocks % 2 == 1 and blocks > 3 and tiles_h % 2 == 0 and -(-tiles_h // (blocks - 1)) * tiles_w <= FLEXIBLE * most:
            blocks -= 1                      # as many for each
        rows = -(-tiles_h // blocks)
    else:
        rows, columns = 1, even(tiles_w, most)
    blocks = G * -(-N // images) * -(-tiles_h // rows) * -(-tiles_w // columns)
    tiles = images * rows * columns
    parts = parts_of(F, F, width, blocks, GRAIN * flops, wanted_tasks(prepared))
    share = F if parts == 1 else round_up(-(-F // parts), width)
    if parts > 1 and blocks * -(-F // share) % 2 == 1:
        share = even(F, share - width, width)                # of nine tasks one of two threads does five
    filters = even(share, max(width, M_BYTES // (elements * tiles * size)), width)
    height = ROWS if tile_rows(tiles, ROWS) <= tile_rows(tiles, ROWS_HALF) else ROWS_HALF
    m_row = filters + lanes
    computed = max(tile_rows(tiles, height), round_up(tiles, ROWS) if 0 < F % width <= lanes else 0)
    v_block = tiles * V_PITCH
    v_step, m_step = step_of(-(-C // V_BLOCK) * v_block, size), step_of(computed * m_row, size)
    chunk = even(C, CHAIN, V_BLOCK)
    SH, SW = s.SH, s.SW
    tall, across = SH * (high - 1) + KH, SW * (wide - 1) + KW          # pixels of a tile
    window = SH * high * (rows - 1) + tall, SW * wide * (columns - 1) + across
    begins = [SH * i * across + SW * j for i in range(high) for j in range(wide)]
    begins += begins[-1:] * (-len(begins) % ROWS_HALF)
    taps = [i * across + j for i in range(KH) for j in range(KW)]
    backwards = [(T - 1 - k) * lanes for k in range(T)]
    table = np.concatenate([begins, taps, backwards, places_of(*window, W, lanes)]).astype(np.int64)
    pad = lanes
    group = kinds * (C * direct.padded_filters(F, width, lanes) + -(-F // width) * pad)
    raw_at, kept = (G * group if prepared else -1), 0 if fresh else G * group + (G * C * F * T if prepared else 0)
    job = np.array([N, G, C, F, H, W, OH, OW, SH, SW, row0, column0, form, KH, KW, high, wide, elements, tiles_h, tiles_w, images, rows, columns, share,
                    filters, height, chunk, s.flags(N * G * F * OH * OW, relu), v_block, v_step, m_row, m_step, pad, group, raw_at, *raw, turned,
                    len(begins) + 2 * T, fresh], np.int64)
    all_tiles, size_u = N * tiles_h * tiles_w, kinds * C * round_up(F, lanes) * size
    product = elements * (C + TILE_COST) * round_up(F, lanes) / lanes * tile_rows(tiles, height) * all_tiles / tiles
    times = -(-all_tiles // tiles)           # that the filters are fetched, or made
    fetched = 0 if fresh else times * size_u * FETCH_COST[G * size_u > SHARED_CACHE]
    made = times * filter_cost if fresh else 0 if prepared else filter_cost + STORE_COST[G * size_u > NEAR_BYTES]
    cost = G * (max(PRODUCT_COST * product, fetched) + all_tiles * (input_cost * -(-C // lanes) + result_cost * -(-F // lanes)) + made * size_u)
    cost += 0 if fresh or prepared else START_COST
    scratch = FILTER_CHANNELS * (tall * across + T * lanes) + (high * wide + ROWS_HALF + lanes) * lanes
    room = window[0] * window[1] * lanes + elements * (v_step + m_step) + ROWS * V_PITCH + (high * wide * columns + lanes) * lanes + scratch
    room += kinds * (chunk * width + pad) if fresh else 0
    return Stage(winograd.tiles, job, table, blocks * -(-F // share), None if fresh else winograd_filters.transform,
                 np.array([C, F, form, T, kinds, pad, group, *raw, turned, len(begins) + T, KW, s.SW], np.int64), G * -(-F // width),
                 kept, room * size, raw_at, cost)


def places_of(high: int, pitch: int, W: int, lanes: int) -> np.ndarray:
    """Where each pixel of so many rows of W goes in a window, pixel W with them: it tells the window's pitch. Of one row where W is more."""
    if W > pitch:                            # rows are never whole, and come one by one
        return np.arange(pitch + 1) * lanes
    pixels = np.arange(max(high * W, W + 1))
    return (pixels // max(1, W) * pitch + pixels % max(1, W)) * lanes
