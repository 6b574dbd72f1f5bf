"""Layers of CS231n that come together, as one: the caches of the parts make the cache of the whole.

Each backward returns the gradients in the order of the forward's arrays. Convolutions and pools are the fast ones.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .dense import affine_backward, affine_forward, relu_backward, relu_forward
from .fast_layers import conv_backward_fast, conv_forward_fast, max_pool_backward_fast, max_pool_forward_fast
from .normalization import (
    batchnorm_backward,
    batchnorm_forward,
    layernorm_backward,
    layernorm_forward,
    spatial_batchnorm_backward,
    spatial_batchnorm_forward,
)

__all__ = [
    "affine_bn_relu_backward",
    "affine_bn_relu_forward",
    "affine_ln_relu_backward",
    "affine_ln_relu_forward",
    "affine_relu_backward",
    "affine_relu_forward",
    "conv_bn_relu_backward",
    "conv_bn_relu_forward",
    "conv_relu_backward",
    "conv_relu_forward",
    "conv_relu_pool_backward",
    "conv_relu_pool_forward",
]

Array = np.ndarray
Param = dict[str, Any]
Cache = tuple[Any, ...]


def affine_relu_forward(x: Array, w: Array, b: Array) -> tuple[Array, Cache]:
    """x (N, d1, ..., dk), w (D, M), b (M,) -> out (N, M), cache."""
    a, affine_cache = affine_forward(x, w, b)
    out, relu_cache = relu_forward(a)
    return out, (affine_cache, relu_cache)


def affine_relu_backward(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """dout (N, M) -> dx, dw, db."""
    affine_cache, relu_cache = cache
    return affine_backward(relu_backward(dout, relu_cache), affine_cache)


def affine_bn_relu_forward(x: Array, w: Array, b: Array, gamma: Array, beta: Array, bn_param: Param) -> tuple[Array, Cache]:
    """x (N, d1, ..., dk), w (D, M), b, gamma and beta (M,) -> out (N, M), cache, by way of batch normalisation."""
    return _norm_relu_forward(batchnorm_forward, *affine_forward(x, w, b), gamma, beta, bn_param)


def affine_bn_relu_backward(dout: Array, cache: Cache) -> tuple[Array, ...]:
    """dout (N, M) -> dx, dw, db, dgamma, dbeta."""
    return _norm_relu_backward(batchnorm_backward, affine_backward, dout, cache)


def affine_ln_relu_forward(x: Array, w: Array, b: Array, gamma: Array, beta: Array, ln_param: Param) -> tuple[Array, Cache]:
    """x (N, d1, ..., dk), w (D, M), b, gamma and beta (M,) -> out (N, M), cache, by way of layer normalisation."""
    return _norm_relu_forward(layernorm_forward, *affine_forward(x, w, b), gamma, beta, ln_param)


def affine_ln_relu_backward(dout: Array, cache: Cache) -> tuple[Array, ...]:
    """dout (N, M) -> dx, dw, db, dgamma, dbeta."""
    return _norm_relu_backward(layernorm_backward, affine_backward, dout, cache)


def conv_relu_forward(x: Array, w: Array, b: Array, conv_param: Param) -> tuple[Array, Cache]:
    """x (N, C, H, W), w (F, C, HH, WW), b (F,) -> out (N, F, OH, OW), cache."""
    a, conv_cache = conv_forward_fast(x, w, b, conv_param)
    out, relu_cache = relu_forward(a)
    return out, (conv_cache, relu_cache)


def conv_relu_backward(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """dout (N, F, OH, OW) -> dx, dw, db."""
    conv_cache, relu_cache = cache
    return conv_backward_fast(relu_backward(dout, relu_cache), conv_cache)


def conv_bn_relu_forward(
    x: Array, w: Array, b: Array, gamma: Array, beta: Array, conv_param: Param, bn_param: Param
) -> tuple[Array, Cache]:
    """x (N, C, H, W), w (F, C, HH, WW), b, gamma and beta (F,) -> out (N, F, OH, OW), cache, by way of batch normalisation."""
    return _norm_relu_forward(spatial_batchnorm_forward, *conv_forward_fast(x, w, b, conv_param), gamma, beta, bn_param)


def conv_bn_relu_backward(dout: Array, cache: Cache) -> tuple[Array, ...]:
    """dout (N, F, OH, OW) -> dx, dw, db, dgamma, dbeta."""
    return _norm_relu_backward(spatial_batchnorm_backward, conv_backward_fast, dout, cache)


def conv_relu_pool_forward(x: Array, w: Array, b: Array, conv_param: Param, pool_param: Param) -> tuple[Array, Cache]:
    """x (N, C, H, W), w (F, C, HH, WW), b (F,) -> out (N, F, PH, PW), cache.

    The pool comes before ReLU, which then has fewer elements to see; values and gradients are the same either way.
    """
    a, conv_cache = conv_forward_fast(x, w, b, conv_param)
    pooled, pool_cache = max_pool_forward_fast(a, pool_param)
    out, relu_cache = relu_forward(pooled)
    return out, (conv_cache, pool_cache, relu_cache)


def conv_relu_pool_backward(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """dout (N, F, PH, PW) -> dx, dw, db."""
    conv_cache, pool_cache, relu_cache = cache
    return conv_backward_fast(max_pool_backward_fast(relu_backward(dout, relu_cache), pool_cache), conv_cache)


def _norm_relu_forward(norm: Callable[..., Any], a: Array, cache: Cache, gamma: Array, beta: Array, param: Param) -> tuple[Array, Cache]:
    """Normalisation and ReLU of a, behind the layer that gave a and its cache."""
    normal, norm_cache = norm(a, gamma, beta, param)
    out, relu_cache = relu_forward(normal)
    return out, (cache, norm_cache, relu_cache)


def _norm_relu_backward(norm_backward: Callable[..., Any], backward: Callable[..., Any], dout: Array, cache: Cache) -> tuple[Array, ...]:
    first_cache, norm_cache, relu_cache = cache
    da, dgamma, dbeta = norm_backward(relu_backward(dout, relu_cache), norm_cache)
    return *backward(da, first_cache), dgamma, dbeta
