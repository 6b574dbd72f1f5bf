"""The truth at full size: each operation in plain NumPy, one step for each tap of the kernel, a matrix product (GEMM) for convolutions.

The naive loops are too slow for a whole layer, so there fast results are compared with these, in float64. A convolution is the im2col
product cut by taps: for each (i, j) of the kernel, the pixels under that tap times the weights of that tap. Nothing here comes from
fastconv or naive. Arguments have fastconv's names; stride and padding are integers, as in the layer tables. All arrays are float64 and
(N, C, H, W) unless said otherwise.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def _pad(x: Array, padding: int, value: float = 0.0) -> Array:
    return np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), constant_values=value)


def _size(x: Array, KH: int, KW: int, stride: int, padding: int) -> tuple[int, int]:
    return (x.shape[2] + 2 * padding - KH) // stride + 1, (x.shape[3] + 2 * padding - KW) // stride + 1


def _taps(xp: Array, KH: int, KW: int, stride: int, OH: int, OW: int) -> Iterator[tuple[int, int, Array]]:
    """(i, j, view of the padded input under tap (i, j)): views of shape (N, C, OH, OW), to read or to add to."""
    for i in range(KH):
        for j in range(KW):
            yield i, j, xp[:, :, i : i + stride * OH : stride, j : j + stride * OW : stride][:, :, :OH, :OW]


def _grouped(x: Array, groups: int) -> Array:
    """(N, C, OH, OW) -> (N, groups, C / groups, OH * OW)."""
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, -1)


def conv2d(x: Array, weight: Array, bias: Array, stride: int, padding: int, groups: int) -> Array:
    F, _, KH, KW = weight.shape
    OH, OW = _size(x, KH, KW, stride, padding)
    w = weight.reshape(groups, F // groups, -1, KH, KW)
    y = np.zeros((x.shape[0], groups, F // groups, OH * OW))
    for i, j, pixels in _taps(_pad(x, padding), KH, KW, stride, OH, OW):
        y += w[..., i, j] @ _grouped(pixels, groups)
    return y.reshape(-1, F, OH, OW) + bias[:, None, None]


def conv2d_backward(
    dout: Array, x: Array, weight: Array, bias: Array, stride: int, padding: int, groups: int
) -> tuple[Array, Array, Array]:
    F, _, KH, KW = weight.shape
    N, C, H, W = x.shape
    OH, OW = dout.shape[2:]
    w = weight.reshape(groups, F // groups, -1, KH, KW)
    dy = _grouped(dout, groups)
    dxp = _pad(np.zeros_like(x), padding)
    dw = np.empty_like(w)
    taps = zip(_taps(_pad(x, padding), KH, KW, stride, OH, OW), _taps(dxp, KH, KW, stride, OH, OW), strict=True)
    for (i, j, pixels), (_, _, gradient) in taps:
        dw[..., i, j] = (dy @ _grouped(pixels, groups).swapaxes(2, 3)).sum(axis=0)
        gradient += (w[..., i, j].swapaxes(1, 2) @ dy).reshape(N, C, OH, OW)
    return dxp[:, :, padding : padding + H, padding : padding + W], dw.reshape(weight.shape), dout.sum(axis=(0, 2, 3))


def im2col(x: Array, kernel_size: tuple[int, int], padding: int, stride: int) -> Array:
    """(N, C, H, W) -> (N, C * KH * KW, OH * OW)."""
    KH, KW = kernel_size
    N, C = x.shape[:2]
    OH, OW = _size(x, KH, KW, stride, padding)
    cols = np.empty((N, C, KH, KW, OH, OW))
    for i, j, pixels in _taps(_pad(x, padding), KH, KW, stride, OH, OW):
        cols[:, :, i, j] = pixels
    return cols.reshape(N, C * KH * KW, OH * OW)


def col2im(cols: Array, output_size: tuple[int, int], kernel_size: tuple[int, int], padding: int, stride: int) -> Array:
    """(N, C * KH * KW, OH * OW) -> (N, C, H, W): every column is added to where im2col took it from."""
    KH, KW = kernel_size
    N, C = cols.shape[0], cols.shape[1] // (KH * KW)
    H, W = output_size
    x = _pad(np.zeros((N, C, H, W)), padding)
    OH, OW = (H + 2 * padding - KH) // stride + 1, (W + 2 * padding - KW) // stride + 1
    patches = cols.reshape(N, C, KH, KW, OH, OW)
    for i, j, pixels in _taps(x, KH, KW, stride, OH, OW):
        pixels += patches[:, :, i, j]
    return x[:, :, padding : padding + H, padding : padding + W]


def im2col_backward(dout: Array, x: Array, kernel_size: tuple[int, int], padding: int, stride: int) -> Array:
    return col2im(dout, x.shape[2:], kernel_size, padding, stride)


def col2im_backward(
    dout: Array, cols: Array, output_size: tuple[int, int], kernel_size: tuple[int, int], padding: int, stride: int
) -> Array:
    return im2col(dout, kernel_size, padding, stride)


def max_pool2d(x: Array, kernel_size: tuple[int, int], stride: int, padding: int) -> Array:
    KH, KW = kernel_size
    OH, OW = _size(x, KH, KW, stride, padding)
    y = np.full((*x.shape[:2], OH, OW), -np.inf)
    for _, _, pixels in _taps(_pad(x, padding, -np.inf), KH, KW, stride, OH, OW):
        np.maximum(y, pixels, out=y)
    return y


def max_pool2d_backward(dout: Array, x: Array, kernel_size: tuple[int, int], stride: int, padding: int) -> Array:
    """dout goes to the first tap, row by row, that holds the maximum."""
    KH, KW = kernel_size
    H, W = x.shape[2:]
    OH, OW = dout.shape[2:]
    y = max_pool2d(x, kernel_size, stride, padding)
    left = np.ones(dout.shape, bool)
    dxp = _pad(np.zeros_like(x), padding)
    taps = zip(_taps(_pad(x, padding, -np.inf), KH, KW, stride, OH, OW), _taps(dxp, KH, KW, stride, OH, OW), strict=True)
    for (_, _, pixels), (_, _, gradient) in taps:
        first = left & (pixels == y)
        gradient += np.where(first, dout, 0)
        left &= ~first
    return dxp[:, :, padding : padding + H, padding : padding + W]


def avg_pool2d(x: Array, kernel_size: tuple[int, int], stride: int, padding: int) -> Array:
    KH, KW = kernel_size
    OH, OW = _size(x, KH, KW, stride, padding)
    y = np.zeros((*x.shape[:2], OH, OW))
    for _, _, pixels in _taps(_pad(x, padding), KH, KW, stride, OH, OW):
        y += pixels
    return y / (KH * KW)


def avg_pool2d_backward(dout: Array, x: Array, kernel_size: tuple[int, int], stride: int, padding: int) -> Array:
    KH, KW = kernel_size
    H, W = x.shape[2:]
    dxp = _pad(np.zeros_like(x), padding)
    for _, _, gradient in _taps(dxp, KH, KW, stride, *dout.shape[2:]):
        gradient += dout / (KH * KW)
    return dxp[:, :, padding : padding + H, padding : padding + W]


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    """Twice over: of values that are all alike nothing but the rounding of the mean is left, and invstd makes it 316 times as large."""
    mean: Array = x.mean(axis=axes, keepdims=True)
    return mean + (x - mean).mean(axis=axes, keepdims=True)


def _statistics(x: Array, running_mean: Array, running_var: Array, training: bool) -> tuple[tuple[int, ...], Array, Array]:
    """The axes that are averaged over, and mean and variance that normalise, shaped to broadcast over x."""
    axes = (0, *range(2, x.ndim))
    if training:
        return axes, _mean(x, axes), x.var(axis=axes, keepdims=True)
    shape = (1, -1, *(1,) * (x.ndim - 2))
    return axes, running_mean.reshape(shape), running_var.reshape(shape)


def batch_norm(x: Array, running_mean: Array, running_var: Array, weight: Array, bias: Array, training: bool) -> Array:
    """x is (N, C, H, W) or (N, C). momentum 0.1 and eps 1e-5, the defaults; running_mean and running_var are updated when training."""
    _, mean, var = _statistics(x, running_mean, running_var, training)
    y = (x - mean) / np.sqrt(var + 1e-5) * weight.reshape(mean.shape) + bias.reshape(mean.shape)
    if training:
        count = x.size // x.shape[1]
        running_mean += 0.1 * (mean.ravel() - running_mean)
        running_var += 0.1 * (var.ravel() * count / (count - 1) - running_var)
    return y


def batch_norm_backward(
    dout: Array, x: Array, running_mean: Array, running_var: Array, weight: Array, bias: Array, training: bool
) -> tuple[Array, Array, Array]:
    axes, mean, var = _statistics(x, running_mean, running_var, training)
    invstd = 1 / np.sqrt(var + 1e-5)
    xhat = (x - mean) * invstd
    dweight, dbias = (dout * xhat).sum(axis=axes), dout.sum(axis=axes)
    dx = dout
    if training:
        dx = dout - dout.mean(axis=axes, keepdims=True) - xhat * (dout * xhat).mean(axis=axes, keepdims=True)
    return dx * invstd * weight.reshape(mean.shape), dweight, dbias


def _normalised(x: Array, axes: tuple[int, ...], mean: bool) -> tuple[Array, Array]:
    """x without its mean, in units of its deviation, both taken over the axes, and one over that deviation. eps 1e-5, the default."""
    centred = x - _mean(x, axes) if mean else x
    inverse = 1 / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + 1e-5)
    return centred * inverse, inverse


def _normalised_backward(dxhat: Array, x: Array, axes: tuple[int, ...], mean: bool) -> tuple[Array, Array]:
    """The gradient to x, and x normalised."""
    xhat, inverse = _normalised(x, axes, mean)
    dx = dxhat - xhat * (dxhat * xhat).mean(axis=axes, keepdims=True)
    return (dx - dxhat.mean(axis=axes, keepdims=True) if mean else dx) * inverse, xhat


def group_norm(x: Array, num_groups: int, weight: Array, bias: Array) -> Array:
    xhat, _ = _normalised(x.reshape(len(x), num_groups, -1), (2,), True)
    return xhat.reshape(x.shape) * weight[:, None, None] + bias[:, None, None]


def group_norm_backward(dout: Array, x: Array, num_groups: int, weight: Array, bias: Array) -> tuple[Array, Array, Array]:
    shape = (len(x), num_groups, -1)
    dx, xhat = _normalised_backward((dout * weight[:, None, None]).reshape(shape), x.reshape(shape), (2,), True)
    return dx.reshape(x.shape), (dout * xhat.reshape(x.shape)).sum(axis=(0, 2, 3)), dout.sum(axis=(0, 2, 3))


def instance_norm(x: Array, running_mean: None, running_var: None, weight: Array, bias: Array) -> Array:
    return group_norm(x, x.shape[1], weight, bias)


def instance_norm_backward(
    dout: Array, x: Array, running_mean: None, running_var: None, weight: Array, bias: Array
) -> tuple[Array, Array, Array]:
    return group_norm_backward(dout, x, x.shape[1], weight, bias)


def layer_norm(x: Array, normalized_shape: tuple[int], weight: Array, bias: Array) -> Array:
    return _normalised(x, (1,), True)[0] * weight + bias


def layer_norm_backward(dout: Array, x: Array, normalized_shape: tuple[int], weight: Array, bias: Array) -> tuple[Array, Array, Array]:
    dx, xhat = _normalised_backward(dout * weight, x, (1,), True)
    return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)


def rms_norm(x: Array, normalized_shape: tuple[int], weight: Array, eps: float) -> Array:
    return _normalised(x, (1,), False)[0] * weight


def rms_norm_backward(dout: Array, x: Array, normalized_shape: tuple[int], weight: Array, eps: float) -> tuple[Array, Array]:
    dx, xhat = _normalised_backward(dout * weight, x, (1,), False)
    return dx, (dout * xhat).sum(axis=0)
