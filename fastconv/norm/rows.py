"""What layer, RMS, group and instance norm share: rows of memory, each with statistics of its own."""
from __future__ import annotations

from typing import Any

import numpy as np

from .. import check, recycling
from . import layout
from .passes import NOTHING, run


def _columns(plan: layout.Layout, values: np.ndarray | None, S: int, dtype: np.dtype, otherwise: float) -> np.ndarray:
    """One value for each element, where that is how they are needed."""
    if not plan.elementwise:
        return NOTHING[dtype]
    if values is None:
        return np.full(plan.C * S, otherwise, dtype)
    values = check.native(values, dtype).reshape(-1)
    return values if S == 1 else np.repeat(values, S)


def _table(plan: layout.Layout, eps: float, momentum: float, weight: np.ndarray | None, bias: np.ndarray | None, running: Any) -> np.ndarray:
    table, C, at = np.empty(plan.table), plan.C, plan.parameters
    table[0], table[1] = eps, momentum
    if not plan.elementwise:
        table[at:at + C] = 1.0 if weight is None else weight
        table[at + C:at + 2 * C] = 0.0 if bias is None else bias
    if running is not None:
        table[at + 2 * C:at + 3 * C], table[at + 3 * C:at + 4 * C] = running
    return table


def forward(plan: layout.Layout, x: np.ndarray, y: np.ndarray, S: int, weight: np.ndarray | None, bias: np.ndarray | None, eps: float,
            momentum: float = 0.0, running: tuple[np.ndarray, np.ndarray] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """y from x, both as kernels take them; running: moved in place. Returns mean and invstd of each row, in float64."""
    table = _table(plan, eps, momentum, weight, bias, running)
    at, keys = plan.stats, plan.keys
    mean, invstd = table[at:at + keys], table[at + keys:at + 2 * keys]
    if not x.size:
        mean[...], invstd[...] = 0.0, eps ** -0.5 if eps else np.inf
        return mean, invstd
    columns = _columns(plan, weight, S, x.dtype, 1.0), _columns(plan, bias, S, x.dtype, 0.0)
    run(plan, "rows", plan.steps, 16.0 * plan.nbytes, x.reshape(-1), NOTHING[x.dtype], y.reshape(-1), *columns, plan.job, table.view(np.int64))
    if running is not None:
        running[0][...], running[1][...] = table[plan.parameters + 2 * plan.C:plan.parameters + 4 * plan.C].reshape(2, plan.C)
    return mean, invstd


def backward(plan: layout.Layout, dout: np.ndarray, x: np.ndarray, S: int, weight: np.ndarray | None, eps: float,
             given: tuple[Any, Any] | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx like x, dweight and dbias (C,) in float64. given: mean and invstd of each row."""
    table = _table(plan, eps, 0.0, weight, None, None)
    if given is not None:
        at, keys = plan.stats, plan.keys
        table[at:at + keys], table[at + keys:at + 2 * keys] = (check.native(value, x.dtype).reshape(-1) for value in given)
    at, C = plan.gradients, plan.C
    dx = recycling.empty(x.shape, x.dtype)
    if x.size:
        none = NOTHING[x.dtype]
        run(plan, "rows", plan.steps, 24.0 * plan.nbytes, x.reshape(-1), dout.reshape(-1), dx.reshape(-1), _columns(plan, weight, S, x.dtype, 1.0), none,
            plan.job, table.view(np.int64))
    else:
        table[at:at + 2 * C] = 0
    return dx, table[at:at + C], table[at + C:at + 2 * C]


def delivered(wanted: tuple[bool, ...], given: tuple[Any, ...], gradients: tuple[np.ndarray, ...], dtype: np.dtype) -> Any:
    """The gradients that were asked for, in the dtype of x, None for the others and for arguments that were None. given: the arguments."""
    found = []
    for want, argument, gradient in zip(wanted, given, gradients):
        if not want or argument is None:
            found.append(None)
            continue
        gradient = gradient if gradient.dtype is dtype else gradient.astype(dtype, copy=False)
        found.append(gradient if gradient.shape == argument.shape else gradient.reshape(argument.shape))
    return tuple(found)
