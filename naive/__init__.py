"""The layers as plain loops: same file names, function names and signatures as `fastconv`, importing only numpy.

These functions are what `fastconv` is proven equal to. They are written to be read, not to be fast, and they check nothing.
Three things hold everywhere and are not repeated:

- `algorithm=` is accepted and ignored, so that a twin can stand in for the other; `out=` is filled and returned.
- dtypes promote as in NumPy, and integers go to float64; float16 is computed in float32 and rounded once.
- x may come with or without its batch axis, (N, C, H, W) or (C, H, W); the results follow it.
"""

from naive.conv import conv2d, conv2d_backward
from naive.fold import col2im, col2im_backward, im2col, im2col_backward
from naive.norm import batch_norm, batch_norm_backward, local_response_norm, local_response_norm_backward
from naive.pool import (
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

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool1d_backward",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "adaptive_avg_pool3d",
    "adaptive_avg_pool3d_backward",
    "adaptive_max_pool1d",
    "adaptive_max_pool1d_backward",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_backward",
    "adaptive_max_pool3d",
    "adaptive_max_pool3d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "col2im",
    "col2im_backward",
    "conv2d",
    "conv2d_backward",
    "im2col",
    "im2col_backward",
    "local_response_norm",
    "local_response_norm_backward",
    "lp_pool1d",
    "lp_pool1d_backward",
    "lp_pool2d",
    "lp_pool2d_backward",
    "lp_pool3d",
    "lp_pool3d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_unpool1d",
    "max_unpool1d_backward",
    "max_unpool2d",
    "max_unpool2d_backward",
    "max_unpool3d",
    "max_unpool3d_backward",
]
