"""Blocks of Strassen's product: how pixels and filters are cut into tasks, and where seven products and their sums cost less than eight.

Everything here depends on shapes, dtype and instruction set alone.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..kernels import strassen
from ..kernels.gemm import ALIGNMENT
from ..kernels.simd_strassen import QUARTERS, pitch_of
from ..kernels.strassen import CHANNELS, RESULTS
from ..kernels.tiles import ROWS, TILES, VECTOR_BYTES, VECTORS
from . import direct
from .direct import CHAIN, Plane, tile_rows
from .parts import even, has_room, round_up, split, wanted_tasks
from .shape import Shape

# What a part of the work costs, in vector multiply-adds.
PRODUCT_COST = 1.04 if TILES.registers >= 32 else 1.3          # a multiply-add in the register tiles
TILE_COST = 4.0                              # channels' worth, to start a register tile, to add to it and to store it
SUMS_COST = 45.0                             # the sums of a vector of pixels in each quarter
WINDOW_COST = 4.0                            # to copy a vector of pixels near
TURN_COST = 5.0                              # to turn and store a vector of results
PACK_COST, TURNED_COST = 4.0, 55.0           # a vector of weights in each quarter, to make the seven matrices of it: where direct sums pack, too, and where not
START_COST = 20_000.0                        # to start making those
FETCH_COST = 0.12                            # a byte of them, beyond those of the weights, from memory
GAIN = 0.96                                  # of the direct convolution's cost that a choice must stay below

LEAST_PIXELS = 84                            # of an image: in fewer each weight has too few uses (7x7: 3 to 13 % slower)
PAIRS, LEAST_PAIRS = 8 * ROWS, 3 * ROWS      # of pixels, in a block at most, and where that makes fewer than
BLOCKS = 4                                   # of an image, where they do not get too small: threads that share a block each make its sums
T_BYTES = 2048 * 1024                        # sums of a block of pixels: what of them is not in L2 streams


class Stage(NamedTuple):
    """One run of the products, and how the weights are made ready for it."""

    kernel: Any
    job: np.ndarray
    table: np.ndarray
    tasks: int
    pack: Any
    pack_job: np.ndarray
    pack_tasks: int
    packed: int                              # elements of the weights' matrices, and of the weights behind them
    workspace: int                           # bytes one thread keeps
    raw_at: int                              # where among them the weights stand as they are; -1: nowhere
    cost: float                              # of a call, in vector multiply-adds


def fits(s: Shape) -> bool:
    """Whether the convolution is a product of matrices: one tap, which reads no padding."""
    return s.KH == s.KW == 1 and s.PT == s.PL == 0 and (s.OH - 1) * s.SH < s.H and (s.OW - 1) * s.SW < s.W


def fits_to_input(s: Shape) -> bool:
    """Whether the gradient to the input is such a product, too."""
    return fits(s) and s.SH == s.SW == 1 and (s.H, s.W) == (s.OH, s.OW)


def pays(s: Shape, stage_of: Callable[[str], Any], forward: bool = True) -> bool:
    """Whether this is expected to be faster than the direct convolution. stage_of: makes the stage of "strassen" and of "direct"."""
    return ((fits(s) if forward else fits_to_input(s)) and s.flops > 0 and s.OH * s.OW >= LEAST_PIXELS and has_room(stage_of("strassen"))
            and stage_of("strassen").cost < GAIN * _direct_cost(s, stage_of("direct")))


def _direct_cost(s: Shape, stage: direct.Stage) -> float:
    return s.flops / 2 / (VECTOR_BYTES // s.size) / stage.share


def why(s: Shape, stage: Stage) -> str:
    """What speaks for a stage."""
    other = direct.forward(s, prepared=stage.raw_at >= 0)
    return (f"seven products of quarters of the matrices for eight; "
            f"{100 * stage.cost / _direct_cost(s, other):.0f} % of the direct convolution's time is expected")


def describe(stage: Stage) -> str:
    """The blocks of a forward pass, in words."""
    job = dict(zip(strassen.JOB, stage.job.tolist()))
    return f"{job['rows'] * job['OW']} pixels x twice {job['share']} filters; {stage.tasks} tasks; {stage.packed:,} numbers of weights and their sums"


def forward(s: Shape, relu: bool = False, prepared: bool = False) -> Stage:
    """The stage of a forward pass. prepared: the weights' matrices are made beforehand, and the weights stand behind them."""
    C, F = s.C // s.G, s.F // s.G
    return _stage(s, C, F, (s.H, s.W), (s.OH, s.OW), (s.SH, s.SW), relu, prepared, (F * C, C, 1))


