"""CS231n's layers: convolution and max pooling by plain loops (naive), batch normalisation by fastconv.

bn_param has 'mode' ('train' or 'test'), 'eps' (default 1e-5), 'momentum' (0.9), 'running_mean' and 'running_var' (zeros).
Training replaces the last two; the arrays that were there are left as they are:

    running = momentum * running + (1 - momentum) * the batch's own

momentum is the weight of the OLD value, and the variance is the biased one, divided by the number of values: in torch, and in
fastconv.batch_norm, both are the other way round.
"""

import math
from typing import Any

import numpy as np

from .. import twin
from ..norm import batch_norm, batch_norm_backward
from .promote import promote

__all__ = [
    "batchnorm_backward",
    "batchnorm_backward_alt",
    "batchnorm_forward",
    "conv_backward_naive",
    "conv_forward_naive",
    "max_pool_backward_naive",
    "max_pool_forward_naive",
    "spatial_batchnorm_backward",
    "spatial_batchnorm_forward",
]

Cache = tuple[Any, ...]
Gradients = tuple[Any, Any, Any]  # arrays


def conv_forward_naive(x: np.ndarray, w: np.ndarray, b: np.ndarray, conv_param: dict[str, Any]) -> tuple[np.ndarray, Cache]:
    """x (N, C, H, W), w (F, C, HH, WW), b (F,) -> out (N, F, OH, OW), cache; conv_param as in fast_layers."""
    out = twin.naive().conv2d(x, w, b, conv_param["stride"], conv_param["pad"])
    return out, (x, w, b, conv_param)


def conv_backward_naive(dout: np.ndarray, cache: Cache) -> Gradients:
    """dout (N, F, OH, OW) -> dx, dw, db, shaped as x, w, b, from the cache of any convolution."""
    x, w, b, conv_param = cache[:4]
    return twin.naive().conv2d_backward(dout, x, w, b, conv_param["stride"], conv_param["pad"])


def max_pool_forward_naive(x: np.ndarray, pool_param: dict[str, Any]) -> tuple[np.ndarray, Cache]:
    """x (N, C, H, W) -> out (N, C, OH, OW), cache; pool_param as in fast_layers."""
    out = twin.naive().max_pool2d(x, (pool_param["pool_height"], pool_param["pool_width"]), pool_param["stride"])
    return out, (x, pool_param)


def max_pool_backward_naive(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """dout (N, C, OH, OW) -> dx (N, C, H, W), from the cache of any max pooling."""
    x, pool_param = cache[:2]
    return twin.naive().max_pool2d_backward(dout, x, (pool_param["pool_height"], pool_param["pool_width"]), pool_param["stride"])


def batchnorm_forward(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, bn_param: dict[str, Any]) -> tuple[np.ndarray, Cache]:
    """x (N, D), gamma and beta (D,) -> out (N, D), cache; the running averages are stored in bn_param.

    A batch of one row is its own mean, so out is beta; an empty one leaves the averages as they are.
    KeyError: no mode. ValueError: a mode other than train and test, or an x of other rank.
    """
    return _batchnorm_forward(x, gamma, beta, bn_param, "(N, D)")


def spatial_batchnorm_forward(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, bn_param: dict[str, Any]) -> tuple[np.ndarray, Cache]:
    """x (N, C, H, W), gamma and beta (C,) -> out (N, C, H, W), cache: batchnorm_forward with N*H*W values a channel."""
    return _batchnorm_forward(x, gamma, beta, bn_param, "(N, C, H, W)")


def batchnorm_backward(dout: np.ndarray, cache: Cache) -> Gradients:
    """dout like x -> dx like x, dgamma (D,), dbeta (D,), for the mode that the forward ran in: in test mode the averages are constants."""
    x, gamma, beta, own, mean, var, invstd = cache
    dout, x, gamma, beta = promote(dout, x, gamma, beta)
    running = mean.astype(x.dtype, copy=False), var.astype(x.dtype, copy=False)
    mean, invstd = (stat.astype(np.promote_types(x.dtype, np.float32), copy=False) for stat in (mean, invstd))
    several = _values_per_channel(x) > 1
    dx, dgamma, dbeta = batch_norm_backward(dout, x, *running, gamma, beta, own and several, mean=mean, invstd=invstd)
    return dx if several or not own else np.zeros_like(dx), dgamma, dbeta  # x - mean is 0 whatever a lone x


# The course has the gradient derived twice, step by step and as one formula; the formula serves for both, and for images.
batchnorm_backward_alt = batchnorm_backward
spatial_batchnorm_backward = batchnorm_backward


def _batchnorm_forward(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, bn_param: dict[str, Any], axes: str) -> tuple[np.ndarray, Cache]:
    mode, eps, momentum = bn_param["mode"], bn_param.get("eps", 1e-5), bn_param.get("momentum", 0.9)
    if mode not in ("train", "test"):
        raise ValueError(f"bn_param['mode'] is {mode!r}; wanted: 'train' or 'test'")
    if np.ndim(x) != len(axes.split(",")):
        raise ValueError(f"x has shape {np.shape(x)}; wanted: {axes}")
    x, gamma, beta = promote(x, gamma, beta)
    C, m = x.shape[1], _values_per_channel(x)
    running_mean = bn_param.get("running_mean", np.zeros(C, x.dtype))
    running_var = bn_param.get("running_var", np.zeros(C, x.dtype))

    own = mode == "train"
    if own and m > 1:
        # fastconv's momentum is the weight of the new value, so with 1 the statistics it moves become the batch's own.
        mean, var = np.zeros((2, C), x.dtype)
        out, _, invstd = batch_norm(x, mean, var, gamma, beta, True, 1.0, eps, return_stats=True)
        var *= (m - 1) / m
    else:
        mean, var = (x.reshape(C), np.zeros(C, x.dtype)) if own and m == 1 else (running_mean, running_var)
        x, gamma, beta, mean, var = promote(x, gamma, beta, mean, var)
        out, _, invstd = batch_norm(x, mean, var, gamma, beta, eps=eps, return_stats=True)
    if own and m > 0:
        running_mean = momentum * running_mean + (1 - momentum) * mean
        running_var = momentum * running_var + (1 - momentum) * var

    bn_param["running_mean"], bn_param["running_var"] = running_mean, running_var
    return out, (x, gamma, beta, own, mean, var, invstd)


def _values_per_channel(x: np.ndarray) -> int:
    return math.prod(x.shape[2:], start=len(x))
