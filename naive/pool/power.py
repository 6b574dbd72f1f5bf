"""Power-average pooling as plain loops."""

from math import prod

import numpy as np

from naive.pool.planes import per_axis, volumes, windows_along
from naive.shared import Padding, Size, dtypes

__all__ = ["lp_pool1d", "lp_pool1d_backward", "lp_pool2d", "lp_pool2d_backward", "lp_pool3d", "lp_pool3d_backward"]


def lp_pool1d(x: np.ndarray, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False, *,
              padding: Padding = 0, dilation: Size = 1, out: np.ndarray | None = None) -> np.ndarray:
    """x (N, C, L) or (C, L) -> y (..., OL): y = (sum of x**p over the window * taps / counted)**(1/p), p = norm_type."""
    return _power(x, norm_type, kernel_size, stride, ceil_mode, padding, dilation, 1, out)


def lp_pool1d_backward(dout: np.ndarray, x: np.ndarray, norm_type: float, kernel_size: Size, stride: Size | None = None,
                       ceil_mode: bool = False, *, padding: Padding = 0, dilation: Size = 1) -> np.ndarray:
    """dout (..., OL) -> dx (N, C, L) or (C, L)."""
    return _power_backward(dout, x, norm_type, kernel_size, stride, ceil_mode, padding, dilation, 1)


def lp_pool2d(x: np.ndarray, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False, *,
              padding: Padding = 0, dilation: Size = 1, out: np.ndarray | None = None) -> np.ndarray:
    """x (N, C, H, W) or (C, H, W) -> y (..., OH, OW): y = (sum of x**p over the window * taps / counted)**(1/p), p = norm_type."""
    return _power(x, norm_type, kernel_size, stride, ceil_mode, padding, dilation, 2, out)


def lp_pool2d_backward(dout: np.ndarray, x: np.ndarray, norm_type: float, kernel_size: Size, stride: Size | None = None,
                       ceil_mode: bool = False, *, padding: Padding = 0, dilation: Size = 1) -> np.ndarray:
    """dout (..., OH, OW) -> dx (N, C, H, W) or (C, H, W)."""
    return _power_backward(dout, x, norm_type, kernel_size, stride, ceil_mode, padding, dilation, 2)


def lp_pool3d(x: np.ndarray, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False, *,
              padding: Padding = 0, dilation: Size = 1, out: np.ndarray | None = None) -> np.ndarray:
    """x (N, C, D, H, W) or (C, D, H, W) -> y (..., OD, OH, OW): y = (sum of x**p over the window * taps / counted)**(1/p), p = norm_type."""
    return _power(x, norm_type, kernel_size, stride, ceil_mode, padding, dilation, 3, out)


def lp_pool3d_backward(dout: np.ndarray, x: np.ndarray, norm_type: float, kernel_size: Size, stride: Size | None = None,
                       ceil_mode: bool = False, *, padding: Padding = 0, dilation: Size = 1) -> np.ndarray:
    """dout (..., OD, OH, OW) -> dx (N, C, D, H, W) or (C, D, H, W)."""
    return _power_backward(dout, x, norm_type, kernel_size, stride, ceil_mode, padding, dilation, 3)


def _power(x, p, kernel_size, stride, ceil_mode, padding, dilation, nd, out):
    """counted: taps in the image and its padding, but not those that ceil_mode lets stand out further."""
    work, result = dtypes(x)
    planes, taps = volumes(x, nd).astype(work), prod(per_axis(kernel_size, nd))
    (ds, hs, ws), counted = windows_along(x.shape[x.ndim - nd :], kernel_size, stride, padding, dilation, ceil_mode)
    y = np.zeros((len(planes), len(ds), len(hs), len(ws)), work)
    for n, i, j, k in np.ndindex(y.shape):
        window = planes[n][np.ix_(ds[i], hs[j], ws[k])]
        y[n, i, j, k] = (np.sum(window**p) * (taps / (counted[0][i] * counted[1][j] * counted[2][k]))) ** (1 / p)
    y = y.reshape(*x.shape[: x.ndim - nd], *y.shape[4 - nd :]).astype(result)
    if out is None:
        return y
    out[...] = y
    return out


def _power_backward(dout, x, p, kernel_size, stride, ceil_mode, padding, dilation, nd):
    """dx = sum over the windows of dout * scale * s**(1/p - 1) * x**(p - 1), s = sum of x**p * scale, scale = taps / counted; 0 where s is 0."""
    work, result = dtypes(dout, x)
    planes, dy, taps = volumes(x, nd).astype(work), volumes(dout, nd).astype(work), prod(per_axis(kernel_size, nd))
    (ds, hs, ws), counted = windows_along(x.shape[x.ndim - nd :], kernel_size, stride, padding, dilation, ceil_mode)
    dx = np.zeros(planes.shape, work)
    for n, i, j, k in np.ndindex(dy.shape):
        place = np.ix_(ds[i], hs[j], ws[k])
        window, scale = planes[n][place], taps / (counted[0][i] * counted[1][j] * counted[2][k])
        s = np.sum(window**p) * scale
        if s != 0 or p == 1:
            dx[n][place] += dy[n, i, j, k] * scale * s ** (1 / p - 1) * window ** (p - 1)
    return dx.reshape(x.shape).astype(result)
