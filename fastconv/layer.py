"""The prepared layer: a convolution whose weights are packed once, with batch norm, residual and ReLU in the same pass over the result."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import check, recycling
from . import plan as planning
from .algorithms import ALGORITHMS
from .conv import W_SHAPE, X_SHAPE
from .kernels.handed import layer
from .kernels.tasks import NOTHING, Call, crew, run_call

ACTIVATIONS = (None, "relu")
NORM = ("running_mean", "running_var", "weight", "bias", "eps")
MOST_SHAPES = 256                            # of x that one layer remembers


class Conv2d:
    """`conv2d` with fixed weights: y = activation(conv2d(x, weight, bias, ...) + residual), for many images or calls.

        layer = Conv2d(weight, bias, stride, padding, dilation, groups, batch_norm=..., activation="relu")
        y = layer(x, residual=None, out=None)

    weight: (F, C / groups, KH, KW); bias: (F,) or None; of one dtype, float32, float64 or float16 (computed in float32, rounded once);
    stride, padding, dilation, groups: as for `conv2d`. batch_norm: None, or a tuple (running_mean, running_var, weight, bias, eps) of the norm
    after the convolution, in evaluation: arrays (F,), the last two or None, and a number. It is folded into weight and bias in float64,
    and they are rounded once. activation: None or "relu", which keeps NaN.

    Attributes: weight and bias (None where there is none) as they are computed with, the norm folded in, read-only; stride, padding,
    dilation, groups, in normal form; activation; dtype, that of x and y.

    The layer has copies of all it was given. Any number of threads may share it. It pickles, without its packed weights.
    Raises TypeError or ValueError that name the argument, as a call does.

    >>> layer = Conv2d(np.ones((8, 3, 3, 3), np.float32), padding=1, activation="relu")
    >>> layer(np.ones((2, 3, 5, 6), np.float32)).shape
    (2, 8, 5, 6)
    """

    def __init__(self, weight: np.ndarray, bias: np.ndarray | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
                 groups: int = 1, *, batch_norm: tuple[Any, ...] | None = None, activation: str | None = None) -> None:
        arrays = [("weight", check.array("weight", weight, W_SHAPE, (4,)))]
        if bias is not None:
            arrays.append(("bias", check.array("bias", bias, "(F,) or None", (1,))))
            check.shape_of("bias", bias, weight.shape[:1], "one value for each filter of weight")
        self.dtype = np.dtype(check.common_dtype(arrays).type)     # the one object of this dtype: one out of a pickle is another
        working = check.working_dtype(self.dtype)
        self.stride, self.padding, self.dilation = planning.normal_conv(weight.shape[2:], stride, padding, dilation)
        self.groups = check.integer("groups", groups, 1)
        self.activation = check.choice("activation", activation, ACTIVATIONS)
        smallest = 1, weight.shape[1] * self.groups, *weight.shape[2:]       # an image for which the plan refuses what no image fits
        planning.conv_plan(smallest, weight.shape, working, (1, 1), ((0, 0), (0, 0)), (1, 1), self.groups, "auto", planning.get_precision())
        if batch_norm is not None:
            weight, bias = _folded(weight, bias, batch_norm, self.dtype)
        with np.errstate(all="ignore"):      # a folded weight beyond float32 is inf
            self._weight = weight.astype(working, order="C")
            self._bias = NOTHING[working] if bias is None else bias.astype(working)
        self._forget()

    def _forget(self) -> None:
        self._packed: dict[tuple[str, str], np.ndarray] = {}       # by algorithm and order
        self._known: dict[tuple[tuple[int, ...], str], _Known] = {}          # by the shape of x and the precision
        self._quick: dict[tuple[tuple[int, ...], str], tuple[Any, _Known]] = {}      # compiled code that looks at its arrays itself

    @property
    def weight(self) -> np.ndarray:
        return _read_only(self._weight)

    @property
    def bias(self) -> np.ndarray | None:
        return _read_only(self._bias) if self._bias.size else None

    def __call__(self, x: np.ndarray, residual: np.ndarray | None = None, out: np.ndarray | None = None) -> np.ndarray:
        """activation(conv2d(x, weight, bias) + residual), in `out` where that is given.

        x: (N, C, H, W) or (C, H, W); residual: of the result's shape; out: of the result's shape, apart from x; it may be the residual
        itself, which the result then replaces. All of the layer's dtype. Returns y: (N, F, OH, OW) or (F, OH, OW).
        """
        if type(x) is np.ndarray:
            quick = self._quick.get((x.shape, planning.get_precision()))
            if quick is not None:
                run, known = quick
                y = known.empty(known.y_shape, self.dtype) if out is None else out
                if run(*crew(known.tasks, known.work), x, residual, y):
                    return y
        return self._checked(x, residual, out)

    def _checked(self, x: Any, residual: Any, out: Any) -> np.ndarray:
        """A call with any arguments."""
        check.array("x", x, X_SHAPE, (3, 4))
        arrays = [("weight", np.empty(0, self.dtype)), ("x", x)]
        if residual is not None:
            arrays.append(("residual", check.array("residual", residual, "of the shape of the result", (x.ndim,))))
        check.common_dtype(arrays)
        known, dtype = self._prepare(x.shape, planning.get_precision()), self._weight.dtype
        if residual is not None:
            check.shape_of("residual", residual, known.y_shape, "the shape of the result")
        replaced = out is not None and residual is not None and check.same_place(out, residual)
        given = check.output(out, known.y_shape, self.dtype, (x,) if replaced else (x, residual))
        y = check.target(given, known.y_shape, dtype)
        if y.size:
            added = NOTHING[dtype] if residual is None else check.native(residual, dtype)
            if replaced and not known.over and np.may_share_memory(y, added):
                added = added.copy()
            run_call(self._call(known), check.native(x, dtype).ravel(), y.ravel(), added.ravel())
            if self.dtype == dtype:
                self._remember(x.shape, known)
        return check.deliver(y, given, self.dtype)

    def call(self, shape: tuple[int, ...], precision: str) -> tuple[Call, tuple[int, ...], bool]:
        """The one call of a kernel that the layer comes to for an x of this shape; the shape of y; and whether y may replace the residual."""
        known = self._prepare(shape, precision)
        return self._call(known), known.y_shape, known.over

    def _call(self, known: _Known) -> Call:
        return Call(known.kernel, known.tasks, known.work, known.packed, self._bias, known.job, known.table)

    def _remember(self, shape: tuple[int, ...], known: _Known) -> None:
        """Let later calls like this one be a call of compiled code, which looks at their arrays itself."""
        run = layer(known.kernel, known.tasks, known.over, shape, known.y_shape, known.packed, self._bias, known.job, known.table)
        if run is not None:
            if len(self._quick) >= MOST_SHAPES:
                self._quick.clear()
            self._quick[shape, planning.get_precision()] = run, known

    def _prepare(self, shape: tuple[int, ...], precision: str) -> _Known:
        """What calls with x of this shape run; kept, but for empty results, which nothing runs for."""
        key = shape, precision
        known = self._known.get(key)
        if known is not None:
            return known
        weight, relu = self._weight, self.activation == "relu"
        plan = planning.conv_plan(shape if len(shape) == 4 else (1, *shape), weight.shape, weight.dtype, self.stride, self.padding, self.dilation,
                                  self.groups, "auto", precision, True)
        stage = planning.BLOCKING[plan.algorithm].forward(plan.shape, relu, prepared=True) if relu else plan.forward
        algorithm = ALGORITHMS[plan.algorithm]
        order = plan.algorithm, algorithm.order(stage)
        packed = self._packed.get(order)
        if packed is None:                   # two threads may both pack: they pack the same
            packed = self._packed.setdefault(order, algorithm.pack(stage, weight))
        y_shape = plan.y_shape if len(shape) == 4 else plan.y_shape[1:]
        known = _Known(stage.kernel, stage.tasks, plan.flops, packed, stage.job, stage.table, y_shape, algorithm.over(stage),
                       np.empty if plan.bytes < recycling.LEAST else recycling.empty)
        if 0 not in y_shape:
            if len(self._known) >= MOST_SHAPES:
                self._known.clear()
            self._known[key] = known
        return known

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_packed", "_known", "_quick")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.dtype = np.dtype(self.dtype.type)
        self._weight, self._bias = (a.astype(check.working_dtype(self.dtype)) for a in (self._weight, self._bias))
        self._forget()

    def __repr__(self) -> str:
        said = [f"{name}={value!r}" for name, value, default in (
            ("stride", self.stride, (1, 1)), ("padding", self.padding, ((0, 0), (0, 0))), ("dilation", self.dilation, (1, 1)),
            ("groups", self.groups, 1), ("activation", self.activation, None)) if value != default]
        return f"Conv2d({', '.join([f'weight {self._weight.shape} {self.dtype}', *(['bias'] if self._bias.size else []), *said])})"


class _Known(NamedTuple):
    """All that the call of a known shape needs: the kernel, its tasks and their work, and what it reads beside x."""

    kernel: Any
    tasks: int
    work: float
    packed: np.ndarray
    job: np.ndarray
    table: np.ndarray
    y_shape: tuple[int, ...]
    over: bool                               # may y be the residual itself?
    empty: Any                               # what makes a new y


def _read_only(x: np.ndarray) -> np.ndarray:
    view = x.view()
    view.flags.writeable = False
    return view


def _folded(weight: np.ndarray, bias: np.ndarray | None, batch_norm: Any, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """The weights and bias, in float64, of a convolution and the norm that follows it."""
    mean, var, gamma, beta, eps = _norm(batch_norm, weight.shape[0], dtype)
    with np.errstate(all="ignore"):          # a variance that is negative or zero: NaN and inf
        scale = 1 / np.sqrt(var + eps)
        if gamma is not None:
            scale = scale * gamma
        shift = (-mean if bias is None else bias - mean) * scale
        if beta is not None:
            shift = shift + beta
        return weight * scale[:, None, None, None], shift


def _norm(batch_norm: Any, F: int, dtype: np.dtype) -> tuple[Any, ...]:
    """The norm's arrays in float64, or None, and eps."""
    *given, eps = check.fields("batch_norm", batch_norm, NORM)
    arrays: list[np.ndarray | None] = []
    for name, value in zip(NORM, given):
        name = f"batch_norm's {name}"
        if value is not None or len(arrays) < 2:
            check.shape_of(name, check.array(name, value, "(F,)", (1,)), (F,), "one value for each filter of weight")
            if value.dtype.newbyteorder("=") != check.working_dtype(dtype):
                check.common_dtype((("weight", np.empty(0, dtype)), (name, value)))
        arrays.append(None if value is None else value.astype(np.float64))
    return *arrays, check.number("batch_norm's eps", eps, 0.0)
