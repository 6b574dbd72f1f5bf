"""The affine layer and ReLU of CS231n."""

from typing import Any

import numpy as np

from .. import activation
from ..product import product
from .promote import promote

__all__ = ["affine_backward", "affine_forward", "relu_backward", "relu_forward"]

Cache = tuple[Any, ...]


def affine_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Cache]:
    """x (N, d1, ..., dk), w (D, M) with D = d1 * ... * dk, b (M,) or (1, M) -> out (N, M), cache (x, w, b)."""
    cache = x, w, b
    x, w, b = promote(x, w, b)
    x = _rows(x, w)
    out = _product(x, w)
    out += b.reshape(-1)
    return out, cache


def affine_backward(dout: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dout (N, M) -> dx, dw, db, shaped as x, w, b."""
    x, w, _ = cache
    return affine_input_gradient(dout, x, w), *affine_parameter_gradients(dout, cache)


def affine_input_gradient(dout: np.ndarray, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """dx alone, shaped as x."""
    dout, x, w = promote(dout, x, w)
    _check_gradient(dout, _rows(x, w), w)
    return _product(dout, w.T).reshape(x.shape)


def affine_parameter_gradients(dout: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
    """dw and db alone: what the first layer of a network needs."""
    dout, x, w, b = promote(dout, *cache)
    x = _rows(x, w)
    _check_gradient(dout, x, w)
    return _product(x.T, dout), dout.sum(axis=0).reshape(b.shape)


def relu_forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x of any shape -> max(x, 0), which keeps NaN, and the cache x."""
    floats = type(x) is np.ndarray and x.dtype in (np.float32, np.float64)
    return activation.relu(x) if floats else np.maximum(x, 0), x


def relu_backward(dout: np.ndarray, cache: np.ndarray) -> np.ndarray:
    """dout where x > 0 or NaN, else 0; cache: x, or the forward's result, which serves as well."""
    dout, x = np.asarray(dout), np.asarray(cache)
    if dout.shape == x.shape and dout.dtype == x.dtype and dout.dtype in (np.float32, np.float64):
        return activation.relu_backward(dout, x)
    return np.where(x <= 0, np.zeros((), dout.dtype), dout)


def _rows(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """x (N, d1, ..., dk) -> (N, D); also an empty batch knows its D from w."""
    if w.ndim != 2 or x.size != len(x) * len(w):
        raise ValueError(f"x has shape {x.shape} and w {w.shape}; wanted: as many rows of w as an example of x has values")
    return x.reshape(len(x), len(w))


def _check_gradient(dout: np.ndarray, x: np.ndarray, w: np.ndarray) -> None:
    if dout.shape != (len(x), w.shape[1]):
        raise ValueError(f"dout has shape {dout.shape}; wanted: {(len(x), w.shape[1])}, the shape of the forward's result")


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b: fastconv's where BLAS would take several threads (OpenBLAS: more than 2**18 terms), which disturb those of the convolutions."""
    large = a.size * b.shape[1] > 2**18 and a.dtype in (np.float32, np.float64)
    return product(a, b) if large else a @ b
