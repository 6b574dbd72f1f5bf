"""Depthwise convolution as jobs: which tiles, how planes are cut into tasks, and the entries for the kernels that go tap by tap.

Everything here depends on shapes, dtype and instruction set alone.
"""
from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..kernels import depthwise as kernels
from ..kernels import depthwise_planes as planes
from ..kernels import depthwise_rolls as rolls
from ..kernels.depthwise import ANY, ANY_1, ANY_2, CHAIN, FIVE_1, FIVE_2, SEVEN_1
from ..kernels.simd_depthwise import MIDDLE
from ..kernels.simd_depthwise_rolls import PAIRS
from ..kernels.tiles import VECTOR_BYTES
from .parts import TASK_FLOPS, TASKS, split
from .shape import Shape

PLANES_BYTES = 40 * 1024                     # of planes side by side, as they are and as they are laid out: they are to stay in L1
WEIGHT_BYTES = 60 * 1024                     # the same for the gradient to the weights, which gains more by them
BAND_ROWS = 7                                # of a result, at least
SMALL_PLANE = 128                            # pixels of a result, above which the gradient to the weights of 3 x 3 goes row by row
MOST_FILTERS = 64                            # of one channel, whose gradients to the input are added up filter by filter

Tap = tuple[int, int]


class Stage(NamedTuple):
    """One kernel and its tasks, ready for `run_tasks`."""

    kernel: Any
    job: np.ndarray
    table: np.ndarray
    tasks: int
    workspace: int                           # bytes that one thread keeps
    parts: int                               # of the gradient to the weights: it comes as (parts, F, KH, KW), for `add_parts`
    bias: bool = False                       # the gradient to the bias comes with it, (parts, F)


def fits(shape: Shape) -> bool:
    """Whether each filter reads one channel, so that these kernels can do it."""
    return shape.C == shape.G


def why(shape: Shape, stage: Stage) -> str:
    """What speaks for these kernels."""
    return f"each filter sees one channel, and each channel only {shape.F // shape.C} of them"


def describe(stage: Stage) -> str:
    """The blocks of a forward pass, in words."""
    if stage.kernel is planes.results:
        return f"as many channels side by side as fill a vector; {stage.tasks} tasks"
    return f"{stage.job[kernels.JOB.index('bands')]} bands of rows of each plane, read in place; {stage.tasks} tasks"


def forward(shape: Shape, relu: bool = False, prepared: bool = False) -> Stage:
    """y from src x and weight, with bias and residual where they are not empty; clipped at 0 where `relu`."""
    rows, columns = ([(k * dilation, k) for k in range(kernel)] for kernel, dilation in ((shape.KH, shape.DH), (shape.KW, shape.DW)))
    paired = _paired(shape)
    beside = None if paired else _planes(planes.FORWARD, shape, [rows], [columns], relu)
    if beside is not None:
        return beside
    table, entries = _table([] if _rolls(shape) else [_entries([(0, 0)], rows, columns, shape.KW)])
    bands = 1 if paired else _bands(shape, shape.N * shape.F, shape.OH)
    units = shape.N * shape.F * bands
    workspace = (shape.W + 2 * _slack(shape)) * shape.size
    kernel, variant = rolls.forward if _rolls(shape) else kernels.forward, rolls.PAIRED if paired else _variant(shape)
    return _stage(kernel, shape, variant, bands, units, _tasks(shape, units), 1, relu, entries, table, workspace)


