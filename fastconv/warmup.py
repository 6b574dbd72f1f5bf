"""`fastconv warmup`: every kernel compiled, or loaded where it was compiled before, for float32 and float64.

Kernels of the shared signature (kernels/tasks.py) are compiled as they are. The others have a serial and a parallel driver with arguments
of their own: small calls of the public functions run each, once as on one thread and once as on several.
"""
from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from . import compiling, fold, kernels, norm, runtime
from .kernels import tasks
from .kernels.burst import burst
from .kernels.jit import name_of

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
PARAMETERS = ["first", "last", "src", "weight", "dst", "bias", "residual", "job", "table"]     # of the shared signature


class Step(NamedTuple):
    """One kernel, or one small call, to compile what it runs."""

    name: str
    run: Callable[[], Any]


class Show(Protocol):
    """What tells how far it is."""

    def begin(self, name: str) -> None: ...

    def end(self, name: str, seconds: float) -> None: ...


def engine() -> list[Any]:
    """The kernels of the shared signature, wherever they are."""
    found = []
    for module in (importlib.import_module(f"{kernels.__name__}.{info.name}") for info in pkgutil.iter_modules(kernels.__path__)):
        for value in vars(module).values():
            function = getattr(value, "py_func", None)
            if function is not None and function.__module__ == module.__name__ and list(inspect.signature(function).parameters) == PARAMETERS:
                found.append(value)
    return found


def steps() -> list[Step]:
    """All there is to do."""
    threads = runtime.get_num_threads()
    todo = [Step(f"burst {dtype}", partial(burst, np.zeros(1, dtype), 1)) for dtype in DTYPES]
    for dtype in DTYPES:
        todo += [Step(f"{name_of(kernel.py_func)} {dtype}", partial(tasks.compiled, kernel, dtype))
                 for kernel in (*engine(), *([tasks.parallel] if threads > 1 else []))]
    for several in (False, True) if threads > 1 else (False,):
        for dtype in DTYPES:
            todo += [Step(f"{name} {dtype}{', threads' if several else ''}", partial(_run, call, several))
                     for name, call in _calls(dtype)]
    return todo


def _calls(dtype: np.dtype) -> list[tuple[str, Callable[[], Any]]]:
    """Small calls that run every kernel with a serial and a parallel driver."""
    x, C = np.ones((2, 3, 8, 8), dtype), np.ones(3, dtype)
    return [
        ("batch_norm", lambda: norm.batch_norm(x, None, None, C, C, True)),
        ("im2col", lambda: fold.im2col(x, 3)),
        ("col2im", lambda: fold.col2im(np.ones((2, 27, 36), dtype), (8, 8), 3)),
    ]


def _run(call: Callable[[], Any], several: bool) -> None:
    """The call as if its work were worth several threads, or not."""
    small, runtime.SMALL_WORK = runtime.SMALL_WORK, 0.0 if several else float("inf")
    try:
        call()
    finally:
        runtime.SMALL_WORK = small


def warm(show: Show, todo: list[Step]) -> int:
    """Do all steps, without a word in the log; how many kernels were compiled, not loaded."""
    if runtime.get_num_threads() > 1:
        runtime.start()                      # on TBB, before Numba compiles anything parallel and starts threads of its own choice
    before = len(compiling.compiled)
    with compiling.silent():
        for step in todo:
            show.begin(step.name)
            begin = time.perf_counter()
            step.run()
            show.end(step.name, time.perf_counter() - begin)
    return len(compiling.compiled) - before


# ---------------------------------------------------------------- what the terminal shows
class _Lines:
    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0

    def begin(self, name: str) -> None:
        pass

    def end(self, name: str, seconds: float) -> None:
        self._done += 1
        print(f"{self._done}/{self._total} {name} {seconds:.1f} s", flush=True)


class _Bar:
    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def begin(self, name: str) -> None:
        self._bar.step(name)

    def end(self, name: str, seconds: float) -> None:
        pass


@contextmanager
def display(total: int) -> Iterator[Show]:
    """A live bar in a terminal where rich is installed, one line a step elsewhere."""
    if sys.stdout.isatty():
        try:
            from .report import terminal
        except ModuleNotFoundError:
            pass
        else:
            with terminal.progress(terminal.console()) as bar:
                bar.start("compiling", total)
                yield _Bar(bar)
            return
    yield _Lines(total)
