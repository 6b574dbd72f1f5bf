"""Where the windows of a pooling lie: padding is -inf for the maximum and 0 for the average, so only taps inside the image matter.

Along each axis, tap p of window i lies at i*stride - before + p*dilation of the image.
"""

import numpy as np

from naive.shared import output_size

Each = int | tuple[int, ...]  # one for all axes, or one for each
Padding = int | tuple[int, ...] | tuple[tuple[int, int], ...]


class Windows:
    """The windows of x (N, C, *sizes) or (C, *sizes), with `nd` sizes.

    sizes: how many windows lie along each axis. `inside` and `padded` take the index of a window, one integer an axis.
    """

    def __init__(self, nd, x, kernel_size, stride, padding, dilation, ceil_mode):
        kernel, dilation = each(kernel_size, nd), each(dilation, nd)
        stride = kernel if stride is None else each(stride, nd)
        pads = tuple(each(sides, 2) for sides in each(padding, nd))
        self.inside_taps, self.padded_taps = [], []  # of each axis, of each window
        for length, k, s, d, (before, after) in zip(x.shape[-nd:], kernel, stride, dilation, pads):
            count = output_size(length, k, s, (before, after), d, ceil_mode)
            taps = [i * s - before + d * np.arange(k) for i in range(count)]
            self.inside_taps.append([t[(t >= 0) & (t < length)] for t in taps])
            self.padded_taps.append([np.sum(t < length + after) for t in taps])
        self.sizes = tuple(len(taps) for taps in self.inside_taps)

    def inside(self, window):
        """Where the window's taps lie inside the image: an index that picks them all out of one plane (or volume)."""
        return np.ix_(*[taps[i] for taps, i in zip(self.inside_taps, window)])

    def padded(self, window):
        """How many taps the window has inside the image and its padding."""
        return np.prod([counts[i] for counts, i in zip(self.padded_taps, window)])


def each(value, nd):
    """3 -> (3, 3); (3,) -> (3, 3); (3, 5) and ((1, 2), (0, 1)) stay."""
    value = (value,) if np.ndim(value) == 0 else tuple(value)
    return value * nd if len(value) == 1 else value
