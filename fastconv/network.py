"""A network: prepared layers and other operations one after the other, for images of one shape, on memory of its own."""
from __future__ import annotations

from typing import Any

import numpy as np

from . import check, runtime
from . import plan as planning
from .layer import Conv2d
from .network_pass import Arrays, Pass, Step, new_room, pass_of

MOST_ROOMS = 4                               # that a network keeps, for as many calls at once


class Value:
    """What a step of a network makes: `shape` is known, the elements only while the network runs."""

    def __init__(self, network: Network, number: int, shape: tuple[int, ...]) -> None:
        self.network, self.number, self.shape = network, number, shape

    def __repr__(self) -> str:
        return f"Value({self.number}, shape {self.shape})"


class Network:
    """Steps from x to a result, each reading what earlier ones made.

        net = Network((1, 3, 224, 224))                      # the shape of x; dtype float32 or float64
        a = net.add(stem, net.x)                             # a Conv2d
        a = net.add(fastconv.max_pool2d, a, 3, 2, 1)         # or a function of fastconv that takes out=, with its other arguments
        net.add(expand, net.add(reduce, a), residual=a)
        y = net(image)                                       # of the step that was added last

    What no later step reads makes room for what comes next, so a network needs little memory beside its weights, and none of it is allocated
    again. Runs of layers and max or average poolings are one call of compiled code: that is what a network is faster by than its layers
    called one by one, at batch 1 by some microseconds each. The numbers are the same, bit for bit.

    Any number of threads may share it. It pickles, with its layers. The layers are used as they are; a function must give the same for the same
    argument and keep nothing. Attributes: x, the Value to begin with; dtype.

    >>> import fastconv
    >>> net = fastconv.Network((1, 3, 6, 8))
    >>> value = net.add(fastconv.Conv2d(np.ones((4, 3, 3, 3), np.float32), padding=1, activation="relu"), net.x)
    >>> net.add(fastconv.max_pool2d, value, 2)
    Value(2, shape (1, 4, 3, 4))
    >>> net(np.ones((1, 3, 6, 8), np.float32))[0, 0, 0]
    array([27., 27., 27., 27.], dtype=float32)
    """

    def __init__(self, x_shape: tuple[int, ...], dtype: Any = np.float32) -> None:
        self.dtype = check.float_dtype("dtype", dtype)
        if self.dtype != check.working_dtype(self.dtype):
            raise TypeError(f"dtype is {self.dtype}; wanted: float32 or float64, in which a network computes")
        self.dtype = check.F64 if self.dtype == check.F64 else check.F32
        self.x = Value(self, 0, check.shape("x_shape", x_shape, "(N, C, H, W) or (C, H, W)", (3, 4)))
        self._shapes = [self.x.shape]
        self._steps: list[Step] = []
        self._forget()

    def _forget(self) -> None:
        self._passes: dict[str, Pass] = {}  # by the precision
        self._rooms: list[np.ndarray] = []   # memory that no call uses

    def add(self, what: Any, source: Value, *args: Any, residual: Value | None = None, **options: Any) -> Value:
        """The value of one more step, what(source, *args, **options), or layer(source, residual) of a `Conv2d`.

        Raises what such a call would raise; TypeError or ValueError for anything but a layer of the network's dtype or a function that makes
        one array of that dtype and takes out=, and for values of another network.
        """
        number = self._number("source", source)
        added = None if residual is None else self._number("residual", residual)
        if isinstance(what, Conv2d):
            if args or options:
                raise TypeError(f"add got {', '.join(map(repr, (*args, *options)))} beside a Conv2d; wanted: source and residual alone")
            if what.dtype != self.dtype:
                raise TypeError(f"the layer has dtype {what.dtype} and the network {self.dtype}; wanted: one dtype")
            shape = what.result_shape(source.shape)
            if residual is not None and residual.shape != shape:
                raise ValueError(f"residual has shape {residual.shape}; wanted: {shape}, the shape of the result")
        else:
            if not callable(what):
                raise TypeError(f"what is a {type(what).__name__}; wanted: a Conv2d, or a function of fastconv that takes out=")
            if residual is not None:
                raise TypeError("residual was given with a function; wanted: residual with a Conv2d only")
            if "out" in options:
                raise TypeError("out was given; wanted: no out, a network has arrays of its own")
            shape = self._shape_of(what, source.shape, args, options)
        self._steps.append(Step(what, number, added, args, options))
        self._shapes.append(shape)
        self._forget()
        return Value(self, len(self._steps), shape)

    def __call__(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The last step's value for this x, of the shape and dtype that the network was made for, in `out` where that is given."""
        check.array("x", x, "of the shape the network was made for", (len(self.x.shape),))
        if x.dtype.newbyteorder("=") != self.dtype:
            raise TypeError(f"x has dtype {x.dtype} and the network {self.dtype}; wanted: one dtype. Convert it: x.astype(np.{self.dtype})")
        check.shape_of("x", x, self.x.shape, "the shape the network was made for")
        if not self._steps:
            raise ValueError("the network has no step; wanted: at least one, see add")
        shape = self._shapes[-1]
        given = check.output(out, shape, self.dtype, (x,))
        y = check.target(given, shape, self.dtype)
        if y.size:
            self._run(check.native(x, self.dtype), y)
        return check.deliver(y, given, self.dtype)

    def __repr__(self) -> str:
        return f"Network({self.x.shape} -> {self._shapes[-1]}, {self.dtype}, {len(self._steps)} steps)"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_passes", "_rooms")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.dtype = check.F64 if self.dtype == check.F64 else check.F32       # the one object of this dtype: one out of a pickle is another
        self._forget()

    # ------------------------------------------------------------ what `add` looks at
    def _number(self, name: str, value: Any) -> int:
        if not isinstance(value, Value):
            raise TypeError(f"{name} is a {type(value).__name__}; wanted: a value of this network, its x or what add returned")
        if value.network is not self:
            raise ValueError(f"{name} is a value of another network; wanted: one of this network")
        return value.number

    def _shape_of(self, function: Any, source: tuple[int, ...], args: tuple[Any, ...], options: dict[str, Any]) -> tuple[int, ...]:
        """Of the result of a function, which is called once, on zeros."""
        zeros = np.zeros(source, self.dtype)
        y = function(zeros, *args, **options)
        if not isinstance(y, np.ndarray) or y.dtype != self.dtype:
            made = f"an array of {y.dtype}" if isinstance(y, np.ndarray) else f"a {type(y).__name__}"
            raise TypeError(f"{getattr(function, '__name__', function)} makes {made}; wanted: one array of {self.dtype}")
        function(zeros, *args, **options, out=np.empty_like(y))
        return y.shape

    # ------------------------------------------------------------ running
    def _run(self, x: np.ndarray, y: np.ndarray) -> None:
        precision = planning.get_precision()
        found = self._passes.get(precision)
        if found is None:
            found = self._passes[precision] = pass_of(self._steps, self._shapes, self.dtype)
        try:
            room = self._rooms.pop()         # no other thread has it now
        except IndexError:
            room = new_room(found.size, self.dtype)
        arrays = Arrays(x.reshape(-1), y.reshape(-1), room)
        for part in found.parts:
            part(arrays, runtime.get_num_threads())
        if len(self._rooms) < MOST_ROOMS:
            self._rooms.append(room)
