"""Calls like an earlier one: what was checked and worked out then holds again, where arguments differ in their values alone."""
from __future__ import annotations

from typing import Any

import numpy as np

from .. import check
from ..remembered import Remembered

SHORT = Remembered()                         # calls, by all that they depend on but the values in their arrays

_calls: dict[Any, Any] = {}
MOST = 4096
PLAIN = frozenset((int, float, bool, type(None)))


def recall(kind: type, x: Any, arrays: tuple[Any, ...], *settings: Any) -> Any:
    """kind(x, *arrays, *settings), or the equal one of an earlier call. It knows shapes, dtypes and settings, and holds no array.

    `plain`: kernels can take all the arrays as they are.
    """
    if not check.plain(x):
        return kind(x, *arrays, *settings)
    dtype = x.dtype
    shapes = [None if a is None else a.shape if type(a) is np.ndarray and a.dtype is dtype and a.flags.carray else 0 for a in arrays]
    types = tuple(map(type, settings))       # 1, 1.0 and True are equal, and not the same argument; other objects may change
    if 0 in shapes or not PLAIN.issuperset(types):
        a_shape = types[0] is tuple and PLAIN.issuperset(types[1:]) and all([type(size) is int for size in settings[0]])
        if 0 in shapes or not a_shape:
            return kind(x, *arrays, *settings)
    key = kind, x.shape, dtype, settings, types, *shapes
    found = _calls.get(key)
    if found is None:
        found = kind(x, *arrays, *settings)
        found.plain = True
        if len(_calls) >= MOST:
            _calls.clear()
        _calls[key] = found
    return found


def key(name: Any, x: Any, arrays: tuple[Any, ...], settings: tuple[Any, ...]) -> Any:
    """What a call is remembered by; None where a setting is no plain number."""
    types = tuple(map(type, settings))
    if type(x) is not np.ndarray or not PLAIN.issuperset(types):
        return None
    return name, x.shape, x.dtype, settings, types, tuple([a is None for a in arrays])


class Planned:
    """Arguments that were checked: dtype of x and the one computed in (`working`), shape of x, of its statistics (`stats`) and of its
    parameters; and the layouts worked out for them. own: the statistics are those of x. moves: running ones are moved."""

    plain, momentum, own, moves = False, 0.0, True, False

    def check_statistics(self, mean: Any, invstd: Any) -> None:
        """mean and invstd as the forward returned them, or None."""
        if check.both("mean", mean, "invstd", invstd, self.function):
            self.check_statistic("mean", mean)
            self.check_statistic("invstd", invstd)

    def check_statistic(self, name: str, value: Any) -> None:
        check.parameter(name, value, self.stats, f"what {self.function}(..., return_stats=True) returned", self.dtype)

    def plan(self, *how: Any) -> Any:
        """What `lay_out` says, once for each way: flags, and of a gradient True, whether dx and whether dweight or dbias is wanted."""
        try:
            return self._plans[how]
        except AttributeError:
            self._plans = {}
        except KeyError:
            pass
        found = self._plans[how] = self.lay_out(*how)
        return found
