"""The direct engine against the processor: every convolution of the layer tables, as a share of the FMA peak measured in the same turns.

    python bench/engine.py [--quick] [--only forward prepared ...] [--dtype float32 float64] [--layers NAME ...] [--json FILE]

forward    the functional call, batch 16 and batch 1
prepared   the prepared layer Conv2d, into out=, batch 1
first      few input channels, C = 3: 7x7 stride 2, 11x11 stride 4, 3x3 at 224, into out=
input      the gradient to the input, stride 1 and stride 2, batch 8 and batch 1
weight     the gradient to the weights: batch 8, one image of 7x7, and C = 3
depthwise  forward and backward (asked in multiples of PyTorch: bench/peers.py)
threads    two threads against one, layers over 50 MFLOP
compile    the first call of a process, with no kernel on disk and with all of them
tiny       a whole call on (1, 1, 8, 8), 3x3, in microseconds

Each answer is proven before it is timed. Shares are of one thread's own processor time, a call and a burst of multiply-adds in turns, the
median of the turns' own ratios; a floating-point operation on padding counts like any other. A group shows the median and the worst of
its layers beside what is asked ("<": missed), then its layers, the worst first. Layers that no figure is asked for have groups too.
FASTCONV_ISA=avx2 in the environment gives the figures of AVX2, as shares of its own burst.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, sleep, thread_time
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))     # run as a script: the house itself

import fastconv
from bench import convs, harness
from fastconv import peak, runtime
from fastconv.shapes import Layer

HOUSE = Path(__file__).resolve().parents[1]
DTYPES = ("float32", "float64")
WIDE = 64                                    # channels and filters of the layers that the figures are asked for
FEW_FILTERS = 16                             # fewer: a toy layer of the course, for which nothing is asked
THREAD_FLOPS = 50e6
ALEXNET = ("alexnet", Layer("conv1", "conv", 1, 3, 224, 224, 64, 11, 11, 4, 2, 1, 1))
QUICK = ("conv1_1", "conv5_1", "conv1", "conv4_reduce", "conv4_down_3x3", "conv5_3x3", "expand_24x56", "dw_144x56", "fast_conv")


class Goal(NamedTuple):
    """What is asked of a group: of its median, and of each of its layers (None: nothing)."""

    median: float | None = None
    each: float | None = None
    unit: str = "%"
    at_least: bool = True                    # or at most


class Row(NamedTuple):
    """One figure."""

    group: str
    dtype: str
    what: str
    value: float                             # in the unit of the group's goal; a share for %
    detail: str


class Case(NamedTuple):
    """One layer in one direction."""

    group: str
    table: str
    layer: Layer
    direction: str                           # of convs
    way: str = "functional"                  # or "out", "prepared"


class Settings(NamedTuple):
    seconds: float                           # for each row
    algorithm: str
    quick: bool


FORWARD = "forward, functional call, batch 16"
PREPARED = "forward, prepared layer, batch 1"
FIRST = "forward, first layers, C = 3, into out="
OTHER = f"layers of fewer than {WIDE} channels or filters"
COLD, WARM = "compile: longest call, no kernel on disk", "compile: first convolution, every kernel on disk"
TINY = "tiny: conv2d of (1, 1, 8, 8), 3x3"

# Of the median, float32 and float64. No layer may be below 70 %, or below the median that is asked where that is less.
SHARES = {
    FORWARD: (0.88, 0.85),
    PREPARED: (0.90, 0.88),
    FIRST: (0.80, 0.75),
    "input, stride 1, batch 8": (0.85, 0.85),
    "input, stride 1, batch 1": (0.85, 0.85),
    "input, stride 2, batch 8": (0.75, 0.75),
    "input, stride 2, batch 1": (0.75, 0.75),
    "weight, batch 8": (0.90, 0.85),
    "weight, one 7x7 image": (0.75, 0.70),
    "weight, C = 3": (0.50, 0.50),
}
NO_LAYER_BELOW = 0.70
AVX2 = {"3x3 stride 1": 0.80, "the rest": 0.65}      # both dtypes: the groups above are parted so where the kernels use AVX2


def goal(group: str, dtype: str) -> Goal:
    """What is asked of this group in this dtype."""
    kind = group.rpartition(", ")[2]
    if kind in AVX2:
        return Goal(AVX2[kind])
    if group in SHARES:
        asked = SHARES[group][DTYPES.index(dtype)]
        return Goal(asked, min(asked, NO_LAYER_BELOW))
    if group.startswith("two threads"):
        return Goal(None, 1.85, "x")
    if group.startswith("compile"):
        return Goal(None, {COLD: 5.0, WARM: 0.5}.get(group), "s", at_least=False)
    if group.startswith("tiny"):
        return Goal(None, 3.5 if group == TINY else None, "us", at_least=False)      # 0.7 of PyTorch's 5: see peers.py
    return Goal()


# ---------------------------------------------------------------------------------------------------------------- which layers


def wide(layer: Layer) -> bool:
    return layer.groups == 1 and min(layer.C, layer.F) >= WIDE


def forward(table: str, layer: Layer) -> Iterator[Case]:
    if layer.groups > 1 or layer.C == 3:
        return
    asked = wide(layer) and (layer.KH, layer.KW) in ((1, 1), (3, 3))
    for N in (16, 1):
        group = "forward, functional call" if asked else f"forward, functional call, {OTHER}"
        yield Case(f"{group}, batch {N}", table, layer._replace(N=N), "forward")


def prepared(table: str, layer: Layer) -> Iterator[Case]:
    for case in forward(table, layer):
        if case.layer.N == 1:
            yield case._replace(group=case.group.replace("functional call", "prepared layer"), way="prepared")


def first(table: str, layer: Layer) -> Iterator[Case]:
    if layer.C == 3 and layer.groups == 1:
        asked = layer.H == 224 and layer.F >= FEW_FILTERS
        yield Case(FIRST if asked else "forward, C = 3, layers of the course, into out=", table, layer, "forward", "out")


def to_input(table: str, layer: Layer) -> Iterator[Case]:
    if layer.groups > 1:
        return
    group = f"input, stride {layer.stride}" if wide(layer) else f"input, {OTHER}"
    if layer.N > 1:
        yield Case(f"{group}, batch of the course", table, layer, "input")
        return
    for N in (8, 1):
        yield Case(f"{group}, batch {N}", table, layer._replace(N=N), "input")


def to_weight(table: str, layer: Layer) -> Iterator[Case]:
    if layer.groups > 1:
        return
    batch = layer._replace(N=max(8, layer.N))
    if wide(layer):
        yield Case("weight, batch 8", table, batch, "weight")
        if layer.H == layer.W == 7:
            yield Case("weight, one 7x7 image", table, layer, "weight")
    elif layer.C == 3 and layer.F >= FEW_FILTERS:
        yield Case("weight, C = 3", table, batch, "weight")
    else:
        yield Case(f"weight, {OTHER}", table, batch, "weight")


def depthwise(table: str, layer: Layer) -> Iterator[Case]:
    if layer.groups > 1:
        for direction in ("forward", "backward"):
            yield Case(f"depthwise {direction}, stride {layer.stride}", table, layer, direction)


def two_threads(table: str, layer: Layer) -> Iterator[Case]:
    if layer.groups == 1 and convs.flops(layer, "forward") > THREAD_FLOPS:
        for direction in ("forward", "input", "weight"):
            yield Case(f"two threads, {direction}", table, layer, direction)


CASES: dict[str, Callable[[str, Layer], Iterator[Case]]] = {
    "forward": forward, "prepared": prepared, "first": first, "input": to_input, "weight": to_weight, "depthwise": depthwise,
    "threads": two_threads,
}


def cases(subject: str, names: Iterable[str] = (), isa: str = "avx512") -> list[Case]:
    """The cases of one subject, of the layers with these names, or of all."""
    wanted = set(names)
    layers = [*convs.conv_layers(), ALEXNET]
    found = [case for table, layer in layers if not wanted or layer.name in wanted for case in CASES[subject](table, layer)]
    return [_parted(case) for case in found] if isa == "avx2" else found


def _parted(case: Case) -> Case:
    plain = (case.layer.KH, case.layer.KW, case.layer.stride) == (3, 3, 1)
    return case._replace(group=f"{case.group}, {tuple(AVX2)[not plain]}") if case.group in SHARES else case


# ---------------------------------------------------------------------------------------------------------------- timing


def call_of(case: Case, given: convs.Problem, algorithm: str) -> convs.Call:
    layer = case.layer
    if case.way == "prepared":
        conv = fastconv.Conv2d(given.weight, given.bias, layer.stride, layer.padding, 1, layer.groups)
        return partial(conv, given.x, out=np.ones(layer.y_shape, given.x.dtype))
    options: dict[str, Any] = {"out": np.ones(layer.y_shape, given.x.dtype)} if case.way == "out" else {}
    # Depthwise kernels are an algorithm of their own.
    return convs.fast_call(given, case.direction, algorithm=algorithm if layer.groups == 1 else "auto", **options)


def against_peak(call: convs.Call, flops: float, dtype: str, seconds: float) -> tuple[float, float]:
    """The share of the FMA peak, the median of at least three turns, and the seconds of a call; one thread's own time."""
    call()
    start = thread_time()
    call()
    count = max(1, round(harness.BURST / max(thread_time() - start, 1e-9)))
    shares, times = [], []
    deadline = perf_counter() + seconds
    while len(shares) < 3 or perf_counter() < deadline:
        most = peak.fma_peak(dtype, 1)
        start = thread_time()
        for _ in range(count):
            call()
        times.append((thread_time() - start) / count)
        shares.append(flops / times[-1] / 1e9 / most)
    return median(shares), median(times)


