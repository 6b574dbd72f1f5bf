"""The windows of a pooling: checked arguments, shapes, the integers the kernels take, and how many elements each window counts."""
from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .. import check
from ..check import Pads, Pair
from ..kernels import geometry as geometries

X_SHAPE = "(N, C, H, W) or (C, H, W)"


class Window:
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
