"""What this process compiles: counted, timed, and told in one line where it takes long."""
from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba import types
from numba.core.compiler_lock import global_compiler_lock

LOG = logging.getLogger("fastconv")
LONG = 1.0                                   # seconds after which a user wonders

compiled: list[tuple[str, float]] = []       # what was compiled, not loaded, and the seconds; what it calls counts as part of it


def watch(dispatcher: Any, name: str, folder: Callable[[], str | None]) -> None:
    """Time the compilations of this dispatcher from now on. folder: where they are kept, asked once one is done; None for nowhere."""
    compile_or_load = dispatcher.compile

    def watched(signature: Any) -> Any:
        with global_compiler_lock:           # so nobody waits for another's compilation while the clock runs
            before, begin = _misses(dispatcher), time.perf_counter()
            try:
                with _no_collection():
                    return compile_or_load(signature)
            finally:
                if _misses(dispatcher) > before:
                    _tell(f"{name} for {_dtype(signature)}", time.perf_counter() - begin, folder())

    dispatcher.compile = watched


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without garbage collection, which would look at all that Numba makes of a kernel again and again."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextmanager
def silent() -> Iterator[None]:
    """Without a word, for commands that show their progress themselves. Process-wide."""
    before = LOG.level
    LOG.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOG.setLevel(before)


def _tell(what: str, seconds: float, folder: str | None) -> None:
    compiled.append((what, seconds))
    if seconds > LONG:
        where = f"kept in {folder}" if folder else "kept nowhere: set FASTCONV_CACHE_DIR to a folder that can be written"
        LOG.warning("fastconv compiled %s in %.1f s, %s; `fastconv warmup` compiles everything at once", what, seconds, where)


def _misses(dispatcher: Any) -> int:
    """How often the dispatcher found nothing on disk."""
    return sum(dispatcher.stats.cache_misses.values())


def _dtype(signature: Any) -> str:
    """What a kernel computes in: the dtype of the first array of floats among the arguments, or else of the first array."""
    dtypes = [kind.dtype for kind in getattr(signature, "args", signature) if hasattr(kind, "dtype")]
    return str(next((dtype for dtype in dtypes if isinstance(dtype, types.Float)), dtypes[0] if dtypes else "integers"))
