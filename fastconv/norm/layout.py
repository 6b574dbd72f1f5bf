"""How a normalisation is cut: the sizes and places that its kernels read from `job`, worked out once for each shape."""
from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from ..kernels import norm as k
from ..kernels import norm_rows
from ..kernels.past import PAST

TASK = 32768                                 # bytes of x of a task
PART = 16384                                 # elements of a part of a long segment
FEW = 16                                     # elements of a segment, up to which it is so many columns
ROWS = 128                                   # rows of a task of a matrix: its sums in float64 are then a few percent of them
FEW_ROWS = 48                                # the least of a task, where that makes tasks of whole rows
WHOLE = 1024                                 # columns whose sums and coefficients stay in L1: so wide a matrix is taken row by row, as memory lies
WIDTH, NARROW = 512, 128                     # most and least columns of a task of a wider one
LEAST_TASKS = 16
ONCE = 0                                     # tasks of a kernel that is one call
LONG = 256 * 2 ** 10                         # bytes of a row that one core does not hold
BLOCK = 16384                                # bytes of the rows that are summed and changed together
BLOCK_GRADIENT, MOST_BLOCK = 128 * 2 ** 10, 64         # the same of a gradient, and most rows of them: enough for loops over rows to be vectors
ALONE = 1024                                 # bytes of a row that is summed and changed by itself
MANY = 64                                    # rows enough to give each core some
SHARED, MOST_SHARES = 64, 64                 # rows whose gradients to weight and bias share an area, if that makes so many areas at most
HEAD = 2                                     # numbers before everything in `table`


class Layout(NamedTuple):
    job: np.ndarray
    table: int                               # numbers
    residual: int                            # elements of what each column needs
    tasks: int
    nbytes: int                              # of x
    own: bool                                # statistics of x itself
    programs: dict[Any, Any]                 # what `passes` makes of the steps
    steps: tuple[tuple[Any, int], ...]       # kernels and their tasks, ONCE for one that is no loop
    elementwise: bool                        # a weight and a bias for each element


def _finished(sizes: dict[int, int], areas: list[tuple[int, int]], tasks: int, nbytes: int, residual: int = 0, steps: Any = (),
              elementwise: bool = False) -> Layout:
    """areas: (name, numbers) in order."""
    job, at = np.zeros(k.JOB, np.int64), HEAD
    for name, value in sizes.items():
        job[name] = value
    for name, size in areas:
        job[name] = at
        at += size
    job[k.EACH], job[k.RESIDUAL], job[k.TABLE] = elementwise, residual, at
    return Layout(job, at, residual, tasks, nbytes, bool(sizes[k.FLAGS] & k.OWN), {}, tuple(steps), elementwise)


