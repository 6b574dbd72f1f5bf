"""Kernels in one call that takes Python's arrays as they are: what a small call costs is its checks.

To look at an array from Python, at its type, dtype, shape and flags, takes some 300 nanoseconds, and Numba takes 60 more to unpack it. Here
compiled code is handed the objects themselves and compares their fields with a plan. Unless all agree it does nothing and returns False:
then the caller goes the long way, where a wrong argument meets its message.

A plan is int64 numbers: those named below, then SPEC numbers for each array: its axes (or NOTHING, for None), the address of its dtype, its
elements, its shape.
"""
from __future__ import annotations

import ctypes
import functools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import carray, config, from_dtype, types
from numba.core import cgutils
from numba.extending import NativeValue, intrinsic, models, register_model, unbox

from .jit import at_hand, jit
from .tasks import address, call, keeps
from .team import BUSY, lead

# Numbers are of NumPy's: Numba compiles a function again for each integer that stands in a call of it.
NTH = tuple(map(np.int64, range(11)))        # array of a plan

# The fields of an array object, in words of 8 bytes: PyArrayObject_fields of NumPy's C header.
HEAD = object.__basicsize__ // 8
TYPE, DATA, AXES, SHAPE, DTYPE, FLAGS, WORDS = HEAD - 1, HEAD, HEAD + 1, HEAD + 2, HEAD + 5, HEAD + 6, HEAD + 7
CARRAY = 0x1 | 0x100 | 0x400                 # C-contiguous, aligned, writeable

ARRAY, NONE, KERNEL, TASKS, REPORT, KEEPS, WEIGHT, BIAS, RESIDUAL, JOB, TABLE, SPECS = map(np.int64, (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16))
OVER = REPORT                                # of a layer, which reports nothing
SPEC, MOST_AXES, NOTHING = 8, 5, -1