def to_input(shape: Shape) -> Stage:
    """dx from src dout and weight."""
    rows, columns = _phases(shape.KH, shape.SH, shape.PT, shape.DH), _phases(shape.KW, shape.SW, shape.PL, shape.DW)
    beside = _planes(planes.TO_INPUT, shape, rows, columns)
    if beside is not None:
        return beside
    variant, rolling = _variant(shape), _rolls(shape)
    if variant == FIVE_2:
        variant = ANY_2
    elif shape.F > MOST_FILTERS * shape.C:   # filter by filter the other tiles add to dx: a chain as long as there are filters
        variant, rolling = _any_variant(shape), False
    common = math.gcd(shape.SW, shape.DW)
    sources = [(m * shape.OH * shape.OW, m * shape.KH * shape.KW) for m in range(shape.F // shape.C)]
    sums = [_entries(sources, some_rows, some_columns, shape.KW) for some_rows in rows for some_columns in columns] if not rolling else []
    table, entries = _table(sums, -shape.DW // common, shape.SW // common)
    A = -(-shape.H // shape.SH)
    bands = _bands(shape, shape.N * shape.C, A)
    units = shape.N * shape.C * bands
    block = MIDDLE * -(-shape.W // shape.SW) if variant == ANY else 0
    return _stage(rolls.to_input if rolling else kernels.to_input, shape, variant, bands, units, _tasks(shape, units), 1, False, entries, table,
                  (shape.OW + 2 * _slack(shape) + block) * shape.size)


def to_weight(shape: Shape) -> Stage:
    """dweight from src x and, in the place of the weights, dout: (parts, F, KH, KW), each part the sum over some rows of the batch."""
    rows, columns = ([(k * dilation, k) for k in range(kernel)] for kernel, dilation in ((shape.KH, shape.DH), (shape.KW, shape.DW)))
    beside = None if _rolls(shape) and shape.OH * shape.OW > SMALL_PLANE else _planes(planes.TO_WEIGHT, shape, [rows], [columns])
    if beside is not None:
        return beside
    groups = _tasks(shape, shape.F)
    parts = min(max(1, shape.N * shape.OH), split(groups, shape.flops))
    taps = shape.KH * shape.KW
    sums = max(kernels.SUMS_BYTES, (taps + 1) * VECTOR_BYTES) * 2
    workspace = (shape.W + 2 * _slack(shape)) * shape.size + sums + 8 * sums // VECTOR_BYTES
    tasks, table = groups * parts, np.zeros(1, np.int64)
    rolling = _rolls(shape)
    stage = _stage(rolls.to_weight if rolling else kernels.to_weight, shape, _variant(shape), 1, tasks, tasks, parts, False, 0, table, workspace)
    return stage._replace(bias=rolling)


def _planes(variant: int, shape: Shape, rows: list[list[Tap]], columns: list[list[Tap]], relu: bool = False) -> Stage | None:
    """The stage of planes side by side; None where they are not small, channels few, or have several filters.

    rows, columns: the taps that reach each phase of an axis of the result, as `_phases` has them.
    """
    s, lanes, T = shape, VECTOR_BYTES // shape.size, shape.KH * shape.KW
    source, result, stride, before = (s.H, s.W), (s.OH, s.OW), (s.SH, s.SW), [s.PT, s.PL]
    if variant == planes.TO_INPUT:           # there distances count from the pixel of dout that a pixel of dx is at, and may be negative
        source, result, stride = result, source, (1, 1)
        before = [max(0, -min(distance for taps in axis for distance, _ in taps)) for axis in (rows, columns)]
    V, R = math.prod(source), math.prod(result)
    if s.F != s.C or s.C < lanes or max(s.W, s.OW) > lanes or not 0 < min(V, R) <= max(V, R, T) <= CHAIN:
        return None
    first = before if variant == planes.TO_INPUT else [0, 0]
    rows, columns = ([[(start + distance, k) for distance, k in taps] for taps in axis] for axis, start in zip((rows, columns), first))
    high, width = (max(pad + size, (-(-n // len(axis)) - 1) * step + max(distance for taps in axis for distance, _ in taps) + 1)
                   for pad, size, n, step, axis in zip(before, source, result, stride, (rows, columns)))
    part = -(-width // stride[1])            # columns a stride apart lie side by side: so results of a row are made of vectors side by side
    wide, room = part * stride[1], high * part * stride[1] + planes.COLUMNS
    if (room + V + 2 * R) * VECTOR_BYTES > (WEIGHT_BYTES if variant == planes.TO_WEIGHT else PLANES_BYTES):
        return None

    def place(h: Any, w: Any) -> Any:
        return h * wide + w % stride[1] * part + w // stride[1]

    places = place(np.arange(source[0])[:, None] + before[0], np.arange(source[1]) + before[1])
    phases = [[(place(h, w), kh * s.KW + kw) for h, kh in some_rows for w, kw in some_columns] for some_rows in rows for some_columns in columns]
    starts = np.cumsum([0] + [len(taps) for taps in phases])
    vectors = [room, wide], places.ravel(), [number for taps in phases for tap in taps for number in tap], range(R if variant == planes.TO_WEIGHT else T)
    head, *others = (np.array(numbers, np.int64) * lanes for numbers in vectors)
    table = np.concatenate([head, starts, *others])
    blocks = -(-s.C // lanes)
    workspace = (room + R + (planes.COLUMNS + 1) * s.SW + lanes + T + 1) * VECTOR_BYTES
    if variant != planes.TO_WEIGHT:
        return _stage(planes.results, s, variant, 1, s.N * blocks, _tasks(s, s.N * blocks), 1, relu, 0, table, workspace)
    groups = _tasks(s, blocks)
    parts = min(s.N, split(groups, s.flops))
    workspace += -(-blocks // groups) * (T + 1) * lanes * (s.size + 8) + lanes * VECTOR_BYTES
    return _stage(planes.to_weight, s, variant, 1, groups * parts, groups * parts, parts, False, 0, table, workspace)._replace(bias=True)


def add_parts(parts: np.ndarray, dweight: np.ndarray) -> None:
    """dweight (F, 1, KH, KW) = the sum of the parts (parts, F, KH, KW), one after the other in float64."""
    np.copyto(dweight.reshape(parts.shape[1:]), np.add.reduce(parts, axis=0, dtype=np.float64), casting="same_kind")


def _stage(kernel: Any, shape: Shape, variant: int, bands: int, units: int, tasks: int, parts: int, relu: bool, entries: int,
           table: np.ndarray, workspace: int) -> Stage:
    sizes = {**shape._asdict(), "variant": variant, "bands": bands, "units": units, "tasks": tasks, "parts": parts, "relu": int(relu),
             "entries": entries}
    return Stage(kernel, np.array([sizes[name] for name in kernels.JOB], np.int64), table, tasks, workspace, parts)


def _rolls(shape: Shape) -> bool:
    """Whether planes are gone down row by row."""
    return shape.KH == shape.KW == 3 and shape.SH == shape.SW <= 2 and shape.DH == shape.DW == 1


def _paired(shape: Shape) -> bool:
    """Whether two rows of a result share a vector: where rows are short, and there are as many as the tile has."""
    lanes = VECTOR_BYTES // shape.size
    fits = shape.W <= lanes and 2 * shape.OW <= lanes and 2 * PAIRS - 1 <= shape.OH <= 2 * PAIRS
    return VECTOR_BYTES == 64 and _rolls(shape) and shape.SH == 2 and shape.F == shape.C and shape.PL == 1 and fits


def _variant(shape: Shape) -> int:
    """The tiles of this kernel and stride."""
    known = {(5, 1): FIVE_1, (5, 2): FIVE_2, (7, 1): SEVEN_1}
    square = shape.KH == shape.KW and shape.SH == shape.SW and shape.DH == shape.DW == 1
    if square and (shape.KH, shape.SH) in known:
        return known[shape.KH, shape.SH]
    return _any_variant(shape)


def _any_variant(shape: Shape) -> int:
    """The tiles that go tap by tap."""
    return ANY_1 if shape.SW == 1 else ANY_2 if shape.SW == 2 else ANY


def _bands(shape: Shape, planes: int, rows: int) -> int:
    """Into how many bands of rows to cut each plane of a result: of no fewer rows than that: at each end some are read twice."""
    return max(1, min(rows // BAND_ROWS, split(max(1, planes), shape.flops)))


def _tasks(shape: Shape, units: int) -> int:
    """Into how many tasks to put the units."""
    return max(1, min(units, max(TASKS, int(shape.flops / TASK_FLOPS))))


def _slack(shape: Shape) -> int:
    """Zeros on each side of the row of zeros, as the kernels count them."""
    return shape.PL + 2 * (shape.KW * shape.DW + VECTOR_BYTES // shape.size * shape.SW)


def _phases(kernel: int, stride: int, before: int, dilation: int) -> list[list[Tap]]:
    """For each phase p of an axis of dx, the taps that reach pixels stride * a + p: (output - a, tap)."""
    reached = [[(p + before - k * dilation, k) for k in range(kernel)] for p in range(stride)]
    return [[(distance // stride, k) for distance, k in taps if distance % stride == 0] for taps in reached]


def _entries(planes: list[Tap], rows: list[Tap], columns: list[Tap], KW: int) -> list[tuple[int, ...]]:
    """Entries of one sum: for each source plane, row of the kernel and up to CHAIN taps in it (plane, row, column, weight, taps, cut).

    planes: (offset, first weight); rows, columns: (offset, row or column of the kernel), columns in even steps.
    """
    entries: list[tuple[int, ...]] = []
    terms = 0
    for plane, w_plane in planes:
        for row, kh in rows:
            for k in range(0, len(columns), CHAIN):
                taps = min(CHAIN, len(columns) - k)
                if terms + taps > CHAIN:
                    entries[-1] = (*entries[-1][:-1], 1)
                    terms = 0
                terms += taps
                column, kw = columns[k]
                entries.append((plane, row, column, w_plane + kh * KW + kw, taps, 0))
    return entries


def _table(sums: list[list[tuple[int, ...]]], *more: int) -> tuple[np.ndarray, int]:
    """The entries of all sums, where those of each sum start and the last ends, and some more numbers; how many entries there are."""
    starts = np.cumsum([0] + [len(entries) for entries in sums])
    return np.array([*(number for entries in sums for entry in entries for number in entry), *starts, *more], np.int64), int(starts[-1])
