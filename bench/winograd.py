"""Direct sums against Winograd on every 3x3 layer of stride 1 of the tables, and what `auto` loses where it takes the slower one.

    python bench/winograd.py [--only forward weight] [--dtype float32] [--layers conv2_3x3] [--seconds 0.3]

prepared: a layer's forward pass at batch 1 (weights packed or transformed before), forward: the function at batch 16, input and weight: its
gradients at batch 16; fewer images where they would fill the memory. One thread's own time, as a share of the FMA peak of the same turn
of the machine, whatever the algorithm multiplies: direct sums end at 1. Every result is proven first.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fastconv
from bench import convs, harness
from fastconv import peak, plan, shapes
from fastconv.algorithms import ALGORITHMS, NONE
from fastconv.kernels.tasks import run_tasks
from fastconv.shapes import Layer
from fastconv.testing import promised

DIRECTIONS = {"prepared": "forward", "forward": "forward", "input": "input", "weight": "weight"}
BATCH = 16
MOST_ELEMENTS = 5e7                          # of x, of a batch
LOSS = 0.05                                  # that `auto` may make
PLAN = {"prepared": "algorithm", "forward": "algorithm", "input": "input_algorithm", "weight": "weight_algorithm"}


class Row(NamedTuple):
    """One layer in one direction."""

    layer: Layer
    shares: dict[str, float]                 # of the FMA peak, by algorithm
    chosen: str                              # by `auto`

    @property
    def loss(self) -> float:
        """How much longer the chosen one takes than the fastest, as a share."""
        return max(self.shares.values()) / self.shares[self.chosen] - 1


def layers(way: str, names: list[str]) -> list[Layer]:
    """Each 3x3 layer of stride 1 and several channels a group, in the batch of this way."""
    found = []
    for _, layer in convs.conv_layers(shapes.tables(), names):
        if (layer.KH, layer.KW, layer.stride) == (3, 3, 1) and layer.groups < layer.C:
            images = 1 if way == "prepared" else max(1, min(BATCH, int(MOST_ELEMENTS / (layer.C * layer.H * layer.W))))
            found.append(layer._replace(N=images))
    return found


def prepared(given: convs.Problem, algorithm: str) -> convs.Call:
    """A prepared layer's call with this algorithm, whatever its plan would choose."""
    made = fastconv.plan_conv2d(given.x.shape, given.weight.shape, given.x.dtype, **given.options, algorithm=algorithm)
    stage, y = plan.BLOCKING[algorithm].forward(made.shape, False, prepared=True), np.ones(made.y_shape, made.dtype)

    def call() -> np.ndarray:
        run_tasks(stage.kernel, stage.tasks, made.flops, x, packed, y.ravel(), given.bias, NONE[made.dtype], stage.job, stage.table)
        return y

    x, packed = given.x.ravel(), ALGORITHMS[algorithm].pack(stage, given.weight)
    return call


def choice(layer: Layer, dtype: str, way: str) -> str:
    """What `auto` takes."""
    options = plan.normal_conv((layer.KH, layer.KW), layer.stride, layer.padding, 1)
    made = plan.conv_plan(layer.x_shape, layer.weight_shape, np.dtype(dtype), *options, layer.groups, "auto", "high", way == "prepared")
    return str(getattr(made, PLAN[way]))


def measure(way: str, layer: Layer, dtype: str, seconds: float) -> Row:
    given, chosen, direction = convs.problem(layer, dtype, DIRECTIONS[way]), choice(layer, dtype, way), DIRECTIONS[way]
    names = list(dict.fromkeys(("direct", "winograd", chosen)))
    calls = [prepared(given, name) if way == "prepared" else convs.fast_call(given, direction, algorithm=name) for name in names]
    for call in calls:
        convs.prove(given, direction, call(), promised(dtype, winograd=True), whole=False if layer.groups == 1 else None)
    most = peak.fma_peak(dtype, 1)
    times = harness.in_turns(calls, seconds, one_thread=True, least=3).seconds
    most = max(most, peak.fma_peak(dtype, 1))
    return Row(layer, {name: convs.flops(layer, direction) / time / 1e9 / most for name, time in zip(names, times)}, chosen)


def rows(way: str, dtype: str, names: list[str], seconds: float) -> Iterator[Row]:
    for layer in layers(way, names):
        yield measure(way, layer, dtype, seconds)


def line(row: Row) -> str:
    shares = "  ".join(f"{name} {share:4.2f}" for name, share in row.shares.items())
    late = f"  loses {100 * row.loss:.0f} %" if row.loss > LOSS else ""
    layer = row.layer
    what = f"{layer.name}, {layer.N} x {layer.C} x {layer.H} x {layer.W} -> {layer.F}"
    return f"  {what:<44} {shares:<40} auto: {row.chosen}{late}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=DIRECTIONS, default=list(DIRECTIONS), metavar="WAY", help=", ".join(DIRECTIONS))
    parser.add_argument("--dtype", nargs="+", choices=harness.DTYPES, default=["float32"])
    parser.add_argument("--layers", nargs="+", default=[], metavar="NAME", help="names in the layer tables (default: every layer)")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each row (default: %(default)s)")
    options = parser.parse_args()
    harness.keep_memory()
    fastconv.set_num_threads(1)
    for dtype in options.dtype:
        for way in options.only:
            print(f"\n{way}, {dtype}: share of the FMA peak, one thread", flush=True)
            worst = 0.0
            for row in rows(way, dtype, options.layers, options.seconds):
                worst = max(worst, row.loss)
                print(line(row), flush=True)
            print(f"  auto loses at most {100 * worst:.0f} % ({100 * LOSS:.0f} % allowed)", flush=True)


if __name__ == "__main__":
    main()
