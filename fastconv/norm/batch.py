"""Batch normalisation over (N, C) and (N, C, ...), and its gradients."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import check
from ..kernels import norm as kernels
from ..runtime import run

__all__ = ["batch_norm", "batch_norm_backward"]


def batch_norm(x: np.ndarray, running_mean: np.ndarray | None, running_var: np.ndarray | None, weight: np.ndarray | None = None,
               bias: np.ndarray | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5, *,
               return_stats: bool = False, out: np.ndarray | None = None) -> Any:
    """Normalise each channel, as torch.nn.functional.batch_norm (Ioffe and Szegedy, 2015).

        y = (x - mean) * invstd * weight + bias,    invstd = 1 / sqrt(var + eps)

    x: (N, C) or (N, C, ...), float32, float64 or float16 (computed in float32, rounded once); the others: (C,) or None. In training,
    and where there are no running statistics, mean and var are those of the batch (var divided by the number of values); else the
    running ones. Training moves the running statistics in place, running = (1 - momentum) * running + momentum * new, the new
    variance divided by one less: momentum is the weight of the NEW value.

    Returns y, of the shape of x; with return_stats (y, mean, invstd) as used, for `batch_norm_backward`.
    ValueError for one value a channel where batch statistics are needed, and for running statistics that cannot be written.
    """
    call = _Call(x, running_mean, running_var, weight, bias, training, eps)
    momentum = check.number("momentum", momentum, 0.0)
    check.flag("return_stats", return_stats)
    given = check.output(out, x.shape, call.dtype, (x, running_mean, running_var, weight, bias))
    y = check.target(given, x.shape, call.working)
    if call.batch_statistics:
        mean, var = _batch_statistics(call.x)
    else:
        mean, var = np.array(running_mean, np.float64), np.array(running_var, np.float64)
    invstd = _invstd(var, call.eps)
    scale = call.scaled(invstd, weight)
    shift = np.zeros(call.C) if bias is None else bias
    run(kernels.normalize_serial, kernels.normalize_parallel, 8 * x.size * call.working.itemsize, call.x, *call.split(mean),
        call.cast(scale), call.cast(shift), y.reshape(call.x.shape))
    y = check.deliver(y, given, call.dtype)
    if training:                             # last: weight or bias may be views of the running statistics
        call.move_running(running_mean, running_var, mean, var, momentum)
    return (y, call.cast(mean), call.cast(invstd)) if return_stats else y


def batch_norm_backward(dout: np.ndarray, x: np.ndarray, running_mean: np.ndarray | None, running_var: np.ndarray | None,
                        weight: np.ndarray | None = None, bias: np.ndarray | None = None, training: bool = False, momentum: float = 0.1,
                        eps: float = 1e-5, *, mean: np.ndarray | None = None, invstd: np.ndarray | None = None,
                        need: tuple[bool, bool, bool] = (True, True, True),
                        ) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """The gradients of `batch_norm`: dx, dweight, dbias; None for an argument that was None or is not in `need`.

    mean, invstd: what the forward returned with return_stats; without them they are computed again. The other arguments are the
    forward's. With batch statistics dx counts how the statistics themselves depend on x.
    """
    call = _Call(x, running_mean, running_var, weight, bias, training, eps)
    check.number("momentum", momentum, 0.0)
    wanted = check.need(need)
    check.array("dout", dout, f"of the shape of x, {x.shape}", (x.ndim,))
    check.common_dtype((("x", x), ("dout", dout)))
    check.shape_of("dout", dout, x.shape, "the shape of x")
    if (mean is None) != (invstd is None):
        raise ValueError("mean and invstd: one is None; wanted: both, as batch_norm(..., return_stats=True) returned them, or neither")
    if mean is not None:
        call.parameter("mean", mean)
        call.parameter("invstd", invstd)
        center, inverse = np.array(mean, np.float64), np.array(invstd, np.float64)
    else:
        center, var = _batch_statistics(call.x) if call.batch_statistics else (np.array(running_mean, np.float64),
                                                                               np.array(running_var, np.float64))
        inverse = _invstd(var, call.eps)
    douts = check.native(dout, call.working).reshape(call.x.shape)
    dout_sum, product_sum, offset_sum = np.zeros((3, call.C))
    run(kernels.gradient_sums_serial, kernels.gradient_sums_parallel, 16 * x.size * call.working.itemsize, douts, call.x, center, dout_sum,
        product_sum, offset_sum)
    count = max(1, call.count)
    if call.batch_statistics:
        # A mean that came rounded to float32 is off by offset_sum / count: of a mean of 1e6 that is most of the deviations.
        offset = offset_sum / count
        center = center + offset
        product_sum = product_sum - offset * dout_sum
    dx = dweight = dbias = None
    if wanted[0]:
        scale = call.scaled(inverse, weight)
        none = np.zeros(call.C)
        dout_mean, slope = (dout_sum / count, product_sum * inverse * inverse / count) if call.batch_statistics else (none, none)
        dx = np.empty(call.x.shape, call.working)
        run(kernels.gradient_serial, kernels.gradient_parallel, 16 * x.size * call.working.itemsize, douts, call.x, *call.split(center),
            call.cast(dout_mean), call.cast(slope), call.cast(scale), dx)
        dx = check.deliver(dx.reshape(x.shape), None, call.dtype)
    if wanted[1] and weight is not None:
        dweight = (product_sum * inverse).astype(call.dtype)
    if wanted[2] and bias is not None:
        dbias = dout_sum.astype(call.dtype)
    return dx, dweight, dbias


def _invstd(var: np.ndarray, eps: float) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):     # a negative or zero running variance: NaN and inf, as in torch
        return 1 / np.sqrt(var + eps)


def _batch_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of each channel of x (N, C, S), in float64; 0 and 0 of an empty batch."""
    mean, var = np.zeros((2, x.shape[1]))
    if x.size:
        run(kernels.statistics_serial, kernels.statistics_parallel, 8 * x.size * x.itemsize, x, mean, var)
    return mean, var


