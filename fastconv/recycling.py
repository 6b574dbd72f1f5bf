"""Large results out of memory that earlier results have given back.

The operating system hands out fresh memory page by page, each one emptied first, at the first write: that costs as much again as filling it,
and five times as much where huge pages are off. NumPy returns arrays of many megabytes to the system as soon as nothing refers to
them, so a loop that writes no `out=` pays at every turn. Here such memory is kept, at most `set_recycling` MiB of it, and serves the
next result of about that size. Memory is only ever taken back when the array and every view of it are gone.
"""
from __future__ import annotations

import math
import os
import threading
from collections import deque
from typing import Any

import numpy as np

VARIABLE = "FASTCONV_RECYCLE_MIB"
DEFAULT = 256                                # MiB
MIB = 2 ** 20
LEAST = 8 * MIB                              # of smaller arrays malloc keeps the memory itself
FEW = LEAST // 16                            # elements that are less than that in any dtype
WASTE = 1.25                                 # memory serves results of its own size, or up to so many times smaller
ALIGN = 64                                   # a cache line, and the longest vector

_limit: int | None = None                    # bytes; None: the environment was not looked at yet
_idle: list[np.ndarray] = []                 # memory that nobody uses, the latest last
_returned: deque[np.ndarray] = deque()       # given back, not yet among the idle
_lock = threading.Lock()


def keep(nbytes: int) -> None:
    """From now on at most so many bytes."""
    global _limit
    _limit = nbytes
    with _lock:
        _sort_in()
    _tidy()


def kept() -> int:
    """How many bytes of memory of results that are gone may be kept."""
    global _limit
    if _limit is None:
        text = os.environ.get(VARIABLE, "")
        if not (text.isdecimal() or not text):
            raise ValueError(f"the environment variable {VARIABLE} is {text!r}; wanted: an integer of at least 0, in MiB")
        _limit = (int(text) if text else DEFAULT) * MIB
    return _limit


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """As np.empty: an array of this shape and dtype, its contents whatever stood there."""
    if math.prod(shape) < FEW:
        return np.empty(shape, dtype)
    dtype = np.dtype(dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < LEAST or nbytes > kept():
        return np.empty(shape, dtype)
    return np.asarray(_Loan(_take(nbytes), shape, dtype))


class _Loan:
    """What an array out of kept memory is a view of. NumPy lets every further view refer to it: with the last of them the loan ends."""

    def __init__(self, memory: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._memory = memory
        place = memory.__array_interface__["data"][0]        # `ctypes` takes longer: it makes an object first
        self.__array_interface__ = {"version": 3, "data": (place + -place % ALIGN, False), "shape": shape, "typestr": dtype.str}

    def __del__(self) -> None:               # at any moment: inside `_take` too, when it makes the garbage collector run
        _returned.append(self._memory)
        _tidy()


def _take(nbytes: int) -> np.ndarray:
    """The smallest idle memory that holds nbytes, or new."""
    with _lock:
        _sort_in()
        fitting = [i for i, memory in enumerate(_idle) if nbytes <= memory.size - ALIGN <= WASTE * nbytes]
        memory = _idle.pop(min(fitting, key=lambda i: _idle[i].size)) if fitting else None
    _tidy()
    if memory is not None:
        return memory
    try:
        return np.empty(nbytes + ALIGN, np.uint8)
    except MemoryError:
        with _lock:
            _idle.clear()
        return np.empty(nbytes + ALIGN, np.uint8)


def _tidy() -> None:
    """Take in what was given back. Who finds the lock taken leaves it: whoever has the lock looks again after opening it."""
    while _returned and _lock.acquire(blocking=False):
        try:
            _sort_in()
        finally:
            _lock.release()


def _sort_in() -> None:
    while _returned:
        _idle.append(_returned.popleft())
    total, most = sum(memory.size for memory in _idle), kept()
    while total > most:
        total -= _idle.pop(0).size


def _after_fork() -> None:
    """The lock may be held by a thread that the child does not have, and memory shared with the parent is copied when written to."""
    global _lock
    _lock = threading.Lock()
    _idle.clear()
    _returned.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
