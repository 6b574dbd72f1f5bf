"""Batch normalisation over (N, C) and (N, C, ...), and its gradients."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import check, recycling
from ..kernels import norm as kernels
from . import layout
from .known import Planned, recall
from .passes import BY_COLUMNS, BY_SEGMENTS, Passes, backward, forward

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
    call = recall(Call, x, (running_mean, running_var, weight, bias), training, momentum, eps)
    check.flag("return_stats", return_stats)
    if training and running_mean is not None:
        check.movable(running_mean, running_var)
    given = check.output(out, x.shape, call.dtype, (x, running_mean, running_var, weight, bias)) if out is not None else None
    y = check.target(given, x.shape, call.working)
    moves = training and running_mean is not None and call.count > 0
    plan, passes = call.plan(kernels.RUNNING if moves else 0, False)
    table = call.table(plan, running_mean, running_var, weight, bias)
    if call.own and not x.size:
        table[plan.stats:plan.stats + call.C], table[plan.stats + call.C:plan.stats + 2 * call.C] = 0, 1 / math.sqrt(call.eps) if call.eps else np.inf
    else:
        forward(passes, plan, check.native(x, call.working), y, table)
    y = check.deliver(y, given, call.dtype)
    if moves:                                # last: weight or bias may be views of the running statistics
        running_mean[...], running_var[...] = table[plan.parameters + 2 * call.C:plan.parameters + 4 * call.C].reshape(2, call.C)
    if not return_stats:
        return y
    mean, invstd = table[plan.stats:plan.stats + 2 * call.C].reshape(2, call.C).astype(call.working)
    return y, mean, invstd


def batch_norm_backward(dout: np.ndarray, x: np.ndarray, running_mean: np.ndarray | None, running_var: np.ndarray | None,
                        weight: np.ndarray | None = None, bias: np.ndarray | None = None, training: bool = False, momentum: float = 0.1,
                        eps: float = 1e-5, *, mean: np.ndarray | None = None, invstd: np.ndarray | None = None,
                        need: tuple[bool, bool, bool] = (True, True, True),
                        ) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """The gradients of `batch_norm`: dx, dweight, dbias; None for an argument that was None or is not in `need`.

    mean, invstd: what the forward returned with return_stats; without them they are computed again. The other arguments are the
    forward's. With batch statistics dx counts how the statistics themselves depend on x.
    """
    call = recall(Call, x, (running_mean, running_var, weight, bias), training, momentum, eps)
    if training and running_mean is not None:
        check.movable(running_mean, running_var)
    wanted = check.need(need)
    check.gradient(dout, x)
    given = check.both("mean", mean, "invstd", invstd, "batch_norm")
    if given:
        call.parameter("mean", mean)
        call.parameter("invstd", invstd)
    wants = wanted[0], wanted[1] and weight is not None, wanted[2] and bias is not None
    plan, passes = call.plan(kernels.GIVEN if given else 0, True)
    table = call.table(plan, running_mean, running_var, weight, bias)
    if given:
        table[plan.stats:plan.stats + call.C], table[plan.stats + call.C:plan.stats + 2 * call.C] = mean, invstd
    dx = recycling.empty(x.shape, call.working) if wants[0] else None
    if x.size:
        backward(passes, plan, check.native(dout, call.working), check.native(x, call.working), dx, table, wants[1] or wants[2])
    else:
        table[plan.gradients:] = 0
    gradients = table[plan.gradients:plan.gradients + 2 * call.C].reshape(2, call.C)
    return (check.deliver(dx, None, call.dtype) if wants[0] else None, gradients[0].astype(call.dtype) if wants[1] else None,
            gradients[1].astype(call.dtype) if wants[2] else None)


class Call(Planned):
    """The arguments of one batch norm, checked."""

    def __init__(self, x: Any, running_mean: Any, running_var: Any, weight: Any, bias: Any, training: Any, momentum: Any, eps: Any) -> None:
        check.array("x", x, "(N, C) or (N, C, ...)", range(2, 33))
        self.dtype = x.dtype if x.dtype.isnative else x.dtype.newbyteorder("=")
        self.working = check.working_dtype(self.dtype)
        self.shape = x.shape
        N, self.C = x.shape[:2]
        self.count = x.size // self.C if self.C else 0
        for name, value in (("running_mean", running_mean), ("running_var", running_var), ("weight", weight), ("bias", bias)):
            if value is not None:
                self.parameter(name, value)
        if (running_mean is None) != (running_var is None):
            raise ValueError("running_mean and running_var: one is None; wanted: both or neither")
        self.own = check.flag("training", training) or running_mean is None
        if self.own and self.count == 1:
            raise ValueError(f"x has one value a channel, shape {x.shape}, where batch statistics are needed; wanted: at least 2")
        self.momentum, self.eps = check.number("momentum", momentum, 0.0), check.number("eps", eps, 0.0)

    def parameter(self, name: str, value: Any) -> None:
        """One value a channel, in the dtype of x or the one it is computed in."""
        check.parameter(name, value, (self.C,), "one value for each channel of x", self.dtype, self.shape)

    def lay_out(self, flags: int, with_dout: bool) -> tuple[layout.Layout, Passes]:
        N, C, S = self.shape[0], self.C, math.prod(self.shape[2:])
        flags |= kernels.CENTERED | (kernels.OWN if self.own else 0)
        if S <= layout.FEW:
            return layout.columns(N, C, S, self.working.itemsize, flags, with_dout), BY_COLUMNS
        return layout.segments(N, C, S, 1, C, self.working.itemsize, flags, with_dout, C), BY_SEGMENTS

    def table(self, plan: layout.Layout, running_mean: Any, running_var: Any, weight: Any, bias: Any) -> np.ndarray:
        """What the kernels keep beside the arrays, with the parameters in it."""
        table, C, at = np.empty(plan.table), self.C, plan.parameters
        table[0], table[1] = self.eps, self.momentum
        table[at:at + C] = 1.0 if weight is None else weight
        table[at + C:at + 2 * C] = 0.0 if bias is None else bias
        if running_mean is not None:
            table[at + 2 * C:at + 3 * C], table[at + 3 * C:at + 4 * C] = running_mean, running_var
        return table
