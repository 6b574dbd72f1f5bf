"""The layers of real networks as text tables, one layer a line: what the report, the tests and the benches run on.

A line reads ``name op N C H W F KH KW stride padding groups count``, columns parted by white space; ``#`` starts a comment. op is conv,
maxpool, avgpool or batchnorm; a column that an op does not have holds ``-``. count is how many times the layer occurs in the network.
"""

from functools import cache
from importlib import resources
from typing import NamedTuple

__all__ = ["Layer", "load", "parse", "tables"]

_TABLES = ("cs231n", "vgg16", "resnet50", "mobilenetv2")

# The columns each op needs; every other column between H and groups must be "-".
_NEEDS = {
    "conv": {"H", "W", "F", "KH", "KW", "stride", "padding", "groups"},
    "maxpool": {"H", "W", "KH", "KW", "stride", "padding"},
    "avgpool": {"H", "W", "KH", "KW", "stride", "padding"},
    "batchnorm": {"H", "W"},  # "-" in both for an input of shape (N, C)
}


class Layer(NamedTuple):
    """One line of a table. A column that the op does not have ("-" in the file) is 0."""

    name: str
    op: str
    N: int
    C: int
    H: int
    W: int
    F: int
    KH: int
    KW: int
    stride: int
    padding: int
    groups: int
    count: int  # type: ignore[assignment]  # tuple.count is of no use here

    @property
    def x_shape(self) -> tuple[int, ...]:
        """(N, C, H, W), or (N, C) for a batch norm without height and width."""
        return (self.N, self.C, self.H, self.W) if self.H else (self.N, self.C)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """(F, C // groups, KH, KW) of a conv, (C,) of a batch norm, () of a pool."""
        if self.op == "conv":
            return self.F, self.C // self.groups, self.KH, self.KW
        return (self.C,) if self.op == "batchnorm" else ()

    @property
    def y_shape(self) -> tuple[int, ...]:
        """(N, F or C, OH, OW); a batch norm keeps the shape of its input."""
        if self.op == "batchnorm":
            return self.x_shape
        OH = (self.H + 2 * self.padding - self.KH) // self.stride + 1
        OW = (self.W + 2 * self.padding - self.KW) // self.stride + 1
        return self.N, self.F if self.op == "conv" else self.C, OH, OW

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one forward call of a conv (2 floating-point operations each; bias not counted), 0 for other ops."""
        if self.op != "conv":
            return 0
        N, F, OH, OW = self.y_shape
        return N * F * OH * OW * (self.C // self.groups) * self.KH * self.KW


def tables() -> tuple[str, ...]:
    """Names of the tables: cs231n, vgg16, resnet50, mobilenetv2."""
    return _TABLES


@cache
def _load(name: str) -> tuple[Layer, ...]:
    text = resources.files(__name__).joinpath(f"{name}.txt").read_text(encoding="utf-8")
    return tuple(parse(text, f"{name}.txt"))


def load(name: str) -> list[Layer]:
    """The layers of one table in the order of the file. ValueError where there is no such table."""
    if name not in _TABLES:
        raise ValueError(f"no table of layers is called {name!r}; there are {', '.join(_TABLES)}")
    return list(_load(name))


def parse(text: str, filename: str = "<text>") -> list[Layer]:
    """Read the text of a table. A bad line gives a ValueError that names file, line and what is wrong with it."""
    layers: list[Layer] = []
    for number, line in enumerate(text.splitlines(), 1):
        columns = line.partition("#")[0].split()
        if not columns:
            continue
        try:
            layer = _layer(columns)
            if any(other.name == layer.name for other in layers):
                raise ValueError(f"a second layer called {layer.name!r}")
        except ValueError as error:
            raise ValueError(f"{filename}, line {number}: {error}") from None
        layers.append(layer)
    return layers


def _layer(columns: list[str]) -> Layer:
    if len(columns) != len(Layer._fields):
        raise ValueError(f"{len(columns)} columns, expected {len(Layer._fields)}: {' '.join(Layer._fields)}")
    name, op, *rest = columns
    if op not in _NEEDS:
        raise ValueError(f"op {op!r} is none of {', '.join(_NEEDS)}")
    needed = _NEEDS[op] | {"N", "C", "count"}
    if op == "batchnorm" and columns[4:6] == ["-", "-"]:
        needed -= {"H", "W"}
    values = [_value(column, text, column in needed, op) for column, text in zip(Layer._fields[2:], rest, strict=True)]
    layer = Layer(name, op, *values)
    if op == "conv" and (layer.C % layer.groups or layer.F % layer.groups):
        raise ValueError(f"groups = {layer.groups} divides not both C = {layer.C} and F = {layer.F}")
    if "KH" in needed and min(layer.H - layer.KH, layer.W - layer.KW) + 2 * layer.padding < 0:
        raise ValueError(f"the kernel ({layer.KH}, {layer.KW}) is larger than the padded input")
    return layer


def _value(column: str, text: str, needed: bool, op: str) -> int:
    if not needed:
        if text != "-":
            raise ValueError(f"{op} has no {column}: expected '-', not {text!r}")
        return 0
    smallest = 0 if column == "padding" else 1
    if not (text.isascii() and text.isdigit() and int(text) >= smallest):
        raise ValueError(f"{column} = {text!r} is not an integer of at least {smallest}")
    return int(text)
