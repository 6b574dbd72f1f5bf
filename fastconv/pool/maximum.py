"""Max pooling in one, two and three dimensions, and its gradient."""
from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from .. import check, recycling
from ..kernels import pool_flat, pool_lines, pool_places, pool_planes, pool_winners
from ..kernels import pool_max as kernels
from ..kernels import pool_max_gradient as gradient
from ..kernels.pool_geometry import BUFFER
from ..kernels.simd_lines import MOST_LINES
from ..kernels.simd_places import BITS
from ..kernels.tasks import NO_TABLE, Call, run_call, run_tasks
from ..kernels.tiles import VECTOR_BYTES
from . import known
from .flat import flat, flat_gradient
from .planes import INDEX, integers, outputs_of
from .small import MOST_BYTES_GRADIENT, MOST_BYTES_LISTS, listed, side_by_side
from .window import MOST_BUFFER, Window, window_of

WHOLE_BYTES, MANY = 512 * 1024, 16           # of a plane of the gradient done at once where indices are known, if there are many planes
AT = ((3, 3), (1, 1)), ((3, 3), (2, 2)), ((2, 2), (2, 2))        # windows that there are vectors for where indices are known
LINES_BYTES = 64 * 2 ** 20                    # of work memory of `pool_lines`, at most
LINE_BAND_BYTES = 64 * 1024                  # of the gradient, for a band of `pool_lines`, about
MOST_AROUND = 16                              # times as many elements with their padding, about, that are worth while
SPARSE = 4                                   # elements for each window, from which on maxima are found row by row and scattered (measured)
DENSE_BYTES = {1: 6 * 1024, 2: 8 * 1024, 3: 64 * 1024}       # of a group of planes whose windows start at nearly every element: lines come before lists
DENSE = 5                                    # taps in 1-D, up to which they count as such (measured)
AT_BYTES = 32 * 1024                         # of their planes: smaller ones stay in L1, where nothing is gained (measured)
WIDE = 14                                    # columns for each byte of an element, from which on 3 x 3 with stride 1 goes row by row (measured)
MOST_COLUMNS = 1 << 20                       # of a row of x: the gradient keeps their maxima, and the places of these

__all__ = ["max_pool1d", "max_pool1d_backward", "max_pool2d", "max_pool2d_backward", "max_pool3d", "max_pool3d_backward"]


def max_pool1d(x: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
               return_indices: bool = False, *, out: Any = None) -> Any:
    """The largest element of each window of x (N, C, L) or (C, L), as torch.nn.functional.max_pool1d.

    As `max_pool2d` along one axis: an int or (length,), padding also ((before, after),); indices are places in the unpadded line.
    """
    return _max_pool(1, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out)


def max_pool2d(x: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
               return_indices: bool = False, *, out: Any = None) -> Any:
    """The largest element of each window, as torch.nn.functional.max_pool2d.

    x: (N, C, H, W) or (C, H, W); float32, float64, float16 or integers. kernel_size, stride (default: kernel_size), dilation: an int or
    (height, width). padding, never the maximum: an int, (height, width) or ((top, bottom), (left, right)), each side smaller than the
    window. ceil_mode: keep a last window that sticks out, unless it starts in the padding after the image.

    Returns y: (N, C, OH, OW), or (y, indices) with return_indices: int64 places h * W + w in the unpadded plane. NaN wins; of equal
    elements the first in row-major order; a window that lies in the padding alone gives -inf (the smallest integer) and index -1.
    out: an array to write y into, or a tuple (y, indices) with return_indices.
    """
    return _max_pool(2, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out)


def max_pool3d(x: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
               return_indices: bool = False, *, out: Any = None) -> Any:
    """The largest element of each window of x (N, C, D, H, W) or (C, D, H, W), as torch.nn.functional.max_pool3d.

    As `max_pool2d` along three axes: an int or (depth, height, width), padding also ((front, back), (top, bottom), (left, right)); indices
    are places (d * H + h) * W + w in the unpadded volume.
    """
    return _max_pool(3, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out)


