"""The layers as plain loops: same file names, function names and signatures as `fastconv`, importing only numpy.

These functions are what `fastconv` is proven equal to. They are written to be read, not to be fast, and they check nothing.
Three things hold everywhere and are not repeated:

- `algorithm=` is accepted and ignored, so that a twin can stand in for the other; `out=` is filled and returned.
- dtypes promote as in NumPy, and integers go to float64; float16 is computed in float32 and rounded once.
- x may come with or without its batch axis, (N, C, H, W) or (C, H, W); the results follow it.
"""

from naive.conv import conv2d, conv2d_backward
from naive.fold import col2im, col2im_backward, im2col, im2col_backward
from naive.norm import (
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
from naive.pool import avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward

__all__ = [
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "col2im",
    "col2im_backward",
    "conv2d",
    "conv2d_backward",
    "group_norm",
    "group_norm_backward",
    "im2col",
    "im2col_backward",
    "instance_norm",
    "instance_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "rms_norm",
    "rms_norm_backward",
]
