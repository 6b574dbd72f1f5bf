"""Average pooling as plain loops, in one, two and three dimensions."""

import numpy as np

from naive.pool.window import Each, Padding, Windows
from naive.shared import batched, deliver, dtypes

__all__ = ["avg_pool1d", "avg_pool1d_backward", "avg_pool2d", "avg_pool2d_backward", "avg_pool3d", "avg_pool3d_backward"]


def _avg_pool(nd, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, out):
    """x (N, C, *sizes) -> y (N, C, *sizes of the result).

    y[n, c, i] = (sum over the taps p of window i inside the image of  x[n, c, p]) / divisor

    The divisor counts the window's taps in the image and its padding (but not those that ceil_mode lets stand out further);
    without count_include_pad only those in the image, and the average of none is 0; divisor_override replaces it.
    """
    work, result = dtypes(x)
    images, windows = batched(x, nd + 2).astype(work), Windows(nd, x, kernel_size, stride, padding, dilation, ceil_mode)
    y = np.zeros((*images.shape[:2], *windows.sizes), work)
    for n, c, *i in np.ndindex(y.shape):
        window = images[n, c][windows.inside(i)]
        y[(n, c, *i)] = np.sum(window) / _divisor(window, windows.padded(i), count_include_pad, divisor_override)
    return deliver(y, x.ndim == nd + 2, result, out)


def _avg_pool_backward(nd, dout, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation):
    """dout (N, C, *sizes of the result) -> dx (N, C, *sizes).

    dx[n, c, p] = sum of dout[n, c, i] / divisor over the windows i that hold element p
    """
    work, result = dtypes(dout, x)
    dy, windows = batched(dout, nd + 2).astype(work), Windows(nd, x, kernel_size, stride, padding, dilation, ceil_mode)
    dx = np.zeros(batched(x, nd + 2).shape, work)
    for n, c, *i in np.ndindex(dy.shape):
        inside = windows.inside(i)
        window = dx[n, c][inside]
        dx[n, c][inside] = window + dy[(n, c, *i)] / _divisor(window, windows.padded(i), count_include_pad, divisor_override)
    return deliver(dx, x.ndim == nd + 2, result)


def _divisor(window, padded_taps, count_include_pad, divisor_override):
    if divisor_override is not None:
        return divisor_override
    return padded_taps if count_include_pad else max(window.size, 1)


def avg_pool1d(x: np.ndarray, kernel_size: Each, stride: Each | None = None, padding: Padding = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, *, dilation: Each = 1, out: np.ndarray | None = None) -> np.ndarray:
    """x (N, C, L) -> y (N, C, OL). See `_avg_pool`."""
    return _avg_pool(1, x, kernel_size, stride, padding, ceil_mode, count_include_pad, None, dilation, out)


def avg_pool1d_backward(dout: np.ndarray, x: np.ndarray, kernel_size: Each, stride: Each | None = None, padding: Padding = 0,
                        ceil_mode: bool = False, count_include_pad: bool = True, *, dilation: Each = 1) -> np.ndarray:
    """dout (N, C, OL) -> dx (N, C, L). See `_avg_pool_backward`."""
    return _avg_pool_backward(1, dout, x, kernel_size, stride, padding, ceil_mode, count_include_pad, None, dilation)


def avg_pool2d(x: np.ndarray, kernel_size: Each, stride: Each | None = None, padding: Padding = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None, *, dilation: Each = 1,
               out: np.ndarray | None = None) -> np.ndarray:
    """x (N, C, H, W) -> y (N, C, OH, OW). See `_avg_pool`."""
    return _avg_pool(2, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, out)


def avg_pool2d_backward(dout: np.ndarray, x: np.ndarray, kernel_size: Each, stride: Each | None = None, padding: Padding = 0,
                        ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None, *,
                        dilation: Each = 1) -> np.ndarray:
    """dout (N, C, OH, OW) -> dx (N, C, H, W). See `_avg_pool_backward`."""
    return _avg_pool_backward(2, dout, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation)


def avg_pool3d(x: np.ndarray, kernel_size: Each, stride: Each | None = None, padding: Padding = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None, *, dilation: Each = 1,
               out: np.ndarray | None = None) -> np.ndarray:
    """x (N, C, D, H, W) -> y (N, C, OD, OH, OW). See `_avg_pool`."""
    return _avg_pool(3, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, out)


def avg_pool3d_backward(dout: np.ndarray, x: np.ndarray, kernel_size: Each, stride: Each | None = None, padding: Padding = 0,
                        ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None, *,
                        dilation: Each = 1) -> np.ndarray:
    """dout (N, C, OD, OH, OW) -> dx (N, C, D, H, W). See `_avg_pool_backward`."""
    return _avg_pool_backward(3, dout, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation)
