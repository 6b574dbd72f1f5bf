"""The affine layer and ReLU of CS231n.

An affine layer is a convolution of 1x1: w (D, M) is an image of D channels and M pixels, and each row of x a filter over them. So it is
computed where it is worth it. A product of NumPy would wake the threads of its BLAS, which keep a core busy for 100 ms after it: the
convolutions that follow, on threads of their own, lose a fifth of their speed to that, and much more where other programs run.
"""

from typing import Any

import numpy as np

from .. import activation
from ..conv import conv2d, conv2d_backward
from .promote import promote

__all__ = ["affine_backward", "affine_forward", "relu_backward", "relu_forward"]

Cache = tuple[Any, ...]


def affine_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Cache]:
    """x (N, d1, ..., dk), w (D, M) with D = d1 * ... * dk, b (M,) or (1, M) -> out (N, M), cache (x, w, b)."""
    cache = x, w, b
    x, w, b = promote(x, w, b)
    x = _rows(x, w)
    if _large(x, w):
        out = conv2d(_pixels(w), _filters(x))[0, :, 0]
    else:
        out = x @ w
    out += b.reshape(-1)
    return out, cache


def affine_backward(dout: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dout (N, M) -> dx, dw, db, shaped as x, w, b."""
    x, w, _ = cache
    return affine_input_gradient(dout, x, w), *affine_parameter_gradients(dout, cache)


def affine_input_gradient(dout: np.ndarray, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """dx alone, shaped as x."""
    dout, x, w = promote(dout, x, w)
    if _large(dout, w):
        return conv2d_backward(_pixels(dout), _pixels(w), _filters(_rows(x, w)), None, need=(False, True, False))[1].reshape(x.shape)
    return (dout @ w.T).reshape(x.shape)


def affine_parameter_gradients(dout: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
    """dw and db alone: what the first layer of a network needs."""
    dout, x, w, b = promote(dout, *cache)
    x, db = _rows(x, w), dout.sum(axis=0).reshape(b.shape)
    if _large(x, w):
        return conv2d_backward(_pixels(dout), _pixels(w), _filters(x), None, need=(True, False, False))[0][0, :, 0], db
    return x.T @ dout, db


def relu_forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x of any shape -> max(x, 0), which keeps NaN, and the cache x."""
    return np.maximum(x, 0), x


def relu_backward(dout: np.ndarray, cache: np.ndarray) -> np.ndarray:
    """dout where x > 0 or NaN, else 0; cache: x, or the forward's result, which serves as well."""
    dout, x = np.asarray(dout), np.asarray(cache)
    if dout.shape == x.shape and dout.dtype == x.dtype and dout.dtype in (np.float32, np.float64):
        return activation.relu_backward(dout, x)
    return np.where(x <= 0, np.zeros((), dout.dtype), dout)


def _rows(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """x (N, d1, ..., dk) -> (N, D); also an empty batch knows its D from w."""
    if x.size != len(x) * len(w):
        raise ValueError(f"x has shape {x.shape} and w {w.shape}; wanted: as many rows of w as an example of x has values")
    return x.reshape(len(x), len(w))


def _large(rows: np.ndarray, w: np.ndarray) -> bool:
    """Whether a product of len(rows) * w.size terms is one that BLAS would take several threads for (OpenBLAS: more than 2**18)."""
    return len(rows) * w.size > 2**18 and w.dtype in (np.float32, np.float64)


def _pixels(a: np.ndarray) -> np.ndarray:
    """(K, M) -> one image (1, K, 1, M)."""
    return a[None, :, None]


def _filters(x: np.ndarray) -> np.ndarray:
    """(N, D) -> filters (N, D, 1, 1)."""
    return x[:, :, None, None]