def max_pool1d_backward(dout: np.ndarray, x: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                        ceil_mode: bool = False, return_indices: bool = False, *, indices: np.ndarray | None = None) -> np.ndarray:
    """The gradient of `max_pool1d`: dx, of the shape of x. See `max_pool2d_backward`."""
    return _max_pool_backward(1, dout, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, indices)


def max_pool2d_backward(dout: np.ndarray, x: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                        ceil_mode: bool = False, return_indices: bool = False, *, indices: np.ndarray | None = None) -> np.ndarray:
    """The gradient of `max_pool2d`: dx, of the shape of x. Each window's dout goes to the one element that was its maximum.

    indices: those of the forward; without them the maxima are found again. The other arguments are the forward's.
    """
    return _max_pool_backward(2, dout, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, indices)


def max_pool3d_backward(dout: np.ndarray, x: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                        ceil_mode: bool = False, return_indices: bool = False, *, indices: np.ndarray | None = None) -> np.ndarray:
    """The gradient of `max_pool3d`: dx, of the shape of x. See `max_pool2d_backward`."""
    return _max_pool_backward(3, dout, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, indices)


def _max_pool(nd: int, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any, return_indices: Any, out: Any) -> Any:
    window = window_of(nd, x, kernel_size, stride, padding, dilation, ceil_mode, integers=True)
    if return_indices is False:
        call = window.calls.get("forward")
        if call is not None and (y := call(x, None, None, out)) is not None:
            return y
    dtype, working, shape = window.dtype, window.working, window.shape_like(x)
    given, given_indices, indices = outputs_of(out, check.flag("return_indices", return_indices), shape, dtype, x)
    y = check.target(given, shape, working)
    _forward(window, check.native(x, working), y, indices)
    if y.size and not return_indices:
        lowest = lowest_of(working)
        window.calls["forward"] = known.short(_plan(window, False), window.work, (x.shape, None, shape, None), lowest[:0], lowest)
    y = check.deliver(y, given, dtype)
    return (y, check.deliver(indices, given_indices, INDEX)) if return_indices else y


def _forward(window: Window, x: np.ndarray, y: np.ndarray, indices: np.ndarray) -> None:
    """Fill y and, unless empty, the indices."""
    if y.size:
        call = _call(window, bool(indices.size))
        run_call(call._replace(table=indices.reshape(-1)) if indices.size else call, x.reshape(-1), y.reshape(-1), call.bias[:0])


def _call(window: Window, indices: bool = False) -> Call:
    """The call of the forward; with indices, but for their array, which is its table."""
    kernel, tasks, job, table = _plan(window, indices)
    lowest = lowest_of(window.working)
    return Call(kernel, tasks, window.work, lowest[:0], lowest, job, table)


def _call_of(nd: int, x: np.ndarray, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any, return_indices: Any,
             out: Any) -> tuple[Call, tuple[int, ...]]:
    """The one call of a kernel that a pooling without indices comes to, and the shape of its result."""
    if check.flag("return_indices", return_indices):
        raise TypeError("return_indices is True; wanted: False, where one array is made")
    window = window_of(nd, x, kernel_size, stride, padding, dilation, ceil_mode, integers=True)
    return _call(window), window.shape_like(x)


def _plan(window: Window, indices: bool) -> tuple[Any, int, np.ndarray, np.ndarray]:
    """The kernel of the forward, its tasks, its job and, without indices, its table."""
    found = window.plans.get(indices)
    if found is None and not indices and (line := flat(window)) is not None:
        found = window.plans[indices] = (pool_flat.maximum_flat, *line)
    if found is None and (small := _listed(window) if indices else side_by_side(window)) is not None:
        found = window.plans[indices] = (pool_winners.maximum_winners if indices else pool_planes.maximum_planes, *small)
    if found is None:
        variant = _variant_of_places(window) if indices else window.variant
        kernel = kernels.maximum_exact
        if window.working.kind == "f" and window.reach[-1] < MOST_BUFFER:
            kernel = kernels.maximum if not indices else pool_places.maximum_places if variant == BUFFER else kernels.maximum_indices
        found = window.plans[indices] = (kernel, *window.job(*window.blocks, variant), NO_TABLE)
    return found


