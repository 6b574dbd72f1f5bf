"""Small poolings that are asked for again: what their arguments come to is kept, so that a call is a look-up, an array and a kernel."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import runtime
from ..check import F32, F64
from ..kernels.handed import at_once
from .planes import INDEX

MOST_BYTES = 384 * 1024                      # of x: the numbers of longer rows are not kept


class Call(NamedTuple):
    """A kernel with all its arguments but arrays, and what the result is."""

    run: Callable[..., bool]
    shape: tuple[int, ...]
    dtype: np.dtype

    def __call__(self, src: Any, weight: Any, indices: Any = None, out: Any = None) -> np.ndarray | None:
        """The result; None, and nothing was done, where an array is not as in the call that is remembered."""
        y = np.empty(self.shape, self.dtype) if out is None else out
        return y if self.run(src, weight, y, indices) else None


def short(plan: tuple[Any, int, np.ndarray, np.ndarray], work: float, shapes: tuple[Any, ...], weight: np.ndarray, bias: np.ndarray,
          report: int = -1) -> Call | None:
    """A call to remember, if it is one that one thread does. plan: the kernel, its tasks, its job and its table. shapes: of src, weight, the
    result and the indices, None where there are none; weight and the table are then always the same. report: as `at_once` says."""
    kernel, tasks, job, table = plan
    dtype, most = bias.dtype, max(math.prod(shapes[0]), math.prod(shapes[2]))
    if not (dtype is F32 or dtype is F64) or work >= runtime.SMALL_WORK or most * dtype.itemsize > MOST_BYTES:
        return None
    specs = [None if shape is None else (shape, kind) for shape, kind in zip(shapes, (dtype, dtype, dtype, INDEX))]
    run = at_once(kernel, tasks, specs, weight, bias, job, table, report)
    return None if run is None else Call(run, shapes[2], dtype)
