"""Calls in processes of their own, side by side, so that kernels get compiled: Numba compiles one at a time in a process.

What the processes share is the folder of compiled kernels. Where there is none, or one thread alone may be used, this process does it all.
"""
from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import numba

from . import compiling, runtime
from .kernels.jit import cache_folder

MOST = 8                                     # processes; each takes half a GB


def each(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """(item, function(item)) of every item, in the order in which they are done, without a word in the log. Both must be picklable."""
    threads = runtime.get_num_threads()
    if threads == 1 or numba.config.DISABLE_JIT or cache_folder() is None:
        with compiling.silent():
            yield from ((item, function(item)) for item in items)
        return
    with ProcessPoolExecutor(min(threads, MOST), multiprocessing.get_context("spawn"), _begin, (threads,)) as pool:
        running = {pool.submit(function, item): item for item in items}
        try:
            for future in as_completed(running):
                yield running[future], future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _begin(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)      # the process that waits for this one ends it,
    threading.Thread(target=_end_with_parent, daemon=True).start()       # or is killed
    compiling.LOG.setLevel("ERROR")
    runtime.set_num_threads(threads)
    runtime.start()                                   # on TBB, before Numba compiles anything parallel and starts threads of its own choice


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
