"""Calls like an earlier one: what was checked and worked out then holds again, where arguments differ in their values alone."""
from __future__ import annotations

from typing import Any

import numpy as np

from .. import check

_calls: dict[Any, Any] = {}
MOST = 4096
PLAIN = (int, float, bool, type(None))


def recall(kind: type, x: Any, arrays: tuple[Any, ...], *settings: Any) -> Any:
    """kind(x, *arrays, *settings), or the equal one of an earlier call. It knows shapes, dtypes and settings, and holds no array.

    `plain`: kernels can take all the arrays as they are.
    """
    if not check.plain(x):
        return kind(x, *arrays, *settings)
    dtype = x.dtype
    shapes = [None if a is None else a.shape if type(a) is np.ndarray and a.dtype is dtype and a.flags.carray else 0 for a in arrays]
    types = [*map(type, settings)]           # 1, 1.0 and True are equal, and not the same argument; other objects may change
    for i, kind_of in enumerate(types):
        if kind_of not in PLAIN and not (kind_of is tuple and all([type(element) is int for element in settings[i]])):
            return kind(x, *arrays, *settings)
    if 0 in shapes:
        return kind(x, *arrays, *settings)
    key = kind, x.shape, dtype, settings, *shapes, *types
    found = _calls.get(key)
    if found is None:
        found = kind(x, *arrays, *settings)
        found.plain = True
        if len(_calls) >= MOST:
            _calls.clear()
        _calls[key] = found
    return found


class Planned:
    """Arguments that were checked: dtype of x and the one computed in (`working`), shape of x and of its statistics (`stats`); and the
    layouts worked out for them."""

    plain, momentum = False, 0.0

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
