"""Batch normalisation over (N, C) and (N, C, ...), and its gradients."""
from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .. import check
from ..kernels import norm as kernels
from ..kernels import norm_columns as by_columns
from . import layout
from .known import Planned
from .passes import DOUT, backward, forward

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
    return forward(Call, x, (running_mean, running_var, weight, bias), (training, momentum, eps), return_stats, out)


def batch_norm_backward(dout: np.ndarray, x: np.ndarray, running_mean: np.ndarray | None, running_var: np.ndarray | None,
                        weight: np.ndarray | None = None, bias: np.ndarray | None = None, training: bool = False, momentum: float = 0.1,
                        eps: float = 1e-5, *, mean: np.ndarray | None = None, invstd: np.ndarray | None = None,
                        need: tuple[bool, bool, bool] = (True, True, True),
                        ) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """The gradients of `batch_norm`: dx, dweight, dbias; None for an argument that was None or is not in `need`.

    mean, invstd: what the forward returned with return_stats; without them they are computed again. The other arguments are the
    forward's. With batch statistics dx counts how the statistics themselves depend on x.
    """
    return backward(Call, dout, x, (running_mean, running_var, weight, bias), (training, momentum, eps), (mean, invstd), need)


class Call(Planned):
    """The arguments of one batch norm, checked."""

    function = "batch_norm"

    def __init__(self, x: Any, running_mean: Any, running_var: Any, weight: Any, bias: Any, training: Any, momentum: Any, eps: Any) -> None:
        check.array("x", x, "(N, C) or (N, C, ...)", range(2, 33))
        self.dtype, self.working = check.dtypes(x)
        self.shape = x.shape
        N, self.C = x.shape[:2]
        self.count = x.size // self.C if self.C else 0
        for name, value in (("running_mean", running_mean), ("running_var", running_var), ("weight", weight), ("bias", bias)):
            if value is not None:
                self.parameter(name, value)
        if (running_mean is None) != (running_var is None):
            raise ValueError("running_mean and running_var: one is None; wanted: both or neither")
        self.moves = check.flag("training", training) and running_mean is not None
        self.own = training or running_mean is None
        if self.own and self.count == 1:
            raise ValueError(f"x has one value a channel, shape {x.shape}, where batch statistics are needed; wanted: at least 2")
        self.stats = self.parameters = (self.C,)
        self.momentum, self.eps = check.number("momentum", momentum, 0.0), check.number("eps", eps, 0.0)

    def parameter(self, name: str, value: Any) -> None:
        """One value a channel, in the dtype of x or the one it is computed in."""
        check.parameter(name, value, (self.C,), "one value for each channel of x", self.dtype, self.shape)

    def lay_out(self, flags: int, gradient: bool = False, dx: bool = False, parameters: bool = False) -> layout.Layout:
        N, C, S = self.shape[0], self.C, math.prod(self.shape[2:])
        flags |= kernels.CENTERED | (kernels.OWN if self.own else 0)
        if S <= layout.FEW:
            plan, passes = layout.columns(N, C, S, self.working.itemsize, flags, gradient), BY_COLUMNS
        else:
            plan, passes = layout.segments(N, C, S, 1, C, self.working.itemsize, flags, gradient, C), BY_SEGMENTS
        sums, change = ((passes.prepare, layout.ONCE), (passes.sums, plan.tasks)), (passes.change, plan.tasks)
        if not gradient:
            steps = (*(sums if self.own else ()), (passes.finish_forward, layout.ONCE), change)
        else:
            steps = (*sums, (passes.finish_backward, layout.ONCE)) if self.own or parameters else ()
            if dx:                           # of running statistics dx = dout * scale: x has no part in it
                steps = (*steps, change) if self.own else (*steps, (DOUT, layout.ONCE), (passes.finish_running_backward, layout.ONCE), change)
        return plan._replace(steps=steps, programs={})


class Passes(NamedTuple):
    """Kernels of the shared signature (kernels/tasks.py)."""

    prepare: Any
    sums: Any
    finish_forward: Any
    change: Any
    finish_backward: Any
    finish_running_backward: Any


BY_SEGMENTS = Passes(kernels.prepare, kernels.sum_segments, kernels.finish_forward, kernels.change_segments, kernels.finish_batch_backward,
                     kernels.finish_running_backward)
BY_COLUMNS = Passes(by_columns.prepare_columns, by_columns.sum_columns, by_columns.finish_forward_columns, by_columns.change_columns,
                    by_columns.finish_backward_columns, by_columns.finish_running_backward_columns)
