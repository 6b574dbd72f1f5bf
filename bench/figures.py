"""The figures that are asked of fastconv as a share of something else, each measured beside what it is a share of.

    python bench/figures.py [--only blas pool course] [--seconds 0.5]

blas    im2col convolution forward, float32 and float64, one thread, against BLAS doing only the matrix product of each image,
        weights (F, K) @ patches (K, OH*OW): asked at least 75 % of BLAS's speed in float32, 80 % in float64, where C and F >= 64
pool    max pooling 2x2 into a reused out=, one thread, against a copy that moves as many bytes: asked at least 50 %; and
        (32, 64, 112, 112) in float32 on two threads against CS231n's reshape method: asked at least 20 times its speed, backward 40 times
course  the convolution of CS231n's notebook, (100, 3, 31, 31), 25 filters 3x3, stride 2, float64, two threads, against the course's
        own definition (course.py): asked at least 3 times its speed
Both sides take turns in short bursts; a share is the median of the turns' own ratios, and `best` that of the fastest turns. One thread is
timed by its own processor time, two by the clock: a busy machine then shows in a `best` far from the median. The worst row comes first.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))     # run as a script: the house itself

import fastconv
from bench import course, harness
from fastconv import peak, runtime, shapes
from fastconv.shapes import Layer

ASKED = {"blas float32": 0.75, "blas float64": 0.80, "pool": 0.50, "pool, course forward": 20.0, "pool, course backward": 40.0, "course": 3.0,
         "course, 1 thread": 1.0}
DTYPES = ("float32", "float64")
LEAST_CHANNELS = 64
LEAST_BYTES = 1e6                            # below, a pool is a call's own cost, not bandwidth

Call = Callable[[], Any]


class Row(NamedTuple):
    """One comparison: our speed as a multiple of theirs."""

    asked: str                               # a key of ASKED
    what: str
    ours: float                              # seconds
    theirs: float
    multiple: float
    best: float
    rate: float                              # ours, in `unit`
    unit: str


def _random(*shape: int, dtype: str = "float64") -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape).astype(dtype)


def _distinct(layers: list[tuple[str, Layer]]) -> list[tuple[str, Layer]]:
    return list({layer._replace(name="", count=0): (table, layer) for table, layer in reversed(layers)}.values())[::-1]


def _layers(op: str) -> list[tuple[str, Layer]]:
    return _distinct([(table, layer) for table in shapes.tables() for layer in shapes.load(table) if layer.op == op])


def _against(asked: str, what: str, theirs: Call, ours: Call, work: float, unit: str, seconds: float, threads: int = 1) -> Row:
    with harness.threads(threads):
        found = harness.in_turns([theirs, ours], seconds, one_thread=threads == 1)
    return Row(asked, what, found.seconds[1], found.seconds[0], found.ratios[1], found.best[1], work / found.seconds[1] / 1e9, unit)


def blas(seconds: float) -> Iterator[Row]:
    for table, layer in _layers("conv"):
        if min(layer.C, layer.F) < LEAST_CHANNELS or layer.groups > 1:
            continue
        assert layer.N == 1                  # one product stands for the layer
        _, F, OH, OW = layer.y_shape
        K = layer.C * layer.KH * layer.KW
        for dtype in DTYPES:
            x, weight = _random(*layer.x_shape, dtype=dtype), _random(*layer.weight_shape, dtype=dtype)
            product = partial(np.matmul, weight.reshape(F, K), _random(K, OH * OW, dtype=dtype), out=np.empty((F, OH * OW), dtype))
            conv = partial(fastconv.conv2d, x, weight, stride=layer.stride, padding=layer.padding, algorithm="im2col",
                           out=np.empty(layer.y_shape, dtype))
            what = f"{table} {layer.name}, {layer.C}x{layer.H}x{layer.W} -> {F}, {layer.KH}x{layer.KW} s{layer.stride}"
            yield _against(f"blas {dtype}", what, product, conv, 2 * layer.multiply_adds, "GFLOP/s", seconds)


def pool(seconds: float) -> Iterator[Row]:
    layers = [(table, layer) for table, layer in _layers("maxpool") if (layer.KH, layer.KW, layer.stride) == (2, 2, 2)]
    large = ("course", Layer("max pool", "maxpool", 32, 64, 112, 112, 0, 2, 2, 2, 0, 0, 1))
    for table, layer in [*layers, large]:
        for dtype in DTYPES:
            x, y = _random(*layer.x_shape, dtype=dtype), np.ones(layer.y_shape, dtype)
            nbytes = x.nbytes + y.nbytes
            if nbytes < LEAST_BYTES:
                continue
            source, target = np.ones((2, nbytes // 16))
            what = f"{table} {layer.name}, {layer.x_shape} = {x.nbytes / 1e6:.1f} MB, {dtype}"
            ours = partial(fastconv.max_pool2d, x, 2, out=y)
            yield _against("pool", what, partial(np.copyto, target, source), ours, nbytes, "GB/s", seconds)
    yield from course_pool(seconds)


def course_pool(seconds: float) -> Iterator[Row]:
    x, threads = _random(32, 64, 112, 112, dtype="float32"), min(2, runtime.max_threads())
    y = course.max_pool_forward(x, 2)
    dout, out = _random(*y.shape, dtype="float32"), np.ones_like(y)
    calls = {"forward": (partial(course.max_pool_forward, x, 2), partial(fastconv.max_pool2d, x, 2, out=out), x.nbytes + y.nbytes),
             "backward": (partial(course.max_pool_backward, dout, x, y, 2), partial(fastconv.max_pool2d_backward, dout, x, 2), 2 * x.nbytes + y.nbytes)}
    for direction, (theirs, ours, nbytes) in calls.items():
        assert np.array_equal(theirs(), ours())          # no ties in these numbers, which the course shares out
        yield _against(f"pool, course {direction}", f"{x.shape}, float32, {threads} threads", theirs, ours, nbytes, "GB/s", 4 * seconds, threads)


def course_calls() -> dict[str, tuple[Call, Call, int]]:
    """The course's call, ours and the work in FLOP, forward and backward."""
    x, w, b = _random(100, 3, 31, 31), _random(25, 3, 3, 3), _random(25)
    out, patches = course.conv_forward(x, w, b, 2, 1)
    dout, flops = _random(*out.shape), 2 * out.size * w[0].size
    return {
        "forward": (partial(course.conv_forward, x, w, b, 2, 1), partial(fastconv.conv2d, x, w, b, 2, 1), flops),
        "backward": (partial(course.conv_backward, dout, x, w, patches, 2, 1), partial(fastconv.conv2d_backward, dout, x, w, b, 2, 1), 2 * flops),
    }


