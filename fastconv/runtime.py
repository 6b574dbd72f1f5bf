"""What the machine gives: the instruction set, the threads, TBB, and where compiled kernels are kept.

Nothing here happens at import. TBB is looked for, and Numba's threads are started, by the first call that has work for two
threads; until then, and always on one thread, only serial kernels run.
"""
from __future__ import annotations

import ctypes
import importlib.metadata
import multiprocessing
import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numba

from . import check, instruction_set, recycling
from .instruction_set import isa

VARIABLE = "FASTCONV_NUM_THREADS"

_threads: int | None = None        # what set_num_threads said, or FASTCONV_NUM_THREADS, once asked
_started = threading.Lock()
_layer: str | None = None          # Numba's threading layer, known once its threads have started
_guard: AbstractContextManager[Any] = nullcontext()
_serial_only = False               # in a forked child of a process whose threading layer does not survive a fork
_imported_by = os.getpid()         # another process is a forked child of this one


def max_threads() -> int:
    """The largest number that `set_num_threads` takes: the cores this process may use (NUMBA_NUM_THREADS where that is set)."""
    return int(numba.config.NUMBA_NUM_THREADS)


def set_num_threads(n: int) -> None:
    """Use at most `n` threads in every fastconv call of this process, whichever Python thread makes it.

    Numba's and BLAS's own settings are left as they are. Results do not depend on `n`, bit for bit.
    TypeError unless `n` is an integer; ValueError below 1 or above the machine's limit.
    """
    global _threads
    _threads = _thread_count(n, "n")


def get_num_threads() -> int:
    """The number of threads that fastconv calls may use: `set_num_threads`, else FASTCONV_NUM_THREADS, else every core."""
    global _threads
    if _threads is None:
        text = os.environ.get(VARIABLE, "").strip()
        if not text:
            _threads = max_threads()
        else:
            try:
                n = int(text)
            except ValueError:
                raise ValueError(f"the environment variable {VARIABLE} is {text!r}; wanted: an integer from 1 to {max_threads()}") from None
            _threads = _thread_count(n, f"the environment variable {VARIABLE}")
    return _threads


def _thread_count(n: int, name: str) -> int:
    most = max_threads()
    return check.integer(name, n, 1, most, f"an integer from 1 to {most}, the number of cores this process may use")


def set_recycling(mib: int) -> None:
    """Keep at most so many MiB of memory of large results that are gone, for the next ones (see recycling.py); 0 keeps none. Process-wide.

    Without a call it is what the environment variable FASTCONV_RECYCLE_MIB says, or 256. Results of less than 8 MiB never come out of
    kept memory. TypeError or ValueError for anything but an integer of at least 0.
    """
    recycling.keep(check.integer("mib", mib, 0) * recycling.MIB)


def get_recycling() -> int:
    """How many MiB of memory of large results that are gone may be kept."""
    return recycling.kept() // recycling.MIB


def threads_for(work: float) -> int:
    """Threads worth starting for `work` floating-point operations, or about twice the bytes moved: one where a second gains nothing."""
    if work < SMALL_WORK:
        return 1
    n = get_num_threads()
    if n > 1:
        start()
        if _serial_only:
            return 1
    return n


SMALL_WORK = 3e6                   # 30 microseconds of one thread; data goes from core to core besides, so what only moves it has to take longer


def run(serial: Any, parallel: Any, work: float, *arguments: Any) -> None:
    """Call the driver for as many threads as the work is worth."""
    threads = threads_for(work)
    if threads == 1:
        serial(*arguments)
    else:
        with using(threads):
            parallel(*arguments)


@contextmanager
def using(threads: int) -> Iterator[None]:
    """Numba on so many threads; its own setting is afterwards what it was."""
    with _guard:
        before = numba.get_num_threads()     # of this Python thread alone
        numba.set_num_threads(threads)
        try:
            yield
        finally:
            numba.set_num_threads(before)


