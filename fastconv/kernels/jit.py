"""The decorator of every kernel: Numba without the GIL, and a cache on disk that knows all kernel sources.

Numba's own cache looks at the file of the compiled function only: after an edit (or an upgrade) of an intrinsic or callee in another
file it would go on running the old code, and it raises at import where no folder can be written. Here the folder is named by a hash
of all kernel sources, so no old code can be found in it, and a folder that cannot be written is no error. Each entry is one file
named by all that it depends on: Numba's index of numbered files lets two processes that start cold mix up their entries.
"""
from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import shutil
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from ..compiling import watch
from ..instruction_set import isa
from .compiler import Compiler, EarlyPartCompiler, PartCompiler, as_part

HERE = Path(__file__).resolve().parent
ISA = isa()                                  # settled before the first kernel is decorated: from then on Numba's processor stays

# Sums may be reordered into vectors and multiply-adds fused; NaN and inf keep their meaning.
SUMS = frozenset({"contract", "reassoc", "nsz"})

# Files of kernels whose vectors are explicit. What kernels of other files call is optimised before it is linked to them, too: LLVM makes better
# vectors of its loops there (double-precision softmax and gradient of layer_norm: 20 %), but it takes longer to compile.
WITHOUT_LOOPS = {"direct", "direct_dots", "direct_phases", "direct_weight", "winograd", "winograd_weight", "strassen", "conv_im2col", "gemm", "geometry",
                 "window"}

KEPT = 4                                     # folders of other states of the sources, of some 10 MB each


@functools.cache
def source_stamp() -> str:
    """A hash of all kernel sources, and of instruction_set.py, which names the vectors they are for."""
    digest = hashlib.sha256()
    for path in (*sorted(HERE.glob("*.py")), HERE.parent / "instruction_set.py"):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@functools.cache
def cache_folder() -> Path | None:
    """Where compiled kernels of this installation and its present sources are kept; None where no folder can be written.

    Below FASTCONV_CACHE_DIR, NUMBA_CACHE_DIR or the user's cache folder, the first of them that can be written.
    """
    user = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    user = user or os.path.join(os.path.expanduser("~"), ".cache")
    user = os.path.join(user, "fastconv") if os.path.isabs(user) else None        # a user without a home
    installation = hashlib.sha256(str(HERE).encode()).hexdigest()[:12]     # two checkouts do not fight over one entry
    for base in (os.environ.get("FASTCONV_CACHE_DIR"), os.environ.get("NUMBA_CACHE_DIR"), user):
        try:
            if base and _writable(Path(base).absolute()):
                return Path(base).absolute() / f"kernels-{installation}-{source_stamp()[:16]}"
        except OSError:
            continue                         # a folder above it may not even be looked at
    return None


def _writable(folder: Path) -> bool:
    """Whether the folder, or the nearest one above it that exists, can be written."""
    nearest = next((p for p in (folder, *folder.parents) if p.exists()), None)
    return nearest is not None and nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


@functools.cache
def _remove_outdated(folder: Path) -> None:
    """Remove what other states of the sources left behind, but the last few; once a process."""
    others = [other for other in folder.parent.glob(folder.name.rsplit("-", 1)[0] + "*") if other != folder]
    with contextlib.suppress(OSError):       # another process was faster
        for other in sorted(others, key=os.path.getmtime, reverse=True)[KEPT:]:
            shutil.rmtree(other, ignore_errors=True)


def name_of(function: Callable[..., Any]) -> str:
    return f"{function.__module__.rsplit('.', 1)[-1]}.{function.__qualname__}"


