"""Every error a user can meet, and the normal form of every argument: what passes here, the kernels trust.

Messages name the argument, what came and what is wanted. Functions return the normal form; none of them writes to its argument.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

LARGEST = 2 ** 31 - 1                        # of any size, stride, padding: products of two still fit an int64
LARGEST_OUTPUT = 2 ** 44                     # elements: far beyond any memory, near enough for a clear message

FLOATS = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16))
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
Pair = tuple[int, int]
Pads = tuple[Pair, Pair]


# ---------------------------------------------------------------- arrays
def array(name: str, x: Any, shape: str, ndims: Sequence[int], integers: bool = False) -> np.ndarray:
    """`x` if it is an array of a dtype we compute in and of one of the ranks `ndims`; `shape` says in words what is wanted."""
    if type(x) is not np.ndarray:
        if isinstance(x, np.ma.MaskedArray):
            raise TypeError(f"{name} is a masked array; wanted: a plain NumPy array. Fill it first: {name}.filled(0)")
        if isinstance(x, np.ndarray):
            x = x.view(np.ndarray)           # a subclass (memmap, matrix) is its data
        elif x is None:
            raise TypeError(f"{name} is None; wanted: a NumPy array {shape}")
        else:
            raise TypeError(f"{name} is a {type(x).__name__}; wanted: a NumPy array {shape}. numpy.asarray({name}, dtype=numpy.float32) may help")
    if x.dtype.newbyteorder("=") not in FLOATS and not (integers and x.dtype.kind in "iu"):
        wanted = "float32, float64 or float16" + (", or an integer type" if integers else "")
        raise TypeError(f"{name} has dtype {x.dtype}; wanted: {wanted}. Convert it first: {name}.astype(numpy.float32)"
                        + (" for each of its real and imaginary parts" if x.dtype.kind == "c" else ""))
    if x.ndim not in ndims:
        hint = ""
        if x.ndim in (2, 3) and shape.startswith("(N, C, H, W)"):
            hint = f". Add the missing axis: {name}[None]" if x.ndim == 2 else ""
        raise ValueError(f"{name} has {x.ndim} dimensions, shape {x.shape}; wanted: {shape}{hint}")
    return x


def native(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`x` as the kernels take it: C-contiguous, aligned, native byte order, of `dtype`, and typed as writeable."""
    flags = x.flags
    if flags.carray and x.dtype == dtype and x.dtype.isnative:
        return x
    if flags.c_contiguous and flags.aligned and x.dtype == dtype and x.dtype.isnative:
        return _typed_writeable(x)
    return np.array(x, dtype=dtype, order="C", copy=True)


class _Borrowed:
    """Holds a read-only array alive behind a view of it that Numba types as writeable: one compiled kernel serves both. Never written."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x
        interface = dict(x.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


def _typed_writeable(x: np.ndarray) -> np.ndarray:
    if x.size == 0:
        return np.empty(x.shape, x.dtype)    # NumPy refuses a null pointer
    return np.asarray(_Borrowed(x))


def common_dtype(arrays: Sequence[tuple[str, np.ndarray | None]]) -> np.dtype:
    """The dtype that all the arrays have; mixed ones are refused, with the conversion that would help."""
    first_name, first = next((name, x) for name, x in arrays if x is not None)
    dtype = first.dtype.newbyteorder("=")
    for name, x in arrays:
        if x is not None and x.dtype.newbyteorder("=") != dtype:
            raise TypeError(f"{name} has dtype {x.dtype} and {first_name} has {first.dtype}; wanted: one dtype. Convert one: "
                            f"{name}.astype({first_name}.dtype)")
    return dtype


def working_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype computed in: float16 goes by way of float32."""
    return F32 if dtype.itemsize == 2 and dtype.kind == "f" else dtype


def shape_of(name: str, x: np.ndarray, shape: tuple[int, ...], why: str) -> np.ndarray:
    if x.shape != shape:
        raise ValueError(f"{name} has shape {x.shape}; wanted: {shape}, {why}")
    return x


