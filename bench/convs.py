"""What the benches of the convolutions share: the layers, their arrays, fastconv's call in each direction, and the proof of its answer.

A direction is "forward", "input" (the gradient to x), "weight" (the gradient to the weights) or "backward" (every gradient).
"""
from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import fastconv
from bench.harness import taps
from fastconv import shapes
from fastconv.report import truth
from fastconv.shapes import Layer
from fastconv.testing import assert_same, promised

Arrays = tuple[np.ndarray, ...]
Call = Callable[[], Any]

NEED = {"input": (True, False, False), "weight": (False, True, False), "backward": (True, True, True)}
WHOLE_TRUTH = 1e9                            # floating-point operations up to which every element is compared with its own truth


class Problem(NamedTuple):
    """One layer's arrays, all of one dtype; random numbers, so that no two channels or images are alike."""

    layer: Layer
    x: np.ndarray                            # (N, C, H, W)
    weight: np.ndarray                       # (F, C / groups, KH, KW)
    bias: np.ndarray                         # (F,)
    dout: np.ndarray | None                  # (N, F, OH, OW); None for the forward direction

    @property
    def options(self) -> dict[str, int]:
        return {"stride": self.layer.stride, "padding": self.layer.padding, "groups": self.layer.groups}


def distinct(layers: Collection[tuple[str, Layer]]) -> list[tuple[str, Layer]]:
    """(table, layer), each shape once, under the first of its names."""
    found: dict[Layer, tuple[str, Layer]] = {}
    for table, layer in layers:
        found.setdefault(layer._replace(name="", count=0), (table, layer))
    return list(found.values())


def conv_layers(tables: Collection[str] = shapes.tables(), names: Collection[str] = ()) -> list[tuple[str, Layer]]:
    """(table, layer) of every convolution of these tables, each shape once; with names only the layers so called.

    ValueError for a name that no convolution of these tables has.
    """
    layers = [(table, layer) for table in tables for layer in shapes.load(table) if layer.op == "conv"]
    unknown = set(names) - {layer.name for _, layer in layers}
    if unknown:
        raise ValueError(f"no convolution of {', '.join(tables)} is called {', '.join(sorted(unknown))}")
    return distinct([(table, layer) for table, layer in layers if not names or layer.name in names])


def describe(table: str, layer: Layer) -> str:
    groups = f" g{layer.groups}" if layer.groups > 1 else ""
    return (f"{table} {layer.name}, {layer.N}x{layer.C}x{layer.H}x{layer.W} -> {layer.F}, {layer.KH}x{layer.KW} s{layer.stride}{groups}")


def flops(layer: Layer, direction: str) -> int:
    """Of one call: each gradient is one product of the forward's size."""
    return 2 * layer.multiply_adds * (2 if direction == "backward" else 1)


def problem(layer: Layer, dtype: str, direction: str) -> Problem:
    rng = np.random.default_rng(11)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.dtype(dtype))

    _, C, KH, KW = layer.weight_shape
    weight = normal(*layer.weight_shape) * np.sqrt(2 / (C * KH * KW), dtype=dtype)
    dout = normal(*layer.y_shape) if direction != "forward" else None
    return Problem(layer, normal(*layer.x_shape), weight, normal(layer.F), dout)


def fast_call(given: Problem, direction: str, **options: Any) -> Call:
    """fastconv's call without arguments; options: algorithm=, and out= of the forward direction."""
    arrays = given.x, given.weight, given.bias
    if direction == "forward":
        return partial(fastconv.conv2d, *arrays, **given.options, **options)
    return partial(fastconv.conv2d_backward, given.dout, *arrays, **given.options, need=NEED[direction], **options)


# ---------------------------------------------------------------------------------------------------------------- the proof


