"""Plans: which algorithm, which blocks, how much workspace, and why. All thresholds of the package stand here.

A plan depends on shapes, dtype, precision and instruction set only, never on the number of threads or on a timing, so that the same
call gives the same bits at every run.
"""
from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from . import check, runtime
from .check import Pads, Pair
from .kernels import geometry
from .kernels.tiles import ROWS as MOST_ROWS
from .kernels.tiles import TILES, VECTOR_BYTES, VECTORS

ALGORITHMS = ("auto", "direct", "im2col")
PRECISIONS = ("high", "highest")

CHUNK_TERMS = {4: 384, 8: 256}               # of one chain of a sum, by itemsize; also the depth of a packed block
BLOCK_BYTES = 448 * 1024                     # a packed block of patches: with a block of the result, well within a 1 MiB L2 cache
RESULT_BYTES = 256 * 1024                    # the block of dW or of columns that such a block is multiplied into
PARTS_BYTES = 4 * 1024 * 1024                # of the gradients to the weights that parts of the batch keep for themselves
TASKS = 8                                    # one image is cut into at least so many tasks where its work is worth it
TASK_FLOPS = 4e6                             # the least work that a task is cut down to
COLUMN_ROWS = 288                            # rows of the column block that a gradient to the input adds back: 32 channels of 3 x 3
PACK_INSIDE = 2                              # blocks of pixels up to which each packs the weights by itself: once or twice is soon done
FEW_PIXELS = 256                             # images up to which the product may be turned around
PATCH_USES = 160                             # filters that a task multiplies a packed patch with, before it is worth packing it twice
FEW_FILTERS = 4                              # fewer filters than this are not worth packing patches for
BAND_BYTES = 32 * 1024                       # the least part of a plane that a task of col2im or of a pooling's gradient takes

_precision = "high"


def set_precision(precision: str) -> None:
    """"high" (at most 1e-5 of the largest output in float32) or "highest" (direct sums only: at most 2e-6). Process-wide."""
    global _precision
    _precision = check.choice("precision", precision, PRECISIONS)


def get_precision() -> str:
    """What `set_precision` said last; "high" at the start."""
    return _precision


@dataclasses.dataclass(frozen=True)
class Plan:
    """How one convolution is computed, forward and backward. `print(plan)` says what was chosen and why."""

    algorithm: str
    why: str
    x_shape: tuple[int, int, int, int]       # N C H W
    weight_shape: tuple[int, int, int, int]  # F C/groups KH KW
    y_shape: tuple[int, int, int, int]       # N F OH OW
    stride: Pair
    padding: Pads
    dilation: Pair
    groups: int
    dtype: np.dtype
    isa: str
    flops: int                               # of the forward pass: two for each multiply-add, padding included
    bytes: int                               # that the forward pass must move: x, weight and y once
    workspace: int                           # bytes of the largest block one thread keeps, any direction
    packed: int                              # elements of the weights packed ahead, forward; 0: by the tasks that need them
    packed_transposed: int                   # and for the gradient to the input
    geometry: np.ndarray = dataclasses.field(repr=False, compare=False)
    forward_blocks: np.ndarray = dataclasses.field(repr=False, compare=False)
    input_blocks: np.ndarray = dataclasses.field(repr=False, compare=False)
    weight_blocks: np.ndarray = dataclasses.field(repr=False, compare=False)

    def __str__(self) -> str:
        lines = [
            f"conv2d {self.x_shape} * {self.weight_shape} -> {self.y_shape}, {self.dtype}",
            f"  stride {self.stride}, padding {self.padding}, dilation {self.dilation}, groups {self.groups}",
            f"  algorithm   {self.algorithm}: {self.why}",
            f"  work        {self.flops / 1e6:,.2f} MFLOP, {self.bytes / 1e6:,.2f} MB to move, "
            f"{self.flops / max(1, self.bytes):.1f} FLOP a byte",
            f"  workspace   {self.workspace / 1024:,.0f} KiB a thread; packed weights {self.packed * self.dtype.itemsize / 1024:,.0f} KiB",
            f"  CPU         {self.isa}",
        ]
        if self.algorithm == "im2col":
            k, p, f, turned = (int(v) for v in self.forward_blocks)
            across = "filters" if turned else "pixels"
            lines.insert(4, f"  blocks      {k} terms x {p} pixels x {f} filters forward, vectors of {across}")
        return "\n".join(lines)


def plan_conv2d(x_shape: tuple[int, ...], weight_shape: tuple[int, ...], dtype: Any = np.float32, stride: Any = 1, padding: Any = 0,
                dilation: Any = 1, groups: int = 1, *, algorithm: str = "auto") -> Plan:
    """The plan of `conv2d` for these shapes, (N, C, H, W) or (C, H, W) and (F, C / groups, KH, KW), without computing anything.

    Raises what `conv2d` would raise for such arguments.
    """
    shape = check.shape("x_shape", x_shape, "(N, C, H, W) or (C, H, W)", (3, 4))
    weight = check.shape("weight_shape", weight_shape, "(F, C / groups, KH, KW)", (4,))
    working = check.working_dtype(check.float_dtype("dtype", dtype))
    return conv_plan(shape if len(shape) == 4 else (1, *shape), weight, working, *normal_conv(weight[2:], stride, padding, dilation),
                     check.integer("groups", groups, 1), check.choice("algorithm", algorithm, ALGORITHMS), _precision)


