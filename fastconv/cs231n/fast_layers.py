"""Convolution and max pooling of CS231n's fast_layers, computed by fastconv.

Every convolution's cache is (x, w, b, conv_param) and every pool's (x, pool_param), the naive ones' too: any backward takes any
forward's cache, a convolution's even the course's own, which has more behind.
x is (N, C, H, W), w (F, C, HH, WW), b (F,); conv_param has 'stride' and 'pad', pool_param 'pool_height', 'pool_width' and 'stride'.
"""

from typing import Any

import numpy as np

from ..conv import conv2d, conv2d_backward
from ..pool import max_pool2d, max_pool2d_backward
from .promote import promote

__all__ = [
    "conv_backward_fast",
    "conv_backward_im2col",
    "conv_backward_pytorch",
    "conv_backward_strides",
    "conv_forward_fast",
    "conv_forward_im2col",
    "conv_forward_pytorch",
    "conv_forward_strides",
    "max_pool_backward_fast",
    "max_pool_backward_im2col",
    "max_pool_backward_reshape",
    "max_pool_forward_fast",
    "max_pool_forward_im2col",
    "max_pool_forward_reshape",
]

Cache = tuple[Any, ...]
Gradients = tuple[Any, Any, Any]  # arrays; None where an argument was None


def conv_forward_fast(x: np.ndarray, w: np.ndarray, b: np.ndarray, conv_param: dict[str, Any]) -> tuple[np.ndarray, Cache]:
    """out (N, F, OH, OW), and the cache; the algorithm is fastconv's choice. OH = (H + 2 pad - HH) // stride + 1."""
    return _conv_forward(x, w, b, conv_param, "auto")


def conv_backward_fast(dout: np.ndarray, cache: Cache) -> Gradients:
    """dout (N, F, OH, OW) -> dx, dw, db, shaped as x, w, b."""
    return _conv_backward(dout, cache, "auto")


def conv_forward_im2col(x: np.ndarray, w: np.ndarray, b: np.ndarray, conv_param: dict[str, Any]) -> tuple[np.ndarray, Cache]:
    """conv_forward_fast, always by im2col and a matrix product."""
    return _conv_forward(x, w, b, conv_param, "im2col")


def conv_backward_im2col(dout: np.ndarray, cache: Cache) -> Gradients:
    """conv_backward_fast, always by matrix products and col2im."""
    return _conv_backward(dout, cache, "im2col")


def conv_parameter_gradients(dout: np.ndarray, cache: Cache) -> tuple[Any, Any]:
    """dw and db alone: what the first layer of a network needs."""
    return _conv_backward(dout, cache, "auto", need=(False, True, True))[1:]


def max_pool_forward_fast(x: np.ndarray, pool_param: dict[str, Any]) -> tuple[np.ndarray, Cache]:
    """out (N, C, OH, OW) in x's dtype, and the cache. OH = (H - pool_height) // stride + 1; NaN wins."""
    out = max_pool2d(np.asarray(x), _window(pool_param), pool_param["stride"])
    return out, (x, pool_param)


def max_pool_backward_fast(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """dout (N, C, OH, OW) -> dx (N, C, H, W): each window's gradient goes to the first of its largest elements."""
    x, pool_param = cache[:2]
    x = np.asarray(x)
    dout, floats = promote(dout, x)
    x = x if x.dtype.kind in "iu" else floats  # large integers would tie as floats
    return max_pool2d_backward(dout, x, _window(pool_param), pool_param["stride"])


# What tells these variants apart in the course is how NumPy is made to do the work; here one kernel does it for all windows.
conv_forward_strides, conv_backward_strides = conv_forward_im2col, conv_backward_im2col
conv_forward_pytorch, conv_backward_pytorch = conv_forward_fast, conv_backward_fast
max_pool_forward_reshape, max_pool_backward_reshape = max_pool_forward_fast, max_pool_backward_fast
max_pool_forward_im2col, max_pool_backward_im2col = max_pool_forward_fast, max_pool_backward_fast


def _conv_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray, conv_param: dict[str, Any], algorithm: str) -> tuple[np.ndarray, Cache]:
    cache = x, w, b, conv_param
    x, w, b = promote(x, w, b)
    return conv2d(x, w, b, conv_param["stride"], conv_param["pad"], algorithm=algorithm), cache


def _conv_backward(dout: np.ndarray, cache: Cache, algorithm: str, **need: tuple[bool, bool, bool]) -> Gradients:
    x, w, b, conv_param = cache[:4]
    dout, x, w, b = promote(dout, x, w, b)
    return conv2d_backward(dout, x, w, b, conv_param["stride"], conv_param["pad"], algorithm=algorithm, **need)


def _window(pool_param: dict[str, Any]) -> tuple[int, int]:
    return pool_param["pool_height"], pool_param["pool_width"]