def _listed(window: Window) -> Any:
    """How small planes are done with their places, or None."""
    return listed(window, MOST_BYTES_LISTS if _variant_of_places(window) == BUFFER else MOST_BYTES_GRADIENT)


def _variant_of_places(window: Window) -> int:
    """The kernel of a row with its places: those with vectors count places in integers as wide as the elements."""
    return window.variant if window.variant in kernels.FOUND and np.prod(window.x_shape[2:]) < 2 ** 31 else BUFFER


def _backward_plan(window: Window, known: bool, anywhere: bool = False) -> tuple[Any, int, np.ndarray]:
    """The kernel of the gradient, its tasks and its job. known: from indices; anywhere: which may be those of other windows."""
    found = window.plans.get(("backward", known, anywhere))
    if found is not None:
        return found
    threes = (window.nd == 2 and window.dilation == (1, 1) and window.kernel == (3, 3) and window.working.kind == "f"
              and (window.stride == (2, 2) or window.stride == (1, 1) and WIDE * window.working.itemsize <= window.x_shape[-1]
                  and VECTOR_BYTES // window.working.itemsize >= gradient.LANES))
    if not known and not (threes and window.stride == (1, 1)) and (line := flat_gradient(window)) is not None:
        found = window.plans["backward", known, anywhere] = (pool_flat.max_backward_flat, *line)
    if found is None and not known:
        dense = math.prod(window.stride) == 1 or window.nd == 1 and window.kernel[0] <= DENSE
        most = DENSE_BYTES[window.nd] if dense else MOST_BYTES_GRADIENT if window.stride == (2, 2) and max(window.kernel) <= 3 else MOST_BYTES_LISTS
        if (small := listed(window, most)) is not None:
            found = window.plans["backward", known, anywhere] = (pool_winners.max_backward_winners, *small[:2])
    if found is None:
        bands, units = window.bands
        planes = math.prod(window.x_shape[:2])
        if anywhere or known and planes >= MANY and math.prod(window.x_shape[2:]) * window.working.itemsize <= WHOLE_BYTES:
            bands, units = 1, planes
        variant = _variant_of_places(window)
        plain = window.nd == 2 and window.dilation == (1, 1)
        pairs = (plain and window.kernel == window.stride == (2, 2) and window.pads == ((0, 0),) * 2
                 and all(2 * outputs <= size for size, outputs in zip(window.x_shape[2:], window.y_shape[2:])))
        at = (plain and window.working.kind == "f" and (window.kernel, window.stride) in AT
              and (window.kernel[1] == 3 or window.pads[1][0] % 2 == 0) and 8 <= window.x_shape[-1]
              and AT_BYTES < math.prod(window.x_shape[2:]) * window.working.itemsize < 2 ** BITS)
        if known and at and not anywhere:
            past = window.stride == (2, 2)       # of stride 1 the gradient is a fifth of what is touched, and one more copy costs as much
            kernel, variant = gradient.max_backward_at, past and window.past(1, 1 + INDEX.itemsize // window.working.itemsize)
        elif known:
            kernel = kernels.max_backward_whole if bands == 1 else kernels.max_backward
        elif pairs:
            kernel, variant = kernels.max_backward_pairs, window.past(2)
        elif threes:
            kernel, variant = gradient.max_backward_threes, window.past(2)
        elif window.x_shape[-1] > MOST_COLUMNS:
            kernel = kernels.max_backward
        elif max(window.kernel[-1], math.prod(window.kernel[:-1])) > MOST_LINES or not _fits(window.x_shape[-1:], window.reach[-1:], 1):
            kernel = pool_places.max_backward_columns
        elif window.nd > 1 and math.prod(window.stride) > SPARSE or (line_bands := _line_bands(window)) is None:
            kernel = pool_places.max_backward_places
        else:
            kernel, bands, units = pool_lines.max_backward_lines, line_bands, planes * line_bands
        found = window.plans["backward", known, anywhere] = (kernel, *window.job(bands, 1, units, variant))
    return found


def _line_bands(window: Window) -> int | None:
    """Into how many bands `pool_lines` cuts a volume: of rows, in 3-D of planes; None where it would work in too much memory."""
    nbytes, rows = math.prod(window.x_shape[2:]) * window.working.itemsize, 1 if window.nd == 1 else window.x_shape[2]
    bands = max(1, min(nbytes // LINE_BAND_BYTES, rows // (2 * window.reach[0] + 1)))
    sizes = window.x_shape[2:] if window.nd == 1 else (-(-rows // bands), *window.x_shape[3:])
    return bands if _fits(sizes, window.reach, 2 * window.working.itemsize + 3) else None


def _fits(sizes: tuple[int, ...], reach: tuple[int, ...], each: int) -> bool:
    """Whether these sizes with all that windows reach over are not far more, at so many bytes an element."""
    elements = math.prod(size + 2 * more for size, more in zip(sizes, reach))
    return elements <= MOST_AROUND * math.prod(sizes) + LINE_BAND_BYTES and elements * each <= LINES_BYTES


def _max_pool_backward(nd: int, dout: Any, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any,
                       return_indices: Any, indices: Any) -> np.ndarray:
    window = window_of(nd, x, kernel_size, stride, padding, dilation, ceil_mode, integers=True)
    check.flag("return_indices", return_indices)
    name = "backward" if indices is None else "backward at"
    call = window.calls.get(name)
    if call is not None and (dx := call(dout, x if indices is None else None, indices)) is not None:
        return dx
    check.array("dout", dout, "like the result of the forward", (nd + 1, nd + 2))
    shape = window.shape_like(x)
    check.shape_of("dout", dout, shape, "the shape of the forward's result")
    dtype = dout.dtype.newbyteorder("=")
    if window.dtype.kind == "f":
        check.common_dtype((("x", x), ("dout", dout)))
    working = window.working if window.dtype.kind == "f" else check.working_dtype(dtype)
    places = NO_TABLE if indices is None else integers(indices, shape, "the shape of the forward's result")
    dx = recycling.empty(x.shape, working)
    if not dout.size:
        dx[...] = 0
    elif dx.size:
        xs = check.native(x, window.working)
        if indices is None and window.dtype.kind != "f":
            places = recycling.empty(shape, INDEX)
            _forward(window, xs, recycling.empty(shape, window.working), places)
        lowest = lowest_of(working)
        kernel, tasks, job = plan = _backward_plan(window, places.size > 0)
        bad = np.zeros(1, working)
        douts, xs = check.native(dout, working).reshape(-1), lowest[:0] if places.size else xs.reshape(-1)
        run_tasks(kernel, tasks, window.work, douts, xs, dx.reshape(-1), lowest, bad, job, places.reshape(-1))
        if bad[0] and kernel is not kernels.max_backward_whole:  # indices of other windows
            bad[0] = 0
            kernel, tasks, job = plan = _backward_plan(window, True, True)
            run_tasks(kernel, tasks, window.work, douts, xs, dx.reshape(-1), lowest, bad, job, places.reshape(-1))
        if bad[0]:
            where = {1: "l below L", 2: "h * W + w below H * W", 3: "(d * H + h) * W + w below D * H * W"}[nd]
            raise ValueError(f"indices go from {places.min()} to {places.max()}; wanted: places {where} = {np.prod(window.x_shape[2:])}, or -1")
        if indices is None:
            window.calls[name] = known.short((*plan, NO_TABLE), window.work, (shape, x.shape, x.shape, None), lowest[:0], lowest)
        else:                                # reported is no more than that there was one
            plan = kernel, tasks, np.append(job, 0), NO_TABLE
            window.calls[name] = known.short(plan, window.work, (shape, None, x.shape, shape), lowest[:0], lowest, job.size)
    return check.deliver(dx, None, dtype)


@functools.cache
def lowest_of(dtype: np.dtype) -> np.ndarray:
    """One element below all others of its dtype: what the maximum over nothing is."""
    return np.array([-np.inf if dtype.kind == "f" else np.iinfo(dtype).min], dtype)


#: Poolings without indices as the one call of a kernel that they come to, by the arguments of the function.
CALLS = {max_pool1d: functools.partial(_call_of, 1), max_pool2d: functools.partial(_call_of, 2), max_pool3d: functools.partial(_call_of, 3)}
