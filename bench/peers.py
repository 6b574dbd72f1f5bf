"""fastconv against PyTorch, layer by layer: the same arrays' sizes, the same threads, in turns in one process.

    pip install -e '.[peers]' && python bench/peers.py [--threads 1] [--batch 1 16] [--dtype float32 float64]
                                                       [--direction forward backward] [--tables resnet50 ...] [--json FILE]

Every convolution of the layer tables once, however often it occurs in its network, with bias; backward is the gradient to x, weights and
bias in one call; input and weight, that to x and that to the weights alone. Both sides make a new result at every call; malloc keeps freed
memory for both, inputs are warm. Depthwise layers race PyTorch in its channels-last layout too. A multiple is PyTorch's time over fastconv's,
the median of the turns' own ratios; one thread is timed by its own processor time, several by the clock. Both answers are proven against
float64 first. --batch does not change the tables that have batches of their own. --peer onnxruntime (also needs the package onnx) or
openvino: forward in float32 only, and their weights are packed ahead, so fastconv's prepared layer is what they are raced with.

At the end of each direction, dtype and batch stand geometric mean and worst layer beside what is asked ("<": missed).
"""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Iterable
from functools import partial
from math import exp, fsum, log
from pathlib import Path
from time import sleep
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))     # run as a script: the house itself

import fastconv
from bench import convs, harness, rivals
from fastconv import peak, runtime, shapes
from fastconv.shapes import Layer

DTYPES, DIRECTIONS, GRADIENTS = ("float32", "float64"), ("forward", "backward"), ("input", "weight")
LONG = 4e9                                   # floating-point operations of calls that have few turns
REST = 0.02                                  # seconds: for how long the idle threads of PyTorch's OpenMP keep a core busy, and more
TINY = Layer("tiny", "conv", 1, 1, 8, 8, 1, 3, 3, 1, 0, 1, 1)


class Race(NamedTuple):
    """One layer, both sides."""

    table: str
    layer: str
    what: str
    direction: str
    dtype: str
    batch: int
    depthwise: bool
    ours: float                              # seconds
    theirs: float
    multiple: float                          # their time over ours
    channels_last: float | None              # the same against their channels-last layout, for depthwise layers
    rate: float                              # ours, GFLOP/s
    their_rate: float


class Asked(NamedTuple):
    """What is asked of some of the races."""

    what: str
    mean: float | None                       # of the geometric mean
    each: float | None                       # of each layer


def asked(direction: str, dtype: str) -> dict[str, Asked]:
    """What is asked against PyTorch: of all layers, of the depthwise ones, and of those against channels last."""
    if dtype == "float64":
        return {"all": Asked("every layer", 2.0, None), "depthwise": Asked("depthwise", None, 4.0),
                "channels last": Asked("depthwise, channels last", None, None)}
    return {"all": Asked("every layer", 1.1 if direction == "forward" else 1.3, 0.95), "depthwise": Asked("depthwise", None, 1.8),
            "channels last": Asked("depthwise, channels last", None, 1.0)}


def geometric_mean(values: Collection[float]) -> float:
    return exp(fsum(map(log, values)) / len(values))


def layers(tables: Iterable[str], names: Collection[str], batch: int, batches: Collection[int]) -> list[tuple[str, Layer]]:
    """The layers of one batch; a layer whose table has a batch of its own comes with the first of `batches` only."""
    found = convs.conv_layers(tuple(tables), names)
    return [(table, layer._replace(N=batch) if layer.N == 1 else layer) for table, layer in found if layer.N == 1 or batch == batches[0]]


def race(rival: Any, table: str, layer: Layer, direction: str, dtype: str, threads: int, seconds: float) -> Race | None:
    """None where the rival has no such convolution."""
    given = convs.problem(layer, dtype, direction)
    theirs = rival.call(given, direction)
    if theirs is None:
        return None
    calls = [_ours(rival, given, direction), theirs]
    if layer.groups > 1 and (other := rival.call(given, direction, channels_last=True)) is not None:
        calls.append(other)
    convs.prove(given, direction, calls[0]())
    for call in calls[1:]:
        convs.prove(given, direction, rival.arrays(call()), tolerance=harness.LOOSE[dtype])
    if threads > 1:
        sleep(harness.REST)                  # the proof's BLAS keeps a core busy for a while
    flops = convs.flops(layer, direction)
    found = harness.in_turns(calls, seconds, one_thread=threads == 1, rest=REST, least=3 if flops > LONG else harness.LEAST_TURNS)
    multiples = [1 / ratio for ratio in found.ratios[1:]]
    ours, their_time = found.seconds[:2]
    return Race(table, layer.name, convs.describe(table, layer), direction, dtype, layer.N, layer.groups > 1, ours, their_time,
                multiples[0], multiples[1] if len(multiples) > 1 else None, flops / ours / 1e9, flops / their_time / 1e9)


def _ours(rival: Any, given: convs.Problem, direction: str) -> convs.Call:
    """The functional call; the prepared layer against rivals that pack their weights ahead, where fastconv has one."""
    if rival.name != "torch" and hasattr(fastconv, "Conv2d"):
        return partial(fastconv.Conv2d(given.weight, given.bias, **given.options), given.x)
    return convs.fast_call(given, direction)


