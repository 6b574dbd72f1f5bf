"""torch.nn.functional's names for NumPy arrays: `import fastconv.functional as F`."""
from .conv import conv2d, conv2d_backward
from .fold import col2im as fold
from .fold import col2im_backward as fold_backward
from .fold import im2col as unfold
from .fold import im2col_backward as unfold_backward
from .norm import batch_norm, batch_norm_backward
from .pool import (
    avg_pool1d,
    avg_pool1d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    avg_pool3d,
    avg_pool3d_backward,
    max_pool1d,
    max_pool1d_backward,
    max_pool2d,
    max_pool2d_backward,
    max_pool3d,
    max_pool3d_backward,
)

__all__ = [
    "avg_pool1d", "avg_pool1d_backward", "avg_pool2d", "avg_pool2d_backward", "avg_pool3d", "avg_pool3d_backward", "batch_norm",
    "batch_norm_backward", "conv2d", "conv2d_backward", "fold", "fold_backward", "max_pool1d", "max_pool1d_backward", "max_pool2d",
    "max_pool2d_backward", "max_pool3d", "max_pool3d_backward", "unfold", "unfold_backward",
]
