"""What the machine gives, and how much of it to use: the instruction set, the number of threads, memory that is kept.

Nothing here happens at import. Threads are started by the first call that has work for two (kernels/team.py).
"""
from __future__ import annotations

import os
import platform
from pathlib import Path

import numba

from . import check, instruction_set, recycling
from .instruction_set import isa

VARIABLE = "FASTCONV_NUM_THREADS"

_threads: int | None = None        # what set_num_threads said, or FASTCONV_NUM_THREADS, once asked


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
    """Threads worth having for `work` floating-point operations, or about twice the bytes moved: one where a second gains nothing."""
    return min(get_num_threads(), most_threads(work))


def most_threads(work: float) -> int:
    """The same on a machine of any number of cores."""
    return 1 if work < SMALL_WORK else 1 + max(1, int(work / max(1, SMALL_WORK)))


SMALL_WORK = 3e6                   # 30 microseconds of one thread; data goes from core to core besides, so what only moves it has to take longer


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
    """What `fastconv info` prints: CPU, instruction set, threads, cache folder, versions."""
    import llvmlite
    import numpy

    from . import __version__
    from .kernels.jit import cache_folder
    folder = cache_folder()
    told = [f"{instruction_set.VARIABLE} is set"] if instruction_set.override() else []
    told += [f"LLVM's CPU: {numba.config.CPU_NAME}"] if numba.config.CPU_NAME else []
    return {
        "CPU": cpu_name(),
        "instruction set": isa() + (f" ({', '.join(told)})" if told else ""),
        "threads": f"{get_num_threads()} of {max_threads()}",
        "kernel cache": str(folder) if folder else "none: no writable folder, so every process compiles again (set FASTCONV_CACHE_DIR)",
        "fastconv": __version__,
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "numpy": numpy.__version__,
        "python": f"{platform.python_implementation()} {platform.python_version()} on {platform.platform()}",
    }
