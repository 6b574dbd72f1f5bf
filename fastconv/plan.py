"""Plans: which algorithm, which blocks, how much workspace, and why.

A plan depends on shapes, dtype, precision and instruction set only, never on the number of threads or on a timing, so that the same
call gives the same bits at every run. The thresholds of each algorithm stand in `blocking`.
"""
from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from . import check
from .blocking import depthwise, direct, direct_weight, im2col, strassen, winograd, winograd_weight
from .blocking.parts import MOST_WORKSPACE, has_room
from .blocking.shape import Shape
from .check import Pads, Pair
from .instruction_set import isa

ALGORITHMS = ("auto", "direct", "im2col", "depthwise", "winograd", "strassen")
DENSE = ("direct", "winograd", "strassen")  # that stand in for each other, each direction for itself
PRECISIONS = ("high", "highest")
BLOCKING = {"direct": direct, "im2col": im2col, "depthwise": depthwise, "winograd": winograd, "strassen": strassen}
WEIGHT_BLOCKING = {**BLOCKING, "direct": direct_weight, "winograd": winograd_weight}

FEW_FILTERS = 4                              # filters for each channel of a depthwise convolution, up to which its own kernels serve

_precision = "high"


def set_precision(precision: str) -> None:
    """"high" (at most 1e-5 of the largest output in float32) or "highest" (direct sums only: at most 2e-6). Process-wide."""
    global _precision
    _precision = check.choice("precision", precision, PRECISIONS)


def get_precision() -> str:
    """What `set_precision` said last; "high" at the start."""
    return _precision


class Stages:
    """The blocks of one convolution by direction and algorithm, each made once, when it is asked for."""

    def __init__(self, shape: Shape, prepared: bool) -> None:
        self.shape, self.prepared = shape, prepared
        self._made: dict[tuple[str, str], Any] = {}

    def forward(self, algorithm: str) -> Any:
        """Of the forward pass; of a prepared layer where the plan is for one."""
        return self._of("forward", algorithm, BLOCKING, {"prepared": True} if self.prepared else {})

    def to_input(self, algorithm: str) -> Any:
        """Of the gradient to the input."""
        return self._of("to_input", algorithm, BLOCKING, {})

    def to_weight(self, algorithm: str) -> Any:
        """Of the gradient to the weights."""
        return self._of("to_weight", algorithm, WEIGHT_BLOCKING, {})

    def _of(self, direction: str, algorithm: str, blocking: dict[str, Any], options: dict[str, bool]) -> Any:
        made = self._made.get((direction, algorithm))
        if made is None:
            made = self._made[direction, algorithm] = getattr(blocking[algorithm], direction)(self.shape, **options)
        return made

    def forget_others(self, direction: str, algorithm: str) -> str:
        """Drop what was made of this direction to compare with the algorithm, which is returned: thousands of plans are kept."""
        for other in BLOCKING:
            if other != algorithm:
                self._made.pop((direction, other), None)
        return algorithm


