"""Poolings that are asked for again: what their arguments come to is kept, so that a call is a look-up, an array and a kernel.

A small one is little more than these steps. A large one finds Python's side of the long way in no cache: that takes 30 to 60 microseconds.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import recycling, runtime
from ..check import F32, F64
from ..kernels.handed import at_once
from ..kernels.tasks import crew
from .planes import INDEX

SMALL_BYTES = 384 * 1024                     # of x and of the result: one thread, and malloc's memory
MOST_NUMBERS = 16384                         # that are kept for a kernel: longer rows go the long way


class Call(NamedTuple):
    """A kernel with all its arguments but arrays, and what the result is."""

    run: Callable[..., bool]
    shape: tuple[int, ...]
    dtype: np.dtype

    def __call__(self, src: Any, weight: Any, indices: Any = None, out: Any = None) -> np.ndarray | None:
        """The result; None, and nothing was done, where an array is not as in the call that is remembered."""
        y = np.empty(self.shape, self.dtype) if out is None else out
        return y if self.run(src, weight, y, indices) else None


class TeamCall(NamedTuple):
    """The same of a large one, on as many threads as it is worth."""

    run: Callable[..., bool]
    shape: tuple[int, ...]
    dtype: np.dtype
    tasks: int
    work: float

    def __call__(self, src: Any, weight: Any, indices: Any = None, out: Any = None) -> np.ndarray | None:
        y = recycling.empty(self.shape, self.dtype) if out is None else out
        return y if self.run(*crew(self.tasks, self.work), src, weight, y, indices) else None


def short(plan: tuple[Any, int, np.ndarray, np.ndarray], work: float, shapes: tuple[Any, ...], weight: np.ndarray, bias: np.ndarray,
          report: int = -1) -> Call | TeamCall | None:
    """A call to remember. plan: the kernel, its tasks, its job and its table. shapes: of src, weight, the result and the indices, None where
    there are none; weight and the table are then always the same. report: as `at_once` says."""
    kernel, tasks, job, table = plan
    dtype, most = bias.dtype, max(math.prod(shapes[0]), math.prod(shapes[2]))
    if not (dtype is F32 or dtype is F64) or weight.size + table.size > MOST_NUMBERS:
        return None
    specs = [None if shape is None else (shape, kind) for shape, kind in zip(shapes, (dtype, dtype, dtype, INDEX))]
    large = work >= runtime.SMALL_WORK or most * dtype.itemsize > SMALL_BYTES
    run = at_once(kernel, tasks, specs, weight, bias, job, table, report, large)
    if run is None:
        return None
    return TeamCall(run, shapes[2], dtype, tasks, work) if large else Call(run, shapes[2], dtype)
