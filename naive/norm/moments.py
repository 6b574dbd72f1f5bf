"""Mean and variance, which every normalisation here but the RMS one begins with."""

import numpy as np


def moments(values: np.ndarray) -> tuple[np.floating, np.floating]:
    """The mean of all values, and their variance, divided by their number.

    mean = sum(values) / m        var = sum((values - mean) ** 2) / m

    Where all values are alike, values - mean is nothing but the rounding of the mean, and invstd makes up to 316 times as much
    of it (eps 1e-5). So the mean of what is left, which should be none, is added to the mean.
    """
    m = max(values.size, 1)
    mean = np.sum(values) / m
    if np.isfinite(mean):
        mean += np.sum(values - mean) / m
    return mean, np.sum((values - mean) ** 2) / m