def share(case: Case, dtype: str, settings: Settings) -> Row:
    fastconv.set_num_threads(1)
    given = convs.problem(case.layer, dtype, case.direction)
    call = call_of(case, given, settings.algorithm)
    error = convs.prove(given, case.direction, call())
    flops = convs.flops(case.layer, case.direction)
    value, took = against_peak(call, flops, dtype, settings.seconds)
    return Row(case.group, dtype, convs.describe(case.table, case.layer), value,
               f"{flops / took / 1e9:7.1f} GFLOP/s {1e3 * took:10.3f} ms  error {error:.0e}")


def _on(threads: int, call: convs.Call) -> Any:
    fastconv.set_num_threads(threads)
    return call()


def speedup(case: Case, dtype: str, settings: Settings) -> Row:
    given = convs.problem(case.layer, dtype, case.direction)
    call = call_of(case, given, settings.algorithm)
    one, two = _on(1, call), _on(2, call)
    error = convs.prove(given, case.direction, two)
    for a, b in zip(*(r if isinstance(r, tuple) else (r,) for r in (one, two))):
        assert a is b is None or a.tobytes() == b.tobytes(), f"{case.group}, {case.layer.name}: two threads give other bits than one"
    sleep(harness.REST)                      # the proof's BLAS keeps a core busy for a while
    found = harness.in_turns([partial(_on, 1, call), partial(_on, 2, call)], settings.seconds, one_thread=False, rest=0)
    return Row(case.group, dtype, convs.describe(case.table, case.layer), found.ratios[1],
               f"best {found.best[1]:.2f} x {1e3 * found.seconds[0]:10.3f} ms on one, {1e3 * found.seconds[1]:.3f} ms on two"
               f"  error {error:.0e}")


