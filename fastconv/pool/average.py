"""Average pooling in one, two and three dimensions, and its gradient."""
from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from .. import check, recycling
from ..kernels import pool_average as kernels
from ..kernels import pool_flat, pool_planes
from ..kernels.pool_long import average_long
from ..kernels.simd_shares import MOST_TAPS
from ..kernels.tasks import NO_TABLE, NOTHING, Call, run_call, run_tasks
from . import known
from .flat import divisors_of, flat
from .planes import checked_dout
from .small import side_by_side
from .window import MOST_BUFFER, TASKS, Counts, Window, window_of

__all__ = ["avg_pool1d", "avg_pool1d_backward", "avg_pool2d", "avg_pool2d_backward", "avg_pool3d", "avg_pool3d_backward"]

WIDE, MANY = 16, 512                         # windows of so many columns, or of more elements, are summed in float64
MOST_COLUMNS = np.array([1 << 20])           # of x, whose sums are kept for that


def avg_pool1d(x: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, *, dilation: Any = 1, out: np.ndarray | None = None) -> np.ndarray:
    """The mean of each window of x (N, C, L) or (C, L), as torch.nn.functional.avg_pool1d.

    As `avg_pool2d` along one axis: an int or (length,), padding also ((before, after),). Returns y: (N, C, OL) or (C, OL).
    """
    return _avg_pool(1, x, kernel_size, stride, padding, ceil_mode, count_include_pad, None, dilation, out)


def avg_pool2d(x: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None, *, dilation: Any = 1, out: np.ndarray | None = None,
               ) -> np.ndarray:
    """The mean of each window, as torch.nn.functional.avg_pool2d.

    Arguments as for `max_pool2d`, no integers. count_include_pad: zeros of the padding count as elements (those that ceil_mode adds beyond
    it do not). divisor_override: divide every sum by this instead of by the number of elements. Returns y: (N, C, OH, OW) or (C, OH, OW).
    """
    return _avg_pool(2, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, out)


def avg_pool3d(x: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None, *, dilation: Any = 1, out: np.ndarray | None = None,
               ) -> np.ndarray:
    """The mean of each window of x (N, C, D, H, W) or (C, D, H, W), as torch.nn.functional.avg_pool3d.

    As `avg_pool2d` along three axes: an int or (depth, height, width), padding also ((front, back), (top, bottom), (left, right)).
    """
    return _avg_pool(3, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, out)


def avg_pool1d_backward(dout: np.ndarray, x: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
                        count_include_pad: bool = True, *, dilation: Any = 1) -> np.ndarray:
    """The gradient of `avg_pool1d`: dx, of the shape of x. See `avg_pool2d_backward`."""
    return _avg_pool_backward(1, dout, x, kernel_size, stride, padding, ceil_mode, count_include_pad, None, dilation)


def avg_pool2d_backward(dout: np.ndarray, x: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
                        count_include_pad: bool = True, divisor_override: int | None = None, *, dilation: Any = 1) -> np.ndarray:
    """The gradient of `avg_pool2d`: dx, of the shape of x. Each window's dout is shared out among its elements."""
    return _avg_pool_backward(2, dout, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation)


def avg_pool3d_backward(dout: np.ndarray, x: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
                        count_include_pad: bool = True, divisor_override: int | None = None, *, dilation: Any = 1) -> np.ndarray:
    """The gradient of `avg_pool3d`: dx, of the shape of x. See `avg_pool2d_backward`."""
    return _avg_pool_backward(3, dout, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation)


def _avg_pool(nd: int, x: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: Any, include_pad: Any, divisor: Any, dilation: Any,
              out: Any) -> np.ndarray:
    window = window_of(nd, x, kernel_size, stride, padding, dilation, ceil_mode)
    if divisor is None and type(include_pad) is bool:
        call = window.calls.get(include_pad)
        if call is not None and (y := call(x, None, None, out)) is not None:
            return y
    counts, shape = window.counts(include_pad, divisor), window.shape_like(x)
    given = None if out is None else check.output(out, shape, window.dtype, (x,))
    y = check.target(given, shape, window.working)
    if y.size:
        called = _call(window, counts)
        run_call(called, check.native(x, window.working).reshape(-1), y.reshape(-1), called.bias)
        if divisor is None:
            window.calls[bool(include_pad)] = known.short(_plan(window, counts)[0], window.work, (x.shape, None, shape, None), called.weight, called.bias)
    return check.deliver(y, given, window.dtype)


def _call(window: Window, counts: Counts) -> Call:
    """The call of the forward."""
    (kernel, tasks, job, table), numbers = _plan(window, counts)
    return Call(kernel, tasks, window.work, counts.line(numbers) if numbers else counts.factors, NOTHING[window.working], job, table)


