"""Calls in processes of their own, side by side, so that kernels get compiled: Numba compiles one at a time in a process.

What the processes share is the folder of compiled kernels. Where there is none, or one thread alone may be used, this process does it all;
so it does with what a process that has ended, or failed at, left undone. Why not concurrent.futures: here the processes end with the one
that waits for them, killed or not; a stop does not wait for the kernel in hand; a process that is lost costs nothing but time; and nothing of
the user's runs in them, where multiprocessing runs the user's script again, up to its `if __name__ == "__main__"` if it has one.
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
SERVE = """import sys
sys.path[:] = [place for place in sys.path if place]      # not the current folder, which may hold a signal.py of the user's
import pickle, signal
signal.signal(signal.SIGINT, signal.SIG_DFL)     # Ctrl-C goes to all processes of a terminal: this one ends without a word
sys.path[:] = pickle.load(sys.stdin.buffer)
from fastconv import processes
processes.serve()
"""

Call = Callable[[Any], Any]
Outcome = tuple[Any, Any]                    # item, result


def each(function: Call, items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """(item, function(item)) of every item, in the order in which they are done, without a word in the log. All must be picklable.

    The processes end with the loop over it, whatever they are at.
    """
    threads, left = runtime.get_num_threads(), deque(items)
    if threads > 1 and not numba.config.DISABLE_JIT and cache_folder() is not None and sys.executable and not getattr(sys, "frozen", False):
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
            yield from iter(done.get, None)
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
            done.put((item, pickle.load(process.stdout)))
            busy = False
    except Exception:                        # it has ended, or what it sent cannot be read: its item comes back,
        pass                                 # or another process took the last one
    finally:
        for pipe in (process.stdin, process.stdout):       # it ends now, not with the last of the others
            with contextlib.suppress(OSError):
                pipe.close()
        if busy:
            left.append(item)
        done.put(None)


def serve() -> None:
    """What a process started by `each` does, until its standard input ends: with the process that waits for it, however that ends.

    An error ends it too: the item is then done, and the error raised, where its traceback is of use.
    """
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)                            # what a kernel or library prints is no result
    calls: SimpleQueue[Any] = SimpleQueue()
    compiling.LOG.setLevel("ERROR")
    runtime.set_num_threads(pickle.load(sys.stdin.buffer))
    threading.Thread(target=_listen, args=(calls,), daemon=True).start()
    while True:
        function, item = calls.get()
        try:
            result = function(item)
        except Exception:
            os._exit(1)
        pickle.dump(result, results)
        results.flush()


def _listen(calls: SimpleQueue[Any]) -> None:
    with contextlib.suppress(Exception):
        while True:
            calls.put(pickle.load(sys.stdin.buffer))
    os._exit(1)