def measured(subject: str, dtypes: Iterable[str], names: Iterable[str], settings: Settings) -> Iterator[Row]:
    if subject == "prepared" and not hasattr(fastconv, "Conv2d"):
        print("\nprepared: skipped, this fastconv has no prepared layer Conv2d")
        return
    if subject == "threads" and runtime.max_threads() < 2:
        print("\nthreads: skipped, this process may use one core only")
        return
    time = speedup if subject == "threads" else share
    for dtype in dtypes:
        for case in cases(subject, names, runtime.isa()):
            yield time(case, dtype, settings)


# ---------------------------------------------------------------------------------------------------------------- whole processes

# Prints seconds of the import, of each call in order, and how many kernels were found on disk and how many compiled.
PROGRAM = """
import json, sys, time
start = time.perf_counter()
import numpy as np
import fastconv
seconds = {"import": time.perf_counter() - start}
def timed(name, function, *args, **options):
    start = time.perf_counter()
    function(*args, **options)
    seconds[name] = time.perf_counter() - start
for dtype in sys.argv[1].split():
    x, w, first, one, deep = (np.ones(s, dtype) for s in ((1, 64, 56, 56), (64, 64, 3, 3), (64, 3, 7, 7), (64, 64, 1, 1), (64, 1, 3, 3)))
    image = np.ones((1, 3, 112, 112), dtype)
    timed(dtype + " 3x3", fastconv.conv2d, x, w, padding=1)
    if "quick" not in sys.argv:
        timed(dtype + " 3x3 again", fastconv.conv2d, x, w, padding=1)
        timed(dtype + " 1x1", fastconv.conv2d, x, one)
        timed(dtype + " stride 2", fastconv.conv2d, x, w, stride=2, padding=1)
        timed(dtype + " C = 3", fastconv.conv2d, image, first, stride=2, padding=3)
        timed(dtype + " depthwise", fastconv.conv2d, x, deep, padding=1, groups=64)
        timed(dtype + " backward 3x3", fastconv.conv2d_backward, x, x, w, padding=1)
        timed(dtype + " backward 1x1", fastconv.conv2d_backward, x, x, one)
        timed(dtype + " backward depthwise", fastconv.conv2d_backward, x, x, deep, padding=1, groups=64)
        timed(dtype + " tiny", fastconv.conv2d, image[:, :1, :8, :8], first[:1, :1])
kernels = {id(v): v for name, module in list(sys.modules.items()) if name.startswith("fastconv.kernels") for v in vars(module).values()
           if hasattr(v, "stats")}
hits = sum(sum(k.stats.cache_hits.values()) for k in kernels.values())
misses = sum(sum(k.stats.cache_misses.values()) for k in kernels.values())
print(json.dumps([seconds, hits, misses]))
"""


