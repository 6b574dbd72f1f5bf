"""What the report measures: one row of OPERATIONS for each operation, and the layers of a quick run.

To add an operation, add a row: the report then proves it, times it and shows it in the table, on the page and in the JSON file.
"""

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from math import gcd, prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import shapes, twin
from ..shapes import Layer
from . import truth
from .photo import pixels

__all__ = ["OPERATIONS", "QUICK", "Operation", "choose", "layers"]

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Operation(NamedTuple):
    """One operation: fastconv.<module>.<function>, proven against naive.<module>.<function> and truth.<function>."""

    name: str  # as it is shown, and as --only takes it
    module: str
    function: str
    takes: Callable[[Layer], Layer | None]  # the layer as this operation runs it, None where it does not fit
    arguments: Callable[[Layer], Arguments]  # positional and keyword ones; arrays, all positional, in float64
    work: Callable[[Layer], int]  # floating-point operations (for GFLOP/s), or elements that have to be read and written (for GB/s)
    unit: str  # GFLOP/s or GB/s
    algorithms: tuple[str, ...] = ("",)  # values of algorithm=; "" for a function that has no such argument
    out: bool = False  # the function takes out=: timed into a reused array
    writes: tuple[int, ...] = ()  # positions of the arguments that are updated in place: compared too

    def fast(self) -> Callable[..., Any]:
        return getattr(import_module(f"fastconv.{self.module}"), self.function)

    def naive(self) -> Callable[..., Any]:
        return getattr(import_module(f"{twin.naive().__name__}.{self.module}"), self.function)

    def truth(self) -> Callable[..., Any]:
        return getattr(truth, self.function)


# ---------------------------------------------------------------------------------------------------------------- arguments of a layer


def _random(*shape: int) -> NDArray[np.float64]:
    return np.random.default_rng(7).standard_normal(shape)


def _conv(layer: Layer) -> Arguments:
    F, C, KH, KW = layer.weight_shape
    weight = _random(F, C, KH, KW) * np.sqrt(2 / (C * KH * KW))  # as He et al. initialise
    options = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
    return (pixels(layer.x_shape, 1), weight, _random(F)), options


def _pool(layer: Layer) -> Arguments:
    return (pixels(layer.x_shape, 1),), {"kernel_size": (layer.KH, layer.KW), "stride": layer.stride, "padding": layer.padding}


def _norm(layer: Layer, training: bool) -> Arguments:
    mean, weight, bias = 0.1 * _random(3, layer.C)
    var = 1 + 0.1 * np.abs(mean)
    return (pixels(layer.x_shape, 1), mean, var, 1 + weight, bias), {"training": training}


def _groups(layer: Layer) -> Arguments:
    weight, bias = 0.1 * _random(2, layer.C)
    return (pixels(layer.x_shape, 1), gcd(layer.C, 32), 1 + weight, bias), {}


def _instances(layer: Layer) -> Arguments:
    (x, _, weight, bias), options = _groups(layer)
    return (x, None, None, weight, bias), options


def _rows(layer: Layer, bias: bool) -> Arguments:
    (x, _, *factors), options = _groups(layer)
    return (x, (layer.C,), *(factors if bias else (factors[0], 1e-5))), options


def _im2col(layer: Layer) -> Arguments:
    return (pixels(layer.x_shape, 1),), {"kernel_size": (layer.KH, layer.KW), "padding": layer.padding, "stride": layer.stride}


def _col2im(layer: Layer) -> Arguments:
    (x,), options = _im2col(layer)
    return (truth.im2col(x, **options),), {"output_size": (layer.H, layer.W), **options}


def _backward(forward: Callable[[Layer], Arguments], shape: Callable[[Layer], tuple[int, ...]]) -> Callable[[Layer], Arguments]:
    """The arguments of a backward function: other crops of the photograph as dout, then those of the forward function."""

    def arguments(layer: Layer) -> Arguments:
        args, options = forward(layer)
        return (pixels(shape(layer), 2), *args), options

    return arguments


def _x(layer: Layer) -> tuple[int, ...]:
    return layer.x_shape


def _y(layer: Layer) -> tuple[int, ...]:
    return layer.y_shape


def _cols(layer: Layer) -> tuple[int, ...]:
    N, _, OH, OW = layer.y_shape
    return N, layer.C * layer.KH * layer.KW, OH * OW


# ---------------------------------------------------------------------------------------------------------------- work of a layer
# Arithmetic counts two operations a multiply-add. Traffic counts every array that has to be read or written once, however often a kernel
# does so.


def _arithmetic(products: int) -> Callable[[Layer], int]:
    """The forward pass is one product of weights and pixels; the backward pass two of the same size, one for dx and one for dweight."""
    return lambda layer: 2 * products * layer.multiply_adds


def _traffic(*arrays: Callable[[Layer], tuple[int, ...]]) -> Callable[[Layer], int]:
    return lambda layer: sum(prod(shape(layer)) for shape in arrays)


# ---------------------------------------------------------------------------------------------------------------- the table


def _is(*ops: str) -> Callable[[Layer], Layer | None]:
    return lambda layer: layer if layer.op in ops else None


def _folded(layer: Layer) -> Layer | None:
    """A convolution with a kernel beyond 1x1 (else there is nothing to unfold), as a depthwise one: folding mixes no channels."""
    return layer._replace(F=layer.C, groups=layer.C) if layer.op == "conv" and layer.KH * layer.KW > 1 else None


def _planes(layer: Layer) -> Layer | None:
    """Batch norm of images."""
    return layer if layer.op == "batchnorm" and len(layer.x_shape) > 2 else None


