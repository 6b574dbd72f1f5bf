"""Which poolings go over their planes as one long line (kernels/pool_flat.py), and how."""
from __future__ import annotations

import math

import numpy as np

from ..kernels.simd_flat import EVERY, SOME, VECTORS
from ..kernels.tasks import NO_TABLE
from ..kernels.tiles import VECTOR_BYTES
from .small import Planes
from .window import MOST_DIVISORS, MOST_TABLE, Counts, Window

UNIT_BYTES = 16 * 1024                       # of x, for a unit of work: it stays in L1
UNIT_BYTES_GRADIENT = 6 * 1024               # of x, for one of the gradient, which works in two and a half times as much; in bands twice that (measured)
MOST_ROW = 64 * 1024                         # bytes of a row: those of a window stay near
NARROW, FAR, FAR_BYTES = 48, 64, 2 ** 20     # columns, below which rows one by one are slower where not every element has a window; if x is far (measured)


def _middles(window: Window) -> list[np.ndarray] | None:
    """The rows and the columns of the middles of windows that are squares in planes; None where one lies outside, or rows are far apart."""
    if not VECTORS or window.nd != 2 or window.working.kind != "f" or window.dilation != (1, 1) or len(set(window.kernel)) > 1:
        return None
    H, W = window.x_shape[2:]
    middles = [np.arange(outputs) * s - before + (window.kernel[0] - 1) // 2
               for outputs, s, (before, _) in zip(window.y_shape[2:], window.stride, window.pads)]
    beyond = any(at[0] < 0 or at[-1] >= size for at, size in zip(middles, (H, W)))
    return None if beyond or W * window.working.itemsize > MOST_ROW or H * W >= 2 ** 31 else middles


def flat(window: Window) -> Planes | None:
    """The plan of windows that are squares in planes, or None where other kernels have to serve."""
    middles = _middles(window)
    if middles is None:
        return None
    (H, W), K, planes, itemsize = window.x_shape[2:], window.kernel[0], math.prod(window.x_shape[:2]), window.working.itemsize
    V, lanes = H * W, VECTOR_BYTES // itemsize
    if window.y_shape == window.x_shape:
        if K not in EVERY or H < K:
            return None
        bands = min(H // K, max(1, V * itemsize // UNIT_BYTES))
        group, table = max(1, UNIT_BYTES // (V * itemsize)), NO_TABLE
    else:
        alike = lanes // math.gcd(V, lanes)  # planes, after which the table begins anew
        if K not in SOME or V * alike // lanes > MOST_TABLE or W >= (NARROW if planes * V * itemsize < FAR_BYTES else FAR):
            return None
        bands, group = 1, alike * max(1, UNIT_BYTES // (V * alike * itemsize))
        wanted = np.zeros((alike, H, W), np.int64)
        wanted[:, middles[0][:, None], middles[1]] = 1
        table = (wanted.reshape(-1, lanes) << np.arange(lanes)).sum(1)
    return Planes(*window.job(bands, group, planes * bands if bands > 1 else -(-planes // group), 0), table)


def flat_gradient(window: Window) -> tuple[int, np.ndarray] | None:
    """The tasks and the job of `max_backward_flat`, or None where other kernels have to serve."""
    if window.y_shape != window.x_shape or window.kernel[0] not in EVERY or _middles(window) is None:
        return None
    (H, W), K, planes = window.x_shape[2:], window.kernel[0], math.prod(window.x_shape[:2])
    nbytes = H * W * window.working.itemsize
    bands, group = max(1, min(H // (2 * K), nbytes // UNIT_BYTES_GRADIENT // 2)), max(1, UNIT_BYTES_GRADIENT // nbytes)
    return window.job(bands, group, planes * bands if bands > 1 else -(-planes // group), 0)


def divisors_of(window: Window, counts: Counts, plan: Planes) -> int:
    """How many numbers `average_flat` wants of the elements that windows count, one after the other; 0 where that is too many."""
    lanes = VECTOR_BYTES // window.working.itemsize
    if counts.even:
        return lanes
    planes = plan.table.size * lanes // math.prod(window.x_shape[2:]) or 1       # after which they begin anew
    size = planes * math.prod(window.y_shape[2:]) + lanes
    return size if size <= MOST_DIVISORS else 0
