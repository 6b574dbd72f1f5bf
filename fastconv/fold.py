"""im2col and col2im, torch's unfold and fold, and their gradients: each is the other's."""
from __future__ import annotations

from typing import Any

import numpy as np

from . import check
from .blocking.parts import bands_of
from .kernels import geometry as geometries
from .kernels import im2col as kernels
from .kernels.tasks import NO_TABLE, NOTHING, run_tasks


def im2col(x: np.ndarray, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1, *, out: np.ndarray | None = None,
           ) -> np.ndarray:
    """The patches of x as columns, as torch.nn.functional.unfold.

        cols[n, (c * KH + kh) * KW + kw, oh * OW + ow] = x[n, c, oh * SH - top + kh * DH, ow * SW - left + kw * DW], 0 in the padding

    x: (N, C, H, W) or (C, H, W), float32, float64 or float16. kernel_size, dilation, stride: an int or (height, width); padding: an int,
    (height, width) or ((top, bottom), (left, right)). Returns cols: (N, C * KH * KW, OH * OW), without N for one image.
    """
    check.array("x", x, "(N, C, H, W) or (C, H, W)", (3, 4))
    geometry = _Geometry(x.shape if x.ndim == 4 else (1, *x.shape), kernel_size, dilation, padding, stride)
    return _patches("x", x, geometry, out, x.ndim == 4)


def im2col_backward(dout: np.ndarray, x: np.ndarray, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> np.ndarray:
    """The gradient of `im2col`: dx, of the shape of x, from dout, of the shape of its result. The other arguments are the forward's."""
    check.array("x", x, "(N, C, H, W) or (C, H, W)", (3, 4))
    geometry = _Geometry(x.shape if x.ndim == 4 else (1, *x.shape), kernel_size, dilation, padding, stride)
    check.array("dout", dout, "like the result of the forward", (2, 3))
    check.common_dtype((("x", x), ("dout", dout)))
    check.shape_of("dout", dout, geometry.cols_shape if x.ndim == 4 else geometry.cols_shape[1:], "the shape of the forward's result")
    return _sums(dout, geometry, None, x.ndim == 4)


def col2im(cols: np.ndarray, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1, *,
           out: np.ndarray | None = None) -> np.ndarray:
    """Columns added back to where they came from, as torch.nn.functional.fold: the transpose of `im2col`, not its inverse.

    cols: (N, C * KH * KW, OH * OW), or without N for one image. output_size: (H, W) of the image. Returns x: (N, C, H, W) or (C, H, W).
    """
    geometry = _col2im_geometry(cols, output_size, kernel_size, dilation, padding, stride)
    return _sums(cols, geometry, out, cols.ndim == 3)


def col2im_backward(dout: np.ndarray, cols: np.ndarray, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0,
                    stride: Any = 1) -> np.ndarray:
    """The gradient of `col2im`: dcols, of the shape of cols, from dout, of the shape of its result."""
    geometry = _col2im_geometry(cols, output_size, kernel_size, dilation, padding, stride)
    check.array("dout", dout, "like the result of the forward", (3, 4))
    check.common_dtype((("cols", cols), ("dout", dout)))
    check.shape_of("dout", dout, geometry.x_shape if cols.ndim == 3 else geometry.x_shape[1:], "the shape of the forward's result")
    return _patches("dout", dout, geometry, None, cols.ndim == 3)


class _Geometry:
    """Shapes of image and columns, and the integers the kernels take, from arguments as they came."""

    def __init__(self, x_shape: tuple[int, ...], kernel_size: Any, dilation: Any, padding: Any, stride: Any, image: str = "x") -> None:
        N, C, H, W = x_shape
        (KH, KW), (DH, DW) = check.pair("kernel_size", kernel_size, 1), check.pair("dilation", dilation, 1)
        (SH, SW), pads = check.pair("stride", stride, 1), check.padding("padding", padding)
        OH = check.output_size("the height", H, KH, SH, pads[0], DH)
        OW = check.output_size("the width", W, KW, SW, pads[1], DW)
        check.result_shape(f"{image}, kernel_size and padding", N, C * KH * KW, OH * OW)
        check.result_shape(image, N, C, H, W)
        self.x_shape, self.cols_shape = x_shape, (N, C * KH * KW, OH * OW)
        self.integers = geometries.pack(N=N, C=C, H=H, W=W, F=C, OH=OH, OW=OW, KH=KH, KW=KW, SH=SH, SW=SW, PT=pads[0][0], PL=pads[1][0],
                                        DH=DH, DW=DW, G=1)


def _col2im_geometry(cols: Any, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> _Geometry:
    check.array("cols", cols, "(N, C * KH * KW, OH * OW) or (C * KH * KW, OH * OW)", (2, 3))
    (KH, KW), (H, W) = check.pair("kernel_size", kernel_size, 1), check.pair("output_size", output_size, 1)
    N, rows = (cols.shape[0] if cols.ndim == 3 else 1), cols.shape[-2]
    if rows % (KH * KW):
        raise ValueError(f"cols has {rows} rows, shape {cols.shape}; wanted: a multiple of kernel_size, KH * KW = {KH * KW}")
    geometry = _Geometry((N, rows // (KH * KW), H, W), (KH, KW), dilation, padding, stride, "output_size")
    check.shape_of("cols", cols, geometry.cols_shape if cols.ndim == 3 else geometry.cols_shape[1:],
                   f"for output_size {H, W} and these kernel_size, dilation, padding and stride")
    return geometry


def _patches(name: str, x: np.ndarray, geometry: _Geometry, out: Any, batch: bool) -> np.ndarray:
    working = check.working_dtype(x.dtype.newbyteorder("="))
    shape = geometry.cols_shape if batch else geometry.cols_shape[1:]
    given = check.output(out, shape, x.dtype.newbyteorder("="), (x,))
    cols = check.target(given, shape, working)
    none, job = NOTHING[working], geometry.integers
    run_tasks(kernels.im2col, geometry.cols_shape[0] * geometry.cols_shape[1], 8 * cols.nbytes, check.native(x, working).reshape(-1), none, cols.reshape(-1),
              none, none, job, NO_TABLE)
    return check.deliver(cols, given, x.dtype.newbyteorder("="))


def _sums(cols: np.ndarray, geometry: _Geometry, out: Any, batch: bool) -> np.ndarray:
    working = check.working_dtype(cols.dtype.newbyteorder("="))
    shape = geometry.x_shape if batch else geometry.x_shape[1:]
    given = check.output(out, shape, cols.dtype.newbyteorder("="), (cols,))
    x = check.target(given, shape, working)
    N, C, H, W = geometry.x_shape
    none, bands = NOTHING[working], bands_of(N * C, H, W * working.itemsize)
    run_tasks(kernels.col2im, N * C * bands, 8 * cols.nbytes, check.native(cols, working).reshape(-1), none, x.reshape(-1), none, none,
              geometry.integers, np.array([bands], np.int64))
    return check.deliver(x, given, cols.dtype.newbyteorder("="))
