"""Max pooling as plain loops, in one, two and three dimensions."""

import numpy as np

from naive.pool.window import Each, Padding, Windows
from naive.shared import batched, deliver, dtypes

__all__ = ["max_pool1d", "max_pool1d_backward", "max_pool2d", "max_pool2d_backward", "max_pool3d", "max_pool3d_backward"]


def _max_pool(nd, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out):
    """x (N, C, *sizes) -> y (N, C, *sizes of the result), in x's own dtype, and with return_indices also indices, int64.

    y[n, c, i] = max over the taps p of window i inside the image of  x[n, c, p]

    indices[n, c, i] = the place, counted in row-major order, of the element that won: the first NaN if there is one, else the first
    maximum. A window that misses the image altogether (possible with dilation) gives -inf (or the smallest integer) and index -1.
    """
    images, windows = batched(x, nd + 2), Windows(nd, x, kernel_size, stride, padding, dilation, ceil_mode)
    dtype = np.result_type(x)  # x's own, in native byte order
    y = np.full((*images.shape[:2], *windows.sizes), -np.inf if dtype.kind == "f" else np.iinfo(dtype).min, dtype)
    indices = np.full(y.shape, -1, np.int64)
    places = np.arange(np.prod(x.shape[-nd:], dtype=np.int64)).reshape(x.shape[-nd:])
    for n, c, *i in np.ndindex(y.shape):
        inside = windows.inside(i)
        window = images[n, c][inside]
        if window.size:
            winner = np.argmax(window)  # the first NaN, else the first maximum
            y[(n, c, *i)] = window.flat[winner]
            indices[(n, c, *i)] = places[inside].flat[winner]
    given, given_indices = out if isinstance(out, tuple) else (out, None)
    y = deliver(y, x.ndim == nd + 2, dtype, given)
    return (y, deliver(indices, x.ndim == nd + 2, np.int64, given_indices)) if return_indices else y


def _max_pool_backward(nd, dout, x, kernel_size, stride, padding, dilation, ceil_mode, indices):
    """dout (N, C, *sizes of the result) -> dx (N, C, *sizes); `indices` of the forward save finding the winners again.

    dx[n, c, p] = sum of dout[n, c, i] over the windows i that element p has won
    """
    work, result = dtypes(dout, x)
    if indices is None:
        _, indices = _max_pool(nd, x, kernel_size, stride, padding, dilation, ceil_mode, True, None)
    dy, indices = batched(dout, nd + 2).astype(work), batched(indices, nd + 2)
    dx = np.zeros(batched(x, nd + 2).shape, work)
    for n, c, *i in np.ndindex(dy.shape):
        if indices[(n, c, *i)] >= 0:
            dx[n, c].flat[indices[(n, c, *i)]] += dy[(n, c, *i)]
    return deliver(dx, x.ndim == nd + 2, result)


def max_pool1d(x: np.ndarray, kernel_size: Each, stride: Each | None = None, padding: Padding = 0, dilation: Each = 1,
               ceil_mode: bool = False, return_indices: bool = False, *,
               out: np.ndarray | tuple[np.ndarray, np.ndarray] | None = None) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """x (N, C, L) -> y (N, C, OL), and with return_indices also indices, l of each winner. See `_max_pool`."""
    return _max_pool(1, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out)


def max_pool1d_backward(dout: np.ndarray, x: np.ndarray, kernel_size: Each, stride: Each | None = None, padding: Padding = 0,
                        dilation: Each = 1, ceil_mode: bool = False, return_indices: bool = False, *,
                        indices: np.ndarray | None = None) -> np.ndarray:
    """dout (N, C, OL) -> dx (N, C, L). See `_max_pool_backward`."""
    return _max_pool_backward(1, dout, x, kernel_size, stride, padding, dilation, ceil_mode, indices)


def max_pool2d(x: np.ndarray, kernel_size: Each, stride: Each | None = None, padding: Padding = 0, dilation: Each = 1,
               ceil_mode: bool = False, return_indices: bool = False, *,
               out: np.ndarray | tuple[np.ndarray, np.ndarray] | None = None) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """x (N, C, H, W) -> y (N, C, OH, OW), and with return_indices also indices, h*W + w of each winner. See `_max_pool`."""
    return _max_pool(2, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out)


def max_pool2d_backward(dout: np.ndarray, x: np.ndarray, kernel_size: Each, stride: Each | None = None, padding: Padding = 0,
                        dilation: Each = 1, ceil_mode: bool = False, return_indices: bool = False, *,
                        indices: np.ndarray | None = None) -> np.ndarray:
    """dout (N, C, OH, OW) -> dx (N, C, H, W). See `_max_pool_backward`."""
    return _max_pool_backward(2, dout, x, kernel_size, stride, padding, dilation, ceil_mode, indices)


def max_pool3d(x: np.ndarray, kernel_size: Each, stride: Each | None = None, padding: Padding = 0, dilation: Each = 1,
               ceil_mode: bool = False, return_indices: bool = False, *,
               out: np.ndarray | tuple[np.ndarray, np.ndarray] | None = None) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """x (N, C, D, H, W) -> y (N, C, OD, OH, OW), and with return_indices also indices, (d*H + h)*W + w of each winner. See `_max_pool`."""
    return _max_pool(3, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out)


def max_pool3d_backward(dout: np.ndarray, x: np.ndarray, kernel_size: Each, stride: Each | None = None, padding: Padding = 0,
                        dilation: Each = 1, ceil_mode: bool = False, return_indices: bool = False, *,
                        indices: np.ndarray | None = None) -> np.ndarray:
    """dout (N, C, OD, OH, OW) -> dx (N, C, D, H, W). See `_max_pool_backward`."""
    return _max_pool_backward(3, dout, x, kernel_size, stride, padding, dilation, ceil_mode, indices)