class KernelCache(_Cache):
    """The entries of one kernel. Whatever cannot be read is compiled again; where nothing can be written, nothing is."""

    def __init__(self, function: Callable[..., Any], folder: Path) -> None:
        self._name = name_of(function)
        self._folder = folder
        self._enabled = True

    @property
    def cache_path(self) -> str:
        return str(self._folder)

    def kept(self) -> str | None:
        """The folder of the entries, unless it turned out that it cannot be written."""
        return self.cache_path if self._enabled else None

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def flush(self) -> None:
        for path in self._folder.glob(f"{self._name}-*.kernel"):
            path.unlink(missing_ok=True)

    def _path(self, signature: Any, codegen: Any) -> Path:
        config = numba.config
        settings = ISA, config.OPT, config.BOUNDSCHECK, config.DEBUGINFO_DEFAULT, config.LOOP_VECTORIZE, config.SLP_VECTORIZE
        versions = numba.__version__, llvmlite.__version__, sys.implementation.cache_tag
        key = repr((str(signature), codegen.magic_tuple(), str(settings), versions))      # the magic tuple: CPU and features
        return self._folder / f"{self._name}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.kernel"

    def has(self, signature: Any, codegen: Any) -> bool:
        return self._enabled and self._path(signature, codegen).exists()

    def load_overload(self, sig: Any, target_context: Any) -> CompileResult | None:
        if not self._enabled:
            return None
        target_context.refresh()
        try:
            return CompileResult._rebuild(target_context, *pickle.loads(self._path(sig, target_context.codegen()).read_bytes()))
        except Exception:                    # not there, or damaged
            return None

    def save_overload(self, sig: Any, data: CompileResult) -> None:
        if not self._enabled or data.library.has_dynamic_globals:
            return
        path = self._path(sig, data.codegen)
        new = path.with_suffix("." + uuid.uuid4().hex)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _remove_outdated(self._folder)
            new.write_bytes(dumps(data._reduce()))
            os.replace(new, path)            # another process finds the whole entry or none
        except OSError:
            self.disable()
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)


KEEPING: set[Any] = set()


def keeping(kernel: Any) -> Any:
    """Mark a kernel that keeps things at hand from one share of its tasks to the next, and takes those itself: with `team.first_task` and `next_task`."""
    KEEPING.add(kernel)
    return kernel


def jit(function: Callable[..., Any] | None = None, *, exact: bool = False, inline: bool = False, merged: bool = False, views: bool = False) -> Any:
    """Compile a kernel: without the GIL, cached on disk. `exact`: no reordered sums (where NaN must win a comparison).

    inline: Numba copies the function into its callers, which then decide whether sums are reordered. merged: LLVM does, however long it is.
    views: it makes no arrays of its own. Then Numba counts the users of none: each count is an atomic instruction that waits for all stores before.
    """
    if function is None:
        return functools.partial(jit, exact=exact, inline=inline, merged=merged, views=views)
    make = functools.partial(numba.njit, nogil=True, error_model="numpy", fastmath=False if exact else set(SUMS),
                             inline="always" if inline else "never", forceinline=merged, no_cfunc_wrapper=True, _nrt=not views)
    dispatcher = make(pipeline_class=Compiler)(function)
    if not numba.config.DISABLE_JIT:
        folder = cache_folder()
        if folder is not None and not inline:
            dispatcher._cache = KernelCache(function, folder)
        watch(dispatcher, name_of(function), getattr(dispatcher._cache, "kept", lambda: None))
        if not inline:
            part = PartCompiler if function.__module__.rsplit(".", 1)[-1] in WITHOUT_LOOPS else EarlyPartCompiler
            as_part(dispatcher, lambda: make(pipeline_class=part, no_cpython_wrapper=True)(function))
    return dispatcher


_asked: set[tuple[Any, Any]] = set()


def at_hand(kernel: Any, kinds: Any, signature: Callable[[Any], tuple[Any, ...]]) -> bool:
    """Whether to use a kernel that makes calls shorter and nothing else: it is there or on disk, or this is not the first call that asks.

    So it is not compiled in the first call of an operation, which waits for the operation's own kernels. signature: its argument types, from kinds.
    """
    if numba.config.DISABLE_JIT or (kernel, kinds) in _asked:
        return True
    _asked.add((kernel, kinds))
    return _on_disk(kernel, signature(kinds))


def loadable(kernel: Any, signature: tuple[Any, ...]) -> bool:
    """Whether nobody has to wait until the kernel is compiled for these types."""
    return signature in kernel.overloads or _on_disk(kernel, signature)


def _on_disk(kernel: Any, signature: tuple[Any, ...]) -> bool:
    return isinstance(kernel._cache, KernelCache) and kernel._cache.has(signature, kernel.targetctx.codegen())