class Handed(types.Type):
    """An object: None, or an array of this dtype."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(f"Handed({dtype})")


@register_model(Handed)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, cgutils.voidptr_t)


@unbox(Handed)
def _unbox(kind, value, c):
    return NativeValue(c.builder.bitcast(value, cgutils.voidptr_t))


@intrinsic
def address_of(typingctx, handed):
    """Where the object lies."""
    return types.int64(handed), lambda context, builder, sig, args: builder.ptrtoint(args[0], cgutils.intp_t)


@intrinsic
def pointer_to(typingctx, handed, place):
    """The pointer to elements of the dtype of `handed`."""
    kind = types.CPointer(handed.dtype)
    return kind(handed, types.int64), lambda context, builder, sig, args: builder.inttoptr(args[1], context.get_value_type(kind))


@intrinsic
def pointer(typingctx, place):
    return types.voidptr(types.int64), lambda context, builder, sig, args: builder.inttoptr(args[0], cgutils.voidptr_t)


@jit
def numbers(place, size):
    """The int64 numbers at an address."""
    return carray(pointer(place), size, np.int64)


@jit
def floats(place, size):
    """The same, float64."""
    return carray(pointer(place), size, np.float64)


@jit
def fits(plan, number, place):
    """Whether the object at this address is what the plan wants as array `number`."""
    spec = plan[SPECS + number * SPEC:SPECS + (number + 1) * SPEC]
    if spec[0] == NOTHING:
        return place == plan[NONE]
    fields, halves = numbers(place, WORDS), carray(pointer(place), 2 * WORDS, np.int32)
    if fields[TYPE] != plan[ARRAY] or fields[DTYPE] != spec[1] or halves[2 * AXES] != spec[0] or halves[2 * FLAGS] & CARRAY != CARRAY:
        return False
    shape = numbers(fields[SHAPE], spec[0])
    for i in range(spec[0]):
        if shape[i] != spec[3 + i]:
            return False
    return True


@jit
def fit(plan, places):
    """Whether all of them do."""
    for number in range(len(places)):
        if not fits(plan, number, places[number]):
            return False
    return True


@jit
def elements(plan, number, handed):
    """Its elements one after the other, once it `fits`."""
    place, size = address_of(handed), plan[SPECS + number * SPEC + 2]
    return carray(pointer_to(handed, numbers(place, WORDS)[DATA] if size else place), size)


@jit
def known(plan, name, handed):
    """The elements of an array that is part of the plan."""
    return carray(pointer_to(handed, plan[name]), plan[name + 1])


@jit
def integers(plan, name):
    """The same, of integers."""
    return numbers(plan[name], plan[name + 1])


@jit
def share(a, b):
    """Whether two arrays share memory."""
    return a.ctypes.data < b.ctypes.data + b.size * b.itemsize and b.ctypes.data < a.ctypes.data + a.size * a.itemsize


@jit
def run(plan, crew, src, weight, dst, table):
    """All tasks of a kernel; False if nothing was done, or the kernel met a number that it reports. crew: room, helpers and threads, or None."""
    if not fit(plan, (address_of(src), address_of(weight), address_of(dst), address_of(table))):
        return False
    x, other, y, places = elements(plan, NTH[0], src), elements(plan, NTH[1], weight), elements(plan, NTH[2], dst), elements(plan, NTH[3], table)
    if share(y, x) or share(y, other) or share(y, places):
        return False
    bias, residual, job, report, failed = known(plan, BIAS, src), known(plan, RESIDUAL, src), known(plan, JOB, table), plan[REPORT], BUSY
    if report >= 0:                          # what it reports is this call's own
        shared, job, residual = job, np.empty(job.size, np.int64), np.empty(1, x.dtype)
        residual[0] = 0
        for i in range(job.size):
            job[i] = shared[i]
    if not other.size:
        other = known(plan, WEIGHT, src)
    if not places.size:
        places = known(plan, TABLE, table)
    if crew is not None:                     # a branch that Numba leaves out where it is
        room, helpers, threads = crew
        if threads > 1:
            failed = lead(room, helpers, plan[KERNEL], plan[KEEPS], plan[TASKS], threads, x, other, y, bias, residual, job, places)
    if failed == BUSY:
        failed = call(plan[KERNEL], 0, plan[TASKS], x, other, y, bias, residual, job, places)
    if failed:
        raise MemoryError("no memory for the workspace of a kernel")
    return report < 0 or (residual[0] == 0 and job[report] == 0)


@jit
def run_at_once(plan_at, src, weight, dst, table):
    """`run` in one thread."""
    return run(numbers(plan_at, SPECS + 4 * SPEC), None, src, weight, dst, table)


@jit
def team_at_once(plan_at, room, helpers, threads, src, weight, dst, table):
    """`run` in so many threads."""
    return run(numbers(plan_at, SPECS + 4 * SPEC), (room, helpers, threads), src, weight, dst, table)


@jit
def layer_at_once(plan_at, room, helpers, threads, x, residual, y):
    """All tasks of a layer's kernel; False if nothing was done. residual: None, or an array, which `y` may be where the plan says so."""
    plan = numbers(plan_at, SPECS + 3 * SPEC)
    if not fits(plan, NTH[0], address_of(x)) or not fits(plan, NTH[2], address_of(y)):
        return False
    src, dst, added = elements(plan, NTH[0], x), elements(plan, NTH[2], y), known(plan, RESIDUAL, x)
    if address_of(residual) != plan[NONE]:
        if not fits(plan, NTH[1], address_of(residual)):
            return False
        added = elements(plan, NTH[1], residual)
    if share(dst, src) or (share(dst, added) and not (plan[OVER] and address_of(residual) == address_of(y))):
        return False
    weight, bias, job, table, failed = known(plan, WEIGHT, x), known(plan, BIAS, x), integers(plan, JOB), integers(plan, TABLE), BUSY
    if threads > 1:
        failed = lead(room, helpers, plan[KERNEL], plan[KEEPS], plan[TASKS], threads, src, weight, dst, bias, added, job, table)
    if failed == BUSY:
        failed = call(plan[KERNEL], 0, plan[TASKS], src, weight, dst, bias, added, job, table)
    if failed:
        raise MemoryError("no memory for the workspace of a kernel")
    return True


# ---------------------------------------------------------------- from Python
@functools.lru_cache(maxsize=1)
def readable() -> bool:
    """Whether array objects are laid out as NumPy's header says, and kernels are compiled: elsewhere nobody hands over objects."""
    if config.DISABLE_JIT or sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    x = np.zeros((2, 3), np.float32)
    fields, halves = ((kind * (WORDS * size)).from_address(id(x)) for kind, size in ((ctypes.c_int64, 1), (ctypes.c_int32, 2)))
    return ([fields[TYPE], fields[DATA], halves[2 * AXES], fields[DTYPE], halves[2 * FLAGS] & CARRAY]
            == [id(np.ndarray), x.ctypes.data, 2, id(x.dtype), CARRAY]
            and list((ctypes.c_int64 * 2).from_address(fields[SHAPE])) == [2, 3])


