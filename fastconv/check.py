"""Every error a user can meet, and the normal form of every argument: what passes here, the kernels trust.

Messages name the argument, what came and what is wanted. Functions return the normal form; none of them writes to its argument.
"""
from __future__ import annotations

import operator
import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import recycling

LARGEST = 2 ** 31 - 1                        # of any size, stride, padding: products of two still fit an int64
LARGEST_ARRAY = 2 ** 40                      # elements: far beyond any memory, near enough for a clear message

FLOATS = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16))
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
Pair = tuple[int, int]
Pads = tuple[Pair, Pair]
AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}      # the names of the axes that a window moves along
SIDES = {1: "((before, after),)", 2: "((top, bottom), (left, right))", 3: "((front, back), (top, bottom), (left, right))"}


def shown(value: Any) -> str:
    """`value` as messages show it: in one short line, whatever it is."""
    try:
        text = reprlib.repr(value) if isinstance(value, (int, str, tuple, list, dict, set)) else " ".join(repr(value)[:2000].split())
    except Exception:                        # integers of thousands of digits, and objects that cannot be shown
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."


def _wrong_type(name: str, value: Any, wanted: str) -> TypeError:
    return TypeError(f"{name} is {shown(value)} of type {type(value).__name__}; wanted: {wanted}")


# ---------------------------------------------------------------- arrays
def plain(x: Any) -> bool:
    """Whether x is an array that the kernels take as it is. Each check asks this first: small calls cost little but their checks."""
    return type(x) is np.ndarray and (x.dtype is F32 or x.dtype is F64) and x.flags.carray


def array(name: str, x: Any, shape: str, ndims: Sequence[int], integers: bool = False) -> np.ndarray:
    """`x` if it is an array of a dtype we compute in and of one of the ranks `ndims`; `shape` says in words what is wanted."""
    if plain(x) and x.ndim in ndims:
        return x
    if type(x) is not np.ndarray:
        if isinstance(x, np.ma.MaskedArray):
            raise TypeError(f"{name} is a masked array; wanted: a plain NumPy array. Fill it first: {name}.filled(0)")
        if isinstance(x, np.ndarray):
            x = x.view(np.ndarray)           # a subclass (memmap, matrix) is its data
        elif x is None:
            raise TypeError(f"{name} is None; wanted: a NumPy array {shape}")
        else:
            raise TypeError(f"{name} is a {type(x).__name__}; wanted: a NumPy array {shape}. "
                            f"numpy.asarray({name}, dtype=numpy.float32) may help")
    if x.dtype not in FLOATS and x.dtype.newbyteorder("=") not in FLOATS and not (integers and x.dtype.kind in "iu"):
        wanted = "float32, float64 or float16" + (", or an integer type" if integers else "")
        raise TypeError(f"{name} has dtype {x.dtype}; wanted: {wanted}. Convert it first: {name}.astype(numpy.float32)"
                        + (" for each of its real and imaginary parts" if x.dtype.kind == "c" else ""))
    if x.ndim not in ndims:
        hint = ""
        if x.ndim in (2, 3) and shape.startswith("(N, C, H, W)"):
            hint = f". Add the missing axis: {name}[None]" if x.ndim == 2 else ""
        raise ValueError(f"{name} has {x.ndim} dimensions, shape {x.shape}; wanted: {shape}{hint}")
    if x.size > LARGEST_ARRAY:               # a view that repeats itself: every kernel takes a copy
        raise ValueError(f"{name} has shape {x.shape}, {x.size} elements; wanted: at most {LARGEST_ARRAY}")
    return x


