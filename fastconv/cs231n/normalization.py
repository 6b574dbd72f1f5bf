"""Batch, layer and group normalisation of CS231n, for features (N, D) and images (N, C, H, W).

bn_param has 'mode' ('train' or 'test'), 'eps' (default 1e-5), 'momentum' (0.9), 'running_mean' and 'running_var' (zeros).
Training replaces the last two; the arrays that were there are left as they are:

    running = momentum * running + (1 - momentum) * the batch's own

momentum is the weight of the OLD value, and the variance is the biased one, divided by the number of values: in torch, and in
fastconv.batch_norm, both are the other way round. ln_param and gn_param have 'eps' (1e-5).

gamma and beta have one value a channel in any shape, (C,), (1, C) or (1, C, 1, 1); their gradients come in the same shape.
"""

import math
from typing import Any

import numpy as np

from ..norm import batch_norm, batch_norm_backward, group_norm, group_norm_backward
from .promote import promote

__all__ = [
    "batchnorm_backward",
    "batchnorm_backward_alt",
    "batchnorm_forward",
    "layernorm_backward",
    "layernorm_forward",
    "spatial_batchnorm_backward",
    "spatial_batchnorm_forward",
    "spatial_groupnorm_backward",
    "spatial_groupnorm_forward",
]

Cache = tuple[Any, ...]
Gradients = tuple[Any, Any, Any]  # arrays


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
    flat = gamma.reshape(-1), beta.reshape(-1)
    dx, dgamma, dbeta = batch_norm_backward(dout, x, *running, *flat, own and several, mean=mean, invstd=invstd)
    dx = dx if several or not own else np.zeros_like(dx)  # x - mean is 0 whatever a lone x
    return dx, dgamma.reshape(gamma.shape), dbeta.reshape(beta.shape)


def layernorm_forward(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, ln_param: dict[str, Any]) -> tuple[np.ndarray, Cache]:
    """x (N, D), gamma and beta (D,) -> out (N, D), cache: each example by its own mean and variance, whatever the mode."""
    if np.ndim(x) != 2:
        raise ValueError(f"x has shape {np.shape(x)}; wanted: (N, D)")
    return _groupnorm_forward(x, gamma, beta, 1, ln_param)


def spatial_groupnorm_forward(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, G: int, gn_param: dict[str, Any]
) -> tuple[np.ndarray, Cache]:
    """x (N, C, H, W), gamma and beta (1, C, 1, 1) -> out (N, C, H, W), cache: each of G groups of channels of each image by itself.

    ValueError: G does not divide C, or x of other rank.
    """
    if np.ndim(x) != 4:
        raise ValueError(f"x has shape {np.shape(x)}; wanted: (N, C, H, W)")
    return _groupnorm_forward(x, gamma, beta, G, gn_param)


def layernorm_backward(dout: np.ndarray, cache: Cache) -> Gradients:
    """dout like x -> dx like x, dgamma and dbeta like gamma and beta."""
    return _groupnorm_backward(dout, cache)


# The course has the gradient derived twice, step by step and as one formula; the formula serves for both, and for images.
batchnorm_backward_alt = batchnorm_backward
spatial_batchnorm_backward = batchnorm_backward
spatial_groupnorm_backward = layernorm_backward


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
        out, _, invstd = batch_norm(x, mean, var, gamma.reshape(-1), beta.reshape(-1), True, 1.0, eps, return_stats=True)
        var *= (m - 1) / m
    else:
        mean, var = (x.reshape(C), np.zeros(C, x.dtype)) if own and m == 1 else (running_mean, running_var)
        x, gamma, beta, mean, var = promote(x, gamma, beta, mean, var)
        out, _, invstd = batch_norm(x, mean, var, gamma.reshape(-1), beta.reshape(-1), eps=eps, return_stats=True)
    if own and m > 0:
        running_mean = momentum * running_mean + (1 - momentum) * mean
        running_var = momentum * running_var + (1 - momentum) * var

    bn_param["running_mean"], bn_param["running_var"] = running_mean, running_var
    return out, (x, gamma, beta, own, mean, var, invstd)


def _values_per_channel(x: np.ndarray) -> int:
    return math.prod(x.shape[2:], start=len(x))


def _groupnorm_forward(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, G: int, param: dict[str, Any]) -> tuple[np.ndarray, Cache]:
    x, gamma, beta = promote(x, gamma, beta)
    C, eps = x.shape[1], param.get("eps", 1e-5)
    if G < 1 or C % G:
        raise ValueError(f"G is {G}; wanted: a divisor of the {C} channels of x")
    if x.size == G:  # one value, its own mean, is what group_norm refuses
        column = (C, *[1] * (x.ndim - 2))
        return (x - x) * gamma.reshape(column) + beta.reshape(column), (x, gamma, beta, G, eps, None, None)
    out, mean, invstd = group_norm(x, G, gamma.reshape(-1), beta.reshape(-1), eps, return_stats=True)
    return out, (x, gamma, beta, G, eps, mean, invstd)


def _groupnorm_backward(dout: np.ndarray, cache: Cache) -> Gradients:
    x, gamma, beta, G, eps, mean, invstd = cache
    dout, x, gamma, beta = promote(dout, x, gamma, beta)
    if mean is None:
        return np.zeros_like(x), np.zeros_like(gamma), dout.reshape(beta.shape).copy()
    mean, invstd = (stat.astype(np.promote_types(x.dtype, np.float32), copy=False) for stat in (mean, invstd))
    dx, dgamma, dbeta = group_norm_backward(dout, x, G, gamma.reshape(-1), beta.reshape(-1), eps, mean=mean, invstd=invstd)
    return dx, dgamma.reshape(gamma.shape), dbeta.reshape(beta.shape)
