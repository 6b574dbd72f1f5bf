"""The decorator of every kernel: Numba without the GIL, and a cache on disk that knows all kernel sources.

Numba's own cache looks at the file of the compiled function only: after an edit (or an upgrade) of an intrinsic or callee in another
file it would go on running the old code, and it raises at import where no folder can be written. This one stamps each entry with a
hash of every file of this folder, and does without where it cannot write.
"""
from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator

HERE = Path(__file__).resolve().parent

# Sums may be reordered into vectors and multiply-adds fused; NaN and inf keep their meaning.
SUMS = frozenset({"contract", "reassoc", "nsz"})


@functools.cache
def source_stamp() -> str:
    """A hash of all kernel sources, and of what decides how they are compiled."""
    digest = hashlib.sha256()
    for path in sorted(HERE.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@functools.cache
def cache_folder() -> Path | None:
    """Where compiled kernels of this installation are kept: below FASTCONV_CACHE_DIR, NUMBA_CACHE_DIR or the user's cache folder; None where none can be written."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    if os.name == "nt":
        home = os.environ.get("LOCALAPPDATA") or home
    installation = hashlib.sha256(str(HERE).encode()).hexdigest()[:12]     # two checkouts do not fight over one entry
    for base in (os.environ.get("FASTCONV_CACHE_DIR"), os.environ.get("NUMBA_CACHE_DIR"), os.path.join(home, "fastconv")):
        if not base:
            continue
        folder = Path(base).absolute() / f"kernels-{installation}"
        nearest = next((p for p in (folder, *folder.parents) if p.exists()), None)
        if nearest is not None and nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
            return folder
    return None


class _Locator(_CacheLocator):
    """Names the folder and the stamp; the line number tells functions of one name apart."""

    def __init__(self, py_func: Any, py_file: str) -> None:
        self._py_file = py_file              # Numba names it in its warnings
        self.line = py_func.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        return source_stamp()

    def get_disambiguator(self) -> str:
        return str(self.line)

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _Locator:
        return cls(py_func, py_file)


class _Implementation(CompileResultCacheImpl):
    _locator_classes = [_Locator]


class KernelCache(FunctionCache):
    """Numba's function cache, in our folder under our stamp; a folder that cannot be written is no error."""

    _impl_class = _Implementation

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError:
            self.disable()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except (OSError, EOFError):
            return None                # another process is writing it, or the disk is full of half files: compile


def jit(function: Callable[..., Any] | None = None, *, parallel: bool = False, exact: bool = False, inline: bool = False) -> Any:
    """Compile a kernel: without the GIL, cached on disk. `exact`: no reordered sums (where NaN must win a comparison)."""
    if function is None:
        return functools.partial(jit, parallel=parallel, exact=exact, inline=inline)
    dispatcher = numba.njit(nogil=True, parallel=parallel, error_model="numpy", fastmath=False if exact else set(SUMS),
                            inline="always" if inline else "never")(function)
    if not inline and not numba.config.DISABLE_JIT and cache_folder() is not None:
        dispatcher._cache = KernelCache(function)
    return dispatcher
