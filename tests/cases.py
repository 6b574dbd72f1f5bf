"""The nasty cases every fast function is compared on, and the odd memory layouts they are handed in.

`conv_cases()`, `pool_cases()`, `norm_cases()` and `fold_cases()` give small cases (naive runs each in well under 50 ms) that print as
their id: `@pytest.mark.parametrize("case", conv_cases(), ids=str)`. `case.arrays(dtype)` are the forward's leading array arguments,
`case.kwargs` the rest, and `case.dout(dtype)` is a gradient of the output's shape. All data are the same at every run.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Shape = tuple[int, ...]

# One less, equal and one more: vectors of 4, 8, 16 and 32 numbers, register tiles of 6, 8, 14 and 28 pixels.
AROUND_VECTORS = (3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33)
AROUND_TILES = (5, 6, 7, 13, 14, 15, 27, 28, 29)


def random_array(shape: Shape, dtype: Any = np.float64, integers: bool = False, seed: int | str = 0) -> np.ndarray:
    """Normal numbers, or integers from -4 to 4 (as `dtype`), whose products every float type sums exactly in any order."""
    rng = np.random.default_rng(seed if isinstance(seed, int) else zlib.crc32(seed.encode()))
    whole = integers or np.issubdtype(dtype, np.integer)
    return (rng.integers(-4, 5, shape) if whole else rng.standard_normal(shape)).astype(dtype)


@dataclass(frozen=True)
class ConvCase:
    """x, weight: shapes. kwargs: of conv2d."""

    id: str
    x: Shape
    weight: Shape
    bias: bool = True
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.id

    @property
    def out_shape(self) -> Shape:
        kernel = self.weight[2:]
        padding = self.kwargs.get("padding", 0)
        size = _output_size(self.x[-2:], kernel, self.kwargs.get("stride", 1), padding, self.kwargs.get("dilation", 1))
        return (*self.x[:-3], self.weight[0], *size)

    def arrays(self, dtype: Any = np.float64, integers: bool = False, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """x, weight, bias (None where the case has none)."""
        x = random_array(self.x, dtype, integers, f"{self.id} x {seed}")
        weight = random_array(self.weight, dtype, integers, f"{self.id} weight {seed}")
        bias = random_array(self.weight[:1], dtype, integers, f"{self.id} bias {seed}")
        return x, weight, bias if self.bias else None

    def dout(self, dtype: Any = np.float64, integers: bool = False, seed: int = 0) -> np.ndarray:
        return random_array(self.out_shape, dtype, integers, f"{self.id} dout {seed}")


@dataclass(frozen=True)
class PoolCase:
    """kwargs: what both poolings take (stride, padding, dilation, ceil_mode). average: what only the average takes. nd: axes of a window."""

    id: str
    x: Shape
    kernel_size: int | tuple[int, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    average: dict[str, Any] = field(default_factory=dict)
    nd: int = 2

    def __str__(self) -> str:
        return self.id

    @property
    def max_kwargs(self) -> dict[str, Any]:
        return {"kernel_size": self.kernel_size, **self.kwargs}

    @property
    def avg_kwargs(self) -> dict[str, Any]:
        return {"kernel_size": self.kernel_size, **self.kwargs, **self.average}

    @property
    def out_shape(self) -> Shape:
        stride, padding, dilation = self.kwargs.get("stride"), self.kwargs.get("padding", 0), self.kwargs.get("dilation", 1)
        stride = self.kernel_size if stride is None else stride
        size = _output_size(self.x[-self.nd:], self.kernel_size, stride, padding, dilation, self.kwargs.get("ceil_mode", False))
        return (*self.x[:-self.nd], *size)

    def arrays(self, dtype: Any = np.float64, integers: bool = False, seed: int = 0) -> tuple[np.ndarray]:
        """(x,); with integers nearly every window has ties."""
        return (random_array(self.x, dtype, integers, f"{self.id} x {seed}"),)

    def dout(self, dtype: Any = np.float64, integers: bool = False, seed: int = 0) -> np.ndarray:
        return random_array(self.out_shape, dtype, integers, f"{self.id} dout {seed}")


@dataclass(frozen=True)
class NormCase:
    """weight, bias, running: whether the case has them. offset: the mean of x. kwargs: of batch_norm."""

    id: str
    x: Shape
    weight: bool = True
    bias: bool = True
    running: bool = True
    offset: float = 0
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.id

    @property
    def out_shape(self) -> Shape:
        return self.x

    def arrays(self, dtype: Any = np.float64, integers: bool = False, seed: int = 0) -> tuple[np.ndarray | None, ...]:
        """x, running_mean, running_var, weight, bias (None where the case has none); batch_norm writes into the running ones."""
        C = self.x[1]
        x = random_array(self.x, dtype, integers, f"{self.id} x {seed}") + np.asarray(self.offset, dtype)
        mean, var, weight, bias = random_array((4, C), dtype, integers, f"{self.id} channels {seed}")
        mean, var = mean + np.asarray(self.offset, dtype), np.abs(var) + np.asarray(1, dtype)
        return (
            x,
            mean if self.running else None,
            var if self.running else None,
            weight if self.weight else None,
            bias if self.bias else None,
        )

    def dout(self, dtype: Any = np.float64, integers: bool = False, seed: int = 0) -> np.ndarray:
        return random_array(self.out_shape, dtype, integers, f"{self.id} dout {seed}")


@dataclass(frozen=True)
class RowNormCase:
    """A case of group, instance, layer or RMS norm. shape: num_groups or normalized_shape; the rest as for `NormCase`."""

    id: str
    function: str
    x: Shape
    shape: int | tuple[int, ...] | None = None
    weight: bool = True
    bias: bool = True
    running: bool = False
    offset: float = 0
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.function}-{self.id}"

    def arrays(self, dtype: Any = np.float64, seed: int = 0) -> tuple[Any, ...]:
        """The positional arguments up to weight and bias (None where the case has none)."""
        of = self.shape if isinstance(self.shape, tuple) else self.x[1:2]
        x = random_array(self.x, dtype, False, f"{self.id} x {seed}") + np.asarray(self.offset, dtype)
        mean, var, weight, bias = random_array((4, *of), dtype, False, f"{self.id} channels {seed}")
        first = (mean if self.running else None, np.abs(var) + np.asarray(1, dtype) if self.running else None) if self.shape is None else (self.shape,)
        parameters = weight if self.weight else None, bias if self.bias else None
        return (x, *first, *parameters[:1 if self.function == "rms_norm" else 2])

    def dout(self, dtype: Any = np.float64, seed: int = 0) -> np.ndarray:
        return random_array(self.x, dtype, False, f"{self.id} dout {seed}")


@dataclass(frozen=True)
class FoldCase:
    """kwargs: what im2col and col2im share besides kernel_size (dilation, padding, stride)."""

    id: str
    x: Shape
    kernel_size: int | tuple[int, int]
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.id

    @property
    def output_size(self) -> tuple[int, int]:
        """(H, W), the output_size of col2im."""
        return self.x[-2:]

    @property
    def cols_shape(self) -> Shape:
        stride, padding, dilation = (self.kwargs.get(name, default) for name, default in (("stride", 1), ("padding", 0), ("dilation", 1)))
        OH, OW = _output_size(self.x[-2:], self.kernel_size, stride, padding, dilation)
        KH, KW = _pair(self.kernel_size)
        return (*self.x[:-3], self.x[-3] * KH * KW, OH * OW)

    def arrays(self, dtype: Any = np.float64, integers: bool = False, seed: int = 0) -> tuple[np.ndarray]:
        """(x,): for im2col, and as the dout of col2im_backward."""
        return (random_array(self.x, dtype, integers, f"{self.id} x {seed}"),)

    def cols(self, dtype: Any = np.float64, integers: bool = False, seed: int = 0) -> np.ndarray:
        """For col2im, and as the dout of im2col_backward."""
        return random_array(self.cols_shape, dtype, integers, f"{self.id} cols {seed}")


def conv_cases() -> list[ConvCase]:
    return _unique(_conv_cases())


def pool_cases(nd: int = 2) -> list[PoolCase]:
    """The cases of poolings in one, two or three dimensions."""
    return _unique({1: _pool_cases_1d, 2: _pool_cases, 3: _pool_cases_3d}[nd]())


def norm_cases() -> list[NormCase]:
    return _unique(_norm_cases())


def row_norm_cases() -> list[RowNormCase]:
    return list(_row_norm_cases())


def fold_cases() -> list[FoldCase]:
    return _unique(_fold_cases())


def _conv_cases() -> Iterator[ConvCase]:
    def case(name, x, weight, bias=True, **kwargs):
        return ConvCase(name, x, weight, bias, kwargs)

    # Smallest, and the ways a kernel can fill its input.
    yield case("1x1-of-1x1", (1, 1, 1, 1), (1, 1, 1, 1))
    yield case("1x1", (2, 5, 4, 3), (7, 5, 1, 1))
    yield case("1x1-no-bias", (2, 5, 4, 3), (7, 5, 1, 1), bias=False)
    yield case("1x1-stride2", (2, 3, 5, 7), (4, 3, 1, 1), stride=2)
    yield case("1x1-padded", (1, 2, 3, 4), (3, 2, 1, 1), padding=1)
    yield case("1x1-one-channel", (3, 1, 4, 4), (1, 1, 1, 1))
    yield case("kernel-as-large-as-input", (2, 3, 4, 5), (4, 3, 4, 5))
    yield case("kernel-as-large-as-padded-input", (2, 3, 4, 5), (4, 3, 6, 9), padding=(1, 2))
    yield case("kernel-larger-than-image", (1, 2, 2, 3), (3, 2, 5, 5), padding=2)
    yield case("kernel-as-high-as-input", (2, 2, 3, 9), (4, 2, 3, 2))
    yield case("one-pixel-padded", (2, 3, 1, 1), (4, 3, 3, 3), padding=1)
    yield case("one-row", (2, 3, 1, 11), (4, 3, 1, 3))
    yield case("one-column", (2, 3, 11, 1), (4, 3, 3, 1))
    yield case("plain-3x3", (2, 3, 6, 7), (4, 3, 3, 3))
    yield case("no-bias", (2, 3, 6, 7), (4, 3, 3, 3), bias=False, padding=1)

    # Planes of the result whose rows have the same places in a page of 4096 bytes.
    yield case("planes-of-pages", (1, 1, 16, 64), (5, 1, 3, 3), padding=1)

    # Strides.
    yield case("stride2", (2, 3, 7, 8), (4, 3, 3, 3), stride=2, padding=1)
    yield case("stride-over-kernel", (2, 3, 9, 10), (4, 3, 2, 2), stride=3)
    yield case("stride-over-input", (1, 2, 5, 5), (3, 2, 3, 3), stride=7)
    yield case("stride-leaves-a-rest", (1, 2, 8, 10), (3, 2, 3, 3), stride=(3, 4))
    yield case("stride-1-2", (2, 3, 6, 9), (4, 3, 3, 3), stride=(1, 2), padding=1)
    yield case("stride-2-1", (2, 3, 9, 6), (4, 3, 3, 3), stride=(2, 1), padding=1)
    yield case("patches", (2, 3, 8, 8), (5, 3, 4, 4), stride=4)

    # Padding.
    for name, padding in {
        "pad1": 1,
        "pad-kernel-1": 2,
        "pad-over-kernel": 4,
        "pad-0-1": (0, 1),
        "pad-2-0": (2, 0),
        "pad-nested": ((1, 0), (0, 2)),
        "pad-nested-all-differ": ((0, 1), (2, 3)),
        "pad-top-only": ((2, 0), (0, 0)),
        "pad-right-only": ((0, 0), (0, 2)),
        "pad-bottom-and-right": ((0, 2), (0, 2)),
        "pad-valid": "valid",
        "pad-same": "same",
    }.items():
        yield case(name, (2, 2, 5, 6), (3, 2, 3, 3), padding=padding)
    yield case("same-even-kernel", (2, 2, 5, 6), (3, 2, 2, 4), padding="same")
    yield case("same-dilated", (1, 2, 6, 7), (3, 2, 2, 3), padding="same", dilation=(3, 2))
    yield case("same-wider-than-image", (1, 2, 2, 3), (3, 2, 6, 5), padding="same")
    yield case("valid-strided", (1, 2, 7, 6), (3, 2, 3, 2), padding="valid", stride=2)
    yield case("pad-nested-strided", (2, 2, 7, 6), (3, 2, 3, 2), padding=((0, 1), (1, 0)), stride=2)
    yield case("pad-wide-strided", (1, 2, 4, 5), (3, 2, 3, 3), padding=((2, 1), (0, 2)), stride=3)

    # Everything different per axis.
    yield case("non-square", (2, 3, 5, 9), (4, 3, 2, 5))
    yield case("non-square-tall", (2, 3, 9, 5), (4, 3, 5, 2))
    yield case("non-square-all", (2, 3, 8, 13), (5, 3, 3, 2), stride=(1, 3), padding=(2, 1), dilation=(2, 3))
    yield case("non-square-all-tall", (2, 3, 13, 8), (5, 3, 2, 4), stride=(3, 1), padding=((1, 0), (0, 3)), dilation=(3, 2))
    yield case("1xk", (2, 3, 4, 11), (4, 3, 1, 7), padding=(0, 3))
    yield case("kx1", (2, 3, 11, 4), (4, 3, 7, 1), padding=(3, 0))
    yield case("5x5", (1, 2, 9, 8), (3, 2, 5, 5), padding=2)
    yield case("7x7-stride2", (1, 3, 15, 13), (4, 3, 7, 7), stride=2, padding=3)
    yield case("11x11-stride4", (1, 3, 23, 19), (4, 3, 11, 11), stride=4, padding=2)

    # Dilation.
    yield case("dilation2", (2, 3, 7, 8), (4, 3, 3, 3), dilation=2)
    yield case("dilation2-padded-strided", (2, 3, 9, 8), (4, 3, 3, 3), dilation=2, padding=2, stride=2)
    yield case("dilation-1-3", (1, 2, 5, 9), (3, 2, 3, 3), dilation=(1, 3))
    yield case("dilation-as-large-as-input", (1, 2, 7, 9), (3, 2, 3, 3), dilation=(3, 4))
    yield case("dilation-over-image", (1, 2, 3, 3), (3, 2, 2, 2), dilation=4, padding=3)
    yield case("dilation-1x1", (1, 2, 3, 4), (3, 2, 1, 1), dilation=5)

    # Batch and unbatched.
    yield case("batch0", (0, 3, 5, 6), (4, 3, 3, 3), padding=1)
    yield case("batch0-groups", (0, 4, 5, 6), (4, 2, 3, 3), groups=2)
    yield case("batch1", (1, 3, 5, 6), (4, 3, 3, 3), padding=1)
    yield case("batch7", (7, 2, 4, 3), (3, 2, 3, 3), padding=1)
    yield case("unbatched", (3, 5, 6), (4, 3, 3, 3), padding=1)
    yield case("unbatched-groups", (4, 5, 6), (6, 2, 2, 3), groups=2, stride=2)
    yield case("one-channel", (2, 1, 6, 5), (1, 1, 3, 3), padding=1)
    yield case("one-channel-in", (2, 1, 6, 5), (5, 1, 3, 3))
    yield case("one-channel-out", (2, 5, 6, 5), (1, 5, 3, 3))

    # Groups.
    yield case("groups2", (2, 4, 5, 6), (6, 2, 3, 3), groups=2, padding=1)
    yield case("groups3-of-1-filter", (2, 6, 5, 4), (3, 2, 3, 3), groups=3)
    yield case("groups-dilated-strided", (2, 6, 8, 7), (4, 3, 3, 2), groups=2, dilation=(1, 2), stride=(2, 1), padding=(1, 0))
    yield case("groups-1x1", (2, 8, 3, 4), (8, 2, 1, 1), groups=4)
    yield case("groups-of-9-filters", (1, 4, 3, 4), (18, 2, 3, 3), groups=2, padding=1)
    yield case("depthwise", (2, 5, 6, 7), (5, 1, 3, 3), groups=5, padding=1)
    yield case("depthwise-stride2", (2, 5, 7, 8), (5, 1, 3, 3), groups=5, padding=1, stride=2)
    yield case("depthwise-multiplier2", (2, 3, 5, 6), (6, 1, 3, 3), groups=3, padding=1)
    yield case("depthwise-multiplier3-no-bias", (1, 4, 5, 6), (12, 1, 2, 3), bias=False, groups=4)
    yield case("depthwise-5x5-dilated", (1, 3, 9, 10), (3, 1, 5, 5), groups=3, dilation=2, padding=4)
    yield case("depthwise-one-channel", (2, 1, 5, 6), (1, 1, 3, 3), groups=1, padding="same")
    yield case("depthwise-17", (1, 17, 4, 5), (17, 1, 3, 3), groups=17, padding=1)

    # Around the vector length and the register tiles.
    for size in AROUND_VECTORS:
        yield case(f"channels-in-{size}", (1, size, 3, 4), (3, size, 3, 3), padding=1)
        yield case(f"channels-out-{size}", (1, 2, 3, 4), (size, 2, 3, 3), padding=1)
    for size in sorted({*AROUND_VECTORS, *AROUND_TILES}):
        yield case(f"output-width-{size}", (1, 2, 2, size), (9, 2, 3, 3), padding=1)
    for size in (5, 6, 7, 8, 9, 13, 14, 15):
        yield case(f"output-height-{size}", (1, 2, size, 3), (4, 2, 3, 3), padding=1)
    yield case("tile-square-14", (1, 2, 14, 14), (3, 2, 3, 3), padding=1)
    yield case("channels-17-33", (1, 17, 3, 5), (33, 17, 3, 3))
    yield case("stride2-width-17", (1, 2, 5, 33), (5, 2, 3, 3), stride=2, padding=1)
    yield case("long-sum", (1, 129, 5, 5), (2, 129, 5, 5))


def _pool_cases() -> Iterator[PoolCase]:
    def case(name, x, kernel_size, average=None, **kwargs):
        return PoolCase(name, x, kernel_size, kwargs, average or {})

    yield case("1x1-of-1x1", (1, 1, 1, 1), 1)
    yield case("1x1", (2, 3, 4, 5), 1)
    yield case("1x1-stride2", (2, 3, 4, 5), 1, stride=2)
    yield case("2x2", (2, 3, 6, 8), 2)
    yield case("2x2-leaves-a-rest", (2, 3, 7, 9), 2)
    yield case("2x2-stride1", (2, 3, 5, 6), 2, stride=1)
    yield case("3x3-stride2", (2, 3, 7, 9), 3, stride=2)
    yield case("3x3-stride2-padded", (2, 3, 8, 9), 3, stride=2, padding=1)
    yield case("3x3-stride1-padded", (2, 3, 5, 6), 3, stride=1, padding=1)
    yield case("3x3", (1, 2, 9, 10), 3)
    yield case("kernel-as-large-as-input", (2, 3, 4, 5), (4, 5))
    yield case("kernel-as-large-as-padded-input", (2, 3, 4, 5), (6, 7), padding=1)
    yield case("kernel-larger-than-image", (1, 2, 2, 3), 5, padding=2)
    yield case("one-pixel-padded", (2, 2, 1, 1), 3, padding=1)
    yield case("one-row", (2, 3, 1, 11), (1, 3), stride=(1, 2))
    yield case("one-column", (2, 3, 11, 1), (3, 1), stride=(2, 1))
    yield case("stride-over-kernel", (2, 2, 10, 11), 2, stride=3)
    yield case("stride-over-input", (2, 2, 4, 5), 3, stride=9)
    yield case("stride-1-2", (2, 2, 5, 8), 2, stride=(1, 2))
    yield case("stride-3-1", (2, 2, 8, 5), 3, stride=(3, 1), padding=1)
    yield case("non-square", (2, 2, 6, 11), (2, 5))
    yield case("non-square-tall", (2, 2, 11, 6), (5, 2), stride=(2, 1), padding=(2, 1))
    yield case("non-square-all", (2, 3, 9, 13), (3, 4), stride=(2, 3), padding=(1, 2), dilation=(2, 1))
    yield case("pad-kernel-1", (2, 2, 5, 6), 3, stride=1, padding=2)
    yield case("pad-nested", (2, 2, 5, 6), 3, stride=2, padding=((1, 0), (0, 2)))
    yield case("pad-nested-all-differ", (1, 2, 5, 6), 4, stride=1, padding=((0, 1), (2, 3)))
    yield case("pad-top-only", (1, 2, 5, 6), 3, stride=2, padding=((2, 0), (0, 0)))
    yield case("pad-right-only", (1, 2, 5, 6), 3, stride=2, padding=((0, 0), (0, 2)))
    yield case("dilation2", (2, 2, 8, 9), 3, stride=1, dilation=2)
    yield case("dilation-padded", (2, 2, 8, 9), 3, stride=2, dilation=(3, 2), padding=(1, 1))
    yield case("dilation-1-3", (1, 2, 5, 9), 2, stride=1, dilation=(1, 3))
    yield case("dilation-pad-over-kernel", (1, 2, 6, 6), 2, stride=1, dilation=4, padding=4)
    yield case("dilation-windows-miss-the-image", (1, 2, 1, 2), 2, stride=1, dilation=3, padding=3)
    yield case("batch0", (0, 3, 6, 6), 2)
    yield case("batch0-padded", (0, 3, 6, 6), 3, stride=2, padding=1, ceil_mode=True)
    yield case("batch1", (1, 3, 6, 6), 2)
    yield case("batch5-one-channel", (5, 1, 5, 4), 2)
    yield case("unbatched", (3, 5, 6), 2)
    yield case("unbatched-padded", (3, 5, 6), 3, stride=2, padding=1)

    # ceil_mode: with a rest, without one, and with a last window that would start in the padding.
    yield case("ceil", (2, 2, 7, 8), 2, ceil_mode=True)
    yield case("ceil-without-rest", (2, 2, 6, 8), 2, ceil_mode=True)
    yield case("ceil-stride-over-kernel", (1, 2, 5, 8), 2, stride=3, ceil_mode=True)
    yield case("ceil-padded", (2, 2, 6, 7), 3, stride=2, padding=1, ceil_mode=True)
    yield case("ceil-drops-window-in-padding", (1, 2, 5, 3), 2, stride=2, padding=1, ceil_mode=True)
    yield case("ceil-drops-window-stride3", (1, 2, 6, 9), 3, stride=3, padding=1, ceil_mode=True)
    yield case("ceil-nested", (1, 2, 6, 7), 3, stride=2, padding=((0, 1), (2, 0)), ceil_mode=True)
    yield case("ceil-dilated", (1, 2, 9, 8), 3, stride=3, dilation=2, padding=1, ceil_mode=True)

    # The divisor of the average.
    exclude = {"count_include_pad": False}
    yield case("exclude-pad", (2, 2, 5, 6), 3, exclude, stride=2, padding=1)
    yield case("exclude-pad-nested", (2, 2, 5, 6), 3, exclude, stride=2, padding=((1, 0), (0, 2)))
    yield case("exclude-pad-ceil", (2, 2, 6, 7), 3, exclude, stride=2, padding=1, ceil_mode=True)
    yield case("exclude-pad-kernel-1", (1, 2, 3, 4), 3, exclude, stride=1, padding=2)
    yield case("exclude-pad-windows-miss-the-image", (1, 2, 1, 2), 2, exclude, stride=1, dilation=3, padding=3)
    yield case("divisor", (2, 2, 5, 6), 3, {"divisor_override": 2}, stride=2, padding=1)
    yield case("divisor-negative", (1, 2, 5, 6), 2, {"divisor_override": -3})
    yield case("divisor-exclude-pad-ceil", (1, 2, 6, 7), 3, {**exclude, "divisor_override": 5}, stride=2, padding=1, ceil_mode=True)

    for size in sorted({*AROUND_VECTORS, *AROUND_TILES}):
        yield case(f"2x2-output-width-{size}", (1, 2, 4, 2 * size), 2)
        yield case(f"3x3-stride2-output-width-{size}", (1, 1, 5, 2 * size + 1), 3, stride=2)
        yield case(f"3x3-stride1-output-width-{size}", (1, 1, 3, size), 3, stride=1, padding=1)
    for channels in (7, 8, 9, 17):
        yield case(f"channels-{channels}", (1, channels, 4, 5), 2)


def _pool_cases_1d() -> Iterator[PoolCase]:
    def case(name, x, kernel_size, average=None, **kwargs):
        return PoolCase(f"1d-{name}", x, kernel_size, kwargs, average or {}, 1)

    yield case("1-of-1", (1, 1, 1), 1)
    yield case("pairs", (2, 3, 8), 2)
    yield case("pairs-leave-a-rest", (2, 3, 9), 2)
    yield case("unbatched", (3, 9), (3,), stride=(2,))
    yield case("padded", (2, 2, 9), 3, stride=2, padding=1)
    yield case("pad-tuple", (2, 2, 9), 5, stride=1, padding=(2,))
    yield case("pad-nested", (2, 2, 9), 4, stride=1, padding=((3, 1),))
    yield case("dilation", (2, 2, 11), 3, stride=1, dilation=3, padding=2)
    yield case("dilation-windows-miss-the-image", (1, 2, 2), 2, stride=1, dilation=5, padding=4)
    yield case("stride3", (2, 2, 20), 4, stride=3)
    yield case("stride-over-kernel", (2, 2, 20), 2, stride=5)
    yield case("wide-window", (2, 2, 40), 33, stride=1, padding=16)
    yield case("ceil", (2, 2, 10), 3, stride=2, padding=1, ceil_mode=True)
    yield case("ceil-drops-window-in-padding", (1, 2, 5), 2, padding=1, ceil_mode=True)
    yield case("exclude-pad", (2, 2, 9), 3, {"count_include_pad": False}, stride=2, padding=1, ceil_mode=True)
    yield case("batch0", (0, 3, 6), 2)
    yield case("several-blocks", (1, 1, 9001), 3, stride=2, padding=1)
    yield case("several-blocks-of-7", (1, 1, 9001), 7, stride=3)
    for size in (15, 16, 17, 31, 33):
        yield case(f"stride1-width-{size}", (1, 1, size), 5, stride=1, padding=2)
        yield case(f"stride2-width-{size}", (1, 1, size), 3, stride=2)


def _pool_cases_3d() -> Iterator[PoolCase]:
    def case(name, x, kernel_size, average=None, **kwargs):
        return PoolCase(f"3d-{name}", x, kernel_size, kwargs, average or {}, 3)

    yield case("1-of-1", (1, 1, 1, 1, 1), 1)
    yield case("2x2x2", (2, 2, 4, 4, 6), 2)
    yield case("2x2x2-leaves-a-rest", (1, 2, 5, 5, 7), 2)
    yield case("unbatched", (2, 4, 5, 6), 3, stride=2, padding=1)
    yield case("3x3x3-stride1-padded", (1, 2, 4, 5, 6), 3, stride=1, padding=1)
    yield case("all-axes-differ", (1, 2, 6, 7, 9), (2, 3, 4), stride=(1, 2, 3), padding=(1, 0, 2), dilation=(2, 3, 1))
    yield case("pad-nested", (1, 2, 4, 5, 6), 3, stride=2, padding=((2, 0), (0, 1), (1, 2)))
    yield case("one-axis-at-a-time", (1, 2, 6, 5, 4), (3, 1, 1), stride=(2, 1, 1))
    yield case("plane-by-plane-2x2", (1, 2, 4, 8, 9), (1, 2, 2))
    yield case("plane-by-plane-3x3", (2, 1, 3, 8, 9), (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
    yield case("each-second-plane", (1, 2, 5, 6, 9), (1, 3, 3), stride=(2, 1, 1), padding=(0, 1, 1))
    yield case("planes-5x5", (1, 1, 3, 7, 19), (1, 5, 5), stride=1, padding=(0, 2, 2))
    yield case("windows-miss-the-image", (1, 1, 1, 2, 3), 2, stride=1, dilation=3, padding=3)
    yield case("ceil", (1, 2, 5, 6, 7), 2, ceil_mode=True)
    yield case("ceil-padded", (1, 2, 4, 6, 7), 3, stride=2, padding=1, ceil_mode=True)
    yield case("exclude-pad", (1, 2, 4, 5, 6), 3, {"count_include_pad": False}, stride=2, padding=1)
    yield case("divisor", (1, 2, 4, 5, 6), 2, {"divisor_override": 3})
    yield case("kernel-as-large-as-input", (1, 2, 3, 4, 5), (3, 4, 5))
    yield case("many-elements", (1, 1, 9, 9, 9), 9, stride=1, padding=1)
    yield case("batch0", (0, 2, 4, 4, 4), 2)
    for size in (15, 17):
        yield case(f"width-{size}", (1, 1, 3, 3, size), 3, stride=(1, 1, 2), padding=1)


def _norm_cases() -> Iterator[NormCase]:
    def case(name, x, weight=True, bias=True, running=True, offset=0, **kwargs):
        return NormCase(name, x, weight, bias, running, offset, kwargs)

    for training in (False, True):
        mode = "train" if training else "eval"
        yield case(f"{mode}-NC", (6, 5), training=training)
        yield case(f"{mode}-NCL", (3, 4, 5), training=training)
        yield case(f"{mode}-NCHW", (3, 4, 5, 6), training=training)
        yield case(f"{mode}-NCDHW", (2, 3, 2, 3, 4), training=training)
        yield case(f"{mode}-plain", (4, 3, 5, 2), weight=False, bias=False, training=training)
        yield case(f"{mode}-weight-only", (4, 3, 5, 2), bias=False, training=training)
        yield case(f"{mode}-bias-only", (4, 3, 5, 2), weight=False, training=training)
        yield case(f"{mode}-batch1", (1, 3, 4, 5), training=training)
        yield case(f"{mode}-one-channel", (4, 1, 3, 3), training=training)
        yield case(f"{mode}-NC-one-channel", (7, 1), training=training)
        yield case(f"{mode}-one-pixel", (5, 3, 1, 1), training=training)
        yield case(f"{mode}-offset", (4, 3, 5, 6), offset=8, training=training)
        yield case(f"{mode}-eps", (4, 3, 5, 6), eps=0.5, training=training)
        yield case(f"{mode}-batch0", (0, 3, 4, 5), training=training)
        yield case(f"{mode}-batch0-NC", (0, 3), training=training)
        yield case(f"{mode}-no-running", (4, 3, 5, 2), running=False, training=training)
    yield case("train-momentum0", (4, 3, 5), momentum=0.0, training=True)
    yield case("train-momentum1", (4, 3, 5), momentum=1.0, training=True)
    yield case("train-momentum0.9", (4, 3, 5), momentum=0.9, training=True)
    yield case("train-two-values", (2, 3), eps=0.5, training=True)
    yield case("train-one-image-row", (1, 3, 1, 9), training=True)
    for size in (7, 8, 9, 15, 16, 17, 31, 33):
        yield case(f"train-NC-channels-{size}", (5, size), training=True)
        yield case(f"train-pixels-{size}", (2, 3, 1, size), training=True)
        yield case(f"eval-pixels-{size}", (2, 3, 1, size))
    yield case("train-many-values", (8, 2, 16, 17), training=True)


def _row_norm_cases() -> Iterator[RowNormCase]:
    for name, x, groups in (("NC", (5, 6), (1, 2, 3)), ("NCL", (3, 4, 5), (1, 2, 4)), ("few-pixels", (2, 6, 4, 4), (2, 6)),
                            ("NCHW", (3, 4, 5, 6), (1, 2, 4)), ("pixels-17", (2, 4, 17), (2,)), ("NCDHW", (2, 4, 2, 3, 4), (2,)),
                            ("many", (70, 4, 18), (2, 4)), ("batch0", (0, 4, 5), (2,)), ("no-pixels", (2, 4, 0), (2,))):
        for G in groups:
            few = len(x) == 2 and x[1] // G < 3      # dx is all but 0 where eps is: nothing to compare
            yield RowNormCase(f"{name}-{G}", "group_norm", x, G, kwargs={"eps": 0.5} if few else {})
    yield RowNormCase("plain", "group_norm", (2, 4, 5, 5), 2, weight=False, bias=False)
    yield RowNormCase("weight-only", "group_norm", (2, 4, 3), 2, bias=False)
    yield RowNormCase("bias-only", "group_norm", (2, 4, 30), 2, weight=False)
    yield RowNormCase("eps-offset", "group_norm", (2, 4, 30), 2, offset=8, kwargs={"eps": 0.5})
    yield RowNormCase("two-pixels", "instance_norm", (2, 3, 1, 2), running=True, kwargs={"eps": 0.5})
    for x in ((3, 4, 5), (3, 4, 5, 6), (40, 3, 6, 6), (2, 3, 2, 3, 4), (0, 3, 4)):
        for running in (False, True):
            yield RowNormCase(f"{x}-{running}", "instance_norm", x, running=running)
    yield RowNormCase("running", "instance_norm", (2, 3, 5), running=True, kwargs={"use_input_stats": False})
    yield RowNormCase("running-one-pixel", "instance_norm", (2, 3, 1), running=True, kwargs={"use_input_stats": False})
    yield RowNormCase("momentum", "instance_norm", (2, 3, 20), running=True, offset=2, kwargs={"momentum": 0.7, "eps": 0.1})
    yield RowNormCase("plain", "instance_norm", (2, 3, 20), weight=False, bias=False)
    for function in ("layer_norm", "rms_norm"):
        for name, x, shape in (("rows", (5, 7), (7,)), ("one-row", (9,), (9,)), ("two-axes", (3, 4, 5), (4, 5)), ("three-axes", (2, 3, 4, 5), (3, 4, 5)),
                               ("tail", (6, 33), (33,)), ("vectors", (3, 2, 64), (64,)), ("many-rows", (150, 20), (20,)), ("batch0", (0, 4), (4,)),
                               ("nothing", (3, 0), (0,)), ("long", (2, 1500), (1500,))):
            # rms_norm's own eps is another one for float64 truth: of rows without a value all that is left
            yield RowNormCase(name, function, x, shape, kwargs={"eps": 0.25} if name == "nothing" else {})
        yield RowNormCase("plain", function, (4, 18), (18,), weight=False, bias=False)
        yield RowNormCase("offset", function, (4, 18), (18,), offset=8, kwargs={"eps": 0.25})
    yield RowNormCase("bias-only", "layer_norm", (4, 18), (18,), weight=False)
    yield RowNormCase("weight-only", "layer_norm", (4, 18), (18,), bias=False)


def _fold_cases() -> Iterator[FoldCase]:
    def case(name, x, kernel_size, **kwargs):
        return FoldCase(name, x, kernel_size, kwargs)

    yield case("1x1-of-1x1", (1, 1, 1, 1), 1)
    yield case("1x1", (2, 3, 4, 5), 1)
    yield case("1x1-stride2", (2, 3, 4, 5), 1, stride=2)
    yield case("3x3", (2, 3, 6, 7), 3)
    yield case("3x3-padded", (2, 3, 6, 7), 3, padding=1)
    yield case("stride2", (2, 3, 7, 8), 3, stride=2, padding=1)
    yield case("stride-over-kernel", (2, 3, 9, 10), 2, stride=3)
    yield case("stride-leaves-a-rest", (1, 2, 8, 10), 3, stride=(3, 4))
    yield case("stride-over-input", (1, 2, 5, 5), 3, stride=7)
    yield case("patches", (2, 3, 8, 12), 4, stride=4)
    yield case("kernel-as-large-as-input", (2, 3, 4, 5), (4, 5))
    yield case("kernel-as-large-as-padded-input", (2, 3, 4, 5), (6, 9), padding=(1, 2))
    yield case("kernel-larger-than-image", (1, 2, 2, 3), 5, padding=2)
    yield case("one-pixel-padded", (2, 3, 1, 1), 3, padding=1)
    yield case("one-row", (2, 3, 1, 11), (1, 3))
    yield case("one-column", (2, 3, 11, 1), (3, 1))
    yield case("pad-kernel-1", (2, 2, 5, 6), 3, padding=2)
    yield case("pad-over-kernel", (1, 2, 3, 4), 2, padding=3)
    yield case("pad-0-1", (2, 2, 5, 6), 3, padding=(0, 1))
    yield case("pad-nested", (2, 2, 5, 6), 3, padding=((1, 0), (0, 2)))
    yield case("pad-nested-strided", (2, 2, 5, 6), (2, 3), padding=((0, 1), (2, 3)), stride=2)
    yield case("non-square", (2, 3, 5, 9), (2, 5))
    yield case("non-square-tall", (2, 3, 9, 5), (5, 2))
    yield case("non-square-all", (2, 3, 8, 13), (3, 2), stride=(1, 3), padding=(2, 1), dilation=(2, 3))
    yield case("dilation2", (2, 3, 7, 8), 3, dilation=2)
    yield case("dilation-1-3", (1, 2, 5, 9), 3, dilation=(1, 3), stride=2)
    yield case("dilation-over-image", (1, 2, 3, 3), 2, dilation=4, padding=3)
    yield case("batch0", (0, 3, 5, 6), 3, padding=1)
    yield case("batch1", (1, 3, 5, 6), 2)
    yield case("batch5-one-channel", (5, 1, 5, 4), 2)
    yield case("unbatched", (3, 5, 6), 3, padding=1)
    yield case("unbatched-all", (2, 7, 6), (2, 3), stride=(2, 1), padding=((1, 0), (0, 1)), dilation=(1, 2))
    for size in (7, 8, 9, 15, 16, 17):
        yield case(f"output-width-{size}", (1, 2, 3, size), 3, padding=1)
    yield case("channels-17", (1, 17, 3, 4), 2)


def layouts(x: np.ndarray) -> dict[str, np.ndarray]:
    """The values of x in every memory layout a user may hand over. The arrays share no memory with x."""
    backwards = (slice(None, None, -1),) * x.ndim
    crop = np.full([length + 3 for length in x.shape], 77, x.dtype)[tuple(slice(1, length + 1) for length in x.shape)]
    every_second = np.full([2 * length for length in x.shape], 77, x.dtype)[(slice(None, None, 2),) * x.ndim]
    unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    for view in (crop, every_second, unaligned):
        view[...] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    return {
        "contiguous": x.copy(),
        "fortran": np.asfortranarray(x.copy()),
        "transposed": np.moveaxis(np.moveaxis(x, 0, -1).copy("C"), -1, 0) if x.ndim > 1 else x.copy(),
        "channels-last": np.moveaxis(np.moveaxis(x, -3, -1).copy("C"), -1, -3) if x.ndim > 2 else x.copy(),
        "negative-strides": x[backwards].copy("C")[backwards],
        "crop": crop,
        "every-second": every_second,
        "read-only": read_only,
        "unaligned": unaligned,
        "byte-swapped": x.astype(x.dtype.newbyteorder()),
    }


def broadcasts(x: np.ndarray) -> dict[str, np.ndarray]:
    """Read-only views of x's shape that repeat one slice of it along an axis with stride 0 (so their values differ from x's)."""
    views = {f"axis{axis}": np.broadcast_to(x.take([0], axis), x.shape) for axis in range(x.ndim) if x.shape[axis] > 0}
    if x.size > 0:
        views["scalar"] = np.broadcast_to(x.flat[0], x.shape)
    return views


def inject(x: np.ndarray, values: tuple[float, ...] = (np.nan, np.inf, -np.inf), seed: int = 0) -> np.ndarray:
    """A copy of x in which some elements, the first and the last among them, are NaN or infinite (`values` in turn)."""
    y = x.copy(order="C")
    if y.size > 0:
        count = max(len(values), y.size // 20)
        places = np.random.default_rng(seed).choice(y.size, min(count, y.size), replace=False)
        places = np.concatenate([[0, y.size - 1], places])
        y.reshape(-1)[places] = np.resize(values, len(places))
    return y


def _pair(value):
    return (value, value) if isinstance(value, int) else value


def _each(value, nd):
    return (value,) * nd if isinstance(value, int) else value * nd if len(value) == 1 and isinstance(value[0], int) else value


def _output_size(size, kernel, stride, padding, dilation, ceil_mode=False) -> tuple[int, ...]:
    """The number of windows per axis, found by laying them down one after the other."""
    nd = len(size)
    kernel, stride, dilation = _each(kernel, nd), _each(stride, nd), _each(dilation, nd)
    if padding == "same":
        return size
    pads = [_pair(sides) for sides in _each(0 if padding == "valid" else padding, nd)]
    counts = []
    for length, k, s, d, (before, after) in zip(size, kernel, stride, dilation, pads):
        count, start = 0, -before
        while start + d * (k - 1) < length + after:
            count, start = count + 1, start + s
        # ceil_mode adds one window for what is left over, unless it would start behind the image.
        left_over = start - s + d * (k - 1) + 1 < length + after
        counts.append(count + 1 if ceil_mode and left_over and start < length else count)
    return tuple(counts)


def _unique(cases: Iterator[Any]) -> list[Any]:
    cases = list(cases)
    assert len({case.id for case in cases}) == len(cases), "two cases have the same id"
    return cases