def _call_of(nd: int, x: np.ndarray, kernel_size: Any, stride: Any, padding: Any, ceil_mode: Any, count_include_pad: Any, divisor_override: Any = None,
             dilation: Any = 1, out: Any = None) -> tuple[Call, tuple[int, ...]]:
    """The one call of a kernel that a pooling comes to, and the shape of its result."""
    window = window_of(nd, x, kernel_size, stride, padding, dilation, ceil_mode)
    return _call(window, window.counts(count_include_pad, divisor_override)), window.shape_like(x)


def _plan(window: Window, counts: Counts) -> tuple[tuple[Any, int, np.ndarray, np.ndarray], int]:
    """The kernel of the forward, its tasks, its job and its table; and how many numbers it wants of `counts.line`, 0: `counts.factors`."""
    found = window.plans.get(("average", counts.even))
    if found is None:
        long, numbers = window.kernel[-1] >= WIDE or np.prod(window.kernel) > MANY or window.reach[-1] >= MOST_BUFFER, 0
        if window.kernel == window.x_shape[2:] and not any(map(any, window.pads)) and set(window.dilation) == {1}:
            planes = window.x_shape[0] * window.x_shape[1]
            tasks = min(TASKS, -(-planes // kernels.GROUP))
            plan = kernels.mean_planes, tasks, np.array([planes, tasks, np.prod(window.kernel)], np.int64), NO_TABLE
        elif (line := flat(window)) is not None and (numbers := divisors_of(window, counts, line)):
            plan = pool_flat.average_flat, *line
        elif not long and (small := side_by_side(window)) is not None:
            plan, numbers = (pool_planes.average_planes, *small), math.prod(window.y_shape[2:])
        else:
            plan = (average_long if long else kernels.average), *window.job(*window.blocks, window.variant), MOST_COLUMNS if long else NO_TABLE
        found = window.plans["average", counts.even] = plan, numbers
    return found


def _avg_pool_backward(nd: int, dout: Any, x: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: Any, include_pad: Any,
                       divisor: Any, dilation: Any) -> np.ndarray:
    window = window_of(nd, x, kernel_size, stride, padding, dilation, ceil_mode)
    if divisor is None and type(include_pad) is bool:
        call = window.calls.get(("backward", include_pad))
        if call is not None and (dx := call(dout, None)) is not None:
            return dx
    counts = window.counts(include_pad, divisor)
    checked_dout(dout, x, window.shape_like(x))
    dx = recycling.empty(x.shape, window.working)
    if not dout.size:
        dx[...] = 0
    elif dx.size:
        kernel, tasks, job, table = plan = _backward_plan(window)
        none, divisors = NOTHING[window.working], counts.each if kernel is pool_planes.average_planes else counts.factors
        run_tasks(kernel, tasks, window.work, check.native(dout, window.working).reshape(-1), divisors, dx.reshape(-1), none, none, job, table)
        if divisor is None:
            window.calls[("backward", bool(include_pad))] = known.short(plan, window.work, (dout.shape, None, x.shape, None), divisors, none)
    return check.deliver(dx, None, window.dtype)


def _backward_plan(window: Window) -> tuple[Any, int, np.ndarray, np.ndarray]:
    """The kernel of the gradient, its tasks, its job and its table."""
    found = window.plans.get("backward")
    if found is None:
        beside = _beside(window)
        if not beside and np.prod(window.kernel) <= MANY and (small := side_by_side(window, gradient=True)) is not None:
            found = pool_planes.average_planes, *small
        else:
            bands, units = window.bands
            kernel = (kernels.average_backward_beside if beside else kernels.average_backward_rows if _near(window) else
                      kernels.average_backward)
            found = kernel, *window.job(bands, 1, units, window.past(1)), NO_TABLE
        window.plans["backward"] = found
    return found


def _beside(window: Window) -> bool:
    """Whether windows are as `average_backward_beside` takes them."""
    return (window.nd == 2 and window.kernel == window.stride and set(window.dilation) == {1} and window.pads == ((0, 0),) * 2
            and (2 <= window.kernel[-1] <= kernels.MOST_BESIDE or window.kernel == window.x_shape[2:])
            and all(k * outputs <= size for size, outputs, k in zip(window.x_shape[2:], window.y_shape[2:], window.kernel)))


def _near(window: Window) -> bool:
    """Whether the gradient of every element comes from windows so near that `average_backward_rows` serves."""
    (KH, KW), (SH, SW) = ((1,) * (2 - window.nd) + sizes[-2:] for sizes in (window.kernel, window.stride))
    return window.nd < 3 and set(window.dilation) == {1} and SW < 3 and KW <= MOST_TAPS[SW - 1] and -(-KH // SH) <= kernels.NEAR


#: Poolings as the one call of a kernel that they come to, by the arguments of the function.
CALLS = {avg_pool1d: functools.partial(_call_of, 1), avg_pool2d: functools.partial(_call_of, 2), avg_pool3d: functools.partial(_call_of, 3)}
