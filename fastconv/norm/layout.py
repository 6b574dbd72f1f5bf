"""How a normalisation is cut: the sizes and places that its kernels read from `job`, worked out once for each shape."""
from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from ..kernels import norm as k

TASK = 32768                                 # bytes of x of a task
PART = 16384                                 # elements of a part of a long segment
FEW = 16                                     # elements of a segment, up to which it is so many columns
ROWS = 128                                   # rows of a task of a matrix: its sums in float64 are then a few percent of them
WIDTH, NARROW = 2048, 128                    # most and least columns of a task of a matrix that has more
LEAST_TASKS = 16
PAST = 32 * 2 ** 20                          # bytes that a pass touches, from which its result is stored past the caches
FAR = 8 * 2 ** 20                            # bytes that no second-level cache holds
HEAD = 2                                     # numbers before everything in `table`


class Layout(NamedTuple):
    job: np.ndarray
    table: int                               # float64 numbers
    residual: int                            # elements of what each column needs
    tasks: int
    nbytes: int                              # of x
    own: bool                                # statistics of x itself
    C: int
    parameters: int                          # where the areas of `table` begin
    stats: int
    keys: int
    folded: int
    gradients: int


def _finished(sizes: dict[int, int], areas: list[tuple[int, int]], tasks: int, nbytes: int, residual: int = 0) -> Layout:
    """areas: (name, numbers) in order."""
    job, at = np.zeros(k.JOB, np.int64), HEAD
    for name, value in sizes.items():
        job[name] = value
    for name, size in areas:
        job[name] = at
        at += size
    return Layout(job, at, residual, tasks, nbytes, bool(sizes[k.FLAGS] & k.OWN), sizes[k.CHANNELS], int(job[k.PARAMETERS]), int(job[k.STATS]), sizes[k.KEYS],
                  int(job[k.FOLDED]), int(job[k.GRADIENTS]))


@functools.lru_cache(maxsize=1024)
def segments(images: int, C: int, S: int, div: int, keys: int, itemsize: int, flags: int, backward: bool) -> Layout:
    """images * C segments of S elements, statistics i // div % keys of segment i. `backward`: with dout, which is as large as x."""
    M = images * C
    parts = max(1, -(-S // PART))
    span = -(-S // parts)
    span = -(-span // 64) * 64               # whole lines
    parts = max(1, -(-S // max(1, span)))
    units = max(1, TASK // (max(1, min(S, span)) * itemsize))
    nbytes, sums = M * S * itemsize, 4 if backward else 2
    sizes = {k.SEGMENTS: M, k.LENGTH: S, k.DIV: div, k.KEYS: keys, k.CHANNELS: C, k.PARTS: parts, k.SPAN: span, k.UNITS: units,
             k.STREAM: (3 if backward else 2) * nbytes >= PAST, k.FLAGS: flags, k.COUNT: M // max(1, keys) * S}
    areas = [(k.PARAMETERS, 4 * C), (k.STATS, 2 * keys), (k.SHIFTS, 2 * keys), (k.FOLDED, sums * keys), (k.GRADIENTS, 2 * C),
             (k.PLANES, 2 * M if backward and keys != C else 0), (k.COEFFICIENTS, 5 * (C if keys == C else M)), (k.SUMS, sums * M * parts)]
    return _finished(sizes, areas, -(-M * parts // units), nbytes)


@functools.lru_cache(maxsize=1024)
def columns(N: int, C: int, S: int, itemsize: int, flags: int, backward: bool) -> Layout:
    """A matrix (N, C * S), the statistics of each S columns together."""
    K, sums = C * S, 4 if backward else 2
    padded = -(-K // 16) * 16
    blocks = max(1, -(-N // ROWS))
    parts = max(-(-K // WIDTH), min(-(-LEAST_TASKS // blocks), K // NARROW, N * K * itemsize // TASK), 1)
    width = -(-K // parts // 16) * 16
    parts = max(1, -(-K // max(1, width)))
    nbytes = N * K * itemsize
    moved = (3 if backward else 2) * nbytes
    order = 2 if moved >= PAST else 1 if moved >= FAR else 0
    sizes = {k.LENGTH: S, k.DIV: 1, k.KEYS: C, k.CHANNELS: C, k.PARTS: parts, k.SPAN: ROWS, k.UNITS: width, k.FLAGS: flags, k.COUNT: N * S,
             k.ROWS: N, k.COLUMNS: K, k.PADDED: padded, k.STREAM: order}
    areas = [(k.PARAMETERS, 4 * C), (k.STATS, 2 * C), (k.SHIFTS, 2 * C), (k.FOLDED, sums * C), (k.GRADIENTS, 2 * C),
             (k.SUMS, max(5, sums * blocks * padded))]
    return _finished(sizes, areas, blocks * parts, nbytes, 7 * padded)
