"""Max unpooling as plain loops."""

from math import prod

import numpy as np

from naive.pool.planes import pads_per_axis, per_axis
from naive.shared import Padding, Size, dtypes

__all__ = ["max_unpool1d", "max_unpool1d_backward", "max_unpool2d", "max_unpool2d_backward", "max_unpool3d", "max_unpool3d_backward"]


def max_unpool1d(x: np.ndarray, indices: np.ndarray, kernel_size: Size, stride: Size | None = None, padding: Padding = 0,
                 output_size: Size | None = None, *, out: np.ndarray | None = None) -> np.ndarray:
    """x, indices (N, C, L) or (C, L) -> y (..., OL): each element at its index, 0 elsewhere; the last of several counts."""
    return _unpool(x, indices, kernel_size, stride, padding, output_size, 1, out)


def max_unpool1d_backward(dout: np.ndarray, x: np.ndarray, indices: np.ndarray, kernel_size: Size, stride: Size | None = None,
                          padding: Padding = 0, output_size: Size | None = None) -> np.ndarray:
    """dout (..., OL) -> dx (N, C, L) or (C, L): what lies at each index."""
    return _unpool_backward(dout, x, indices, 1)


def max_unpool2d(x: np.ndarray, indices: np.ndarray, kernel_size: Size, stride: Size | None = None, padding: Padding = 0,
                 output_size: Size | None = None, *, out: np.ndarray | None = None) -> np.ndarray:
    """x, indices (N, C, H, W) or (C, H, W) -> y (..., OH, OW): each element at its index, 0 elsewhere; the last of several counts."""
    return _unpool(x, indices, kernel_size, stride, padding, output_size, 2, out)


def max_unpool2d_backward(dout: np.ndarray, x: np.ndarray, indices: np.ndarray, kernel_size: Size, stride: Size | None = None,
                          padding: Padding = 0, output_size: Size | None = None) -> np.ndarray:
    """dout (..., OH, OW) -> dx (N, C, H, W) or (C, H, W): what lies at each index."""
    return _unpool_backward(dout, x, indices, 2)


def max_unpool3d(x: np.ndarray, indices: np.ndarray, kernel_size: Size, stride: Size | None = None, padding: Padding = 0,
                 output_size: Size | None = None, *, out: np.ndarray | None = None) -> np.ndarray:
    """x, indices (N, C, D, H, W) or (C, D, H, W) -> y (..., OD, OH, OW): each element at its index, 0 elsewhere; the last of several counts."""
    return _unpool(x, indices, kernel_size, stride, padding, output_size, 3, out)


def max_unpool3d_backward(dout: np.ndarray, x: np.ndarray, indices: np.ndarray, kernel_size: Size, stride: Size | None = None,
                          padding: Padding = 0, output_size: Size | None = None) -> np.ndarray:
    """dout (..., OD, OH, OW) -> dx (N, C, D, H, W) or (C, D, H, W): what lies at each index."""
    return _unpool_backward(dout, x, indices, 3)


def _unpool(x, indices, kernel_size, stride, padding, output_size, nd, out):
    """Without output_size an axis has (length - 1) * stride + kernel - padding elements."""
    _, result = dtypes(x)
    kernel = per_axis(kernel_size, nd)
    stride = kernel if stride is None else per_axis(stride, nd)
    lead, pads = x.shape[: x.ndim - nd], pads_per_axis(padding, nd)
    sizes = [(length - 1) * s + k - sum(pad) for length, s, k, pad in zip(x.shape[x.ndim - nd :], stride, kernel, pads)]
    if output_size is not None:
        sizes = per_axis(output_size, nd)[-nd:]
    y, n = np.zeros((prod(lead), prod(sizes)), result), prod(x.shape[x.ndim - nd :])
    for plane, values, places in zip(y, x.reshape(prod(lead), n), indices.reshape(prod(lead), n)):
        for value, place in zip(values, places):
            if place >= 0:  # -1: a window that missed the image
                plane[place] = value
    y = y.reshape(*lead, *sizes)
    if out is None:
        return y
    out[...] = y
    return out


def _unpool_backward(dout, x, indices, nd):
    _, result = dtypes(dout, x)
    planes = prod(x.shape[: x.ndim - nd])
    dx = np.zeros((planes, prod(x.shape[x.ndim - nd :])), result)
    for plane, values, places in zip(dx, dout.reshape(planes, prod(dout.shape[x.ndim - nd :])), indices.reshape(dx.shape)):
        for i, place in enumerate(places):
            plane[i] = values[place] if place >= 0 else 0
    return dx.reshape(x.shape)
