"""Maximum and average pooling as plain loops.

Window (i, j) has its taps at rows i*stride - top + p*dilation and columns j*stride - left + q*dilation of the image.
Padding is -inf for the maximum and 0 for the average, so only the taps inside the image are ever looked at.
"""

import numpy as np

from naive.shared import Padding, Pair, batched, deliver, dtypes, output_size, pad_pairs, pair


def max_pool2d(
    x: np.ndarray,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """x (N, C, H, W) -> y (N, C, OH, OW), in x's own dtype, and with return_indices also indices (N, C, OH, OW), int64.

    y[n, c, i, j] = max over p, q of  x[n, c, i*stride - top + p*dilation, j*stride - left + q*dilation]

    indices[n, c, i, j] = h*W + w of the element that won: the first NaN if there is one, else the first maximum in row-major
    order. A window that misses the image altogether (possible with dilation) gives -inf (or the smallest integer) and index -1.
    """
    images = batched(x)
    N, C, H, W = images.shape
    rows, columns, _ = _windows((H, W), kernel_size, stride, padding, dilation, ceil_mode)
    dtype = np.result_type(x)  # x's own, in native byte order
    y = np.full((N, C, len(rows), len(columns)), -np.inf if dtype.kind == "f" else np.iinfo(dtype).min, dtype)
    indices = np.full(y.shape, -1, np.int64)
    for n, c, i, j in np.ndindex(y.shape):
        window = images[n, c][rows[i][:, None], columns[j]]
        if window.size:
            p, q = np.unravel_index(np.argmax(window), window.shape)  # argmax: the first NaN, else the first maximum
            y[n, c, i, j] = window[p, q]
            indices[n, c, i, j] = rows[i][p] * W + columns[j][q]
    y = deliver(y, x.ndim == 4, dtype, out)
    return (y, deliver(indices, x.ndim == 4, np.int64)) if return_indices else y


def max_pool2d_backward(
    dout: np.ndarray,
    x: np.ndarray,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    indices: np.ndarray | None = None,
) -> np.ndarray:
    """dout (N, C, OH, OW) -> dx (N, C, H, W); `indices` of the forward save finding the winners again.

    dx[n, c, h, w] = sum of dout[n, c, i, j] over the windows (i, j) that pixel (h, w) has won
    """
    work, result = dtypes(dout, x)
    if indices is None:
        _, indices = max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode, return_indices=True)
    dy, indices = batched(dout).astype(work), batched(indices)
    N, C, H, W = batched(x).shape

    dx = np.zeros((N, C, H, W), work)
    for n, c, i, j in np.ndindex(dy.shape):
        h, w = divmod(indices[n, c, i, j], W)
        if h >= 0:
            dx[n, c, h, w] += dy[n, c, i, j]
    return deliver(dx, x.ndim == 4, result)


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
    rows, columns, padded = _windows(images.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)

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
    rows, columns, padded = _windows(x.shape[-2:], kernel_size, stride, padding, dilation, ceil_mode)

    dx = np.zeros(batched(x).shape, work)
    for n, c, i, j in np.ndindex(dy.shape):
        window = dx[n, c][rows[i][:, None], columns[j]]
        divisor = _divisor(window, padded[0][i] * padded[1][j], count_include_pad, divisor_override)
        dx[n, c][rows[i][:, None], columns[j]] = window + dy[n, c, i, j] / divisor
    return deliver(dx, x.ndim == 4, result)


def _windows(size, kernel_size, stride, padding, dilation, ceil_mode):
    """rows[i], columns[j]: where the taps of window (i, j) lie inside the image, as arrays of positions.

    padded: per axis, the same windows' number of taps inside the image and its padding.
    """
    kernel, dilation = pair(kernel_size), pair(dilation)
    stride = kernel if stride is None else pair(stride)
    inside, padded = [], []
    for length, k, s, d, pad in zip(size, kernel, stride, dilation, pad_pairs(padding, kernel, dilation)):
        before, after = pad
        starts = np.arange(output_size(length, k, s, pad, d, ceil_mode)) * s - before
        windows = [start + d * np.arange(k) for start in starts]
        inside.append([taps[(taps >= 0) & (taps < length)] for taps in windows])
        padded.append([np.sum(taps < length + after) for taps in windows])
    return *inside, padded


def _divisor(window, padded_taps, count_include_pad, divisor_override):
    if divisor_override is not None:
        return divisor_override
    return padded_taps if count_include_pad else max(window.size, 1)
