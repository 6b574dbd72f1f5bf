"""What the benches share: which layers, inputs and their truth, the race of one contender, fair memory, threads, and timing in turns.

A contender is a factory, contender(args, options, out) -> a call without arguments: args and options are those of the fastconv function,
out a reused array for the (first) result, for contenders that can write into one.
"""
from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from statistics import median
from time import perf_counter, sleep, thread_time
from typing import Any, NamedTuple

import numpy as np

import fastconv
from fastconv.kernels.burst import burst as multiply_adds
from fastconv.peak import STEPS
from fastconv.report import operations
from fastconv.report.measure import Case, crop
from fastconv.report.operations import Operation
from fastconv.report.peaks import Peaks
from fastconv.shapes import Layer
from fastconv.testing import assert_same, promised

Arrays = tuple[np.ndarray, ...]
Options = dict[str, Any]
Contender = Callable[[Arrays, Options, np.ndarray], Callable[[], Any]]

DTYPES = ("float32", "float64")
NAIVE_OUTPUTS = 256                          # elements of the result that a naive call computes: a crop of the layer where it has more
LOOSE = {"float32": 1e-4, "float64": 1e-12}  # errors of the contenders: plain sums, in whatever order

# The layers of a run that does not ask for all of them: small and large, few and many channels, every kind of kernel.
LAYERS = {
    "cs231n": ("fast_conv", "fast_pool", "net_conv", "net_pool", "alt_bn"),
    "vgg16": ("conv1_1", "conv3_2", "conv5_1", "pool1", "pool4"),
    "resnet50": ("conv1", "pool1", "conv2_3x3", "conv3_shortcut", "conv4_reduce", "conv5_3x3", "pool5", "bn_256x56", "bn_2048x7"),
    "mobilenetv2": ("dw_96x112_s2", "expand_24x56", "dw_144x56", "proj_960x7_160", "bn_96x112"),
}

BURST = 2e-3                                 # seconds of calls in one turn: a short call is timed with its caches warm, as in a loop
REST = 0.2                                   # seconds: OpenBLAS keeps a core busy for some 100 ms after a product (measured: sleep, process_time)
LEAST_TURNS = 7
SHARED = 1.5                                 # times as long as one burst of multiply-adds: then bursts of several threads share a processor
PATIENCE = 1.0                               # seconds that a turn waits for processors of its own
ONE = np.ones(1, np.float32)


def keep_memory() -> bool:
    """Have malloc keep freed memory for the next array, so that no contender pays page faults for its large outputs. glibc only.

    The same as MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_TOP_PAD_=268435456 in the environment.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(*option) for option in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**30), (M_TOP_PAD, 2**28)))


@contextmanager
def threads(n: int) -> Iterator[None]:
    """fastconv and NumPy's BLAS both on n threads. Needs threadpoolctl, of the extra `bench`; engine.py and peers.py do without."""
    import threadpoolctl

    before = fastconv.get_num_threads()
    fastconv.set_num_threads(n)
    try:
        with threadpoolctl.threadpool_limits(n, user_api="blas"):
            yield
    finally:
        fastconv.set_num_threads(before)


def cases(name: str, every_layer: bool) -> list[Case]:
    """The operation of this name on its layers, in both dtypes."""
    (operation,) = (operation for operation in operations.OPERATIONS if operation.name == name)
    found = [(table, layer) for table, layer in operations.layers(operation, quick=False) if every_layer or layer.name in LAYERS[table]]
    return [Case(operation, table, layer, dtype) for table, layer in found for dtype in DTYPES]


def cropped(layer: Layer) -> Layer:
    """What a naive row runs on."""
    return crop(layer, NAIVE_OUTPUTS)


def fast(function: Callable[..., Any], out: bool, **options: Any) -> Contender:
    """A function of fastconv, into the reused array where it takes out=."""
    return lambda args, layer_options, reused: partial(function, *args, **layer_options, **options, **({"out": reused} if out else {}))


def plain(function: Callable[..., Any]) -> Contender:
    """A function with the same arguments."""
    return lambda args, options, reused: partial(function, *args, **options)


def taps(xp: np.ndarray, KH: int, KW: int, stride: int, OH: int, OW: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """(i, j, the elements of the padded xp under tap (i, j) of every window): views (N, C, OH, OW), to read or to add to."""
    for i, j in np.ndindex(KH, KW):
        yield i, j, xp[:, :, i : i + stride * (OH - 1) + 1 : stride, j : j + stride * (OW - 1) + 1 : stride]


def padded(x: np.ndarray, padding: int, value: float = 0) -> np.ndarray:
    return np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), constant_values=value)


@lru_cache(maxsize=2)
def _problem(operation: Operation, layer: Layer, dtype: str) -> tuple[Arrays, Options, Arrays]:
    """Arguments in this dtype, options, and the true results in float64, followed by the arguments that are updated in place."""
    args, options = operation.arguments(layer)
    if operation.name == "max_pool2d_backward":     # no ties: the course shares a tie's gradient out
        x = np.random.default_rng(5).permutation(args[1].size).reshape(args[1].shape)
        args = (args[0], x.astype(np.float64), *args[2:])
    own = tuple(np.ascontiguousarray(a, dtype) for a in args)
    wide = tuple(a.astype(np.float64) for a in own)
    return own, options, _results(operation, operation.truth()(*wide, **options), wide)


