"""One pass of a network: what is done with which memory, and in how many calls."""
from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
from numba import config

from . import recycling, runtime
from .kernels import team
from .kernels.chain import ROOM, X, Y, chain, chain_signature
from .kernels.jit import at_hand
from .kernels.tasks import Call, address, keeps, run_call
from .layer import Conv2d
from .pool import average, maximum

Shape = tuple[int, ...]

#: Functions that come to one call of a kernel, which stands in a chain.
CALLS: dict[Any, Callable[..., tuple[Call, Shape]]] = {**maximum.CALLS, **average.CALLS}
ALIGN = 64                                   # bytes: a cache line, and the longest vector
MOST_ROOMS = 4                               # that a pass keeps, for as many calls at once


class Step(NamedTuple):
    """One operation; values are known by their numbers, 0 is x, and step n makes value n + 1."""

    what: Any                                # a layer, or a function
    source: int
    residual: int | None
    args: tuple[Any, ...]
    options: dict[str, Any]


def is_layer(what: Any) -> bool:
    """Whether this is a Conv2d that is called as one."""
    return isinstance(what, Conv2d) and type(what).__call__ is Conv2d.__call__


class Place(NamedTuple):
    """Where the elements of a value lie, X, Y or ROOM - n for n elements behind the beginning of the room; and its shape."""

    at: int
    shape: Shape

    @property
    def size(self) -> int:
        return math.prod(self.shape)


NOWHERE = Place(ROOM, (0,))


class Arrays(NamedTuple):
    """What one pass works on: x, the result and the room for all between, each 1-D."""

    x: np.ndarray
    y: np.ndarray
    room: np.ndarray

    def at(self, place: Place) -> np.ndarray:
        return self.x if place.at == X else self.y if place.at == Y else self.room[ROOM - place.at:ROOM - place.at + place.size]


class Pass:
    """Parts one after the other, and rooms for what they leave to each other, of `size` elements, which no call uses now."""

    def __init__(self, parts: list[Chain | Function], size: int, dtype: np.dtype) -> None:
        self.parts, self.size, self._dtype = parts, size, dtype
        self.rooms: list[np.ndarray] = []

    def __call__(self, x: np.ndarray, y: np.ndarray, threads: int) -> None:
        """x, y: 1-D."""
        try:
            room = self.rooms.pop()          # no other thread has it now
        except IndexError:
            room = new_room(self.size, self._dtype)
        arrays = Arrays(x, y, room)
        for part in self.parts:
            part(arrays, threads)
        if len(self.rooms) < MOST_ROOMS:
            self.rooms.append(room)