@functools.lru_cache(maxsize=1024)
def segments(images: int, C: int, S: int, div: int, keys: int, itemsize: int, flags: int, backward: bool, cycle: int) -> Layout:
    """images * C segments of S elements: i has statistics i // div % keys, and i % cycle its coefficients. `backward`: with dout."""
    M = images * C
    parts = max(1, -(-S // PART))
    span = -(-S // parts)
    span = -(-span // 64) * 64               # whole lines
    parts = max(1, -(-S // max(1, span)))
    units = max(1, TASK // (max(1, min(S, span)) * itemsize))
    nbytes, sums = M * S * itemsize, 4 if backward else 2
    sizes = {k.SEGMENTS: M, k.LENGTH: S, k.DIV: div, k.KEYS: keys, k.CHANNELS: C, k.PARTS: parts, k.SPAN: span, k.UNITS: units,
             k.STREAM: (3 if backward else 2) * nbytes >= PAST, k.FLAGS: flags, k.COUNT: M // max(1, keys) * S, k.CYCLE: cycle}
    areas = [(k.PARAMETERS, 4 * C), (k.STATS, 2 * keys), (k.SHIFTS, 2 * keys), (k.FOLDED, sums * keys), (k.GRADIENTS, 2 * C),
             (k.PLANES, 2 * M if backward and cycle == M else 0), (k.COEFFICIENTS, 6 * cycle), (k.SUMS, sums * M * parts)]
    return _finished(sizes, areas, -(-M * parts // units), nbytes)


@functools.lru_cache(maxsize=1024)
def columns(N: int, C: int, S: int, itemsize: int, flags: int, backward: bool) -> Layout:
    """A matrix (N, C * S), the statistics of each S columns together."""
    K, sums = C * S, 4 if backward else 2
    padded = -(-K // 16) * 16 + 32           # the first columns stand again behind the last, and the lines begin inside of a vector
    span = ROWS
    if K <= WHOLE and LEAST_TASKS * FEW_ROWS <= N < LEAST_TASKS * ROWS:
        span = -(-N // LEAST_TASKS // 16) * 16           # whole rows are faster than parts of more of them
    blocks = max(1, -(-N // span))
    parts = max(-(-K // WIDTH) if K > WHOLE else 1, min(-(-LEAST_TASKS // blocks), K // NARROW, N * K * itemsize // TASK))
    width = -(-K // parts // 16) * 16
    parts = max(1, -(-K // max(1, width)))
    nbytes = N * K * itemsize
    sizes = {k.LENGTH: S, k.DIV: 1, k.KEYS: C, k.CHANNELS: C, k.PARTS: parts, k.SPAN: span, k.UNITS: width, k.FLAGS: flags, k.COUNT: N * S,
             k.ROWS: N, k.COLUMNS: K, k.PADDED: padded, k.STREAM: (3 if backward else 2) * nbytes >= PAST}
    areas = [(k.PARAMETERS, 4 * C), (k.STATS, 2 * C), (k.SHIFTS, 2 * C), (k.FOLDED, sums * C), (k.GRADIENTS, 2 * C),
             (k.SUMS, max(6, sums * blocks * padded))]
    return _finished(sizes, areas, blocks * parts, nbytes, 8 * padded)


@functools.lru_cache(maxsize=1024)
def groups(N: int, C: int, S: int, G: int, itemsize: int, flags: int, backward: bool) -> Layout:
    """Groups of C / G channels of S elements, each of the N * G with statistics of its own."""
    div, keys = C // max(1, G), N * G
    length, stored = div * S, div * S * itemsize
    if S <= FEW:
        return rows(keys, length, G, C, S, itemsize, flags, backward)
    if stored > LONG and keys * stored > LONG:
        plan = segments(N, C, S, div, keys, itemsize, flags, backward, N * C)
        finish = k.finish_group_backward if backward else k.finish_forward
        return plan._replace(steps=((k.prepare, ONCE), (k.sum_segments, plan.tasks), (finish, ONCE), (k.change_segments, plan.tasks)))
    M, block = N * C, max(1, min(MOST_BLOCK, (BLOCK_GRADIENT if backward else BLOCK) // max(1, stored)))
    units = block * max(1, 4 * BLOCK // (block * max(1, stored)))
    tasks = -(-keys // units)
    nbytes = M * S * itemsize
    sizes = {k.SEGMENTS: M, k.LENGTH: S, k.DIV: div, k.KEYS: keys, k.CHANNELS: C, k.UNITS: units, k.ROWS: block, k.FLAGS: flags,
             k.COUNT: length, k.STREAM: (3 if backward else 2) * nbytes >= PAST}
    areas = [(k.PARAMETERS, 4 * C), (k.STATS, 2 * keys), (k.SHIFTS, 2 * keys), (k.FOLDED, 2 * keys if flags & k.RUNNING else 0),
             (k.GRADIENTS, 2 * C), (k.PLANES, 2 * M if backward else 0), (k.COEFFICIENTS, 0 if backward else tasks * 6 * block * div),
             (k.SUMS, tasks * 4 * block * div)]
    steps = [(norm_rows.group_rows_gradient, tasks), (k.fold_planes, ONCE)] if backward else [(norm_rows.group_rows, tasks)]
    if flags & k.RUNNING:
        steps.append((norm_rows.finish_running, ONCE))
    return _finished(sizes, areas, tasks, nbytes, steps=steps)


@functools.lru_cache(maxsize=1024)
def rows(keys: int, length: int, period: int, C: int, S: int, itemsize: int, flags: int, backward: bool) -> Layout:
    """`keys` rows, each of the `period` * `length` = C * S elements with a weight and a bias of its own."""
    stored, columns = length * itemsize, period * length
    nbytes = keys * stored
    padded = -(-columns // 16) * 16 + 16
    sizes = {k.LENGTH: S, k.KEYS: keys, k.CHANNELS: C, k.FLAGS: flags, k.COUNT: length, k.PERIOD: period, k.PADDED: padded,
             k.STREAM: (3 if backward else 2) * nbytes >= PAST}
    few = keys < MANY and nbytes > LONG if backward else stored > LONG and nbytes > LONG
    areas = [(k.PARAMETERS, 0), (k.STATS, 2 * keys), (k.SHIFTS, 2 * keys), (k.GRADIENTS, 2 * C)]
    if few and period == 1:
        span = -(-min(PART, -(-nbytes // (LEAST_TASKS * itemsize))) // 64) * 64
        parts = -(-length // span)
        units = keys * parts
        areas += [(k.FOLDED, 4 * keys), (k.PLANES, 2 * padded if backward else 0), (k.COEFFICIENTS, 5 * keys),
                  (k.SUMS, (4 if backward else 2) * units)]
        steps = [(norm_rows.prepare_parts, ONCE), (norm_rows.sum_parts, units), (norm_rows.finish_parts, ONCE)]
        steps += [(norm_rows.gradient_parts, parts), (norm_rows.fold_rows, ONCE)] if backward else [(norm_rows.scale_parts, units)]
        return _finished({**sizes, k.PARTS: parts, k.SPAN: span, k.COLUMNS: 1}, areas, units, nbytes, steps=steps, elementwise=True)
    block = 1 if stored >= ALONE else max(1, min(MOST_BLOCK, (BLOCK_GRADIENT if backward else BLOCK) // max(1, stored)))
    units = block * max(1, 4 * BLOCK // (block * max(1, stored)))
    if backward:
        tasks = min(MOST_SHARES, max(LEAST_TASKS, keys // (SHARED * period)))
        units = max(16 * period, -(-keys // tasks))
    tasks = -(-keys // units)
    areas += [(k.FOLDED, 2 * keys if flags & k.RUNNING else 0), (k.PLANES, tasks * 2 * padded if backward else 0), (k.SUMS, tasks * 4 * block)]
    steps = [(norm_rows.rows_gradient, tasks), (norm_rows.fold_rows, ONCE)] if backward else [(norm_rows.rows, tasks)]
    if flags & k.RUNNING:
        areas[0] = (k.PARAMETERS, 4 * C)
        steps.append((norm_rows.finish_running, ONCE))
    return _finished({**sizes, k.UNITS: units, k.ROWS: block, k.COLUMNS: tasks}, areas, tasks, nbytes, steps=steps, elementwise=True)
