"""Convolution, pooling and normalisation for NumPy arrays on the CPU, forward and backward."""
from . import activation, boxes, norm, pool
from .activation import *
from .boxes import *
from .conv import conv2d, conv2d_backward
from .fold import col2im, col2im_backward, im2col, im2col_backward
from .layer import Conv2d
from .network import Network
from .norm import *
from .plan import Plan, get_precision, plan_conv2d, set_precision
from .pool import *
from .runtime import get_num_threads, get_recycling, set_num_threads, set_recycling

__version__ = "0.1.0"

__all__ = [
    *activation.__all__, *boxes.__all__, *norm.__all__, *pool.__all__, "Conv2d", "Network", "Plan", "col2im", "col2im_backward", "conv2d",
    "conv2d_backward", "get_num_threads", "get_precision", "get_recycling", "im2col", "im2col_backward", "plan_conv2d", "set_num_threads",
    "set_precision", "set_recycling",
]
