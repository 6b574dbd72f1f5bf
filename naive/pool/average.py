"""Average pooling as plain loops."""

import numpy as np

from naive.pool.window import windows
from naive.shared import Padding, Pair, batched, deliver, dtypes


def avg_pool2d(
    x: np.ndarray,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Pair = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """x (N, C, H, W) -> y (N, C, OH, OW).

    y[n, c, i, j] = (sum over p, q of  x[n, c, i*stride - top + p*dilation, j*stride - left + q*dilation]) / divisor

    The divisor counts the window's taps in the image and its padding (but not those that ceil_mode lets stand out further);
    without count_include_pad only those in the image, and the average of none is 0; divisor_override replaces it.
    """
    work, result = dtypes(x)
    images = batched(x).astype(work)
    rows, columns, padded = windows(images.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)

    y = np.zeros((*images.shape[:2], len(rows), len(columns)), work)
    for n, c, i, j in np.ndindex(y.shape):
        window = images[n, c][rows[i][:, None], columns[j]]
        y[n, c, i, j] = np.sum(window) / _divisor(window, padded[0][i] * padded[1][j], count_include_pad, divisor_override)
    return deliver(y, x.ndim == 4, result, out)


def avg_pool2d_backward(
    dout: np.ndarray,
    x: np.ndarray,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Pair = 1,
) -> np.ndarray:
    """dout (N, C, OH, OW) -> dx (N, C, H, W).

    dx[n, c, h, w] = sum of dout[n, c, i, j] / divisor over the windows (i, j) that hold pixel (h, w)
    """
    work, result = dtypes(dout, x)
    dy = batched(dout).astype(work)
    rows, columns, padded = windows(x.shape[-2:], kernel_size, stride, padding, dilation, ceil_mode)

    dx = np.zeros(batched(x).shape, work)
    for n, c, i, j in np.ndindex(dy.shape):
        window = dx[n, c][rows[i][:, None], columns[j]]
        divisor = _divisor(window, padded[0][i] * padded[1][j], count_include_pad, divisor_override)
        dx[n, c][rows[i][:, None], columns[j]] = window + dy[n, c, i, j] / divisor
    return deliver(dx, x.ndim == 4, result)


def _divisor(window, padded_taps, count_include_pad, divisor_override):
    if divisor_override is not None:
        return divisor_override
    return padded_taps if count_include_pad else max(window.size, 1)
