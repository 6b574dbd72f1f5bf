"""Small poolings that are asked for again: what their arguments come to is kept with their windows, so that a call is a look-up, an array
and a kernel."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import runtime
from ..check import F32, F64
from ..kernels.tasks import bound
from .planes import INDEX
from .window import Window

MOST_BYTES = 384 * 1024                      # of x: the numbers of longer rows are not kept


class Call(NamedTuple):
    """A kernel with all its arguments but src and dst, and what the result is. other: of `weight`, where that is not an argument of the call."""

    run: Callable[..., None]
    kernel: Any
    tasks: int
    job: np.ndarray
    table: np.ndarray
    other: np.ndarray
    lowest: np.ndarray
    shape: tuple[int, ...]
    dtype: np.dtype
    dout_shape: tuple[int, ...]

    def forward(self, x: np.ndarray, out: np.ndarray | None) -> np.ndarray:
        y = np.empty(self.shape, self.dtype) if out is None else out
        self.run(x.ravel(), self.other, y.ravel())
        return y

    def backward(self, dout: np.ndarray, x: np.ndarray | None) -> np.ndarray:
        """x: None where the gradient does not depend on it, but on what is known of the windows."""
        dx = np.empty(self.shape, self.dtype)
        self.run(dout.ravel(), self.other if x is None else x.ravel(), dx.ravel())
        return dx

    def backward_at(self, dout: np.ndarray, indices: np.ndarray) -> np.ndarray | None:
        """None where an index is no place of a volume."""
        dx, bad = np.empty(self.shape, self.dtype), np.zeros(1, self.dtype)
        self.kernel(0, self.tasks, dout.ravel(), self.lowest[:0], dx.ravel(), self.lowest, bad, self.job, indices.ravel())
        return None if bad[0] else dx

    def fills(self, out: Any, x: np.ndarray) -> bool:
        """Whether the kernel can read x and write into out as they are; out None stands for a new array."""
        return x.flags.carray and (out is None or (type(out) is np.ndarray and out.dtype is self.dtype and out.shape == self.shape
                                                   and out.flags.carray and not np.may_share_memory(out, x)))

    def takes(self, dout: Any, x: np.ndarray) -> bool:
        """Whether the kernel can take both as they are."""
        return (type(dout) is np.ndarray and dout.dtype is self.dtype and dout.shape == self.dout_shape and dout.flags.carray
                and x.flags.carray)

    def takes_indices(self, indices: Any) -> bool:
        return type(indices) is np.ndarray and indices.dtype is INDEX and indices.shape == self.dout_shape and indices.flags.carray


def remember(window: Window, name: Any, plan: tuple[Any, int, np.ndarray, np.ndarray], other: np.ndarray, lowest: np.ndarray, x: np.ndarray,
             backward: bool) -> None:
    """Keep a call that one thread does among those of its windows. plan: the kernel, its tasks, its job and its table."""
    if window.work < runtime.SMALL_WORK and x.nbytes <= MOST_BYTES and (x.dtype is F32 or x.dtype is F64) and name not in window.calls:
        kernel, tasks, job, table = plan
        y_shape = window.shape_like(x)
        run = bound(kernel, tasks, lowest, lowest[:0], job, table)
        window.calls[name] = Call(run, kernel, tasks, job, table, other, lowest, x.shape if backward else y_shape, x.dtype, y_shape)
