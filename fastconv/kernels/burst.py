"""The FMA peak of one core, as a kernel to time."""
from __future__ import annotations

from .jit import jit
from .simd import fma_burst


@jit
def burst(like, n):
    """n steps of simd.CHAINS independent vector multiply-adds in the dtype of `like`."""
    return fma_burst(like, n)
