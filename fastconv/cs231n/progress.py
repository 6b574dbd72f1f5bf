"""A bar for training: in a terminal where rich is installed (extra `report`), and nothing at all elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["bar"]


@contextmanager
def bar(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Yields what is to be called with a short text when each of `total` steps begins. Lines printed meanwhile appear above the bar."""
    terminal = None
    if sys.stdout.isatty():
        try:
            from ..report import terminal
        except ModuleNotFoundError:
            pass
    if terminal is None:
        yield lambda text: None
        return
    with terminal.progress(terminal.console()) as live:
        live.start(title, total)
        yield live.step
