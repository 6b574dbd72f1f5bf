"""The windows of a pooling: checked arguments, shapes, the job the kernels take, and how many elements each window counts."""
from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from .. import check
from ..check import Pair
from ..kernels import pool_geometry
from ..kernels.past import PAST
from ..kernels.tiles import VECTOR_BYTES
from ..remembered import Remembered, settled
from .planes import X_SHAPES

BLOCK_BYTES = 16 * 1024                      # of x, for a block of rows of the result: they stay in L1
BAND_BYTES = 32 * 1024                       # of the gradient, for a band of its rows
TASKS = 64                                   # of one call, at most: enough for any number of cores to share
LONG = 16384                                 # outputs along all axes, from which on the numbers of the windows are not kept
MOST_COUNTS = 4                              # kinds of numbers kept of one Window
MOST_LISTED = 32768                          # elements of all windows of a plane, up to which they are listed (small.py)
MOST_TABLE, MOST_DIVISORS = 8192, 8192      # numbers of the table of `flat`, and of elements that windows count there (flat.py)
MOST_BUFFER = 1 << 16                        # elements that a window may reach over along a row


class Window:
    """The windows of one pooling over `nd` axes, checked.

    dtype of x and the one computed in (`working`); x_shape (N, C, sizes of x) and y_shape (N, C, sizes of the result); one integer an axis:
    kernel, stride, dilation; pads: (before, after) an axis.
    """

    def __init__(self, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any, integers: bool = False,
                 nd: int = 2) -> None:
        check.array("x", x, X_SHAPES[nd], (nd + 1, nd + 2), integers)
        self.nd, (self.dtype, self.working) = nd, check.dtypes(x)
        self.kernel = check.sizes("kernel_size", kernel_size, 1, nd)
        self.stride = self.kernel if stride is None else check.sizes("stride", stride, 1, nd)
        self.pads, self.dilation = check.paddings("padding", padding, nd), check.sizes("dilation", dilation, 1, nd)
        ceil = check.flag("ceil_mode", ceil_mode)
        self.x_shape = x.shape if x.ndim == nd + 2 else (1, *x.shape)
        outputs = []
        for name, reach, *axis in zip(check.AXES[nd], self.reach, self.x_shape[2:], self.kernel, self.stride, self.pads, self.dilation):
            size, k, s, pads, d = axis
            if max(pads) > reach:
                raise ValueError(f"padding is {pads} along the {name}, where the window reaches over {reach + 1} elements; "
                                 f"wanted: less than that on each side")
            outputs.append(check.output_size(f"the {name}", size, k, s, pads, d, ceil))
        self.y_shape = (*self.x_shape[:2], *outputs)
        check.result_shape("x and padding", *self.y_shape)
        self._counts: dict[Any, Counts] = {}
        self._kept = sum(outputs) < LONG
        self.plans: dict[Any, Any] = {}          # what the kinds of pooling remember with their windows
        self.calls: dict[Any, Any] = {}          # and of those that one thread does (known.py)

    @property
    def nbytes(self) -> int:
        """Of the largest arrays that may come to be kept with it."""
        counts = 8 * MOST_COUNTS * (sum(self.y_shape[2:]) + (MOST_DIVISORS if any(map(any, self.pads)) else 0)) * self._kept
        return counts + 8 * min(MOST_TABLE, math.prod(self.x_shape[2:])) + 16 * self.listed

    @functools.cached_property
    def listed(self) -> int:
        """Elements of all windows of a plane, of one with few."""
        elements = math.prod(self.y_shape[2:]) * math.prod(self.kernel)
        return elements if elements <= MOST_LISTED else 0

    def shape_like(self, x: np.ndarray) -> tuple[int, ...]:
        """The result's shape: without the batch axis where x has none."""
        return self.y_shape if x.ndim == self.nd + 2 else self.y_shape[1:]

    @functools.cached_property
    def work(self) -> float:
        """As `runtime` counts what is worth a thread (measured): one takes some 70 microseconds for 2 MB under small windows, and 0.2 ns for
        each row and column of each window, a fifth of that where rows have a kernel of their own."""
        steps = math.prod(self.y_shape) * sum(self.kernel)
        return self.working.itemsize * max(1.5 * math.prod(self.x_shape), (2 if self.variant == pool_geometry.BUFFER else 0.4) * steps)

    def job(self, row_blocks: int, column_blocks: int, units: int, variant: int) -> tuple[int, np.ndarray]:
        """How many tasks there are, and the integers of the kernels."""
        def three(values: tuple[int, ...], missing: int) -> tuple[int, ...]:
            return (missing,) * (3 - self.nd) + tuple(values)

        names = pool_geometry.NAMES
        sizes = (self.x_shape[0] * self.x_shape[1], *three(self.x_shape[2:], 1), *three(self.y_shape[2:], 1), *three(self.kernel, 1),
                 *three(self.stride, 1), *three(tuple(before for before, _ in self.pads), 0), *three(self.dilation, 1))
        tasks = min(units, TASKS)
        return tasks, pool_geometry.pack(**dict(zip(names, (*sizes, row_blocks, column_blocks, units, tasks, variant))))

    @functools.cached_property
    def blocks(self) -> tuple[int, int, int]:
        """Rows and columns of a plane of the result in blocks, and the units of work these make."""
        W, OW, S = self.x_shape[-1], self.y_shape[-1], self.stride[-1]
        OH, SH = (self.y_shape[-2], self.stride[-2]) if self.nd > 1 else (1, 1)
        room = BLOCK_BYTES // self.working.itemsize
        columns = OW if W <= room else min(OW, max(1, room // S, 4 * self.reach[-1] // S))
        rows = min(OH, max(1, room // (min(W, columns * S) * SH))) if OW and W else 1
        column_blocks, row_blocks = -(-OW // max(1, columns)), -(-OH // max(1, rows))
        OD = self.y_shape[2] if self.nd == 3 else 1
        return row_blocks, column_blocks, self.y_shape[0] * self.y_shape[1] * OD * row_blocks * column_blocks

    @functools.cached_property
    def bands(self) -> tuple[int, int]:
        """Bands of rows of a volume of the gradient, and the units of work these make."""
        rows = int(np.prod(self.x_shape[2:-1]))
        bands = max(1, min(rows, rows * self.x_shape[-1] * self.working.itemsize // BAND_BYTES))
        return bands, self.x_shape[0] * self.x_shape[1] * bands

    def counts(self, include_pad: Any, divisor: Any) -> Counts:
        """How many elements each window counts."""
        key = check.flag("count_include_pad", include_pad), None if divisor is None else check.nonzero("divisor_override", divisor)
        found = self._counts.get(key)
        if found is None:
            dtype = self.working
            parts = [np.ones(1, dtype)] * (3 - self.nd)
            for size, outputs, *axis in zip(self.x_shape[2:], self.y_shape[2:], self.kernel, self.stride, self.pads, self.dilation):
                parts.append(_counts(size, outputs, *axis, key[0]).astype(dtype) if divisor is None else np.ones(outputs, dtype))
            if divisor is not None:
                parts[0] = np.full(len(parts[0]), key[1], dtype)
            found = Counts(parts)
            if self._kept:
                if len(self._counts) >= MOST_COUNTS:
                    self._counts.clear()
                self._counts[key] = found
        return found

    def past(self, images: int, results: int = 1) -> int:
        """Whether a gradient is stored past the caches: where they do not hold so many arrays like x and like dout. Rows of less than a vector never are."""
        touched = images * math.prod(self.x_shape) + results * math.prod(self.y_shape)
        return int(touched * self.working.itemsize >= PAST and self.x_shape[-1] * self.working.itemsize >= VECTOR_BYTES)

    @property
    def reach(self) -> tuple[int, ...]:
        """How far behind its first element a window's last one lies, along each axis."""
        return tuple(d * (k - 1) for d, k in zip(self.dilation, self.kernel))

    @property
    def variant(self) -> int:
        """The kernel of a row."""
        K, buffer = self.kernel[-1], pool_geometry.BUFFER
        return pool_geometry.VARIANTS.get((self.stride[-1], K), buffer) if self.dilation[-1] == 1 or K == 1 else buffer


class Counts:
    """Counted elements of each window, as the kernels take them."""

    def __init__(self, parts: list[np.ndarray]) -> None:
        self._ends = len(parts[0]), len(parts[0]) + len(parts[1]), sum(map(len, parts))
        self._lines: dict[int, np.ndarray] = {}
        #: A factor of each depth, each row and each column, one after the other, and a vector of ones behind.
        self.factors = np.concatenate([*parts, np.ones(VECTOR_BYTES // parts[0].dtype.itemsize, parts[0].dtype)])

    @functools.cached_property
    def each(self) -> np.ndarray:
        """The number of each window of a plane."""
        depth, height, width, _ = np.split(self.factors, self._ends)
        return (depth[:, None, None] * height[:, None] * width).reshape(-1)

    @functools.cached_property
    def even(self) -> bool:
        """Whether all windows count as many elements."""
        return all(part.size and part.min() == part.max() for part in np.split(self.factors, self._ends)[:3])

    def line(self, size: int) -> np.ndarray:
        """So many numbers: those of the windows of a plane, again and again."""
        found = self._lines.get(size)
        if found is None:
            found = self._lines[size] = np.resize(self.each, size)
        return found


def _counts(size: int, outputs: int, kernel: int, stride: int, pads: Pair, dilation: int, include_pad: bool) -> np.ndarray:
    """Elements of each window along one axis: inside the image, or inside the padded image. At least 1: an empty sum is 0."""
    first, end = (-pads[0], size + pads[1]) if include_pad else (0, size)
    start = np.arange(outputs, dtype=np.int64) * stride - pads[0]
    lo = np.maximum(0, -(-(first - start) // dilation))
    hi = np.minimum(kernel, -(-(end - start) // dilation))
    return np.maximum(1, hi - lo)


WINDOWS = Remembered()


def window_of(nd: int, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any, integers: bool = False) -> Window:
    """The Window of these arguments, of an earlier call where one had the same."""
    if not (type(x) is np.ndarray and type(ceil_mode) is bool and settled(kernel_size) and settled(padding) and settled(dilation)
            and settled(stride)):
        check.array("x", x, X_SHAPES[nd], (nd + 1, nd + 2), integers)
        kernel_size, dilation = check.sizes("kernel_size", kernel_size, 1, nd), check.sizes("dilation", dilation, 1, nd)
        stride, padding = None if stride is None else check.sizes("stride", stride, 1, nd), check.paddings("padding", padding, nd)
        ceil_mode = check.flag("ceil_mode", ceil_mode)
    key = nd, x.shape, x.dtype, kernel_size, stride, padding, dilation, ceil_mode, integers
    found = WINDOWS.get(key)
    if found is None:
        found = Window(x, kernel_size, stride, padding, dilation, ceil_mode, integers, nd)
        WINDOWS.keep(key, found, found.nbytes)
    return found
