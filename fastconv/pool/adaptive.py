"""Adaptive pooling of 1 to 3 axes, average and maximum, and their gradients: the result's size is given, the windows follow from it.

Window o of O over an axis of S elements reaches from floor(o S / O) to ceil((o + 1) S / O). Size 1 is global pooling.
"""
from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .. import check, recycling
from ..kernels import pool_adaptive as kernels
from ..kernels import pool_winners
from ..kernels.tasks import NO_TABLE, NOTHING, run_tasks
from ..remembered import Remembered, settled
from . import average, known, maximum
from .planes import INDEX, checked, checked_dout, integers, outputs_of
from .small import Planes, lists
from .window import MOST_LISTED

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool1d_backward", "adaptive_avg_pool2d", "adaptive_avg_pool2d_backward", "adaptive_avg_pool3d",
    "adaptive_avg_pool3d_backward", "adaptive_max_pool1d", "adaptive_max_pool1d_backward", "adaptive_max_pool2d",
    "adaptive_max_pool2d_backward", "adaptive_max_pool3d", "adaptive_max_pool3d_backward",
]

UNIT, TASK = 256, 16384                      # outputs of a unit of a forward, elements of a task
FEW, SOME = 3, 8                             # elements of equal windows along each axis, up to which the pooling of fixed windows is faster (measured)
MOST_SUMMED = 512                            # elements that are summed in one chain
MAX_POOL = {1: maximum.max_pool1d, 2: maximum.max_pool2d, 3: maximum.max_pool3d}
MAX_POOL_BACKWARD = {1: maximum.max_pool1d_backward, 2: maximum.max_pool2d_backward, 3: maximum.max_pool3d_backward}
AVG_POOL = {1: average.avg_pool1d, 2: average.avg_pool2d, 3: average.avg_pool3d}
AVG_POOL_BACKWARD = {1: average.avg_pool1d_backward, 2: average.avg_pool2d_backward, 3: average.avg_pool3d_backward}


def adaptive_avg_pool1d(x: np.ndarray, output_size: Any, *, out: np.ndarray | None = None) -> np.ndarray:
    """The means of L equal parts of the last axis, as torch.nn.functional.adaptive_avg_pool1d. Arguments as for `adaptive_avg_pool2d`.

    x: (N, C, L) or (C, L). Returns y: (N, C, OL) or (C, OL).
    """
    return _average(x, output_size, 1, out)


def adaptive_avg_pool2d(x: np.ndarray, output_size: Any, *, out: np.ndarray | None = None) -> np.ndarray:
    """The mean of each of OH x OW windows that cover the image, as torch.nn.functional.adaptive_avg_pool2d.

    x: (N, C, H, W) or (C, H, W); float32, float64 or float16. output_size: an int or (OH, OW), each at least 1 or None, which is the
    size of x. Window o of O over S elements reaches from floor(o S / O) to ceil((o + 1) S / O), so windows may overlap.

    Returns y: (N, C, OH, OW) or (C, OH, OW), the mean over windows of more than 32 columns summed in float64. out: an array to write y into.
    ValueError for an image without pixels.
    """
    return _average(x, output_size, 2, out)


def adaptive_avg_pool3d(x: np.ndarray, output_size: Any, *, out: np.ndarray | None = None) -> np.ndarray:
    """The means of windows in 3-D, as torch.nn.functional.adaptive_avg_pool3d. Arguments as for `adaptive_avg_pool2d`.

    x: (N, C, D, H, W) or (C, D, H, W). Returns y: (N, C, OD, OH, OW) or (C, OD, OH, OW).
    """
    return _average(x, output_size, 3, out)


def adaptive_avg_pool1d_backward(dout: np.ndarray, x: np.ndarray, output_size: Any) -> np.ndarray:
    """The gradient of `adaptive_avg_pool1d`: dx, of the shape of x. Each window's dout is shared out among its elements."""
    return _average_backward(dout, x, output_size, 1)


def adaptive_avg_pool2d_backward(dout: np.ndarray, x: np.ndarray, output_size: Any) -> np.ndarray:
    """The gradient of `adaptive_avg_pool2d`: dx, of the shape of x. Each window's dout is shared out among its elements."""
    return _average_backward(dout, x, output_size, 2)


def adaptive_avg_pool3d_backward(dout: np.ndarray, x: np.ndarray, output_size: Any) -> np.ndarray:
    """The gradient of `adaptive_avg_pool3d`: dx, of the shape of x. Each window's dout is shared out among its elements."""
    return _average_backward(dout, x, output_size, 3)