class _Call:
    """The arguments of one batch norm, checked. x: (N, C, S) as the kernels take it."""

    def __init__(self, x: Any, running_mean: Any, running_var: Any, weight: Any, bias: Any, training: Any, eps: Any) -> None:
        check.array("x", x, "(N, C) or (N, C, ...)", range(2, 33))
        self.dtype = x.dtype.newbyteorder("=")
        self.working = check.working_dtype(self.dtype)
        self.eps = check.number("eps", eps, 0.0)
        self.shape = x.shape
        N, self.C = x.shape[:2]
        self.count = N * math.prod(x.shape[2:])
        for name, value in (("running_mean", running_mean), ("running_var", running_var), ("weight", weight), ("bias", bias)):
            if value is not None:
                self.parameter(name, value)
        if (running_mean is None) != (running_var is None):
            raise ValueError("running_mean and running_var: one is None; wanted: both or neither")
        self.batch_statistics = check.flag("training", training) or running_mean is None
        if self.batch_statistics and self.count == 1:
            raise ValueError(f"x has one value a channel, shape {x.shape}, where batch statistics are needed; wanted: at least 2")
        if training and running_mean is not None:
            for name, value in (("running_mean", running_mean), ("running_var", running_var)):
                if not value.flags.writeable:
                    raise ValueError(f"{name} is read-only; wanted: an array that training can write its new value into")
            if np.shares_memory(running_mean, running_var):
                raise ValueError("running_mean and running_var share memory; wanted: two arrays")
        self.x = check.native(x, self.working).reshape(N, self.C, self.count // N if N else 1)

    def parameter(self, name: str, value: Any) -> None:
        """One value a channel, in the dtype of x or the one it is computed in."""
        check.array(name, value, f"({self.C},)", (1,))
        hint = check.channels_last_hint("x", self.shape, value.size)
        check.shape_of(name, value, (self.C,), f"one value for each channel of x{hint}")
        if value.dtype.newbyteorder("=") not in (self.dtype, self.working):
            raise TypeError(f"{name} has dtype {value.dtype} and x has {self.dtype}; wanted: one dtype. "
                            f"Convert one: {name}.astype(x.dtype)")

    def move_running(self, running_mean: Any, running_var: Any, mean: np.ndarray, var: np.ndarray, momentum: float) -> None:
        if running_mean is not None and self.count:
            for running, new in ((running_mean, mean), (running_var, var * (self.count / (self.count - 1)))):
                running[...] = (1 - momentum) * running.astype(np.float64) + momentum * new

    def scaled(self, invstd: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
        if weight is None:
            return invstd
        with np.errstate(invalid="ignore"):  # an infinite invstd times 0
            return invstd * weight

    def cast(self, value: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(value, self.working)

    def split(self, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The mean in the working dtype, and what that left out."""
        head = self.cast(mean)
        with np.errstate(invalid="ignore"):
            return head, np.where(np.isfinite(head), mean - head, 0).astype(self.working)
