"""Convolution, pooling and normalisation for NumPy arrays on the CPU, forward and backward."""
from .conv import conv2d, conv2d_backward
from .fold import col2im, col2im_backward, im2col, im2col_backward
from .layer import Conv2d
from .norm import (
    batch_norm,
    batch_norm_backward,
    group_norm,
    group_norm_backward,
    instance_norm,
    instance_norm_backward,
    layer_norm,
    layer_norm_backward,
    rms_norm,
    rms_norm_backward,
)
from .plan import Plan, get_precision, plan_conv2d, set_precision
from .pool import avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward
from .runtime import get_num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "Conv2d", "Plan", "avg_pool2d", "avg_pool2d_backward", "batch_norm", "batch_norm_backward", "col2im", "col2im_backward",
    "conv2d", "conv2d_backward", "get_num_threads", "get_precision", "group_norm", "group_norm_backward", "im2col",
    "im2col_backward", "instance_norm", "instance_norm_backward", "layer_norm", "layer_norm_backward", "max_pool2d",
    "max_pool2d_backward", "plan_conv2d", "rms_norm", "rms_norm_backward", "set_num_threads", "set_precision",
]