@functools.lru_cache(maxsize=64)
def entry(function: Any, kinds: tuple[Any, ...]) -> Callable[..., Any]:
    """The compiled function, called without a look at the types of its arguments."""
    function.compile(signature(kinds))
    return function.overloads[signature(kinds)].entry_point


def signature(kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    """Argument types. kinds: a dtype for each object that is handed over."""
    return tuple(Handed(from_dtype(kind)) if isinstance(kind, np.dtype) else kind for kind in kinds)


def planned(specs: Sequence[Any], head: Sequence[Any], parts: dict[Any, np.ndarray]) -> np.ndarray | None:
    """The numbers of a plan: KERNEL and so on are `head`, its known arrays `parts`, by name. None where no object can be handed over."""
    if not readable() or any(spec is not None and (len(spec[0]) > MOST_AXES or 0 in spec[0]) for spec in specs):
        return None
    plan = np.zeros(SPECS + len(specs) * SPEC, np.int64)
    plan[[ARRAY, NONE]] = id(np.ndarray), id(None)
    plan[KERNEL:KERNEL + len(head)] = head
    for name, part in parts.items():
        plan[name:name + 2] = part.ctypes.data, part.size
    for number, spec in enumerate(specs):
        at = SPECS + number * SPEC
        plan[at] = NOTHING
        if spec is not None:
            shape, dtype = spec
            plan[at:at + 3 + len(shape)] = len(shape), id(dtype), math.prod(shape), *shape
    return plan


def handing(function: Any, kinds: Sequence[Any], specs: Sequence[Any], head: Sequence[Any], parts: dict[Any, np.ndarray],
            *others: Any) -> Callable[..., bool] | None:
    """A function of objects: the compiled one, with a plan and `others` in front. None where objects cannot be handed over, or not yet.

    kinds: what the function takes after the plan. specs: shape and dtype of each array of the plan, or None for None.
    """
    kinds, plan = (types.int64, *kinds), planned(specs, head, parts)
    if plan is None or not at_hand(function, kinds, signature):
        return None
    found = functools.partial(entry(function, kinds), plan.ctypes.data, *others)
    found.kept = plan, specs, parts          # they live as long as their addresses are known
    return found


def known_parts(weight: np.ndarray, bias: np.ndarray, job: np.ndarray, table: np.ndarray) -> dict[Any, np.ndarray]:
    return {WEIGHT: weight, BIAS: bias, RESIDUAL: bias[:0], JOB: job, TABLE: table}


def at_once(kernel: Any, tasks: int, specs: Sequence[Any], weight: np.ndarray, bias: np.ndarray, job: np.ndarray, table: np.ndarray,
            report: int = -1, threads: bool = False) -> Callable[..., bool] | None:
    """A function of (src, weight, dst, table) that does all tasks of the kernel in one thread, or nothing, and says which.

    specs: of the four; weight and table are those given here where theirs is None. report: where the kernel leaves a number in job, or it
    does in residual, for arguments that want a message. threads: the function takes (room, helpers, threads) first. None as for `handing`.
    """
    dtype = bias.dtype
    function, first = (team_at_once, (types.int64,) * 3) if threads else (run_at_once, ())
    return handing(function, (*first, dtype, dtype, dtype, job.dtype), specs, (address(kernel, dtype), tasks, report, keeps(kernel)),
                   known_parts(weight, bias, job, table))


def layer(kernel: Any, tasks: int, over: bool, x_shape: tuple[int, ...], y_shape: tuple[int, ...], weight: np.ndarray, bias: np.ndarray,
          job: np.ndarray, table: np.ndarray) -> Callable[..., bool] | None:
    """A function of (room, helpers, threads, x, residual, y) that does all tasks of the kernel, or nothing, and says which.

    over: whether y may be the residual. None as for `handing`.
    """
    dtype = bias.dtype
    return handing(layer_at_once, (*[types.int64] * 3, dtype, dtype, dtype), ((x_shape, dtype), (y_shape, dtype), (y_shape, dtype)),
                   (address(kernel, dtype), tasks, over, keeps(kernel)), known_parts(weight, bias, job, table))
