"""CS231n's own fast layers rebuilt from their definition, as the baseline of timings: plain NumPy, and the same amount of work.

Convolution: a strided view of the padded image, (C, KH, KW, N, OH, OW), made contiguous is the matrix of all patches, and the layer one
matrix product (GEMM). Backwards two products, and the patches' gradients added back into the image (col2im), which the course does by a
serial loop in Cython: here by Numba (col2im_loop, the same order of loops) or NumPy (col2im_taps). Max pooling: the image reshaped so
that each window has axes of its own.

x (N, C, H, W), w (F, C, KH, KW), b (F,), all of one float dtype and C-contiguous; stride and pad are integers. Nothing is checked.
"""

from collections.abc import Callable

import numba
import numpy as np
from numpy.lib.stride_tricks import as_strided


def conv_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray, stride: int, pad: int) -> tuple[np.ndarray, np.ndarray]:
    """out (N, F, OH, OW), and the patches (C*KH*KW, N*OH*OW) that the backward pass needs."""
    N, C = x.shape[:2]
    F, _, KH, KW = w.shape
    xpad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    OH, OW = (xpad.shape[2] - KH) // stride + 1, (xpad.shape[3] - KW) // stride + 1
    image, channel, row, pixel = xpad.strides
    view = as_strided(xpad, (C, KH, KW, N, OH, OW), (channel, row, pixel, image, stride * row, stride * pixel))
    patches = np.ascontiguousarray(view).reshape(C * KH * KW, N * OH * OW)
    out = w.reshape(F, -1) @ patches + b[:, None]
    return np.ascontiguousarray(out.reshape(F, N, OH, OW).swapaxes(0, 1)), patches


@numba.njit
def col2im_loop(dpatches: np.ndarray, dxpad: np.ndarray, stride: int) -> None:
    """Add dpatches (C, KH, KW, N, OH, OW) into dxpad (N, C, H + 2 pad, W + 2 pad): one thread, one element after the other."""
    C, KH, KW, N, OH, OW = dpatches.shape
    for n in range(N):
        for c in range(C):
            for p in range(KH):
                for q in range(KW):
                    for i in range(OH):
                        for j in range(OW):
                            dxpad[n, c, i * stride + p, j * stride + q] += dpatches[c, p, q, n, i, j]


def col2im_taps(dpatches: np.ndarray, dxpad: np.ndarray, stride: int) -> None:
    """col2im_loop by NumPy: each tap of the kernel adds to all its pixels at once."""
    _, KH, KW, _, OH, OW = dpatches.shape
    for p, q in np.ndindex(KH, KW):
        dxpad[:, :, p : p + stride * OH : stride, q : q + stride * OW : stride] += dpatches[:, p, q].swapaxes(0, 1)


def conv_backward(
    dout: np.ndarray, x: np.ndarray, w: np.ndarray, patches: np.ndarray, stride: int, pad: int, col2im: Callable[..., None] = col2im_loop,
    need_dx: bool = True,
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """dout (N, F, OH, OW) and the forward's patches -> dx, dw, db; None for a dx that is not needed."""
    N, C, H, W = x.shape
    F, _, KH, KW = w.shape
    dy = dout.swapaxes(0, 1).reshape(F, -1)  # (F, N*OH*OW)
    dw, db = (dy @ patches.T).reshape(w.shape), dout.sum(axis=(0, 2, 3))
    if not need_dx:
        return None, dw, db
    dpatches = (w.reshape(F, -1).T @ dy).reshape(C, KH, KW, N, *dout.shape[2:])
    dxpad = np.zeros((N, C, H + 2 * pad, W + 2 * pad), dpatches.dtype)
    col2im(dpatches, dxpad, stride)
    return dxpad[:, :, pad : pad + H, pad : pad + W], dw, db


def max_pool_forward(x: np.ndarray, size: int) -> np.ndarray:
    """out (N, C, H / size, W / size): windows of size x size that tile the image."""
    return _tiles(x, size).max(axis=3).max(axis=4)


def max_pool_backward(dout: np.ndarray, x: np.ndarray, out: np.ndarray, size: int) -> np.ndarray:
    """dx (N, C, H, W): each window's gradient in equal parts to all its elements that are the maximum."""
    tiles = _tiles(x, size)
    winners = tiles == out[:, :, :, None, :, None]
    dtiles = np.zeros_like(tiles)
    dtiles[winners] = np.broadcast_to(dout[:, :, :, None, :, None], tiles.shape)[winners]
    dtiles /= winners.sum(axis=(3, 5), keepdims=True)
    return dtiles.reshape(x.shape)


def _tiles(x: np.ndarray, size: int) -> np.ndarray:
    """A view (N, C, H / size, size, W / size, size)."""
    N, C, H, W = x.shape
    return x.reshape(N, C, H // size, size, W // size, size)