def adaptive_max_pool1d(x: np.ndarray, output_size: Any, return_indices: bool = False, *, out: Any = None) -> Any:
    """The largest elements of L equal parts of the last axis, as torch.nn.functional.adaptive_max_pool1d.

    x: (N, C, L) or (C, L). Everything else as for `adaptive_max_pool2d`.
    """
    return _maximum(x, output_size, return_indices, 1, out)


def adaptive_max_pool2d(x: np.ndarray, output_size: Any, return_indices: bool = False, *, out: Any = None) -> Any:
    """The largest element of each of OH x OW windows that cover the image, as torch.nn.functional.adaptive_max_pool2d.

    x, output_size and the windows as for `adaptive_avg_pool2d`. Returns y: (N, C, OH, OW) or (C, OH, OW); with return_indices (y, indices):
    int64 places h * W + w in the plane. NaN wins; of equal elements, and of several NaN, the first in row-major order.
    out: an array to write y into, or a tuple (y, indices) with return_indices.
    """
    return _maximum(x, output_size, return_indices, 2, out)


def adaptive_max_pool3d(x: np.ndarray, output_size: Any, return_indices: bool = False, *, out: Any = None) -> Any:
    """The largest elements of windows in 3-D, as torch.nn.functional.adaptive_max_pool3d.

    x: (N, C, D, H, W) or (C, D, H, W). Everything else as for `adaptive_max_pool2d`; indices are (d * H + h) * W + w.
    """
    return _maximum(x, output_size, return_indices, 3, out)


def adaptive_max_pool1d_backward(dout: np.ndarray, x: np.ndarray, output_size: Any, return_indices: bool = False, *,
                                 indices: np.ndarray | None = None) -> np.ndarray:
    """The gradient of `adaptive_max_pool1d`: dx. indices: those of the forward; without them the maxima are found again."""
    return _maximum_backward(dout, x, output_size, return_indices, indices, 1)


def adaptive_max_pool2d_backward(dout: np.ndarray, x: np.ndarray, output_size: Any, return_indices: bool = False, *,
                                 indices: np.ndarray | None = None) -> np.ndarray:
    """The gradient of `adaptive_max_pool2d`: dx, of the shape of x. Each window's dout goes to the one element that was its maximum.

    indices: those of the forward; without them the maxima are found again.
    """
    return _maximum_backward(dout, x, output_size, return_indices, indices, 2)


def adaptive_max_pool3d_backward(dout: np.ndarray, x: np.ndarray, output_size: Any, return_indices: bool = False, *,
                                 indices: np.ndarray | None = None) -> np.ndarray:
    """The gradient of `adaptive_max_pool3d`: dx. indices: those of the forward; without them the maxima are found again."""
    return _maximum_backward(dout, x, output_size, return_indices, indices, 3)


# ---------------------------------------------------------------- what they share
CALLS = Remembered()                         # small ones, by all that they depend on but the values in their arrays


def _key(name: str, x: Any, output_size: Any, nd: int) -> Any:
    """None where arguments would have to be looked at to know whether they are an earlier call's."""
    return (name, nd, output_size, x.shape, x.dtype) if type(x) is np.ndarray and settled(output_size) else None


def _average(x: Any, output_size: Any, nd: int, out: Any) -> np.ndarray:
    call = CALLS.get(key := _key("average", x, output_size, nd))
    if call is not None and (y := call(x, None, None, out)) is not None:
        return y
    dtype, working, plan = _checked(x, output_size, nd)
    if plan.window <= FEW or plan.alone:
        return _delegated(key, lambda src, weight, indices, out: AVG_POOL[nd](src, plan.windows, out=out), x, None, None, out)
    given = check.output(out, plan.y_shape, dtype, (x,))
    y = check.target(given, plan.y_shape, working)
    small = _listed(plan, working)
    _run(pool_winners.average_lists if small else kernels.adaptive_average, small or plan, 8 * x.size * working.itemsize, check.native(x, working),
         None, y, key=key)
    return check.deliver(y, given, dtype)


def _average_backward(dout: Any, x: Any, output_size: Any, nd: int) -> np.ndarray:
    call = CALLS.get(key := _key("average gradient", x, output_size, nd))
    if call is not None and (dx := call(dout, None)) is not None:
        return dx
    dtype, working, plan = _checked(x, output_size, nd, "average")
    if plan.window <= FEW:
        return AVG_POOL_BACKWARD[nd](dout, x, plan.windows)
    checked_dout(dout, x, plan.y_shape)
    dx = recycling.empty(x.shape, working)
    small = None if plan.alone else _listed(plan, working)
    _run(pool_winners.average_backward_lists if small else kernels.adaptive_average_backward, small or plan, 8 * dx.nbytes,
         check.native(dout, working), None, dx, key=key)
    return check.deliver(dx, None, dtype)