def prove(given: Problem, direction: str, result: Any, tolerance: float | None = None, whole: bool | None = None) -> float:
    """AssertionError unless a call's result is right within `tolerance` (None: what fastconv promises); the largest error found.

    Small and grouped layers: every element against float64. Large ones (whole=False) against float64 through random sums over one axis,
    so that the truth costs as much as a layer with one filter: a result y counts as r @ y, r one random factor for each filter. That
    touches every element as well; the factors make it all but impossible that two errors cancel.
    """
    layer, dtype = given.layer, given.x.dtype
    if tolerance is None:
        plan = fastconv.plan_conv2d(given.x.shape, given.weight.shape, dtype, **given.options)
        tolerance = promised(dtype, winograd=not {"winograd", "strassen"}.isdisjoint((plan.algorithm, plan.input_algorithm, plan.weight_algorithm)))
    if whole is None:
        whole = layer.groups > 1 or flops(layer, direction) <= WHOLE_TRUTH
    error = 0.0
    for name, found in _named(direction, result).items():
        assert isinstance(found, np.ndarray) and found.dtype == dtype, f"{name} is not an array of {dtype}"
        expected = {"y": layer.y_shape, "dx": layer.x_shape, "dweight": layer.weight_shape, "dbias": (layer.F,)}[name]
        assert found.shape == expected, f"{name} has shape {found.shape}, not {expected}"
        pairs = [(found.astype(np.float64), _whole(given, name))] if whole or name == "dbias" else [_SUMS[name](given, found)]
        error = max(error, *(assert_same(*pair, tolerance=tolerance, name=f"{name} of {layer.name}") for pair in pairs))
    return error


def _named(direction: str, result: Any) -> dict[str, Any]:
    names = ("y",) if direction == "forward" else [n for n, wanted in zip(("dx", "dweight", "dbias"), NEED[direction]) if wanted]
    results = [r for r in (result if isinstance(result, (tuple, list)) else (result,)) if r is not None]
    return dict(zip(names, results, strict=True))


def _whole(given: Problem, name: str) -> np.ndarray:
    x, weight, bias = (a.astype(np.float64) for a in (given.x, given.weight, given.bias))
    if name == "y":
        return truth.conv2d(x, weight, bias, **given.options)
    assert given.dout is not None
    if name == "dbias":
        return given.dout.sum(axis=(0, 2, 3), dtype=np.float64)
    gradients = truth.conv2d_backward(given.dout.astype(np.float64), x, weight, bias, **given.options)
    return gradients[0 if name == "dx" else 1]


def _factors(n: int) -> np.ndarray:
    return np.random.default_rng(13).standard_normal(n)


def _planes(layer: Layer) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Zeros (T, H + 2 p, W + 2 p), T = KH * KW planes; of plane t what tap t of the windows sees, (OH, OW); and the inside, (T, H, W)."""
    T, p = layer.KH * layer.KW, layer.padding
    padded = np.zeros((1, T, layer.H + 2 * p, layer.W + 2 * p))
    seen = [view[0, t] for t, (_, _, view) in enumerate(taps(padded, layer.KH, layer.KW, layer.stride, *layer.y_shape[2:]))]
    return padded[0], seen, padded[0, :, p:p + layer.H, p:p + layer.W]


def _sum_y(given: Problem, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    layer, r = given.layer, _factors(given.layer.F)
    one = np.tensordot(r, given.weight, 1).reshape(layer.C, -1).T           # (T, C): one filter
    _, seen, inside = _planes(layer)
    sums = []
    for image in given.x:
        inside[:] = (one @ image.reshape(layer.C, -1).astype(np.float64)).reshape(inside.shape)
        sums.append(sum(seen) + r @ given.bias)
    return np.stack([np.tensordot(r, image, 1) for image in y]), np.stack(sums)


def _sum_dx(given: Problem, dx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    layer, r = given.layer, _factors(given.layer.C)
    one = np.tensordot(r, given.weight, (0, 1)).reshape(layer.F, -1).T      # (T, F): one channel
    padded, seen, inside = _planes(layer)
    sums = []
    for image in given.dout:
        padded[:] = 0
        for view, plane in zip(seen, (one @ image.reshape(layer.F, -1).astype(np.float64)).reshape(-1, *image.shape[1:])):
            view[:] = plane
        sums.append(inside.sum(axis=0))
    return np.stack([np.tensordot(r, image, 1) for image in dx]), np.stack(sums)


def _sum_dweight(given: Problem, dweight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    layer, r = given.layer, _factors(given.layer.F)
    _, seen, inside = _planes(layer)
    total = np.zeros((layer.KH * layer.KW, layer.C))
    for image, dout in zip(given.x, given.dout):
        for view in seen:
            view[:] = np.tensordot(r, dout, 1)
        total += inside.reshape(len(total), -1) @ image.reshape(layer.C, -1).astype(np.float64).T
    return np.tensordot(r, dweight, 1), total.T.reshape(dweight.shape[1:])


_SUMS = {"y": _sum_y, "dx": _sum_dx, "dweight": _sum_dweight}
