"""Depthwise convolution as jobs: which tiles, how planes are cut into tasks, and the entries for the kernels that go tap by tap.

Everything here depends on shapes, dtype and instruction set alone.
"""
from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..kernels import depthwise as kernels
from ..kernels.depthwise import ANY, ANY_1, ANY_2, CHAIN, FIVE_1, FIVE_2, SEVEN_1, THREE_1, THREE_2
from ..kernels.simd_depthwise import MIDDLE, TALL
from ..kernels.tiles import VECTOR_BYTES
from .parts import TASK_FLOPS, TASKS, split
from .shape import Shape

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
    return f"{stage.job[kernels.JOB.index('bands')]} bands of rows of each plane, read in place; {stage.tasks} tasks"


def forward(shape: Shape, relu: bool = False, prepared: bool = False) -> Stage:
    """y from src x and weight, with bias and residual where they are not empty; clipped at 0 where `relu`."""
    rows, columns = ([(k * dilation, k) for k in range(kernel)] for kernel, dilation in ((shape.KH, shape.DH), (shape.KW, shape.DW)))
    table, entries = _table([_entries([(0, 0)], rows, columns, shape.KW)])
    bands = _bands(shape, shape.N * shape.F, shape.OH)
    units = shape.N * shape.F * bands
    workspace = (shape.W + 2 * _slack(shape)) * shape.size
    return _stage(kernels.forward, shape, _variant(shape), bands, units, _tasks(shape, units), 1, relu, entries, table, workspace)


def to_input(shape: Shape) -> Stage:
    """dx from src dout and weight."""
    variant = _variant(shape)
    if variant == FIVE_2:
        variant = ANY_2
    elif shape.F > MOST_FILTERS * shape.C:   # filter by filter the other tiles add to dx: a chain as long as there are filters
        variant = _any_variant(shape)
    common = math.gcd(shape.SW, shape.DW)
    planes = [(m * shape.OH * shape.OW, m * shape.KH * shape.KW) for m in range(shape.F // shape.C)]
    sums = [_entries(planes, rows, columns, shape.KW) for rows in _phases(shape.KH, shape.SH, shape.PT, shape.DH)
            for columns in _phases(shape.KW, shape.SW, shape.PL, shape.DW)]
    table, entries = _table(sums, -shape.DW // common, shape.SW // common)
    A = -(-shape.H // shape.SH)
    bands = _bands(shape, shape.N * shape.C, A)
    units = shape.N * shape.C * bands
    block = MIDDLE * -(-shape.W // shape.SW) if variant == ANY else 0
    return _stage(kernels.to_input, shape, variant, bands, units, _tasks(shape, units), 1, False, entries, table,
                  (shape.OW + 2 * _slack(shape) + block) * shape.size)


def to_weight(shape: Shape) -> Stage:
    """dweight from src x and, in the place of the weights, dout: (parts, F, KH, KW), each part the sum over some rows of the batch."""
    groups = _tasks(shape, shape.F)
    parts = min(max(1, shape.N * shape.OH), split(groups, shape.flops))
    taps = shape.KH * shape.KW
    sums = max(kernels.SUMS_BYTES, (taps + 1) * VECTOR_BYTES) * 2
    workspace = (shape.W + 2 * _slack(shape)) * shape.size + sums + 8 * sums // VECTOR_BYTES
    tasks, table = groups * parts, np.zeros(1, np.int64)
    variant = _variant(shape)
    stage = _stage(kernels.to_weight, shape, variant, 1, tasks, tasks, parts, False, 0, table, workspace)
    return stage._replace(bias=variant in (THREE_1, THREE_2))


def add_parts(parts: np.ndarray, dweight: np.ndarray) -> None:
    """dweight (F, 1, KH, KW) = the sum of the parts (parts, F, KH, KW), one after the other in float64."""
    np.copyto(dweight.reshape(parts.shape[1:]), np.add.reduce(parts, axis=0, dtype=np.float64), casting="same_kind")


def _stage(kernel: Any, shape: Shape, variant: int, bands: int, units: int, tasks: int, parts: int, relu: bool, entries: int,
           table: np.ndarray, workspace: int) -> Stage:
    sizes = {**shape._asdict(), "variant": variant, "bands": bands, "units": units, "tasks": tasks, "parts": parts, "relu": int(relu),
             "entries": entries}
    return Stage(kernel, np.array([sizes[name] for name in kernels.JOB], np.int64), table, tasks, workspace, parts)


def _variant(shape: Shape) -> int:
    """The tiles of this kernel and stride."""
    known = {(3, 1): THREE_1, (3, 2): THREE_2, (5, 1): FIVE_1, (5, 2): FIVE_2, (7, 1): SEVEN_1}
    square = shape.KH == shape.KW and shape.SH == shape.SW and shape.DH == shape.DW == 1
    if square and (shape.KH, shape.SH) in known:
        return known[shape.KH, shape.SH]
    return _any_variant(shape)


def _any_variant(shape: Shape) -> int:
    """The tiles that go tap by tap."""
    return ANY_1 if shape.SW == 1 else ANY_2 if shape.SW == 2 else ANY


def _bands(shape: Shape, planes: int, rows: int) -> int:
    """Into how many bands of rows to cut each plane of a result: whole tiles, at least."""
    return max(1, min(rows // TALL, split(max(1, planes), shape.flops)))


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
