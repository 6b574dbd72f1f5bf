"""Max and average pooling over (N, C, H, W), and their gradients."""
from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import check
from .blocking.parts import bands_of
from .check import Pads, Pair
from .kernels import geometry as geometries
from .kernels import pool as kernels
from .runtime import run

X_SHAPE = "(N, C, H, W) or (C, H, W)"
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
    window = _Window(x, kernel_size, stride, padding, dilation, ceil_mode, integers=True)
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
    window = _Window(x, kernel_size, stride, padding, dilation, ceil_mode, integers=True)
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


def avg_pool2d(x: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None, *, dilation: Any = 1, out: np.ndarray | None = None,
               ) -> np.ndarray:
    """The mean of each window, as torch.nn.functional.avg_pool2d.

    Arguments as for `max_pool2d`. count_include_pad: zeros of the padding count as elements (those that ceil_mode adds beyond it do
    not). divisor_override: divide every sum by this instead of by the number of elements. Returns y: (N, C, OH, OW) or (C, OH, OW).
    """
    window = _Window(x, kernel_size, stride, padding, dilation, ceil_mode)
    counts = window.counts(count_include_pad, divisor_override)
    working, shape = check.working_dtype(window.dtype), window.shape_like(x)
    given = check.output(out, shape, window.dtype, (x,))
    y = check.target(given, shape, working)
    run(kernels.average_serial, kernels.average_parallel, 8 * x.size * working.itemsize, check.native(x, working).reshape(window.x_shape),
        y.reshape(window.y_shape), window.integers, *counts)
    return check.deliver(y, given, window.dtype)


def avg_pool2d_backward(dout: np.ndarray, x: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
                        count_include_pad: bool = True, divisor_override: int | None = None, *, dilation: Any = 1) -> np.ndarray:
    """The gradient of `avg_pool2d`: dx, of the shape of x. Each window's dout is shared out among its elements."""
    window = _Window(x, kernel_size, stride, padding, dilation, ceil_mode)
    counts = window.counts(count_include_pad, divisor_override)
    check.array("dout", dout, "like the result of the forward", (3, 4))
    check.common_dtype((("x", x), ("dout", dout)))
    check.shape_of("dout", dout, window.shape_like(x), "the shape of the forward's result")
    working = check.working_dtype(window.dtype)
    N, C, H, W = window.x_shape
    dx = np.empty(window.x_shape, working)
    run(kernels.average_backward_serial, kernels.average_backward_parallel, 8 * x.size * working.itemsize,
        check.native(dout, working).reshape(window.y_shape), dx, window.integers, *counts,
        bands_of(N * C, H, W * working.itemsize))
    return check.deliver(dx.reshape(x.shape), None, window.dtype)


def _max_pairs(x: np.ndarray, y: np.ndarray, window: _Window) -> None:
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


class _Window:
    """The windows of one pooling, checked: shapes, the integers the kernels take, and how many elements each window counts."""

    def __init__(self, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any, integers: bool = False) -> None:
        check.array("x", x, X_SHAPE, (3, 4), integers)
        self.dtype = x.dtype.newbyteorder("=")
        kernel = check.pair("kernel_size", kernel_size, 1)
        self.kernel, self.stride = kernel, kernel if stride is None else check.pair("stride", stride, 1)
        self.dilation, self.pads = check.pair("dilation", dilation, 1), check.padding("padding", padding)
        self.x_shape = N, C, H, W = x.shape if x.ndim == 4 else (1, *x.shape)
        self.OH, self.OW, self.integers = _geometry(self.x_shape, kernel, self.stride, self.pads, self.dilation,
                                                    check.flag("ceil_mode", ceil_mode))
        self.y_shape = (N, C, self.OH, self.OW)
        self.pairs = (kernel == self.stride == (2, 2) and self.dilation == (1, 1) and self.pads == ((0, 0), (0, 0))
                      and 2 * self.OH <= H and 2 * self.OW <= W)          # windows side by side, none sticks out

    def shape_like(self, x: np.ndarray) -> tuple[int, ...]:
        """The result's shape: without the batch axis where x has none."""
        return self.y_shape if x.ndim == 4 else self.y_shape[1:]

    def counts(self, include_pad: Any, divisor: Any) -> tuple[np.ndarray, np.ndarray]:
        """Counted elements of each window, as a factor for its row and one for its column."""
        dtype, include = check.working_dtype(self.dtype), check.flag("count_include_pad", include_pad)
        if divisor is not None:
            return np.ones(self.OH, dtype), np.full(self.OW, check.nonzero("divisor_override", divisor), dtype)
        return tuple(_counts(size, outputs, *axis, include, dtype) for size, outputs, *axis in zip(
            self.x_shape[2:], (self.OH, self.OW), self.kernel, self.stride, self.pads, self.dilation))


@functools.lru_cache(maxsize=4096)
def _geometry(x_shape: tuple[int, int, int, int], kernel: Pair, stride: Pair, pads: Pads, dilation: Pair, ceil_mode: bool,
              ) -> tuple[int, int, np.ndarray]:
    N, C, H, W = x_shape
    for axis, name in ((0, "height"), (1, "width")):
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        if max(pads[axis]) >= reach:
            raise ValueError(f"padding is {pads[axis]} along the {name}, where the window reaches over {reach} elements; "
                             f"wanted: less than that on each side")
    OH = check.output_size("the height", H, kernel[0], stride[0], pads[0], dilation[0], ceil_mode)
    OW = check.output_size("the width", W, kernel[1], stride[1], pads[1], dilation[1], ceil_mode)
    check.result_shape("x and padding", N, C, OH, OW)
    return OH, OW, geometries.pack(N=N, C=C, H=H, W=W, F=C, OH=OH, OW=OW, KH=kernel[0], KW=kernel[1], SH=stride[0], SW=stride[1],
                                   PT=pads[0][0], PL=pads[1][0], DH=dilation[0], DW=dilation[1], G=1)


@functools.lru_cache(maxsize=256)            # arrays as long as a row of the result
def _counts(size: int, outputs: int, kernel: int, stride: int, pads: Pair, dilation: int, include_pad: bool, dtype: np.dtype) -> np.ndarray:
    """Elements of each window along one axis: inside the image, or inside the padded image. At least 1: an empty sum is 0."""
    first, end = (-pads[0], size + pads[1]) if include_pad else (0, size)
    start = np.arange(outputs, dtype=np.int64) * stride - pads[0]
    lo = np.maximum(0, -(-(first - start) // dilation))
    hi = np.minimum(kernel, -(-(end - start) // dilation))
    return np.maximum(1, hi - lo).astype(dtype)
