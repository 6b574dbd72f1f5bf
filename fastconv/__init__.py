"""Convolution, pooling and normalisation for NumPy arrays on the CPU, forward and backward."""
from .boxes import batched_nms, box_convert, box_iou, generalized_box_iou, nms
from .conv import conv2d, conv2d_backward
from .fold import col2im, col2im_backward, im2col, im2col_backward
from .layer import Conv2d
from .norm import batch_norm, batch_norm_backward
from .plan import Plan, get_precision, plan_conv2d, set_precision
from .pool import avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward
from .runtime import get_num_threads, get_recycling, set_num_threads, set_recycling

__version__ = "0.1.0"

__all__ = [
    "Conv2d", "Plan", "avg_pool2d", "avg_pool2d_backward", "batch_norm", "batch_norm_backward", "batched_nms", "box_convert", "box_iou",
    "col2im", "col2im_backward", "conv2d", "conv2d_backward", "generalized_box_iou", "get_num_threads", "get_precision", "get_recycling",
    "im2col", "im2col_backward", "max_pool2d", "max_pool2d_backward", "nms", "plan_conv2d", "set_num_threads", "set_precision", "set_recycling",
]
