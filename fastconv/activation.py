"""The activations that sit between layers, and their gradients: element by element, softmax along an axis, dropout.

All take float32, float64 or float16 arrays (computed in float32, rounded once) of any shape. `out=`: an array of the shape and dtype of x to
write the result into, sharing no memory with x.
"""
from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import config

from . import check, recycling, runtime
from .kernels import activation as kernels
from .kernels import dropout as drops
from .kernels import softmax as rows
from .kernels.handed import at_once
from .kernels.past import PAST, in_parts
from .kernels.simd import LINE_BYTES
from .kernels.tasks import NO_TABLE, NOTHING, address, run_tasks
from .remembered import Remembered

__all__ = [
    "dropout", "dropout_backward", "gelu", "gelu_backward", "leaky_relu", "leaky_relu_backward", "log_softmax", "log_softmax_backward",
    "relu", "relu_backward", "sigmoid", "sigmoid_backward", "softmax", "softmax_backward", "tanh", "tanh_backward",
]

ANY = range(65)
WORK = 4.0                                   # for each byte of the result: worth two threads where one takes some 25 microseconds (measured)
LONG = 65536                                 # elements that exp takes at once, where they are one run of memory
BLOCK = 32768                                # elements of a task of softmax: so many for long runs of memory (measured)
AHEAD = 4096                                 # bytes of all lines together that the gradient of softmax across lines of memory fetches ahead (measured)
QUICK = {kernels.relu, kernels.relu_backward, kernels.leaky_relu, kernels.leaky_relu_backward, drops.dropout_backward}     # always wait for memory
QUICK_BY_RESULT = {kernels.sigmoid_backward, kernels.tanh_backward}                    # where they are given the forward's result