def alone(direction: str, side: int, kept: bool) -> float:
    """Seconds of one call of one side on two threads, the median of many: for a process of its own."""
    if kept:
        harness.keep_memory()
    with harness.threads(2):
        return harness.in_turns([course_calls()[direction][side]], 0.3, one_thread=False, rest=0).seconds[0]


def course_layer(seconds: float) -> Iterator[Row]:
    """Two threads: each side in processes of its own, in turns, since BLAS's idle threads keep a core busy for 100 ms after each product."""
    if runtime.max_threads() >= 2:
        for direction, (_, _, flops) in course_calls().items():
            for kept in (False, True):
                turns = []
                for _ in range(5):
                    with ProcessPoolExecutor(1, get_context("spawn")) as theirs, ProcessPoolExecutor(1, get_context("spawn")) as ours:
                        turns.append((theirs.submit(alone, direction, 0, kept).result(), ours.submit(alone, direction, 1, kept).result()))
                theirs_s, ours_s = (median(side) for side in zip(*turns))
                best = min(t for t, _ in turns) / min(o for _, o in turns)
                memory = "freed memory kept" if kept else "malloc as it is"
                yield Row("course", f"{direction}, 2 threads, {memory}", ours_s, theirs_s, median(t / o for t, o in turns), best,
                          flops / ours_s / 1e9, "GFLOP/s")
    for direction, (theirs, ours, flops) in course_calls().items():
        yield _against("course, 1 thread", direction, theirs, ours, flops, "GFLOP/s", 4 * seconds)


FIGURES = {"blas": blas, "pool": pool, "course": course_layer}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=list(FIGURES))
    parser.add_argument("--seconds", type=float, default=0.5, help="for each row (default: %(default)s)")
    parser.add_argument("--malloc", action="store_true", help="leave malloc as it is: both sides then pay page faults for large new arrays")
    options = parser.parse_args()
    kept = not options.malloc and harness.keep_memory()
    print(f"{runtime.cpu_name()}, {runtime.isa()}; freed memory {'kept' if kept else 'given back'}; FMA peak of one core "
          + ", ".join(f"{peak.fma_peak(dtype):.1f} GFLOP/s in {dtype}" for dtype in DTYPES)
          + f"; copy of 12 MB arrays {peak.copy_bandwidth(24_000_000):.1f} GB/s")
    for name in options.only:
        rows = list(FIGURES[name](options.seconds))
        for asked in sorted({row.asked for row in rows}):
            found = sorted((row for row in rows if row.asked == asked), key=lambda row: row.multiple)
            reached = sum(row.multiple >= ASKED[asked] for row in found)
            print(f"\n{asked}: asked {ASKED[asked]:g} x, reached by {reached} of {len(found)}")
            for row in found:
                print(f"  {row.multiple:6.3f} x (best {row.best:6.3f}) {'  ' if row.multiple >= ASKED[asked] else '< '}{row.what:<66} "
                      f"ours {1e3 * row.ours:9.3f} ms  theirs {1e3 * row.theirs:9.3f} ms  {row.rate:7.1f} {row.unit}")


if __name__ == "__main__":
    main()
