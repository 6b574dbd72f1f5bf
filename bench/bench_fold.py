"""im2col and col2im: plain loops, NumPy (a strided view copied; one addition for each tap) and fastconv."""
from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import fastconv
import naive
from bench.harness import fast, padded, plain, taps


def im2col(x: np.ndarray, kernel_size: tuple[int, int], padding: int, stride: int) -> np.ndarray:
    """x (N, C, H, W) -> (N, C * KH * KW, OH * OW)."""
    windows = sliding_window_view(padded(x, padding), kernel_size, axis=(2, 3))[:, :, ::stride, ::stride]     # (N, C, OH, OW, KH, KW)
    N, C, OH, OW, KH, KW = windows.shape
    return windows.transpose(0, 1, 4, 5, 2, 3).reshape(N, C * KH * KW, OH * OW)


def col2im(cols: np.ndarray, output_size: tuple[int, int], kernel_size: tuple[int, int], padding: int, stride: int) -> np.ndarray:
    """cols (N, C * KH * KW, OH * OW) -> (N, C, H, W)."""
    (H, W), (KH, KW), N = output_size, kernel_size, len(cols)
    OH, OW = (H + 2 * padding - KH) // stride + 1, (W + 2 * padding - KW) // stride + 1
    patches = cols.reshape(N, -1, KH, KW, OH, OW)
    xp = np.zeros((N, patches.shape[1], H + 2 * padding, W + 2 * padding), cols.dtype)
    for i, j, pixels in taps(xp, KH, KW, stride, OH, OW):
        pixels += patches[:, :, i, j]
    return np.ascontiguousarray(xp[:, :, padding : padding + H, padding : padding + W])


def im2col_backward(dout: np.ndarray, x: np.ndarray, kernel_size: tuple[int, int], padding: int, stride: int) -> np.ndarray:
    return col2im(dout, x.shape[2:], kernel_size, padding, stride)


def col2im_backward(
    dout: np.ndarray, cols: np.ndarray, output_size: tuple[int, int], kernel_size: tuple[int, int], padding: int, stride: int
) -> np.ndarray:
    return im2col(dout, kernel_size, padding, stride)


CONTENDERS = {
    function.__name__: {
        "naive": plain(getattr(naive, function.__name__)),
        "numpy": plain(function),
        "fastconv": fast(getattr(fastconv, function.__name__), out=function in (im2col, col2im)),
    }
    for function in (im2col, im2col_backward, col2im, col2im_backward)
}


def test_im2col(race):
    race()


def test_im2col_backward(race):
    race()


def test_col2im(race):
    race()


def test_col2im_backward(race):
    race()