# ---------------------------------------------------------------- element by element
def relu(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """max(x, 0), as torch.nn.functional.relu. NaN stays NaN. Returns y, of the shape and dtype of x."""
    return _forward(kernels.relu, x, out)


def relu_backward(dout: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The gradient of `relu`: dx = dout where x > 0 (or NaN), else 0. x: the forward's argument, or its result, which serves as well."""
    return _backward(kernels.relu_backward, dout, x)


def leaky_relu(x: np.ndarray, negative_slope: float = 0.01, *, out: np.ndarray | None = None) -> np.ndarray:
    """x where x > 0, else x * negative_slope, as torch.nn.functional.leaky_relu. negative_slope: a finite number of at least 0."""
    return _forward(kernels.leaky_relu, x, out, check.number("negative_slope", negative_slope, 0.0) + 0.0)      # no -0.0, equal to 0.0


def leaky_relu_backward(dout: np.ndarray, x: np.ndarray, negative_slope: float = 0.01) -> np.ndarray:
    """The gradient of `leaky_relu`: dx = dout where x > 0, else dout * negative_slope."""
    return _backward(kernels.leaky_relu_backward, dout, x, slope=check.number("negative_slope", negative_slope, 0.0) + 0.0)


def sigmoid(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """The logistic function 1 / (1 + exp(-x)), as torch.nn.functional.sigmoid. Neither tail cancels or overflows."""
    return _forward(kernels.sigmoid, x, out)


def sigmoid_backward(dout: np.ndarray, x: np.ndarray, *, y: np.ndarray | None = None) -> np.ndarray:
    """The gradient of `sigmoid`: dx = dout * y * (1 - y).

    y: the forward's result, which saves computing it again; where y is nearly 1 it has lost the digits of 1 - y, x has not.
    """
    return _backward(kernels.sigmoid_backward, dout, x, y)


def tanh(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """The hyperbolic tangent, as torch.nn.functional.tanh."""
    return _forward(kernels.tanh, x, out)


def tanh_backward(dout: np.ndarray, x: np.ndarray, *, y: np.ndarray | None = None) -> np.ndarray:
    """The gradient of `tanh`: dx = dout * (1 - y^2).

    y: the forward's result, which saves computing it again; where |y| is nearly 1 it has lost the digits of 1 - y^2, x has not.
    """
    return _backward(kernels.tanh_backward, dout, x, y)


def gelu(x: np.ndarray, approximate: str = "none", *, out: np.ndarray | None = None) -> np.ndarray:
    """x * Phi(x), Phi the standard normal distribution, as torch.nn.functional.gelu (Hendrycks and Gimpel, 2016).

    approximate: "none", or "tanh" for x / 2 * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))). Minus infinity gives NaN, as in torch.
    """
    return _forward(_gelu(approximate, kernels.gelu, kernels.gelu_tanh), x, out)


def gelu_backward(dout: np.ndarray, x: np.ndarray, approximate: str = "none") -> np.ndarray:
    """The gradient of `gelu`: dx = dout * (Phi(x) + x * phi(x)), phi the density; of the tanh form likewise."""
    return _backward(_gelu(approximate, kernels.gelu_backward, kernels.gelu_tanh_backward), dout, x)


def _gelu(approximate: Any, exact: Any, tanh_form: Any) -> Any:
    return exact if check.choice("approximate", approximate, ("none", "tanh")) == "none" else tanh_form


# ---------------------------------------------------------------- along an axis
def softmax(x: np.ndarray, dim: int, *, out: np.ndarray | None = None) -> np.ndarray:
    """exp(x) / sum(exp(x)), the sum along the axis `dim`, as torch.nn.functional.softmax. The largest element of each sum is taken off first."""
    return _softmax(x, dim, out, 0)


def softmax_backward(dout: np.ndarray, x: np.ndarray, dim: int, *, y: np.ndarray | None = None) -> np.ndarray:
    """The gradient of `softmax`: dx = y * (dout - sum(dout * y)). y: the forward's result, which saves computing it again."""
    return _softmax_backward(dout, x, dim, y, 0)


def log_softmax(x: np.ndarray, dim: int, *, out: np.ndarray | None = None) -> np.ndarray:
    """The logarithm of `softmax` along the axis `dim`, as torch.nn.functional.log_softmax: exact where softmax itself would be 0."""
    return _softmax(x, dim, out, 1)


def log_softmax_backward(dout: np.ndarray, x: np.ndarray, dim: int, *, y: np.ndarray | None = None) -> np.ndarray:
    """The gradient of `log_softmax`: dx = dout - exp(y) * sum(dout). y: the forward's result, which saves computing it again."""
    return _softmax_backward(dout, x, dim, y, 1)


# ---------------------------------------------------------------- dropout
def dropout(x: np.ndarray, p: float = 0.5, training: bool = True, *, generator: np.random.Generator | None = None,
            return_mask: bool = False, out: np.ndarray | None = None) -> Any:
    """Zero each element with probability p and multiply the others by 1 / (1 - p), as torch.nn.functional.dropout (Srivastava et al., 2014).

    p: the probability of DROPPING an element, from 0 to 1. Not in training, and for p = 0, y is a copy of x.
    generator: where the randomness comes from, needed in training unless p is 0. Two words are drawn from it, whatever the size of x: the
    key of a counter-based generator (Philox4x32-10). So the same state gives the same y for every number of threads.

    Returns y; with return_mask (y, mask): an array like x of 0 and 1 / (1 - p), y = x * mask, which `dropout_backward` takes. out: an array
    to write y into.
    """
    dtype, working = _checked(x)
    p, training = _probability(p), check.flag("training", training)
    check.flag("return_mask", return_mask)
    given = check.output(out, x.shape, dtype, (x,))
    y = check.target(given, x.shape, working)
    mask = recycling.empty(x.shape, working) if return_mask else NOTHING[working]
    if training and p > 0:
        if not isinstance(generator, np.random.Generator):
            came = "None" if generator is None else f"a {type(generator).__name__}"
            raise TypeError(f"generator is {came}; wanted: a numpy.random.Generator, such as numpy.random.default_rng(0), "
                            f"since dropout in training is random")
        key = generator.integers(0, 2 ** 32, 2, np.uint32)
        factor = np.array([1 / (1 - p) if p < 1 else 0], working)
        _run(drops.dropout, check.native(x, working), mask, y, factor, np.array([*key, round(p * 2 ** 32)], np.int64))
    else:
        y[...] = x
        mask[...] = 1
    y = check.deliver(y, given, dtype)
    return (y, check.deliver(mask, None, dtype)) if return_mask else y


def dropout_backward(dout: np.ndarray, x: np.ndarray, p: float = 0.5, training: bool = True, *,
                     generator: np.random.Generator | None = None, mask: np.ndarray | None = None) -> np.ndarray:
    """The gradient of `dropout`: dx = dout * mask.

    mask: what the forward returned with return_mask; needed in training unless p is 0. generator is not looked at: a second draw would give
    another mask.
    """
    dtype, working = _checked(x)
    _checked_like("dout", dout, x)
    if not check.flag("training", training) or _probability(p) == 0:
        return np.array(dout, dtype, order="C", subok=False)
    if mask is None:
        raise TypeError("mask is None; wanted: the mask that dropout(..., return_mask=True) returned")
    _checked_like("mask", mask, x)
    dx = recycling.empty(x.shape, working)
    _run(drops.dropout_backward, check.native(mask, working), check.native(dout, working), dx, NOTHING[working])
    return check.deliver(dx, None, dtype)


def _probability(p: Any) -> float:
    p = check.number("p", p, 0.0)
    if p > 1:
        raise ValueError(f"p is {p}; wanted: a probability from 0 to 1")
    return p


# ---------------------------------------------------------------- what they share
def _checked(x: Any) -> tuple[np.dtype, np.dtype]:
    """The dtype of x in native byte order, and the one computed in."""
    if check.plain(x):
        return x.dtype, x.dtype
    check.array("x", x, "of any shape", ANY)
    return check.dtypes(x)


def _checked_like(name: str, value: Any, x: np.ndarray) -> None:
    if check.plain(value) and value.dtype is x.dtype and value.shape == x.shape:
        return
    check.array(name, value, f"of the shape of x, {x.shape}", ANY)
    check.common_dtype((("x", x), (name, value)))
    check.shape_of(name, value, x.shape, "the shape of x")


@functools.lru_cache(maxsize=64)
def _slope(slope: float | None, dtype: np.dtype) -> np.ndarray:
    return NOTHING[dtype] if slope is None else np.array([slope], dtype)


SHORT = Remembered()                         # of small calls, by all that they depend on but the values in their arrays


def _short(key: Any, src: Any, weight: Any, x: np.ndarray, out: Any = None) -> np.ndarray | None:
    """The result, like x, of a call like an earlier one; None where it is not."""
    run = SHORT.get(key)
    if run is None:
        return None
    y = np.empty(x.shape, x.dtype) if out is None else out
    return y if run(src, weight, y, None) else None


def _remember(key: Any, kernel: Any, tasks: int, x: np.ndarray, gradient: bool, bias: np.ndarray, job: np.ndarray = NO_TABLE) -> None:
    if key is not None and x.size and WORK * x.nbytes < runtime.SMALL_WORK and check.plain(x):
        like = x.shape, x.dtype
        run = at_once(kernel, tasks, (like, like if gradient else None, like, None), NOTHING[x.dtype], bias, job, NO_TABLE)
        SHORT.keep(key, run, 1)


def _blocks(x: np.ndarray) -> int:
    return -(-x.size // kernels.BLOCK)


def _run(kernel: Any, src: np.ndarray, weight: np.ndarray, dst: np.ndarray, bias: np.ndarray, job: np.ndarray = NO_TABLE) -> None:
    """An elementwise kernel over blocks of src: in parts stored past the caches where these do not hold its arrays, and it waits for memory rather
    than for its own work, as every kernel does where threads share the memory."""
    work, large = WORK * dst.nbytes, src.nbytes + weight.nbytes + dst.nbytes >= PAST
    if large and not job.size and (kernel in QUICK or (kernel in QUICK_BY_RESULT and bias.size) or runtime.threads_for(work) > 1):
        place = address(kernel, dst.dtype)
        kernel, job = in_parts, [place] if config.DISABLE_JIT else np.array([place])
    run_tasks(kernel, _blocks(dst), work, src.reshape(-1), weight.reshape(-1), dst.reshape(-1), bias, NOTHING[dst.dtype], job, NO_TABLE)


def _forward(kernel: Any, x: Any, out: Any, slope: float | None = None) -> np.ndarray:
    key = (kernel, slope, x.shape, x.dtype) if type(x) is np.ndarray else None
    if key is not None and (y := _short(key, x, None, x, out)) is not None:
        return y
    dtype, working = _checked(x)
    given = None if out is None else check.output(out, x.shape, dtype, (x,))
    y = check.target(given, x.shape, working)
    _run(kernel, check.native(x, working), NOTHING[working], y, _slope(slope, working))
    _remember(key, kernel, _blocks(x), x, False, _slope(slope, working))
    return check.deliver(y, given, dtype)


def _backward(kernel: Any, dout: Any, x: Any, y: Any = None, slope: float | None = None) -> np.ndarray:
    """The kernel takes x and the slope, if there is one; or y, and is told so by a slope of 1."""
    key, src, slope = None, x if y is None else y, slope if y is None else 1.0
    if type(x) is np.ndarray:
        key = kernel, slope, x.shape, x.dtype
        if (dx := _short(key, src, dout, x)) is not None:
            return dx
    dtype, working = _checked(x)
    _checked_like("dout", dout, x)
    if y is not None:
        _checked_like("y", y, x)
    dx = recycling.empty(x.shape, working)
    _run(kernel, check.native(src, working), check.native(dout, working), dx, _slope(slope, working))
    _remember(key, kernel, _blocks(x), x, True, _slope(slope, working))
    return check.deliver(dx, None, dtype)


def _softmax(x: Any, dim: Any, out: Any, log: int) -> np.ndarray:
    key = (_softmax, log, dim, x.shape, x.dtype) if type(x) is np.ndarray and type(dim) is int else None
    if key is not None and (y := _short(key, x, None, x, out)) is not None:
        return y
    sums = _sums_of(x, dim, log)
    dtype, working = _checked(x)
    given = check.output(out, x.shape, dtype, (x,))
    y = check.target(given, x.shape, working)
    sums.run(sums.forward, check.native(x, working), sums.nothing, y)
    _remember(key, sums.forward, sums.tasks, x, False, sums.nothing, sums.job)
    return check.deliver(y, given, dtype)


def _softmax_backward(dout: Any, x: Any, dim: Any, y: Any, log: int) -> np.ndarray:
    key = (_softmax_backward, log, dim, x.shape, x.dtype) if type(x) is np.ndarray and type(dim) is int else None
    if key is not None and y is not None and (dx := _short(key, y, dout, x)) is not None:
        return dx
    sums = _sums_of(x, dim, log)
    dtype, working = _checked(x)
    if y is None:
        y = _softmax(x if dtype is working else x.astype(working), dim, None, log)
    else:
        _checked_like("y", y, x)
    _checked_like("dout", dout, x)
    dx = recycling.empty(x.shape, working)
    sums.run(sums.backward, check.native(y, working), check.native(dout, working), dx)
    _remember(key, sums.backward, sums.tasks, x, True, sums.nothing, sums.job)
    return check.deliver(dx, None, dtype)


def _sums_of(x: Any, dim: Any, log: int) -> _Sums:
    if check.plain(x):
        working = x.dtype
    else:
        _, working = _checked(x)
    return _sums(x.shape, dim if type(dim) is int else check.integer("dim", dim, -max(1, x.ndim), max(1, x.ndim) - 1), log, working)


class _Sums:
    """The kernels of a softmax and its gradient, along rows of memory or across them, their tasks and job."""

    def __init__(self, shape: tuple[int, ...], dim: int, log: int, dtype: np.dtype) -> None:
        shape = shape or (1,)                # of a number its one value is the axis
        axis = check.integer("dim", dim, -len(shape), len(shape) - 1) % len(shape)
        D, inner, outer = shape[axis], math.prod(shape[axis + 1:]), math.prod(shape[:axis])
        self.nothing, nbytes = NOTHING[dtype], D * inner * outer * dtype.itemsize
        self.forward, self.backward = rows.softmax_rows, rows.softmax_rows_backward
        if not nbytes:
            self.tasks, self.job = 0, NO_TABLE
        elif inner == 1:                     # short rows: as many as exp takes at once. Long ones: a task each
            count = max(1, rows.CHUNK // D)
            self.tasks, self.job = -(-outer // count), np.array([D, outer, count, log], np.int64)
        else:
            self.forward, self.backward = rows.softmax_columns, rows.log_softmax_columns_backward if log else rows.softmax_columns_backward
            columns = min(inner, max(64, BLOCK // D // 64 * 64))
            blocks = -(-inner // columns)
            self.tasks, ahead = outer * blocks, max(AHEAD // D, LINE_BYTES) // dtype.itemsize
            self.job = np.array([D, inner, columns, blocks, log, blocks == 1 and D * inner <= LONG, ahead, 3 * nbytes >= PAST], np.int64)

    def run(self, kernel: Any, src: np.ndarray, weight: np.ndarray, dst: np.ndarray) -> None:
        run_tasks(kernel, self.tasks, WORK * dst.nbytes, src.reshape(-1), weight.reshape(-1), dst.reshape(-1), self.nothing, self.nothing, self.job,
                  NO_TABLE)


_sums = functools.lru_cache(maxsize=1024)(_Sums)
