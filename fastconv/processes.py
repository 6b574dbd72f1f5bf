"""Calls in processes of their own, side by side, so that kernels get compiled: Numba compiles one at a time in a process.

What the processes share is the folder of compiled kernels. Where there is none, or one thread alone may be used, this process does it all;
so it does with what a process that has ended left undone. They are started as programs: multiprocessing would run the user's own script
again in each of them, up to its `if __name__ == "__main__"`, or to its end where it has none.
"""
from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any

import numba

from . import compiling, runtime
from .kernels.jit import cache_folder

MOST = 8                                     # processes; each takes half a GB
SERVE = """import pickle, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)     # Ctrl-C goes to all processes of a terminal: this one ends without a word
sys.path[:] = pickle.load(sys.stdin.buffer)
from fastconv import processes
processes.serve()
"""

Call = Callable[[Any], Any]
Outcome = tuple[Any, Any, "BaseException | None"]           # item, result, error


def each(function: Call, items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """(item, function(item)) of every item, in the order in which they are done, without a word in the log. All must be picklable.

    The processes end with the loop over it, whatever they are at.
    """
    threads, left = runtime.get_num_threads(), deque(items)
    if threads > 1 and not numba.config.DISABLE_JIT and cache_folder() is not None and not getattr(sys, "frozen", False):
        yield from _side_by_side(function, left, threads)
    with compiling.silent():
        yield from ((item, function(item)) for item in left)


def _side_by_side(function: Call, left: deque[Any], threads: int) -> Iterator[tuple[Any, Any]]:
    """Takes from `left` what gets done."""
    done: SimpleQueue[Outcome | None] = SimpleQueue()
    running: list[subprocess.Popen[bytes]] = []
    try:
        with contextlib.suppress(OSError):   # no room for another process
            while len(running) < min(threads, MOST, len(left)):
                running.append(subprocess.Popen([sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        for process in running:
            threading.Thread(target=_feed, args=(process, function, left, threads, done), daemon=True).start()
        for _ in running:
            for item, result, error in iter(done.get, None):
                if error is not None:
                    raise error
                yield item, result
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def _feed(process: subprocess.Popen[bytes], function: Call, left: deque[Any], threads: int, done: SimpleQueue[Outcome | None]) -> None:
    """Have a process do one item after the other; put the outcomes, and None at the end."""
    item, busy = None, False
    try:
        for head in (sys.path, threads):
            pickle.dump(head, process.stdin)
        while left:
            item, busy = left.popleft(), True
            pickle.dump((function, item), process.stdin)
            process.stdin.flush()
            done.put((item, *pickle.load(process.stdout)))
            busy = False
    except Exception:                        # it has ended, or what it sent cannot be read: its item comes back,
        pass                                 # or another process took the last one
    finally:
        if busy:
            left.append(item)
        done.put(None)


def serve() -> None:
    """What a process started by `each` does, until its standard input ends: with the process that waits for it, however that ends."""
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)                            # what a kernel or library prints is no result
    calls: SimpleQueue[Any] = SimpleQueue()
    compiling.LOG.setLevel("ERROR")
    runtime.set_num_threads(pickle.load(sys.stdin.buffer))
    threading.Thread(target=_listen, args=(calls,), daemon=True).start()
    runtime.start()                          # on TBB, before Numba compiles anything parallel and starts threads of its own choice
    while True:
        function, item = calls.get()
        try:
            outcome = function(item), None
        except Exception as error:
            outcome = None, error
        pickle.dump(outcome, results)
        results.flush()


def _listen(calls: SimpleQueue[Any]) -> None:
    with contextlib.suppress(Exception):
        while True:
            calls.put(pickle.load(sys.stdin.buffer))
    os._exit(1)