def normal_conv(kernel: Pair, stride: Any, padding: Any, dilation: Any) -> tuple[Pair, Pads, Pair]:
    """stride, padding and dilation in their normal forms."""
    strides, dilations = check.pair("stride", stride, 1), check.pair("dilation", dilation, 1)
    return strides, check.conv_padding(padding, kernel, strides, dilations), dilations


@functools.lru_cache(maxsize=4096)
def conv_plan(x_shape: tuple[int, int, int, int], weight_shape: tuple[int, int, int, int], dtype: np.dtype, stride: Pair, padding: Pads,
              dilation: Pair, groups: int, algorithm: str, precision: str) -> Plan:
    """The plan for normalised arguments. ValueError where the shapes do not fit together."""
    N, C, H, W = x_shape
    F, CG, KH, KW = weight_shape
    _conv_shapes(x_shape, weight_shape, groups)
    OH = check.output_size("the height", H, KH, stride[0], padding[0], dilation[0], argument="weight")
    OW = check.output_size("the width", W, KW, stride[1], padding[1], dilation[1], argument="weight")
    check.result_shape("x, weight and padding", N, F, OH, OW)
    P, K, FG, size = OH * OW, CG * KH * KW, F // groups, dtype.itemsize
    flops = 2 * N * F * P * K
    chosen, why = _choose(algorithm, FG, K)
    width = width_of(dtype)
    forward, forward_bytes = _forward_blocks(N, groups, FG, K, P, width, size)
    to_input, input_bytes = _input_blocks(N, groups, CG, FG, KH * KW, H, P, width, size)
    to_weight, weight_bytes = _weight_blocks(N, groups, FG, K, P, width, size)
    row = (OW + W) * size
    return Plan(
        algorithm=chosen, why=why, x_shape=x_shape, weight_shape=weight_shape, y_shape=(N, F, OH, OW), stride=stride, padding=padding,
        dilation=dilation, groups=groups, dtype=dtype, isa=runtime.isa(), flops=flops,
        bytes=(N * C * H * W + F * K + N * F * P) * size,
        workspace=max(forward_bytes, input_bytes, weight_bytes) if chosen == "im2col" else row,
        packed=0 if forward[3] or N * -(-P // int(forward[1])) <= PACK_INSIDE else groups * (FG + MOST_ROWS) * K,
        packed_transposed=groups * -(-CG // int(to_input[2])) * (int(to_input[2]) * KH * KW + MOST_ROWS) * FG,
        geometry=geometry.pack(N=N, C=C, H=H, W=W, F=F, OH=OH, OW=OW, KH=KH, KW=KW, SH=stride[0], SW=stride[1], PT=padding[0][0],
                               PL=padding[1][0], DH=dilation[0], DW=dilation[1], G=groups),
        forward_blocks=forward, input_blocks=to_input, weight_blocks=to_weight)


def _conv_shapes(x_shape: tuple[int, int, int, int], weight_shape: tuple[int, int, int, int], groups: int) -> None:
    """Do image and filters fit together?"""
    C, F, CG = x_shape[1], weight_shape[0], weight_shape[1]
    for axis, size in enumerate(weight_shape):
        if size < 1:
            raise ValueError(f"weight has shape {weight_shape}; wanted: (F, C / groups, KH, KW) with no empty axis, "
                             f"but axis {axis} is {size}")
    hint = check.channels_last_hint("x", x_shape, CG * groups)
    if C % groups or C == 0:
        raise ValueError(f"groups is {groups} and x has {C} channels, shape {x_shape}; wanted: groups that divide the channels{hint}")
    if F % groups:
        raise ValueError(f"groups is {groups} and weight has {F} filters, shape {weight_shape}; wanted: groups that divide the filters")
    if CG * groups != C:
        raise ValueError(f"weight has shape {weight_shape}, so {CG} channels in each of {groups} groups, and x has {C} channels, "
                         f"shape {x_shape}; wanted: {CG * groups} channels of x{hint}")


def _choose(algorithm: str, FG: int, K: int) -> tuple[str, str]:
    """The algorithm, and why."""
    if algorithm != "auto":
        return algorithm, "asked for"
    if FG < FEW_FILTERS:
        return "direct", f"{FG} filters a group: a patch would be packed for fewer than {FEW_FILTERS} uses"
    return "im2col", f"{FG} filters a group share each packed patch of {K} elements"


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _even(n: int, most: int, multiple: int = 1) -> int:
    """The size of equal parts of `n`, none above `most`, each a whole multiple."""
    if n <= most:
        return _round_up(max(1, n), multiple)
    most = max(multiple, most // multiple * multiple)
    return _round_up(-(-n // -(-n // most)), multiple)


def _split(tasks: int, flops: float) -> int:
    """Into how many more parts to cut each of `tasks` tasks, so that one image has work for every core."""
    return max(1, min(-(-TASKS // max(1, tasks)), int(flops / max(1, tasks) / TASK_FLOPS)))


def _forward_blocks(N: int, G: int, FG: int, K: int, P: int, width: int, size: int) -> tuple[np.ndarray, int]:
    k_size = _even(K, CHUNK_TERMS[size])
    flops = 2.0 * N * G * FG * K * P
    turned = P <= FEW_PIXELS and P / _tile_rows(P) * FG / _round_up(FG, width) > 1.1 * P / _round_up(P, width // VECTORS)
    if turned:                               # pixels along the rows of a tile, filters along its vectors
        p_size = _even(P, max(4 * MOST_ROWS, -(-P // _split(N * G, flops))), MOST_ROWS)
        f_size = _even(FG, max(PATCH_USES, -(-FG // _split(N * G * -(-P // p_size), flops))), width)
        return np.array([k_size, p_size, f_size, 1], np.int64), (k_size * (p_size + f_size) + p_size * f_size) * size
    p_size = _even(P, min(BLOCK_BYTES // (k_size * size), RESULT_BYTES // (min(FG, 64) * size)), width)
    p_blocks = -(-P // p_size)
    if p_blocks > 1:                         # one block: its tasks share out the filters instead
        p_size = _even(P, max(2 * width, p_size // _split(N * G * p_blocks, flops)), width)
    tasks = N * G * -(-P // p_size)
    f_size = _even(FG, max(PATCH_USES, -(-FG // _split(tasks, flops))), MOST_ROWS)
    inside = k_size * f_size if N * -(-P // p_size) <= PACK_INSIDE else 0
    return np.array([k_size, p_size, f_size, 0], np.int64), ((k_size + 1) * p_size + inside) * size


def _tile_rows(rows: int) -> int:
    """Rows that tiles compute for so many: whole tiles, and a smaller one for what is left over."""
    tail = rows % MOST_ROWS
    return rows - tail + next((height for height in sorted(TILES.rows) if height >= tail), 0) if tail else rows


def _input_blocks(N: int, G: int, CG: int, FG: int, T: int, H: int, P: int, width: int, size: int) -> tuple[np.ndarray, int]:
    f_size = _even(FG, CHUNK_TERMS[size])
    flops = 2.0 * N * G * FG * CG * T * P
    c_size = max(1, min(CG, COLUMN_ROWS // T))
    tasks = N * G * -(-CG // c_size)
    c_size = _even(CG, max(1, c_size // _split(tasks, flops)))
    tasks = N * G * -(-CG // c_size)
    bands = min(max(1, H), _split(tasks, flops))
    k_size = _round_up(min(c_size * T, 4 * COLUMN_ROWS), MOST_ROWS)
    p_size = _even(P, RESULT_BYTES // (k_size * size), width)
    return np.array([f_size, p_size, c_size, bands, k_size], np.int64), (f_size + k_size) * p_size * size


def _weight_blocks(N: int, G: int, FG: int, K: int, P: int, width: int, size: int) -> tuple[np.ndarray, int]:
    p_size = _even(P, CHUNK_TERMS[size])
    flops = 2.0 * N * G * FG * K * P
    k_size = _even(K, BLOCK_BYTES // (p_size * size), width)
    f_size = _even(FG, 2 * RESULT_BYTES // (k_size * (size + 8)), MOST_ROWS)
    tasks = G * -(-K // k_size) * -(-FG // f_size)
    # More tasks: first parts of the batch, as long as their sums are small; then of the taps; a patch is packed twice only at last.
    n_parts = min(max(1, N), _split(tasks, flops), max(1, PARTS_BYTES // (8 * G * FG * K)))
    tasks *= n_parts
    k_size = _even(K, max(2 * width, k_size // _split(tasks, flops)), width)
    tasks = n_parts * G * -(-K // k_size) * -(-FG // f_size)
    f_size = _even(FG, -(-f_size // _split(tasks, flops)), MOST_ROWS)
    return np.array([p_size, k_size, f_size, n_parts], np.int64), (f_size + k_size) * p_size * size + f_size * k_size * size


def width_of(dtype: np.dtype) -> int:
    """Columns of one packed panel."""
    return VECTORS * VECTOR_BYTES // dtype.itemsize


def bands_of(planes: int, rows: int, row_bytes: int) -> int:
    """Into how many bands of rows to cut each of `planes` planes, for the operations that own rows of their result."""
    return max(1, min(rows, -(-TASKS // max(1, planes)), rows * row_bytes // BAND_BYTES))