def line(found: Race) -> str:
    text = (f"  {found.multiple:6.2f} x  {found.what:<60} {found.rate:7.1f} against {found.their_rate:7.1f} GFLOP/s "
            f"{1e3 * found.ours:10.3f} ms")
    return text + (f"  channels last: {found.channels_last:.2f} x" if found.channels_last is not None else "")


def summary(races: list[Race], against_torch: bool = True) -> list[str]:
    """Geometric mean and worst layer of races of one direction and dtype, beside what is asked of PyTorch's."""
    text = []
    for key, want in asked(races[0].direction, races[0].dtype).items():
        chosen = [r for r in races if key == "all" or (r.depthwise and (key == "depthwise" or r.channels_last is not None))]
        if not chosen:
            continue
        values = {r.what: r.channels_last if key == "channels last" else r.multiple for r in chosen}
        worst = min(values, key=values.__getitem__)
        mean = _figure("geometric mean", geometric_mean(list(values.values())), want.mean if against_torch else None)
        least = _figure("worst", values[worst], want.each if against_torch else None)
        below = "" if want.each is None or not against_torch else f", {sum(v < want.each for v in values.values())} below"
        text.append(f"  {want.what}: {mean}; {least}, {worst}; {len(values)} layers{below}")
    return text


def _figure(name: str, value: float, want: float | None) -> str:
    return f"{name} {value:.3f} x" + ("" if want is None else f" ({'< ' if value < want else ''}asked: at least {want:g} x)")


def tiny(rival: Any, dtype: str, seconds: float) -> list[str]:
    """Whole calls on one small plane, one thread: what a call costs where there is next to nothing to compute."""
    text = []
    for direction in DIRECTIONS:
        given = convs.problem(TINY, dtype, direction)
        theirs = rival.call(given, direction)
        if theirs is None:
            continue
        ours = _ours(rival, given, direction)
        convs.prove(given, direction, ours())
        convs.prove(given, direction, rival.arrays(theirs()), tolerance=harness.LOOSE[dtype])
        found = harness.in_turns([theirs, ours], seconds, one_thread=True)
        share = 1 / found.ratios[1]
        want = f" ({'< ' if share > 0.7 else ''}asked: at most 0.7)" if rival.name == "torch" and direction == "forward" else ""
        them, us = (1e6 * seconds for seconds in found.seconds)
        text.append(f"  {direction}, {dtype}: {us:.2f} us against {them:.2f} us, {share:.2f} of its time{want}")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=rivals.RIVALS, default="torch", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", nargs="+", type=int, default=[1], help="default: 1")
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=["float32"], help="default: float32")
    parser.add_argument("--direction", nargs="+", choices=DIRECTIONS + GRADIENTS, default=list(DIRECTIONS))
    parser.add_argument("--tables", nargs="+", choices=shapes.tables(), default=list(shapes.tables()))
    parser.add_argument("--layers", nargs="+", default=[], metavar="NAME", help="names in these tables (default: every layer)")
    parser.add_argument("--seconds", type=float, default=0.4, help="for each row (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    try:
        convs.conv_layers(tuple(options.tables), options.layers)
        fastconv.set_num_threads(options.threads)
        rival = rivals.RIVALS[options.peer](options.threads)
    except ValueError as error:
        parser.error(str(error))
    except ImportError as error:
        parser.error(f"{error}; PyTorch comes with the extra `peers` (pip install -e '.[peers]'), the others by their own names")
    kept = harness.keep_memory()
    print(f"{runtime.cpu_name()}, {runtime.isa()}; fastconv {fastconv.__version__} against {rival.name} {rival.version}, {options.threads} "
          f"threads each; freed memory {'kept' if kept else 'given back'}; FMA peak of one core "
          + ", ".join(f"{peak.fma_peak(dtype):.1f} GFLOP/s in {dtype}" for dtype in options.dtype), flush=True)
    races: list[Race] = []
    for dtype in options.dtype:
        for batch in options.batch:
            for direction in options.direction:
                print(f"\n{direction}, {dtype}, batch {batch}:", flush=True)
                found = []
                for table, layer in layers(options.tables, options.layers, batch, options.batch):
                    result = race(rival, table, layer, direction, dtype, options.threads, options.seconds)
                    if result is not None:
                        found.append(result)
                        print(line(result), flush=True)
                print("\n".join(summary(found, rival.name == "torch")) if found else f"  {rival.name} has none", flush=True)
                races += found
    fastconv.set_num_threads(1)
    rival = rivals.RIVALS[options.peer](1)
    print("\na tiny call, (1, 1, 8, 8), 3x3, one thread:")
    for dtype in options.dtype:
        print("\n".join(tiny(rival, dtype, options.seconds)), flush=True)
    if options.json:
        machine = {"CPU": runtime.cpu_name(), "instruction set": runtime.isa(), "threads": options.threads, "freed memory kept": kept,
                   "peer": f"{rival.name} {rival.version}"}
        options.json.write_text(json.dumps({"machine": machine, "rows": [r._asdict() for r in races]}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
