"""Power-average pooling of 1 to 3 axes, and its gradient."""
from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from .. import check, recycling
from ..kernels import pool_power as kernels
from ..kernels.tasks import NO_TABLE, NOTHING, run_tasks
from .planes import checked_dout
from .small import side_by_side
from .window import TASKS, Window, window_of

__all__ = ["lp_pool1d", "lp_pool1d_backward", "lp_pool2d", "lp_pool2d_backward", "lp_pool3d", "lp_pool3d_backward"]

UNIT, TASK = 256, 16384                      # outputs of a unit of the forward, elements of a unit of the backward
MOST_BYTES = 64 * 1024                       # of a group of padded planes that lie side by side


def lp_pool1d(x: np.ndarray, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False, *, padding: Any = 0,
              dilation: Any = 1, out: np.ndarray | None = None) -> np.ndarray:
    """Power-average pooling of (N, C, L) or (C, L), as torch.nn.functional.lp_pool1d. Everything else as for `lp_pool2d`."""
    return _power(x, norm_type, kernel_size, stride, ceil_mode, padding, dilation, 1, out)


def lp_pool2d(x: np.ndarray, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False, *, padding: Any = 0,
              dilation: Any = 1, out: np.ndarray | None = None) -> np.ndarray:
    """The p-norm of each window without absolute values, as torch.nn.functional.lp_pool2d.

        y = (sum of x^p over the window)^(1/p),    p = norm_type

    x: (N, C, H, W) or (C, H, W); float32, float64 or float16. norm_type: a number above 0; a negative sum has a root for 1 only, else y is
    NaN. kernel_size, stride (default: kernel_size), dilation: an int or (height, width). ceil_mode: keep a last window that sticks out, unless
    it starts in the padding after the image; its sum is scaled up as if it were whole. padding, zeros: an int, (height, width) or
    ((top, bottom), (left, right)), each side smaller than the window.

    Returns y: (N, C, OH, OW) or (C, OH, OW). out: an array to write y into.
    """
    return _power(x, norm_type, kernel_size, stride, ceil_mode, padding, dilation, 2, out)


def lp_pool3d(x: np.ndarray, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False, *, padding: Any = 0,
              dilation: Any = 1, out: np.ndarray | None = None) -> np.ndarray:
    """Power-average pooling of (N, C, D, H, W) or (C, D, H, W), as torch.nn.functional.lp_pool3d. Everything else as for `lp_pool2d`."""
    return _power(x, norm_type, kernel_size, stride, ceil_mode, padding, dilation, 3, out)


def lp_pool1d_backward(dout: np.ndarray, x: np.ndarray, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False, *,
                       padding: Any = 0, dilation: Any = 1) -> np.ndarray:
    """The gradient of `lp_pool1d`: dx. Everything else as for `lp_pool2d_backward`."""
    return _power_backward(dout, x, norm_type, kernel_size, stride, ceil_mode, padding, dilation, 1)


def lp_pool2d_backward(dout: np.ndarray, x: np.ndarray, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False, *,
                       padding: Any = 0, dilation: Any = 1) -> np.ndarray:
    """The gradient of `lp_pool2d`: dx, of the shape of x, the sum over the windows of dout * (x / y)^(p - 1).

    A window whose sum is 0 has no gradient; as in torch it counts as 0 (but for p = 1, where the gradient is dout everywhere, while torch's
    is 0 there).
    """
    return _power_backward(dout, x, norm_type, kernel_size, stride, ceil_mode, padding, dilation, 2)


def lp_pool3d_backward(dout: np.ndarray, x: np.ndarray, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False, *,
                       padding: Any = 0, dilation: Any = 1) -> np.ndarray:
    """The gradient of `lp_pool3d`: dx. Everything else as for `lp_pool2d_backward`."""
    return _power_backward(dout, x, norm_type, kernel_size, stride, ceil_mode, padding, dilation, 3)


def _power(x: Any, norm_type: Any, kernel_size: Any, stride: Any, ceil_mode: Any, padding: Any, dilation: Any, nd: int, out: Any) -> np.ndarray:
    window, numbers = _checked(x, norm_type, kernel_size, stride, ceil_mode, padding, dilation, nd)
    shape, working = window.shape_like(x), window.working
    given = check.output(out, shape, window.dtype, (x,))
    y, nothing = check.target(given, shape, working), NOTHING[working]
    if y.size:
        kernel, tasks, job, table = _plan(window).forward
        run_tasks(kernel, tasks, _cost(numbers[0]) * window.work, check.native(x, working).reshape(-1), nothing, y.reshape(-1), numbers, nothing,
                  job, table)
    return check.deliver(y, given, window.dtype)


