"""Windows: the part of an image that a block of outputs reads, copied once with its padding, so that no tile looks at an edge.

Each window row holds its columns in `phases` segments, column q in segment q % phases at place q // phases: for a stride of `phases` the
pixels that one tap reads then lie side by side.
"""
from __future__ import annotations

from .geometry import inside
from .jit import jit
from .rows import copy_strided
from .simd import copy_rows


@jit(inline=True)
def load_window(src, base, channels, H, W, row0, rows, col0, segment, phases, window):
    """window[(c * rows + r) * phases * segment + s * segment + k] = src[base + (c * H + row0 + r) * W + col0 + s + k * phases], 0 outside.

    For c < channels, r < rows, s < phases, k < segment; H, W: the size of one plane of src.
    """
    above = min(rows, max(0, -row0))         # rows of padding above the plane, of the plane, and below it
    rest = max(above, min(rows, H - row0))
    pitch = phases * segment
    for s in range(phases):
        first, last = inside(col0 + s, phases, W, segment)
        n = last - first
        for c in range(channels):
            to, start = (c * rows * phases + s) * segment, base + (c * H + row0 + above) * W + col0 + s + first * phases
            for r in range(above):
                window[to + r * pitch:to + r * pitch + segment] = 0
            for r in range(rest, rows):
                window[to + r * pitch:to + r * pitch + segment] = 0
            to += above * pitch
            if phases == 1:
                copy_rows(1, src, start, W, window, to, pitch, rest - above, first, n, segment)
            elif phases == 2:
                copy_rows(2, src, start, W, window, to, pitch, rest - above, first, n, segment)
            else:
                for r in range(rest - above):
                    line = window[to + r * pitch:to + r * pitch + segment]
                    line[:first] = 0
                    copy_strided(src, start + r * W, phases, line, first, n)
                    line[last:] = 0
