"""Adaptive pooling as plain loops: the size of the result is given, and the windows follow from it."""

from math import prod

import numpy as np

from naive.pool.planes import adaptive_windows, volumes
from naive.shared import Size, dtypes

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool1d_backward", "adaptive_avg_pool2d", "adaptive_avg_pool2d_backward", "adaptive_avg_pool3d",
    "adaptive_avg_pool3d_backward", "adaptive_max_pool1d", "adaptive_max_pool1d_backward", "adaptive_max_pool2d",
    "adaptive_max_pool2d_backward", "adaptive_max_pool3d", "adaptive_max_pool3d_backward",
]


def adaptive_avg_pool1d(x: np.ndarray, output_size: Size, *, out: np.ndarray | None = None) -> np.ndarray:
    """x (N, C, L) or (C, L) -> y (..., OL): the mean of each window."""
    return _average(x, output_size, 1, out)


def adaptive_avg_pool1d_backward(dout: np.ndarray, x: np.ndarray, output_size: Size) -> np.ndarray:
    """dout (..., OL) -> dx (N, C, L) or (C, L): each window's dout in equal shares."""
    return _average_backward(dout, x, output_size, 1)


def adaptive_max_pool1d(x: np.ndarray, output_size: Size, return_indices: bool = False, *,
                        out: np.ndarray | None = None) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """x (N, C, L) or (C, L) -> y (..., OL): the largest element of each window; with return_indices also where it lies in the plane."""
    return _maximum(x, output_size, return_indices, 1, out)


def adaptive_max_pool1d_backward(dout: np.ndarray, x: np.ndarray, output_size: Size, return_indices: bool = False, *,
                                 indices: np.ndarray | None = None) -> np.ndarray:
    """dout (..., OL) -> dx (N, C, L) or (C, L): each window's dout goes to its largest element."""
    return _maximum_backward(dout, x, output_size, indices, 1)


def adaptive_avg_pool2d(x: np.ndarray, output_size: Size, *, out: np.ndarray | None = None) -> np.ndarray:
    """x (N, C, H, W) or (C, H, W) -> y (..., OH, OW): the mean of each window."""
    return _average(x, output_size, 2, out)


def adaptive_avg_pool2d_backward(dout: np.ndarray, x: np.ndarray, output_size: Size) -> np.ndarray:
    """dout (..., OH, OW) -> dx (N, C, H, W) or (C, H, W): each window's dout in equal shares."""
    return _average_backward(dout, x, output_size, 2)


def adaptive_max_pool2d(x: np.ndarray, output_size: Size, return_indices: bool = False, *,
                        out: np.ndarray | None = None) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """x (N, C, H, W) or (C, H, W) -> y (..., OH, OW): the largest element of each window; with return_indices also where it lies in the plane."""
    return _maximum(x, output_size, return_indices, 2, out)


def adaptive_max_pool2d_backward(dout: np.ndarray, x: np.ndarray, output_size: Size, return_indices: bool = False, *,
                                 indices: np.ndarray | None = None) -> np.ndarray:
    """dout (..., OH, OW) -> dx (N, C, H, W) or (C, H, W): each window's dout goes to its largest element."""
    return _maximum_backward(dout, x, output_size, indices, 2)


def adaptive_avg_pool3d(x: np.ndarray, output_size: Size, *, out: np.ndarray | None = None) -> np.ndarray:
    """x (N, C, D, H, W) or (C, D, H, W) -> y (..., OD, OH, OW): the mean of each window."""
    return _average(x, output_size, 3, out)


def adaptive_avg_pool3d_backward(dout: np.ndarray, x: np.ndarray, output_size: Size) -> np.ndarray:
    """dout (..., OD, OH, OW) -> dx (N, C, D, H, W) or (C, D, H, W): each window's dout in equal shares."""
    return _average_backward(dout, x, output_size, 3)


def adaptive_max_pool3d(x: np.ndarray, output_size: Size, return_indices: bool = False, *,
                        out: np.ndarray | None = None) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """x (N, C, D, H, W) or (C, D, H, W) -> y (..., OD, OH, OW): the largest element of each window; with return_indices also where it lies in the plane."""
    return _maximum(x, output_size, return_indices, 3, out)


def adaptive_max_pool3d_backward(dout: np.ndarray, x: np.ndarray, output_size: Size, return_indices: bool = False, *,
                                 indices: np.ndarray | None = None) -> np.ndarray:
    """dout (..., OD, OH, OW) -> dx (N, C, D, H, W) or (C, D, H, W): each window's dout goes to its largest element."""
    return _maximum_backward(dout, x, output_size, indices, 3)


def _average(x, output_size, nd, out):
    work, result = dtypes(x)
    planes, (ds, hs, ws) = volumes(x, nd).astype(work), adaptive_windows(x.shape[x.ndim - nd :], output_size)
    y = np.zeros((len(planes), len(ds), len(hs), len(ws)), work)
    for n, i, j, k in np.ndindex(y.shape):
        y[n, i, j, k] = np.mean(planes[n][np.ix_(ds[i], hs[j], ws[k])])
    return _deliver(y, x, nd, result, out)


def _average_backward(dout, x, output_size, nd):
    work, result = dtypes(dout, x)
    dy, (ds, hs, ws) = volumes(dout, nd).astype(work), adaptive_windows(x.shape[x.ndim - nd :], output_size)
    dx = np.zeros(volumes(x, nd).shape, work)
    for n, i, j, k in np.ndindex(dy.shape):
        window = np.ix_(ds[i], hs[j], ws[k])
        dx[n][window] += dy[n, i, j, k] / (len(ds[i]) * len(hs[j]) * len(ws[k]))
    return dx.reshape(x.shape).astype(result)


def _maximum(x, output_size, return_indices, nd, out):
    planes, (ds, hs, ws) = volumes(x, nd), adaptive_windows(x.shape[x.ndim - nd :], output_size)
    y = np.zeros((len(planes), len(ds), len(hs), len(ws)), np.result_type(x))
    indices = np.zeros(y.shape, np.int64)
    _, D, H, W = planes.shape
    for n, i, j, k in np.ndindex(y.shape):
        window = planes[n][np.ix_(ds[i], hs[j], ws[k])]
        p, q, r = np.unravel_index(np.argmax(window), window.shape)  # argmax: the first NaN, else the first maximum
        y[n, i, j, k] = window[p, q, r]
        indices[n, i, j, k] = (ds[i][p] * H + hs[j][q]) * W + ws[k][r]
    y = _deliver(y, x, nd, y.dtype, out[0] if return_indices and out is not None else out)
    return (y, _deliver(indices, x, nd, np.int64, None if out is None else out[1])) if return_indices else y


def _maximum_backward(dout, x, output_size, indices, nd):
    work, result = dtypes(dout, x)
    if indices is None:
        _, indices = _maximum(x, output_size, True, nd, None)
    dx = np.zeros(volumes(x, nd).shape, work).reshape(-1, prod(x.shape[x.ndim - nd :]))
    for plane, dy, where in zip(dx, volumes(dout, nd).astype(work), volumes(indices, nd)):
        for value, place in zip(dy.ravel(), where.ravel()):
            plane[place] += value
    return dx.reshape(x.shape).astype(result)


def _deliver(y, x, nd, dtype, out):
    """y (N * C, OD, OH, OW) in the shape that follows x."""
    y = y.reshape(*x.shape[: x.ndim - nd], *y.shape[4 - nd :]).astype(dtype)
    if out is None:
        return y
    out[...] = y
    return out
