"""The sizes of one 2-D convolution, all that a blocking looks at."""
from __future__ import annotations

from typing import NamedTuple

from ..kernels.past import PAST as PAST_BYTES
from ..kernels.simd_tiles import PAST, RELU


class Shape(NamedTuple):
    """Image, filters, result, kernel, stride, padding before, dilation, groups, and bytes of an element."""

    N: int
    C: int
    H: int
    W: int
    F: int
    OH: int
    OW: int
    KH: int
    KW: int
    SH: int
    SW: int
    PT: int
    PL: int
    DH: int
    DW: int
    G: int
    size: int

    @property
    def flops(self) -> int:
        """Of the forward pass: two for each multiply-add, padding included."""
        return 2 * self.N * self.F * self.OH * self.OW * (self.C // self.G) * self.KH * self.KW

    def flags(self, results: int, relu: bool = False) -> int:
        """What is done to so many results where they are written: past the caches, where those do not hold them and as much that they are made of."""
        return (RELU if relu else 0) | (PAST if 2 * results * self.size >= PAST_BYTES else 0)

    @property
    def meets(self) -> bool:
        """Of stride and dilation 1: whether each window reaches into the image, along axes of more than one tap. A tile of gradients mixes those of
        neighbouring windows, and some of padding alone count for nothing."""
        return ((self.KH == 1 or (self.PT < self.KH and self.OH <= self.H + self.PT))
                and (self.KW == 1 or (self.PL < self.KW and self.OW <= self.W + self.PL)))
