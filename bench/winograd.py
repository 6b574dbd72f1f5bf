"""Direct sums against Winograd on every layer of the tables that it can do, and what `auto` loses where it takes the slower one; its errors.

    python bench/winograd.py [--only forward weight] [--dtype float32] [--layers conv2_3x3] [--seconds 0.3]
    python bench/winograd.py --errors

prepared: a layer's forward pass at batch 1 (weights packed or transformed before), forward: the function at batch 16, input and weight: its
gradients at batch 16; fewer images where they would fill the memory. One thread's own time, as a share of the FMA peak of the same turn
of the machine, whatever the algorithm multiplies: direct sums end at 1. What `auto` takes is called by auto. Every result is proven first.
Kernels of 5x5, 1x3 and 3x1 are in none of the tables; for them stand layers of GoogLeNet, AlexNet and Inception-ResNet.

errors: max|y - truth| / max|truth| of the forward pass, for the number of channels, the kind of images and of weights; the truth is summed in the
longest floating-point numbers of the machine. he: normal weights scaled after He; positive: their absolute values.
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
from fastconv.algorithms import ALGORITHMS
from fastconv.blocking import winograd, winograd_weight
from fastconv.kernels.tasks import NOTHING, run_tasks
from fastconv.report import photo
from fastconv.shapes import Layer
from fastconv.testing import promised

OTHERS = [Layer(name, "conv", 1, C, H, H, F, KH, KW, 1, padding, 1, 1) for name, C, H, F, KH, KW, padding in (
    ("inception_3a_5x5", 16, 28, 32, 5, 5, 2), ("inception_3b_5x5", 32, 28, 96, 5, 5, 2), ("inception_4d_5x5", 32, 14, 64, 5, 5, 2),
    ("inception_5b_5x5", 48, 7, 128, 5, 5, 2), ("alexnet_5x5", 64, 27, 192, 5, 5, 2), ("mnist_5x5", 32, 14, 64, 5, 5, 2),
    ("line_1x3", 192, 8, 224, 1, 3, 0), ("line_3x1", 224, 8, 256, 3, 1, 0), ("line_64_1x3", 64, 56, 64, 1, 3, 0), ("line_64_3x1", 64, 56, 64, 3, 1, 0))]

FITS = {"prepared": winograd.fits, "forward": winograd.fits, "input": winograd.fits_to_input, "weight": winograd_weight.fits}
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
    """Each layer that it can do, of several channels a group, in the batch of this way."""
    found, others = [], [layer for layer in OTHERS if not names or layer.name in names]
    named = [name for name in names if name not in {layer.name for layer in others}]
    for layer in [*(layer for _, layer in (convs.conv_layers(shapes.tables(), named) if named or not names else [])), *others]:
        made = fastconv.plan_conv2d(layer.x_shape, layer.weight_shape, stride=layer.stride, padding=layer.padding, groups=layer.groups, algorithm="direct")
        if FITS[way](made.shape) and layer.groups < layer.C:
            images = 1 if way == "prepared" else max(1, min(BATCH, int(MOST_ELEMENTS / (layer.C * layer.H * layer.W))))
            found.append(layer._replace(N=images))
    return found


def prepared(given: convs.Problem, algorithm: str) -> convs.Call:
    """A prepared layer's call with this algorithm, whatever its plan would choose."""
    made = fastconv.plan_conv2d(given.x.shape, given.weight.shape, given.x.dtype, **given.options, algorithm=algorithm)
    stage, y = plan.BLOCKING[algorithm].forward(made.shape, False, prepared=True), np.ones(made.y_shape, made.dtype)

    def call() -> np.ndarray:
        run_tasks(stage.kernel, stage.tasks, made.flops, x, packed, y.ravel(), given.bias, NOTHING[made.dtype], stage.job, stage.table)
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
    calls = [prepared(given, name) if way == "prepared" else convs.fast_call(given, direction, algorithm="auto" if name == chosen else name)
             for name in names]
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
    return f"  {what:<46} {shares:<40} auto: {row.chosen}{late}"


# ---------------------------------------------------------------- errors
CHANNELS = (1, 4, 16, 64, 256, 1024)
IMAGES = {
    "normal": lambda shape: np.random.default_rng(1).standard_normal(shape),
    "uniform": lambda shape: np.random.default_rng(2).random(shape),
    "photograph": lambda shape: photo.pixels(shape, 3) * 0.27 + 0.45,          # 0 is black, 1 white
}
WEIGHTS = {"he": lambda weight: weight, "positive": np.abs}
FILTERS, SIZE = 24, (22, 27)


def error(kernel: tuple[int, int], stride: int, dtype: str, C: int, images: str, weights: str) -> float:
    """Of one forward pass."""
    x = IMAGES[images]((1, C, *SIZE)).astype(dtype)
    weight = np.random.default_rng(C).standard_normal((FILTERS, C, *kernel)) * np.sqrt(2 / (C * kernel[0] * kernel[1]))
    weight = WEIGHTS[weights](weight).astype(dtype)
    y = fastconv.conv2d(x, weight, stride=stride, algorithm="winograd")
    wide = np.float64 if dtype == "float32" else np.longdouble
    windows = np.lib.stride_tricks.sliding_window_view(x[0].astype(wide), kernel, (1, 2))[:, ::stride, ::stride]     # C OH OW KH KW
    truth = weight.reshape(FILTERS, -1).astype(wide) @ windows.transpose(0, 3, 4, 1, 2).reshape(weight[0].size, -1)
    return float(np.abs(y.reshape(truth.shape) - truth).max() / np.abs(truth).max())


def print_errors() -> None:
    """A table for each kernel, stride and dtype."""
    columns = [(images, weights) for images in IMAGES for weights in WEIGHTS]
    for kernel, stride in [*((kernel, 1) for kernel in winograd.FORMS), ((3, 3), 2)]:
        for dtype in harness.DTYPES:
            print(f"\n| {kernel[0]}x{kernel[1]}, stride {stride}, {dtype}, C | " + " | ".join(f"{images}, {weights}" for images, weights in columns) + " |")
            print("|---" * (1 + len(columns)) + "|")
            worst = [0.0] * len(columns)
            for C in CHANNELS:
                found = [error(kernel, stride, dtype, C, *column) for column in columns]
                worst = [max(pair) for pair in zip(worst, found)]
                print(f"| {C} | " + " | ".join(f"{e:.1e}" for e in found) + " |", flush=True)
            print("| largest | " + " | ".join(f"{e:.1e}" for e in worst) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=DIRECTIONS, default=list(DIRECTIONS), metavar="WAY", help=", ".join(DIRECTIONS))
    parser.add_argument("--dtype", nargs="+", choices=harness.DTYPES, default=["float32"])
    parser.add_argument("--layers", nargs="+", default=[], metavar="NAME", help="names in the layer tables (default: every layer)")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each row (default: %(default)s)")
    parser.add_argument("--errors", action="store_true", help="the errors, and no times")
    options = parser.parse_args()
    harness.keep_memory()
    fastconv.set_num_threads(1)
    if options.errors:
        return print_errors()
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
