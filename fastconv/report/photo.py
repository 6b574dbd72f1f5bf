"""Real input: crops of the photograph that ships with matplotlib (Grace Hopper, 600 x 512 pixels, RGB), as arrays of any shape."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["pixels", "read_photo"]


@cache
def read_photo() -> NDArray[np.uint8]:
    """The photograph, (600, 512, 3) uint8."""
    from matplotlib.cbook import get_sample_data  # takes a second to import
    from PIL import Image

    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        return np.asarray(image.convert("RGB"))


def pixels(shape: tuple[int, ...], seed: int) -> NDArray[np.float64]:
    """Pixels of the photograph as a float64 array of this shape, with about zero mean and unit variance; one seed gives one array.

    (N, C, H, W): each channel is one colour (red, green, blue in turn) of a crop at a place of its own, wrapping around at the border.
    (N, C) and (N, C, L): the last axis runs along the rows of the photograph.
    Neighbouring pixels are alike and values repeat, as in the first layers of a network: maxima tie, and sums are of one sign.
    """
    photo = read_photo()
    height, width, colours = photo.shape
    random = np.random.default_rng(seed)
    x = np.empty(shape)
    if len(shape) == 4:
        N, C, H, W = shape
        for n in range(N):
            for c in range(C):
                rows = (random.integers(height) + np.arange(H)) % height
                columns = (random.integers(width) + np.arange(W)) % width
                x[n, c] = photo[rows[:, None], columns, c % colours]
    else:
        lines = x.reshape(-1, shape[-1])
        for number, line in enumerate(lines):
            places = (random.integers(height * width) + np.arange(line.size)) % (height * width)
            line[:] = photo.reshape(-1, colours)[places, number % colours]
    return (x / 255 - 0.45) / 0.27
