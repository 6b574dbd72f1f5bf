"""Power-average pooling of 1 to 3 axes, and its gradient."""
from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from .. import check, recycling
from ..kernels import pool_power as kernels
from ..kernels.tasks import run_tasks
from .planes import NO_INDICES, NOTHING, checked, checked_dout

__all__ = ["lp_pool1d", "lp_pool1d_backward", "lp_pool2d", "lp_pool2d_backward", "lp_pool3d", "lp_pool3d_backward"]

UNIT, TASK = 256, 16384                      # outputs of a unit of the forward, elements of a unit of the backward


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
    dtype, working, p, plan = _checked(x, norm_type, kernel_size, stride, ceil_mode, padding, dilation, nd)
    given = check.output(out, plan.y_shape, dtype, (x,))
    y, nothing = check.target(given, plan.y_shape, working), NOTHING[working]
    run_tasks(kernels.power, plan.tasks, 8 * x.size * working.itemsize, check.native(x, working).reshape(-1), nothing, y.reshape(-1),
              _numbers(p, plan, working), nothing, plan.job, NO_INDICES)
    return check.deliver(y, given, dtype)


def _power_backward(dout: Any, x: Any, norm_type: Any, kernel_size: Any, stride: Any, ceil_mode: Any, padding: Any, dilation: Any,
                    nd: int) -> np.ndarray:
    dtype, working, p, plan = _checked(x, norm_type, kernel_size, stride, ceil_mode, padding, dilation, nd)
    checked_dout(dout, x, plan.y_shape)
    dx, nothing = recycling.empty(x.shape, working), NOTHING[working]
    run_tasks(kernels.power_backward, plan.back_tasks, 16 * dx.nbytes, check.native(x, working).reshape(-1),
              check.native(dout, working).reshape(-1), dx.reshape(-1), _numbers(p, plan, working), nothing, plan.back_job, NO_INDICES)
    return check.deliver(dx, None, dtype)


class _Plan(NamedTuple):
    y_shape: tuple[int, ...]
    tasks: int
    job: np.ndarray
    back_tasks: int
    back_job: np.ndarray
    factors: np.ndarray                      # taps of the kernel over taps counted, for each place along each axis


@functools.lru_cache(maxsize=256)
def _numbers_of(p: float, factors: bytes, dtype: np.dtype) -> np.ndarray:
    return np.concatenate([[p], np.frombuffer(factors)]).astype(dtype)


def _numbers(p: float, plan: _Plan, dtype: np.dtype) -> np.ndarray:
    return _numbers_of(p, plan.factors.tobytes(), dtype)


def _checked(x: Any, norm_type: Any, kernel_size: Any, stride: Any, ceil_mode: Any, padding: Any, dilation: Any, nd: int,
             ) -> tuple[np.dtype, np.dtype, float, _Plan]:
    dtype, working = checked(x, nd)
    p = check.number("norm_type", norm_type, 0.0)
    if p == 0:
        raise ValueError("norm_type is 0; wanted: a finite number above 0")
    kernel = check.sizes("kernel_size", kernel_size, 1, nd)
    strides = kernel if stride is None else check.sizes("stride", stride, 1, nd)
    plan = _plan(x.shape, kernel, strides, check.paddings("padding", padding, nd), check.sizes("dilation", dilation, 1, nd),
                 check.flag("ceil_mode", ceil_mode))
    return dtype, working, p, plan


@functools.lru_cache(maxsize=1024)
def _plan(shape: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...], pads: tuple[check.Pair, ...], dilation: tuple[int, ...],
          ceil_mode: bool) -> _Plan:
    nd = len(kernel)
    planes = math.prod(shape[:-nd])
    axes, factors = [(1, 1, 1, 1, 0, 1)] * (3 - nd), [np.ones(1)] * (3 - nd)
    for name, size, k, s, pad, d in zip(check.AXES[nd], shape[-nd:], kernel, strides, pads, dilation):
        reach = d * (k - 1) + 1
        if max(pad) >= reach:
            raise ValueError(f"padding is {pad} along the {name}, where the window reaches over {reach} elements; wanted: less than that on each side")
        outputs = check.output_size(f"the {name}", size, k, s, pad, d, ceil_mode)
        check.result_shape("x and padding", *shape[:-nd], outputs)
        axes.append((size, outputs, k, s, pad[0], d))
        starts = np.arange(outputs, dtype=np.int64) * s - pad[0]
        factors.append(k / np.minimum(k, -(-(size + pad[1] - starts) // d)))
    OD, OH, OW = (axis[1] for axis in axes)
    y_shape = (*shape[:-nd], *(axis[1] for axis in axes[3 - nd:]))
    check.result_shape("x and padding", *y_shape)
    D, H, W = (axis[0] for axis in axes)
    size = min(OW, max(1, UNIT * 16 // max(16, axes[2][3])))
    blocks = -(-OW // size)
    rows = max(1, TASK // max(1, W), -(-D * H * planes // 4096))
    back_blocks = -(-D * H // rows)
    flat = [number for axis in axes for number in axis]
    units, back_units = planes * OD * OH * blocks, planes * back_blocks
    return _Plan(y_shape, units, np.array([units, size, blocks, *flat], np.int64), back_units if W else 0,
                 np.array([back_units, rows, back_blocks, *flat], np.int64), np.concatenate(factors))
