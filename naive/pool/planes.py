"""Pooling along 1 to 3 axes: every plane is a volume (D, H, W), with length 1 where it has fewer axes."""

import numpy as np

from naive.shared import output_size


def volumes(x: np.ndarray, nd: int) -> np.ndarray:
    """x (N, C, ...) or (C, ...) with nd axes to pool -> (N * C, D, H, W)."""
    return x.reshape(-1, *[1] * (3 - nd), *x.shape[x.ndim - nd :])


def per_axis(value, nd: int) -> tuple:
    """3 -> (3,) * nd; a tuple of nd stays, a tuple of one is repeated."""
    value = (value,) if np.ndim(value) == 0 else tuple(value)
    return value * nd if len(value) == 1 and nd > 1 else value


def pads_per_axis(padding, nd: int) -> tuple:
    """Any spelling of padding -> (before, after) for each of nd axes."""
    if np.ndim(padding) == 2:
        return tuple(tuple(sides) for sides in padding)
    return tuple((size, size) for size in per_axis(padding, nd))


def windows_along(size, kernel_size, stride, padding, dilation, ceil_mode) -> tuple[list, list]:
    """For each axis: the positions that each window has inside the image, and its number of taps inside the image and its padding."""
    nd = len(size)
    kernel, dilation = per_axis(kernel_size, nd), per_axis(dilation, nd)
    stride = kernel if stride is None else per_axis(stride, nd)
    inside, counted = [[np.array([0])]] * (3 - nd), [[1]] * (3 - nd)
    for length, k, s, d, pad in zip(size, kernel, stride, dilation, pads_per_axis(padding, nd)):
        windows = [i * s - pad[0] + d * np.arange(k) for i in range(output_size(length, k, s, pad, d, ceil_mode))]
        inside.append([taps[(taps >= 0) & (taps < length)] for taps in windows])
        counted.append([np.sum(taps < length + pad[1]) for taps in windows])
    return inside, counted


def adaptive_windows(size, output_size) -> list:
    """For each axis: the positions of each window. Window o of O over S elements: from floor(o * S / O) to ceil((o + 1) * S / O)."""
    nd = len(size)
    windows = [[np.array([0])]] * (3 - nd)
    for length, outputs in zip(size, per_axis(output_size, nd)):
        outputs = length if outputs is None else outputs
        windows.append([np.arange(o * length // outputs, -(-(o + 1) * length // outputs)) for o in range(outputs)])
    return windows