def compiling(dtypes: Iterable[str], names: Iterable[str], settings: Settings) -> Iterator[Row]:
    """Two processes one after the other, the first with an empty folder for kernels."""
    asked = [" ".join(dtypes), "quick" if settings.quick else "all"]
    with tempfile.TemporaryDirectory() as folder:
        variables = {**os.environ, "FASTCONV_CACHE_DIR": folder, "PYTHONPATH": str(HOUSE)}
        kept = 0
        for group, of in ((COLD, max), (WARM, lambda times: times[0])):
            done = subprocess.run([sys.executable, "-c", PROGRAM, *asked], env=variables, check=True, stdout=subprocess.PIPE, text=True)
            seconds, hits, misses = json.loads(done.stdout.splitlines()[-1])
            imported = seconds.pop("import")
            files = sum(path.is_file() for path in Path(folder).rglob("*"))
            detail = f"import {imported:.2f} s, {hits} kernels found, {misses} compiled, {files} files on disk ({files - kept:+d})"
            kept = files
            yield Row(group, "all", "the process", of(list(seconds.values())), detail)
            for name, took in seconds.items():
                yield Row(group.partition(":")[0] + (": cold" if group == COLD else ": warm") + ", each call", "all", name, took, "")


def tiny(dtypes: Iterable[str], names: Iterable[str], settings: Settings) -> Iterator[Row]:
    """Where the time of a tiny call goes, by leaving out parts of it."""
    fastconv.set_num_threads(1)
    for dtype in dtypes:
        layer = Layer("tiny", "conv", 1, 1, 8, 8, 1, 3, 3, 1, 1, 1, 1)
        given = convs.problem(layer, dtype, "backward")
        x, weight, bias, dout, y = given.x, given.weight, given.bias, given.dout, np.ones(layer.y_shape, dtype)
        convs.prove(given, "forward", convs.fast_call(given, "forward")())
        convs.prove(given, "backward", convs.fast_call(given, "backward")())
        calls = {
            "conv2d(x, weight, bias, 1, 1)": partial(fastconv.conv2d, x, weight, bias, 1, 1),
            "conv2d(x, weight)": partial(fastconv.conv2d, x, weight),
        }
        parts = {
            "the same into out=: no new array": partial(fastconv.conv2d, x, weight, bias, 1, 1, out=y),
            "plan_conv2d: normalising, and the look-up of a plan": partial(fastconv.plan_conv2d, x.shape, weight.shape, x.dtype, 1, 1),
            "np.empty of the result": partial(np.empty, layer.y_shape, x.dtype),
            "conv2d_backward": partial(fastconv.conv2d_backward, dout, x, weight, bias, 1, 1),
        }
        if hasattr(fastconv, "Conv2d"):
            conv = fastconv.Conv2d(weight, bias, 1, 1)
            parts["Conv2d layer(x)"] = partial(conv, x)
            parts["Conv2d layer(x, out=y): no new array, no weights to pack"] = partial(conv, x, out=y)
        else:
            print("\ntiny: no row of the prepared layer, this fastconv has no Conv2d")
        found = harness.in_turns([*calls.values(), *parts.values()], settings.seconds, one_thread=True)
        for name, seconds in zip((*calls, *parts), found.seconds):
            yield Row(TINY if name in calls else "tiny: parts of it", dtype, name, 1e6 * seconds, "")


