"""Max unpooling of 1 to 3 axes, and its gradient: each element goes back to where it was the maximum, everything else is 0."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import check, recycling
from ..kernels import pool_unpool as kernels
from ..kernels.tasks import NO_TABLE, NOTHING, run_tasks
from ..remembered import Remembered, settled
from ..runtime import get_num_threads
from . import known
from .planes import checked, checked_dout, integers

__all__ = ["max_unpool1d", "max_unpool1d_backward", "max_unpool2d", "max_unpool2d_backward", "max_unpool3d", "max_unpool3d_backward"]

TASK = 16384                                 # elements of a task


def max_unpool1d(x: np.ndarray, indices: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None, *,
                 out: np.ndarray | None = None) -> np.ndarray:
    """The partial inverse of max_pool1d, as torch.nn.functional.max_unpool1d. x: (N, C, L) or (C, L). Else as `max_unpool2d`."""
    return _unpool(x, indices, kernel_size, stride, padding, output_size, 1, out)


def max_unpool2d(x: np.ndarray, indices: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None, *,
                 out: np.ndarray | None = None) -> np.ndarray:
    """The partial inverse of `max_pool2d`, as torch.nn.functional.max_unpool2d.

    x: (N, C, H, W) or (C, H, W), float32, float64 or float16: what the pooling gave, or anything of its shape. indices: the pooling's,
    integers of the shape of x: places h * OW + w in a plane of the result. kernel_size, stride (default: kernel_size), padding: the
    pooling's, as it takes them. They give the size of the result, (H - 1) * stride + kernel_size - padding on both sides; output_size,
    (OH, OW) or the whole shape (N, C, OH, OW), says which of the sizes within one stride of it was meant.

    Returns y: (N, C, OH, OW) or (C, OH, OW): x at its indices, 0 everywhere else. Of elements with one index the last counts. An index of
    -1 (of a window that missed the image) goes nowhere. out: an array to write y into.
    ValueError for indices outside the plane: they are found on the way, so `out` has then been written to.
    """
    return _unpool(x, indices, kernel_size, stride, padding, output_size, 2, out)


def max_unpool3d(x: np.ndarray, indices: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None, *,
                 out: np.ndarray | None = None) -> np.ndarray:
    """The partial inverse of max_pool3d, as torch.nn.functional.max_unpool3d. x: (N, C, D, H, W) or (C, D, H, W). Else as `max_unpool2d`."""
    return _unpool(x, indices, kernel_size, stride, padding, output_size, 3, out)


def max_unpool1d_backward(dout: np.ndarray, x: np.ndarray, indices: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0,
                          output_size: Any = None) -> np.ndarray:
    """The gradient of `max_unpool1d`: dx, of the shape of x, is dout at the indices."""
    return _unpool_backward(dout, x, indices, kernel_size, stride, padding, output_size, 1)


def max_unpool2d_backward(dout: np.ndarray, x: np.ndarray, indices: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0,
                          output_size: Any = None) -> np.ndarray:
    """The gradient of `max_unpool2d`: dx, of the shape of x, is dout at the indices. As in torch, also where several share an index."""
    return _unpool_backward(dout, x, indices, kernel_size, stride, padding, output_size, 2)


def max_unpool3d_backward(dout: np.ndarray, x: np.ndarray, indices: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0,
                          output_size: Any = None) -> np.ndarray:
    """The gradient of `max_unpool3d`: dx, of the shape of x, is dout at the indices."""
    return _unpool_backward(dout, x, indices, kernel_size, stride, padding, output_size, 3)


def _unpool(x: Any, indices: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any, nd: int, out: Any) -> np.ndarray:
    call = CALLS.get(key := _key("forward", x, nd, kernel_size, stride, padding, output_size))
    if call is not None and (y := call(x, None, indices, out)) is not None:
        return y
    dtype, working, shape, places = _checked(x, indices, kernel_size, stride, padding, output_size, nd)
    given = check.output(out, shape, dtype, (x, indices))
    y = check.target(given, shape, working)
    n, size, planes = math.prod(x.shape[-nd:]), math.prod(shape[-nd:]), math.prod(x.shape[:-nd])
    if y.size:
        # Each part looks at all indices of its planes; that shows in no bit, so there are no more than threads want.
        parts = max(1, min(get_num_threads() // planes, size // (4 * TASK)))
        count = max(1, TASK // max(n, size // parts))
        job = np.array([n, size, count, planes, parts, 0], np.int64)
        _run(kernels.unpool, -(-planes // count) * parts, check.native(x, working), y, job, places, x.shape, key)
    return check.deliver(y, given, dtype)


def _unpool_backward(dout: Any, x: Any, indices: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any, nd: int) -> np.ndarray:
    call = CALLS.get(key := _key("gradient", x, nd, kernel_size, stride, padding, output_size))
    if call is not None and (dx := call(dout, None, indices)) is not None:
        return dx
    dtype, working, shape, places = _checked(x, indices, kernel_size, stride, padding, output_size, nd)
    checked_dout(dout, x, shape)
    dx = recycling.empty(x.shape, working)
    if dx.size:
        job = np.array([math.prod(x.shape[-nd:]), math.prod(shape[-nd:]), TASK, 0, 1, 0], np.int64)
        _run(kernels.unpool_backward, -(-dx.size // TASK), check.native(dout, working), dx, job, places, x.shape, key)
    return check.deliver(dx, None, dtype)


CALLS = Remembered()                         # small ones, by all that they depend on but the values in their arrays
REPORT = 5                                   # where in job a kernel leaves an index that is none


def _key(name: str, x: Any, *settings: Any) -> Any:
    """None where arguments would have to be looked at to know whether they are an earlier call's."""
    return (name, x.shape, x.dtype, settings) if type(x) is np.ndarray and all([settled(value) for value in settings]) else None