def start() -> str:
    """Start Numba's threads, on TBB where it can be found, and return the name of the threading layer in use."""
    global _layer, _guard, _serial_only
    if _layer is None:
        with _started:
            if _layer is None:
                before = _running_layer()
                load_tbb()
                numba.set_num_threads(numba.get_num_threads())     # Numba's public way to start its threads: the setting stays
                layer = numba.threading_layer()
                if layer != "tbb":
                    # Threads that the user's own program started before it forked are not in this child.
                    forked = os.getpid() != _imported_by or multiprocessing.parent_process() is not None
                    _serial_only = before is not None and forked
                    _guard = threading.RLock()
                    if hasattr(os, "register_at_fork"):
                        os.register_at_fork(after_in_child=_after_fork)
                _layer = layer
    return _layer


def _running_layer() -> str | None:
    """The layer that Numba's threads already run on, started by the user's own parallel program."""
    try:
        return numba.threading_layer()
    except ValueError:
        return None


def _after_fork() -> None:
    # GNU OpenMP ends a forked child that enters it again, and the lock may be held by a thread that the child does not have.
    global _serial_only, _guard
    _serial_only = True
    _guard = threading.RLock()


def load_tbb() -> bool:
    """Load PyPI's `tbb` so that Numba finds it: its library lies beside the installed distribution, where no linker looks.

    Numba asks the linker for the name alone; a library already loaded under that name answers. The installed distribution goes
    before the system's library, which may be older than Numba takes. Without TBB, Numba uses OpenMP or its own work queue, and
    parallel calls are made one at a time.
    """
    name = {"win32": "tbb12.dll", "darwin": "libtbb.12.dylib"}.get(sys.platform, "libtbb.so.12")
    for place in (*_tbb_places(name), name):
        try:
            ctypes.CDLL(str(place), mode=ctypes.RTLD_GLOBAL)
            return True
        except OSError:
            continue
    return False


def _tbb_places(name: str) -> list[Path]:
    """Files called `name` that belong to an installed distribution `tbb`, or lie where conda puts them."""
    installed = importlib.metadata.distributions(name="tbb")        # the first of several may have been moved without its library
    places = [Path(str(f.locate())) for distribution in installed for f in distribution.files or () if f.name == name]
    places.append(Path(sys.prefix, *(("Library", "bin") if sys.platform == "win32" else ("lib",)), name))
    # pip records where files lay before `--target` moved them (if it did: some releases leave libraries out): look beside it too.
    candidates = [candidate for place in places for candidate in (place, *(parent / "lib" / name for parent in place.parents[:4]))]
    return list(dict.fromkeys(candidate.resolve() for candidate in candidates if candidate.exists()))


def cpu_name() -> str:
    """The processor's name, as the operating system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def info() -> dict[str, str]:
    """What `fastconv info` prints: CPU, instruction set, threads, threading layer, cache folder, versions."""
    import llvmlite
    import numpy

    from . import __version__
    from .kernels.jit import cache_folder
    layer = start()
    if layer != "tbb":
        layer += " (no TBB: calls from several Python threads are made one at a time, and a forked child computes on one thread)"
    folder = cache_folder()
    told = [f"{instruction_set.VARIABLE} is set"] if instruction_set.override() else []
    told += [f"LLVM's CPU: {numba.config.CPU_NAME}"] if numba.config.CPU_NAME else []
    return {
        "CPU": cpu_name(),
        "instruction set": isa() + (f" ({', '.join(told)})" if told else ""),
        "threads": f"{get_num_threads()} of {max_threads()}",
        "threading layer": layer,
        "kernel cache": str(folder) if folder else "none: no writable folder, so every process compiles again (set FASTCONV_CACHE_DIR)",
        "fastconv": __version__,
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "numpy": numpy.__version__,
        "python": f"{platform.python_implementation()} {platform.python_version()} on {platform.platform()}",
    }
