"""The sixteen integers of a 2-D convolution or pooling, and which outputs of a row a tap of the kernel reads inside the image."""
from __future__ import annotations

import numpy as np

from .jit import jit
from .simd import integers

NAMES = ("N", "C", "H", "W", "F", "OH", "OW", "KH", "KW", "SH", "SW", "PT", "PL", "DH", "DW", "G")
SIZES = len(NAMES)


def pack(**sizes: int) -> np.ndarray:
    """The geometry that `unpack` takes apart: every name of NAMES, once."""
    return np.array([sizes[name] for name in NAMES], np.int64)


@jit
def unpack(g):
    """N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G: image, output, kernel, stride, padding before, dilation, groups."""
    return integers(SIZES, g)


@jit
def inside(offset, stride, size, outputs):
    """The outputs lo <= o < hi whose element o * stride + offset lies in 0 .. size - 1."""
    lo = 0 if offset >= 0 else min(outputs, (-offset + stride - 1) // stride)
    hi = 0 if offset >= size else min(outputs, (size - 1 - offset) // stride + 1)
    return lo, max(lo, hi)


@jit
def band_of(t, bands, size):
    """Plane, first and last row of task t where each plane of `size` rows is cut into bands."""
    band = t % bands
    return t // bands, band * size // bands, (band + 1) * size // bands


@jit
def outputs_of(h0, h1, KH, SH, PT, DH, OH):
    """The output rows whose windows touch the input rows h0 .. h1."""
    first, last = OH, 0
    for kh in range(KH):
        lo, hi = inside(kh * DH - PT - h0, SH, h1 - h0, OH)
        if lo < hi:
            first, last = min(first, lo), max(last, hi)
    return first, last
