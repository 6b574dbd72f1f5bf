"""torch.nn.functional's names for NumPy arrays: `import fastconv.functional as F`."""
from .conv import conv2d, conv2d_backward
from .fold import col2im as fold
from .fold import col2im_backward as fold_backward
from .fold import im2col as unfold
from .fold import im2col_backward as unfold_backward
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
from .pool import avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward

__all__ = [
    "avg_pool2d", "avg_pool2d_backward", "batch_norm", "batch_norm_backward", "conv2d", "conv2d_backward", "fold", "fold_backward",
    "group_norm", "group_norm_backward", "instance_norm", "instance_norm_backward", "layer_norm", "layer_norm_backward",
    "max_pool2d", "max_pool2d_backward", "rms_norm", "rms_norm_backward", "unfold", "unfold_backward",
]