def to_input(s: Shape) -> Stage:
    """The stage of the gradient to the input: the same with turned weights."""
    C, F = s.C // s.G, s.F // s.G
    return _stage(s, F, C, (s.OH, s.OW), (s.H, s.W), (1, 1), False, False, (F * C, 1, C))


def _stage(s: Shape, C: int, F: int, source: Plane, target: Plane, steps: Plane, relu: bool, prepared: bool, raw: tuple[int, int, int]) -> Stage:
    N, G, size, (H, W), (OH, OW) = s.N, s.G, s.size, source, target
    lanes = VECTOR_BYTES // size
    width, pitch, line = VECTORS * lanes, pitch_of(lanes), ALIGNMENT // size
    K, half = -(-C // 2), -(-F // 2)
    in_place = steps == (1, 1) and source == target and C % 2 == 0
    if in_place:                             # one column of pixels: blocks of any size
        H, W, OH, OW = H * W, 1, OH * OW, 1
    most = min(max(LEAST_PAIRS, OH * OW // (2 * BLOCKS)), PAIRS, T_BYTES // (QUARTERS * -(-K * pitch // ROWS) * size))
    rows = _rows(max(1, OH), max(1, OW), max(2 * ROWS, most))
    blocks = N * G * -(-OH // rows)
    flops = 2.0 * N * G * C * F * OH * OW
    chunk = even(K, CHAIN)
    pairs = -(-rows * OW // 2)
    padded = round_up(half, width)
    sums = SUMS_COST * K * -(-pairs // ROWS) * pitch / lanes
    if not in_place:
        sums += WINDOW_COST * C * rows * -(-OW // lanes)
    # Of a block, but for its sums.
    product = PRODUCT_COST * QUARTERS * (K + TILE_COST * -(-K // chunk)) * tile_rows(pairs) * padded / lanes + TURN_COST * 2 * -(-pairs // lanes) * 2 * padded
    most_shares = min(-(-half // width), max(-(-LEAST_TASKS // max(1, blocks)), SUMS_SHARE * product / max(1.0, sums)))
    shares = next(n for n in (8, 4, 2, 1) if n <= max(1, min(most_shares, split(blocks, flops, wanted_tasks(prepared)))))
    share = round_up(-(-half // shares), width)
    shares = -(-half // share)
    raw_at, group = -1, QUARTERS * K * padded
    kept = G * group
    if prepared:
        raw_at, kept = kept, kept + G * C * F
    job = np.array([N, G, C, F, H, W, OH, OW, *steps, in_place, rows, share, chunk, s.flags(N * G * F * OH * OW, relu), group, raw_at, *raw], np.int64)
    cost = N * G * OH / rows * (product + sums)
    cost += FETCH_COST * G * (QUARTERS * K * padded - C * F) * size
    if not prepared:
        cost += START_COST + (PACK_COST if raw[2] == 1 else TURNED_COST) * G * K * padded / lanes
    tiles = -(-pairs // ROWS)
    room = (QUARTERS * tiles * (K * pitch + line) + (RESULTS + (QUARTERS if chunk < K else 0)) * tiles * ROWS * width + CHANNELS * width
            + (0 if in_place else 2 * K * rows * OW + lanes))
    return Stage(strassen.results, job, np.zeros(1, np.int64), blocks * shares, strassen.pack, job, G * padded // width, kept, room * size, raw_at, cost)


LEAST_TASKS, SUMS_SHARE = 4, 0.15            # tasks share a block, and each makes its sums, until there are so many, or while those are less of their work


def _rows(OH: int, OW: int, most: int) -> int:
    """Rows of a block, of at most so many pairs of pixels if it can be: those which fill tiles best over the whole image, and of those

    the most that leave no rest."""
    def cost(rows: int) -> int:
        whole, rest = divmod(OH, rows)
        return whole * tile_rows(-(-rows * OW // 2)) + tile_rows(-(-rest * OW // 2))

    most_rows = max(1, min(OH, 2 * most // OW))
    return min(range(max(1, most_rows // 2), most_rows + 1), key=lambda rows: (cost(rows), OH % rows > 0, -rows))
