"""The affine layer and ReLU of CS231n."""

from typing import Any

import numpy as np

from .promote import promote

__all__ = ["affine_backward", "affine_forward", "relu_backward", "relu_forward"]

Cache = tuple[Any, ...]


def affine_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Cache]:
    """x (N, d1, ..., dk), w (D, M) with D = d1 * ... * dk, b (M,) or (1, M) -> out (N, M), cache (x, w, b)."""
    cache = x, w, b
    x, w, b = promote(x, w, b)
    out = _rows(x, w) @ w
    out += b.reshape(-1)
    return out, cache


def affine_backward(dout: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dout (N, M) -> dx, dw, db, shaped as x, w, b."""
    x, w, _ = cache
    return affine_input_gradient(dout, x, w), *affine_parameter_gradients(dout, cache)


def affine_input_gradient(dout: np.ndarray, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """dx alone, shaped as x."""
    dout, x, w = promote(dout, x, w)
    return (dout @ w.T).reshape(x.shape)


def affine_parameter_gradients(dout: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
    """dw and db alone: what the first layer of a network needs."""
    dout, x, w, b = promote(dout, *cache)
    return _rows(x, w).T @ dout, dout.sum(axis=0).reshape(b.shape)


def relu_forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x of any shape -> max(x, 0), which keeps NaN, and the cache x."""
    return np.maximum(x, 0), x


def relu_backward(dout: np.ndarray, cache: np.ndarray) -> np.ndarray:
    """dout where x > 0, else 0; cache: x, or the forward's result, which is positive at the same places."""
    return np.where(np.asarray(cache) > 0, dout, np.zeros((), np.asarray(dout).dtype))


def _rows(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """x (N, d1, ..., dk) -> (N, D); also an empty batch knows its D from w."""
    if x.size != len(x) * len(w):
        raise ValueError(f"x has shape {x.shape} and w {w.shape}; wanted: as many rows of w as an example of x has values")
    return x.reshape(len(x), len(w))
