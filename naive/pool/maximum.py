"""Max pooling as plain loops."""

import numpy as np

from naive.pool.window import windows
from naive.shared import Padding, Pair, batched, deliver, dtypes


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
    rows, columns, _ = windows((H, W), kernel_size, stride, padding, dilation, ceil_mode)
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
