"""Small poolings that are asked for again: what their arguments come to is kept, so that a call is a look-up, an array and a kernel."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import runtime
from ..check import F32, F64
from .window import Window

INDEX = np.dtype(np.int64)
MOST_CALLS = 256


class Call(NamedTuple):
    """The arguments of a kernel but for src and dst, and what the result is. other: of `weight`, where that is not an argument of the call."""

    kernel: Any
    tasks: int
    job: np.ndarray
    table: np.ndarray
    other: np.ndarray
    lowest: np.ndarray
    none: np.ndarray
    shape: tuple[int, ...]
    dtype: np.dtype
    dout_shape: tuple[int, ...]

    def forward(self, x: np.ndarray, out: np.ndarray | None) -> np.ndarray:
        y = np.empty(self.shape, self.dtype) if out is None else out
        self.kernel(0, self.tasks, x.reshape(-1), self.other, y.reshape(-1), self.lowest, self.none, self.job, self.table)
        return y

    def backward(self, dout: np.ndarray, x: np.ndarray | None) -> np.ndarray:
        """x: None where the gradient does not depend on it, but on what is known of the windows."""
        dx = np.empty(self.shape, self.dtype)
        other = self.other if x is None else x.reshape(-1)
        self.kernel(0, self.tasks, dout.reshape(-1), other, dx.reshape(-1), self.lowest, self.none, self.job, self.table)
        return dx

    def backward_at(self, dout: np.ndarray, indices: np.ndarray) -> np.ndarray | None:
        """None where an index is no place of a volume."""
        dx, bad = np.empty(self.shape, self.dtype), np.zeros(1, self.dtype)
        self.kernel(0, self.tasks, dout.reshape(-1), self.none, dx.reshape(-1), self.lowest, bad, self.job, indices.reshape(-1))
        return None if bad[0] else dx

    def fills(self, out: Any, x: np.ndarray) -> bool:
        """Whether the kernel can write into out as it is; None stands for a new array."""
        return out is None or (type(out) is np.ndarray and out.dtype is self.dtype and out.shape == self.shape and out.flags.carray
                               and not np.may_share_memory(out, x))

    def takes(self, dout: Any) -> bool:
        """Whether the kernel can take dout as it is."""
        return type(dout) is np.ndarray and dout.dtype is self.dtype and dout.shape == self.dout_shape and dout.flags.carray

    def takes_indices(self, indices: Any) -> bool:
        return type(indices) is np.ndarray and indices.dtype is INDEX and indices.shape == self.dout_shape and indices.flags.carray


_calls: dict[Any, Call] = {}


def key_of(operation: str, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, *flags: Any) -> Any:
    """What decides on a call in its plainest form; None for any other. Types are looked at because True and 1.0 are equal to 1."""
    if (type(x) is np.ndarray and (x.dtype is F32 or x.dtype is F64) and x.flags.carray and type(kernel_size) is int
            and (stride is None or type(stride) is int) and type(padding) is int is type(dilation)):
        for flag in flags:
            if type(flag) is not bool:
                return None
        return operation, x.shape, x.dtype.num, kernel_size, stride, padding, dilation, flags
    return None


get = _calls.get


def remember(key: Any, window: Window, plan: tuple[Any, int, np.ndarray, np.ndarray], other: np.ndarray, lowest: np.ndarray, x: np.ndarray,
             backward: bool) -> None:
    """Keep a call that one thread does. plan: the kernel, its tasks, its job and its table."""
    if key is None or window.work >= runtime.SMALL_WORK:
        return
    if len(_calls) >= MOST_CALLS:
        _calls.clear()
    y_shape = window.shape_like(x)
    _calls[key] = Call(*plan, other, lowest, lowest[:0], x.shape if backward else y_shape, x.dtype, y_shape)