def _power_backward(dout: Any, x: Any, norm_type: Any, kernel_size: Any, stride: Any, ceil_mode: Any, padding: Any, dilation: Any,
                    nd: int) -> np.ndarray:
    window, numbers = _checked(x, norm_type, kernel_size, stride, ceil_mode, padding, dilation, nd)
    checked_dout(dout, x, window.shape_like(x))
    working = window.working
    dx, nothing = recycling.empty(x.shape, working), NOTHING[working]
    if dx.size:
        kernel, tasks, job, table = _plan(window).backward
        run_tasks(kernel, tasks, 2 * _cost(numbers[0]) * window.work, check.native(x, working).reshape(-1), check.native(dout, working).reshape(-1),
                  dx.reshape(-1), numbers, nothing, job, table)
    return check.deliver(dx, None, window.dtype)


def _checked(x: Any, norm_type: Any, kernel_size: Any, stride: Any, ceil_mode: Any, padding: Any, dilation: Any, nd: int,
             ) -> tuple[Window, np.ndarray]:
    """The windows, and p with the factors of sums that stick out."""
    window = window_of(nd, x, kernel_size, stride, padding, dilation, ceil_mode)
    p = check.number("norm_type", norm_type, 0.0)
    if p == 0:
        raise ValueError("norm_type is 0; wanted: a finite number above 0")
    return window, _numbers(p, _plan(window).factors, window.working)


@functools.lru_cache(maxsize=256)
def _numbers(p: float, factors: tuple[float, ...], dtype: np.dtype) -> np.ndarray:
    return np.array([p, *factors], dtype)


def _cost(p: float) -> int:
    """How much longer a power takes than the maximum of the same windows."""
    return 10 if p in (1, 2) else 16 if p == 3 else 40


class _Plan(NamedTuple):
    forward: tuple[Any, int, np.ndarray, np.ndarray]     # kernel, tasks, job and table
    backward: tuple[Any, int, np.ndarray, np.ndarray]
    factors: tuple[float, ...]               # along each axis, taps of the kernel over those of the last window that do not stick out


def _plan(window: Window) -> _Plan:
    found = window.plans.get("power")
    if found is None:
        found = window.plans["power"] = _planned(window)
    return found


def _planned(window: Window) -> _Plan:
    axes, factors, planes = [(1, 1, 1, 1, 0, 1)] * (3 - window.nd), [1.0] * (3 - window.nd), math.prod(window.x_shape[:2])
    for size, outputs, k, s, (before, after), d in zip(window.x_shape[2:], window.y_shape[2:], window.kernel, window.stride, window.pads,
                                                       window.dilation):
        axes.append((size, outputs, k, s, before, d))
        factors.append(k / min(k, -(-(before + size + after - (outputs - 1) * s) // d)))
    (D, OD, *_), (H, OH, *_), (W, OW, _, step, *_) = axes
    size = min(OW, max(1, UNIT * 16 // max(16, step)))
    blocks = -(-OW // max(1, size))
    rows = max(1, TASK // max(1, W), -(-D * H * planes // 4096))
    back_blocks = -(-D * H // rows)
    plans = []
    for kernel, units, *cut in ((kernels.power, planes * OD * OH * blocks, size, blocks), (kernels.power_backward, planes * back_blocks, rows, back_blocks)):
        tasks = min(units, TASKS)
        plans.append((kernel, tasks, np.array([units, tasks, *cut, *(number for axis in axes for number in axis)], np.int64), NO_TABLE))
    forward, gradient = (side_by_side(window, which, MOST_BYTES) for which in (False, True))
    if forward is not None:
        plans[0] = kernels.power_planes, *forward
        if gradient is not None:
            both = (np.concatenate(pair) for pair in zip((forward.job, forward.table), (gradient.job, gradient.table)))
            plans[1] = kernels.power_planes_backward, forward.tasks, *both
    return _Plan(*plans, tuple(factors))