SUBJECTS: dict[str, Callable[..., Iterator[Row]]] = {
    **{subject: partial(measured, subject) for subject in CASES}, "compile": compiling, "tiny": tiny,
}


# ---------------------------------------------------------------------------------------------------------------- the tables


def _figure(value: float, unit: str) -> str:
    return f"{100 * value:.1f} %" if unit == "%" else f"{value:.2f} {unit}"


def _met(value: float, asked: float | None, at_least: bool) -> bool:
    return asked is None or (value >= asked if at_least else value <= asked)


def lines(rows: list[Row]) -> list[str]:
    """The tables: one for each group and dtype, in the order of the rows."""
    text = []
    for group, dtype in dict.fromkeys((row.group, row.dtype) for row in rows):
        asked = goal(group, dtype)
        found = sorted((row for row in rows if (row.group, row.dtype) == (group, dtype)), key=lambda row: row.value,
                       reverse=not asked.at_least)
        middle, worst = median(row.value for row in found), found[0]
        text.append(f"\n{group}, {dtype}: {_against('median', middle, asked.median, asked)}, "
                    f"{_against('worst', worst.value, asked.each, asked)}, {len(found)} rows")
        for row in found:
            mark = "  " if _met(row.value, asked.each, asked.at_least) else "< "
            text.append(f"  {_figure(row.value, asked.unit):>9} {mark}{row.what:<60} {row.detail}".rstrip())
    return text


def _against(name: str, value: float, asked: float | None, of: Goal) -> str:
    text = f"{name} {_figure(value, of.unit)}"
    if asked is None:
        return text
    bound = "at least" if of.at_least else "at most"
    return f"{text} ({'' if _met(value, asked, of.at_least) else '< '}asked: {bound} {_figure(asked, of.unit).replace('.0 ', ' ')})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, metavar="SUBJECT", help=", ".join(SUBJECTS))
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--layers", nargs="+", default=[], metavar="NAME", help="names in the layer tables (default: every layer)")
    parser.add_argument("--quick", action="store_true", help="few layers, one dtype, short turns; without compile, unless asked")
    parser.add_argument("--seconds", type=float, default=0.25, help="for each row (default: %(default)s)")
    parser.add_argument("--algorithm", choices=("direct", "im2col", "auto"), default="direct", help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    unknown = set(options.layers) - {layer.name for _, layer in (*convs.conv_layers(), ALEXNET)}
    if unknown:
        parser.error(f"no convolution is called {', '.join(sorted(unknown))}")
    dtypes, names, seconds, subjects = options.dtype, options.layers, options.seconds, options.only or list(SUBJECTS)
    if options.quick:
        dtypes, names, seconds = dtypes[:1], names or QUICK, min(seconds, 0.05)
        subjects = options.only or [subject for subject in SUBJECTS if subject != "compile"]
    settings = Settings(seconds, options.algorithm, options.quick)
    kept = harness.keep_memory()
    machine = {"CPU": runtime.cpu_name(), "instruction set": runtime.isa(), "freed memory": "kept" if kept else "given back",
               "FMA peak of one core, GFLOP/s": {dtype: round(peak.fma_peak(dtype), 1) for dtype in DTYPES}}
    print(", ".join(f"{name}: {value}" for name, value in machine.items()), flush=True)
    before, rows = fastconv.get_num_threads(), []
    try:
        for subject in subjects:
            found = list(SUBJECTS[subject](dtypes, names, settings))
            rows += found
            for text in lines(found):
                print(text, flush=True)
    finally:
        fastconv.set_num_threads(before)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rows": [row._asdict() for row in rows]}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