def _results(operation: Operation, result: Any, args: Arrays) -> Arrays:
    return (*(result if isinstance(result, tuple) else (result,)), *(args[i] for i in operation.writes))


def race(benchmark: Any, peaks: Peaks, case: Case, name: str, contender: Contender) -> None:
    """Prove one contender's answer, then time it, and note what its time means."""
    operation, dtype = case.operation, case.dtype
    layer = cropped(case.layer) if name.startswith("naive") else case.layer
    args, options, truth = _problem(operation, layer, dtype)
    own = tuple(a.copy() if i in operation.writes else a for i, a in enumerate(args))
    call = contender(own, options, np.ones(truth[0].shape, dtype))
    benchmark.group = str(case)
    error = _prove(_results(operation, benchmark(call) if benchmark.disabled else call(), own), truth, dtype, name)
    if benchmark.disabled:
        return
    benchmark(call)
    seconds = benchmark.stats.stats.median
    work = operation.work(layer) * (np.dtype(dtype).itemsize if operation.unit == "GB/s" else 1)
    peak = peaks(operation.unit, work, dtype)
    benchmark.extra_info.update({
        "operation": operation.name, "table": case.table, "layer": case.layer.name, "dtype": dtype, "contender": name,
        "x_shape": layer.x_shape, "weight_shape": layer.weight_shape, "y_shape": layer.y_shape, "threads": peaks.threads,
        "rate": work / seconds / 1e9, "unit": operation.unit, "peak": peak, "per_cent_of_peak": 100 * work / seconds / 1e9 / peak,
        "error": error, "seconds_of_whole_layer": seconds * operation.work(case.layer) / operation.work(layer), "crop": layer != case.layer,
    })


def _prove(results: Arrays, truth: Arrays, dtype: str, name: str) -> float:
    """AssertionError unless each result has this dtype and equals the truth; the largest error found."""
    ours = name not in ("naive", "naive_crop", "numpy", "course")
    error = 0.0
    for number, (found, true) in enumerate(zip(results, truth, strict=True)):
        assert found.dtype == dtype, f"{name}: result {number} has dtype {found.dtype}"
        tolerance = promised(dtype, winograd=name == "auto") if ours else LOOSE[dtype]
        error = max(error, assert_same(found.astype(np.float64), true, tolerance=tolerance, name=f"{name}: result {number}"))
    return error


def await_processors() -> bool:
    """Wait until two threads have a processor each, at most PATIENCE seconds; whether they have.

    The host of a virtual machine puts several processors on one now and then, for seconds: each call then takes as long as on one thread.
    """
    def bursts(threads: int) -> float:
        start = perf_counter()
        for done in [_two_threads().submit(multiply_adds, ONE, STEPS // 4) for _ in range(threads)]:
            done.result()
        return perf_counter() - start

    deadline = perf_counter() + PATIENCE
    while bursts(2) > SHARED * bursts(1):
        if perf_counter() > deadline:
            return False
    return True


@lru_cache(maxsize=1)
def _two_threads() -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(2)
    for done in [pool.submit(multiply_adds, ONE, 1) for _ in range(2)]:        # compiled, and both threads there
        done.result()
    return pool


class Turns(NamedTuple):
    """What `in_turns` found, in the order of its calls."""

    seconds: list[float]                     # the median of each
    ratios: list[float]                      # the first call's time over each call's: the median of the turns' own ratios
    best: list[float]                        # the same of the fastest turn of each


def in_turns(calls: list[Callable[[], Any]], seconds: float, one_thread: bool, rest: float = REST, least: int = LEAST_TURNS,
             burst: float = BURST) -> Turns:
    """Time the calls one after the other again and again, for `seconds` in all, so that a change of the machine's pace hits all alike.

    least: turns, however long they take. burst: seconds of calls in one turn; where those are several, one goes before, untimed.
    one_thread: the calls do all their work on this thread, whose own processor time is taken, without what other processes take from it.
    Otherwise a turn waits for processors of its own (`await_processors`).
    """
    clock = thread_time if one_thread else perf_counter
    shared = one_thread                      # nothing to wait for; or nothing that waiting helps against
    counts = []
    for call in calls:
        call()
        start = clock()
        call()
        counts.append(max(1, round(burst / max(clock() - start, 1e-9))))
    times: list[list[float]] = [[] for _ in calls]
    deadline = perf_counter() + seconds
    while len(times[0]) < least or perf_counter() < deadline:
        order = list(zip(calls, counts, times))
        for call, count, own in order if len(times[0]) % 2 else order[::-1]:
            if not one_thread:
                sleep(rest)
                shared = shared or not await_processors()
            if count > 1 or not one_thread:  # what the other calls have left in the caches is theirs
                call()
            start = clock()
            for _ in range(count):
                call()
            own.append((clock() - start) / count)
    return Turns([median(own) for own in times], [median(a / b for a, b in zip(times[0], own)) for own in times],
                 [min(times[0]) / min(own) for own in times])