def _run(kernel: Any, tasks: int, src: np.ndarray, dst: np.ndarray, job: np.ndarray, places: np.ndarray, shape: tuple[int, ...], key: Any) -> None:
    """shape: of the indices. key: to remember the call by."""
    nothing, work, clean = NOTHING[dst.dtype], 8 * (src.nbytes + dst.nbytes + places.nbytes), job.copy()
    run_tasks(kernel, tasks, work, src.reshape(-1), nothing, dst.reshape(-1), nothing, nothing, job, places)
    if job[REPORT]:
        raise ValueError(f"indices hold {job[REPORT]}; wanted: places in a plane of {job[1]} elements, or -1")
    if key is not None:
        plan, shapes = (kernel, tasks, clean, NO_TABLE), (src.shape, None, dst.shape, shape)
        CALLS.keep(key, known.short(plan, work, shapes, nothing, nothing, REPORT), job.nbytes)


def _checked(x: Any, indices: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any, nd: int,
             ) -> tuple[np.dtype, np.dtype, tuple[int, ...], np.ndarray]:
    """The dtype of x in native byte order, the one computed in, the shape of the result, and the indices one after the other."""
    dtype, working = checked(x, nd)
    kernel = check.sizes("kernel_size", kernel_size, 1, nd)
    strides = kernel if stride is None else check.sizes("stride", stride, 1, nd)
    pads = check.paddings("padding", padding, nd)
    usual = [(size - 1) * s + k - sum(pad) for size, s, k, pad in zip(x.shape[-nd:], strides, kernel, pads)]
    if output_size is None:
        sizes = tuple(usual)
        if min(sizes) < 1:
            raise ValueError(f"padding is {pads} for a result of {sizes} elements; wanted: at least one along each axis")
    else:
        if isinstance(output_size, (tuple, list)) and len(output_size) == nd + 2:
            output_size = output_size[2:]
        sizes = check.sizes("output_size", output_size, 1, nd)
        for axis, size, length, s in zip(check.AXES[nd], sizes, usual, strides):
            if not length - s < size < length + s:
                raise ValueError(f"output_size is {sizes}: {size} along the {axis}; wanted: more than {length - s} and less than {length + s} there")
    shape = (*x.shape[:-nd], *sizes)
    check.result_shape("x, kernel_size and stride", *shape)
    return dtype, working, shape, integers(indices, x.shape, "the shape of x")
