"""Where the windows of a pooling lie: padding is -inf for the maximum and 0 for the average, so only taps inside the image matter.

Window (i, j) has its taps at rows i*stride - top + p*dilation and columns j*stride - left + q*dilation of the image.
"""

import numpy as np

from naive.shared import output_size, pad_pairs, pair


def windows(size, kernel_size, stride, padding, dilation, ceil_mode):
    """rows[i], columns[j]: where the taps of window (i, j) lie inside the image, as arrays of positions.

    padded: per axis, the same windows' number of taps inside the image and its padding.
    """
    kernel, dilation = pair(kernel_size), pair(dilation)
    stride = kernel if stride is None else pair(stride)
    inside, padded = [], []
    for length, k, s, d, pad in zip(size, kernel, stride, dilation, pad_pairs(padding, kernel, dilation)):
        before, after = pad
        starts = np.arange(output_size(length, k, s, pad, d, ceil_mode)) * s - before
        windows = [start + d * np.arange(k) for start in starts]
        inside.append([taps[(taps >= 0) & (taps < length)] for taps in windows])
        padded.append([np.sum(taps < length + after) for taps in windows])
    return *inside, padded
