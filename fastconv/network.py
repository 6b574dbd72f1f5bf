"""A network: prepared layers and other operations one after the other, for images of one shape, on memory of its own."""
from __future__ import annotations

import copy
import inspect
from typing import Any, NamedTuple

import numpy as np

from . import check, runtime
from . import plan as planning
from .layer import Conv2d
from .network_pass import Pass, Step, is_layer, pass_of, pooling


class Value:
    """What a step of a network makes: `shape` is known, the elements only while the network runs."""

    def __init__(self, network: Network, number: int, shape: tuple[int, ...]) -> None:
        self.network, self.number, self.shape = network, number, shape

    def __repr__(self) -> str:
        return f"Value({self.number}, shape {self.shape})"


class _Steps(NamedTuple):
    """All that a call looks at, so that `add` can replace it at once. shapes: of x and of all that the steps make."""

    steps: tuple[Step, ...]
    shapes: tuple[tuple[int, ...], ...]
    passes: dict[str, Pass]                  # by the precision


class Network:
    """Steps from x to a result, each reading what earlier ones made.

        net = Network((1, 3, 224, 224))                      # the shape of x, (N, C, H, W) or (C, H, W); dtype float32 or float64
        a = net.add(stem, net.x)                             # a Conv2d
        a = net.add(fastconv.max_pool2d, a, 3, 2, 1)         # or a function of fastconv that takes out=, with its other arguments
        net.add(expand, net.add(reduce, a), residual=a)
        y = net(image)                                       # of the step that was added last

    A run of layers and of max or average poolings is one call of compiled code: that is what a network is faster by than its layers called one by
    one, at batch 1 by some microseconds each. Any other function is a call of its own. The numbers are the same, bit for bit.

    What no later step reads makes room for what comes next, so a network needs little memory beside its weights; it keeps that memory, once for
    each call at a time, at most four times. Any number of threads may call it, one may add. It pickles, with its layers. It has the layers
    themselves and copies of the functions' arguments; a function must give the same for the same argument and not write to it.
    Attributes: x, the Value to begin with; dtype.

    >>> import fastconv
    >>> net = fastconv.Network((1, 3, 6, 8))
    >>> value = net.add(fastconv.Conv2d(np.ones((4, 3, 3, 3), np.float32), padding=1, activation="relu"), net.x)
    >>> net.add(fastconv.max_pool2d, value, 2)
    Value(2, shape (1, 4, 3, 4))
    >>> net(np.ones((1, 3, 6, 8), np.float32))[0, 0, 0]
    array([27., 27., 27., 27.], dtype=float32)
    """

    def __init__(self, x_shape: tuple[int, ...], dtype: Any = np.float32) -> None:
        wanted = check.float_dtype("dtype", dtype)
        if wanted != check.working_dtype(wanted):
            raise TypeError(f"dtype is {wanted}; wanted: float32 or float64, in which a network computes")
        self.dtype = np.dtype(wanted.type)   # the one object of this dtype: one out of a pickle is another
        shape = check.shape("x_shape", x_shape, "(N, C, H, W) or (C, H, W)", (3, 4))
        check.result_shape("x_shape", *shape)
        self._state = _Steps((), (shape,), {})

    @property
    def x(self) -> Value:
        return Value(self, 0, self._state.shapes[0])

    def add(self, what: Any, source: Value, *args: Any, residual: Value | None = None, **options: Any) -> Value:
        """The value of one more step, what(source, *args, **options), or layer(source, residual) of a `Conv2d`.

        Raises what such a call would raise; TypeError or ValueError for anything but a layer of the network's dtype or a function that makes one
        array of that dtype and fills an out=, and for values of another network. A function but a max or average pooling is tried out on zeros.
        """
        steps, shapes, _ = self._state
        number = self._number("source", source)
        added = None if residual is None else self._number("residual", residual)
        if any(isinstance(value, Value) for value in (*args, *options.values())):
            raise TypeError("add got a value among the other arguments; wanted: one value, source, and for a Conv2d a second one as residual=")
        if is_layer(what):
            shape = self._shape_of_layer(what, shapes[number], residual, args, options)
        else:
            if not callable(what) or what is self:
                raise TypeError(f"what is {'the network itself' if what is self else f'a {type(what).__name__}'}; "
                                f"wanted: a Conv2d, or a function of fastconv that takes out=")
            if residual is not None:
                raise TypeError("residual was given with a function; wanted: residual with a Conv2d only")
            if "out" in options:
                raise TypeError("out was given; wanted: no out, a network has arrays of its own")
            args, options = copy.deepcopy((args, options))
            shape = self._shape_of(what, shapes[number], args, options)
        self._state = _Steps((*steps, Step(what, number, added, args, options)), (*shapes, shape), {})
        return Value(self, len(steps) + 1, shape)

    def __call__(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The last step's value for this x, of the shape and dtype that the network was made for, in `out` where that is given."""
        state = self._state
        steps, shapes, passes = state
        check.array("x", x, f"of shape {shapes[0]}", (len(shapes[0]),))
        if x.dtype.newbyteorder("=") != self.dtype:
            raise TypeError(f"x has dtype {x.dtype} and the network {self.dtype}; wanted: one dtype. Convert it: x.astype(np.{self.dtype})")
        check.shape_of("x", x, shapes[0], "the shape the network was made for")
        if not steps:
            raise ValueError("the network has no step; wanted: at least one, see add")
        given = check.output(out, shapes[-1], self.dtype, (x,))
        y = check.target(given, shapes[-1], self.dtype)
        if y.size:
            precision = planning.get_precision()
            found = passes.get(precision)
            if found is None:                # two threads may both make it: they make the same
                found = passes.setdefault(precision, pass_of(steps, shapes, self.dtype, precision))
            found(check.native(x, self.dtype).reshape(-1), y.reshape(-1), runtime.get_num_threads())
        return check.deliver(y, given, self.dtype)

    def __repr__(self) -> str:
        steps, shapes, _ = self._state
        return f"Network({shapes[0]} -> {shapes[-1]}, {self.dtype}, {len(steps)} steps)"

    def __getstate__(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "steps": self._state.steps, "shapes": self._state.shapes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.dtype = np.dtype(state["dtype"].type)
        self._state = _Steps(state["steps"], state["shapes"], {})

    # ------------------------------------------------------------ what `add` looks at
    def _number(self, name: str, value: Any) -> int:
        if not isinstance(value, Value):
            raise TypeError(f"{name} is a {type(value).__name__}; wanted: a value of this network, its x or what add returned")
        if value.network is not self:
            raise ValueError(f"{name} is a value of another network; wanted: one of this network")
        return value.number

    def _shape_of_layer(self, layer: Conv2d, source: tuple[int, ...], residual: Value | None, args: tuple[Any, ...],
                        options: dict[str, Any]) -> tuple[int, ...]:
        if args or options:
            raise TypeError(f"add got {', '.join(map(repr, (*args, *options)))} beside a Conv2d; wanted: source and residual= alone")
        if layer.dtype != self.dtype:
            raise TypeError(f"the layer has dtype {layer.dtype} and the network {self.dtype}; wanted: one dtype")
        if len(source) not in (3, 4):
            raise ValueError(f"source has shape {source}; wanted: (N, C, H, W) or (C, H, W)")
        shape = layer.call(source, planning.get_precision())[1]
        if residual is not None and residual.shape != shape:
            raise ValueError(f"residual has shape {residual.shape}; wanted: {shape}, the shape of the result")
        return shape

    def _shape_of(self, function: Any, source: tuple[int, ...], args: tuple[Any, ...], options: dict[str, Any]) -> tuple[int, ...]:
        """Of the result of a function, which is called on zeros, with and without out=."""
        name = getattr(function, "__name__", repr(function))
        found = pooling(function, source, args, options, self.dtype)
        if found is not None:
            return found[1]
        try:
            takes_out = "out" in inspect.signature(function).parameters
        except (TypeError, ValueError):
            takes_out = True                 # it may: functions in C do not say
        if not takes_out:
            raise TypeError(f"{name} takes no out=; wanted: a function that writes its result there")
        zeros = np.zeros(source, self.dtype)
        with np.errstate(all="ignore"):
            y = function(zeros, *args, **options)
            if not isinstance(y, np.ndarray) or y.dtype != self.dtype:
                made = f"an array of {y.dtype}" if isinstance(y, np.ndarray) else f"a {type(y).__name__}"
                raise TypeError(f"{name} makes {made}; wanted: one array of {self.dtype}")
            out = np.full(y.shape, 0.34375, self.dtype)
            function(zeros, *args, **options, out=out)
        if not np.array_equal(y, out, equal_nan=True):
            raise TypeError(f"{name} did not write its result into out=, or not the same twice; wanted: a function that does")
        return y.shape
