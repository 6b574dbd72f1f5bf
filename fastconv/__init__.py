"""Convolution, pooling and normalisation for NumPy arrays on the CPU, forward and backward."""
from .activation import (
    dropout,
    dropout_backward,
    gelu,
    gelu_backward,
    leaky_relu,
    leaky_relu_backward,
    log_softmax,
    log_softmax_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    softmax,
    softmax_backward,
    tanh,
    tanh_backward,
)
from .conv import conv2d, conv2d_backward
from .fold import col2im, col2im_backward, im2col, im2col_backward
from .layer import Conv2d
from .norm import batch_norm, batch_norm_backward, local_response_norm, local_response_norm_backward
from .plan import Plan, get_precision, plan_conv2d, set_precision
from .pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool1d_backward,
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    adaptive_avg_pool3d,
    adaptive_avg_pool3d_backward,
    adaptive_max_pool1d,
    adaptive_max_pool1d_backward,
    adaptive_max_pool2d,
    adaptive_max_pool2d_backward,
    adaptive_max_pool3d,
    adaptive_max_pool3d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    lp_pool1d,
    lp_pool1d_backward,
    lp_pool2d,
    lp_pool2d_backward,
    lp_pool3d,
    lp_pool3d_backward,
    max_pool2d,
    max_pool2d_backward,
    max_unpool1d,
    max_unpool1d_backward,
    max_unpool2d,
    max_unpool2d_backward,
    max_unpool3d,
    max_unpool3d_backward,
)
from .runtime import get_num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "Conv2d", "Plan", "adaptive_avg_pool1d", "adaptive_avg_pool1d_backward", "adaptive_avg_pool2d", "adaptive_avg_pool2d_backward",
    "adaptive_avg_pool3d", "adaptive_avg_pool3d_backward", "adaptive_max_pool1d", "adaptive_max_pool1d_backward", "adaptive_max_pool2d",
    "adaptive_max_pool2d_backward", "adaptive_max_pool3d", "adaptive_max_pool3d_backward", "avg_pool2d", "avg_pool2d_backward",
    "batch_norm", "batch_norm_backward", "col2im", "col2im_backward", "conv2d", "conv2d_backward", "dropout", "dropout_backward", "gelu",
    "gelu_backward", "get_num_threads", "get_precision", "im2col", "im2col_backward", "leaky_relu", "leaky_relu_backward",
    "local_response_norm", "local_response_norm_backward", "log_softmax", "log_softmax_backward", "lp_pool1d", "lp_pool1d_backward",
    "lp_pool2d", "lp_pool2d_backward", "lp_pool3d", "lp_pool3d_backward", "max_pool2d", "max_pool2d_backward", "max_unpool1d",
    "max_unpool1d_backward", "max_unpool2d", "max_unpool2d_backward", "max_unpool3d", "max_unpool3d_backward", "plan_conv2d", "relu",
    "relu_backward", "set_num_threads", "set_precision", "sigmoid", "sigmoid_backward", "softmax", "softmax_backward", "tanh",
    "tanh_backward",
]
