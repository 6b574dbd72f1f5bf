"""How one operation is proven and timed on one layer.

First the proof: fast and naive on a crop of the layer that is small enough for the naive loops, then the whole layer against plain NumPy
in float64. Only then the clock: rounds of one naive call and several fast ones in turn, so that a change of the machine's pace hits both;
the medians count.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import prod
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import testing
from ..shapes import Layer
from .operations import OPERATIONS, Operation, layers

__all__ = ["Case", "Failure", "Result", "crop", "measure", "prepare"]

Array = NDArray[Any]

ROUNDS = 3
MOST_CALLS = 200  # fast calls in a round
FIRST_CROP = 64  # elements of the smallest crop that the naive version is tried on
PARALLEL_CROP = 300_000  # elements that are worth several threads


@dataclass(frozen=True)
class Case:
    """One operation on one layer in one dtype; its algorithms are measured together and share the naive timing."""

    operation: Operation
    table: str
    layer: Layer
    dtype: str

    def __str__(self) -> str:
        return f"{self.operation.name}, {self.table} {self.layer.name}, {self.dtype}"


@dataclass(frozen=True)
class Result:
    """One operation, by one algorithm, on one layer in one dtype: proven equal, and timed."""

    operation: str
    algorithm: str | None
    table: str
    layer: str
    dtype: str
    x_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    fast_seconds: float
    naive_seconds: float  # for the whole layer
    naive_crop: (
        tuple[int, ...] | None
    )  # the shape of x that naive was timed on; None for the whole layer. The time is scaled by the outputs
    speedup: float
    rate: float
    unit: str
    peak: float
    share_of_peak: float
    error: float  # the largest, relative to the largest value of the result, over crop and whole layer
    tolerance: float


@dataclass(frozen=True)
class Failure:
    """A result that is not equal to the naive loops or to the truth: nothing of it is timed."""

    operation: str
    algorithm: str | None
    table: str
    layer: str
    dtype: str
    message: str

    def __str__(self) -> str:
        algorithm = f" {self.algorithm}" if self.algorithm else ""
        return f"{self.operation}{algorithm}, {self.table} {self.layer}, {self.dtype}: {self.message}"


def crop(layer: Layer, elements: int) -> Layer:
    """The layer with its longest output axis halved until the output has at most so many elements. C of a dense convolution stays."""
    while prod(layer.y_shape) > elements:
        axes: dict[str, int] = {"N": layer.N}
        if layer.H:
            axes |= dict(zip(("H", "W"), layer.y_shape[2:], strict=True))
        if layer.op == "conv":
            axes["groups" if layer.groups > 1 else "F"] = layer.groups if layer.groups > 1 else layer.F
        else:
            axes["C"] = layer.C
        axis = max(axes, key=lambda name: axes[name])
        half = axes[axis] // 2
        if axis in "HW" and layer.op != "batchnorm":
            half = max(1, (half - 1) * layer.stride + (layer.KH if axis == "H" else layer.KW) - 2 * layer.padding)
        smaller: dict[str, Any] = {axis: half}
        if axis == "groups":
            smaller |= {"C": layer.C // layer.groups * half, "F": layer.F // layer.groups * half}
        layer = layer._replace(**smaller)
    return layer


def prepare(key: tuple[str, str]) -> None:
    """Call the fast function of an operation, by its name, in this dtype, on the layers of a quick run, and on a small and a larger crop.

    So the kernels for one and for many threads are compiled, or loaded.
    """
    name, dtype = key
    (operation,) = (operation for operation in OPERATIONS if operation.name == name)
    for table, layer in layers(operation, quick=True):
        for small in (layer, crop(layer, FIRST_CROP), crop(layer, PARALLEL_CROP)):
            args, options = _arguments(Case(operation, table, layer, dtype), small)
            for algorithm in operation.algorithms:
                with suppress(Exception):  # `measure` will say what is wrong
                    _fast(operation, algorithm)(*args, **options)


def measure(case: Case, seconds: float, peak: Callable[[str, int, str], float]) -> list[Result | Failure]:
    """Prove and time a case by each of its algorithms, in about this time. `peak` is what a rate is compared with, see peaks.py."""
    operation, layer = case.operation, case.layer
    small = _naive_crop(case, seconds / 15)
    small_args, small_options = _arguments(case, small)
    args, options = _arguments(case, layer)
    truth = _results(operation, operation.truth(), _cast(args, np.float64), options)

    outcome: list[Result | Failure] = []
    errors: dict[str, float] = {}
    calls: list[Callable[[], Any]] = []
    for algorithm in operation.algorithms:
        fast = _fast(operation, algorithm)
        try:
            tolerance = testing.promised(case.dtype, winograd=algorithm == "auto")
            where = f"crop x {small.x_shape}: result"
            crop_error = testing.assert_same(fast, operation.naive(), small_args, small_options, tolerance=tolerance, name=where)
            results = _results(operation, fast, args, options)
            error = _compare(results, truth, case.dtype, tolerance, f"whole layer x {layer.x_shape}: result")
        except AssertionError as problem:
            outcome.append(Failure(*_place(case, algorithm), str(problem)))
        except Exception as problem:  # noqa: BLE001  whatever a broken function raises must not hide the other operations
            outcome.append(Failure(*_place(case, algorithm), f"{type(problem).__name__}: {problem}"))
        else:
            errors[algorithm] = max(crop_error, error)
            calls.append(partial(fast, *args, **options, **({"out": results[0]} if operation.out else {})))
    if not errors:
        return outcome

    naive = partial(operation.naive(), *small_args, **small_options)
    naive_crop_seconds, times = _interleave(naive, calls, seconds / 3 / ROUNDS / len(calls))
    naive_seconds = naive_crop_seconds * prod(layer.y_shape) / prod(small.y_shape)
    work = operation.work(layer) * (np.dtype(case.dtype).itemsize if operation.unit == "GB/s" else 1)
    best = peak(operation.unit, work, case.dtype)
    for (algorithm, error), fast_seconds in zip(errors.items(), times, strict=True):
        rate = work / fast_seconds / 1e9
        outcome.append(
            Result(
                *_place(case, algorithm),
                x_shape=layer.x_shape,
                weight_shape=layer.weight_shape,
                y_shape=layer.y_shape,
                fast_seconds=fast_seconds,
                naive_seconds=naive_seconds,
                naive_crop=None if small == layer else small.x_shape,
                speedup=naive_seconds / fast_seconds,
                rate=rate,
                unit=operation.unit,
                peak=best,
                share_of_peak=rate / best,
                error=error,
                tolerance=testing.promised(case.dtype, winograd=algorithm == "auto"),
            )
        )
    return outcome


def _place(case: Case, algorithm: str) -> tuple[str, str | None, str, str, str]:
    return case.operation.name, algorithm or None, case.table, case.layer.name, case.dtype


def _fast(operation: Operation, algorithm: str) -> Callable[..., Any]:
    return partial(operation.fast(), algorithm=algorithm) if algorithm else operation.fast()


def _arguments(case: Case, layer: Layer) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args, options = case.operation.arguments(layer)
    return _cast(args, case.dtype), options


def _cast(args: tuple[Any, ...], dtype: Any) -> tuple[Any, ...]:
    """The arrays among them in this dtype."""
    return tuple(np.array(a, dtype, order="C") if isinstance(a, np.ndarray) else a for a in args)


def _naive_crop(case: Case, seconds: float) -> Layer:
    """The crop on which one naive call takes a quarter of this time to all of it; the whole layer where that is fast enough."""
    elements = FIRST_CROP
    while True:
        small = crop(case.layer, elements)
        args, options = _arguments(case, small)
        start = perf_counter()
        case.operation.naive()(*args, **options)
        if small == case.layer or perf_counter() - start > seconds / 4:
            return small
        elements *= 4


def _results(operation: Operation, function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, ...]:
    """What a call returns, and what it leaves in the arguments that it updates in place, of which it gets copies."""
    own = tuple(a.copy() if i in operation.writes else a for i, a in enumerate(args))
    result = function(*own, **options)
    return (*(result if isinstance(result, tuple) else (result,)), *(own[i] for i in operation.writes))


def _compare(results: tuple[Any, ...], truth: tuple[Any, ...], dtype: str, tolerance: float, where: str) -> float:
    """Prove results equal to the float64 truth; the error found.

    assert_same asks the second function for the plain result and, with a float64 argument, for the truth that the values are compared with.
    """
    return testing.assert_same(
        lambda like: results, lambda like: tuple(array.astype(like.dtype) for array in truth), [np.zeros(1, dtype)], tolerance=tolerance, name=where
    )


def _interleave(naive: Callable[[], Any], fast: list[Callable[[], Any]], seconds: float) -> tuple[float, list[float]]:
    """The median seconds of a naive call and of a call of each fast function: ROUNDS of one naive call, then fast ones for this long."""
    naive_times: list[float] = []
    fast_times: list[list[float]] = [[] for _ in fast]
    for number in range(1, ROUNDS + 1):
        naive_times.append(_time(naive))
        for call, times in zip(fast, fast_times, strict=True):
            most = len(times) + MOST_CALLS
            while not times or (len(times) < most and sum(times) < number * seconds):
                times.append(_time(call))
    return median(naive_times), [median(times) for times in fast_times]


def _time(call: Callable[[], Any]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start
