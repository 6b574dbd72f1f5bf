"""Windows: the part of an image that a block of outputs reads, copied once with its padding, so that no tile looks at an edge.

Each window row holds its columns in `phases` segments, column q in segment q % phases at place q // phases: for a stride of `phases` the
pixels that one tap reads then lie side by side.
"""
from __future__ import annotations

from .geometry import inside
from .jit import jit
from .rows import copy_strided
from .simd import copy_row


@jit
def load_window(src, base, channels, H, W, row0, rows, col0, segment, phases, window):
    """window[(c * rows + r) * phases * segment + s * segment + k] = src[base + (c * H + row0 + r) * W + col0 + s + k * phases], 0 outside.

    For c < channels, r < rows, s < phases, k < segment; H, W: the size of one plane of src.
    """
    for s in range(phases):
        first, last = inside(col0 + s, phases, W, segment)
        n = last - first
        for c in range(channels):
            to, start = (c * rows * phases + s) * segment, base + (c * H + row0) * W + col0 + s + first * phases
            for h in range(row0, row0 + rows):
                line = window[to:to + segment]
                if 0 <= h < H:
                    for k in range(first):
                        line[k] = 0
                    if phases == 1:          # the intrinsics themselves: a call costs as much as a short row
                        copy_row(1, src, start, line, first, n)
                    elif phases == 2:
                        copy_row(2, src, start, line, first, n)
                    else:
                        copy_strided(src, start, phases, line, first, n)
                    for k in range(last, segment):
                        line[k] = 0
                else:
                    line[:] = 0
                to += phases * segment
                start += W