def native(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`x` as the kernels take it: plain, C-contiguous, aligned, native byte order, of `dtype`, and typed as writeable."""
    if plain(x) and x.dtype is dtype:
        return x
    if type(x) is not np.ndarray:
        x = x.view(np.ndarray)
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
    first_name, first = next((name, x) for name, x in arrays if x is not None) if arrays[0][1] is None else arrays[0]
    dtype = first.dtype if first.dtype.isnative else first.dtype.newbyteorder("=")
    for name, x in arrays:
        if x is not None and x.dtype is not dtype and x.dtype != dtype and x.dtype.newbyteorder("=") != dtype:
            raise TypeError(f"{name} has dtype {x.dtype} and {first_name} has {first.dtype}; wanted: one dtype. Convert one: "
                            f"{name}.astype({first_name}.dtype)")
    return dtype


def dtypes(x: np.ndarray) -> tuple[np.dtype, np.dtype]:
    """The dtype of x in native byte order, and the one computed in. F32 and F64 are these very objects: `is` knows a plain array by them."""
    native = x.dtype.newbyteorder("=")
    dtype = F32 if native == F32 else F64 if native == F64 else native
    return dtype, working_dtype(dtype)


def working_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype computed in: float16 goes by way of float32."""
    return F32 if dtype.itemsize == 2 and dtype.kind == "f" else dtype


def shape_of(name: str, x: np.ndarray, shape: tuple[int, ...], why: str) -> np.ndarray:
    if x.shape != shape:
        raise ValueError(f"{name} has shape {x.shape}; wanted: {shape}, {why}")
    return x


def output(out: Any, shape: tuple[int, ...], dtype: np.dtype, inputs: Sequence[np.ndarray | None], name: str = "out") -> np.ndarray | None:
    """`out` if it can take the result: an array of exactly this shape and dtype that shares no memory with an input."""
    if out is None:
        return None
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise TypeError(f"{name} is a {type(out).__name__}; wanted: a NumPy array of shape {shape} and dtype {dtype}, or None")
    if out.shape != shape or (out.dtype is not dtype and out.dtype.newbyteorder("=") != dtype):
        raise ValueError(f"{name} has shape {out.shape} and dtype {out.dtype}; wanted: shape {shape} and dtype {dtype}")
    if not out.flags.writeable:
        raise ValueError(f"{name} is read-only; wanted: an array that can be written")
    for x in inputs:
        if x is not None and _overlap(out, x):
            raise ValueError(f"{name} shares memory with another argument; wanted: an array of its own, since inputs are never written")
    return out


def like(out: Any, x: np.ndarray) -> bool:
    """Whether `out` is an array like the plain array x."""
    return type(out) is np.ndarray and out.dtype is x.dtype and out.shape == x.shape and out.flags.carray


def ready(out: Any, x: np.ndarray) -> bool:
    """Whether `out` can be filled as it is, by a function whose result is like the plain array x."""
    if type(out) is not np.ndarray or out.dtype is not x.dtype or out.shape != x.shape:
        return False
    flags = out.flags
    return flags.carray and ((out is not x and flags.owndata and x.flags.owndata) or not _overlap(out, x))


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    if a is not b and a.flags.owndata and b.flags.owndata:
        return False
    try:
        return np.may_share_memory(a, b) and np.shares_memory(a, b, max_work=100_000)
    except RuntimeError:                     # NumPy's TooHardError: interleaved views that it cannot tell apart in reasonable time
        return True


def same_place(a: Any, b: Any) -> bool:
    """Are they the same elements at the same places of memory?"""
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
        return False
    return (a.ctypes.data, a.shape, a.strides, a.dtype) == (b.ctypes.data, b.shape, b.strides, b.dtype)


def target(given: np.ndarray | None, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The array a kernel writes its result into: the one that `output` passed where kernels can take it, else a new one."""
    if given is not None and given.dtype == dtype and given.flags.carray:
        return given if type(given) is np.ndarray else given.view(np.ndarray)
    return recycling.empty(shape, dtype)


def deliver(y: np.ndarray, given: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
    """y in the caller's dtype, in the array that was given, if one was."""
    if given is None:
        return y if y.dtype == dtype else y.astype(dtype)
    if y is not given and not np.may_share_memory(y, given):         # else `target` handed it out, and it is filled
        given[...] = y
    return given


# ---------------------------------------------------------------- normalisation
def parameter(name: str, value: Any, shape: tuple[int, ...], why: str, dtype: np.dtype, x_shape: tuple[int, ...] = ()) -> None:
    """An array of exactly this shape, in the dtype of x or the one that is computed in. x_shape: to tell whether the channels come last."""
    if type(value) is np.ndarray and value.dtype is dtype and value.shape == shape:
        return
    array(name, value, str(shape), (len(shape),))
    shape_of(name, value, shape, why + channels_last_hint("x", x_shape, value.size))
    if value.dtype.newbyteorder("=") not in (dtype, working_dtype(dtype)):
        raise TypeError(f"{name} has dtype {value.dtype} and x has {dtype}; wanted: one dtype. Convert one: {name}.astype(x.dtype)")


def movable(running_mean: np.ndarray, running_var: np.ndarray) -> None:
    """Running statistics that training can write."""
    for name, value in (("running_mean", running_mean), ("running_var", running_var)):
        if not value.flags.writeable:
            raise ValueError(f"{name} is read-only; wanted: an array that training can write its new value into")
    if np.shares_memory(running_mean, running_var):
        raise ValueError("running_mean and running_var share memory; wanted: two arrays")


def gradient(dout: Any, x: np.ndarray) -> None:
    """dout of the shape and dtype of x."""
    if type(dout) is np.ndarray and dout.dtype is x.dtype and dout.shape == x.shape:
        return
    array("dout", dout, f"of the shape of x, {x.shape}", (x.ndim,))
    common_dtype((("x", x), ("dout", dout)))
    shape_of("dout", dout, x.shape, "the shape of x")


def both(first: str, a: Any, second: str, b: Any, function: str) -> bool:
    """Whether both are given; one alone is refused."""
    if (a is None) != (b is None):
        raise ValueError(f"{first} and {second}: one is None; wanted: both, as {function}(..., return_stats=True) returned them, or neither")
    return a is not None


# ---------------------------------------------------------------- integers
def integer(name: str, value: Any, least: int, most: int = LARGEST, wanted: str = "") -> int:
    """Any integer but a bool, from `least` to `most`. `wanted` says it in other words."""
    if type(value) is int and least <= value <= most:
        return value
    wanted = wanted or f"an integer from {least} to {most}"
    if type(value) is not int:
        if isinstance(value, (bool, np.bool_)):
            raise _wrong_type(name, value, wanted)
        try:
            value = operator.index(value)
        except Exception:                    # whatever an object's __index__ raises, the argument is no integer
            raise _wrong_type(name, value, wanted) from None
    if not least <= value <= most:
        raise ValueError(f"{name} is {shown(value)}; wanted: {wanted}")
    return value


def nonzero(name: str, value: Any) -> int:
    value = integer(name, value, -LARGEST)
    if value == 0:
        raise ValueError(f"{name} is 0; wanted: any other integer")
    return value


def pair(name: str, value: Any, least: int) -> Pair:
    """An int for both axes, or (height, width)."""
    if type(value) is int and least <= value <= LARGEST:
        return value, value
    return sizes(name, value, least, 2)


def sizes(name: str, value: Any, least: int, nd: int) -> tuple[int, ...]:
    """An int for all of nd axes, or one for each, as (depth, height, width)."""
    if isinstance(value, (tuple, list)):
        if len(value) == 1:
            value = (value[0],) * nd
        if len(value) != nd:
            raise ValueError(f"{name} is {shown(value)}, with {len(value)} elements; wanted: an integer or {_one_each(nd)}")
        return tuple(integer(f"{name}[{i}]", size, least) for i, size in enumerate(value))
    return (integer(name, value, least, wanted=f"an integer of at least {least} or {_one_each(nd)} of them"),) * nd


def _one_each(nd: int) -> str:
    return {1: "a tuple (length,)", 2: "a pair (height, width)", 3: "a triple (depth, height, width)"}[nd]


def padding(name: str, value: Any, also: str = "") -> Pads:
    """An int, (height, width), or ((top, bottom), (left, right)), as the last."""
    if type(value) is int and 0 <= value <= LARGEST:
        return (value, value), (value, value)
    return paddings(name, value, 2, also)


def paddings(name: str, value: Any, nd: int, also: str = "") -> tuple[Pair, ...]:
    """An int, one for each of nd axes, or a pair (before, after) for each of them, as the last. `also`: what else may be written."""
    wanted = f"an integer of at least 0, {_one_each(nd)} or {SIDES[nd]}{also}"
    if isinstance(value, str):
        raise ValueError(f"{name} is {shown(value)}; wanted: {wanted}")
    if isinstance(value, (tuple, list)) and any(isinstance(side, (tuple, list)) for side in value):
        if len(value) != nd or not all(isinstance(side, (tuple, list)) and len(side) == 2 for side in value):
            raise ValueError(f"{name} is {shown(value)}; wanted: {wanted}")
        return tuple(sizes(f"{name}[{i}]", side, 0, 2) for i, side in enumerate(value))
    if not isinstance(value, (tuple, list)):
        value = integer(name, value, 0, wanted=wanted)
    return tuple((size, size) for size in sizes(name, value, 0, nd))


def conv_padding(value: Any, kernel: Pair, stride: Pair, dilation: Pair) -> Pads:
    """As `padding`, and "valid" (none) or "same" (output as large as input, stride 1 only; an odd element goes to the end)."""
    if isinstance(value, str):
        if value == "valid":
            return (0, 0), (0, 0)
        if value != "same":
            return padding("padding", value, also=', "valid" or "same"')
        if stride != (1, 1):
            raise ValueError(f'padding is "same" with stride {stride}; wanted: stride 1, or the padding in numbers')
        totals = [d * (k - 1) for d, k in zip(dilation, kernel)]
        return (totals[0] // 2, totals[0] - totals[0] // 2), (totals[1] // 2, totals[1] - totals[1] // 2)
    return padding("padding", value, also=', "valid" or "same"')


def shape(name: str, value: Any, axes: str, ndims: Sequence[int]) -> tuple[int, ...]:
    """A tuple of sizes, as many as one of `ndims`; `axes` names them."""
    if not isinstance(value, (tuple, list)):
        raise _wrong_type(name, value, f"a tuple of integers {axes}")
    if len(value) not in ndims:
        raise ValueError(f"{name} is {shown(value)}; wanted: a tuple of integers {axes}")
    return tuple(integer(f"{name}[{i}]", size, 0) for i, size in enumerate(value))


def float_dtype(name: str, value: Any) -> np.dtype:
    """float32, float64 or float16, in any spelling that NumPy takes."""
    try:
        dtype = np.dtype(value).newbyteorder("=")
    except Exception:
        dtype = None
    if value is None or dtype is None or dtype not in FLOATS:       # NumPy takes None for float64
        raise _wrong_type(name, value, "float32, float64 or float16")
    return dtype


def flag(name: str, value: Any) -> bool:
    if value is True or value is False:
        return value
    if not isinstance(value, (bool, np.bool_)):
        raise _wrong_type(name, value, "True or False")
    return bool(value)


def number(name: str, value: Any, least: float) -> float:
    if type(value) is float and least <= value < float("inf"):
        return value
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise _wrong_type(name, value, f"a finite number of at least {least}")
    try:
        number = float(value)
    except OverflowError:                    # an integer beyond every float
        number = float("inf")
    if not least <= number < float("inf"):
        raise ValueError(f"{name} is {shown(value)}; wanted: a finite number of at least {least}")
    return number


def need(value: Any, count: int = 3) -> tuple[bool, ...]:
    """Which gradients to compute: so many flags."""
    if type(value) is tuple and len(value) == count and type(value[0]) is type(value[1]) is type(value[-1]) is bool and count < 4:
        return value
    if not isinstance(value, (tuple, list)) or len(value) != count:
        example = (True, False, True)[-count:]
        raise TypeError(f"need is {shown(value)}; wanted: {('two', 'three')[count - 2]} flags, one for each gradient, such as {example}")
    return tuple(flag(f"need[{i}]", want) for i, want in enumerate(value))


def fields(name: str, value: Any, names: Sequence[str]) -> tuple[Any, ...]:
    """As many elements as there are names."""
    wanted = f"a tuple ({', '.join(names)})"
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{name} is a {type(value).__name__}; wanted: {wanted}")
    if len(value) != len(names):
        raise ValueError(f"{name} has {len(value)} elements; wanted: {wanted}")
    return tuple(value)


def choice(name: str, value: Any, choices: Sequence[Any]) -> Any:
    """One of some words, or None where that is among them."""
    if (type(value) is str or value is None) and value in choices:
        return value
    wanted = "one of " + ", ".join(map(repr, choices))
    if not isinstance(value, str):
        raise _wrong_type(name, value, wanted)
    if value not in choices:
        raise ValueError(f"{name} is {shown(value)}; wanted: {wanted}")
    return value


# ---------------------------------------------------------------- sizes
def output_size(name: str, size: int, kernel: int, stride: int, pads: Pair, dilation: int, ceil_mode: bool = False,
                argument: str = "kernel_size") -> int:
    """Places where a kernel of `kernel` taps, `dilation` apart, fits along an axis of `size` elements and its padding.

    ceil_mode adds a last window that sticks out at the end, unless it would start in the padding after the image. `name` is the
    axis, `argument` what gave the kernel.
    """
    reach = dilation * (kernel - 1) + 1
    room = size + pads[0] + pads[1] - reach
    if room < 0:
        effective = f"{kernel}" if dilation == 1 else f"{kernel} (with dilation {dilation}: {reach})"
        raise ValueError(f"{argument} is larger than the padded input: {name} of the kernel is {effective}, "
                         f"of the input {size} with padding {pads}; wanted: at most {size + pads[0] + pads[1]}")
    if not ceil_mode:
        return room // stride + 1
    places = -(-room // stride) + 1
    return places - 1 if (places - 1) * stride >= size + pads[0] else places


def result_shape(arguments: str, *sizes: int) -> None:
    """Refuse results so large that only a mistyped argument can explain them."""
    total = 1
    for size in sizes:
        total *= size
    if total > LARGEST_ARRAY:
        raise ValueError(f"{arguments} ask for a result of shape {sizes}, {total} elements; wanted: at most {LARGEST_ARRAY}")


def channels_last_hint(name: str, shape: tuple[int, ...], channels: int) -> str:
    """A hint for images whose channels seem to come last: `channels` are wanted, and the last axis has them, not the one before H and W."""
    if len(shape) < 3 or shape[-1] != channels or shape[-3] == channels:
        return ""
    return (f". The channels of {name} seem to come last: wanted is channels first, {name}.transpose(0, 3, 1, 2), "
            f"for one image {name}.transpose(2, 0, 1)")
