"""Windows: the part of an image that a block of outputs reads, copied once with its padding, so that no tile looks at an edge.

Each window row holds its columns in `phases` segments, column q in segment q % phases at place q // phases: for a stride of `phases` the
pixels that one tap reads then lie side by side. Where one tap reads all that is read, rows and columns between are left out.
"""
from __future__ import annotations

from .geometry import inside
from .jit import jit
from .rows import copy_strided
from .simd import copy_rows, prefetch

CHANNELS_AHEAD = 4                           # whose rows are fetched: from plane to plane no prefetcher of the processor follows


@jit(inline=True)
def load_window(src, base, channels, H, W, row0, row_step, rows, col0, segment, phases, kept, window):
    """window[((c * rows + r) * kept + s) * segment + k] = src[base + (c * H + row0 + r * row_step) * W + col0 + s + k * phases], 0 outside.

    For c < channels, r < rows, s < kept, k < segment; H, W: the size of one plane of src. kept: all phases, or 1 where taps read no other.
    """
    top, bottom = inside(row0, row_step, H, rows)            # rows of the plane; above and below them is padding
    pitch = kept * segment
    for s in range(kept):
        first, last = inside(col0 + s, phases, W, segment)
        n = last - first
        for c in range(channels):
            to, start = (c * rows * kept + s) * segment, base + (c * H + row0 + top * row_step) * W + col0 + s + first * phases
            if s == 0 and row_step == 1:
                prefetch(src, start + CHANNELS_AHEAD * H * W, (bottom - top) * W)
            elif s == 0:
                for r in range(bottom - top):
                    prefetch(src, start + (CHANNELS_AHEAD * H + r * row_step) * W, n * phases)
            for r in range(top):
                window[to + r * pitch:to + r * pitch + segment] = 0
            for r in range(bottom, rows):
                window[to + r * pitch:to + r * pitch + segment] = 0
            to += top * pitch
            if phases == 1:
                copy_rows(1, src, start, row_step * W, window, to, pitch, bottom - top, first, n, segment)
            elif phases == 2:
                copy_rows(2, src, start, row_step * W, window, to, pitch, bottom - top, first, n, segment)
            else:
                for r in range(bottom - top):
                    line = window[to + r * pitch:to + r * pitch + segment]
                    line[:first] = 0
                    copy_strided(src, start + r * row_step * W, phases, line, first, n)
                    line[last:] = 0
