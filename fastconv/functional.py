"""torch.nn.functional's names for NumPy arrays: `import fastconv.functional as F`."""
from . import activation, norm, pool
from .activation import *
from .conv import conv2d, conv2d_backward
from .fold import col2im as fold
from .fold import col2im_backward as fold_backward
from .fold import im2col as unfold
from .fold import im2col_backward as unfold_backward
from .norm import *
from .pool import *

__all__ = [
    *activation.__all__, *norm.__all__, *pool.__all__, "conv2d", "conv2d_backward", "fold", "fold_backward", "unfold", "unfold_backward",
]
