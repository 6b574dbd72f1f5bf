"""im2col / col2im (torch: unfold / fold) as plain loops: every window of an image as one column, and back.

Row c*KH*KW + p*KW + q of a column is tap (p, q) of channel c; column i*OW + j is the window of output pixel (i, j); L = OH*OW.
"""

import numpy as np

from naive.shared import Padding, Pair, batched, crop, deliver, dtypes, output_size, pad_pairs, pair, taps, zero_pad


def im2col(x: np.ndarray, kernel_size: Pair, dilation: Pair = 1, padding: Padding = 0, stride: Pair = 1, *,
           out: np.ndarray | None = None) -> np.ndarray:
    """x (N, C, H, W) -> cols (N, C*KH*KW, L).

    cols[n, c*KH*KW + p*KW + q, i*OW + j] = xpad[n, c, i*stride + p*dilation, j*stride + q*dilation]
    """
    work, result = dtypes(x)
    images = batched(x).astype(work)
    cols = _gather(images, kernel_size, dilation, padding, stride)
    return deliver(cols, x.ndim == 4, result, out)


def im2col_backward(dout: np.ndarray, x: np.ndarray, kernel_size: Pair, dilation: Pair = 1, padding: Padding = 0,
                    stride: Pair = 1) -> np.ndarray:
    """dout (N, C*KH*KW, L) -> dx (N, C, H, W): each pixel was copied into several columns, so it collects from all of them."""
    work, result = dtypes(dout, x)
    dx = _scatter(batched(dout, 3).astype(work), x.shape[-2:], kernel_size, dilation, padding, stride)
    return deliver(dx, x.ndim == 4, result)


def col2im(cols: np.ndarray, output_size: Pair, kernel_size: Pair, dilation: Pair = 1, padding: Padding = 0, stride: Pair = 1, *,
           out: np.ndarray | None = None) -> np.ndarray:
    """cols (N, C*KH*KW, L), output_size (H, W) -> x (N, C, H, W): what overlaps is added, what falls on padding is dropped.

    xpad[n, c, i*stride + p*dilation, j*stride + q*dilation] += cols[n, c*KH*KW + p*KW + q, i*OW + j]
    """
    work, result = dtypes(cols)
    x = _scatter(batched(cols, 3).astype(work), pair(output_size), kernel_size, dilation, padding, stride)
    return deliver(x, cols.ndim == 3, result, out)


def col2im_backward(dout: np.ndarray, cols: np.ndarray, output_size: Pair, kernel_size: Pair, dilation: Pair = 1, padding: Padding = 0,
                    stride: Pair = 1) -> np.ndarray:
    """dout (N, C, H, W) -> dcols (N, C*KH*KW, L): each column entry was added to one pixel, so it gets that pixel's gradient."""
    work, result = dtypes(dout, cols)
    dcols = _gather(batched(dout).astype(work), kernel_size, dilation, padding, stride)
    return deliver(dcols, cols.ndim == 3, result)


def _gather(images, kernel_size, dilation, padding, stride):
    """images (N, C, H, W) -> cols (N, C*KH*KW, L)."""
    N, C, H, W = images.shape
    (KH, KW), (OH, OW), stride, dilation, pad = _geometry((H, W), kernel_size, dilation, padding, stride)
    xpad = zero_pad(images, pad)
    cols = np.zeros((N, C * KH * KW, OH * OW), images.dtype)
    for n, i, j in np.ndindex(N, OH, OW):
        window = xpad[n, :, taps(i, KH, stride[0], dilation[0]), taps(j, KW, stride[1], dilation[1])]  # (C, KH, KW)
        cols[n, :, i * OW + j] = window.reshape(-1)
    return cols


def _scatter(cols, size, kernel_size, dilation, padding, stride):
    """cols (N, C*KH*KW, L) -> images (N, C, H, W)."""
    (KH, KW), (OH, OW), stride, dilation, pad = _geometry(size, kernel_size, dilation, padding, stride)
    N, C = len(cols), cols.shape[1] // (KH * KW)
    xpad = zero_pad(np.zeros((N, C, *size), cols.dtype), pad)
    for n, i, j in np.ndindex(N, OH, OW):
        column = cols[n, :, i * OW + j].reshape(C, KH, KW)
        xpad[n, :, taps(i, KH, stride[0], dilation[0]), taps(j, KW, stride[1], dilation[1])] += column
    return crop(xpad, pad)


def _geometry(size, kernel_size, dilation, padding, stride):
    """All of it written out per axis: kernel, number of windows, stride, dilation, padding."""
    kernel, stride, dilation = pair(kernel_size), pair(stride), pair(dilation)
    pad = pad_pairs(padding, kernel, dilation)
    windows = [output_size(*axis) for axis in zip(size, kernel, stride, pad, dilation)]
    return kernel, windows, stride, dilation, pad
