"""What calls of equal arguments share."""
from __future__ import annotations

from typing import Any

MOST_ENTRIES, MOST_BYTES = 1024, 8 * 2 ** 20


def settled(value: Any) -> bool:
    """Whether the value is None, an integer or a tuple of integers: what is equal is the same (True and 1.0 are equal to 1 too)."""
    kind = type(value)
    return kind is int or value is None or (kind is tuple and all([type(element) is int for element in value]))


class Remembered:
    """Values by the arguments that they came from: at most so many and so many bytes, of which no value has an eighth. Emptied when full."""

    def __init__(self) -> None:
        self._values: dict[Any, Any] = {}
        self._bytes = 0
        self.get = self._values.get

    def keep(self, key: Any, value: Any, nbytes: int) -> Any:
        """The value, from now on known unless it is large."""
        if nbytes <= MOST_BYTES // 8:
            if len(self._values) >= MOST_ENTRIES or self._bytes + nbytes > MOST_BYTES:
                self.clear()
            self._values[key] = value
            self._bytes += nbytes
        return value

    def clear(self) -> None:
        self._values.clear()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._values)
