"""Classical image filters as convolutions: what `fastconv filter` applies to a photograph.

Images are (3, H, W) float32, red green blue, 0 to 255; so are the results, not yet rounded or clipped. The border repeats its last
pixels, so that no dark frame comes in. Kernels are applied as they are printed: nothing is flipped.
"""
from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .conv import conv2d

LUMA = (0.299, 0.587, 0.114)                 # how bright red, green and blue look: ITU-R BT.601
SOBEL = ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))
SHARPEN = ((0, -1, 0), (-1, 5, -1), (0, -1, 0))
EMBOSS = ((-2, -1, 0), (-1, 0, 1), (0, 1, 2))
MIDDLE_GREY = 128                            # of the embossed plate where the picture is flat
SIGMA = 2.0                                  # of the blur, in pixels
LARGEST_KERNEL = 255                         # elements along an axis


def correlate(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Each colour of image (C, H, W) with the kernel (KH, KW), in float32; the result is as large as the image."""
    C, (KH, KW) = image.shape[0], kernel.shape
    top, left = (KH - 1) // 2, (KW - 1) // 2
    padded = np.pad(image, ((0, 0), (top, KH - 1 - top), (left, KW - 1 - left)), mode="edge")
    weight = np.broadcast_to(kernel.astype(np.float32), (C, 1, KH, KW))
    return conv2d(padded, weight, groups=C)


def grey(image: np.ndarray) -> np.ndarray:
    """The brightness of each pixel: a 1x1 convolution over the colours."""
    weight = np.array(LUMA, np.float32).reshape(1, 3, 1, 1)
    return np.repeat(conv2d(image, weight), 3, axis=0)


def edges(image: np.ndarray) -> np.ndarray:
    """How steep the brightness is, after Sobel: 255 at a straight step from black to white."""
    bright, across = grey(image)[:1], np.array(SOBEL) / 4
    return np.repeat(np.hypot(correlate(bright, across), correlate(bright, across.T)), 3, axis=0)


def blur(image: np.ndarray, sigma: float = SIGMA) -> np.ndarray:
    """A Gaussian blur of `sigma` pixels, as a row of weights and then a column."""
    reach = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    return correlate(correlate(image, weights[None]), weights[:, None])


def sharpen(image: np.ndarray) -> np.ndarray:
    """Each pixel away from the mean of its neighbours."""
    return correlate(image, np.array(SHARPEN))


def emboss(image: np.ndarray) -> np.ndarray:
    """A grey plate lit from the top left."""
    return correlate(grey(image), np.array(EMBOSS)) + MIDDLE_GREY


FILTERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "grey": grey, "edges": edges, "blur": blur, "sharpen": sharpen, "emboss": emboss,
}


def read_kernel(text: str) -> np.ndarray:
    """The kernel (KH, KW) that `text` spells, "0 -1 0; -1 5 -1; 0 -1 0", or that stands in the file of this name, a row a line.

    Numbers are parted by spaces or commas, rows by semicolons or ends of lines; a fraction 1/9 is a number. ValueError says what is wrong.
    """
    place = "the kernel"
    if not any(character in text for character in ";,\n") and os.path.isfile(text):
        place = f"the kernel in {text}"
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"cannot read {place}: {error}") from None
    rows = [row.replace(",", " ").split() for line in text.splitlines() for row in line.split("#")[0].split(";")]
    rows = [row for row in rows if row]
    if not rows:
        raise ValueError(f"{place} has no numbers; wanted: rows of numbers, such as '0 -1 0; -1 5 -1; 0 -1 0', or the name of a file with them")
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"{place} has rows of {', '.join(str(len(row)) for row in rows)} numbers; wanted: rows of one length")
    if max(len(rows), len(rows[0])) > LARGEST_KERNEL:
        raise ValueError(f"{place} has {len(rows)} x {len(rows[0])} numbers; wanted: at most {LARGEST_KERNEL} along an axis")
    return np.array([[_number(word, place) for word in row] for row in rows])


def _number(word: str, place: str) -> float:
    over = word.split("/")
    try:
        value = float(over[0]) / float(over[1]) if len(over) == 2 else float(word)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{place} has {word!r}; wanted: numbers, or the name of a file with them") from None
    if not math.isfinite(value) or abs(value) > 1e30:
        raise ValueError(f"{place} has {word!r}; wanted: finite numbers up to 1e30")
    return value
