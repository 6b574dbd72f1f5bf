"""CS231n's layers, all of them: the names of the rooms beside this file, and convolution and max pooling by plain loops (naive)."""

from typing import Any

import numpy as np

from .. import twin
from .dense import affine_backward, affine_forward, relu_backward, relu_forward
from .dropout import dropout_backward, dropout_forward
from .losses import softmax_loss, svm_loss
from .normalization import (
    batchnorm_backward,
    batchnorm_backward_alt,
    batchnorm_forward,
    layernorm_backward,
    layernorm_forward,
    spatial_batchnorm_backward,
    spatial_batchnorm_forward,
    spatial_groupnorm_backward,
    spatial_groupnorm_forward,
)

__all__ = [
    "affine_backward",
    "affine_forward",
    "batchnorm_backward",
    "batchnorm_backward_alt",
    "batchnorm_forward",
    "conv_backward_naive",
    "conv_forward_naive",
    "dropout_backward",
    "dropout_forward",
    "layernorm_backward",
    "layernorm_forward",
    "max_pool_backward_naive",
    "max_pool_forward_naive",
    "relu_backward",
    "relu_forward",
    "softmax_loss",
    "spatial_batchnorm_backward",
    "spatial_batchnorm_forward",
    "spatial_groupnorm_backward",
    "spatial_groupnorm_forward",
    "svm_loss",
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
