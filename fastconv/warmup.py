"""`fastconv warmup`: every kernel compiled, or loaded where it was compiled before, for float32 and float64.

Kernels of the shared signature (kernels/tasks.py) are compiled as they are. What stands around them has arguments of its own: small calls
of the public functions run it, once as on one thread and once as on several.
"""
from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from . import activation, compiling, kernels, layer, network, norm, pool, processes, runtime
from .kernels import tasks
from .kernels.burst import burst
from .kernels.jit import name_of

PARAMETERS = ["first", "last", "src", "weight", "dst", "bias", "residual", "job", "table"]     # of the shared signature
DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


class Step(NamedTuple):
    """One kernel, or one small call, to compile what it runs."""

    name: str
    run: Callable[[], Any]


Show = Callable[[str, float], None]                   # told the name of each step that is done, and its seconds


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
                 for kernel in engine()]
        todo += [Step(f"threads {dtype}", partial(tasks.compile_threads, dtype))] if threads > 1 else []
    for several in (False, True):            # on one thread, too: large poolings go another way than small ones
        for dtype in DTYPES:
            todo += [Step(f"{name} {dtype}{', threads' if several else ''}", partial(_run, call, several))
                     for name, call in _calls(dtype, 3 if several else 2)]
    return todo


def _calls(dtype: np.dtype, N: int) -> list[tuple[str, Callable[[], Any]]]:
    """Small calls that run what is different on one thread and on several. N: images, another number for each: calls are remembered."""
    x, C, prepared = np.ones((N, 3, 8, 8), dtype), np.ones(3, dtype), layer.Conv2d(np.ones((3, 3, 1, 1), dtype))
    net = network.Network(x.shape, dtype)
    net.add(prepared, net.x)
    return [
        ("relu", lambda: activation.relu(x)),
        ("max_pool2d", lambda: pool.max_pool2d(x, 2)),
        ("Conv2d", lambda: prepared(x)),
        ("Network", lambda: net(x)),
        ("batch_norm", lambda: norm.batch_norm(x, None, None, C, C, True)),
        ("batch_norm_backward", lambda: norm.batch_norm_backward(x, x, None, None, C, C, True)),
    ]


def _run(call: Callable[[], Any], several: bool) -> None:
    """The call as if its work were worth several threads, or not; twice, as kernels that only make calls shorter are compiled in the second one."""
    small, runtime.SMALL_WORK = runtime.SMALL_WORK, 0.0 if several else float("inf")
    try:
        for _ in range(2):
            call()
    finally:
        runtime.SMALL_WORK = small


def warm(show: Show, todo: list[Step]) -> int:
    """Do all `steps()`; how many kernels were compiled, not loaded."""
    total = 0
    for number, (seconds, compiled) in processes.each(_do, range(len(todo))):
        show(todo[number].name, seconds)
        total += compiled
    return total


def _do(number: int) -> tuple[float, int]:
    """Do this one of all steps: seconds, and how many kernels were compiled."""
    before, begin = len(compiling.compiled), time.perf_counter()
    _steps()[number].run()
    return time.perf_counter() - begin, len(compiling.compiled) - before


@functools.lru_cache(maxsize=1)
def _steps() -> list[Step]:
    return steps()


# ---------------------------------------------------------------- what the terminal shows
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
                yield lambda name, seconds: bar.step(name)
            return
    numbers = count(1)
    yield lambda name, seconds: print(f"{next(numbers)}/{total} {name} {seconds:.1f} s", flush=True)