def _maximum(x: Any, output_size: Any, return_indices: Any, nd: int, out: Any) -> Any:
    key = _key("maximum", x, output_size, nd) if return_indices is False else None
    call = CALLS.get(key)
    if call is not None and (y := call(x, None, None, out)) is not None:
        return y
    dtype, working, plan = _checked(x, output_size, nd)
    if plan.window <= (FEW if check.flag("return_indices", return_indices) else SOME):
        return _delegated(key, lambda src, weight, indices, out: MAX_POOL[nd](src, plan.windows, return_indices=return_indices, out=out),
                          x, None, None, out)
    given, given_indices, indices = outputs_of(out, return_indices, plan.y_shape, dtype, x)
    y = check.target(given, plan.y_shape, working)
    small = _listed(plan, working)
    _run(pool_winners.maximum_winners if small else kernels.adaptive_maximum, small or plan, 8 * x.size * working.itemsize,
         check.native(x, working), None, y, indices, key=key)
    y = check.deliver(y, given, dtype)
    return (y, check.deliver(indices, given_indices, INDEX)) if return_indices else y


def _maximum_backward(dout: Any, x: Any, output_size: Any, return_indices: Any, indices: Any, nd: int) -> np.ndarray:
    key = _key("maximum gradient" if indices is None else "maximum gradient at", x, output_size, nd) if type(return_indices) is bool else None
    call = CALLS.get(key)
    if call is not None and (dx := call(dout, x, indices, None)) is not None:
        return dx
    dtype, working, plan = _checked(x, output_size, nd, "maximum")
    check.flag("return_indices", return_indices)
    if indices is None and plan.window <= FEW:
        return _delegated(key, lambda src, weight, indices, out: MAX_POOL_BACKWARD[nd](src, weight, plan.windows), dout, x, None, None)
    checked_dout(dout, x, plan.y_shape)
    places = NO_TABLE if indices is None else integers(indices, plan.y_shape, "the shape of the forward's result")
    dx = recycling.empty(x.shape, working)
    small = None if places.size else _listed(plan, working)
    kernel = (kernels.adaptive_maximum_backward_at if places.size else pool_winners.max_backward_winners if small else
              kernels.adaptive_maximum_backward)
    bad = _run(kernel, small or plan, 16 * dx.nbytes, check.native(dout, working), check.native(x, working), dx, places, key)
    if bad:
        raise ValueError(f"indices hold {bad}; wanted: places in a plane of {math.prod(x.shape[x.ndim - nd:])} elements")
    return check.deliver(dx, None, dtype)


def _delegated(key: Any, call: Any, *arguments: Any) -> Any:
    """The pooling of fixed windows, next time at once."""
    if key is not None:
        CALLS.keep(key, call, 1)
    return call(*arguments)


REPORT = 11                                  # where in job the gradient of the maximum leaves an index that is none


def _run(kernel: Any, plan: _Plan, work: float, src: np.ndarray, weight: np.ndarray | None, dst: np.ndarray, table: np.ndarray = NO_TABLE,
         key: Any = None) -> int:
    """An index that is none, or 0. key: to remember the call by. table: of a gradient, where weight is x, of the shape of src."""
    job, nothing, lowest = plan.job, NOTHING[dst.dtype], maximum.lowest_of(dst.dtype)
    reports = weight is not None and table.size > 0
    if reports:
        job = job.copy()
    run_tasks(kernel, plan.tasks, work, src.reshape(-1), nothing if weight is None else weight.reshape(-1), dst.reshape(-1), lowest, nothing,
              job, table.reshape(-1))
    if key is not None and dst.size:
        shapes = src.shape, None if weight is None else weight.shape, dst.shape, src.shape if reports else None
        CALLS.keep(key, known.short((kernel, plan.tasks, plan.job, NO_TABLE), work, shapes, nothing, lowest, REPORT if reports else -1), job.nbytes)
    return int(job[REPORT]) if reports else 0


class _Plan(NamedTuple):
    y_shape: tuple[int, ...]
    tasks: int
    job: np.ndarray
    windows: tuple[int, ...]                 # the size of all windows, where they are equal and do not overlap
    window: float                            # the largest of these numbers, infinite where windows differ
    alone: bool                              # one window a plane
    leading: int                             # axes of x before those that are pooled
    lists: dict[np.dtype, Planes | None]     # by dtype: how small planes are done, if they are small


