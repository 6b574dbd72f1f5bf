"""The layers as plain loops: same file names, function names and signatures as `fastconv`, importing only numpy.

These functions are what `fastconv` is proven equal to. They are written to be read, not to be fast, and they check nothing.
Three things hold everywhere and are not repeated:

- `algorithm=` is accepted and ignored, so that a twin can stand in for the other; `out=` is filled and returned.
- dtypes promote as in NumPy, and integers go to float64; float16 is computed in float32 and rounded once.
- x may come with or without its batch axis, (N, C, H, W) or (C, H, W), in other dimensions likewise; the results follow it.
"""

from naive import boxes, norm, pool
from naive.boxes import *
from naive.conv import conv2d, conv2d_backward
from naive.fold import col2im, col2im_backward, im2col, im2col_backward
from naive.norm import *
from naive.pool import *

__all__ = [
    *boxes.__all__, *norm.__all__, *pool.__all__, "col2im", "col2im_backward", "conv2d", "conv2d_backward", "im2col", "im2col_backward",
]