class Room:
    """Who has which part of the room. Sizes are in elements."""

    def __init__(self, unit: int) -> None:
        self._unit, self.size = unit, 0
        self._taken: dict[int, int] = {}     # where each part begins and ends

    def take(self, shape: Shape) -> Place:
        """The first gap that is large enough."""
        size, at = -(-max(1, math.prod(shape)) // self._unit) * self._unit, 0
        for begin, end in sorted(self._taken.items()):
            if begin - at >= size:
                break
            at = end
        self._taken[at] = at + size
        self.size = max(self.size, at + size)
        return Place(ROOM - at, shape)

    def give(self, place: Place) -> None:
        self._taken.pop(ROOM - place.at, None)      # x and the result are no part of it


def new_room(size: int, dtype: np.dtype) -> np.ndarray:
    """So many elements, from the beginning of a cache line on."""
    room = recycling.empty((size + ALIGN // dtype.itemsize,), dtype)
    first = -room.ctypes.data % ALIGN // dtype.itemsize
    return room[first:first + size]


def pass_of(steps: tuple[Step, ...], shapes: tuple[Shape, ...], dtype: np.dtype, precision: str) -> Pass:
    """The pass of these steps. shapes: of x and of all that they make. RuntimeError where a step no longer makes what it made when it was added."""
    reads = [{value for value in (step.source, step.residual) if value is not None} for step in steps]
    last_reader = {value: number for number, read in enumerate(reads) for value in read}
    room, places = Room(ALIGN // dtype.itemsize), [Place(X, shapes[0])]
    parts: list[Chain | Function] = []
    for number, (step, shape) in enumerate(zip(steps, shapes[1:])):
        call, found, over = call_of(step, shapes[step.source], shape, dtype, precision)
        if found != shape:
            raise RuntimeError(f"{step.what!r} makes an array of shape {found}, and made one of {shape} when it was added; "
                               f"wanted: layers that stay as they are")
        residual = NOWHERE if step.residual is None else places[step.residual]
        free = step.residual is not None and step.residual not in (0, step.source) and last_reader[step.residual] == number
        if number == len(steps) - 1:
            place = Place(Y, shape)
        elif over and free:
            place = residual                 # which the result replaces
        else:
            place = room.take(shape)
        places.append(place)
        if call is None:
            parts.append(Function(step, places[step.source], place))
        else:
            last = parts[-1] if parts else None
            if not isinstance(last, Chain):
                parts.append(last := Chain(dtype))
            last.calls.append((call, places[step.source], place, residual))
        for value in reads[number]:
            if last_reader[value] == number and places[value].at != place.at:
                room.give(places[value])
        if number + 1 not in last_reader:    # nobody reads it
            room.give(place)
    return Pass(parts, room.size, dtype)


def call_of(step: Step, source: Shape, shape: Shape, dtype: np.dtype, precision: str) -> tuple[Call | None, Shape, bool]:
    """The one call of a kernel that a step comes to, or None; the shape that it makes; and whether its result may replace the residual."""
    if is_layer(step.what):
        return step.what.call(source, precision)
    found = pooling(step.what, source, step.args, step.options, dtype)
    return (None, shape, False) if found is None else (*found, False)


def pooling(function: Any, source: Shape, args: tuple[Any, ...], options: dict[str, Any], dtype: np.dtype) -> tuple[Call, Shape] | None:
    """The one call of a kernel that a max or average pooling comes to, and its shape; None for another function."""
    found = CALLS.get(function) if isinstance(function, FunctionType) else None
    if found is None:
        return None
    bound = inspect.signature(function).bind(np.empty(source, dtype), *args, **options)
    bound.apply_defaults()
    return found(**bound.arguments)


class Function:
    """A part that is a function's call."""

    def __init__(self, step: Step, source: Place, place: Place) -> None:
        self._step, self._source, self._place = step, source, place

    def __call__(self, arrays: Arrays, threads: int) -> None:
        step, source, place = self._step, self._source, self._place
        step.what(arrays.at(source).reshape(source.shape), *step.args, **step.options, out=arrays.at(place).reshape(place.shape))


class Chain:
    """A part that is one call of compiled code, once that is there: the first time its kernels are called one by one."""

    def __init__(self, dtype: np.dtype) -> None:
        self.calls: list[tuple[Call, Place, Place, Place]] = []        # and source, result and residual of each
        self._dtype, self._threads = dtype, 1
        self._records: np.ndarray | None = None

    def __call__(self, arrays: Arrays, threads: int) -> None:
        if self._records is None:
            for call, source, place, residual in self.calls:
                run_call(call, arrays.at(source), arrays.at(place), arrays.at(residual))
            if not config.DISABLE_JIT and at_hand(chain, self._dtype, chain_signature):
                self._compile()
            return
        several = min(threads, self._threads)
        desks, helpers = team.helpers(several) if several > 1 else (0, 0)
        if not chain(self._records, desks, helpers, threads, *arrays):
            raise MemoryError("no memory for the workspace of a kernel")

    def _compile(self) -> None:
        chain.compile(chain_signature(self._dtype))
        records: list[int] = []
        for call, source, place, residual in self.calls:
            threads = min(call.tasks, runtime.most_threads(call.work))
            self._threads = max(self._threads, threads)
            records += [address(call.kernel, self._dtype), keeps(call.kernel), call.tasks, threads, source.at, source.size]
            for given in (call.weight, place, call.bias, residual, call.job, call.table):
                records += [given.at if isinstance(given, Place) else given.ctypes.data, given.size]
        self._records = np.array(records, np.int64)