@dataclasses.dataclass(frozen=True)
class Plan:
    """How one convolution is computed, forward and backward. `print(plan)` says what was chosen and why."""

    algorithm: str                           # of the forward pass
    asked: bool                              # for this algorithm
    precision: str                           # "high" or "highest"
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
    shape: Shape = dataclasses.field(repr=False, compare=False)
    stages: Stages = dataclasses.field(repr=False, compare=False)

    @functools.cached_property
    def input_algorithm(self) -> str:
        """The algorithm of the gradient to the input."""
        algorithm, s = self.algorithm, self.shape
        if algorithm in DENSE and not self.asked:
            algorithm = "direct"
            if self.precision == "high":
                algorithm = ("winograd" if winograd.pays(s, self.stages.to_input, forward=False) else
                             "strassen" if strassen.pays(s, self.stages.to_input, forward=False) else "direct")
        if (algorithm == "strassen" and not strassen.fits_to_input(s)) or (algorithm == "winograd" and not winograd.fits_to_input(s)):
            algorithm = "direct"
        if algorithm == "direct" and not has_room(self.stages.to_input("direct")):
            algorithm = "im2col"             # strided, of very wide images
        return self.stages.forget_others("to_input", algorithm)

    @functools.cached_property
    def weight_algorithm(self) -> str:
        """The algorithm of the gradient to the weights."""
        if self.algorithm not in DENSE or (self.asked and (self.algorithm == "direct" or winograd_weight.fits(self.shape))):
            return self.algorithm
        return self.stages.forget_others(
            "to_weight", "winograd" if self.precision == "high" and winograd_weight.pays(self.shape, self.stages.to_weight) else "direct")

    @functools.cached_property
    def forward(self) -> Any:
        """The blocks of the forward pass."""
        return self.stages.forward(self.algorithm)

    @functools.cached_property
    def to_input(self) -> Any:
        """The blocks of the gradient to the input."""
        return self.stages.to_input(self.input_algorithm)

    @functools.cached_property
    def to_weight(self) -> Any:
        """The blocks of the gradient to the weights."""
        return self.stages.to_weight(self.weight_algorithm)

    @functools.cached_property
    def why(self) -> str:
        """What speaks for the algorithm."""
        return "asked for" if self.asked else str(BLOCKING[self.algorithm].why(self.shape, self.forward))

    @property
    def workspace(self) -> int:
        """Bytes of the largest block that one thread keeps, in any direction."""
        return max(stage.workspace for stage in (self.forward, self.to_input, self.to_weight))

    def __str__(self) -> str:
        described = BLOCKING[self.algorithm].describe(self.forward)
        lines = [
            f"conv2d {self.x_shape} * {self.weight_shape} -> {self.y_shape}, {self.dtype}",
            f"  stride {self.stride}, padding {self.padding}, dilation {self.dilation}, groups {self.groups}",
            f"  algorithm   {self.algorithm}: {self.why}",
            f"  blocks      {described}",
            f"  gradients   to the input {self.input_algorithm}, to the weights {self.weight_algorithm}",
            f"  work        {self.flops / 1e6:,.2f} MFLOP, {self.bytes / 1e6:,.2f} MB to move, "
            f"{self.flops / max(1, self.bytes):.1f} FLOP a byte",
            f"  workspace   {self.forward.workspace / 1024:,.0f} KiB a thread forward, {self.to_input.workspace / 1024:,.0f} to the input, "
            f"{self.to_weight.workspace / 1024:,.0f} to the weights",
            f"  CPU         {self.isa}",
        ]
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
              dilation: Pair, groups: int, algorithm: str, precision: str, prepared: bool = False) -> Plan:
    """The plan for normalised arguments; prepared: the weights are packed beforehand. ValueError where the shapes do not fit together."""
    N, C, H, W = x_shape
    F, CG, KH, KW = weight_shape
    _conv_shapes(x_shape, weight_shape, groups)
    OH = check.output_size("the height", H, KH, stride[0], padding[0], dilation[0], argument="weight")
    OW = check.output_size("the width", W, KW, stride[1], padding[1], dilation[1], argument="weight")
    check.result_shape("x, weight and padding", N, F, OH, OW)
    shape = Shape(N, C, H, W, F, OH, OW, KH, KW, *stride, padding[0][0], padding[1][0], *dilation, groups, dtype.itemsize)
    stages = Stages(shape, prepared)
    return Plan(
        algorithm=_choose(algorithm, stages, precision), asked=algorithm != "auto", precision=precision, x_shape=x_shape, weight_shape=weight_shape,
        y_shape=(N, F, OH, OW), stride=stride, padding=padding, dilation=dilation, groups=groups, dtype=dtype, isa=isa(), flops=shape.flops,
        bytes=(N * C * H * W + F * CG * KH * KW + N * F * OH * OW) * dtype.itemsize, shape=shape, stages=stages)


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


def _choose(algorithm: str, stages: Stages, precision: str) -> str:
    """The algorithm of the forward pass."""
    s = stages.shape
    if algorithm == "depthwise" and not depthwise.fits(s):
        raise ValueError(f"algorithm is 'depthwise' and each of {s.G} groups has {s.C // s.G} channels; wanted: one channel a group")
    if algorithm == "winograd" and not winograd.fits(s):
        raise ValueError(f"algorithm is 'winograd', the kernel {s.KH}x{s.KW}, the stride {(s.SH, s.SW)} and the dilation {(s.DH, s.DW)}; "
                         f"wanted, with dilation 1: a 3x3, 5x5, 1x3 or 3x1 kernel and stride 1, 3x3 and stride 2, or few channels and a kernel that is "
                         f"three or four times as wide as a stride of two or more (rounded up)")
    if algorithm == "strassen" and not strassen.fits(s):
        raise ValueError(f"algorithm is 'strassen', the kernel {s.KH}x{s.KW} and the padding {(s.PT, s.PL)} before; wanted: a 1x1 kernel and no padding")
    if algorithm in ("winograd", "strassen") and precision == "highest":
        raise ValueError(f'algorithm is {algorithm!r} and the precision "highest"; wanted: precision "high", or another algorithm')
    if algorithm in ("winograd", "strassen"):
        both = BLOCKING[algorithm].fits_to_input(s)
        if not (has_room(stages.forward(algorithm)) and (not both or has_room(stages.to_input(algorithm)))):
            raise ValueError(f"algorithm is {algorithm!r}, and one block of {s.C // s.G} channels and {s.F // s.G} filters of a group takes more than the "
                             f"{MOST_WORKSPACE >> 20} MiB of a thread's workspace; wanted: fewer channels and filters, or another algorithm")
    if algorithm != "auto":
        return algorithm
    if depthwise.fits(s) and s.F // s.G < FEW_FILTERS:
        return "depthwise"
    best = "direct"
    if precision == "high":
        best = "winograd" if winograd.pays(s, stages.forward) else "strassen" if strassen.pays(s, stages.forward) else "direct"
    return stages.forget_others("forward", best)