def output(out: Any, shape: tuple[int, ...], dtype: np.dtype, inputs: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """`out` if it can take the result: an array of exactly this shape and dtype that shares no memory with an input."""
    if out is None:
        return None
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out is a {type(out).__name__}; wanted: a NumPy array of shape {shape} and dtype {dtype}, or None")
    if out.shape != shape or out.dtype.newbyteorder("=") != dtype:
        raise ValueError(f"out has shape {out.shape} and dtype {out.dtype}; wanted: shape {shape} and dtype {dtype}")
    if not out.flags.writeable:
        raise ValueError("out is read-only; wanted: an array that can be written")
    for x in inputs:
        if x is not None and np.may_share_memory(out, x) and np.shares_memory(out, x):
            raise ValueError("out shares memory with an input; wanted: an array of its own, since inputs are never written")
    return out


def target(given: np.ndarray | None, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The array a kernel writes its result into: the one that `output` passed where kernels can take it, else a new one."""
    if given is not None and given.dtype == dtype and given.flags.carray:
        return given
    return np.empty(shape, dtype)


def deliver(y: np.ndarray, given: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
    """y in the caller's dtype, in the array that was given, if one was."""
    if given is None:
        return y if y.dtype == dtype else y.astype(dtype)
    if y is not given:
        given[...] = y
    return given


# ---------------------------------------------------------------- integers
def integer(name: str, value: Any, least: int) -> int:
    if type(value) is not int:
        if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
            raise TypeError(f"{name} is {value!r} of type {type(value).__name__}; wanted: an integer of at least {least}")
        try:
            value = value.__index__()
        except TypeError:
            raise TypeError(f"{name} is {value!r} of type {type(value).__name__}; wanted: an integer of at least {least}") from None
    if not least <= value <= LARGEST:
        raise ValueError(f"{name} is {value}; wanted: an integer from {least} to {LARGEST}")
    return value


def nonzero(name: str, value: Any) -> int:
    value = integer(name, value, -LARGEST)
    if value == 0:
        raise ValueError(f"{name} is 0; wanted: any other integer")
    return value


def pair(name: str, value: Any, least: int) -> Pair:
    """An int for both axes, or (height, width)."""
    if type(value) is int:
        if not least <= value <= LARGEST:
            integer(name, value, least)
        return value, value
    if isinstance(value, (tuple, list)):
        if len(value) == 1:
            value = (value[0], value[0])
        if len(value) != 2:
            raise ValueError(f"{name} is {value!r}, with {len(value)} elements; wanted: an integer or a pair (height, width)")
        return integer(f"{name}[0]", value[0], least), integer(f"{name}[1]", value[1], least)
    value = integer(name, value, least)
    return value, value


def padding(name: str, value: Any) -> Pads:
    """An int, (height, width), or ((top, bottom), (left, right)), as the last."""
    if type(value) is int and 0 <= value <= LARGEST:
        return (value, value), (value, value)
    if isinstance(value, str):
        raise ValueError(f"{name} is {value!r}; wanted: an integer, a pair (height, width) or ((top, bottom), (left, right))")
    if isinstance(value, (tuple, list)) and any(isinstance(side, (tuple, list)) for side in value):
        if len(value) != 2 or not all(isinstance(side, (tuple, list)) and len(side) == 2 for side in value):
            raise ValueError(f"{name} is {value!r}; wanted: an integer, a pair (height, width) or ((top, bottom), (left, right))")
        return pair(f"{name}[0]", value[0], 0), pair(f"{name}[1]", value[1], 0)
    h, w = pair(name, value, 0)
    return (h, h), (w, w)


def conv_padding(value: Any, kernel: Pair, stride: Pair, dilation: Pair) -> Pads:
    """As `padding`, and "valid" (none) or "same" (output as large as input, stride 1 only; an odd element goes to the end)."""
    if isinstance(value, str):
        if value == "valid":
            return (0, 0), (0, 0)
        if value != "same":
            raise ValueError(f'padding is {value!r}; wanted: an integer, a pair, nested pairs, "valid" or "same"')
        if stride != (1, 1):
            raise ValueError(f'padding is "same" with stride {stride}; wanted: stride 1, or the padding in numbers')
        totals = [d * (k - 1) for d, k in zip(dilation, kernel)]
        return (totals[0] // 2, totals[0] - totals[0] // 2), (totals[1] // 2, totals[1] - totals[1] // 2)
    return padding("padding", value)


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r} of type {type(value).__name__}; wanted: True or False")
    return bool(value)


def number(name: str, value: Any, least: float) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} is {value!r} of type {type(value).__name__}; wanted: a number of at least {least}")
    if not least <= value < float("inf"):
        raise ValueError(f"{name} is {value}; wanted: a finite number of at least {least}")
    return float(value)


def need(value: Any) -> tuple[bool, bool, bool]:
    """Which gradients to compute: three flags."""
    if not isinstance(value, (tuple, list)) or len(value) != 3:
        raise TypeError(f"need is {value!r}; wanted: three flags, one for each gradient, such as (True, False, True)")
    return flag("need[0]", value[0]), flag("need[1]", value[1]), flag("need[2]", value[2])


def choice(name: str, value: Any, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; wanted: one of {', '.join(map(repr, choices))}")
    return value


# ---------------------------------------------------------------- sizes
def output_size(name: str, size: int, kernel: int, stride: int, pads: Pair, dilation: int, ceil_mode: bool = False) -> int:
    """Places where a kernel of `kernel` taps, `dilation` apart, fits along an axis of `size` elements and its padding.

    ceil_mode adds a last window that sticks out at the end, unless it would start in the padding after the image.
    """
    reach = dilation * (kernel - 1) + 1
    room = size + pads[0] + pads[1] - reach
    if room < 0:
        effective = f"{kernel}" if dilation == 1 else f"{kernel} (with dilation {dilation}: {reach})"
        raise ValueError(f"the kernel is larger than the padded input: {name} of the kernel is {effective}, "
                         f"of the input {size} with padding {pads}; wanted: at most {size + pads[0] + pads[1]}")
    if not ceil_mode:
        return room // stride + 1
    places = -(-room // stride) + 1
    return places - 1 if (places - 1) * stride >= size + pads[0] else places


def output_elements(*sizes: int) -> None:
    """Refuse results so large that only a mistyped argument can explain them."""
    total = 1
    for size in sizes:
        total *= size
    if total > LARGEST_OUTPUT:
        raise ValueError(f"the output would have shape {sizes}, {total} elements; wanted: at most {LARGEST_OUTPUT}. "
                         "Look at the padding and at the sizes of the input")


def channels_last_hint(name: str, x: np.ndarray, channels: int) -> str:
    """A hint for an image whose channels come last, where the first axis is no match but the last one is."""
    if x.shape[-1] == channels and x.shape[-3] != channels:
        axes = "(0, 3, 1, 2)" if x.ndim == 4 else "(2, 0, 1)"
        return f". The channels seem to come last: wanted is channels first, {name}.transpose{axes}"
    return ""