def _listed(plan: _Plan, dtype: np.dtype) -> _Plan | None:
    """The same for the kernels of `pool_winners`, or None where planes are large or few."""
    if dtype not in plan.lists:
        ends = plan.job[kernels.HEAD:]
        axes, elements = [], 1
        for length, outputs in zip(plan.job[2:5].tolist(), plan.job[5:8].tolist()):
            (starts, stops), ends = ends[:2 * outputs].reshape(2, outputs), ends[2 * outputs:]
            at = starts[:, None] + np.arange(int(np.max(stops - starts)))
            axes.append((length, at, at < stops[:, None]))
            elements *= at.size
        most = math.prod(at.shape[1] for _, at, _ in axes)
        fits = elements <= MOST_LISTED and most <= MOST_SUMMED
        plan.lists[dtype] = lists(axes, math.prod(plan.y_shape[:plan.leading]), dtype) if fits else None
    small = plan.lists[dtype]
    return None if small is None else plan._replace(tasks=small.tasks, job=small.job)


def _checked(x: Any, output_size: Any, nd: int, gradient_of: str = "") -> tuple[np.dtype, np.dtype, _Plan]:
    """The dtype of x in native byte order, the one computed in, and what there is to do."""
    dtype, working = checked(x, nd)
    sizes = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * nd
    if len(sizes) == 1:
        sizes *= nd
    if len(sizes) != nd:
        raise ValueError(f"output_size is {check.shown(output_size)}; wanted: an integer, None or {nd} of them")
    wanted = f"an integer of at least 1, None for the size of x, or {nd} of them"
    outputs = tuple(size if value is None else check.integer("output_size", value, 1, wanted=wanted)
                    for size, value in zip(x.shape[-nd:], sizes))
    key = x.shape, outputs, gradient_of
    plan = PLANS.get(key)
    if plan is None:
        plan = _plan(*key)
        PLANS.keep(key, plan, plan.job.nbytes)
    return dtype, working, plan


PLANS = Remembered()


def _plan(shape: tuple[int, ...], outputs: tuple[int, ...], gradient_of: str) -> _Plan:
    nd = len(outputs)
    sizes, planes = shape[-nd:], math.prod(shape[:-nd])
    if 0 in sizes:
        raise ValueError(f"x has no elements to pool, shape {shape}; wanted: at least one along each of its last {nd} axes")
    y_shape = (*shape[:-nd], *outputs)
    check.result_shape("x and output_size", *y_shape)
    axes = [(1, 1, np.array([0]), np.array([1]))] * (3 - nd)
    axes += [(size, n, np.arange(n) * size // n, -(-np.arange(1, n + 1) * size // n)) for size, n in zip(sizes, outputs)]
    for _ in range(2):
        if axes[2][1] == 1:                  # whole rows: the last two axes are one
            (H, OH, h_from, h_to), W = axes[1], axes[2][0]
            axes = [(1, 1, np.array([0]), np.array([1])), axes[0], (H * W, OH, h_from * W, h_to * W)]
    D, H, W = (axis[0] for axis in axes)
    OD, OH, OW = (axis[1] for axis in axes)
    if gradient_of == "average":
        rows, columns = max(1, TASK // W), W if D * H > 1 or W <= 4 * TASK else TASK
        size, blocks, c_blocks = rows, -(-D * H // rows), -(-W // columns)
        units, work, more = planes * blocks * c_blocks, min(rows, D * H) * columns, (columns, c_blocks)
    elif gradient_of == "maximum":
        blocks = max(1, min(-(-8 // max(1, planes)), D * H * W // TASK))
        size = -(-D * H * W // blocks)
        units, work, more = planes * blocks, size, (int(np.max(axes[2][3] - axes[2][2])), 0)
    else:
        size = min(OW, UNIT)
        blocks = -(-OW // size)
        units, more = planes * OD * OH * blocks, (int(np.max(axes[2][3] - axes[2][2])), 0)
        work = D * H * W // (OD * OH * blocks)
    count = max(1, TASK // max(1, work))
    job = np.array([units, count, D, H, W, OD, OH, OW, size, blocks, *more], np.int64)
    job = np.concatenate([job, *(end for axis in axes for end in axis[2:])]).astype(np.int64)
    windows = tuple(size // n for size, n in zip(sizes, outputs))
    equal = planes > 0 and all(size % n == 0 for size, n in zip(sizes, outputs))
    return _Plan(y_shape, -(-units // count), job, windows, max(windows) if equal else math.inf, math.prod(outputs) == 1, len(shape) - nd, {})
