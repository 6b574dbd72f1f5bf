"""Max pooling, and its gradient."""
from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .. import check
from ..blocking.parts import bands_of
from ..kernels import pool_max as kernels
from ..runtime import run
from .window import Window

NO_INDICES = np.empty((0, 0, 0, 0), np.int64)


def max_pool2d(x: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
               return_indices: bool = False, *, out: Any = None) -> Any:
    """The largest element of each window, as torch.nn.functional.max_pool2d.

    x: (N, C, H, W) or (C, H, W); float32, float64, float16 or integers. kernel_size, stride (default: kernel_size), dilation: an int or
    (height, width). padding, never the maximum: an int, (height, width) or ((top, bottom), (left, right)), each side smaller than the
    window. ceil_mode: keep a last window that sticks out, unless it starts in the padding after the image.

    Returns y: (N, C, OH, OW), or (y, indices) with return_indices: int64 places h * W + w in the unpadded plane. NaN wins; of equal
    elements the first in row-major order; a window that lies in the padding alone gives -inf (the smallest integer) and index -1.
    out: an array to write y into, or a tuple (y, indices) with return_indices.
    """
    window = Window(x, kernel_size, stride, padding, dilation, ceil_mode, integers=True)
    dtype, working = window.dtype, check.working_dtype(window.dtype)
    shape = window.shape_like(x)
    given = given_indices = None
    if check.flag("return_indices", return_indices):
        if out is not None:
            if not isinstance(out, tuple) or len(out) != 2:
                raise TypeError(f"out is a {type(out).__name__}; wanted: a tuple (y, indices), as return_indices is True")
            given = check.output(out[0], shape, dtype, (x,), "out[0]")
            given_indices = check.output(out[1], shape, NO_INDICES.dtype, (x, given), "out[1]")
        indices = check.target(given_indices, shape, NO_INDICES.dtype)
    else:
        given, indices = check.output(out, shape, dtype, (x,)), NO_INDICES
    y = check.target(given, shape, working)
    if window.pairs and not indices.size:
        _max_pairs(check.native(x, working).reshape(window.x_shape), y.reshape(window.y_shape), window)
    else:
        bands = bands_of(window.y_shape[0] * window.y_shape[1], window.OH, x.shape[-1] * working.itemsize)
        run(kernels.max_serial, kernels.max_parallel, 8 * x.size * working.itemsize, check.native(x, working).reshape(window.x_shape),
            y.reshape(window.y_shape), indices.reshape(window.y_shape) if indices.size else NO_INDICES, window.integers, _lowest(working), bands)
    y = check.deliver(y, given, dtype)
    return (y, check.deliver(indices, given_indices, NO_INDICES.dtype)) if return_indices else y


def max_pool2d_backward(dout: np.ndarray, x: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                        ceil_mode: bool = False, return_indices: bool = False, *, indices: np.ndarray | None = None) -> np.ndarray:
    """The gradient of `max_pool2d`: dx, of the shape of x. Each window's dout goes to the one element that was its maximum.

    indices: those of the forward; without them the maxima are found again. The other arguments are the forward's.
    """
    window = Window(x, kernel_size, stride, padding, dilation, ceil_mode, integers=True)
    check.flag("return_indices", return_indices)
    check.array("dout", dout, "like the result of the forward", (3, 4))
    check.shape_of("dout", dout, window.shape_like(x), "the shape of the forward's result")
    dtype = dout.dtype.newbyteorder("=")
    if window.dtype.kind == "f":
        check.common_dtype((("x", x), ("dout", dout)))
    working, working_x = check.working_dtype(dtype), check.working_dtype(window.dtype)
    N, C, H, W = window.x_shape
    known = NO_INDICES
    if indices is not None:
        if not isinstance(indices, np.ndarray) or isinstance(indices, np.ma.MaskedArray) or indices.dtype.kind not in "iu":
            came = f"has dtype {indices.dtype}" if isinstance(indices, np.ndarray) else f"is a {type(indices).__name__}"
            raise TypeError(f"indices {came}; wanted: the integers that max_pool2d(..., return_indices=True) gave")
        check.shape_of("indices", indices, window.shape_like(x), "the shape of the forward's result")
        if indices.size and (indices.min() < -1 or indices.max() >= H * W):
            raise ValueError(f"indices go from {indices.min()} to {indices.max()}; wanted: places h * W + w below H * W = {H * W}, or -1")
        known = check.native(indices, NO_INDICES.dtype).reshape(window.y_shape) if indices.size else NO_INDICES
    dx = np.empty(window.x_shape, working)
    run(kernels.max_backward_serial, kernels.max_backward_parallel, 8 * x.size * working.itemsize,
        check.native(dout, working).reshape(window.y_shape), check.native(x, working_x).reshape(window.x_shape), known, dx, window.integers,
        _lowest(working_x), bands_of(N * C, H, W * working.itemsize))
    return check.deliver(dx.reshape(x.shape), None, dtype)


def _max_pairs(x: np.ndarray, y: np.ndarray, window: Window) -> None:
    """Windows of 2 x 2 side by side. Where they cover every row, all planes are one tall one: small planes cost no more than large."""
    if not x.size:
        return
    N, C, H, W = x.shape
    planes, rows = (1, N * C * window.OH) if H == 2 * window.OH else (N * C, window.OH)
    bands = bands_of(planes, rows, 2 * W * x.itemsize)
    run(kernels.max_pairs_serial, kernels.max_pairs_parallel, 8 * x.nbytes, x.reshape(1, planes, -1, W), y.reshape(1, planes, rows, -1), bands)


@functools.cache
def _lowest(dtype: np.dtype) -> np.ndarray:
    """One element below all others of its dtype: what the maximum over nothing is."""
    return np.array([-np.inf if dtype.kind == "f" else np.iinfo(dtype).min], dtype)