def _matrix(layer: Layer) -> Layer | None:
    """Batch norm of (N, C)."""
    return layer if layer.op == "batchnorm" and len(layer.x_shape) == 2 else None


_CONV, _MAX, _AVG, _NORM = _is("conv"), _is("maxpool"), _is("maxpool", "avgpool"), _is("batchnorm")
_TRAINING, _EVAL = partial(_norm, training=True), partial(_norm, training=False)
_LAYER, _RMS = partial(_rows, bias=True), partial(_rows, bias=False)
_WAYS = ("auto", "im2col")

OPERATIONS = (
    Operation("conv2d", "conv", "conv2d", _CONV, _conv, _arithmetic(1), "GFLOP/s", algorithms=_WAYS, out=True),
    Operation("conv2d_backward", "conv", "conv2d_backward", _CONV, _backward(_conv, _y), _arithmetic(2), "GFLOP/s", algorithms=_WAYS),
    Operation("im2col", "fold", "im2col", _folded, _im2col, _traffic(_x, _cols), "GB/s", out=True),
    Operation("im2col_backward", "fold", "im2col_backward", _folded, _backward(_im2col, _cols), _traffic(_cols, _x), "GB/s"),
    Operation("col2im", "fold", "col2im", _folded, _col2im, _traffic(_cols, _x), "GB/s", out=True),
    Operation("col2im_backward", "fold", "col2im_backward", _folded, _backward(_col2im, _x), _traffic(_x, _cols), "GB/s"),
    Operation("max_pool2d", "pool", "max_pool2d", _MAX, _pool, _traffic(_x, _y), "GB/s", out=True),
    Operation("max_pool2d_backward", "pool", "max_pool2d_backward", _MAX, _backward(_pool, _y), _traffic(_y, _x, _x), "GB/s"),
    Operation("avg_pool2d", "pool", "avg_pool2d", _AVG, _pool, _traffic(_x, _y), "GB/s", out=True),
    Operation("avg_pool2d_backward", "pool", "avg_pool2d_backward", _AVG, _backward(_pool, _y), _traffic(_y, _x), "GB/s"),
    Operation("batch_norm_training", "norm", "batch_norm", _NORM, _TRAINING, _traffic(_x, _x), "GB/s", out=True, writes=(1, 2)),
    Operation("batch_norm_training_backward", "norm", "batch_norm_backward", _NORM, _backward(_TRAINING, _x), _traffic(_x, _x, _x), "GB/s"),
    Operation("batch_norm_eval", "norm", "batch_norm", _NORM, _EVAL, _traffic(_x, _x), "GB/s", out=True),
    Operation("batch_norm_eval_backward", "norm", "batch_norm_backward", _NORM, _backward(_EVAL, _x), _traffic(_x, _x, _x), "GB/s"),
    Operation("instance_norm", "norm", "instance_norm", _planes, _instances, _traffic(_x, _x), "GB/s", out=True),
    Operation("instance_norm_backward", "norm", "instance_norm_backward", _planes, _backward(_instances, _x), _traffic(_x, _x, _x), "GB/s"),
    Operation("group_norm", "norm", "group_norm", _planes, _groups, _traffic(_x, _x), "GB/s", out=True),
    Operation("group_norm_backward", "norm", "group_norm_backward", _planes, _backward(_groups, _x), _traffic(_x, _x, _x), "GB/s"),
    Operation("layer_norm", "norm", "layer_norm", _matrix, _LAYER, _traffic(_x, _x), "GB/s", out=True),
    Operation("layer_norm_backward", "norm", "layer_norm_backward", _matrix, _backward(_LAYER, _x), _traffic(_x, _x, _x), "GB/s"),
    Operation("rms_norm", "norm", "rms_norm", _matrix, _RMS, _traffic(_x, _x), "GB/s", out=True),
    Operation("rms_norm_backward", "norm", "rms_norm_backward", _matrix, _backward(_RMS, _x), _traffic(_x, _x, _x), "GB/s"),
)

# The layers of a quick run: small and large, few and many channels, every kind of kernel.
QUICK = {
    "cs231n": ("fast_conv", "fast_pool", "alt_bn"),
    "vgg16": ("conv5_1", "pool3"),
    "resnet50": ("pool1", "conv4_reduce", "pool5", "bn_256x56"),
    "mobilenetv2": ("dw_144x56",),
}


def layers(operation: Operation, quick: bool) -> list[tuple[str, Layer]]:
    """(table, layer) of everything that an operation runs on; a shape that several tables or lines give stands once."""
    found: dict[Layer, tuple[str, Layer]] = {}
    for table in shapes.tables():
        for layer in shapes.load(table):
            taken = operation.takes(layer)
            if taken is not None and (not quick or layer.name in QUICK[table]):
                found.setdefault(taken._replace(name="", op="", count=0), (table, taken))
    return list(found.values())


def choose(names: Sequence[str]) -> tuple[Operation, ...]:
    """The operations whose name is one of these or goes on from one with "_"; all where none is named.

    ValueError for a name that fits nothing.
    """
    for name in names:
        if not any(_fits(operation, name) for operation in OPERATIONS):
            raise ValueError(f"no operation is called {name!r}; there are {', '.join(operation.name for operation in OPERATIONS)}")
    return tuple(operation for operation in OPERATIONS if not names or any(_fits(operation, name) for name in names))


def _fits(operation: Operation, name: str) -> bool:
    return operation.name == name or operation.name.startswith(f"{name}_")
